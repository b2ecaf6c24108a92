"""What a training saw, and its file: :class:`Run`."""

import copy
import dataclasses
import io
import json
import os
import secrets
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from .. import models
from ..regularizer.hypothesis import is_as_built, set_parameters, trainable

BOOK_MODELS = {name: getattr(models, name) for name in models.__all__}

# What NumPy, zipfile, json and torch raise on a file that was cut, changed or is something else.
DAMAGE = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, RuntimeError)
DAMAGE += (struct.error, zipfile.BadZipFile, zlib.error)


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
