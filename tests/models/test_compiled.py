"""Each compiled step is the gradient of its own model.

Compiled gradients are read off one full step of ``train`` on one example (or on a full batch): the
parameters move by minus lr times the gradient of the squared error.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from cases import MODELS, random_data
from plain import flat, flat_gradient, loss_of, plain_loop

import labelnoise_utils as ln
from labelnoise_utils.models.compiled import logistic, tanh
from labelnoise_utils.sgd.engines import train_compiled
from labelnoise_utils.sgd.job import prepare

LR = 0.5


def compiled_gradient(model, x, y):
    """Gradient of the mean squared error, from one compiled step on all the examples."""
    before = flat(model)
    # One example: the code for single examples. Several: the code for batches.
    batch_size = 1 if len(x) == 1 else None
    run = ln.train(model, x, y, lr=LR, steps=1, batch_size=batch_size, engine="compiled", progress=False)
    assert run.engine == "compiled"
    return (before - flat(model)) / LR


def assert_same_gradient(model, x, y):
    exact, before = flat_gradient(loss_of(model, x, y), model), flat(model)
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


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("name", MODELS)
def test_compiled_penalty_is_that_of_autograd(name, n):
    """The step with a penalty less the step without is the gradient of reg."""
    for seed in range(4):
        model = MODELS[name](seed)
        x, y = random_data(model, n, seed)
        norms, slopes = plain_loop(model, x)
        expected, start = torch.cat([slope.reshape(-1) for slope in slopes]), flat(model)
        expected = expected + flat_gradient(loss_of(model, x, y), model)
        batch_size = 1 if n == 1 else None
        ln.train(model, x, y, lr=1.0, steps=1, batch_size=batch_size, penalty=1.0, engine="compiled", progress=False)
        scale = max(expected.abs().max().item(), start.abs().max().item(), 1.0)
        torch.testing.assert_close(start - flat(model), expected, rtol=0, atol=1e-12 * scale)
        assert norms.sum() > 0
