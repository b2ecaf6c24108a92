"""The network of any depth is its formula."""

import numpy as np
import pytest
import torch

import labelnoise_utils as ln


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
