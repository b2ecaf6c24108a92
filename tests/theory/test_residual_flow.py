"""The flow along minima with residuals: against its drift, and against plain SGD."""

import math

import numpy as np
import pytest
import torch
from architectures import Looking
from cases import assert_same_trajectory
from plain import flat
from points import POINTS, X, Y, tanh
from refusals import refusals
from torch.nn.utils import vector_to_parameters

import labelnoise_utils as ln

SPREAD = torch.tensor([0.5, -0.2, -0.3], dtype=torch.float64)


def contradictory():
    """Three labels for each example, at a minimum."""
    x, y = X.repeat(3, 1), torch.cat([Y + s for s in SPREAD])
    model = tanh()
    ln.project_to_minimum(model, x, y)
    return model, x, y


class NoisyLine:
    """A two-layer linear network of width 2 on 20 noisy labels: matrix sensing, with the inputs in the first row.

    ``x . (V u)`` for rows u and V of U, which is 4 x 4; two of its columns are 0, and stay so.
    """

    def __init__(self):
        rng = np.random.default_rng(2)
        inputs = rng.normal(size=(20, 3))
        y = inputs @ [1.0, -0.5, 0.8] + rng.normal(size=20) * (1 + 2 * (np.abs(inputs[:, 0]) > 1))
        self.start = rng.normal(size=8)
        fit = inputs @ np.linalg.lstsq(inputs, y)[0]
        self.x = torch.zeros(20, 4, 4, dtype=torch.float64)
        self.x[:, 0, 1:] = torch.from_numpy(inputs)
        self.y, self.fit = torch.from_numpy(y), torch.from_numpy(fit)
        self.variance = np.mean((y - fit) ** 2)

    def model(self):
        model = ln.MatrixSensing(4)
        with torch.no_grad():
            model.u.zero_()
            model.u[:, :2] = torch.from_numpy(self.start).view(4, 2)
        ln.project_to_zero_error(model, self.x, self.fit)
        return model

    def reg(self, model):
        """On the minima: a run ends off them by a part of order lr."""
        ln.project_to_zero_error(model, self.x, self.fit)
        return ln.implicit_regularizer(model, self.x).item()


class TestAgainstSGD:
    def test_plain_sgd_ends_where_the_flow_does_and_label_noise_elsewhere(self):
        line, lr, seeds = NoisyLine(), 0.002, 8
        steps = round(0.5 / lr**2)
        start = line.reg(line.model())
        model = line.model()
        ln.residual_flow(model, line.x, line.y, lr=lr, steps=steps, record=2)
        predicted = line.reg(model)
        model = line.model()
        noise_std = math.sqrt(line.variance)
        ln.effective_flow(model, line.x, line.fit, lr=lr, noise_std=noise_std, steps=steps, record=2)
        label_noise = line.reg(model)
        models = [line.model() for _ in range(seeds)]
        jobs = [dict(model=m, x=line.x, y=line.y, lr=lr, steps=steps, seed=s, record=2) for s, m in enumerate(models)]
        ln.train_many(jobs, n_jobs=1, progress=False)
        regs = np.array([line.reg(m) for m in models])
        error = regs.std(ddof=1) / math.sqrt(seeds)
        assert error < 0.01
        assert abs(regs.mean() - predicted) < 4 * error + 0.01
        assert regs.mean() - label_noise > 10 * error
        assert predicted < 0.6 * start

    def test_full_batch_stays(self):
        line = NoisyLine()
        model = line.model()
        before = flat(model)
        ln.residual_flow(model, line.x, line.y, lr=0.002, steps=100_000, batch_size=None, record=2)
        assert (flat(model) - before).abs().max() < 1e-8
        ln.train(model, line.x, line.y, lr=0.002, steps=10_000, batch_size=None, record=2, progress=False)
        assert (flat(model) - before).abs().max() < 1e-8


class TestField:
    @pytest.mark.parametrize("batch_size", [1, 3])
    def test_first_step_along_the_minima_is_the_drift(self, batch_size):
        model, x, y = contradictory()
        project, lr = ln.linearize(model, X).project_tangent, 1e-4
        drift = ln.residual_drift(model, x, y, lr=lr, batch_size=batch_size)
        settings = dict(batch_size=batch_size, steps=1, record=[0, 1], rtol=1e-10, atol=1e-15)
        run = ln.residual_flow(model, x, y, lr=lr, **settings)
        moved = project(torch.from_numpy(run.theta[1] - run.theta[0]))
        torch.testing.assert_close(moved, drift, rtol=0, atol=0.01 * drift.norm().item())
        assert drift.norm() > 1e-10

    @pytest.mark.parametrize("name", POINTS)
    def test_two_labels_are_label_noise(self, name):
        """The same path as with noise of that standard deviation, up to what the flows differ by off the minima."""
        ends, travelled = [], 0.0
        for lr in (0.004, 0.002):
            model, x, y = POINTS[name]()
            start = flat(model)
            x2, y2 = torch.cat([x, x]), torch.cat([y + 0.5, y - 0.5])
            steps = round(1 / lr**2)
            ln.residual_flow(model, x2, y2, lr=lr, steps=steps, record=2)
            ln.project_to_zero_error(model, x, y)
            other = POINTS[name]()[0]
            ln.effective_flow(other, x, y, lr=lr, noise_std=0.5, steps=steps, record=2)
            ln.project_to_zero_error(other, x, y)
            ends.append((flat(model) - flat(other)).norm().item())
            travelled = (flat(other) - start).norm().item()
        assert travelled > 0.1
        assert ends[1] < 0.05 * travelled
        # Linear in lr, where it is more than what the solver's tolerance leaves.
        assert ends[1] < 0.75 * ends[0] or ends[1] < 1e-5

    def test_model_that_vmap_cannot_run(self):
        """There the field is evaluated one parameter vector after the other: the same flow."""
        model, x, y = contradictory()
        theta = flat(model)
        settings = dict(lr=0.005, steps=5000, record=5, rtol=1e-8, atol=1e-10)
        other = Looking(tanh())
        vector_to_parameters(theta, other.parameters())
        run = ln.residual_flow(model, x, y, **settings)
        np.testing.assert_allclose(ln.residual_flow(other, x, y, **settings).theta, run.theta, rtol=0, atol=1e-7)
        assert np.abs(run.theta[-1] - run.theta[0]).max() > 1e-3

    def test_run(self):
        model, x, y = contradictory()
        start = flat(model).numpy()
        run = ln.residual_flow(model, x, y, lr=0.005, steps=1000, record=7)
        assert (run.engine, run.steps, len(run.step)) == ("flow", 1000, 7)
        np.testing.assert_allclose(run.theta[0], start, rtol=0, atol=1e-15)
        np.testing.assert_array_equal(run.theta[-1], flat(model))
        with torch.no_grad():
            model, x, y = contradictory()
            assert_same_trajectory(ln.residual_flow(model, x, y, lr=0.005, steps=1000, record=7), run)


def flow_of_contradictory(changes):
    model, x, y = contradictory()
    return ln.residual_flow(**dict(model=model, x=x, y=y, lr=0.01, steps=10) | changes)


# What is passed instead, the error, and what the message must hold.
BAD_INPUT = {
    "no minimum": (dict(model=tanh()), ValueError, "theta is no minimum of the mean squared error"),
    "lr 0": (dict(lr=0), ValueError, "lr must be positive, got 0"),
    "steps 0": (dict(steps=0), ValueError, "steps must be at least 1, got 0"),
    "batch 10 of 9": (dict(batch_size=10), ValueError, "batch_size must be at most .* 9, got 10"),
    "rtol 0": (dict(rtol=0), ValueError, "rtol must be positive, got 0"),
    "tol 1": (dict(tol=1), ValueError, r"tol must be in \[0, 1\), got 1"),
    "float32": (dict(model=tanh(dtype=torch.float32)), ValueError, "residual_flow needs a float64 model"),
    "evaluations": (dict(max_evaluations=3), ArithmeticError, "in 3 evaluations of the field"),
    "y of another shape": (dict(y=Y), ValueError, "same number of examples"),
}

test_bad_input_is_named = refusals(BAD_INPUT, flow_of_contradictory)
