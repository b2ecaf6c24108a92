"""What other noises, momentum and a penalty cost, beside the plain step of label noise: ``python -m benchmarks.contrasts``.

README.md says how to read what it prints. The exit status is 1 if the engines do not end at the same parameters.
"""

import platform
import sys
from collections.abc import Callable

import numba
import numpy as np
import torch

import labelnoise_utils as ln
from labelnoise_utils.sgd.engines import train_compiled
from labelnoise_utils.sgd.job import prepare

from .table import cpu_times, print_head, print_row

TURNS, TURN, STEPS = 15, 0.1, 20_000
TORCH_STEPS, SAME = 200, 1e-9
WIDTH, LR, STD = 50, 1e-4, 0.5
PLAIN = "label noise"
SETTINGS = {
    PLAIN: dict(noise=ln.LabelNoise(STD)),
    "label noise, a std for each": dict(noise=ln.LabelNoise(np.linspace(0.3, 0.7, 12))),
    "label noise, correlated": dict(noise=ln.LabelNoise(None, covariance=STD**2 * (np.eye(12) + 0.2))),
    "two copies, reshuffled": dict(noise=ln.TwoCopies(STD, reshuffled=True)),
    "frozen labels": dict(noise=ln.FrozenNoise(STD)),
    "noise on inputs": dict(noise=ln.InputNoise(0.1)),
    "noise on parameters": dict(noise=ln.ParameterNoise(LR**0.5 * STD)),
    "noise on parameters, Rademacher": dict(noise=ln.ParameterNoise(LR**0.5 * STD, "rademacher")),
    "Langevin noise": dict(noise=ln.LangevinNoise(LR * STD)),
    "momentum": dict(noise=ln.LabelNoise(STD), momentum=0.9),
    "penalty": dict(penalty=LR * STD**2),
}
# Microseconds, of the network on a line alone.
BARS = {"noise on parameters": 1.2, "penalty": 0.3}


def models() -> dict[str, tuple[Callable[[], torch.nn.Module], torch.Tensor, torch.Tensor]]:
    """Return each model's name, what builds it, and its data."""
    x, y = ln.twelve_points()
    cloud = torch.randn(12, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return {
        "TwoLayerReLU(50)": (lambda: ln.TwoLayerReLU(WIDTH), x, y),
        "TwoLayerReLU(50, dim=10)": (lambda: ln.TwoLayerReLU(WIDTH, dim=10), cloud, y),
        "TwoLayerSigmoidal(50, 10)": (lambda: ln.TwoLayerSigmoidal(WIDTH, 10), cloud, y),
        'MLP([10, 16, 16, 1], "tanh")': (lambda: ln.MLP([10, 16, 16, 1], "tanh"), cloud, y),
    }


def steps_of(build: Callable[[], torch.nn.Module], x: torch.Tensor, y: torch.Tensor, settings: dict) -> Callable[[], object]:
    """Return a call that draws and makes all steps, from wherever the model is."""
    job = prepare(build(), x, y, lr=LR, steps=STEPS, engine="compiled", **settings)
    descend, velocity = train_compiled(job), np.zeros(sum(p.numel() for p in job.model.parameters()))
    arguments = dict(noise=job.noise, inputs=tuple(x.shape[1:]))

    def run() -> None:
        first = 0
        for indices, z in ln.sgd_draws(len(x), STEPS, **arguments):
            first += descend(indices, z, first, velocity)

    return run


def check_engines(name: str, build: Callable[[], torch.nn.Module], x: torch.Tensor, y: torch.Tensor) -> None:
    """Leave with status 1 if the engines differ in one of the settings."""
    for setting, settings in SETTINGS.items():
        more = dict(lr=LR, steps=TORCH_STEPS, record=[TORCH_STEPS], progress=False, **settings)
        one, other = (ln.train(build(), x, y, engine=engine, **more).theta[-1] for engine in ("compiled", "torch"))
        if not np.linalg.norm(one - other) <= SAME * np.linalg.norm(other):
            sys.exit(f"{name}, {setting}: the engines do not end at the same parameters")


def main() -> None:
    """Measure, and print the table row by row."""
    torch.set_num_threads(1)
    print(f"Python {platform.python_version()}, numba {numba.__version__}; float64, one example a step, draws included")
    print_head()
    for k, (name, (build, x, y)) in enumerate(models().items()):
        check_engines(name, build, x, y)
        times = cpu_times({key: steps_of(build, x, y, settings) for key, settings in SETTINGS.items()}, TURNS, at_least=TURN)
        size = sum(p.numel() for p in build().parameters())
        print(f"{name}, {size} parameters: microseconds a step")
        for setting, seconds in times.items():
            bar = (BARS[setting], "<=") if k == 0 and setting in BARS else ()
            print_row(setting, seconds / STEPS * 1e6, *bar)
        print(f"{name}: a step over a step of label noise")
        for setting, seconds in times.items():
            if setting != PLAIN:
                print_row(setting, seconds / times[PLAIN])


if __name__ == "__main__":
    main()
