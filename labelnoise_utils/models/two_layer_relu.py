"""Two-layer ReLU networks on a line: the model of Figures 2 and 3 and of Theorem 2."""

import numpy as np
import torch

from ..arguments import as_integer
from .compiled import jit


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
        return _sgd(theta, self.a.numel(), x, y, indices, noise, lr, frozen)


@jit
def _step(theta, m, x, target, lr):
    """One step of equation (5) on one example, in place. Returns the residual h - target before the step."""
    a, b, c, skip = theta[:m], theta[m : 2 * m], theta[2 * m : 3 * m], theta[3 * m :]
    h = skip[0] * x + skip[1] if skip.size else 0.0
    for i in range(m):
        p = a[i] * x + b[i]
        h += c[i] * p if p > 0 else 0.0
    residual = h - target
    s = 2 * lr * residual
    for i in range(m):
        p = a[i] * x + b[i]
        g = s * c[i] if p > 0 else 0.0
        c[i] -= s * p if p > 0 else 0.0
        a[i] -= g * x
        b[i] -= g
    if skip.size:
        skip[0] -= s * x
        skip[1] -= s
    return residual


@jit
def _sgd(theta, m, x, y, indices, noise, lr, frozen):
    steps, batch_size = indices.shape
    kept, start, total = theta[frozen], np.empty_like(theta), np.empty_like(theta)
    for t in range(steps):
        if batch_size == 1:
            i = indices[t, 0]
            residual = _step(theta, m, x[i], y[i] + noise[t, 0], lr)
        else:
            # The step on a batch is the mean of the steps on its examples, all from the same point.
            residual = 0.0
            start[:] = theta
            total[:] = 0
            for k in range(batch_size):
                theta[:] = start
                i = indices[t, k]
                residual += _step(theta, m, x[i], y[i] + noise[t, k], lr)
                total += theta
            theta[:] = total / batch_size
        for j in range(frozen.size):
            theta[frozen[j]] = kept[j]
        if not abs(residual) < np.inf:
            return t
    return steps
