"""Runs on disk: each in a file whose name is made from its job, so that no run is made twice."""

import contextlib
import dataclasses
import hashlib
import os
import time
import warnings
from pathlib import Path

import torch

from ..regularizer.hypothesis import set_parameters
from .job import Job
from .law import ADDED
from .run import Run, as_array, copy_of, rest_of
from .words import words, words_of_callback, words_of_tensor

# Where a run reports, and where it can go on from, make it no other run.
NOT_SETTINGS = ("model", "checkpoint", "progress")

# How the name of the file begins and ends by which a sweep tells its workers to stop.
STOP_FILE = ".sweep-", ".running"
LEFT_BEHIND = 86400.0  # seconds; a living sweep touches its file every minute

Digests = dict[tuple, str]


def clear(directory: str | os.PathLike) -> None:
    """Remove what sweeps that were killed left in a folder more than a day ago: stop files, and runs half written."""
    folder = Path(directory)
    for pattern in ("*".join((*STOP_FILE, "")), f"*.npz.{'[0-9a-f]' * 8}.part"):
        for left in folder.glob(pattern):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > LEFT_BEHIND:
                    left.unlink()


def file_of(directory: str | os.PathLike, job: Job, seen: Digests) -> Path:
    """Where the run of a job lies: 32 hexadecimal digits of a SHA-256, and ``.npz``.

    The digits depend on the model, as :func:`words` has it, with the classes, attributes, hooks, modes, parameters and
    buffers of its modules, on x and y, and on the settings of the run; they are the same in every process.

    Args:
        directory: the folder.
        job: what the run is made from; the model where training begins.
        seen: digests of large tensors, which many jobs share; filled here.

    Returns:
        The path.
    """
    parts = [words(job.model), str(torch.get_default_dtype())]  # which a module may ask for in its forward pass
    for field in dataclasses.fields(job):
        value = getattr(job, field.name)
        if field.name == "callback" and value is not None:
            parts.append(f"callback {words_of_callback(value)}")
        elif isinstance(value, torch.Tensor):
            parts.append(f"{field.name} {_shared(value, seen)}")
        elif field.name not in NOT_SETTINGS and not (field.metadata == ADDED and value == field.default):
            parts.append(f"{field.name} {words(value)}")
    digits = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return Path(directory) / f"{digits[:32]}.npz"


def fetch(path: Path, job: Job, tag: str | None) -> Run | None:
    """The run of a job if its file is there; the model is put at the end of it.

    A file that is damaged, or holds the run of another model, is named in a warning.

    Args:
        path: of the file.
        job: what the run was made from.
        tag: what the job is called now; a file with another tag is written anew.

    Returns:
        The run; None if it has to be made.
    """
    wrong = None
    try:
        run = Run.load(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        wrong = error
    else:
        try:
            run._recognise(job.model)
        except ValueError as error:
            wrong = f"{path} holds the run of another job: {error}"
        if run.example is None or run.interrupted:
            wrong = f"{path} does not hold a run to its last step"
    if wrong is not None:
        warnings.warn(f"{wrong}; the run of this file is made again", stacklevel=3)
        return None
    if run.tag != tag:
        run = dataclasses.replace(run, tag=tag)
        run.save(path)
    return settle(run, job)


def settle(run: Run, job: Job) -> Run:
    """Put the model of a job where its run, made elsewhere, ended, as if it had been made here.

    Args:
        run: without its model and the rest.
        job: what it was made from; the model, still at the start, is changed in place.

    Returns:
        The run with a copy of the model.
    """
    rest = {name: as_array(values) for name, values in rest_of(job.model).items()}
    run = dataclasses.replace(run, model=copy_of(job.model, job.x), rest=rest)
    set_parameters(job.model, torch.from_numpy(run.example[1]))
    return run


def _shared(tensor: torch.Tensor, seen: Digests) -> str:
    key = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
    if key not in seen:
        seen[key] = words_of_tensor(tensor)
    return seen[key]
