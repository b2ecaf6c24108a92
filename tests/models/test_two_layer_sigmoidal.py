"""The two-layer tanh and logistic networks are their formula."""

import math

import numpy as np
import pytest
import torch
from plain import flat

import labelnoise_utils as ln

ACTIVATIONS = ["tanh", "logistic"]
S = {"tanh": np.tanh, "logistic": lambda z: 1 / (1 + np.exp(-z))}


class TestModel:
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_formula(self, activation):
        model = ln.TwoLayerSigmoidal(5, 3, activation, seed=1)
        x = np.random.default_rng(0).normal(size=(7, 3))
        w, c = model.w.detach().numpy(), model.c.detach().numpy()
        h = [[S[activation](sum(w[i, j] * row[j] for j in range(3))) for i in range(5)] for row in x]
        np.testing.assert_allclose(model.hidden(torch.from_numpy(x)).detach(), h, rtol=1e-13)
        expected = [sum(c[i] * row[i] for i in range(5)) for row in h]
        np.testing.assert_allclose(model(torch.from_numpy(x)).detach(), expected, rtol=1e-12)

    def test_order_of_the_parameters(self):
        shapes = {name: tuple(p.shape) for name, p in ln.TwoLayerSigmoidal(5, 3).named_parameters()}
        assert list(shapes.items()) == [("w", (5, 3)), ("c", (5,))]

    def test_initial_scales(self):
        """Within five standard errors of the variance of a normal."""
        model = ln.TwoLayerSigmoidal(20_000, 2, input_std=3.0, output_std=0.5)
        for parameter, std in ((model.w, 3.0), (model.c, 0.5)):
            assert abs(parameter.square().mean() / std**2 - 1) < 5 * (2 / parameter.numel()) ** 0.5

    @pytest.mark.parametrize("shape", [(3,), (4, 2), (2, 3, 3), ()])
    def test_refuses_other_shapes(self, shape):
        with pytest.raises(ValueError, match=r"x must have shape \(n, 3\), got"):
            ln.TwoLayerSigmoidal(5, 3)(torch.zeros(shape, dtype=torch.float64))

    @pytest.mark.parametrize(
        "arguments, error, message",
        [
            ((0, 2), ValueError, "width must be at least 1, got 0"),
            ((2, 0), ValueError, "dim must be at least 1, got 0"),
            ((2.0, 2), TypeError, "width must be an integer, got 2.0"),
            ((2, True), TypeError, "dim must be an integer, got True"),
            ((2, 2, "relu"), ValueError, "activation must be one of tanh, logistic, got 'relu'"),
        ],
    )
    def test_bad_arguments(self, arguments, error, message):
        with pytest.raises(error, match=message):
            ln.TwoLayerSigmoidal(*arguments)

    @pytest.mark.parametrize("batch_size", [1, 2])
    def test_compiled_step_keeps_single_entries(self, batch_size):
        """Positions are those in theta, although the kernel works on w transposed."""
        model = ln.TwoLayerSigmoidal(4, 3, seed=1)
        theta = flat(model).numpy()
        before, frozen = theta.copy(), np.array([1, 6, 13])
        x, y = np.random.default_rng(0).normal(size=(2, 3)), np.array([5.0, -3.0])
        indices = np.tile(np.arange(batch_size, dtype=np.int32), (20, 1))
        assert model.compiled_sgd(theta, x, y, indices, np.zeros((20, batch_size)), 0.01, frozen) == 20
        assert np.flatnonzero(theta == before).tolist() == frozen.tolist()

    @pytest.mark.parametrize("name", ["input_std", "output_std"])
    @pytest.mark.parametrize("value, error", [(-1.0, ValueError), (math.nan, ValueError), ("1", TypeError)])
    def test_bad_scales(self, name, value, error):
        with pytest.raises(error, match=f"{name} must be"):
            ln.TwoLayerSigmoidal(2, 2, **{name: value})
