"""Speed and memory of training beside C and plain PyTorch: ``python -m benchmarks.training``.

README.md says how to read what it prints. The exit status is 1 if two programs that should end at
the same parameters do not, else 0.
"""

import ctypes
import dataclasses
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector

import labelnoise_utils as ln

from .table import cpu_times, print_head, print_row

HERE = Path(__file__).parent
C_FLAGS = ["-O3", "-march=native", "-ffast-math", "-shared", "-fPIC"]
NOISE_STD = 0.5
REPEATS = 15
TORCH_STEPS = 2000
SAME = 1e-9
IN_DIMENSIONS = (2, 3, 10)

C, STEP = "C, draws made before", "compiled step, the same draws"
ONE_PASS = "C in one pass a step, the same draws"
COMPILED, TORCH = 'train(engine="compiled")', 'train(engine="torch")'
WHOLE = 'train(engine="compiled"), 200 snapshots'
IDIOMATIC = "idiomatic PyTorch loop"

# What is timed: for each program the steps that one call makes, and the call, which returns theta.
Programs = Mapping[str, tuple[int, Callable[[], np.ndarray]]]


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, its data, and what is asked of it.

    Attributes:
        name: in the table, and of the C source.
        model: makes the model, always the same.
        c_shape: what the C loop is told about the model.
        x: the inputs.
        y: the labels.
        lr: learning rate.
        steps: of a call of a compiled program.
        memory_steps: steps of the run whose memory is measured.
        bars: which ratios of steps per second to print, and what each should reach.
    """

    name: str
    model: Callable[[], torch.nn.Module]
    c_shape: tuple[int | np.ndarray, ...]
    x: torch.Tensor
    y: torch.Tensor
    lr: float
    steps: int
    memory_steps: int
    bars: Mapping[tuple[str, str], float | None]

    def job(self, steps: int, **options: object) -> dict:
        """Return the arguments of ``train`` for so many steps of a fresh model."""
        noise = ln.LabelNoise(NOISE_STD)
        job = dict(model=self.model(), x=self.x, y=self.y, lr=self.lr, steps=steps, noise=noise)
        return job | options

    def train(self, steps: int, **options: object) -> np.ndarray:
        """Return the parameters where ``train`` ends; it records no other snapshot."""
        return ln.train(**self.job(steps, record=[steps], progress=False, **options)).theta[-1]


def relu() -> Case:
    """Return the network of Figures 2 and 3."""
    x, y = ln.twelve_points()
    return Case(
        name="relu",
        model=lambda: ln.TwoLayerReLU(100),
        c_shape=(100,),
        x=x,
        y=y,
        lr=1e-4,
        steps=1_000_000,
        memory_steps=10_000_000,
        bars={
            (STEP, C): 1.15,
            (STEP, ONE_PASS): None,
            (COMPILED, C): 0.95,
            (WHOLE, C): 0.95,
            (COMPILED, IDIOMATIC): 4000,
            (TORCH, IDIOMATIC): 1.5,
        },
    )


def mlp() -> Case:
    """Return a tanh network with two hidden layers."""
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # Scratch from torch, whose memory begins at a cache line.
    scratch = torch.empty(4, 2, 64, dtype=torch.float64).numpy()
    return Case(
        name="mlp",
        model=lambda: ln.MLP([64, 64, 64, 1], "tanh"),
        c_shape=(np.array([64, 64, 64, 1], dtype=np.int64), 3, 64, scratch),
        x=x,
        y=torch.sin(x.sum(1) / 8),
        lr=1e-3,
        steps=100_000,
        memory_steps=1_000_000,
        bars={
            (STEP, C): 0.8,
            (COMPILED, C): None,
            (WHOLE, C): None,
            (COMPILED, IDIOMATIC): 130,
            (TORCH, IDIOMATIC): 1.5,
        },
    )


def two_layer_sigmoidal() -> Case:
    """Return the network of Theorem 3 with tanh units."""
    x = torch.randn(64, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # Scratch from torch, whose memory begins at a cache line.
    scratch = torch.empty(50 * 11, dtype=torch.float64).numpy()
    return Case(
        name="two_layer_sigmoidal",
        model=lambda: ln.TwoLayerSigmoidal(50, 10),
        c_shape=(50, 10, scratch),
        x=x,
        y=torch.sin(x.sum(1)),
        lr=1e-3,
        steps=500_000,
        memory_steps=5_000_000,
        bars={
            (STEP, C): 1.2,
            (COMPILED, C): None,
            (WHOLE, C): None,
            (COMPILED, IDIOMATIC): 1100,
            (TORCH, IDIOMATIC): 1.5,
        },
    )


def idiomatic(case: Case, steps: int, noise_std: float) -> np.ndarray:
    """Label-noise SGD as one writes it in PyTorch, with fresh draws in every step.

    Args:
        case: model, data and learning rate.
        steps: number of steps.
        noise_std: the noise on a label is plus or minus this.

    Returns:
        The parameters at the end.
    """
    model, x, y = case.model(), case.x, case.y
    optimizer = torch.optim.SGD(model.parameters(), lr=case.lr)
    for _ in range(steps):
        i = torch.randint(len(x), (1,))
        z = noise_std * (2.0 * torch.randint(2, (1,)) - 1.0)
        loss = torch.nn.functional.mse_loss(model(x[i]), y[i] + z)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return parameters_to_vector(model.parameters()).detach().numpy()


def c_loop(case: Case, name: str) -> Callable[..., None]:
    """Compile and load a C loop of a case.

    Args:
        case: which one.
        name: of the source, and the start of the name of its function.

    Returns:
        ``loop(theta, x, y, indices, noise, steps, lr)``, which changes theta in place.

    Raises:
        OSError: if there is no C compiler, or it fails.
    """
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise OSError("no C compiler: neither cc nor gcc nor clang is on PATH")
    with tempfile.TemporaryDirectory() as folder:
        source, library = HERE / f"{name}.c", f"{folder}/{name}.so"
        if subprocess.run([compiler, *C_FLAGS, source, "-o", library, "-lm"]).returncode:
            raise OSError(f"{compiler} failed on {source.name}")
        sgd = getattr(ctypes.CDLL(library), f"{name}_sgd")

    def as_c(value: int | float | np.ndarray) -> object:
        if isinstance(value, np.ndarray):
            return value.ctypes.data_as(ctypes.c_void_p)
        return ctypes.c_double(value) if isinstance(value, float) else ctypes.c_long(value)

    return lambda *arguments: sgd(*map(as_c, case.c_shape + arguments))


def programs(case: Case) -> Programs:
    """What is timed side by side; all but the idiomatic loop get the same draws.

    Args:
        case: on which model and data.

    Returns:
        The programs, without C if there is no compiler.
    """
    model, x, y = case.model(), case.x.numpy(), case.y.numpy()
    start = parameters_to_vector(model.parameters()).detach()
    draws = ln.sgd_draws(len(x), case.steps, noise=ln.LabelNoise(NOISE_STD))
    indices, noise = map(np.concatenate, zip(*draws, strict=True))
    none_frozen = np.empty(0, dtype=np.int64)

    def step() -> np.ndarray:
        theta = start.clone().numpy()
        model.compiled_sgd(theta, x, y, indices, noise, case.lr, none_frozen)
        return theta

    result = {
        STEP: (case.steps, step),
        COMPILED: (case.steps, lambda: case.train(case.steps, engine="compiled")),
        WHOLE: (case.steps, lambda: ln.train(**case.job(case.steps, engine="compiled", progress=False)).theta[-1]),
        TORCH: (TORCH_STEPS, lambda: case.train(TORCH_STEPS, engine="torch")),
        IDIOMATIC: (TORCH_STEPS, lambda: idiomatic(case, TORCH_STEPS, NOISE_STD)),
    }
    sources = {C: case.name} | ({ONE_PASS: f"{case.name}_one_pass"} if (STEP, ONE_PASS) in case.bars else {})
    try:
        loops = {program: c_loop(case, name) for program, name in sources.items()}
    except OSError as error:
        print(f"{case.name}: nothing is compared with C, {error}")
        return result

    def c(loop: Callable[..., None]) -> np.ndarray:
        theta = start.clone().numpy()
        loop(theta, x, y, indices, noise, case.steps, case.lr)
        return theta

    return {program: (case.steps, functools.partial(c, loop)) for program, loop in loops.items()} | result


def check_results(case: Case, timed: Programs) -> None:
    """Leave with status 1 unless every program does what ``train(engine="compiled")`` does."""
    ends = {name: call() for name, (_, call) in timed.items() if name != IDIOMATIC}
    pairs = {name: (ends[name], ends[COMPILED]) for name in ends.keys() & {C, ONE_PASS, STEP, WHOLE}}
    pairs[TORCH] = ends[TORCH], case.train(TORCH_STEPS, engine="compiled")
    # On one example and without noise nothing in the idiomatic loop is random.
    single = dataclasses.replace(case, x=case.x[:1], y=case.y[:1])
    pairs[IDIOMATIC] = idiomatic(single, 100, 0.0), single.train(100, noise=None, engine="compiled")
    for name, (theta, expected) in pairs.items():
        apart = np.linalg.norm(theta - expected) / np.linalg.norm(expected)
        if not apart <= SAME:
            sys.exit(f"wrong: {case.name}, {name} ends {apart:.1e}, relative, from {COMPILED}")


def per_number(dims: Sequence[int | None]) -> dict[int | None, np.ndarray]:
    """Time compiled steps of ``TwoLayerReLU(100, dim=d)`` on the same draws; None is the one on a line.

    Args:
        dims: the dimensions of the inputs.

    Returns:
        For each of them (repeats,), nanoseconds of CPU time per step and parameter.
    """
    steps, calls, sizes = 100_000, {}, {}
    draws = ln.sgd_draws(12, steps, noise=ln.LabelNoise(NOISE_STD))
    indices, noise = map(np.concatenate, zip(*draws, strict=True))
    none_frozen = np.empty(0, dtype=np.int64)

    def step(model: torch.nn.Module, x: np.ndarray, y: np.ndarray) -> None:
        theta = parameters_to_vector(model.parameters()).detach().numpy()
        if model.compiled_sgd(theta, x, y, indices, noise, 1e-4, none_frozen) < steps:
            sys.exit("wrong: a network in several dimensions diverges, and so makes fewer steps")

    for dim in dims:
        model, generator = ln.TwoLayerReLU(100, dim=dim), torch.Generator().manual_seed(0)
        x = torch.randn(12, *model.a.shape[1:], generator=generator, dtype=torch.float64) / (dim or 1) ** 0.5
        y = torch.sin(3 * x.view(12, -1)[:, 0])
        sizes[dim] = sum(p.numel() for p in model.parameters())
        calls[dim] = functools.partial(step, model, x.numpy(), y.numpy())
        calls[dim]()  # compiles
    seconds = cpu_times(calls, REPEATS)
    return {dim: seconds[dim] / steps / sizes[dim] * 1e9 for dim in dims}


def two_cores(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Time ten runs by ``train_many`` on one core and on two, five times.

    Args:
        case: what to train.

    Returns:
        How many times faster two cores are, and how many cores the runs on two really got.
    """

    def seconds(n_jobs: int) -> tuple[float, float]:
        jobs = [case.job(2 * case.steps, seed=seed) for seed in range(10)]
        wall, cpu = time.perf_counter(), time.process_time()
        ln.train_many(jobs, n_jobs=n_jobs, progress=False)
        return time.perf_counter() - wall, time.process_time() - cpu

    one, two = np.array([(seconds(1), seconds(2)) for _ in range(5)]).transpose(1, 2, 0)
    return one[0] / two[0], two[1] / two[0]


def memory(case: Case) -> float:
    """Train for ``memory_steps``, on Linux and in a process that has done nothing else.

    Args:
        case: what to train, with the usual 200 snapshots.

    Returns:
        How far the peak of the process during the run is above its size before, less the size of
        the snapshots, in MB.
    """

    def peak() -> float:
        # Not getrusage: its peak of a subprocess begins at the size of the process that started it.
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    case.train(10)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of loading and compiling
    before = peak()
    run = ln.train(**case.job(case.memory_steps, progress=False))
    return (peak() - before - run.theta.nbytes) / 1e6


def main() -> None:
    """Measure, and print the table row by row."""
    torch.set_num_threads(1)
    cases = {case.name: case for case in (relu(), mlp(), two_layer_sigmoidal())}
    if sys.argv[1:2] == ["memory"]:
        print(memory(cases[sys.argv[2]]))
        return
    print_head()
    for case in cases.values():
        timed = programs(case)
        check_results(case, timed)
        seconds = cpu_times({name: call for name, (_, call) in timed.items()}, REPEATS)
        times = {name: seconds[name] / steps * 1e6 for name, (steps, _) in timed.items()}
        print(f"{case.name}: microseconds of CPU time per step")
        for name in times:
            print_row(name, times[name])
        print(f"{case.name}: steps per second, relative")
        for (fast, slow), bar in case.bars.items():
            if slow in times:
                print_row(f"{fast} / {slow}", times[slow] / times[fast], bar)
            else:
                print(f"  {fast} / {slow}: not measured, see above")
    print("relu, width 100, inputs (n, d): compiled step, nanoseconds of CPU time per step and parameter")
    times = per_number([None, *IN_DIMENSIONS])
    for dim, nanoseconds in times.items():
        print_row("on a line" if dim is None else f"d = {dim}", nanoseconds)
    print("relu, inputs (n, d): parameters per second, relative")
    for dim in IN_DIMENSIONS:
        print_row(f"d = {dim} / on a line", times[None] / times[dim], 1.0)
    print("relu: ten runs by train_many, wall clock")
    if (os.cpu_count() or 1) > 1:
        speedup, cores = two_cores(cases["relu"])
        print_row("two cores / one core", speedup, 1.7)
        print_row("cores that the runs on two got", cores)
    else:
        print("  not measured: one core")
    print("MB above the model and its 200 snapshots")
    for name, case in cases.items():
        what = f"{name}, {case.memory_steps:,} steps"
        if sys.platform == "linux":
            command = [sys.executable, "-m", "benchmarks.training", "memory", name]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            print_row(what, np.array([float(output)]), 50, "<")
        else:
            print(f"  {what}: not measured, only on Linux")


if __name__ == "__main__":
    main()
