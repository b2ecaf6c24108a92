"""The drift of plain SGD at a bent minimum with residuals, by its meaning: one step, then gradient flow back to the minima."""

import numpy as np
import pytest
import torch
from plain import flat, h_of_theta
from scipy.integrate import solve_ivp
from torch import nn

import labelnoise_utils as ln

# The learning rate of the single steps: differences of where they end, exact to 1e-12, are divided by its square.
LR = 4e-3


class BentLine(nn.Module):
    """h = tanh(c W x) for c of 2 numbers and W of 2 by 3.

    The minima are where c W is the best fit: five of the eight dimensions. The labels' gradients turn along them, and
    residuals bend the loss across them, in its Hessian and in its third derivative.
    """

    def __init__(self, seed):
        super().__init__()
        self.p = nn.Parameter(torch.randn(8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))

    def forward(self, x):
        return torch.tanh(self.p[:2] @ self.p[2:].view(2, 3) @ x.T)


@pytest.fixture(scope="module")
def minimum():
    """Eight labels that no c W fits, louder far from the origin; and a minimum."""
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    noise = 0.5 * torch.randn(8, generator=generator, dtype=torch.float64) * (1 + x[:, 0].abs())
    y = torch.tanh(x @ torch.tensor([0.6, -0.4, 0.5], dtype=torch.float64)) + noise
    model = BentLine(11)
    ln.project_to_minimum(model, x, y)
    return model, x, y


def half_gradients(at, x, y):
    """Of every example's squared error at every row of ``at``, (rows, n, 8), written out."""
    c, w = at[:, :2], at[:, 2:].reshape(-1, 2, 3)
    hidden = w @ x.T
    h = np.tanh((c[:, :, None] * hidden).sum(axis=1))
    weights = (h - y) * (1 - h**2)
    by_c = weights[:, None] * hidden
    by_w = weights[:, None, None] * c[:, :, None, None] * x.T
    return np.concatenate([by_c, by_w.reshape(len(at), 6, -1)], axis=1).transpose(0, 2, 1)


def ends(starts, x, y, time):
    """Where gradient flow brings each row."""
    field = lambda _, at: -half_gradients(at.reshape(starts.shape), x, y).mean(axis=1).reshape(-1)  # noqa: E731
    run = solve_ivp(field, (0, time), starts.reshape(-1), method="DOP853", rtol=1e-12, atol=1e-14)
    return run.y[:, -1].reshape(starts.shape)


@pytest.fixture(scope="module")
def by_descent(minimum):
    """Mean way per step over lr^2, along the minima, and what the differences that it is made of may be off.

    Where gradient flow from theta ends moves, per step, by half its second derivative along the step (Katzenberger, 1991). The
    first derivatives add up to 0, as the steps on all examples do.
    """
    model, x, y = minimum
    theta, h = flat(model), h_of_theta(model, x)
    hessian = torch.func.hessian(lambda t: (h(t) - y).square().mean() / 2)(theta)
    values, axes = torch.linalg.eigh(hessian)
    null = axes[:, values < 1e-8 * values[-1]].numpy()
    assert null.shape[1] == 5
    theta, x, y, slowest = theta.numpy(), x.numpy(), y.numpy(), values[5].item()
    steps = -2 * half_gradients(theta[None], x, y)[0]
    moves = np.concatenate([scale * LR * steps for scale in (1, -1, 2, -2)])
    one, minus, two, minus_two = ends(theta + moves, x, y, 32 / slowest).reshape(4, 8, 8)  # e^-32 of a move is left
    near = ((one + minus - 2 * theta) / LR**2).mean(axis=0) / 2
    far = ((two + minus_two - 2 * theta) / (2 * LR) ** 2).mean(axis=0) / 2
    # Both are off by a multiple of LR^2, but for LR^4: a third of their difference is what near is off, and is taken away.
    project = lambda way: null @ (null.T @ way)  # noqa: E731
    return project(near + (near - far) / 3), np.linalg.norm(project(near - far)) / 3


class TestResidualDrift:
    @pytest.mark.parametrize("batch_size", [1, 4])
    def test_is_a_step_and_gradient_flow(self, minimum, by_descent, batch_size):
        expected, error = by_descent
        measured = ln.residual_drift(*minimum, lr=0.1, batch_size=batch_size).numpy() * batch_size / 0.1**2
        assert error < 1e-3 * np.linalg.norm(expected)
        assert np.linalg.norm(measured - expected) < error

    def test_label_noise_as_large_as_the_residuals_leads_elsewhere(self, minimum, by_descent):
        """So the terms with the residual itself, and not its square, are seen above."""
        model, x, y = minimum
        expected, error = by_descent
        noise = ln.LabelNoise((model(x) - y).detach().abs())
        assert np.linalg.norm(ln.drift(model, x, lr=1.0, noise=noise).numpy() - expected) > 100 * error
