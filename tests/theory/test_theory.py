"""The geometry at a zero-error point: against torch.func, closed forms and recursions written out."""

import math

import numpy as np
import pytest
import torch
from points import POINTS, Convolutional, X, Y, flat, h_of_theta
from torch import nn
from zoo import ZOO, assert_as_it_was, plain_loop, snapshot, specimen

import labelnoise_utils as ln

NAN, INF = math.nan, math.inf


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tanh(**arguments):
    return ln.MLP([2, 4, 1], "tanh", seed=0, **arguments)


def partly_frozen():
    model = ln.MLP([2, 4, 3, 2], "tanh", seed=1, bias_std=0.5)
    model.layers[0].bias.requires_grad_(False)
    model.layers[1].weight.requires_grad_(False)
    return model


def linear(inputs=3):
    model = nn.Linear(inputs, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(gaussian(1, inputs, seed=5))
    return model


LINEARIZED = {
    "product": lambda: (ln.Product(3.0, 4.0), torch.zeros(2)),
    "tanh": lambda: (tanh(), X),
    "outputs": lambda: (ln.MLP([2, 4, 3], "logistic", seed=2), X),
    "frozen": lambda: (partly_frozen(), X),
    "relu": lambda: (ln.TwoLayerReLU(5, seed=1), ln.twelve_points()[0]),
    "convolutional": lambda: (Convolutional(), gaussian(4, 6)),
    "more examples than parameters": lambda: (linear(2), gaussian(9, 2)),
}


class TestLinearize:
    @pytest.mark.parametrize("name", LINEARIZED)
    def test_jacobian_is_that_of_torch_func(self, name):
        model, x = LINEARIZED[name]()
        expected = torch.func.jacrev(h_of_theta(model, x))(flat(model))
        jacobian = ln.linearize(model, x).jacobian
        assert jacobian.shape == (model(x).numel(), len(flat(model)))
        torch.testing.assert_close(jacobian, expected.reshape(jacobian.shape), rtol=1e-12, atol=1e-14)
        assert not jacobian.requires_grad

    def test_rows_are_examples_then_outputs_and_columns_those_of_parameters_to_vector(self):
        model = partly_frozen()
        jacobian = ln.linearize(model, X).jacobian.view(3, 2, -1)
        free = [p for p in model.parameters() if p.requires_grad]
        for i in range(3):
            for k in range(2):
                slopes = torch.autograd.grad(model(X)[i, k], free)
                expected = nn.utils.parameters_to_vector([g.contiguous() for g in slopes])
                torch.testing.assert_close(jacobian[i, k], expected, rtol=1e-13, atol=1e-15)

    @pytest.mark.parametrize("name", LINEARIZED)
    def test_gamma_and_normal_are_eigenvalues_and_vectors(self, name):
        model, x = LINEARIZED[name]()
        point = ln.linearize(model, x)
        reg = ln.implicit_regularizer(model, x).item()
        assert point.gamma.sum().item() == pytest.approx(reg, rel=1e-12)
        assert (point.gamma > 0).all() and (point.gamma.diff() <= 0).all()
        r = len(point.gamma)
        assert point.normal.shape == (len(flat(model)), r)
        torch.testing.assert_close(point.normal.T @ point.normal, torch.eye(r, dtype=torch.float64), rtol=0, atol=1e-13)
        matrix = point.jacobian.T @ point.jacobian / len(x)
        assert torch.linalg.matrix_rank(matrix, hermitian=True, rtol=1e-12) == r
        torch.testing.assert_close(matrix @ point.normal, point.normal * point.gamma, rtol=0, atol=1e-13 * reg)

    @pytest.mark.parametrize("name", LINEARIZED)
    def test_tangent_vectors_do_not_change_h(self, name):
        model, x = LINEARIZED[name]()
        point = ln.linearize(model, x)
        v = gaussian(len(flat(model)), seed=1)
        tangent = point.project_tangent(v)
        scale = point.jacobian.norm() * v.norm()
        assert (point.jacobian @ tangent).abs().max() < 1e-14 * scale
        torch.testing.assert_close(point.project_tangent(tangent), tangent, rtol=0, atol=1e-13)
        # What was taken off is normal: a combination of the rows of the Jacobian.
        normal = v - tangent
        torch.testing.assert_close(point.normal @ (point.normal.T @ normal), normal, rtol=0, atol=1e-13)
        rest = len(v) - len(point.gamma)
        assert (tangent.norm() > 0.1) == (rest > 0)

    def test_rows_are_projected_one_by_one(self):
        point = ln.linearize(tanh(), X)
        rows = gaussian(5, 17)
        expected = torch.stack([point.project_tangent(row) for row in rows])
        torch.testing.assert_close(point.project_tangent(rows), expected, rtol=0, atol=1e-14)

    def test_repeated_example_adds_no_direction(self):
        once, twice = ln.linearize(tanh(), X), ln.linearize(tanh(), torch.cat([X, X[:1]]))
        assert len(once.gamma) == len(twice.gamma) == 3
        v = gaussian(17)
        torch.testing.assert_close(twice.project_tangent(v), once.project_tangent(v), rtol=0, atol=1e-13)

    def test_redundant_example_adds_no_direction(self):
        x = gaussian(2, 3)
        x = torch.cat([x, (2 * x[0] - x[1])[None]])
        assert len(ln.linearize(linear(), x).gamma) == 2

    def test_tol_is_relative_to_the_largest_singular_value(self):
        x = torch.diag(torch.tensor([100.0, 1.0, 1e-3], dtype=torch.float64))
        for tol, rank in ((None, 3), (0, 3), (0.99e-5, 3), (1.01e-5, 2), (0.0099, 2), (0.0101, 1), (0.999, 1)):
            assert len(ln.linearize(linear(), x, tol=tol).gamma) == rank
        torch.testing.assert_close(ln.linearize(linear(), x).gamma, torch.tensor([1e4, 1.0, 1e-6], dtype=torch.float64) / 3)

    @pytest.mark.parametrize("detached", [False, True])
    def test_zero_jacobian(self, detached):
        class Constant(ln.Product):
            def forward(self, x):
                return x.clone() if detached else super().forward(x)

        point = ln.linearize(Constant(0.0, 0.0), torch.ones(2, dtype=torch.float64))
        assert point.jacobian.tolist() == [[0, 0], [0, 0]]
        assert point.gamma.shape == (0,) and point.normal.shape == (2, 0)
        v = gaussian(2)
        assert torch.equal(point.project_tangent(v), v)
        assert ln.tangential_gradient(Constant(0.0, 0.0), torch.ones(2, dtype=torch.float64)).tolist() == [0, 0]

    def test_single_precision(self):
        single, double = ln.linearize(tanh(dtype=torch.float32), X.float()), ln.linearize(tanh(), X)
        assert single.jacobian.dtype == single.gamma.dtype == torch.float32
        torch.testing.assert_close(single.jacobian, double.jacobian.float(), rtol=1e-5, atol=1e-6)
        assert len(single.gamma) == 3

    @pytest.mark.parametrize("name", ZOO)
    def test_modules_of_many_kinds(self, name):
        model, x = specimen(name)
        before = snapshot(model)
        if any(p.is_complex() for p in model.parameters()):
            with pytest.raises(ValueError, match="must be float32 or float64 for a Jacobian, got torch.complex128"):
                ln.linearize(model, x)
            return
        gamma = ln.linearize(model, x).gamma
        assert_as_it_was(model, before)
        assert gamma.sum().item() == pytest.approx(plain_loop(model, x)[0].mean().item(), rel=1e-12)

    @pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
    def test_callers_mode_changes_nothing(self, mode):
        expected = ln.linearize(tanh(), X)
        model = tanh()
        with mode():
            inside = ln.linearize(model, X.clone())
        assert torch.equal(inside.jacobian, expected.jacobian)

    def test_size_limit_comes_before_the_work(self, monkeypatch):
        model, calls = partly_frozen(), []
        model.register_forward_hook(lambda *_: calls.append(1))
        count = len(flat(model))
        monkeypatch.setattr("labelnoise_utils.theory.geometry.LARGEST_JACOBIAN", 3 * 2 * count)
        ln.linearize(model, X)
        monkeypatch.setattr("labelnoise_utils.theory.geometry.LARGEST_JACOBIAN", 3 * 2 * count - 1)
        calls.clear()
        with pytest.raises(ValueError, match=f"would hold 3 x 2 x {count} numbers .* more than {6 * count - 1}:"):
            ln.linearize(model, X)
        assert len(calls) <= 3  # two of them check x


class Arctan(nn.Module):
    """Newton's method for its zero runs away from where the parameter is above 1.39."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    def forward(self, x):
        return self.theta.atan().expand(len(x))


class TestProjectToZeroError:
    @pytest.mark.parametrize("seed", range(5))
    def test_random_networks(self, seed):
        model = ln.MLP([2, 6, 4, 1], "tanh", seed=seed, bias_std=1.0)
        before = flat(model)
        steps = ln.project_to_zero_error(model, X, Y)
        assert 1 <= steps <= 20
        assert (model(X) - Y).abs().max() <= 1e-12
        assert 0 < (flat(model) - before).norm() < before.norm()

    def test_product_goes_the_shortest_way_to_first_order(self):
        model = ln.Product(2.0, 0.5005)
        ln.project_to_zero_error(model, torch.zeros(1), torch.ones(1))
        assert (model.u * model.v).item() == pytest.approx(1, abs=1e-12)
        # theta - (h - y) grad h / |grad h|^2, with h - y = .001
        expected = torch.tensor([2.0, 0.5005]) - 0.001 * torch.tensor([0.5005, 2.0]) / (2.0**2 + 0.5005**2)
        torch.testing.assert_close(flat(model).float(), expected, rtol=0, atol=1e-6)

    def test_linear_model_in_one_step_of_least_norm(self):
        model, x, y = linear(), gaussian(2, 3), gaussian(2, 1, seed=1)
        theta = flat(model)
        expected = theta + torch.linalg.pinv(x) @ (y[:, 0] - x @ theta)
        assert ln.project_to_zero_error(model, x, y) == 1
        torch.testing.assert_close(flat(model), expected, rtol=0, atol=1e-13)

    def test_redundant_examples(self):
        model = tanh()
        x, y = torch.cat([X, X]), torch.cat([Y, Y])
        ln.project_to_zero_error(model, x, y)
        assert (model(x) - y).abs().max() <= 1e-12

    def test_convolution_and_several_outputs(self):
        model, x = Convolutional(), gaussian(3, 6, seed=3)
        ln.project_to_zero_error(model, x, Y)
        assert (model(x) - Y).abs().max() <= 1e-12
        model, y = ln.MLP([2, 5, 2], "tanh", seed=3), gaussian(3, 2, seed=4)
        ln.project_to_zero_error(model, X, y)
        assert (model(X) - y).abs().max() <= 1e-12

    def test_frozen_parameters_stay(self):
        model = tanh()
        model.layers[0].requires_grad_(False)
        before = model.layers[0].weight.clone()
        ln.project_to_zero_error(model, X, Y)
        assert torch.equal(model.layers[0].weight, before)
        assert (model(X) - Y).abs().max() <= 1e-12

    def test_at_such_a_point_already(self):
        model = ln.Product(2.0, 0.5)
        assert ln.project_to_zero_error(model, torch.zeros(1), torch.ones(1)) == 0
        assert flat(model).tolist() == [2.0, 0.5]

    def test_steps_that_overshoot_are_halved(self):
        model = Arctan(3.0)
        ln.project_to_zero_error(model, torch.zeros(1), torch.zeros(1))
        assert abs(model.theta.item()) <= 1e-12

    def test_tol_is_on_the_largest_error(self):
        coarse, fine = tanh(), tanh()
        assert ln.project_to_zero_error(coarse, X, Y, tol=0.1) < ln.project_to_zero_error(fine, X, Y)
        assert 1e-12 < (coarse(X) - Y).abs().max() <= 0.1

    def test_labels_in_another_precision(self):
        model = tanh(dtype=torch.float32)
        ln.project_to_zero_error(model, X.float(), Y, tol=1e-6)
        assert (model(X.float()) - Y).abs().max() <= 1e-6 + 1e-7

    @pytest.mark.parametrize("failure", ["conflict", "out of range", "too few steps", "flat"])
    def test_theta_is_back_where_it_was_on_failure(self, failure):
        model, x, y, more = tanh(), X, Y, {}
        if failure == "conflict":
            x, y = torch.cat([X, X[:1]]), torch.cat([Y, Y[:1] + 0.1])
        elif failure == "out of range":
            model, x, y = Arctan(0.5), torch.zeros(1), torch.tensor([2.0])
        elif failure == "too few steps":
            more = dict(max_steps=1)
        else:
            model, x, y = ln.Product(0.0, 0.0), torch.zeros(1), torch.ones(1)
        before = flat(model)
        with pytest.raises(ArithmeticError, match="no point with an error below 1e-12 was found near by"):
            ln.project_to_zero_error(model, x, y, **more)
        assert torch.equal(flat(model), before)


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


def lemma_8(model, x, lr, noise_std, batch_size):
    """-2 lr^2 var sum_k E[h^{jk} h^k] for each direction j with gamma_j = 0, as a vector of the parameters."""
    theta = flat(model)
    j = torch.func.jacrev(h_of_theta(model, x))(theta)
    gamma, basis = torch.linalg.eigh(j.T @ j / len(x))
    flat_directions = basis[:, gamma < 1e-10 * gamma.max()]
    steep = basis[:, gamma >= 1e-10 * gamma.max()]
    assert steep.shape[1] == len(x)
    drift = torch.zeros_like(theta)
    for x_i in x.split(1):
        h = h_of_theta(model, x_i)
        hessian, slope = torch.func.hessian(lambda t, h=h: h(t)[0])(theta), torch.func.grad(lambda t, h=h: h(t)[0])(theta)
        for k in steep.T:
            drift -= (
                2
                * lr**2
                * noise_std**2
                / batch_size
                / len(x)
                * flat_directions
                @ (flat_directions.T @ hessian @ k * (slope @ k))
            )
    return drift


class TestDrift:
    @pytest.mark.parametrize("u, v", [(2.0, 0.5), (0.3, -4.0), (1.0, 1.0)])
    def test_product_in_closed_form(self, u, v):
        """Grad reg is 2 (u, v) and the tangent direction (u, -v) over its norm."""
        x = torch.zeros(1)
        tangent = np.array([u, -v]) / math.hypot(u, v)
        expected = 2 * (np.array([u, v]) @ tangent) * tangent
        np.testing.assert_allclose(ln.tangential_gradient(ln.Product(u, v), x), expected, rtol=0, atol=1e-14)
        drift = ln.drift(ln.Product(u, v), x, lr=0.01, noise_std=0.5, batch_size=4)
        np.testing.assert_allclose(drift, -(0.01**2) * 0.25 / 4 * expected, rtol=0, atol=1e-19)

    @pytest.mark.parametrize("name", ["tanh", "convolutional"])
    def test_lemma_8_written_out(self, name):
        model, x, _ = POINTS[name]()
        arguments = dict(lr=0.01, noise_std=0.5, batch_size=2)
        expected = lemma_8(model, x, **arguments)
        measured = ln.drift(model, x, **arguments)
        assert expected.norm() > 1e-7  # a repellent point
        assert (measured - expected).abs().max() < 1e-10 * expected.abs().max()

    @pytest.mark.parametrize("name", POINTS)
    def test_scales(self, name):
        model, x, _ = POINTS[name]()
        one = ln.drift(model, x, lr=0.01, noise_std=0.5)
        for factor, changed in (
            (9, dict(lr=0.03)),
            (4, dict(noise_std=1.0)),
            (1 / 5, dict(batch_size=5)),
            (0, dict(noise_std=0)),
        ):
            other = ln.drift(model, x, **dict(lr=0.01, noise_std=0.5) | changed)
            torch.testing.assert_close(other, factor * one, rtol=1e-13, atol=0)
        torch.testing.assert_close(one, -(0.01**2) * 0.25 * ln.tangential_gradient(model, x), rtol=1e-13, atol=0)

    @pytest.mark.parametrize("name", POINTS)
    def test_moves_along_the_manifold_and_down(self, name):
        """Tangent, and by the derivative of reg along it: -lr^2 var |P grad reg|^2."""
        model, x, _ = POINTS[name]()
        drift = ln.drift(model, x, lr=0.1, noise_std=1.0)
        jacobian = ln.linearize(model, x).jacobian
        assert (jacobian @ drift).abs().max() < 1e-13 * jacobian.norm() * drift.norm()
        reg = []
        theta = flat(model)
        for sign in (1, -1):
            nn.utils.vector_to_parameters(theta + sign * 1e-3 * drift, model.parameters())
            reg.append(ln.implicit_regularizer(model, x).item())
        nn.utils.vector_to_parameters(theta, model.parameters())
        expected = -(0.1**2) * ln.tangential_gradient(model, x).square().sum().item()
        assert expected < 0
        assert (reg[0] - reg[1]) / 2e-3 == pytest.approx(expected, rel=1e-5)

    def test_frozen_parameters_are_left_out(self):
        model = ln.Product(2.0, 0.5)
        model.v.requires_grad_(False)
        # Along u alone h changes, so nothing is tangent.
        assert ln.tangential_gradient(model, torch.zeros(1)).tolist() == pytest.approx([0], abs=1e-15)
        model, x, _ = POINTS["tanh"]()
        model.layers[1].requires_grad_(False)
        assert ln.drift(model, x, lr=0.1, noise_std=1.0).shape == (12,)

    def test_linear_model_has_none(self):
        assert ln.tangential_gradient(linear(), gaussian(2, 3)).abs().max() == 0

    def test_tol_of_the_rank(self):
        """With tol at .99 only the steepest direction is normal, so more of grad reg is left."""
        model, x, _ = POINTS["tanh"]()
        assert ln.tangential_gradient(model, x, tol=0.99).norm() > ln.tangential_gradient(model, x).norm() + 1e-3
        loose = ln.drift(model, x, lr=0.1, noise_std=1.0, tol=0.99)
        torch.testing.assert_close(loose, -0.01 * ln.tangential_gradient(model, x, tol=0.99), rtol=1e-13, atol=0)


class TestTangentialCurvature:
    @pytest.mark.parametrize("name", POINTS)
    def test_second_derivative_on_the_manifold(self, name):
        """Of reg along a walk in a tangent direction, brought back to zero error at each end; also where reg has a slope."""
        model, x, y = POINTS[name]()
        values, vectors = ln.tangential_curvature(model, x)
        jacobian = ln.linearize(model, x).jacobian
        assert (jacobian @ vectors).abs().max() < 1e-12 * jacobian.norm()
        theta, middle, t = flat(model), ln.implicit_regularizer(model, x).item(), 1e-3
        for k in (0, len(values) - 1):
            ends = []
            for sign in (1, -1):
                nn.utils.vector_to_parameters(theta + sign * t * vectors[:, k], model.parameters())
                ln.project_to_zero_error(model, x, y, tol=1e-14)
                ends.append(ln.implicit_regularizer(model, x).item())
            second = (sum(ends) - 2 * middle) / t**2
            assert second == pytest.approx(values[k].item(), rel=1e-3, abs=1e-4)

    def test_fused_attention(self):
        model, x = specimen("transformer layer of torch")
        values, vectors = ln.tangential_curvature(model, x[:2])
        assert values.isfinite().all() and values.diff().min() >= 0
        assert vectors.shape == (sum(p.numel() for p in model.parameters()), len(values))


class TestIsNonRepellent:
    one = torch.ones(1, dtype=torch.float64)

    def test_product(self):
        assert ln.is_non_repellent(ln.Product(1.0, 1.0), self.one, self.one) is True
        assert ln.is_non_repellent(ln.Product(-1.0, -1.0), self.one, self.one) is True
        assert ln.is_non_repellent(ln.Product(2.0, 0.5), self.one, self.one) is False

    @pytest.mark.parametrize("name", ["tanh", "convolutional"])
    def test_random_points_are_repellent(self, name):
        assert ln.is_non_repellent(*POINTS[name]()) is False

    @pytest.mark.parametrize("v", [0.5, 0.05])
    def test_tol_is_relative_to_grad_reg_or_to_one(self, v):
        """|P grad reg| = 2 (u^2 - v^2) / |theta|, and |grad reg| = 2 |theta|."""
        model, y = ln.Product(4 * v, v), torch.full((1,), 4 * v**2, dtype=torch.float64)
        size = math.hypot(4 * v, v)
        ratio = 2 * 15 * v**2 / size / max(1, 2 * size)
        assert (2 * size > 1) == (v == 0.5)
        assert ln.is_non_repellent(model, self.one, y, tol=1.001 * ratio)
        assert not ln.is_non_repellent(model, self.one, y, tol=0.999 * ratio)

    def test_training_error_is_refused_and_named(self):
        with pytest.raises(ValueError, match=r"training error, max \|h - y\| = 0.5, above error_tol = 1e-06.*project_to_zero"):
            ln.is_non_repellent(ln.Product(1.0, 1.0), self.one, self.one / 2)
        assert ln.is_non_repellent(ln.Product(1.0, 1.0), self.one, self.one / 2, error_tol=0.5)

    def test_end_of_the_flow_is_non_repellent(self):
        model = ln.Product(2.0, 0.5)
        ln.effective_flow(model, self.one, self.one, lr=0.01, noise_std=1.0, steps=10**5)
        ln.project_to_zero_error(model, self.one, self.one)
        assert ln.is_non_repellent(model, self.one, self.one)

    @pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
    def test_callers_mode_changes_nothing(self, mode):
        model = ln.Product(2.0, 0.5)
        with mode():
            assert not ln.is_non_repellent(model, self.one.clone(), self.one.clone())


def poisoned(value):
    model = tanh()
    with torch.no_grad():
        model.layers[0].weight[0, 0] = value
    return model


class Root(ln.Product):
    """With an infinite slope at 0."""

    def forward(self, x):
        return super().forward(x).abs().sqrt()


# The call, the error, and what the message must hold.
OU = dict(lr=0.1, noise_std=1.0)
BAD_INPUT = {
    "x a list": (lambda: ln.linearize(tanh(), [1, 2]), TypeError, "x must be a torch.Tensor or .* got list"),
    "x NaN": (lambda: ln.linearize(tanh(), X * NAN), ValueError, "x must be finite"),
    "x of another shape": (
        lambda: ln.linearize(tanh(), X[:, :1]),
        ValueError,
        r"x of shape \(3, 1\) .* is not what model takes",
    ),
    "x of another dtype": (
        lambda: ln.linearize(tanh(), X.float()),
        ValueError,
        "x of .* torch.float32 is not what model takes",
    ),
    "no module": (lambda: ln.linearize(lambda x: x, X), TypeError, "model must be a torch.nn.Module, got function"),
    "nothing to train": (lambda: ln.linearize(tanh().requires_grad_(False), X), ValueError, "no trainable parameter"),
    "half precision": (
        lambda: ln.linearize(tanh(dtype=torch.bfloat16), X.bfloat16()),
        ValueError,
        "'layers.0.weight' .*bfloat16",
    ),
    "theta NaN": (lambda: ln.linearize(poisoned(NAN), X), ValueError, r"model\(x\) is not finite: the parameters hold NaN"),
    "theta NaN, drift": (lambda: ln.drift(poisoned(NAN), X, **OU), ValueError, r"model\(x\) is not finite"),
    "theta NaN, Newton": (lambda: ln.project_to_zero_error(poisoned(NAN), X, Y), ValueError, r"model\(x\) is not finite"),
    "theta NaN, test": (lambda: ln.is_non_repellent(poisoned(NAN), X, Y), ValueError, r"model\(x\) is not finite"),
    "infinite slope": (lambda: ln.linearize(Root(0.0, 1.0), X), ValueError, "the Jacobian of the model is not finite"),
    "tol negative": (lambda: ln.linearize(tanh(), X, tol=-0.1), ValueError, r"tol must be in \[0, 1\), got -0.1"),
    "tol 1": (lambda: ln.linearize(tanh(), X, tol=1), ValueError, r"tol must be in \[0, 1\), got 1"),
    "tol NaN": (lambda: ln.drift(tanh(), X, tol=NAN, **OU), ValueError, "tol must be finite, got nan"),
    "tol text": (lambda: ln.linearize(tanh(), X, tol="small"), TypeError, "tol must be a number, got 'small'"),
    "vector a list": (lambda: ln.linearize(tanh(), X).project_tangent([0.0] * 17), TypeError, "vector must be a .* got list"),
    "vector short": (lambda: ln.linearize(tanh(), X).project_tangent(gaussian(3)), ValueError, r"vector .*\(17,\).*got \(3,\)"),
    "vector columns": (lambda: ln.linearize(tanh(), X).project_tangent(gaussian(17, 2)), ValueError, r"got \(17, 2\)"),
    "vector single": (lambda: ln.linearize(tanh(), X).project_tangent(torch.zeros(17)), ValueError, "and torch.float32"),
    "y a list": (
        lambda: ln.project_to_zero_error(tanh(), X, [0.1] * 3),
        TypeError,
        "y must be a torch.Tensor or .*, got list",
    ),
    "y words": (lambda: ln.project_to_zero_error(tanh(), X, np.array(["a"] * 3)), TypeError, "y must hold numbers, got .*<U1"),
    "y nothing": (
        lambda: ln.is_non_repellent(tanh(), X, None),
        TypeError,
        "y must be a torch.Tensor or .*, got NoneType",
    ),
    "y of another shape": (lambda: ln.project_to_zero_error(tanh(), X, Y[:, None]), ValueError, r"\(3,\), got \(3, 1\)"),
    "y NaN": (lambda: ln.project_to_zero_error(tanh(), X, Y * NAN), ValueError, "y must be finite, .* in example 0"),
    "y infinite": (lambda: ln.is_non_repellent(tanh(), X, Y / 0), ValueError, "y must be finite"),
    "x a list, Newton": (
        lambda: ln.project_to_zero_error(tanh(), [1], Y),
        TypeError,
        "x must be a torch.Tensor or .* got list",
    ),
    "tol 0": (lambda: ln.project_to_zero_error(tanh(), X, Y, tol=0), ValueError, "tol must be positive, got 0"),
    "no steps": (
        lambda: ln.project_to_zero_error(tanh(), X, Y, max_steps=0),
        ValueError,
        "max_steps must be at least 1, got 0",
    ),
    "steps 2.5": (
        lambda: ln.project_to_zero_error(tanh(), X, Y, max_steps=2.5),
        TypeError,
        "max_steps must be an integer, got 2.5",
    ),
    "test tol": (lambda: ln.is_non_repellent(tanh(), X, Y, tol=-1), ValueError, "tol must be at least 0, got -1"),
    "error_tol": (
        lambda: ln.is_non_repellent(tanh(), X, Y, error_tol=-1),
        ValueError,
        "error_tol must be at least 0, got -1",
    ),
    "lr 0": (lambda: ln.stationary_variance(0, 1), ValueError, "lr must be positive, got 0"),
    "lr text": (lambda: ln.stationary_variance("a", 1), TypeError, "lr must be a number, got 'a'"),
    "lr NaN": (lambda: ln.drift(tanh(), X, lr=NAN, noise_std=1), ValueError, "lr must be finite, got nan"),
    "std negative": (lambda: ln.drift(tanh(), X, lr=0.1, noise_std=-1), ValueError, "noise_std must be at least 0, got -1"),
    "batch 0": (lambda: ln.stationary_variance(0.1, 1, 0), ValueError, "batch_size must be at least 1, got 0"),
    "batch 1.5": (lambda: ln.drift(tanh(), X, batch_size=1.5, **OU), TypeError, "batch_size must be an integer, got 1.5"),
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


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_named(case):
    call, error, message = BAD_INPUT[case]
    with pytest.raises(error, match=message):
        call()
