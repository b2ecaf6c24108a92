"""Functions built directly, with no training: the interpolant with the least regularizer, as a linear programme."""

from dataclasses import dataclass

import numpy as np
import scipy.optimize
import torch

from ..arguments import as_number
from ..models import TwoLayerReLU

# A kink enters the programme if it is worth more than it costs by this factor; the programme is solved to a tenth of it.
TOLERANCE = 1e-9
ROUNDS = 60
# Amounts below this, relative to the largest, are what the solver's tolerance leaves.
NEGLIGIBLE = 1e-10
LARGEST = 1e100


@dataclass(frozen=True, eq=False)
class Interpolant:
    """A continuous function of straight pieces, and the network that realises it at the least reg.

    ``f(t) = intercept + slope t + sum_k jumps[k] relu(t - kinks[k])``, for tensors t of any shape.

    Attributes:
        kinks: (k,) float64, increasing: where the slope changes.
        jumps: (k,) float64, none of them 0: by how much it does.
        slope: of f left of all kinks.
        intercept: of that line at 0.
        reg: the implicit regularizer of ``model`` on the data.
        lower_bound: what no network of this kind that fits the data can undercut, from the dual of the programme;
            ``reg - lower_bound`` says how far from the optimum f can be.
        model: a :class:`TwoLayerReLU` in float64, one unit per kink, that computes f.
    """

    kinks: torch.Tensor
    jumps: torch.Tensor
    slope: float
    intercept: float
    reg: float
    lower_bound: float
    model: TwoLayerReLU

    def __call__(self, t: torch.Tensor) -> torch.Tensor:
        """Values f(t), of the shape of t, in float64."""
        t = t.to(torch.float64)
        return self.intercept + self.slope * t + torch.relu(t[..., None] - self.kinks) @ self.jumps


def minimal_interpolant(x: torch.Tensor, y: torch.Tensor, *, clearance: float = 0.0) -> Interpolant:
    r"""The exact fit with the least reg among all two-layer ReLU networks with skip unit, of any width.

    A unit ``c relu(a (t - k))`` bends f at k: the slope changes by ``J = c |a|``. It pays ``(a^2 P + c^2 Q) / n`` of reg, with
    ``P = sum (x_j - k)^2`` and ``Q = sum (1 + x_j^2)`` over the points where it is active (equation 16). At the best scale,
    ``a^2 P = c^2 Q``, that is ``2 |J| sqrt(P Q) / n``; and to face the other way changes f by a line, which is free, so the
    cheaper facing counts. The least reg of a function with kinks k is therefore

    ``reg = mean(1 + x^2) + sum_k w(k) |J_k|``, ``w(k) = (2 / n) min_facing sqrt(P Q)``:

    a weighted total variation of f'. The interpolants are those f whose slopes between neighbouring points have the right
    differences, ``sum_k J_k hat_i(k) = d_i``, where hat_i is 1 at x_i, 0 at the other points, and linear between. For a finite
    set of kinks that is a linear programme. It starts with the points themselves; its dual is a function p, straight between
    the points, and a kink lowers reg if and only if ``|p(k)| > w(k)`` there. In each gap and facing the kink with the largest
    ``|p| / w`` has a closed form; it is added, and the programme solved again until no kink is worth it. So kinks are not
    confined to a grid, and ``lower_bound`` certifies the result.

    A unit is not active at its own kink (``relu'(0) = 0``): at a point w jumps, and has the lower of its two one-sided values
    there. The best kinks often lie on points.
    Where the optimum is not unique, one with few kinks is returned. In the outermost gaps that is always so: there a unit is
    active at a single point and costs the same wherever its kink is; it is put on the second, or last but one, point.

    Args:
        x: (n,), the inputs, n >= 1, in any order. Points that are repeated with the same label are fitted once, and counted
            as often as they are there in reg.
        y: (n,), the labels.
        clearance: how far kinks have to stay away from the points, in units of the gap that they lie in, in [0, 0.5).

    Returns:
        The interpolant; a straight line if the labels lie on one, and the constant for a single point.

    Raises:
        TypeError: if x or y is no tensor, or not of real numbers, or clearance is no number.
        ValueError: if shapes differ, there is no point, a value is NaN, infinite or beyond 1e100, one x has two labels, points
            are so close that a slope overflows, or clearance is out of range.
        ArithmeticError: if the solver gives up.

    Source: section 1.2, last paragraph ("directly construct functions that interpolate the training set"); Theorem 2.

    >>> x = torch.tensor([0.0, 1.0, 2.0, 3.0])
    >>> f = minimal_interpolant(x, torch.tensor([0.0, 0.0, 1.0, 2.0]))
    >>> f.kinks
    tensor([1.], dtype=torch.float64)
    >>> round(f.reg, 3), f.model(torch.tensor([0.5, 1.5], dtype=torch.float64)).tolist()
    (5.0, [0.0, 0.5])
    """
    clearance = as_number("clearance", clearance)
    if not 0 <= clearance < 0.5:
        raise ValueError(f"clearance must be in [0, 0.5), got {clearance:g}")
    x, y, counts, eps = _points(x, y)
    free = (counts * (1 + x**2)).sum() / counts.sum()
    bends = _bends(x, y, eps)
    if not bends.any():
        return _realise(x, y, _Kinks.at(x, counts, np.empty(0)), np.empty(0), free, free)
    low, high = x[:-1] + clearance * np.diff(x), x[1:] - clearance * np.diff(x)
    candidates = _Kinks.at(x, counts, x[1:-1] if clearance == 0 else np.concatenate([low, high]))
    # Rows and columns are divided by the price of a kink on the points, so that data of any scale give the same programme.
    price = _Kinks.at(x, counts, x[1:-1]).price
    target = bends * price
    size = np.abs(target).max()
    for _ in range(ROUNDS):
        columns = price[:, None] * _hats(x, candidates.position) / candidates.price
        amounts, dual = _solve(columns, target / size)
        position, worth = _most_wanted(x, counts, np.concatenate([[0], dual * price, [0]]))
        gap = np.searchsorted(x, position) - 1
        allowed = (position >= low[gap]) & (position <= high[gap])
        wanted = np.setdiff1d(position[allowed & (worth > 1 + TOLERANCE)], candidates.position)
        if not len(wanted):
            break
        candidates = candidates.joined(_Kinks.at(x, counts, wanted))
    # Divided by the largest worth of any kink, the dual variables satisfy every constraint.
    lower_bound = free + dual @ target / np.abs(columns.T @ dual).max(initial=worth[allowed].max(initial=1.0))
    kinks, jumps = _gather(x, counts, candidates, columns, amounts, target / size)
    return _realise(x, y, kinks, size * jumps, free, lower_bound)


def minimum_convexity_changes(x: torch.Tensor, y: torch.Tensor) -> int:
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
    x, y, _, eps = _points(x, y)
    signs = np.sign(_bends(x, y, eps))
    return int(np.count_nonzero(np.diff(signs[signs != 0])))


@dataclass(frozen=True, eq=False)
class _Kinks:
    """Places for a kink, each with the facing that makes it cheap. All arrays (k,)."""

    position: np.ndarray
    right: np.ndarray
    price: np.ndarray
    scale: np.ndarray

    @staticmethod
    def at(x: np.ndarray, counts: np.ndarray, position: np.ndarray) -> "_Kinks":
        """Price w, per unit of the jump, and the scale a^2 / |J| = sqrt(Q / P) of a unit at each position."""
        sides, span = [], x[-1] - x[0]
        for active in (x > position[:, None], x < position[:, None]):
            weight = counts * active
            # Each factor for itself and in its own units: P Q can be out of range where w is not.
            distance = span * np.sqrt((weight * ((x - position[:, None]) / span) ** 2).sum(1))
            height = np.sqrt((weight * (1 + x**2)).sum(1))
            sides.append((2 / counts.sum() * distance * height, height / distance))
        (to_right, scale_right), (to_left, scale_left) = sides
        right = to_right <= to_left
        return _Kinks(position, right, np.where(right, to_right, to_left), np.where(right, scale_right, scale_left))

    def joined(self, other: "_Kinks") -> "_Kinks":
        """Both, one after the other."""
        return _Kinks(*(np.concatenate([one, two]) for one, two in zip(vars(self).values(), vars(other).values(), strict=True)))


def _points(x: torch.Tensor, y: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Distinct points in order, (m,), with their labels and how often they are there.

    Returns:
        x, y, counts, and the relative rounding of x and y as they were given.

    Raises:
        TypeError: as in minimal_interpolant.
        ValueError: as there.
    """
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, torch.Tensor) or value.is_complex() or value.dtype == torch.bool:
            kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
            raise TypeError(f"{name} must be a tensor of real numbers, got {kind}")
    if x.dim() != 1 or x.shape != y.shape:
        raise ValueError(f"x and y must have the same shape (n,), got {tuple(x.shape)} and {tuple(y.shape)}")
    if not len(x):
        raise ValueError("x and y must hold at least one point, got none")
    eps = max(torch.finfo(v.dtype if v.is_floating_point() else torch.float64).eps for v in (x, y))
    x, y = (value.detach().cpu().to(torch.float64).numpy() for value in (x, y))
    for name, value in (("x", x), ("y", y)):
        wrong = np.flatnonzero(~(np.abs(value) < LARGEST))
        if len(wrong):
            raise ValueError(f"{name} must be finite and below {LARGEST:g} in size, got {value[wrong[0]]} at index {wrong[0]}")
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    points, first, counts = np.unique(x, return_index=True, return_counts=True)
    conflict = np.flatnonzero(np.repeat(y[first], counts) != y)
    if len(conflict):
        i = conflict[0]
        other = y[first][np.searchsorted(points, x[i])]
        raise ValueError(f"no function fits both labels {other} and {y[i]} at x = {x[i]}")
    return points, y[first], counts, eps


def _bends(x: np.ndarray, y: np.ndarray, eps: float) -> np.ndarray:
    """Differences of neighbouring slopes, (m - 2,), or 0 where rounding x and y can have made them."""
    gaps = np.diff(x)
    with np.errstate(over="ignore"):
        slopes = np.diff(y) / gaps
    steep = np.flatnonzero(~(np.abs(slopes) < LARGEST))
    if len(steep):
        i = steep[0]
        raise ValueError(f"the labels differ too much between x = {x[i]} and {x[i + 1]}: the slope there is {slopes[i]:g}")
    doubt = np.abs(y[1:]) + np.abs(y[:-1]) + np.abs(slopes) * (np.abs(x[1:]) + np.abs(x[:-1]))
    doubt *= eps / gaps
    bends = np.diff(slopes)
    return np.where(np.abs(bends) <= 2 * (doubt[1:] + doubt[:-1]), 0.0, bends)


def _hats(x: np.ndarray, position: np.ndarray) -> np.ndarray:
    """hat_i(k) for the inner points i and all positions k: (m - 2, k)."""
    gap = np.clip(np.searchsorted(x, position, side="right") - 1, 0, len(x) - 2)
    part = (position - x[gap]) / (x[gap + 1] - x[gap])
    hats = np.zeros((len(x), len(position)))
    hats[gap, np.arange(len(position))] = 1 - part
    hats[gap + 1, np.arange(len(position))] = part
    return hats[1:-1]


def _solve(columns: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Minimise sum |amount| under columns @ amount = target, by its two signs.

    Returns:
        The amounts (k,), and the dual variables (m - 2,).

    Raises:
        ArithmeticError: if the solver gives up.
    """
    result = scipy.optimize.linprog(
        np.ones(2 * columns.shape[1]),
        A_eq=np.hstack([columns, -columns]),
        b_eq=target,
        method="highs-ds",
        options={"primal_feasibility_tolerance": TOLERANCE / 10, "dual_feasibility_tolerance": TOLERANCE / 10},
    )
    if result.status != 0:
        raise ArithmeticError(f"the linear programme was not solved: {result.message}")
    plus, minus = np.split(result.x, 2)
    return plus - minus, result.eqlin.marginals


def _most_wanted(x: np.ndarray, counts: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""In each gap, for each facing, the kink with the largest \|p\| / w, where that is not at an end of the gap.

    With the active points of one facing, their number N, mean m and sum of squared deviations V, a kink at m + u costs
    ``C sqrt(N u^2 + V)``; over that, ``p(m) + p' u`` is largest at ``u = p' V / (p(m) N)``.

    Returns:
        Positions and ratios.
    """
    slope = np.diff(p) / np.diff(x)
    positions, ratios = [], []
    for facing in (slice(None, None, -1), slice(None)):
        # Cumulative moments from the far end, then those of the points beyond each gap.
        weight, point = counts[facing].astype(float), x[facing]
        number = np.cumsum(weight)
        mean = np.cumsum(weight * (point - point[0])) / number + point[0]
        # V from one point to the next, without the difference of two large numbers.
        before = np.concatenate([mean[:1], mean[:-1]])
        spread = np.cumsum(weight * (point - before) * (point - mean))
        height = np.cumsum(weight * (1 + point**2))
        number, mean, spread, height = (v[:-1][facing] for v in (number, mean, spread, height))
        at_mean = p[:-1] + slope * (mean - x[:-1])
        with np.errstate(divide="ignore", invalid="ignore"):
            u = slope * spread / (at_mean * number)
            position = mean + u
            cost = 2 / counts.sum() * np.sqrt(height) * np.sqrt(number * u**2 + spread)
            ratio = np.abs(at_mean + slope * u) / cost
        inside = (position > x[:-1]) & (position < x[1:])
        positions.append(position[inside])
        ratios.append(ratio[inside])
    return np.concatenate(positions), np.concatenate(ratios)


def _gather(
    x: np.ndarray, counts: np.ndarray, candidates: _Kinks, columns: np.ndarray, amounts: np.ndarray, target: np.ndarray
) -> tuple[_Kinks, np.ndarray]:
    """The kinks that the programme uses, those of one gap, facing and sign taken together.

    Their centre of mass has the same effect on all points, and since w is convex within a gap it costs no more.

    Returns:
        The kinks, in order, and their jumps.
    """
    used = np.flatnonzero(np.abs(amounts) > NEGLIGIBLE * np.abs(amounts).max())
    # The solver meets the constraints to its tolerance, a least-squares solution to rounding.
    amounts = np.linalg.lstsq(columns[:, used], target, rcond=None)[0]
    position, right = candidates.position[used], candidates.right[used]
    jumps = amounts / candidates.price[used]
    gap = np.where(right, np.searchsorted(x, position, side="right"), np.searchsorted(x, position, side="left"))
    groups = {}
    for k in np.argsort(position):
        groups.setdefault((gap[k], right[k], jumps[k] > 0), []).append(k)
    # A group of one keeps its position to the last bit: it may be a point.
    centre = [position[g[0]] if len(g) == 1 else np.average(position[g], weights=jumps[g]) for g in groups.values()]
    order = np.argsort(centre)
    return _Kinks.at(x, counts, np.array(centre)[order]), np.array([jumps[g].sum() for g in groups.values()])[order]


def _realise(x: np.ndarray, y: np.ndarray, kinks: _Kinks, jumps: np.ndarray, free: float, lower_bound: float) -> Interpolant:
    """The function through the points with these kinks, and its network, each unit at its best scale."""
    slope = 0.0
    if len(x) > 1:
        slope = (y[1] - y[0] - (jumps * np.maximum(x[1] - kinks.position, 0)).sum()) / (x[1] - x[0])
    model = TwoLayerReLU(max(1, len(jumps)))
    a = np.where(kinks.right, 1, -1) * np.sqrt(np.abs(jumps) * kinks.scale)
    turned = np.where(kinks.right, 0, jumps)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        if len(jumps):
            # b is the rounded -a k, so that a x + b is 0 to the last bit for a point x = k.
            for parameter, value in ((model.a, a), (model.b, -a * kinks.position), (model.c, jumps / np.abs(a))):
                parameter.copy_(torch.from_numpy(value))
        model.a0.fill_(slope + turned.sum())
        model.b0.fill_(y[0] - slope * x[0] - (turned * kinks.position).sum())
    return Interpolant(
        kinks=torch.from_numpy(kinks.position),
        jumps=torch.from_numpy(jumps),
        slope=float(slope),
        intercept=float(y[0] - slope * x[0]),
        reg=float(free + (kinks.price * np.abs(jumps)).sum()),
        lower_bound=float(lower_bound),
        model=model,
    )
