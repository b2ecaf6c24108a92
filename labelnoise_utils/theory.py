"""The geometry at a zero-error point, and what the theory predicts there: the OU process, the drift, repellent or not."""

import math
from dataclasses import dataclass

import torch

from .arguments import as_integer, as_nonnegative, as_number, as_positive
from .hypothesis import (
    attributes_kept,
    check_per_example,
    outside_inference_mode,
    set_parameters,
    trainable,
    twice_differentiable,
)
from .regularizer import implicit_regularizer

LARGEST_JACOBIAN = 2**27


@dataclass(frozen=True, eq=False)
class Linearization:
    """The model to first order in theta, at the parameters it had.

    Attributes:
        jacobian: (n, p), dh(x_i)/dtheta; with k outputs (n k, p), the outputs of an example one after the other.
        gamma: (r,), the positive eigenvalues of ``(1/n) jacobian^T jacobian``, largest first; their sum is reg.
        normal: (p, r), their orthonormal eigenvectors. All directions orthogonal to them are tangent: h does not change along
            them, to first order.
    """

    jacobian: torch.Tensor
    gamma: torch.Tensor
    normal: torch.Tensor

    def project_tangent(self, vector: torch.Tensor) -> torch.Tensor:
        """The part of a vector (p,), or of each row of (m, p), that lies in the tangent space.

        Returns:
            A tensor of the same shape.

        Raises:
            TypeError: if vector is no tensor.
            ValueError: if its shape or dtype is another.
        """
        if not isinstance(vector, torch.Tensor):
            raise TypeError(f"vector must be a torch.Tensor, got {type(vector).__name__}")
        count, dtype = len(self.normal), self.normal.dtype
        if vector.dim() not in (1, 2) or vector.shape[-1] != count or vector.dtype != dtype:
            raise ValueError(
                f"vector must have shape ({count},) or (m, {count}) and {dtype}, got {tuple(vector.shape)} and {vector.dtype}"
            )
        return vector - vector @ self.normal @ self.normal.T


def linearize(model: torch.nn.Module, x: torch.Tensor, *, tol: float | None = None) -> Linearization:
    """The Jacobian of the model and the directions in which it restores.

    By one backward pass for each example and output, and a singular value decomposition: ``n p`` numbers of memory and about
    ``n^2 p`` operations.

    Args:
        model: any module whose Jacobian fits.
        x: (n, ...), the inputs.
        tol: singular values of the Jacobian up to ``tol`` times the largest count as zero; by default
            ``max(n, p)`` times the machine epsilon.

    Returns:
        A :class:`Linearization`; nothing in it is differentiable.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if the Jacobian would hold more than ``2^27`` numbers, h or the Jacobian is not finite, a parameter is
            neither float32 nor float64, tol is not in [0, 1), or as in :func:`implicit_regularizer`.

    Source: section 3.2; gamma is its diagonal matrix E[h_i^j h_i^k] in the basis of its eigenvectors.
    """
    if tol is not None:
        tol = as_number("tol", tol)
        if not 0 <= tol < 1:
            raise ValueError(f"tol must be in [0, 1), got {tol:g}")
    jacobian = _jacobian(model, x)
    _, sizes, directions = torch.linalg.svd(jacobian, full_matrices=False)
    tol = max(jacobian.shape) * torch.finfo(jacobian.dtype).eps if tol is None else tol
    rank = int((sizes > tol * sizes[:1]).sum())
    return Linearization(jacobian, sizes[:rank].square() / len(x), directions[:rank].T)


def _jacobian(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """dh/dtheta (n k, p)."""
    parameters = trainable(model)
    with outside_inference_mode():
        check_per_example(model, x)
    for name, p in parameters.items():
        if p.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"parameter {name!r} must be float32 or float64 for a Jacobian, got {p.dtype}")
    count = sum(p.numel() for p in parameters.values())
    rows = []
    with outside_inference_mode(), attributes_kept(model):
        for x_i in (x.clone() if x.is_inference() else x).split(1):
            with torch.enable_grad():
                h = model(x_i)[0].reshape(-1)
                outputs = h.unbind()
            if len(x) * len(h) * count > LARGEST_JACOBIAN:
                raise ValueError(
                    f"the Jacobian would hold {len(x)} x {len(h)} x {count:,} numbers (examples, outputs, parameters), more"
                    f" than {LARGEST_JACOBIAN:,}: pass fewer examples or freeze parameters"
                )
            check_finite(h)
            if not h.requires_grad:
                rows.append(h.new_zeros(len(h), count))
                continue
            for output in outputs:
                slopes = torch.autograd.grad(output, list(parameters.values()), retain_graph=True, materialize_grads=True)
                rows.append(torch.cat([slope.to_dense().reshape(-1) for slope in slopes])[None])
    jacobian = torch.cat(rows)
    if not jacobian.isfinite().all():
        raise ValueError("the Jacobian of the model is not finite: h has an infinite slope at these parameters")
    return jacobian


def check_finite(h: torch.Tensor) -> None:
    """Refuse outputs that are NaN or infinite.

    Raises:
        ValueError: if one is.
    """
    if not h.isfinite().all():
        raise ValueError("model(x) is not finite: the parameters hold NaN or infinity, or are too large")


def project_to_zero_error(
    model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, *, tol: float = 1e-12, max_steps: int = 100
) -> int:
    """Move the parameters to a nearby point with zero training error, by Newton's method with the shortest steps.

    ``theta <- theta - J^+ (h - y)``, with the pseudo-inverse of the Jacobian J. A step that does not lower the error is
    halved, up to thirty times.

    Args:
        model: changed in place.
        x: (n, ...), the inputs.
        y: of the shape of ``model(x)``, the labels.
        tol: the largest ``|h - y|`` allowed at the end, in units of y.
        max_steps: of Newton's method.

    Returns:
        How many steps it took.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if y has another shape, tol is not positive, or as in :func:`linearize`.
        ArithmeticError: if there is no such point near by; the model is back where it was.

    Source: ours; it makes the points theta* of section 3.
    """
    tol, max_steps = as_positive("tol", tol), as_integer("max_steps", max_steps, 1)
    error = errors(model, x, y)
    y = y.to(error)
    start = torch.nn.utils.parameters_to_vector(trainable(model).values()).detach().clone()
    for step in range(max_steps + 1):
        size = error.abs().max()
        if size <= tol:
            return step
        jacobian = _jacobian(model, x)
        theta = torch.nn.utils.parameters_to_vector(trainable(model).values()).detach()
        move = torch.linalg.pinv(jacobian) @ error
        before = error.norm()
        for halvings in range(31):
            set_parameters(model, theta - move / 2**halvings)
            with torch.no_grad():
                error = (model(x) - y).reshape(-1)
            if error.norm() < before:
                break
        else:
            break
    set_parameters(model, start)
    raise ArithmeticError(f"no point with an error below {tol:g} was found near by; the error got down to {size.item():.3g}")


def errors(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The errors h - y, from arguments that are checked first.

    Returns:
        (n k,), the outputs of an example one after the other.

    Raises:
        TypeError: if x or y is no tensor, or model no module.
        ValueError: if y has another shape than ``model(x)``, one of the two is not finite, or as in
            :func:`implicit_regularizer`.
    """
    trainable(model)
    with outside_inference_mode():
        check_per_example(model, x)
    if not isinstance(y, torch.Tensor):
        raise TypeError(f"y must be a torch.Tensor, got {type(y).__name__}")
    with outside_inference_mode(), torch.no_grad(), attributes_kept(model):
        h = model(x)
    if h.shape != y.shape:
        raise ValueError(f"y must have the shape of model(x), {tuple(h.shape)}, got {tuple(y.shape)}")
    if not y.isfinite().all():
        raise ValueError(f"y must be finite, got NaN or infinity in example {(~y.isfinite()).nonzero()[0, 0].item()}")
    check_finite(h)
    return (h - y.to(h)).reshape(-1)


def stationary_variance(lr: float, noise_std: float, batch_size: int = 1) -> float:
    """Variance of one parameter under label-noise SGD at a zero-error point.

    Along a direction with gamma > 0 the update is, to first order, ``theta <- (1 - 2 lr gamma) theta + 2 lr sqrt(gamma) xi``
    with ``Var xi = noise_std^2 / batch_size``. The variance that such a step leaves unchanged solves
    ``v = (1 - 4 lr gamma) v + 4 lr^2 gamma noise_std^2 / batch_size``, up to ``4 lr^2 gamma^2 v``: gamma cancels, and the
    cloud is round although the noise is not.

    Args:
        lr: learning rate, > 0.
        noise_std: standard deviation of the label noise, in units of the label, >= 0.
        batch_size: examples per step, each with its own noise.

    Returns:
        ``lr * noise_std^2 / batch_size``, in squared units of the parameter.

    Raises:
        TypeError: if an argument is no number.
        ValueError: if ``lr`` is not positive, ``noise_std`` negative or ``batch_size`` below 1.

    Source: equation (11) and Lemma 7.

    >>> stationary_variance(lr=0.01, noise_std=0.5)
    0.0025
    """
    lr, noise_std, batch_size = _settings(lr, noise_std, batch_size)
    return lr * noise_std**2 / batch_size


def _settings(lr: float, noise_std: float, batch_size: int) -> tuple[float, float, int]:
    return as_positive("lr", lr), as_nonnegative("noise_std", noise_std), as_integer("batch_size", batch_size, 1)


def ornstein_uhlenbeck(
    gamma: float,
    *,
    lr: float,
    noise_std: float,
    steps: int | float = math.inf,
    batch_size: int = 1,
    mean: float = 0.0,
    variance: float = 0.0,
) -> tuple[float, float]:
    """Mean and variance of the Ornstein-Uhlenbeck recursion after some steps, exactly.

    ``theta <- q theta + 2 lr sqrt(gamma) xi`` with ``q = 1 - 2 lr gamma`` and ``Var xi = noise_std^2 / batch_size`` has

    ``mean_t = q^t mean_0``,  ``var_t = q^2t var_0 + (1 - q^2t) lr noise_std^2 / (batch_size (1 - lr gamma))``.

    Args:
        gamma: curvature in the direction, >= 0. At 0 nothing moves.
        lr: learning rate, > 0, below ``1 / gamma``.
        noise_std: standard deviation of the label noise, >= 0.
        steps: how many, >= 0; infinity for the stationary law.
        batch_size: examples per step, each with its own noise.
        mean: at the start.
        variance: at the start, >= 0.

    Returns:
        Mean and variance.

    Raises:
        TypeError: if an argument is no number.
        ValueError: if one is out of range.

    That the choice of the example is random too adds to the variance, by a part of order ``lr reg`` of it; for one example
    there is no choice, and the law is that of SGD on a linear model.

    Source: section 3.2 and equation (11), with the term of order lr^2 gamma^2 that (11) leaves to its remainder.

    >>> ornstein_uhlenbeck(1.0, lr=0.01, noise_std=1.0, steps=0, mean=3.0)
    (3.0, 0.0)
    """
    lr, noise_std, batch_size = _settings(lr, noise_std, batch_size)
    gamma, mean, variance = as_number("gamma", gamma), as_number("mean", mean), as_nonnegative("variance", variance)
    if not (isinstance(steps, float) and steps == math.inf):
        steps = as_integer("steps", steps, 0)
    if gamma < 0 or lr * gamma >= 1:
        raise ValueError(f"gamma must be in [0, 1 / lr), got {gamma:g} for lr {lr:g}")
    if gamma == 0:
        return mean, variance
    q = 1 - 2 * lr * gamma
    # 1 - q^2t, without the cancellation where q^2t is close to 1.
    reached = -math.expm1(2 * steps * math.log1p(-2 * lr * gamma)) if q > 0 else 1 - q ** (2 * steps)
    stationary = lr * noise_std**2 / batch_size / (1 - lr * gamma)
    return q**steps * mean, q ** (2 * steps) * variance + reached * stationary


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
    with outside_inference_mode(), attributes_kept(model), twice_differentiable(model), torch.enable_grad():
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
    with outside_inference_mode(), torch.enable_grad():
        reg = implicit_regularizer(model, x)
        if not reg.requires_grad:
            return torch.zeros_like(torch.nn.utils.parameters_to_vector(parameters)).detach()
        slopes = torch.autograd.grad(reg, parameters, materialize_grads=True)
    return torch.cat([slope.to_dense().reshape(-1) for slope in slopes])


def drift(
    model: torch.nn.Module, x: torch.Tensor, *, lr: float, noise_std: float, batch_size: int = 1, tol: float | None = None
) -> torch.Tensor:
    """Mean movement of the parameters per step along the zero-error manifold, to leading order.

    ``-lr^2 noise_std^2 / batch_size * P grad reg``, where P projects onto the tangent space.

    Args:
        model: at a point with zero training error.
        x: (n, ...), the inputs.
        lr: learning rate, > 0.
        noise_std: standard deviation of the label noise, >= 0.
        batch_size: examples per step, each with its own noise.
        tol: of the rank, as in :func:`linearize`.

    Returns:
        (p,), in units of the parameters per step.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if a number is out of range, or as in :func:`linearize`.

    Source: Lemma 8, whose sum over k is half the derivative of reg.
    """
    lr, noise_std, batch_size = _settings(lr, noise_std, batch_size)
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
