"""What Theorem 3 says on one data point: closed forms, ways down, and training."""

import math

import numpy as np
import pytest
import torch
from plain import flat
from points import second_derivative_of_reg

import labelnoise_utils as ln

POINT = torch.tensor([[1.2, -0.9, 0.8]], dtype=torch.float64)
NORM = POINT.norm().item()
ACTIVATIONS = ["tanh", "logistic"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
class TestClosedForms:
    def test_equations_20_and_22(self, activation):
        model = ln.TwoLayerSigmoidal(9, 3, activation, seed=2)
        h = model.hidden(POINT)[0].detach()
        o = model.c.detach() * h
        factor = (1 - h) if activation == "logistic" else (1 - h**2) / h
        expected = (h**2 + o**2 * factor**2 * NORM**2).sum()
        torch.testing.assert_close(ln.implicit_regularizer(model, POINT).detach(), expected, rtol=1e-12, atol=0)

    @pytest.mark.parametrize("norm", [0.3, 1.0, 4.0])
    @pytest.mark.parametrize("o", [0.02, 0.4, 3.0, 50.0, -0.7])
    def test_unit_minimises_its_share_of_reg(self, activation, o, norm):
        """Equations (21) and (23): of all h with this output, by a search that knows nothing of them."""
        c, h = (v.item() for v in ln.one_data_point.unit(o, activation, norm=norm))
        assert c * h == pytest.approx(o, rel=1e-12)

        def share(h):
            factor = (1 - h) if activation == "logistic" else (1 - h**2) / h
            return h**2 + o**2 * factor**2 * norm**2

        assert share(h) == pytest.approx(ln.one_data_point.reg(o, activation, norm=norm).item(), rel=1e-10)
        others = np.concatenate([np.linspace(1e-6, 1 - 1e-6, 5000), np.clip(h * (1 + np.linspace(-0.1, 0.1, 9)), 0, 1 - 1e-9)])
        assert share(others).min() >= share(h) * (1 - 1e-12)

    @pytest.mark.parametrize("norm", [0.3, 1.0, 4.0])
    def test_slope_and_curvature_are_derivatives(self, activation, norm):
        o = torch.tensor([-40.0, -1.3, -0.2, 1e-3, 0.1, 0.577, 2.0, 30.0], dtype=torch.float64, requires_grad=True)
        (first,) = torch.autograd.grad(ln.one_data_point.reg(o, activation, norm=norm).sum(), o, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), o)
        slope, curvature = (f(o, activation, norm=norm) for f in (ln.one_data_point.slope, ln.one_data_point.curvature))
        torch.testing.assert_close(slope, first, rtol=1e-10, atol=1e-12 * norm)
        torch.testing.assert_close(curvature, second, rtol=1e-8, atol=1e-10 * norm**2)

    def test_network_is_non_repellent_where_the_slopes_agree(self, activation):
        for outputs, stays in (([0.4] * 3, True), ([0.4, 0.4, 0.5], False)):
            model = ln.one_data_point.network(outputs, POINT, activation)
            y = torch.tensor([sum(outputs)], dtype=torch.float64)
            assert ln.is_non_repellent(model, POINT, y) == stays

    @pytest.mark.parametrize("norm, error", [(0.0, ValueError), (-1.0, ValueError), (math.inf, ValueError), ("1", TypeError)])
    def test_bad_norm(self, activation, norm, error):
        for f in (ln.one_data_point.unit, ln.one_data_point.reg, ln.one_data_point.slope, ln.one_data_point.curvature):
            with pytest.raises(error, match="norm must be"):
                f(1.0, activation, norm=norm)


class TestClosedFormsElsewhere:
    def test_the_papers_derivatives_are_half_of_these(self):
        z = torch.tensor([0.1, 0.9, 4.0], dtype=torch.float64)
        root = (z**4 + z**2).sqrt()
        torch.testing.assert_close(ln.one_data_point.slope(z, "tanh"), 2 * (2 * z * (z**2 + 0.5 - root) / root))
        papers = 2 * z * (z**2 + 1.5) / (z**2 + 1) ** 1.5 - 2
        torch.testing.assert_close(ln.one_data_point.curvature(z, "tanh"), 2 * papers)

    def test_silent_tanh_unit(self):
        assert [v.item() for v in ln.one_data_point.unit(0.0, "tanh")] == [0, 0]

    @pytest.mark.parametrize("o", [0.0, [1.0, 0.0]])
    def test_no_silent_logistic_unit(self, o):
        with pytest.raises(ValueError, match="o must not be 0 for the logistic"):
            ln.one_data_point.unit(o, "logistic")

    def test_unknown_activation(self):
        with pytest.raises(ValueError, match="activation must be one of tanh, logistic, got 'relu'"):
            ln.one_data_point.reg(1.0, "relu")

    @pytest.mark.parametrize(
        "o, x, message",
        [
            (1.0, POINT, r"o must have shape \(m,\), got \(\)"),
            ([], POINT, r"o must have shape \(m,\), got \(0,\)"),
            ([1.0], torch.ones(2, 3), r"x must be one data point of shape \(d,\) or \(1, d\), got \(2, 3\)"),
            ([1.0], torch.tensor(1.0), r"x must be one data point"),
            ([1.0], torch.zeros(1, 3), "norm must be positive, got 0"),
        ],
    )
    def test_network_refuses(self, o, x, message):
        with pytest.raises(ValueError, match=message):
            ln.one_data_point.network(o, x, "tanh")


class TestTangentialCurvature:
    """Second derivatives of reg along the manifold, by walking on it."""

    @pytest.mark.parametrize("outputs", [[0.9, 0.9], [1.5, 0.0], [0.6, 0.6, 0.6]])
    def test_against_values_on_the_manifold(self, outputs):
        """Reg(theta + t v, brought back to zero error) is reg + t^2/2 times the eigenvalue of v, to second order."""
        model = ln.one_data_point.network(outputs, POINT, "tanh")
        y = torch.tensor([sum(outputs)], dtype=torch.float64)
        values, vectors = ln.tangential_curvature(model, POINT)
        assert vectors.shape == (len(flat(model)), len(flat(model)) - 1)
        for value, v in zip(values.tolist(), vectors.T, strict=True):
            assert second_derivative_of_reg(model, POINT, y, v) == pytest.approx(value, abs=1e-3)

    @pytest.mark.parametrize("active", [1, 2, 3])
    def test_each_further_active_tanh_unit_is_a_way_down(self, active):
        model = ln.one_data_point.network([2 / active] * active + [0.0] * (4 - active), POINT, "tanh")
        values, _ = ln.tangential_curvature(model, POINT)
        assert (values < -1e-6).sum() == active - 1


def test_label_noise_leaves_one_tanh_unit():
    """Theorem 3 by training; without noise the units stay many."""
    x = POINT / NORM
    y = torch.tensor([3.0], dtype=torch.float64)
    noisy, plain = ([ln.TwoLayerSigmoidal(20, 3, seed=seed) for seed in range(4)] for _ in range(2))
    ln.train_stages(noisy, x, y, [(0.02, 1_000_000, ln.LabelNoise(1.0)), (0.01, 100_000, None)], progress=False, record=2)
    ln.train_stages(plain, x, y, [(0.02, 100_000, None)], progress=False, record=2)
    tol = ln.stationary_variance(0.02, 1.0) ** 0.5
    for model in noisy:
        classes = ln.unit_classes(model, x, tol=tol)
        assert classes.sizes[~classes.silent].tolist() == [1]
        assert classes.sizes[classes.silent].tolist() == [19]
    for model in plain:
        classes = ln.unit_classes(model, x, tol=tol)
        assert classes.sizes[~classes.silent].sum() >= 10
