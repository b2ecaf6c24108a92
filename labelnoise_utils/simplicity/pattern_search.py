"""Patterns that are worth adding to the cone programme, found where they are too many to be listed."""

import itertools

import numpy as np

from .cone_programme import SMALL, TOLERANCE, Cones, Optimum, Points, along, cheapest
from .patterns import some_patterns

# A search ends after so many rounds in a row that find nothing.
PATIENCE = 3


def searched(points: Points, seed: int, starts: int) -> tuple[Cones, Optimum]:
    """The same where the patterns are too many to be listed: those worth adding are searched for.

    The search climbs from the patterns of the units in use and from random ones, until several rounds find nothing. Where a
    pattern's best unit has its kink on points, these change sides, one at a time, and the best of the new patterns is the next.

    Args:
        points: the data.
        seed: of the random patterns.
        starts: how many random ones there are, each round.

    Returns:
        The cones of the patterns that were tried, and the optimum over them.

    Raises:
        ArithmeticError: as in :func:`cheapest`.
    """
    generator = np.random.default_rng(seed)
    x = points.lifted[:, :-1]
    directions = generator.standard_normal((2, x.shape[1]))
    active = list(itertools.chain(*(along(x @ w) for w in directions)))
    failures = 0
    while True:
        cones = Cones(points, some_patterns(len(x), active))
        optimum = cheapest(cones)
        used = cones.patterns.active[np.unique(optimum.pattern[np.linalg.norm(optimum.u, axis=1) > TOLERANCE])]
        begun = np.vstack([used, _at_random(points, generator, starts)])
        tried = {one.tobytes() for one in active}
        better = [one for one in _climbed(points, optimum.dual, begun) if one.tobytes() not in tried]
        failures = 0 if better else failures + 1
        if failures == PATIENCE:
            return cones, optimum
        active += list({one.tobytes(): one for one in better}.values())


def _at_random(points: Points, generator: np.random.Generator, number: int) -> np.ndarray:
    """Random patterns: one side of the hyperplane through as many random points as span it, and some of these. (number, n)."""
    size = points.lifted.shape[1] - 1
    order = np.tile(np.arange(len(points.x)), (number, 1))
    corners = generator.permuted(order, axis=1)[:, :size]
    active = np.linalg.svd(points.lifted[corners])[2][:, -1] @ points.lifted.T > 0
    np.put_along_axis(active, corners, generator.random(corners.shape) < 0.5, axis=1)
    return active ^ (generator.random((number, 1)) < 0.5)


def _climbed(points: Points, dual: np.ndarray, starts: np.ndarray) -> list[np.ndarray]:
    """Patterns that are worth more than they cost: of all that are met on the ways up from the starts, the best."""
    worth: dict[bytes, float] = {}
    tight: dict[bytes, np.ndarray] = {}
    awake: dict[bytes, np.ndarray] = {}

    def measure(patterns: list[np.ndarray]) -> None:
        cones = Cones(points, some_patterns(len(points.x), [one for one in patterns if one.tobytes() not in worth]))
        for k, active in enumerate(cones.patterns.active):
            direction = (active * dual) @ points.lifted @ cones.basis[k] * cones.seen[k]
            ends = (cones.best(k, sign * direction) for sign in (1, -1))
            unit, multipliers = max(ends, key=lambda end: np.linalg.norm(end[0]))
            worth[active.tobytes()] = np.linalg.norm(unit) / cones.price[k]
            tight[active.tobytes()] = np.flatnonzero(multipliers)
            heights = points.lifted @ cones.basis[k] @ unit
            awake[active.tobytes()] = heights > SMALL * np.abs(heights).max()

    at = [one for one in starts if one.any()]
    measure(at)
    while at:
        around = [[one ^ (np.arange(len(one)) == j) for j in tight[one.tobytes()]] for one in at]
        around = [[other for other in others if other.any()] for others in around]
        measure(list(itertools.chain(*around)))
        steps = [max((one, *others), key=lambda step: worth[step.tobytes()]) for one, others in zip(at, around, strict=True)]
        # From where others have been, the way up is theirs.
        at = list({step.tobytes(): step for step, one in zip(steps, at, strict=True) if step is not one}.values())
    best = sorted((key for key in worth if worth[key] > 1 + TOLERANCE), key=lambda key: -worth[key])
    return [pattern for key in best[: 4 * len(points.x)] for pattern in (np.frombuffer(key, bool), awake[key])]
