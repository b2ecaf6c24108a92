"""The flow under unequal noise: its field is the drift, its path that of SGD, and equal noise gives the old one."""

import numpy as np
import pytest
import torch
from architectures import Looking
from cases import assert_same_trajectory
from plain import flat, flat_gradient, loss_of
from points import ONE, POINTS, X, Y, tanh
from refusals import refusals
from torch import nn
from torch.nn.utils import vector_to_parameters

import labelnoise_utils as ln

STD = np.array([1.0, 0.2, 0.5])
UNEQUAL = ln.LabelNoise(STD)
NOISES = {
    "unequal": UNEQUAL,
    "correlated": ln.LabelNoise(None, covariance=np.array([[1.0, 0.6, -0.3], [0.6, 0.8, 0.1], [-0.3, 0.1, 0.5]])),
}


def one_step(model, x, y, **arguments):
    """Of the flow, to more digits than usual."""
    return ln.effective_flow(model, x, y, steps=1, record=[0, 1], rtol=1e-10, atol=1e-15, **arguments)


@pytest.mark.parametrize("name", [name for name in POINTS if name != "product"])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("batch_size", [1, 2, None])
class TestField:
    def test_first_step_along_the_manifold_is_the_drift(self, name, noise, batch_size):
        model, x, y = POINTS[name]()
        point, lr = ln.linearize(model, x), 1e-4
        drift = ln.drift(model, x, lr=lr, noise=NOISES[noise], batch_size=batch_size)
        run = one_step(model, x, y, lr=lr, noise=NOISES[noise], batch_size=batch_size)
        moved = point.project_tangent(torch.from_numpy(run.theta[1] - run.theta[0]))
        # The field turns by lr |Hessian| in a step.
        torch.testing.assert_close(moved, drift, rtol=0, atol=0.01 * drift.norm().item())
        assert drift.norm() > 1e-9


class TestEqualNoise:
    @pytest.mark.parametrize("batch_size", [1, 2, None])
    def test_a_number_is_the_old_flow_to_the_last_bit(self, batch_size):
        settings = dict(lr=0.005, steps=20_000, record=5, batch_size=batch_size)
        (one, *data), (other, *_) = POINTS["tanh"](), POINTS["tanh"]()
        old = ln.effective_flow(one, *data, noise_std=0.3, **settings)
        assert_same_trajectory(old, ln.effective_flow(other, *data, noise=ln.LabelNoise(0.3), **settings))

    @pytest.mark.parametrize("name", POINTS)
    def test_equal_numbers_give_the_same_path(self, name):
        """Also away from zero error, where the field is that of the loss plus reg all the same."""
        settings = dict(lr=0.005, steps=20_000, record=5, rtol=1e-8, atol=1e-10)
        paths = []
        for noise in (dict(noise_std=0.3), dict(noise=ln.LabelNoise(np.full(len(POINTS[name]()[1]), 0.3)))):
            model, x, y = POINTS[name]()
            paths.append(ln.effective_flow(model, x, y + 0.1, **noise, **settings).theta)
        np.testing.assert_allclose(*paths, rtol=0, atol=1e-6)
        assert np.abs(paths[0][-1] - paths[0][0]).max() > 1e-3

    def test_without_noise_it_is_gradient_flow(self):
        paths = []
        for noise in (dict(noise_std=0.0), dict(noise=ln.LabelNoise(np.zeros(3)))):
            paths.append(ln.effective_flow(tanh(), X, Y, lr=0.005, steps=3000, record=5, **noise).theta)
        np.testing.assert_allclose(*paths, rtol=0, atol=1e-5)


class TestPath:
    def test_plain_sgd_on_six_labels_ends_where_it_does(self):
        """Labels y +- std, drawn with replacement, are noise of these standard deviations; the weighted part goes elsewhere."""
        rng = np.random.default_rng(204)
        x, theta = torch.from_numpy(rng.normal(size=(3, 2))), torch.from_numpy(rng.normal(size=12) * 0.9)

        def at_start():
            model = ln.TwoLayerSigmoidal(4, 2)
            vector_to_parameters(theta.clone(), model.parameters())
            return model

        lr, steps, seeds = 0.004, 120_000, 8
        y, delta = at_start()(x).detach(), torch.from_numpy(STD)

        def end(model):
            ln.project_to_zero_error(model, x, y)
            return flat(model).numpy()

        model = at_start()
        ln.effective_flow(model, x, y, lr=lr, noise=UNEQUAL, steps=steps, record=2)
        expected = end(model)
        models = [at_start() for _ in range(seeds)]
        six = dict(x=torch.cat([x, x]), y=torch.cat([y + delta, y - delta]), lr=lr, steps=steps, record=2)
        ln.train_many([dict(model=m, seed=s, **six) for s, m in enumerate(models)], n_jobs=1, progress=False)
        ends = np.array([end(m) for m in models])
        travelled = np.linalg.norm(expected - theta.numpy())
        off = np.linalg.norm(ends.mean(axis=0) - expected) / travelled
        error = np.linalg.norm(ends.std(axis=0, ddof=1)) / seeds**0.5 / travelled
        mean_variance = at_start()
        ln.effective_flow(mean_variance, x, y, lr=lr, noise_std=(STD**2).mean() ** 0.5, steps=steps, record=2)
        assert travelled > 0.3 and error < 0.03
        assert off < 3 * error + 0.02
        assert np.linalg.norm(end(mean_variance) - expected) / travelled > 0.3

    def test_a_motor_turns_at_its_rate(self):
        """Matrix sensing of 2 x 2 with three entries given: no fit is better than another, and the flow goes round."""
        u, turn = torch.tensor([[1.0, 0.0], [0.6, 0.5]]).double(), torch.tensor([[0.0, 1.0], [-1.0, 0.0]]).double()
        x = torch.zeros(3, 2, 2, dtype=torch.float64)
        x[0, 0, 0] = x[1, 0, 1] = x[2, 1, 1] = 1
        model = ln.MatrixSensing(2)
        with torch.no_grad():
            model.u.copy_(u)
        noise, y, lr = ln.LabelNoise(np.array([0.2, 0.2, 0.9])), model(x).detach(), 0.002
        along = (u @ turn).reshape(-1)
        rate = (ln.drift(model, x, lr=lr, noise=noise) @ along / (along @ along)).item()
        steps = round(2 * np.pi / abs(rate))
        run = ln.effective_flow(model, x, y, lr=lr, noise=noise, steps=steps, record=np.linspace(0, steps, 41).astype(int))
        turned = torch.einsum("ij,tik->tjk", u, torch.from_numpy(run.theta).view(-1, 2, 2))
        angle = np.unwrap(torch.atan2(turned[:, 0, 1] - turned[:, 1, 0], turned[:, 0, 0] + turned[:, 1, 1]).numpy())
        # A whole turn, backwards; the point is off the circle by a part of order lr.
        assert angle[-1] == pytest.approx(-2 * np.pi, rel=0.01)
        assert np.abs(run.reg / run.reg[0] - 1).max() < 0.01

    def test_model_that_vmap_cannot_run(self):
        """There the field is evaluated one parameter vector after the other: the same flow."""
        settings = dict(lr=0.01, noise=UNEQUAL, steps=500, record=5, rtol=1e-8, atol=1e-10)
        run, expected = (ln.effective_flow(model, X, Y, **settings) for model in (Looking(tanh()), tanh()))
        np.testing.assert_allclose(run.theta, expected.theta, rtol=0, atol=1e-8)
        assert np.abs(run.theta[-1] - run.theta[0]).max() > 0.1

    def test_several_outputs_and_frozen_parameters(self):
        """Where noise is small it is gradient descent in small steps."""
        y, noise = torch.stack([Y, -Y], dim=1), ln.LabelNoise(np.full((3, 2), 1e-4) * [1, 2])
        models = [ln.MLP([2, 3, 2], "tanh", seed=1) for _ in range(2)]
        for model in models:
            model.layers[0].bias.requires_grad_(False)
        run = ln.effective_flow(models[0], X, y, lr=0.01, noise=noise, steps=200, record=2, rtol=1e-9, atol=1e-11)
        descent = ln.train(models[1], X, y, lr=1e-4, steps=20_000, batch_size=None, record=2, progress=False)
        assert run.theta.shape[1] == 14
        np.testing.assert_allclose(run.theta[-1], descent.theta[-1], rtol=0, atol=2e-4)

    def test_linear_model_goes_to_least_squares(self):
        """There is nothing to bend, and the field is the gradient of the loss."""
        x, y = X.repeat(2, 1), torch.cat([Y, -2 * Y])[:, None]
        linear = nn.Linear(2, 1, dtype=torch.float64)
        model = Looking(linear)  # by either way
        for one in (linear, model):
            with torch.no_grad():
                linear.weight.fill_(1.0)
                linear.bias.fill_(0.5)
            lr, steps = 0.01, 5000
            ln.effective_flow(one, x, y, lr=lr, noise=ln.LabelNoise(np.arange(6.0)), steps=steps)
            assert flat_gradient(loss_of(one, x, y), one).abs().max() < 1e-5

    def test_caller_without_gradients(self):
        settings = dict(lr=0.01, noise=UNEQUAL, steps=100, record=3)
        expected = ln.effective_flow(tanh(), X, Y, **settings)
        with torch.no_grad():
            assert_same_trajectory(ln.effective_flow(tanh(), X, Y, **settings), expected)


def flow_of_tanh(changes):
    arguments = dict(model=tanh(), x=X, y=Y, lr=0.01, noise=UNEQUAL, steps=10)
    return ln.effective_flow(**arguments | changes)


# What is passed instead, the error, and what the message must hold.
BAD_INPUT = {
    "both": (dict(noise_std=1.0), TypeError, "exactly one of noise_std, a number, and noise, a LabelNoise"),
    "neither": (dict(noise=None), TypeError, "exactly one of noise_std"),
    "noise a number": (dict(noise=0.5), TypeError, "noise must be a LabelNoise, got 0.5"),
    "noise frozen": (dict(noise=ln.FrozenNoise(0.5)), TypeError, "noise must be a LabelNoise, got FrozenNoise"),
    "noise for others": (dict(noise=ln.LabelNoise(np.ones(4))), ValueError, r"noise has a std of shape \(4,\)"),
    "batch 4 of 3": (dict(batch_size=4), ValueError, "batch_size must be at most .* 3, got 4"),
    "float32": (dict(model=tanh(dtype=torch.float32)), ValueError, "effective_flow needs a float64 model"),
    "evaluations": (dict(max_evaluations=3), ArithmeticError, "in 3 evaluations of the field"),
    "y of another shape": (dict(y=ONE), ValueError, "same number of examples"),
}

test_bad_input_is_named = refusals(BAD_INPUT, flow_of_tanh)
