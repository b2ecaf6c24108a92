"""The data sets and the networks of the table."""

import dataclasses
from collections.abc import Callable

import mnist1d.data
import numpy as np
import torch
from sklearn.datasets import load_diabetes, load_digits
from torch import nn


@dataclasses.dataclass(frozen=True)
class Task:
    """A data set, how it is cut, and what is trained on it.

    Attributes:
        x: all inputs, (N, ...), float32.
        y: all labels: classes (N,), or real numbers (N, 1).
        test: how many examples, the first ones, are for testing.
        train: how many of the others a run trains on.
        choose: how many of the rest strengths are chosen on.
        network: makes the network, from torch's global generator.
        steps: of a run.
        batch: examples per step.
        rates: learning rates to begin with.
        strengths: of each method, to begin with.
        limit: a setting whose training error ends above this is out.
    """

    x: torch.Tensor
    y: torch.Tensor
    test: int
    train: int
    choose: int
    network: Callable[[], nn.Sequential]
    steps: int
    batch: int
    rates: tuple[float, ...]
    strengths: dict[str, tuple[float, ...]]
    limit: float

    @property
    def classes(self) -> bool:
        """Whether the labels are classes, and the loss is the cross-entropy."""
        return not self.y.is_floating_point()

    def split(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return which examples a seed trains on, and which it chooses on."""
        shuffled = self.test + np.random.default_rng([seed, 0]).permutation(len(self.x) - self.test)
        return shuffled[: self.train], shuffled[self.train : self.train + self.choose]


def mlp(inputs: int, outputs: int) -> nn.Sequential:
    """Two hidden layers of 64 units."""
    return nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, outputs))


def cnn() -> nn.Sequential:
    """Three convolutions, each of which halves a signal of 40 numbers."""
    return nn.Sequential(
        *(nn.Conv1d(1, 25, 5, stride=2, padding=2), nn.ReLU()),
        *(nn.Conv1d(25, 25, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv1d(25, 25, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()),
        nn.Linear(125, 10),
    )


def _mnist1d() -> Task:
    found = mnist1d.data.make_dataset(mnist1d.data.get_dataset_args())
    x = np.concatenate([found["x_test"], found["x"]]).astype(np.float32)[:, None]
    y = np.concatenate([found["y_test"], found["y"]])
    strengths = {
        "weight decay": (3e-4, 1e-3, 3e-3),
        "label smoothing": (0.03, 0.1, 0.3),
        "label noise": (0.03, 0.1, 0.3),
        "penalty on outputs": (3e-4, 1e-3, 3e-3),
        "penalty, cross-entropy": (1e-3, 1e-2, 1e-1),
        "SAM": (0.03, 0.1, 0.3),
        "clipping": (0.3, 1.0, 3.0),
    }
    rates = (0.1, 0.2, 0.4)
    return Task(torch.from_numpy(x), torch.from_numpy(y), 1000, 500, 2000, cnn, 1500, 50, rates, strengths, 0.2)


def _digits() -> Task:
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = torch.from_numpy(digits.data[order].astype(np.float32) / 16)
    y = torch.from_numpy(digits.target[order])
    strengths = {
        "weight decay": (1e-3, 3e-3, 1e-2),
        "label smoothing": (0.03, 0.1, 0.3),
        "label noise": (0.03, 0.1, 0.3),
        "penalty on outputs": (1e-4, 1e-3, 1e-2),
        "penalty, cross-entropy": (1e-3, 1e-2, 1e-1),
        "SAM": (0.03, 0.1, 0.3),
    }
    return Task(x, y, 900, 200, 697, lambda: mlp(64, 10), 1500, 20, (0.05, 0.1, 0.2), strengths, 0.2)


def _diabetes() -> Task:
    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = x[order], y[order][:, None]
    x, y = ((z - z.mean(axis=0)) / z.std(axis=0) for z in (x, y))
    strengths = {
        "weight decay": (1e-3, 3e-3, 1e-2),
        "label smoothing": (0.03, 0.1, 0.3),
        "label noise": (0.1, 0.3, 1.0),
        "penalty on outputs": (1e-4, 1e-3, 1e-2),
        "SAM": (0.03, 0.1, 0.3),
    }
    x, y = (torch.from_numpy(z.astype(np.float32)) for z in (x, y))
    return Task(x, y, 122, 240, 80, lambda: mlp(10, 1), 12000, 20, (0.01, 0.02, 0.04), strengths, 0.002)


TASKS = {"mnist1d": _mnist1d, "digits": _digits, "diabetes": _diabetes}
