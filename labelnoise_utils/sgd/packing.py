"""Jobs for another process, and errors that come back from there, as octets."""

import contextlib
import dataclasses
import importlib
import io
import pickle
from collections.abc import Mapping

import torch

from ..regularizer.hypothesis import trainable
from .job import Job

SECONDS_PER_BUNDLE = 0.25
LEAST_BUNDLES = 16


def packed(jobs: Mapping[int, Job]) -> list[tuple[list[int], bytes]]:
    """Jobs as tasks; so many in one as take about a quarter of a second.

    Args:
        jobs: by number.

    Returns:
        Of each task the numbers of its jobs, and the octets.

    Raises:
        TypeError: if a job cannot be pickled, with its number.
    """
    seconds = {number: _seconds(job) for number, job in jobs.items()}
    target = min(SECONDS_PER_BUNDLE, sum(seconds.values()) / LEAST_BUNDLES)
    bundles: list[list[int]] = []
    room = 0.0
    for number in jobs:
        if not bundles or seconds[number] > room:
            bundles.append([])
            room = target
        bundles[-1].append(number)
        room -= seconds[number]
    tasks = []
    for numbers in bundles:
        try:
            tasks.append((numbers, pack([jobs[number] for number in numbers])))
        except Exception:
            for number in numbers:
                try:
                    pack([jobs[number]])
                except Exception as error:
                    wrong = TypeError(f"this job cannot be pickled, which it must be for an executor: {error}")
                    wrong.add_note(f"in job {number}")
                    raise wrong from error
            raise
    return tasks


def _seconds(job: Job) -> float:
    """How long a run will take, to within a factor of some five; only for how many runs make a task."""
    batch = job.batch_size or len(job.x)
    numbers = sum(p.numel() for p in job.model.parameters())
    per_step = batch * (1e-7 + 2e-9 * numbers) if job.engine == "compiled" else 2e-4 + 2e-9 * batch * numbers
    if not job.is_plain:
        # Numbers for each parameter, or derivatives of derivatives.
        per_step += 1e-8 * numbers if job.engine == "compiled" else 1e-3 * batch
    return 0.005 + job.steps * per_step


def pack(jobs: list[Job]) -> bytes:
    """Jobs as octets; a tensor that several share once."""
    # A class or a function of the program itself, or of a notebook, is unknown elsewhere: it goes along, if cloudpickle, which
    # comes with Dask and loky, is there.
    # A parameter leaves its hooks behind.
    hooks = [{name: [*(p._backward_hooks or {}).values()] for name, p in trainable(job.model).items()} for job in jobs]
    thing = torch.get_default_dtype(), [_trimmed(job) for job in jobs], hooks
    try:
        octets = _saved(thing, pickle)
        if b"__main__" not in octets:
            return octets
    except Exception:
        if (by_value := _cloudpickle()) is None:
            raise
        return _saved(thing, by_value)
    return octets if (by_value := _cloudpickle()) is None else _saved(thing, by_value)


def _saved(thing: object, by: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer, pickle_module=by)
    return buffer.getvalue()


def _cloudpickle() -> object | None:
    try:
        return importlib.import_module("cloudpickle")
    except ImportError:
        return None


def _trimmed(job: Job) -> Job:
    """Without the rest of a data set of which the job sees a part."""
    parts = {}
    for name in ("x", "y", "reg_on"):
        tensor = getattr(job, name)
        if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().nbytes() > tensor.nbytes:
            parts[name] = tensor.clone()
    return dataclasses.replace(job, **parts) if parts else job


def pickled_error(error: Exception) -> bytes:
    """An error that is known to come back whole, with its notes."""
    for by in filter(None, (pickle, _cloudpickle())):
        # The second form is for classes that pickle does not bring back.
        for form in (error, (type(error), error.args, vars(error))):
            with contextlib.suppress(Exception):
                octets = by.dumps(form)
                unpickled_error(octets)
                if by is not pickle or b"__main__" not in octets or _cloudpickle() is None:
                    return octets
    return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))


def unpickled_error(octets: bytes) -> Exception:
    """What :func:`pickled_error` packed."""
    form = pickle.loads(octets)
    if isinstance(form, Exception):
        return form
    return built(*form)


def built(kind: type[Exception], arguments: tuple, state: Mapping[str, object]) -> Exception:
    """An error without its __init__, which may take other arguments than it hands on."""
    error = kind.__new__(kind, *arguments)
    vars(error).update(state)
    return error
