"""Many independent runs at once."""

import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from .arguments import as_integer
from .training import Run, execute, interruptible, prepare, progress_bar


def train_many(jobs: Sequence[Mapping], *, n_jobs: int = -1, progress: bool = True) -> list[Run]:
    """Independent runs of label-noise SGD, sharing the cores.

    A run is sequential, so more cores help only with more runs. The compiled steps release the interpreter's lock: threads
    are enough, and each model is changed in place as by :func:`labelnoise_utils.train`.

    Args:
        jobs: for each run the arguments of :func:`labelnoise_utils.train`, by name.
        n_jobs: how many run at the same time; -1 means as many as there are cores.
        progress: show one bar over the steps of all runs.

    Returns:
        The runs, in the order of ``jobs``.

    Raises:
        TypeError: as :func:`labelnoise_utils.train` does, with the job's number added, before any run begins.
        ValueError: likewise; or if two jobs share a model, or ``n_jobs`` is neither positive nor -1.
        DivergenceError: of the first run that blows up, with the job's number added; the others are stopped where they are.

    An interrupt (Ctrl-C, the stop button) ends all runs early: a warning, and Runs with ``interrupted=True``.

    >>> from labelnoise_utils import LabelNoise, Product, train_many
    >>> import torch
    >>> job = dict(x=torch.zeros(1), y=torch.ones(1), lr=0.01, steps=1000, noise=LabelNoise(1.0))
    >>> runs = train_many([dict(model=Product(), seed=seed, **job) for seed in range(4)])
    >>> len(runs)
    4
    """
    if as_integer("n_jobs", n_jobs, -1) == 0:
        raise ValueError("n_jobs must be positive, or -1 for all cores, got 0")
    prepared = []
    for number, job in enumerate(jobs):
        try:
            prepared.append(prepare(**{key: value for key, value in job.items() if key != "progress"}))
        except (TypeError, ValueError) as error:
            error.add_note(f"in job {number}")
            raise
    if len({id(job.model) for job in prepared}) < len(prepared):
        raise ValueError("two jobs share a model, and each changes it in place: give every job its own")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    lock = threading.Lock()
    with interruptible() as stop, progress_bar(sum(job.steps for job in prepared), progress) as bar:

        def advance(steps: int) -> None:
            with lock:
                bar(steps)

        with ThreadPoolExecutor(cores if n_jobs == -1 else n_jobs) as pool:
            futures = [pool.submit(execute, job, stop, advance) for job in prepared]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for number, future in enumerate(futures):
                if future in done and (error := future.exception()) is not None:
                    stop.set()
                    error.add_note(f"in job {number}")
                    raise error
            runs = [future.result() for future in futures]
    early = sum(run.interrupted for run in runs)
    if early:
        warnings.warn(f"interrupted: {early} of {len(runs)} runs ended early; what they did so far is returned", stacklevel=2)
    return runs
