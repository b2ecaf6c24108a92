"""The cloud of one parameter around a zero-error point: closed forms and recursions written out."""

import math

import numpy as np
import pytest
from refusals import refusals

import labelnoise_utils as ln

NAN, INF = math.nan, math.inf


# The call, the error, and what the message must hold.
OU = dict(lr=0.1, noise_std=1.0)


class TestStationaryVariance:
    def test_values(self):
        assert ln.stationary_variance(lr=0.01, noise_std=0.5) == 0.0025
        assert ln.stationary_variance(0.02, 3.0, 6) == pytest.approx(0.02 * 9 / 6, rel=1e-15)
        assert ln.stationary_variance(0.01, 0) == 0

    @pytest.mark.parametrize("gamma", [0.1, 1.0, 5.0])
    def test_is_the_stationary_law_up_to_lr_gamma(self, gamma):
        lr = 1e-4
        _, variance = ln.ornstein_uhlenbeck(gamma, lr=lr, noise_std=0.7, batch_size=2)
        ratio = variance / ln.stationary_variance(lr, 0.7, 2)
        assert ratio == pytest.approx(1 / (1 - lr * gamma), rel=1e-14)


class TestOrnsteinUhlenbeck:
    @pytest.mark.parametrize("steps", [0, 1, 2, 7, 1000])
    @pytest.mark.parametrize("gamma, lr", [(1.0, 0.01), (3.0, 0.3), (1.0, 0.5), (1e-6, 0.01), (0.0, 0.1)])
    def test_moments_iterated_one_by_one(self, gamma, lr, steps):
        start, std, batch_size = (1.5, 0.3), 0.7, 3
        mean, variance = start
        q = 1 - 2 * lr * gamma
        for _ in range(steps):
            mean, variance = q * mean, q**2 * variance + 4 * lr**2 * gamma * std**2 / batch_size
        arguments = dict(lr=lr, noise_std=std, steps=steps, batch_size=batch_size)
        found = ln.ornstein_uhlenbeck(gamma, mean=start[0], variance=start[1], **arguments)
        assert found == pytest.approx((mean, variance), rel=1e-12, abs=1e-300)

    def test_slow_direction_without_cancellation(self):
        lr, gamma, steps = 1e-4, 1e-9, 5
        _, variance = ln.ornstein_uhlenbeck(gamma, lr=lr, noise_std=1.0, steps=steps)
        assert variance == pytest.approx(steps * 4 * lr**2 * gamma, rel=1e-11)

    def test_for_ever_is_the_limit_and_stays(self):
        arguments = dict(lr=0.05, noise_std=0.7, batch_size=2)
        mean, variance = ln.ornstein_uhlenbeck(2.0, mean=1.0, variance=3.0, **arguments)
        assert mean == 0
        late = ln.ornstein_uhlenbeck(2.0, steps=10_000, mean=1.0, variance=3.0, **arguments)
        assert late == pytest.approx((0, variance), rel=1e-14)
        assert ln.ornstein_uhlenbeck(2.0, steps=1, variance=variance, **arguments)[1] == pytest.approx(variance, rel=1e-14)

    @pytest.mark.parametrize("steps", [0, 10, INF, np.float64(INF)])
    def test_flat_direction_stays(self, steps):
        assert ln.ornstein_uhlenbeck(0, lr=0.1, noise_std=1.0, steps=steps, mean=2.0, variance=0.5) == (2.0, 0.5)

    @pytest.mark.parametrize("steps", [10**20, 10**400], ids=["10^20", "10^400"])
    def test_more_steps_than_a_float_can_tell_apart(self, steps):
        arguments = dict(lr=0.05, noise_std=0.7, mean=1.0, variance=3.0)
        assert ln.ornstein_uhlenbeck(2.0, steps=steps, **arguments) == ln.ornstein_uhlenbeck(2.0, **arguments)
        assert ln.ornstein_uhlenbeck(0.0, steps=steps, **arguments) == (1.0, 3.0)

    def test_no_steps(self):
        assert ln.ornstein_uhlenbeck(1.0, lr=0.1, noise_std=1.0, steps=0, mean=2.0, variance=0.5) == (2.0, 0.5)

    @pytest.mark.parametrize("steps", [3, 40, 1000])
    @pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
    def test_cloud_of_sgd_runs_on_a_linear_model(self, steps, kind):
        """h = slope theta, label 0: equation (5) written out for 4000 runs."""
        runs, slope, lr, std, batch_size = 4000, 1.3, 0.03, 0.6, 2
        rng, noise = np.random.default_rng(7), ln.LabelNoise(std, kind)
        theta = np.full(runs, 0.4)
        for _ in range(steps):
            z = noise.draw(rng, (runs, batch_size)).mean(axis=1)
            theta -= 2 * lr * (slope * theta - z) * slope
        arguments = dict(lr=lr, noise_std=std, steps=steps, batch_size=batch_size)
        mean, variance = ln.ornstein_uhlenbeck(slope**2, mean=0.4, **arguments)
        assert abs(theta.mean() - mean) < 4 * math.sqrt(variance / runs)
        # The variance of a sample variance is at most that of a normal law here.
        assert abs(theta.var() / variance - 1) < 4 * math.sqrt(2 / runs)


BAD_INPUT = {
    "lr 0": (lambda: ln.stationary_variance(0, 1), ValueError, "lr must be positive, got 0"),
    "lr text": (lambda: ln.stationary_variance("a", 1), TypeError, "lr must be a number, got 'a'"),
    "batch 0": (lambda: ln.stationary_variance(0.1, 1, 0), ValueError, "batch_size must be at least 1, got 0"),
    "gamma 10": (lambda: ln.ornstein_uhlenbeck(10, **OU), ValueError, r"gamma must be in \[0, 1 / lr\), got 10 for lr 0.1"),
    "gamma negative": (lambda: ln.ornstein_uhlenbeck(-1, **OU), ValueError, r"gamma must be in .* got -1"),
    "steps -1": (lambda: ln.ornstein_uhlenbeck(1, steps=-1, **OU), ValueError, "steps must be at least 0, got -1"),
    "steps 1.5": (lambda: ln.ornstein_uhlenbeck(1, steps=1.5, **OU), TypeError, "steps must be an integer, got 1.5"),
    "steps NaN": (lambda: ln.ornstein_uhlenbeck(1, steps=NAN, **OU), TypeError, "steps must be an integer, got nan"),
    "steps an array": (
        lambda: ln.ornstein_uhlenbeck(1, steps=np.arange(3), **OU),
        TypeError,
        "steps must be an integer, got array",
    ),
    "variance negative": (
        lambda: ln.ornstein_uhlenbeck(1, variance=-1, **OU),
        ValueError,
        "variance must be at least 0, got -1",
    ),
    "mean infinite": (lambda: ln.ornstein_uhlenbeck(1, mean=INF, **OU), ValueError, "mean must be finite, got inf"),
}

test_bad_input_is_named = refusals(BAD_INPUT)
