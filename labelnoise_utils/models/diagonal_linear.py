"""Linear functions in a quadratic parametrisation, h = <u*u - v*v, x>: where label noise becomes a Lasso."""

import numpy as np
import torch

from ..arguments import as_integer, as_positive
from .compiled import inlined, jit
from .stepping import Extras, look_around, move, scratch


class DiagonalLinear(torch.nn.Module):
    r"""The hypothesis ``h(x, theta) = sum_j (u_j^2 - v_j^2) x_j``; unsigned ``sum_j u_j^2 x_j``.

    As a function of x it is linear, with the coefficients ``w = u*u - v*v``, products entry by entry. Its gradient in ``u_j``
    is ``2 u_j x_j``, that in ``v_j`` its negative with v, so

    ``reg = 4 sum_j q_j (u_j^2 + v_j^2)``  with  ``q_j = (1/n) sum_i x_ij^2``.

    For given w reg is least where one of ``u_j, v_j`` is 0, and there it is ``4 sum_j q_j |w_j|``, a weighted sum of absolute
    values.

    Args:
        dim: of the inputs, d.
        signed: whether there is a v; without it no coefficient is negative.
        scale: of all entries of u and v at the start, > 0. Signed, h is 0 at the start.
        dtype: of the parameters.

    Shapes: x (n, d); h (n,); parameters u (d,) and, if signed, v (d,).

    Raises:
        TypeError: if ``dim`` is no integer, ``scale`` no number or ``signed`` no truth value.
        ValueError: if ``dim`` is below 1 or ``scale`` not positive; or x has another shape.

    Source: HaoChen, Wei, Lee and Ma (2021), unsigned; Pillaud-Vivien, Reygner and Flammarion (2022).
    """

    def __init__(self, dim: int, *, signed: bool = True, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        dim, scale = as_integer("dim", dim, 1), as_positive("scale", scale)
        if not isinstance(signed, bool):
            raise TypeError(f"signed must be True or False, got {signed!r}")
        self.config = {"dim": dim, "signed": signed, "scale": scale}
        self.u = torch.nn.Parameter(torch.full((dim,), scale, dtype=dtype))
        self.v = torch.nn.Parameter(torch.full((dim,), scale, dtype=dtype)) if signed else None

    def coefficients(self) -> torch.Tensor:
        """The coefficients w of the linear function, (d,)."""
        return self.u.square() if self.v is None else self.u.square() - self.v.square()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output h, (n,), for x (n, d)."""
        if x.dim() != 2 or x.shape[1] != len(self.u):
            raise ValueError(f"x must have shape (n, {len(self.u)}), got {tuple(x.shape)}")
        return x @ self.coefficients()

    def loss_and_reg(self, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean squared error and reg at many theta at once; as :func:`labelnoise_utils.regularizer.snapshots.loss_and_reg`.

        Args:
            theta: (k, p), all parameters.
            x: (n, d).
            y: (n,).

        Returns:
            loss (k,) and reg (k,).

        Source: equation (4), divided by n, and equation (3).
        """
        dim = len(self.u)
        u, v = theta[:, :dim].square(), theta[:, dim:].square()
        w, total = (u, u) if self.v is None else (u - v, u + v)
        return (w @ x.T - y).square().mean(dim=1), 4 * total @ x.square().mean(dim=0)

    def compiled_sgd(
        self,
        theta: np.ndarray,
        x: np.ndarray,
        y: np.ndarray,
        indices: np.ndarray,
        noise: np.ndarray,
        lr: float,
        frozen: np.ndarray,
    ) -> int:
        """Step ``theta = (u, v)`` in place; arguments as in :func:`labelnoise_utils.sgd.engines.train_compiled`."""
        return _sgd(theta, x, y, indices, noise, lr, frozen)

    def compiled_steps(
        self,
        theta: np.ndarray,
        x: np.ndarray,
        y: np.ndarray,
        indices: np.ndarray,
        noise: np.ndarray,
        lr: float,
        frozen: np.ndarray,
        velocity: np.ndarray,
        first: int,
        extras: Extras,
    ) -> int:
        """The same with momentum, a penalty or noise on theta; see :func:`labelnoise_utils.sgd.engines.train_compiled`."""
        return _steps(theta, x, y, indices, noise, lr, frozen, velocity, first, extras)


@jit
def _step(u, v, x, target, lr):
    """One step of equation (5) on h = <u*u - v*v, x>, in place; v is empty if unsigned. Returns the residual before it."""
    residual = -target
    for j in range(u.size):
        residual += u[j] * u[j] * x[j]
    for j in range(v.size):
        residual -= v[j] * v[j] * x[j]
    s = 4 * lr * residual
    for j in range(u.size):
        u[j] -= s * x[j] * u[j]
    for j in range(v.size):
        v[j] += s * x[j] * v[j]
    return residual


@jit
def _sgd(theta, x, y, indices, noise, lr, frozen):
    steps, batch_size = indices.shape
    u, v = theta[: x.shape[1]], theta[x.shape[1] :]
    kept, start, total = theta[frozen], np.empty_like(theta), np.empty_like(theta)
    for t in range(steps):
        if batch_size == 1:
            residual = _step(u, v, x[indices[t, 0]], y[indices[t, 0]] + noise[t, 0], lr)
        else:
            # The step on a batch is the mean of the steps on its examples, all from the same point.
            residual = 0.0
            start[:] = theta
            total[:] = 0
            for k in range(batch_size):
                theta[:] = start
                residual += _step(u, v, x[indices[t, k]], y[indices[t, k]] + noise[t, k], lr)
                total += theta
            theta[:] = total / batch_size
        for j in range(frozen.size):
            theta[frozen[j]] = kept[j]
        if not abs(residual) < np.inf:
            return t
    return steps


@inlined
def _add_gradient(gradient, theta, x, target, penalty):
    """Add the gradient of ``(h(x) - target)^2 + penalty ||grad h(x)||^2`` to ``gradient``. Returns the residual."""
    dim = x.size
    residual = -target
    for j in range(theta.size):
        residual += theta[j] * theta[j] * (x[j] if j < dim else -x[j - dim])
    for j in range(theta.size):
        slope = x[j] if j < dim else -x[j - dim]
        gradient[j] += (4 * residual * slope + 8 * penalty * slope * slope) * theta[j]
    return residual


@jit
def _steps(theta, x, y, indices, noise, lr, frozen, velocity, first, extras):
    steps, batch_size = indices.shape
    order, (xi, room, gradient) = np.empty(0, np.int64), scratch(theta)
    for t in range(steps):
        point = look_around(theta, frozen, order, first + t, extras, xi, room, gradient)
        residual = 0.0
        for k in range(batch_size):
            i = indices[t, k]
            residual += _add_gradient(gradient, point, x[i], y[i] + noise[t, k], extras.penalty)
        if not abs(residual) < np.inf:
            return t
        move(theta, frozen, order, extras, xi, gradient, lr / batch_size, velocity)
    return steps
