"""What a caller passes: checked before any work, and named where it is wrong."""

import cmath
import math
import numbers

import numpy as np
import torch


def as_number(name: str, value: object) -> float:
    """A finite real number.

    Args:
        name: of the argument, for the message.
        value: what was passed.

    Returns:
        The value as a float.

    Raises:
        TypeError: if it is no real number; a boolean is none.
        ValueError: if it is NaN or infinite.
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    return float(value)


def as_positive(name: str, value: object) -> float:
    """A finite real number above 0.

    Args:
        name: of the argument, for the message.
        value: what was passed.

    Returns:
        The value as a float.

    Raises:
        TypeError: if it is no real number; a boolean is none.
        ValueError: if it is NaN, infinite or not above 0.
    """
    number = as_number(name, value)
    if number <= 0:
        raise ValueError(f"{name} must be positive, got {number:g}")
    return number


def as_nonnegative(name: str, value: object) -> float:
    """A finite real number, 0 or above.

    Args:
        name: of the argument, for the message.
        value: what was passed.

    Returns:
        The value as a float.

    Raises:
        TypeError: if it is no real number; a boolean is none.
        ValueError: if it is NaN, infinite or negative.
    """
    number = as_number(name, value)
    if number < 0:
        raise ValueError(f"{name} must be at least 0, got {number:g}")
    return number


def as_integer(name: str, value: object, least: int) -> int:
    """An integer from ``least`` on.

    Args:
        name: of the argument, for the message.
        value: what was passed.
        least: the smallest value allowed.

    Returns:
        The value as an int.

    Raises:
        TypeError: if it is no integer; a boolean is none, nor is 2.0.
        ValueError: if it is below ``least``.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


def as_count(name: str, value: object, least: int, most: int) -> int:
    """Check an integer argument that has both bounds.

    Args:
        name: of the argument, for the message.
        value: what was passed.
        least: smallest value allowed.
        most: largest value allowed.

    Returns:
        The integer.

    Raises:
        TypeError: if it is no integer.
        ValueError: if it is out of range.
    """
    number = as_integer(name, value, least)
    if number > most:
        raise ValueError(f"{name} must be at most {most}, got {number}")
    return number


def as_between(name: str, value: object, least: float, most: float) -> float:
    """Check a number that has both bounds.

    Args:
        name: of the argument, for the message.
        value: what was passed.
        least: smallest value allowed.
        most: largest value allowed.

    Returns:
        The number.

    Raises:
        TypeError: if it is no number.
        ValueError: if it is out of range.
    """
    number = as_number(name, value)
    if not least <= number <= most:
        raise ValueError(f"{name} must lie between {least:g} and {most:g}, got {number}")
    return number


def as_tensor(name: str, value: object, like: torch.Tensor | None = None) -> torch.Tensor:
    """A tensor as it is, or a NumPy array as a tensor beside ``like``.

    A tensor has a type and a device that its owner chose, so both stay. An array of floating-point numbers, which NumPy makes
    in double precision whatever the model is, takes the type of ``like``; whole numbers and booleans keep theirs.

    Args:
        name: of the argument, for the message.
        value: what was passed.
        like: a tensor of the model, which gives the device and the floating-point type; None if there is no model.

    Returns:
        The tensor itself, or a copy of the array.

    Raises:
        TypeError: if it is neither, or an array of something else than numbers.
    """
    if isinstance(value, torch.Tensor):
        return value
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"{name} must be a torch.Tensor or a NumPy array, got {type(value).__name__}")
    try:
        tensor = torch.from_numpy(np.array(value))
    except TypeError as error:
        raise TypeError(f"{name} must hold numbers, got an array of {value.dtype}") from error
    if like is None:
        return tensor
    return tensor.to(like.device, like.dtype if tensor.is_floating_point() and like.is_floating_point() else tensor.dtype)


def as_examples(name: str, value: object, like: torch.Tensor | None = None) -> torch.Tensor:
    """The same for what holds examples, of which there is at least one, and finite.

    Args:
        name: of the argument, for the message.
        value: what was passed, (n, ...).
        like: as in :func:`as_tensor`.

    Returns:
        The tensor itself, or a copy.

    Raises:
        TypeError: as there.
        ValueError: if there is no value or no example, or a value is NaN or infinite.
    """
    tensor = as_tensor(name, value, like)
    if tensor.is_meta:
        raise ValueError(f"{name} must have values, got a tensor on the meta device")
    if tensor.dim() == 0 or tensor.shape[0] == 0:
        raise ValueError(f"{name} must hold at least one example along dimension 0, got shape {tuple(tensor.shape)}")
    # The sum takes no memory and, if finite, is proof enough.
    if (tensor.is_floating_point() or tensor.is_complex()) and not cmath.isfinite(tensor.sum().item()):
        for where in (~tensor.isfinite()).nonzero()[:1].tolist():
            raise ValueError(f"{name} must be finite, got {tensor[tuple(where)].item()} at index {tuple(where)}")
    return tensor


def as_reals(name: str, value: object) -> torch.Tensor:
    """A tensor or a NumPy array of whole or floating-point numbers, on the processor.

    Args:
        name: of the argument, for the message.
        value: what was passed.

    Returns:
        The tensor without its graph, or a copy.

    Raises:
        TypeError: if it is neither, or holds anything else, as booleans or complex numbers.
    """
    tensor = as_tensor(name, value).detach().cpu()
    if tensor.dtype == torch.bool or tensor.is_complex():
        raise TypeError(f"{name} must hold real numbers, got {tensor.dtype}")
    return tensor
