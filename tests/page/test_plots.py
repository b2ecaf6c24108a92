"""The figures show what they say, in the book's colours."""

import itertools

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import labelnoise_utils as ln
from labelnoise_utils import plots

X, Y = ln.twelve_points()


@pytest.fixture
def ax():
    return Figure().add_subplot()


def curves(ax):
    return [line for line in ax.lines if len(line.get_xdata()) > 12]


def points(ax):
    return [line for line in ax.lines if len(line.get_xdata()) == 12]


@pytest.mark.parametrize("noise", [True, False])
@pytest.mark.parametrize("count", [0, 1, 4])
def test_functions_draws_one_curve_per_model_over_the_data(ax, count, noise):
    models = [ln.TwoLayerReLU(6, seed=seed) for seed in range(count)]
    plots.functions(ax, iter(models), X, Y, noise=noise)
    assert len(curves(ax)) == count
    for line, model in zip(curves(ax), models, strict=True):
        t = np.asarray(line.get_xdata())
        assert (t[0], t[-1]) == (X[0], X[-1])
        assert (np.diff(t) > 0).all() and len(t) >= 500
        np.testing.assert_array_equal(line.get_ydata(), model(torch.from_numpy(t)).detach())
    (data,) = points(ax)
    np.testing.assert_array_equal(data.get_xdata(), X)
    np.testing.assert_array_equal(data.get_ydata(), Y)
    assert data.get_linestyle() == "None" and data.get_marker() == "o"
    assert all(data.get_zorder() > line.get_zorder() for line in curves(ax))
    assert ax.get_xlabel()


def test_noise_shows_in_colour_and_besides_colour(ax):
    model = ln.TwoLayerReLU(6)
    plots.functions(ax, [model], X, Y, noise=True)
    plots.functions(ax, [model], X, Y, noise=False)
    with_noise, without = curves(ax)
    assert with_noise.get_color() == plots.NOISE
    assert without.get_color() == plots.PLAIN
    assert with_noise.get_linestyle() != without.get_linestyle()


def test_functions_does_not_touch_the_models(ax):
    model = ln.TwoLayerReLU(6)
    plots.functions(ax, [model], X, Y, noise=True)
    assert all(p.grad is None for p in model.parameters())
    assert torch.is_grad_enabled()


def test_colours_can_be_told_apart_without_their_hue():
    """By lightness (CIE L*), which also colour-blind readers and grey printers have."""

    def lightness(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        y = np.dot([0.2126, 0.7152, 0.0722], linear)
        return 116 * y ** (1 / 3) - 16

    levels = [lightness(colour) for colour in (plots.NOISE, plots.PLAIN, plots.DATA)]
    for one, other in itertools.combinations(levels, 2):
        assert abs(one - other) > 5
    # Contrast with white of at least 3 to 1, as the web's guidelines ask of graphics.
    assert all(level < 62 for level in levels)


def test_use_style_sets_the_defaults_and_nothing_else():
    before = dict(mpl.rcParams)
    try:
        plots.use_style()
        changed = {key for key, value in mpl.rcParams.items() if value != before[key]}
        assert changed
        assert changed <= set(plots.STYLE)
        for key, value in mpl.RcParams(plots.STYLE).items():
            assert mpl.rcParams[key] == value
        assert mpl.rcParams["savefig.facecolor"] == "white"
    finally:
        mpl.rcParams.update(before)
