"""The hypotheses are the formulas they claim, and each compiled step is the gradient of its own.

Compiled gradients are read off one full step of ``train`` on one example (or on a full batch): the
parameters move by minus lr times the gradient of the squared error.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

import labelnoise_utils as ln
from labelnoise_utils.models.compiled import logistic, tanh
from labelnoise_utils.regularizer.snapshots import loss_and_reg
from labelnoise_utils.sgd.engines import train_compiled
from labelnoise_utils.sgd.job import prepare

LR = 0.5

MODELS = {
    "product": lambda seed: ln.Product(*np.random.default_rng(seed).normal(size=2)),
    "relu": lambda seed: with_random_skip(ln.TwoLayerReLU(7, seed=seed), seed),
    "relu-without-skip": lambda seed: ln.TwoLayerReLU(7, skip=False, seed=seed),
    "relu-one-unit": lambda seed: ln.TwoLayerReLU(1, seed=seed),
    "mlp-linear": lambda seed: ln.MLP([3, 2], seed=seed, bias_std=1.0),
    "mlp-relu": lambda seed: ln.MLP([2, 9, 1], "relu", seed=seed, bias_std=1.0),
    "mlp-tanh": lambda seed: ln.MLP([2, 9, 1], "tanh", seed=seed, bias_std=1.0),
    "mlp-logistic": lambda seed: ln.MLP([2, 9, 1], "logistic", seed=seed, bias_std=1.0),
    "mlp-deep-relu": lambda seed: ln.MLP([3, 8, 6, 5, 2], "relu", seed=seed, bias_std=1.0),
    "mlp-deep-tanh": lambda seed: ln.MLP([3, 8, 6, 5, 2], "tanh", seed=seed, bias_std=1.0),
    "mlp-deep-logistic": lambda seed: ln.MLP([3, 8, 6, 5, 2], "logistic", seed=seed, bias_std=1.0),
    "matrix": lambda seed: ln.MatrixSensing(4, init="gaussian", seed=seed),
    "sigmoidal-tanh": lambda seed: ln.TwoLayerSigmoidal(7, 3, "tanh", seed=seed),
    "sigmoidal-logistic": lambda seed: ln.TwoLayerSigmoidal(18, 10, "logistic", seed=seed),
    "sigmoidal-scalar-input": lambda seed: ln.TwoLayerSigmoidal(5, 1, "tanh", seed=seed),
    "mlp-scalar-input": lambda seed: ln.MLP([1, 4, 4, 1], "tanh", seed=seed, bias_std=1.0),
}


def with_random_skip(model, seed):
    with torch.no_grad():
        model.a0.fill_(math.sin(seed + 1))
        model.b0.fill_(math.cos(seed + 1))
    return model


def random_data(model, n, seed):
    """Inputs and labels of the shapes that the model has."""
    rng = np.random.default_rng(1000 + seed)
    dimension = model.sizes[0] if isinstance(model, ln.MLP) else 1
    shape = (n, dimension) if dimension > 1 else (n,)
    if isinstance(model, ln.MatrixSensing):
        shape = n, model.dim, model.dim
    if isinstance(model, ln.TwoLayerSigmoidal):
        shape = n, model.w.shape[1]
    x = torch.from_numpy(rng.normal(size=shape))
    with torch.no_grad():
        return x, torch.from_numpy(rng.normal(size=model(x).shape))


def flat(model):
    return parameters_to_vector(model.parameters()).detach().clone()


def compiled_gradient(model, x, y):
    """Gradient of the mean squared error, from one compiled step on all the examples."""
    before = flat(model)
    # One example: the code for single examples. Several: the code for batches.
    batch_size = 1 if len(x) == 1 else None
    run = ln.train(model, x, y, lr=LR, steps=1, batch_size=batch_size, engine="compiled", progress=False)
    assert run.engine == "compiled"
    return (before - flat(model)) / LR


def autograd_gradient(model, x, y):
    loss = (model(x) - y).square().sum() / len(x)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def assert_same_gradient(model, x, y):
    exact, before = autograd_gradient(model, x, y), flat(model)
    gradient = compiled_gradient(model, x, y)
    # What is read off a step carries the rounding of the parameters it was added to.
    scale = max(exact.abs().max().item(), before.abs().max().item(), 1.0)
    torch.testing.assert_close(gradient, exact, rtol=0, atol=1e-12 * scale)
    return exact


@pytest.mark.parametrize("n", [1, 4, 5])
@pytest.mark.parametrize("name", MODELS)
def test_compiled_gradient_is_autograds(name, n):
    moved = 0
    for seed in range(6):
        model = MODELS[name](seed)
        moved += assert_same_gradient(model, *random_data(model, n, seed)).abs().max() > 0.01
    assert moved >= 5


class TestKinks:
    """On integers a x + b == 0 holds exactly; the derivative of relu is 0 there."""

    @pytest.mark.parametrize("skip", [True, False])
    @pytest.mark.parametrize("n", [1, 4])
    @pytest.mark.parametrize("seed", range(5))
    def test_two_layer_relu(self, seed, n, skip):
        rng = np.random.default_rng(seed)
        model = ln.TwoLayerReLU(40, skip=skip, seed=seed)
        a, b, c = (torch.from_numpy(rng.integers(-2, 3, 40).astype(float)) for _ in range(3))
        with torch.no_grad():
            for parameter, value in zip((model.a, model.b, model.c), (a, b, c), strict=True):
                parameter.copy_(value)
        x, y = (torch.from_numpy(rng.integers(-2, 3, n).astype(float)) for _ in range(2))
        on_kink = (torch.outer(x, a) + b == 0) & (c != 0)
        assert on_kink.any(dim=1).all(), "every example should meet a kink"
        assert_same_gradient(model, x, y)

    def test_a_unit_on_its_kink_stays_as_it_is(self):
        """A derivative of 1 or 1/2 would move a and b."""
        model = ln.TwoLayerReLU(1)
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), (2.0, -6.0, 5.0, 1.0, 0.0), strict=True):
                parameter.copy_(torch.tensor(value).expand_as(parameter))
        x, y = torch.tensor([3.0], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
        gradient = compiled_gradient(model, x, y)
        # h = 0 + 1 * 3 + 0, so the residual is 2.
        np.testing.assert_array_equal(gradient, [0, 0, 0, 2 * 2 * 3, 2 * 2])

    @pytest.mark.parametrize("n", [1, 4])
    @pytest.mark.parametrize("seed", range(5))
    def test_deep_relu(self, seed, n):
        rng = np.random.default_rng(seed)
        model = ln.MLP([3, 20, 20, 1], "relu", seed=seed)
        with torch.no_grad():
            for parameter in model.parameters():
                integers = rng.integers(-1, 2, tuple(parameter.shape)).astype(float)
                parameter.copy_(torch.from_numpy(integers))
        x = torch.from_numpy(rng.integers(-2, 3, (n, 3)).astype(float))
        y = torch.from_numpy(rng.integers(-2, 3, n).astype(float))
        z = x
        with torch.no_grad():
            for layer in model.layers[:-1]:
                layer.bias[:5] -= layer(z)[0, :5]  # five kinks for the first example
                z = layer(z)
                assert (z[0, :5] == 0).all()
                z = torch.relu(z)
        assert_same_gradient(model, x, y)


class TestActivations:
    """Compiled tanh and logistic against extended precision (at worst against double)."""

    ULPS = 4
    POINTS = np.unique(
        np.concatenate(
            [
                np.linspace(-45, 45, 40_001),
                np.linspace(-1, 1, 20_001),
                np.geomspace(1e-300, 1e3, 5_001),
                -np.geomspace(1e-300, 1e3, 5_001),
                # Around the points where exp changes its power of two.
                np.nextafter((np.arange(-60, 60) + 0.5) * math.log(2) / 2, np.inf),
                np.nextafter((np.arange(-60, 60) + 0.5) * math.log(2) / 2, -np.inf),
                [5e-324, 2.2e-308, -5e-324, 20.0, np.nextafter(20, 21), 40.0, np.nextafter(40, 41)],
            ]
        )
    )

    def test_tanh(self):
        measured = np.array([tanh(v) for v in self.POINTS])
        exact = np.tanh(self.POINTS.astype(np.longdouble))
        errors = np.abs(measured - exact) / np.spacing(np.abs(exact).astype(float))
        assert errors.max() <= self.ULPS, self.POINTS[errors.argmax()]

    def test_logistic(self):
        points = self.POINTS[np.abs(self.POINTS) <= 40]
        measured = np.array([logistic(v) for v in points])
        exact = 1 / (1 + np.exp(-points.astype(np.longdouble)))
        errors = np.abs(measured - exact) / np.spacing(exact.astype(float))
        assert errors.max() <= self.ULPS, points[errors.argmax()]

    def test_logistic_far_out(self):
        for v in self.POINTS[np.abs(self.POINTS) > 40]:
            exact = 0.0 if v < 0 else 1.0
            assert abs(logistic(v) - exact) <= 4.3e-18  # exp(-40) is 4.2e-18

    def test_exact_values(self):
        assert (tanh(0.0), logistic(0.0)) == (0.0, 0.5)
        assert math.copysign(1, tanh(-0.0)) == -1
        assert (tanh(math.inf), tanh(-math.inf)) == (1.0, -1.0)
        assert logistic(math.inf) == 1.0
        assert logistic(-math.inf) == pytest.approx(0, abs=4.3e-18)

    def test_tanh_is_odd_to_the_last_bit(self):
        points = self.POINTS[::7]
        assert [tanh(-v) for v in points] == [-tanh(v) for v in points]

    def test_nan_stays_nan(self):
        assert math.isnan(tanh(math.nan)) and math.isnan(logistic(math.nan))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_kernel_stops_at_the_step_that_is_not_finite(name, poison):
    """Nothing in a kernel, vectorised activations included, turns NaN into a number."""
    model = MODELS[name](0)
    x, y = random_data(model, 3, 0)
    descend = train_compiled(prepare(model, x, y, lr=1e-3, steps=6))
    indices = np.zeros((6, 1), np.int32)
    noise = np.zeros((6, 1, *y.shape[1:]))
    assert descend(indices, noise) == 6
    noise[4] = poison
    assert descend(indices, noise) == 4
    with torch.no_grad():
        next(iter(model.parameters())).fill_(math.nan)
    assert descend(indices, 0 * noise[:1].repeat(6, axis=0)) == 0


class TestSmallestModel:
    """H = u v: s = u^2 - v^2 obeys s <- s (1 - g^2), g = 2 lr (u v - y - Z), exactly."""

    @pytest.mark.parametrize("engine", ["compiled", "torch"])
    @pytest.mark.parametrize("kind", ["rademacher", "uniform", "gaussian"])
    @pytest.mark.parametrize("batch_size", [1, 4])
    def test_law_step_by_step(self, engine, kind, batch_size):
        """With a batch Z is the mean of its draws."""
        n, steps, lr, label = 5, 300, 0.05, 0.7
        noise = ln.LabelNoise(0.8, kind)
        x, y = torch.zeros(n, dtype=torch.float64), torch.full((n,), label, dtype=torch.float64)
        run = ln.train(
            ln.Product(1.5, 0.3),
            x,
            y,
            lr=lr,
            steps=steps,
            noise=noise,
            batch_size=batch_size,
            seed=11,
            record=range(steps + 1),
            engine=engine,
            progress=False,
        )
        (_, z), *rest = ln.sgd_draws(n, steps, noise=noise, batch_size=batch_size, seed=11)
        assert not rest
        u, v = run.theta.T
        g = 2 * lr * (u[:-1] * v[:-1] - label - z.mean(axis=1))
        s = u**2 - v**2
        scale = (u**2 + v**2)[:-1]
        np.testing.assert_allclose(s[1:], s[:-1] * (1 - g**2), rtol=0, atol=1e-12 * scale.max())
        assert abs(s[-1] / s[0] - 1) > 0.1, "the law should have had something to do"

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("batch_size", [1, 4])
    @pytest.mark.parametrize("std", [0.5, 1.0, 2.0])
    def test_rate_of_decay_is_the_variance_of_the_noise(self, std, batch_size, seed):
        """The mean of g^2 is 4 lr^2 (std^2 / B + E e^2).

        And 0 < E e^2 <= lr R std^2 / B / (1 - lr R).

        R = u^2 + v^2 is largest at the start. The standard error is that of the mean of g^2: the
        square of a mean of B Rademacher draws varies by sqrt(2 - 2 / B) of itself, and the term
        2 e Z by twice the ratio of their standard deviations.
        """
        lr, steps = 0.001, 400_000
        x, y = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
        run = ln.train(
            ln.Product(2.0, 0.5),
            x,
            y,
            lr=lr,
            steps=steps,
            noise=ln.LabelNoise(std),
            batch_size=batch_size,
            seed=seed,
            progress=False,
        )
        s = run.theta[:, 0] ** 2 - run.theta[:, 1] ** 2
        rate = -math.log(s[-1] / s[0]) / steps
        stiffness = lr * 1.2 * run.reg.max()
        error = math.sqrt((2 - 2 / batch_size + 4 * stiffness) / steps)
        ratio = rate / (4 * lr**2 * std**2 / batch_size)
        assert 1 - 5 * error < ratio < 1 / (1 - stiffness) + 5 * error
        assert 1 / (1 - stiffness) + 5 * error < 1.05, "the bounds should tell 1 from 1/B or sigma"

    @pytest.mark.parametrize("engine", ["compiled", "torch"])
    @pytest.mark.parametrize("batch_size", [1, 4, None])
    @pytest.mark.parametrize("noise", [None, ln.LabelNoise(0.0, "gaussian")])
    def test_without_noise_nothing_moves_at_zero_error(self, engine, batch_size, noise):
        u, v = 1.7, 0.3
        model = ln.Product(u, v)
        x, y = torch.zeros(4, dtype=torch.float64), torch.full((4,), u * v, dtype=torch.float64)
        ln.train(
            model,
            x,
            y,
            lr=0.1,
            steps=500,
            noise=noise,
            batch_size=batch_size,
            engine=engine,
            progress=False,
        )
        assert flat(model).tolist() == [u, v]


class TestProduct:
    def test_formula(self):
        model = ln.Product(3.0, -2.0)
        assert model(torch.zeros(4, 5)).tolist() == [-6.0] * 4
        assert [name for name, _ in model.named_parameters()] == ["u", "v"]

    def test_dtype(self):
        assert ln.Product().u.dtype == torch.float64
        assert ln.Product(dtype=torch.float32)(torch.zeros(1)).dtype == torch.float32


class TestTwoLayerReLU:
    @pytest.mark.parametrize("skip", [True, False])
    def test_formula(self, skip):
        model = ln.TwoLayerReLU(5, skip=skip, seed=1)
        if skip:
            with_random_skip(model, 0)
        x = torch.linspace(-2, 2, 9, dtype=torch.float64)
        for x_i, h_i in zip(x.tolist(), model(x).tolist(), strict=True):
            a, b, c = (p.tolist() for p in (model.a, model.b, model.c))
            h = sum(ci * max(0.0, ai * x_i + bi) for ai, bi, ci in zip(a, b, c, strict=True))
            if skip:
                h += model.a0.item() * x_i + model.b0.item()
            assert h_i == pytest.approx(h, abs=1e-12)

    def test_order_of_the_parameters(self):
        names = [name for name, _ in ln.TwoLayerReLU(3).named_parameters()]
        assert names == ["a", "b", "c", "a0", "b0"]
        assert [n for n, _ in ln.TwoLayerReLU(3, skip=False).named_parameters()] == names[:3]

    def test_initial_scales(self):
        """Within five standard errors of the variance of a normal."""
        m = 20_000
        model = ln.TwoLayerReLU(m, seed=0, input_std=3.0, output_std=0.5)
        for parameter, std in ((model.a, 3.0), (model.b, 3.0), (model.c, 0.5)):
            assert abs(parameter.square().mean() / std**2 - 1) < 5 * (2 / m) ** 0.5
        assert model.a0.item() == model.b0.item() == 0.0

    @pytest.mark.parametrize("x", [torch.zeros(3, 1), torch.zeros(())])
    def test_refuses_other_shapes(self, x):
        with pytest.raises(ValueError, match=r"x must have shape \(n,\), got"):
            ln.TwoLayerReLU(3)(x)


class TestMLP:
    @pytest.mark.parametrize("activation", ["relu", "tanh", "logistic"])
    def test_formula(self, activation):
        model = ln.MLP([3, 5, 4, 2], activation, seed=2, bias_std=0.7)
        s = {
            "relu": lambda z: np.maximum(z, 0),
            "tanh": np.tanh,
            "logistic": lambda z: 1 / (1 + np.exp(-z)),
        }[activation]
        z = x = np.random.default_rng(0).normal(size=(6, 3))
        (w1, b1), (w2, b2), (w3, b3) = ((layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in model.layers)
        z = s(x @ w1.T + b1)
        z = s(z @ w2.T + b2)
        np.testing.assert_allclose(model(torch.from_numpy(x)).detach(), z @ w3.T + b3, rtol=1e-12, atol=1e-12)

    def test_order_of_the_parameters(self):
        shapes = [tuple(p.shape) for p in ln.MLP([3, 5, 2]).parameters()]
        assert shapes == [(5, 3), (5,), (2, 5), (2,)]

    @pytest.mark.parametrize("activation, gain", [("relu", 2**0.5), ("tanh", 1), ("logistic", 1)])
    def test_initial_scales(self, activation, gain):
        weights = ln.MLP([50, 400, 1], activation, seed=0).layers[0].weight
        error = 5 * (2 / weights.numel()) ** 0.5
        assert abs(weights.square().mean() * 50 / gain**2 - 1) < error
        model = ln.MLP([50, 400, 1], activation, seed=0, gain=3.0, bias_std=2.0)
        torch.testing.assert_close(model.layers[0].weight, weights * 3 / gain)
        assert abs(model.layers[0].bias.square().mean() / 4 - 1) < 5 * (2 / 400) ** 0.5

    def test_one_input_may_come_as_a_vector(self):
        model, x = ln.MLP([1, 4, 1]), torch.linspace(-1, 1, 5, dtype=torch.float64)
        assert torch.equal(model(x), model(x[:, None]))
        assert model(x).shape == (5,)

    @pytest.mark.parametrize("shape", [(4, 2), (3,), (2, 3, 3), ()])
    def test_refuses_other_shapes(self, shape):
        with pytest.raises(ValueError, match=r"x must have shape \(n, 3\), got"):
            ln.MLP([3, 4, 1])(torch.zeros(shape, dtype=torch.float64))


BUILDERS = {
    "relu": lambda **arguments: ln.TwoLayerReLU(6, **arguments),
    "mlp": lambda **arguments: ln.MLP([2, 4, 1], "tanh", **arguments),
    "sigmoidal": lambda **arguments: ln.TwoLayerSigmoidal(6, 2, **arguments),
}


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_seed_makes_the_parameters(build):
    assert torch.equal(flat(build(seed=3)), flat(build(seed=3)))
    assert not torch.equal(flat(build(seed=3)), flat(build(seed=4)))
    assert torch.equal(flat(build()), flat(build(seed=0)))


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_dtype_rounds_the_same_parameters(build):
    double, single = build(), build(dtype=torch.float32)
    assert {p.dtype for p in double.parameters()} == {torch.float64}
    assert {p.dtype for p in single.parameters()} == {torch.float32}
    torch.testing.assert_close(flat(single).double(), flat(double), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_config_builds_the_same_architecture(name):
    model = MODELS[name](0)
    twin = type(model)(**model.config)
    twin.load_state_dict(model.state_dict())
    x, _ = random_data(model, 3, 0)
    assert torch.equal(twin(x), model(x))


@pytest.mark.parametrize(
    "build, error, message",
    [
        (lambda: ln.TwoLayerReLU(0), ValueError, "width must be at least 1, got 0"),
        (lambda: ln.TwoLayerReLU(-3), ValueError, "width must be at least 1, got -3"),
        (lambda: ln.MLP([]), ValueError, r"sizes must hold at least two numbers.*got \[\]"),
        (lambda: ln.MLP([3]), ValueError, r"sizes must hold at least two numbers.*got \[3\]"),
        (lambda: ln.MLP([3, 0, 1]), ValueError, "each of sizes must be at least 1, got 0"),
        (lambda: ln.MLP([2.5, 1]), TypeError, "each of sizes must be an integer, got 2.5"),
        (lambda: ln.MLP(3), TypeError, "sizes must be a sequence of integers, got 3"),
        (lambda: ln.TwoLayerReLU(2.5), TypeError, "width must be an integer, got 2.5"),
        (lambda: ln.TwoLayerReLU("a"), TypeError, "width must be an integer, got 'a'"),
        (
            lambda: ln.MLP([3, 1], "gelu"),
            ValueError,
            "activation must be one of relu, tanh, logistic, got 'gelu'",
        ),
    ],
)
def test_bad_arguments(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_slices_of_a_run_do_not_change_it(name, batch_size):
    """The pass of a step over the parameters reaches into the next step, but no further than the slice."""
    ends = []
    for slices in ([7], [1, 2, 0, 4]):
        model = MODELS[name](0)
        x, y = random_data(model, 5, 0)
        rng = np.random.default_rng(1)
        indices = rng.integers(5, size=(7, batch_size), dtype=np.int32)
        noise = rng.normal(size=(7, *y[indices].shape[1:]))
        descend = train_compiled(prepare(model, x, y, lr=1e-3, steps=7, batch_size=batch_size))
        stops = np.cumsum([0, *slices])
        taken = [descend(indices[i:j], noise[i:j]) for i, j in itertools.pairwise(stops)]
        assert taken == slices
        ends.append(flat(model))
    assert torch.equal(*ends)


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("frozen", [(), ("b",), ("a", "c")])
def test_loss_and_reg_of_a_relu_network_in_closed_form(skip, frozen):
    """Beside the way that serves any module; with frozen parameters that one has to answer."""

    class Generic(ln.TwoLayerReLU):
        """The same formula, without the class's own way to reg."""

    models = [kind(9, skip=skip, seed=3) for kind in (ln.TwoLayerReLU, Generic)]
    x, y = (torch.from_numpy(v) for v in np.random.default_rng(0).normal(size=(2, 6)))
    for model in models:
        for name in frozen:
            model.get_parameter(name).requires_grad_(False)
    size = sum(p.numel() for p in models[0].parameters() if p.requires_grad)
    theta = torch.from_numpy(np.random.default_rng(1).normal(size=(4, size)))
    for found, expected in zip(*(loss_and_reg(model, theta, x, y) for model in models), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
        assert found.unique().numel() == 4
