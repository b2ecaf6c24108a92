"""Where the cloud drifts: the gradient of reg along the zero-error manifold, and Theorem 1's test."""

import torch

from ..arguments import as_nonnegative, as_positive
from ..regularizer import implicit_regularizer
from ..regularizer.hypothesis import attributes_kept, gradients_possible, trainable, twice_differentiable
from ..regularizer.norms import ElementaryNorms
from ..sgd.noise import LabelNoise
from .brackets import bracket_drift
from .cloud import settings
from .geometry import errors, linearize
from .noise_covariance import check_noise, equal_std


def tangential_gradient(model: torch.nn.Module, x: torch.Tensor, *, tol: float | None = None) -> torch.Tensor:
    """The gradient of reg along the zero-error manifold: grad reg without its part in the normal space.

    Args:
        model: any module whose Jacobian fits, with zero training error on x and the labels in mind.
        x: (n, ...), the inputs.
        tol: of the rank, as in :func:`linearize`.

    Returns:
        (p,). The point is repellent where it is not zero.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: as in :func:`linearize`.

    Source: Theorem 1.
    """
    return linearize(model, x, tol=tol).project_tangent(_gradient_of_reg(model, x))


def tangential_curvature(
    model: torch.nn.Module, x: torch.Tensor, *, tol: float | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Second derivatives of reg along the zero-error manifold, at a point where the first ones vanish.

    With ``grad reg = sum_i mu_i grad h_i``, they are the eigenvalues of ``Hess reg - sum_i mu_i Hess h_i`` in the tangent
    space: the second term is there because the manifold is curved. A negative one tells a saddle from a minimum. By a
    backward pass for each parameter, so for small models.

    Args:
        model: with zero training error on x and the labels in mind, and non-repellent.
        x: (n, ...), the inputs.
        tol: of the rank, as in :func:`linearize`.

    Returns:
        The eigenvalues, smallest first (p - r,), and their orthonormal eigenvectors (p, p - r), a column each.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: as in :func:`linearize`.

    Source: ours; Theorem 1 looks at first derivatives alone.
    """
    line = linearize(model, x, tol=tol)
    parameters = list(trainable(model).values())
    mu = torch.linalg.lstsq(line.jacobian.T, _gradient_of_reg(model, x)[:, None], driver="gelsd").solution[:, 0]
    with gradients_possible(), attributes_kept(model), twice_differentiable(model), torch.enable_grad():
        with ElementaryNorms():
            lagrangian = implicit_regularizer(model, x) - model(x).reshape(-1) @ mu
        slopes = torch.autograd.grad(lagrangian, parameters, create_graph=True, materialize_grads=True)
        rows = []
        for slope in torch.cat([s.reshape(-1) for s in slopes]).unbind():
            if not slope.requires_grad:
                rows.append(torch.zeros(len(line.normal), dtype=slope.dtype))
                continue
            row = torch.autograd.grad(slope, parameters, retain_graph=True, materialize_grads=True)
            rows.append(torch.cat([r.reshape(-1) for r in row]))
    hessian = torch.stack(rows)
    complete = torch.linalg.qr(line.normal, mode="complete").Q
    tangent = complete[:, line.normal.shape[1] :]
    values, vectors = torch.linalg.eigh(tangent.T @ ((hessian + hessian.T) / 2) @ tangent)
    return values, tangent @ vectors


def _gradient_of_reg(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Grad reg (p,), zero where reg is constant."""
    parameters = list(trainable(model).values())
    with gradients_possible(), torch.enable_grad():
        reg = implicit_regularizer(model, x)
        if not reg.requires_grad:
            return torch.zeros_like(torch.nn.utils.parameters_to_vector(parameters)).detach()
        slopes = torch.autograd.grad(reg, parameters, materialize_grads=True)
    return torch.cat([slope.to_dense().reshape(-1) for slope in slopes])


def drift(
    model: torch.nn.Module,
    x: torch.Tensor,
    *,
    lr: float,
    noise_std: float | None = None,
    noise: LabelNoise | None = None,
    batch_size: int | None = 1,
    tol: float | None = None,
) -> torch.Tensor:
    r"""Mean movement of the parameters per step along the zero-error manifold, to leading order.

    For equal noise ``-lr^2 noise_std^2 / batch_size * P grad reg``, where P projects onto the tangent space.

    Where the noise differs from label to label, or depends on each other's, let ``g_a`` be the gradient of label a and
    ``H_a`` its Hessian, J the rows ``g_a``, ``K = J J^T`` with eigenvalues kappa, and S the covariance of the noise as a step
    feels it. The cloud is ``lr J^T M J`` with ``K M + M K = 2 S`` (:func:`stationary_covariance`), and the drift

    ``-(2 lr^2 / n) P sum_a H_a J^T (M K)_a  =  -lr^2 P grad W  -  (2 lr^2 / n) sum_{a<b} A_ab P [g_a, g_b]``.

    W is the :func:`weighted_regularizer`, ``A = M K - S`` is antisymmetric, ``A_ab = S_ab (kappa_b - kappa_a) / (kappa_a +
    kappa_b)`` in the eigenbasis of K, and ``[g_a, g_b] = H_b g_a - H_a g_b`` is the Lie bracket of two gradient fields. The
    brackets drop out where K and S commute, as for equal noise or a single label; else the drift is in general no gradient.

    Args:
        model: at a point with zero training error.
        x: (n, ...), the inputs.
        lr: learning rate, > 0.
        noise_std: standard deviation of equal label noise, >= 0.
        noise: in its place, any :class:`LabelNoise`.
        batch_size: examples per step, each with its own noise; None, the full batch, only with ``noise``.
        tol: of the rank, as in :func:`linearize`.

    Returns:
        (p,), in units of the parameters per step.

    Raises:
        TypeError: if an argument has the wrong type, or not exactly one of ``noise_std`` and ``noise`` is given.
        ValueError: if a number is out of range, the noise has another shape than the labels, or as in :func:`linearize`.

    Source: Lemma 8, whose sum over k is half the derivative of reg. For unequal noise ours: the drift of Katzenberger (1991),
    which Li, Wang and Arora (2022, arXiv 2110.06914) brought to SGD, written out for label noise.
    """
    if (noise_std is None) == (noise is None):
        raise TypeError("drift needs exactly one of noise_std, a number, and noise, a LabelNoise")
    if noise is not None:
        lr = as_positive("lr", lr)
        check_noise(noise)
        noise_std = equal_std(noise)
        if noise_std is None or batch_size is None:
            return bracket_drift(model, x, lr, noise, batch_size, tol)
    lr, noise_std, batch_size = settings(lr, noise_std, batch_size)
    return -(lr**2) * noise_std**2 / batch_size * tangential_gradient(model, x, tol=tol)


def is_non_repellent(
    model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, *, tol: float = 1e-6, error_tol: float = 1e-6
) -> bool:
    """Theorem 1's test: whether the gradient of reg along the zero-error manifold vanishes.

    Args:
        model: at a point with zero training error.
        x: (n, ...), the inputs.
        y: of the shape of ``model(x)``, the labels.
        tol: the largest norm of :func:`tangential_gradient` that counts as zero, relative to the norm of grad reg or, where
            that is below 1, to 1.
        error_tol: the largest ``|h - y|`` that counts as zero, in units of y.

    Returns:
        True if the point is non-repellent, so that SGD stays near it for ``lr^-1.6`` steps; False if it is strongly repellent.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if theta has training error, or as in :func:`linearize`.

    Source: Theorem 1, Definitions 4 and 5.
    """
    tol, error_tol = as_nonnegative("tol", tol), as_nonnegative("error_tol", error_tol)
    error = errors(model, x, y).abs().max().item()
    if error > error_tol:
        raise ValueError(
            f"theta has training error, max |h - y| = {error:.3g}, above error_tol = {error_tol:g}: Theorem 1 is about points"
            " without; project_to_zero_error(model, x, y) moves to one"
        )
    gradient = _gradient_of_reg(model, x)
    along = linearize(model, x).project_tangent(gradient)
    return along.norm().item() <= tol * max(1.0, gradient.norm().item())
