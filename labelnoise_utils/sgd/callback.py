"""The callback of a run, which looks at the model and must not change it."""

import torch

from ..regularizer.modes import modes_kept
from ..regularizer.state import same
from .job import Job


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
        ValueError: if it changes a parameter or a buffer of the model, which gets back what it had.
        Exception: whatever the callback raises; likewise.
    """
    before = {name: (tensor, tensor.requires_grad, tensor.detach().clone()) for name, tensor in _tensors(job.model).items()}
    places = [(held, dict(held)) for m in job.model.modules() for held in (m._parameters, m._buffers)]
    try:
        with modes_kept(job.model):
            answer = bool(job.callback(step, loss, reg, job.model))
        now = _tensors(job.model)
        for name in before.keys() | now.keys():
            tensor, trained, _ = before.get(name, (None, None, None))
            if now.get(name) is not tensor or tensor.requires_grad != trained:
                raise ValueError(f"callback replaced {name!r} of the model, or changed whether it is trained")
        if changed := [name for name, (tensor, _, values) in before.items() if not _is_as_before(tensor, values)]:
            raise ValueError(f"callback changed {', '.join(map(repr, changed))} of the model, which it may only look at")
    except BaseException:
        for held, had in places:
            held.clear()
            held.update(had)
        for tensor, trained, values in before.values():
            if not _is_as_before(tensor, values):
                tensor.data = values
            if tensor.is_leaf:
                tensor.requires_grad_(trained)
        raise
    return answer


def _is_as_before(tensor: torch.Tensor, values: torch.Tensor) -> bool:
    kind = (tensor.dtype, tensor.device, tensor.shape)
    return kind == (values.dtype, values.device, values.shape) and same(tensor.detach(), values)


def _tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())
