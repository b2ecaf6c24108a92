"""Many independent runs at once."""

import contextlib
import dataclasses
import inspect
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Literal, get_args

import torch

from ..arguments import as_integer
from ..regularizer.hypothesis import trainable
from .attributes import changed_by_call
from .directory import clear, fetch, file_of
from .executors import run_elsewhere
from .job import Job, prepare
from .law import Law
from .progress import interruptible, progress_bar
from .run import Run
from .training import execute, train
from .words import modules_in

Stage = tuple[float, int, Law | None]
OnError = Literal["raise", "keep"]


def train_many(
    jobs: Sequence[Mapping],
    *,
    n_jobs: int = -1,
    executor: Executor | None = None,
    directory: str | os.PathLike | None = None,
    on_error: OnError = "raise",
    progress: bool = True,
) -> list[Run | Exception]:
    """Independent runs of label-noise SGD, sharing the cores of this machine, or of many.

    A run is sequential, so more cores help only with more runs. The compiled steps release the interpreter's lock: threads
    are enough on one machine, and each model is changed in place as by :func:`labelnoise_utils.train`.

    With an executor the runs are made in its workers: jobs travel there and runs come back, pickled; models are changed in
    place here all the same, and the numbers are those of threads, to the last bit where the workers' torch computes with as
    many threads of its own. Short runs travel several together, as many as take about a quarter of a second. Dask goes from a
    laptop to a cluster without another change::

        from dask.distributed import Client, LocalCluster

        with Client(LocalCluster(n_workers=2, threads_per_worker=1)) as client:
            runs = train_many(jobs, executor=client.get_executor(), directory="runs")

    In place of ``LocalCluster(...)`` stands ``dask_jobqueue.SLURMCluster(cores=..., memory=..., walltime=...)`` and
    ``cluster.scale(jobs=...)``, or ``KubeCluster(...)`` of dask-kubernetes, or the address of a scheduler. Each worker
    needs this package, and as many Dask threads as there are cores for it; its compiled steps are read from Numba's cache, or
    compiled once in each process where there is none. A worker that is killed costs the time of what it was at, which Dask
    gives to another one; a task with which more than ``distributed.scheduler.allowed-failures`` workers died, three unless
    you set it otherwise, counts as failed. A ProcessPoolExecutor, or loky's, does not survive the death of a worker: all
    runs that had not ended fail with BrokenExecutor, those that had are in ``directory``.

    Args:
        jobs: for each run the arguments of :func:`labelnoise_utils.train`, by name, and, if you like, a ``tag``, a string that
            the run keeps. A callback is called where the run is made. Frozen modules, as a backbone, may be shared; on threads
            only those that keep nothing when they are called, and whose modes no callback changes.
        n_jobs: how many run at the same time; -1 means as many as there are cores. With an executor: how many tasks it is
            given at a time, -1 for all; no matter for a ThreadPoolExecutor.
        executor: any ``concurrent.futures.Executor``: of processes, loky's, Dask's, mpi4py's; it stays open. None is threads.
            Not one of whose workers this call itself is one, if there is no other: it would wait for ever.
        directory: a folder, made if there is none, in which each run is written as it ends, by :meth:`Run.save`, under a name
            made from its job: model where training begins, data and settings, but not ``tag`` and ``checkpoint``. A job whose
            file is there is not run again: its run is read, and its model put at the end. So build the jobs anew for a second
            call: the same dicts hold models that are trained, from whose ends other runs, in other files, begin. A damaged
            file is named in a warning, and its run made again. A function in a job, as a callback or an activation, counts
            with its own code, what it closes over, and the plain values among the globals that it reads: numbers, text,
            tensors, arrays, tuples, namespaces, dataclasses; an object with its attributes, and the plain values in its
            class. What does not count: lists, dicts, sets and other objects among globals and in a callback, which it may
            fill; code that is called, and that of classes; versions of packages, with which last digits may change. After a
            change there, as in a ``forward``, take another folder.
        on_error: "raise" ends the sweep with the first run that fails; "keep" puts the error in the run's place.
        progress: show one bar over the steps of all runs that are to be made. An executor's workers write how far they are
            beside the file that stops them (below); those that cannot see it count as each task ends.

    Returns:
        The runs, in the order of ``jobs``; with ``on_error="keep"`` exceptions among them, each with its job's number and where
        it was raised.

    Raises:
        TypeError: as :func:`labelnoise_utils.train` does, with the job's number added, before any run begins; likewise for
            a job that cannot be pickled, if there is an executor.
        ValueError: likewise; if one job trains a tensor that another one's model reads, two have one checkpoint, or, on
            threads, share a module that keeps something when it is called; or if
            ``n_jobs`` is neither positive nor -1, ``on_error`` unknown, or autocast enabled, which the runs would not see.
        DivergenceError: of the first run that blows up, with the job's number added; the others are stopped where they are.
        OSError: if ``directory`` cannot be written.

    An interrupt (Ctrl-C, the stop button, SIGTERM) ends all runs early: a warning, and Runs with ``interrupted=True``; what has
    ended is whole, and in ``directory``. To an executor's workers the stop goes by a file, in ``directory`` or the temporary
    folder. Those that cannot see it are waited for ten seconds; then their runs count as not begun, as do those that had not
    begun. So do the runs of workers that the signal itself ends, and only a ``checkpoint`` keeps what they did: SIGTERM where a
    batch system, or ``kill``, sends it to the whole group; with a Dask ``LocalCluster`` Ctrl-C and the stop button too, unless
    its workers leave them to the caller:
    ``client.run(lambda: bool(signal.signal(signal.SIGINT, signal.SIG_IGN)))``.

    >>> from labelnoise_utils import LabelNoise, Product, train_many
    >>> import torch
    >>> job = dict(x=torch.zeros(1), y=torch.ones(1), lr=0.01, steps=1000, noise=LabelNoise(1.0))
    >>> runs = train_many([dict(model=Product(), seed=seed, tag=f"seed {seed}", **job) for seed in range(4)])
    >>> runs[3].tag
    'seed 3'
    """
    if as_integer("n_jobs", n_jobs, -1) == 0:
        raise ValueError("n_jobs must be positive, or -1 for all cores, got 0")
    if on_error not in get_args(OnError):
        raise ValueError(f"on_error must be one of {', '.join(get_args(OnError))}, got {on_error!r}")
    if executor is not None and not isinstance(executor, Executor):
        hint = "; Dask's is client.get_executor()" if hasattr(executor, "get_executor") else ""
        raise TypeError(f"executor must be a concurrent.futures.Executor or None, got {type(executor).__name__}{hint}")
    if directory is not None and not isinstance(directory, str | os.PathLike):
        raise TypeError(f"directory must be the path of a folder, or None, got {directory!r}")
    prepared, tags = _prepare_all(jobs)
    with_threads = executor is None or type(executor) is ThreadPoolExecutor
    if with_threads and (n_jobs if executor is None else executor._max_workers) != 1:
        _refuse_shared_state(prepared)
    results: dict[int, Run | Exception] = {}
    files: list[Path] = []
    if directory is not None:
        os.makedirs(directory, exist_ok=True)
        clear(directory)
        digests: dict = {}
        files = [file_of(directory, job, digests) for job in prepared]
        for number, (file, job) in enumerate(zip(files, prepared, strict=True)):
            if (run := fetch(file, job, tags[number])) is not None:
                results[number] = run
    to_do = {number: job for number, job in enumerate(prepared) if number not in results}
    failed = None
    with interruptible() as stop, progress_bar(sum(job.steps for job in to_do.values()), progress) as bar:
        most = None if n_jobs == -1 else n_jobs
        if with_threads:
            ending = _run_here(to_do, executor, most=most, stop=stop, bar=bar)
        else:
            ending = run_elsewhere(to_do, executor, most=most, stop=stop, folder=directory, bar=bar)
        with contextlib.closing(ending):
            try:
                for number, result in ending:
                    if isinstance(result, Run):
                        result = dataclasses.replace(result, tag=tags[number])
                        if files and not result.interrupted:
                            result.save(files[number])
                    else:
                        result.add_note(f"in job {number}")
                        if on_error == "raise" and failed is None:
                            failed = result
                            stop.set()
                    results[number] = result
            finally:
                stop.set()
        if failed is not None:
            raise failed
        for number, job in to_do.items():
            if number not in results:  # stopped before it began: the run is its start alone
                start = dataclasses.replace(job, callback=None, checkpoint=None)
                results[number] = dataclasses.replace(execute(start, stop, bar), tag=tags[number])
    runs = [results[number] for number in range(len(prepared))]
    early = sum(isinstance(run, Run) and run.interrupted for run in runs)
    if early:
        warnings.warn(f"interrupted: {early} of {len(runs)} runs ended early; what came back of them is returned", stacklevel=2)
    return runs


def _run_here(
    jobs: Mapping[int, Job], pool: Executor | None, *, most: int | None, stop: threading.Event, bar: Callable[[int], None]
) -> Iterator[tuple[int, Run | Exception]]:
    """Run jobs in threads.

    Yields:
        Number and run, or error, of each as it ends.
    """
    lock = threading.Lock()

    def advance(steps: int) -> None:
        with lock:
            bar(steps)

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(most or cores) if pool is None else contextlib.nullcontext(pool) as threads:
        numbers = {threads.submit(execute, job, stop, advance): number for number, job in jobs.items()}
        for future in as_completed(numbers):
            error = future.exception()
            if error is not None and not isinstance(error, Exception):
                raise error
            yield numbers.pop(future), error or future.result()


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
        **options: further arguments of :func:`labelnoise_utils.train`, the same in every stage, and ``n_jobs``, ``executor``,
            ``directory``, ``progress`` of :func:`train_many`.

    Returns:
        For each model its runs, one per stage; fewer if there was an interrupt.

    Raises:
        TypeError: as :func:`train_many` does, with the stage's number added, before the first stage begins.
        ValueError: likewise; or if several stages are given one checkpoint.
        DivergenceError: as :func:`train_many` does, with the stage's number added.
    """
    sweep = {key: options.pop(key) for key in ("n_jobs", "executor", "directory", "progress") if key in options}
    schedule = []
    for k, (lr, steps, noise) in enumerate(stages):
        same = dict(x=x, y=y, lr=lr, steps=steps, noise=noise, **options)
        first = seed + k * len(models)
        schedule.append([dict(model=model, seed=first + i, **same) for i, model in enumerate(models)])
        with _noting(f"in stage {k}"):
            _prepare_all(schedule[k])
    if len(schedule) > 1 and options.get("checkpoint") is not None:
        raise ValueError("a checkpoint is of one run, so several stages cannot share it: name a directory instead")
    finished = []
    for k, jobs in enumerate(schedule):
        with _noting(f"in stage {k}"):
            finished.append(train_many(jobs, **sweep))
        if any(run.interrupted for run in finished[k]):
            break
    return [[runs[i] for runs in finished] for i in range(len(models))]


def _prepare_all(jobs: Sequence[Mapping]) -> tuple[list[Job], list[str | None]]:
    """Check all jobs before any run: their final form, and their tags."""
    prepared, tags = [], []
    shared: dict[tuple, tuple[object, torch.Tensor]] = {}
    known = inspect.signature(train).parameters
    needed = [name for name, parameter in known.items() if parameter.default is inspect.Parameter.empty]
    for number, job in enumerate(jobs):
        with _noting(f"in job {number}"):
            if not isinstance(job, Mapping):
                raise TypeError(f"a job must hold the arguments of train by name, as a dict does, got {type(job).__name__}")
            if unknown := [name for name in job if name not in known and name != "tag"]:
                raise TypeError(f"a job has no argument {unknown[0]!r}: it has those of train, {', '.join(known)}, and tag")
            if missing := [name for name in needed if name not in job]:
                raise TypeError(f"a job needs {', '.join(map(repr, missing))}")
            tag = job.get("tag")
            if tag is not None and not isinstance(tag, str):
                raise TypeError(f"tag must be a string, got {tag!r}")
            ready = prepare(**{key: value for key, value in job.items() if key not in ("progress", "tag")})
            # What several jobs were given, and each would have in another type, they have once.
            for name in ("x", "y", "reg_on"):
                own = getattr(ready, name)
                if isinstance(own, torch.Tensor):
                    key = (name, id(job[name]), own.dtype, own.device)
                    own = shared.setdefault(key, (job[name], own))[1]  # the first keeps its place, so none takes its id
                    ready = dataclasses.replace(ready, **{name: own})
            prepared.append(ready)
            tags.append(tag)
            if torch.is_autocast_enabled(next(prepared[-1].model.parameters()).device.type):
                raise ValueError("autocast of the caller reaches no thread and no worker: enter it in the model's forward")
    files: dict[str, int] = {}
    for number, job in enumerate(prepared):
        if job.checkpoint is not None and (first := files.setdefault(os.path.realpath(job.checkpoint), number)) != number:
            raise ValueError(f"jobs {first} and {number} have the same checkpoint, {job.checkpoint}")
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
    return prepared, tags


def _refuse_shared_state(jobs: Sequence[Job]) -> None:
    """Refuse a module of several jobs that keeps something when it is called: another thread's."""
    owner: dict[int, tuple[int, torch.nn.Module]] = {}
    for number, job in enumerate(jobs):
        shared = [module for module in modules_in(job.model) if owner.setdefault(id(module), (number, module))[0] != number]
        inner = {id(part) for module in shared for part in module.modules() if part is not module}
        for module in [module for module in shared if id(module) not in inner]:
            if names := changed_by_call(job.model, job.x, of=module):
                raise ValueError(
                    f"jobs {owner[id(module)][0]} and {number} share a {type(module).__name__} which keeps"
                    f" {', '.join(map(repr, sorted(names)))} when it is called, and they run at the same time: give every job a"
                    " copy.deepcopy of it, or let them run one after the other, by n_jobs=1 or a pool of one thread"
                )


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
