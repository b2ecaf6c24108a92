"""What label noise, a probe of reg and the one-draw penalty add to a step of a training loop of one's own.

``python -m benchmarks.steps``. The loop is that of the chapter "Train with label noise, or with reg itself": a DataLoader,
cross-entropy, SGD with momentum. README.md says how to read what it prints.
"""

import platform
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import labelnoise_utils as ln

from .penalty import CLASSES, DATA, EXAMPLES, RATE, WEIGHT, Transformer, cnn, mlp, resnet
from .table import cpu_times, print_head, print_row

TURNS, TURN = 15, 0.2
EVERY = 100  # steps between two probes
PLAIN, NOISE, LINE, PENALTY, PROBE = "plain step", "label noise", "noise in a line", "one-draw penalty", "probe"
BARS = {NOISE: 1.02, PROBE: 1.3}


def measure(what: str, model: nn.Module, shape: tuple[int, ...], *, bar: float, one_mode: bool) -> None:
    """Time epochs and probes in turns, and print their ratios.

    Args:
        what: heading.
        model: the network; every loop trains it on.
        shape: of one input.
        bar: for the penalty.
        one_mode: whether the model computes the same in training mode, so that a step's forward pass does for both.
    """
    x, y = torch.randn(DATA, *shape), torch.randint(CLASSES, (DATA,))
    loader = DataLoader(TensorDataset(x, y), batch_size=EXAMPLES, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    flip = ln.LabelFlip(0.2, CLASSES)

    def of_outputs(inputs: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        if one_mode:
            return ln.estimate_regularizer(model, inputs, h=h).value
        with ln.evaluating(model):
            return ln.estimate_regularizer(model, inputs).value

    def epoch(
        noise: Callable[[torch.Tensor], torch.Tensor] | None = None,
        penalty: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        for inputs, labels in loader:
            optimizer.zero_grad()
            h = model(inputs)
            loss = F.cross_entropy(h, labels if noise is None else noise(labels))
            if penalty is not None:
                loss = loss + WEIGHT * penalty(inputs, h)
            loss.backward()
            optimizer.step()

    def probe() -> None:
        with torch.no_grad(), ln.evaluating(model):
            ln.implicit_regularizer(model, x[:EXAMPLES])

    def line(labels: torch.Tensor) -> torch.Tensor:
        """Unchecked, and at times the old class again: what the calls of torch alone cost."""
        return torch.where(torch.rand(labels.shape) < flip.p, torch.randint(CLASSES, labels.shape), labels)

    programs = {
        PLAIN: epoch,
        NOISE: lambda: epoch(noise=flip),
        LINE: lambda: epoch(noise=line),
        PENALTY: lambda: epoch(penalty=of_outputs),
        PROBE: probe,
    }
    times = cpu_times(programs, TURNS, at_least=TURN)
    steps = len(loader)
    print(f"{what}, {sum(p.numel() for p in model.parameters()):,} parameters: a step over a plain step")
    print_row("plain step, in microseconds", times[PLAIN] / steps * 1e6)
    print_row("labels flipped by LabelFlip", times[NOISE] / times[PLAIN], BARS[NOISE], "<=")
    print_row("labels flipped by a line of torch", times[LINE] / times[PLAIN])
    of_probe = 1 + times[PROBE] * steps / (EVERY * times[PLAIN])
    print_row(f"exact reg of {EXAMPLES} examples every {EVERY} steps", of_probe, BARS[PROBE], "<=")
    print_row("one-draw penalty on the logits", times[PENALTY] / times[PLAIN], bar, "<=")


def main() -> None:
    """Measure, and print the table row by row."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore", message="There is a performance drop")
    print(f"Python {platform.python_version()}, torch {torch.__version__}; float32, one thread, {EXAMPLES} examples")
    print_head()
    rows = [("MLP", mlp(), (64,), 3, True), ("CNN", cnn(), (1, 40), 3, True)]
    rows += [("ResNet", resnet(), (1, 8, 8), 6, False), ("transformer", Transformer(), (8, 8), 6, False)]
    for what, model, shape, bar, one_mode in rows:
        measure(what, model, shape, bar=bar, one_mode=one_mode)


if __name__ == "__main__":
    main()
