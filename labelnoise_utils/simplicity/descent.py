"""Newton's method for reg on the zero-error manifold of two-layer tanh networks, many networks at once.

A tanh network's reg, and the multipliers' term, are sums over units; so the Hessian of the Lagrangian has a block for each
unit, and the k labels tie the blocks together through the Jacobian. That makes a step cheap: one factorisation for each
unit, and one k x k system for each network.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ..arguments import as_examples, as_integer
from ..models import TwoLayerSigmoidal

Data = tuple[torch.Tensor, torch.Tensor]
SHIFTS = (
    0.0,
    1e-8,
    1e-6,
    1e-4,
    *(4.0**power for power in range(-5, 6)),
)  # added to the Hessian until it is positive along the manifold
LENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)  # parts of a step that are tried
LONGEST = 1.0  # step in theta
CONVERGED = 1e-9
FITTED = 1e-13  # largest error that counts as none
NEGATIVE = 1e-6  # how far below 0 a curvature counts: those of saturated values are 0 up to rounding


@dataclass(frozen=True, eq=False)
class Batch:
    """Data sets of at most n points in d dimensions, filled up with zeros.

    Attributes:
        x: (b, n, d).
        y: (b, n).
        mask: (b, n), 1 for the points that there are.
        across: (b, d, d), the projection on what is orthogonal to all inputs of a set, where w changes nothing.
    """

    x: torch.Tensor
    y: torch.Tensor
    mask: torch.Tensor
    across: torch.Tensor

    @staticmethod
    def of(data: Sequence[Data]) -> "Batch":
        """The batch of some data sets, x (k, d) and y (k,) each."""
        n, d = (max(x.shape[axis] for x, _ in data) for axis in (0, 1))
        x, y, mask = (
            torch.zeros(len(data), n, d).double(),
            torch.zeros(len(data), n).double(),
            torch.zeros(len(data), n).double(),
        )
        for number, (inputs, labels) in enumerate(data):
            k, dim = inputs.shape
            x[number, :k, :dim], y[number, :k], mask[number, :k] = inputs, labels, 1
        return Batch(x, y, mask, torch.eye(d, dtype=x.dtype) - torch.linalg.pinv(x, rtol=1e-10) @ x)

    def __getitem__(self, which: torch.Tensor) -> "Batch":
        return Batch(self.x[which], self.y[which], self.mask[which], self.across[which])

    def outputs(self, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Errors (b, n) and Jacobian (b, n, m, d + 1), for theta (b, m, d + 1), a row (w, c) for each unit."""
        h, slope = self._values(theta)
        c = theta[..., -1:]
        jacobian = torch.cat([torch.einsum("bmn,bnd->bnmd", c * slope, self.x), h.mT[..., None]], dim=3)
        return (c * h).sum(dim=1) - self.y, jacobian

    def reg(self, theta: torch.Tensor) -> torch.Tensor:
        """K reg (b,): the sum of ``||grad h(x_j)||^2`` over the points of each set."""
        h, slope = self._values(theta)
        return (h**2 + (theta[..., -1:] * slope) ** 2 * self.x.square().sum(dim=2)[:, None]).sum(dim=(1, 2))

    def lagrangian(self, theta: torch.Tensor, jacobian: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradient along the manifold (b, m, d + 1), and the Hessian's blocks (b, m, d + 1, d + 1), of k reg less mu f."""
        h, slope = self._values(theta)
        c, norms, d = theta[..., -1:], self.x.square().sum(dim=2)[:, None], self.x.shape[2]
        in_z = 2 * h * slope - 4 * c**2 * norms * slope**2 * h
        in_c = 2 * c[..., 0] * (norms * slope**2).sum(dim=2)
        gradient = torch.cat([torch.einsum("bmn,bnd->bmd", in_z, self.x), in_c[..., None]], dim=2)
        rows = jacobian.flatten(2)
        mu = torch.linalg.solve(self._full(rows @ rows.mT), (rows @ gradient.flatten(1)[..., None])[..., 0])[:, None]
        # Second derivatives in z = w . x and in c of h^2 + c^2 |x|^2 h'^2 - mu c h.
        zz = 2 * slope**2 - 4 * h**2 * slope + c**2 * norms * (16 * slope**2 * h**2 - 4 * slope**3) + 2 * mu * c * h * slope
        zc = -8 * c * norms * slope**2 * h - mu * slope
        hessian = theta.new_zeros(*theta.shape, d + 1)
        hessian[..., :d, :d] = torch.einsum("bmn,bnp,bnq->bmpq", zz, self.x, self.x) + self.across[:, None]
        hessian[..., :d, d] = hessian[..., d, :d] = torch.einsum("bmn,bnd->bmd", zc, self.x)
        hessian[..., d, d] = 2 * (norms * slope**2).sum(dim=2)
        return gradient - torch.einsum("bn,bnmp->bmp", mu[:, 0], jacobian), hessian

    def fitted(self, theta: torch.Tensor, steps: int) -> torch.Tensor:
        """Theta after at most so many Gauss-Newton steps to zero error, each the shortest one, at most half a unit long."""
        for _ in range(steps):
            error, jacobian = self.outputs(theta)
            if error.abs().max() < FITTED:
                break
            rows = jacobian.flatten(2)
            step = (rows.mT @ torch.linalg.solve(self._full(rows @ rows.mT), error)[..., None])[..., 0].view_as(theta)
            theta = theta - step * (0.5 / step.norm(dim=(1, 2), keepdim=True)).clamp(max=1)
        return theta

    def _values(self, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = torch.tanh(theta[..., :-1] @ self.x.mT)
        return h, (1 - h**2) * self.mask[:, None]

    def _full(self, matrix: torch.Tensor) -> torch.Tensor:
        return matrix + torch.diag_embed(1 - self.mask)


@dataclass(frozen=True, eq=False)
class Descent:
    """Networks at the end of a descent of reg along the zero-error manifold.

    Attributes:
        models: a network for each data set; of each pair (w, c), (-w, -c), which are the same unit, it has the one with c >= 0.
        slopes: (b,), the largest entry of the gradient of k reg along the manifold. At most 1e-9 where the network came to
            rest; larger where it was still moving, for example since reg has no minimum there and a weight grows for ever.
        indices: (b, m), the number of eigenvalues below -1e-6 of each unit's Hessian of Gamma, in (w, c).
    """

    models: list[TwoLayerSigmoidal]
    slopes: torch.Tensor
    indices: torch.Tensor


def descend(data: Sequence[Data], width: int, *, seed: int = 0, steps: int = 300) -> Descent:
    """Fit random tanh networks to data sets, and lower reg along the zero-error manifold until it does not fall any more.

    It is where label noise drifts to, without the noise and in few steps: from a random start to the nearest fit, then
    Newton's method for reg under the condition of zero error. The Hessian is shifted by as much as makes it positive along the
    manifold, so a saddle is left along its ways down.

    Args:
        data: pairs x (k, d) and y (k,), of any sizes; each gets a network of its own.
        width: number of hidden units.
        seed: of the start, at which all weights are drawn from N(0, 1).
        steps: at most, for each network.

    Returns:
        The networks, and how far they came.

    Raises:
        TypeError: if ``width`` or ``steps`` is no integer, or x or y no tensor or array.
        ValueError: if a number is below 1, there are no data, or shapes do not match.

    Source: Theorem 1, which says that label noise is at rest where reg has no slope along the manifold.

    >>> one = descend([(torch.ones(1, 2), torch.ones(1))], 4)
    >>> one.indices.sum().item(), one.slopes.max().item() < 1e-9
    (1, True)
    """
    width, steps = as_integer("width", width, 1), as_integer("steps", steps, 1)
    if not len(data):
        raise ValueError("data must hold at least one data set")
    data = [(as_examples("x", x).double(), as_examples("y", y).double()) for x, y in data]
    for x, y in data:
        if x.dim() != 2 or y.shape != x.shape[:1]:
            raise ValueError(f"x and y must have shapes (k, d) and (k,), got {tuple(x.shape)} and {tuple(y.shape)}")
    batch = Batch.of(data)
    shape = len(data), width, batch.x.shape[2] + 1
    theta = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for number, (x, _) in enumerate(data):
        theta[number, :, x.shape[1] : -1] = 0
    with _one_thread():
        theta, slopes, indices = _descend(batch, theta, steps)
    theta *= torch.where(theta[..., -1:] < 0, -1, 1)
    models = []
    for (x, _), units in zip(data, theta, strict=True):
        models.append(TwoLayerSigmoidal(width, x.shape[1]))
        with torch.no_grad():
            models[-1].w.copy_(units[:, : x.shape[1]])
            models[-1].c.copy_(units[:, -1])
    return Descent(models, slopes, indices)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Many small matrices: several threads wait for each other longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _descend(batch: Batch, theta: torch.Tensor, steps: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The nearest fit, then damped Newton steps, each followed by a new fit.

    By Haynsworth's formula the number of negative directions in the tangent space is that of all blocks, plus that of
    positive eigenvalues of ``J H^-1 J^T``, less k.

    Args:
        batch: the data, b sets.
        theta: (b, m, d + 1), the start.
        steps: at most.

    Returns:
        theta; the largest entry of the gradient along the manifold, (b,); the index of each unit's block, (b, m).
    """
    theta = batch.fitted(theta, 300)
    slopes = theta.new_full((len(theta),), torch.inf)
    index = torch.zeros(theta.shape[:2], dtype=torch.long)
    for _ in range(steps):
        left = (slopes > CONVERGED).nonzero()[:, 0]
        if not len(left):
            break
        part, now = batch[left], theta[left]
        _, jacobian = part.outputs(now)
        gradient, hessian = part.lagrangian(now, jacobian)
        values, vectors = torch.linalg.eigh(hessian)
        slopes[left], index[left] = gradient.abs().amax(dim=(1, 2)), (values < -NEGATIVE).sum(dim=2)
        step = _step(part, gradient, jacobian, values, vectors)
        step *= (LONGEST / step.norm(dim=(1, 2), keepdim=True)).clamp(max=1)
        theta[left] = _searched(part, now, step, (gradient * step).sum(dim=(1, 2)))
    return batch.fitted(theta, 3), slopes, index


def _step(
    batch: Batch, gradient: torch.Tensor, jacobian: torch.Tensor, values: torch.Tensor, vectors: torch.Tensor
) -> torch.Tensor:
    """The Newton step along the manifold, with the smallest shift that makes it go down."""
    step, todo = -0.01 * gradient, torch.arange(len(gradient))
    slope = torch.einsum("bmqp,bmq->bmp", vectors, gradient)
    jacobian = torch.einsum("bmqp,bnmq->bnmp", vectors, jacobian)
    for shift in SHIFTS:
        shifted = values[todo] + shift
        shifted = torch.where(shifted.abs() < CONVERGED, CONVERGED, shifted)
        rows, slopes = jacobian[todo], slope[todo]
        tie = batch[todo]._full(torch.einsum("bnmp,bmp,blmp->bnl", rows, 1 / shifted, rows))
        down = (shifted < 0).sum(dim=(1, 2)) + (torch.linalg.eigvalsh(tie) > 0).sum(dim=1) - tie.shape[1]
        prices = torch.linalg.solve(tie, torch.einsum("bnmp,bmp->bn", rows, slopes / shifted))
        found = (torch.einsum("bn,bnmp->bmp", prices, rows) - slopes) / shifted
        good = down == 0
        step[todo[good]] = torch.einsum("bmpq,bmq->bmp", vectors[todo[good]], found[good])
        todo = todo[~good]
        if not len(todo):
            break
    return step


def _searched(batch: Batch, theta: torch.Tensor, step: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """The first part of the step, brought back to zero error, that lowers reg by a tenth of what its slope says."""
    before, after, todo = batch.reg(theta), theta.clone(), torch.arange(len(theta))
    for length in LENGTHS:
        part = batch[todo]
        tried = part.fitted(theta[todo] + length * step[todo], 3)
        fits = part.outputs(tried)[0].abs().amax(dim=1) < 1e-6
        lower = part.reg(tried) <= before[todo] + 0.1 * length * slope[todo] + 1e-13 * before[todo]
        after[todo[fits & lower]] = tried[fits & lower]
        todo = todo[~(fits & lower)]
        if not len(todo):
            break
    return after
