"""The data sets have the shape that their docstring claims."""

import numpy as np
import pytest
import torch

import labelnoise_utils as ln


def slopes(x, y):
    return np.diff(y.numpy()) / np.diff(x.numpy())


@pytest.mark.parametrize("knots", ["between", "on"])
def test_twelve_points_are_equally_spaced_float64(knots):
    x, y = ln.twelve_points(knots)
    assert x.shape == y.shape == (12,)
    assert x.dtype == y.dtype == torch.float64
    np.testing.assert_allclose(x, -1 + 2 / 11 * np.arange(12), atol=1e-15)
    assert y[0].item() == pytest.approx(-0.3, abs=1e-15)


def test_slopes_with_knots_between_the_points():
    """In a gap with a corner in its middle the slope is the mean of its neighbours'."""
    expected = [1.5, 1.5, 0, -1.5, -1.5, 0.25, 2, 2, 0.5, -1, -1]
    np.testing.assert_allclose(slopes(*ln.twelve_points("between")), expected, atol=1e-13)


def test_slopes_with_knots_on_the_points():
    expected = [1.5, 1.5, 1.5, -1.5, -1.5, -1.5, 2, 2, 2, -1, -1]
    np.testing.assert_allclose(slopes(*ln.twelve_points("on")), expected, atol=1e-13)


@pytest.mark.parametrize("knots", ["between", "on"])
def test_data_need_two_changes_of_convexity(knots):
    bends = np.diff(slopes(*ln.twelve_points(knots)))
    signs = np.sign(bends[np.abs(bends) > 1e-9])
    assert np.count_nonzero(np.diff(signs)) == 2


def test_between_is_the_default():
    assert torch.equal(ln.twelve_points()[1], ln.twelve_points("between")[1])


@pytest.mark.parametrize("knots", ["between", "on"])
def test_scale_multiplies_the_labels_alone(knots):
    x, y = ln.twelve_points(knots)
    x_scaled, y_scaled = ln.twelve_points(knots, scale=1.21)
    assert torch.equal(x, x_scaled)
    assert torch.equal(1.21 * y, y_scaled)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (dict(knots="off"), ValueError, "knots must be 'between' or 'on', got 'off'"),
        (dict(knots=None), ValueError, "knots must be 'between' or 'on', got None"),
        (dict(scale="a"), TypeError, "scale must be a number, got 'a'"),
        (dict(scale=float("nan")), ValueError, "scale must be finite, got nan"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        ln.twelve_points(**arguments)


class TestMatrixSensing:
    def test_labels_are_the_products_with_a_matrix_of_that_rank(self):
        x, y, target = ln.matrix_sensing(6, 2, 9, seed=3)
        assert (x.shape, y.shape, target.shape) == ((9, 6, 6), (9,), (6, 6))
        assert {part.dtype for part in (x, y, target)} == {torch.float64}
        for a, label in zip(x, y, strict=True):
            assert label.item() == pytest.approx((a * target).sum().item(), abs=1e-12)
        assert torch.equal(target, target.T)
        eigenvalues = torch.linalg.eigvalsh(target)
        assert eigenvalues[:4].abs().max() < 1e-12 and eigenvalues[4:].min() > 1e-3

    @pytest.mark.parametrize("dim, n", [(1, 1), (6, 9), (70, 120)])
    def test_packed_are_the_same_measurements(self, dim, n):
        full, packed = (ln.matrix_sensing(dim, 1, n, seed=1, packed=packed) for packed in (False, True))
        assert torch.equal(packed.x, ln.pack_measurements(full.x))
        assert torch.equal(packed.y, full.y)
        assert torch.equal(packed.target, full.target)

    def test_more_measurements_begin_with_the_fewer(self):
        few, many = (ln.matrix_sensing(70, 2, n, seed=1) for n in (60, 130))
        assert torch.equal(few.x, many.x[:60])
        torch.testing.assert_close(few.y, many.y[:60], rtol=0, atol=1e-12)
        assert torch.equal(few.target, many.target)
        assert not torch.equal(few.x, ln.matrix_sensing(70, 2, 60, seed=2).x)

    def test_single_precision_is_the_rounding(self):
        double, single = (ln.matrix_sensing(6, 2, 9, seed=3, dtype=dtype) for dtype in (torch.float64, torch.float32))
        for one, other in zip(double, single, strict=True):
            assert torch.equal(one.float(), other)

    def test_scales(self):
        """Standard normal measurements, and E tr X* = rank; within five standard errors."""
        dim, rank, n = 30, 3, 100
        data = [ln.matrix_sensing(dim, rank, n, seed) for seed in range(40)]
        entries = torch.cat([x.flatten() for x, _, _ in data])
        assert abs(entries.mean()) < 5 / len(entries) ** 0.5
        assert abs(entries.square().mean() - 1) < 5 * (2 / len(entries)) ** 0.5
        traces = torch.stack([target.trace() for _, _, target in data])
        assert abs(traces.mean() - rank) < 5 * (2 * rank / dim / len(data)) ** 0.5

    @pytest.mark.parametrize(
        "changes, error, message",
        [
            (dict(rank=7), ValueError, "rank must be at most dim = 6, got 7"),
            (dict(rank=0), ValueError, "rank must be at least 1, got 0"),
            (dict(dim=0), ValueError, "dim must be at least 1, got 0"),
            (dict(n=0), ValueError, "n must be at least 1, got 0"),
            (dict(n=5.0), TypeError, "n must be an integer, got 5.0"),
            (dict(seed=-1), ValueError, "seed must be at least 0, got -1"),
            (dict(dtype=torch.int64), TypeError, "dtype must be a floating-point torch.dtype, got torch.int64"),
            (dict(dtype="float32"), TypeError, "dtype must be a floating-point torch.dtype, got 'float32'"),
        ],
    )
    def test_bad_arguments(self, changes, error, message):
        with pytest.raises(error, match=message):
            ln.matrix_sensing(**dict(dim=6, rank=2, n=9) | changes)

    @pytest.mark.parametrize("packed, shape", [(True, r"\(5000050000,\)"), (False, r"\(100000, 100000\)")])
    def test_what_does_not_fit_is_refused_before_anything_is_made(self, packed, shape, monkeypatch):
        def no_array(*arguments, **options):
            raise AssertionError("an array was made")

        for where, name in ((torch, "empty"), (torch, "arange"), (np.random, "default_rng")):
            monkeypatch.setattr(where, name, no_array)
        with pytest.raises(ValueError, match=rf"2500 measurements of shape {shape} .* take .* GB.*packed=True halves"):
            ln.matrix_sensing(100_000, 5, 2500, packed=packed)


class TestPackMeasurements:
    def test_product_with_a_symmetric_matrix_stays(self):
        rng = np.random.default_rng(0)
        a, x = torch.from_numpy(rng.normal(size=(3, 5, 5))), torch.from_numpy(rng.normal(size=(5, 5)))
        x = x + x.T
        j, k = torch.triu_indices(5, 5)
        torch.testing.assert_close(ln.pack_measurements(a) @ x[j, k], (a * x).sum(dim=(1, 2)), rtol=0, atol=1e-12)

    @pytest.mark.parametrize(
        "measurements, error, message",
        [
            (torch.zeros(3, 4, 5), ValueError, r"square, of shape \(n, d, d\), got \(3, 4, 5\)"),
            (torch.zeros(4, 4), ValueError, r"square, of shape \(n, d, d\), got \(4, 4\)"),
            (torch.zeros(0, 4, 4), ValueError, r"at least one measurement.*\(0, 4, 4\)"),
            (torch.zeros(3, 4, 4, dtype=torch.int64), TypeError, "floating-point numbers, got torch.int64"),
            (np.zeros((3, 4, 4)), TypeError, "floating-point numbers, got ndarray"),
        ],
    )
    def test_bad_measurements(self, measurements, error, message):
        with pytest.raises(error, match=message):
            ln.pack_measurements(measurements)


class TestUniquenessBound:
    @pytest.mark.parametrize("dim, rank", [(1, 1), (4, 1), (6, 2), (6, 5), (6, 6)])
    def test_is_the_statistical_dimension_of_the_cone(self, dim, rank):
        """E ||P g||^2 for a standard normal symmetric g and the projection P on the cone, within four standard errors.

        The cone is all that is positive semidefinite on the last d - r coordinates: P leaves the rest as it is,
        and takes the negative eigenvalues out of that block.
        """
        rng, draws = np.random.default_rng(dim + rank), 4000
        g = rng.normal(size=(draws, dim, dim))
        g = (g + g.swapaxes(1, 2)) / 2
        g[:, range(dim), range(dim)] = rng.normal(size=(draws, dim))
        # Now ||g||_F^2 has mean d + d(d-1)/2: one for each dimension of the symmetric matrices.
        block = np.linalg.eigvalsh(g[:, rank:, rank:])
        kept = (g**2).sum(axis=(1, 2)) - (np.minimum(block, 0) ** 2).sum(axis=1)
        error = kept.std() / draws**0.5
        assert abs(kept.mean() - ln.psd_uniqueness_bound(dim, rank)) < 4 * error

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="rank must be at most dim = 3, got 4"):
            ln.psd_uniqueness_bound(3, 4)
