"""Label-noise SGD: :func:`train`."""

import math
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np
import torch

from ..regularizer import per_example_sq_norms
from ..regularizer.hypothesis import parameters_kept, set_parameters, trainable
from ..regularizer.snapshots import loss_and_reg, mean_squared_error
from .engines import train_compiled, train_torch
from .job import Engine, Job, prepare
from .noise import LabelNoise, sgd_draws
from .progress import interruptible, progress_bar
from .run import Run, as_array, copy_of, first_example, rest_of

SECONDS_PER_SLICE = 0.1


class DivergenceError(ArithmeticError):
    """Training blew up; the model is back at the last snapshot with a finite loss.

    Attributes:
        step: the step whose residual was no longer finite.
        last_step: the snapshot that the model is back at.
        last_loss: mean squared error there.
        lr: the learning rate.
        lr_bound: ``1 / max_i ||grad h(x_i)||^2`` where training began; a single-example step is unstable above it.
    """

    def __init__(self, step: int, last_step: int, last_loss: float, lr: float, lr_bound: float) -> None:
        super().__init__(
            f"training diverged at step {step}; the last finite loss was {last_loss:.4g}, and the model is back there, at step"
            f" {last_step}. lr = {lr:g}, while a step on a single example is stable below"
            f" 1 / max_i ||grad h(x_i)||^2 = {lr_bound:.3g} where training began: try a fraction of that"
        )
        self.step, self.last_step, self.last_loss, self.lr, self.lr_bound = step, last_step, last_loss, lr, lr_bound

    def __reduce__(self) -> tuple:
        """By its arguments, so that it comes back whole from another process, with its notes."""
        arguments = self.step, self.last_step, self.last_loss, self.lr, self.lr_bound
        return type(self), arguments, vars(self)


def train(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    lr: float,
    steps: int,
    noise: LabelNoise | None = None,
    batch_size: int | None = 1,
    seed: int = 0,
    record: int | Sequence[int] = 200,
    engine: Engine = "auto",
    reg_on: torch.Tensor | bool = True,
    keep_theta: bool = True,
    progress: bool = True,
) -> Run:
    r"""Label-noise SGD on the squared error, in place.

    Each step draws B examples uniformly with replacement and a fresh Z for each of their labels:

    ``theta <- theta - (lr / B) sum_{i in batch} grad_theta (h(x_i, theta) - y_i - Z_i)^2``.

    There is a factor 2 from the square, and none of 1/2 or 1/n. With several outputs the square is summed over them, each
    with its own noise.

    Args:
        model: the hypothesis h; its trainable parameters are changed in place, frozen ones and buffers are not.
        x: (n, ...), the inputs, a tensor or an array; floating-point ones are cast to the model's dtype.
        y: the labels, of the shape of ``model(x)`` and no other: (n,) where that is (n,), (n, 1) where it is (n, 1).
        lr: learning rate, > 0; a single-example step is stable below about ``1 / max_i ||grad h(x_i)||^2``.
        steps: number of steps, >= 1.
        noise: law of the label noise; None is plain SGD.
        batch_size: examples per step, B; None is the full batch, in order, each example with its own noise.
        seed: of all draws, >= 0. The same seed gives the same trajectory up to rounding, whatever the engine.
        record: how many snapshots (at most), log-spaced from step 0 to the last; or the step numbers themselves.
        engine: "compiled" for the book's models in float64 (MatrixSensing also in float32), "torch" for any module, "auto"
            takes the first where it can. A subclass, or a model whose layers were tied or replaced, is not one of the book's.
        reg_on: inputs over which reg of the snapshots is the mean, such as a few of x or others; True is x, False leaves reg
            out.
        keep_theta: whether the run keeps the parameters at each snapshot, k p numbers.
        progress: show a progress bar, with rate and time left, once a run has taken two seconds.

    Returns:
        The snapshots.

    Raises:
        TypeError: if model is no module, noise no LabelNoise, or a number no number.
        ValueError: if shapes do not match, x or y hold NaN or infinity, a number is out of range, the engine is unknown or not
            to be had for this model, no parameter is trainable or one that is has half precision, h of an example changes
            with its batch, or BatchNorm or Dropout is in training mode. The model has not changed then.
        DivergenceError: if the training blows up; the model is left at the last snapshot with a finite loss.

    An interrupt (Ctrl-C, the stop button) ends the run early: a warning, and a Run with ``interrupted=True``. Nothing that
    goes wrong after the last step loses the run: where loss or reg of a snapshot cannot be had, there is a warning and NaN.

    Source: equation (5), with the label noise of section 1; chapter 1.
    """
    job = prepare(
        model,
        x,
        y,
        lr=lr,
        steps=steps,
        noise=noise,
        batch_size=batch_size,
        seed=seed,
        record=record,
        engine=engine,
        reg_on=reg_on,
        keep_theta=keep_theta,
    )
    with interruptible() as stop, progress_bar(job.steps, progress) as advance:
        run = execute(job, stop, advance)
    if run.interrupted:
        warnings.warn(f"interrupted after {run.steps} of {steps} steps; the run so far is returned", stacklevel=2)
    return run


def execute(job: Job, stop: threading.Event, advance: Callable[[int], None]) -> Run:
    """Run a job until its last step or until ``stop`` is set.

    Args:
        job: what to run.
        stop: set by an interrupt, from any thread.
        advance: told the number of steps after every slice of work.

    Returns:
        The run.

    Raises:
        DivergenceError: as in :func:`train`.
    """
    twin = copy_of(job.model, job.x)
    rest = {name: as_array(values) for name, values in rest_of(job.model).items()}
    parameters = [p.detach() for p in trainable(job.model).values()]

    def flat() -> np.ndarray:
        return np.concatenate([p.cpu().numpy().ravel() for p in parameters])

    begin = flat()
    descend = {"compiled": train_compiled, "torch": train_torch}[job.engine](job)
    kept: dict[int, np.ndarray] = {}
    measured: list[tuple[np.ndarray, ...]] = []

    def take(step: int, theta: np.ndarray) -> None:
        kept[step] = theta
        if not job.keep_theta:
            measured.append((np.array([step]), *_loss_and_reg(job, theta[None])))
            for earlier in list(kept)[:-2]:  # two to fall back on, if the training blows up
                del kept[earlier]

    record = set(job.record.tolist())
    if 0 in record:
        take(0, begin)
    done, seconds, pace, diverged = 0, 0.0, 16, False
    upcoming = iter(sorted(record - {0}))
    target = next(upcoming, job.steps)
    draws = sgd_draws(
        len(job.x),
        job.steps,
        noise=job.noise,
        batch_size=job.batch_size,
        seed=job.seed,
        outputs=tuple(job.y.shape[1:]),
    )
    for indices, z in draws:
        used = 0
        while used < len(indices) and not stop.is_set():
            count = min(pace, len(indices) - used, target - done)
            clock = time.perf_counter()
            taken = descend(indices[used : used + count], z[used : used + count])
            elapsed = time.perf_counter() - clock
            seconds += elapsed
            if count == pace:
                pace *= max(1, min(16, int(SECONDS_PER_SLICE / max(2 * elapsed, 1e-9))))
            done, used = done + taken, used + taken
            diverged = taken < count or not np.isfinite(theta := flat()).all()
            if diverged:
                break
            advance(taken)
            if done == target:
                if done in record:
                    take(done, theta)
                target = next(upcoming, job.steps)
        if diverged or stop.is_set():
            break
    if diverged:
        _raise_divergence(job, done, {0: begin} | kept)
    if done < job.steps:
        take(done, flat())
    example = first_example(job.model, job.x, flat())
    if job.keep_theta:
        recorded, theta = np.array(list(kept), dtype=np.int64), np.stack(list(kept.values()))
        kept.clear()  # as many numbers as theta
        loss, reg = _loss_and_reg(job, theta)
    else:
        recorded, loss, reg = map(np.concatenate, zip(*measured, strict=True))
        theta = np.empty((len(recorded), 0), begin.dtype)
    return Run(
        step=recorded,
        loss=loss,
        reg=reg,
        theta=theta,
        steps=done,
        engine=job.engine,
        seconds=seconds,
        interrupted=done < job.steps,
        model=twin,
        rest=rest,
        example=example,
    )


def _loss_and_reg(job: Job, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row of theta; NaN, with a warning, where it cannot be had, since with an error the run would be lost."""
    rows = torch.from_numpy(theta).to(job.y.device)
    for reg_on, missing in ((job.reg_on, "reg"), (False, "loss")):
        try:
            loss, reg = loss_and_reg(job.model, rows, job.x, job.y, reg_on=reg_on)
            return loss.cpu().numpy(), reg.cpu().numpy()
        except (Exception, KeyboardInterrupt) as error:
            warnings.warn(f"{missing} of the snapshots is not known, NaN stands for it: {error!r}", stacklevel=2)
    return tuple(np.full((2, len(theta)), np.nan))


def _raise_divergence(job: Job, step: int, snapshots: dict[int, np.ndarray]) -> NoReturn:
    """Put the model back at the last snapshot with a finite loss, and say so."""
    for last_step in reversed(snapshots):
        set_parameters(job.model, torch.from_numpy(snapshots[last_step]))
        loss = mean_squared_error(job.model, job.x, job.y).item()
        if math.isfinite(loss):
            break
    with parameters_kept(job.model), torch.no_grad():
        set_parameters(job.model, torch.from_numpy(snapshots[0]))
        lr_bound = 1 / per_example_sq_norms(job.model, job.x).max().item()
    raise DivergenceError(step, last_step, loss, job.lr, lr_bound)
