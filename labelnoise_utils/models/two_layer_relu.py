"""Two-layer ReLU networks: on a line the model of Figures 2 and 3 and of Theorem 2, and the same in any dimension."""

from typing import Literal

import numpy as np
import torch

from ..arguments import as_integer
from .compiled import inlined, jit
from .relu_gradient import relu_steps_with_extras
from .relu_steps import sgd_in_any_dimension
from .stepping import Extras

Skip = bool | Literal["constant"]


def check_skip(skip: Skip) -> None:
    """Refuse anything that is no choice of skip units.

    Args:
        skip: what a caller passed.

    Raises:
        ValueError: if it is none of True, False and "constant".
    """
    if not isinstance(skip, bool) and not (isinstance(skip, str) and skip == "constant"):
        raise ValueError(f"skip must be True, False or 'constant', got {skip!r}")


NUMBERS_PER_CHUNK = 2**15


class TwoLayerReLU(torch.nn.Module):
    r"""The hypothesis ``h(x, theta) = sum_i c_i relu(a_i . x + b_i) + a0 . x + b0``; on a line ``.`` is a product of numbers.

    At the start ``a_i, b_i ~ N(0, input_std^2)``, ``c_i ~ N(0, output_std^2)``, ``a0 = b0 = 0``. The derivative of relu at
    0 is 0, which is Theorem 2's convention and that of ``torch.relu``.

    Args:
        width: number of hidden units m.
        dim: of the inputs, d; None, the default, for inputs that are numbers.
        skip: whether the linear and the constant unit a0, b0 are there; ``"constant"`` is b0 without a0.
        seed: of the initial parameters, which are the same for ``dim=1`` and ``dim=None``.
        input_std: standard deviation of b_i and of the entries of a_i at the start.
        output_std: standard deviation of c_i at the start.
        dtype: of the parameters.

    Shapes: x (n,); h (n,); parameters a, b, c (m,), a0, b0 scalars, in this order. With ``dim=d``: x (n, d), a (m, d) with a
    row for each unit, a0 (d,), the rest as before.

    Raises:
        TypeError: if ``width`` or ``dim`` is no integer.
        ValueError: if ``width`` or ``dim`` is below 1, or ``skip`` none of the three; or x has another shape.

    Source: Appendix B (f_theta before equation 16), Figures 2 and 3; for d > 1 the question of section 1.2.

    >>> TwoLayerReLU(4, dim=2)(torch.zeros(3, 2, dtype=torch.float64)).shape
    torch.Size([3])
    >>> [(name, *p.shape) for name, p in TwoLayerReLU(4, dim=2, skip="constant").named_parameters()]
    [('a', 4, 2), ('b', 4), ('c', 4), ('b0',)]
    """

    def __init__(
        self,
        width: int,
        *,
        dim: int | None = None,
        skip: Skip = True,
        seed: int = 0,
        input_std: float = 2.0,
        output_std: float = 1.0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        width = as_integer("width", width, 1)
        if dim is not None:
            dim = as_integer("dim", dim, 1)
        check_skip(skip)
        self.config = {"width": width, "dim": dim, "skip": skip}
        generator = torch.Generator().manual_seed(seed)
        *a, b, c = torch.randn((dim or 1) + 2, width, generator=generator, dtype=torch.float64)
        a = a[0] if dim is None else torch.stack(a, dim=1)
        self.a = torch.nn.Parameter((input_std * a).to(dtype))
        self.b = torch.nn.Parameter((input_std * b).to(dtype))
        self.c = torch.nn.Parameter((output_std * c).to(dtype))
        self.a0 = torch.nn.Parameter(torch.zeros(a.shape[1:], dtype=dtype)) if skip is True else None
        self.b0 = torch.nn.Parameter(torch.zeros((), dtype=dtype)) if skip else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output h, (n,), for x (n,) or (n, d)."""
        if x.shape[1:] != self.a.shape[1:] or x.dim() == 0:
            expected = f"(n, d) with d = {self.a.shape[1]}" if self.a.dim() == 2 else "(n,)"
            raise ValueError(f"x must have shape {expected}, got {tuple(x.shape)}")
        p = torch.outer(x, self.a) + self.b if x.dim() == 1 else x @ self.a.T + self.b
        h = torch.relu(p) @ self.c
        if self.a0 is not None:
            h = h + (self.a0 * x if x.dim() == 1 else x @ self.a0)
        return h if self.b0 is None else h + self.b0

    def loss_and_reg(self, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean squared error and reg at many theta at once; as :func:`labelnoise_utils.regularizer.snapshots.loss_and_reg`.

        ``||grad h(x)||^2 = sum_i relu(p_i)^2 + (1 + |x|^2) sum_i c_i^2 [p_i > 0]`` with ``p_i = a_i . x + b_i``, and
        ``|x|^2`` more for a0, and 1 for b0.

        Args:
            theta: (k, p), all parameters.
            x: (n,) or (n, d).
            y: (n,).

        Returns:
            loss (k,) and reg (k,).

        Source: equation (4), divided by n, and equation (3).
        """
        m, size = self.b.numel(), self.a.numel()
        squares = x.square() if x.dim() == 1 else x.square().sum(dim=1)
        loss, reg = theta.new_zeros(2, len(theta))
        for part in torch.arange(len(theta)).split(max(1, NUMBERS_PER_CHUNK // (len(x) * m))):
            a, b, c, skip = theta[part, None].split([size, m, m, theta.shape[1] - size - 2 * m], dim=2)
            if x.dim() == 1:
                units = torch.relu(torch.addcmul(b, a, x[:, None]))
            else:
                units = torch.relu(x @ a.view(-1, *self.a.shape).mT + b)
            h = (units * c).sum(dim=2)
            slopes = ((units > 0) * c.square()).sum(dim=2)
            norms = units.square().sum(dim=2)
            if self.a0 is not None:
                h += (skip[..., 0] * x if x.dim() == 1 else (skip[..., :-1] @ x.T)[:, 0]) + skip[..., -1]
                slopes += 1
            elif self.b0 is not None:
                h += skip[..., 0]
                norms += 1
            norms += (1 + squares) * slopes
            loss[part] = (h - y).square().mean(dim=1)
            reg[part] = norms.mean(dim=1)
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
        m = self.b.numel()
        if self.a.numel() > m or self.config["skip"] == "constant":
            return sgd_in_any_dimension(theta, m, x.reshape(len(x), -1), y, indices, noise, lr, frozen)
        x = x.reshape(-1)
        if indices.shape[1] == 1 and not frozen.size:
            return _sgd(theta, m, x, y, indices, noise, lr)
        return _sgd_on_batches(theta, m, x, y, indices, noise, lr, frozen)

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
        return relu_steps_with_extras(
            theta, self.b.numel(), x.reshape(len(x), -1), y, indices, noise, lr, frozen, velocity, first, extras
        )


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
