"""The cloud of label-noise SGD under noise that differs from label to label: no longer round, by a Lyapunov equation."""

import math

import torch

from ..arguments import as_positive
from ..regularizer.inputs import Inputs
from ..sgd.law import ROUNDING
from ..sgd.noise import LabelNoise
from .cloud import as_steps
from .geometry import Linearization, linearize
from .noise_covariance import check_in_order, check_noise, noise_covariance


def stationary_covariance(
    model: torch.nn.Module,
    x: Inputs,
    *,
    lr: float,
    noise: LabelNoise,
    batch_size: int | None = 1,
    tol: float | None = None,
) -> torch.Tensor:
    r"""Covariance of the parameters under label-noise SGD at a zero-error point, to leading order in lr.

    With J the Jacobian (n k, p), ``K = J J^T``, and S the covariance of the noise as a step feels it (``diag(std^2) / B`` for
    independent noise), a step takes the displacement from the point to ``(1 - (2 lr / n) J^T J)`` times it, plus ``2 lr``
    times a force of covariance ``(1/n) J^T S J``. What such steps leave unchanged is

    ``lr J^T M J``  with  ``K M + M K = 2 S``  on the range of K,

    a Lyapunov equation: in K's eigenbasis, with eigenvalues kappa, ``M_ab = 2 S_ab / (kappa_a + kappa_b)``. Equal noise has
    ``M = (std^2 / B) K^-1``, and the cloud is round in the normal space: :func:`stationary_variance` times the projection.

    Args:
        model: at a point with zero training error.
        x: (n, ...), the inputs.
        lr: learning rate, > 0.
        noise: of the labels, equal or not, independent or not.
        batch_size: examples per step, B; None is the full batch.
        tol: of the rank, as in :func:`linearize`.

    Returns:
        (p, p), symmetric, zero along the tangent space; in squared units of the parameters.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if a number is out of range, the noise has another shape than the labels, or as in :func:`linearize`.

    Source: ours for unequal noise; section 3.2 and Lemma 7 for equal noise.

    >>> from labelnoise_utils import LabelNoise, Product
    >>> stationary_covariance(Product(1.0, 1.0), torch.zeros(1), lr=0.01, noise=LabelNoise(1.0)).round(decimals=12).tolist()
    [[0.005, 0.005], [0.005, 0.005]]
    """
    lr = as_positive("lr", lr)
    check_noise(noise)
    check_in_order(x)
    line = linearize(model, x, tol=tol)
    _, sizes, felt = modes(line, noise, batch_size)
    return lr * line.normal @ balanced(sizes, felt) @ line.normal.T


def modes(line: Linearization, noise: LabelNoise, batch_size: int | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The noise in the singular vectors of the Jacobian, ``J = U diag(sizes) normal^T``.

    Args:
        line: the geometry at the point.
        noise: of the labels.
        batch_size: examples per step, or None.

    Returns:
        U (n k, r), sizes (r,), and ``U^T S U`` (r, r).
    """
    labels = line.jacobian @ line.normal
    sizes = labels.norm(dim=0)
    labels = labels / sizes
    s = noise_covariance(noise, line.examples, len(labels) // line.examples, batch_size).to(labels)
    return labels, sizes, labels.T @ s @ labels


def balanced(sizes: torch.Tensor, felt: torch.Tensor) -> torch.Tensor:
    """The cloud over lr in the right singular vectors: ``2 a b S_ab / (a^2 + b^2)``, 0 where both sizes a and b are.

    Args:
        sizes: (r,), singular values of the Jacobian.
        felt: (r, r), S in its left singular vectors.

    Returns:
        (r, r).
    """
    products, sums = sizes[:, None] * sizes, sizes[:, None].square() + sizes.square()
    return 2 * felt * products / torch.where(sums > 0, sums, 1)


def ornstein_uhlenbeck_cloud(
    model: torch.nn.Module,
    x: Inputs,
    *,
    lr: float,
    noise: LabelNoise,
    steps: int | float = math.inf,
    batch_size: int | None = 1,
    mean: torch.Tensor | None = None,
    covariance: torch.Tensor | None = None,
    tol: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Mean and covariance of all parameters after some steps of the Ornstein-Uhlenbeck recursion, exactly.

    Around a zero-error point, ``delta <- (1 - 2 lr H) delta + 2 lr w`` with ``H = (1/n) J^T J`` and a force w of covariance
    ``(1/n) J^T S J``, as in :func:`stationary_covariance`. In the eigenbasis of H, with ``q_a = 1 - 2 lr gamma_a`` and
    J's singular values ``s_a``,

    ``mean_t = q^t mean_0``,
    ``C_t = (q_a q_b)^t C_0 + (1 - (q_a q_b)^t) / (1 - q_a q_b) * 4 lr^2 s_a s_b S_ab / n``.

    Along the tangent space q is 1 and there is no noise: nothing moves. It is :func:`ornstein_uhlenbeck` for every
    direction at once, whose law it is where the noise is equal.

    Args:
        model: at a point with zero training error.
        x: (n, ...), the inputs.
        lr: learning rate, > 0, below ``1 / gamma`` for the largest gamma.
        noise: of the labels, equal or not, independent or not.
        steps: how many, >= 0; infinity for the stationary law.
        batch_size: examples per step; None is the full batch.
        mean: (p,), of the displacement from the point at the start; None is 0.
        covariance: (p, p), of it at the start, symmetric; None is 0.
        tol: of the rank, as in :func:`linearize`.

    Returns:
        Mean (p,) of the displacement and its covariance (p, p).

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if a number is out of range, a shape or dtype is another, the covariance is not symmetric, or as in
            :func:`linearize`.

    Source: ours for unequal noise; section 3.2 and equation (11), as :func:`ornstein_uhlenbeck`.

    >>> from labelnoise_utils import LabelNoise, Product
    >>> law = dict(lr=0.01, noise=LabelNoise(1.0), mean=torch.tensor([0.5, 0.5], dtype=torch.float64))
    >>> ornstein_uhlenbeck_cloud(Product(1.0, 1.0), torch.zeros(1), steps=1, **law)[0]  # by 1 - 2 * 0.01 * 2
    tensor([0.4800, 0.4800], dtype=torch.float64)
    """
    lr = as_positive("lr", lr)
    check_noise(noise)
    check_in_order(x)
    steps = as_steps(steps)
    line = linearize(model, x, tol=tol)
    gamma, normal = line.gamma, line.normal
    if len(gamma) and lr * gamma[0] >= 1:
        raise ValueError(f"lr must be below 1 / gamma = {1 / gamma[0]:.6g} for the largest gamma, got {lr:g}")
    count = len(normal)
    mean = _start("mean", mean, (count,), normal)
    covariance = _start("covariance", covariance, (count, count), normal)
    if (gap := (covariance - covariance.T).abs().max()) > ROUNDING * covariance.abs().max():
        raise ValueError(f"covariance must be symmetric, got entries that differ by {gap:.3g} from their mirror images")
    _, sizes, felt = modes(line, noise, batch_size)
    contraction = 1 - 2 * lr * gamma
    kept = contraction**steps - 1  # what a normal direction keeps of the start, minus 1
    left = lambda columns: columns + normal @ (kept[:, None] * (normal.T @ columns))  # noqa: E731
    gained = 4 * lr**2 / line.examples * sizes[:, None] * sizes * felt * _geometric(contraction, lr * gamma, steps)
    return left(mean[:, None])[:, 0], left(left(covariance).T).T + normal @ gained @ normal.T


def _start(name: str, value: object, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    if value is None:
        return like.new_zeros(shape)
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor or None, got {type(value).__name__}")
    if value.shape != shape or value.dtype != like.dtype:
        raise ValueError(f"{name} must have shape {shape} and {like.dtype}, got {tuple(value.shape)} and {value.dtype}")
    if not value.isfinite().all():
        raise ValueError(f"{name} must be finite, got NaN or infinity in it")
    return value.detach()


def _geometric(contraction: torch.Tensor, pace: torch.Tensor, steps: float) -> torch.Tensor:
    """``(1 - c^steps) / (1 - c)`` for ``c = contraction_a contraction_b``, with ``contraction = 1 - 2 pace``."""
    lost = 2 * (pace[:, None] + pace) - 4 * pace[:, None] * pace  # 1 - c, without cancellation
    if steps == math.inf:
        return 1 / lost
    c = contraction[:, None] * contraction
    slow = torch.where(c > 0, lost, 0.5)
    return torch.where(c > 0, -torch.expm1(steps * torch.log1p(-slow)), 1 - c**steps) / lost
