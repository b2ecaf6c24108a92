"""How simple a function of one number is: its length, its changes of convexity, how straight it is between points."""

from collections.abc import Callable

import torch

from ..arguments import as_number, as_positive
from ..models.compiled import jit

Function = Callable[[torch.Tensor], torch.Tensor]

GRID = 20_001


def curve_length(f: Function, lo: float, hi: float) -> float:
    """Length of the graph of f over [lo, hi], the integral of ``sqrt(1 + f'(x)^2)``.

    Args:
        f: from a float64 tensor (n,) to a tensor (n,); a model of a scalar x is one.
        lo: left end.
        hi: right end.

    Returns:
        Length of the polygon through 20001 equally spaced points. It falls short of the length by at most
        ``(hi - lo) / 160000 * jump**2`` per kink, where the slope changes by ``jump``; and where f is smooth, by at most
        ``(hi - lo)**3 / 9.6e9`` times the largest f''^2.

    Raises:
        TypeError: if an end is no number.
        ValueError: if the interval is empty or infinite, or f is not finite on it.

    Source: Figure 3.

    >>> curve_length(lambda x: 0.75 * x, 0.0, 4.0)
    5.0
    """
    x, y = _sample(f, lo, hi)
    return torch.hypot(x.diff(), y.diff()).sum().item()


def convexity_changes(f: Function, lo: float, hi: float, *, tol: float) -> int:
    """How often f changes between convex and concave on [lo, hi].

    That is how often f' turns round. A turn counts once the slope has come back by more than ``tol`` from its last extreme
    value; with ``tol=0`` rounding errors and training residue would count.

    Args:
        f: from a float64 tensor (n,) to a tensor (n,).
        lo: left end.
        hi: right end.
        tol: hysteresis, in units of the slope, > 0; 0.1 to 0.3 for slopes of order 1.

    Returns:
        The number of turns, on a grid of 20001 points.

    Raises:
        TypeError: if tol or an end is no number.
        ValueError: if tol is not positive, the interval is empty or infinite, or f is not finite on it.

    Source: Theorem 2.

    >>> convexity_changes(torch.sin, 0.1, 9.0, tol=0.1)
    2
    """
    tol = as_positive("tol", tol)
    x, y = _sample(f, lo, hi)
    return _turns((y.diff() / x.diff()).numpy(), tol)


@jit
def _turns(slopes, tol):
    """How often a sequence turns round by more than tol."""
    low = high = slopes[0]
    direction, changes = 0, 0
    for slope in slopes:
        low, high = min(low, slope), max(high, slope)
        if direction >= 0 and slope < high - tol:
            changes += direction == 1
            direction, low = -1, slope
        elif direction <= 0 and slope > low + tol:
            changes += direction == -1
            direction, high = 1, slope
    return changes


def collinear_deviation(f: Function, x: torch.Tensor, y: torch.Tensor) -> float:
    """Largest distance ``|f - line|`` over the gaps between collinear neighbouring points.

    Args:
        f: from a tensor (n,) to a tensor (n,).
        x: (n,), increasing.
        y: (n,). Three points are collinear if the two slopes agree to half of the digits.

    Returns:
        The largest distance over all runs of three collinear points, in units of y; on 401 points per run.

    Raises:
        ValueError: if shapes differ, x is not increasing, or no three neighbouring points are collinear.

    Source: the remark after Theorem 2 ("for any three co-linear points, the interpolation should be linear").
    """
    if x.dim() != 1 or x.shape != y.shape:
        raise ValueError(f"x and y must have the same shape (n,), got {tuple(x.shape)} and {tuple(y.shape)}")
    gaps = x.diff()
    if not (gaps > 0).all():
        raise ValueError("x must be increasing")
    slopes = y.diff() / gaps
    bends = slopes.diff().abs() / (1 + slopes.abs().max())
    straight = (bends < torch.finfo(x.dtype).eps ** 0.5).nonzero().flatten().tolist()
    if not straight:
        raise ValueError("no three neighbouring points are collinear")
    deviations = []
    for i in straight:
        t = torch.linspace(x[i].item(), x[i + 2].item(), 401, dtype=x.dtype)
        line = y[i] + (y[i + 2] - y[i]) / (x[i + 2] - x[i]) * (t - x[i])
        with torch.no_grad():
            deviations.append((f(t) - line).abs().max())
    return torch.stack(deviations).max().item()


def _sample(f: Function, lo: float, hi: float) -> tuple[torch.Tensor, torch.Tensor]:
    if not as_number("lo", lo) < as_number("hi", hi):
        raise ValueError(f"lo must be below hi, got {lo} and {hi}")
    x = torch.linspace(lo, hi, GRID, dtype=torch.float64)
    with torch.no_grad():
        y = f(x)
    if y.shape != x.shape or not torch.isfinite(y).all():
        what = "NaN or infinity" if y.shape == x.shape else f"shape {tuple(y.shape)}"
        raise ValueError(f"f must map shape {tuple(x.shape)} to finite values of the same shape, got {what}")
    return x, y
