"""Runs on disk: each in a file whose name is made from its job, so that no run is made twice."""

import dataclasses
import hashlib
import numbers
import os
import warnings
from collections.abc import Mapping, Set
from pathlib import Path

import numpy as np
import torch

from ..regularizer.hypothesis import set_parameters
from .job import Job
from .run import Run, as_array, copy_of, rest_of

# Where a run reports, and where it can go on from, make it no other run.
NOT_SETTINGS = ("model", "checkpoint", "progress")

# Hooks, flags, and parameters, buffers and modules, which come in their turn.
OF_EVERY_MODULE = frozenset(vars(torch.nn.Module()))

Digests = dict[tuple, str]


def file_of(directory: str | os.PathLike, job: Job, seen: Digests) -> Path:
    """Where the run of a job lies: 32 hexadecimal digits of a SHA-256, and ``.npz``.

    The digits depend on the model's class, that of its modules, their attributes, parameters and buffers, on x and y, and on
    the settings of the run; on no address, no order of a set, no pickle, so they are the same in every process.

    Args:
        directory: the folder.
        job: what the run is made from; the model where training begins.
        seen: digests of large tensors, which many jobs share; filled here.

    Returns:
        The path.
    """
    names = [field.name for field in dataclasses.fields(job) if field.name not in NOT_SETTINGS]
    words = f"{_module(job.model, seen)}\n{_words({name: getattr(job, name) for name in names}, seen)}"
    return Path(directory) / f"{hashlib.sha256(words.encode()).hexdigest()[:32]}.npz"


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


def _words(value: object, seen: Digests) -> str:
    """A value in words that are the same in every process and every version of Python."""
    match value:
        case None | bool() | str() | bytes():
            return repr(value)
        case numbers.Real():
            return repr(float(value)) if float(value) == value else str(value)
        case torch.nn.Module():
            return f"{_class(value)} {_tensors(value)}"
        case torch.Tensor():
            return _tensor(value, seen)
        case np.ndarray():
            return f"array {value.dtype.str} {value.shape} {hashlib.sha256(np.ascontiguousarray(value)).hexdigest()}"
        case Mapping():
            return _words([[key, each] for key, each in value.items()], seen)
        case Set():
            return f"set {sorted(_words(each, seen) for each in value)}"
        case list() | tuple():
            return f"[{', '.join(_words(each, seen) for each in value)}]"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return (
            f"{_class(value)} {_words({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, seen)}"
        )
    if hasattr(value, "__qualname__"):  # a class or a function
        return f"{value.__module__}.{value.__qualname__}"
    return f"{_class(value)} {value}" if isinstance(value, torch.dtype | torch.device | complex) else _class(value)


def _class(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _module(model: torch.nn.Module, seen: Digests) -> str:
    """Every module of a model with what it was built with, and all tensors."""
    parts = []
    for name, module in model.named_modules():
        plain = {key: value for key, value in vars(module).items() if key not in OF_EVERY_MODULE}
        parts.append(f"{name!r} {_class(module)} {_words(plain, seen)}")
    return "\n".join([*parts, _tensors(model)])


def _tensors(model: torch.nn.Module) -> str:
    named = [*model.named_parameters(), *model.named_buffers()]
    return "\n".join(f"{name!r} {values.requires_grad} {_tensor(values, None)}" for name, values in named)


def _tensor(tensor: torch.Tensor, seen: Digests | None) -> str:
    key = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
    if seen is not None and key in seen:
        return seen[key]
    octets = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    words = f"tensor {tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(octets).hexdigest()}"
    if seen is not None:
        seen[key] = words
    return words
