"""The smallest model on which label noise has its effect: h = u v."""

import numpy as np
import torch

from .compiled import inlined, jit
from .stepping import Extras, look_around, move, scratch


class Product(torch.nn.Module):
    """The hypothesis ``h(x, theta) = u v``, the same for every example.

    Zero error on a label y is the hyperbola ``u v = y``, and ``reg = u^2 + v^2`` is least on it where ``|u| = |v|``.

    Args:
        u: first parameter at the start.
        v: second parameter at the start.
        dtype: of both.

    Shapes: x (n, ...), only n is read; h (n,). Parameters u and v are scalars.

    Source: ours; the smallest case of section 3.3.
    """

    def __init__(self, u: float = 1.0, v: float = 1.0, *, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.config = {"u": u, "v": v}
        self.u = torch.nn.Parameter(torch.tensor(float(u), dtype=dtype))
        self.v = torch.nn.Parameter(torch.tensor(float(v), dtype=dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output h, (n,), for x (n, ...)."""
        return (self.u * self.v).expand(x.shape[0])

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
        return _sgd(theta, y, indices, noise, lr, frozen)

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
        return _steps(theta, y, indices, noise, lr, frozen, velocity, first, extras)


@jit
def _step(theta, target, lr):
    """One step of equation (5) on h = u v, in place. Returns the residual h - target before the step."""
    u, v = theta[0], theta[1]
    residual = u * v - target
    theta[0] -= 2 * lr * residual * v
    theta[1] -= 2 * lr * residual * u
    return residual


@jit
def _sgd(theta, y, indices, noise, lr, frozen):
    steps, batch_size = indices.shape
    kept, start, total = theta[frozen], np.empty_like(theta), np.empty_like(theta)
    for t in range(steps):
        if batch_size == 1:
            residual = _step(theta, y[indices[t, 0]] + noise[t, 0], lr)
        else:
            # The step on a batch is the mean of the steps on its examples, all from the same point.
            residual = 0.0
            start[:] = theta
            total[:] = 0
            for k in range(batch_size):
                theta[:] = start
                residual += _step(theta, y[indices[t, k]] + noise[t, k], lr)
                total += theta
            theta[:] = total / batch_size
        for j in range(frozen.size):
            theta[frozen[j]] = kept[j]
        if not abs(residual) < np.inf:
            return t
    return steps


@inlined
def _add_gradient(gradient, theta, target, penalty):
    """Add the gradient of ``(h - target)^2 + penalty ||grad h||^2`` to ``gradient``. Returns the residual."""
    u, v = theta[0], theta[1]
    residual = u * v - target
    gradient[0] += 2 * residual * v + 2 * penalty * u
    gradient[1] += 2 * residual * u + 2 * penalty * v
    return residual


@jit
def _steps(theta, y, indices, noise, lr, frozen, velocity, first, extras):
    steps, batch_size = indices.shape
    order, (xi, room, gradient) = np.empty(0, np.int64), scratch(theta)
    for t in range(steps):
        point = look_around(theta, frozen, order, first + t, extras, xi, room, gradient)
        residual = 0.0
        for k in range(batch_size):
            residual += _add_gradient(gradient, point, y[indices[t, k]] + noise[t, k], extras.penalty)
        if not abs(residual) < np.inf:
            return t
        move(theta, frozen, order, extras, xi, gradient, lr / batch_size, velocity)
    return steps
