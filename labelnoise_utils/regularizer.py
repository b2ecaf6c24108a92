"""The implicit regularizer reg(theta) = (1/n) sum_i ||grad_theta h(x_i, theta)||^2 of any ``nn.Module``."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Literal, get_args

import torch
from torch.func import functional_call, vmap
from torch.overrides import TorchFunctionMode

from .arguments import as_integer
from .ghost import LayerCalls, NotCoveredError, check_reached_through, ghost_sq_norms, squares, wide
from .hypothesis import (
    attributes_kept,
    check_per_example,
    is_as_built,
    outside_inference_mode,
    parameters_kept,
    set_parameters,
    trainable,
    twice_differentiable,
)

Method = Literal["auto", "ghost", "vmap", "loop"]

NUMBERS_PER_CHUNK = 2**19


def implicit_regularizer(
    model: torch.nn.Module, x: torch.Tensor, *, method: Method = "auto", chunk_size: int | None = None
) -> torch.Tensor:
    r"""The implicit regularizer, ``reg(theta) = (1/n) sum_i ||grad_theta h(x_i, theta)||^2``.

    For several outputs the squared norms are summed over them. Only parameters with ``requires_grad`` count. The result is
    exact, and differentiable: ``implicit_regularizer(model, x).backward()`` gives grad reg.

    ``"ghost"`` needs, for each output, a forward pass and the half of a backward pass that finds the slopes of h by what
    comes out of each layer. It covers a model whose every trainable parameter is the weight or bias of a Linear, Conv,
    Embedding, LayerNorm, RMSNorm or GroupNorm layer, or of BatchNorm in eval mode, that is called once and shares it with none.
    ``"vmap"`` forms the gradients of one chunk of examples at a time; ``"loop"`` makes one backward pass for each example and
    output. ``"auto"`` is the first of the three that works, without vmap for large models (above ``2^16`` parameters),
    where it is the slowest. The numbers are the same. To see why a model is not covered, ask for ``method="ghost"``.

    Args:
        model: the hypothesis h. It takes x with the examples along dimension 0, and gives a real tensor with the examples
            there. What it computes for ``x[i:i+1]`` is h(x_i). It is left as it was.
        x: (n, ...), the inputs.
        method: ``"auto"``, ``"ghost"``, ``"vmap"`` or ``"loop"``.
        chunk_size: examples at a time, which bounds the memory as long as no gradient of reg is asked for. By default as many
            as take ``2^21`` numbers within the layers ("ghost"), or whose gradients are ``2^19`` numbers ("vmap").

    Returns:
        Scalar tensor, in squared units of h over squared units of theta; float32 for models in half precision.

    Raises:
        TypeError: if model is no module, x or h no tensor, or chunk_size no integer.
        ValueError: if x is empty, not finite or not what the model takes, the method is unknown or does not cover the model,
            chunk_size is below 1, no parameter is trainable, h is not real, or h(x_i) depends on more than x_i and theta, as
            with BatchNorm or Dropout in training mode.

    Source: equations (1) and (3).

    >>> from labelnoise_utils import Product
    >>> implicit_regularizer(Product(u=3.0, v=4.0), torch.zeros(1)).item()
    25.0
    """
    return per_example_sq_norms(model, x, method=method, chunk_size=chunk_size).mean()


def per_example_sq_norms(
    model: torch.nn.Module, x: torch.Tensor, *, method: Method = "auto", chunk_size: int | None = None
) -> torch.Tensor:
    """The terms of reg by example: ``||grad_theta h(x_i, theta)||^2``.

    Args:
        model: as in :func:`implicit_regularizer`.
        x: as there.
        method: as there.
        chunk_size: as there.

    Returns:
        (n,), differentiable.

    Raises:
        TypeError: as there.
        ValueError: as there.

    Source: equations (1) and (3).
    """
    return _sq_norms(model, x, method, chunk_size, lambda norms: sum(norms.values()))


def regularizer_by_parameter(
    model: torch.nn.Module, x: torch.Tensor, *, method: Method = "auto", chunk_size: int | None = None
) -> dict[str, torch.Tensor]:
    """The terms of reg by parameter: ``(1/n) sum_i ||dh(x_i)/dp||^2`` for each trainable tensor p of the model.

    Args:
        model: as in :func:`implicit_regularizer`.
        x: as there.
        method: as there.
        chunk_size: as there.

    Returns:
        A scalar tensor for each name in ``model.named_parameters()`` that is trainable, differentiable; their sum is reg.

    Raises:
        TypeError: as there.
        ValueError: as there.

    Source: equations (1) and (3).

    >>> from labelnoise_utils import Product
    >>> {name: share.item() for name, share in regularizer_by_parameter(Product(u=3.0, v=4.0), torch.zeros(1)).items()}
    {'u': 16.0, 'v': 9.0}
    """
    sums = _sq_norms(model, x, method, chunk_size, lambda norms: torch.stack([of_p.sum() for of_p in norms.values()])[None])
    return dict(zip(trainable(model), sums.sum(dim=0) / len(x), strict=True))


# From the norms of one chunk by parameter, {name: (m,)}, what is kept of them: rows of the result.
Summary = Callable[[dict[str, torch.Tensor]], torch.Tensor]


def _sq_norms(
    model: torch.nn.Module, x: torch.Tensor, method: Method, chunk_size: int | None, summary: Summary
) -> torch.Tensor:
    """What ``summary`` keeps of ||dh(x_i)/dp||^2, chunk after chunk."""
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    if chunk_size is not None:
        chunk_size = as_integer("chunk_size", chunk_size, 1)
    with outside_inference_mode():
        parameters = trainable(model)
        calls = LayerCalls(model, parameters) if method in ("auto", "ghost") else None
        check_per_example(model, x, calls.watched() if calls else None)
        x = x.clone() if x.is_inference() else x

        ways = {"ghost": functools.partial(ghost_sq_norms, calls=calls), "vmap": _vmap, "loop": _loop}

        def by(way: str) -> torch.Tensor:
            return torch.cat([summary(norms) for norms in ways[way](model, parameters, x, chunk_size)])

        with attributes_kept(model), twice_differentiable(model) if torch.is_grad_enabled() else contextlib.nullcontext():
            return _by_method(method, by, sum(p.numel() for p in parameters.values()))


def _by_method(method: Method, by: Callable[[str], torch.Tensor], count: int) -> torch.Tensor:
    if method == "auto":
        # With few examples to a chunk, vmap takes longer than the loop.
        for fast in ("ghost", "vmap") if 8 * count <= NUMBERS_PER_CHUNK else ("ghost",):
            try:
                return by(fast)
            except Exception:
                continue  # the loop works all the same, or says what is wrong
        return by("loop")
    try:
        return by(method)
    except RuntimeError as error:
        raise ValueError(f"method {method!r} fails on the model: {error}") from error


def _vmap(
    model: torch.nn.Module, parameters: dict[str, torch.Tensor], x: torch.Tensor, chunk_size: int | None
) -> Iterator[dict[str, torch.Tensor]]:
    count = sum(p.numel() for p in parameters.values())
    for chunk in x.split(chunk_size or max(1, NUMBERS_PER_CHUNK // max(1, count))):
        with torch.enable_grad():
            copies = {name: p.expand(len(chunk), *p.shape) for name, p in parameters.items()}
        yield h_and_sq_norms(model, copies, chunk)[1]


def h_and_sq_norms(
    model: torch.nn.Module, copies: dict[str, torch.Tensor], x: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """H, and ||dh/dp||^2 for each parameter p, for every row of x, each row with a copy of the parameters of its own.

    Row j of h reads copy j alone, so one backward pass from the sum over the rows gives all their
    gradients. (The obvious ``vmap`` of ``vjp`` gives the same norms. But its rule for LayerNorm takes
    the mean and the variance of x for constants, so their gradient would be wrong without a word.)

    Args:
        model: as in :func:`implicit_regularizer`.
        copies: for each parameter a tensor (m, ...) that requires a gradient.
        x: (m, ...).

    Returns:
        h (m, outputs), and for each name the squared norms (m,), differentiable where gradients are enabled.
    """

    def h_of_one(parameters: dict[str, torch.Tensor], x_i: torch.Tensor) -> torch.Tensor:
        # Ties are in _places: functional_call's own would leave a model that holds a module twice
        # with the copies for its parameters (pytorch issue 164759).
        with _PaddingHeld():
            return functional_call(model, parameters, (x_i[None],), tie_weights=False)[0].reshape(-1)

    with torch.enable_grad():
        h = vmap(h_of_one)({place: copies[name] for place, name in _places(model).items()}, x)
        check_reached_through(copies, h, trainable(model), "through a reference that is no attribute of a module")
        sums = h.sum(dim=0)
    norms = {name: wide(h).new_zeros(len(x)) for name in copies}
    for slopes in _gradients(sums, list(copies.values())):
        for name, g in zip(copies, slopes, strict=True):
            norms[name] = norms[name] + squares(g)
    return h, norms


class _PaddingHeld(TorchFunctionMode):
    """Keeps the row ``padding_idx`` of an embedding out of the gradient, which vmap's rule forgets for per-example rows."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        rows = function(*args, **(kwargs or {}))
        if function is not torch.nn.functional.embedding:
            return rows
        tokens, weight, padding_idx = _embedding_arguments(*args, **(kwargs or {}))
        if padding_idx is None:
            return rows
        padding = tokens == padding_idx % weight.shape[-2]
        return torch.where(padding[..., None], rows.detach(), rows)


def _embedding_arguments(
    input: torch.Tensor, weight: torch.Tensor, padding_idx: int | None = None, *args: object, **kwargs: object
) -> tuple[torch.Tensor, torch.Tensor, int | None]:
    return input, weight, padding_idx


def _places(model: torch.nn.Module) -> dict[str, str]:
    """Every place in the model that holds a trainable parameter, and the parameter's name: one name if tied."""
    names = {p: name for name, p in trainable(model).items()}
    return {
        f"{path}.{attribute}".lstrip("."): names[p]
        for path, module in model.named_modules()
        for attribute, p in module.named_parameters(recurse=False, remove_duplicate=False)
        if p in names
    }


def _loop(
    model: torch.nn.Module, parameters: dict[str, torch.Tensor], x: torch.Tensor, chunk_size: int | None
) -> Iterator[dict[str, torch.Tensor]]:
    """The definition: a forward pass for each example, and a backward pass for each of its outputs."""
    for x_i in x.split(1):
        with torch.enable_grad():
            h = model(x_i)[0].reshape(-1)
        norms = {name: wide(h).new_zeros(1) for name in parameters}
        for slopes in _gradients(h, list(parameters.values())):
            for name, g in zip(parameters, slopes, strict=True):
                norms[name] = norms[name] + squares(g.to_dense()[None])
        yield norms


def _gradients(h: torch.Tensor, inputs: list[torch.Tensor]) -> Iterator[tuple[torch.Tensor, ...]]:
    """Of each entry of h by each input; none where h depends on no input."""
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        outputs = h.unbind() if h.requires_grad else ()
    for output in outputs:
        yield torch.autograd.grad(output, inputs, create_graph=differentiable, retain_graph=True, materialize_grads=True)


def loss_and_reg(
    model: torch.nn.Module, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squared error and reg at many parameter vectors at once.

    A class that has a shorter way defines a method ``loss_and_reg(theta, x, y)``, which then answers.

    Args:
        model: the hypothesis; its own parameters stay as they are.
        theta: (k, p), trainable parameters, flattened in the order of ``parameters_to_vector``.
        x: (n, ...).
        y: (n, ...), of the shape of ``model(x)``.

    Returns:
        loss (k,), the mean over examples of the squared error (summed over outputs), and reg (k,).

    Source: equation (4), divided by n, and equation (3).
    """
    if "loss_and_reg" in vars(type(model)) and is_as_built(model):
        with torch.no_grad():
            return model.loss_and_reg(theta, x, y)
    parameters = trainable(model)
    sizes = [p.numel() for p in parameters.values()]
    pairs = max(1, NUMBERS_PER_CHUNK // theta.shape[1])
    examples = min(len(x), pairs)
    loss, reg = theta.new_zeros(2, len(theta))
    with attributes_kept(model):
        try:
            for rows in torch.arange(len(theta)).split(max(1, pairs // examples)):
                parts = theta[rows].split(sizes, dim=1)
                for x_part, y_part in zip(x.split(examples), y.split(examples), strict=True):
                    # Every theta of these rows with every example of this part.
                    n = len(x_part)
                    copies = {
                        name: part.view(-1, *p.shape).repeat_interleave(n, dim=0).requires_grad_()
                        for part, (name, p) in zip(parts, parameters.items(), strict=True)
                    }
                    with torch.no_grad():
                        h, norms = h_and_sq_norms(model, copies, torch.cat([x_part] * len(rows)))
                        errors = h.view(len(rows), -1) - y_part.reshape(-1)
                        loss[rows] += errors.square().sum(dim=1)
                        reg[rows] += sum(norms.values()).view(len(rows), -1).sum(dim=1)
            return loss / len(x), reg / len(x)
        except (RuntimeError, NotCoveredError):
            with parameters_kept(model):
                for k, theta_k in enumerate(theta):
                    set_parameters(model, theta_k)
                    with torch.no_grad():
                        loss[k] = (model(x) - y).square().sum() / len(x)
                        reg[k] = implicit_regularizer(model, x)
            return loss, reg
