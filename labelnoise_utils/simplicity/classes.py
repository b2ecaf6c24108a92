"""How simple a network of sigmoid units is: the classes into which its units fall."""

from dataclasses import dataclass

import torch
from scipy.sparse.csgraph import connected_components

from ..arguments import as_positive
from ..models import TwoLayerSigmoidal


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
