"""The linear programme behind the interpolant of least reg: what a kink costs, which kinks are used, what none can undercut."""

from dataclasses import dataclass

import numpy as np
import scipy.optimize

# A kink enters the programme if it is worth more than it costs by this factor; the programme is solved to a tenth of it.
TOLERANCE = 1e-9
ROUNDS = 60
# Each is the programme again, for what the last solution misses: a bend counts though it is 1e-20 of the largest.
REFINEMENTS = 2
# A correction that takes away less than this many times the miss does not feel that amounts cannot be negative.
FAR = 1e4
EPS = np.finfo(float).eps


@dataclass(frozen=True, eq=False)
class Kinks:
    """Places for a kink, each with the facing that makes it cheap. All arrays (k,)."""

    position: np.ndarray
    right: np.ndarray
    price: np.ndarray
    scale: np.ndarray

    @staticmethod
    def at(x: np.ndarray, counts: np.ndarray, position: np.ndarray) -> "Kinks":
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
        return Kinks(position, right, np.where(right, to_right, to_left), np.where(right, scale_right, scale_left))

    def joined(self, other: "Kinks") -> "Kinks":
        """Both, one after the other."""
        return Kinks(*(np.concatenate([one, two]) for one, two in zip(vars(self).values(), vars(other).values(), strict=True)))


def least_bending(x: np.ndarray, counts: np.ndarray, slopes: np.ndarray, clearance: float) -> tuple[Kinks, np.ndarray, float]:
    """The kinks of least cost ``sum_k w(k) |J_k|`` for which the slopes from point to point are these.

    Args:
        x: (m,), distinct points in order, m >= 3.
        counts: (m,), how often each is there.
        slopes: (m - 1,), not all the same.
        clearance: how far kinks stay away from the points, in units of the gap.

    Returns:
        The kinks, in order; their jumps, (k,); and a number that the cost of no such function can undercut.

    Raises:
        ArithmeticError: if the solver gives up.
    """
    low, high = x[:-1] + clearance * np.diff(x), x[1:] - clearance * np.diff(x)
    candidates = Kinks.at(x, counts, x[1:-1] if clearance == 0 else np.concatenate([low, high]))
    # Rows and columns are divided by the price of a kink on the points, so that data of any scale give the same programme.
    price = Kinks.at(x, counts, x[1:-1]).price
    target = np.diff(slopes) * price
    for _ in range(ROUNDS):
        columns = price[:, None] * hats(x, candidates.position) / candidates.price
        amounts, dual = _solve(columns, target, np.zeros(2 * columns.shape[1]))
        position, worth = most_wanted(x, counts, np.concatenate([[0], dual * price, [0]]))
        gap = np.searchsorted(x, position) - 1
        allowed = (position >= low[gap]) & (position <= high[gap])
        # Closer to a point than x can tell, a unit would be on or off by chance.
        apart = np.minimum(position - x[gap], x[gap + 1] - position) > 8 * EPS * np.abs(position)
        wanted = np.setdiff1d(position[allowed & apart & (worth > 1 + TOLERANCE)], candidates.position)
        if not len(wanted):
            break
        candidates = candidates.joined(Kinks.at(x, counts, wanted))
    # Divided by the largest worth of any kink, the dual variables satisfy every constraint.
    worst = np.abs(columns.T @ dual).max(initial=worth[allowed].max(initial=1.0))
    # What rounding can have added: a few units in each slope, sum and price.
    doubt = 4 * (np.abs(slopes[1:]) + np.abs(slopes[:-1])) * price + (4 * len(x) + 32) * np.abs(target)
    least = (dual @ target - EPS * np.abs(dual) @ doubt) / worst
    for _ in range(REFINEMENTS):
        amounts, _ = _solve(columns, target, amounts)
    jumps = np.subtract(*np.split(amounts, 2)) / candidates.price
    position, jumps = _settled(x, candidates.position, jumps, slopes, on_points=clearance == 0)
    return *_gathered(x, counts, position, jumps), max(least, 0.0)


def hats(x: np.ndarray, position: np.ndarray) -> np.ndarray:
    """hat_i(k) for the inner points i and all positions k: (m - 2, k)."""
    gap = gap_of(x, position)
    part = (position - x[gap]) / (x[gap + 1] - x[gap])
    values = np.zeros((len(x), len(position)))
    values[gap, np.arange(len(position))] = 1 - part
    values[gap + 1, np.arange(len(position))] = part
    return values[1:-1]


def gap_of(x: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Which gap each position lies in; a point is the beginning of the gap to its right."""
    return np.clip(np.searchsorted(x, position, side="right") - 1, 0, len(x) - 2)


def _solve(columns: np.ndarray, target: np.ndarray, amounts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Minimise the sum of amounts >= 0, one for each column and sign, whose effect is the target.

    The solver sees only what these amounts leave of the target, as a programme for corrections in units of that. So its
    tolerance is relative to the miss so far (iterative refinement: Gleixner, Steffy, Wolter, INFORMS J. Comput. 28, 2016).

    Returns:
        The amounts (2 k,), and the dual variables (m - 2,).

    Raises:
        ArithmeticError: if the solver gives up.
    """
    signed = np.hstack([columns, -columns])
    miss = target - signed @ amounts
    unit = np.abs(miss).max()
    if unit == 0:
        return amounts, np.zeros(len(target))
    least = -amounts / unit
    result = scipy.optimize.linprog(
        np.ones(len(amounts)),
        A_eq=signed,
        b_eq=miss / unit,
        bounds=np.column_stack([np.maximum(least, -FAR), np.full(len(amounts), np.inf)]),
        method="highs-ds",
        options={"primal_feasibility_tolerance": TOLERANCE / 10, "dual_feasibility_tolerance": TOLERANCE / 10},
    )
    if result.status != 0:
        raise ArithmeticError(f"the linear programme was not solved: {result.message}")
    return np.where(result.x > least, np.maximum(amounts + unit * result.x, 0), 0), result.eqlin.marginals


def most_wanted(x: np.ndarray, counts: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""In each gap, for each facing, the kink with the largest \|p\| / w, where that is not at an end of the gap.

    With the active points of one facing, their number N, mean m and sum of squared deviations V, a kink at m + u costs
    ``C sqrt(N u^2 + V)``; over that, ``p(m) + p' u`` is largest at ``u = p' V / (p(m) N)``.

    Returns:
        Positions and ratios.
    """
    slope = np.diff(p) / np.diff(x)
    positions, ratios = [], []
    for facing in (slice(None, None, -1), slice(None)):
        # All places as seen from the far end: from there nothing that is subtracted below is large beside what is left.
        far = x[facing][0]
        weight, point = counts[facing].astype(float), x[facing] - far
        # Cumulative moments from the far end, then those of the points beyond each gap.
        number = np.cumsum(weight)
        mean = np.cumsum(weight * point) / number
        before = np.concatenate([mean[:1], mean[:-1]])
        spread = np.cumsum(weight * (point - before) * (point - mean))
        height = np.cumsum(weight * (1 + x[facing] ** 2))
        number, mean, spread, height = (v[:-1][facing] for v in (number, mean, spread, height))
        start = x[:-1] - far
        at_mean = p[:-1] + slope * (mean - start)
        with np.errstate(divide="ignore", invalid="ignore"):
            part = (mean + slope * spread / (at_mean * number) - start) / np.diff(x)
            position = x[:-1] + part * np.diff(x)
            cost = 2 / counts.sum() * np.sqrt(height) * np.sqrt(number * (position - far - mean) ** 2 + spread)
            ratio = np.abs((1 - part) * p[:-1] + part * p[1:]) / cost
        inside = (position > x[:-1]) & (position < x[1:])
        positions.append(position[inside])
        ratios.append(ratio[inside])
    return np.concatenate(positions), np.concatenate(ratios)


def _settled(
    x: np.ndarray, position: np.ndarray, jumps: np.ndarray, slopes: np.ndarray, *, on_points: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The kinks that are more than rounding; those on points take exactly what the others leave of the bends.

    Rounding is measured by the slopes near by, not by the steepest.

    Returns:
        Positions and jumps.
    """
    between = ~np.isin(position, x)
    position, jumps = position[between], jumps[between]
    effect = hats(x, position)
    rest = np.diff(slopes) - effect @ jumps
    noise = 8 * EPS * (np.abs(slopes[1:]) + np.abs(slopes[:-1]) + effect @ np.abs(jumps))
    kept = (effect * np.abs(jumps) > noise[:, None]).any(0)
    left = (np.abs(rest) > noise) & on_points
    return np.concatenate([position[kept], x[1:-1][left]]), np.concatenate([jumps[kept], rest[left]])


def _gathered(x: np.ndarray, counts: np.ndarray, position: np.ndarray, jumps: np.ndarray) -> tuple[Kinks, np.ndarray]:
    """Those kinks of one gap, facing and sign taken together.

    Their centre of mass has the same effect on all points, and since w is convex within a gap it costs no more.

    Returns:
        The kinks, in order, and their jumps.
    """
    right = Kinks.at(x, counts, position).right
    gap = np.where(right, np.searchsorted(x, position, side="right"), np.searchsorted(x, position, side="left"))
    groups = {}
    for k in np.argsort(position):
        groups.setdefault((gap[k], right[k], jumps[k] > 0), []).append(k)
    # A group of one keeps its position to the last bit: it may be a point.
    centre = [position[g[0]] if len(g) == 1 else np.average(position[g], weights=jumps[g]) for g in groups.values()]
    order = np.argsort(centre)
    return Kinks.at(x, counts, np.array(centre)[order]), np.array([jumps[g].sum() for g in groups.values()])[order]
