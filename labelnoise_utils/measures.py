"""How simple a trained model is."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.sparse.csgraph import connected_components

from .arguments import as_number, as_positive
from .models import TwoLayerSigmoidal

Function = Callable[[torch.Tensor], torch.Tensor]

GRID = 20_001


def curve_length(f: Function, lo: float, hi: float) -> float:
    """Length of the graph of f over [lo, hi], the integral of ``sqrt(1 + f'(x)^2)``.

    Args:
        f: from a float64 tensor (n,) to a tensor (n,); a model of a scalar x is one.
        lo: left end.
        hi: right end.

    Returns:
        Length of the polygon through 20001 equally spaced points. It falls short of the length by at most
        ``(hi - lo) / 160000 * jump**2`` per kink, where the slope changes by ``jump``; and where f is smooth, by at most
        ``(hi - lo)**3 / 9.6e9`` times the largest f''^2.

    Raises:
        TypeError: if an end is no number.
        ValueError: if the interval is empty or infinite, or f is not finite on it.

    Source: Figure 3.

    >>> curve_length(lambda x: 0.75 * x, 0.0, 4.0)
    5.0
    """
    x, y = _sample(f, lo, hi)
    return torch.hypot(x.diff(), y.diff()).sum().item()


def convexity_changes(f: Function, lo: float, hi: float, *, tol: float) -> int:
    """How often f changes between convex and concave on [lo, hi].

    That is how often f' turns round. A turn counts once the slope has come back by more than ``tol`` from its last extreme
    value; with ``tol=0`` rounding errors and training residue would count.

    Args:
        f: from a float64 tensor (n,) to a tensor (n,).
        lo: left end.
        hi: right end.
        tol: hysteresis, in units of the slope, > 0; 0.1 to 0.3 for slopes of order 1.

    Returns:
        The number of turns, on a grid of 20001 points.

    Raises:
        TypeError: if tol or an end is no number.
        ValueError: if tol is not positive, the interval is empty or infinite, or f is not finite on it.

    Source: Theorem 2.

    >>> convexity_changes(torch.sin, 0.1, 9.0, tol=0.1)
    2
    """
    tol = as_positive("tol", tol)
    x, y = _sample(f, lo, hi)
    slopes = (y.diff() / x.diff()).tolist()
    low = high = slopes[0]
    direction, changes = 0, 0
    for slope in slopes:
        low, high = min(low, slope), max(high, slope)
        if direction >= 0 and slope < high - tol:
            changes += direction == 1
            direction, low = -1, slope
        elif direction <= 0 and slope > low + tol:
            changes += direction == -1
            direction, high = 1, slope
    return changes


def collinear_deviation(f: Function, x: torch.Tensor, y: torch.Tensor) -> float:
    """Largest distance ``|f - line|`` over the gaps between collinear neighbouring points.

    Args:
        f: from a tensor (n,) to a tensor (n,).
        x: (n,), increasing.
        y: (n,). Three points are collinear if the two slopes agree to half of the digits.

    Returns:
        The largest distance over all runs of three collinear points, in units of y; on 401 points per run.

    Raises:
        ValueError: if shapes differ, x is not increasing, or no three neighbouring points are collinear.

    Source: the remark after Theorem 2 ("for any three co-linear points, the interpolation should be linear").
    """
    if x.dim() != 1 or x.shape != y.shape:
        raise ValueError(f"x and y must have the same shape (n,), got {tuple(x.shape)} and {tuple(y.shape)}")
    gaps = x.diff()
    if not (gaps > 0).all():
        raise ValueError("x must be increasing")
    slopes = y.diff() / gaps
    bends = slopes.diff().abs() / (1 + slopes.abs().max())
    straight = (bends < torch.finfo(x.dtype).eps ** 0.5).nonzero().flatten().tolist()
    if not straight:
        raise ValueError("no three neighbouring points are collinear")
    deviations = []
    for i in straight:
        t = torch.linspace(x[i].item(), x[i + 2].item(), 401, dtype=x.dtype)
        line = y[i] + (y[i + 2] - y[i]) / (x[i + 2] - x[i]) * (t - x[i])
        with torch.no_grad():
            deviations.append((f(t) - line).abs().max())
    return torch.stack(deviations).max().item()


def effective_rank(matrix: torch.Tensor, *, tol: float) -> int:
    """How many singular values are above ``tol`` times the largest.

    Args:
        matrix: (m, k).
        tol: in [0, 1), which fraction of the largest is not worth counting.

    Returns:
        The number, 0 for the zero matrix.

    Raises:
        TypeError: if ``matrix`` is no tensor or ``tol`` no number.
        ValueError: if ``matrix`` is no matrix or not finite, or ``tol`` is outside [0, 1).

    Source: Figure 1, whose matrix X* has rank 5.

    >>> effective_rank(torch.diag(torch.tensor([2.0, 1.0, 0.01])), tol=0.05)
    2
    """
    if not 0 <= as_number("tol", tol) < 1:
        raise ValueError(f"tol must be in [0, 1), got {tol:g}")
    values = _singular_values(matrix)
    return int((values > tol * values.max()).sum())


def nuclear_norm(matrix: torch.Tensor) -> float:
    """The sum of the singular values; for ``X = U U^T`` that is the trace, ``||U||_F^2``.

    Args:
        matrix: (m, k).

    Returns:
        The norm.

    Raises:
        TypeError: if ``matrix`` is no tensor.
        ValueError: if it is no matrix, or not finite.

    Source: section 1.1, "Matrix sensing".

    >>> nuclear_norm(torch.diag(torch.tensor([2.0, -1.0])))
    3.0
    """
    return _singular_values(matrix).sum().item()


def _singular_values(matrix: torch.Tensor) -> torch.Tensor:
    if not isinstance(matrix, torch.Tensor):
        raise TypeError(f"matrix must be a torch.Tensor, got {type(matrix).__name__}")
    if matrix.dim() != 2 or 0 in matrix.shape:
        raise ValueError(f"matrix must have two dimensions, neither of them empty, got shape {tuple(matrix.shape)}")
    if not torch.isfinite(matrix).all():
        raise ValueError("matrix must be finite, got NaN or infinity")
    return torch.linalg.svdvals(matrix.detach())


@dataclass(frozen=True, eq=False)
class UnitClasses:
    """The classes of :func:`unit_classes`, the ones with the largest output on x first.

    Attributes:
        labels: (m,), the number of each unit's class.
        centres: (k, 1 + n), the mean c of a class, then its mean h on each x.
        sizes: (k,), how many units.
        radii: (k,), largest distance of a unit from the centre.
        silent: (k,), whether the class is that of c = h = 0.
    """

    labels: torch.Tensor
    centres: torch.Tensor
    sizes: torch.Tensor
    radii: torch.Tensor
    silent: torch.Tensor


def unit_classes(model: TwoLayerSigmoidal, x: torch.Tensor, *, tol: float) -> UnitClasses:
    """Classes of hidden units that agree in output weight and value, ``c_i`` and ``h_i = s(w_i . x)``.

    Two units are in the same class if a chain of units leads from one to the other in which neighbours are at most ``tol``
    apart in the plane of (c, h). So the order of the units does not matter, and two classes are more than ``tol`` apart. For
    tanh, (c, h) and (-c, -h) are two classes, as in the theorem. The point c = h = 0 takes part like a unit, which
    makes one class the silent one; a network may have none.

    While the noise is on, the cloud has a standard deviation of ``sqrt(lr noise_std^2 / batch_size)`` in each direction that
    restores. With one data point there is one such direction, so the parameters (c_i, w_i) of no unit move further than that
    (with n points at most sqrt(n) times as far), and h_i at most ``|x| max s'`` times as far as w_i, where ``max s'`` is 1 for
    tanh and 1/4 for the logistic. So, with what the noise cannot tell apart as one class,

    ``tol = max(1, |x| max s') * stationary_variance(lr, noise_std, batch_size) ** 0.5``.

    After a phase without noise the same value, of the last lr with noise, is on the safe side. What remains is the spread
    along the zero-error manifold: of the same order in lr with several data points, and of order lr with one, since there
    ``Hess h grad h`` has no tangential part where grad reg has none.

    Args:
        model: the network.
        x: (n, d) or (d,), the data; one point in Theorem 3. With more, h has a coordinate for each.
        tol: see above, in units of c and h, > 0.

    Returns:
        The classes.

    Raises:
        TypeError: if the model is no :class:`TwoLayerSigmoidal`, or tol no number.
        ValueError: if tol is not positive, x has another shape, or c or h is not finite.

    Source: Theorem 3, with alpha for c and beta for h.

    >>> model = TwoLayerSigmoidal(3, 1, output_std=0.0, input_std=0.0)
    >>> unit_classes(model, torch.ones(1, 1, dtype=torch.float64), tol=0.1).sizes
    tensor([3])
    """
    if not isinstance(model, TwoLayerSigmoidal):
        raise TypeError(f"model must be a TwoLayerSigmoidal, got {type(model).__name__}")
    tol = as_positive("tol", tol)
    with torch.no_grad():
        h = model.hidden(x if x.dim() != 1 else x[None]).T
        points = torch.cat([model.c[:, None], h], dim=1).double()
    if not points.isfinite().all():
        raise ValueError("c or h of a hidden unit is not finite: the parameters hold NaN or infinity, or x does")
    with_origin = torch.cat([points, torch.zeros_like(points[:1])])
    near = torch.cdist(with_origin, with_origin, compute_mode="donot_use_mm_for_euclid_dist") <= tol
    _, found = connected_components(near.numpy(), directed=False)
    found, origin = torch.from_numpy(found[:-1]).long(), found[-1]
    members = [points[found == number] for number in found.unique()]
    outputs = torch.stack([(p[:, :1] * p[:, 1:]).mean(dim=0).abs().max() for p in members])
    order = outputs.argsort(descending=True)
    names, members = found.unique()[order], [members[k] for k in order]
    centres = torch.stack([p.mean(dim=0) for p in members])
    return UnitClasses(
        labels=(found[:, None] == names).long().argmax(dim=1),
        centres=centres,
        sizes=torch.tensor([len(p) for p in members]),
        radii=torch.stack([(p - centre).norm(dim=1).max() for p, centre in zip(members, centres, strict=True)]),
        silent=names == int(origin),
    )


def _sample(f: Function, lo: float, hi: float) -> tuple[torch.Tensor, torch.Tensor]:
    if not as_number("lo", lo) < as_number("hi", hi):
        raise ValueError(f"lo must be below hi, got {lo} and {hi}")
    x = torch.linspace(lo, hi, GRID, dtype=torch.float64)
    with torch.no_grad():
        y = f(x)
    if y.shape != x.shape or not torch.isfinite(y).all():
        what = "NaN or infinity" if y.shape == x.shape else f"shape {tuple(y.shape)}"
        raise ValueError(f"f must map shape {tuple(x.shape)} to finite values of the same shape, got {what}")
    return x, y
