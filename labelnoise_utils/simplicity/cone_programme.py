"""The convex programme behind the simplest function in any dimension: which units it uses, and what no network can undercut."""

from dataclasses import dataclass, field

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.sparse

from .patterns import Patterns

# Units of a pattern enter the programme if they are worth more than they cost by this factor.
TOLERANCE = 1e-7
# As far as float64 goes, or where the solver fails then, less: what is left of 0 has to be told from what is there.
SOLVED = (1e-14, 1e-12, 1e-10, 1e-8)
ROUNDS = 200
# Singular values below this times the largest are rounding: the pattern's points span no more.
RANK = 1e-11
# How much more a residue along a direction that no point of the pattern sees weighs than one that a point sees.
UNSEEN = 1e6
# Multipliers of walls below this, of what pulls at the unit, are rounding.
SMALL = 1e-10


@dataclass(frozen=True, eq=False)
class Points:
    """Distinct data points, in coordinates of which none follows from the others.

    Attributes:
        x: (n, d), as they are given.
        lifted: (n, d + 1), in coordinates that are uncorrelated and of variance 1, up to rounding, and 1: a unit's
            pre-activation is linear in it.
        y: (n,).
        counts: (n,), how often each is there.
        free: (n, s), the functions that cost nothing, at the points: ``lifted``, 1 alone, or none.
        heights: (n,), a point's share of beta(S)^2: how often it is there, times 1 + |x|^2.
    """

    x: np.ndarray
    lifted: np.ndarray
    y: np.ndarray
    counts: np.ndarray
    free: np.ndarray
    heights: np.ndarray


@dataclass(frozen=True, eq=False)
class Cones:
    """The units of each pattern S, a cone: ``w . x + b >= 0`` on S and ``<= 0`` elsewhere.

    Cone k has coordinates u of its own, ``(w, b) = basis[k] u``, in which the norm of the unit's values at the data is that of
    the ``seen`` ones of u; the others move the kink only, between points.

    Attributes:
        points: the data, n distinct points.
        patterns: k sets of them.
        price: (k,), reg per unit of ``||v||``: ``(2 / n) beta(S)``.
        basis: (k, d + 1, d + 1).
        seen: (k, d + 1) of booleans.
    """

    points: Points
    patterns: Patterns
    price: np.ndarray = field(init=False)
    basis: np.ndarray = field(init=False)
    seen: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        points, active = self.points, self.patterns.active
        size = points.lifted.shape[1]
        rows = (active * np.sqrt(points.counts))[:, :, None] * points.lifted
        # No fewer rows than columns, so that directions that no point sees have their singular value, 0.
        rows = np.pad(rows, ((0, 0), (0, max(0, size - rows.shape[1])), (0, 0)))
        _, values, vectors = np.linalg.svd(np.linalg.qr(rows, mode="r"))
        seen = values > RANK * values[:, :1]
        # Along the others in units of what moves the pre-activation at some point by 1.
        moved = np.abs(points.lifted @ vectors.transpose(0, 2, 1)).max(1)
        object.__setattr__(self, "price", 2 / points.counts.sum() * np.sqrt(active @ points.heights))
        object.__setattr__(self, "basis", vectors.transpose(0, 2, 1) / np.where(seen, values, moved)[:, None, :])
        object.__setattr__(self, "seen", seen)

    def walls(self, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The inequalities of cone k.

        Returns:
            The points that they belong to, (m,); rows that are >= 0 on the cone, (m, d + 1), in the coordinates u and of
            length 1; and their lengths before that, (m,).
        """
        j = self.patterns.walls[k]
        rows = np.where(self.patterns.active[k, j], 1.0, -1.0)[:, None] * (self.points.lifted[j] @ self.basis[k])
        lengths = np.linalg.norm(rows, axis=1)
        return j, rows / lengths[:, None], lengths

    def worth(self, dual: np.ndarray) -> np.ndarray:
        """Upper bounds on what units of each pattern are worth, per unit of their cost, if label j is worth ``dual_j``.

        Without its walls a cone's best unit is worth the length of a projection. Where that is below the cost, or attained
        within the walls, nothing else is needed. Elsewhere the walls' multipliers are found.

        Args:
            dual: (n,).

        Returns:
            For outputs +1 and -1: (k, 2).
        """
        pull = (self.patterns.active * dual) @ self.points.lifted
        direction = np.einsum("ki,kij->kj", pull, self.basis) * self.seen
        worth = np.repeat((np.linalg.norm(direction, axis=1) / self.price)[:, None], 2, axis=1)
        for k in np.flatnonzero(worth[:, 0] > 1 + TOLERANCE):
            for side, sign in enumerate((1, -1)):
                worth[k, side] = np.linalg.norm(self.best(k, sign * direction[k])[0]) / self.price[k]
        return worth

    def best(self, k: int, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The projection of a direction onto cone k: the unit that is worth most, and the multipliers of its walls, >= 0."""
        _, walls, _ = self.walls(k)
        if (walls @ direction >= 0).all():
            return direction, np.zeros(len(walls))
        # The shortest direction + walls^T mu; what no point of S sees has to vanish.
        weight = np.where(self.seen[k], 1.0, UNSEEN)
        multipliers, _ = scipy.optimize.nnls((walls * weight).T, -weight * direction)
        pulling = np.flatnonzero(multipliers)
        if not self.seen[k].all() and len(pulling):
            # With these walls alone what has to vanish can do so to the last bit, and not only nearly.
            unseen, seen = walls[pulling][:, ~self.seen[k]].T, walls[pulling][:, self.seen[k]].T
            possible = scipy.linalg.null_space(np.where(np.abs(unseen) > SMALL, unseen, 0), rcond=SMALL)
            exact = possible @ np.linalg.lstsq(seen @ possible, -direction[self.seen[k]], rcond=None)[0]
            exact = np.where(exact > SMALL * np.abs(direction).max(), exact, 0)
            before, after = (np.linalg.norm(direction[self.seen[k]] + seen @ one) for one in (multipliers[pulling], exact))
            if after <= before + TOLERANCE * np.abs(direction).max():
                multipliers[pulling] = exact
        return direction + walls.T @ multipliers, multipliers


@dataclass(frozen=True, eq=False)
class Optimum:
    """Units that fit the points at the least cost, to the solver's accuracy.

    Attributes:
        pattern: (k,), indices of their patterns, each at most once for a sign.
        sign: (k,), +1.0 or -1.0, of their outputs.
        u: (k, d + 1), in the coordinates of their cones.
        line: (s,), coefficients of the functions that cost nothing.
        dual: (n,), what label j is worth.
    """

    pattern: np.ndarray
    sign: np.ndarray
    u: np.ndarray
    line: np.ndarray
    dual: np.ndarray


def cheapest(cones: Cones) -> Optimum:
    """The least ``sum (2 / n) beta(S) ||v||`` with which units of these patterns, and what is free, fit the points.

    The programme starts with the patterns of ridges, units whose weights are all parallel, which can fit any labels. Its dual
    says what each pattern is worth; those that are worth more than they cost are added, until there is none.

    Returns:
        The optimum.

    Raises:
        ArithmeticError: if the solver gives up, or patterns that are worth adding do not end.
    """
    chosen = np.array([2 * k + side for k in _ridges(cones) for side in (0, 1)])
    for _ in range(ROUNDS):
        optimum = _solved(cones, chosen)
        worth = cones.worth(optimum.dual).ravel()
        wanted = np.setdiff1d(np.flatnonzero(worth > 1 + TOLERANCE), chosen)
        if not len(wanted):
            return optimum
        chosen = np.union1d(chosen, wanted[np.argsort(-worth[wanted])[: 4 * len(cones.points.x)]])
    raise ArithmeticError(f"the programme did not end in {ROUNDS} rounds")


def along(heights: np.ndarray) -> list[np.ndarray]:
    """The patterns of units with parallel weights, from the points' places along these: beginnings and ends."""
    order = np.argsort(heights)
    ahead = np.array([np.isin(np.arange(len(order)), order[k:]) for k in range(len(order))])
    return [*ahead, *~ahead[1:]]


def _ridges(cones: Cones) -> np.ndarray:
    """Indices of patterns that can fit any labels: those along two directions."""
    index = {one.tobytes(): k for k, one in enumerate(cones.patterns.active)}
    if not cones.patterns.complete:
        return np.arange(len(index))
    x = cones.points.lifted[:, :-1]
    directions = np.random.default_rng(0).standard_normal((2, x.shape[1]))
    found = (one.tobytes() for w in directions for one in along(x @ w))
    # Of points too close to tell their order there may be one that is not cut off.
    return np.unique([index[one] for one in found if one in index])


def _solved(cones: Cones, chosen: np.ndarray) -> Optimum:
    """The programme over these columns, ``2 k`` for units of pattern k with output +1 and ``2 k + 1`` for those with -1.

    Variables: the coefficients of what is free; for each column a bound t on the norm, and u. Clarabel's form is: minimise
    ``q . z`` subject to ``b - A z`` in a product of cones.

    Returns:
        What the solver found.

    Raises:
        ImportError: if there is no Clarabel.
        ArithmeticError: if it gives up.
    """
    try:
        import clarabel
    except ImportError as error:
        raise ImportError("the cone programme needs Clarabel: pip install clarabel") from error
    points = cones.points
    n, size = points.lifted.shape
    free = points.free.shape[1]
    pattern, sign = chosen // 2, 1.0 - 2.0 * (chosen % 2)
    first = free + (1 + size) * np.arange(len(chosen))
    columns = free + (1 + size) * len(chosen)
    objective = np.zeros(columns)
    # In units of a typical price, so that the solver's tolerances are relative.
    unit = cones.price[pattern].mean()
    objective[first] = cones.price[pattern] / unit

    values = cones.patterns.active[pattern][:, :, None] * (points.lifted @ cones.basis[pattern])
    fit = np.zeros((n, len(chosen), 1 + size))
    fit[:, :, 1:] = (sign[:, None, None] * values).transpose(1, 0, 2)
    fit = scipy.sparse.csc_matrix(np.hstack([points.free, fit.reshape(n, -1)]))
    walls = [np.hstack([np.zeros((len(rows), 1)), -rows]) for rows in (cones.walls(k)[1] for k in pattern)]
    walls = scipy.sparse.hstack([scipy.sparse.csc_matrix((sum(map(len, walls)), free)), scipy.sparse.block_diag(walls)])
    seen = np.hstack([np.ones((len(chosen), 1), bool), cones.seen[pattern]])
    bounded = (first[:, None] + np.arange(1 + size))[seen]
    norms = scipy.sparse.csc_matrix((-np.ones(len(bounded)), (np.arange(len(bounded)), bounded)), (len(bounded), columns))

    rows = [clarabel.ZeroConeT(n), clarabel.NonnegativeConeT(walls.shape[0])]
    rows += [clarabel.SecondOrderConeT(int(length)) for length in seen.sum(1)]
    constraints = scipy.sparse.vstack([fit, walls, norms], format="csc")
    right = np.concatenate([points.y, np.zeros(walls.shape[0] + len(bounded))])
    program = scipy.sparse.csc_matrix((columns, columns)), objective, constraints, right, rows
    for tolerance in SOLVED:
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tolerance
        settings.reduced_tol_gap_abs = settings.reduced_tol_gap_rel = settings.reduced_tol_feas = TOLERANCE
        solution = clarabel.DefaultSolver(*program, settings).solve()
        if str(solution.status) in ("Solved", "AlmostSolved"):
            break
    # What is left to do then is seen by the bound, and by how well the network fits.
    if str(solution.status) not in ("Solved", "AlmostSolved", "InsufficientProgress"):
        raise ArithmeticError(f"the cone programme was not solved: {solution.status}")
    z = np.array(solution.x)
    u = z[free:].reshape(len(chosen), 1 + size)[:, 1:]
    return Optimum(pattern, sign, u, z[:free], -unit * np.array(solution.z[:n]))
