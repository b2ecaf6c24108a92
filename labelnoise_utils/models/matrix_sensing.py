"""Matrix sensing: the model of Figure 1."""

import math
from typing import Literal, get_args

import numpy as np
import torch

from ..arguments import as_integer, as_positive
from ..data import pack_measurements
from .compiled import inlined, jit, prefetch

Init = Literal["identity", "gaussian"]

NUMBERS_PER_CHUNK = 2**18
CACHE_LINE = 64
# Up to this dimension a step by plain loops takes less time than the calls and the long loops of a large one.
SMALL = 4


class MatrixSensing(torch.nn.Module):
    r"""The hypothesis ``h(A, U) = <A, X>`` with ``X = U U^T``: entry by entry products of a measurement A and X, summed.

    At the start U is ``scale`` times the identity, or has independent entries ``N(0, scale^2 / dim)``, so that ``||U||_F^2`` is
    ``scale^2 dim``, exactly or on average.

    h sees A only through its symmetric part, so there are two forms of x: the measurements as they are, or *packed* by
    :func:`labelnoise_utils.pack_measurements`, with which everything is the same and the memory is half.

    The gradient of h is ``(A + A^T) U``. A compiled step on one example is one product of matrices, one on a batch two; these
    run on as many threads as the BLAS library of SciPy is told to use.

    Args:
        dim: d, so that U and X are (d, d).
        init: "identity" or "gaussian".
        scale: of U at the start, > 0; a small one is the start of Li, Ma and Zhang (2018).
        seed: of the Gaussian start.
        dtype: of U; float64 and float32 have the compiled step.

    Shapes: x (n, d, d), or packed (n, d(d+1)/2); h (n,); parameter u (d, d).

    Raises:
        TypeError: if ``dim`` is no integer or ``scale`` no number.
        ValueError: if ``dim`` is below 1, ``scale`` is not positive or ``init`` is unknown; or x has another shape.

    Source: section 1.1, "Matrix sensing", and Figure 1.
    """

    compiled_dtypes = (torch.float64, torch.float32)

    def __init__(
        self,
        dim: int,
        *,
        init: Init = "identity",
        scale: float = 1.0,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self.dim = as_integer("dim", dim, 1)
        scale = as_positive("scale", scale)
        if init not in get_args(Init):
            raise ValueError(f"init must be one of {', '.join(get_args(Init))}, got {init!r}")
        self.config = {"dim": self.dim}
        if init == "identity":
            u = scale * torch.eye(self.dim, dtype=torch.float64)
        else:
            generator = torch.Generator().manual_seed(seed)
            u = torch.randn(self.dim, self.dim, generator=generator, dtype=torch.float64) * (scale / math.sqrt(self.dim))
        self.u = torch.nn.Parameter(u.to(dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output h, (n,), for x (n, d, d) or packed."""
        return self._rows(x) @ self._entries(self.u @ self.u.T, x)

    def matrix(self) -> torch.Tensor:
        """The matrix ``X = U U^T`` that the model stands for, (d, d), without a gradient."""
        u = self.u.detach()
        return u @ u.T

    def reg_matrix(self, x: torch.Tensor) -> torch.Tensor:
        """The matrix Q with which reg is linear in X.

        ``reg(U) = (1/n) sum_i ||(A_i + A_i^T) U||_F^2 = <Q, X>`` with ``Q = (1/n) sum_i (A_i + A_i^T)^2``. For measurements
        with independent standard normal entries ``E Q = 2 (d + 1) I``.

        Args:
            x: (n, d, d), or packed.

        Returns:
            (d, d), symmetric and positive semidefinite.

        Raises:
            ValueError: if x has another shape.

        Source: equation (2), before the expectation.
        """
        d = self.dim
        rows, total = self._rows(x), x.new_zeros(d, d)
        upper = torch.triu_indices(d, d, device=x.device)
        for chunk in rows.split(max(1, NUMBERS_PER_CHUNK // d**2)):
            a = chunk.view(-1, d, d) if x.dim() == 3 else x.new_zeros(len(chunk), d, d)
            if x.dim() == 2:
                a[:, upper[0], upper[1]] = chunk
            # Symmetric, so the sum of their squares is one product of the stack with itself.
            stack = (a + a.mT).reshape(-1, d)
            total += stack.T @ stack
        return total / len(x)

    def loss_and_reg(self, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean squared error and reg at many U at once; as :func:`labelnoise_utils.regularizer.snapshots.loss_and_reg`.

        Args:
            theta: (k, d^2).
            x: (n, d, d), or packed.
            y: (n,).

        Returns:
            loss (k,) and reg (k,).

        Source: equation (4), divided by n, and equation (2) before the expectation.
        """
        rows, q = self._rows(x), self.reg_matrix(x)
        loss, reg = theta.new_zeros(2, len(theta))
        for part in torch.arange(len(theta)).split(max(1, NUMBERS_PER_CHUNK // max(len(x), self.dim**2))):
            u = theta[part].view(-1, self.dim, self.dim)
            matrices = u @ u.mT
            errors = self._entries(matrices, x) @ rows.T - y
            loss[part] = errors.square().mean(dim=1)
            reg[part] = (q * matrices).sum(dim=(1, 2))
        return loss, reg

    def _rows(self, x: torch.Tensor) -> torch.Tensor:
        """One row of x for each example: as many numbers as :meth:`_entries` takes from X, for a product with them."""
        d = self.dim
        if x.shape[1:] not in ((d, d), (d * (d + 1) // 2,)):
            raise ValueError(
                f"x must hold square measurements, shape (n, {d}, {d}), or packed ones, (n, {d * (d + 1) // 2}),"
                f" got {tuple(x.shape)}"
            )
        return x.flatten(1)

    def _entries(self, matrices: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The entries of X (..., d, d) that a row of x is multiplied by: all, or those of the upper triangle."""
        if x.dim() == 3:
            return matrices.flatten(-2)
        upper = torch.triu_indices(self.dim, self.dim, device=x.device)
        return matrices[..., upper[0], upper[1]]

    def compiled_inputs(self, x: torch.Tensor) -> np.ndarray:
        """The measurements as :meth:`compiled_sgd` reads them: packed.

        Args:
            x: (n, d, d), or packed.

        Returns:
            (n, d(d+1)/2); no copy if x is packed.
        """
        return (pack_measurements(x) if x.dim() == 3 else x).numpy()

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
        """Step ``theta = U`` in place; arguments as in :func:`labelnoise_utils.sgd.engines.train_compiled`, x packed."""
        u = theta.reshape(self.dim, self.dim)
        return _sgd(u, x, y, indices, noise.astype(theta.dtype, copy=False), lr, frozen)


# With float32 data every number in the loops has to be float32 too: one float64 among them, and they run in float64.


@jit
def _unpack(p, s, following):
    """S = A + A^T from a packed measurement p; row by row, what is left of the diagonal from the rows above.

    Meanwhile the measurement ``following`` is asked for from memory, since the next step reads it.
    """
    d, at = len(s), 0
    for j in range(d):
        for k in range(at, at + d - j, CACHE_LINE // p.itemsize):
            prefetch(following.ctypes.data + k * p.itemsize)
        for k in range(j):
            s[j, k] = s[k, j]
        # As two vectors with one index: a third faster than s[j, k] = p[at] with two that count on.
        row, part = s[j, j:], p[at : at + d - j]
        for k in range(d - j):
            row[k] = part[k]
        row[0] += row[0]
        at += d - j


@jit
def _step(u, s, su, p, following, target, rate):
    """One step of equation (5) on one example, in place, rate = 2 lr. Returns the residual before the step."""
    _unpack(p, s, following)
    np.dot(s, u, su)
    # As vectors, in one long loop each: <A, U U^T> = <S U, U> / 2, and the gradient of that is S U.
    theta, gradient, h = u.reshape(-1), su.reshape(-1), u.dtype.type(0)
    for k in range(theta.size):
        h += gradient[k] * theta[k]
    residual = u.dtype.type(0.5) * h - target
    slope = rate * residual
    for k in range(theta.size):
        theta[k] -= slope * gradient[k]
    return residual


@inlined
def _small_step(u, su, p, target, rate):
    """As :func:`_step`, for a small U: S U entry by entry from the packed p, without S."""
    d, at, h = len(u), 0, u.dtype.type(0)
    su[:] = 0
    for j in range(d):
        for m in range(j, d):
            for k in range(d):
                su[j, k] += p[at] * u[m, k]
                su[m, k] += p[at] * u[j, k]
            at += 1
    for j in range(d):
        for k in range(d):
            h += su[j, k] * u[j, k]
    residual = u.dtype.type(0.5) * h - target
    for j in range(d):
        for k in range(d):
            u[j, k] -= rate * residual * su[j, k]
    return residual


@jit
def _residuals_times_rows(x, y, indices, noise, upper, total):
    """Into ``total``: sum_i r_i p_i over a batch, with p_i the rows of x and r_i = p_i . upper - y_i - noise_i.

    A row is read from memory once, where it lies: it is still in the cache when r_i is known. Four rows
    at a time, since ``upper`` and ``total`` then are read a quarter as often.

    Returns:
        The sum of the residuals.
    """
    total[:] = 0
    residuals, zero = 0.0, x.dtype.type(0)
    in_fours = len(indices) // 4 * 4
    for b in range(0, in_fours, 4):
        i0, i1, i2, i3 = indices[b : b + 4]
        p0, p1, p2, p3 = x[i0], x[i1], x[i2], x[i3]
        r0, r1, r2, r3 = zero, zero, zero, zero
        for k in range(upper.size):
            r0 += p0[k] * upper[k]
            r1 += p1[k] * upper[k]
            r2 += p2[k] * upper[k]
            r3 += p3[k] * upper[k]
        r0 -= y[i0] + noise[b]
        r1 -= y[i1] + noise[b + 1]
        r2 -= y[i2] + noise[b + 2]
        r3 -= y[i3] + noise[b + 3]
        for k in range(upper.size):
            total[k] += r0 * p0[k] + r1 * p1[k] + r2 * p2[k] + r3 * p3[k]
        residuals += r0 + r1 + r2 + r3
    for b in range(in_fours, len(indices)):
        p, r = x[indices[b]], zero
        for k in range(upper.size):
            r += p[k] * upper[k]
        r -= y[indices[b]] + noise[b]
        for k in range(upper.size):
            total[k] += r * p[k]
        residuals += r
    return residuals


@jit
def _step_on_batch(u, s, su, packed, x, y, indices, noise, rate):
    """One step of equation (5) on a batch, in place, rate = 2 lr / B. Returns the sum of the residuals before the step."""
    d, upper, total = len(u), packed[0], packed[1]
    np.dot(u, u.T, s)
    at = 0
    for j in range(d):
        upper[at : at + d - j] = s[j, j:]
        at += d - j
    residuals = _residuals_times_rows(x, y, indices, noise, upper, total)
    # The mean of the gradients 2 r_i S_i U, as one product.
    _unpack(total, s, total)
    np.dot(s, u, su)
    for j in range(d):
        for k in range(d):
            u[j, k] -= rate * su[j, k]
    return residuals


@jit
def _sgd(u, x, y, indices, noise, lr, frozen):
    steps, batch_size = indices.shape
    theta = u.reshape(-1)
    kept, s, su = theta[frozen], np.empty_like(u), np.empty_like(u)
    packed = np.empty((2, x.shape[1]), u.dtype)
    rate = u.dtype.type(2 * lr / batch_size)
    for t in range(steps):
        if batch_size == 1 and len(u) <= SMALL:
            residual = np.float64(_small_step(u, su, x[indices[t, 0]], y[indices[t, 0]] + noise[t, 0], rate))
        elif batch_size == 1:
            i, following = indices[t, 0], indices[min(t + 1, steps - 1), 0]
            residual = np.float64(_step(u, s, su, x[i], x[following], y[i] + noise[t, 0], rate))
        else:
            residual = _step_on_batch(u, s, su, packed, x, y, indices[t], noise[t], rate)
        for j in range(frozen.size):
            theta[frozen[j]] = kept[j]
        if not abs(residual) < np.inf:
            return t
    return steps
