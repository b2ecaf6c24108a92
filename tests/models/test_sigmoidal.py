"""Two-layer tanh and logistic networks: the model, its units' classes, and what Theorem 3 says on one data point."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import labelnoise_utils as ln

POINT = torch.tensor([[1.2, -0.9, 0.8]], dtype=torch.float64)
NORM = POINT.norm().item()
ACTIVATIONS = ["tanh", "logistic"]
S = {"tanh": np.tanh, "logistic": lambda z: 1 / (1 + np.exp(-z))}


def with_units(c, h, activation="tanh"):
    """A network on the data point 1 whose units have these c and h."""
    model = ln.TwoLayerSigmoidal(len(c), 1, activation)
    z = torch.as_tensor(h, dtype=torch.float64)
    with torch.no_grad():
        model.c.copy_(torch.as_tensor(c, dtype=torch.float64))
        model.w[:, 0] = torch.atanh(z) if activation == "tanh" else torch.logit(z)
    return model


ONE = torch.ones(1, 1, dtype=torch.float64)


class TestModel:
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_formula(self, activation):
        model = ln.TwoLayerSigmoidal(5, 3, activation, seed=1)
        x = np.random.default_rng(0).normal(size=(7, 3))
        w, c = model.w.detach().numpy(), model.c.detach().numpy()
        h = [[S[activation](sum(w[i, j] * row[j] for j in range(3))) for i in range(5)] for row in x]
        np.testing.assert_allclose(model.hidden(torch.from_numpy(x)).detach(), h, rtol=1e-13)
        expected = [sum(c[i] * row[i] for i in range(5)) for row in h]
        np.testing.assert_allclose(model(torch.from_numpy(x)).detach(), expected, rtol=1e-12)

    def test_order_of_the_parameters(self):
        shapes = {name: tuple(p.shape) for name, p in ln.TwoLayerSigmoidal(5, 3).named_parameters()}
        assert list(shapes.items()) == [("w", (5, 3)), ("c", (5,))]

    def test_initial_scales(self):
        """Within five standard errors of the variance of a normal."""
        model = ln.TwoLayerSigmoidal(20_000, 2, input_std=3.0, output_std=0.5)
        for parameter, std in ((model.w, 3.0), (model.c, 0.5)):
            assert abs(parameter.square().mean() / std**2 - 1) < 5 * (2 / parameter.numel()) ** 0.5

    @pytest.mark.parametrize("shape", [(3,), (4, 2), (2, 3, 3), ()])
    def test_refuses_other_shapes(self, shape):
        with pytest.raises(ValueError, match=r"x must have shape \(n, 3\), got"):
            ln.TwoLayerSigmoidal(5, 3)(torch.zeros(shape, dtype=torch.float64))

    @pytest.mark.parametrize(
        "arguments, error, message",
        [
            ((0, 2), ValueError, "width must be at least 1, got 0"),
            ((2, 0), ValueError, "dim must be at least 1, got 0"),
            ((2.0, 2), TypeError, "width must be an integer, got 2.0"),
            ((2, True), TypeError, "dim must be an integer, got True"),
            ((2, 2, "relu"), ValueError, "activation must be one of tanh, logistic, got 'relu'"),
        ],
    )
    def test_bad_arguments(self, arguments, error, message):
        with pytest.raises(error, match=message):
            ln.TwoLayerSigmoidal(*arguments)

    @pytest.mark.parametrize("batch_size", [1, 2])
    def test_compiled_step_keeps_single_entries(self, batch_size):
        """Positions are those in theta, although the kernel works on w transposed."""
        model = ln.TwoLayerSigmoidal(4, 3, seed=1)
        theta = parameters_to_vector(model.parameters()).detach().numpy().copy()
        before, frozen = theta.copy(), np.array([1, 6, 13])
        x, y = np.random.default_rng(0).normal(size=(2, 3)), np.array([5.0, -3.0])
        indices = np.tile(np.arange(batch_size, dtype=np.int32), (20, 1))
        assert model.compiled_sgd(theta, x, y, indices, np.zeros((20, batch_size)), 0.01, frozen) == 20
        assert np.flatnonzero(theta == before).tolist() == frozen.tolist()

    @pytest.mark.parametrize("name", ["input_std", "output_std"])
    @pytest.mark.parametrize("value, error", [(-1.0, ValueError), (math.nan, ValueError), ("1", TypeError)])
    def test_bad_scales(self, name, value, error):
        with pytest.raises(error, match=f"{name} must be"):
            ln.TwoLayerSigmoidal(2, 2, **{name: value})


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


class TestUnitClasses:
    def test_classes_of_theorem_3(self):
        model = with_units([0.0, 2.0, -2.0, 2.0, 0.001], [0.0, 0.5, -0.5, 0.5001, -0.001])
        classes = ln.unit_classes(model, ONE, tol=0.01)
        active = classes.labels[[1, 2]].tolist()
        assert sorted(active) == [0, 1], "they have the largest output"
        assert classes.labels.tolist() == [2, active[0], active[1], active[0], 2]
        assert classes.silent.tolist() == [False, False, True]
        assert classes.sizes[classes.labels].tolist() == [2, 2, 1, 2, 2]
        torch.testing.assert_close(classes.centres[active[1]], torch.tensor([-2.0, -0.5], dtype=torch.float64))
        torch.testing.assert_close(classes.centres[active[0]], torch.tensor([2.0, 0.50005], dtype=torch.float64))
        assert classes.radii[active[0]].item() == pytest.approx(0.00005)

    def test_logistic_units_are_never_silent(self):
        classes = ln.unit_classes(with_units([0.0, 0.0], [0.5, 0.5], "logistic"), ONE, tol=0.1)
        assert (classes.sizes.tolist(), classes.silent.tolist()) == ([2], [False])

    def test_tol_is_a_distance_in_the_plane(self):
        """0.3 and 0.4 apart in c and h."""
        model = with_units([1.0, 1.3], [0.1, 0.5])
        assert len(ln.unit_classes(model, ONE, tol=0.5 + 1e-9).sizes) == 1
        assert len(ln.unit_classes(model, ONE, tol=0.5 - 1e-9).sizes) == 2

    def test_a_chain_is_one_class(self):
        """Whatever the order in which its units come."""
        c = torch.linspace(1, 2, 11, dtype=torch.float64)
        for order in (range(11), range(10, -1, -1), [5, 0, 10, 1, 9, 2, 8, 3, 7, 4, 6]):
            model = with_units(c[list(order)], [0.9] * 11)
            assert len(ln.unit_classes(model, ONE, tol=0.101).sizes) == 1
            assert len(ln.unit_classes(model, ONE, tol=0.099).sizes) == 11

    @pytest.mark.parametrize("seed", range(5))
    def test_order_of_units_does_not_matter(self, seed):
        rng = np.random.default_rng(seed)
        model, other = ln.TwoLayerSigmoidal(40, 3, seed=seed), ln.TwoLayerSigmoidal(40, 3)
        order = torch.from_numpy(rng.permutation(40))
        with torch.no_grad():
            other.w.copy_(model.w[order])
            other.c.copy_(model.c[order])
        one, two = (ln.unit_classes(m, POINT, tol=0.2) for m in (model, other))
        assert 1 < len(one.sizes) < 40
        assert torch.equal(one.labels[order], two.labels)
        for name in ("sizes", "silent", "centres", "radii"):
            torch.testing.assert_close(getattr(one, name), getattr(two, name))

    @pytest.mark.parametrize("tol", [0.05, 0.3])
    def test_against_the_definition(self, tol):
        """Neighbours share a class, and different classes are more than tol apart."""
        model = ln.TwoLayerSigmoidal(60, 3, seed=3)
        classes = ln.unit_classes(model, POINT, tol=tol)
        points = torch.stack([model.c, model.hidden(POINT)[0]], dim=1).detach()
        for i, j in itertools.combinations(range(60), 2):
            if (points[i] - points[j]).norm() <= tol:
                assert classes.labels[i] == classes.labels[j]
        for k in classes.labels.unique():
            inside, outside = points[classes.labels == k], points[classes.labels != k]
            if not classes.silent[k] and len(outside):
                assert torch.cdist(inside, outside).min() > tol
            torch.testing.assert_close(classes.centres[k], inside.mean(dim=0))
        assert classes.sizes.sum() == 60
        outputs = classes.centres.prod(dim=1).abs()
        assert classes.labels.unique().tolist() == list(range(len(outputs)))

    def test_several_points(self):
        """Units that agree on one point and not on the other."""
        model = ln.TwoLayerSigmoidal(2, 2)
        with torch.no_grad():
            model.w.copy_(torch.tensor([[0.3, 0.0], [0.3, 2.0]]))
            model.c.fill_(1.5)
        x = torch.eye(2, dtype=torch.float64)
        assert len(ln.unit_classes(model, x[0], tol=0.1).sizes) == 1
        both = ln.unit_classes(model, x, tol=0.1)
        assert len(both.sizes) == 2 and both.centres.shape == (2, 3)

    @pytest.mark.parametrize("tol, error", [(0.0, ValueError), (-1.0, ValueError), (math.nan, ValueError), ("a", TypeError)])
    def test_bad_tol(self, tol, error):
        with pytest.raises(error, match="tol must be"):
            ln.unit_classes(ln.TwoLayerSigmoidal(3, 3), POINT, tol=tol)

    def test_other_models(self):
        with pytest.raises(TypeError, match="model must be a TwoLayerSigmoidal, got MLP"):
            ln.unit_classes(ln.MLP([3, 4, 1], "tanh"), POINT, tol=0.1)

    @pytest.mark.parametrize("shape", [(2,), (1, 2), (1, 1, 3)])
    def test_other_shapes(self, shape):
        with pytest.raises(ValueError, match=r"x must have shape \(n, 3\), got"):
            ln.unit_classes(ln.TwoLayerSigmoidal(3, 3), torch.zeros(shape, dtype=torch.float64), tol=0.1)

    def test_not_finite(self):
        model = ln.TwoLayerSigmoidal(3, 3)
        with torch.no_grad():
            model.c[1] = math.nan
        with pytest.raises(ValueError, match="not finite"):
            ln.unit_classes(model, POINT, tol=0.1)


class TestTangentialCurvature:
    """Second derivatives of reg along the manifold, by walking on it."""

    @pytest.mark.parametrize("outputs", [[0.9, 0.9], [1.5, 0.0], [0.6, 0.6, 0.6]])
    def test_against_values_on_the_manifold(self, outputs):
        """Reg(theta + t v, brought back to zero error) is reg + t^2/2 times the eigenvalue of v, to second order."""
        model = ln.one_data_point.network(outputs, POINT, "tanh")
        y = torch.tensor([sum(outputs)], dtype=torch.float64)
        values, vectors = ln.tangential_curvature(model, POINT)
        start = parameters_to_vector(model.parameters()).detach().clone()
        assert vectors.shape == (len(start), len(start) - 1)
        reg, t = ln.implicit_regularizer(model, POINT).item(), 1e-3
        for value, v in zip(values.tolist(), vectors.T, strict=True):
            second = 0.0
            for sign in (1, -1):
                vector_to_parameters(start + sign * t * v, model.parameters())
                ln.project_to_zero_error(model, POINT, y, tol=1e-14)
                second += (ln.implicit_regularizer(model, POINT).item() - reg) / t**2
            assert second == pytest.approx(value, abs=1e-3)

    @pytest.mark.parametrize("active", [1, 2, 3])
    def test_each_further_active_tanh_unit_is_a_way_down(self, active):
        model = ln.one_data_point.network([2 / active] * active + [0.0] * (4 - active), POINT, "tanh")
        values, _ = ln.tangential_curvature(model, POINT)
        assert (values < -1e-6).sum() == active - 1

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
