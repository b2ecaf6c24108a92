"""Matrix sensing: the model of Figure 1."""

import math
from typing import Literal, get_args

import numpy as np
import torch

from ..arguments import as_integer, as_positive
from ..data import pack_measurements
from .matrix_steps import sgd, steps_with_extras
from .stepping import Extras

Init = Literal["identity", "gaussian"]

NUMBERS_PER_CHUNK = 2**18


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
        return sgd(u, x, y, indices, noise.astype(theta.dtype, copy=False), lr, frozen)

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
        noise = noise.astype(theta.dtype, copy=False)
        return steps_with_extras(theta, self.dim, x, y, indices, noise, lr, frozen, velocity, first, extras)
