"""The flow of the loss plus what label noise adds: closed forms, the drift of Lemma 8, and the mean of SGD."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from architectures import Looking
from cases import assert_same_trajectory
from plain import flat
from points import ONE, POINTS, Convolutional, X, Y, poisoned, tanh
from refusals import refusals
from torch import nn

import labelnoise_utils as ln

NAN = math.nan


def product(u=2.0, v=0.5, **arguments):
    defaults = dict(lr=0.01, noise_std=0.5, steps=50_000, record=20)
    return ln.effective_flow(ln.Product(u, v), ONE, ONE, **defaults | arguments)


class TestProduct:
    """Along the flow, u' = -2 lr (e v + c u) and v' = -2 lr (e u + c v) with c = lr sigma^2 / B, so s = u^2 - v^2 has
    s' = 2 u u' - 2 v v' = -4 lr c s: the error e drops out, on the manifold or not.
    """

    @pytest.mark.parametrize("u, v, lr, noise_std", [(2.0, 0.5, 0.01, 0.5), (1.5, -1.0, 0.005, 2.0)])
    def test_s_decays_at_four_lr_squared_variance(self, u, v, lr, noise_std):
        steps = round(1 / (4 * lr**2 * noise_std**2))
        run = product(u, v, lr=lr, noise_std=noise_std, steps=steps, rtol=1e-8, atol=1e-10)
        s = run.theta[:, 0] ** 2 - run.theta[:, 1] ** 2
        np.testing.assert_allclose(s, (u**2 - v**2) * np.exp(-4 * lr**2 * noise_std**2 * run.step), rtol=1e-5)
        assert s[-1] == pytest.approx((u**2 - v**2) / math.e, rel=1e-3)

    @pytest.mark.parametrize("batch_size, divisor", [(1, 1), (3, 3), (None, 5)])
    def test_batch_divides_the_rate(self, batch_size, divisor):
        x, y = torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
        arguments = dict(lr=0.01, noise_std=0.5, steps=5000, batch_size=batch_size, rtol=1e-8, atol=1e-10)
        run = ln.effective_flow(ln.Product(2.0, 0.5), x, y, **arguments)
        s = run.theta[:, 0] ** 2 - run.theta[:, 1] ** 2
        np.testing.assert_allclose(s, 3.75 * np.exp(-4 * 0.01**2 * 0.25 / divisor * run.step), rtol=1e-5)

    def test_without_noise_s_is_conserved(self):
        run = product(2.0, 1.0, noise_std=0, steps=2000, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(run.theta[:, 0] ** 2 - run.theta[:, 1] ** 2, 3, rtol=1e-8)
        assert run.loss[0] == pytest.approx(1, rel=1e-14) and run.loss[-1] < 1e-15

    def test_default_tolerances_give_five_digits(self):
        run, exact = product(steps=10_000), product(steps=10_000, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(run.theta, exact.theta, rtol=0, atol=2e-5)

    def test_ends_where_reg_is_least_on_the_manifold_up_to_lr(self):
        """At u = v the flow rests where (u^2 - 1) + lr sigma^2 = 0."""
        run = product(steps=10**5, lr=0.01, noise_std=1.0)
        np.testing.assert_allclose(run.theta[-1], math.sqrt(1 - 0.01), rtol=1e-4)

    def test_progress_depends_on_lr_squared_variance_over_batch(self):
        """Equal lr^2 sigma^2 t at lr and lr / 2: the same path up to the distance to the manifold, of order lr sigma^2."""
        one = product(lr=0.004, noise_std=0.5, steps=100_000, record=[25_000, 50_000, 100_000])
        two = product(lr=0.002, noise_std=0.5, steps=400_000, record=[100_000, 200_000, 400_000])
        np.testing.assert_allclose(one.theta, two.theta, atol=2 * 0.004 * 0.25)
        assert one.theta[-1, 0] < 1.9


class TestLinear:
    """Reg is constant there, so the flow is that of least squares whatever the noise: a matrix exponential."""

    @pytest.mark.parametrize("noise_std", [0.0, 1.0])
    def test_matrix_exponential(self, noise_std):
        generator = torch.Generator().manual_seed(0)
        x, y = (torch.randn(5, k, generator=generator, dtype=torch.float64) for k in (3, 1))
        model = nn.Linear(3, 1, bias=False, dtype=torch.float64)
        with torch.no_grad():
            model.weight.fill_(2.0)
        start, lr = flat(model).numpy(), 0.01
        run = ln.effective_flow(model, x, y, lr=lr, noise_std=noise_std, steps=500, record=10, rtol=1e-10, atol=1e-12)
        a, b = (x.T @ x / 5).numpy(), (x.T @ y / 5)[:, 0].numpy()
        rest = np.linalg.solve(a, b)
        expected = [rest + scipy.linalg.expm(-2 * lr * a * t) @ (start - rest) for t in run.step]
        np.testing.assert_allclose(run.theta, expected, rtol=0, atol=1e-8)
        assert np.abs(run.theta[-1] - start).max() > 0.5
        np.testing.assert_allclose(run.reg, (x.square().sum() / 5).item(), rtol=1e-13)


@pytest.mark.parametrize("name", POINTS)
class TestDrift:
    """What the flow and Lemma 8 have in common, on models that the package knows and one that it does not."""

    def test_first_step_along_the_manifold_is_the_drift(self, name):
        model, x, y = POINTS[name]()
        point = ln.linearize(model, x)
        drift = ln.drift(model, x, lr=0.005, noise_std=0.3, batch_size=len(x))
        run = ln.effective_flow(
            model, x, y, lr=0.005, noise_std=0.3, batch_size=None, steps=1, record=[0, 1], rtol=1e-9, atol=1e-15
        )
        moved = point.project_tangent(torch.from_numpy(run.theta[1] - run.theta[0]))
        # The direction of grad reg turns by lr |Hessian| in a step.
        torch.testing.assert_close(moved, drift, rtol=0, atol=0.02 * drift.norm().item())
        assert drift.norm() > 1e-8

    def test_reg_falls_and_the_loss_stays_of_second_order(self, name):
        model, x, y = POINTS[name]()
        run = ln.effective_flow(model, x, y, lr=0.005, noise_std=0.3, steps=60_000, record=30)
        assert (np.diff(run.reg) < 1e-9).all()
        assert run.reg[-1] < run.reg[0] - 0.01
        assert run.loss.max() < 1e-4
        # The objective falls everywhere along a gradient flow.
        assert (np.diff(run.loss + 0.005 * 0.3**2 * run.reg) < 1e-10).all()

    def test_without_noise_nothing_moves_at_zero_error(self, name):
        model, x, y = POINTS[name]()
        run = ln.effective_flow(model, x, y, lr=0.005, noise_std=0, steps=10_000, record=3)
        np.testing.assert_allclose(run.theta, run.theta[[0]].repeat(len(run.step), axis=0), rtol=0, atol=1e-9)


class TestAveragedSGD:
    def test_mean_of_sgd_follows_the_flow_with_the_variance_and_not_the_standard_deviation(self):
        lr, std, moments, seeds = 0.005, 0.25, [80_000, 120_000, 160_000, 200_000, 240_000], range(8)

        def flow(noise_std):
            model, x, y = POINTS["tanh"]()
            return ln.effective_flow(model, x, y, lr=lr, noise_std=noise_std, steps=moments[-1], record=moments).reg

        def sgd(seed):
            model, x, y = POINTS["tanh"]()
            arguments = dict(lr=lr, noise=ln.LabelNoise(std), steps=moments[-1], record=moments, progress=False)
            return ln.train(model, x, y, seed=seed, **arguments).reg

        expected = flow(std)
        regs = np.array([sgd(seed) for seed in seeds])
        deviation = np.abs(regs.mean(axis=0) / expected - 1)
        standard_error = regs.std(axis=0, ddof=1) / math.sqrt(len(regs)) / expected
        assert standard_error.max() < 0.005
        assert (deviation < 0.01 + 2 * standard_error).all()
        assert (np.abs(flow(math.sqrt(std)) / expected - 1)[1:] > 0.1).all()
        assert expected[-1] < 0.9 * 2.8588

    def test_product(self):
        """E s is exact for SGD: each step takes s to s (1 - g^2), g = 2 lr (e - Z)."""
        lr, std, seeds = 0.005, 0.5, range(8)
        flow = product(lr=lr, noise_std=std, steps=40_000, record=[40_000])
        thetas = []
        for seed in seeds:
            arguments = dict(lr=lr, noise=ln.LabelNoise(std), steps=40_000, record=[40_000], progress=False)
            thetas.append(ln.train(ln.Product(2.0, 0.5), ONE, ONE, seed=seed, **arguments).theta[0])
        s, expected = (t[:, 0] ** 2 - t[:, 1] ** 2 for t in (np.array(thetas), flow.theta))
        assert s.mean() == pytest.approx(expected[0], rel=0.02 + 3 * s.std() / math.sqrt(8) / expected[0])
        assert expected[0] < 0.5 * 3.75


class TestRun:
    def test_fields(self):
        model, x, y = POINTS["tanh"]()
        start = flat(model).numpy()
        views = [p.detach() for p in model.parameters()]
        run = ln.effective_flow(model, x, y, lr=0.005, noise_std=0.5, steps=1000, record=7)
        assert (run.engine, run.steps, run.interrupted) == ("flow", 1000, False)
        assert run.seconds > 0 and run.steps_per_second == 1000 / run.seconds
        assert run.step[0] == 0 and run.step[-1] == 1000 and len(run.step) == len(run.loss) == len(run.reg) == 7
        assert run.theta.shape == (7, 17)
        np.testing.assert_allclose(run.theta[0], start, rtol=0, atol=1e-15)
        np.testing.assert_array_equal(run.theta[-1], flat(model))
        assert np.abs(run.theta[-1] - start).max() > 1e-6
        for view, p in zip(views, model.parameters(), strict=True):  # in place
            assert view.data_ptr() == p.data_ptr() and torch.equal(view, p)
            assert p.grad is None and p.requires_grad
        for i in (0, 3, 6):
            at_i = run.model_at(i)
            np.testing.assert_array_equal(flat(at_i), run.theta[i])
            assert run.reg[i] == pytest.approx(ln.implicit_regularizer(at_i, x).item(), rel=1e-12)
            # At the start h - y is what rounding leaves, some 1e-14, and another order of the sums leaves another.
            assert run.loss[i] == pytest.approx((at_i(x) - y).square().mean().item(), rel=1e-9, abs=1e-26)

    def test_chosen_steps_need_not_hold_the_last(self):
        run = product(record=[0, 100, 3000], steps=5000)
        assert run.step.tolist() == [0, 100, 3000]
        model = ln.Product(2.0, 0.5)
        whole = ln.effective_flow(model, ONE, ONE, lr=0.01, noise_std=0.5, steps=5000, record=[100, 3000, 5000])
        np.testing.assert_allclose(run.theta[1:], whole.theta[:2], rtol=0, atol=1e-12)
        np.testing.assert_array_equal(whole.theta[-1], flat(model))

    def test_two_flows_make_one(self):
        model = ln.Product(2.0, 0.5)
        for _ in range(2):
            ln.effective_flow(model, ONE, ONE, lr=0.01, noise_std=0.5, steps=500, rtol=1e-8, atol=1e-10)
        whole = product(steps=1000, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(flat(model), whole.theta[-1], rtol=0, atol=1e-6)

    def test_saved_and_loaded(self, tmp_path):
        run = product(steps=1000)
        run.save(tmp_path / "flow")
        loaded = ln.Run.load(tmp_path / "flow")
        assert loaded.engine == "flow"
        assert_same_trajectory(loaded, run)

    def test_several_outputs_and_frozen_parameters(self):
        model = ln.MLP([2, 3, 2], "tanh", seed=1)
        model.layers[0].bias.requires_grad_(False)
        y = torch.stack([Y, -Y], dim=1)
        run = ln.effective_flow(model, X, y, lr=0.01, noise_std=0, steps=200, record=2, rtol=1e-9, atol=1e-11)
        assert torch.equal(model.layers[0].bias, torch.zeros(3, dtype=torch.float64))
        assert run.theta.shape[1] == 14
        # The limit of many small steps of gradient descent: 100 for each one here.
        small = ln.MLP([2, 3, 2], "tanh", seed=1)
        small.layers[0].bias.requires_grad_(False)
        descent = ln.train(small, X, y, lr=1e-4, steps=20_000, batch_size=None, record=2, progress=False)
        np.testing.assert_allclose(run.theta[-1], descent.theta[-1], rtol=0, atol=2e-4)
        assert np.abs(run.theta[-1] - run.theta[0]).max() > 0.1

    def test_caller_without_gradients(self):
        with torch.no_grad():
            run = product(steps=1000)
        assert_same_trajectory(run, product(steps=1000))

    def test_model_that_vmap_cannot_run(self):
        """There the field is evaluated one parameter vector after the other: the same flow."""

        def mlp():
            return ln.MLP([2, 4, 1], "tanh", seed=1)

        settings = dict(lr=0.01, noise_std=0.5, steps=2000, record=5, rtol=1e-8, atol=1e-10)
        run, expected = (ln.effective_flow(model, X, Y, **settings) for model in (Looking(mlp()), mlp()))
        np.testing.assert_allclose(run.theta, expected.theta, rtol=0, atol=1e-8)
        assert np.abs(run.theta[-1] - run.theta[0]).max() > 0.1

    @pytest.mark.parametrize("build", [lambda: (Convolutional(), torch.ones(3, 6).double()), lambda: (ln.MLP([2, 3, 1]), X)])
    def test_model_is_left_as_it_was_if_the_solver_gives_up(self, build):
        model, x = build()
        before = flat(model)
        with pytest.raises(ArithmeticError):
            ln.effective_flow(model, x, Y, lr=0.01, noise_std=0.5, steps=10_000, max_evaluations=5)
        assert torch.equal(flat(model), before)


def flow_of_tanh(changes):
    arguments = dict(model=tanh(), x=X, y=Y, lr=0.01, noise_std=0.5, steps=10)
    return ln.effective_flow(**arguments | changes)


# What is passed instead, the error, and what the message must hold.
BAD_INPUT = {
    "noise_std negative": (dict(noise_std=-1), ValueError, "noise_std must be at least 0, got -1"),
    "noise_std text": (dict(noise_std="a"), TypeError, "noise_std must be a number, got 'a'"),
    "noise_std NaN": (dict(noise_std=NAN), ValueError, "noise_std must be finite, got nan"),
    "noise_std a law": (dict(noise_std=ln.LabelNoise(0.5)), TypeError, "noise_std must be a number, got LabelNoise"),
    "lr 0": (dict(lr=0), ValueError, "lr must be positive, got 0"),
    "steps 0": (dict(steps=0), ValueError, "steps must be at least 1, got 0"),
    "steps 1e3": (dict(steps=1e3), TypeError, "steps must be an integer, got 1000.0"),
    "batch 4 of 3": (dict(batch_size=4), ValueError, "batch_size must be at most .* 3, got 4"),
    "record 1": (dict(record=1), ValueError, "record must be at least 2, got 1"),
    "record beyond": (dict(record=[11]), ValueError, "record must hold step numbers between 0 and steps = 10"),
    "rtol 0": (dict(rtol=0), ValueError, "rtol must be positive, got 0"),
    "atol negative": (dict(atol=-1e-3), ValueError, "atol must be positive, got -0.001"),
    "rtol text": (dict(rtol="a"), TypeError, "rtol must be a number, got 'a'"),
    "float32": (
        dict(model=tanh(dtype=torch.float32)),
        ValueError,
        r"needs a float64 model, got torch.float32: call model.double\(\)",
    ),
    "theta NaN": (dict(model=poisoned()), ValueError, r"model\(x\) is not finite"),
    "no module": (dict(model=lambda x: x), TypeError, "model must be a torch.nn.Module, got function"),
    "y of another shape": (dict(y=Y[:, None]), ValueError, r"y must .*\(3,\), got \(3, 1\)"),
    "y NaN": (dict(y=Y * NAN), ValueError, "y must be finite, got nan at index"),
    "y text": (dict(y="abc"), TypeError, "y must be a torch.Tensor or a NumPy array, got str"),
    "x NaN": (dict(x=X * NAN), ValueError, "x must be finite"),
}

test_bad_input_is_named = refusals(BAD_INPUT, flow_of_tanh)
