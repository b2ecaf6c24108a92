"""Many independent runs at once."""

import contextlib
import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import torch

from ..arguments import as_integer
from ..regularizer.hypothesis import trainable
from .job import Job, prepare
from .noise import LabelNoise
from .progress import interruptible, progress_bar
from .run import Run
from .training import execute

Stage = tuple[float, int, LabelNoise | None]


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
        ValueError: likewise; if one job trains a tensor that another one's model reads; or if ``n_jobs`` is neither
            positive nor -1.
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
    prepared = _prepare_all(jobs)
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
                if future in done and future.exception() is not None:
                    stop.set()
                    with _noting(f"in job {number}"):
                        future.result()
            runs = [future.result() for future in futures]
    early = sum(run.interrupted for run in runs)
    if early:
        warnings.warn(f"interrupted: {early} of {len(runs)} runs ended early; what they did so far is returned", stacklevel=2)
    return runs


def train_stages(
    models: Sequence[torch.nn.Module],
    x: torch.Tensor,
    y: torch.Tensor,
    stages: Sequence[Stage],
    *,
    seed: int = 0,
    **options: object,
) -> list[list[Run]]:
    """Take several models through the same schedule of learning rates and noise, sharing the cores.

    Args:
        models: each is changed in place.
        x: (n, ...), the inputs.
        y: the labels, of the shape of ``model(x)``.
        stages: ``(lr, steps, noise)`` of each stage, one after the other.
        seed: model i draws with ``seed + k * len(models) + i`` in stage k.
        **options: further arguments of :func:`labelnoise_utils.train`, the same in every stage, and ``n_jobs``, ``progress``
            of :func:`train_many`.

    Returns:
        For each model its runs, one per stage; fewer if there was an interrupt.

    Raises:
        TypeError: as :func:`train_many` does, with the stage's number added, before the first stage begins.
        ValueError: likewise.
        DivergenceError: as :func:`train_many` does, with the stage's number added.
    """
    sweep = {key: options.pop(key) for key in ("n_jobs", "progress") if key in options}
    schedule = []
    for k, (lr, steps, noise) in enumerate(stages):
        same = dict(x=x, y=y, lr=lr, steps=steps, noise=noise, **options)
        first = seed + k * len(models)
        schedule.append([dict(model=model, seed=first + i, **same) for i, model in enumerate(models)])
        with _noting(f"in stage {k}"):
            _prepare_all(schedule[k])
    finished = []
    for k, jobs in enumerate(schedule):
        with _noting(f"in stage {k}"):
            finished.append(train_many(jobs, **sweep))
        if any(run.interrupted for run in finished[k]):
            break
    return [[runs[i] for runs in finished] for i in range(len(models))]


def _prepare_all(jobs: Sequence[Mapping]) -> list[Job]:
    prepared = []
    for number, job in enumerate(jobs):
        with _noting(f"in job {number}"):
            prepared.append(prepare(**{key: value for key, value in job.items() if key != "progress"}))
    owner: dict[int, int] = {}
    for number, job in enumerate(prepared):
        for address in _memory(trainable(job.model).values()):
            owner.setdefault(address, number)
    for number, job in enumerate(prepared):
        for address, shape in _memory([*job.model.parameters(), *job.model.buffers()]).items():
            if owner.get(address, number) != number:
                raise ValueError(
                    f"jobs {owner[address]} and {number} share a tensor of shape {shape}, which one of them trains in place:"
                    " give every job a model of its own"
                )
    return prepared


def _memory(tensors: Iterable[torch.Tensor]) -> dict[int, tuple[int, ...]]:
    """Where some tensors lie, and their shapes."""
    return {tensor.untyped_storage().data_ptr(): tuple(tensor.shape) for tensor in tensors if tensor.numel()}


@contextlib.contextmanager
def _noting(where: str) -> Iterator[None]:
    """Say with an error where it comes from."""
    try:
        yield
    except Exception as error:
        error.add_note(where)
        raise
