"""Runs elsewhere: jobs packed for another process, a stop that reaches it, and what comes back."""

import contextlib
import dataclasses
import io
import os
import platform
import signal
import tempfile
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np
import torch

from ..regularizer.hypothesis import set_parameters, trainable
from ..regularizer.modes import OfTheProcess
from .directory import STOP_FILE, settle
from .job import Job
from .packing import built, pack, packed, pickled_error, unpickled_error
from .progress import NowAndThen
from .run import Run
from .training import execute

# After a stop, until a worker shows that it heard: a run that computes its last snapshots may take a while.
GRACE = 10.0

Outcome = Run | Exception


class RemoteTraceback(Exception):
    """Where an error happened in another process, in words, since a traceback does not travel."""


@dataclasses.dataclass(frozen=True)
class StopFile:
    """A stop that another process sees, in a file that is empty until then.

    A process that sees neither the file nor its folder, as on another machine, is not stopped.

    Attributes:
        path: of the file.
        seen: whether it was there, or its folder is the one in which it was made: then it is gone if it is not there.
    """

    path: str
    seen: bool

    def is_set(self) -> bool:
        """Whether something was written into the file, or it is gone."""
        try:
            return os.stat(self.path).st_size > 0
        except FileNotFoundError:
            return self.seen
        except OSError:  # a network's file system that hiccups
            return False


def run_elsewhere(
    jobs: Mapping[int, Job],
    executor: Executor,
    *,
    most: int | None,
    stop: threading.Event,
    folder: str | os.PathLike | None,
    bar: Callable[[int], None],
) -> Iterator[tuple[int, Outcome]]:
    """Run jobs on an executor, several short ones to a task.

    Args:
        jobs: what to run, by number.
        executor: where; it is not shut down.
        most: how many tasks it may hold at a time; None is no limit.
        stop: set by an interrupt. What has begun ends early, if it sees the folder, and what has not does not begin.
        folder: for the file that tells the workers, and those in which they tell how far they are; None is the temporary one.
        bar: told numbers of steps as they are made, where the workers see the folder, and else as each task ends.

    Yields:
        Number and run, or error, of each job as it ends, its model changed in place; of none that was not begun.

    Raises:
        TypeError: if a job cannot be pickled, with its number, before any begins.
    """
    waiting = deque(packed(jobs))
    flying: dict[Future, list[int]] = {}
    arrived: SimpleQueue[Future] = SimpleQueue()
    with _stop_file(folder) as path:
        try:
            latest, told = time.monotonic(), False
            alive, looking = NowAndThen(60, 60), NowAndThen(1, 1)
            shown: dict[int, int] = {}
            while waiting or flying:
                if alive.is_due():
                    with alive.once(), contextlib.suppress(OSError):
                        os.utime(path)  # so that no other sweep clears it away as one that was left
                if looking.is_due():
                    with looking.once():
                        for first, *_ in flying.values():
                            before = shown.get(first, 0)
                            shown[first] = max(before, _steps_told(path, first))  # fewer if another worker has to begin anew
                            bar(shown[first] - before)
                if stop.is_set() and not told:
                    told, latest = True, time.monotonic()
                    waiting.clear()
                    path.write_text("stop")
                if waiting and (most is None or len(flying) < most):
                    numbers, package = waiting.popleft()
                    try:
                        future = executor.submit(run_bundle, package, os.fspath(path), folder_of(path), numbers[0])
                    except BrokenExecutor as error:
                        yield from _of_all(numbers, error)
                        continue
                    flying[future] = numbers
                    future.add_done_callback(arrived.put)
                    del future, package
                with contextlib.suppress(Empty):
                    # A short rest, in which an interrupt is heard; none while there is something to hand over.
                    hurry = waiting and (most is None or len(flying) < most)
                    future = arrived.get(timeout=0 if hurry else 0.1)
                    numbers = flying.pop(future)
                    if len(numbers) > 1 and _has_failed(future) and not stop.is_set():
                        # One of them may take every worker along that it comes to, and the others not.
                        waiting.extend(([number], pack([jobs[number]])) for number in numbers)
                        continue
                    outcomes = list(_outcomes(future, {number: jobs[number] for number in numbers}, stop.is_set()))
                    del future  # a cluster keeps a result as long as somebody may ask for it
                    if len(outcomes) < len(numbers) or any(getattr(run, "interrupted", False) for _, run in outcomes):
                        latest = time.monotonic()  # the stop was heard there
                    steps = (run.steps if isinstance(run, Run) else jobs[number].steps for number, run in outcomes)
                    bar(sum(steps) - shown.pop(numbers[0], 0))
                    yield from outcomes
                if told and time.monotonic() - latest > GRACE:
                    break
        finally:
            for future in flying:
                future.cancel()


def folder_of(path: str | os.PathLike) -> tuple[str, int, int] | None:
    """What tells the folder of a file from others of its name, on this machine and others; None if there is none."""
    try:
        found = os.stat(os.path.dirname(path))
    except OSError:
        return None
    try:
        machine = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:  # not Linux
        machine = platform.node()
    return machine, found.st_dev, found.st_ino


def run_bundle(
    package: bytes, stop_path: str, folder: tuple[str, int, int] | None = None, number: int = 0
) -> list[Run | tuple[bytes, str, np.ndarray] | None]:
    """Run some jobs one after the other; called by an executor, wherever that is.

    Args:
        package: the jobs.
        stop_path: of the :class:`StopFile`.
        folder: what :func:`folder_of` says of it where it was made.
        number: by which the caller knows the task.

    Returns:
        For each the run without what is known where it came from; or the error, its traceback and where the model is left; or
        None if it was not begun.
    """
    dtype, jobs, hooks = torch.load(io.BytesIO(package), weights_only=False)
    stop = StopFile(stop_path, os.path.exists(stop_path) or (folder is not None and folder_of(stop_path) == folder))
    advance = _teller(stop_path, number) if stop.seen else lambda steps: None
    results: list[Run | tuple[bytes, str, np.ndarray] | None] = []
    with _deaf(), default_dtype_kept():
        torch.set_default_dtype(dtype)  # for modules that make tensors as they go
        for job, on_parameters in zip(jobs, hooks, strict=True):
            for name, called in on_parameters.items():
                for hook in called:
                    job.model.get_parameter(name).register_hook(hook)
            if stop.is_set():
                results.append(None)
                continue
            try:
                run = execute(job, stop, advance)
                results.append(dataclasses.replace(run, model=None, rest={}))
            except Exception as error:
                theta = torch.nn.utils.parameters_to_vector(trainable(job.model).values()).detach().cpu()
                results.append((pickled_error(error), traceback.format_exc(), theta.numpy()))
    return results


def _teller(stop_path: str, number: int) -> Callable[[int], None]:
    """Count steps, and now and then write down how many there were, where :func:`_steps_told` looks."""
    total, due = 0, NowAndThen(1, 1)

    def advance(steps: int) -> None:
        nonlocal total
        total += steps
        if due.is_due() and os.path.exists(stop_path):
            with due.once(), contextlib.suppress(OSError):
                Path(f"{stop_path}.{number}").write_text(f"{total:20}")

    return advance


def _steps_told(stop_path: Path, number: int) -> int:
    """How many steps a task has made as far as is known here."""
    try:
        text = Path(f"{stop_path}.{number}").read_text()
    except OSError:
        return 0
    return int(text) if len(text) == 20 else 0  # all of it is there, or it is being written


def _has_failed(future: Future) -> bool:
    """Whether a task brought nothing, and not since its pool is broken or somebody cancelled it."""
    error = None if future.cancelled() else future.exception()
    return isinstance(error, Exception) and not isinstance(error, BrokenExecutor | CancelledError)


def _outcomes(future: Future, jobs: Mapping[int, Job], stopped: bool) -> Iterator[tuple[int, Outcome]]:
    """What a task brought, job by job; nothing of those that a stop kept from beginning or from coming back."""
    try:
        results = future.result()
    except (BrokenExecutor, CancelledError, KeyboardInterrupt) as error:
        if stopped:  # what ended this process's waiting may have ended the workers too
            return
        if isinstance(error, KeyboardInterrupt):
            raise
        yield from _of_all(jobs, error)
        return
    except Exception as error:
        yield from _of_all(jobs, error)
        return
    for (number, job), result in zip(jobs.items(), results, strict=True):
        if isinstance(result, Run):
            run = settle(result, job)
            if np.isnan(run.loss).any() or (job.reg_on is not False and np.isnan(run.reg).any()):
                what = f"loss or reg of snapshots of job {number} is not known, NaN stands for it"
                warnings.warn(f"{what}; a warning where it ran says why", stacklevel=5)
            yield number, run
        elif result is not None:
            pickled, trace, theta = result
            set_parameters(job.model, torch.from_numpy(theta))
            try:
                error = unpickled_error(pickled)
            except Exception:
                error = RuntimeError(trace.rstrip().rpartition("\n")[2])
            error.__cause__ = RemoteTraceback(f"\n{trace}")
            yield number, error


def _of_all(numbers: Sequence[int] | Mapping[int, Job], error: Exception) -> Iterator[tuple[int, Exception]]:
    """An error of a task as one of each of its jobs, which will get notes of their own."""
    if isinstance(error, BrokenExecutor):
        hint = "a worker was killed, as for want of memory, and its pool is lost with all runs that had not ended; those"
        hint += " that had are in directory, if there is one, and are not made again"
    elif isinstance(error, CancelledError):
        hint = "the executor gave the run up"
    elif type(error).__name__ == "KilledWorker":  # Dask's
        hint = "more workers died with this run than distributed.scheduler.allowed-failures admits, as for want of memory"
    else:
        hint = "the run could not be made there"
    for number in numbers:
        # By hand: Dask has copy.copy share the notes of an error with its copies.
        state = {key: value for key, value in vars(error).items() if key != "__notes__"}
        try:
            own = built(type(error), error.args, state)
        except Exception:
            own = RuntimeError(repr(error))
        own.__cause__ = error.__cause__
        for note in [*getattr(error, "__notes__", []), hint]:
            own.add_note(note)
        yield number, own


@contextlib.contextmanager
def _stop_file(folder: str | os.PathLike | None) -> Iterator[Path]:
    """An empty file by which the workers know; gone after the block, with those that they wrote beside it."""
    handle, name = tempfile.mkstemp(prefix=STOP_FILE[0], suffix=STOP_FILE[1], dir=folder)
    os.close(handle)
    path = Path(name).absolute()
    try:
        yield path
    finally:
        for each in (path, *path.parent.glob(f"{path.name}.*")):
            each.unlink(missing_ok=True)


@contextlib.contextmanager
def _default_dtype() -> Iterator[None]:
    before = torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_default_dtype(before)


default_dtype_kept = OfTheProcess(_default_dtype)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Leave Ctrl-C, which a terminal sends to all its processes, to the one that waits for the runs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
