"""Measured beside predicted, asserted and told: a line each in a script, one line for a cell in a notebook."""

import numpy as np
import torch

from .folded import Check, tell


def check(
    claim: str,
    measured: object,
    predicted: object = None,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> None:
    """Say a measured quantity beside its prediction or bound, and fail if they disagree.

    Either ``predicted`` is given, and ``|measured - predicted| <= atol + rtol |predicted|`` must hold (equality if both
    tolerances are None); or a bound is, or two. Arrays must meet it in every entry. NaN never does.

    In a script what holds is printed, a line for each check. In a notebook all checks of a cell become one line below
    it, "4 of 4 checks hold", that opens to a table; the cell's output keeps them as data too, from which the book makes
    its list of all checks.

    Args:
        claim: what is checked, in words.
        measured: number, array or tensor.
        predicted: number, array or tensor, of the same shape or a single one.
        rtol: relative tolerance.
        atol: absolute tolerance, in units of the quantity.
        at_least: lower bound.
        at_most: upper bound.

    Raises:
        AssertionError: if it does not hold; the message repeats the line.
        ValueError: if there is nothing to compare with, or both a prediction and a bound, or shapes differ.

    >>> check("two copies of the noise average", 0.51, 0.5, rtol=0.05)
    holds: two copies of the noise average: 0.51, predicted 0.5 within 5%
    >>> check("runs with two convexity changes", 10, at_least=9)
    holds: runs with two convexity changes: 10, at least 9
    """
    bounded = at_least is not None or at_most is not None
    if bounded == (predicted is not None):
        raise ValueError("check needs either a prediction or a bound (at_least, at_most)")
    values = _as_array(measured)
    if values.size == 0:
        raise ValueError("check needs at least one measured value")
    if bounded:
        low, high = -np.inf if at_least is None else at_least, np.inf if at_most is None else at_most
        holds = bool(np.all((values >= low) & (values <= high)))
        bounds = {"at least": at_least, "at most": at_most}
        predicted_words = " and ".join(f"{word} {_show(bound)}" for word, bound in bounds.items() if bound is not None)
        tolerance = ""
    else:
        target = _as_array(predicted)
        if target.shape not in (values.shape, ()):
            raise ValueError(f"measured has shape {values.shape}, predicted {target.shape}")
        holds = bool(np.all(np.abs(values - target) <= (atol or 0.0) + (rtol or 0.0) * np.abs(target)))
        parts = [] if rtol is None else [f"{100 * rtol:.3g}%"]
        parts += [] if atol is None else [f"{atol:.3g}"]
        predicted_words, tolerance = _show(predicted), f"within {' plus '.join(parts)}" if parts else "exactly"
    told = Check(claim, _show(measured), predicted_words, tolerance)
    if not holds:
        raise AssertionError(f"does not hold: {told.line}")
    tell(told)


def _as_array(value: object) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
    elif isinstance(value, list | tuple):
        value = [_as_array(entry) for entry in value]
    return np.asarray(value, dtype=float)


def _show(value: object) -> str:
    values = _as_array(value)
    if values.ndim == 0:
        return f"{values:.4g}"
    if values.size > 5:
        return f"{values.min():.3g} to {values.max():.3g} ({values.size} values)"
    return f"[{', '.join(f'{v:.3g}' for v in values.ravel())}]"
