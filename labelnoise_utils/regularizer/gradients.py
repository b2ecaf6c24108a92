"""Per-example squared gradient norms from whole gradients: by ``torch.vmap``, or one example after the other."""

from collections.abc import Iterator

import torch
from torch.func import functional_call, vmap
from torch.overrides import TorchFunctionMode

from .ghost import check_reached_through
from .hypothesis import trainable
from .rules import squares, wide

NUMBERS_PER_CHUNK = 2**19


def vmap_sq_norms(
    model: torch.nn.Module, parameters: dict[str, torch.Tensor], x: torch.Tensor, chunk_size: int | None
) -> Iterator[dict[str, torch.Tensor]]:
    """``||dh(x_i)/dp||^2`` by the gradients of one chunk of examples at a time.

    Args:
        model: the hypothesis.
        parameters: its trainable parameters by name.
        x: (n, ...).
        chunk_size: examples per chunk, by default as many as have gradients of ``2^19`` numbers.

    Yields:
        For each name the norms of one chunk, differentiable where gradients are enabled.
    """
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


def loop_sq_norms(
    model: torch.nn.Module, parameters: dict[str, torch.Tensor], x: torch.Tensor, chunk_size: int | None
) -> Iterator[dict[str, torch.Tensor]]:
    """``||dh(x_i)/dp||^2`` by the definition: a forward pass for each example, and a backward pass for each of its outputs.

    Args:
        model: the hypothesis.
        parameters: its trainable parameters by name.
        x: (n, ...).
        chunk_size: of no use here.

    Yields:
        For each name the norm of one example, differentiable where gradients are enabled.
    """
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
