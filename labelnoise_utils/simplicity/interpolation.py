"""Functions built directly, with no training: the interpolant with the least regularizer, as a linear programme."""

from dataclasses import dataclass

import numpy as np
import torch

from ..arguments import as_number, as_tensor
from ..models import TwoLayerReLU
from ..models.two_layer_relu import Skip, check_skip
from .labelled_points import distinct_points, straightened
from .programme import EPS, Kinks, gap_of, least_bending
from .surfaces import NetworkInterpolant, Unit, simplest_network

# A network is a sum of large terms, each of them rounded: one that misses by more than this, of the labels' range, is refused.
FIT = 1e-6


@dataclass(frozen=True, eq=False)
class Interpolant:
    """A continuous function of straight pieces, and the network that realises it at the least reg.

    ``f(t) = intercept + slope t + sum_k jumps[k] relu(t - kinks[k])``, for tensors or arrays t of any shape. It is read off
    between ``knots``, not summed up: where steep pieces follow each other that sum is the difference of large numbers.

    Attributes:
        kinks: (k,) float64, increasing: where the slope changes.
        jumps: (k,) float64, none of them 0: by how much it does.
        slope: of f left of all kinks.
        intercept: of that line at 0.
        knots: (m,) float64, increasing: the distinct data points and the kinks.
        values: (m,) of f there.
        reg: the implicit regularizer of ``model`` on the data, to 1e-12 and to what rounding does to its ``a x + b``.
        lower_bound: what no network of this kind with the values of f on the data can undercut, from the dual of the
            programme, less what rounding can have added to it; ``reg - lower_bound`` says how far from the optimum f can be.
        model: a :class:`TwoLayerReLU` in float64, one unit per kink, that computes f.
        units: the same units, as those of a :class:`NetworkInterpolant`.
    """

    kinks: torch.Tensor
    jumps: torch.Tensor
    slope: float
    intercept: float
    knots: torch.Tensor
    values: torch.Tensor
    reg: float
    lower_bound: float
    model: TwoLayerReLU
    units: tuple[Unit, ...]

    def __call__(self, t: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Values f(t), of the shape of t, in float64."""
        t = as_tensor("t", t).to(torch.float64)
        if len(self.knots) == 1:
            return self.values.expand(t.shape).clone()
        piece = (torch.searchsorted(self.knots, t.detach(), right=True) - 1).clamp(0, len(self.knots) - 2)
        left, right = self.knots[piece], self.knots[piece + 1]
        part = (t - left) / (right - left)
        return (1 - part) * self.values[piece] + part * self.values[piece + 1]


def minimal_interpolant(
    x: torch.Tensor | np.ndarray,
    y: torch.Tensor | np.ndarray,
    *,
    clearance: float = 0.0,
    skip: Skip = True,
    exact: bool = True,
) -> Interpolant | NetworkInterpolant:
    r"""The exact fit with the least reg among all two-layer ReLU networks, of any width, on a line or in any dimension.

    A unit ``c relu(w . x + b)`` is awake on a set S of examples, where its output is v. It pays

    ``(1 / n) (sum_S relu(w . x_j + b)^2 + c^2 sum_S (1 + |x_j|^2))``, at its best scale ``(2 / n) |v| beta(S)``

    with ``beta(S)^2 = sum_S (1 + |x_j|^2)``. So the least reg at zero error is a convex programme: a vector v for each sign and
    each set S that a hyperplane cuts out of the data, from the cone ``w . x + b >= 0`` on S and ``<= 0`` elsewhere, such that
    the sum of all and of the skip unit is y. It is what Pilanci and Ergen (2020) found for weight decay, with other prices.

    *With x (n,)* a unit is a kink at k where the slope changes by J, and the price of a kink is

    ``w(k) = (2 / n) min_facing sqrt(P Q)``, ``P = sum (x_j - k)^2``, ``Q = sum (1 + x_j^2)``, over points where it is awake,

    so that ``reg = mean(1 + x^2) + sum_k w(k) |J_k|``, a weighted total variation of f': to face the other way changes f by a
    line, which is free. The interpolants are those f whose slopes between neighbouring points have the right differences,
    ``sum_k J_k hat_i(k) = d_i``, where hat_i is 1 at x_i, 0 at the other points, and linear between. For a finite set of kinks
    that is a linear programme. It starts with the points themselves; its dual is a function p, straight between the points, and
    a kink lowers reg if and only if ``|p(k)| > w(k)`` there. In each gap and facing the kink with the largest ``|p| / w`` has a
    closed form; it is added, and the programme solved again until no kink is worth it. So kinks are not confined to a grid.
    In the outermost gaps the optimum is not unique: there a unit is awake on a single point and costs the same wherever its
    kink is; it is put on the second, or last but one, point. However unevenly the points lie, f goes through them. It is exact,
    except where three or more points lie on a line up to the rounding of x and y as they were given: there f is that line, with
    ``|f(x_i) - y_i| <= 4 eps max(|y| + |f'| |x|)``. The network is a sum, and each of its terms is rounded: it is off f by some
    ``1e-16 sum_k |J_k| (|x| + |k|)``, which is below 1e-7 of the labels' range for gaps from 1e-5 to 100 around 0, and for
    gaps from 0.01 to 10 around 1e6. Bring x nearer to 0 where it is not, or take points together that are too close.

    *With x (n, d)* the sets S are listed, also where points lie on lines, in planes or in grids: a point is on a hyperplane if
    the rounding of x can have moved it off. The cone programme is solved by Clarabel, over those sets that its dual asks for.
    Where a unit's values leave it free, it has the least slope. Points in general position are cut in
    ``2 sum_{k <= d} binom(n - 1, k)`` ways, 1 of them empty; where these are more than 20,000, ``exact=False`` searches for
    sets that are worth adding.

    A unit is not awake on its own kink (``relu'(0) = 0``): there its price jumps down, and the best kinks often lie on points.
    ``lower_bound`` certifies the result: the dual, in fractions where rounding could decide, over what each set allows.

    Args:
        x: (n,) or (n, d), the inputs, n >= 1, in any order. Points that are repeated with the same label are fitted once, and
            counted as often as they are there in reg.
        y: (n,), the labels.
        clearance: with x (n,), how far kinks have to stay away from the points, in units of the gap that they lie in; in
            [0, 0.5).
        skip: with x (n, d), whether the network has a linear and a constant unit, as for :class:`TwoLayerReLU`; ``"constant"``
            is the constant alone. With x (n,) it has both.
        exact: with x (n, d), whether all sets that hyperplanes cut off are listed.

    Returns:
        With x (n,) an :class:`Interpolant`, with x (n, d) a :class:`NetworkInterpolant`; both are callable and have ``reg``,
        ``lower_bound``, ``units`` and ``model``. A straight line if the labels lie on one, the constant for a single point.

    Raises:
        TypeError: if x or y is no tensor or array, or not of real numbers, or clearance is no number.
        ValueError: if shapes differ, there is no point, a value is NaN, infinite or beyond 1e100, one x has two labels, points
            are so close that a slope overflows, clearance is out of range, an option belongs to the other shape of x, or the
            sets of examples are too many.
        ImportError: if Clarabel is needed and not installed.
        ArithmeticError: if the network misses the data by more than 1e-6 (x (n, d): 1e-7) of the range of the labels, without
            a constant unit of the largest (and some roundings of it), with the miss in the message; or the solver gives up.

    Source: section 1.2, last paragraph ("directly construct functions that interpolate the training set"), and its question
    what is simple in higher dimensions; Theorem 2; chapters "Build the simplest interpolant" and "Find the simplest function in
    any dimension".

    >>> x = torch.tensor([0.0, 1.0, 2.0, 3.0])
    >>> f = minimal_interpolant(x, torch.tensor([0.0, 0.0, 1.0, 2.0]))
    >>> f.kinks
    tensor([1.], dtype=torch.float64)
    >>> round(f.reg, 3), f.model(torch.tensor([0.5, 1.5], dtype=torch.float64)).tolist()
    (5.0, [0.0, 0.5])
    >>> corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> f = minimal_interpolant(corners, torch.tensor([1.0, -1.0, -1.0, 1.0]), skip="constant")
    >>> round(f.reg, 3), len(f.units), f.certified
    (4.464, 4, True)
    """
    clearance = as_number("clearance", clearance)
    if not 0 <= clearance < 0.5:
        raise ValueError(f"clearance must be in [0, 0.5), got {clearance:g}")
    check_skip(skip)
    if as_tensor("x", x).dim() == 2:
        if clearance:
            raise ValueError(f"clearance is for x of shape (n,), got x of shape {tuple(x.shape)}")
        x, y, place, _ = distinct_points(x, y)
        return simplest_network(x, y, place, skip, exact)
    if skip is not True or not exact:
        raise ValueError(f"skip and exact are for x of shape (n, d), got x of shape {tuple(x.shape)}; x[:, None] has it")
    x, y, place, eps = distinct_points(x, y)
    counts = np.bincount(place)
    y, slopes = straightened(x, y, eps)
    free = (counts * (1 + x**2)).sum() / counts.sum()
    kinks, jumps, cost = Kinks.at(x, counts, np.empty(0)), np.empty(0), 0.0
    if np.diff(slopes).any():
        kinks, jumps, cost = least_bending(x, counts, slopes, clearance)
    return _realised(x, y, slopes, kinks, jumps, free, cost, place)


def minimum_convexity_changes(x: torch.Tensor | np.ndarray, y: torch.Tensor | np.ndarray) -> int:
    """The fewest changes of convexity that a continuous function through these points can have.

    That is the number of sign changes in the differences of the slopes from point to point; differences that can be due to
    the rounding of x and y are taken to be 0.

    Args:
        x: (n,), in any order; repeated points as in :func:`minimal_interpolant`.
        y: (n,).

    Returns:
        The number, 0 for fewer than four points.

    Raises:
        TypeError: as in :func:`minimal_interpolant`, for x and y.
        ValueError: as there.

    Source: Theorem 2 ("the minimum number of changes of convexity necessary to fit the data").

    >>> minimum_convexity_changes(torch.arange(4.0), torch.tensor([0.0, 1.0, 0.0, 1.0]))
    1
    """
    if as_tensor("x", x).dim() != 1:
        raise ValueError(f"x must have shape (n,), got {tuple(x.shape)}")
    x, y, _, eps = distinct_points(x, y)
    signs = np.sign(np.diff(straightened(x, y, eps)[1]))
    return int(np.count_nonzero(np.diff(signs[signs != 0])))


def _realised(
    x: np.ndarray,
    y: np.ndarray,
    slopes: np.ndarray,
    kinks: Kinks,
    jumps: np.ndarray,
    free: float,
    cost: float,
    place: np.ndarray,
) -> Interpolant:
    """The function through the points with these kinks, and its network.

    Every number is worked out within one gap, from its chord: a sum over all kinks would lose what steep gaps cancel.

    Returns:
        The interpolant.

    Raises:
        ArithmeticError: if the network misses the points.
    """
    knots, values, slope, line = x, y, 0.0, (0.0, y[0])
    if len(x) > 1:
        between = ~np.isin(kinks.position, x)
        position, bend = kinks.position[between], jumps[between]
        gap = gap_of(x, position)
        width = np.diff(x)[gap]
        part = (position - x[gap]) / width
        # In its gap a kink pulls f off the chord, by -J times a hat.
        pull = np.minimum(part, part[:, None]) * (1 - np.maximum(part, part[:, None])) * (gap == gap[:, None])
        off_chord = y[gap] + slopes[gap] * (position - x[gap]) - width * (pull @ bend)
        order = np.argsort(np.concatenate([x, position]))
        knots, values = np.concatenate([x, position])[order], np.concatenate([y, off_chord])[order]
        starts = slopes - np.bincount(gap, bend * (1 - part), len(slopes))
        slope = starts[0]
        # Units left of a place face left, those right of it right: there the network is its skip unit alone.
        j = gap_of(x, np.append(x[:1], kinks.position[~kinks.right]))[-1]
        before = (gap == j) & ~kinks.right[between]
        tilt = starts[j] + bend[before].sum()
        line = tilt, y[j] - tilt * x[j] + (bend[before] * (x[j] - position[before])).sum()
    model = _network(kinks, jumps, line)
    with torch.no_grad():
        miss = np.abs(model(torch.from_numpy(x)).numpy() - y).max()
    if miss > FIT * np.ptp(y) + 4 * EPS * np.abs(y).max():
        raise ArithmeticError(
            f"the network misses labels by up to {miss:.2g}, and their range is {np.ptp(y):.2g}: slopes change by up to "
            f"{np.abs(jumps).max(initial=0.0):.2g} at inputs up to {np.abs(x).max():.2g}, which float64 cannot resolve"
        )
    return Interpolant(
        kinks=torch.from_numpy(kinks.position),
        jumps=torch.from_numpy(jumps),
        slope=float(slope),
        intercept=float(y[0] - slope * x[0]),
        knots=torch.from_numpy(knots),
        values=torch.from_numpy(values),
        reg=float(free + (kinks.price * np.abs(jumps)).sum()),
        # The sum that is free is rounded, too; on a line it is all that there is.
        lower_bound=float(free * (1 - 4 * EPS * len(x)) + cost) if len(jumps) else float(free),
        model=model,
        units=tuple(
            Unit(torch.tensor([face]), -face * kink, jump, torch.from_numpy(face * (x - kink) > 0)[place])
            for face, kink, jump in zip(
                np.where(kinks.right, 1.0, -1.0).tolist(), kinks.position.tolist(), jumps.tolist(), strict=True
            )
        ),
    )


def _network(kinks: Kinks, jumps: np.ndarray, line: tuple[float, float]) -> TwoLayerReLU:
    """One unit per kink, at its best scale, and the skip unit with this slope and intercept."""
    model = TwoLayerReLU(max(1, len(jumps)))
    a = np.where(kinks.right, 1, -1) * np.sqrt(np.abs(jumps) * kinks.scale)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        if len(jumps):
            # b is the rounded -a k, so that a x + b is 0 to the last bit for a point x = k.
            for parameter, value in ((model.a, a), (model.b, -a * kinks.position), (model.c, jumps / np.abs(a))):
                parameter.copy_(torch.from_numpy(value))
        model.a0.fill_(line[0])
        model.b0.fill_(line[1])
    return model
