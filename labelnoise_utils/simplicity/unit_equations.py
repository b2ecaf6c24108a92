"""The equations of a sigmoid unit on k data points, in NumPy: derivatives, Newton's method, and the scan over all branches.

For tanh, with ``v_j = 1 / (2 c^2 |x_j|^2)`` the cubic of coordinate j is ``h^3 + (v_j - 1) h = mu_j / (4 c |x_j|^2)``.
"""

import itertools
from collections.abc import Callable

import numpy as np
import torch

from ..models.two_layer_sigmoidal import Sigmoid

Vector = torch.Tensor | np.ndarray | list[float] | tuple[float, ...]

SAME, MIDDLE, OPPOSITE = 0, 1, 2  # the root of mu_j's sign, and the two others, which exist from the fold on
STEPS = 60  # of Newton's method or a bisection; both stop before


def as_vectors(multipliers: Vector, sq_norms: Vector, *, most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers and squared norms, checked.

    Returns:
        Both as float64 arrays (k,).

    Raises:
        ValueError: if they are no vectors of the same length, not finite, or a squared norm is not positive.
    """
    mu, norms = (
        np.array(one.detach().numpy() if isinstance(one, torch.Tensor) else list(map(float, one)))
        for one in (multipliers, sq_norms)
    )
    mu, norms = mu.astype(float), norms.astype(float)
    if mu.ndim != 1 or not len(mu) or norms.shape != mu.shape:
        raise ValueError(f"multipliers and sq_norms must be vectors of the same length, got {mu.shape} and {norms.shape}")
    if most is not None and len(mu) > most:
        raise ValueError(f"multipliers must have at most {most} entries, got {len(mu)}")
    if not (np.isfinite(mu).all() and np.isfinite(norms).all() and (norms > 0).all()):
        raise ValueError("multipliers must be finite, and sq_norms finite and positive")
    return mu, norms


def gradient_and_hessian(
    units: np.ndarray, mu: np.ndarray, norms: np.ndarray, activation: Sigmoid = "tanh"
) -> tuple[np.ndarray, np.ndarray]:
    """Of ``Gamma = sum_j [h_j^2 + c^2 |x_j|^2 s'^2 - c mu_j h_j]`` in (c, h), for units (m, 1 + k).

    Returns:
        (m, 1 + k) and (m, 1 + k, 1 + k).
    """
    c, h = units[:, :1], units[:, 1:]
    # The square of the slope s' as a function of h, and its derivatives.
    if activation == "tanh":
        square, first, second = (1 - h**2) ** 2, -4 * h * (1 - h**2), 12 * h**2 - 4
    else:
        square, first, second = (h * (1 - h)) ** 2, 2 * h * (1 - h) * (1 - 2 * h), 2 - 12 * h * (1 - h)
    in_c = 2 * c * (square @ norms)[:, None] - (h @ mu)[:, None]
    gradient = np.hstack([in_c, 2 * h + c**2 * norms * first - c * mu])
    hessian = np.zeros((*units.shape, units.shape[1]))
    hessian[:, 0, 0] = 2 * square @ norms
    hessian[:, 0, 1:] = hessian[:, 1:, 0] = 2 * c * norms * first - mu
    diagonal = np.arange(1, units.shape[1])
    hessian[:, diagonal, diagonal] = 2 + c**2 * norms * second
    return gradient, hessian


def newton(units: np.ndarray, mu: np.ndarray, norms: np.ndarray, activation: Sigmoid = "tanh") -> tuple[np.ndarray, np.ndarray]:
    """Newton's method for Gamma's gradient, from each of the units (m, 1 + k).

    Returns:
        The units, and the largest entry of the gradient at each (m,).
    """
    units = units.copy()
    for _ in range(STEPS):
        gradient, hessian = gradient_and_hessian(units, mu, norms, activation)
        # The least squares of a singular matrix leave a large residual, which is refused.
        step = (np.linalg.pinv(hessian) @ gradient[..., None])[..., 0]
        units -= step
        if not len(units) or (abs(step) <= 1e-15 * np.maximum(1, abs(units))).all():
            break
    return units, abs(gradient_and_hessian(units, mu, norms, activation)[0]).max(axis=1)


def root_of_same_sign(c: np.ndarray, mu: float, norm: float) -> np.ndarray:
    """The root of the cubic with the sign of mu (or 0), for |mu|, by Newton's method from 1, to the right of it.

    Returns:
        An array of c's shape.
    """
    v, right = 1 / (2 * c**2 * norm), abs(mu) / (4 * c * norm)
    h = np.ones_like(c)
    for _ in range(STEPS):
        step = ((h * h + v - 1) * h - right) / (3 * h * h + v - 1)
        h -= step
        if (abs(step) <= 1e-16).all():
            break
    return h


def fold(mu: float, norm: float) -> float:
    """The c above which the cubic has three roots: ``32 |x|^2 (1 - v)^3 = 27 mu^2 v``, by bisection in v.

    Returns:
        c, a positive number; for mu = 0 that at which the two outer roots leave 0.
    """
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        v = (low + high) / 2
        low, high = (v, high) if 32 * norm * (1 - v) ** 3 > 27 * mu**2 * v else (low, v)
    return (2 * norm * low) ** -0.5


def _roots(c: np.ndarray, branch: int, mu: float, norm: float) -> np.ndarray:
    """One root of the cubic over c, for |mu|."""
    if mu == 0:
        outer = np.sqrt(np.maximum(0, 1 - 1 / (2 * c**2 * norm)))
        return {SAME: outer, MIDDLE: 0 * c, OPPOSITE: -outer}[branch]
    h = root_of_same_sign(c, mu, norm)
    if branch == SAME:
        return h
    spread = np.sqrt(np.maximum(0, 4 * (1 - 1 / (2 * c**2 * norm)) - 3 * h * h))
    return (-h + spread) / 2 if branch == MIDDLE else (-h - spread) / 2


def _interval(word: tuple[int, ...], mu: np.ndarray, folds: list[float]) -> tuple[float, float] | None:
    """Where a branch lies in c; None where no solution can be."""
    ends = [2 / abs(m) for branch, m in zip(word, mu, strict=True) if branch == SAME and m != 0]
    starts = [f for branch, m, f in zip(word, mu, folds, strict=True) if branch != (SAME if m else MIDDLE)]
    if not ends or max(starts, default=0.0) >= min(ends):
        return None
    return max(starts, default=0.0), min(ends)


def solve(mu: np.ndarray, norms: np.ndarray, points: int) -> np.ndarray:
    """All solutions with c > 0; see :func:`~labelnoise_utils.simplicity.several_data_points.units`.

    Returns:
        (m, 1 + k), by c.
    """
    signs = np.where(mu < 0, -1.0, 1.0)
    folds = [fold(*pair) for pair in zip(mu, norms, strict=True)]
    starts = []
    for word in itertools.product((SAME, MIDDLE, OPPOSITE), repeat=len(mu)):
        interval = _interval(word, mu, folds)
        if interval:
            starts += _zeros_on(word, interval, abs(mu), norms, points)
    if not starts:
        return np.zeros((0, 1 + len(mu)))
    found, residual = newton(np.array(starts), abs(mu), norms)
    good = (residual < 1e-12) & (found[:, 0] > 1e-9) & (abs(found[:, 1:]) < 1).all(axis=1)
    found = found[good][np.lexsort(found[good].T[::-1])]
    kept = [unit for k, unit in enumerate(found) if not (abs(found[:k] - unit).max(axis=1, initial=0) < 1e-9).any()]
    kept = np.array(kept).reshape(-1, 1 + len(mu))
    kept[:, 1:] *= signs
    return kept[np.lexsort(kept.T[::-1])]


def _zeros_on(
    word: tuple[int, ...], interval: tuple[float, float], mu: np.ndarray, norms: np.ndarray, points: int
) -> list[np.ndarray]:
    """Units near the zeros of dGamma/dc along a branch."""
    start, end = interval

    def along(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # At its start, a fold, the branch goes like the square root of c: smooth in this part of the way.
        c = start + (end - start) * part**2
        h = np.stack([_roots(c, *one) for one in zip(word, mu, norms, strict=True)], axis=-1)
        # Over c, so that the silent unit at c = 0 is no zero.
        return np.concatenate([c[..., None], h], axis=-1), 2 * ((1 - h**2) ** 2 @ norms) - (h @ mu) / c

    # At c = 0 itself there is the silent unit.
    grid = np.linspace(0.0 if start else 1e-3, 1, points + 1)
    values = along(grid)[1]
    brackets = [(grid[i], grid[i + 1]) for i in np.flatnonzero(values[:-1] * values[1:] <= 0)]
    signs, sizes = np.sign(values), abs(values)
    dips = (sizes[1:-1] < np.minimum(sizes[:-2], sizes[2:])) & (signs[:-2] == signs[1:-1]) & (signs[1:-1] == signs[2:])
    for i in np.flatnonzero(dips) + 1:
        bottom = _lowest(lambda part, sign=signs[i]: sign * along(part)[1], grid[i - 1], grid[i + 1])
        if along(bottom)[1] * signs[i] < 0:
            brackets += [(grid[i - 1], bottom), (bottom, grid[i + 1])]
    return [along(_zero(lambda part: along(part)[1], *bracket))[0] for bracket in brackets]


def _lowest(function: Callable[[np.ndarray], np.ndarray], low: float, high: float) -> np.ndarray:
    """Where a function with one minimum in an interval has it, by ternary search."""
    for _ in range(STEPS):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, right) if function(np.asarray(left)) < function(np.asarray(right)) else (left, high)
    return np.asarray((low + high) / 2)


def _zero(function: Callable[[np.ndarray], np.ndarray], low: float, high: float) -> np.ndarray:
    """Where a function changes sign in an interval, by bisection."""
    first = np.sign(function(np.asarray(low)))
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if np.sign(function(np.asarray(middle))) == first else (low, middle)
    return np.asarray((low + high) / 2)
