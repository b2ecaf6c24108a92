"""Training: two engines with one trajectory, what is recorded, and what stops a run."""

import copy
import itertools
import math
import os
import signal
import threading
import time
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

import labelnoise_utils as ln

ENGINES = ["compiled", "torch"]
POINTS = ln.twelve_points()
CLOUD = torch.from_numpy(np.random.default_rng(0).normal(size=(7, 3)))

# A model, its data, and a learning rate at which 2000 steps move it visibly.
SQUARES = CLOUD[:, 0] ** 2
CASES = {
    "product": (lambda: ln.Product(1.5, 0.3), *POINTS, 0.005),
    "relu": (lambda: ln.TwoLayerReLU(20, seed=1), *POINTS, 0.002),
    "relu-without-skip": (lambda: ln.TwoLayerReLU(20, skip=False, seed=1), *POINTS, 0.002),
    "mlp-relu": (lambda: ln.MLP([3, 12, 1], "relu"), CLOUD, SQUARES, 0.005),
    "mlp-tanh": (lambda: ln.MLP([1, 12, 1], "tanh"), *POINTS, 0.02),
    "mlp-logistic": (lambda: ln.MLP([3, 12, 1], "logistic"), CLOUD, SQUARES, 0.01),
    "deep-relu": (lambda: ln.MLP([3, 8, 8, 8, 1], "relu"), CLOUD, SQUARES, 0.005),
    "deep-tanh": (lambda: ln.MLP([3, 8, 8, 8, 1], "tanh"), CLOUD, SQUARES, 0.01),
    "matrix": (lambda: ln.MatrixSensing(5), *ln.matrix_sensing(5, 1, 7)[:2], 0.004),
    "sigmoidal-tanh": (lambda: ln.TwoLayerSigmoidal(12, 3), CLOUD, SQUARES, 0.01),
    "sigmoidal-logistic": (lambda: ln.TwoLayerSigmoidal(12, 3, "logistic"), CLOUD, SQUARES, 0.01),
    "outputs": (lambda: ln.MLP([3, 6, 5, 2], "tanh"), CLOUD, CLOUD[:, :2] ** 2, 0.01),
}
BATCHES = [1, 4, None]
KINDS = ["rademacher", "uniform", "gaussian"]


def quick(model, x, y, **arguments):
    """A short run, by default of the case that most tests are about."""
    defaults = dict(lr=0.002, steps=200, noise=ln.LabelNoise(0.5), seed=3, progress=False)
    return ln.train(model, x, y, **defaults | arguments)


def flat(model):
    return parameters_to_vector(model.parameters()).detach().numpy().copy()


class TestEnginesAgree:
    @pytest.mark.parametrize(
        "name, batch_size, kind",
        [
            (name, batch_size, KINDS[(i + j) % 3])
            for i, name in enumerate(CASES)
            for j, batch_size in enumerate(BATCHES)
            if batch_size or name in ("product", "relu", "matrix", "sigmoidal-tanh", "outputs")
        ],
    )
    def test_same_trajectory(self, name, batch_size, kind):
        build, x, y, lr = CASES[name]
        arguments = dict(lr=lr, steps=2000, noise=ln.LabelNoise(0.5, kind), batch_size=batch_size)
        compiled, plain = (quick(build(), x, y, engine=e, **arguments) for e in ENGINES)
        assert (compiled.engine, plain.engine) == tuple(ENGINES)
        np.testing.assert_array_equal(compiled.step, plain.step)
        scale = np.abs(plain.theta).max()
        np.testing.assert_allclose(compiled.theta, plain.theta, rtol=0, atol=1e-10 * scale)
        np.testing.assert_allclose(compiled.loss, plain.loss, rtol=1e-9)
        np.testing.assert_allclose(compiled.reg, plain.reg, rtol=1e-9)
        assert np.abs(plain.theta[-1] - plain.theta[0]).max() > 1e-2

    @pytest.mark.parametrize("batch_size", BATCHES)
    def test_without_noise(self, batch_size):
        build, x, y, lr = CASES["relu"]
        compiled, plain = (quick(build(), x, y, lr=lr, noise=None, batch_size=batch_size, engine=engine) for engine in ENGINES)
        np.testing.assert_allclose(compiled.theta, plain.theta, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("batch_size", BATCHES)
    def test_both_are_the_ten_lines(self, batch_size):
        """Equation (5), written out with the same draws."""
        build, x, y, lr = CASES["outputs"]
        model, noise = build(), ln.LabelNoise(0.5, "gaussian")
        draws = ln.sgd_draws(7, 100, noise=noise, batch_size=batch_size, seed=3, outputs=(2,))
        for indices, z in draws:
            for i, z_i in zip(indices, torch.from_numpy(z), strict=True):
                error = model(x[i]) - y[i] - z_i
                (error.square().sum() / len(i)).backward()
                with torch.no_grad():
                    for p in model.parameters():
                        p -= lr * p.grad
                        p.grad = None
        for engine in ENGINES:
            trained = build()
            arguments = dict(lr=lr, steps=100, noise=noise, batch_size=batch_size, engine=engine)
            quick(trained, x, y, **arguments)
            np.testing.assert_allclose(flat(trained), flat(model), rtol=0, atol=1e-12)


class TestEngineChoice:
    def test_auto_takes_the_kernel_where_there_is_one(self):
        x, y = POINTS
        assert quick(ln.TwoLayerReLU(5), x, y).engine == "compiled"
        assert quick(ln.TwoLayerReLU(5, dtype=torch.float32), x, y).engine == "torch"
        linear = nn.Linear(1, 1, dtype=torch.float64)
        assert quick(linear, x[:, None], y[:, None]).engine == "torch"

    def test_subclass_with_another_formula_is_not_run_by_the_kernel(self):
        class Doubled(ln.Product):
            def forward(self, x):
                return 2 * super().forward(x)

        x, y = torch.zeros(1), torch.ones(1)
        automatic, plain = (quick(Doubled(), x, y, noise=None, engine=e) for e in ("auto", "torch"))
        np.testing.assert_array_equal(automatic.theta, plain.theta)
        with pytest.raises(ValueError, match="got Doubled"):
            quick(Doubled(), x, y, engine="compiled")

    @pytest.mark.parametrize("change", ["tied", "replaced", "parametrized"])
    def test_changed_layers_are_not_run_by_the_kernel(self, change):
        """The kernel would read past the end of the parameters, or the wrong ones."""
        model = ln.MLP([3, 3, 3, 1], "tanh")
        if change == "tied":
            model.layers[1].weight = model.layers[0].weight
        elif change == "replaced":
            model.layers[1] = nn.Linear(3, 3, bias=False, dtype=torch.float64)
        else:
            nn.utils.parametrizations.orthogonal(model.layers[1])
        y = CLOUD[:, 0]
        with pytest.raises(ValueError, match="as built"):
            quick(copy.deepcopy(model), CLOUD, y, engine="compiled")
        assert quick(model, CLOUD, y).engine == "torch"

    def test_class_with_its_own_kernel_has_one(self):
        class Mine(ln.Product):
            def compiled_sgd(self, *arguments):
                return super().compiled_sgd(*arguments)

        assert quick(Mine(), torch.zeros(1), torch.ones(1)).engine == "compiled"


class TestFrozenParameters:
    FROZEN = {
        "product": ["v"],
        "relu": ["a", "b0"],
        "deep-tanh": ["layers.0.weight", "layers.1.bias", "layers.3.weight"],
        "mlp-relu": ["layers.1.weight", "layers.1.bias"],
        "sigmoidal-tanh": ["c"],
        "sigmoidal-logistic": ["w"],
    }

    @pytest.mark.parametrize("batch_size", BATCHES)
    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("name", FROZEN)
    def test_stay_bit_for_bit_and_are_not_counted(self, name, engine, batch_size):
        build, x, y, lr = CASES[name]
        model = build()
        before = copy.deepcopy(model.state_dict())
        for key in self.FROZEN[name]:
            model.get_parameter(key).requires_grad_(False)
        run = quick(model, x, y, lr=lr, batch_size=batch_size, engine=engine)
        for key, parameter in model.named_parameters():
            untouched = torch.equal(parameter, before[key])
            assert untouched == (key in self.FROZEN[name]), key
            assert parameter.requires_grad == (key not in self.FROZEN[name])
        free = [p for p in model.parameters() if p.requires_grad]
        assert run.theta.shape[1] == sum(p.numel() for p in free)
        np.testing.assert_array_equal(run.theta[-1], parameters_to_vector(free).detach())
        assert run.reg[-1] == pytest.approx(ln.implicit_regularizer(model, x).item(), rel=1e-12)
        gradients = [torch.autograd.grad(h, free, retain_graph=True) for h in model(x)]
        reg = sum(g.square().sum() for row in gradients for g in row) / len(x)
        assert run.reg[-1] == pytest.approx(reg.item(), rel=1e-12)

    @pytest.mark.parametrize("name", FROZEN)
    def test_engines_agree(self, name):
        build, x, y, lr = CASES[name]
        runs = []
        for engine in ENGINES:
            model = build()
            for key in self.FROZEN[name]:
                model.get_parameter(key).requires_grad_(False)
            runs.append(quick(model, x, y, lr=lr, steps=1000, batch_size=4, engine=engine))
        np.testing.assert_allclose(runs[0].theta, runs[1].theta, rtol=0, atol=1e-11)


@pytest.mark.parametrize("engine", ENGINES)
class TestReproducible:
    def test_same_seed_same_trajectory_other_seed_another(self, engine):
        build, x, y, lr = CASES["relu"]
        one, two, other = (quick(build(), x, y, lr=lr, seed=seed, engine=engine) for seed in (3, 3, 4))
        np.testing.assert_array_equal(one.theta, two.theta)
        assert np.abs(one.theta[-1] - other.theta[-1]).max() > 1e-6

    @pytest.mark.parametrize("batch_size", BATCHES)
    def test_trajectory_does_not_depend_on_what_is_recorded(self, engine, batch_size):
        build, x, y, lr = CASES["relu"]
        final = []
        for record in (2, 50, [200], [0], range(201), [7, 8, 100]):
            model = build()
            quick(model, x, y, lr=lr, batch_size=batch_size, record=record, engine=engine)
            final.append(flat(model))
        for theta in final[1:]:
            np.testing.assert_array_equal(theta, final[0])

    @pytest.mark.parametrize("batch_size", BATCHES)
    def test_short_run_is_the_beginning_of_a_long_one(self, engine, batch_size):
        build, x, y, lr = CASES["product"]
        arguments = dict(lr=lr, batch_size=batch_size, engine=engine, record=[0, 10, 1000])
        short = quick(build(), x, y, steps=1000, **arguments)
        long = quick(build(), x, y, steps=2000, **arguments)
        np.testing.assert_array_equal(short.theta, long.theta)

    def test_a_callers_no_grad_changes_nothing(self, engine):
        build, x, y, _ = CASES["relu"]
        expected = quick(build(), x, y, engine=engine)
        with torch.no_grad():
            run = quick(build(), x, y, engine=engine)
        np.testing.assert_array_equal(run.theta, expected.theta)
        np.testing.assert_array_equal(run.reg, expected.reg)


class TestRecord:
    @pytest.mark.parametrize("steps", [1, 2, 10, 1000, 54_321])
    @pytest.mark.parametrize("count", [2, 3, 20, 200])
    def test_log_spaced_from_the_first_step_to_the_last(self, count, steps):
        x, y = torch.zeros(1), torch.ones(1)
        step = quick(ln.Product(), x, y, steps=steps, record=count, noise=None).step
        assert step[0] == 0 and step[-1] == steps
        assert len(step) <= count
        assert (np.diff(step) > 0).all()
        late = step[step > 3 * count].astype(float)
        if late.size > 2:
            # Equal ratios, up to the rounding of the first of them.
            ratios = late[1:] / late[:-1]
            assert ratios.max() / ratios.min() < 1 + 2 / late[0]

    def test_two_hundred_by_default(self):
        run = ln.train(ln.Product(), torch.zeros(1), torch.ones(1), lr=0.01, steps=10**6, progress=False)
        assert 150 < len(run.step) <= 200

    @pytest.mark.parametrize("engine", ENGINES)
    def test_chosen_steps(self, engine):
        build, x, y, _ = CASES["relu"]
        run = quick(build(), x, y, record=[150, 3, 3, 40], engine=engine)
        assert run.step.tolist() == [3, 40, 150]
        assert run.theta.shape[0] == len(run.loss) == len(run.reg) == 3
        every = quick(build(), x, y, record=range(201), engine=engine)
        np.testing.assert_array_equal(run.theta, every.theta[run.step])

    @pytest.mark.parametrize("record", [np.array([0, 5]), (0, 5), range(0, 6, 5), [np.int32(5), 0]])
    def test_step_numbers_may_come_in_any_sequence(self, record):
        assert quick(ln.Product(), *POINTS, record=record).step.tolist() == [0, 5]

    @pytest.mark.parametrize("engine", ENGINES)
    def test_first_snapshot_is_the_start_and_last_the_end(self, engine):
        build, x, y, _ = CASES["relu"]
        model = build()
        run = quick(model, x, y, engine=engine)
        np.testing.assert_array_equal(run.theta[0], flat(build()))
        np.testing.assert_array_equal(run.theta[-1], flat(model))
        assert run.theta.dtype == np.float64
        assert (run.steps, run.interrupted) == (200, False)

    @pytest.mark.parametrize("name", ["product", "relu", "matrix", "deep-relu", "outputs"])
    @pytest.mark.parametrize("engine", ENGINES)
    def test_loss_and_reg_are_those_of_the_snapshot_without_noise(self, engine, name):
        build, x, y, lr = CASES[name]
        run = quick(build(), x, y, lr=lr, record=5, noise=ln.LabelNoise(3.0), engine=engine)
        for i in range(len(run.step)):
            model = run.model_at(i)
            parameters = list(model.parameters())
            loss = (model(x) - y).square().sum().item() / len(x)
            reg = sum(
                g.square().sum().item()
                for output in model(x).flatten()
                for g in torch.autograd.grad(output, parameters, retain_graph=True)
            ) / len(x)
            assert run.loss[i] == pytest.approx(loss, rel=1e-11)
            assert run.reg[i] == pytest.approx(reg, rel=1e-11)

    def test_module_that_torch_func_cannot_transform(self):
        class Branching(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = ln.MLP([3, 4, 2], "tanh", seed=5)

            def forward(self, x):
                return self.inner(x) if x.sum() > 1e9 else 2 * self.inner(x)

        y = CLOUD[:, :2]
        model = Branching()
        run = quick(model, CLOUD, y, record=4)
        assert run.engine == "torch"
        np.testing.assert_array_equal(flat(model), run.theta[-1])
        for i in range(4):
            at_i = run.model_at(i)
            loss = (at_i(CLOUD) - y).square().sum().item() / 7
            assert run.loss[i] == pytest.approx(loss, rel=1e-12)
            reg = ln.implicit_regularizer(at_i, CLOUD, method="loop").item()
            assert run.reg[i] == pytest.approx(reg, rel=1e-12)

    def test_large_data_are_read_in_parts(self, monkeypatch):
        build, x, y, _ = CASES["relu"]
        expected = quick(build(), x, y)
        monkeypatch.setattr("labelnoise_utils.regularizer.snapshots.NUMBERS_PER_CHUNK", 5 * 62)
        run = quick(build(), x, y)
        np.testing.assert_allclose(run.loss, expected.loss, rtol=1e-12)
        np.testing.assert_allclose(run.reg, expected.reg, rtol=1e-12)

    def test_rate_counts_all_steps_recorded_or_not(self):
        run = quick(ln.Product(), *POINTS, steps=1000, record=[0, 10])
        assert run.seconds > 0
        assert run.steps_per_second == 1000 / run.seconds


class TestModel:
    @pytest.mark.parametrize("engine", ENGINES)
    def test_parameters_keep_their_memory(self, engine):
        """Whoever holds a view of a parameter, an optimizer for instance, sees it change."""
        build, x, y, _ = CASES["relu"]
        model = build()
        views = [p.detach() for p in model.parameters()]
        quick(model, x, y, engine=engine)
        for view, parameter in zip(views, model.parameters(), strict=True):
            assert torch.equal(view, parameter)
            assert view.data_ptr() == parameter.data_ptr()

    @pytest.mark.parametrize("engine", ENGINES)
    def test_nothing_else_changes(self, engine):
        build, x, y, _ = CASES["relu"]
        model = build()
        x_before, y_before = x.clone(), y.clone()
        quick(model, x, y, engine=engine)
        assert torch.equal(x, x_before) and torch.equal(y, y_before)
        assert all(p.grad is None and p.requires_grad for p in model.parameters())
        assert model.training

    def test_buffers_and_mode_stay(self):
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
        model.double().eval()
        buffers = {key: value.clone() for key, value in model.named_buffers()}
        quick(model, CLOUD, CLOUD[:, :1], batch_size=4)
        assert not any(module.training for module in model.modules())
        for key, value in model.named_buffers():
            assert torch.equal(value, buffers[key])

    def test_run_holds_a_copy(self):
        model = ln.TwoLayerReLU(5)
        run = quick(model, *POINTS)
        with torch.no_grad():
            model.a.fill_(9.0)
        assert run.theta.max() < 9 and run.model.a.max() < 9

    def test_float32(self):
        build, x, y, _ = CASES["relu"]
        double = quick(build(), x, y, engine="torch")
        model = ln.TwoLayerReLU(20, seed=1, dtype=torch.float32)
        single = quick(model, x, y)
        assert single.theta.dtype == np.float32
        assert model.a.dtype == torch.float32
        np.testing.assert_allclose(single.theta, double.theta, atol=1e-4)

    def test_integer_inputs_reach_the_model_as_integers(self):
        class Tokens(nn.Module):
            def __init__(self):
                super().__init__()
                self.embedding = nn.Embedding(5, 3, dtype=torch.float64)

            def forward(self, x):
                return self.embedding(x).mean(dim=(1, 2))

        x, y = torch.tensor([[0, 1], [2, 3], [4, 0]]), torch.tensor([1, 2, 3])
        run = quick(Tokens(), x, y, lr=0.1, steps=2000, noise=None)
        assert run.loss[-1] < 1e-3 < run.loss[0]

    def test_data_may_be_arrays_or_lists(self):
        x, y = POINTS
        expected = quick(ln.TwoLayerReLU(5), x, y).theta
        for data in ((x.numpy(), y.numpy()), (x.tolist(), y.tolist())):
            np.testing.assert_array_equal(quick(ln.TwoLayerReLU(5), *data).theta, expected)

    def test_data_may_be_views(self):
        x, y = POINTS
        padded = torch.stack([x, y], dim=1)
        expected = quick(ln.TwoLayerReLU(5), x, y).theta
        strided = quick(ln.TwoLayerReLU(5), padded[:, 0], padded[:, 1]).theta
        np.testing.assert_array_equal(strided, expected)


def broken(x, where, value):
    x = x.clone()
    x[where] = value
    return x


X, Y = POINTS
NAN, INF = math.nan, math.inf

# What is passed instead, the error, and what the message must hold.
BAD_INPUT = {
    "labels of another shape": (dict(y=Y[:, None]), ValueError, r"y must .*\(12,\), got \(12, 1\)"),
    "inputs of another shape": (dict(x=X[:, None]), ValueError, r"x of shape \(12, 1\) and .* not"),
    "fewer labels": (dict(y=Y[:11]), ValueError, "same number of examples, got 12 and 11"),
    "fewer inputs": (dict(x=X[:1]), ValueError, "same number of examples, got 1 and 12"),
    "NaN in x": (dict(x=broken(X, 4, NAN)), ValueError, r"x must be finite, got nan at index \(4,"),
    "NaN in y": (dict(y=broken(Y, 0, NAN)), ValueError, r"y must be finite, got nan at index \(0,"),
    "infinity in x": (dict(x=broken(X, 3, -INF)), ValueError, "x must be finite, got -inf at"),
    "infinity in y": (dict(y=broken(Y, 11, INF)), ValueError, r"y must be finite, got inf .*\(11,"),
    "empty x": (dict(x=X[:0], y=Y[:0]), ValueError, r"x must hold at least one .*shape \(0,\)"),
    "empty y": (dict(y=Y[:0]), ValueError, r"y must hold at least one example.*shape \(0,\)"),
    "a single number": (dict(x=X[0]), ValueError, r"x must hold at least one .*shape \(\)"),
    "text": (dict(x="abc"), TypeError, "x must be a tensor or an array of numbers, got str"),
    "nothing": (dict(y=None), TypeError, "y must be a tensor or an array of numbers, got NoneType"),
    "lr 0": (dict(lr=0), ValueError, "lr must be positive, got 0"),
    "lr negative": (dict(lr=-0.1), ValueError, "lr must be positive, got -0.1"),
    "lr NaN": (dict(lr=NAN), ValueError, "lr must be finite, got nan"),
    "lr infinite": (dict(lr=INF), ValueError, "lr must be finite, got inf"),
    "lr text": (dict(lr="a"), TypeError, "lr must be a number, got 'a'"),
    "lr True": (dict(lr=True), TypeError, "lr must be a number, got True"),
    "steps 0": (dict(steps=0), ValueError, "steps must be at least 1, got 0"),
    "steps negative": (dict(steps=-5), ValueError, "steps must be at least 1, got -5"),
    "steps 1.5": (dict(steps=1.5), TypeError, "steps must be an integer, got 1.5"),
    "steps 1e6": (dict(steps=1e6), TypeError, "steps must be an integer, got 1000000.0"),
    "steps True": (dict(steps=True), TypeError, "steps must be an integer, got True"),
    "batch 0": (dict(batch_size=0), ValueError, "batch_size must be at least 1, got 0"),
    "batch 13 of 12": (dict(batch_size=13), ValueError, "batch_size must be at most .* 12, got 13"),
    "batch 1.5": (dict(batch_size=1.5), TypeError, "batch_size must be an integer, got 1.5"),
    "batch True": (dict(batch_size=True), TypeError, "batch_size must be an integer, got True"),
    "seed negative": (dict(seed=-1), ValueError, "seed must be at least 0, got -1"),
    "seed 0.5": (dict(seed=0.5), TypeError, "seed must be an integer, got 0.5"),
    "seed None": (dict(seed=None), TypeError, "seed must be an integer, got None"),
    "noise a number": (dict(noise=0.5), TypeError, r"noise must be .*got 0.5.* LabelNoise\(s\)"),
    "noise text": (dict(noise="gaussian"), TypeError, "noise must be .*got 'gaussian'"),
    "record 0": (dict(record=0), ValueError, "record must be at least 2, got 0"),
    "record 1": (dict(record=1), ValueError, "record must be at least 2, got 1"),
    "record None": (dict(record=None), TypeError, "record must be .*got None"),
    "record True": (dict(record=True), TypeError, "record must be .*got True"),
    "record 2.5": (dict(record=2.5), TypeError, "record must be .*got 2.5"),
    "record text": (dict(record="all"), TypeError, "record must be .*got 'all'"),
    "record empty": (dict(record=[]), ValueError, r"record must hold .* steps = 200, got \[\]"),
    "record beyond": (dict(record=[0, 201]), ValueError, r"record must hold .* got \[0, 201\]"),
    "record negative": (dict(record=[-1, 5]), ValueError, "record must be at least 0, got -1"),
    "record fractions": (dict(record=[0.5]), TypeError, r"record must be .*got \[0.5\]"),
}


class TestBadInput:
    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("case", BAD_INPUT)
    def test_is_named_before_any_work(self, case, engine):
        changes, error, message = BAD_INPUT[case]
        model = ln.TwoLayerReLU(6)
        before = flat(model)
        arguments = dict(x=X, y=Y, lr=0.01, steps=200, noise=ln.LabelNoise(0.5), engine=engine)
        with pytest.raises(error, match=message):
            ln.train(model, progress=False, **arguments | changes)
        np.testing.assert_array_equal(flat(model), before)

    @pytest.mark.parametrize("engine", ["Compiled", "numba", None, ""])
    def test_unknown_engine(self, engine):
        message = f"engine must be one of auto, compiled, torch, got {engine!r}"
        with pytest.raises(ValueError, match=message):
            quick(ln.TwoLayerReLU(6), X, Y, engine=engine)

    def test_compiled_engine_without_a_kernel(self):
        model = nn.Linear(3, 1, dtype=torch.float64)
        message = "engine='compiled' needs .*MLP, MatrixSensing, Product, TwoLayerReLU.* got Linear in torch.float64"
        with pytest.raises(ValueError, match=message):
            quick(model, CLOUD, CLOUD[:, :1], engine="compiled")

    def test_compiled_engine_in_single_precision(self):
        model = ln.TwoLayerReLU(6, dtype=torch.float32)
        with pytest.raises(ValueError, match="float64.* got TwoLayerReLU in torch.float32"):
            quick(model, X, Y, engine="compiled")

    @pytest.mark.parametrize("engine", ["auto", "torch"])
    @pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.Dropout(0.1), nn.AlphaDropout(0.1)])
    def test_layers_in_training_mode(self, layer, engine):
        model = nn.Sequential(nn.Linear(3, 4), layer, nn.Linear(4, 1)).double()
        before, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
        message = rf"{type(layer).__name__} '1' is in training mode.*call model.eval\(\) first"
        with pytest.raises(ValueError, match=message):
            quick(model, CLOUD, CLOUD[:, :1], engine=engine)
        for key, value in model.state_dict().items():
            assert torch.equal(value, before[key])
        assert torch.equal(torch.get_rng_state(), rng)

    def test_dropout_that_is_no_layer(self):
        class Functional(nn.Linear):
            def forward(self, x):
                return nn.functional.dropout(super().forward(x), training=self.training)

        model = Functional(3, 1).double()
        rng = torch.get_rng_state()
        with pytest.raises(ValueError, match=r"draws random numbers.*call model.eval\(\) first"):
            quick(model, CLOUD, CLOUD[:, :1])
        assert torch.equal(torch.get_rng_state(), rng)
        assert quick(model.eval(), CLOUD, CLOUD[:, :1]).steps == 200

    def test_model_that_is_no_module(self):
        with pytest.raises(TypeError, match="model must be a torch.nn.Module, got function"):
            quick(lambda x: x, X, Y)

    @pytest.mark.parametrize("engine", ENGINES)
    def test_nothing_to_train(self, engine):
        model = ln.TwoLayerReLU(6).requires_grad_(False)
        with pytest.raises(ValueError, match="no trainable parameter"):
            quick(model, X, Y, engine=engine)
        with pytest.raises(ValueError, match="no trainable parameter"):
            quick(nn.ReLU(), X, Y)

    def test_inputs_that_the_model_does_not_take(self):
        message = r"x of shape \(7, 3\) and torch.float64 is not what model takes: mat1 and mat2"
        with pytest.raises(ValueError, match=message):
            quick(nn.Linear(2, 1).double(), CLOUD, CLOUD[:, :1])

    def test_labels_that_would_broadcast(self):
        """(n, 1) against (n,) would silently train on n^2 errors."""
        model = nn.Linear(3, 1, dtype=torch.float64)
        with pytest.raises(ValueError, match=r"y must have the shape .*\(7, 1\), got \(7,\)"):
            quick(model, CLOUD, CLOUD[:, 0])

    def test_model_that_drops_the_dimension_of_the_examples(self):
        class Squeezed(nn.Linear):
            def forward(self, x):
                return super().forward(x).squeeze()

        with pytest.raises(ValueError, match=r"h has shape \(\) for one example"):
            quick(Squeezed(3, 1, dtype=torch.float64), CLOUD, CLOUD[:, 0])

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("poison", [NAN, INF, 1e200])
    def test_model_that_starts_without_a_finite_output(self, engine, poison):
        with pytest.raises(ValueError, match=r"model\(x\) is not finite"):
            quick(ln.Product(poison, 1e200), X, Y, engine=engine)


def loss_of(model, x, y):
    with torch.no_grad():
        return (model(x) - y).square().sum().item() / len(x)


@pytest.mark.parametrize("engine", ENGINES)
class TestDivergence:
    @pytest.mark.parametrize("batch_size", BATCHES)
    @pytest.mark.parametrize("name", ["product", "relu", "mlp-relu", "deep-relu", "outputs"])
    def test_too_large_a_learning_rate(self, engine, name, batch_size):
        build, x, y, _ = CASES[name]
        model = build()
        norms = [
            sum(
                g.square().sum()
                for h in model(x_i[None]).flatten()
                for g in torch.autograd.grad(h, list(model.parameters()), retain_graph=True)
            ).item()
            for x_i in x
        ]
        bound = 1 / max(norms)
        # Far above: a ReLU network a little above it kills units instead, and then may be stable.
        lr = 1000 * bound
        arguments = dict(lr=lr, steps=10_000, batch_size=batch_size, engine=engine, record=100)
        with pytest.raises(ln.DivergenceError) as caught:
            quick(model, x, y, **arguments)
        error = caught.value
        assert isinstance(error, ArithmeticError)
        assert 0 <= error.last_step <= error.step < 10_000
        assert error.lr_bound == pytest.approx(bound, rel=1e-10)
        assert math.isfinite(error.last_loss)
        assert error.last_loss == pytest.approx(loss_of(model, x, y), rel=1e-12)
        # The model is back where a run of that length ends.
        expected = build()
        if error.last_step:
            with warnings.catch_warnings(action="ignore"):
                quick(expected, x, y, **arguments | dict(steps=error.last_step, record=2))
        np.testing.assert_array_equal(flat(model), flat(expected))
        message = str(error)
        for part in (
            f"step {error.step};",
            f"lr = {lr:g}",
            f"{bound:.3g}",
            f"{error.last_loss:.4g}",
        ):
            assert part in message

    def test_a_run_that_starts_well(self, engine):
        """From near the saddle at 0 the product grows calmly until lr reg passes 1."""
        model = ln.Product(1e-6, 1e-6)
        x, y = torch.zeros(1), torch.full((1,), 4.0)
        arguments = dict(lr=0.3, steps=1000, record=range(1001), noise=None, engine=engine)
        with pytest.raises(ln.DivergenceError) as caught:
            quick(model, x, y, **arguments)
        assert caught.value.last_step > 10
        assert math.isfinite(caught.value.last_loss)
        expected = ln.Product(1e-6, 1e-6)
        quick(expected, x, y, **arguments | dict(steps=caught.value.last_step, record=2))
        np.testing.assert_array_equal(flat(model), flat(expected))
        assert caught.value.lr_bound == pytest.approx(1 / 2e-12)

    def test_back_at_the_start_if_no_snapshot_is_finite(self, engine):
        model = ln.Product(3.0, 3.0)
        with pytest.raises(ln.DivergenceError) as caught:
            quick(model, X, Y, lr=10, steps=1000, record=[1000], engine=engine)
        assert caught.value.last_step == 0
        assert flat(model).tolist() == [3.0, 3.0]
        assert caught.value.last_loss == pytest.approx(loss_of(ln.Product(3.0, 3.0), X, Y))

    def test_a_snapshot_with_an_infinite_loss_is_not_the_last(self, engine):
        """The residual is still finite when its square no longer is."""
        model = ln.Product(3.0, 3.0)
        with pytest.raises(ln.DivergenceError) as caught:
            quick(model, X, Y, lr=10, steps=1000, record=range(1001), engine=engine)
        assert 1 <= caught.value.last_step < caught.value.step
        assert math.isfinite(loss_of(model, X, Y))

    def test_parameters_that_overflow_in_the_last_step(self, engine):
        """No residual tells of it."""
        model = ln.Product(1e76, 1e76)
        with pytest.raises(ln.DivergenceError) as caught:
            quick(model, X, Y, lr=1e90, steps=1, engine=engine)
        assert (caught.value.step, caught.value.last_step) == (1, 0)
        assert flat(model).tolist() == [1e76, 1e76]

    def test_a_stable_learning_rate_is_below_the_bound(self, engine):
        """Half of the bound trains, for the model whose bound is exact."""
        model = ln.Product(2.0, 0.5)
        run = quick(model, X, torch.ones(12), lr=0.5 / 4.25, steps=500, noise=None, engine=engine)
        assert run.loss[-1] < 1e-6


def test_engines_diverge_at_the_same_step():
    steps = []
    for engine in ENGINES:
        with pytest.raises(ln.DivergenceError) as caught:
            quick(ln.Product(1.0, 1.0), X, Y, lr=1.2, steps=1000, engine=engine)
        steps.append((caught.value.step, caught.value.last_step))
    assert steps[0] == steps[1]


@pytest.fixture
def ctrl_c():
    """Send this process interrupts once a run listens for them, as a user at a terminal would."""
    threads = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def press(times=1, after=0.3):
        def wait_and_press():
            while signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                time.sleep(0.001)
            for _ in range(times):
                time.sleep(after)
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        threads.append(threading.Thread(target=wait_and_press, daemon=True))
        threads[-1].start()

    yield press
    for thread in threads:
        thread.join(timeout=10)
    signal.signal(signal.SIGINT, before)


def assert_interrupts_work_as_ever():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


FOREVER = 10**10


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
class TestInterrupt:
    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("name", ["product", "relu", "deep-tanh"])
    def test_returns_the_run_so_far(self, ctrl_c, name, engine):
        build, x, y, lr = CASES[name]
        quick(build(), x, y, lr=lr, engine=engine)  # compiles
        model = build()
        ctrl_c()
        start = time.monotonic()
        with pytest.warns(UserWarning, match=rf"interrupted after \d+ of {FOREVER} steps") as caught:
            run = quick(model, x, y, lr=lr, steps=FOREVER, engine=engine)
        assert time.monotonic() - start < 20
        assert caught[0].filename == __file__
        assert run.interrupted and 0 < run.steps < FOREVER
        assert run.step[0] == 0 and run.step[-1] == run.steps
        assert f"after {run.steps} of" in str(caught[0].message)
        np.testing.assert_array_equal(run.theta[-1], flat(model))
        assert len(run.step) == len(run.loss) == len(run.reg) == len(run.theta)
        assert run.loss[-1] == pytest.approx(loss_of(model, x, y), rel=1e-9)
        assert run.steps_per_second == run.steps / run.seconds
        assert_interrupts_work_as_ever()

    @pytest.mark.parametrize("engine", ENGINES)
    def test_what_was_done_is_the_beginning_of_the_whole_run(self, ctrl_c, engine):
        build, x, y, lr = CASES["relu"]
        arguments = dict(lr=lr, engine=engine)
        quick(build(), x, y, **arguments)
        ctrl_c(after=0.1)
        with pytest.warns(UserWarning, match="interrupted"):
            run = quick(build(), x, y, steps=FOREVER, **arguments)
        again = quick(build(), x, y, steps=run.steps, **arguments)
        np.testing.assert_array_equal(run.theta[-1], again.theta[-1])

    def test_second_one_stops_at_once(self, ctrl_c):
        class Stuck(nn.Linear):
            def forward(self, x):
                if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
                    time.sleep(20)
                return super().forward(x)

        ctrl_c(times=2)
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            quick(Stuck(3, 1, dtype=torch.float64), CLOUD, CLOUD[:, :1], steps=FOREVER)
        assert time.monotonic() - start < 15
        assert_interrupts_work_as_ever()

    def test_handler_is_restored_after_a_run_and_after_an_error(self, ctrl_c):
        quick(ln.Product(), X, Y)
        assert_interrupts_work_as_ever()
        with pytest.raises(ln.DivergenceError):
            quick(ln.Product(3.0, 3.0), X, Y, lr=10)
        assert_interrupts_work_as_ever()

    def test_runs_in_another_thread_as_well(self):
        runs = []
        thread = threading.Thread(target=lambda: runs.append(quick(ln.Product(), X, Y)))
        thread.start()
        thread.join()
        np.testing.assert_array_equal(runs[0].theta, quick(ln.Product(), X, Y).theta)


class TestProgressBar:
    @pytest.fixture
    def bars(self, monkeypatch):
        monkeypatch.delenv("TQDM_DISABLE", raising=False)
        made = []

        class Bar:
            def __init__(self, **arguments):
                self.arguments, self.done = arguments, 0
                made.append(self)

            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

            def update(self, steps):
                self.done += steps

        monkeypatch.setattr("labelnoise_utils.sgd.progress.tqdm", Bar)
        return made

    @pytest.mark.parametrize("engine", ENGINES)
    def test_counts_every_step(self, bars, engine):
        quick(ln.Product(), X, Y, steps=70_000 if engine == "compiled" else 700, progress=True)
        (bar,) = bars
        assert bar.done == bar.arguments["total"]
        assert bar.arguments["disable"] is False

    @pytest.mark.parametrize("progress, variable", [(False, "0"), (True, "1"), (False, "1")])
    def test_can_be_hidden(self, bars, monkeypatch, progress, variable):
        """By the argument, or everywhere by tqdm's own variable."""
        monkeypatch.setenv("TQDM_DISABLE", variable)
        quick(ln.Product(), X, Y, progress=progress)
        assert bars[0].arguments["disable"] is True

    def test_says_nothing_on_short_runs(self, capsys):
        quick(ln.Product(), X, Y, progress=True)
        assert capsys.readouterr() == ("", "")


def test_noise_moves_what_plain_sgd_leaves():
    """The effect itself: on the hyperbola u v = y only noise makes |u| and |v| equal."""
    x, y = torch.zeros(1), torch.ones(1)
    ends = {
        noise: quick(ln.Product(2.0, 0.5), x, y, lr=0.01, steps=100_000, noise=noise).theta[-1]
        for noise in (None, ln.LabelNoise(0.5))
    }
    (u, v), (u_noise, v_noise) = ends.values()
    assert abs(u * v - 1) < 1e-12 and abs(u - v) > 1
    assert abs(u_noise - v_noise) < 0.1


def test_seeds_of_runs_are_independent_of_each_other():
    ends = [quick(ln.Product(), X, Y, seed=seed).theta[-1] for seed in range(5)]
    for one, other in itertools.combinations(ends, 2):
        assert not np.array_equal(one, other)
