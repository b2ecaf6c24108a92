"""The drift under unequal noise: written out, by Lie brackets, and measured in runs of SGD."""

import functools
import itertools
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from plain import flat, h_of_theta
from points import ONE, POINTS, X, linear, poisoned, tanh
from refusals import refusals
from torch.nn.utils import vector_to_parameters
from torch.utils.data import DataLoader

import labelnoise_utils as ln
from labelnoise_utils.theory.noise_covariance import noise_covariance

NAN = math.nan
STD = np.array([1.0, 0.2, 0.5])
CORRELATED = np.array([[1.0, -0.16, 0.25], [-0.16, 0.04, -0.08], [0.25, -0.08, 0.25]])
UNEQUAL = ln.LabelNoise(STD)
NOISES = {"unequal": UNEQUAL, "correlated": ln.LabelNoise(None, covariance=CORRELATED)}


def two_outputs():
    """Two examples of two outputs each, with a noise of its own for each label."""
    x = torch.tensor([[1.0, 0.5], [-0.5, 1.0]], dtype=torch.float64)
    return ln.MLP([2, 4, 2], "tanh", seed=3, bias_std=1.0), x, ln.LabelNoise(np.array([[1.0, 0.1], [0.3, 0.6]]))


def gradients(model, x):
    """A function of theta: the gradient of every label, (n k, p)."""
    h = h_of_theta(model, x)
    return torch.func.jacrev(lambda theta: h(theta).reshape(-1))


def along(function, theta, direction, t=1e-5):
    """Derivative by central differences."""
    return (function(theta + t * direction) - function(theta - t * direction)) / (2 * t)


def drift_by_brackets(model, x, s, lr):
    """-lr^2 P grad W - (2 lr^2 / n) sum A_ab P [g_a, g_b], all by differences; and its first part alone."""
    theta, n, g = flat(model), len(x), gradients(model, x)
    j = g(theta)
    k = (j @ j.T).numpy()
    a = torch.from_numpy(k @ scipy.linalg.solve_continuous_lyapunov(k, 2 * s.numpy())).T - s
    # K M is the transpose of M K = S + A.
    torch.testing.assert_close(a, -a.T, rtol=0, atol=1e-9)
    down = torch.stack(
        [
            along(lambda t: torch.einsum("ab,ap,bp->", s, g(t), g(t)) / n, theta, unit)
            for unit in torch.eye(len(theta), dtype=torch.float64)
        ]
    )
    turn = torch.zeros_like(theta)
    for b, c in itertools.combinations(range(len(j)), 2):
        turn += a[b, c] * (along(lambda t, c=c: g(t)[c], theta, j[b]) - along(lambda t, b=b: g(t)[b], theta, j[c]))
    project = ln.linearize(model, x).project_tangent
    weighted = -(lr**2) * project(down)
    return weighted - 2 * lr**2 / n * project(turn), weighted


class TestDrift:
    @pytest.mark.parametrize("batch_size", [1, 2, None])
    @pytest.mark.parametrize("name", ["unequal", "correlated", "outputs"])
    def test_is_weighted_regularizer_and_brackets(self, name, batch_size):
        model, x, noise = two_outputs() if name == "outputs" else (POINTS["tanh"]()[0], X, NOISES[name])
        s = noise_covariance(noise, len(x), 2 if name == "outputs" else 1, batch_size)
        expected, weighted = drift_by_brackets(model, x, s, 0.01)
        measured = ln.drift(model, x, lr=0.01, noise=noise, batch_size=batch_size)
        torch.testing.assert_close(measured, expected, rtol=0, atol=1e-7 * expected.norm().item())
        assert (measured - weighted).norm() > 0.03 * measured.norm()  # so the brackets are seen

    @pytest.mark.parametrize("name", POINTS)
    def test_equal_noise_as_before(self, name):
        """To the last bit where a number is given; equal numbers and equal variances by the other way."""
        model, x, _ = POINTS[name]()
        expected = ln.drift(model, x, lr=0.01, noise_std=0.7, batch_size=2)
        assert torch.equal(ln.drift(model, x, lr=0.01, noise=ln.LabelNoise(0.7), batch_size=2), expected)
        same = ln.drift(model, x, lr=0.01, noise=ln.LabelNoise(np.full(len(x), 0.7)), batch_size=2)
        torch.testing.assert_close(same, expected, rtol=0, atol=1e-13 * expected.norm().item())
        # One vector for the whole batch, of two labels that may be the same one: 1/2 + 1/2 * 1/n.
        covariance = ln.LabelNoise(None, covariance=0.49 * np.eye(len(x)))
        same = ln.drift(model, x, lr=0.01, noise=covariance, batch_size=2)
        factor = 1 + 1 / len(x) if len(x) > 1 else 2
        torch.testing.assert_close(same, factor * expected, rtol=0, atol=1e-13 * expected.norm().item())

    @pytest.mark.parametrize("noise", NOISES)
    def test_full_batch_and_scales(self, noise):
        model, x, _ = POINTS["tanh"]()
        law = NOISES[noise]
        one = ln.drift(model, x, lr=0.01, noise=law, batch_size=None)
        torch.testing.assert_close(ln.drift(model, x, lr=0.03, noise=law, batch_size=None), 9 * one, rtol=1e-12, atol=0)
        jacobian = ln.linearize(model, x).jacobian
        assert (jacobian @ one).abs().max() < 1e-13 * jacobian.norm() * one.norm()
        equal = ln.drift(model, x, lr=0.01, noise=ln.LabelNoise(0.7), batch_size=None)
        torch.testing.assert_close(equal, ln.drift(model, x, lr=0.01, noise_std=0.7, batch_size=3), rtol=1e-12, atol=1e-18)

    def test_examples_that_cannot_be_told_apart_share_their_variance(self):
        x = torch.zeros(3, dtype=torch.float64)
        measured = ln.drift(ln.Product(2.0, 0.5), x, lr=0.01, noise=UNEQUAL)
        expected = ln.drift(ln.Product(2.0, 0.5), x, lr=0.01, noise_std=math.sqrt(np.mean(STD**2)))
        torch.testing.assert_close(measured, expected, rtol=0, atol=1e-18)

    def test_dependent_gradients(self):
        """An example twice, with two variances, is that example once, drawn twice as often, with their mean."""
        model, x, _ = POINTS["tanh"]()
        doubled = ln.LabelNoise(np.array([1.0, 0.2, 0.5, 0.1]))
        measured = ln.drift(model, x[[0, 1, 2, 2]], lr=0.01, noise=doubled)
        # As n = 4 with weights: g_3 sqrt(2), so that J^T J and J^T S J are the same.
        j = ln.linearize(model, x).jacobian * torch.tensor([1, 1, math.sqrt(2)], dtype=torch.float64)[:, None]
        s = torch.diag(torch.tensor([1.0, 0.04, (0.25 + 0.01) / 2], dtype=torch.float64))
        k = (j @ j.T).numpy()
        m = torch.from_numpy(scipy.linalg.solve_continuous_lyapunov(k, 2 * s.numpy()))
        cloud = j.T @ m @ j
        theta = flat(model)
        hessians = torch.func.jacfwd(gradients(model, x[[0, 1, 2, 2]]))(theta)
        moved = torch.einsum("apq,qr,ar->p", hessians, cloud, gradients(model, x[[0, 1, 2, 2]])(theta))
        expected = -2 * 0.01**2 / 4 * ln.linearize(model, x).project_tangent(moved)
        torch.testing.assert_close(measured, expected, rtol=0, atol=1e-12 * expected.norm().item())

    def test_linear_model_has_none(self):
        x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        assert ln.drift(linear(), x, lr=0.1, noise=ln.LabelNoise(STD[:2])).abs().max() == 0

    @pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
    def test_callers_mode_changes_nothing(self, mode):
        model, x, _ = POINTS["tanh"]()
        expected = ln.drift(model, x, lr=0.1, noise=UNEQUAL)
        with mode():
            assert torch.equal(ln.drift(model, x, lr=0.1, noise=UNEQUAL), expected)
        assert all(p.grad is None for p in model.parameters())

    def test_frozen_parameters_are_left_out(self):
        model, x, _ = POINTS["tanh"]()
        model.layers[1].requires_grad_(False)
        assert ln.drift(model, x, lr=0.1, noise=UNEQUAL).shape == (12,)


@functools.cache
def sigmoidal():
    """A network of width 4 on three examples: the model, the data, and theta as an array."""
    rng = np.random.default_rng(204)
    x, theta = rng.normal(size=(3, 2)), rng.normal(size=12) * 0.9
    model = ln.TwoLayerSigmoidal(4, 2)
    vector_to_parameters(torch.from_numpy(theta), model.parameters())
    return model, x, theta


def measured_drift(lr, draw, cloud, runs=2000, time=8.0, seed=0):
    """Mean movement per step along the manifold over lr^2, of each run: ``time / lr`` steps from the cloud, written out.

    ``draw`` gives the weights (runs, n) of the gradients in a step, from the errors. Of each step its mean over the choice
    and the noise is added up, which has the same mean as the step and varies less.
    """
    model, x, theta = sigmoidal()
    rng = np.random.default_rng(seed)
    y = model(torch.from_numpy(x)).detach().numpy()
    values, axes = np.linalg.eigh(cloud)
    at = theta + (rng.normal(size=(runs, 12)) * np.sqrt(values.clip(0))) @ axes.T
    steps, moved = int(time / lr), np.zeros_like(at)
    for _ in range(steps):
        w, c = at[:, :8].reshape(runs, 4, 2), at[:, 8:]
        units = np.tanh(w @ x.T).transpose(0, 2, 1)
        errors = (units @ c[:, :, None])[:, :, 0] - y
        slopes = (1 - units**2) * c[:, None]
        for total, weights in ((moved, errors / 3), (at, draw(rng, errors))):
            inner = (slopes * weights[:, :, None]).transpose(0, 2, 1) @ x
            total -= 2 * lr * np.hstack([inner.reshape(runs, 8), (weights[:, None] @ units)[:, 0]])
    project = ln.linearize(model, torch.from_numpy(x)).project_tangent
    return project(torch.from_numpy(moved)).numpy() / (steps * lr**2)


def one_example(rng, errors):
    """Plain SGD on the six labels y +- std: one example, one of its two labels."""
    rows, chosen = np.arange(len(errors)), rng.integers(3, size=len(errors))
    weights = np.zeros_like(errors)
    weights[rows, chosen] = errors[rows, chosen] + STD[chosen] * rng.choice([-1.0, 1.0], size=len(errors))
    return weights


def all_examples(rng, errors):
    """The full batch with correlated noise."""
    return (errors - rng.normal(size=errors.shape) @ np.linalg.cholesky(CORRELATED).T) / 3


class TestMeasuredDrift:
    @pytest.mark.parametrize("name, draw, batch_size", [("unequal", one_example, 1), ("correlated", all_examples, None)])
    def test_over_the_prediction_tends_to_one_linearly(self, name, draw, batch_size):
        model, x, _ = sigmoidal()
        x, noise = torch.from_numpy(x), NOISES[name]
        v = ln.drift(model, x, lr=1.0, noise=noise, batch_size=batch_size).numpy()
        ratios, errors = [], []
        for lr in (0.008, 0.004):
            cloud = ln.stationary_covariance(model, x, lr=lr, noise=noise, batch_size=batch_size).numpy()
            each = measured_drift(lr, draw, cloud)
            ratio = each @ v / (v @ v)
            ratios.append(ratio.mean())
            errors.append(ratio.std(ddof=1) / math.sqrt(len(ratio)))
        assert max(errors) < 0.012
        # What is left is linear in lr, so this is 1 up to lr^2.
        assert abs(2 * ratios[1] - ratios[0] - 1) < 4 * math.hypot(2 * errors[1], errors[0])
        gradient = torch.autograd.grad(ln.weighted_regularizer(model, x, noise, batch_size=batch_size), [*model.parameters()])
        weighted = -ln.linearize(model, x).project_tangent(torch.cat([g.reshape(-1) for g in gradient])).numpy()
        mean = each.mean(axis=0)
        assert np.linalg.norm(mean - weighted) > 0.4 * np.linalg.norm(v) > 4 * np.linalg.norm(mean - v)


class TestWeightedRegularizer:
    def test_equal_noise(self):
        model, x, _ = POINTS["tanh"]()
        reg = ln.implicit_regularizer(model, x).item()
        for std in (0.7, np.full(3, 0.7)):
            measured = ln.weighted_regularizer(model, x, ln.LabelNoise(std), batch_size=2)
            assert measured.item() == pytest.approx(0.49 / 2 * reg, rel=1e-13)
        assert ln.weighted_regularizer(model, x, ln.LabelNoise(0.7), batch_size=None).item() == pytest.approx(0.49 / 3 * reg)

    def test_by_example(self):
        model, x, _ = POINTS["tanh"]()
        norms = ln.per_example_sq_norms(model, x).detach().numpy()
        measured = ln.weighted_regularizer(model, x, UNEQUAL, batch_size=4).item()
        assert measured == pytest.approx((STD**2 * norms).mean() / 4, rel=1e-13)

    @pytest.mark.parametrize("name", ["unequal", "correlated", "outputs"])
    def test_gradient(self, name):
        model, x, noise = two_outputs() if name == "outputs" else (tanh(), X, NOISES[name])
        s, g = noise_covariance(noise, len(x), 2 if name == "outputs" else 1, 2), gradients(model, x)
        by_definition = lambda t: torch.einsum("ab,ap,bp->", s, g(t), g(t)) / len(x)  # noqa: E731
        value = ln.weighted_regularizer(model, x, noise, batch_size=2)
        slopes = torch.autograd.grad(value, [*model.parameters()], materialize_grads=True)
        assert value.item() == pytest.approx(by_definition(flat(model)).item(), rel=1e-12)
        expected = torch.func.grad(by_definition)(flat(model))
        torch.testing.assert_close(torch.cat([p.reshape(-1) for p in slopes]), expected, rtol=1e-11, atol=1e-12)

    @pytest.mark.parametrize("noise", NOISES)
    def test_without_gradients(self, noise):
        with torch.no_grad():
            assert not ln.weighted_regularizer(tanh(), X, NOISES[noise]).requires_grad


class TestMotor:
    """U U^T is given where U is 2 x 2: the fits are a circle on which reg and the weighted regularizer are constant."""

    U = torch.tensor([[1.0, 0.0], [0.6, 0.5]], dtype=torch.float64)
    TURN = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)

    def motor(self):
        model = ln.MatrixSensing(2)
        with torch.no_grad():
            model.u.copy_(self.U)
        x = torch.zeros(3, 2, 2, dtype=torch.float64)
        x[0, 0, 0] = x[1, 0, 1] = x[2, 1, 1] = 1
        return model, x

    def rate(self, std):
        """Angle per step over lr^2."""
        model, x = self.motor()
        v = ln.drift(model, x, lr=1.0, noise=ln.LabelNoise(std))
        along = (self.U @ self.TURN).reshape(-1)
        assert (v - along * (v @ along) / (along @ along)).abs().max() < 1e-14
        return (v @ along / (along @ along)).item()

    def test_turns_although_nothing_falls(self):
        model, x = self.motor()
        for std in ([0.9, 0.2, 0.2], [0.2, 0.9, 0.2], [0.2, 0.2, 0.9]):
            noise = ln.LabelNoise(np.array(std))
            (slope,) = torch.autograd.grad(ln.weighted_regularizer(model, x, noise), [*model.parameters()])
            assert ln.linearize(model, x).project_tangent(slope.reshape(-1)).abs().max() < 1e-13
            assert abs(self.rate(np.array(std))) > 0.05
        assert abs(self.rate(0.5)) < 1e-15 and abs(self.rate(np.full(3, 0.5))) < 1e-15

    def test_forwards_and_backwards(self):
        """The drift is linear in the variances, and equal ones stand still: the three rates with one loud label add up to 0."""
        rates = [self.rate(np.array(std)) for std in ([0.9, 0.2, 0.2], [0.2, 0.9, 0.2], [0.2, 0.2, 0.9])]
        assert rates[0] > rates[1] > 0 > rates[2]
        assert sum(rates) == pytest.approx(0, abs=1e-14)


def test_a_loader_in_order_is_the_examples():
    x = DataLoader(X, batch_size=2)
    for function in (ln.weighted_regularizer, lambda *of: ln.drift(*of[:2], lr=0.1, noise=of[2])):
        torch.testing.assert_close(function(tanh(), x, UNEQUAL), function(tanh(), X, UNEQUAL), rtol=1e-12, atol=0)


def test_weighted_regularizer_of_many_examples():
    """Whose covariance, 720 GB, is never made."""
    x, std = torch.zeros(3 * 10**5), torch.arange(3 * 10**5) / 10**5
    for noise in (ln.LabelNoise(1.5), ln.LabelNoise(std)):
        expected = np.mean(np.asarray(noise.std) ** 2) * 25 / 2
        measured = ln.weighted_regularizer(ln.Product(3.0, 4.0), x, noise, batch_size=2).item()
        assert measured == pytest.approx(expected, rel=1e-5)


# The order of a random sampler is another one each time.
SHUFFLED = DataLoader(X, batch_size=3, shuffle=True)
BAD_INPUT = {
    "neither": (lambda: ln.drift(tanh(), X, lr=0.1), TypeError, "exactly one of noise_std, a number, and noise"),
    "both": (lambda: ln.drift(tanh(), X, lr=0.1, noise_std=1.0, noise=UNEQUAL), TypeError, "exactly one of noise_std"),
    "noise a number": (lambda: ln.drift(tanh(), X, lr=0.1, noise=1.0), TypeError, r"noise must be a LabelNoise, got 1.0; a"),
    "noise frozen": (lambda: ln.drift(tanh(), X, lr=0.1, noise=ln.FrozenNoise(1.0)), TypeError, "noise must be a LabelNoise"),
    "lr 0": (lambda: ln.drift(tanh(), X, lr=0, noise=UNEQUAL), ValueError, "lr must be positive, got 0"),
    "noise for others": (lambda: ln.drift(tanh(), X[:2], lr=0.1, noise=UNEQUAL), ValueError, r"noise.std must .*\(3,\)"),
    "batch 0": (lambda: ln.drift(tanh(), X, lr=0.1, noise=UNEQUAL, batch_size=0), ValueError, "batch_size must be at least 1"),
    "batch None": (lambda: ln.drift(tanh(), X, lr=0.1, noise_std=1.0, batch_size=None), TypeError, "must be an integer"),
    "tol": (lambda: ln.drift(tanh(), X, lr=0.1, noise=UNEQUAL, tol=NAN), ValueError, "tol must be finite, got nan"),
    "theta NaN": (lambda: ln.drift(poisoned(), X, lr=0.1, noise=UNEQUAL), ValueError, r"model\(x\) is not finite"),
    "weighted, a number": (lambda: ln.weighted_regularizer(tanh(), X, 1.0), TypeError, "noise must be a LabelNoise"),
    "weighted, others": (lambda: ln.weighted_regularizer(tanh(), X[:2], UNEQUAL), ValueError, r"noise.std must .*\(3,\)"),
    "weighted, shuffled": (
        lambda: ln.weighted_regularizer(tanh(), SHUFFLED, UNEQUAL),
        ValueError,
        "DataLoader without shuffle",
    ),
    "shuffled": (lambda: ln.drift(tanh(), SHUFFLED, lr=0.1, noise=UNEQUAL), ValueError, "DataLoader without shuffle"),
    "weighted, x": (lambda: ln.weighted_regularizer(tanh(), "x", UNEQUAL), TypeError, "x must be a torch.Tensor"),
    "weighted, no module": (lambda: ln.weighted_regularizer(len, ONE, UNEQUAL), TypeError, "model must be a torch.nn.Module"),
}

test_bad_input_is_named = refusals(BAD_INPUT)
