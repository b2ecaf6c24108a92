"""Which points a ReLU unit can be awake on: every way that a hyperplane cuts a set of points."""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg

EPS = np.finfo(float).eps
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
    same question with one dimension less. On a line the sets are the beginnings and the ends.

    A point is on the hyperplane through others if the rounding of their coordinates can have moved it off: of points on a line,
    in a grid, or in a plane of their own, wherever these lie, none is parted from the others by a rounding.

    Args:
        x: (n, d) in float64, distinct points.

    Returns:
        The sets.
    """
    # Of moderate size, since determinants are products.
    x = np.ldexp(x, -np.frexp(np.abs(x).max(initial=0))[1])
    return Patterns(len(x), tuple(sorted(_cut_off(x, tuple(range(len(x)))) - {0})), complete=True)


def some_patterns(number: int, active: Iterable[np.ndarray]) -> Patterns:
    """These sets, (n,) of booleans each; the empty one does not count, and no set counts twice."""
    bits = {int.from_bytes(np.packbits(one, bitorder="little").tobytes(), "little") for one in active}
    return Patterns(number, tuple(sorted(bits - {0})), complete=False)


def spanning(rows: np.ndarray, rank: int) -> np.ndarray:
    """Indices, increasing, of as many rows as the rank says, chosen to be as independent as can be."""
    return np.sort(scipy.linalg.qr(rows.T, mode="r", pivoting=True)[1][:rank])


def telling(x: np.ndarray) -> np.ndarray:
    """Coordinates, as few as can be, of which the others are affine functions at these points, up to their rounding.

    Args:
        x: (n, d) in float64, n >= 1.

    Returns:
        Their indices, increasing.
    """
    centred = x - x.mean(0)
    rank = (np.linalg.svd(centred, compute_uv=False) > _rounding(x) * np.sqrt(len(x))).sum()
    told = spanning(centred.T, rank)
    # Points that only a rounding tells apart are told apart all the same.
    return told if len(np.unique(x[:, told], axis=0)) == len(x) else np.arange(x.shape[1])


def _rounding(x: np.ndarray) -> float:
    """How far rounding, of the coordinates and of sums over them, can move a point."""
    return 8 * EPS * x.shape[1] * np.abs(x).max(initial=0)


def _cut_off(x: np.ndarray, names: tuple[int, ...]) -> set[int]:
    """The sets, as bits, that hyperplanes cut off from points with these bit numbers, with none and with all of them."""
    everything = sum(1 << j for j in names)
    coordinates = telling(x)
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
    lengths = np.linalg.norm(matrices, axis=3)
    # What moving one row by so much can change in a determinant: the product of the other lengths.
    others = [np.delete(lengths, i, axis=2).prod(2) for i in range(lengths.shape[2])]
    determinants = np.linalg.det(matrices)
    return np.where(np.abs(determinants) > _rounding(x) * sum(others), np.sign(determinants), 0).astype(int)
