"""Two-layer ReLU networks on a line: the model of Figures 2 and 3 and of Theorem 2."""

import numpy as np
import torch

from ..arguments import as_integer
from .compiled import inlined, jit

NUMBERS_PER_CHUNK = 2**15


class TwoLayerReLU(torch.nn.Module):
    r"""The hypothesis ``h(x, theta) = sum_i c_i relu(a_i x + b_i) + a0 x + b0``.

    At the start ``a_i, b_i ~ N(0, input_std^2)``, ``c_i ~ N(0, output_std^2)``, ``a0 = b0 = 0``. The derivative of relu at
    0 is 0, which is Theorem 2's convention and that of ``torch.relu``.

    Args:
        width: number of hidden units m.
        skip: whether the linear and the constant unit a0, b0 are there.
        seed: of the initial parameters.
        input_std: standard deviation of a_i and b_i at the start.
        output_std: standard deviation of c_i at the start.
        dtype: of the parameters.

    Shapes: x (n,); h (n,); parameters a, b, c (m,), a0, b0 scalars, in this order.

    Raises:
        TypeError: if ``width`` is no integer.
        ValueError: if it is below 1, or x is not one-dimensional.

    Source: Appendix B (f_theta before equation 16), Figures 2 and 3.
    """

    def __init__(
        self,
        width: int,
        *,
        skip: bool = True,
        seed: int = 0,
        input_std: float = 2.0,
        output_std: float = 1.0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        width = as_integer("width", width, 1)
        self.config = {"width": width, "skip": skip}
        generator = torch.Generator().manual_seed(seed)
        a, b, c = torch.randn(3, width, generator=generator, dtype=torch.float64)
        self.a = torch.nn.Parameter((input_std * a).to(dtype))
        self.b = torch.nn.Parameter((input_std * b).to(dtype))
        self.c = torch.nn.Parameter((output_std * c).to(dtype))
        if skip:
            self.a0 = torch.nn.Parameter(torch.zeros((), dtype=dtype))
            self.b0 = torch.nn.Parameter(torch.zeros((), dtype=dtype))
        else:
            self.a0 = self.b0 = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output h, (n,), for x (n,)."""
        if x.dim() != 1:
            raise ValueError(f"x must have shape (n,), got {tuple(x.shape)}")
        h = torch.relu(torch.outer(x, self.a) + self.b) @ self.c
        return h if self.a0 is None else h + self.a0 * x + self.b0

    def loss_and_reg(self, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean squared error and reg at many theta at once; as :func:`labelnoise_utils.regularizer.snapshots.loss_and_reg`.

        ``||grad h(x)||^2 = sum_i relu(p_i)^2 + (1 + x^2) (1 + sum_i c_i^2 [p_i > 0])`` with ``p_i = a_i x + b_i``, where the
        1 in the last bracket is the share of a0 and b0.

        Args:
            theta: (k, p), all parameters.
            x: (n,).
            y: (n,).

        Returns:
            loss (k,) and reg (k,).

        Source: equation (4), divided by n, and equation (3).
        """
        m = self.a.numel()
        loss, reg = theta.new_zeros(2, len(theta))
        for part in torch.arange(len(theta)).split(max(1, NUMBERS_PER_CHUNK // (len(x) * m))):
            a, b, c, skip = theta[part, None].split([m, m, m, theta.shape[1] - 3 * m], dim=2)
            units = torch.relu(torch.addcmul(b, a, x[:, None]))
            h = (units * c).sum(dim=2)
            slopes = ((units > 0) * c.square()).sum(dim=2)
            if self.a0 is not None:
                h += skip[..., 0] * x + skip[..., 1]
                slopes += 1
            loss[part] = (h - y).square().mean(dim=1)
            reg[part] = (units.square().sum(dim=2) + (1 + x.square()) * slopes).mean(dim=1)
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
        """Step ``theta = (a, b, c, a0, b0)`` in place; arguments as in :func:`labelnoise_utils.sgd.engines.train_compiled`."""
        m = self.a.numel()
        if indices.shape[1] == 1 and not frozen.size:
            return _sgd(theta, m, x, y, indices, noise, lr)
        return _sgd_on_batches(theta, m, x, y, indices, noise, lr, frozen)


@inlined
def _step(a, b, c, relu, x, s, x_next):
    """One step of equation (5) on the example x, in place, and in the same pass over the units the output on the next one.

    ``s = 2 lr residual`` is that of x; ``relu`` (m,) holds ``relu(a_i x + b_i)``, which becomes that of ``x_next``.

    The plain loop passes over the units twice a step, for the output and for the update, and the second pass waits for the
    first. Here a unit is loaded and stored once a step, and its value, kept in ``relu``, is not computed again.

    Returns:
        The share of the units in the output on ``x_next``, after the step.
    """
    h = 0.0
    for i in range(a.size):
        g = s * c[i] if relu[i] > 0 else 0.0
        c[i] -= s * relu[i]
        a[i] -= g * x
        b[i] -= g
        p = a[i] * x_next + b[i]
        # Not p if p > 0 else 0, since NaN has to stay NaN.
        relu[i] = 0.0 if p < 0 else p
        h += c[i] * relu[i]
    return h


@jit
def _sgd(theta, m, x, y, indices, noise, lr):
    # In arrays of their own, which the compiler knows not to overlap.
    a, b, c, relu = theta[:m].copy(), theta[m : 2 * m].copy(), theta[2 * m : 3 * m].copy(), np.zeros(m)
    skip = theta[3 * m :]
    a0, b0 = (skip[0], skip[1]) if skip.size else (0.0, 0.0)
    steps, last, s = len(indices), 0, 0.0
    # The update by the last example is a turn of its own, in the same loop: the compiler may round a second copy of the step
    # in another way, and then slices of a run would not be the run.
    for t in range(steps + 1):
        i = indices[t, 0] if t < steps else last
        h = _step(a, b, c, relu, x[last], s, x[i])
        if skip.size:
            a0 -= s * x[last]
            b0 -= s
        if t < steps:
            residual = h + a0 * x[i] + b0 - (y[i] + noise[t, 0])
            last, s = i, 2 * lr * residual
            if not abs(residual) < np.inf:
                return t
    theta[:m], theta[m : 2 * m], theta[2 * m : 3 * m] = a, b, c
    if skip.size:
        skip[0], skip[1] = a0, b0
    return steps


@jit
def _sgd_on_batches(theta, m, x, y, indices, noise, lr, frozen):
    steps, batch_size = indices.shape
    a, b, c, skip, relu = theta[:m], theta[m : 2 * m], theta[2 * m : 3 * m], theta[3 * m :], np.zeros(m)
    kept, start, total = theta[frozen], np.empty_like(theta), np.empty_like(theta)
    for t in range(steps):
        # The step on a batch is the mean of the steps on its examples, all from the same point.
        residuals = 0.0
        start[:] = theta
        total[:] = 0
        for k in range(batch_size):
            i = indices[t, k]
            theta[:] = start
            h = _step(a, b, c, relu, 0.0, 0.0, x[i])
            if skip.size:
                h += skip[0] * x[i] + skip[1]
            residual = h - (y[i] + noise[t, k])
            s = 2 * lr * residual
            _step(a, b, c, relu, x[i], s, x[i])
            if skip.size:
                skip[0] -= s * x[i]
                skip[1] -= s
            total += theta
            residuals += residual
        theta[:] = total / batch_size
        for j in range(frozen.size):
            theta[frozen[j]] = kept[j]
        if not abs(residuals) < np.inf:
            return t
    return steps
