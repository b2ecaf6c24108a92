"""What is passed to a model: examples along dimension 0 of one tensor or of several."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch
from torch.utils.data import DataLoader

from ..arguments import as_examples

# A tensor or array, a tuple of positional or a dict of keyword inputs, or batches of such.
Inputs = torch.Tensor | np.ndarray | tuple | Mapping | Iterable


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """The inputs of a model for n examples.

    Attributes:
        tensors: each (n, ...), by position or keyword.
        constants: what else is passed, the same for every example, by position or keyword.
    """

    tensors: dict[int | str, torch.Tensor]
    constants: dict[int | str, object] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "Examples":
        """The same with the function applied to each tensor."""
        return Examples({key: function(tensor) for key, tensor in self.tensors.items()}, self.constants)

    def split(self, size: int) -> Iterator["Examples"]:
        """The examples in parts of ``size``, the last perhaps smaller."""
        for parts in zip(*(tensor.split(size) for tensor in self.tensors.values()), strict=True):
            yield Examples(dict(zip(self.tensors, parts, strict=True)), self.constants)

    def passed_to(self, model: Callable) -> object:
        """What the model gives for them."""
        given = self.tensors | self.constants
        positions = sorted(key for key in given if isinstance(key, int))
        return model(*(given[key] for key in positions), **{key: v for key, v in given.items() if isinstance(key, str)})

    def __str__(self) -> str:
        if [*self.tensors] == [0]:
            return f"x of shape {tuple(self.tensors[0].shape)} and {self.tensors[0].dtype}"
        parts = (f"{key!r} of shape {tuple(t.shape)} and {t.dtype}" for key, t in self.tensors.items())
        return f"x with {', '.join(parts)}"


def batches(x: Inputs, inputs: Callable | None, like: torch.Tensor) -> Iterator[Examples]:
    """The examples that x stands for, batch by batch; one batch unless x is a loader.

    Args:
        x: a tensor or array (n, ...), a tuple of positional inputs, a mapping of keyword inputs, a ``DataLoader``, or, with
            ``inputs``, any iterable of batches.
        inputs: picks out of a batch what x could be.
        like: a tensor of the model, as in :func:`labelnoise_utils.arguments.as_tensor`.

    Yields:
        The examples.

    Raises:
        TypeError: if x or what is picked is none of these, or ``inputs`` cannot be called.
        ValueError: if there is no example, a number is NaN or infinite, or the inputs differ in the number of examples.
    """
    if inputs is None and not isinstance(x, DataLoader):
        yield _examples(x, like)
        return
    if inputs is not None and not callable(inputs):
        raise TypeError(f"inputs must be a function of a batch, got {type(inputs).__name__}")
    if not isinstance(x, Iterable) or isinstance(x, torch.Tensor | np.ndarray | Mapping | str):
        raise TypeError(f"x must be a DataLoader or another iterable of batches where inputs is given, got {type(x).__name__}")
    none = True
    for batch in x:
        none = False
        picked = batch if inputs is None else inputs(batch)
        # A part of a batch that a DataLoader made is a list.
        yield _examples(tuple(picked) if inputs is not None and isinstance(picked, list) else picked, like, "a batch of x")
    if none:
        raise ValueError("x must hold at least one batch")


def _examples(x: object, like: torch.Tensor, name: str = "x") -> Examples:
    if isinstance(x, tuple | Mapping):
        given = dict(enumerate(x)) if isinstance(x, tuple) else dict(x)
    elif isinstance(x, torch.Tensor | np.ndarray):
        given = {0: x}
    else:
        hint = "; pick the inputs out of it with inputs=" if name != "x" else ""
        raise TypeError(
            f"{name} must be a torch.Tensor or a NumPy array, a tuple or a dict of them, or a DataLoader,"
            f" got {type(x).__name__}{hint}"
        )
    tensors, constants = {}, {}
    for key, value in given.items():
        if not isinstance(key, int | str):
            raise TypeError(f"{name} must have the names of inputs for keys, got {key!r}")
        if isinstance(value, torch.Tensor | np.ndarray):
            of = name if isinstance(x, torch.Tensor | np.ndarray) else f"{name}[{key!r}]"
            tensor = as_examples(of, value, like)
            tensors[key] = tensor.clone() if tensor.is_inference() else tensor
        else:
            constants[key] = value
    if not tensors:
        raise ValueError(f"{name} must hold at least one tensor")
    counts = {key: len(tensor) for key, tensor in tensors.items()}
    if len({*counts.values()}) > 1:
        raise ValueError(f"all tensors of {name} must hold the same number of examples along dimension 0, got {counts}")
    return Examples(tensors, constants)
