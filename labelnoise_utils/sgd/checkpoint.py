"""The file of a run that is not over: what it has done so far, and of which call of :func:`train` it is."""

import dataclasses
import glob
import hashlib
import json
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import llvmlite.binding
import numba
import numpy as np
import torch

from .attributes import changed_by_call
from .job import Job
from .law import Law
from .noise import Position
from .run import DAMAGE, as_array, first_example, is_same_output, rest_of, whole_or_not_at_all
from .words import words, words_of_attributes, words_of_callback

# So many examples tell models of one architecture apart that compute something else.
EXAMPLES = 100
# What the first files there were do not say, and what they do not say while it may have been anything.
BEFORE_THERE_WERE = {"momentum": 0.0, "penalty": 0.0}
NOT_KNOWN = ("default dtype", "attributes", "changed by a call")


@dataclasses.dataclass
class SoFar:
    """What a run has done so far: with its job all that it needs to go on.

    Attributes:
        begin: (p,), the parameters at step 0.
        theta: (p,), those at the step that was done last.
        done: that step.
        seconds: duration of the steps.
        stopped: whether the callback has ended the run.
        velocity: (p,), what momentum keeps of the steps before; (0,) without momentum.
        draws: where the chunk of draws begins that is being used; None before the first.
        kept: the parameters at the recorded steps, or at the last two.
        measured: loss and reg there, where they are measured as they come.
    """

    begin: np.ndarray
    theta: np.ndarray
    done: int = 0
    seconds: float = 0.0
    stopped: bool = False
    velocity: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0))
    draws: Position | None = None
    kept: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    measured: dict[int, tuple[float, float]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The file, for one call.

    Attributes:
        path: of the file.
        call: all that the numbers of the run depend on, see :func:`call_of`.
        h: (m, ...), outputs of the model at step 0.
        callback: a digest of the callback, which may have ended the run.
    """

    path: Path
    call: dict[str, object]
    h: np.ndarray
    callback: str | None

    def write(self, so_far: SoFar) -> None:
        """Replace the file, in a single moment.

        Raises:
            OSError: if it cannot be written; the old one stands.
        """
        about = {key: getattr(so_far, key) for key in ("done", "seconds", "stopped", "draws")}
        arrays = {
            "about": json.dumps(about | {"call": self.call, "callback": self.callback, "computer": _computer()}),
            "begin": so_far.begin,
            "now": so_far.theta,
            "velocity": so_far.velocity,
            "h": self.h,
            "step": np.array([*so_far.kept], dtype=np.int64),
            "theta": np.array([*so_far.kept.values()], so_far.begin.dtype).reshape(-1, so_far.begin.size),
            "measured_step": np.array([*so_far.measured], dtype=np.int64),
            "measured": np.array([*so_far.measured.values()], dtype=np.float64).reshape(-1, 2),
        }
        with whole_or_not_at_all(self.path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())  # or the new name could reach the disk before what is in the file


def go_on(job: Job, theta: np.ndarray) -> tuple[SoFar, Checkpoint | None]:
    """Where a run begins: at step 0, or where its checkpoint says.

    Args:
        job: what to run.
        theta: (p,), the parameters that the model has now.

    Returns:
        What was done so far, and the checkpoint, which exists then; None if the job has none.

    Raises:
        OSError: if there is no checkpoint yet, and none can be written.
        PermissionError: if there is one that may not be read.
        ValueError: naming the file, if it is the checkpoint of another call, damaged or something else.
    """
    if job.checkpoint is None:
        return SoFar(begin=theta, theta=theta), None
    path = Path(job.checkpoint)
    for left in path.parent.glob(f"{glob.escape(path.name)}.{'[0-9a-f]' * 8}.part"):  # by one that was killed as it wrote
        left.unlink(missing_ok=True)
    call = call_of(job)
    callback = None if job.callback is None else _digest(words_of_callback(job.callback).encode())
    if not path.exists():
        so_far = SoFar(begin=theta, theta=theta)
        checkpoint = Checkpoint(path, call, _outputs(job, theta), callback)
        checkpoint.write(so_far)
        return so_far, checkpoint
    try:
        about, h, so_far = _read(path)
    except PermissionError:
        raise
    except DAMAGE as error:
        raise ValueError(
            f"{path} is not a checkpoint that train wrote, or is damaged: {error}; without it the run begins at step 0"
        ) from error
    _compare(path, about["call"], call)
    call |= about["call"]  # of the model as it was built, and not as it was left
    if so_far.stopped and about["callback"] != callback:
        raise ValueError(
            f"{path} holds a run that its callback ended at step {so_far.done}, and now the callback is another one, or"
            " none: name another file"
        )
    finished = so_far.stopped or so_far.done == job.steps
    if not np.array_equal(theta, so_far.begin) and (finished or not np.array_equal(theta, so_far.theta)):
        where = "" if finished else ", nor those that it was left with"
        raise ValueError(
            f"{path} is the checkpoint of another run: the model's parameters are not those that it began with{where}; build"
            " the model as for that run, or name another file"
        )
    here = _outputs(job, so_far.begin)
    if not is_same_output(here, h):
        raise ValueError(f"{path} is the checkpoint of another call of train: its model gave other outputs for x at step 0")
    if about["computer"] != _computer():
        warnings.warn(
            f"{path} was written on {_named(about['computer'])}, and this is {_named(_computer())}: from here on the numbers"
            " are the same up to rounding only",
            stacklevel=4,
        )
    return so_far, Checkpoint(path, call, h, callback)


def call_of(job: Job) -> dict[str, object]:
    """All that the numbers of a run depend on except for the parameters at step 0, arrays by a digest of what they hold.

    Args:
        job: what to run.

    Returns:
        Numbers and text, by names for a reader, which json can write.
    """
    model = job.model
    device = next(model.parameters()).device.type
    layers = [re.sub(r" at 0x[0-9a-f]+", "", repr(model)), [(name, m.training) for name, m in model.named_modules()]]
    layers += [(name, str(p.dtype), [*p.shape], p.device.type, p.requires_grad) for name, p in model.named_parameters()]
    rest = sorted((name, _described(values)) for name, values in rest_of(model).items())
    attributes = {name: _short(said) for name, said in words_of_attributes(model).items()}
    return {
        "model": f"{type(model).__qualname__} {getattr(model, 'config', '')}".rstrip(),
        "layers of the model": _digest(json.dumps(layers).encode()),
        "buffers and frozen parameters": _digest(json.dumps(rest).encode()),
        "attributes": attributes,
        "changed by a call": sorted(changed_by_call(model, job.x)),
        "default dtype": str(torch.get_default_dtype()),
        "x": _described(job.x),
        "y": _described(job.y),
        "lr": job.lr,
        "steps": job.steps,
        "noise": _described_law(job.noise),
        "batch_size": job.batch_size,
        "seed": job.seed,
        "record": f"{len(job.record)} steps, {_digest(job.record)}",
        "engine": job.engine,
        "reg_on": job.reg_on if isinstance(job.reg_on, bool) else _described(job.reg_on),
        "keep_theta": job.keep_theta,
        "momentum": job.momentum,
        "penalty": job.penalty,
        "autocast": str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else None,
        "versions": f"numpy {np.__version__}, torch {torch.__version__}, numba {numba.__version__}",
    }


def _read(path: Path) -> tuple[dict, np.ndarray, SoFar]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    about = json.loads(str(arrays["about"]))
    begin, now, step, theta = (arrays[key] for key in ("begin", "now", "step", "theta"))
    measured_step, measured = arrays["measured_step"], arrays["measured"]
    if begin.ndim != 1 or now.shape != begin.shape or theta.shape != (len(step), begin.size):
        raise ValueError("its parameters differ in shape")
    velocity = arrays.get("velocity", np.empty(0))
    if velocity.shape not in (begin.shape, (0,)):
        raise ValueError("its velocity is of another shape than its parameters")
    if measured.shape != (len(measured_step), 2):
        raise ValueError("its columns differ in length")
    so_far = SoFar(
        begin=begin,
        theta=now,
        velocity=velocity,
        **{key: about[key] for key in ("done", "seconds", "stopped", "draws")},
        kept=dict(zip(step.tolist(), theta, strict=True)),
        measured={at: (loss, reg) for at, (loss, reg) in zip(measured_step.tolist(), measured.tolist(), strict=True)},
    )
    return {key: about.get(key) for key in ("call", "callback", "computer")}, arrays["h"], so_far


def _compare(path: Path, before: dict, now: dict) -> None:
    """Refuse the checkpoint of another call, and say in what it differs."""
    before = BEFORE_THERE_WERE | {name: now[name] for name in NOT_KNOWN} | before
    passing = before["changed by a call"]
    before, now = (_one_by_one(call, passing) for call in (before, now))
    names = [name for name in before | now if before.get(name) != now.get(name)]
    if names:
        was, now_is = ([call.get(name, "not there") for name in names] for call in (before, now))
        differences = "; ".join(
            f"{name} was {one}, and is {other}" for name, one, other in zip(names, was, now_is, strict=True)
        )
        raise ValueError(f"{path} is the checkpoint of another call of train: {differences}")


def _one_by_one(call: dict, passing: Sequence[str]) -> dict:
    """A call with the attributes of its model one by one, except for those that a call of the model changes."""
    kept = {f"{name!r} of the model": said for name, said in call["attributes"].items() if name not in passing}
    return {name: value for name, value in call.items() if name not in ("attributes", "changed by a call")} | kept


def _outputs(job: Job, theta: np.ndarray) -> np.ndarray:
    return first_example(job.model, job.x, theta, count=EXAMPLES)[-1]


def _computer() -> dict[str, object]:
    """What the order of sums depends on beside the call."""
    return {"processor": llvmlite.binding.get_host_cpu_name(), "threads": torch.get_num_threads()}


def _named(computer: dict) -> str:
    return f"{computer['processor']} with {computer['threads']} threads"


def _described(tensor: torch.Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)} {_digest(as_array(tensor))}"


def _short(said: str) -> str:
    return said if len(said) <= 60 else _digest(said.encode())


def _described_law(law: Law | None) -> str:
    """As it prints, and a digest of the numbers that are not printed."""
    held = [] if law is None else [getattr(law, field.name) for field in dataclasses.fields(law)]
    return f"{law!r} {_digest(words(law).encode())}" if any(isinstance(v, np.ndarray) for v in held) else repr(law)


def _digest(content: bytes | np.ndarray) -> str:
    whole = content if isinstance(content, bytes) else np.ascontiguousarray(content).reshape(-1).view(np.uint8)
    return hashlib.blake2b(whole, digest_size=8).hexdigest()
