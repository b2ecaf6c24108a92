"""What a training saw, and its file: :class:`Run`."""

import contextlib
import copy
import dataclasses
import io
import json
import math
import os
import secrets
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from .. import models
from ..regularizer.ghost import reached_past
from ..regularizer.hypothesis import (
    attributes_kept,
    gradients_possible,
    is_as_built,
    parameters_kept,
    set_parameters,
    trainable,
)
from ..regularizer.rules import wide
from .job import as_model_dtype

BOOK_MODELS = {name: getattr(models, name) for name in models.__all__}

# The arrays of Run.example in a file.
EXAMPLE = ("example_x", "example_theta", "example_h")

# What NumPy, zipfile, json and torch raise on a file that was cut, changed or is something else.
DAMAGE = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, RuntimeError)
DAMAGE += (struct.error, zipfile.BadZipFile, zlib.error)


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """What :func:`train` saw: snapshots of the loss, the regularizer and the parameters.

    Attributes:
        step: (k,) step numbers of the snapshots; 0 is before the first step.
        loss: (k,) mean squared error on the labels without the noise.
        reg: (k,) the implicit regularizer, NaN where it was not asked for.
        theta: (k, p) trainable parameters, flattened as ``torch.nn.utils.parameters_to_vector`` does, float32 for models in
            half precision; (k, 0) if they were not kept.
        steps: number of steps that were made.
        engine: "compiled" or "torch", the one that ran; "flow" from :func:`effective_flow`.
        seconds: duration of the steps alone, wall clock.
        interrupted: whether an interrupt ended the run before its last step.
        model: a copy of the model, to put snapshots into; None if it cannot be copied, and after loading a file whose model
            is not the package's.
        rest: buffers and frozen parameters, all else that h depends on, by name.
        example: the first input, (1, ...), theta at the end of the run, (p,), and h there: by these :meth:`model_at` knows the
            model again.
        stopped: whether the callback ended the run before its last step.
        tag: what the job was called in a sweep; None if it had no name.
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
    rest: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict, repr=False)
    example: tuple[np.ndarray, np.ndarray, np.ndarray] | None = dataclasses.field(default=None, repr=False)
    stopped: bool = False
    tag: str | None = None

    @property
    def steps_per_second(self) -> float:
        """Steps per second of wall clock; NaN if there was none."""
        return self.steps / self.seconds if self.seconds else math.nan

    def model_at(self, i: int, model: torch.nn.Module | None = None) -> torch.nn.Module:
        """A copy of the model as it was at snapshot i.

        Args:
            i: index of the snapshot; -1 is the last.
            model: the architecture, needed where the run holds no copy of its model. Its buffers and frozen parameters are
                replaced by those of the run.

        Returns:
            A new module; nothing is shared with the run.

        Raises:
            IndexError: if there is no snapshot i.
            ValueError: if the parameters were not kept; or the architecture is needed and missing, or is another one: it has
                other parameters or buffers, or gives another output for the first example.
        """
        template = model if model is not None else self.model
        if template is None:
            raise ValueError(
                "this run does not hold its model, which is none of the package's or cannot be copied: pass one,"
                " run.model_at(i, model)"
            )
        if not self.theta.shape[1]:
            raise ValueError("this run kept no parameters: train with keep_theta=True")
        theta = torch.from_numpy(self.theta[i].copy())
        result = copy.deepcopy(template)
        tensors = rest_of(result)
        if model is not None and (shapes := _shapes(tensors)) != (own := _shapes(self.rest)):
            different = sorted(name for name in shapes.keys() | own.keys() if shapes.get(name) != own.get(name))
            raise ValueError(
                f"this is not the model that was trained: it differs in its buffers or frozen parameters {different}"
            )
        with torch.no_grad():
            for name, values in self.rest.items():
                tensors[name].copy_(torch.from_numpy(values))
        if model is not None:
            self._recognise(result)
        set_parameters(result, theta)
        return result

    def _recognise(self, model: torch.nn.Module) -> None:
        """Refuse a model that does not give what the run's own gave for the first example."""
        if self.example is None:
            return
        x, theta, expected = self.example
        *_, h = first_example(model, torch.from_numpy(x), theta)
        if not is_same_output(h, expected):
            raise ValueError("this is not the model that was trained: its output for the first example is another one")

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
            "stopped": self.stopped,
            "tag": self.tag,
            "model": {"name": type(self.model).__name__, "config": self.model.config} if known else None,
        }
        arrays = {"step": self.step, "loss": self.loss, "reg": self.reg, "theta": self.theta, "about": json.dumps(about)}
        arrays |= {f"rest.{name}": values for name, values in self.rest.items()}
        if self.example is not None:
            arrays |= dict(zip(EXAMPLE, self.example, strict=True))
        if known:
            arrays["frozen"] = np.array([name for name, p in self.model.named_parameters() if not p.requires_grad], dtype=str)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        with whole_or_not_at_all(path) as temporary:
            temporary.write_bytes(buffer.getvalue())

    @staticmethod
    def load(path: str | os.PathLike) -> "Run":
        """Read a run that :meth:`save` wrote.

        Args:
            path: of the file.

        Returns:
            The run, with its model if that is one of the package's; of another the run knows buffers, frozen parameters and
            one output, so that :meth:`model_at` takes no other model for it.

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
                dtype = torch.from_numpy(arrays["theta"]).dtype
                model = BOOK_MODELS[model["name"]](**model["config"], dtype=dtype)
                for key in arrays["frozen"]:
                    model.get_parameter(str(key)).requires_grad_(False)
                size = sum(p.numel() for p in trainable(model).values())
                if arrays["theta"].shape[1:] not in ((size,), (0,)):
                    raise ValueError(f"theta has shape {arrays['theta'].shape} for {size} trainable parameters")
            columns = {key: arrays[key] for key in ("step", "loss", "reg", "theta")}
            if {len(column) for column in columns.values()} != {len(columns["step"])}:
                raise ValueError("its columns differ in length")
            facts = {key: about[key] for key in ("steps", "engine", "seconds", "interrupted")}
            facts["stopped"] = about.get("stopped", False)  # not in the first files that there were
            rest = {k.removeprefix("rest."): v for k, v in arrays.items() if k.startswith("rest.")}
            if model is not None and (needed := _shapes(rest_of(model))) != _shapes(rest):
                raise ValueError(f"its buffers and frozen parameters are not those of the model, {needed}")
            example = tuple(arrays[name] for name in EXAMPLE) if EXAMPLE[0] in arrays else None
            return Run(**columns, **facts, model=model, rest=rest, example=example, tag=about.get("tag"))
        except (FileNotFoundError, PermissionError):
            raise
        except DAMAGE as error:
            raise ValueError(f"{os.fspath(path)} is not a run that Run.save wrote, or is damaged: {error}") from error


@contextlib.contextmanager
def whole_or_not_at_all(path: str | os.PathLike) -> Iterator[Path]:
    """A file takes the place of another one in a single moment.

    Args:
        path: of the file, replaced if it exists.

    Yields:
        Where to write it: beside the path, which it is moved to at the end of the block, and removed if there was an error.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def rest_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Buffers and frozen parameters of a model, the tensors themselves, by name."""
    frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    return frozen | dict(model.named_buffers())


def is_same_output(h: np.ndarray, expected: np.ndarray) -> bool:
    """Whether two outputs are of one model, on whatever machine.

    Returns:
        True if they are the same up to rounding.
    """
    if h.shape != expected.shape:
        return False
    return np.allclose(h, expected, rtol=0, atol=10 * np.finfo(h.dtype).eps ** 0.5 * np.abs(expected).max())


def first_example(
    model: torch.nn.Module, x: torch.Tensor, theta: np.ndarray, count: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first input, or the first few, and what a model gives for it at theta, called as SGD calls it.

    Args:
        model: the hypothesis; it is left as it was.
        x: (n, ...).
        theta: (p,), in place of its parameters.
        count: how many at most.

    Returns:
        The input (1, ...), theta, and h (1, ...), in float32 where the tensors are in half precision.
    """
    with gradients_possible(), parameters_kept(model), attributes_kept(model), torch.enable_grad():
        set_parameters(model, torch.from_numpy(theta))
        one = x[:count].to(next(model.parameters()).device)
        return as_array(x[:count]), theta, as_array(model(as_model_dtype(model, one)))


def copy_of(model: torch.nn.Module, x: torch.Tensor) -> torch.nn.Module | None:
    """A copy of a model that computes with its own parameters.

    Args:
        model: the hypothesis.
        x: (n, ...), the inputs.

    Returns:
        The copy; None if the model cannot be copied, as with a lock or an open file in it, or if the copy still computes with
        the original's parameters, as with a ``forward`` that was wrapped.
    """
    try:
        twin = copy.deepcopy(model)
        if is_as_built(model):
            return twin
        with attributes_kept(twin), torch.enable_grad():
            reached = reached_past({}, twin(x[:1]), trainable(model))
    except Exception:  # whatever __deepcopy__ or half a copy raises
        return None
    return None if reached else twin


def as_array(tensor: torch.Tensor) -> np.ndarray:
    """A tensor as a NumPy array of its own, half precision as float32, which NumPy knows."""
    values = tensor.detach().resolve_conj().resolve_neg()
    return (values if values.is_complex() else wide(values)).cpu().numpy().copy()


def _shapes(tensors: Mapping[str, torch.Tensor | np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(values.shape) for name, values in tensors.items()}
