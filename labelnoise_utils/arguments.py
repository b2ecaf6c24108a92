"""Numbers that a caller passes: checked before any work, and named where they are wrong."""

import math
import numbers


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
