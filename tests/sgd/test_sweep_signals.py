"""What ends a sweep's workers, or only one of them: signals to the whole group, a run that kills, an error of the caller."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import FOREVER, X, Y
from plain import flat

import labelnoise_utils as ln
from labelnoise_utils.sgd import directory, executors, packing

# Interrupts its whole group once a run has ended and another one is under way, and tells what comes back.
SCRIPT = """
import os, signal, sys, threading, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
import torch
import labelnoise_utils as ln

def under_way(step, loss, reg, model):
    Path(sys.argv[1], "under way").touch()

def job(steps, **more):
    return dict(model=ln.Product(), x=torch.zeros(1), y=torch.ones(1), lr=0.01, steps=steps, noise=ln.LabelNoise(1.0), **more)

def press(number):
    while not (list(Path(sys.argv[1]).glob("*.npz")) and Path(sys.argv[1], "under way").exists()):
        time.sleep(0.05)
    os.killpg(0, number)

if __name__ == "__main__":
    number = signal.Signals[sys.argv[2]]
    jobs = [job(20, seed=0), job(10**10, seed=1, callback=under_way), job(10**10, seed=2)]
    threading.Thread(target=press, args=(number,), daemon=True).start()
    with POOL as pool:
        runs = ln.train_many(jobs, executor=pool, n_jobs=1, directory=sys.argv[1], progress=False)
        print([(run.interrupted, run.steps > 0) for run in runs])
"""
POOLS = {
    "processes": 'ProcessPoolExecutor(1, mp_context=get_context("spawn"))',
    "dask": "dask()",
}
DASK = """
import contextlib
import distributed

@contextlib.contextmanager
def dask():
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(lambda: bool(signal.signal(signal.SIGINT, signal.SIG_IGN)))
        yield client.get_executor()
"""


@pytest.mark.parametrize(("pool", "number", "second"), [
    ("processes", "SIGINT", (True, True)),
    ("processes", "SIGTERM", (True, False)),
    ("dask", "SIGINT", (True, True)),
])  # fmt: skip
def test_signal_to_the_whole_group(pool, number, second, tmp_path):
    """As from a terminal, a notebook's stop button or a batch system: what has ended stays, and what workers live to tell."""
    script, folder = tmp_path / "script.py", tmp_path / "runs"
    folder.mkdir()
    imports, rest = SCRIPT.split("\ndef under_way", 1)
    script.write_text(imports + (DASK if pool == "dask" else "") + "\ndef under_way" + rest.replace("POOL", POOLS[pool]))
    done = subprocess.run(
        [sys.executable, script, folder, number], capture_output=True, text=True, timeout=240, start_new_session=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([(False, True), second, (True, False)])
    assert "interrupted: 2 of 3 runs ended early" in done.stderr


class Once(ThreadPoolExecutor):
    """Not threads as such, so jobs are packed for it; a task with a certain model fails whole, as Dask's KilledWorker."""

    class KilledWorker(Exception):
        pass

    tasks = 0

    def submit(self, call, package, *arguments):
        self.tasks += 1
        _, jobs, _ = torch.load(io.BytesIO(package), weights_only=False)
        if any(job.seed == 55 for job in jobs):
            future = Future()
            future.set_exception(Once.KilledWorker("died"))
            return future
        return super().submit(call, package, *arguments)


def job(**more):
    return dict(model=ln.Product(2.0, 0.5), x=X, y=Y, lr=0.002, steps=20, record=2, noise=ln.LabelNoise(0.5)) | more


def test_run_that_kills_its_workers_takes_no_other_along():
    jobs, alone = [[job(seed=seed) for seed in range(100)] for _ in range(2)]
    expected = ln.train_many(alone, progress=False)
    with Once(1) as pool:
        runs = ln.train_many(jobs, executor=pool, on_error="keep", progress=False)
        assert pool.tasks < 60  # most still travel together
    assert isinstance(runs[55], Once.KilledWorker)
    assert runs[55].__notes__[0].startswith("more workers died with this run than") and runs[55].__notes__[1] == "in job 55"
    for number, (run, other) in enumerate(zip(runs, expected, strict=True)):
        if number != 55:
            np.testing.assert_array_equal(run.theta, other.theta)


def test_job_that_had_not_begun_calls_nothing_back_after_an_interrupt(ctrl_c, tmp_path):
    """Its error would take all that has ended along."""

    def fails(step, loss, reg, model):
        raise RuntimeError("called back")

    def waits(step, loss, reg, model):
        begun.set()

    begun = threading.Event()
    jobs = [job(seed=0), job(seed=1, steps=FOREVER, callback=waits), job(seed=2, callback=fails, checkpoint=tmp_path / "none")]
    ctrl_c(when=begun.is_set)

    class Elsewhere(ThreadPoolExecutor):
        """Not threads as such; jobs go to it as they are, since an event does not travel."""

    with pytest.MonkeyPatch.context() as patch, Elsewhere(1) as pool:
        patch.setattr(executors, "packed", lambda jobs: [([number], job) for number, job in jobs.items()])
        patch.setattr(executors, "run_bundle", run_here)
        with pytest.warns(UserWarning, match="interrupted: 2 of 3 runs ended early"):
            runs = ln.train_many(jobs, executor=pool, n_jobs=1, on_error="keep", progress=False)
    assert [run.steps > 0 for run in runs] == [True, True, False]
    assert not (tmp_path / "none").exists()


def run_here(ready, stop_path, *_):
    stop = executors.StopFile(stop_path, True)
    return [executors.execute(ready, stop, lambda steps: None)]


def test_stop_that_comes_before_the_task_is_seen_where_its_folder_is(tmp_path):
    """A task that lies in the queue of a pool when the sweep has failed, and its file is gone."""
    package = packing.pack([ln.sgd.job.prepare(**job(steps=FOREVER))])
    gone = tmp_path / "gone"
    assert executors.run_bundle(package, str(gone), executors.folder_of(gone)) == [None]
    assert executors.folder_of(tmp_path / "none" / "gone") is None
    short = packing.pack([ln.sgd.job.prepare(**job())])
    machine, *numbers = executors.folder_of(gone)
    (run,) = executors.run_bundle(short, str(gone), (f"not {machine}", *numbers))
    assert run.steps == 20


def test_data_are_cast_once_for_all_jobs():
    x, y = X.float(), Y.float()
    prepared, _ = ln.sgd.sweep._prepare_all([job(model=ln.Product(), x=x, y=y, reg_on=x) for _ in range(3)])
    for name in ("x", "y", "reg_on"):
        assert len({getattr(each, name).data_ptr() for each in prepared}) == 1
        assert getattr(prepared[0], name).dtype == torch.float64
    mixed, _ = ln.sgd.sweep._prepare_all([job(model=ln.Product(dtype=dtype)) for dtype in (torch.float32, torch.float64)])
    assert [each.x.dtype for each in mixed] == [torch.float32, torch.float64]


def test_what_killed_sweeps_left_is_cleared_after_a_day(tmp_path):
    names = [".sweep-abc.running", "0" * 32 + ".npz.01234567.part"]
    for name, age in [(name, age) for name in names for age in ("old", "new")]:
        path = tmp_path / name.replace("abc", age).replace("01234567", "0" * 8 if age == "old" else "1" * 8)
        path.touch()
        if age == "old":
            past = time.time() - directory.LEFT_BEHIND - 60
            os.utime(path, (past, past))
    kept = tmp_path / ".sweep-notes"
    kept.touch()
    ln.train_many([job()], directory=tmp_path, progress=False)
    left = sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".npz")
    assert left == [".sweep-new.running", ".sweep-notes", "0" * 32 + ".npz.11111111.part"]


class Always(executors.NowAndThen):
    def is_due(self):
        return True


def test_living_sweep_touches_its_file(tmp_path, monkeypatch):
    ages = []

    def looks(call, package, path, *where):
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 60
        while not os.stat(path).st_mtime and time.monotonic() < deadline:
            time.sleep(0.01)
        ages.append(time.time() - os.stat(path).st_mtime)
        return call(package, path, *where)

    class Looks(ThreadPoolExecutor):
        def submit(self, *arguments):
            return super().submit(looks, *arguments)

    monkeypatch.setattr(executors, "NowAndThen", Always)
    with Looks(1) as pool:
        ln.train_many([job()], executor=pool, directory=tmp_path, progress=False)
    assert len(ages) == 1 and ages[0] < 3600


def test_interrupt_that_the_shell_ignores_stays_ignored():
    """As for a program that a script started by ``&``."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ln.sgd.progress.interruptible() as stop:
            signal.raise_signal(signal.SIGINT)
            assert not stop.is_set() and signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_bar_moves_while_a_task_is_under_way(bars, tmp_path):
    """The callback, called in the pool's thread, waits until the bar shows the steps before it."""
    seen = []

    def waits(step, loss, reg, model):
        deadline = time.monotonic() + 60
        while bars[-1].done < step and time.monotonic() < deadline:
            time.sleep(0.01)
        seen.append((step, bars[-1].done))

    class Elsewhere(ThreadPoolExecutor):
        """Not threads as such."""

    with pytest.MonkeyPatch.context() as patch, Elsewhere(1) as pool:
        patch.setattr(executors, "NowAndThen", Always)
        patch.setattr(executors, "packed", lambda jobs: [([number], job) for number, job in jobs.items()])
        patch.setattr(executors, "run_bundle", run_and_tell)
        ln.train_many([job(steps=100, record=[0, 50, 100], callback=waits)], executor=pool, directory=tmp_path)
    assert seen == [(0, 0), (50, 50), (100, 100)] and bars[-1].done == 100
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


def run_and_tell(ready, stop_path, folder, number):
    return [executors.execute(ready, executors.StopFile(stop_path, True), executors._teller(stop_path, number))]


@pytest.mark.parametrize("wrong", [5, ["folder"]])
def test_directory_that_is_no_path(wrong):
    with pytest.raises(TypeError, match=r"directory must be the path of a folder, or None, got"):
        ln.train_many([job()], directory=wrong)


def test_second_interrupt_leaves_no_nan_in_the_checkpoint(tmp_path, monkeypatch):
    from labelnoise_utils.sgd import training

    measure, calls = training.loss_and_reg, []

    def pressed(*arguments, **options):
        calls.append(0)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return measure(*arguments, **options)

    def start():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()

    arguments = dict(lr=0.01, steps=200, record=[0, 50, 100, 200], keep_theta=False, noise=ln.LabelNoise(0.3), progress=False)
    data = X[:, None], Y[:, None]
    undisturbed = start()
    expected = ln.train(undisturbed, *data, **arguments)
    model = start()
    monkeypatch.setattr(training, "loss_and_reg", pressed)
    monkeypatch.setattr(training, "SECONDS_TO_CHECKPOINT", 0)
    with pytest.raises(KeyboardInterrupt):
        ln.train(model, *data, checkpoint=tmp_path / "run", **arguments)
    monkeypatch.setattr(training, "loss_and_reg", measure)
    model = start()
    run = ln.train(model, *data, checkpoint=tmp_path / "run", **arguments)
    for name in ("step", "loss", "reg"):
        np.testing.assert_array_equal(getattr(run, name), getattr(expected, name))
    assert torch.equal(flat(model), flat(undisturbed)) and Path(tmp_path / "run").exists()
