"""Sigmoid units on several data points: the unit's equations against autograd, all their solutions, and the many classes."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import fsolve

import labelnoise_utils as ln
from labelnoise_utils.simplicity.unit_equations import gradient_and_hessian

S = ln.several_data_points
RNG = np.random.default_rng(3)


def draw(k):
    """Squared lengths over two decades, and multipliers of all sizes up to where units die out."""
    return RNG.normal(size=k) * 10 ** RNG.uniform(-1.5, 0.3), 10 ** RNG.uniform(-1, 1, k)


def sq_norms(x):
    return x.square().sum(dim=1)


class TestLagrangian:
    @pytest.mark.parametrize("activation", ["tanh", "logistic"])
    def test_is_what_a_unit_adds_to_reg_less_its_outputs_prices(self, activation):
        x = torch.from_numpy(RNG.normal(size=(3, 4)))
        model = ln.TwoLayerSigmoidal(5, 4, activation, seed=1)
        mu = torch.tensor([0.3, -0.7, 0.2], dtype=torch.float64)
        units = torch.cat([model.c[:, None], model.hidden(x).T], dim=1).detach()
        total = S.lagrangian(units, mu, sq_norms(x), activation).value.sum()
        expected = 3 * ln.implicit_regularizer(model, x) - model(x) @ mu
        assert total.item() == pytest.approx(expected.item(), rel=1e-13)

    @pytest.mark.parametrize("activation", ["tanh", "logistic"])
    def test_derivatives_are_those_of_autograd(self, activation):
        mu, norms = (torch.from_numpy(one) for one in draw(3))

        def gamma(unit):
            c, h = unit[0], unit[1:]
            slope = 1 - h**2 if activation == "tanh" else h * (1 - h)
            return (h**2 + c**2 * norms * slope**2 - c * mu * h).sum()

        for unit in torch.rand(4, 4, dtype=torch.float64):
            found = S.lagrangian(unit[None], mu, norms, activation)
            torch.testing.assert_close(found.value[0], gamma(unit), rtol=1e-13, atol=1e-13)
            torch.testing.assert_close(found.gradient[0], torch.func.grad(gamma)(unit), rtol=1e-12, atol=1e-12)
            hessian = torch.func.hessian(gamma)(unit)
            torch.testing.assert_close(found.hessian[0], hessian, rtol=1e-12, atol=1e-12)
            assert found.index[0] == (torch.linalg.eigvalsh(hessian) < 0).sum()


class TestUnits:
    @pytest.mark.parametrize("k", [1, 2, 3])
    def test_each_is_at_rest_and_obeys_the_sum_of_its_equations(self, k):
        for _ in range(20):
            mu, norms = draw(k)
            units = S.units(mu, norms)
            assert (S.lagrangian(units, mu, norms).gradient.abs() < 1e-12).all()
            c, h = units[:, :1].numpy(), units[:, 1:].numpy()
            np.testing.assert_allclose(c[:, 0] ** 2 * ((1 - h**4) @ norms), (h**2).sum(axis=1), rtol=1e-9)
            assert (c > 0).all() and (abs(h) < 1).all() and ((h @ mu) > 0).all()

    @pytest.mark.parametrize("k", [1, 2, 3])
    def test_none_is_missing_that_a_solver_from_random_starts_finds(self, k):
        for _ in range(4):
            mu, norms = draw(k)
            known = S.units(mu, norms).numpy()

            def gradient(unit, mu=mu, norms=norms):
                return gradient_and_hessian(unit[None], mu, norms)[0][0]

            for _ in range(60):
                start = np.concatenate([10 ** RNG.uniform(-1, 1.3, 1), RNG.uniform(-1, 1, k)])
                unit, _, success, _ = fsolve(gradient, start, full_output=True)
                unit *= np.sign(unit[0])
                if success == 1 and unit[0] > 1e-3 and (abs(unit[1:]) < 1).all() and abs(gradient(unit)).max() < 1e-9:
                    assert abs(known - unit).max(axis=1).min() < 1e-6

    @pytest.mark.parametrize("k", [2, 3])
    def test_a_finer_scan_finds_no_more(self, k):
        for _ in range(8):
            mu, norms = draw(k)
            np.testing.assert_allclose(S.units(mu, norms), S.units(mu, norms, points=1000), atol=1e-10)

    def test_one_point_is_equation_23(self):
        for o in (0.1, 1.0, 4.0):
            c, h = ln.one_data_point.unit(o, "tanh", norm=2.0)
            price = ln.one_data_point.slope(o, "tanh", norm=2.0).item()
            np.testing.assert_allclose(S.units([price], [4.0]), [[c, h]], rtol=1e-10)
            assert len(S.units([-price], [4.0])) == 1
        assert len(S.units([4.1], [4.0])) == 0  # above the largest slope, 2 |x|, there is none

    def test_signs_and_order_of_the_points_only_move_the_units(self):
        mu, norms = np.array([0.4, 0.02, -0.1]), np.array([1.0, 0.1, 2.0])
        units = S.units(mu, norms).numpy()
        assert len(units) > 2
        flipped = S.units(mu * [1, -1, -1], norms).numpy() * [1, 1, -1, -1]
        swapped = S.units(mu[::-1], norms[::-1]).numpy()[:, [0, 3, 2, 1]]
        for other in (flipped, swapped):
            assert len(other) == len(units)
            for unit in units:
                assert abs(other - unit).max(axis=1).min() < 1e-10

    def test_on_an_axis_units_come_in_pairs(self):
        units = S.units([0.85, 0.0], [1.0, 0.3])
        assert len(units) == 4 and units[:, 2].abs().lt(1e-12).sum() == 2
        assert units[2, 2] == -units[3, 2]
        assert S.lagrangian(units, [0.85, 0.0], [1.0, 0.3]).index.tolist() == [1, 0, 1, 1]

    def test_no_price_no_unit(self):
        assert S.units([0.0, 0.0], [1.0, 2.0]).shape == (0, 3)


class TestManyClasses:
    @pytest.mark.parametrize(("activation", "count"), [("tanh", lambda k: 2 ** (k - 1)), ("logistic", lambda k: 2**k)])
    def test_first_order(self, activation, count):
        for k in range(1, 8):
            many = S.first_order(k, activation)
            assert len(many.units) == len(ln.unit_classes(many.model, many.x, tol=0.1).sizes) == count(k)
            assert ln.tangential_gradient(many.model, many.x).norm() < 1e-12
            assert ln.is_non_repellent(many.model, many.x, many.model(many.x).detach())
            index = S.lagrangian(many.units, many.multipliers, sq_norms(many.x), activation).index
            assert sorted(index.tolist()) == [1] * len(index) if activation == "tanh" else [0] + [1] * (len(index) - 1)

    def test_first_order_is_all_there_is_at_its_multipliers(self):
        many = S.first_order(3)
        assert abs(S.units(many.multipliers, [1.0] * 3).sort(0).values - many.units.sort(0).values).max() < 1e-10

    @pytest.mark.parametrize("k", range(3, 8))
    def test_second_order_is_a_strict_local_minimum(self, k):
        many = S.second_order(k)
        assert len(ln.unit_classes(many.model, many.x, tol=0.05).sizes) == 2 ** (k - 2)
        assert ln.tangential_gradient(many.model, many.x).norm() < 1e-12
        values, _ = ln.tangential_curvature(many.model, many.x)
        assert values[0] > 0.005
        assert (S.lagrangian(many.units, many.multipliers, sq_norms(many.x)).index == 0).all()

    @pytest.mark.parametrize("k", range(2, 8))
    def test_second_order_logistic_too(self, k):
        many = S.second_order(k, "logistic")
        at = S.lagrangian(many.units, many.multipliers, sq_norms(many.x), "logistic")
        assert len(ln.unit_classes(many.model, many.x, tol=0.05).sizes) == 2 ** (k - 1)
        assert at.gradient.abs().max() < 1e-11 and (at.index == 0).all()
        assert ln.tangential_gradient(many.model, many.x).norm() < 1e-12
        # Small, since a unit near 0 hardly feels its weights; rounding is far smaller still.
        assert ln.tangential_curvature(many.model, many.x)[0][0] > 1e-9
        assert many.units[:, 0] == pytest.approx(2.5, abs=0.01) and many.units[:, 1] == pytest.approx(0.2, abs=1e-6)

    def test_second_order_in_more_dimensions_and_turned(self):
        """Only the lengths of independent inputs enter."""
        many = S.second_order(4)
        x = torch.tensor([[1.0, 0.2, 0, 0, 1], [0, 1, 0.3, 0, 0], [0, 0.5, 1, 0, 0], [0.1, 0, 0.4, 1, 2]], dtype=torch.float64)
        x *= (sq_norms(many.x) / sq_norms(x)).sqrt()[:, None]
        model = S.network(many.units, x)
        torch.testing.assert_close(model(x), many.model(many.x))
        assert ln.tangential_gradient(model, x).norm() < 1e-10
        values, _ = ln.tangential_curvature(model, x)
        assert values[len(many.units)] > 1e-3 and values[0] > -1e-9  # the fifth dimension, which no input has, is flat


class TestDescent:
    def test_networks_come_to_rest_with_indices_that_add_up_to_at_most_k(self):
        data = [
            (torch.from_numpy(RNG.normal(size=(k, d))), torch.from_numpy(RNG.normal(size=k))) for k in (1, 2, 3) for d in (2, 4)
        ]
        found = S.descend(data, 12)
        for (x, y), model, slope, index in zip(data, found.models, found.slopes, found.indices, strict=True):
            torch.testing.assert_close(model(x).detach(), y, rtol=0, atol=1e-10)
            assert (model.c >= 0).all()
            assert len(x) * ln.tangential_gradient(model, x).abs().max() == pytest.approx(slope.item(), abs=1e-8)
            if slope < 1e-6:
                assert index.sum() <= len(x)
                assert ln.tangential_curvature(model, x)[0][0] > -1e-6

    def test_one_point_leaves_one_unit(self):
        x, y = torch.tensor([[0.6, 0.8]], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
        model = S.descend([(x, y)], 20, seed=4).models[0]
        assert ln.unit_classes(model, x, tol=1e-3).sizes.tolist() == [1, 19]
        expected = ln.one_data_point.reg(1.0, "tanh")
        assert ln.implicit_regularizer(model, x).item() == pytest.approx(expected.item(), rel=1e-10)

    def test_a_many_class_minimum_is_left_alone(self):
        many = S.second_order(4)
        again = S.descend([(many.x, many.model(many.x).detach())], 4, steps=300).models[0]
        assert ln.implicit_regularizer(again, many.x) < ln.implicit_regularizer(many.model, many.x)  # from elsewhere: lower


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda: S.units([1.0], [1.0, 2.0]), ValueError, "same length"),
            (lambda: S.units([1.0], [0.0]), ValueError, "positive"),
            (lambda: S.units([np.nan], [1.0]), ValueError, "finite"),
            (lambda: S.units([0.1] * 8, [1.0] * 8), ValueError, "at most 7 entries, got 8"),
            (lambda: S.units([1.0], [1.0], points=9), ValueError, "points must be at least 10"),
            (lambda: S.lagrangian(torch.ones(2, 2), [1.0, 1.0], [1.0, 1.0]), ValueError, r"units must have shape \(m, 3\)"),
            (lambda: S.lagrangian(torch.ones(2, 2), [1.0], [1.0], "relu"), ValueError, "activation must be one of"),
            (lambda: S.network(torch.ones(1, 2), torch.ones(2, 2)), ValueError, r"\(m, 1 \+ k\) and \(k, d\)"),
            (lambda: S.network(torch.ones(1, 3) / 2, torch.ones(2, 2)), ValueError, "independent inputs, got 2 of rank 1"),
            (lambda: S.network(torch.ones(1, 2), torch.ones(1, 1)), ValueError, "range of tanh"),
            (lambda: S.network(-torch.ones(1, 2) / 2, torch.ones(1, 1), "logistic"), ValueError, "range of logistic"),
            (lambda: S.first_order(0), ValueError, "k must be at least 1"),
            (lambda: S.first_order(3, scale=2.0), ValueError, "scale 2 is too large"),
            (lambda: S.first_order(3, scale=0), ValueError, "scale must be positive"),
            (lambda: S.second_order(2), ValueError, "k must be at least 3"),
            (lambda: S.second_order(11), ValueError, "k must be at most 10"),
            (lambda: S.second_order(3.0), TypeError, "k must be an integer"),
            (lambda: S.second_order(1, "logistic"), ValueError, "k must be at least 2"),
            (lambda: S.second_order(3, "relu"), ValueError, "activation must be one of"),
            (lambda: S.descend([], 3), ValueError, "at least one data set"),
            (lambda: S.descend([(torch.ones(2, 1), torch.ones(3))], 3), ValueError, "x and y must have shapes"),
            (lambda: S.descend([(torch.ones(2, 1), torch.ones(2))], 0), ValueError, "width must be at least 1"),
            (lambda: S.descend([([1.0], [1.0])], 2), TypeError, "x must be a torch.Tensor"),
        ],
    )
    def test_input(self, call, error, message):
        with pytest.raises(error, match=message):
            call()


def test_every_word_has_its_unit():
    words = {tuple(np.sign(unit[1:]).astype(int)) for unit in S.first_order(3).units.numpy()}
    assert len(words) == 4 and all((-word[0], -word[1], -word[2]) not in words for word in words)
    assert words <= set(itertools.product([1, -1], repeat=3))
