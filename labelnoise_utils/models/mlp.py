"""Fully connected networks of any depth."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import numpy as np
import torch

from ..arguments import as_integer
from .mlp_gradient import steps_with_extras
from .mlp_steps import LOGISTIC, RELU, TANH, sgd, sgd_on_batches
from .stepping import Extras

Activation = Literal["relu", "tanh", "logistic"]
CODES = {"relu": RELU, "tanh": TANH, "logistic": LOGISTIC}
FUNCTIONS = {"relu": torch.relu, "tanh": torch.tanh, "logistic": torch.sigmoid}
# s'(z), from h = s(z).
DERIVATIVES = {"relu": lambda h: (h > 0).to(h), "tanh": lambda h: 1 - h.square(), "logistic": lambda h: h * (1 - h)}
NUMBERS_PER_CHUNK = 2**17


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

    def loss_and_reg(self, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean squared error and reg at many theta at once; as :func:`labelnoise_utils.regularizer.snapshots.loss_and_reg`.

        ``||grad h(x)||^2 = sum_l |delta_l|^2 (|u_l|^2 + 1)`` for one output, where ``u_l`` is what enters layer l, ``u_1 = x``,
        the 1 is the share of the bias, and ``delta_l`` is the gradient of the output by ``z_l = W_l u_l + b_l``: a unit vector
        in the last layer, and ``delta_{l-1} = s'(z_{l-1}) W_l^T delta_l``.

        Args:
            theta: (k, p), all parameters.
            x: (n, sizes[0]), or (n,) if sizes[0] is 1.
            y: (n,) if sizes[-1] is 1, else (n, sizes[-1]).

        Returns:
            loss (k,) and reg (k,).

        Source: equation (4), divided by n, and equation (3).
        """
        shapes, outputs = [*itertools.pairwise(self.sizes)], self.sizes[-1]
        activate, derivative = FUNCTIONS[self.activation], DERIVATIVES[self.activation]
        x, y = x.reshape(1, -1, self.sizes[0]), y.reshape(-1, outputs)
        loss, reg = theta.new_zeros(2, len(theta))
        numbers = max(self.sizes) * outputs
        examples = min(len(y), max(1, NUMBERS_PER_CHUNK // numbers))
        for part in torch.arange(len(theta)).split(max(1, NUMBERS_PER_CHUNK // (examples * numbers))):
            layers = theta[part].split([size for k, m in shapes for size in (m * k, m)], dim=1)
            weights = [w.view(-1, m, k) for w, (k, m) in zip(layers[::2], shapes, strict=True)]
            biases = [b[:, None] for b in layers[1::2]]
            for u, labels in zip(x.split(examples, dim=1), y.split(examples), strict=True):
                entering = [u]
                for w, b in zip(weights[:-1], biases[:-1], strict=True):
                    entering.append(activate(torch.baddbmm(b, entering[-1].expand(len(w), -1, -1), w.mT)))
                h = entering[-1] @ weights[-1].mT + biases[-1]
                loss[part] += (h - labels).square().sum(dim=(1, 2))
                delta = torch.eye(outputs).to(theta)[:, None]  # (thetas, outputs, examples, units), or 1 in place of these
                for layer in reversed(range(len(weights))):
                    sizes = entering[layer].square().sum(dim=2) + 1
                    reg[part] += (delta.square().sum(dim=-1) * sizes[:, None]).sum(dim=(1, 2))
                    if layer:
                        delta = delta @ weights[layer][:, None] * derivative(entering[layer])[:, None]
        return loss / len(y), reg / len(y)

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
        code, outputs = CODES[self.activation], self.sizes[-1]
        x, y, noise = x.reshape(-1, sizes[0]), y.reshape(-1, outputs), noise.reshape(*indices.shape, outputs)
        if indices.shape[1] == 1 and not frozen.size:
            return sgd(theta, sizes, code, x, y, indices, noise, lr)
        return sgd_on_batches(theta, sizes, code, x, y, indices, noise, lr, frozen)

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
        sizes, outputs = np.array(self.sizes), self.sizes[-1]
        x, y, noise = x.reshape(-1, sizes[0]), y.reshape(-1, outputs), noise.reshape(*indices.shape, outputs)
        return steps_with_extras(
            theta, sizes, CODES[self.activation], x, y, indices, noise, lr, frozen, velocity, first, extras
        )
