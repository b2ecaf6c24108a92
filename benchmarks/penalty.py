"""What a step of training costs with reg as a penalty, over the same step without.

``make bench`` runs ``python -m benchmarks.penalty``. README.md says how to read what it prints. The exit status is 1 if
two ways to the penalty that should have the same mean do not, else 0.
"""

import contextlib
import platform
import sys
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import labelnoise_utils as ln

from .table import cpu_times, print_head, print_row

TURNS = 15
TURN = 0.1  # seconds
DATA, EXAMPLES, CLASSES = 500, 50, 10
WEIGHT, RATE = 1e-3, 1e-6
DRAWS, STANDARD_ERRORS = 256, 5

PLAIN = "plain step"
SHARED = "one draw, estimate_regularizer(model, x, h=h)"
ONE_DRAW = "one draw, estimate_regularizer(model, x)"
BY_HAND = "one draw, by hand"
EXACT = "exact, implicit_regularizer(model, x)"

# From the inputs and the outputs of the step's own forward pass, the penalty.
Penalty = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Residual(nn.Module):
    """Two convolutions beside a way past them."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.through = nn.Sequential(
            *(nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()),
            *(nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)),
        )
        self.past = nn.Identity() if stride == 1 else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, after, ...) from (n, before, ...)."""
        return F.relu(self.through(x) + self.past(x))


class Transformer(nn.Module):
    """Two layers of the stock encoder over the rows of an image of 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.rows, self.place = nn.Linear(8, 32), nn.Parameter(0.1 * torch.randn(8, 32))
        self.encoder, self.out = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(32, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, classes) from (n, 8, 8)."""
        return self.out(self.encoder(self.rows(x) + self.place).mean(dim=1))


def mlp() -> nn.Module:
    """Return a network for the 64 numbers of a digit."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES))


def cnn() -> nn.Module:
    """Return a network for signals of 40 numbers."""
    return nn.Sequential(
        *(nn.Conv1d(1, 25, 5, stride=2, padding=2), nn.ReLU()),
        *(nn.Conv1d(25, 25, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv1d(25, 25, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()),
        nn.Linear(125, CLASSES),
    )


def resnet() -> nn.Module:
    """Return a network with BatchNorm for images of 8 x 8."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES)),
    )


def by_hand(model: nn.Module, x: torch.Tensor, h: torch.Tensor | None = None) -> torch.Tensor:
    """The penalty from one draw, as one writes it without a package."""
    # Fused attention cannot be differentiated twice.
    with sdpa_kernel(SDPBackend.MATH):
        h = model(x) if h is None else h
        signs = 2.0 * torch.randint(2, h.shape) - 1
        gradients = torch.autograd.grad(h, list(model.parameters()), signs, create_graph=True)
        return sum(g.square().sum() for g in gradients) / len(x)


def check_mean(what: str, model: nn.Module, x: torch.Tensor) -> None:
    """Leave with status 1 if the estimate is not near the exact value."""
    with torch.no_grad(), ln.evaluating(model):
        reg = ln.implicit_regularizer(model, x).item()
        value, error = (of.item() for of in ln.estimate_regularizer(model, x, draws=DRAWS, seed=0))
    if not abs(value - reg) <= STANDARD_ERRORS * error:
        sys.exit(f"{what}: the estimate is {value:.4g} +- {error:.2g}, the exact value {reg:.4g}")


def measure(
    what: str, model: nn.Module, optimizer: torch.optim.Optimizer, shape: tuple[int, ...], bar: float, *, one_mode: bool
) -> None:
    """Time the steps in turns and print their ratios.

    Args:
        what: heading.
        model: the network; each way trains it on.
        optimizer: of its parameters.
        shape: of one input.
        bar: for the cheapest penalty by the package.
        one_mode: whether the model computes the same in training mode, so that a step's forward pass does for both.
    """
    inputs, labels = torch.randn(DATA, *shape), torch.randint(CLASSES, (DATA,))
    check_mean(what, model, inputs[:EXAMPLES])
    penalties: dict[str, Penalty] = {
        ONE_DRAW: lambda x, h: ln.estimate_regularizer(model, x).value,
        BY_HAND: lambda x, h: by_hand(model, x),
        EXACT: lambda x, h: ln.implicit_regularizer(model, x),
    }
    if one_mode:
        penalties = {SHARED: lambda x, h: ln.estimate_regularizer(model, x, h=h).value, **penalties}

    def step(penalty: Penalty | None) -> None:
        batch = torch.randint(DATA, (EXAMPLES,))
        x, y = inputs[batch], labels[batch]
        optimizer.zero_grad()
        h = model(x)
        loss = F.cross_entropy(h, y)
        if penalty is not None:
            with contextlib.nullcontext() if one_mode else ln.evaluating(model):
                loss = loss + WEIGHT * penalty(x, h)
        loss.backward()
        optimizer.step()

    steps = {PLAIN: lambda: step(None)} | {name: lambda p=penalty: step(p) for name, penalty in penalties.items()}
    times = cpu_times(steps, TURNS, at_least=TURN)
    print(f"{what}, {sum(p.numel() for p in model.parameters()):,} parameters: a step over a plain step")
    print_row("plain step, in microseconds", times[PLAIN] * 1e6)
    for k, name in enumerate(penalties):
        print_row(name, times[name] / times[PLAIN], *(bar, "<=") if k == 0 else ())


def main() -> None:
    """Measure, and print the table row by row."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore", message="There is a performance drop")
    print(f"Python {platform.python_version()}, torch {torch.__version__}; float32, one thread, {EXAMPLES} examples")
    print_head()
    # As small a rate as leaves the networks what they are.
    model = mlp()
    measure("MLP, Adam", model, torch.optim.Adam(model.parameters(), lr=RATE), (64,), 3, one_mode=True)
    rows = [("MLP", mlp(), (64,), 3, True), ("CNN", cnn(), (1, 40), 3, True)]
    rows += [("ResNet", resnet(), (1, 8, 8), 6, False), ("transformer", Transformer(), (8, 8), 6, False)]
    for what, model, shape, bar, one_mode in rows:
        momentum = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
        measure(f"{what}, SGD with momentum", model, momentum, shape, bar, one_mode=one_mode)


if __name__ == "__main__":
    main()
