"""A sum of powers with coefficients that are quadratic in one more number: values and derivatives in any arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Term:
    """``(c_0 + c_1 l + c_2 l^2) prod_i s_i^(e_i)``, for positive s and a level l.

    Attributes:
        powers: the integers e.
        coefficients: c_0, c_1 and c_2, exact.
    """

    powers: tuple[int, ...]
    coefficients: tuple[Fraction, Fraction, Fraction]


def value(terms: Sequence[Term], at: Sequence, number: type = float) -> object:
    """The sum at ``at = (s_1, ..., s_k, l)``.

    Args:
        terms: at least one.
        at: numbers of any kind: floats, intervals.
        number: makes such a number of a fraction.

    Returns:
        A number of that kind.
    """
    return sum(_in_level(term, at[-1], number)[0] * _monomial(term, at) for term in terms)


def derivatives(terms: Sequence[Term], at: Sequence, number: type = float) -> tuple[list, list[list]]:
    """Gradient and Hessian of the sum in ``(s_1, ..., s_k, l)``, written out: no differences, no tape.

    Args:
        terms: at least one.
        at: numbers of any kind, as in :func:`value`.
        number: as there.

    Returns:
        The gradient, a list of k + 1, and the Hessian, a list of k + 1 such lists.
    """
    scales, count = at[:-1], len(at)
    gradient = [number(Fraction(0))] * count
    hessian = [[number(Fraction(0))] * count for _ in range(count)]
    for term in terms:
        (c, slope, bend), rest = _in_level(term, at[-1], number), _monomial(term, at)
        for i, e in enumerate(term.powers):
            if not e:
                continue
            part = e * rest / scales[i]
            gradient[i] += c * part
            mixed = slope * part
            hessian[i][-1] += mixed
            hessian[-1][i] += mixed
            for j, f in enumerate(term.powers):
                power = f - (i == j)
                if power:
                    hessian[i][j] += power * c * part / scales[j]
        gradient[-1] += slope * rest
        hessian[-1][-1] += bend * rest
    return gradient, hessian


def _in_level(term: Term, level: object, number: type) -> tuple:
    """The coefficient, its first and its second derivative."""
    c0, c1, c2 = map(number, term.coefficients)
    return c0 + level * (c1 + level * c2), c1 + 2 * c2 * level, 2 * c2


def _monomial(term: Term, at: Sequence) -> object:
    product = 1
    for scale, e in zip(at[:-1], term.powers, strict=True):
        if e:
            product = product * scale**e
    return product
