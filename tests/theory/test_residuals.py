"""Plain SGD where residuals are left: the drift written out, two labels as label noise, and what is refused."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from plain import flat, h_of_theta
from points import ONE, POINTS, Deep, X, Y, poisoned, tanh
from refusals import refusals
from torch import nn

import labelnoise_utils as ln

NAN = math.nan
STD = torch.tensor([1.0, 0.2, 0.5], dtype=torch.float64)


def noisy_line(seed=2, n=20):
    """Twenty noisy labels of a two-layer linear network, that of MatrixSensing, at one of its minima.

    A measurement that holds an input in its first row and column reads ``x . X[0, 1:]``, which is ``x . (V u)`` for rows u
    and V of U.
    """
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(n, 3))
    y = torch.from_numpy(inputs @ [1.0, -0.5, 0.8] + rng.normal(size=n) * (1 + 2 * (np.abs(inputs[:, 0]) > 1)))
    x = torch.zeros(n, 4, 4, dtype=torch.float64)
    x[:, 0, 1:] = torch.from_numpy(inputs)
    model = ln.MatrixSensing(4, init="gaussian", seed=1)
    ln.project_to_minimum(model, x, y)
    return model, x, y


class Saturating(nn.Module):
    """h = tanh(u v x), whose minima for any labels are hyperbolas u v = constant; bent in u v too, so that T counts."""

    def __init__(self):
        super().__init__()
        self.u, self.v = (nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in (1.5, 0.4))

    def forward(self, x):
        return torch.tanh(self.u * self.v * x)


def saturating():
    x, y = torch.tensor([0.5, 1.0, 2.0, 3.0]).double(), torch.tensor([0.6, 0.2, 0.9, 0.7]).double()
    model = Saturating()
    ln.project_to_minimum(model, x, y)
    return model, x, y


def contradictory_outputs():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(3, 2, generator=generator, dtype=torch.float64)[[0, 1, 2, 0, 1, 2, 0]]
    y = torch.randn(7, 2, generator=generator, dtype=torch.float64) / 2
    model = ln.MLP([2, 3, 2], "tanh", seed=4, bias_std=1.0)
    ln.project_to_minimum(model, x, y)
    return model, x, y


MINIMA = {"linear": noisy_line, "outputs": contradictory_outputs, "saturating": saturating}


def written_out(model, x, y, lr, batch_size):
    """-(2 lr / n) P sum_a (H_a X g_a + r_a T_a[X] / 2 + g_a tr(H_a X) / 2), by dense derivatives of every label."""
    theta, h, n = flat(model), h_of_theta(model, x), len(x)
    labels = lambda t: h(t).reshape(-1)  # noqa: E731
    r = labels(theta) - y.reshape(-1)
    g, hessians = torch.func.jacrev(labels)(theta), torch.func.hessian(labels)(theta)
    third = torch.func.jacfwd(torch.func.hessian(labels))(theta)
    hessian = (g.T @ g + torch.einsum("a,apq->pq", r, hessians)) / n
    pulls = (r[:, None] * g).reshape(n, -1, len(theta)).sum(dim=1)
    values, axes = torch.linalg.eigh(hessian)
    steep = axes[:, values > 1e-6 * values[-1]]
    small = (steep.T @ hessian @ steep).numpy(), (steep.T @ pulls.T @ pulls @ steep).numpy() / n
    cloud = scipy.linalg.solve_continuous_lyapunov(small[0], 2 * lr / batch_size * small[1])
    cloud = steep @ torch.from_numpy(cloud) @ steep.T
    parts = [
        torch.einsum("apq,qs,as->p", hessians, cloud, g),
        torch.einsum("a,apqs,qs->p", r, third, cloud) / 2,
        torch.einsum("ap,aqs,qs->p", g, hessians, cloud) / 2,
    ]
    return [-2 * lr / n * (part - steep @ (steep.T @ part)) for part in parts]


class TestResidualDrift:
    @pytest.mark.parametrize("batch_size", [1, 4])
    @pytest.mark.parametrize("name", MINIMA)
    def test_written_out(self, name, batch_size):
        model, x, y = MINIMA[name]()
        parts = written_out(model, x, y, 0.01, batch_size)
        expected = sum(parts)
        measured = ln.residual_drift(model, x, y, lr=0.01, batch_size=batch_size)
        torch.testing.assert_close(measured, expected, rtol=0, atol=1e-8 * expected.norm().item())
        # The function does not change along these minima, and the last part has none along them.
        assert parts[2].norm() < 1e-8 * expected.norm()
        # Where the residuals of an example's labels, or of a linear function's, add up to 0, so do their third derivatives.
        assert (parts[1].norm() > 0.01 * expected.norm()) == (name == "saturating")

    @pytest.mark.parametrize("name", POINTS)
    def test_two_labels_are_label_noise(self, name):
        """Labels y + s and y - s: exactly the drift of label noise of variance s^2, equal or not."""
        model, x, y = POINTS[name]()
        both = torch.cat([x, x])
        for std in (torch.full((len(y),), 0.3, dtype=torch.float64), STD[: len(y)]):
            measured = ln.residual_drift(model, both, torch.cat([y + std, y - std]), lr=0.01, batch_size=2)
            expected = ln.drift(model, x, lr=0.01, noise=ln.LabelNoise(std), batch_size=2)
            torch.testing.assert_close(measured, expected, rtol=0, atol=1e-7 * expected.norm().item())
            assert expected.norm() > 1e-7

    def test_full_batch_and_zero_error_have_none(self):
        model, x, y = noisy_line()
        assert ln.residual_drift(model, x, y, lr=0.01, batch_size=None).abs().max() == 0
        model, x, y = POINTS["tanh"]()
        assert ln.residual_drift(model, x, y, lr=0.01).norm() < 1e-20
        assert ln.residual_drift(Deep(), ONE, 0 * ONE, lr=0.01).tolist() == [0, 0, 0]

    def test_a_single_minimum_has_none(self):
        x, y = X.repeat(2, 1), torch.cat([Y, -2 * Y])[:, None]
        model = nn.Linear(2, 1, bias=False, dtype=torch.float64)
        ln.project_to_minimum(model, x, y)
        assert ln.residual_drift(model, x, y, lr=0.1).abs().max() == 0

    def test_scales(self):
        model, x, y = noisy_line()
        one = ln.residual_drift(model, x, y, lr=0.01)
        for factor, changed in ((9, dict(lr=0.03)), (1 / 5, dict(batch_size=5))):
            other = ln.residual_drift(model, x, y, **dict(lr=0.01) | changed)
            torch.testing.assert_close(other, factor * one, rtol=0, atol=1e-9 * factor * one.norm().item())

    @pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
    def test_callers_mode_changes_nothing(self, mode):
        model, x, y = noisy_line()
        expected = ln.residual_drift(model, x, y, lr=0.01)
        with mode():
            assert torch.equal(ln.residual_drift(model, x, y, lr=0.01), expected)


class Around(nn.Module):
    """h = (1 + rho^2) cos phi and (1 + rho^2) sin phi on two examples: with labels 0, every phi is a minimum."""

    def __init__(self):
        super().__init__()
        self.rho, self.phi = (nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in (0.0, 0.6))

    def forward(self, x):
        return (1 + self.rho**2) * torch.cos(self.phi - x)


QUARTER = torch.tensor([0.0, math.pi / 2], dtype=torch.float64)
LINE = noisy_line()
BAD_INPUT = {
    "no minimum": (
        lambda: ln.residual_drift(tanh(), X, Y, lr=0.1),
        ValueError,
        r"theta is no minimum of the mean squared error: .* project_to_minimum\(model, x, y\) moves to one",
    ),
    "a saddle": (
        lambda: ln.residual_drift(ln.Product(0.0, 0.0), ONE, ONE, lr=0.1),
        ValueError,
        "theta is no minimum of the mean squared error: its Hessian has the eigenvalue -1",
    ),
    "a saddle without curvature": (
        lambda: ln.residual_drift(Deep(), ONE, ONE, lr=0.1, batch_size=None),
        ValueError,
        "theta may be a saddle: its Hessian is 0, and a mean squared error of 1 is left; move theta a little",
    ),
    "float32": (
        lambda: ln.residual_drift(tanh(dtype=torch.float32), X.float(), Y, lr=0.1),
        ValueError,
        r"residual_drift needs a float64 model, got torch.float32: call model.double\(\)",
    ),
    "diffusion": (
        lambda: ln.residual_drift(Around(), QUARTER, 0 * QUARTER, lr=0.1),
        ValueError,
        "plain SGD diffuses along the minima, by forces of",
    ),
    "lr 0": (lambda: ln.residual_drift(*LINE, lr=0), ValueError, "lr must be positive, got 0"),
    "batch 0": (lambda: ln.residual_drift(*LINE, lr=0.1, batch_size=0), ValueError, "batch_size must be at least 1, got 0"),
    "batch 1.5": (lambda: ln.residual_drift(*LINE, lr=0.1, batch_size=1.5), TypeError, "batch_size must be an integer"),
    "tol 1": (lambda: ln.residual_drift(*LINE, lr=0.1, tol=1), ValueError, r"tol must be in \[0, 1\), got 1"),
    "tol NaN": (lambda: ln.residual_drift(*LINE, lr=0.1, tol=NAN), ValueError, "tol must be finite, got nan"),
    "theta NaN": (lambda: ln.residual_drift(poisoned(), X, Y, lr=0.1), ValueError, r"model\(x\) is not finite"),
    "y of another shape": (lambda: ln.residual_drift(tanh(), X, Y[:2], lr=0.1), ValueError, "y must have the shape of"),
}

test_bad_input_is_named = refusals(BAD_INPUT)
