"""Plain SGD at a minimum with residuals: the examples disagree, and that is noise enough to drift."""

import torch

from ..arguments import as_integer, as_number, as_positive
from ..regularizer.hypothesis import gradients_possible, twice_differentiable
from ..regularizer.inputs import Inputs
from .minima import AT_MINIMUM, ROUNDING, Loss, forces, is_undecided, loss_at
from .solver import check_float64

# Of the noise along the minima, relative to the parts of the gradient by example.
ALONG_MINIMA = 1e-3


def residual_drift(
    model: torch.nn.Module,
    x: Inputs,
    y: torch.Tensor,
    *,
    lr: float,
    batch_size: int | None = 1,
    tol: float = 1e-6,
) -> torch.Tensor:
    r"""Mean movement of the parameters per step of plain SGD along the minima of the loss, where residuals are left.

    No noise is added: the labels are fixed, and a step on one example moves theta off although the mean of all steps is 0.
    Let ``f = (1/2n) sum_i (h_i - y_i)^2`` with residuals ``r_i = h_i - y_i`` and H the Hessian of f,
    ``(1/n) sum_i (g_i g_i^T + r_i H_i)``. A step is ``-2 lr`` times a force of mean ``grad f`` and covariance ``D / B`` with
    ``D = (1/n) sum_i r_i^2 g_i g_i^T``. So the cloud X around the minimum and the drift along it are

    ``H X + X H = 2 lr D / B``,
    ``-lr P D^3 f[X] = -(2 lr / n) P sum_i (H_i X g_i + r_i T_i[X] / 2 + g_i tr(H_i X) / 2)``,

    where ``T_i`` is the third derivative of ``h_i`` and P projects onto the null space of H; the last term is zero where the
    function does not change along the minima. For residuals as independent of the gradients as label noise, and small against
    the curvature, it is the drift of label noise with their variance.

    The minima must fill the null space of H, as they do where its rank is the same at all of them; that is not checked. At the
    minimum of ``x^4``, say, the null space is a direction in which the loss rises all the same, and a saddle where it falls
    in third order or beyond is refused only if H is 0.

    By a backward pass for each parameter and three for each steep direction, so for small models.

    Args:
        model: at a minimum of the mean squared error, which is one of many: :func:`project_to_minimum` moves to one.
        x: (n, ...), the inputs.
        y: of the shape of ``model(x)``, the labels.
        lr: learning rate, > 0.
        batch_size: examples per step, B, drawn with replacement; None is the full batch, which has no noise: 0.
        tol: eigenvalues of H up to tol times the largest count as zero.

    Returns:
        (p,), in units of the parameters per step.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if a number is out of range, y has another shape, the parameters are not float64, the point is no minimum
            or H is 0 there with residuals left, or SGD diffuses along the minima, since examples that pull differently there
            bring more than a drift; or as in :func:`linearize`.

    Source: ours; the drift of Katzenberger (1991), as Li, Wang and Arora (2022, arXiv 2110.06914) use it, for the noise that
    the choice of the example makes.
    """
    lr, tol = as_positive("lr", lr), _as_tol(tol)
    if batch_size is not None:
        batch_size = as_integer("batch_size", batch_size, 1)
    check_float64(model, "residual_drift")
    with gradients_possible(), twice_differentiable(model):
        pulls, loss = forces(model, x, y), loss_at(model, x, y)
        curvatures, directions = torch.linalg.eigh(loss.hessian())
        flat = _flat_at_minimum(loss, pulls, curvatures, directions, tol)
        if batch_size is None:
            return torch.zeros_like(curvatures)
        steep = directions[:, ~flat]
        cloud = lr / batch_size * settled(curvatures[~flat], steep.T @ pulls.T / len(pulls) ** 0.5)
        third = loss.along(steep @ root(cloud))
    tangent = directions[:, flat]
    return -lr * tangent @ (tangent.T @ third)


def settled(curvatures: torch.Tensor, pulls: torch.Tensor) -> torch.Tensor:
    """X over lr from ``H X + X H = 2 D`` in the eigenbasis of H.

    Args:
        curvatures: (r,), positive.
        pulls: (r, n), with ``D = pulls pulls^T``.

    Returns:
        (r, r).
    """
    return 2 * pulls @ pulls.T / (curvatures[:, None] + curvatures)


def root(cloud: torch.Tensor) -> torch.Tensor:
    """R with ``R R^T`` the cloud, a column for each of its directions."""
    variances, axes = torch.linalg.eigh(cloud)
    return axes * variances.clamp(min=0).sqrt()


def steep_count(model: torch.nn.Module, x: Inputs, y: torch.Tensor, tol: float) -> int:
    """The rank of H at a minimum, where :func:`residual_drift` is defined.

    Returns:
        r.

    Raises:
        ValueError: if it is not.
    """
    tol = _as_tol(tol)
    with gradients_possible(), twice_differentiable(model):
        pulls, loss = forces(model, x, y), loss_at(model, x, y)
        curvatures, directions = torch.linalg.eigh(loss.hessian())
    return int((~_flat_at_minimum(loss, pulls, curvatures, directions, tol)).sum())


def _as_tol(tol: float) -> float:
    tol = as_number("tol", tol)
    if not 0 <= tol < 1:
        raise ValueError(f"tol must be in [0, 1), got {tol:g}")
    return tol


def _flat_at_minimum(
    loss: Loss, pulls: torch.Tensor, curvatures: torch.Tensor, directions: torch.Tensor, tol: float
) -> torch.Tensor:
    """Which eigenvectors of H are tangent to the minima, (p,) booleans; refuse what is no minimum or diffuses along them."""
    scale = pulls.square().sum(dim=1).mean().sqrt().item()
    slope = pulls.mean(dim=0).norm().item()
    largest = curvatures.abs().max()
    if slope > AT_MINIMUM * scale + ROUNDING * largest.sqrt():
        raise ValueError(
            f"theta is no minimum of the mean squared error: half its gradient has norm {slope:.3g}, with parts of {scale:.3g}"
            " by example; project_to_minimum(model, x, y) moves to one"
        )
    if curvatures[0] < -max(tol, 1e-12) * largest:
        raise ValueError(f"theta is no minimum of the mean squared error: its Hessian has the eigenvalue {curvatures[0]:.3g}")
    if is_undecided(loss, curvatures):
        raise ValueError(
            f"theta may be a saddle: its Hessian is 0, and a mean squared error of {2 * loss.value:.3g} is left; move theta a"
            " little, then project_to_minimum(model, x, y)"
        )
    flat = curvatures <= tol * largest
    along = (pulls @ directions[:, flat]).square().sum(dim=1).mean().sqrt().item()
    if along > ALONG_MINIMA * scale + ROUNDING * largest.sqrt():
        raise ValueError(
            f"plain SGD diffuses along the minima, by forces of {along:.3g} beside {scale:.3g} in all: residual_drift is for"
            " minima along which no example with a residual changes"
        )
    return flat
