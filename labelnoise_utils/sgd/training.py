"""Label-noise SGD: :func:`train`."""

import contextlib
import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np
import torch

from ..regularizer import per_example_sq_norms
from ..regularizer.hypothesis import parameters_kept, set_parameters, trainable
from ..regularizer.snapshots import answers_at_once, loss_and_reg, mean_squared_error
from .callback import ask
from .checkpoint import go_on
from .engines import train_compiled, train_torch
from .job import Callback, Engine, Job, prepare
from .law import Law
from .noise import draws_from
from .progress import SECONDS_TO_BAR, NowAndThen, interruptible, labelled_bar
from .run import Run, as_array, copy_of, first_example, rest_of

SECONDS_PER_SLICE = 0.1
SECONDS_TO_CHECKPOINT = 10

Errors = tuple[type[BaseException], ...]
# With which a snapshot goes without its numbers: at the end an impatient interrupt too, since with it the run would be lost.
AT_THE_END: Errors = (Exception, KeyboardInterrupt)


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
    noise: Law | None = None,
    batch_size: int | None = 1,
    seed: int = 0,
    record: int | Sequence[int] = 200,
    engine: Engine = "auto",
    reg_on: torch.Tensor | bool = True,
    keep_theta: bool = True,
    progress: bool = True,
    callback: Callback | None = None,
    checkpoint: str | os.PathLike | None = None,
    momentum: float = 0.0,
    penalty: float = 0.0,
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
        noise: law of the label noise; None is plain SGD. Other noises have their laws too: :class:`TwoCopies`,
            :class:`FrozenNoise`, :class:`ParameterNoise`, :class:`InputNoise`, :class:`LangevinNoise`. Loss and reg of the
            snapshots are always those on x and y as they are.
        batch_size: examples per step, B; None is the full batch, in order, each example with its own noise.
        seed: of all draws, >= 0. The same seed gives the same trajectory up to rounding, whatever the engine.
        record: how many snapshots (at most), log-spaced from step 0 to the last; or the step numbers themselves.
        engine: "compiled" for the book's models in float64 (MatrixSensing also in float32), "torch" for any module, "auto"
            takes the first where it can. A subclass, or a model whose layers were tied or replaced, is not one of the book's.
        reg_on: inputs over which reg of the snapshots is the mean, such as a few of x or others; True is x, False leaves reg
            out.
        keep_theta: whether the run keeps the parameters at each snapshot, k p numbers.
        progress: show a progress bar, with rate, time left, and the latest loss and reg, once a run has taken two seconds.
        callback: called at each snapshot as it comes, ``callback(step, loss, reg, model)``, with the model itself, to look at
            and not to change, its attributes and hooks no more than its parameters; the modes of its layers, and what a call
            sets, are put back. A true answer ends the run there.
        checkpoint: path of a file from which a run that was killed goes on.
        momentum: b of the heavy ball, in [0, 1): ``v <- b v - (lr / B) sum grad ...``, ``theta <- theta + v``, from v = 0.
        penalty: c, >= 0, of explicit reg: each example's squared error has ``c ||grad h(x_i, theta)||^2`` added, summed over
            the outputs, before the gradient is taken. Label noise of standard deviation sigma is, to leading order, the penalty
            ``lr sigma^2``.

    Returns:
        The snapshots.

    Raises:
        TypeError: if model is no module, noise no law, a number no number, callback no function, or checkpoint no path.
        ValueError: if shapes do not match, noise is for labels of another shape, x or y hold NaN or infinity, a number is out
            of range, the engine is unknown or not to be had for this model, no parameter is trainable, one that is has half
            precision or a hook that is never called, a parameter or buffer is sparse, h of an example changes with its batch,
            BatchNorm or Dropout is in training mode, or the checkpoint is that of another call, or damaged. The model has not
            changed then. Also if the callback changes the model, which gets its values back.
        OSError: if the checkpoint cannot be read, or not be written before the first step.
        DivergenceError: if the training blows up; the model is left at the last snapshot with a finite loss.

    An interrupt (Ctrl-C, the stop button) or SIGTERM ends the run early: a warning, and a Run with ``interrupted=True``. A
    second one acts as ever. Nothing that goes wrong after the last step loses the run: where loss or reg of a snapshot
    cannot be had, there is a warning and NaN.

    A callback that ends the run leaves what a run of so many steps would, and ``stopped=True``. Its answer apart, neither
    callback nor checkpoint changes a digit of the run; the loss and reg that the callback is told are those of the Run up to
    rounding. An error in it goes to the caller, and the model stays as it is at that step, whatever was done to it there.

    The checkpoint is written before the first step, then about every ten seconds (more seldom where it takes long, so that it
    takes a hundredth of the time), and where the run ends, by itself, by its callback or an error in it, or by an interrupt;
    each time whole or not at all. The same call, with the model built as before, goes on from it, and its Run is that of one
    that was never stopped, to the last bit on the same machine; ``seconds`` is the sum. Steps since the file was written are
    made again, and the callback is called for them again. After an interrupt the model may also be as it was left. The file
    stays: of a run that is over the same call returns the Run again, without a step, so a script of several runs can be
    started again as it is; a training that blew up does so again. Another callback may take over on the way, as one whose
    error was mended, and is not asked about the snapshots before; a run that a callback ended is refused to another one. To
    begin anew, delete the file.

    Source: equation (5), with the label noise of section 1; chapter 1.

    >>> import tempfile
    >>> from labelnoise_utils import LabelNoise, Product, train
    >>> settings = dict(lr=0.02, steps=100_000, noise=LabelNoise(0.5), record=range(0, 100_000, 500))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for _ in range(2):  # the second time it is all in the file
    ...         run = train(
    ...             Product(2.0, 0.5), torch.zeros(1), torch.ones(1), **settings, checkpoint=f"{folder}/run",
    ...             callback=lambda step, loss, reg, model: reg < 2.2,
    ...         )
    ...         print(run.steps, run.stopped, run.interrupted)
    4000 True False
    4000 True False
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
        callback=callback,
        checkpoint=checkpoint,
        momentum=momentum,
        penalty=penalty,
    )
    with interruptible() as stop, labelled_bar(job.steps, progress) as (advance, show):
        run = execute(job, stop, advance, show)
    if run.interrupted:
        again = "" if job.checkpoint is None else f", and the same call goes on from {job.checkpoint}"
        warnings.warn(f"interrupted after {run.steps} of {steps} steps; the run so far is returned{again}", stacklevel=2)
    return run


def execute(
    job: Job,
    stop: threading.Event,
    advance: Callable[[int], None],
    show: Callable[[float, float], None] | None = None,
) -> Run:
    """Run a job until its last step, or until ``stop`` is set or its callback says so.

    Args:
        job: what to run.
        stop: set by an interrupt, from any thread.
        advance: told the number of steps after every slice of work.
        show: told a loss and a reg now and then, for somebody who waits.

    Returns:
        The run.

    Raises:
        DivergenceError: as in :func:`train`.
        OSError: likewise.
        ValueError: likewise, for the checkpoint and the callback.
    """
    twin = copy_of(job.model, job.x)
    rest = {name: as_array(values) for name, values in rest_of(job.model).items()}
    parameters = [p.detach() for p in trainable(job.model).values()]

    def flat() -> np.ndarray:
        return np.concatenate([p.cpu().numpy().ravel() for p in parameters])

    so_far, checkpoint = go_on(job, flat())
    before, kept, measured = so_far.done, so_far.kept, so_far.measured
    set_parameters(job.model, torch.from_numpy(so_far.theta))
    if job.momentum and not so_far.velocity.size:
        so_far.velocity = np.zeros_like(so_far.begin)
    descend = {"compiled": train_compiled, "torch": train_torch}[job.engine](job)
    advance(so_far.done)
    # At the end, where many snapshots together take less time than each; and so that whoever looks changes no digit.
    at_end = job.keep_theta and (
        answers_at_once(job.model, job.x, reg_on=job.reg_on) or (job.callback is None and job.checkpoint is None)
    )
    saving, showing = NowAndThen(SECONDS_TO_CHECKPOINT, SECONDS_TO_CHECKPOINT), NowAndThen(0.5, SECONDS_TO_BAR)

    def save() -> None:
        try:
            checkpoint.write(so_far)
        except OSError as error:
            warnings.warn(f"no checkpoint at step {so_far.done}, the one before stands: {error!r}", stacklevel=2)

    def take(in_spite_of: Errors) -> tuple[float, float]:
        """A snapshot; loss and reg, if they are wanted now."""
        loss, reg = math.nan, math.nan
        if not at_end or job.callback is not None:
            loss, reg = (values.item() for values in _loss_and_reg(job, so_far.theta[None], in_spite_of))
            if show is not None:
                show(loss, reg)
        kept[so_far.done] = so_far.theta
        if not at_end:
            measured[so_far.done] = loss, reg
        if not job.keep_theta:
            for earlier in list(kept)[:-2]:  # two to fall back on, if the training blows up
                del kept[earlier]
        return loss, reg

    def visit() -> None:
        """A snapshot of those that were asked for."""
        loss, reg = take((Exception,))  # an interrupt leaves no NaN for the checkpoint
        if job.callback is None:
            return
        try:
            so_far.stopped = ask(job, so_far.done, loss, reg) and so_far.done < job.steps
        except BaseException as error:
            error.add_note(f"in the callback at step {so_far.done}")
            del kept[so_far.done]  # so that the callback is called again if the run goes on
            measured.pop(so_far.done, None)
            if checkpoint is not None:
                save()
            raise

    record = set(job.record.tolist())
    if so_far.done in record and so_far.done not in kept:
        visit()
    pace, diverged = 16, False
    upcoming = iter(sorted(step for step in record if step > so_far.done))
    target = next(upcoming, job.steps)
    draws = draws_from(
        so_far.draws,
        len(job.x),
        job.steps,
        noise=job.noise,
        batch_size=job.batch_size,
        seed=job.seed,
        outputs=tuple(job.y.shape[1:]),
        inputs=tuple(job.x.shape[1:]),
    )
    for position, indices, z in draws:
        so_far.draws = position
        used = so_far.done - position["step"]
        while used < len(indices) and not (stop.is_set() or so_far.stopped):
            count = min(pace, len(indices) - used, target - so_far.done)
            clock = time.perf_counter()
            taken = descend(indices[used : used + count], z[used : used + count], so_far.done, so_far.velocity)
            elapsed = time.perf_counter() - clock
            so_far.seconds += elapsed
            if count == pace:
                pace *= max(1, min(16, int(SECONDS_PER_SLICE / max(2 * elapsed, 1e-9))))
            so_far.done, used, so_far.theta = so_far.done + taken, used + taken, flat()
            diverged = taken < count or not np.isfinite(so_far.theta).all()
            if diverged:
                break
            advance(taken)
            if so_far.done == target:
                if so_far.done in record:
                    visit()
                target = next(upcoming, job.steps)
            if show is not None and showing.is_due():
                with showing.once():
                    _show_now(job, so_far.theta, show)
            if checkpoint is not None and saving.is_due():
                with saving.once():
                    save()
        if diverged or stop.is_set() or so_far.stopped:
            break
    if diverged:
        _raise_divergence(job, so_far.done, {0: so_far.begin} | kept)
    if checkpoint is not None and (so_far.done > before or so_far.stopped):
        save()  # before a snapshot that nobody asked for
    if so_far.done < job.steps and so_far.done not in kept:
        take(AT_THE_END)
    example = first_example(job.model, job.x, so_far.theta)
    if at_end:
        recorded, theta = np.array(list(kept), dtype=np.int64), np.stack(list(kept.values()))
        kept.clear()  # as many numbers as theta
        loss, reg = _loss_and_reg(job, theta, AT_THE_END)
    else:
        recorded, (loss, reg) = np.array(list(measured), dtype=np.int64), np.array([*measured.values()], so_far.begin.dtype).T
        theta = np.stack(list(kept.values())) if job.keep_theta else np.empty((len(recorded), 0), so_far.begin.dtype)
    return Run(
        step=recorded,
        loss=loss,
        reg=reg,
        theta=theta,
        steps=so_far.done,
        engine=job.engine,
        seconds=so_far.seconds,
        interrupted=so_far.done < job.steps and not so_far.stopped,
        model=twin,
        rest=rest,
        example=example,
        stopped=so_far.stopped,
    )


def _show_now(job: Job, theta: np.ndarray, show: Callable[[float, float], None]) -> None:
    """Loss and reg for the bar; where they cannot be had, the bar goes without, and the snapshots will say so."""
    with contextlib.suppress(Exception):
        loss, reg = loss_and_reg(job.model, torch.from_numpy(theta[None]).to(job.y.device), job.x, job.y, reg_on=job.reg_on)
        show(loss.item(), reg.item())


def _loss_and_reg(job: Job, theta: np.ndarray, in_spite_of: Errors) -> tuple[np.ndarray, np.ndarray]:
    """Of each row of theta; NaN, with a warning, where an error forbids it, since the run would be lost with the error."""
    rows = torch.from_numpy(theta).to(job.y.device)
    for reg_on, missing in ((job.reg_on, "reg"), (False, "loss")):
        try:
            loss, reg = loss_and_reg(job.model, rows, job.x, job.y, reg_on=reg_on)
            return loss.cpu().numpy(), reg.cpu().numpy()
        except in_spite_of as error:
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
