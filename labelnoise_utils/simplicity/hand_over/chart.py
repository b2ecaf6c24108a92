"""The hand-over: one unit switches off and another on in the same gap, and the level at which they do is free."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch
from scipy.optimize import brentq

from ...arguments import as_integer, as_number
from ...models import MLP
from .terms import Term, derivatives, value

Exact = Fraction | int | str


@dataclass(frozen=True)
class HandOver:
    r"""Data on a line, and all networks of one activation pattern that go through them.

    The data: ``left`` points on a plateau, two on a line (B), two on another (A) and, with ``right > 0``, points on a second
    plateau. The networks are ``MLP([1, 1, 2, 1], "relu")``; with a second plateau ``MLP([1, 1, 1, 2, 1], "relu")``. The unit
    before the last two is ``a |x' - o|``, where x' is x, held between the plateaus' ends, and o the end at which it is silent.
    Unit B is active on the left plateau and line B, unit A on line A and the right plateau, and the output bias is ``-l``:

    ``c_B z_B = L_B(x') + l``, ``c_A z_A = L_A(x') + l``,

    with L_A, L_B the two lines. So zero error within the pattern leaves free ``c_A``, ``c_B``, the scale a (two scales in the
    deeper network) and the *level* l. B goes off where line B is at ``-l``, A comes on where line A is.

    With ``front > 0`` further single units stand in front, all with their kink at the plateau's end: what enters the second and
    the later ones is 0 on the plateau, where ``relu'(0) = 0``. Such a network is at a corner of reg, which rises to first order
    when a kink moves away from the plateau's end, and jumps up when a unit comes on there.

    Args:
        x: (n,), increasing; fractions, integers or strings such as "3/10".
        y: (n,), the same.
        left: points on the left plateau, >= 1.
        right: points on the right one, >= 0.
        front: further single units, >= 0; 0 with a right plateau.

    Raises:
        TypeError: if a count is no integer.
        ValueError: if a value is no fraction, n is not ``left + 4 + right``, x does not increase, a plateau is not level or a
            line is, a line meets its plateau outside of the gap between them, or no level fits the pattern.

    Source: ours; section 1.2 of the paper has the claim that such networks refute.

    >>> HandOver(["-1", "-1/2", "1/10", "1/5", "2/5", "9/10"], ["0", "0", "-1/5", "-3/10", "-7/10", "-16/5"]).levels
    (Fraction(3, 10), Fraction(1, 2))
    """

    x: Sequence[Exact]
    y: Sequence[Exact]
    left: int = 2
    right: int = 0
    front: int = 0
    slopes: tuple[Fraction, Fraction] = field(init=False, repr=False)
    ends: tuple[Fraction, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("x", "y"):
            try:
                object.__setattr__(self, name, tuple(Fraction(v) for v in getattr(self, name)))
            except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
                raise ValueError(f"{name} must hold fractions, got {getattr(self, name)!r}") from error
        x, y = self.x, self.y
        left, right = as_integer("left", self.left, 1), as_integer("right", self.right, 0)
        if as_integer("front", self.front, 0) and right:
            raise ValueError("front must be 0 with a right plateau")
        if not len(x) == len(y) == left + 4 + right:
            raise ValueError(f"x and y must hold left + 4 + right = {left + 4 + right} numbers, got {len(x)} and {len(y)}")
        if any(b <= a for a, b in zip(x, x[1:], strict=False)):
            raise ValueError("x must be increasing")
        if len(set(y[:left])) > 1 or len(set(y[left + 4 :])) > 1:
            raise ValueError(f"the plateaus must be level, got y = {[str(v) for v in y]}")
        b, a = left, left + 2
        slopes = tuple((y[i + 1] - y[i]) / (x[i + 1] - x[i]) for i in (b, a))
        if not all(slopes):
            raise ValueError("neither of the two lines may be level")
        object.__setattr__(self, "slopes", slopes)
        ends = [x[b] - (y[b] - y[0]) / slopes[0]]
        if right:
            ends.append(x[a] - (y[a] - y[-1]) / slopes[1])
        object.__setattr__(self, "ends", tuple(ends))
        if not x[left - 1] < ends[0] < x[b] or (right and not x[a + 1] < ends[1] < x[a + 2]):
            raise ValueError(f"a line must meet its plateau in the gap between them, got {[str(v) for v in ends]}")
        if not self.levels[0] < self.levels[1]:
            raise ValueError(f"at no level do both units switch between x = {x[b + 1]} and {x[a]}")

    @property
    def sizes(self) -> list[int]:
        """Of the networks."""
        return [1] * (2 + self.front + (self.right > 0)) + [2, 1]

    @property
    def anchor(self) -> Fraction:
        """The place o at which the unit before the last two falls silent."""
        return self.ends[-1]

    def line(self, name: str, x: Exact) -> Fraction:
        """The value of line "A" or "B" at x.

        Args:
            name: of the line.
            x: where.

        Returns:
            A number of the kind of x.
        """
        i = self.left + 2 * (name == "A")
        return self.y[i] + self.slopes[name == "A"] * (x - self.x[i])

    @property
    def levels(self) -> tuple[Fraction, Fraction]:
        """The open interval of levels for which both units switch in the gap between the two lines."""
        gap = self.x[self.left + 1 : self.left + 3]
        first, second = (sorted(-self.line(name, x) for x in gap) for name in "BA")
        return max(first[0], second[0]), min(first[1], second[1])

    def kinks(self, level: Exact | float) -> tuple:
        """Where B switches off and A on.

        Args:
            level: l.

        Returns:
            The two places, of the kind of the level.
        """
        return tuple(self.x[i] - (self.y[i] + level) / s for i, s in zip((self.left, self.left + 2), self.slopes, strict=True))

    def data(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and labels, (n,) each, in float64."""
        return tuple(torch.tensor([float(v) for v in values], dtype=torch.float64) for values in (self.x, self.y))

    def changes(self, level: Exact | float) -> int:
        """Changes of convexity of the function at this level, exactly.

        Args:
            level: within :attr:`levels`.

        Returns:
            Their number.
        """
        off, on = self.kinks(level)
        b, a = self.slopes
        between = [] if off == on else [a + b if on < off else Fraction(0)]
        return _turns([0, b, *between, a, *([0] if self.right else [])])

    def needed(self) -> int:
        """The fewest changes of convexity of a function through the data, exactly."""
        x, y = self.x, self.y
        return _turns([(y[i + 1] - y[i]) / (x[i + 1] - x[i]) for i in range(len(x) - 1)])

    def terms(self) -> list[Term]:
        r"""N reg on the chart, without its constant n, in ``(c_A^2, c_B^2, a^2[, a_1^2, ...], l)``.

        With sums over the points of A and of B, the plateaus included, and the lines' slopes ``s_A`` and ``s_B``, the terms
        are, from the output weight c and from the input weight and bias of unit A,

        ``sum_A (y + l)^2 / c_A^2 + c_A^2 (n_A + a^2 sum_A (x' - o)^2)``,

        the same for B, and ``sum s^2 (1 + x^2) / a^2`` over the points of the two lines, from the first unit's weight and bias.

        In the deeper network a is the product of two weights, of which a_1 is the first unit's. Instead of the last term there
        are ``[sum s^2 + n_left s_B^2] / a^2 + a_1^2 / a^2 sum s^2 (x - end)^2`` from the second unit and
        ``sum s^2 (1 + x^2) / a_1^2`` from the first. With units in front a_k is the product of the first k weights; the first
        gives ``sum s^2 (1 + x^2) / a_1^2``, each later one ``sum s^2 / a_k^2 + a_(k-1)^2 / a_k^2 sum s^2 (x - end)^2``.

        Returns:
            The terms, with exact coefficients.
        """
        deep, terms, count = bool(self.right), [], 3 + self.front + (self.right > 0)
        held = [min(max(v, self.ends[0]), self.ends[1]) if deep else max(v, self.ends[0]) for v in self.x]
        split = self.left + 2

        def add(powers: tuple[int, ...], *coefficients: Fraction) -> None:
            powers += (0,) * (count - len(powers))
            terms.append(Term(powers, tuple(Fraction(c) for c in coefficients) + (Fraction(0),) * (3 - len(coefficients))))

        for place, part in enumerate((slice(split, None), slice(0, split))):
            ys = self.y[part]
            one = (0,) * place + (1,)
            add(one, len(ys))
            add(one + (0,) * (1 - place) + (1,), sum((v - self.anchor) ** 2 for v in held[part]))
            add(tuple(-e for e in one), sum(y * y for y in ys), 2 * sum(ys), len(ys))
        b, a = self.slopes
        squares = [(self.x[self.left + i], (b, b, a, a)[i] ** 2) for i in range(4)]
        weighted = sum(s * (1 + v * v) for v, s in squares)
        bent = sum(s * (v - self.ends[0]) ** 2 for v, s in squares)
        # The products of weights in order: a_1, a_2, ..., and a last.
        order = [*range(3, count), 2]
        add(_power(order[0], -1), weighted)
        for below, above in zip(order, order[1:], strict=False):
            add(_power(above, -1), sum(s for _, s in squares) + (self.left * b**2 if deep else 0))
            add(tuple(map(sum, zip(_power(above, -1, count), _power(below, 1, count), strict=True))), bent)
        return terms

    def reg(self, point: np.ndarray) -> float:
        """Reg of the network at a point of the chart.

        Args:
            point: squares of ``c_A, c_B, a`` (and of ``a_1, ...``) and the level.

        Returns:
            The mean over the data of the squared gradient.
        """
        return 1 + float(value(self.terms(), point)) / len(self.x)

    def best(self, level: float) -> np.ndarray:
        """The point with the least reg at this level, unique since reg is convex in the logarithms of the squares.

        Args:
            level: within :attr:`levels`.

        Returns:
            Squares of ``c_A, c_B, a`` (and of ``a_1, ...``) and the level.

        Raises:
            TypeError: if the level is no number.
            ValueError: if it is not within :attr:`levels`.
        """
        level = as_number("level", level)
        low, high = self.levels
        if not low < level < high:
            raise ValueError(f"level must lie between {float(low):g} and {float(high):g}, got {level:g}")
        terms = self.terms()
        logs = np.zeros(len(terms[0].powers))
        for _ in range(100):
            point = np.append(np.exp(logs), level)
            gradient, hessian = (np.array(d, dtype=float) for d in derivatives(terms, point))
            scales = point[:-1]
            slope = gradient[:-1] * scales
            curved = hessian[:-1, :-1] * np.outer(scales, scales) + np.diag(slope)
            step = np.linalg.solve(curved, slope)
            logs -= step / max(1.0, np.abs(step).max())
            if np.abs(step).max() < 1e-15:
                break
        return np.append(np.exp(logs), level)

    def slope(self, level: float) -> float:
        """Derivative of the least reg at a level by the level.

        Args:
            level: within :attr:`levels`.

        Returns:
            The derivative; by the envelope theorem the partial one at :meth:`best`.

        Raises:
            TypeError: as in :meth:`best`.
            ValueError: as there.
        """
        return float(derivatives(self.terms(), self.best(level))[0][-1]) / len(self.x)

    def minimum(self) -> np.ndarray:
        """The point of the chart where reg has no slope; its level is where :meth:`slope` passes from minus to plus.

        Returns:
            As :meth:`best`.

        Raises:
            ArithmeticError: if the slope has the same sign at both ends of :attr:`levels`.
        """
        low, high = map(float, self.levels)
        margin = 1e-9 * (high - low)
        low, high = low + margin, high - margin
        if not self.slope(low) < 0 < self.slope(high):
            raise ArithmeticError("reg has no minimum on these levels: its slope has no change from minus to plus")
        return self.best(brentq(self.slope, low, high, xtol=1e-15, rtol=1e-14))

    def network(self, point: np.ndarray | float) -> MLP:
        """The network at a point of the chart.

        Args:
            point: as :meth:`best` returns it; or a level, for the best point there.

        Returns:
            A new float64 model; of its last two units the first is A.

        Raises:
            TypeError: if a level is no number.
            ValueError: if it is not within :attr:`levels`.
        """
        *squares, level = self.best(point) if np.ndim(point) == 0 else np.asarray(point, dtype=float)
        end, anchor, deep = float(self.ends[0]), float(self.anchor), bool(self.right)
        a, b = (float(self.line(name, self.anchor)) + level for name in "AB")
        c = np.sqrt(squares[:2]) * np.sign([float(self.y[self.left + 2]) + level, float(self.y[0]) + level])
        scale = squares[2] ** 0.5
        last = np.array([float(s) for s in self.slopes[::-1]]) / (c * scale) * (-1 if deep else 1)
        products = [v**0.5 for v in squares[3:]] + [scale]
        first = [products[0], -products[0] * end]
        for below, above in zip(products, products[1:], strict=False):
            first += [-above / below, above * (anchor - end)] if deep else [above / below, 0.0]
        theta = torch.tensor([*first, *last, *(np.array([a, b]) / c), *c, -level], dtype=torch.float64)
        model = MLP(self.sizes, "relu")
        torch.nn.utils.vector_to_parameters(theta, model.parameters())
        return model


def _power(place: int, e: int, count: int = 0) -> tuple[int, ...]:
    powers = (0,) * place + (e,)
    return powers + (0,) * (count - len(powers))


def _turns(slopes: Sequence[Fraction]) -> int:
    """How often a sequence of slopes turns round."""
    bends = [b > a for a, b in zip(slopes, slopes[1:], strict=False) if a != b]
    return sum(a != b for a, b in zip(bends, bends[1:], strict=False))


ONE = HandOver(("-1", "-1/2", "3/10", "2/5", "3/5", "1"), ("0", "0", "-3/5", "-4/5", "-8/5", "-16/5"))
TWO = HandOver(("-1", "-1/2", "1/10", "1/5", "2/5", "9/10"), ("0", "0", "-1/5", "-3/10", "-7/10", "-16/5"))
DEEP = HandOver(
    ("-3/2", "-1", "-1/5", "1/5", "3/10", "9/10", "13/10", "8/5", "2"),
    ("-73/40", "-29/20", "-1/4", "-1/10", "-3/40", "0", "0", "0", "0"),
    left=1,
    right=4,
)
