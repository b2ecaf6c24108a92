"""Proof by computer that a hand-over is a strict local minimum of reg: interval arithmetic, every inequality named."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ...arguments import as_count, as_positive
from .chart import HandOver
from .terms import derivatives


def _squares(count: int) -> list[str]:
    """Names of the coordinates but the level."""
    return ["c_A^2", "c_B^2", "a^2", *(f"a_{k}^2" for k in range(1, count - 2))]


@dataclass(frozen=True)
class Inequality:
    """A quantity that is positive, at every point of the box.

    Attributes:
        part: of the proof: "one stationary point", "strict minimum", "chart", "pattern", "corner", "kinks" or "bends".
        claim: in words.
        at_least: the lower end of the interval that the quantity lies in, rounded down to double precision.
    """

    part: str
    claim: str
    at_least: float


@dataclass(frozen=True)
class Certificate:
    """What :func:`certify` found.

    Attributes:
        data: what it is about.
        point: midpoint of the box, in doubles: squares of ``c_A, c_B, a`` (and of ``a_1, ...``), and the level.
        radius: of the box, in each coordinate.
        digits: of the arithmetic.
        inequalities: all that the proof needs.
        changes: of convexity, of the function at the stationary point.
        needed: the fewest that the data admit.
    """

    data: HandOver
    point: tuple[float, ...]
    radius: float
    digits: int
    inequalities: tuple[Inequality, ...]
    changes: int
    needed: int

    @property
    def holds(self) -> bool:
        """Whether all inequalities are strict."""
        return all(inequality.at_least > 0 for inequality in self.inequalities)


def certify(data: HandOver, *, radius: float = 1e-12, digits: int = 40) -> Certificate:
    r"""Try to prove that reg has a strict local minimum on the chart of a :class:`HandOver`, with more bends than needed.

    The box is all points within ``radius`` of m, which is ``data.minimum()`` refined in ``digits`` digits. With g and H the
    gradient and the Hessian of n reg on the chart, H as an interval over the box, and Y any matrix, here the inverse of H at
    m in doubles, Krawczyk's operator is

    ``K = m - Y g(m) + (1 - Y H)(box - m)``.

    If K lies inside the box, g has exactly one zero in it. If the leading minors of H are positive over the box, H is positive
    definite there (Sylvester), so the zero is a strict local minimum on the chart, and since the chart is a smooth map onto all
    networks with zero error in the pattern, of reg on the zero-error manifold. The rest is that the box is in the pattern
    (each pre-activation at each data point has its sign), that both units switch strictly within the gap, and that the function
    has more changes of convexity than the data need. With units in front the pre-activations of all but the first are 0 on the
    plateau, and the proof is that reg rises to first order into the pattern, and jumps up out of it.

    Args:
        data: the data and the pattern.
        radius: of the box, > 0.
        digits: of the interval arithmetic, 20 to 1000.

    Returns:
        The inequalities, each with a lower bound; :attr:`Certificate.holds` says whether all of them are strict. If one is
        not, nothing is proved, not the contrary either.

    Raises:
        ImportError: if mpmath is missing.
        TypeError: if radius or digits is no number.
        ValueError: if one of them is out of range.
        ArithmeticError: if reg has no minimum on the levels of the pattern.

    Source: R. Krawczyk, Newton-Algorithmen zur Bestimmung von Nullstellen mit Fehlerschranken, Computing 4 (1969); ours for the
    rest.

    >>> from .chart import TWO
    >>> proof = certify(TWO)
    >>> proof.holds, proof.changes, proof.needed
    (True, 2, 0)
    """
    radius, digits = as_positive("radius", radius), as_count("digits", digits, 20, 1000)
    try:
        from mpmath.ctx_iv import MPIntervalContext
    except ImportError as error:
        raise ImportError("the certificate computes with intervals of mpmath: pip install mpmath") from error
    iv = MPIntervalContext()
    iv.dps = digits

    def number(fraction: Fraction) -> object:
        return iv.mpf(fraction.numerator) / iv.mpf(fraction.denominator)

    terms, start = data.terms(), data.minimum()
    hessian = np.array(derivatives(terms, start)[1], dtype=float)
    inverse = [[iv.mpf(float(v)) for v in row] for row in np.linalg.inv(hessian)]
    middle = [iv.mpf(float(v)) for v in start]
    for _ in range(digits // 10):
        gradient, _ = derivatives(terms, middle, number)
        middle = [iv.mpf((m - _dot(row, gradient)).mid) for m, row in zip(middle, inverse, strict=True)]
    away = iv.mpf([-radius, radius])
    box = [m + away for m in middle]
    gradient, _ = derivatives(terms, middle, number)
    _, hessian = derivatives(terms, box, number)
    rows = [
        *_krawczyk(gradient, hessian, inverse, radius, away, iv),
        *_sylvester(hessian),
        *((f"chart: {name} is positive", box[i]) for i, name in enumerate(_squares(len(box) - 1))),
        *((f"pattern: {claim}", v) for claim, v in _pattern(data, box[-1], number)),
        *((f"corner: {claim}", v) for claim, v in _corner(data, box, number)),
        *((f"kinks: {claim}", v) for claim, v in _kinks(data, box[-1], number)),
    ]
    level = Fraction(float(middle[-1].mid))
    changes, needed = data.changes(level), data.needed()
    rows.append(("bends: changes of convexity beyond those needed", iv.mpf(changes - needed)))
    named = tuple(Inequality(*name.split(": ", 1), _below(v)) for name, v in rows)
    return Certificate(data, tuple(float(m.mid) for m in middle), radius, digits, named, changes, needed)


def _krawczyk(gradient: list, hessian: list, inverse: list, radius: float, away: object, iv: object) -> Iterator:
    """How far inside the box its image lies, as the radius less the image's largest distance from the midpoint."""
    count = len(gradient)
    columns = [[hessian[j][i] for j in range(count)] for i in range(count)]
    for i, row in enumerate(inverse):
        image = -_dot(row, gradient)
        for j, column in enumerate(columns):
            image += ((1 if i == j else 0) - _dot(row, column)) * away
        name = [*_squares(count - 1), "level"][i]
        yield f"one stationary point: image inside the box, {name}", iv.mpf(radius) - abs(image)


def _sylvester(hessian: list) -> Iterator:
    for k in range(1, len(hessian) + 1):
        yield f"strict minimum: leading minor {k} of the Hessian", _determinant([row[:k] for row in hessian[:k]])


def _pattern(data: HandOver, level: object, number: type) -> Iterator:
    """Signs of all pre-activations at all data points, times c or over the scale: these depend on the level alone."""
    split, last = data.left + 2, data.left + 4
    signs = {name: 1 if number(data.y[i]).mid > -level.mid else -1 for name, i in (("B", 0), ("A", split))}
    for i, x in enumerate(data.x):
        first = x - data.ends[0]
        yield f"first unit {'on' if i >= data.left else 'off'} at point {i + 1}", number(first if i >= data.left else -first)
        if data.right:
            stop = data.ends[1] - x
            yield f"second unit {'on' if i < last else 'off'} at point {i + 1}", number(stop if i < last else -stop)
        held = max(x, data.ends[0]) if not data.right else min(max(x, data.ends[0]), data.ends[1])
        for name, on in (("B", i < split), ("A", i >= split)):
            sum_in = signs[name] * (number(data.line(name, held)) + level)
            yield f"unit {name} {'on' if on else 'off'} at point {i + 1}", sum_in if on else -sum_in


def _corner(data: HandOver, box: list, number: type) -> Iterator:
    """How steeply n reg rises when a unit in front moves its kink away from the plateau's end; the others' are held."""
    products = [*box[3:-1], box[2]]
    (b, a), points = data.slopes, data.x[data.left :]
    lever = sum(s**2 * (x - data.ends[0]) for x, s in zip(points, (b, b, a, a), strict=True)) if data.front else 0
    for k in range(data.front):
        yield f"slope of reg when unit {k + 1} starts earlier", 2 * number(lever) * products[k] / products[k + 1]


def _kinks(data: HandOver, level: object, number: type) -> Iterator:
    left, right = (number(data.x[data.left + k]) for k in (1, 2))
    places = []
    for name, i, slope in (("B off", data.left, data.slopes[0]), ("A on", data.left + 2, data.slopes[1])):
        place = number(data.x[i]) - (number(data.y[i]) + level) / number(slope)
        places.append(place)
        yield f"{name} after the last point of line B", place - left
        yield f"{name} before the first point of line A", right - place
    off, on = places
    first = "B off before A on" if off.mid < on.mid else "A on before B off"
    yield first, on - off if off.mid < on.mid else off - on


def _dot(row: list, column: list) -> object:
    return sum(a * b for a, b in zip(row, column, strict=True))


def _determinant(matrix: list) -> object:
    """By its first row, without a division."""
    if len(matrix) == 1:
        return matrix[0][0]
    minors = ([row[:j] + row[j + 1 :] for row in matrix[1:]] for j in range(len(matrix)))
    return sum((-1) ** j * matrix[0][j] * _determinant(minor) for j, minor in enumerate(minors) if matrix[0][j] != 0)


def _below(interval: object) -> float:
    """A double that is no larger than the interval's lower end."""
    return float(np.nextafter(float(interval.a), -np.inf))
