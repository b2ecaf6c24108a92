"""Two-layer networks of tanh or logistic units without biases: the model of Theorem 3."""

from typing import Literal, get_args

import numpy as np
import torch

from ..arguments import as_integer, as_nonnegative
from .compiled import inlined, jit, logistic, tanh
from .stepping import Extras, look_around, move, scratch

Sigmoid = Literal["tanh", "logistic"]
FUNCTIONS = {"tanh": torch.tanh, "logistic": torch.sigmoid}
NUMBERS_PER_CHUNK = 2**17


class TwoLayerSigmoidal(torch.nn.Module):
    r"""The hypothesis ``h(x, theta) = sum_i c_i s(w_i . x)``, with s the hyperbolic tangent or the logistic function.

    At the start the entries of ``w_i`` are drawn from N(0, input_std^2), and ``c_i ~ N(0, output_std^2)``. There are no biases.

    Args:
        width: number of hidden units m.
        dim: of the inputs, d.
        activation: s; ``"logistic"`` is ``s(z) = 1 / (1 + exp(-z))``.
        seed: of the initial parameters.
        input_std: standard deviation of the entries of w at the start.
        output_std: standard deviation of c_i at the start.
        dtype: of the parameters.

    Shapes: x (n, d); h (n,); parameters w (m, d) with a row for each unit, c (m,), in this order.

    Raises:
        TypeError: if ``width`` or ``dim`` is no integer, or a standard deviation no number.
        ValueError: if ``width`` or ``dim`` is below 1, a standard deviation negative, or the activation unknown; or x has
            another shape.

    Source: Theorem 3 and Appendix C, whose w is the transpose.
    """

    def __init__(
        self,
        width: int,
        dim: int,
        activation: Sigmoid = "tanh",
        *,
        seed: int = 0,
        input_std: float = 1.0,
        output_std: float = 1.0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        width, dim = as_integer("width", width, 1), as_integer("dim", dim, 1)
        check_activation(activation)
        input_std, output_std = as_nonnegative("input_std", input_std), as_nonnegative("output_std", output_std)
        self.config = {"width": width, "dim": dim, "activation": activation}
        self.activation = activation
        generator = torch.Generator().manual_seed(seed)
        w = torch.randn(width, dim, generator=generator, dtype=torch.float64)
        c = torch.randn(width, generator=generator, dtype=torch.float64)
        self.w = torch.nn.Parameter((input_std * w).to(dtype))
        self.c = torch.nn.Parameter((output_std * c).to(dtype))

    def hidden(self, x: torch.Tensor) -> torch.Tensor:
        """Values ``s(w_i . x)`` of the hidden units, (n, m), for x (n, d)."""
        if x.dim() != 2 or x.shape[1] != self.w.shape[1]:
            raise ValueError(f"x must have shape (n, {self.w.shape[1]}), got {tuple(x.shape)}")
        return FUNCTIONS[self.activation](x @ self.w.T)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output h, (n,), for x (n, d)."""
        return self.hidden(x) @ self.c

    def loss_and_reg(self, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean squared error and reg at many theta at once; as :func:`labelnoise_utils.regularizer.snapshots.loss_and_reg`.

        ``||grad h(x)||^2 = sum_i s(z_i)^2 + |x|^2 sum_i c_i^2 s'(z_i)^2`` with ``z_i = w_i . x``.

        Args:
            theta: (k, p), all parameters.
            x: (n, d).
            y: (n,).

        Returns:
            loss (k,) and reg (k,).

        Source: equation (4), divided by n, and equation (3).
        """
        m, d = self.w.shape
        loss, reg = theta.new_zeros(2, len(theta))
        for part in torch.arange(len(theta)).split(max(1, NUMBERS_PER_CHUNK // (len(x) * m))):
            w, c = theta[part, : m * d].view(-1, m, d), theta[part, m * d :, None]
            units = FUNCTIONS[self.activation](x @ w.mT)
            slopes = 1 - units.square() if self.activation == "tanh" else units * (1 - units)
            h, sums = (units @ c)[..., 0], (slopes.square() @ c.square())[..., 0]
            loss[part] = (h - y).square().mean(dim=1)
            reg[part] = (units.square().sum(dim=2) + x.square().sum(dim=1) * sums).mean(dim=1)
        return loss, reg

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
        """Step ``theta = (w, c)`` in place; arguments as in :func:`labelnoise_utils.sgd.engines.train_compiled`."""
        width, dim = self.w.shape
        # The kernel's loops run over units, so there w is transposed: each coordinate's weights side by side.
        order = np.concatenate([np.arange(width * dim).reshape(width, dim).T.ravel(), np.arange(width) + width * dim])
        by_coordinate = theta[order]
        arguments = by_coordinate, width, self.activation == "tanh", x, y, indices, noise, lr
        if indices.shape[1] == 1 and not frozen.size:
            done = _sgd(*arguments)
        else:
            done = _sgd_on_batches(*arguments, np.argsort(order)[frozen])
        theta[order] = by_coordinate
        return done

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
        width, dim = self.w.shape
        order = np.concatenate([np.arange(width * dim).reshape(width, dim).T.ravel(), np.arange(width) + width * dim])
        by_coordinate, speed = theta[order], velocity[order] if velocity.size else velocity
        arguments = by_coordinate, order, self.activation == "tanh", x, y, indices, noise, lr
        done = _steps(*arguments, np.argsort(order)[frozen], speed, first, extras)
        theta[order] = by_coordinate
        if velocity.size:
            velocity[order] = speed
        return done


def check_activation(name: object) -> None:
    """Refuse the name of another activation.

    Raises:
        ValueError: if it is neither "tanh" nor "logistic".
    """
    if name not in get_args(Sigmoid):
        raise ValueError(f"activation must be one of {', '.join(get_args(Sigmoid))}, got {name!r}")


@inlined
def _step(w, c, h, g, is_tanh, x, s, x_next):
    """One step of equation (5) on the example x, in place, and in the same pass over w (d, m) the output on the next one.

    ``s = 2 lr residual`` is that of x; ``h`` (m,) holds ``s(w_i . x)``, which becomes that of ``x_next``; ``g`` (m,) is
    scratch: s times the derivative of the output in ``w_i . x``.

    The plain loop passes over w twice a step, for the output and for the update. Here a weight is loaded and stored once,
    and two coordinates at a time, since h and g then are read half as often.

    Returns:
        The output on ``x_next`` after the step.
    """
    dim, m = w.shape
    for i in range(m):
        slope = 1 - h[i] * h[i] if is_tanh else h[i] * (1 - h[i])
        g[i] = s * c[i] * slope
        c[i] -= s * h[i]
        h[i] = 0.0
    in_twos = dim // 2 * 2
    for j in range(0, in_twos, 2):
        w0, w1, x0, x1, next0, next1 = w[j], w[j + 1], x[j], x[j + 1], x_next[j], x_next[j + 1]
        for i in range(m):
            a0, a1 = w0[i] - g[i] * x0, w1[i] - g[i] * x1
            w0[i], w1[i] = a0, a1
            h[i] += a0 * next0 + a1 * next1
    for j in range(in_twos, dim):
        for i in range(m):
            w[j, i] -= g[i] * x[j]
            h[i] += w[j, i] * x_next[j]
    output = 0.0
    if is_tanh:
        for i in range(m):
            h[i] = tanh(h[i])
            output += c[i] * h[i]
    else:
        for i in range(m):
            h[i] = logistic(h[i])
            output += c[i] * h[i]
    return output


@jit
def _sgd(theta, m, is_tanh, x, y, indices, noise, lr):
    # In arrays of their own, which the compiler knows not to overlap.
    w, c, h, g = theta[:-m].copy().reshape(x.shape[1], m), theta[-m:].copy(), np.zeros(m), np.empty(m)
    steps, last, s = len(indices), 0, 0.0
    # The update by the last example is a turn of its own, in the same loop: the compiler may round a second copy of the step
    # in another way, and then slices of a run would not be the run.
    for t in range(steps + 1):
        i = indices[t, 0] if t < steps else last
        output = _step(w, c, h, g, is_tanh, x[last], s, x[i])
        if t < steps:
            residual = output - (y[i] + noise[t, 0])
            last, s = i, 2 * lr * residual
            if not abs(residual) < np.inf:
                return t
    theta[:-m], theta[-m:] = w.reshape(-1), c
    return steps


@jit
def _sgd_on_batches(theta, m, is_tanh, x, y, indices, noise, lr, frozen):
    steps, batch_size = indices.shape
    w, c, h, g = theta[:-m].reshape(x.shape[1], m), theta[-m:], np.zeros(m), np.empty(m)
    kept, start, total = theta[frozen], np.empty_like(theta), np.empty_like(theta)
    for t in range(steps):
        # The step on a batch is the mean of the steps on its examples, all from the same point.
        residuals = 0.0
        start[:] = theta
        total[:] = 0
        for k in range(batch_size):
            i = indices[t, k]
            theta[:] = start
            residual = _step(w, c, h, g, is_tanh, x[i], 0.0, x[i]) - (y[i] + noise[t, k])
            _step(w, c, h, g, is_tanh, x[i], 2 * lr * residual, x[i])
            total += theta
            residuals += residual
        theta[:] = total / batch_size
        for j in range(frozen.size):
            theta[frozen[j]] = kept[j]
        if not abs(residuals) < np.inf:
            return t
    return steps


@inlined
def _add_gradient(gradient, theta, h, g, is_tanh, x, target, penalty):
    """Add the gradient of ``(h(x) - target)^2 + penalty ||grad h(x)||^2`` to ``gradient``, both by coordinates.

    ``h`` and ``g`` (m,) are scratch. With ``z_i = w_i . x`` and ``q = |x|^2`` the penalty is on ``sum_i s(z_i)^2 +
    q c_i^2 s'(z_i)^2``, whose derivatives are ``2 q c_i s'^2`` in c_i and ``2 s s' + 2 q c_i^2 s' s''`` in z_i.

    Returns:
        The residual.
    """
    dim, m = x.size, h.size
    w, c = theta[:-m].reshape(dim, m), theta[-m:]
    for_w, for_c = gradient[:-m].reshape(dim, m), gradient[-m:]
    h[:] = 0
    square, output = 0.0, 0.0
    for j in range(dim):
        square += x[j] * x[j]
        for i in range(m):
            h[i] += w[j, i] * x[j]
    if is_tanh:
        for i in range(m):
            h[i] = tanh(h[i])
            output += c[i] * h[i]
    else:
        for i in range(m):
            h[i] = logistic(h[i])
            output += c[i] * h[i]
    residual = output - target
    for i in range(m):
        slope = 1 - h[i] * h[i] if is_tanh else h[i] * (1 - h[i])
        second = -2 * h[i] * slope if is_tanh else slope * (1 - 2 * h[i])
        for_c[i] += 2 * residual * h[i] + 2 * penalty * square * c[i] * slope * slope
        g[i] = 2 * residual * c[i] * slope + 2 * penalty * slope * (h[i] + square * c[i] * c[i] * second)
    for j in range(dim):
        for i in range(m):
            for_w[j, i] += g[i] * x[j]
    return residual


@jit
def _steps(theta, order, is_tanh, x, y, indices, noise, lr, frozen, velocity, first, extras):
    steps, batch_size = indices.shape
    m = theta.size // (x.shape[1] + 1)
    (xi, room, gradient), h, g = scratch(theta), np.empty(m), np.empty(m)
    for t in range(steps):
        point = look_around(theta, frozen, order, first + t, extras, xi, room, gradient)
        residual = 0.0
        for k in range(batch_size):
            i = indices[t, k]
            residual += _add_gradient(gradient, point, h, g, is_tanh, x[i], y[i] + noise[t, k], extras.penalty)
        if not abs(residual) < np.inf:
            return t
        move(theta, frozen, order, extras, xi, gradient, lr / batch_size, velocity)
    return steps
