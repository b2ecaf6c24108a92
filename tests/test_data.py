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
