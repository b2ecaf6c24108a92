"""Networks of any depth on a line, fitted with the least reg that an optimiser finds: Adam on loss and reg, compiled."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from ...arguments import as_examples, as_integer
from ...models import MLP
from ...models.compiled import jit


class WithLinearUnit(torch.nn.Module):
    """A network plus ``a x``: Theorem 2's linear unit leading to the output.

    Args:
        core: a network of one input.
        slope: a, at first.

    Source: Theorem 2 asks for such a unit.
    """

    def __init__(self, core: MLP, slope: float = 0.0) -> None:
        super().__init__()
        self.core, self.slope = core, torch.nn.Parameter(torch.tensor(float(slope), dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values, of the shape of the core's."""
        return self.core(x) + self.slope * x


def fit_with_least_reg(
    sizes: Sequence[int], x: torch.Tensor, y: torch.Tensor, *, seeds: Sequence[int] = (0,), steps: int = 40_000
) -> list[WithLinearUnit]:
    """Minimise ``loss / lambda + reg`` by Adam, for ReLU networks with a linear unit, while lambda falls from 1e-2 to 1e-5.

    The learning rate falls with it, from 3e-3 to 3e-6, geometrically. What comes out is an upper bound of the least reg. No
    autograd: with u_l the layers, delta_l the gradient of h by what enters layer l, and ``D_l = |delta_l|^2``,
    ``A_l = 1 + |u_l|^2``, an example's share of reg is ``sum_l D_l A_(l-1) + x^2``. One sweep up takes its gradient through the
    delta_l, one sweep down through the u_l.

    Args:
        sizes: units per layer, from 1 to 1.
        x: (n,), float64.
        y: (n,), float64.
        seeds: of the starts, one run each, on all cores; weights N(0, 2 / fan_in), biases N(0, 1/4).
        steps: of Adam, >= 1.

    Returns:
        The networks, in the order of the seeds.

    Raises:
        TypeError: if steps is no integer, or x or y no tensor.
        ValueError: if a number is out of range, sizes do not lead from 1 to 1, or x and y differ in shape.

    Source: equation (1), with the coefficient of the informal Theorem 1 going to 0.
    """
    steps = as_integer("steps", steps, 1)
    x, y = (as_examples(name, v).to(torch.float64) for name, v in (("x", x), ("y", y)))
    if x.dim() != 1 or x.shape != y.shape:
        raise ValueError(f"x and y must have the same shape (n,), got {tuple(x.shape)} and {tuple(y.shape)}")
    if len(sizes) < 3 or sizes[0] != 1 or sizes[-1] != 1:
        raise ValueError(f"sizes must lead from 1 to 1 by a hidden layer at least, got {list(sizes)}")
    models = [WithLinearUnit(MLP(sizes, "relu", seed=seed, bias_std=0.5)) for seed in seeds]

    def descend(model: WithLinearUnit) -> WithLinearUnit:
        theta = torch.nn.utils.parameters_to_vector([*model.core.parameters(), model.slope]).detach().numpy().copy()
        _adam(theta, np.array(sizes), x.numpy(), y.numpy(), steps)
        torch.nn.utils.vector_to_parameters(torch.from_numpy(theta), [*model.core.parameters(), model.slope])
        return model

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(descend, models))


@jit
def _adam(theta, sizes, x, y, steps):
    gradient, mean, square = np.zeros(theta.size), np.zeros(theta.size), np.zeros(theta.size)
    scratch = np.zeros((3, sizes.size, sizes.max()))
    u, delta, bar = scratch[0], scratch[1], scratch[2]
    for t in range(1, steps + 1):
        part = t / steps
        penalty, lr = 1e-2 * 1e-3**part, 3e-3 * 1e-3**part
        gradient[:] = 0
        for i in range(x.size):
            _add_gradient(theta, sizes, x[i], y[i], 1 / penalty, gradient, u, delta, bar)
        first, second = 1 - 0.9**t, 1 - 0.999**t
        for j in range(theta.size):
            g = gradient[j] / x.size
            mean[j] += 0.1 * (g - mean[j])
            square[j] += 0.001 * (g * g - square[j])
            theta[j] -= lr * mean[j] / first / (np.sqrt(square[j] / second) + 1e-12)


@jit
def _add_gradient(theta, sizes, x, y, weight, gradient, u, delta, bar):
    """Add the gradient of ``weight (h - y)^2 + |grad h|^2`` on one example; the last parameter is the linear unit's."""
    layers, at = sizes.size - 1, 0
    u[0, 0] = x
    for layer in range(layers):
        m, k = sizes[layer + 1], sizes[layer]
        for r in range(m):
            z = theta[at + m * k + r]
            for q in range(k):
                z += theta[at + r * k + q] * u[layer, q]
            u[layer + 1, r] = z if layer == layers - 1 or z > 0 else 0.0
        at += m * k + m
    delta[layers, 0] = 1.0
    for layer in range(layers - 1, 0, -1):
        m, k = sizes[layer + 1], sizes[layer]
        at -= m * k + m
        for q in range(k):
            total = 0.0
            if u[layer, q] > 0:
                for r in range(m):
                    total += theta[at + r * k + q] * delta[layer + 1, r]
            delta[layer, q] = total
    # Up, through the deltas: the adjoint of delta_l is 2 A_(l-1) delta_l + W_l (the adjoint below, where its unit is active).
    at = 0
    for layer in range(layers):
        m, k = sizes[layer + 1], sizes[layer]
        length = 1.0
        for q in range(k):
            length += u[layer, q] ** 2
        for r in range(m):
            total = 2 * length * delta[layer + 1, r]
            if layer:
                for q in range(k):
                    if u[layer, q] > 0:
                        total += theta[at + r * k + q] * bar[layer, q]
                        gradient[at + r * k + q] += delta[layer + 1, r] * bar[layer, q]
            bar[layer + 1, r] = total
        at += m * k + m
    # Down, through the layers: the adjoint of u_l is 2 D_(l+1) u_l + W_(l+1)^T (the adjoint above).
    error = u[layers, 0] + theta[-1] * x - y
    gradient[-1] += 2 * weight * error * x
    bar[layers, 0] = 2 * weight * error
    for layer in range(layers - 1, -1, -1):
        m, k = sizes[layer + 1], sizes[layer]
        at -= m * k + m
        length = 0.0
        for r in range(m):
            length += delta[layer + 1, r] ** 2
            gradient[at + m * k + r] += bar[layer + 1, r]
        for q in range(k):
            total = 2 * length * u[layer, q]
            for r in range(m):
                gradient[at + r * k + q] += bar[layer + 1, r] * u[layer, q]
                total += theta[at + r * k + q] * bar[layer + 1, r]
            bar[layer, q] = total if u[layer, q] > 0 else 0.0
