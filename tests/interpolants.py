"""Data to interpolate, the price of a kink from its definition, and what every interpolant must fulfil."""

import math

import numpy as np
import pytest
import torch

import labelnoise_utils as ln


def price(x, k):
    """Least reg of a unit with kink k and jump 1 on points x, straight from the definition."""
    ways = []
    for active in (x[x > k], x[x < k]):
        P, Q = sum((active - k) ** 2), sum(1 + active**2)
        ways.append(2 / len(x) * math.sqrt(P * Q))
    return min(ways)


def random_data(seed):
    """5 to 30 points; inputs uniform, Gaussian or with heavy tails, labels rough, smooth or convex."""
    rng = np.random.default_rng(seed)
    n = rng.integers(5, 31)
    scale = [1.0, 10.0, 100.0][seed % 3]
    x = scale * [rng.uniform(-1, 1, n), rng.normal(size=n), rng.standard_cauchy(n)][seed // 3 % 3]
    y = [rng.normal(size=n), np.sin(3 * x / scale), (x / scale) ** 2][seed // 9 % 3]
    return torch.from_numpy(x), torch.from_numpy(y)


def sizes_at(f, x):
    """Size of the terms that f(x) is a sum of: what rounding is relative to."""
    terms = torch.relu(x[:, None] - f.kinks) * f.jumps
    units = torch.relu(torch.outer(x, f.model.a) + f.model.b) * f.model.c
    model = (units.abs().sum(1) + (f.model.a0 * x).abs() + f.model.b0.abs()).detach()
    return torch.maximum(terms.abs().sum(1) + (f.slope * x).abs() + abs(f.intercept), model).max().item()


def assert_fits(f, x, y):
    """Function and network go through the points, and the network's reg is the programme's value."""
    x, y = x.double(), y.double()
    size = sizes_at(f, x) + y.abs().max().item()
    with torch.no_grad():
        assert (f(x) - y).abs().max().item() <= 1e-12 * size
        assert (f.model(x) - y).abs().max().item() <= 1e-12 * size
        t = torch.linspace(x.min().item(), x.max().item(), 501, dtype=torch.float64)
        assert (f(t) - f.model(t)).abs().max().item() <= 1e-12 * size
    assert ln.implicit_regularizer(f.model, x).item() == pytest.approx(f.reg, rel=1e-9)


def cloud(n, d, seed):
    """Gaussian points and labels."""
    rng = np.random.default_rng([n, d, seed])
    return torch.from_numpy(rng.normal(size=(n, d))), torch.from_numpy(rng.normal(size=n))


def grid(side, d, seed):
    """All points of a grid around 0, with labels -1, 0 and 1."""
    cells = np.stack(np.meshgrid(*[np.arange(side) - (side - 1) / 2] * d), axis=-1).reshape(-1, d)
    return torch.from_numpy(cells), torch.from_numpy(np.random.default_rng(seed).integers(-1, 2, len(cells)).astype(float))


def assert_least(f, x, y, gap=1e-6):
    """The network goes through the points, its reg is what it says, and no network can have much less."""
    x, y = x.double(), y.double()
    with torch.no_grad():
        assert (f.model(x) - y).abs().max().item() <= 1e-7 * (y.max() - y.min()).item() + 1e-13 * y.abs().max().item()
    assert ln.implicit_regularizer(f.model, x).item() == pytest.approx(f.reg, rel=1e-9)
    assert 0 <= f.reg - f.lower_bound <= gap * f.reg
    assert f.certified or gap > 1e-6
    for unit in f.units:
        heights = x @ unit.normal + unit.offset
        assert unit.active.any()
        assert torch.where(unit.active, -heights, heights).max() <= 1e-12 * (x.abs().max() + abs(unit.offset))
