"""The parameters of a module: which count, as one vector, put back."""

import contextlib
import functools
import json
from collections.abc import Iterable, Iterator

import torch


def trainable(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters with ``requires_grad``, by name, each tensor once, in the order of ``parameters_to_vector``.

    Returns:
        The parameters themselves, not copies.

    Raises:
        TypeError: if model is no module.
        ValueError: if there is none, or a lazy layer has not made its own yet.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise ValueError("model has no trainable parameter: all have requires_grad=False, or there are none")
    for name, p in parameters.items():
        if isinstance(p, torch.nn.parameter.UninitializedParameter):
            raise ValueError(f"parameter {name!r} of the model has no shape yet: call the model once first")
        if p.is_inference():
            raise ValueError(f"parameter {name!r} was made in torch.inference_mode, and has no gradient")
    return parameters


def counted(model: torch.nn.Module, parameters: object = None) -> dict[str, torch.Tensor]:
    """The trainable parameters that count.

    Args:
        model: the hypothesis.
        parameters: names of tensors or of modules, or tensors themselves, one or several; None is all.

    Returns:
        By name, in the order of the model.

    Raises:
        TypeError: if model is no module, or one of ``parameters`` is neither a name nor a tensor.
        ValueError: if one is not there or not trainable, or there is none.
    """
    free = trainable(model)
    if parameters is None:
        return free
    wanted = [parameters] if isinstance(parameters, str | torch.Tensor) else parameters
    if not isinstance(wanted, Iterable):
        raise TypeError(f"parameters must be names or tensors, got {type(wanted).__name__}")
    chosen: set[str] = set()
    for one in wanted:
        if isinstance(one, str):
            names = {name for name in free if f"{name}.".startswith(f"{one}.") or not one}
        elif isinstance(one, torch.Tensor):
            names = {name for name, p in free.items() if p is one}
        else:
            raise TypeError(f"parameters must be names or tensors, got {type(one).__name__}")
        if not names:
            what = repr(one) if isinstance(one, str) else f"a tensor of shape {tuple(one.shape)}"
            raise ValueError(f"parameters holds {what}, which is no trainable parameter of the model, nor a module with one")
        chosen |= names
    if not chosen:
        raise ValueError("parameters must hold at least one name or tensor")
    return {name: p for name, p in free.items() if name in chosen}


def set_parameters(model: torch.nn.Module, theta: torch.Tensor) -> None:
    """Write a flat vector into the trainable parameters, in the order of ``parameters_to_vector``.

    The memory, type and device of the parameters stay as they are.

    Raises:
        ValueError: if the model has another number of trainable parameters.
    """
    parameters = trainable(model).values()
    sizes = [p.numel() for p in parameters]
    if theta.shape != (sum(sizes),):
        raise ValueError(f"theta has shape {tuple(theta.shape)}, while the model has {sum(sizes)} trainable parameters")
    with torch.no_grad():
        for p, part in zip(parameters, theta.split(sizes), strict=True):
            p.copy_(part.view_as(p))


def is_as_built(model: torch.nn.Module) -> bool:
    """Whether it is one of the book's models as its ``config`` builds it.

    One whose parameters were tied, added, replaced or moved to another device is not, nor one with hooks or with a
    ``forward`` of its own.

    Returns:
        True if its compiled step does what autograd on the model does.
    """
    if "compiled_sgd" not in vars(type(model)):
        return False

    def is_plain(module: torch.nn.Module) -> bool:
        hooks = (attribute for name, attribute in vars(module).items() if name.endswith("_hooks"))
        return "forward" not in vars(module) and not any(hooks)

    if not all(map(is_plain, model.modules())) or any(p._backward_hooks for p in model.parameters()):
        return False
    dtype = next(model.parameters()).dtype
    return _layout(model) == _layout_as_built(type(model), json.dumps(model.config), dtype)


def _layout(model: torch.nn.Module) -> list[tuple]:
    return [(name, p.shape, p.dtype, p.device) for name, p in model.named_parameters()]


@functools.lru_cache(maxsize=256)
def _layout_as_built(kind: type[torch.nn.Module], config: str, dtype: torch.dtype) -> list[tuple]:
    return _layout(kind(**json.loads(config), dtype=dtype))


@contextlib.contextmanager
def parameters_kept(model: torch.nn.Module) -> Iterator[None]:
    """Put the trainable parameters back at the end of the block.

    Yields:
        Nothing.
    """
    theta = torch.nn.utils.parameters_to_vector(trainable(model).values()).detach().clone()
    try:
        yield
    finally:
        set_parameters(model, theta)
