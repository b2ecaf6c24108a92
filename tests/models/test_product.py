"""H = u v: the formula, and the exact law of u^2 - v^2 under label noise."""

import math

import numpy as np
import pytest
import torch
from plain import flat

import labelnoise_utils as ln


class TestProduct:
    def test_formula(self):
        model = ln.Product(3.0, -2.0)
        assert model(torch.zeros(4, 5)).tolist() == [-6.0] * 4
        assert [name for name, _ in model.named_parameters()] == ["u", "v"]

    def test_dtype(self):
        assert ln.Product().u.dtype == torch.float64
        assert ln.Product(dtype=torch.float32)(torch.zeros(1)).dtype == torch.float32


class TestSmallestModel:
    """H = u v: s = u^2 - v^2 obeys s <- s (1 - g^2), g = 2 lr (u v - y - Z), exactly."""

    @pytest.mark.parametrize("engine", ["compiled", "torch"])
    @pytest.mark.parametrize("kind", ["rademacher", "uniform", "gaussian"])
    @pytest.mark.parametrize("batch_size", [1, 4])
    def test_law_step_by_step(self, engine, kind, batch_size):
        """With a batch Z is the mean of its draws."""
        n, steps, lr, label = 5, 300, 0.05, 0.7
        noise = ln.LabelNoise(0.8, kind)
        x, y = torch.zeros(n, dtype=torch.float64), torch.full((n,), label, dtype=torch.float64)
        run = ln.train(
            ln.Product(1.5, 0.3),
            x,
            y,
            lr=lr,
            steps=steps,
            noise=noise,
            batch_size=batch_size,
            seed=11,
            record=range(steps + 1),
            engine=engine,
            progress=False,
        )
        (_, z), *rest = ln.sgd_draws(n, steps, noise=noise, batch_size=batch_size, seed=11)
        assert not rest
        u, v = run.theta.T
        g = 2 * lr * (u[:-1] * v[:-1] - label - z.mean(axis=1))
        s = u**2 - v**2
        scale = (u**2 + v**2)[:-1]
        np.testing.assert_allclose(s[1:], s[:-1] * (1 - g**2), rtol=0, atol=1e-12 * scale.max())
        assert abs(s[-1] / s[0] - 1) > 0.1, "the law should have had something to do"

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("batch_size", [1, 4])
    @pytest.mark.parametrize("std", [0.5, 1.0, 2.0])
    def test_rate_of_decay_is_the_variance_of_the_noise(self, std, batch_size, seed):
        """The mean of g^2 is 4 lr^2 (std^2 / B + E e^2).

        And 0 < E e^2 <= lr R std^2 / B / (1 - lr R).

        R = u^2 + v^2 is largest at the start. The standard error is that of the mean of g^2: the
        square of a mean of B Rademacher draws varies by sqrt(2 - 2 / B) of itself, and the term
        2 e Z by twice the ratio of their standard deviations.
        """
        lr, steps = 0.001, 400_000
        x, y = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
        run = ln.train(
            ln.Product(2.0, 0.5),
            x,
            y,
            lr=lr,
            steps=steps,
            noise=ln.LabelNoise(std),
            batch_size=batch_size,
            seed=seed,
            progress=False,
        )
        s = run.theta[:, 0] ** 2 - run.theta[:, 1] ** 2
        rate = -math.log(s[-1] / s[0]) / steps
        stiffness = lr * 1.2 * run.reg.max()
        error = math.sqrt((2 - 2 / batch_size + 4 * stiffness) / steps)
        ratio = rate / (4 * lr**2 * std**2 / batch_size)
        assert 1 - 5 * error < ratio < 1 / (1 - stiffness) + 5 * error
        assert 1 / (1 - stiffness) + 5 * error < 1.05, "the bounds should tell 1 from 1/B or sigma"

    @pytest.mark.parametrize("engine", ["compiled", "torch"])
    @pytest.mark.parametrize("batch_size", [1, 4, None])
    @pytest.mark.parametrize("noise", [None, ln.LabelNoise(0.0, "gaussian")])
    def test_without_noise_nothing_moves_at_zero_error(self, engine, batch_size, noise):
        u, v = 1.7, 0.3
        model = ln.Product(u, v)
        x, y = torch.zeros(4, dtype=torch.float64), torch.full((4,), u * v, dtype=torch.float64)
        ln.train(
            model,
            x,
            y,
            lr=0.1,
            steps=500,
            noise=noise,
            batch_size=batch_size,
            engine=engine,
            progress=False,
        )
        assert flat(model).tolist() == [u, v]
