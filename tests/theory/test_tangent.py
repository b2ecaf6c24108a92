"""What pushes along the manifold of zero error: the drift of Lemma 8, curvature, and Theorem 1's test."""

import math

import numpy as np
import pytest
import torch
from plain import flat, h_of_theta
from points import ONE, POINTS, X, Y, gaussian, linear, poisoned, second_derivative_of_reg, tanh
from refusals import refusals
from torch import nn
from zoo import specimen

import labelnoise_utils as ln

NAN = math.nan


# The call, the error, and what the message must hold.
OU = dict(lr=0.1, noise_std=1.0)


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
        for k in (0, len(values) - 1):
            second = second_derivative_of_reg(model, x, y, vectors[:, k])
            assert second == pytest.approx(values[k].item(), rel=1e-3, abs=1e-4)

    def test_layer_norm(self):
        """Of which torch's own third derivatives are wrong."""
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 1)).double()
        ln.project_to_zero_error(model, X, Y[:, None])
        values, vectors = ln.tangential_curvature(model, X)
        for k in (0, len(values) - 1):
            second = second_derivative_of_reg(model, X, Y[:, None], vectors[:, k])
            assert second == pytest.approx(values[k].item(), rel=1e-3, abs=1e-3)

    def test_fused_attention(self):
        model, x = specimen("transformer layer of torch")
        values, vectors = ln.tangential_curvature(model, x[:2])
        assert values.isfinite().all() and values.diff().min() >= 0
        assert vectors.shape == (sum(p.numel() for p in model.parameters()), len(values))

    def test_constant_slopes(self):
        """H = u v: Hess reg - mu Hess h at (1, 1), along (1, -1), is 2 + 2."""
        values, vectors = ln.tangential_curvature(ln.Product(1.0, 1.0), torch.zeros(1, dtype=torch.float64))
        torch.testing.assert_close(values, torch.tensor([4.0], dtype=torch.float64))
        torch.testing.assert_close(vectors.abs(), torch.full((2, 1), 0.5**0.5, dtype=torch.float64))

    def test_linear_model_has_none(self):
        model = ln.MLP([2, 1], seed=1)
        values, _ = ln.tangential_curvature(model, torch.ones(1, 2, dtype=torch.float64))
        assert values.tolist() == [0, 0]

    @pytest.mark.parametrize("tol", [-0.1, 1.0])
    def test_bad_tol(self, tol):
        with pytest.raises(ValueError, match="tol must be in"):
            ln.tangential_curvature(ln.Product(1.0, 1.0), torch.zeros(1), tol=tol)


class TestIsNonRepellent:
    def test_product(self):
        assert ln.is_non_repellent(ln.Product(1.0, 1.0), ONE, ONE) is True
        assert ln.is_non_repellent(ln.Product(-1.0, -1.0), ONE, ONE) is True
        assert ln.is_non_repellent(ln.Product(2.0, 0.5), ONE, ONE) is False

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
        assert ln.is_non_repellent(model, ONE, y, tol=1.001 * ratio)
        assert not ln.is_non_repellent(model, ONE, y, tol=0.999 * ratio)

    def test_training_error_is_refused_and_named(self):
        with pytest.raises(ValueError, match=r"training error, max \|h - y\| = 0.5, above error_tol = 1e-06.*project_to_zero"):
            ln.is_non_repellent(ln.Product(1.0, 1.0), ONE, ONE / 2)
        assert ln.is_non_repellent(ln.Product(1.0, 1.0), ONE, ONE / 2, error_tol=0.5)

    def test_end_of_the_flow_is_non_repellent(self):
        model = ln.Product(2.0, 0.5)
        ln.effective_flow(model, ONE, ONE, lr=0.01, noise_std=1.0, steps=10**5)
        ln.project_to_zero_error(model, ONE, ONE)
        assert ln.is_non_repellent(model, ONE, ONE)

    @pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
    def test_callers_mode_changes_nothing(self, mode):
        model = ln.Product(2.0, 0.5)
        with mode():
            assert not ln.is_non_repellent(model, ONE.clone(), ONE.clone())


BAD_INPUT = {
    "theta NaN, drift": (lambda: ln.drift(poisoned(), X, **OU), ValueError, r"model\(x\) is not finite"),
    "theta NaN, test": (lambda: ln.is_non_repellent(poisoned(), X, Y), ValueError, r"model\(x\) is not finite"),
    "tol NaN": (lambda: ln.drift(tanh(), X, tol=NAN, **OU), ValueError, "tol must be finite, got nan"),
    "y nothing": (
        lambda: ln.is_non_repellent(tanh(), X, None),
        TypeError,
        "y must be a torch.Tensor or a NumPy array, got NoneType",
    ),
    "y infinite": (lambda: ln.is_non_repellent(tanh(), X, Y / 0), ValueError, "y must be finite"),
    "test tol": (lambda: ln.is_non_repellent(tanh(), X, Y, tol=-1), ValueError, "tol must be at least 0, got -1"),
    "error_tol": (
        lambda: ln.is_non_repellent(tanh(), X, Y, error_tol=-1),
        ValueError,
        "error_tol must be at least 0, got -1",
    ),
    "lr NaN": (lambda: ln.drift(tanh(), X, lr=NAN, noise_std=1), ValueError, "lr must be finite, got nan"),
    "std negative": (lambda: ln.drift(tanh(), X, lr=0.1, noise_std=-1), ValueError, "noise_std must be at least 0, got -1"),
    "batch 1.5": (lambda: ln.drift(tanh(), X, batch_size=1.5, **OU), TypeError, "batch_size must be an integer, got 1.5"),
}

test_bad_input_is_named = refusals(BAD_INPUT)
