"""The implicit regularizer reg(theta) = (1/n) sum_i ||grad_theta h(x_i, theta)||^2 of any ``nn.Module``."""

import contextlib
import itertools
from collections.abc import Callable, Iterable
from typing import Literal, TypeVar, get_args

import torch

from ..arguments import as_integer
from .ghost import Cover, NotCoveredError, ghost_sq_norms
from .gradients import NUMBERS_PER_CHUNK, loop_sq_norms, quick_norms_of_one, vmap_sq_norms
from .hypothesis import (
    Call,
    Hypothesis,
    Loss,
    StateError,
    attributes_kept,
    check_again,
    counted,
    first_call,
    gradients_possible,
    twice_differentiable,
)
from .inputs import Examples, Inputs, batches

Method = Literal["auto", "ghost", "vmap", "loop"]

NUMBERS_CROSSCHECKED = 2**16
# A number of the gradient of one example costs some passes over memory, one in an operation of the model its arithmetic too.
PART_CROSSCHECKED = 1 / 16


def implicit_regularizer(
    model: torch.nn.Module,
    x: Inputs,
    *,
    method: Method = "auto",
    chunk_size: int | None = None,
    parameters: Iterable[str | torch.Tensor] | str | torch.Tensor | None = None,
    loss: Loss = "squared",
    output: str | int | None = None,
    inputs: Callable | None = None,
) -> torch.Tensor:
    r"""The implicit regularizer, ``reg(theta) = (1/n) sum_i ||grad_theta h(x_i, theta)||^2``.

    For several outputs the squared norms are summed over them. Only parameters with ``requires_grad`` count. The result is
    exact, and differentiable: ``implicit_regularizer(model, x).backward()`` gives grad reg.

    ``"ghost"`` needs, for each output, a forward pass and the half of a backward pass that finds the slopes of h by what
    comes out of each layer. It covers the weights and biases of Linear, Conv, Embedding, LayerNorm, RMSNorm and GroupNorm
    layers, of BatchNorm in eval mode, and what :func:`register_rule` adds, where a layer is called once and shares them
    with none. ``"vmap"`` forms the gradients of one chunk of examples at a time; ``"loop"`` makes one backward pass for each
    example and output, over your own model. ``"auto"`` takes ghost norms for what they cover and vmap for the rest, and the
    loop where that fails or the rest is large (above ``2^16`` parameters), where vmap is the slowest. The numbers are the
    same. To see why a model is not covered, ask for ``method="ghost"``.

    **What is checked.** The model is called on the first example, watched, then once more, and one backward pass gives the
    first example's norms by the loop, for the smaller tensors up to ``2^16`` numbers, and at least one tensor for each kind of
    layer. A method that disagrees with it is not taken by "auto", and ends in an error if it was asked for by name.
    The model is left as it was, and may be read from several threads.

    **Which loss.** Label noise of variance ``v`` under the squared error ``(h - y)^2`` pushes reg down. Under
    cross-entropy, labels that are flipped with some small probability do it with the trace of the Gauss-Newton matrix,
    ``(1/n) sum_i tr J_i^T (diag p_i - p_i p_i^T) J_i``, where ``J_i`` is the Jacobian of the logits and ``p_i`` their
    softmax: the Hessian of the loss at the labels' own probabilities (Damian, Ma and Lee, 2021, "Label noise SGD provably
    prefers flat global minimizers"). That is reg of ``2 sqrt(p)`` in place of the logits; reg of the logits themselves only
    grows as a classifier becomes sure. ``loss="cross_entropy"`` gives the trace.

    Args:
        model: the hypothesis h. It takes x with the examples along dimension 0, and gives a real tensor with the examples
            there. What it computes for ``x[i:i+1]`` is h(x_i). It is left as it was.
        x: (n, ...), the inputs: a tensor or a NumPy array; a tuple of them for a model with several positional inputs, or a
            dict for keyword inputs (what is no tensor or array is passed as it is); or a ``DataLoader``. Tensors are taken as
            they are. Floating-point arrays are brought to the type and device of the model.
        method: ``"auto"``, ``"ghost"``, ``"vmap"`` or ``"loop"``.
        chunk_size: examples at a time, which bounds the memory as long as no gradient of reg is asked for. By default as many
            as take ``2^21`` numbers in the operations of the model ("ghost"), or whose gradients are ``2^19`` numbers ("vmap").
        parameters: which count: names of tensors or of modules, or tensors, one or several. By default all that are trainable.
        loss: ``"squared"``, or ``"cross_entropy"`` for a model that gives logits, (n, classes, ...).
        output: where the model returns a mapping, a dataclass or a tuple, the name or position of the field that is h.
        inputs: where x is a ``DataLoader`` or another iterable of batches, picks out of a batch what x could be otherwise:
            ``inputs=lambda batch: batch[0]``.

    Returns:
        Scalar tensor, in squared units of h over squared units of theta; float32 for models in half precision.

    Raises:
        TypeError: if model is no module, x or h no tensor, or another argument has the wrong type.
        ValueError: if x is empty, not finite or not what the model takes, the method or loss is unknown, chunk_size is below 1,
            no parameter is trainable, h is not real, or h(x_i) depends on more than x_i and theta, as with BatchNorm or
            Dropout in training mode or with what the model keeps from call to call. A :class:`NotCoveredError` if the method
            does not cover the model.

    Source: equations (1) and (3).

    >>> from labelnoise_utils import Product
    >>> implicit_regularizer(Product(u=3.0, v=4.0), torch.zeros(1)).item()
    25.0
    """
    options = dict(chunk_size=chunk_size, parameters=parameters, loss=loss, output=output, inputs=inputs)
    return per_example_sq_norms(model, x, method=method, **options).mean()


def per_example_sq_norms(
    model: torch.nn.Module,
    x: Inputs,
    *,
    method: Method = "auto",
    chunk_size: int | None = None,
    parameters: Iterable[str | torch.Tensor] | str | torch.Tensor | None = None,
    loss: Loss = "squared",
    output: str | int | None = None,
    inputs: Callable | None = None,
) -> torch.Tensor:
    """The terms of reg by example: ``||grad_theta h(x_i, theta)||^2``.

    Args:
        model: as in :func:`implicit_regularizer`.
        x: as there.
        method: as there.
        chunk_size: as there.
        parameters: as there.
        loss: as there.
        output: as there.
        inputs: as there.

    Returns:
        (n,), differentiable.

    Raises:
        TypeError: as there.
        ValueError: as there.

    Source: equations (1) and (3).
    """
    h = Hypothesis(model, counted(model, parameters), output, loss)
    return torch.cat(sq_norms(h, x, inputs, method, chunk_size, lambda norms: sum(norms.values())))


def regularizer_by_parameter(
    model: torch.nn.Module,
    x: Inputs,
    *,
    method: Method = "auto",
    chunk_size: int | None = None,
    parameters: Iterable[str | torch.Tensor] | str | torch.Tensor | None = None,
    loss: Loss = "squared",
    output: str | int | None = None,
    inputs: Callable | None = None,
) -> dict[str, torch.Tensor]:
    """The terms of reg by parameter: ``(1/n) sum_i ||dh(x_i)/dp||^2`` for each trainable tensor p of the model.

    Args:
        model: as in :func:`implicit_regularizer`.
        x: as there.
        method: as there.
        chunk_size: as there.
        parameters: as there.
        loss: as there.
        output: as there.
        inputs: as there.

    Returns:
        A scalar tensor for each name in ``model.named_parameters()`` that counts, differentiable; their sum is reg.

    Raises:
        TypeError: as there.
        ValueError: as there.

    Source: equations (1) and (3).

    >>> from labelnoise_utils import Product
    >>> {name: share.item() for name, share in regularizer_by_parameter(Product(u=3.0, v=4.0), torch.zeros(1)).items()}
    {'u': 16.0, 'v': 9.0}
    """
    h = Hypothesis(model, counted(model, parameters), output, loss)
    sums = sq_norms(h, x, inputs, method, chunk_size, lambda norms: {p: (of.sum(), len(of)) for p, of in norms.items()})
    count = sum(len_of_chunk for _, len_of_chunk in (chunk[next(iter(h.parameters))] for chunk in sums))
    return {name: sum(chunk[name][0] for chunk in sums) / count for name in h.parameters}


def regularizer_by_module(
    model: torch.nn.Module,
    x: Inputs,
    *,
    depth: int | None = None,
    method: Method = "auto",
    chunk_size: int | None = None,
    parameters: Iterable[str | torch.Tensor] | str | torch.Tensor | None = None,
    loss: Loss = "squared",
    output: str | int | None = None,
    inputs: Callable | None = None,
) -> dict[str, torch.Tensor]:
    """The terms of reg by module: :func:`regularizer_by_parameter`, added up over the tensors of each layer or stage.

    Args:
        model: as in :func:`implicit_regularizer`.
        x: as there.
        depth: how many parts of a name tell modules apart: with 1, ``"blocks.0.norm"`` and ``"blocks.1.norm"`` are one stage,
            ``"blocks"``. By default each module that holds tensors itself stands alone.
        method: as there.
        chunk_size: as there.
        parameters: as there.
        loss: as there.
        output: as there.
        inputs: as there.

    Returns:
        A scalar tensor for each name in ``model.named_modules()``, so cut, that holds a tensor that counts; ``""`` is the model
        itself. Their sum is reg. A tensor that is shared counts where it comes first.

    Raises:
        TypeError: as there.
        ValueError: as there, or if depth is below 1.

    Source: equations (1) and (3).

    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Linear(1, 1)).requires_grad_()
    >>> list(regularizer_by_module(model, torch.zeros(1, 2)))
    ['0', '1']
    """
    if depth is not None:
        depth = as_integer("depth", depth, 1)
    options = dict(chunk_size=chunk_size, parameters=parameters, loss=loss, output=output, inputs=inputs)
    sums: dict[str, torch.Tensor] = {}
    for name, share in regularizer_by_parameter(model, x, method=method, **options).items():
        module = ".".join(name.split(".")[:-1][:depth])
        sums[module] = sums[module] + share if module in sums else share
    return sums


# ||dh(x_i)/dp||^2 by the name of p, (m,) for the m examples of a chunk; and what is kept of them.
Norms = dict[str, torch.Tensor]
Kept = TypeVar("Kept")


def sq_norms(
    h: Hypothesis,
    x: Inputs,
    inputs: Callable | None,
    method: Method,
    chunk_size: int | None,
    summary: Callable[[Norms], Kept],
) -> list[Kept]:
    """What ``summary`` keeps of the norms, chunk after chunk."""
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    if chunk_size is not None:
        chunk_size = as_integer("chunk_size", chunk_size, 1)
    with gradients_possible(), twice_differentiable(h.model) if torch.is_grad_enabled() else contextlib.nullcontext():
        parts = (
            _of_batch(h, examples, method, chunk_size, summary)
            for examples in batches(x, inputs, next(iter(h.parameters.values())))
        )
        return [*itertools.chain.from_iterable(parts)]


def _of_batch(
    h: Hypothesis, examples: Examples, method: Method, chunk_size: int | None, summary: Callable[[Norms], Kept]
) -> list[Kept]:
    with attributes_kept(h.model) as changed:
        call = first_call(h, examples)
        if changed():  # perhaps the next call reads it
            check_again(h, call)

    def by(way: Method) -> list[Kept]:
        if way == "loop":
            check_again(h, call)
            return [summary(norms) for norms in loop_sq_norms(h, examples)]
        most = max(NUMBERS_CROSSCHECKED, len(examples) * call.numbers * PART_CROSSCHECKED)
        if way == "ghost":
            cover = Cover.of(h)
            chunks = ghost_sq_norms(h, examples, chunk_size, cover, call, whole=method == "ghost")
        else:
            cover = Cover.none(h)
            chunks = vmap_sq_norms(h, examples, chunk_size, call)
        # At once, while the caches of the processor still hold the weights.
        by_loop = _by_loop(h, call, cover, most)
        first, left = next(chunks)
        if left.rest.keys() != cover.rest.keys():  # then other tensors stand for their kinds
            by_loop |= _by_loop(h, call, left, most)
        _crosscheck(way, by_loop, first, call)
        return [summary(norms) for norms in itertools.chain([first], (norms for norms, _ in chunks))]

    if method == "auto":
        return _by_auto(h, by)
    try:
        return by(method)
    except RuntimeError as error:
        raise ValueError(f"method {method!r} fails on the model: {error}") from error


def _by_auto(h: Hypothesis, by: Callable[[Method], list[Kept]]) -> list[Kept]:
    cover = Cover.of(h)
    copied = {"ghost": cover.rest, "vmap": h.parameters}
    if cover.rest and not cover.layers:
        del copied["ghost"]  # it would be the same
    for way, names in copied.items():
        # With few examples to a chunk, per-example gradients take longer than the loop.
        if 8 * sum(h.parameters[name].numel() for name in names) <= NUMBERS_PER_CHUNK:
            try:
                return by(way)
            except StateError:
                raise
            except Exception:
                continue  # the loop works all the same, or says what is wrong
    return by("loop")


def _by_loop(h: Hypothesis, call: Call, cover: Cover, most: float) -> dict[str, float]:
    """Norms of the first example by the loop over the user's own model, for up to so many numbers."""
    names = _crosschecked(h, cover, most)
    return dict(zip(names, quick_norms_of_one(call.h, [h.parameters[name] for name in names]), strict=True))


def _crosscheck(way: Method, expected: dict[str, float], norms: dict[str, torch.Tensor], call: Call) -> None:
    """Compare norms of the first example with those by the loop."""
    # Values of all parameters in one tensor: a small operation for each would take longer.
    given = dict(zip(norms, torch.stack([of.detach() for of in norms.values()])[:, 0].tolist(), strict=True))
    total = sum(given.values())
    # On an accelerator float32 may be multiplied with ten bits.
    eps = call.eps if call.h.device.type == "cpu" else max(call.eps, 2.0**-11)
    for name, other in expected.items():
        one = given[name]
        if not abs(one - other) <= 4 * eps**0.5 * max(one, other) + eps * total:
            raise NotCoveredError(
                f"parameter {name!r} has the squared gradient norm {one:.6g} by method {way!r} for the first example, but"
                f" {other:.6g} by a loop of autograd over the model"
            )


def _crosschecked(h: Hypothesis, cover: Cover, most: float) -> list[str]:
    """The names of the smaller tensors, up to so many numbers, and of the smallest for each kind of layer and parameter."""
    kinds = {name: (type(layer), attribute) for layer, of in cover.layers.items() for attribute, name in of.items()}
    chosen, seen, numbers = [], set(), 0
    for name, p in sorted(h.parameters.items(), key=lambda item: item[1].numel()):
        numbers += p.numel()
        if numbers <= most or (name in kinds and kinds[name] not in seen):
            chosen.append(name)
        seen.add(kinds.get(name))
    return chosen
