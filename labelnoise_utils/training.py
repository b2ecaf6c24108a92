"""Label-noise SGD: :func:`train`, and :class:`Run`, what it returns.

Two engines run the same update, theta <- theta - lr grad (h(x_i, theta) - y_i - Z)^2, from the same draws. The compiled one
calls the step beside the model, for the book's own models; the torch one is the plain loop, for any module.
"""

import contextlib
import copy
import dataclasses
import io
import json
import math
import numbers
import os
import secrets
import signal
import struct
import threading
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NoReturn, get_args

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector
from tqdm.auto import tqdm

from . import models
from .arguments import as_integer, as_positive
from .hypothesis import check_per_example, is_as_built, set_parameters, trainable
from .noise import LabelNoise, sgd_draws
from .regularizer import loss_and_reg, per_example_sq_norms

Engine = Literal["auto", "compiled", "torch"]

SECONDS_PER_SLICE = 0.1

BOOK_MODELS = {name: getattr(models, name) for name in models.__all__}

# What NumPy, zipfile, json and torch raise on a file that was cut, changed or is something else.
DAMAGE = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, RuntimeError)
DAMAGE += (struct.error, zipfile.BadZipFile, zlib.error)


class DivergenceError(ArithmeticError):
    """Training blew up; the model is back at the last snapshot with a finite loss.

    Attributes:
        step: the step whose residual was no longer finite.
        last_step: the snapshot that the model is back at.
        last_loss: mean squared error there.
        lr_bound: ``1 / max_i ||grad h(x_i)||^2`` where training began; a single-example step is unstable above it.
    """

    def __init__(self, step: int, last_step: int, last_loss: float, lr: float, lr_bound: float) -> None:
        super().__init__(
            f"training diverged at step {step}; the last finite loss was {last_loss:.4g}, and the model is back there, at step"
            f" {last_step}. lr = {lr:g}, while a step on a single example is stable below"
            f" 1 / max_i ||grad h(x_i)||^2 = {lr_bound:.3g} where training began: try a fraction of that"
        )
        self.step, self.last_step, self.last_loss, self.lr_bound = step, last_step, last_loss, lr_bound


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """What :func:`train` saw: snapshots of the loss, the regularizer and the parameters.

    Attributes:
        step: (k,) step numbers of the snapshots; 0 is before the first step.
        loss: (k,) mean squared error on the labels without the noise.
        reg: (k,) the implicit regularizer.
        theta: (k, p) trainable parameters, flattened as ``torch.nn.utils.parameters_to_vector`` does.
        steps: number of steps that were made.
        engine: "compiled" or "torch", the one that ran; "flow" from :func:`effective_flow`.
        seconds: duration of the steps alone, wall clock.
        interrupted: whether the run was stopped before its last step.
        model: a copy of the model, to put snapshots into; None after loading a file whose model is not the package's.
    """

    step: np.ndarray
    loss: np.ndarray
    reg: np.ndarray
    theta: np.ndarray
    steps: int
    engine: str
    seconds: float
    interrupted: bool
    model: torch.nn.Module | None = dataclasses.field(repr=False)

    @property
    def steps_per_second(self) -> float:
        """Steps per second of wall clock."""
        return self.steps / self.seconds

    def model_at(self, i: int, model: torch.nn.Module | None = None) -> torch.nn.Module:
        """A copy of the model as it was at snapshot i.

        Args:
            i: index of the snapshot; -1 is the last.
            model: the architecture, needed for a run that was loaded from a file and whose model is not the package's.

        Returns:
            A new module; nothing is shared with the run.

        Raises:
            IndexError: if there is no snapshot i.
            ValueError: if the architecture is needed and missing, or has another number of trainable parameters.
        """
        template = model if model is not None else self.model
        if template is None:
            raise ValueError("this run was loaded from a file that does not hold its model: pass one, run.model_at(i, model)")
        theta = torch.from_numpy(self.theta[i].copy())
        result = copy.deepcopy(template)
        set_parameters(result, theta)
        return result

    def save(self, path: str | os.PathLike) -> None:
        """Write the run to one file, whole or not at all, without pickle.

        Args:
            path: of the file, a NumPy ``.npz`` archive under any name; replaced if it exists.
        """
        known = type(self.model) in BOOK_MODELS.values() and is_as_built(self.model)
        about = {
            "steps": self.steps,
            "engine": self.engine,
            "seconds": self.seconds,
            "interrupted": self.interrupted,
            "model": {"name": type(self.model).__name__, "config": self.model.config} if known else None,
        }
        arrays = {"step": self.step, "loss": self.loss, "reg": self.reg, "theta": self.theta, "about": json.dumps(about)}
        if known:
            arrays |= {f"state.{key}": value.cpu().numpy() for key, value in self.model.state_dict().items()}
            arrays["frozen"] = np.array([key for key, p in self.model.named_parameters() if not p.requires_grad], dtype=str)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        path = Path(path)
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        try:
            temporary.write_bytes(buffer.getvalue())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @staticmethod
    def load(path: str | os.PathLike) -> "Run":
        """Read a run that :meth:`save` wrote.

        Args:
            path: of the file.

        Returns:
            The run, with its model if that is one of the package's.

        Raises:
            FileNotFoundError: if there is no such file.
            PermissionError: if it may not be read.
            ValueError: naming the file, if it is damaged or something else.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
            about = json.loads(str(arrays["about"]))
            model = about["model"]
            if model is not None:
                if model["name"] not in BOOK_MODELS:
                    raise ValueError(f"unknown model {model['name']!r}")
                state = {k.removeprefix("state."): torch.from_numpy(v) for k, v in arrays.items() if k.startswith("state.")}
                dtype = torch.from_numpy(arrays["theta"]).dtype
                model = BOOK_MODELS[model["name"]](**model["config"], dtype=dtype)
                model.load_state_dict(state)
                for key in arrays["frozen"]:
                    model.get_parameter(str(key)).requires_grad_(False)
                size = sum(p.numel() for p in trainable(model).values())
                if arrays["theta"].shape[1:] != (size,):
                    raise ValueError(f"theta has shape {arrays['theta'].shape} for {size} trainable parameters")
            columns = {key: arrays[key] for key in ("step", "loss", "reg", "theta")}
            if {len(column) for column in columns.values()} != {len(columns["step"])}:
                raise ValueError("its columns differ in length")
            facts = {key: about[key] for key in ("steps", "engine", "seconds", "interrupted")}
            return Run(**columns, **facts, model=model)
        except (FileNotFoundError, PermissionError):
            raise
        except DAMAGE as error:
            raise ValueError(f"{os.fspath(path)} is not a run that Run.save wrote, or is damaged: {error}") from error


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
    progress: bool = True,
) -> Run:
    r"""Label-noise SGD on the squared error, in place.

    Each step draws B examples uniformly with replacement and a fresh Z for each of their labels:

    ``theta <- theta - (lr / B) sum_{i in batch} grad_theta (h(x_i, theta) - y_i - Z_i)^2``.

    There is a factor 2 from the square, and none of 1/2 or 1/n. With several outputs the square is summed over them, each
    with its own noise.

    Args:
        model: the hypothesis h; its trainable parameters are changed in place, frozen ones and buffers are not.
        x: (n, ...), the inputs; floating-point ones are cast to the model's dtype.
        y: the labels, of the shape of ``model(x)``.
        lr: learning rate, > 0; a single-example step is stable below about ``1 / max_i ||grad h(x_i)||^2``.
        steps: number of steps, >= 1.
        noise: law of the label noise; None is plain SGD.
        batch_size: examples per step, B; None is the full batch, in order, each example with its own noise.
        seed: of all draws, >= 0. The same seed gives the same trajectory up to rounding, whatever the engine.
        record: how many snapshots (at most), log-spaced from step 0 to the last; or the step numbers themselves.
        engine: "compiled" for the book's models in float64 (MatrixSensing also in float32), "torch" for any module, "auto"
            takes the first where it can. A subclass, or a model whose layers were tied or replaced, is not one of the book's.
        progress: show a progress bar, with rate and time left, once a run has taken two seconds.

    Returns:
        The snapshots.

    Raises:
        TypeError: if model is no module, noise no LabelNoise, or a number no number.
        ValueError: if shapes do not match, x or y hold NaN or infinity, a number is out of range, the engine is unknown or not
            to be had for this model, no parameter is trainable, or BatchNorm or Dropout is in training mode. The model has
            not changed then.
        DivergenceError: if the training blows up; the model is left at the last snapshot with a finite loss.

    An interrupt (Ctrl-C, the stop button) ends the run early: a warning, and a Run with ``interrupted=True``.

    Source: equation (5), with the label noise of section 1; chapter 1.
    """
    job = prepare(model, x, y, lr=lr, steps=steps, noise=noise, batch_size=batch_size, seed=seed, record=record, engine=engine)
    with interruptible() as stop, progress_bar(job.steps, progress) as advance:
        run = execute(job, stop, advance)
    if run.interrupted:
        warnings.warn(f"interrupted after {run.steps} of {steps} steps; the run so far is returned", stacklevel=2)
    return run


@dataclasses.dataclass(frozen=True)
class Job:
    """The arguments of :func:`train`, checked and in their final form."""

    model: torch.nn.Module
    x: torch.Tensor
    y: torch.Tensor
    lr: float
    steps: int
    noise: LabelNoise | None
    batch_size: int | None
    seed: int
    record: np.ndarray
    engine: Literal["compiled", "torch"]


def prepare(model, x, y, *, lr, steps, noise=None, batch_size=1, seed=0, record=200, engine="auto") -> Job:
    """Check the arguments of :func:`train` before any work.

    Returns:
        The job.

    Raises:
        TypeError: as in :func:`train`.
        ValueError: as in :func:`train`.
    """
    parameters = trainable(model)
    dtype = next(iter(parameters.values())).dtype
    x, y = (_as_tensor(name, value, dtype) for name, value in (("x", x), ("y", y)))
    if x.shape[0] != y.shape[0]:
        raise ValueError(f"x and y must hold the same number of examples, got {x.shape[0]} and {y.shape[0]}")
    check_per_example(model, x)
    lr = as_positive("lr", lr)
    steps = as_integer("steps", steps, 1)
    seed = as_integer("seed", seed, 0)
    if noise is not None and not isinstance(noise, LabelNoise):
        raise TypeError(f"noise must be a LabelNoise or None, got {noise!r}; a standard deviation s is written LabelNoise(s)")
    if batch_size is not None:
        batch_size = as_integer("batch_size", batch_size, 1)
        if batch_size > len(x):
            raise ValueError(f"batch_size must be at most the number of examples, {len(x)}, got {batch_size}")
    record = _record(record, steps)
    if engine not in get_args(Engine):
        raise ValueError(f"engine must be one of {', '.join(get_args(Engine))}, got {engine!r}")
    with torch.no_grad():
        h = model(x)
    if h.shape != y.shape:
        raise ValueError(f"y must have the shape of model(x), {tuple(h.shape)}, got {tuple(y.shape)}")
    if not torch.isfinite(h).all():
        raise ValueError("model(x) is not finite: the parameters to start from hold NaN or infinity, or are too large")
    # A kernel is for the class that it stands in, not for what a subclass makes of it.
    dtypes = getattr(model, "compiled_dtypes", (torch.float64,))
    has_kernel = "compiled_sgd" in vars(type(model)) and is_as_built(model) and dtype in dtypes
    if engine == "compiled" and not has_kernel:
        raise ValueError(
            f"engine='compiled' needs one of the book's models ({', '.join(models.__all__)}) as built, on the CPU and in"
            f" float64 (MatrixSensing also in float32), got {type(model).__name__} in {dtype}: use engine='torch', or 'auto'"
        )
    engine = "compiled" if has_kernel and engine != "torch" else "torch"
    return Job(model, x, y, lr, steps, noise, batch_size, seed, record, engine)


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
    template = copy.deepcopy(job.model)
    begin = _flat(job.model)
    descend = {"compiled": train_compiled, "torch": train_torch}[job.engine](job)
    snapshots = {0: begin} if job.record[0] == 0 else {}
    done, seconds, pace, diverged = 0, 0.0, 16, False
    upcoming = iter([step for step in job.record if step > 0])
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
            if count == pace and elapsed < SECONDS_PER_SLICE / 2:
                pace *= 2
            done, used = done + taken, used + taken
            diverged = taken < count or not np.isfinite(theta := _flat(job.model)).all()
            if diverged:
                break
            advance(taken)
            if done == target:
                if done in job.record:
                    snapshots[done] = theta
                target = next(upcoming, job.steps)
        if diverged or stop.is_set():
            break
    if diverged:
        _raise_divergence(job, done, {0: begin} | snapshots)
    if done < job.steps:
        snapshots[done] = _flat(job.model)
    recorded = np.array(list(snapshots), dtype=np.int64)
    theta = np.stack(list(snapshots.values()))
    snapshots.clear()  # as many numbers as theta
    loss, reg = loss_and_reg(template, torch.from_numpy(theta).to(job.y.device), job.x, job.y)
    return Run(
        step=recorded,
        loss=loss.cpu().numpy(),
        reg=reg.cpu().numpy(),
        theta=theta,
        steps=done,
        engine=job.engine,
        seconds=seconds,
        interrupted=done < job.steps,
        model=template,
    )


def train_compiled(job: Job) -> Callable[[np.ndarray, np.ndarray], int]:
    """The fast engine: the model's own compiled step, in a compiled loop.

    The model offers a method ``compiled_sgd(theta, x, y, indices, noise, lr, frozen)``, which makes S steps:

    ===========  =================  ==============================================================
    argument     shape              what it is
    ===========  =================  ==============================================================
    ``theta``    (p,)               all parameters in one vector, changed in place
    ``x``        (n, ...)           the inputs
    ``y``        (n, ...)           the labels
    ``indices``  (S, B) int32       the examples that each step reads
    ``noise``    (S, B, ...)        what is added to their labels, float64
    ``lr``       a number           the learning rate
    ``frozen``   (q,)               positions in ``theta`` that keep their values
    ===========  =================  ==============================================================

    ``theta``, ``x`` and ``y`` are float64, or of another type in ``model.compiled_dtypes``, where there is that attribute. If
    the model has a method ``compiled_inputs(x)``, it is called once, on the tensor, and ``x`` is what it returns.

    It returns how many steps it made before the first residual that is not finite, so S if all is well; S may be 0. The
    class defines the method itself, and ``type(model)(**model.config, dtype=dtype)`` builds a model with the same
    parameters; one whose parameters were tied, added or replaced since is left to the torch engine.

    Args:
        job: what to run.

    Returns:
        A function of indices (S, B) and noise (S, B, ...) that trains the model and returns how many steps it took.

    Source: equation (5).
    """
    parameters = list(job.model.parameters())
    flags = [np.full(p.numel(), not p.requires_grad) for p in parameters]
    is_frozen = np.concatenate(flags)
    frozen, free = np.flatnonzero(is_frozen), np.flatnonzero(~is_frozen)
    x, y = getattr(job.model, "compiled_inputs", torch.Tensor.numpy)(job.x), job.y.numpy()

    def descend(indices: np.ndarray, noise: np.ndarray) -> int:
        theta = parameters_to_vector(parameters).detach()
        done = job.model.compiled_sgd(theta.numpy(), x, y, indices, noise, job.lr, frozen)
        set_parameters(job.model, theta[free])
        return done

    # No step at all: compiles, or loads what was compiled before, outside the time that is measured.
    descend(np.empty((0, 1), np.int32), np.empty((0, 1, *y.shape[1:])))
    return descend


def train_torch(job: Job) -> Callable[[np.ndarray, np.ndarray], int]:
    """The general engine: equation (5) as a plain loop over any module.

    Args:
        job: what to run.

    Returns:
        A function of indices (S, B) and noise (S, B, ...) that trains the model and returns how many steps it took.

    Source: equation (5).
    """
    parameters = list(trainable(job.model).values())

    def descend(indices: np.ndarray, noise: np.ndarray) -> int:
        rows = torch.from_numpy(indices).long()
        targets = job.y[rows] + torch.from_numpy(noise).to(job.y)
        scale = 2 / rows.shape[1]
        values = [p.detach() for p in parameters]
        for t, (i, target) in enumerate(zip(rows, targets, strict=True)):
            with torch.enable_grad():
                h = job.model(job.x[i])
            residual = h.detach() - target
            if not math.isfinite(residual.sum()):
                return t
            gradient = torch.autograd.grad(h, parameters, residual * scale, materialize_grads=True)
            torch._foreach_add_(values, gradient, alpha=-job.lr)
        return len(rows)

    return descend


@contextlib.contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turn the first interrupt inside the block into a set event; a second one interrupts as ever.

    Yields:
        The event. In a thread other than the main one nothing changes, since signals do not reach it.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(signum: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def progress_bar(total: int, show: bool) -> Iterator[Callable[[int], None]]:
    """A bar over steps, with rate and time left, that appears after two seconds.

    Args:
        total: number of steps.
        show: whether there is a bar at all.

    Yields:
        The function to call with each number of steps made.
    """
    # tqdm's notebook bar overlooks the variable that its text bar honours.
    hidden = not show or os.environ.get("TQDM_DISABLE", "0") not in ("", "0")
    with tqdm(total=total, unit="step", unit_scale=True, delay=2, mininterval=0.5, disable=hidden) as bar:
        yield bar.update


def _flat(model: torch.nn.Module) -> np.ndarray:
    return parameters_to_vector(trainable(model).values()).detach().cpu().numpy().copy()


def _raise_divergence(job: Job, step: int, snapshots: dict[int, np.ndarray]) -> NoReturn:
    """Put the model back at the last snapshot with a finite loss, and say so."""
    for last_step in reversed(snapshots):
        set_parameters(job.model, torch.from_numpy(snapshots[last_step]))
        with torch.no_grad():
            loss = (job.model(job.x) - job.y).square().sum().item() / len(job.x)
        if math.isfinite(loss):
            break
    begin = copy.deepcopy(job.model)
    set_parameters(begin, torch.from_numpy(snapshots[0]))
    with torch.no_grad():
        lr_bound = 1 / per_example_sq_norms(begin, job.x).max().item()
    raise DivergenceError(step, last_step, loss, job.lr, lr_bound)


def _as_tensor(name: str, value: object, dtype: torch.dtype) -> torch.Tensor:
    try:
        # By way of NumPy, since torch would round a list of floats to single precision.
        tensor = value if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value))
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be a tensor or an array of numbers, got {type(value).__name__}: {error}") from error
    if tensor.dim() == 0 or tensor.shape[0] == 0:
        raise ValueError(f"{name} must hold at least one example along dimension 0, got shape {tuple(tensor.shape)}")
    if tensor.is_floating_point() or name == "y":
        tensor = tensor.to(dtype)
    # The sum is proof enough and takes no memory, isfinite as much as the tensor and more.
    if not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
        where = tuple(torch.nonzero(~torch.isfinite(tensor))[0].tolist())
        raise ValueError(f"{name} must be finite, got {tensor[where].item()} at index {where}")
    return tensor.detach().contiguous()


def _record(record: object, steps: int) -> np.ndarray:
    """Step numbers of the snapshots, increasing."""
    if isinstance(record, numbers.Integral) and not isinstance(record, bool):
        count = as_integer("record", record, 2)
        # Backwards, so that two snapshots are the first and the last step.
        return np.unique(np.rint([0, *np.geomspace(steps, 1, count - 1)])).astype(np.int64)
    try:
        chosen = np.unique([as_integer("record", step, 0) for step in record])
    except TypeError:
        raise TypeError(f"record must be a number of snapshots or a sequence of step numbers, got {record!r}") from None
    if not chosen.size or chosen[-1] > steps:
        raise ValueError(f"record must hold step numbers between 0 and steps = {steps}, got {record!r}")
    return chosen
