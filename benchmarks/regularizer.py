"""Speed and memory of the regularizer beside BackPACK, Opacus, torch.func and autograd.

``make bench`` runs ``python -m benchmarks.regularizer``. README.md says how to read what it prints. The
exit status is 1 if two programs that should give the same numbers do not, else 0.
"""

import copy
import importlib.metadata
import platform
import sys
import warnings
from collections.abc import Callable, Mapping

import numpy as np
import torch
from backpack import backpack, extend
from backpack.extensions import BatchL2Grad
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector
from torch.profiler import ProfilerActivity, profile

import labelnoise_utils as ln
from labelnoise_utils.regularizer.exact import NUMBERS_CROSSCHECKED
from labelnoise_utils.regularizer.ghost import Cover, h_and_norms
from labelnoise_utils.regularizer.hypothesis import Hypothesis, trainable
from labelnoise_utils.regularizer.inputs import Examples

from .table import cpu_times, print_head, print_row

SAME = 1e-4  # relative, float32
REPEATS = 7
TURN = 0.2  # seconds
MIB = 2**20

GHOST = 'ln.per_example_sq_norms(method="ghost")'
BACKPACK, OPACUS = "BackPACK, BatchL2Grad", "Opacus, grad_sample"
CLIPPING = "Opacus, norms of its fast clipping"
PASS = "one forward and backward pass"
VMAP, LOOP = "torch.func, vmap(grad)", "a loop over the examples"

UNCHECKED = "the norms alone"
ONE_MORE = "only a plain loop on one example, small tensors"
WHOLE = "only a plain loop on one example, all tensors"

REG, FUNC = "ln.implicit_regularizer(...).backward()", "torch.func, grad of vmap(grad)"

# From inputs (n, ...), squared norms (n,).
Norms = Callable[[torch.Tensor], torch.Tensor]


def dense() -> nn.Sequential:
    """Return a network of 949,335 parameters for images of 784 numbers."""
    return nn.Sequential(
        *(nn.Linear(784, 512), nn.ReLU()),
        *(nn.Linear(512, 512), nn.ReLU()),
        *(nn.Linear(512, 512), nn.ReLU()),
        *(nn.Linear(512, 43), nn.ReLU()),
        nn.Linear(43, 1),
    )


def convolutional() -> nn.Sequential:
    """Return a network of 121,985 parameters for colour images of 32 x 32."""
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 64, 3, padding=1, stride=2), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(1024, 64), nn.ReLU()),
        nn.Linear(64, 1),
    )


def h_of_one(model: nn.Module, parameters: Mapping[str, torch.Tensor], x_i: torch.Tensor) -> torch.Tensor:
    """Return h(x_i) as a scalar function of the parameters."""
    return functional_call(model, parameters, (x_i[None],)).squeeze()


def others(model: nn.Module) -> dict[str, Norms]:
    """The same norms as people write them today, each with a copy of the model of its own.

    Args:
        model: with one output.

    Returns:
        The programs. Each leaves its model without gradients.
    """
    extended = extend(copy.deepcopy(model))
    sampled = GradSampleModule(copy.deepcopy(model), loss_reduction="sum")
    clipped = GradSampleModuleFastGradientClipping(copy.deepcopy(model), max_grad_norm=1.0, loss_reduction="sum")
    looped = copy.deepcopy(model)
    parameters = {name: p.detach().clone() for name, p in model.named_parameters()}

    def with_backpack(x: torch.Tensor) -> torch.Tensor:
        with backpack(BatchL2Grad()):
            extended(x).sum().backward()
        norms = sum(p.batch_l2 for p in extended.parameters())
        extended.zero_grad()
        return norms

    def with_opacus(x: torch.Tensor) -> torch.Tensor:
        sampled(x).sum().backward()
        norms = sum(p.grad_sample.flatten(1).square().sum(dim=1) for p in sampled.parameters())
        sampled.zero_grad()
        return norms

    def with_clipping(x: torch.Tensor) -> torch.Tensor:
        clipped(x).sum().backward()
        norms = clipped.get_norm_sample().square()
        clipped.zero_grad()
        return norms

    def with_vmap(x: torch.Tensor) -> torch.Tensor:
        gradient = torch.func.grad(lambda parameters, x_i: h_of_one(model, parameters, x_i))
        gradients = torch.func.vmap(gradient, in_dims=(None, 0))(parameters, x)
        return sum(g.flatten(1).square().sum(dim=1) for g in gradients.values())

    def with_loop(x: torch.Tensor) -> torch.Tensor:
        norms = []
        for x_i in x:
            gradients = torch.autograd.grad(looped(x_i[None]).squeeze(), list(looped.parameters()))
            norms.append(sum(g.square().sum() for g in gradients))
        return torch.stack(norms)

    return {BACKPACK: with_backpack, OPACUS: with_opacus, CLIPPING: with_clipping, VMAP: with_vmap, LOOP: with_loop}


def programs(model: nn.Module, x: torch.Tensor, chunk_size: int | None) -> dict[str, Callable[[], torch.Tensor | None]]:
    """What is timed side by side: the norms, and one pass in which no norm is computed.

    Args:
        model: with one output.
        x: (n, ...).
        chunk_size: of every program.

    Returns:
        The programs; that of the pass returns None.
    """
    chunks = x.split(chunk_size or len(x))
    passed = copy.deepcopy(model)

    def forward_and_backward() -> None:
        for chunk in chunks:
            passed(chunk).sum().backward()
            passed.zero_grad()

    def in_chunks(norms: Norms) -> Callable[[], torch.Tensor]:
        return lambda: torch.cat([norms(chunk) for chunk in chunks])

    timed = {GHOST: lambda: ghost(model, x, chunk_size), PASS: forward_and_backward}
    return timed | {name: in_chunks(norms) for name, norms in others(model).items()}


@torch.no_grad()
def ghost(model: nn.Module, x: torch.Tensor, chunk_size: int | None) -> torch.Tensor:
    """Return the norms as the package computes them where no gradient of them is wanted."""
    return ln.per_example_sq_norms(model, x, method="ghost", chunk_size=chunk_size)


def peak(call: Callable[[], object]) -> float:
    """Return how many MiB of tensors a call holds at most, those not counted that were there before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the profiler, on its first use
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            call()
    # Every allocation (positive) and release (negative) of torch's allocator; the release of a
    # tensor that was there before counts as 0.
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return np.cumsum([event.nbytes() for event in events]).max() / MIB


def check_same(what: str, values: torch.Tensor, expected: torch.Tensor) -> None:
    """Leave with status 1 unless the values are as expected."""
    apart = ((values - expected).abs().max() / expected.abs().max()).item()
    if not apart <= SAME:
        sys.exit(f"wrong: {what} is {apart:.1e}, relative, from what a loop gives")


def compare(
    what: str,
    calls: Mapping[str, Callable[[], object]],
    ours: str,
    bars: Mapping[str, tuple[float | None, float | None]],
) -> None:
    """Time and measure the programs, and print them beside ours.

    Args:
        what: the heading.
        calls: the programs.
        ours: the name of ours.
        bars: for the name of another what the ratios of time and of memory, ours over the other's,
            should not exceed.
    """
    times = cpu_times(calls, REPEATS, at_least=TURN)
    print(f"{what}: milliseconds of CPU time")
    for name, seconds in times.items():
        print_row(name, seconds * 1e3)
    memory = {name: peak(call) for name, call in calls.items()}
    print(f"{what}: peak of the tensors in MiB")
    for name, mib in memory.items():
        print_row(name, np.array([mib]))
    print(f"{what}: {ours} over")
    for name, (bar_time, bar_memory) in bars.items():
        print_row(f"{name}: time", times[ours] / times[name], bar_time, "<=")
        print_row(f"{name}: memory", np.array([memory[ours] / memory[name]]), bar_memory, "<=")


def norms_of(
    what: str, model: nn.Module, x: torch.Tensor, chunk_size: int | None, bars: Mapping[str, tuple[float | None, float | None]]
) -> None:
    """Compare the programs for the norms, after a check that they agree."""
    calls = programs(model, x, chunk_size)
    expected = calls[LOOP]()
    for name in calls.keys() - {PASS}:
        check_same(f"{what}, {name}", calls[name](), expected)
    compare(what, calls, GHOST, bars)


def cost_of_checks(what: str, model: nn.Module, x: torch.Tensor, bar: float) -> None:
    """Time the norms with and without what is checked before and after them.

    Between the two stands the least that a check of one example can be: a plain call of the model on it and a plain backward
    pass to the tensors that are compared, without anything that watches the call, and with nothing compared.
    """
    h = Hypothesis(model, trainable(model))
    cover, one = Cover.of(h), x[:1]
    small = [p for p in h.parameters.values() if p.numel() < NUMBERS_CROSSCHECKED / 2]

    @torch.no_grad()
    def unchecked() -> torch.Tensor:
        return sum(h_and_norms(h, Examples({0: x}), cover, {})[1].values())

    def one_more() -> None:
        unchecked()
        torch.autograd.grad(model(one).sum(), small)

    def whole() -> None:
        unchecked()
        torch.autograd.grad(model(one).sum(), list(model.parameters()))

    calls = {GHOST: lambda: ghost(model, x, None), UNCHECKED: unchecked, ONE_MORE: one_more, WHOLE: whole}
    check_same(what, unchecked(), ghost(model, x, None))
    times = cpu_times(calls, REPEATS, at_least=TURN)
    print(f"{what}: what the checks cost, over the norms without them")
    print_row("the norms without them, in milliseconds", times[UNCHECKED] * 1e3)
    print_row("all checks", times[GHOST] / times[UNCHECKED] - 1, bar, "<=")
    print_row(ONE_MORE, times[ONE_MORE] / times[UNCHECKED] - 1)
    print_row(WHOLE, times[WHOLE] / times[UNCHECKED] - 1)


def gradient_of_reg(what: str, model: nn.Module, x: torch.Tensor) -> None:
    """Compare programs for grad reg, after a check that they agree."""
    parameters = {name: p.detach().clone() for name, p in model.named_parameters()}

    def ours() -> torch.Tensor:
        model.zero_grad()
        ln.implicit_regularizer(model, x, method="ghost").backward()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
        model.zero_grad()
        return parameters_to_vector(gradients)

    def usual() -> torch.Tensor:
        gradient_of_h = torch.func.grad(lambda parameters, x_i: h_of_one(model, parameters, x_i))

        def reg(parameters: Mapping[str, torch.Tensor]) -> torch.Tensor:
            gradients = torch.func.vmap(gradient_of_h, in_dims=(None, 0))(parameters, x)
            return sum(g.square().sum() for g in gradients.values()) / len(x)

        return parameters_to_vector(torch.func.grad(reg)(parameters).values())

    calls = {REG: ours, FUNC: usual}
    check_same(what, ours(), usual())
    compare(what, calls, REG, {FUNC: (1 / 50, 0.05)})


def more_examples(what: str, model: nn.Module, shape: tuple[int, ...], sizes: list[int], chunk_size: int) -> None:
    """Print time per example and memory of our norms for more and more examples."""
    print(f"{what}, chunks of {chunk_size}: {GHOST}")
    x = {n: torch.randn(n, *shape, generator=torch.Generator().manual_seed(n)) for n in sizes}
    calls = {n: lambda n=n: ghost(model, x[n], chunk_size) for n in sizes}
    times = {n: seconds / n * 1e6 for n, seconds in cpu_times(calls, REPEATS, at_least=TURN).items()}
    memory = {n: peak(calls[n]) for n in sizes}
    for n in sizes:
        print_row(f"n = {n:,}: microseconds per example", times[n])
        print_row(f"n = {n:,}: peak of the tensors in MiB", np.array([memory[n]]))
    few, many = sizes[0], sizes[-1]
    print_row(f"time per example, n = {many:,} over {few:,}", times[many] / times[few], 1.2, "<=")
    print_row(f"memory, n = {many:,} over {few:,}", np.array([memory[many] / memory[few]]), 1.2, "<=")


def main() -> None:
    """Measure, and print the table row by row."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    # Lets torch.einsum order its factors, which BackPACK gains from.
    assert torch.backends.opt_einsum.is_available()
    names = "torch", "backpack-for-pytorch", "opacus", "opt_einsum"
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    print(f"Python {platform.python_version()}, {versions}; float32, one thread")
    print_head()
    images = torch.randn(256, 784)
    bars = {BACKPACK: (0.7, 1.1), OPACUS: (1 / 50, None), CLIPPING: (None, None), PASS: (1.0, None)}
    norms_of("dense, n = 256", dense(), images, None, bars)
    cost_of_checks("dense, n = 256", dense(), images, 0.05)
    bars = {BACKPACK: (0.75, None), OPACUS: (0.7, None), CLIPPING: (None, None), PASS: (None, None)}
    norms_of("convolutional, n = 256 in chunks of 64", convolutional(), torch.randn(256, 3, 32, 32), 64, bars)
    more_examples("convolutional", convolutional(), (3, 32, 32), [256, 1024], 64)
    more_examples("dense", dense(), (784,), [64, 256, 1024, 4096, 16384], 64)
    gradient_of_reg("dense, n = 64", dense(), images[:64])


if __name__ == "__main__":
    main()
