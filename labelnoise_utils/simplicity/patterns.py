"""Which points a ReLU unit can be awake on: every way that a hyperplane cuts a set of points, found without rounding."""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

# A determinant whose size is above this, of the product of its rows' lengths, has the sign that float64 finds.
DOUBT = 1e-12
COMBINATIONS_AT_ONCE = 2**12


@dataclass(frozen=True, eq=False)
class Patterns:
    """Some sets of points, each as the bits of an integer: point j is in the set if bit j is 1.

    Attributes:
        number: of points.
        bits: the sets, in increasing order.
        complete: whether these are all sets that a hyperplane cuts off.
    """

    number: int
    bits: tuple[int, ...]
    complete: bool

    @cached_property
    def active(self) -> np.ndarray:
        """The sets as a table, (k, n) of booleans."""
        octets = -(-self.number // 8)
        packed = np.frombuffer(b"".join(one.to_bytes(octets, "little") for one in self.bits), np.uint8)
        return np.unpackbits(packed.reshape(len(self.bits), octets), axis=1, count=self.number, bitorder="little").astype(bool)

    @cached_property
    def walls(self) -> list[np.ndarray]:
        """For each set the points whose inequality bounds the hyperplanes that cut it off: indices, increasing.

        These hyperplanes form a cone, ``w . x_j + b >= 0`` for the points in the set and ``<= 0`` for the others. A point's
        inequality is a wall of it if and only if the set with this point added or taken away is cut off by a hyperplane, too;
        the others follow. Where the sets are not complete that cannot be told, and all points count.
        """
        points = range(self.number)
        if not self.complete:
            return [np.arange(self.number)] * len(self.bits)
        # The empty set is beyond a wall of every set of one point.
        known = {0, *self.bits}
        return [np.array([j for j in points if one ^ (1 << j) in known], dtype=int) for one in self.bits]


def most_patterns(points: int, dimension: int) -> int:
    r"""Largest number of sets that hyperplanes cut off from so many points: ``2 sum_{k <= d} binom(n - 1, k) - 1``.

    The empty set does not count. Points in general position have so many, others fewer.

    Returns:
        The number.

    Source: L. Schläfli; T. M. Cover, IEEE Trans. Electronic Computers 14 (1965).

    >>> [most_patterns(n, 2) for n in (12, 16, 20, 30)]
    [133, 241, 381, 871]
    """
    return 2 * sum(math.comb(points - 1, k) for k in range(dimension + 1)) - 1


def all_patterns(x: np.ndarray) -> Patterns:
    """Every nonempty set ``{j: w . x_j + b > 0}``.

    A hyperplane that cuts off a set can be moved until it lies on points that span it, without a point changing its side. So
    each set is one side of a hyperplane through points, with a set that is cut off from the points on that hyperplane: the
    same question with one dimension less. On a line the sets are the beginnings and the ends. Signs of determinants that
    rounding could change are worked out in whole numbers, of which float64 has a power of two each; so points on a line, in a
    grid, or in a plane of their own are no trouble.

    Args:
        x: (n, d) in float64, distinct points.

    Returns:
        The sets.
    """
    return Patterns(len(x), tuple(sorted(_cut_off(x, tuple(range(len(x)))) - {0})), complete=True)


def some_patterns(number: int, active: Iterable[np.ndarray]) -> Patterns:
    """These sets, (n,) of booleans each; the empty one does not count, and no set counts twice."""
    bits = {int.from_bytes(np.packbits(one, bitorder="little").tobytes(), "little") for one in active}
    return Patterns(number, tuple(sorted(bits - {0})), complete=False)


def affine_basis(x: np.ndarray) -> tuple[list[int], list[int]]:
    """Points that span all points, and coordinates that tell all points of their span apart.

    Args:
        x: (n, d) in float64, n >= 1.

    Returns:
        Indices of r + 1 points that are affinely independent, and of r coordinates in which they still are.
    """
    whole = [[*row, 1] for row in _whole(x)]
    rows, order = list(range(len(x))), [x.shape[1], *range(x.shape[1])]
    points, pivots = [], []
    # Elimination without fractions; the coordinate 1 is the first pivot. Rows: what is left of each point.
    for column in order:
        found = next((i for i in rows if whole[i][column]), None)
        if found is None:
            continue
        points.append(found)
        pivots.append(column)
        rows.remove(found)
        pivot = whole[found]
        for i in rows:
            factor = whole[i][column]
            if factor:
                left = [pivot[column] * a - factor * b for a, b in zip(whole[i], pivot, strict=True)]
                shrink = math.gcd(*left) or 1
                whole[i] = [a // shrink for a in left]
    return points, pivots[1:]


def _cut_off(x: np.ndarray, names: tuple[int, ...]) -> set[int]:
    """The sets, as bits, that hyperplanes cut off from points with these bit numbers, with none and with all of them."""
    everything = sum(1 << j for j in names)
    coordinates = affine_basis(x)[1]
    x, dimension = x[:, coordinates], len(coordinates)
    if len(x) == dimension + 1:
        # Affinely independent: any set.
        return {sum(part) for size in range(len(x) + 1) for part in itertools.combinations([1 << j for j in names], size)}
    if dimension == 1:
        ends = list(itertools.accumulate((1 << names[j] for j in np.argsort(x[:, 0])), initial=0))
        return {end for beginning in ends for end in (beginning, everything ^ beginning)}
    found, seen = {0, everything}, set()
    combinations = itertools.combinations(range(len(x)), dimension)
    while chunk := list(itertools.islice(combinations, COMBINATIONS_AT_ONCE)):
        for sides in _sides(x, np.array(chunk)):
            on = tuple(np.flatnonzero(sides == 0))
            if len(on) == len(x) or on in seen:
                continue
            seen.add(on)
            above, below = (sum(1 << names[j] for j in np.flatnonzero(sides == side)) for side in (1, -1))
            for part in _cut_off(x[list(on)], tuple(names[j] for j in on)):
                found |= {above | part, below | part}
    return found


def _sides(x: np.ndarray, spanning: np.ndarray) -> np.ndarray:
    """On which side of the hyperplane through each d points every point lies, +1, -1 or 0: (k, n); all 0 if they span none."""
    rows = x[spanning[:, 1:]] - x[spanning[:, :1]]
    rest = x[None] - x[spanning[:, 0], None]
    matrices = np.concatenate([np.repeat(rows[:, None], len(x), axis=1), rest[:, :, None]], axis=2)
    scale = np.linalg.norm(matrices, axis=3).prod(2)
    determinants = np.linalg.det(matrices)
    signs = np.where(np.abs(determinants) > DOUBT * scale, np.sign(determinants), 0).astype(int)
    whole = _whole(x)
    for k, j in np.argwhere(np.abs(determinants) <= DOUBT * scale):
        if j not in spanning[k]:
            first = whole[spanning[k, 0]]
            signs[k, j] = _sign([[a - b for a, b in zip(whole[i], first, strict=True)] for i in (*spanning[k, 1:], j)])
    return signs


def _whole(x: np.ndarray) -> list[list[int]]:
    """The same points in whole numbers, by a power of two."""
    ratios = [[float(value).as_integer_ratio() for value in row] for row in x]
    scale = max((bottom for row in ratios for _, bottom in row), default=1)
    return [[top * (scale // bottom) for top, bottom in row] for row in ratios]


def _sign(matrix: list[list[int]]) -> int:
    """Sign of a determinant of whole numbers, by elimination without fractions (Bareiss)."""
    sign, last = 1, 1
    for k in range(len(matrix) - 1):
        found = next((i for i in range(k, len(matrix)) if matrix[i][k]), None)
        if found is None:
            return 0
        if found != k:
            matrix[k], matrix[found] = matrix[found], matrix[k]
            sign = -sign
        for i in range(k + 1, len(matrix)):
            for j in range(k + 1, len(matrix)):
                matrix[i][j] = (matrix[i][j] * matrix[k][k] - matrix[i][k] * matrix[k][j]) // last
        last = matrix[k][k]
    return sign * ((matrix[-1][-1] > 0) - (matrix[-1][-1] < 0))
