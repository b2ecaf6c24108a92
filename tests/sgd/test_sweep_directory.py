"""Runs on disk: made once, found again by what they were made from."""

import multiprocessing
import os
import signal
import time
import warnings

import numpy as np
import pytest
import torch
from cases import X, Y
from plain import flat
from torch import nn

import labelnoise_utils as ln
from labelnoise_utils.sgd.directory import file_of
from labelnoise_utils.sgd.job import prepare

NAME = "c1af7b2c10bbaba33795c6f98cdfd803.npz"


def job(model, **arguments):
    defaults = dict(x=X, y=Y, lr=0.002, steps=1000, noise=ln.LabelNoise(0.5), record=20)
    return dict(model=model, **defaults | arguments)


def several(count=5, steps=1000):
    return [job(ln.TwoLayerReLU(8, seed=seed), seed=seed, steps=steps) for seed in range(count)]


def quietly(jobs, **options):
    """No warning, no bar."""
    with warnings.catch_warnings(action="error"):
        return ln.train_many(jobs, progress=False, **options)


def assert_same(jobs, runs, other_jobs, other_runs):
    for run, other in zip(runs, other_runs, strict=True):
        for name in ("step", "loss", "reg", "theta"):
            np.testing.assert_array_equal(getattr(run, name), getattr(other, name))
        assert (run.steps, run.engine, run.interrupted) == (other.steps, other.engine, other.interrupted)
    for one, two in zip(jobs, other_jobs, strict=True):
        np.testing.assert_array_equal(flat(one["model"]), flat(two["model"]))


@pytest.fixture
def expected():
    jobs = several()
    return jobs, quietly(jobs)


def forbid(monkeypatch):
    """Any run that is made fails."""
    monkeypatch.setattr("labelnoise_utils.sgd.sweep.execute", lambda *_: 1 / 0)


class Own(nn.Linear):
    def __init__(self, scale=2.0):
        super().__init__(1, 1, dtype=torch.float64)
        self.scale, self.activation = scale, torch.tanh
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x):
        return self.scale * self.activation(super().forward(x))


def own(**arguments):
    """A model of one's own, of which a run's file holds no copy."""
    return job(Own(), **dict(x=X[:, None], y=Y[:, None], steps=20) | arguments)


class TestFound:
    def test_what_is_there_is_not_made_again(self, tmp_path, monkeypatch):
        def jobs():
            frozen = ln.TwoLayerReLU(8, seed=1)
            frozen.get_parameter("a0").requires_grad_(False)
            # The last snapshot is not where the run ends.
            return [*several(2), own(record=[0, 7]), job(frozen, keep_theta=False), job(ln.Product(2.0, 0.5), record=[3, 5])]

        first, again = jobs(), jobs()
        runs = quietly(first, directory=tmp_path / "new" / "folder")
        forbid(monkeypatch)
        read = quietly(again, directory=tmp_path / "new" / "folder")
        assert_same(again, read, first, runs)
        assert torch.equal(read[2].model_at(-1)(X[:, None]), runs[2].model_at(-1)(X[:, None]))
        assert read[2].model is not again[2]["model"]

    def test_what_is_missing_is_made(self, tmp_path, expected):
        quietly(several(3), directory=tmp_path)
        jobs = several()
        assert_same(jobs, quietly(jobs, directory=tmp_path), *expected)
        assert len(list(tmp_path.iterdir())) == 5

    def test_a_run_that_failed_is_made_again_and_the_others_are_not(self, tmp_path, monkeypatch):
        jobs = several(3)
        jobs[1]["lr"] = 1000.0
        runs = quietly(jobs, directory=tmp_path, on_error="keep")
        assert [type(run) for run in runs] == [ln.Run, ln.DivergenceError, ln.Run] and runs[1].__notes__ == ["in job 1"]
        assert len(list(tmp_path.iterdir())) == 2
        jobs = several(3)
        jobs[1]["lr"] = 1000.0
        forbid(monkeypatch)
        runs = quietly(jobs, directory=tmp_path, on_error="keep")
        assert [type(run) for run in runs] == [ln.Run, ZeroDivisionError, ln.Run]

    def test_stages(self, tmp_path, monkeypatch):
        stages = [(0.002, 300, ln.LabelNoise(0.5)), (0.001, 200, None)]

        def make():
            models = [ln.TwoLayerReLU(8, seed=seed) for seed in range(2)]
            runs = ln.train_stages(models, X, Y, stages, directory=tmp_path, progress=False)
            return [dict(model=model) for model in models], [run for each in runs for run in each]

        first = make()
        forbid(monkeypatch)
        assert_same(*make(), *first)

    def test_an_interrupted_run_is_not_written(self, tmp_path, ctrl_c):
        jobs = [job(ln.Product(), steps=20), job(ln.TwoLayerReLU(8), steps=10**10)]
        ctrl_c(when=lambda: any(path.suffix == ".npz" for path in tmp_path.iterdir()))
        with pytest.warns(UserWarning, match="interrupted: 1 of 2 runs ended early"):
            runs = ln.train_many(jobs, directory=tmp_path, progress=False)
        assert [run.interrupted for run in runs] == [False, True] and len(list(tmp_path.iterdir())) == 1


class TestTag:
    def test_is_kept_in_the_run_and_in_the_file(self, tmp_path, monkeypatch):
        (run,) = quietly([job(ln.Product(2.0, 0.5), tag="small")], directory=tmp_path)
        (path,) = tmp_path.iterdir()
        assert run.tag == ln.Run.load(path).tag == "small"
        assert quietly([job(ln.Product(2.0, 0.5))])[0].tag is None
        # It is no part of the job: another one is written over it.
        forbid(monkeypatch)
        (run,) = quietly([job(ln.Product(2.0, 0.5), tag="another")], directory=tmp_path)
        assert run.tag == ln.Run.load(path).tag == "another" and list(tmp_path.iterdir()) == [path]

    def test_is_a_string(self):
        with pytest.raises(TypeError, match="tag must be a string, got 3") as caught:
            ln.train_many([job(ln.Product()), job(ln.Product(), tag=3)])
        assert caught.value.__notes__ == ["in job 1"]

    def test_of_an_interrupted_run(self, ctrl_c):
        ctrl_c()
        with pytest.warns(UserWarning, match="interrupted"):
            runs = ln.train_many([job(ln.TwoLayerReLU(8), steps=10**10, tag="long")], progress=False)
        assert runs[0].tag == "long"


class TestName:
    def name(self, each):
        return file_of("", prepare(**each), {}).name

    def test_is_the_same_in_every_process_and_version(self):
        """A change of this value makes all sweeps that somebody has begun start anew."""
        x = torch.zeros(1, dtype=torch.float64)
        arguments = dict(x=x, y=x + 1, lr=0.01, steps=10, noise=ln.LabelNoise(1), record=2)
        assert self.name(dict(model=ln.Product(), **arguments)) == NAME
        arguments |= dict(lr=np.float64(0.01), noise=ln.LabelNoise(np.float64(1.0)), record=[0, 10], y=np.ones(1))
        assert self.name(dict(model=ln.Product(), **arguments)) == NAME

    def test_data_that_jobs_share_are_the_data(self):
        seen = {}
        for each in (own(seed=1), own(seed=2), own(seed=1, x=X[:, None].clone()), own(x=Y[:, None], y=X[:, None])):
            assert file_of("", prepare(**each), seen).name == self.name(each)

    def test_differs_with_all_that_a_run_depends_on(self):
        def changed(change):
            each = own()
            change(each["model"])
            return each

        tied, free = (nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)).double() for _ in range(2))
        for p in [*tied.parameters(), *free.parameters()]:
            nn.init.ones_(p)
        tied[1].weight = tied[0].weight
        jobs = [own(), own(seed=1), own(lr=0.001), own(steps=21), own(noise=None), own(batch_size=2), own(record=21)]
        jobs += [own(noise=ln.LabelNoise(0.4)), own(noise=ln.LabelNoise(0.5, "gaussian")), own(batch_size=None)]
        jobs += [own(noise=ln.LabelNoise(np.full(12, 0.5))), own(noise=ln.LabelNoise(None, covariance=np.eye(12)))]
        jobs += [own(noise=law(0.5)) for law in (ln.TwoCopies, ln.FrozenNoise, ln.ParameterNoise, ln.InputNoise)]
        jobs += [own(noise=ln.TwoCopies(0.5, reshuffled=True)), own(momentum=0.5), own(momentum=0.6), own(penalty=0.5)]
        jobs += [own(reg_on=False), own(reg_on=X[:3, None]), own(keep_theta=False), own(x=X[:, None] + 1e-9)]
        jobs += [own(y=Y[:, None] + 1e-9), own() | dict(model=Own(3.0)), own() | dict(model=tied), own() | dict(model=free)]
        jobs += [own() | dict(model=nn.Linear(1, 1)), own() | dict(model=nn.Linear(1, 1).double())]
        jobs += [
            changed(lambda model: nn.init.constant_(model.bias, 1e-9)),
            changed(lambda model: model.bias.requires_grad_(False)),
        ]
        jobs += [changed(lambda model: setattr(model, "activation", torch.sin)), changed(lambda model: setattr(model, "_k", 1))]
        jobs += [changed(lambda model: model.register_buffer("b", torch.ones(1)))]
        jobs += [changed(lambda model: model.weight.register_hook(torch.zeros_like))]
        jobs += [job(ln.MLP([1, 4, 1], kind)) for kind in ("relu", "tanh")]
        jobs += [job(ln.Product()), job(ln.Product(), engine="torch"), job(ln.Product(dtype=torch.float32))]
        names = [self.name(each) for each in jobs]
        assert len(set(names)) == len(names)

    def test_takes_every_kind_of_attribute(self):
        def with_all_kinds():
            each = own()
            each["model"].things = [
                None,
                1,
                "a",
                b"a",
                2j,
                {3, 4},
                {"k": (5,)},
                np.ones(2),
                torch.ones(2),
                torch.float32,
                object(),
            ]
            each["model"].more = [nn.Linear, len, ln.LabelNoise(1.0), Own(), 2**70, float("nan"), float("inf"), lambda: 0]
            return each

        assert self.name(with_all_kinds()) == self.name(with_all_kinds()) != self.name(own())


class TestDamage:
    def damage(self, path, how, others):
        if how == "cut":
            path.write_bytes(path.read_bytes()[:-100])
        elif how == "empty":
            path.write_bytes(b"")
        else:
            path.write_bytes(others.read_bytes())

    @pytest.mark.parametrize("how", ["cut", "empty", "another"])
    def test_a_damaged_file_is_named_and_its_run_made_again(self, tmp_path, expected, how):
        quietly([*several(), job(ln.Product())], directory=tmp_path)
        digests = {}
        path, other = (file_of(tmp_path, prepare(**each), digests) for each in (several()[3], job(ln.Product())))
        self.damage(path, how, other)
        jobs = several()
        with pytest.warns(UserWarning, match=f"{path.name}.*; the run of this file is made again") as caught:
            runs = ln.train_many(jobs, directory=tmp_path, progress=False)
        # NumPy leaves a damaged archive open.
        (warning,) = (each for each in caught if each.category is not ResourceWarning)
        assert warning.filename == __file__
        assert_same(jobs, runs, *expected)
        jobs = several()
        assert_same(jobs, quietly(jobs, directory=tmp_path), *expected)

    def test_a_folder_that_cannot_be_one(self, tmp_path):
        (tmp_path / "file").touch()
        jobs = several()
        with pytest.raises(FileExistsError):
            ln.train_many(jobs, directory=tmp_path / "file")
        assert torch.equal(flat(jobs[0]["model"]), flat(several()[0]["model"]))


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
class TestOtherProcesses:
    def begin(self, folder, count, steps):
        context = multiprocessing.get_context("fork")
        process = context.Process(target=lambda: ln.train_many(several(count, steps), directory=folder, progress=False))
        process.start()
        return process

    def test_a_sweep_that_is_killed_goes_on(self, tmp_path):
        alone, again = several(6, 100_000), several(6, 100_000)
        runs = quietly(alone)
        process = self.begin(tmp_path, 6, 100_000)
        while process.is_alive() and not any(path.suffix == ".npz" for path in tmp_path.iterdir()):
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        done = {path for path in tmp_path.iterdir() if path.suffix == ".npz"}
        before = {path: path.stat().st_mtime_ns for path in done}
        assert_same(again, quietly(again, directory=tmp_path), alone, runs)
        assert len([path for path in tmp_path.iterdir() if path.suffix == ".npz"]) == 6
        assert before == {path: path.stat().st_mtime_ns for path in done}

    def test_two_sweeps_in_one_folder_at_a_time(self, tmp_path, expected):
        process = self.begin(tmp_path, 5, 1000)
        jobs = several()
        assert_same(jobs, quietly(jobs, directory=tmp_path), *expected)
        process.join()
        assert process.exitcode == 0
        jobs = several()
        assert_same(jobs, quietly(jobs, directory=tmp_path), *expected)
        assert len(list(tmp_path.iterdir())) == 5
