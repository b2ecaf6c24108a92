"""What no network can undercut: a lower bound from the dual of the cone programme, with exact arithmetic where it decides."""

from fractions import Fraction

import numpy as np
import scipy.optimize

from .cone_programme import RANK, Cones, Points
from .patterns import spanning

# By how much a norm or a sum here can be rounded, relatively: some hundred roundings.
ROUNDING = 1e-13
EPS = np.finfo(float).eps


def certificate(cones: Cones, dual: np.ndarray) -> list[Fraction]:
    r"""Worths of the labels for which no unit is worth more than it costs, if the patterns are complete.

    A dual that vanishes on what is free and for which ``lambda . v <= (2 / n) beta(S) ||v||`` for every unit gives the bound
    ``lambda . y`` on the cost of units that fit any labels y. The first is made exact, in fractions. Then lambda is divided by
    the largest ratio of the two sides of the second, for which each pattern has an upper bound: the length of a projection,
    with multipliers of the cone's walls where these are needed.

    Args:
        cones: of all patterns.
        dual: (n,), nearly optimal.

    Returns:
        (n,), lambda.
    """
    points = cones.points
    dual = _exactly_orthogonal(dual, points)
    rounded = np.array([float(value) for value in dual])
    largest = 1.0
    pull = (cones.patterns.active * rounded) @ points.lifted
    direction = np.einsum("ki,kij->kj", pull, cones.basis) * cones.seen
    # How far rounding can have moved these, where some of S is nearly unseen.
    doubt = 16 * EPS * (cones.patterns.active * np.abs(rounded)) @ np.abs(points.lifted)
    doubt = np.linalg.norm(np.einsum("ki,kij->kj", doubt, np.abs(cones.basis)) * cones.seen, axis=1)
    worth = (np.linalg.norm(direction, axis=1) + doubt) / cones.price
    for k in np.flatnonzero(worth > 1):
        for sign in (1, -1):
            unit, multipliers = cones.best(k, sign * direction[k])
            j, _, lengths = cones.walls(k)
            pushed = 16 * EPS * (multipliers / lengths) @ np.abs(points.lifted[j]) @ np.abs(cones.basis[k])
            length = np.linalg.norm(unit[cones.seen[k]]) + np.linalg.norm(pushed[cones.seen[k]])
            if not cones.seen[k].all():
                # At most that without any walls but v >= 0.
                alone = np.maximum(sign * rounded / np.sqrt(points.counts), 0)[cones.patterns.active[k]]
                length = min(length + _more_to_be_exact(cones, k, multipliers), np.linalg.norm(alone))
            largest = max(largest, (length + doubt[k]) / cones.price[k])
    return _shrunk(dual, largest)


def certificate_without_patterns(points: Points) -> list[Fraction]:
    r"""The same whatever the patterns are, and much lower.

    Any values v >= 0 on any set S obey ``lambda . v <= (2 / n) beta(S) ||v||`` if ``|lambda_j| <= (2 / n) sqrt(1 + |x_j|^2)``
    for each point (Cauchy and Schwarz); the best such lambda is a linear programme.

    Args:
        points: the data.

    Returns:
        (n,), lambda.
    """
    limit = 2 / points.counts.sum() * np.sqrt(points.counts * points.heights)
    found = scipy.optimize.linprog(
        -points.y,
        A_eq=points.free.T,
        b_eq=np.zeros(points.free.shape[1]),
        bounds=np.column_stack([-limit, limit]),
        method="highs",
    )
    if found.status != 0:
        return [Fraction(0)] * len(points.y)
    dual = _exactly_orthogonal(found.x, points)
    return _shrunk(dual, max(1.0, *(abs(float(value)) / most for value, most in zip(dual, limit, strict=True))))


def bound_from(dual: list[Fraction], y: np.ndarray, off: np.ndarray) -> float:
    """What the cost of no units that fit labels can undercut: ``lambda . y``, at least.

    Args:
        dual: (n,), lambda.
        y: (n,), the labels.
        off: (n,), how far from these they may be.

    Returns:
        The bound, at least 0.
    """
    terms = (
        weight * Fraction(float(label)) - abs(weight) * Fraction(float(miss))
        for weight, label, miss in zip(dual, y, off, strict=True)
    )
    return max(0.0, float(sum(terms)))


def _shrunk(dual: list[Fraction], largest: float) -> list[Fraction]:
    """A dual by which units are worth up to so much more than they cost, less the rounding in this, divided by it."""
    return [value / Fraction(largest * (1 + ROUNDING)) for value in dual]


def _exactly_orthogonal(dual: np.ndarray, points: Points) -> list[Fraction]:
    """The dual with as little added, at a few points, as makes it vanish on what is free."""
    exact = [Fraction(float(value)) for value in dual]
    if not points.free.shape[1]:
        return exact
    free = points.free.shape[1]
    basis = spanning(points.free, free)
    lifted = [[*map(Fraction, row.tolist()[: free - 1]), Fraction(1)] for row in points.x]
    residue = [sum(value * row[c] for value, row in zip(exact, lifted, strict=True)) for c in range(free)]
    change = _solved([[lifted[j][c] for j in basis] for c in range(free)], [-r for r in residue])
    for j, value in zip(basis, change, strict=True):
        exact[j] += value
    return exact


def _more_to_be_exact(cones: Cones, k: int, multipliers: np.ndarray) -> float:
    """What changes of a cone's multipliers can add to the length of its best unit, if what no point of S sees is to vanish.

    What has to vanish is ``sum_j e_j (x_j, 1)`` over the points of S, with any e, and those of the walls that pull. Walls that
    span what the others add up to, with points of S that span the rest, are solved for in fractions. A point that S sees up to
    its rounding counts as one that S sees.

    Returns:
        The sum of the changes, in units of that length; infinite if some multiplier had to be below 0.
    """
    j, walls, lengths = cones.walls(k)
    active, seen, points = cones.patterns.active[k], cones.seen[k], cones.points
    unseen = walls[:, ~seen]
    pulling = np.flatnonzero((multipliers > 0) & ~active[j] & (np.linalg.norm(unseen, axis=1) * lengths > RANK))
    if not len(pulling):
        return 0.0
    pulls = unseen[pulling] * multipliers[pulling, None]
    inside = np.flatnonzero(active)
    inside = inside[spanning(points.lifted[inside], seen.sum())]
    solved = pulling[spanning(pulls, np.linalg.matrix_rank(pulls, tol=RANK * np.abs(pulls).max()))]
    others = np.setdiff1d(pulling, solved)
    weights = {int(j[i]): Fraction(float(multipliers[i] / lengths[i])) for i in pulling}
    columns = [[*map(Fraction, points.x[i].tolist()), Fraction(1)] for i in (*inside, *j[solved])]
    rest = [[weights[i] * Fraction(value) for value in (*points.x[i].tolist(), 1.0)] for i in j[others].tolist()]
    right = [-sum(row[c] for row in rest) for c in range(len(columns[0]))]
    rows = _pivots(columns)
    solution = _solved([[column[c] for column in columns] for c in rows], [right[c] for c in rows])[len(inside) :]
    if min(solution) < 0:
        return np.inf
    changes = [abs(float(new - weights[i])) for new, i in zip(solution, j[solved].tolist(), strict=True)]
    return float(lengths[solved] @ changes)


def _pivots(columns: list[list[Fraction]]) -> list[int]:
    """As many rows as there are columns, in which these are independent as they are in all."""
    rows, reduced = [], []
    for column in columns:
        for pivot, base in zip(rows, reduced, strict=True):
            factor = column[pivot] / base[pivot]
            column = [a - factor * b for a, b in zip(column, base, strict=True)]
        rows.append(max(range(len(column)), key=lambda c: abs(column[c])))
        reduced.append(column)
    return rows


def _solved(matrix: list[list[Fraction]], right: list[Fraction]) -> list[Fraction]:
    """Solution of a square system that has one, by elimination."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for k in range(len(rows)):
        found = next(i for i in range(k, len(rows)) if rows[i][k])
        rows[k], rows[found] = rows[found], rows[k]
        rows[k] = [value / rows[k][k] for value in rows[k]]
        for i in range(len(rows)):
            if i != k and rows[i][k]:
                factor = rows[i][k]
                rows[i] = [a - factor * b for a, b in zip(rows[i], rows[k], strict=True)]
    return [row[-1] for row in rows]
