"""Measured beside predicted, printed and asserted."""

import numpy as np
import torch


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
    """Print a measured quantity beside its prediction or bound, and fail if they disagree.

    Either ``predicted`` is given, and ``|measured - predicted| <= atol + rtol |predicted|`` must hold (equality if both
    tolerances are None); or a bound is, or two. Arrays must meet it in every entry. NaN never does.

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
        expected = " and ".join(f"{word} {_show(bound)}" for word, bound in bounds.items() if bound is not None)
    else:
        target = _as_array(predicted)
        if target.shape not in (values.shape, ()):
            raise ValueError(f"measured has shape {values.shape}, predicted {target.shape}")
        holds = bool(np.all(np.abs(values - target) <= (atol or 0.0) + (rtol or 0.0) * np.abs(target)))
        within = []
        if rtol is not None:
            within.append(f"{100 * rtol:.3g}%")
        if atol is not None:
            within.append(f"{atol:.3g}")
        how_well = f"within {' plus '.join(within)}" if within else "exactly"
        expected = f"predicted {_show(predicted)} {how_well}"
    line = f"{claim}: {_show(measured)}, {expected}"
    if not holds:
        raise AssertionError(f"does not hold: {line}")
    print(f"holds: {line}")


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
