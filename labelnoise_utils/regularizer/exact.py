"""The implicit regularizer reg(theta) = (1/n) sum_i ||grad_theta h(x_i, theta)||^2 of any ``nn.Module``."""

import contextlib
import functools
from collections.abc import Callable
from typing import Literal, get_args

import torch

from ..arguments import as_integer
from .ghost import LayerCalls, ghost_sq_norms
from .gradients import NUMBERS_PER_CHUNK, loop_sq_norms, vmap_sq_norms
from .hypothesis import attributes_kept, check_per_example, gradients_possible, trainable, twice_differentiable

Method = Literal["auto", "ghost", "vmap", "loop"]


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
    with gradients_possible():
        parameters = trainable(model)
        calls = LayerCalls(model, parameters) if method in ("auto", "ghost") else None
        check_per_example(model, x, calls.watched() if calls else None)
        x = x.clone() if x.is_inference() else x

        ways = {"ghost": functools.partial(ghost_sq_norms, calls=calls), "vmap": vmap_sq_norms, "loop": loop_sq_norms}

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
