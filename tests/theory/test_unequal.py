"""The cloud under unequal noise: the Lyapunov equation, the recursion iterated, and runs of SGD."""

import math

import numpy as np
import pytest
import torch
from points import ONE, POINTS, X, poisoned, tanh
from refusals import refusals
from torch.utils.data import DataLoader

import labelnoise_utils as ln
from labelnoise_utils.theory.noise_covariance import noise_covariance

NAN = math.nan
UNEQUAL = ln.LabelNoise(np.array([1.0, 0.2, 0.5]))
CORRELATED = ln.LabelNoise(None, covariance=np.array([[1.0, 0.6, -0.3], [0.6, 0.8, 0.1], [-0.3, 0.1, 0.5]]))
NOISES = {"unequal": UNEQUAL, "correlated": CORRELATED}
LAW = dict(lr=0.02, noise=UNEQUAL)


def two_outputs():
    """Five examples of two outputs, so eight parameters cannot tell their ten labels apart: K is singular."""
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return ln.MLP([2, 1, 2], "tanh", seed=3, bias_std=1.0), x, ln.LabelNoise(np.tile([1.0, 0.1], (5, 1)))


def parts(model, x, noise, batch_size):
    """H and the covariance of the force, (p, p) each."""
    line = ln.linearize(model, x)
    s = noise_covariance(noise, len(x), len(line.jacobian) // len(x), batch_size)
    j = line.jacobian
    return j.T @ j / len(x), j.T @ s @ j / len(x), line


class TestStationaryCovariance:
    @pytest.mark.parametrize("batch_size", [1, 2, None])
    @pytest.mark.parametrize("noise", NOISES)
    def test_a_step_leaves_it_unchanged(self, noise, batch_size):
        """To leading order: H X + X H = 2 lr Cov(force), and nothing along the tangent space."""
        model, x, _ = POINTS["tanh"]()
        h, force, line = parts(model, x, NOISES[noise], batch_size)
        cloud = ln.stationary_covariance(model, x, lr=0.02, noise=NOISES[noise], batch_size=batch_size)
        scale = cloud.abs().max()
        assert (h @ cloud + cloud @ h - 2 * 0.02 * force).abs().max() < 1e-12 * scale
        assert line.project_tangent(cloud).abs().max() < 1e-13 * scale
        assert (cloud - cloud.T).abs().max() < 1e-15 and torch.linalg.eigvalsh(cloud)[0] > -1e-15

    def test_where_gradients_depend_on_each_other(self):
        model, x, noise = two_outputs()
        h, force, line = parts(model, x, noise, 1)
        assert len(line.gamma) < len(line.jacobian)
        cloud = ln.stationary_covariance(model, x, lr=0.02, noise=noise)
        assert (h @ cloud + cloud @ h - 2 * 0.02 * force).abs().max() < 1e-12 * cloud.abs().max()

    @pytest.mark.parametrize("name", POINTS)
    def test_equal_noise_makes_it_round(self, name):
        model, x, _ = POINTS[name]()
        normal = ln.linearize(model, x).normal
        expected = ln.stationary_variance(0.02, 0.7, 3) * normal @ normal.T
        for std in (0.7, np.full(len(x), 0.7)):
            cloud = ln.stationary_covariance(model, x, lr=0.02, noise=ln.LabelNoise(std), batch_size=3)
            torch.testing.assert_close(cloud, expected, rtol=0, atol=1e-14)

    def test_examples_that_cannot_be_told_apart_share_their_variance(self):
        """H = u v for both: a step feels the mean variance."""
        x = torch.zeros(2, dtype=torch.float64)
        cloud = ln.stationary_covariance(ln.Product(2.0, 0.5), x, lr=0.02, noise=ln.LabelNoise(np.array([1.0, 0.2])))
        equal = ln.stationary_covariance(ln.Product(2.0, 0.5), x, lr=0.02, noise=ln.LabelNoise(math.sqrt(0.52)))
        torch.testing.assert_close(cloud, equal, rtol=0, atol=1e-16)


class TestCloudAfterSomeSteps:
    @pytest.mark.parametrize("steps", [0, 1, 2, 7, 1000])
    @pytest.mark.parametrize("lr", [0.02, 0.4])
    @pytest.mark.parametrize("noise", NOISES)
    def test_recursion_iterated(self, noise, lr, steps):
        model, x, _ = POINTS["tanh"]()
        h, force, line = parts(model, x, NOISES[noise], 2)
        lr = lr if lr < 0.1 else 0.9 / line.gamma[0].item()  # there a step overshoots: 1 - 2 lr gamma = -0.8
        rng = np.random.default_rng(0)
        mean, root = torch.from_numpy(rng.normal(size=17)), torch.from_numpy(rng.normal(size=(17, 17)))
        covariance = root @ root.T
        law = dict(lr=lr, noise=NOISES[noise], batch_size=2, mean=mean, covariance=covariance)
        found = ln.ornstein_uhlenbeck_cloud(model, x, steps=steps, **law)
        step = torch.eye(17, dtype=torch.float64) - 2 * lr * h
        for _ in range(steps):
            mean, covariance = step @ mean, step @ covariance @ step + 4 * lr**2 * force
        for measured, expected in zip(found, (mean, covariance), strict=True):
            torch.testing.assert_close(measured, expected, rtol=0, atol=1e-11)

    def test_for_ever_is_the_limit_and_nearly_the_lyapunov_cloud(self):
        model, x, _ = POINTS["tanh"]()
        gamma = ln.linearize(model, x).gamma
        lr = 1e-4
        mean, cloud = ln.ornstein_uhlenbeck_cloud(model, x, lr=lr, noise=UNEQUAL)
        late = ln.ornstein_uhlenbeck_cloud(model, x, lr=lr, noise=UNEQUAL, steps=10**7)[1]
        torch.testing.assert_close(cloud, late, rtol=0, atol=1e-18)
        assert mean.abs().max() == 0
        leading = ln.stationary_covariance(model, x, lr=lr, noise=UNEQUAL)
        # Between 1 and 1 / (1 - lr gamma) for each pair of directions.
        assert 0 < (cloud - leading).norm() < 2 * lr * gamma[0] * leading.norm()

    @pytest.mark.parametrize("steps", [10**20, 10**400], ids=["10^20", "10^400"])
    def test_more_steps_than_a_float_can_tell_apart(self, steps):
        model, x, _ = POINTS["tanh"]()
        start = dict(mean=torch.ones(17, dtype=torch.float64), covariance=torch.eye(17, dtype=torch.float64))
        late, ever = (ln.ornstein_uhlenbeck_cloud(model, x, steps=s, **LAW, **start) for s in (steps, math.inf))
        for measured, expected in zip(late, ever, strict=True):
            torch.testing.assert_close(measured, expected, rtol=0, atol=1e-15)

    @pytest.mark.parametrize("steps", [3, math.inf])
    def test_equal_noise_is_the_law_of_one_direction(self, steps):
        model, x, _ = POINTS["tanh"]()
        line = ln.linearize(model, x)
        _, cloud = ln.ornstein_uhlenbeck_cloud(model, x, lr=0.02, noise=ln.LabelNoise(0.7), steps=steps, batch_size=2)
        for gamma, direction in zip(line.gamma.tolist(), line.normal.T, strict=True):
            _, variance = ln.ornstein_uhlenbeck(gamma, lr=0.02, noise_std=0.7, steps=steps, batch_size=2)
            assert (direction @ cloud @ direction).item() == pytest.approx(variance, rel=1e-12)

    def test_start_along_the_manifold_stays(self):
        model, x, _ = POINTS["tanh"]()
        tangent = ln.linearize(model, x).project_tangent(torch.ones(17, dtype=torch.float64))
        law = dict(lr=0.02, noise=UNEQUAL, mean=tangent, covariance=torch.outer(tangent, tangent))
        mean, cloud = ln.ornstein_uhlenbeck_cloud(model, x, **law)
        torch.testing.assert_close(mean, tangent, rtol=0, atol=1e-13)
        alone = ln.ornstein_uhlenbeck_cloud(model, x, lr=0.02, noise=UNEQUAL)[1]
        torch.testing.assert_close(cloud - alone, torch.outer(tangent, tangent), rtol=0, atol=1e-12)

    @pytest.mark.parametrize("noise", NOISES)
    def test_runs_on_a_linear_model(self, noise):
        """Full-batch steps of 4000 runs, written out: there is no choice of examples, and the law is exact."""
        rng, lr, runs, steps = np.random.default_rng(7), 0.05, 4000, 25
        a = np.array([[1.0, 0.5, 0.2], [0.3, -1.0, 0.4], [0.1, 0.2, 1.5]])
        model = torch.nn.Linear(3, 1, bias=False, dtype=torch.float64)
        flat = torch.nn.Flatten(0)
        theta = np.zeros((runs, 3))
        for _ in range(steps):
            z = NOISES[noise].draw(rng, (runs, 3))
            theta -= 2 * lr / 3 * (theta @ a.T - z) @ a
        law = dict(lr=lr, noise=NOISES[noise], steps=steps, batch_size=None)
        _, cloud = ln.ornstein_uhlenbeck_cloud(torch.nn.Sequential(model, flat), torch.from_numpy(a), **law)
        products = theta[:, :, None] * theta[:, None]
        error = products.std(axis=0) / math.sqrt(runs)
        assert (np.abs(products.mean(axis=0) - cloud.numpy()) < 4 * error).all()
        assert (error < 0.05 * cloud.diagonal().max().item()).all()


def cloud_of_tanh(**changes):
    return ln.ornstein_uhlenbeck_cloud(tanh(), X, **LAW | changes)


P = 17
SHUFFLED = DataLoader(X, batch_size=3, shuffle=True)
BAD_INPUT = {
    "shuffled": (lambda: ln.stationary_covariance(tanh(), SHUFFLED, **LAW), ValueError, "DataLoader without shuffle"),
    "shuffled, cloud": (lambda: ln.ornstein_uhlenbeck_cloud(tanh(), SHUFFLED, **LAW), ValueError, "DataLoader without shuffle"),
    "lr 0": (lambda: ln.stationary_covariance(tanh(), X, lr=0, noise=UNEQUAL), ValueError, "lr must be positive, got 0"),
    "noise a number": (lambda: ln.stationary_covariance(tanh(), X, lr=0.1, noise=1.0), TypeError, "noise must be a LabelNoise"),
    "noise for others": (
        lambda: ln.stationary_covariance(tanh(), X[:2], **LAW),
        ValueError,
        r"noise.std must be .* for 2 labels of 1 numbers, got shape \(3,\)",
    ),
    "theta NaN": (lambda: ln.stationary_covariance(poisoned(), X, **LAW), ValueError, r"model\(x\) is not finite"),
    "batch 0": (lambda: cloud_of_tanh(batch_size=0), ValueError, "batch_size must be at least 1, got 0"),
    "lr NaN": (lambda: cloud_of_tanh(lr=NAN), ValueError, "lr must be finite, got nan"),
    "lr 9": (lambda: cloud_of_tanh(lr=9), ValueError, r"lr must be below 1 / gamma = 0\.\d+ for the largest gamma, got 9"),
    "steps -1": (lambda: cloud_of_tanh(steps=-1), ValueError, "steps must be at least 0, got -1"),
    "steps 1.5": (lambda: cloud_of_tanh(steps=1.5), TypeError, "steps must be an integer, got 1.5"),
    "tol": (lambda: cloud_of_tanh(tol=1.0), ValueError, "tol must be in"),
    "mean a number": (lambda: cloud_of_tanh(mean=0.5), TypeError, "mean must be a torch.Tensor or None, got float"),
    "mean of 3": (lambda: cloud_of_tanh(mean=ONE.expand(3)), ValueError, r"mean must have shape \(17,\) and torch.float64"),
    "mean in float32": (lambda: cloud_of_tanh(mean=torch.zeros(P)), ValueError, r"got \(17,\) and torch.float32"),
    "mean NaN": (lambda: cloud_of_tanh(mean=NAN * ONE.expand(P)), ValueError, "mean must be finite"),
    "covariance not symmetric": (
        lambda: cloud_of_tanh(covariance=torch.eye(P, dtype=torch.float64).roll(1, 0)),
        ValueError,
        "covariance must be symmetric, got entries that differ by 1 from their mirror images",
    ),
    "covariance of 3": (lambda: cloud_of_tanh(covariance=torch.eye(3)), ValueError, r"covariance must have shape \(17, 17\)"),
}

test_bad_input_is_named = refusals(BAD_INPUT)
