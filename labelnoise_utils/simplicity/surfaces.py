"""The simplest function in any dimension: the exact fit of least reg on data with several inputs, built without training."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.optimize
import torch

from ..arguments import as_tensor
from ..models import TwoLayerReLU
from .cone_programme import TOLERANCE, Cones, Optimum, Points, cheapest
from .dual_bound import bound_from, certificate, certificate_without_patterns
from .pattern_search import searched
from .patterns import all_patterns, most_patterns, telling

EPS = np.finfo(float).eps
# Exact patterns up to this many: half a minute.
MOST_PATTERNS = 20_000
STARTS = 200
# Units, and heights of a kink over points, below this, of the largest, are what the solver leaves of 0: the first that fits.
LEFT_OVER = (1e-7, 1e-8, 1e-6, 1e-9, 1e-5, 1e-10, 1e-4, 1e-11, 1e-12)
# A network that misses by more than this, of the labels' range, is refused.
FIT = 1e-7
EXACT = 1e-12
NEAR = 1e-6


class Unit(NamedTuple):
    """A unit ``jump relu(normal . x + offset)`` of a network.

    Attributes:
        normal: (d,) of length 1, at right angles to the crease and towards the side where the unit is awake; 0 for a unit that
            is a constant.
        offset: minus the distance of the crease from the origin, along the normal.
        jump: by how much the slope along the normal changes at the crease.
        active: (n,) of booleans, the examples on which the unit is awake.
    """

    normal: torch.Tensor
    offset: float
    jump: float
    active: torch.Tensor


@dataclass(frozen=True, eq=False)
class NetworkInterpolant:
    """A network that fits data exactly, at the least reg.

    Attributes:
        model: a :class:`TwoLayerReLU` in float64, one unit for each of ``units``, that computes the function.
        reg: the implicit regularizer of ``model`` on the data.
        lower_bound: what no two-layer ReLU network with these values on the data, of any width, can undercut, where points on a
            hyperplane up to the rounding of x count as on it.
        units: of the network.
        patterns: how many sets of examples hyperplanes cut off, or how many were tried.
    """

    model: TwoLayerReLU
    reg: float
    lower_bound: float
    units: tuple[Unit, ...]
    patterns: int

    @property
    def certified(self) -> bool:
        """Whether ``lower_bound`` is within 1e-6 of reg, relatively, so that no network has a reg that is lower by more."""
        return self.reg - self.lower_bound <= NEAR * self.reg

    def __call__(self, t: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Values of the function, (...), for t (..., d), in float64."""
        t = as_tensor("t", t).to(torch.float64)
        return self.model(t.reshape(-1, t.shape[-1])).reshape(t.shape[:-1])


def simplest_network(x: np.ndarray, y: np.ndarray, place: np.ndarray, skip: bool | str, exact: bool) -> NetworkInterpolant:
    """What :func:`labelnoise_utils.minimal_interpolant` does with x (n, d), where no point is repeated.

    Args:
        x: (n, d).
        y: (n,).
        place: (N,), for each example which of these points it is.
        skip: as for :class:`TwoLayerReLU`.
        exact: whether all patterns are listed.

    Returns:
        The network.

    Raises:
        ValueError: if the patterns are too many to be listed.
        ArithmeticError: if no network is found that fits the labels.
    """
    # Where the points lie in a plane of their own, some coordinates tell all that there is to tell of them.
    told = x[:, telling(x)]
    counts = np.bincount(place)
    lifted, back = _uncorrelated(x, told.shape[1])
    free = {True: lifted, "constant": lifted[:, -1:], False: lifted[:, :0]}[skip]
    sizes = 1 + (x**2).sum(1)
    line = np.linalg.lstsq(free, y, rcond=None)[0] if free.size else np.zeros(0)
    bent = y - free @ line
    scale = np.abs(bent).max()
    straight = (np.abs(bent) <= 64 * EPS * (np.abs(y) + np.abs(free) @ np.abs(line))).all()
    points = Points(told, lifted, bent / (scale or 1.0), counts, free, counts * sizes)
    if straight:
        fit = Fit(np.zeros((0, lifted.shape[1])), np.zeros((0, len(x)), bool), np.zeros(0), np.zeros(len(line)))
        dual, patterns = [], 0
    elif exact:
        expected = most_patterns(*told.shape)
        if expected > MOST_PATTERNS:
            raise ValueError(
                f"{len(x)} points in {told.shape[1]} dimensions can be cut in {expected:,} ways, above the {MOST_PATTERNS:,} "
                "that are listed one by one; exact=False searches among them, without a proof that it finds the best"
            )
        cones = Cones(points, all_patterns(told))
        optimum = cheapest(cones)
        fit, dual, patterns = _tightened(cones, optimum, back), certificate(cones, optimum.dual), len(cones.patterns.bits)
    else:
        cones, optimum = searched(points, 0, STARTS)
        fit, dual, patterns = _tightened(cones, optimum, back), certificate_without_patterns(points), len(cones.patterns.bits)
    model = _network(x, points, fit._replace(line=line + scale * fit.line), back, skip, scale)
    every, labels = (torch.from_numpy(one[place]) for one in (x, y))
    with torch.no_grad():
        off = np.abs(model(torch.from_numpy(x)).numpy() - y)
        rounding = EPS * (len(model.c) + x.shape[1]) * _terms(model, torch.from_numpy(x)).numpy()
        (reg,) = model.loss_and_reg(torch.nn.utils.parameters_to_vector(model.parameters())[None], every, labels)[1].tolist()
    extent = np.ptp(y) if skip else np.abs(y).max()
    if off.max() > FIT * extent + 16 * EPS * np.abs(y).max():
        raise ArithmeticError(f"the network misses labels by up to {off.max():.2g}, and their range is {extent:.2g}")
    unavoidable = {True: (counts * sizes).sum() / counts.sum(), "constant": 1.0, False: 0.0}[skip]
    least = float(unavoidable * (1 - 4 * EPS * len(x))) + (bound_from(dual, y, off + rounding) if dual else 0.0)
    return NetworkInterpolant(model, reg, least, _units(model, every), patterns)


def _uncorrelated(x: np.ndarray, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """The same points in uncorrelated coordinates of variance 1, as many as their own plane has dimensions.

    However far from 0 or thin the cloud of points is, units have weights of moderate size there.

    Returns:
        These coordinates and 1, (n, r + 1), and ``back`` (r + 1, d + 1), so that they are ``(x, 1) @ back.T``: weights of them
        times ``back`` are weights of (x, 1), of the least slope that has these values at the points.
    """
    u, values, axes = np.linalg.svd(x - x.mean(0), full_matrices=False)
    u, values, axes = u[:, :dimension], values[:dimension, None], axes[:dimension]
    slopes = np.sqrt(len(x)) * axes / values
    back = np.block([[slopes, -slopes @ x.mean(0, keepdims=True).T], [np.zeros((1, x.shape[1])), np.ones((1, 1))]])
    return np.column_stack([np.sqrt(len(x)) * u, np.ones(len(x))]), back


class Fit(NamedTuple):
    """Units that fit the points to rounding.

    Attributes:
        weights: (k, d + 1), of ``lifted``.
        active: (k, n), the points where they are awake.
        sign: (k,), of their outputs.
        line: (s,), coefficients of the functions that cost nothing.
    """

    weights: np.ndarray
    active: np.ndarray
    sign: np.ndarray
    line: np.ndarray


def _tightened(cones: Cones, optimum: Optimum, back: np.ndarray) -> Fit:
    """The optimum without what the solver leaves of 0: units that are not there, kinks that are not quite on points.

    Which units and kinks these are is read off from their sizes, the fit then made exact by the least change that does it.

    Returns:
        The first fit that costs no more than the optimum, or the nearest to one.

    Raises:
        ArithmeticError: if no reading gives a fit.
    """
    points = cones.points
    # The slope of a unit is the length of these times its weights.
    slopes = np.linalg.norm(back[:-1, :-1], axis=1)
    norms = np.linalg.norm(optimum.u * cones.seen[optimum.pattern], axis=1)
    least, readings = cones.price[optimum.pattern] @ norms, []
    for left_over in LEFT_OVER:
        kept = norms > left_over * norms.max()
        k, sign = optimum.pattern[kept], optimum.sign[kept]
        weights = np.einsum("kij,kj->ki", cones.basis[k], optimum.u[kept])
        active = cones.patterns.active[k]
        for i in np.flatnonzero(~cones.seen[k].all(1)):
            weights[i] = _gentlest(points.lifted, slopes, weights[i], active[i])
        heights = weights @ points.lifted.T
        on_kink = np.abs(heights) <= 10 * left_over * (np.abs(heights) * active).max(1, keepdims=True)
        active = active & ~on_kink
        # Rows: the fit at every point, and the kinks on points. Unknown: changes of u and of the line.
        rows = np.einsum("kn,nd,kde->nke", sign[:, None] * active, points.lifted, cones.basis[k])
        rows = np.hstack([rows.reshape(len(points.y), -1), points.free])
        unit, point = np.nonzero(on_kink)
        kinks = np.zeros((len(unit), len(k), cones.basis.shape[1]))
        kinks[np.arange(len(unit)), unit] = np.einsum("ui,uij->uj", points.lifted[point], cones.basis[k[unit]])
        kinks = np.hstack(
            [kinks.reshape(len(unit), rows.shape[1] - points.free.shape[1]), np.zeros((len(unit), points.free.shape[1]))]
        )
        system = np.vstack([rows, kinks])
        line = optimum.line
        for _ in range(2):
            missing = np.concatenate([points.y - sign @ (active * heights) - points.free @ line, -heights[on_kink]])
            change = np.linalg.lstsq(system, missing, rcond=1e-12)[0]
            shift = change[: rows.shape[1] - points.free.shape[1]].reshape(len(k), -1)
            weights, line = weights + np.einsum("kij,kj->ki", cones.basis[k], shift), line + change[shift.size :]
            heights = weights @ points.lifted.T
        wrong = np.where(active, -heights, heights).max(1)
        # What is no larger than its own error is no unit.
        there = np.where(active, heights, 0).max(1) > 4 * wrong
        weights, active, sign, heights, k = (one[there] for one in (weights, active, sign, heights, k))
        missed = np.abs(sign @ (active * heights) + points.free @ line - points.y).max()
        rounding = EXACT + (16 * EPS * np.abs(weights) @ np.abs(points.lifted).max(0)).sum()
        off = max(missed, wrong[there].sum())
        cost = cones.price[k] @ np.sqrt((active * heights) ** 2 @ points.counts)
        readings.append((max(off, rounding), cost, Fit(weights, active, sign, line)))
        if off <= rounding and cost <= (1 + TOLERANCE) * least:
            break
    off, _, fit = min(readings, key=lambda reading: reading[:2])
    if off > FIT / 2:
        raise ArithmeticError("units of the least reg could not be told from what the solver leaves of others")
    return fit


def _gentlest(lifted: np.ndarray, slopes: np.ndarray, weights: np.ndarray, active: np.ndarray) -> np.ndarray:
    """The unit with the same values at the points and the least slope, for one that points leave some freedom.

    That is the least ``|slopes w|`` of those that are awake nowhere else: least distance programming (Lawson and Hanson, 1974).

    Returns:
        (d + 1,).
    """
    _, values, vectors = np.linalg.svd(lifted[active])
    values = np.pad(values, (0, len(vectors) - len(values)))
    loose = vectors[values <= 1e-9 * values[0]].T
    q, r = np.linalg.qr(slopes[:, None] * loose[:-1])
    # weights + loose t, whose slope's square is |r t + q^T w|^2 + what t cannot change: z = r t + q^T w is to be shortened.
    start = q.T @ (slopes * weights[:-1])
    walls = -lifted[~active] @ loose @ np.linalg.inv(r)
    # The unit itself is allowed, though the solver leaves it a little on the wrong side of a point.
    least = np.minimum(lifted[~active] @ weights, 0) + walls @ start
    stacked = np.vstack([walls.T, least])
    multipliers, _ = scipy.optimize.nnls(stacked, np.append(np.zeros(len(start)), 1.0))
    residue = stacked @ multipliers - np.append(np.zeros(len(start)), 1.0)
    if residue[-1] >= 0:
        return weights
    gentlest = weights + loose @ np.linalg.solve(r, residue[:-1] / -residue[-1] - start)
    allowed = (lifted[~active] @ gentlest).max(initial=0) <= 1e-9 * np.abs(lifted @ weights).max()
    return gentlest if allowed else weights


def _network(x: np.ndarray, points: Points, fit: Fit, back: np.ndarray, skip: bool | str, scale: float) -> TwoLayerReLU:
    """The network of these units, each at its best scale."""
    model = TwoLayerReLU(max(1, len(fit.sign)), dim=x.shape[1], skip=skip)
    lifted = np.column_stack([x, np.ones(len(x))])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        if len(fit.sign):
            values = np.where(fit.active, fit.weights @ points.lifted.T, 0)
            size, beta = np.sqrt(values**2 @ points.counts), np.sqrt(fit.active @ points.heights)
            weights = np.sqrt(scale * beta / size)[:, None] * fit.weights @ back
            # No point outside the pattern is on the side where the unit is awake, however the model rounds its sums.
            above = np.where(fit.active, -np.inf, weights @ lifted.T).max(1)
            doubt = 8 * EPS * (np.abs(weights) @ np.abs(lifted).max(0))
            weights[:, -1] -= np.maximum(above + doubt, 0)
            model.a.copy_(torch.from_numpy(weights[:, :-1]))
            model.b.copy_(torch.from_numpy(weights[:, -1]))
            model.c.copy_(torch.from_numpy(fit.sign * np.sqrt(scale * size / beta)))
        if skip is True:
            line = fit.line @ back
            model.a0.copy_(torch.from_numpy(line[:-1]))
            model.b0.fill_(line[-1])
        elif skip:
            model.b0.fill_(fit.line[0])
    return model


def _terms(model: TwoLayerReLU, x: torch.Tensor) -> torch.Tensor:
    """Sizes of what a network's output is a sum of, (n,)."""
    size = (x.abs() @ model.a.abs().T + model.b.abs()) * (x @ model.a.T + model.b > 0) @ model.c.abs()
    for line in (model.a0, model.b0):
        if line is not None:
            size = size + (x.abs() @ line.abs() if line.dim() else line.abs())
    return size


def _units(model: TwoLayerReLU, x: torch.Tensor) -> tuple[Unit, ...]:
    """The units of a network whose output is not 0."""
    a, b, c = (parameter.detach() for parameter in (model.a, model.b, model.c))
    lengths, heights = a.norm(dim=1), x @ a.T + b
    lengths = torch.where(lengths > 0, lengths, 1.0)
    return tuple(
        Unit(a[i] / lengths[i], (b[i] / lengths[i]).item(), (c[i] * lengths[i]).item(), heights[:, i] > 0)
        for i in torch.nonzero(c).flatten().tolist()
    )
