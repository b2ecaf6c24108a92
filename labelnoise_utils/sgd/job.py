"""The arguments of :func:`labelnoise_utils.train`, checked before any work."""

import dataclasses
import numbers
import os
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch

from .. import models
from ..arguments import as_examples, as_integer, as_nonnegative, as_positive
from ..regularizer.hypothesis import Hypothesis, attributes_kept, check_alone, check_per_example, is_as_built, trainable
from ..regularizer.inputs import Examples
from .law import ADDED, Law, check_law

Engine = Literal["auto", "compiled", "torch"]
Callback = Callable[[int, float, float, torch.nn.Module], object]


@dataclasses.dataclass(frozen=True)
class Job:
    """The arguments of :func:`train`, checked and in their final form."""

    model: torch.nn.Module
    x: torch.Tensor
    y: torch.Tensor
    lr: float
    steps: int
    noise: Law | None
    batch_size: int | None
    seed: int
    record: np.ndarray
    engine: Literal["compiled", "torch"]
    reg_on: torch.Tensor | bool
    keep_theta: bool
    callback: Callback | None = None
    checkpoint: str | None = None
    momentum: float = dataclasses.field(default=0.0, metadata=ADDED)
    penalty: float = dataclasses.field(default=0.0, metadata=ADDED)

    @property
    def is_plain(self) -> bool:
        """Whether a step is that of equation (5), whatever its inputs and labels are."""
        law = self.noise or Law()
        return not (law.inside or law.outside or self.momentum or self.penalty)


def prepare(
    model,
    x,
    y,
    *,
    lr,
    steps,
    noise=None,
    batch_size=1,
    seed=0,
    record=200,
    engine="auto",
    reg_on=True,
    keep_theta=True,
    callback=None,
    checkpoint=None,
    momentum=0.0,
    penalty=0.0,
) -> Job:
    """Check the arguments of :func:`train` before any work.

    Returns:
        The job.

    Raises:
        TypeError: as in :func:`train`.
        ValueError: as in :func:`train`.
    """
    parameters = trainable(model)
    for name, p in parameters.items():
        if p.dtype in (torch.float16, torch.bfloat16):
            raise ValueError(
                f"parameter {name!r} is {p.dtype}, in whose rounding steps of SGD on the time scale 1 / lr^2 are lost: call"
                " model.float() first, or freeze it"
            )
        if getattr(p, "_post_accumulate_grad_hooks", None):
            raise ValueError(
                f"parameter {name!r} has a hook that training never calls, since it accumulates no gradient"
                " (register_post_accumulate_grad_hook): use register_hook"
            )
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.layout is not torch.strided:
            raise ValueError(
                f"{name!r} of the model is {tensor.layout}, which a run cannot keep: make it dense by to_dense(), or a plain"
                " attribute instead of a buffer"
            )
    like = next(iter(parameters.values()))
    dtype = like.dtype
    x, y = _as_examples(model, "x", x, like), as_examples("y", y, like).detach().contiguous().to(dtype)
    if x.shape[0] != y.shape[0]:
        raise ValueError(f"x and y must hold the same number of examples, got {x.shape[0]} and {y.shape[0]}")
    check_per_example(model, x)
    lr = as_positive("lr", lr)
    steps = as_integer("steps", steps, 1)
    seed = as_integer("seed", seed, 0)
    check_law(noise)
    momentum, penalty = as_nonnegative("momentum", momentum), as_nonnegative("penalty", penalty)
    if momentum >= 1:
        raise ValueError(f"momentum must be below 1, got {momentum:g}")
    if batch_size is not None:
        batch_size = as_integer("batch_size", batch_size, 1)
        if batch_size > len(x):
            raise ValueError(f"batch_size must be at most the number of examples, {len(x)}, got {batch_size}")
    if noise is not None:
        noise.check(x, y)
        noise.check_batch(batch_size)
    record = _record(record, steps)
    if engine not in get_args(Engine):
        raise ValueError(f"engine must be one of {', '.join(get_args(Engine))}, got {engine!r}")
    if not isinstance(reg_on, bool):
        reg_on = _as_examples(model, "reg_on", reg_on, like)
        try:
            check_per_example(model, reg_on)
        except ValueError as error:
            raise ValueError(f"reg_on must hold inputs for the model, as x does, but taken as x: {error}") from error
    if not isinstance(keep_theta, bool):
        raise TypeError(f"keep_theta must be True or False, got {keep_theta!r}")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function of step, loss, reg and model, or None, got {callback!r}")
    if checkpoint is not None:
        if not isinstance(checkpoint, str | os.PathLike):
            raise TypeError(f"checkpoint must be the path of a file, or None, got {checkpoint!r}")
        # From the root, since a job may run in a process with another working folder.
        checkpoint = os.path.abspath(os.fspath(checkpoint))
    _check_outputs(model, x, y)
    # A kernel is for the class that it stands in, not for what a subclass makes of it.
    dtypes, own = getattr(model, "compiled_dtypes", (torch.float64,)), vars(type(model))
    job = Job(
        model,
        x,
        y,
        lr,
        steps,
        noise,
        batch_size,
        seed,
        record,
        "compiled",
        reg_on,
        keep_theta,
        callback,
        checkpoint,
        momentum,
        penalty,
    )
    has_kernel = "compiled_sgd" in own and is_as_built(model) and dtype in dtypes
    if engine == "compiled" and not has_kernel:
        raise ValueError(
            f"engine='compiled' needs one of the book's models ({', '.join(models.__all__)}) as built, on the CPU and in"
            f" float64 (MatrixSensing also in float32), got {type(model).__name__} in {dtype}: use engine='torch', or 'auto'"
        )
    if not job.is_plain:
        # The norm in a penalty is over the trainable parameters, while a compiled step knows that of all.
        is_whole = len(parameters) == len(list(model.parameters()))
        missing = "compiled_steps" not in own or (penalty and not is_whole)
        if engine == "compiled" and missing:
            what = "a penalty where parameters are frozen" if "compiled_steps" in own else "momentum, a penalty or such noise"
            raise ValueError(f"{type(model).__name__} has no compiled step with {what}: use engine='torch', or 'auto'")
        has_kernel = has_kernel and not missing
    return job if has_kernel and engine != "torch" else dataclasses.replace(job, engine="torch")


def as_model_dtype(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Floating-point inputs in the type of the model's parameters, as they are if those are of several types.

    Args:
        model: the hypothesis.
        x: (n, ...).

    Returns:
        x, or a copy.
    """
    dtypes = {p.dtype for p in model.parameters() if p.is_floating_point()}
    return x.to(dtypes.pop()) if x.is_floating_point() and len(dtypes) == 1 else x


def _as_examples(model: torch.nn.Module, name: str, value: object, like: torch.Tensor) -> torch.Tensor:
    """Inputs without their graph, as the engines keep them."""
    return as_model_dtype(model, as_examples(name, value, like)).detach().contiguous()


def _check_outputs(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """Refuse labels of another shape than h, and a model that mixes examples."""
    with attributes_kept(model), torch.enable_grad():
        h = model(x).detach()
    if h.shape != y.shape:
        hint = ""
        if y.numel() == h.numel():
            hint = f"; the numbers are as many: y.reshape({tuple(h.shape)}), if they are in that order"
        raise ValueError(f"y must have the shape of model(x), {tuple(h.shape)}, got {tuple(y.shape)}{hint}")
    if not torch.isfinite(h).all():
        raise ValueError("model(x) is not finite: the parameters to start from hold NaN or infinity, or are too large")
    if not is_as_built(model):
        hint = "the examples must lie along dimension 0 of x (batch_first=True), and none may read another"
        check_alone(Hypothesis(model, trainable(model)), Examples({0: x}), h, hint)


def _record(record: object, steps: int) -> np.ndarray:
    """Step numbers of the snapshots, increasing."""
    if isinstance(record, numbers.Integral) and not isinstance(record, bool):
        count = as_integer("record", record, 2)
        # Backwards, so that two snapshots are the first and the last step.
        return np.unique(np.rint([0, *np.geomspace(steps, 1, count - 1)])).astype(np.int64)
    if isinstance(record, torch.Tensor):
        record = record.tolist()
    try:
        chosen = np.unique([as_integer("record", step, 0) for step in record])
    except TypeError:
        raise TypeError(f"record must be a number of snapshots or a sequence of step numbers, got {record!r}") from None
    if not chosen.size or chosen[-1] > steps:
        raise ValueError(f"record must hold step numbers between 0 and steps = {steps}, got {record!r}")
    return chosen
