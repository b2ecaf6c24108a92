"""Measures of functions on a line: length, changes of convexity, collinear points; on functions whose answers are known."""

import math

import numpy as np
import pytest
import torch

import labelnoise_utils as ln


def polygon(knots, slopes, start=0.0):
    """The piecewise-linear function with these slopes between these knots, straight beyond."""
    knots, slopes = np.asarray(knots, dtype=float), np.asarray(slopes, dtype=float)

    def f(x):
        y = start + slopes[0] * (x - knots[0])
        for knot, jump in zip(knots[1:-1], np.diff(slopes), strict=True):
            y = y + jump * torch.relu(x - knot)
        return y

    return f


def through(x, y):
    """The polygon through these points."""
    return polygon(x.numpy(), (y.diff() / x.diff()).numpy(), start=y[0].item())


def length_of_polygon(knots, slopes):
    return sum(np.diff(knots) * np.hypot(1, slopes))


def relu_network(kinks, jumps, *, left=0.0):
    """A TwoLayerReLU with these kinks, this slope at the left end, and one silent unit."""
    model = ln.TwoLayerReLU(len(kinks) + 1)
    with torch.no_grad():
        # Units of both facings and several scales: a (x - k) c with a c = jump, or from the left.
        slope = left
        for i, (kink, jump) in enumerate(zip(kinks, jumps, strict=True)):
            a = (-1) ** i * (1 + i)
            model.a[i], model.b[i], model.c[i] = a, -a * kink, jump / abs(a)
            slope += jump if a < 0 else 0
        model.a[-1], model.b[-1], model.c[-1] = 1.0, -100.0, 5.0
        model.a0.fill_(slope)
        model.b0.fill_(0.4)
    return model


class TestCurveLength:
    @pytest.mark.parametrize("slope", [0.0, 0.75, -3.0, 1000.0])
    @pytest.mark.parametrize("lo, hi", [(0.0, 4.0), (-1.0, 1.0), (5.0, 5.5)])
    def test_line(self, slope, lo, hi):
        length = ln.curve_length(lambda x: slope * x + 1, lo, hi)
        assert length == pytest.approx((hi - lo) * math.hypot(1, slope), rel=1e-10)

    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("steepness", [0.5, 5.0, 200.0])
    def test_polygon_falls_short_by_no_more_than_stated(self, steepness, seed):
        rng = np.random.default_rng(seed)
        knots = np.concatenate([[-1.0], np.sort(rng.uniform(-1, 2, 9)), [2.0]])
        slopes = rng.normal(0, steepness, 10)
        exact = length_of_polygon(knots, slopes)
        deficit = exact - ln.curve_length(polygon(knots, slopes), -1.0, 2.0)
        stated = 3 / 160_000 * (np.diff(slopes) ** 2).sum()
        assert -1e-10 * exact <= deficit <= stated

    def test_the_stated_bound_is_nearly_reached(self):
        """By a small kink in the middle of an interval of the grid."""
        step, jump = 2 / 20_000, 0.2
        kink = step / 2
        exact = length_of_polygon([-1, kink, 1], [-jump / 2, jump / 2])
        f = polygon([-1, kink, 1], [-jump / 2, jump / 2])
        deficit = exact - ln.curve_length(f, -1, 1)
        assert 0.95 * 2 / 160_000 * jump**2 < deficit <= 2 / 160_000 * jump**2

    def test_kinks_on_the_grid_cost_nothing(self):
        knots, slopes = [-1.0, -0.5, 0.0, 1.0], [3.0, -40.0, 7.0]
        length = ln.curve_length(polygon(knots, slopes), -1.0, 1.0)
        assert length == pytest.approx(length_of_polygon(knots, slopes), rel=1e-12)

    @pytest.mark.parametrize(
        "f, lo, hi, exact, curvature",
        [
            (lambda x: torch.sqrt(4 - x * x), -1.0, 1.0, 2 * math.pi / 3, 4 / 3**1.5),
            (torch.cosh, -2.0, 2.0, 2 * math.sinh(2), math.cosh(2)),
            (lambda x: x * x / 2, 0.0, 1.0, (math.sqrt(2) + math.asinh(1)) / 2, 1.0),
        ],
        ids=["circle", "catenary", "parabola"],
    )
    def test_smooth_functions_fall_short_by_no_more_than_stated(self, f, lo, hi, exact, curvature):
        deficit = exact - ln.curve_length(f, lo, hi)
        assert -1e-11 <= deficit <= (hi - lo) ** 3 / 9.6e9 * curvature**2 + 1e-11

    def test_relu_network(self):
        kinks, jumps = [-0.5, 0.1, 0.6], [2.0, -3.0, 1.5]
        model = relu_network(kinks, jumps, left=-0.5)
        exact = length_of_polygon([-1, *kinks, 1], np.cumsum([-0.5, *jumps]))
        length = ln.curve_length(model, -1, 1)
        assert length == pytest.approx(exact, abs=2 / 160_000 * np.square(jumps).sum())

    def test_the_points_of_figure_2(self):
        """The polygon through data A is the shortest curve through it."""
        x, y = ln.twelve_points("on")
        slopes = (y.diff() / x.diff()).numpy()
        exact = length_of_polygon(x.numpy(), slopes)
        assert exact == pytest.approx(3.7006, abs=1e-4)
        stated = 2 / 160_000 * np.square(np.diff(slopes)).sum()
        assert ln.curve_length(through(x, y), -1, 1) == pytest.approx(exact, abs=stated)


def most_swings(slopes, tol):
    """The most turns of an alternating subsequence whose swings all exceed tol, by trying all."""
    n = len(slopes)
    best = {}
    for j in range(n):
        for sign in (1, -1):
            ways = [best[i, -sign] + 1 for i in range(j) if sign * (slopes[j] - slopes[i]) > tol]
            best[j, sign] = max(ways, default=0)
    # The first swing is no turn yet.
    return max(max(best.values()) - 1, 0)


class TestConvexityChanges:
    @pytest.mark.parametrize(
        "f, lo, hi, changes",
        [
            (lambda x: 3 * x - 1, -1, 1, 0),
            (lambda x: x**2, -1, 1, 0),
            (lambda x: -torch.exp(x), -1, 2, 0),
            (lambda x: x**3, -1, 1, 1),
            (lambda x: x**3, 0.0, 1, 0),
            (torch.tanh, -3, 3, 1),
            (torch.sin, 0.1, 9.0, 2),
            (torch.sin, -20, 20, 13),
            (torch.abs, -1, 1, 0),
            (lambda x: torch.relu(x - 0.3) - torch.relu(x - 0.5), -1, 1, 1),
        ],
    )
    def test_known_functions(self, f, lo, hi, changes):
        assert ln.convexity_changes(f, lo, hi, tol=0.1) == changes
        assert ln.convexity_changes(lambda x: -f(x), lo, hi, tol=0.1) == changes
        assert ln.convexity_changes(lambda x: f(-x), -hi, -lo, tol=0.1) == changes
        assert ln.convexity_changes(lambda x: 10 * f(x) + 7 * x, lo, hi, tol=1.0) == changes

    def test_relu_network(self):
        """Kinks up, up, down, down, up, down: three changes."""
        kinks = [-0.8, -0.5, -0.2, 0.0, 0.3, 0.71]
        model = relu_network(kinks, [1.0, 0.5, -1.0, -0.3, 2.0, -1.5])
        assert ln.convexity_changes(model, -1, 1, tol=0.1) == 3
        assert ln.convexity_changes(model, -1, -0.1, tol=0.1) == 1

    @pytest.mark.parametrize("knots", ["between", "on"])
    def test_the_simplest_interpolant_of_the_data_changes_twice(self, knots):
        x, y = ln.twelve_points(knots)
        assert ln.convexity_changes(through(x, y), -1, 1, tol=0.1) == 2

    @pytest.mark.parametrize("wiggle, changes", [(0.09, 1), (0.11, 3)])
    def test_a_wiggle_counts_from_tol_on(self, wiggle, changes):
        """Slopes up to 1, back by the wiggle, up again to 2 and down."""
        slopes = [0.0, 1.0, 1.0 - wiggle, 2.0, 0.5]
        f = polygon([-1, -0.6, -0.2, 0.2, 0.6, 1.0], slopes)
        assert ln.convexity_changes(f, -1, 1, tol=0.1) == changes

    def test_a_long_way_back_in_small_steps_counts(self):
        """The hysteresis is from the last extreme, not from step to step."""
        slopes = np.concatenate([np.linspace(0, 1, 30), np.linspace(1, 0, 30)])
        f = polygon(np.linspace(-1, 1, 61), slopes)
        assert ln.convexity_changes(f, -1, 1, tol=0.3) == 1

    def test_a_drift_of_many_wiggles_below_tol_does_not(self):
        slopes = np.linspace(0, 3, 80) + 0.04 * (-1.0) ** np.arange(80)
        f = polygon(np.linspace(-1, 1, 81), slopes)
        assert ln.convexity_changes(f, -1, 1, tol=0.1) == 0
        assert ln.convexity_changes(f, -1, 1, tol=0.01) == 78

    @pytest.mark.parametrize("seed", range(8))
    @pytest.mark.parametrize("tol", [0.05, 0.5, 1.5])
    def test_against_all_subsequences(self, tol, seed):
        rng = np.random.default_rng(seed)
        knots = np.concatenate([[-1.0], np.sort(rng.choice(np.arange(1, 199), 24, False)) / 100 - 1])
        knots = np.append(knots, 1.0)
        slopes = rng.normal(size=25)
        measured = ln.convexity_changes(polygon(knots, slopes), -1, 1, tol=tol)
        assert measured == most_swings(slopes.tolist(), tol)


class TestCollinearDeviation:
    def test_zero_for_a_straight_interpolant(self):
        for knots in ("between", "on"):
            x, y = ln.twelve_points(knots)
            assert ln.collinear_deviation(through(x, y), x, y) < 1e-13

    def test_the_corner_of_data_b_is_not_looked_at(self):
        """Between points 2 and 3 the interpolant may do what it likes."""
        x, y = ln.twelve_points("between")
        straight = through(x, y)
        lo, hi = x[2].item(), x[3].item()
        bump = polygon([-1, lo, (lo + hi) / 2, hi, 1], [0.0, 9.0, -9.0, 0.0])
        assert ln.collinear_deviation(lambda t: straight(t) + bump(t), x, y) < 1e-12

    @pytest.mark.parametrize("height", [0.01, 0.3])
    @pytest.mark.parametrize("gap", [0, 1, 4, 10])
    def test_height_of_a_bump_in_a_straight_gap(self, gap, height):
        x, y = ln.twelve_points("between")
        straight = through(x, y)
        lo, hi = x[gap].item(), x[gap + 1].item()
        steep = 2 * height / (hi - lo)
        bump = polygon([-2, lo, (lo + hi) / 2, hi, 2], [0.0, steep, -steep, 0.0])
        for sign in (1, -1):
            deviation = ln.collinear_deviation(lambda t, s=sign: straight(t) + s * bump(t), x, y)
            assert deviation == pytest.approx(height, rel=1e-9)

    def test_measures_from_the_data_and_not_from_the_values_there(self):
        x, y = ln.twelve_points()
        assert ln.collinear_deviation(through(x, y + 0.1), x, y) == pytest.approx(0.1, abs=1e-12)

    def test_nan_is_not_swallowed(self):
        x, y = ln.twelve_points()
        assert math.isnan(ln.collinear_deviation(lambda t: torch.where(t < 0.5, t, math.nan), x, y))

    def test_single_precision_data(self):
        x, y = (v.float() for v in ln.twelve_points())
        assert ln.collinear_deviation(ln.TwoLayerReLU(3, dtype=torch.float32), x, y) > 0

    @pytest.mark.parametrize(
        "x, y, message",
        [
            ([0.0, 0.0, 1.0], [0.0, 1.0, 2.0], "x must be increasing"),
            ([0.0, 2.0, 1.0], [0.0, 1.0, 2.0], "x must be increasing"),
            ([0.0, math.nan, 1.0], [0.0, 1.0, 2.0], "x must be increasing"),
            ([0.0, 1.0, 2.0], [0.0, 1.0, 0.0], "no three neighbouring points are collinear"),
            ([0.0, 1.0], [0.0, 1.0], "no three neighbouring points are collinear"),
            ([0.0, 1.0, 2.0], [0.0, 1.0], r"same shape \(n,\), got \(3,\) and \(2,\)"),
            ([[0.0, 1.0, 2.0]], [[0.0, 1.0, 2.0]], r"same shape \(n,\), got \(1, 3\)"),
        ],
    )
    def test_bad_data(self, x, y, message):
        x, y = (torch.tensor(v, dtype=torch.float64) for v in (x, y))
        with pytest.raises(ValueError, match=message):
            ln.collinear_deviation(torch.sin, x, y)


MEASURES = {
    "length": ln.curve_length,
    "changes": lambda f, lo, hi: ln.convexity_changes(f, lo, hi, tol=0.1),
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
class TestBadArguments:
    @pytest.mark.parametrize(
        "lo, hi, error, message",
        [
            (1.0, 1.0, ValueError, "lo must be below hi, got 1.0 and 1.0"),
            (2, -1, ValueError, "lo must be below hi, got 2 and -1"),
            (math.nan, 1.0, ValueError, "lo must be finite, got nan"),
            (0.0, math.inf, ValueError, "hi must be finite, got inf"),
            ("a", 1.0, TypeError, "lo must be a number, got 'a'"),
            (0.0, None, TypeError, "hi must be a number, got None"),
        ],
    )
    def test_interval(self, measure, lo, hi, error, message):
        with pytest.raises(error, match=message):
            measure(torch.sin, lo, hi)

    @pytest.mark.parametrize(
        "f, message",
        [
            (torch.log, "got NaN or infinity"),
            (lambda x: 1 / torch.relu(x), "got NaN or infinity"),
            (lambda x: x[:, None], r"got shape \(20001, 1\)"),
            (lambda x: x.sum(), r"got shape \(\)"),
        ],
    )
    def test_function(self, measure, f, message):
        with pytest.raises(ValueError, match=rf"f must map shape \(20001,\) .*{message}"):
            measure(f, -1, 1)

    def test_nothing_is_left_behind(self, measure):
        model = ln.TwoLayerReLU(4)
        measure(model, -1, 1)
        assert all(p.grad is None for p in model.parameters())
        assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    "tol, error, message",
    [
        (0, ValueError, "tol must be positive, got 0"),
        (-0.1, ValueError, "tol must be positive, got -0.1"),
        (math.nan, ValueError, "tol must be finite, got nan"),
        ("a", TypeError, "tol must be a number, got 'a'"),
    ],
)
def test_tolerance(tol, error, message):
    with pytest.raises(error, match=message):
        ln.convexity_changes(torch.sin, 0, 1, tol=tol)
