"""The way to a minimum of the mean squared error, with residuals or without."""

import math

import numpy as np
import pytest
import torch
from plain import flat, flat_gradient, loss_of
from points import ONE, POINTS, Deep, X, Y, poisoned, tanh
from refusals import refusals
from torch import nn
from torch.utils.data import DataLoader

import labelnoise_utils as ln
from labelnoise_utils.theory.minima import loss_at

NAN = math.nan
# Each example with three labels, whose means are Y.
SPREAD = torch.tensor([0.5, -0.2, -0.3], dtype=torch.float64)


def contradictory():
    return X.repeat(3, 1), torch.cat([Y + s for s in SPREAD])


class Escaping(nn.Module):
    """h = (100 u, exp(-v)): with labels 0 the loss falls for ever along v, where it is all but straight."""

    def __init__(self):
        super().__init__()
        self.u, self.v = (nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in (0.3, 5.0))

    def forward(self, x):
        return torch.stack([100 * self.u * x, torch.exp(-self.v) * x], dim=1)


class TestProjectToMinimum:
    @pytest.mark.parametrize("seed", range(4))
    def test_of_labels_that_contradict_each_other_are_the_fits_of_their_means(self, seed):
        x, y = contradictory()
        model = ln.MLP([2, 4, 1], "tanh", seed=seed)
        steps = ln.project_to_minimum(model, x, y)
        assert 0 < steps < 60
        assert flat_gradient(loss_of(model, x, y), model).abs().max() < 1e-10
        # The least there is: the variance of the labels of an example.
        assert loss_of(model, x, y).item() == pytest.approx(SPREAD.square().mean().item(), rel=1e-12)
        assert ln.project_to_minimum(model, x, y) == 0

    def test_least_squares_in_one_step(self):
        x, y = X.repeat(2, 1), torch.cat([Y, -2 * Y])[:, None]
        model = nn.Linear(2, 1, bias=False, dtype=torch.float64)
        assert ln.project_to_minimum(model, x, y) == 1
        np.testing.assert_allclose(model.weight.detach()[0], np.linalg.lstsq(x, y)[0][:, 0], rtol=0, atol=1e-12)

    @pytest.mark.parametrize("name", POINTS)
    def test_zero_error(self, name):
        model, x, y = POINTS[name]()
        ln.project_to_minimum(model, x, y + 0.05)
        assert (model(x) - y - 0.05).abs().max() < 1e-8

    def test_stays_near(self):
        """From beside a minimum it comes back by about the distance that it was moved."""
        x, y = contradictory()
        model = tanh()
        ln.project_to_minimum(model, x, y)
        there = flat(model)
        nn.utils.vector_to_parameters(there + 1e-3, model.parameters())
        ln.project_to_minimum(model, x, y)
        assert (flat(model) - there).norm() < 2e-3 * len(there) ** 0.5

    def test_frozen_parameters_stay(self):
        x, y = contradictory()
        model = tanh()
        model.layers[0].weight.requires_grad_(False)
        before = model.layers[0].weight.clone()
        ln.project_to_minimum(model, x, y)
        assert torch.equal(before, model.layers[0].weight)
        assert flat_gradient(loss_of(model, x, y), model).abs().max() < 1e-10

    def test_model_is_left_as_it_was_where_there_is_none(self):
        """h = exp(theta), label -1: the loss falls for ever."""

        class Exponential(nn.Module):
            def __init__(self):
                super().__init__()
                self.theta = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

            def forward(self, x):
                return self.theta.exp().expand(len(x))

        model = Exponential()
        with pytest.raises(ArithmeticError, match=r"no minimum was found near by: 5 steps of Newton's method"):
            ln.project_to_minimum(model, ONE, -ONE, max_steps=5)
        assert model.theta.item() == 0.5

    @pytest.mark.parametrize("model, found", [(ln.Product(0.0, 0.0), "a saddle"), (Escaping(), "a slope of 4.54e-05 along")])
    def test_where_newtons_method_stays_is_no_minimum(self, model, found):
        before = flat(model)
        with pytest.raises(ArithmeticError, match=f"no minimum was found near by: Newton's method stays at {found}"):
            ln.project_to_minimum(model, ONE, torch.zeros_like(model(ONE)) + isinstance(model, ln.Product))
        assert torch.equal(flat(model), before)

    def test_without_curvature_only_where_no_residual_is_left(self):
        assert ln.project_to_minimum(Deep(), ONE, 0 * ONE) == 0
        with pytest.raises(ArithmeticError, match="Hessian is 0, with a mean squared error of 1, which may be a saddle"):
            ln.project_to_minimum(Deep(), ONE, ONE)

    @pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
    def test_callers_mode_changes_nothing(self, mode):
        x, y = contradictory()
        model, other = tanh(), tanh()
        with mode():
            ln.project_to_minimum(model, x, y)
        ln.project_to_minimum(other, x, y)
        assert torch.equal(flat(model), flat(other))


@pytest.mark.parametrize("norm", [nn.LayerNorm(4), nn.Sequential(nn.Unflatten(1, (1, 4)), nn.InstanceNorm1d(1), nn.Flatten())])
def test_third_derivative_of_the_loss_through_norms(norm):
    """Of which torch's own is wrong, without a word; here by differences of the second."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), norm, nn.Tanh(), nn.Linear(4, 1)).double()
    theta, t, y = flat(model), 1e-5, Y[:, None]
    q = torch.sin(torch.arange(len(theta), dtype=torch.float64))
    expected = []
    for direction in torch.eye(len(theta), dtype=torch.float64):
        ends = []
        for sign in (1, -1):
            nn.utils.vector_to_parameters(theta + sign * t * direction, model.parameters())
            ends.append(q @ loss_at(model, X, y).hessian() @ q)
        expected.append((ends[0] - ends[1]) / (2 * t))
    nn.utils.vector_to_parameters(theta, model.parameters())
    expected = torch.stack(expected)
    measured = loss_at(model, X, y).along(q[:, None])
    torch.testing.assert_close(measured, expected, rtol=0, atol=1e-6 * expected.abs().max().item())


BAD_INPUT = {
    "theta NaN": (lambda: ln.project_to_minimum(poisoned(), X, Y), ValueError, r"model\(x\) is not finite"),
    "y of another shape": (lambda: ln.project_to_minimum(tanh(), X, Y[:2]), ValueError, r"y must have the shape of model\(x\)"),
    "float32": (
        lambda: ln.project_to_minimum(tanh(dtype=torch.float32), X.float(), Y),
        ValueError,
        r"project_to_minimum needs a float64 model, got torch.float32: call model.double\(\)",
    ),
    "y text": (lambda: ln.project_to_minimum(tanh(), X, "y"), TypeError, "y must be a torch.Tensor or a NumPy array"),
    "tol 0": (lambda: ln.project_to_minimum(tanh(), X, Y, tol=0), ValueError, "tol must be positive, got 0"),
    "tol NaN": (lambda: ln.project_to_minimum(tanh(), X, Y, tol=NAN), ValueError, "tol must be finite, got nan"),
    "max_steps 0": (
        lambda: ln.project_to_minimum(tanh(), X, Y, max_steps=0),
        ValueError,
        "max_steps must be at least 1, got 0",
    ),
    "a loader": (
        lambda: ln.project_to_minimum(tanh(), DataLoader(X), Y),
        TypeError,
        "x must be a tensor or an array, a tuple or a dict of them, beside y, got a DataLoader",
    ),
    "no module": (lambda: ln.project_to_minimum(len, X, Y), TypeError, "model must be a torch.nn.Module"),
}

test_bad_input_is_named = refusals(BAD_INPUT)
