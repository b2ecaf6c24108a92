"""The rules of the ghost norms: ||dh/dp||^2 for the parameters p of a layer, from its input and its output gradient.

The gradient of h(x_i) by the weight of a layer is a product of two things that one backward pass over many examples
gives for all of them: what went into the layer and dh/dz, where z came out of it. Of that product only the norm is
wanted, and it costs less than the product.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

# For one layer, from its input a (n, ...) and dh/dz (n, ...), ||dh_i/dp||^2 (n,) of each of its parameters p.
Rule = Callable[[nn.Module, torch.Tensor, torch.Tensor], dict[str, torch.Tensor]]


def wide(values: torch.Tensor) -> torch.Tensor:
    """Half-precision values as float32, in which their squares can be summed; complex ones as pairs of real ones.

    Returns:
        The values, or a copy.
    """
    if values.is_complex():
        return torch.view_as_real(values)
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def squares(values: torch.Tensor) -> torch.Tensor:
    """Sum of squares over all dimensions but the first.

    Returns:
        (n,).
    """
    # Torch sums in pairs; the accumulator of vector_norm would lose three digits in float32.
    return wide(values).reshape(len(values), -1).square().sum(dim=1)


def _sum_to(values: torch.Tensor, dims: int) -> torch.Tensor:
    """(n, ..., last dims) summed over the dots."""
    return values.reshape(len(values), -1, *values.shape[values.dim() - dims :]).sum(dim=1)


def _products(a: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """||sum_t a_t g_t^T||^2, (n,), for a (n, T, c) and g (n, T, d)."""
    positions, c, d = a.shape[1], a.shape[2], g.shape[2]
    if positions == 1:
        return squares(a) * squares(g)
    # T^2 (c + d) multiplications for the products of all pairs of positions, T c d for the sum itself.
    if positions * (c + d) >= c * d:
        return squares(a.mT @ g)
    of_a, of_g = a @ a.mT, g @ g.mT
    norms = (of_a * of_g).sum(dim=(1, 2))
    # The norm is a small difference of such products where it is small beside what no cancelling would leave of it.
    bound = of_a.diagonal(dim1=1, dim2=2).sum(dim=1) * of_g.diagonal(dim1=1, dim2=2).sum(dim=1)
    small = (norms < bound / 2**10).nonzero()[:, 0]
    return norms.index_put((small,), squares(a[small].mT @ g[small])) if len(small) else norms


def _linear(layer: nn.Linear, a: torch.Tensor, g: torch.Tensor) -> dict[str, torch.Tensor]:
    a, g = a.reshape(len(a), -1, a.shape[-1]), g.reshape(len(g), -1, g.shape[-1])
    if g.shape[1] == 1:
        bias = squares(g)
        return {"weight": squares(a) * bias, "bias": bias}
    return {"weight": _products(a, g), "bias": squares(g.sum(dim=1))}


def _embedding(layer: nn.Embedding, tokens: torch.Tensor, g: torch.Tensor) -> dict[str, torch.Tensor]:
    tokens, g = tokens.reshape(len(tokens), -1), g.reshape(len(g), -1, g.shape[-1])
    same = (tokens[:, :, None] == tokens[:, None, :]).to(g.dtype)
    # The slopes of a row of the weight added up, at each of the places where its token stands.
    rows = (same @ g) / same.sum(dim=2, keepdim=True).sqrt()
    if layer.padding_idx is not None:
        rows = rows * (tokens != layer.padding_idx)[:, :, None]
    return {"weight": squares(rows)}


def _convolution(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, a: torch.Tensor, g: torch.Tensor) -> dict[str, torch.Tensor]:
    dims = len(layer.kernel_size)
    # (n, b, channels, ...): the layer may get several pictures for one example, or one without a dimension for them.
    a, g = (v.reshape(len(v), -1, *v.shape[-dims - 1 :]) for v in (a, g))
    bias = squares(g.flatten(3).sum(dim=(1, 3)))
    positions = g.shape[1] * math.prod(g.shape[3:])
    c, d = layer.in_channels // layer.groups * math.prod(layer.kernel_size), layer.out_channels // layer.groups
    # Patches hold c / d times as much as g.
    if c <= d or positions * (c + d) < c * d:
        patches = _patches(layer, _padded(layer, a))
        g = g.flatten(3).unflatten(2, (layer.groups, d)).permute(0, 2, 1, 4, 3).reshape(len(patches), positions, d)
        return {"weight": _products(patches, g).reshape(-1, layer.groups).sum(dim=1), "bias": bias}
    padding = layer.padding
    if layer.padding_mode != "zeros" or isinstance(padding, str):
        a, padding = _padded(layer, a), 0
    return {"weight": _by_convolution(layer, a, g, padding), "bias": bias}


def _padded(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, a: torch.Tensor) -> torch.Tensor:
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(a.flatten(0, 1), _padding(layer), mode=mode).unflatten(0, a.shape[:2])


def _padding(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> list[int]:
    """As ``F.pad`` wants it: before and after, from the last dimension to the first."""
    match layer.padding:
        case "valid":
            return [0, 0] * len(layer.kernel_size)
        case "same":
            totals = [dilation * (size - 1) for size, dilation in zip(layer.kernel_size, layer.dilation, strict=True)]
            return [side for total in reversed(totals) for side in (total // 2, total - total // 2)]
        case padding:
            return [side for side in reversed(padding) for _ in range(2)]


def _patches(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, a: torch.Tensor) -> torch.Tensor:
    """What the kernel reads at each position, (n groups, positions, c), of an input (n, b, channels, ...)."""
    dims = len(layer.kernel_size)
    for k, (size, stride, dilation) in enumerate(zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)):
        a = a.unfold(3 + k, dilation * (size - 1) + 1, stride)[..., ::dilation]
    a = a.unflatten(2, (layer.groups, -1))
    n, b, groups = a.shape[:3]
    place, position = range(4 + dims, 4 + 2 * dims), range(4, 4 + dims)
    return a.permute(0, 2, 3, *place, 1, *position).reshape(n * groups, -1, b * math.prod(a.shape[4 : 4 + dims])).mT


def _by_convolution(
    layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, a: torch.Tensor, g: torch.Tensor, padding: int | tuple[int, ...]
) -> torch.Tensor:
    """The gradients of all examples in one call: those of a convolution with n times as many groups."""
    n = len(a)
    a, g = (v.transpose(0, 1).flatten(1, 2) for v in (a, g))
    size = (n * layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
    gradient = CONVOLUTION_WEIGHT[type(layer)]
    return squares(gradient(a, size, g, layer.stride, padding, layer.dilation, n * layer.groups).reshape(n, -1))


def _normalised(a_hat: torch.Tensor, g: torch.Tensor, dims: int) -> dict[str, torch.Tensor]:
    return {"weight": squares(_sum_to(a_hat * g, dims)), "bias": squares(_sum_to(g, dims))}


def _layer_norm(layer: nn.LayerNorm, a: torch.Tensor, g: torch.Tensor) -> dict[str, torch.Tensor]:
    return _normalised(F.layer_norm(a, layer.normalized_shape, eps=layer.eps), g, len(layer.normalized_shape))


def _rms_norm(layer: nn.RMSNorm, a: torch.Tensor, g: torch.Tensor) -> dict[str, torch.Tensor]:
    return _normalised(F.rms_norm(a, layer.normalized_shape, eps=layer.eps), g, len(layer.normalized_shape))


def _by_channel(a_hat: torch.Tensor, g: torch.Tensor) -> dict[str, torch.Tensor]:
    """For a_hat and g of shape (n, b, channels, ...)."""
    return _normalised(*(v.reshape(*v.shape[:3], -1).transpose(2, 3) for v in (a_hat, g)), 1)


def _group_norm(layer: nn.GroupNorm, a: torch.Tensor, g: torch.Tensor) -> dict[str, torch.Tensor]:
    return _by_channel(F.group_norm(a.flatten(0, 1), layer.num_groups, eps=layer.eps).view_as(a), g)


def _batch_norm(layer: nn.Module, a: torch.Tensor, g: torch.Tensor) -> dict[str, torch.Tensor]:
    a_hat = F.batch_norm(a.flatten(0, 1), wide(layer.running_mean), wide(layer.running_var), eps=layer.eps)
    return _by_channel(a_hat.view_as(a), g)


CONVOLUTION_WEIGHT = {nn.Conv1d: conv1d_weight, nn.Conv2d: conv2d_weight, nn.Conv3d: conv3d_weight}

# By exact type: a subclass may compute something else.
RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Embedding: _embedding,
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), _convolution),
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _rms_norm,
    nn.GroupNorm: _group_norm,
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm), _batch_norm),
}

# Of a rule that was registered, the parameters that it is for.
_ATTRIBUTES: dict[type[nn.Module], tuple[str, ...]] = {}
_OF_TORCH = frozenset(RULES)


def covered_attributes(layer: nn.Module) -> tuple[str, ...]:
    """The names of those parameters of a layer that its rule is for; none if it has no rule."""
    if type(layer) not in RULES:
        return ()
    return _ATTRIBUTES.get(type(layer), ("weight", "bias"))


def register_rule(layer: type[nn.Module], rule: Rule, attributes: tuple[str, ...] = ("weight", "bias")) -> None:
    r"""Let the ghost norms cover a layer class of your own.

    A layer computes ``z = layer(a)``. The rule gets the layer, what went in for n examples, ``a`` (n, 1, ...), and
    ``dh/dz`` (n, 1, ...); the 1 is the place of an example in the batch of one that the layer sees, and may be more where
    the model folds frames or patches into it. It gives, for each parameter p of the layer, the squares
    ``||dh(x_i)/dp||^2`` (n,), computed by operations that autograd can differentiate. Half precision comes as float32.

    Every result that a rule has a part in is compared with the loop on one example, for at least one layer of each class, so a
    wrong rule ends in an error or in the loop.

    Args:
        layer: the class; exactly this one, since a subclass may compute something else.
        rule: from (layer, a, dh/dz) a dict of the squares by the names in ``attributes``.
        attributes: the parameters of the layer that the rule is for.

    Raises:
        TypeError: if layer is no class of modules, or rule no function.
        ValueError: if it is a layer of torch that has a rule already.

    Source: as :func:`implicit_regularizer`, method "ghost".

    >>> class Scale(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.s = nn.Parameter(torch.tensor(2.0))
    ...
    ...     def forward(self, a):
    ...         return self.s * a
    >>> register_rule(Scale, lambda layer, a, g: {"s": (a * g).flatten(1).sum(dim=1).square()}, attributes=("s",))
    """
    if not isinstance(layer, type) or not issubclass(layer, nn.Module):
        raise TypeError(f"layer must be a class of modules, got {layer!r}")
    if not callable(rule):
        raise TypeError(f"rule must be a function, got {type(rule).__name__}")
    if layer in _OF_TORCH:
        raise ValueError(f"{layer.__name__} has a rule already")
    RULES[layer] = rule
    _ATTRIBUTES[layer] = tuple(attributes)
