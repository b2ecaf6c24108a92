"""The callback of a run, which looks at the model and must not change it."""

from collections.abc import Iterable

import torch

from ..regularizer.modes import modes_kept
from ..regularizer.state import attributes_kept, same
from .attributes import changed_by_call, different
from .job import Job
from .words import HOOKS, HOOKS_OF_TENSORS, words_of_attributes


def ask(job: Job, step: int, loss: float, reg: float) -> bool:
    """Call the callback of a job.

    Args:
        job: with a callback.
        step: what it is told.
        loss: the same.
        reg: the same.

    Returns:
        Whether the run shall end here.

    Raises:
        ValueError: if it changes a parameter, a buffer or an attribute of the model, or leaves a hook; the model gets back what
            it had. Attributes that a call of the model sets are put back without a word.
        Exception: whatever the callback raises; likewise.
    """
    model = job.model
    before = {name: (tensor, tensor.requires_grad, tensor.detach().clone()) for name, tensor in _tensors(model).items()}
    kinds = ("_parameters", "_buffers", "_modules", *HOOKS)
    dicts = [getattr(module, kind) for module in model.modules() for kind in kinds]
    places = [(held, dict(held)) for held in dicts if isinstance(held, dict)]  # torch.jit has others, which nobody changes
    hooks = [(tensor, kind, dict(_hooks(tensor, kind))) for tensor, *_ in before.values() for kind in HOOKS_OF_TENSORS]

    def put_back() -> None:
        for held, had in [*places, *((_hooks(tensor, kind), had) for tensor, kind, had in hooks)]:
            held.clear()
            held.update(had)
        for tensor, trained, values in before.values():
            if not _is_as_before(tensor, values):
                tensor.data = values
            if tensor.is_leaf:
                tensor.requires_grad_(trained)

    deep = words_of_attributes(model, by_identity=True, libraries=False)
    try:
        with attributes_kept(model) as touched:
            with modes_kept(model):
                answer = bool(job.callback(step, loss, reg, model))
            now = _tensors(model)
            for name in before.keys() | now.keys():
                tensor, trained, _ = before.get(name, (None, None, None))
                if now.get(name) is not tensor or tensor.requires_grad != trained:
                    raise ValueError(f"callback replaced {name!r} of the model, or changed whether it is trained")
            _refuse(name for name, (tensor, _, values) in before.items() if not _is_as_before(tensor, values))
            is_left = not touched() and all(held.keys() == had.keys() for held, had in places)
            is_left = is_left and all(_hooks(tensor, kind).keys() == had.keys() for tensor, kind, had in hooks)
            is_left = is_left and deep == words_of_attributes(model, by_identity=True, libraries=False)
            now_told = {} if is_left else words_of_attributes(model, by_identity=True)
        if not is_left:
            put_back()
            told = words_of_attributes(model, by_identity=True) | deep
            _refuse(sorted(different(told, now_told) - changed_by_call(model, job.x)))
    except BaseException:
        put_back()
        raise
    return answer


def _refuse(changed: Iterable[str]) -> None:
    if names := ", ".join(map(repr, changed)):
        raise ValueError(f"callback changed {names} of the model, which it may only look at")


def _hooks(tensor: torch.Tensor, kind: str) -> dict:
    return getattr(tensor, kind, None) or {}


def _is_as_before(tensor: torch.Tensor, values: torch.Tensor) -> bool:
    kind = (tensor.dtype, tensor.device, tensor.shape)
    return kind == (values.dtype, values.device, values.shape) and same(tensor.detach(), values)


def _tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())
