"""Per-example squared gradient norms from whole gradients: by ``torch.vmap``, or one example after the other."""

from collections.abc import Iterator

import torch

from .ghost import GRADIENTS_PER_CHUNK as NUMBERS_PER_CHUNK
from .ghost import Cover, ghost_sq_norms, h_and_norms
from .hypothesis import Call, Hypothesis, attributes_kept, trainable
from .inputs import Examples
from .rules import squares, wide


def vmap_sq_norms(
    h: Hypothesis, examples: Examples, chunk_size: int | None, call: Call
) -> Iterator[tuple[dict[str, torch.Tensor], Cover]]:
    """``||dh(x_i)/dp||^2`` by the gradients of one chunk of examples at a time.

    Args:
        h: the hypothesis.
        examples: n of them.
        chunk_size: examples per chunk, by default as many as have gradients of ``2^19`` numbers.
        call: of the user's own model, on the first example.

    Yields:
        As :func:`ghost_sq_norms`.
    """
    count = sum(p.numel() for p in h.parameters.values())
    yield from ghost_sq_norms(h, examples, chunk_size or max(1, NUMBERS_PER_CHUNK // max(1, count)), Cover.none(h), call)


def h_and_sq_norms(
    model: torch.nn.Module, copies: dict[str, torch.Tensor], x: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """H, and ||dh/dp||^2 for each parameter p, for every row of x, each row with a copy of the parameters of its own.

    Args:
        model: as in :func:`implicit_regularizer`.
        copies: for each parameter a tensor (m, ...) that requires a gradient.
        x: (m, ...).

    Returns:
        h (m, outputs), and for each name the squared norms (m,), differentiable where gradients are enabled.
    """
    h = Hypothesis(model, trainable(model))
    return h_and_norms(h, Examples({0: x}), Cover.none(h), copies)[:2]


def loop_sq_norms(h: Hypothesis, examples: Examples) -> Iterator[dict[str, torch.Tensor]]:
    """``||dh(x_i)/dp||^2`` by the definition: a forward pass for each example, and a backward pass for each of its outputs.

    Each example finds the attributes of the model as they were before the first.

    Args:
        h: the hypothesis.
        examples: n of them.

    Yields:
        For each name the norm of one example, differentiable where gradients are enabled.
    """
    for one in examples.split(1):
        with torch.enable_grad(), attributes_kept(h.model):
            row = h.of_one(one)
        yield norms_of_one(row, h.parameters)


def norms_of_one(row: torch.Tensor, parameters: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same for one example, from its outputs (outputs,) with their graph, which stays.

    Returns:
        For each name (1,).
    """
    norms = {name: wide(row).new_zeros(1) for name in parameters}
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        outputs = row.unbind() if row.requires_grad else ()
    for output in outputs:
        slopes = torch.autograd.grad(
            output, [*parameters.values()], create_graph=differentiable, retain_graph=True, materialize_grads=True
        )
        for name, g in zip(parameters, slopes, strict=True):
            norms[name] = norms[name] + squares(g.to_dense()[None])
    return norms


def quick_norms_of_one(row: torch.Tensor, parameters: list[torch.Tensor]) -> list[float]:
    """The same as numbers, without a graph, in half the time for small tensors; to fewer digits, which do for a check."""
    if not row.requires_grad:
        return [0.0] * len(parameters)
    with torch.enable_grad():
        outputs = row.unbind()
    with torch.no_grad():
        sums = wide(row).new_zeros(len(parameters))
        for output in outputs:
            slopes = torch.autograd.grad(output, parameters, retain_graph=True, materialize_grads=True)
            flat = [wide(g.to_dense()).reshape(-1) for g in slopes]
            sums = sums + torch.stack([g.dot(g) for g in flat])
    return sums.tolist()
