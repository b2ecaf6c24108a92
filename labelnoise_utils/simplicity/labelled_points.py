"""Data to be fitted exactly: the points that differ, and labels that rounding alone keeps from lying on lines."""

import itertools

import numpy as np
import torch

from ..arguments import as_reals

EPS = np.finfo(float).eps
LARGEST = 1e100


def distinct_points(
    x: torch.Tensor | np.ndarray, y: torch.Tensor | np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Distinct points in order, (m,) or (m, d), with their labels.

    Returns:
        x, y, for each example (n,) which of them it is, and the relative rounding of x and y as they were given.

    Raises:
        TypeError: as in minimal_interpolant.
        ValueError: as there.
    """
    x, y = as_reals("x", x), as_reals("y", y)
    if x.ndim not in (1, 2) or x.shape[:1] != y.shape or 0 in x.shape[1:]:
        raise ValueError(f"x and y must have shapes (n,) or (n, d), and (n,), got {tuple(x.shape)} and {tuple(y.shape)}")
    if not len(x):
        raise ValueError("x and y must hold at least one point, got none")
    eps = max(torch.finfo(value.dtype).eps if value.is_floating_point() else EPS for value in (x, y))
    x, y = (value.to(torch.float64).numpy() for value in (x, y))
    for name, value in (("x", x), ("y", y)):
        wrong = np.argwhere(~(np.abs(value) < LARGEST))
        if len(wrong):
            place = tuple(wrong[0].tolist()) if value.ndim > 1 else wrong[0, 0]
            raise ValueError(
                f"{name} must be finite and below {LARGEST:g} in size, got {value[tuple(wrong[0])]} at index {place}"
            )
    points, first, place = np.unique(x, axis=0, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    other = y[first][place]
    conflict = np.flatnonzero(other != y)
    if len(conflict):
        i = conflict[0]
        raise ValueError(f"no function fits both labels {other[i]} and {y[i]} at x = {x[i]}")
    return points, y[first], place, eps


def straightened(x: np.ndarray, y: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels with the points on lines that rounding x and y can have bent back on these lines, and the slopes between them.

    Returns:
        The labels, (m,), and the slopes, (m - 1,), the same to the last bit all along such a line.

    Raises:
        ValueError: if a slope overflows.
    """
    gaps = np.diff(x)
    with np.errstate(over="ignore"):
        slopes = np.diff(y) / gaps
    steep = np.flatnonzero(~(np.abs(slopes) < LARGEST))
    if len(steep):
        i = steep[0]
        raise ValueError(f"the labels differ too much between x = {x[i]} and {x[i + 1]}: the slope there is {slopes[i]:g}")
    doubt = np.abs(y[1:]) + np.abs(y[:-1]) + np.abs(slopes) * (np.abs(x[1:]) + np.abs(x[:-1]))
    doubt *= eps / gaps
    corners = np.flatnonzero(np.abs(np.diff(slopes)) > 2 * (doubt[1:] + doubt[:-1])) + 1
    corners = [0, *corners.tolist(), len(x) - 1]
    runs, y = list(itertools.pairwise(corners)), y.copy()
    while runs:
        first, last = runs.pop()
        if last - first < 2:
            continue
        slope, run = (y[last] - y[first]) / (x[last] - x[first]), slice(first, last + 1)
        line = y[first] + slope * (x[run] - x[first])
        rounding = eps * (np.abs(y[run]) + np.abs(slope * x[run]))
        # Small bends can add up to a large one: then the run is broken where it is farthest from the line.
        excess = np.abs(y[run] - line)[1:-1] - 2 * (rounding[1:-1] + max(rounding[0], rounding[-1]))
        farthest = first + 1 + int(np.argmax(excess))
        if excess.max() > 0:
            runs += [(first, farthest), (farthest, last)]
        else:
            y[first + 1 : last], slopes[first:last] = line[1:-1], slope
    return y, slopes
