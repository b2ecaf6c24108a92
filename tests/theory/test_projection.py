"""The way to a point of zero error near by."""

import math

import numpy as np
import pytest
import torch
from plain import flat
from points import Convolutional, X, Y, gaussian, linear, poisoned, tanh
from refusals import refusals
from torch import nn

import labelnoise_utils as ln

NAN = math.nan


class Arctan(nn.Module):
    """Newton's method for its zero runs away from where the parameter is above 1.39."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    def forward(self, x):
        return self.theta.atan().expand(len(x))


class TestProjectToZeroError:
    @pytest.mark.parametrize("seed", range(5))
    def test_random_networks(self, seed):
        model = ln.MLP([2, 6, 4, 1], "tanh", seed=seed, bias_std=1.0)
        before = flat(model)
        steps = ln.project_to_zero_error(model, X, Y)
        assert 1 <= steps <= 20
        assert (model(X) - Y).abs().max() <= 1e-12
        assert 0 < (flat(model) - before).norm() < before.norm()

    def test_product_goes_the_shortest_way_to_first_order(self):
        model = ln.Product(2.0, 0.5005)
        ln.project_to_zero_error(model, torch.zeros(1), torch.ones(1))
        assert (model.u * model.v).item() == pytest.approx(1, abs=1e-12)
        # theta - (h - y) grad h / |grad h|^2, with h - y = .001
        expected = torch.tensor([2.0, 0.5005]) - 0.001 * torch.tensor([0.5005, 2.0]) / (2.0**2 + 0.5005**2)
        torch.testing.assert_close(flat(model).float(), expected, rtol=0, atol=1e-6)

    def test_linear_model_in_one_step_of_least_norm(self):
        model, x, y = linear(), gaussian(2, 3), gaussian(2, 1, seed=1)
        theta = flat(model)
        expected = theta + torch.linalg.pinv(x) @ (y[:, 0] - x @ theta)
        assert ln.project_to_zero_error(model, x, y) == 1
        torch.testing.assert_close(flat(model), expected, rtol=0, atol=1e-13)

    def test_redundant_examples(self):
        model = tanh()
        x, y = torch.cat([X, X]), torch.cat([Y, Y])
        ln.project_to_zero_error(model, x, y)
        assert (model(x) - y).abs().max() <= 1e-12

    def test_convolution_and_several_outputs(self):
        model, x = Convolutional(), gaussian(3, 6, seed=3)
        ln.project_to_zero_error(model, x, Y)
        assert (model(x) - Y).abs().max() <= 1e-12
        model, y = ln.MLP([2, 5, 2], "tanh", seed=3), gaussian(3, 2, seed=4)
        ln.project_to_zero_error(model, X, y)
        assert (model(X) - y).abs().max() <= 1e-12

    def test_frozen_parameters_stay(self):
        model = tanh()
        model.layers[0].requires_grad_(False)
        before = model.layers[0].weight.clone()
        ln.project_to_zero_error(model, X, Y)
        assert torch.equal(model.layers[0].weight, before)
        assert (model(X) - Y).abs().max() <= 1e-12

    def test_at_such_a_point_already(self):
        model = ln.Product(2.0, 0.5)
        assert ln.project_to_zero_error(model, torch.zeros(1), torch.ones(1)) == 0
        assert flat(model).tolist() == [2.0, 0.5]

    def test_steps_that_overshoot_are_halved(self):
        model = Arctan(3.0)
        ln.project_to_zero_error(model, torch.zeros(1), torch.zeros(1))
        assert abs(model.theta.item()) <= 1e-12

    def test_tol_is_on_the_largest_error(self):
        coarse, fine = tanh(), tanh()
        assert ln.project_to_zero_error(coarse, X, Y, tol=0.1) < ln.project_to_zero_error(fine, X, Y)
        assert 1e-12 < (coarse(X) - Y).abs().max() <= 0.1

    def test_labels_in_another_precision(self):
        model = tanh(dtype=torch.float32)
        ln.project_to_zero_error(model, X.float(), Y, tol=1e-6)
        assert (model(X.float()) - Y).abs().max() <= 1e-6 + 1e-7

    @pytest.mark.parametrize("seed", range(5))
    def test_single_precision_is_asked_for_what_it_can_give(self, seed):
        model = ln.MLP([2, 6, 4, 1], "tanh", seed=seed, bias_std=1.0, dtype=torch.float32)
        ln.project_to_zero_error(model, X.float(), Y)
        assert (model(X.float()) - Y.float()).abs().max() <= 1e-6
        assert isinstance(ln.is_non_repellent(model, X.float(), Y), bool)

    def test_single_precision_is_named_where_it_may_be_the_reason(self):
        with pytest.raises(ArithmeticError, match=r"below 1e-06 .* the parameters are not float64, .*: model.double\(\)"):
            ln.project_to_zero_error(Arctan(0.5).float(), torch.zeros(1), torch.tensor([2.0]))

    @pytest.mark.parametrize("failure", ["conflict", "out of range", "too few steps", "flat"])
    def test_theta_is_back_where_it_was_on_failure(self, failure):
        model, x, y, more = tanh(), X, Y, {}
        if failure == "conflict":
            x, y = torch.cat([X, X[:1]]), torch.cat([Y, Y[:1] + 0.1])
        elif failure == "out of range":
            model, x, y = Arctan(0.5), torch.zeros(1), torch.tensor([2.0])
        elif failure == "too few steps":
            more = dict(max_steps=1)
        else:
            model, x, y = ln.Product(0.0, 0.0), torch.zeros(1), torch.ones(1)
        before = flat(model)
        with pytest.raises(ArithmeticError, match="no point with an error below 1e-12 was found near by"):
            ln.project_to_zero_error(model, x, y, **more)
        assert torch.equal(flat(model), before)


BAD_INPUT = {
    "theta NaN, Newton": (lambda: ln.project_to_zero_error(poisoned(), X, Y), ValueError, r"model\(x\) is not finite"),
    "y words": (lambda: ln.project_to_zero_error(tanh(), X, np.array(["a"] * 3)), TypeError, "y must hold numbers, got .*<U1"),
    "y a list": (
        lambda: ln.project_to_zero_error(tanh(), X, [0.1] * 3),
        TypeError,
        "y must be a torch.Tensor or a NumPy array, got list",
    ),
    "y of another shape": (lambda: ln.project_to_zero_error(tanh(), X, Y[:, None]), ValueError, r"\(3,\), got \(3, 1\)"),
    "y NaN": (lambda: ln.project_to_zero_error(tanh(), X, Y * NAN), ValueError, "y must be finite, .* in example 0"),
    "x a list, Newton": (
        lambda: ln.project_to_zero_error(tanh(), [1], Y),
        TypeError,
        "x must be a torch.Tensor or a NumPy array, .* got list",
    ),
    "tol 0": (lambda: ln.project_to_zero_error(tanh(), X, Y, tol=0), ValueError, "tol must be positive, got 0"),
    "no steps": (
        lambda: ln.project_to_zero_error(tanh(), X, Y, max_steps=0),
        ValueError,
        "max_steps must be at least 1, got 0",
    ),
    "steps 2.5": (
        lambda: ln.project_to_zero_error(tanh(), X, Y, max_steps=2.5),
        TypeError,
        "max_steps must be an integer, got 2.5",
    ),
}

test_bad_input_is_named = refusals(BAD_INPUT)
