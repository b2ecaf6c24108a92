"""Many runs at once are the same runs one by one."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from cases import FOREVER, X, Y, assert_same_trajectory
from plain import flat
from torch import nn

import labelnoise_utils as ln


def job(model, **arguments):
    defaults = dict(x=X, y=Y, lr=0.002, steps=1000, noise=ln.LabelNoise(0.5), record=20)
    return dict(model=model, **defaults | arguments)


def mixed_jobs():
    """Models, engines, lengths and batches of several kinds."""
    line = X[:, None], Y[:, None]
    return [
        job(ln.TwoLayerReLU(8, seed=1), seed=1, steps=30_000),
        job(ln.TwoLayerReLU(8, seed=1), seed=2, engine="torch", steps=50),
        job(ln.Product(2.0, 0.5), seed=3, batch_size=4),
        job(nn.Sequential(nn.Linear(1, 1)).double(), x=line[0], y=line[1], steps=80, noise=None),
        job(ln.MLP([1, 5, 5, 1], "tanh"), seed=4, batch_size=None, record=[0, 10, 500]),
        job(ln.TwoLayerReLU(3, dtype=torch.float32), steps=70),
        job(ln.TwoLayerReLU(8, seed=1), seed=1, steps=100),
    ]


@pytest.mark.parametrize("n_jobs", [-1, 1, 2, 20])
def test_equal_one_by_one_in_the_order_of_the_jobs(n_jobs):
    torch.manual_seed(0)
    jobs = mixed_jobs()
    torch.manual_seed(0)
    alone = mixed_jobs()
    expected = [ln.train(**each, progress=False) for each in alone]
    runs = ln.train_many(jobs, n_jobs=n_jobs, progress=False)
    assert isinstance(runs, list)
    for run, single, each, other in zip(runs, expected, jobs, alone, strict=True):
        assert run.engine == single.engine
        assert_same_trajectory(run, single)
        np.testing.assert_array_equal(flat(each["model"]), flat(other["model"]))
    assert {run.engine for run in runs} == {"compiled", "torch"}


def test_runs_share_the_time():
    """Two runs that each wait for the other to have begun both end."""
    meeting = threading.Barrier(2, timeout=30)

    class Meets(nn.Linear):
        def forward(self, x):
            if threading.current_thread() is not threading.main_thread() and not self.met:
                self.met = True
                meeting.wait()
            return super().forward(x)

    models = [Meets(1, 1, dtype=torch.float64) for _ in range(2)]
    for model in models:
        model.met = False
    jobs = [job(model, x=X[:, None], y=Y[:, None], steps=3) for model in models]
    assert len(ln.train_many(jobs, n_jobs=2, progress=False)) == 2


def test_no_jobs_no_runs():
    assert ln.train_many([], progress=False) == []


@pytest.mark.parametrize(
    "changes, error, message",
    [
        (dict(lr=-1), ValueError, "lr must be positive, got -1"),
        (dict(steps=1.5), TypeError, "steps must be an integer, got 1.5"),
        (dict(y=Y[:5]), ValueError, "same number of examples, got 12 and 5"),
        (dict(noise=0.5), TypeError, "noise must be a LabelNoise"),
        (dict(batch_size=13), ValueError, "batch_size must be at most"),
        (dict(sigma=0.5), TypeError, "sigma"),
        (dict(model=None), TypeError, "model must be a torch.nn.Module, got NoneType"),
    ],
)
def test_bad_job_is_named_before_any_run_begins(changes, error, message):
    jobs = [job(ln.Product(2.0, 0.5)) for _ in range(4)]
    jobs[2] |= changes
    with pytest.raises(error, match=message) as caught:
        ln.train_many(jobs, progress=False)
    assert caught.value.__notes__ == ["in job 2"]
    for each in (jobs[0], jobs[1], jobs[3]):
        assert flat(each["model"]).tolist() == [2.0, 0.5]


def test_job_without_a_model():
    with pytest.raises(TypeError, match="'model'") as caught:
        ln.train_many([job(ln.Product()), dict(x=X, y=Y, lr=0.1, steps=5)], progress=False)
    assert caught.value.__notes__ == ["in job 1"]


def test_shared_model_is_refused():
    model = ln.Product(2.0, 0.5)
    with pytest.raises(
        ValueError, match=r"jobs 0 and 2 share a tensor of shape \(\), which one of them trains in place: give every job"
    ):
        ln.train_many([job(model, seed=0), job(ln.Product()), job(model, seed=1)], progress=False)
    assert flat(model).tolist() == [2.0, 0.5]


class Backbone(nn.Linear):
    """Keeps its features, as many do."""

    def forward(self, x):
        self.features = torch.tanh(super().forward(x))
        return self.features


class Unregistered(nn.Linear):
    """On top of a module that it hides from its own parameters."""

    def __init__(self, below):
        super().__init__(3, 1, dtype=torch.float64)
        self.below = [below]

    def forward(self, x):
        return super().forward(self.below[0](x))


def heads(kind, below):
    torch.manual_seed(1)
    models = [kind(below) for _ in range(4)]
    return [job(model, x=X[:, None], y=Y[:, None], steps=30, seed=seed) for seed, model in enumerate(models)]


def stacked(below):
    return nn.Sequential(below, nn.Linear(3, 1, dtype=torch.float64))


@pytest.mark.parametrize("kind", [stacked, Unregistered])
def test_shared_module_that_keeps_something_is_refused_on_threads(kind):
    below = nn.Sequential(Backbone(1, 3, dtype=torch.float64)).requires_grad_(False)
    expected = [ln.train(**each, progress=False) for each in heads(kind, below)]
    with pytest.raises(ValueError, match="jobs 0 and 1 share a Sequential which keeps '0.features' when it is called"):
        ln.train_many(heads(kind, below), progress=False)
    with ThreadPoolExecutor(1) as pool:
        for options in (dict(n_jobs=1), dict(executor=pool)):
            for run, other in zip(ln.train_many(heads(kind, below), progress=False, **options), expected, strict=True):
                assert_same_trajectory(run, other)


@pytest.mark.parametrize("kind", [stacked, Unregistered])
def test_shared_module_that_keeps_nothing(kind):
    below = nn.Sequential(nn.Linear(1, 3, dtype=torch.float64), nn.Tanh()).requires_grad_(False)
    expected = [ln.train(**each, progress=False) for each in heads(kind, below)]
    for run, other in zip(ln.train_many(heads(kind, below), n_jobs=4, progress=False), expected, strict=True):
        assert_same_trajectory(run, other)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege")
def test_checkpoint_under_two_names_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    jobs = [job(ln.Product(), checkpoint=tmp_path / name / "run") for name in "ab"]
    with pytest.raises(ValueError, match="jobs 0 and 1 have the same checkpoint, .*b/run$"):
        ln.train_many(jobs, progress=False)


def test_shared_checkpoint_is_refused(tmp_path):
    jobs = [job(ln.Product(), checkpoint=tmp_path / "a"), job(ln.Product()), job(ln.Product(), checkpoint=f"{tmp_path}/a")]
    with pytest.raises(ValueError, match="jobs 0 and 2 have the same checkpoint, .*a$"):
        ln.train_many(jobs, progress=False)
    assert not (tmp_path / "a").exists()


def test_wrong_arguments_are_answered_in_the_words_of_the_caller():
    for wrong, message in (
        (job(ln.Product(), name="mine"), "a job has no argument 'name': it has those of train, model, x, y, lr, .*, and tag"),
        (dict(model=ln.Product(), y=Y, steps=5), "a job needs 'x', 'lr'"),
        ([ln.Product(), X, Y], "a job must hold the arguments of train by name, as a dict does, got list"),
    ):
        with pytest.raises(TypeError, match=message) as caught:
            ln.train_many([job(ln.Product()), wrong], progress=False)
        assert caught.value.__notes__ == ["in job 1"]
    with pytest.raises(ValueError, match="on_error must be one of raise, keep, got 'ignore'"):
        ln.train_many([], on_error="ignore")


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_error_kept_in_its_place(engine):
    jobs = [job(ln.Product(2.0, 0.5), seed=seed, engine=engine, steps=100) for seed in range(3)]
    jobs[1] |= dict(model=ln.Product(3.0, 3.0), lr=10)
    runs = ln.train_many(jobs, on_error="keep", progress=False)
    assert [type(run) for run in runs] == [ln.Run, ln.DivergenceError, ln.Run]
    assert runs[1].__notes__ == ["in job 1"] and runs[0].steps == runs[2].steps == 100
    assert flat(jobs[1]["model"]).isfinite().all()


@pytest.mark.parametrize(
    "n_jobs, error, message",
    [
        (0, ValueError, "n_jobs must be positive, or -1 for all cores, got 0"),
        (-2, ValueError, "n_jobs must be at least -1, got -2"),
        (1.5, TypeError, "n_jobs must be an integer, got 1.5"),
        ("all", TypeError, "n_jobs must be an integer, got 'all'"),
    ],
)
def test_number_of_jobs_out_of_range(n_jobs, error, message):
    with pytest.raises(error, match=message):
        ln.train_many([], n_jobs=n_jobs)


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_divergence_names_the_job_and_stops_the_others(engine):
    """At once, and not only when the jobs before it are done."""
    jobs = [job(ln.TwoLayerReLU(8), steps=FOREVER, engine=engine) for _ in range(2)]
    jobs.append(job(ln.Product(3.0, 3.0), lr=10, engine=engine))
    jobs.append(job(ln.TwoLayerReLU(8), steps=FOREVER, engine=engine))
    start = time.monotonic()
    with pytest.raises(ln.DivergenceError, match="diverged at step") as caught:
        ln.train_many(jobs, n_jobs=3, progress=False)
    assert time.monotonic() - start < 30
    assert caught.value.__notes__ == ["in job 2"]
    assert flat(jobs[2]["model"]).isfinite().all()


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_interrupt_returns_the_runs_so_far(ctrl_c, assert_interrupts_work_as_ever, engine):
    jobs = [job(ln.TwoLayerReLU(8, seed=s), seed=s, steps=FOREVER, engine=engine) for s in range(3)]
    jobs.insert(0, job(ln.Product(), steps=20, engine=engine))
    # Two at a time: once the third has moved, the first has ended and the second is on its way.
    running = [each["model"] for each in jobs[1:3]]
    starts = [flat(model) for model in running]
    ctrl_c(after=0, when=lambda: all((flat(model) != start).any() for model, start in zip(running, starts, strict=True)))
    with pytest.warns(UserWarning, match="interrupted: 3 of 4 runs ended early") as caught:
        runs = ln.train_many(jobs, n_jobs=2, progress=False)
    assert_interrupts_work_as_ever()
    assert len(caught) == 1 and caught[0].filename == __file__
    assert [run.interrupted for run in runs] == [False, True, True, True]
    assert runs[0].steps == 20 and 0 < runs[1].steps < FOREVER
    # With two at a time the last one never began: its run is the start alone.
    assert runs[3].step.tolist() == [0]
    for run, each in zip(runs, jobs, strict=True):
        assert run.step[-1] == run.steps
        np.testing.assert_array_equal(run.theta[-1], flat(each["model"]))


def test_one_bar_counts_the_steps_of_all(bars):
    jobs = mixed_jobs()
    ln.train_many(jobs)
    (bar,) = bars
    assert bar.done == bar.arguments["total"] == sum(each["steps"] for each in jobs)


class TestStages:
    STAGES = [
        (0.002, 3000, ln.LabelNoise(0.5)),
        (0.001, 2000, ln.LabelNoise(0.2)),
        (0.001, 500, None),
    ]

    def models(self):
        return [ln.TwoLayerReLU(8, seed=seed) for seed in range(3)]

    def test_is_train_stage_after_stage_with_fresh_draws(self):
        models, alone = self.models(), self.models()
        runs = ln.train_stages(models, X, Y, self.STAGES, seed=5, batch_size=2, progress=False)
        assert [len(each) for each in runs] == [3, 3, 3]
        for i, model in enumerate(alone):
            for k, (lr, steps, noise) in enumerate(self.STAGES):
                arguments = dict(lr=lr, steps=steps, noise=noise, seed=5 + 3 * k + i, batch_size=2)
                expected = ln.train(model, X, Y, progress=False, **arguments)
                assert_same_trajectory(runs[i][k], expected)
            np.testing.assert_array_equal(flat(models[i]), flat(model))

    def test_each_stage_begins_where_the_last_ended(self):
        for first, second, third in ln.train_stages(self.models(), X, Y, self.STAGES, progress=False):
            np.testing.assert_array_equal(first.theta[-1], second.theta[0])
            np.testing.assert_array_equal(second.theta[-1], third.theta[0])

    def test_nothing_to_do(self):
        assert ln.train_stages([], X, Y, self.STAGES, progress=False) == []
        assert ln.train_stages(self.models(), X, Y, [], progress=False) == [[], [], []]

    @pytest.mark.parametrize(
        "stage, error, message",
        [
            ((-1, 10, None), ValueError, "lr must be positive, got -1"),
            ((0.1, 0, None), ValueError, "steps must be at least 1, got 0"),
            ((0.1, 10, 0.5), TypeError, "noise must be a LabelNoise"),
        ],
    )
    def test_bad_stage_is_named_before_the_first_begins(self, stage, error, message):
        models = self.models()
        with pytest.raises(error, match=message) as caught:
            ln.train_stages(models, X, Y, [*self.STAGES, stage], progress=False)
        assert caught.value.__notes__ == ["in job 0", "in stage 3"]
        for model, untouched in zip(models, self.models(), strict=True):
            np.testing.assert_array_equal(flat(model), flat(untouched))

    def test_divergence_names_stage_and_job(self):
        with pytest.raises(ln.DivergenceError) as caught:
            ln.train_stages(self.models()[:1], X, Y, [*self.STAGES, (50.0, 999, None)], progress=False)
        assert caught.value.__notes__ == ["in job 0", "in stage 3"]

    def test_interrupt_ends_the_schedule(self, monkeypatch):
        """The stages after it do not begin; the runs so far come back."""
        real = ln.train_many

        def second_one_is_interrupted(jobs, **options):
            runs = real(jobs, **options)
            calls.append(len(runs))
            if len(calls) == 2:
                object.__setattr__(runs[1], "interrupted", True)
            return runs

        calls = []
        monkeypatch.setattr("labelnoise_utils.sgd.sweep.train_many", second_one_is_interrupted)
        runs = ln.train_stages(self.models(), X, Y, self.STAGES, progress=False)
        assert [len(each) for each in runs] == [2, 2, 2] and len(calls) == 2
