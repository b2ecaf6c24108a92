"""Other noises, momentum and a penalty: two engines, the step by hand, and what each law is."""

import copy

import numpy as np
import pytest
import torch
from cases import BATCHES, CASES, CLOUD, ENGINES, X, Y, assert_same_trajectory, quick
from noises import SETTINGS, slowed
from plain import flat, flat_gradient, loss_of, plain_loop
from refusals import refusals
from torch import nn

import labelnoise_utils as ln
from labelnoise_utils.models.counter import key_of, numbers
from labelnoise_utils.sgd import noise


class TestEnginesAgree:
    @pytest.mark.parametrize(
        "name, setting, batch_size",
        [
            (name, setting, BATCHES[(i + j) % 3])
            for i, name in enumerate(CASES)
            for j, setting in enumerate(SETTINGS)
            if (i + j) % 2 and not (setting == "reshuffled" and (i + j) % 3 == 2)
        ],
    )
    def test_same_trajectory(self, name, setting, batch_size):
        build, x, y, lr = CASES[name]
        settings = dict(steps=150, record=[0, 3, 50, 150], batch_size=batch_size)
        settings |= SETTINGS[setting] | dict(lr=slowed(lr, SETTINGS[setting]))
        one, other = (quick(build(), x, y, engine=engine, **settings) for engine in ("auto", "torch"))
        assert one.engine == "compiled"
        scale = np.abs(other.theta).max()
        np.testing.assert_allclose(one.theta, other.theta, rtol=0, atol=1e-11 * scale)
        assert np.abs(other.theta[-1] - other.theta[0]).max() > 1e-3

    @pytest.mark.parametrize("setting", ["momentum", "penalty", "both"])
    @pytest.mark.parametrize("name", ["relu", "relu-without-skip", "relu-constant"])
    def test_on_a_line_and_one_example_at_a_time(self, name, setting):
        """Where there is a step of its own."""
        settings = dict(momentum=0.8 * (setting != "penalty"), penalty=0.01 * (setting != "momentum"), lr=0.001)
        one, other = (quick(CASES[name][0](), engine=engine, **settings) for engine in ENGINES)
        np.testing.assert_allclose(one.theta, other.theta, rtol=0, atol=1e-12)
        assert np.abs(other.theta[-1] - other.theta[0]).max() > 1e-2

    def test_in_single_precision(self):
        build = lambda: ln.MatrixSensing(5, dtype=torch.float32)  # noqa: E731
        _, x, y, lr = CASES["matrix"]
        one, other = (quick(build(), x, y, lr=lr, engine=engine, **SETTINGS["all"]) for engine in ENGINES)
        assert one.theta.dtype == np.float32
        np.testing.assert_allclose(one.theta, other.theta, rtol=0, atol=1e-4)

    @pytest.mark.parametrize("setting", ["all", "Langevin, momentum", "inputs"])
    @pytest.mark.parametrize("name", ["product", "relu", "relu-2d", "sigmoidal-tanh", "matrix", "deep-tanh"])
    def test_frozen_parameters_stay_bit_for_bit(self, name, setting):
        build, x, y, lr = CASES[name]
        settings, runs = SETTINGS[setting] | dict(lr=slowed(lr, SETTINGS[setting]), batch_size=2, steps=100), []
        for engine in ("auto", "torch"):
            model = build()
            first = next(iter(model.parameters()))
            if len(list(model.parameters())) > 1:
                first.requires_grad_(False)
            before = copy.deepcopy(first)
            runs.append(quick(model, x, y, engine=engine, **settings))
            assert torch.equal(first, before) == (not first.requires_grad)
            np.testing.assert_array_equal(runs[-1].theta[-1], flat(model))
        # The penalty is on the norm over the trainable parameters alone, which the compiled steps do not know.
        assert runs[0].engine == ("torch" if "penalty" in settings and name != "matrix" else "compiled")
        np.testing.assert_allclose(runs[0].theta, runs[1].theta, rtol=0, atol=1e-11)


class TestByHand:
    """The formula of each law, with autograd and nothing else, from the draws of the run."""

    @pytest.mark.parametrize("batch_size", BATCHES)
    @pytest.mark.parametrize("setting", [s for s in SETTINGS if s != "reshuffled"])
    def test_is_the_formula(self, setting, batch_size):
        build, x, y, lr = CASES["outputs"]
        settings = dict(noise=None, momentum=0.0, penalty=0.0) | SETTINGS[setting]
        law, model, steps = settings["noise"], build(), 40
        draws = dict(noise=law, batch_size=batch_size, seed=3, outputs=(2,), inputs=(3,))
        indices, z = map(np.concatenate, zip(*ln.sgd_draws(7, steps, **draws), strict=True))
        theta = flat(model).numpy()
        velocity = 0 * theta
        for t in range(steps):
            xi = numbers(key_of(3), t, getattr(law, "kind", "gaussian"), theta.size)
            point = theta + law.std * xi if isinstance(law, ln.ParameterNoise) else theta
            nn.utils.vector_to_parameters(torch.from_numpy(point), model.parameters())
            on = torch.from_numpy(z[t])
            inputs, labels = x[indices[t]], y[indices[t]]
            inputs, labels = (inputs + on, labels) if isinstance(law, ln.InputNoise) else (inputs, labels + on)
            gradient = flat_gradient(loss_of(model, inputs, labels), model)
            if settings["penalty"]:
                parts = plain_loop(model, inputs)[1]
                gradient += settings["penalty"] * torch.cat([part.reshape(-1) for part in parts])
            velocity = settings["momentum"] * velocity - lr * gradient.numpy()
            theta = theta + velocity + (law.std * xi if isinstance(law, ln.LangevinNoise) else 0)
        for engine in ("auto", "torch"):
            run = quick(build(), x, y, lr=lr, steps=steps, batch_size=batch_size, engine=engine, **settings)
            np.testing.assert_allclose(run.theta[-1], theta, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize(
        "name", ["product", "relu", "relu-3d", "relu-2d-constant", "sigmoidal-logistic", "matrix", "deep-tanh", "mlp-relu"]
    )
    def test_penalty_is_on_reg(self, name, engine):
        """The full batch descends loss + c reg."""
        build, x, y, lr = CASES[name]
        model = build()
        objective = (model(x) - y).square().mean() + 0.3 * ln.implicit_regularizer(model, x)
        expected = flat(model) - lr * flat_gradient(objective, model)
        quick(model, x, y, lr=lr, steps=1, noise=None, batch_size=None, penalty=0.3, engine=engine)
        torch.testing.assert_close(flat(model), expected, rtol=0, atol=1e-13)

    def test_penalty_of_any_module(self):
        """Among them attention, whose fast form cannot be differentiated twice."""
        torch.manual_seed(0)
        model = nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True).double().eval()
        x = torch.randn(3, 5, 4, dtype=torch.float64)
        norms = plain_loop(model, x)[1]
        expected = flat(model) - 0.01 * (
            flat_gradient(loss_of(model, x, 0 * x), model) + 0.1 * nn.utils.parameters_to_vector(norms)
        )
        run = quick(model, x, 0 * x, lr=0.01, steps=1, noise=None, batch_size=None, penalty=0.1, reg_on=False)
        assert run.engine == "torch"
        torch.testing.assert_close(flat(model), expected, rtol=1e-10, atol=1e-12)


class TestLaws:
    def test_two_copies_are_rademacher_noise(self):
        for std in (0.3, np.linspace(0, 1, 12)):
            runs = [quick(ln.TwoLayerReLU(5), noise=law(std), batch_size=3) for law in (ln.LabelNoise, ln.TwoCopies)]
            assert_same_trajectory(*runs)

    def test_two_copies_of_several_outputs_have_one_sign(self):
        (_, z), *_ = ln.sgd_draws(4, 300, noise=ln.TwoCopies(np.array([1.0, 2, 3, 4])), batch_size=2, outputs=(2,))
        np.testing.assert_array_equal(z[..., 0], z[..., 1])
        assert set(np.unique(z)) == {-4.0, -3, -2, -1, 1, 2, 3, 4}

    @pytest.mark.parametrize("batch_size", [1, 3, 4, 5])
    def test_epochs_read_each_labelled_example_once(self, monkeypatch, batch_size):
        monkeypatch.setattr(noise, "DRAWS_PER_CHUNK", 64)
        arguments = dict(noise=ln.TwoCopies(0.5, reshuffled=True), batch_size=batch_size, seed=1)
        indices, z = map(np.concatenate, zip(*ln.sgd_draws(6, 120, **arguments), strict=True))
        pairs = np.stack([indices.ravel(), z.ravel()], axis=1)
        pairs = pairs[: len(pairs) // 12 * 12].reshape(-1, 12, 2)
        expected = sorted((i, sign * 0.5) for i in range(6) for sign in (-1, 1))
        assert all(sorted(map(tuple, epoch)) == expected for epoch in pairs)
        assert len({epoch.tobytes() for epoch in pairs}) == len(pairs) >= 10
        monkeypatch.undo()
        for one, other in zip(ln.sgd_draws(6, 50, **arguments), [(indices[:50], z[:50])], strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])

    def test_every_order_of_an_epoch_is_as_likely(self):
        indices, z = map(
            np.concatenate, zip(*ln.sgd_draws(2, 4 * 24_000, noise=ln.TwoCopies(1.0, reshuffled=True)), strict=True)
        )
        orders = (2 * indices + (z > 0)).reshape(-1, 4) @ [64, 16, 4, 1]
        counts = np.unique(orders, return_counts=True)[1]
        assert len(counts) == 24 and np.abs(counts - 1000).max() < 5 * 1000**0.5

    @pytest.mark.parametrize("engine", ENGINES)
    def test_frozen_noise_is_plain_sgd_on_other_labels(self, engine):
        law = ln.FrozenNoise(np.linspace(0.1, 0.5, 12), "gaussian")
        (indices, z), *_ = ln.sgd_draws(12, 500, noise=law, seed=3)
        wrong = Y.clone()
        wrong[indices[:, 0]] += torch.from_numpy(z[:, 0])
        one, other = (quick(ln.TwoLayerReLU(5), y=y, noise=noise, engine=engine) for y, noise in ((Y, law), (wrong, None)))
        np.testing.assert_allclose(one.theta, other.theta, rtol=0, atol=1e-14)
        assert one.loss[0] == pytest.approx(loss_of(ln.TwoLayerReLU(5), X, Y).item(), rel=1e-12)

    def test_frozen_noise_depends_on_the_seed_and_on_nothing_else(self):
        def of(**arguments):
            (indices, z), *_ = ln.sgd_draws(12, **dict(steps=400, noise=ln.FrozenNoise(1.0, "gaussian"), seed=3) | arguments)
            return [z[indices == i][0].item() for i in range(12)]

        assert of() == of(steps=300) == of(batch_size=3) != of(seed=4)

    @pytest.mark.parametrize("law", [ln.ParameterNoise, ln.LangevinNoise, ln.InputNoise, ln.LabelNoise])
    def test_a_number_may_be_a_tensor_or_an_array(self, law):
        for std in (torch.tensor(0.25, dtype=torch.float32), np.array(0.25)):
            assert law(std) == law(0.25) and repr(law(std)) == repr(law(0.25))

    @pytest.mark.parametrize("kind", ["rademacher", "uniform", "gaussian"])
    def test_input_noise(self, kind):
        (indices, z), *_ = ln.sgd_draws(7, 4000, noise=ln.InputNoise(0.2, kind), batch_size=2, inputs=(3,))
        assert indices.shape == (4000, 2) and z.shape == (4000, 2, 3)
        assert z.std() == pytest.approx(0.2, rel=5 * z.size**-0.5) and abs(z.mean()) < 5 * 0.2 / z.size**0.5

    def test_langevin_noise_in_a_valley(self):
        """Across it the cloud has its stationary variance; along it the variance grows by std^2 a step."""
        std, lr, steps = 0.01, 0.02, 200_000
        model = ln.MLP([1, 1])  # h = w x + b, at x = 1: gamma = 2 across w + b = y
        one = torch.ones(1, 1, dtype=torch.float64)
        run = ln.train(
            model, one, one[:, 0], lr=lr, steps=steps, noise=ln.LangevinNoise(std), record=range(0, steps, 100), progress=False
        )
        across, along = run.theta @ [0.5**0.5, 0.5**0.5] - 0.5**0.5, run.theta @ [0.5**0.5, -(0.5**0.5)]
        across = across[5:]  # from where it forgot its start; after 100 steps it forgets again
        assert np.var(across) == pytest.approx(std**2 / (4 * lr * 2 * (1 - lr * 2)), rel=5 * (2 / len(across)) ** 0.5)
        increments = np.diff(along)
        assert np.var(increments) == pytest.approx(100 * std**2, rel=5 * (2 / len(increments)) ** 0.5)

    def test_parameter_noise_pushes_downhill(self):
        """At zero error, u v = 1, the mean of 2 (u' v' - 1) v' over u' and v' around u and v is 2 std^2 u."""
        std, lr, steps = 0.1, 1e-8, 300_000
        model = ln.Product(2.0, 0.5)
        run = ln.train(
            model,
            X,
            0 * X + 1,
            lr=lr,
            steps=steps,
            noise=ln.ParameterNoise(std),
            record=range(0, steps + 1, 1000),
            progress=False,
        )
        pushes = -np.diff(run.theta, axis=0) / (1000 * lr)
        errors = pushes.std(axis=0) / len(pushes) ** 0.5
        expected = 2 * std**2 * np.array([2.0, 0.5])
        assert (np.abs(pushes.mean(axis=0) - expected) < 5 * errors).all()
        assert (errors < expected / 5).all()

    def test_momentum_keeps_the_clock_of_its_effective_rate(self):
        """Plain descent of a quadratic with momentum: v = b v - lr grad, theta = theta + v."""
        model, x = ln.MLP([1, 1]), torch.ones(1, 1, dtype=torch.float64)
        w, b = (p.item() for p in model.parameters())
        speed = 0.0
        for _ in range(50):
            speed = 0.8 * speed - 0.01 * 2 * (w + b - 3)
            w, b = w + speed, b + speed
        quick(model, x, torch.full((1,), 3.0), lr=0.01, steps=50, momentum=0.8, noise=None)
        np.testing.assert_allclose(flat(model), [w, b], rtol=0, atol=1e-14)

    def test_without_momentum_and_penalty_nothing_changes(self):
        for engine in ENGINES:
            one, other = (quick(ln.TwoLayerReLU(5), engine=engine, **more) for more in ({}, dict(momentum=0, penalty=0.0)))
            assert_same_trajectory(one, other)


class Halved(nn.Linear):
    def forward(self, x):
        return super().forward(x)[:, 0] / 2


def test_a_kernel_of_one_s_own_without_these_steps_is_left_to_torch():
    class Mine(ln.Product):
        def compiled_sgd(self, *arguments):
            return super().compiled_sgd(*arguments)

    for more in (dict(momentum=0.5), dict(penalty=0.1), dict(noise=ln.ParameterNoise(0.1)), dict(noise=ln.LangevinNoise(0.1))):
        assert quick(Mine(), **more).engine == "torch"
    assert quick(Mine(), noise=ln.InputNoise(0.1)).engine == "compiled"


def test_it_says_where_training_blew_up():
    for more in (dict(noise=ln.ParameterNoise(0.1)), dict(momentum=0.9), dict(penalty=0.1), dict(noise=ln.LangevinNoise(0.1))):
        for engine in ENGINES:
            with pytest.raises(ln.DivergenceError):
                quick(ln.Product(2.0, 2.0), lr=1.0, steps=1000, engine=engine, **more)


def with_frozen_b0():
    model = ln.TwoLayerReLU(5)
    model.b0.requires_grad_(False)
    return model


def trained(**arguments):
    return lambda: quick(ln.TwoLayerReLU(5), **arguments)


test_bad_input_is_named = refusals(
    {
        "momentum 1": (trained(momentum=1.0), ValueError, "momentum must be below 1, got 1"),
        "momentum negative": (trained(momentum=-0.1), ValueError, "momentum must be at least 0, got -0.1"),
        "momentum text": (trained(momentum="a"), TypeError, "momentum must be a number, got 'a'"),
        "penalty negative": (trained(penalty=-1), ValueError, "penalty must be at least 0, got -1"),
        "penalty NaN": (trained(penalty=float("nan")), ValueError, "penalty must be finite, got nan"),
        "penalty True": (trained(penalty=True), TypeError, "penalty must be a number, got True"),
        "noise a class": (
            trained(noise=ln.ParameterNoise),
            TypeError,
            "noise must be a LabelNoise, another law of noise or None",
        ),
        "std negative": (lambda: ln.ParameterNoise(-1.0), ValueError, "std must be at least 0, got -1"),
        "std for each": (lambda: ln.LangevinNoise(np.ones(3)), TypeError, "std must be a number, got array"),
        "kind": (lambda: ln.InputNoise(1.0, "normal"), ValueError, "kind must be one of rademacher, uniform, gaussian"),
        "frozen kind": (lambda: ln.FrozenNoise(1.0, None), ValueError, "kind must be one of .*, got None"),
        "frozen std": (lambda: ln.FrozenNoise(float("inf")), ValueError, "std must be finite, got inf"),
        "reshuffled": (lambda: ln.TwoCopies(1.0, reshuffled=1), TypeError, "reshuffled must be True or False, got 1"),
        "two copies of others": (
            trained(noise=ln.TwoCopies(np.ones(5))),
            ValueError,
            r"std of shape \(5,\), .* must have \(12,\)",
        ),
        "frozen labels of others": (trained(noise=ln.FrozenNoise(np.ones(5))), ValueError, r"std of shape \(5,\)"),
        "epochs of the full batch": (
            trained(noise=ln.TwoCopies(1.0, reshuffled=True), batch_size=None),
            ValueError,
            "batch_size must be a number under TwoCopies",
        ),
        "draws of epochs of the full batch": (
            lambda: next(ln.sgd_draws(5, 9, noise=ln.TwoCopies(1.0, reshuffled=True), batch_size=None)),
            ValueError,
            "batch_size must be a number under TwoCopies",
        ),
        "whole numbers as inputs": (
            lambda: quick(nn.Sequential(nn.Embedding(3, 1)), torch.arange(3), torch.zeros(3, 1), noise=ln.InputNoise(0.1)),
            ValueError,
            "x must be in floating point under InputNoise, got torch.int64",
        ),
        "no compiled penalty": (
            lambda: quick(with_frozen_b0(), penalty=0.1, engine="compiled"),
            ValueError,
            "TwoLayerReLU has no compiled step with a penalty where parameters are frozen: use engine='torch', or 'auto'",
        ),
        "no compiled model": (
            lambda: quick(Halved(3, 1).double(), CLOUD, CLOUD[:, 0], momentum=0.1, engine="compiled"),
            ValueError,
            "engine='compiled' needs one of the book's models",
        ),
    }
)
