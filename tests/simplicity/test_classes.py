"""Which hidden units of a sigmoid network are one: classes by c and h."""

import itertools
import math

import numpy as np
import pytest
import torch

import labelnoise_utils as ln

POINT = torch.tensor([[1.2, -0.9, 0.8]], dtype=torch.float64)


def with_units(c, h, activation="tanh"):
    """A network on the data point 1 whose units have these c and h."""
    model = ln.TwoLayerSigmoidal(len(c), 1, activation)
    z = torch.as_tensor(h, dtype=torch.float64)
    with torch.no_grad():
        model.c.copy_(torch.as_tensor(c, dtype=torch.float64))
        model.w[:, 0] = torch.atanh(z) if activation == "tanh" else torch.logit(z)
    return model


ONE = torch.ones(1, 1, dtype=torch.float64)


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
