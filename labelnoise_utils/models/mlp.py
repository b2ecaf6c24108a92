"""Fully connected networks of any depth."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import numpy as np
import torch

from ..arguments import as_integer
from .compiled import jit, logistic, tanh

Activation = Literal["relu", "tanh", "logistic"]
RELU, TANH, LOGISTIC = range(3)
FUNCTIONS = {"relu": torch.relu, "tanh": torch.tanh, "logistic": torch.sigmoid}


class MLP(torch.nn.Module):
    """The hypothesis ``h(x, theta) = W_L s(W_{L-1} ... s(W_1 x + b_1) ... + b_{L-1}) + b_L``.

    At the start ``W_l ~ N(0, gain^2 / fan_in)`` and ``b_l ~ N(0, bias_std^2)``.

    Args:
        sizes: units per layer, input first, output last: ``[64, 64, 64, 1]`` has two hidden layers.
        activation: s, after every layer but the last.
        seed: of the initial parameters.
        gain: factor on the weights; by default sqrt(2) for relu, 1 else.
        bias_std: standard deviation of the biases at the start.
        dtype: of the parameters.

    Shapes: x (n, sizes[0]), or (n,) if sizes[0] is 1; h (n,) if sizes[-1] is 1, else (n, sizes[-1]).
    Parameters: weights[l] (sizes[l + 1], sizes[l]) and biases[l] (sizes[l + 1],), one after the other, layer by layer.

    Raises:
        TypeError: if ``sizes`` is no sequence of integers.
        ValueError: if there are fewer than two sizes, one is below 1, or the activation is unknown; or x has another shape.

    Source: Theorem 1 covers "a deep network" of any width and depth (section 2).
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: Activation = "relu",
        *,
        seed: int = 0,
        gain: float | None = None,
        bias_std: float = 0.0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        if not isinstance(sizes, Iterable):
            raise TypeError(f"sizes must be a sequence of integers, got {sizes!r}")
        sizes = [as_integer("each of sizes", size, 1) for size in sizes]
        if len(sizes) < 2:
            raise ValueError(f"sizes must hold at least two numbers, got {sizes}")
        if activation not in get_args(Activation):
            raise ValueError(f"activation must be one of {', '.join(get_args(Activation))}, got {activation!r}")
        self.config = {"sizes": sizes, "activation": activation}
        self.sizes, self.activation = sizes, activation
        gain = gain if gain is not None else math.sqrt(2) if activation == "relu" else 1.0
        generator = torch.Generator().manual_seed(seed)
        self.layers = torch.nn.ModuleList()
        for fan_in, fan_out in itertools.pairwise(sizes):
            layer = torch.nn.Linear(fan_in, fan_out, device="meta", dtype=dtype).to_empty(device="cpu")
            weight = torch.randn(fan_out, fan_in, generator=generator, dtype=torch.float64)
            bias = torch.randn(fan_out, generator=generator, dtype=torch.float64)
            with torch.no_grad():
                layer.weight.copy_(gain / math.sqrt(fan_in) * weight)
                layer.bias.copy_(bias_std * bias)
            self.layers.append(layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output h, (n,) or (n, sizes[-1]) for x (n, sizes[0])."""
        if x.dim() == 1 and self.sizes[0] == 1:
            x = x[:, None]
        if x.dim() != 2 or x.shape[1] != self.sizes[0]:
            raise ValueError(f"x must have shape (n, {self.sizes[0]}), got {tuple(x.shape)}")
        s = FUNCTIONS[self.activation]
        for layer in self.layers[:-1]:
            x = s(layer(x))
        h = self.layers[-1](x)
        return h[:, 0] if self.sizes[-1] == 1 else h

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
        """Step ``theta = (W_1, b_1, ...)`` in place; arguments as in :func:`labelnoise_utils.sgd.engines.train_compiled`."""
        sizes = np.array(self.sizes)
        code = {"relu": RELU, "tanh": TANH, "logistic": LOGISTIC}[self.activation]
        outputs = self.sizes[-1]
        return _sgd(
            theta,
            sizes,
            code,
            x.reshape(-1, sizes[0]),
            y.reshape(-1, outputs),
            indices,
            noise.reshape(*indices.shape, outputs),
            lr,
            frozen,
        )


@jit
def _activate(z, code):
    """Replace z by s(z), in place."""
    if code == RELU:
        for i in range(z.size):
            z[i] = z[i] if z[i] > 0 else 0.0 * z[i]
    elif code == TANH:
        for i in range(z.size):
            z[i] = tanh(z[i])
    else:
        for i in range(z.size):
            z[i] = logistic(z[i])


@jit
def _times_derivative(delta, h, code):
    """Multiply delta by s'(z), in place, with s'(z) from h = s(z)."""
    if code == RELU:
        for i in range(h.size):
            delta[i] = delta[i] if h[i] > 0 else 0.0
    elif code == TANH:
        for i in range(h.size):
            delta[i] *= 1 - h[i] * h[i]
    else:
        for i in range(h.size):
            delta[i] *= h[i] * (1 - h[i])


@jit
def _step(theta, sizes, code, scratch, x, y, noise, lr):
    """One step of equation (5) on one example, in place: forward, then backward with each layer's update.

    ``scratch`` (layers + 1, 2, widest) holds for each layer its units, and lr times the gradient by what enters them.

    Returns:
        The sum of the residuals before the step.
    """
    layers = sizes.size - 1
    scratch[0, 0, : sizes[0]] = x
    at = 0
    for layer in range(layers):
        m, k = sizes[layer + 1], sizes[layer]
        weight, bias = theta[at : at + m * k].reshape(m, k), theta[at + m * k : at + m * k + m]
        before, z = scratch[layer, 0, :k], scratch[layer + 1, 0, :m]
        for i in range(m):
            total = 0.0
            for j in range(k):
                total += weight[i, j] * before[j]
            z[i] = total + bias[i]
        if layer < layers - 1:
            _activate(z, code)
        at += m * k + m
    h, delta = scratch[layers, 0], scratch[layers, 1]
    residual = 0.0
    for i in range(sizes[layers]):
        e = h[i] - y[i] - noise[i]
        delta[i] = 2 * lr * e
        residual += e
    for layer in range(layers - 1, -1, -1):
        m, k = sizes[layer + 1], sizes[layer]
        at -= m * k + m
        weight, bias = theta[at : at + m * k].reshape(m, k), theta[at + m * k : at + m * k + m]
        before, delta_before = scratch[layer, 0, :k], scratch[layer, 1, :k]
        delta = scratch[layer + 1, 1]
        delta_before[:] = 0
        for i in range(m):
            d = delta[i]
            for j in range(k):
                delta_before[j] += weight[i, j] * d
                weight[i, j] -= d * before[j]
            bias[i] -= d
        if layer > 0:
            _times_derivative(delta_before, before, code)
    return residual


@jit
def _sgd(theta, sizes, code, x, y, indices, noise, lr, frozen):
    steps, batch_size = indices.shape
    kept, start, total = theta[frozen], np.empty_like(theta), np.empty_like(theta)
    # A layer's units and deltas side by side: in two arrays their page offsets can coincide, a processor then takes loads
    # from one for loads of what it just stored to the other, and a step was seen to take up to four times as long.
    scratch = np.empty((sizes.size, 2, sizes.max()))
    for t in range(steps):
        if batch_size == 1:
            i = indices[t, 0]
            residual = _step(theta, sizes, code, scratch, x[i], y[i], noise[t, 0], lr)
        else:
            # The step on a batch is the mean of the steps on its examples, all from the same point.
            residual = 0.0
            start[:] = theta
            total[:] = 0
            for k in range(batch_size):
                theta[:] = start
                i = indices[t, k]
                residual += _step(theta, sizes, code, scratch, x[i], y[i], noise[t, k], lr)
                total += theta
            theta[:] = total / batch_size
        for j in range(frozen.size):
            theta[frozen[j]] = kept[j]
        if not abs(residual) < np.inf:
            return t
    return steps
