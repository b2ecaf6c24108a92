"""Many runs on Dask against the same runs on threads: throughput, overhead and octets per run.

Run as ``python -m benchmarks.sweep``.
"""

import contextlib
import os
import pickle
import platform
import time
from collections.abc import Callable
from concurrent.futures import Executor

import dask
import distributed
import numpy as np
import torch

import labelnoise_utils as ln
from labelnoise_utils.sgd import executors, packing
from labelnoise_utils.sgd.job import prepare

from .table import print_head, print_row

WORKERS = 2
TURNS = 5

RUNS, SECONDS = 40, 1.0
TINY_RUNS, TINY_STEPS = 400, 100

X, Y = ln.twelve_points()

# Dask sets MALLOC_TRIM_THRESHOLD_ for its workers. Then glibc no longer raises, by itself, the size above which it hands memory
# back at once, and each chunk of a run's draws is asked for anew: a quarter of the time. So the size is raised here.
KEEP_MEMORY = {"distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 2**24}


def long_jobs(steps: int, count: int = RUNS) -> list[dict]:
    """Runs of some steps of chapter 1's network, each from a network of its own."""
    job = dict(x=X, y=Y, lr=0.002, steps=steps, noise=ln.LabelNoise(0.5))
    return [dict(model=ln.TwoLayerReLU(20, seed=seed), seed=seed, **job) for seed in range(count)]


def tiny_jobs(count: int = TINY_RUNS) -> list[dict]:
    """Runs that are over at once: what they take is overhead."""
    job = dict(x=torch.zeros(1), y=torch.ones(1), lr=0.01, steps=TINY_STEPS, noise=ln.LabelNoise(1.0), record=2)
    return [dict(model=ln.Product(), seed=seed, **job) for seed in range(count)]


def wall(call: Callable[[], object]) -> float:
    """Seconds by the clock."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def steps_of(seconds: float) -> int:
    """How many steps a run of so many seconds has, by itself on a core."""

    def of(steps: int) -> float:
        return wall(lambda: ln.train_many(long_jobs(steps, 1), n_jobs=1, progress=False))

    of(1000)
    # A difference of two runs: what a call takes besides its steps would count as steps otherwise.
    few, many = 10**6, 10**7
    begin = of(few)
    pace = (of(many) - begin) / (many - few)
    return round(few + (seconds - begin) / pace)


def compare(make: Callable[[], list[dict]], executor: Executor) -> tuple[np.ndarray, np.ndarray]:
    """Threads and the executor in turns.

    Returns:
        (TURNS,), seconds by the clock on threads, and on the executor.
    """
    times = np.empty((2, TURNS))
    for turn in range(TURNS):
        for way, options in enumerate((dict(n_jobs=WORKERS), dict(executor=executor))):
            jobs = make()
            times[way, turn] = wall(lambda jobs=jobs, options=options: ln.train_many(jobs, progress=False, **options))
    return times[0], times[1]


def octets(jobs: list[dict]) -> tuple[float, float]:
    """How many octets of a run go to a worker and come back, a bundle's share.

    Returns:
        There and back.
    """
    prepared = dict(enumerate(prepare(**job) for job in jobs))
    tasks = packing.packed(prepared)
    back = [len(pickle.dumps(executors.run_bundle(package, os.devnull))) for _, package in tasks]
    return sum(len(package) for _, package in tasks) / len(jobs), sum(back) / len(jobs)


def main() -> None:
    """Measure, and print the table row by row."""
    print(f"Python {platform.python_version()}, Dask {dask.__version__}; {WORKERS} workers of one thread, wall clock")
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(KEEP_MEMORY))
        settings = dict(n_workers=WORKERS, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0")
        cluster = stack.enter_context(distributed.LocalCluster(**settings))
        executor = stack.enter_context(distributed.Client(cluster)).get_executor()
        steps = steps_of(SECONDS)
        # Both workers load the compiled steps outside the time.
        ln.train_many(long_jobs(10**6, 2 * WORKERS), executor=executor, progress=False)
        ln.train_many(tiny_jobs(), executor=executor, progress=False)
        print_head()
        print(f"{RUNS} runs of {steps:,} steps, {SECONDS:g} s each")
        threads, dask_times = compare(lambda: long_jobs(steps), executor)
        print_row("throughput by Dask over that by threads", threads / dask_times, 0.85)
        print_row("threads, seconds", threads)
        print(f"{TINY_RUNS} runs of {TINY_STEPS} steps")
        threads, dask_times = compare(tiny_jobs, executor)
        print_row("by Dask more than by threads, milliseconds a run", 1e3 * (dask_times - threads) / TINY_RUNS, 10, "<")
        print_row("by threads, milliseconds a run", 1e3 * threads / TINY_RUNS)
    print("octets a run")
    for what, jobs in (("of the long runs", long_jobs(1000)), ("of the short ones", tiny_jobs())):
        there, back = octets(jobs)
        print_row(f"to a worker, {what}", np.array([there]))
        print_row(f"back, {what}", np.array([back]))


if __name__ == "__main__":
    main()
