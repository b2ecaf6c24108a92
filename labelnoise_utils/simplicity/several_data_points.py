"""Sigmoid units on k data points: the equations of one unit, all their solutions, and networks with many classes of units.

On k data points with independent inputs a unit is a point ``(c, h_1, ..., h_k)``, output weight and values. Where reg has no
slope along the zero-error manifold there are multipliers ``mu_j``, shared by all units, such that each unit is a critical
point of

``Gamma(c, h) = sum_j [h_j^2 + c^2 |x_j|^2 s'_j^2] - c sum_j mu_j h_j``,

its share of ``k reg`` less what its outputs are worth at the prices mu; ``s'_j`` is ``1 - h_j^2`` for tanh and
``h_j (1 - h_j)`` for the logistic. Tanh units (c, h) and (-c, -h) are the same to every input; the functions here
give the one with c > 0.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import root

from ..arguments import as_count, as_integer, as_positive
from ..models import TwoLayerSigmoidal
from ..models.two_layer_sigmoidal import Sigmoid, check_activation
from .descent import Descent, descend
from .unit_equations import Vector, as_vectors, gradient_and_hessian, newton, solve

__all__ = ["Descent", "Lagrangian", "ManyClasses", "descend", "first_order", "lagrangian", "network", "second_order", "units"]

MOST_POINTS = 7


@dataclass(frozen=True, eq=False)
class Lagrangian:
    """Gamma and its derivatives at some units, in the coordinates (c, h_1, ..., h_k).

    Attributes:
        value: (m,).
        gradient: (m, 1 + k), zero where the unit is at rest.
        hessian: (m, 1 + k, 1 + k).
        index: (m,), the number of negative eigenvalues of the Hessian; 0 at a local minimum of Gamma.
    """

    value: torch.Tensor
    gradient: torch.Tensor
    hessian: torch.Tensor
    index: torch.Tensor


@dataclass(frozen=True, eq=False)
class ManyClasses:
    """A network of tanh units, no two alike, at rest on its data.

    Attributes:
        units: (m, 1 + k), output weight and values of each.
        multipliers: (k,), mu.
        x: (k, k), the inputs.
        model: the network.
    """

    units: torch.Tensor
    multipliers: torch.Tensor
    x: torch.Tensor
    model: TwoLayerSigmoidal


def lagrangian(units: torch.Tensor, multipliers: Vector, sq_norms: Vector, activation: Sigmoid = "tanh") -> Lagrangian:
    """Gamma, its gradient and its Hessian at units that are given by output weight and values.

    Args:
        units: (m, 1 + k), rows (c, h_1, ..., h_k).
        multipliers: (k,), mu.
        sq_norms: (k,), the ``|x_j|^2``, > 0.
        activation: of the units.

    Returns:
        Tensors in float64.

    Raises:
        ValueError: if the shapes do not match, a squared norm is not positive, a unit not finite, or the activation unknown.

    Source: equations (20) and (22) for several data points; chapter "Add data points".

    >>> lagrangian(torch.tensor([[0.0, 0.0]]), [1.0], [2.0]).hessian
    tensor([[[ 4., -1.],
             [-1.,  2.]]], dtype=torch.float64)
    """
    check_activation(activation)
    mu, norms = as_vectors(multipliers, sq_norms)
    at = torch.as_tensor(units, dtype=torch.float64).detach().numpy()
    if at.ndim != 2 or at.shape[1] != 1 + len(mu):
        raise ValueError(f"units must have shape (m, {1 + len(mu)}), got {tuple(at.shape)}")
    if not np.isfinite(at).all():
        raise ValueError("units must be finite")
    c, h = at[:, :1], at[:, 1:]
    slope = 1 - h**2 if activation == "tanh" else h * (1 - h)
    value = (h**2 + c**2 * norms * slope**2 - c * mu * h).sum(axis=1)
    gradient, hessian = map(torch.from_numpy, gradient_and_hessian(at, mu, norms, activation))
    index = (torch.linalg.eigvalsh(hessian) < 0).sum(dim=1)
    return Lagrangian(torch.from_numpy(value), gradient, hessian, index)


def units(multipliers: Vector, sq_norms: Vector, *, points: int = 400) -> torch.Tensor:
    """All tanh units with c > 0 that are at rest at given multipliers.

    For given c, ``dGamma/dh_j = 0`` is a cubic in h_j alone. With ``mu_j != 0`` it has one root below a certain c and three
    above it; the one of mu_j's sign lies in (-1, 1) for ``c < 2 / |mu_j|``. So a solution lies on one of 3^k branches, each a
    curve over an interval of c with ends that are known, and is a zero of one function along it, ``dGamma/dc``. A
    solution has ``sum_j mu_j h_j > 0``, so at least one h_j has the sign of mu_j, and c is bounded.

    In this sense the list is complete: on every branch, every change of sign between neighbours among ``points`` places,
    and every pair of zeros around an extremum that lies between them. Missing can only be pairs with two
    extrema between neighbours, and solutions at which the equations are degenerate. Each is then taken to a residual of 1e-12.

    Args:
        multipliers: (k,), mu; k at most 7.
        sq_norms: (k,), the ``|x_j|^2``, > 0.
        points: places on each branch, at least 10.

    Returns:
        (m, 1 + k), rows (c, h_1, ..., h_k), by c. The silent unit, c = h = 0, which is always a solution, is left out.

    Raises:
        TypeError: if ``points`` is no integer.
        ValueError: if shapes do not match, a squared norm is not positive, or an argument is out of its range.

    Source: ours; chapter "Add data points".

    >>> units([0.5], [1.0])
    tensor([[0.8754, 0.7359]], dtype=torch.float64)
    """
    mu, norms = as_vectors(multipliers, sq_norms, most=MOST_POINTS)
    return torch.from_numpy(solve(mu, norms, as_integer("points", points, 10)))


def network(units: torch.Tensor, x: torch.Tensor, activation: Sigmoid = "tanh") -> TwoLayerSigmoidal:
    """The network whose units have these output weights, and these values on x.

    Args:
        units: (m, 1 + k), rows (c, h_1, ..., h_k).
        x: (k, d), independent inputs.
        activation: of the units.

    Returns:
        A new model; its weights w lie in the span of the inputs.

    Raises:
        ValueError: if a shape is another, the inputs are dependent, a value is not in the activation's range, or the
            activation is unknown.

    Source: Appendix C's network on several data points.

    >>> x = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]])
    >>> network(torch.tensor([[2.0, 0.5, -0.25]]), x)(x.double()).detach()
    tensor([ 1.0000, -0.5000], dtype=torch.float64)
    """
    check_activation(activation)
    units, x = torch.as_tensor(units, dtype=torch.float64), torch.as_tensor(x, dtype=torch.float64)
    if x.dim() != 2 or units.dim() != 2 or not len(units) or units.shape[1] != 1 + len(x):
        raise ValueError(f"units and x must have shapes (m, 1 + k) and (k, d), got {tuple(units.shape)} and {tuple(x.shape)}")
    if torch.linalg.matrix_rank(x) < len(x):
        raise ValueError(f"x must hold independent inputs, got {len(x)} of rank {torch.linalg.matrix_rank(x)}")
    z = torch.atanh(units[:, 1:]) if activation == "tanh" else torch.logit(units[:, 1:])
    if not z.isfinite().all():
        raise ValueError(f"units must have values in the range of {activation}")
    model = TwoLayerSigmoidal(len(units), x.shape[1], activation)
    with torch.no_grad():
        model.c.copy_(units[:, 0])
        model.w.copy_(z @ torch.linalg.pinv(x).T)
    return model


def first_order(k: int, activation: Sigmoid = "tanh", *, scale: float = 0.02) -> ManyClasses:
    """A non-repellent network on k data points with ``2^(k-1)`` classes of tanh units, or ``2^k`` of logistic ones.

    Each class has one unit, and each data point length 1.

    Tanh: for small mu every word of signs s with ``s . mu > 0`` has a unit at rest with ``sign h_j = s_j``, and
    ``c^3 -> k / (2 s . mu)`` as mu goes to 0. Logistic, mu > 0: every set of points has a unit whose values are near 1 on
    it and near 0 elsewhere; ``c^3 -> 2 size / (sum of mu over the set)``, or ``c -> 2 sum mu^2 / sum mu^3`` for
    the empty one. Newton's method from there.

    Args:
        k: number of data points, 1 to 10.
        activation: of the units.
        scale: of the multipliers, ``mu_j = scale (1 + 0.3 cos(1.7 j + 0.3))``, j = 0, ..., k - 1, > 0; no word is orthogonal
            to them.

    Returns:
        The network, on the unit vectors as inputs; its labels are ``model(x)``.

    Raises:
        TypeError: if k is no integer, or ``scale`` no number.
        ValueError: if k is out of its range, the activation is unknown, or the multipliers are too large: some word has no
            unit.

    Source: ours; chapter "Add data points".

    >>> len(first_order(4).units), len(first_order(4, "logistic").units)
    (8, 16)
    """
    k, scale = as_count("k", k, 1, 10), as_positive("scale", scale)
    check_activation(activation)
    mu, norms = scale * (1 + 0.3 * np.cos(1.7 * np.arange(k) + 0.3)), np.ones(k)
    if activation == "tanh":
        words = np.array([word for word in itertools.product([1.0, -1.0], repeat=k) if word @ mu > 0])
        c = np.cbrt(k / (2 * words @ mu))[:, None]
        h = words * np.sqrt(np.maximum(0, 1 - 1 / (2 * c**2)))
    else:
        words = np.array(list(itertools.product([1.0, 0.0], repeat=k)))
        empty = words.sum(axis=1, keepdims=True) == 0
        c = np.where(
            empty, 2 * (mu**2).sum() / (mu**3).sum(), np.cbrt(2 * words.sum(1) / np.maximum(words @ mu, 1e-300))[:, None]
        )
        h = np.where(words > 0, 1 - 1 / c**2, c * mu / (2 + 2 * c**2))
    found, residual = newton(np.hstack([c, h]), mu, norms, activation)
    reached = np.sign(found[:, 1:]) if activation == "tanh" else np.round(found[:, 1:])
    if not (residual < 1e-12).all() or (reached != words).any():
        raise ValueError(f"scale {scale:g} is too large for a unit of every word of length {k}")
    return _many(found, mu, np.eye(k), activation)


def second_order(k: int, activation: Sigmoid = "tanh") -> ManyClasses:
    """A strict local minimum of reg on k data points with ``2^(k-2)`` classes of tanh units, or ``2^(k-1)`` of logistic ones.

    One unit in each class. Tanh: squared lengths 1, 0.3, and ``12.5 (k - 2)`` for all others; all units have the same c and
    the values ``(0.92, 0, +-h, ..., +-h)``, with every word of signs; ``mu = (mu_1, 0, ..., 0)``. As ``1 / |x_j|^2`` adds
    up to 0.08 over the others, ``c^2`` solves ``2 (1.3 - 0.92^4) c^4 - 2 0.92^2 c^2 + 0.04 = 0``, which does not contain k,
    and ``h^2 = 1 - 1 / (25 (k - 2) c^2)``.

    Logistic: squared lengths 1, and ``20 (k - 1)`` for all others; all units have the same c, near 5/2, the value 1/5 on the
    first point, and on each of the others one of two values, near 0 and near 1. Their price, near ``2 / (c^3 |x_j|^2)``,
    is the one at which both values ask for the same c.

    Args:
        k: number of data points, 3 to 10 for tanh, 2 to 10 for the logistic.
        activation: of the units.

    Returns:
        The network, on inputs along the axes; its labels are ``model(x)``.

    Raises:
        TypeError: if k is no integer.
        ValueError: if k is out of its range, or the activation is unknown.

    Source: ours; chapter "Add data points".

    >>> len(second_order(5).units), len(second_order(5, "logistic").units)
    (8, 16)
    """
    check_activation(activation)
    if activation == "logistic":
        return _logistic_minimum(as_count("k", k, 2, 10))
    k = as_count("k", k, 3, 10)
    value, short, total = 0.92, 0.3, 0.08
    a, b = 1 + short - value**4, value**2
    square = (b + (b**2 - total * a) ** 0.5) / (2 * a)
    norms = np.array([1.0, short] + [(k - 2) / total] * (k - 2))
    words = np.array(list(itertools.product([1, -1], repeat=k - 2)), dtype=float)
    same = np.tile([square**0.5, value, 0.0], (len(words), 1))
    mu = np.zeros(k)
    mu[0] = (2 - 4 * square * (1 - b)) * value / square**0.5
    units = np.hstack([same, (1 - 1 / (2 * square * norms[2])) ** 0.5 * words])
    return _many(units, mu, np.diag(norms**0.5), activation)


def _logistic_minimum(k: int) -> ManyClasses:
    first, norm = 0.2, 20.0 * (k - 1)

    def price_of_first(c: float) -> float:
        return 2 * first * (1 + c**2 * (1 - first) * (1 - 2 * first)) / c

    def equations(unknown: np.ndarray) -> list[float]:
        c, low, high, price = unknown
        cubics = [2 * h * (1 + c**2 * norm * (1 - h) * (1 - 2 * h)) - c * price for h in (low, high)]
        asked = [2 * c * norm * (h * (1 - h)) ** 2 - price * h for h in (low, high)]
        rest = 2 * c * (first * (1 - first)) ** 2 - price_of_first(c) * first
        return [*cubics, asked[0] - asked[1], rest + (k - 1) * asked[0]]

    start = 2.5, 1 / (2.5**4 * norm**2), 1 - 1 / (2.5**2 * norm), 2 / (2.5**3 * norm)
    c, low, high, price = root(equations, start, tol=1e-15).x
    mu = np.array([price_of_first(c)] + [price] * (k - 1))
    norms = np.array([1.0] + [norm] * (k - 1))
    units = np.array([[c, first, *word] for word in itertools.product([high, low], repeat=k - 1)])
    return _many(newton(units, mu, norms, "logistic")[0], mu, np.diag(norms**0.5), "logistic")


def _many(found: np.ndarray, mu: np.ndarray, x: np.ndarray, activation: Sigmoid) -> ManyClasses:
    found, mu, x = map(torch.from_numpy, (found, mu, x))
    return ManyClasses(found, mu, x, network(found, x, activation))
