"""Speed and memory of matrix sensing at the paper's size: ``python -m benchmarks.matrix_sensing``.

With ``--whole`` the 90000 steps of Figure 1 are run, not extrapolated. README.md says how to read
what it prints. The exit status is 1 if the compiled step does not do what autograd does, else 0.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import torch

import labelnoise_utils as ln

from .table import cpu_times, print_head, print_row

DIM, RANK, N, BATCH = 100, 5, 2500, 250
LR = 0.9 * BATCH / (2 * (DIM + 1) * DIM)
NOISE = ln.LabelNoise(0.1**0.5, "gaussian")
STEPS = 90_000
REPEATS = 25
AT_LEAST = 0.1
SAME = 1e-4

MM, SINGLE, IDIOMATIC = "torch.mm of two matrices", "compiled step, B = 1", "idiomatic PyTorch loop, B = 1"
BLOCK, READ = f"compiled step, B = {BATCH}", f"reading {BATCH} rows once"
CONTIGUOUS = f"compiled step, B = {BATCH}, rows one after the other"
PRODUCT = "one product by numpy.dot in Numba"

NONE_FROZEN = np.empty(0, dtype=np.int64)


def data() -> ln.Measurements:
    """Return the measurements of Figure 1, packed, in float32."""
    return ln.matrix_sensing(DIM, RANK, N, packed=True, dtype=torch.float32)


def steps(x: np.ndarray, y: np.ndarray, batch_size: int, count: int, contiguous: bool = False) -> Callable[[], np.ndarray]:
    """Make a program of the compiled step.

    Args:
        x: packed measurements.
        y: labels.
        batch_size: examples per step.
        count: steps of a call.
        contiguous: whether a batch is a block of rows in place of independent ones.

    Returns:
        What makes these steps from the identity with draws made before, and returns U.
    """
    model = ln.MatrixSensing(DIM, dtype=torch.float32)
    start = model.u.detach().reshape(-1)
    draws = ln.sgd_draws(N, count, noise=NOISE, batch_size=batch_size)
    indices, noise = map(np.concatenate, zip(*draws, strict=True))
    lr = LR * batch_size / BATCH
    if contiguous:
        indices = (indices[:, :1] % (N - batch_size) + np.arange(batch_size)).astype(np.int32)

    def call() -> np.ndarray:
        theta = start.clone().numpy()
        model.compiled_sgd(theta, x, y, indices, noise, lr, NONE_FROZEN)
        return theta

    return call


def idiomatic(x: torch.Tensor, y: torch.Tensor, count: int, noise_std: float) -> np.ndarray:
    """Label-noise SGD on matrix sensing as one writes it in PyTorch.

    Args:
        x: measurements (n, d, d).
        y: labels.
        count: steps.
        noise_std: standard deviation of the Gaussian noise.

    Returns:
        U at the end.
    """
    model = ln.MatrixSensing(DIM, dtype=torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR / BATCH)
    for _ in range(count):
        i = torch.randint(len(x), (1,))
        z = noise_std * torch.randn(1)
        loss = torch.nn.functional.mse_loss(model(x[i]), y[i] + z)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.u.detach().numpy().ravel()


@numba.njit(fastmath={"reassoc"})
def read(x: np.ndarray, rows: np.ndarray) -> float:
    """Return the sum of some rows of x, which takes as long as they take to come from memory."""
    total = x.dtype.type(0)
    for i in rows:
        row = x[i]
        for k in range(row.size):
            total += row[k]
    return total


@numba.njit
def products(a: np.ndarray, b: np.ndarray, out: np.ndarray, count: int) -> None:
    """Multiply two matrices again and again."""
    for _ in range(count):
        np.dot(a, b, out)


def check_results(x: torch.Tensor, y: torch.Tensor) -> None:
    """Leave with status 1 unless compiled steps, the torch engine and the idiomatic loop agree."""
    for batch_size in (1, BATCH):
        job = dict(x=x, y=y, lr=LR * batch_size / BATCH, steps=20, noise=NOISE, batch_size=batch_size, record=[20])
        ends = [
            ln.train(ln.MatrixSensing(DIM, dtype=torch.float32), engine=engine, progress=False, **job).theta[-1]
            for engine in ("compiled", "torch")
        ]
        complain(f"B = {batch_size}", *ends)
    one = ln.matrix_sensing(DIM, RANK, 1, dtype=torch.float32)
    arguments = dict(lr=LR / BATCH, steps=20, record=[20], progress=False)
    run = ln.train(ln.MatrixSensing(DIM, dtype=torch.float32), one.x, one.y, **arguments)
    complain(IDIOMATIC, idiomatic(one.x, one.y, 20, 0.0), run.theta[-1])


def complain(what: str, found: np.ndarray, expected: np.ndarray) -> None:
    """Leave with status 1 if two U differ by more than SAME of what the steps moved."""
    moved = np.linalg.norm(expected - np.eye(DIM).ravel())
    apart = np.linalg.norm(found - expected) / moved
    if not apart <= SAME:
        sys.exit(f"wrong: {what} is {apart:.1e} off, relative to what the steps moved")


def memory() -> float:
    """Train with 200 snapshots, on Linux and in a process that has done nothing else.

    Returns:
        The measurements and how far the process grows above them during the run, over the measurements.
    """

    def peak() -> float:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    few = ln.matrix_sensing(DIM, RANK, 300, packed=True, dtype=torch.float32)
    arguments = dict(lr=LR, noise=NOISE, batch_size=BATCH, progress=False)
    ln.train(ln.MatrixSensing(DIM, dtype=torch.float32), few.x, few.y, steps=10, **arguments)
    x, y, _ = data()
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of loading and compiling
    before = peak()
    run = ln.train(ln.MatrixSensing(DIM, dtype=torch.float32), x, y, steps=3000, record=range(0, 3000, 15), **arguments)
    assert len(run.step) == 200
    return (x.nbytes + peak() - before) / x.nbytes


def main() -> None:
    """Measure, and print the table row by row."""
    torch.set_num_threads(1)
    if "memory" in sys.argv[1:]:
        print(memory())
        return
    x, y, _ = data()
    full = ln.matrix_sensing(DIM, RANK, 500, dtype=torch.float32)
    check_results(x, y)
    rows = np.random.default_rng(0).integers(N, size=(40, BATCH))
    a, b, out = torch.randn(3, DIM, DIM, generator=torch.Generator().manual_seed(0))
    counts = {MM: 1000, SINGLE: 1000, IDIOMATIC: 100, BLOCK: 40, CONTIGUOUS: 40, READ: 40, PRODUCT: 1000}
    calls = {
        MM: lambda: [torch.mm(a, b, out=out) for _ in range(counts[MM])],
        SINGLE: steps(x.numpy(), y.numpy(), 1, counts[SINGLE]),
        IDIOMATIC: lambda: idiomatic(full.x, full.y, counts[IDIOMATIC], NOISE.std),
        BLOCK: steps(x.numpy(), y.numpy(), BATCH, counts[BLOCK]),
        CONTIGUOUS: steps(x.numpy(), y.numpy(), BATCH, counts[CONTIGUOUS], contiguous=True),
        READ: lambda: [read(x.numpy(), r) for r in rows],
        PRODUCT: lambda: products(a.numpy(), b.numpy(), out.numpy(), counts[PRODUCT]),
    }
    for call in calls.values():
        call()
    seconds = cpu_times(calls, REPEATS, at_least=AT_LEAST)
    times = {name: seconds[name] / counts[name] * 1e6 for name in calls}
    print_head()
    print(f"d = {DIM}, float32: microseconds of CPU time")
    for name, values in times.items():
        print_row(name, values)
    print("ratios")
    print_row(f"{SINGLE} / {MM}", times[SINGLE] / times[MM], 1.2, "<=")
    print_row(f"{IDIOMATIC} / {SINGLE}", times[IDIOMATIC] / times[SINGLE], 12)
    floor = 2 * times[READ] + times[PRODUCT]
    print_row(f"{BLOCK}: independent rows / one after the other", times[BLOCK] / times[CONTIGUOUS])
    print_row(f"{BLOCK} / (reading twice + one product)", times[BLOCK] / floor, 1.5, "<=")
    print(f"a run of {STEPS:,} steps, B = {BATCH}, with its snapshots: seconds of wall clock")
    count = STEPS if "--whole" in sys.argv[1:] else 3000
    begin = time.perf_counter()
    arguments = dict(noise=NOISE, batch_size=BATCH, progress=False)
    run = ln.train(ln.MatrixSensing(DIM, dtype=torch.float32), x, y, lr=LR, steps=count, **arguments)
    taken = time.perf_counter() - begin + run.seconds * (STEPS / count - 1)
    print_row("whole" if count == STEPS else f"extrapolated from {count:,}", np.array([taken]), 120, "<=")
    print("memory of a run over the packed measurements, with 200 snapshots")
    if sys.platform == "linux":
        command = [sys.executable, "-m", "benchmarks.matrix_sensing", "memory"]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        print_row(f"{x.nbytes / 1e6:.0f} MB of measurements", np.array([float(output)]), 1.5, "<=")
    else:
        print("  not measured, only on Linux")


if __name__ == "__main__":
    main()
