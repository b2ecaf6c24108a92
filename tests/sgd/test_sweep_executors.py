"""Runs in other processes are the same runs, whoever's the processes are."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import dask
import distributed
import loky
import numpy as np
import pytest
import torch
from cases import FOREVER, X, Y
from plain import flat
from torch import nn

import labelnoise_utils as ln
from labelnoise_utils.sgd import executors

COLUMN = X[:, None], Y[:, None]


def job(model, **arguments):
    defaults = dict(x=X, y=Y, lr=0.002, steps=1000, noise=ln.LabelNoise(0.5), record=20)
    return dict(model=model, **defaults | arguments)


def linear_job(model, **arguments):
    return job(model, **dict(x=COLUMN[0], y=COLUMN[1], steps=20) | arguments)


class Fails(nn.Linear):
    """As soon as it has moved."""

    class Error(Exception):
        """Of a kind that pickle itself does not bring back."""

        def __init__(self, step, why):
            super().__init__(f"at step {step}: {why}")
            self.why = why

    def forward(self, x):
        if self.bias.item():
            raise Fails.Error(1, "no reason")
        return super().forward(x)


class Kills(nn.Linear):
    """Kills the process that runs it, unless that made it; the first time only."""

    def __init__(self, mark):
        super().__init__(1, 1, dtype=torch.float64)
        self.home, self.mark = os.getpid(), str(mark)
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x):
        if os.getpid() != self.home and not os.path.exists(self.mark):
            Path(self.mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


def fails():
    model = Fails(1, 1, dtype=torch.float64)
    nn.init.zeros_(model.bias)
    return model


def mixed_jobs():
    """Models, engines, lengths and batches of several kinds, and what a pickle may lose."""
    tied = nn.Sequential(nn.Linear(1, 1, dtype=torch.float64), nn.Tanh(), nn.Linear(1, 1, dtype=torch.float64))
    frozen = ln.TwoLayerReLU(8, seed=1)
    for k, p in enumerate(tied.parameters()):
        nn.init.constant_(p, 0.3 + 0.1 * k)
    tied[2].weight = tied[0].weight
    frozen.get_parameter("a0").requires_grad_(False)

    class Local(nn.Linear):
        def forward(self, x):
            return super().forward(x) * torch.ones(1).to(x)

    own = Local(1, 1, dtype=torch.float64)
    nn.init.ones_(own.weight)
    nn.init.zeros_(own.bias)
    return [
        job(ln.TwoLayerReLU(8, seed=1), seed=1, steps=30_000, tag="a long one"),
        job(ln.TwoLayerReLU(8, seed=1), seed=2, engine="torch", steps=50),
        job(ln.Product(2.0, 0.5), seed=3, batch_size=4, keep_theta=False),
        linear_job(tied),
        linear_job(own, noise=None, reg_on=False, tag=""),
        job(ln.MLP([1, 5, 5, 1], "tanh"), seed=4, batch_size=None, record=[0, 10, 500]),
        job(ln.TwoLayerReLU(3, dtype=torch.float32), steps=70),
        job(ln.TwoLayerReLU(8), noise=ln.LabelNoise(None, covariance=np.eye(12)), momentum=0.5, lr=0.001, penalty=0.01),
        job(ln.TwoLayerReLU(8), noise=ln.ParameterNoise(0.02), seed=5),
        job(frozen, x=torch.arange(100.0, dtype=torch.float64)[8:20] / 10, reg_on=X[:3]),
    ]


def assert_same(jobs, runs, other_jobs, other_runs):
    for run, other in zip(runs, other_runs, strict=True):
        for name in ("step", "loss", "reg", "theta"):
            np.testing.assert_array_equal(getattr(run, name), getattr(other, name))
        for name in ("steps", "engine", "interrupted", "tag"):
            assert getattr(run, name) == getattr(other, name)
        for one, two in zip(run.example, other.example, strict=True):
            np.testing.assert_array_equal(one, two)
        assert run.rest.keys() == other.rest.keys()
        for name, values in run.rest.items():
            np.testing.assert_array_equal(values, other.rest[name])
        if run.theta.size:
            for one, two in zip(run.model_at(1).parameters(), other.model_at(1).parameters(), strict=True):
                assert torch.equal(one, two) and one.requires_grad == two.requires_grad
    for one, two in zip(jobs, other_jobs, strict=True):
        np.testing.assert_array_equal(flat(one["model"]), flat(two["model"]))


def processes(method, workers):
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(method))


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes, as a user of Dask starts them."""
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "300s"}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=50
        ) as started,
        distributed.Client(started) as client,
    ):
        yield client


@pytest.fixture(scope="module", params=["threads", "fork", "spawn", "loky", "dask"])
def executor(request):
    if request.param == "dask":
        yield request.getfixturevalue("cluster").get_executor()
    elif request.param == "loky":
        with loky.ProcessPoolExecutor(1) as pool:
            yield pool
    else:
        with ThreadPoolExecutor(2) if request.param == "threads" else processes(request.param, 1) as pool:
            yield pool


class TestEach:
    def test_same_runs_in_the_order_of_the_jobs(self, executor):
        jobs, alone = mixed_jobs(), mixed_jobs()
        expected = ln.train_many(alone, progress=False)
        runs = ln.train_many(jobs, executor=executor, progress=False)
        assert [run.tag for run in runs[:5]] == ["a long one", None, None, None, ""]
        assert_same(jobs, runs, alone, expected)

    def test_errors_in_their_place(self, executor):
        jobs = [job(ln.Product(2.0, 0.5), seed=seed) for seed in range(4)]
        jobs[1] |= dict(model=ln.Product(3.0, 3.0), lr=10)
        jobs[2] = linear_job(fails())
        runs = ln.train_many(jobs, executor=executor, on_error="keep", progress=False)
        assert [type(run) for run in runs] == [ln.Run, ln.DivergenceError, Fails.Error, ln.Run]
        assert [run.__notes__ for run in runs[1:3]] == [["in job 1"], ["in job 2"]]
        with pytest.raises(ln.DivergenceError) as alone:
            ln.train(**jobs[1] | dict(model=ln.Product(3.0, 3.0)), progress=False)
        assert str(runs[1]) == str(alone.value)
        assert runs[2].args == ("at step 1: no reason",) and runs[2].why == "no reason"
        where = runs[2] if runs[2].__cause__ is None else runs[2].__cause__
        assert "forward" in str(where) or where.__traceback__ is not None

    def test_first_error_is_raised(self, executor):
        jobs = [job(ln.Product(3.0, 3.0), lr=10), *(job(ln.TwoLayerReLU(8), steps=FOREVER) for _ in range(2))]
        with pytest.raises(ln.DivergenceError, match="diverged at step") as caught:
            ln.train_many(jobs, executor=executor, progress=False)
        assert caught.value.__notes__ == ["in job 0"]
        alone = ln.Product(3.0, 3.0)
        with pytest.raises(ln.DivergenceError):
            ln.train(**jobs[0] | dict(model=alone), progress=False)
        assert flat(jobs[0]["model"]).tolist() == flat(alone).tolist()

    def test_runs_are_written_and_not_made_again(self, executor, tmp_path, bars):
        def jobs():
            return [job(ln.TwoLayerReLU(8, seed=seed), seed=seed, tag=f"{seed}") for seed in range(5)]

        first, again, alone = jobs(), jobs(), jobs()
        expected = ln.train_many(alone, progress=False)
        assert_same(first, ln.train_many(first, executor=executor, directory=tmp_path), alone, expected)
        assert [path.suffix for path in tmp_path.iterdir()] == [".npz"] * 5
        assert_same(again, ln.train_many(again, executor=executor, directory=tmp_path), alone, expected)
        assert [bar.arguments["total"] for bar in bars[-2:]] == [bar.done for bar in bars[-2:]] == [5000, 0]


def test_worker_of_a_cluster_that_is_killed_costs_nothing_but_time(cluster, tmp_path):
    def jobs(mark):
        return [linear_job(Kills(mark), seed=seed, steps=200) for seed in range(6)]

    here, there = jobs(tmp_path / "here"), jobs(tmp_path / "there")
    expected = ln.train_many(here, progress=False)
    runs = ln.train_many(there, executor=cluster.get_executor(), progress=False)
    assert (tmp_path / "there").exists() and not (tmp_path / "here").exists()
    assert_same(there, runs, here, expected)


@pytest.mark.parametrize("on_error", ["raise", "keep"])
def test_worker_of_a_pool_that_is_killed_costs_what_had_not_ended(on_error, tmp_path):
    folder = tmp_path / "runs"

    def jobs():
        last = linear_job(Kills(tmp_path / "killed"), steps=200)
        return [*(job(ln.Product(2.0, 0.5), seed=seed) for seed in range(3)), last]

    alone = jobs()
    expected = ln.train_many(alone, progress=False)
    with processes("fork", 1) as pool:
        if on_error == "raise":
            with pytest.raises(BrokenExecutor) as caught:
                ln.train_many(jobs(), executor=pool, n_jobs=1, directory=folder, progress=False)
            error = caught.value
        else:
            runs = ln.train_many(jobs(), executor=pool, n_jobs=1, directory=folder, on_error="keep", progress=False)
            assert [type(run) for run in runs[:3]] == [ln.Run] * 3
            error = runs[3]
            assert isinstance(error, BrokenExecutor)
        assert error.__notes__[0].startswith("a worker was killed") and error.__notes__[1] == "in job 3"
    assert len(list(folder.iterdir())) == 3
    with processes("fork", 1) as pool:
        again = jobs()
        assert_same(again, ln.train_many(again, executor=pool, directory=folder, progress=False), alone, expected)


def test_pool_that_broke_ends_with_the_other_runs_under_way(tmp_path):
    """Its other workers, which were forked during the sweep, end when they are told to."""
    jobs = [linear_job(Kills(tmp_path / "killed"), steps=200), job(ln.TwoLayerReLU(8), steps=FOREVER)]
    with processes("fork", 2) as pool:
        runs = ln.train_many(jobs, executor=pool, on_error="keep", progress=False)
    assert all(isinstance(run, BrokenExecutor) for run in runs)
    assert [run.__notes__ for run in runs] == [[runs[0].__notes__[0], f"in job {k}"] for k in range(2)]


def stop_at_100(step, loss, reg, model):
    return step >= 100


def test_callback_and_checkpoint_where_the_run_is_made(tmp_path):
    def jobs(name):
        common = dict(record=[0, 50, 100, 200], callback=stop_at_100)
        return [job(ln.Product(2.0, 0.5), seed=k, checkpoint=tmp_path / f"{name}{k}", **common) for k in range(2)]

    here, there = jobs("here"), jobs("there")
    expected = ln.train_many(here, progress=False)
    with processes("fork", 1) as pool:
        for each in (there, jobs("again")):  # the second time from the folder
            runs = ln.train_many(each, executor=pool, directory=tmp_path / "runs", progress=False)
            assert_same(each, runs, here, expected)
            assert [run.stopped for run in runs] == [True, True] and runs[0].steps == 100
    assert (tmp_path / "there1").exists() and not (tmp_path / "again1").exists()


def test_job_that_cannot_be_pickled_is_named_before_any_run_begins():
    jobs = [job(ln.Product(2.0, 0.5)) for _ in range(4)]
    jobs[2]["model"].lock = threading.Lock()
    with processes("fork", 1) as pool, pytest.raises(TypeError, match=r"this job cannot be pickled.*lock") as caught:
        ln.train_many(jobs, executor=pool, progress=False)
    assert caught.value.__notes__ == ["in job 2"]
    assert all(flat(each["model"]).tolist() == [2.0, 0.5] for each in jobs)
    assert len(ln.train_many(jobs, progress=False)) == 4  # threads need no pickle


def test_tensors_are_made_in_the_default_type_of_the_caller():
    class Makes(nn.Linear):
        def forward(self, x):
            return super().forward(x) * torch.full((1,), 1 / 3)

    def run(**options):
        model = Makes(1, 1, dtype=torch.float64)
        nn.init.ones_(model.weight)
        nn.init.zeros_(model.bias)
        return ln.train_many([linear_job(model)], progress=False, **options)[0]

    with processes("fork", 1) as pool:
        pool.submit(os.getpid).result()  # its worker is forked before
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            np.testing.assert_array_equal(run(executor=pool).theta, run().theta)
        finally:
            torch.set_default_dtype(before)


def test_workers_keep_their_own_default_type():
    with processes("fork", 1) as pool:
        before = pool.submit(torch.get_default_dtype).result()
        assert before == torch.get_default_dtype() == torch.float32
        torch.set_default_dtype(torch.float64)
        try:
            ln.train_many([job(ln.Product(), steps=5)], executor=pool, progress=False)
        finally:
            torch.set_default_dtype(before)
        assert pool.submit(torch.get_default_dtype).result() == before


def test_of_several_threads_the_last_puts_the_default_type_back():
    with executors.default_dtype_kept():
        with executors.default_dtype_kept():
            torch.set_default_dtype(torch.float64)
        assert torch.get_default_dtype() == torch.float64
    assert torch.get_default_dtype() == torch.float32


def test_hooks_on_parameters_travel():
    def masked():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1)).double()
        model[0].weight.register_hook(lambda grad: grad * torch.tensor([[1.0], [0.0]]).to(grad))
        model[0].weight.register_hook(lambda grad: grad / 2)
        return [linear_job(model)]

    here, there = masked(), masked()
    expected = ln.train_many(here, progress=False)
    with processes("fork", 1) as pool:
        assert_same(there, ln.train_many(there, executor=pool, progress=False), here, expected)
    moved = expected[0].theta[-1] - expected[0].theta[0]
    assert moved[0] != 0 and moved[1] == 0


@pytest.mark.parametrize(
    "wrong, message",
    [(2, "got int$"), ("client", "got Client; Dask's is client.get_executor"), (ThreadPoolExecutor, "got type")],
)
def test_what_is_no_executor(wrong, message):
    class Client:
        def get_executor(self):
            pass

    with pytest.raises(TypeError, match=f"executor must be a concurrent.futures.Executor or None, {message}"):
        ln.train_many([], executor=Client() if wrong == "client" else wrong)


@pytest.mark.parametrize("workers", [1, 2])
def test_interrupt_reaches_the_workers(ctrl_c, assert_interrupts_work_as_ever, tmp_path, workers):
    """One run is over, those that go on come back as far as they are, those that wait have not begun."""
    jobs = [job(ln.Product(), steps=20), *(job(ln.TwoLayerReLU(8, seed=s), seed=s, steps=FOREVER) for s in range(3))]
    ctrl_c(after=3, when=lambda: any(path.suffix == ".npz" for path in tmp_path.iterdir()))
    # Not forked: a fork of a process whose threads run, as the one that will press, is not safe.
    with processes("spawn", workers) as pool:
        with pytest.warns(UserWarning, match="interrupted: 3 of 4 runs ended early") as caught:
            runs = ln.train_many(jobs, executor=pool, directory=tmp_path, progress=False)
        assert_interrupts_work_as_ever()
        assert len(caught) == 1 and caught[0].filename == __file__
        assert len(ln.train_many([job(ln.Product(), steps=20)], executor=pool, progress=False)) == 1  # the pool still works
    assert [run.interrupted for run in runs] == [False, True, True, True]
    assert runs[0].steps == 20 and runs[1].steps < FOREVER and runs[3].step.tolist() == [0]
    assert workers == 2 or runs[1].steps > 0  # of two, the other may not be up yet
    for run, each in zip(runs, jobs, strict=True):
        np.testing.assert_array_equal(run.theta[-1], flat(each["model"]))
    assert len(list(tmp_path.iterdir())) == 1


def test_workers_that_do_not_hear_the_stop_are_left(ctrl_c, monkeypatch, tmp_path):
    """As on machines that do not see the folder."""
    monkeypatch.setattr(executors, "GRACE", 0.2)
    begun, free = tmp_path / "begun", tmp_path / "free"

    class Waits(nn.Linear):
        def forward(self, x):
            if os.getpid() != self.home:
                begun.touch()
                while not free.exists():
                    threading.Event().wait(0.01)
            return super().forward(x)

    model = Waits(1, 1, dtype=torch.float64)
    model.home = os.getpid()
    start = flat(model)
    ctrl_c(when=begun.exists)
    with processes("fork", 1) as pool:
        with pytest.warns(UserWarning, match="interrupted: 1 of 1 runs ended early"):
            (run,) = ln.train_many([linear_job(model)], executor=pool, progress=False)
        free.touch()
    assert run.step.tolist() == [0] and torch.equal(flat(model), start)


def test_short_runs_travel_together_and_share_their_data():
    tasks = []

    class Counts(ThreadPoolExecutor):  # not threads as such: jobs are packed for it
        def submit(self, call, package, *where):
            tasks.append(len(package))
            return super().submit(call, package, *where)

    x, y = torch.zeros(10_000, dtype=torch.float64), torch.ones(10_000, dtype=torch.float64)
    jobs = [job(ln.Product(), x=x, y=y, steps=5, reg_on=False, record=2, seed=seed) for seed in range(100)]
    with Counts(1) as pool:
        runs = ln.train_many(jobs, executor=pool, progress=False)
        assert [run.steps for run in runs] == [5] * 100
        assert len(tasks) <= 20 and max(tasks) < 2 * 8 * (len(x) + len(y))
        tasks.clear()
        ln.train_many([job(ln.TwoLayerReLU(8), steps=10**6, record=2) for _ in range(3)], executor=pool, progress=False)
        assert len(tasks) == 3
