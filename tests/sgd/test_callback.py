"""What is called at each snapshot: what it is told, what its answer does, and what it may not do."""

import dataclasses
import pickle
import signal
import types
import warnings

import numpy as np
import pytest
import torch
from architectures import Normalised
from cases import CASES, CLOUD, ENGINES, X, Y, assert_same_run, assert_same_trajectory, quick
from plain import flat

import labelnoise_utils as ln
from labelnoise_utils.sgd.job import prepare

RECORD = [0, 3, 50, 120, 200]


def own(callback, model=None, **arguments):
    return quick(model or Normalised(), CLOUD, CLOUD[:, :1], record=RECORD, callback=callback, **arguments)


@pytest.mark.parametrize("keep_theta", [True, False])
@pytest.mark.parametrize("engine", ENGINES)
class TestCalled:
    def test_at_each_snapshot_with_the_model_itself(self, engine, keep_theta):
        build, x, y, lr = CASES["relu"]
        model, told = build(), []

        def callback(step, loss, reg, it):
            told.append((step, loss, reg, flat(it)))
            assert it is model and type(step) is int and type(loss) is type(reg) is float

        arguments = dict(lr=lr, record=RECORD, engine=engine)
        run = quick(model, x, y, callback=callback, keep_theta=keep_theta, **arguments)
        step, loss, reg, theta = zip(*told, strict=True)
        plain = quick(build(), x, y, keep_theta=keep_theta, **arguments)
        assert_same_trajectory(run, plain)  # it changes no digit
        assert list(step) == RECORD and not run.stopped
        np.testing.assert_allclose(loss, run.loss, rtol=1e-12)
        np.testing.assert_allclose(reg, run.reg, rtol=1e-12)
        np.testing.assert_array_equal(theta, quick(build(), x, y, **arguments).theta)

    def test_its_answer_ends_the_run(self, engine, keep_theta):
        arguments = dict(engine=engine, keep_theta=keep_theta)
        with warnings.catch_warnings(action="error"):
            model = ln.TwoLayerReLU(5)
            run = quick(model, record=RECORD, callback=lambda step, *_: np.bool_(step == 120), **arguments)
        shorter = ln.TwoLayerReLU(5)
        assert_same_trajectory(run, quick(shorter, steps=120, record=RECORD[:4], **arguments))
        np.testing.assert_array_equal(flat(model), flat(shorter))
        assert (run.steps, run.stopped, run.interrupted) == (120, True, False)


class TestStopped:
    @pytest.mark.parametrize("at, stopped", [(0, True), (200, False)])
    def test_at_the_first_and_at_the_last_step(self, at, stopped):
        run = quick(ln.Product(), record=RECORD, callback=lambda step, *_: step == at)
        assert (run.steps, run.stopped, run.interrupted) == (at, stopped, False)
        assert run.step.tolist() == [step for step in RECORD if step <= at]
        assert run.steps_per_second > 0 or np.isnan(run.steps_per_second)

    def test_is_in_the_file(self, tmp_path):
        run = quick(ln.Product(), record=RECORD, callback=lambda step, *_: step == 50)
        run.save(tmp_path / "run")
        again = ln.Run.load(tmp_path / "run")
        assert_same_run(run, again)
        assert again.stopped is True

    def test_is_not_in_files_from_before(self, tmp_path, monkeypatch):
        dumps = ln.sgd.run.json.dumps
        kept = lambda about: dumps({key: value for key, value in about.items() if key != "stopped"})  # noqa: E731
        monkeypatch.setattr("labelnoise_utils.sgd.run.json.dumps", kept)
        run = quick(ln.TwoLayerReLU(5), record=RECORD)
        run.save(tmp_path / "run")
        assert b"stopped" not in (tmp_path / "run").read_bytes()
        assert ln.Run.load(tmp_path / "run").stopped is False


class Keeps(Normalised):
    """A model that counts its calls and keeps its output, and reads a number that somebody may change."""

    def __init__(self):
        super().__init__()
        self.calls, self.outputs, self.counted, self.scale, self.mask = 0, [], types.SimpleNamespace(calls=0), 1.0, CLOUD[0] > 9

    def forward(self, x):
        self.h = self.scale * super().forward(x)
        self.calls += 1
        self.counted.calls += 1
        self.outputs.append(self.h)
        if not hasattr(self, "earliest"):
            self.earliest = self.h
        return self.h


class TestMayOnlyLook:
    def test_at_parameters(self):
        model, expected = Normalised(), own(None)

        def change(step, loss, reg, it):
            if step == 50:
                with torch.no_grad():
                    it.last.weight += 1

        with pytest.raises(
            ValueError, match=r"callback changed 'last.weight' of the model, which it may only look at"
        ) as caught:
            own(change, model)
        assert caught.value.__notes__ == ["in the callback at step 50"]
        np.testing.assert_array_equal(flat(model), expected.theta[2])

    def test_at_buffers(self):
        model = Normalised()
        before = model.norm.running_mean.clone()
        with pytest.raises(ValueError, match="changed 'norm.running_mean', 'norm.running_var', 'norm.num_batches_tracked'"):
            own(lambda step, loss, reg, it: it.train()(CLOUD).sum() > 1e9, model)
        assert torch.equal(model.norm.running_mean, before) and not model.norm.training

    @pytest.mark.parametrize("replace", [True, False])
    def test_and_leave_them_there(self, replace):
        def change(step, loss, reg, it):
            if replace:
                it.last.bias = torch.nn.Parameter(it.last.bias.detach().clone())
            else:
                it.last.bias.requires_grad_(False)

        with pytest.raises(ValueError, match="callback replaced 'last.bias' of the model, or changed whether it is trained"):
            own(change)

    @pytest.mark.parametrize(
        "name, change",
        [
            ("scale", lambda it: setattr(it, "scale", 2.0)),
            ("mask", lambda it: it.mask.fill_(True)),
            ("last._forward_hooks", lambda it: it.last.register_forward_hook(lambda *_: None)),
            ("last.weight._backward_hooks", lambda it: it.last.weight.register_hook(torch.zeros_like)),
        ],
    )
    def test_at_attributes_and_hooks(self, name, change):
        def look(step, loss, reg, it):
            if step == 50:
                it(CLOUD)
                change(it)

        model = Keeps()
        with pytest.raises(ValueError, match=f"callback changed '{name}' of the model, which it may only look at"):
            own(look, model)
        assert model.scale == 1 and not model.last._forward_hooks and not model.last.weight._backward_hooks

    def test_and_call_it_as_it_likes(self):
        def look(step, loss, reg, it):
            heard, scale = [], it.scale
            handles = [
                it.last.register_forward_hook(lambda *_: heard.append(1)),
                it.last.register_full_backward_hook(lambda *_: heard.append(2)),
                it.last.weight.register_hook(lambda grad: heard.append(3)),
            ]
            it.scale = 2.0
            it(CLOUD).sum().backward()
            it.scale = scale
            for handle in handles:
                handle.remove()
            assert len(heard) == 3

        model = Keeps()
        assert_same_trajectory(own(look, model), own(None, Keeps()))
        assert model.scale == 1

    def test_modes_are_put_back(self):
        """As of a validation that ends in ``model.train()``."""
        model = Normalised()
        modes = [module.training for module in model.modules()]

        def validate(step, loss, reg, it):
            it.eval()
            assert torch.isfinite(it(CLOUD)).all()
            it.train()

        assert_same_trajectory(own(validate, model), own(None))
        assert [module.training for module in model.modules()] == modes

    def test_and_gradients_are_its_own_business(self):
        run = own(lambda step, loss, reg, it: it(CLOUD).sum().backward())
        assert_same_trajectory(run, own(None))


def test_an_error_goes_to_the_caller_and_the_model_stays():
    class Mine(Exception):
        pass

    def fail(step, *_):
        if step == 50:
            raise Mine

    model = ln.TwoLayerReLU(5)
    with pytest.raises(Mine) as caught:
        quick(model, record=RECORD, callback=fail)
    assert caught.value.__notes__ == ["in the callback at step 50"]
    np.testing.assert_array_equal(flat(model), quick(ln.TwoLayerReLU(5), steps=50, record=[50]).theta[0])


@pytest.mark.filterwarnings("ignore:.torch.jit.* is deprecated:DeprecationWarning")
def test_an_error_with_a_model_in_torchscript():
    model = torch.jit.script(torch.nn.Linear(3, 1, dtype=torch.float64))
    with pytest.raises(ZeroDivisionError):
        own(lambda *_: 1 / 0, model)
    assert own(lambda *_: False, model).steps == 200


def test_is_told_nan_where_reg_is_left_out():
    told = []
    quick(ln.Product(), record=RECORD, reg_on=False, callback=lambda *heard: told.append(heard[1:3]))
    assert np.isfinite(told).all(axis=0).tolist() == [True, False]


def test_is_a_function():
    with pytest.raises(TypeError, match="callback must be a function of step, loss, reg and model, or None, got 5"):
        quick(ln.Product(), callback=5)


def told_too_much(step, loss, reg, model):
    return reg < 0


def test_of_a_job_that_travels(tmp_path):
    job = prepare(ln.Product(), X, Y, lr=0.01, steps=10, callback=told_too_much, checkpoint=tmp_path / "run")
    again = pickle.loads(pickle.dumps(job))
    assert again.callback is told_too_much and again.checkpoint == str(tmp_path / "run")
    assert dataclasses.asdict(again).keys() == dataclasses.asdict(job).keys()


def test_of_many_runs():
    job = dict(x=X, y=Y, lr=0.002, steps=200, record=RECORD)
    jobs = [dict(model=ln.TwoLayerReLU(5), callback=lambda step, *_, end=end: step == end, **job) for end in (3, 120, None)]
    with warnings.catch_warnings(action="error"):
        runs = ln.train_many(jobs, n_jobs=2, progress=False)
    assert [(run.steps, run.stopped) for run in runs] == [(3, True), (120, True), (200, False)]


def test_an_interrupt_in_it_ends_the_run():
    def press(step, *_):
        if step == 50:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.warns(UserWarning, match="interrupted after 50 of 200 steps; the run so far is returned$"):
            run = quick(ln.Product(), record=RECORD, callback=press)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (run.steps, run.interrupted, run.stopped, run.step.tolist()) == (50, True, False, [0, 3, 50])
