"""The programme finds the interpolant with the least reg: against brute force, against a grid, against its own network."""

import itertools
import math
import time

import numpy as np
import pytest
import scipy.optimize
import torch

import labelnoise_utils as ln


def price(x, k):
    """Least reg of a unit with kink k and jump 1 on points x, straight from the definition."""
    ways = []
    for active in (x[x > k], x[x < k]):
        P, Q = sum((active - k) ** 2), sum(1 + active**2)
        ways.append(2 / len(x) * math.sqrt(P * Q))
    return min(ways)


def through_points(x, y, kinks):
    """Jumps (..., k) of the functions with these kinks (..., k) through as many points plus two; NaN where there is none."""
    columns = np.maximum(x[:, None] - kinks[..., None, :], 0)
    line = np.broadcast_to(np.stack([np.ones_like(x), x], axis=-1), (*columns.shape[:-1], 2))
    matrix = np.concatenate([line, columns], axis=-1)
    fine = np.abs(np.linalg.det(matrix)) > 1e-9
    jumps = np.full(kinks.shape, np.nan)
    jumps[fine] = np.linalg.solve(matrix[fine], np.broadcast_to(y[:, None], (fine.sum(), len(x), 1)))[:, 2:, 0]
    return jumps


def brute_force(x, y, repeated, per_gap):
    """Least reg over all functions with n - 2 kinks: on a grid that holds the points, then polished from the best ones."""
    grid = np.concatenate([np.linspace(lo, hi, per_gap, endpoint=False) for lo, hi in itertools.pairwise(x)])[1:]
    prices = np.array([price(repeated, k) for k in grid])
    sets = np.array(list(itertools.combinations(range(len(grid)), len(x) - 2)))
    costs = (prices[sets] * np.abs(through_points(x, y, grid[sets]))).sum(-1)
    costs[np.isnan(costs)] = np.inf

    def cost(kinks):
        if np.any((kinks <= x[0]) | (kinks >= x[-1])):
            return np.inf
        jumps = through_points(x, y, kinks[None])[0]
        return np.inf if np.isnan(jumps).any() else sum(price(repeated, k) * abs(j) for k, j in zip(kinks, jumps, strict=True))

    best = costs.min()
    for start in np.argsort(costs)[:3]:
        simplex = {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 2000}
        best = min(best, scipy.optimize.minimize(cost, grid[sets[start]], method="Nelder-Mead", options=simplex).fun)
    return np.mean(1 + repeated**2) + best


def connect_the_dots(x, y):
    x, y = x.numpy(), y.numpy()
    order = np.argsort(x)
    x, y = x[order], y[order]
    jumps = np.diff(np.diff(y) / np.diff(x))
    return np.mean(1 + x**2) + sum(price(x, k) * abs(j) for k, j in zip(x[1:-1], jumps, strict=True))


def random_data(seed):
    """5 to 30 points; inputs uniform, Gaussian or with heavy tails, labels rough, smooth or convex."""
    rng = np.random.default_rng(seed)
    n = rng.integers(5, 31)
    scale = [1.0, 10.0, 100.0][seed % 3]
    x = scale * [rng.uniform(-1, 1, n), rng.normal(size=n), rng.standard_cauchy(n)][seed // 3 % 3]
    y = [rng.normal(size=n), np.sin(3 * x / scale), (x / scale) ** 2][seed // 9 % 3]
    return torch.from_numpy(x), torch.from_numpy(y)


def changes(f):
    """Sign changes of the jumps: no grid and no tolerance."""
    return int(np.count_nonzero(np.diff(np.sign(f.jumps.numpy()))))


def sizes_at(f, x):
    """Size of the terms that f(x) is a sum of: what rounding is relative to."""
    terms = torch.relu(x[:, None] - f.kinks) * f.jumps
    units = torch.relu(torch.outer(x, f.model.a) + f.model.b) * f.model.c
    model = (units.abs().sum(1) + (f.model.a0 * x).abs() + f.model.b0.abs()).detach()
    return torch.maximum(terms.abs().sum(1) + (f.slope * x).abs() + abs(f.intercept), model).max().item()


def assert_fits(f, x, y):
    """Function and network go through the points, and the network's reg is the programme's value."""
    x, y = x.double(), y.double()
    size = sizes_at(f, x) + y.abs().max().item()
    with torch.no_grad():
        assert (f(x) - y).abs().max().item() <= 1e-12 * size
        assert (f.model(x) - y).abs().max().item() <= 1e-12 * size
        t = torch.linspace(x.min().item(), x.max().item(), 501, dtype=torch.float64)
        assert (f(t) - f.model(t)).abs().max().item() <= 1e-12 * size
    assert ln.implicit_regularizer(f.model, x).item() == pytest.approx(f.reg, rel=1e-9)


@pytest.mark.parametrize("knots", ["between", "on"])
class TestTwelvePoints:
    def test_reg(self, knots):
        x, y = ln.twelve_points(knots)
        f = ln.minimal_interpolant(x, y)
        assert f.reg == pytest.approx(4.683, rel=0.001)
        assert f.reg - f.lower_bound <= 1e-9
        assert ln.implicit_regularizer(f.model, x).item() == pytest.approx(f.reg, abs=1e-9)
        assert_fits(f, x, y)

    def test_changes(self, knots):
        x, y = ln.twelve_points(knots)
        f = ln.minimal_interpolant(x, y)
        assert ln.minimum_convexity_changes(x, y) == 2
        assert changes(f) == 2
        assert ln.convexity_changes(f, -1, 1, tol=0.1) == ln.convexity_changes(f.model, -1, 1, tol=0.1) == 2
        assert ln.collinear_deviation(f, x, y) < 1e-13

    def test_against_a_grid(self, knots):
        """A programme in other variables, values instead of slopes, over 400 places for a kink and the points."""
        x, y = (v.numpy() for v in ln.twelve_points(knots))
        grid = np.union1d(x, np.linspace(-1, 1, 400))[1:-1]
        columns = np.maximum(x[:, None] - grid, 0)
        prices = np.array([price(x, k) for k in grid])
        line = np.stack([np.ones(12), x], axis=1)
        result = scipy.optimize.linprog(
            np.concatenate([prices, prices, np.zeros(4)]),
            A_eq=np.hstack([columns, -columns, line, -line]),
            b_eq=y,
        )
        value = np.mean(1 + x**2) + result.fun
        assert value == pytest.approx(ln.minimal_interpolant(*ln.twelve_points(knots)).reg, rel=1e-7)

    def test_clearance(self, knots):
        """The optimum is the limit of functions whose kinks avoid the points."""
        x, y = ln.twelve_points(knots)
        gap, best = 2 / 11, ln.minimal_interpolant(x, y).reg
        regs = []
        for clearance in (1e-4, 1e-3, 1e-2, 0.1, 0.4):
            f = ln.minimal_interpolant(x, y, clearance=clearance)
            assert (f.kinks[:, None] - x).abs().min().item() >= clearance * gap * (1 - 1e-9)
            assert f.reg - f.lower_bound <= 1e-7
            assert_fits(f, x, y)
            regs.append(f.reg)
        assert sorted(regs) == regs
        ratios = (np.array(regs[:3]) - best) / [1e-4, 1e-3, 1e-2]
        np.testing.assert_allclose(ratios, ratios[0], rtol=0.05)


class TestRandomData:
    def test_bounds_and_changes(self):
        """Fifty data sets: certified, no worse than connecting the dots, and with as few changes as possible."""
        better = 0
        for seed in range(50):
            x, y = random_data(seed)
            f = ln.minimal_interpolant(x, y)
            dots = connect_the_dots(x, y)
            assert f.reg <= dots * (1 + 1e-9), seed
            assert -1e-12 <= f.reg / f.lower_bound - 1 <= 1e-8, seed
            assert changes(f) == ln.minimum_convexity_changes(x, y), seed
            assert_fits(f, x, y)
            better += f.reg < dots * (1 - 1e-4)
        assert better >= 5, "kinks off the points should pay now and then"

    def test_no_kink_is_split_in_two(self):
        """Two kinks of the same sign and facing inside one gap would do as one."""
        for seed in range(50):
            x, y = random_data(seed)
            f = ln.minimal_interpolant(x, y)
            assert (f.kinks.diff() > 0).all() and (f.jumps != 0).all()
            inside = ~torch.isin(f.kinks, x)
            gaps = torch.searchsorted(x.sort().values, f.kinks)
            kinds = list(zip(gaps[inside], (f.model.a > 0)[inside], (f.jumps > 0)[inside], strict=True))
            assert len({tuple(v.item() for v in kind) for kind in kinds}) == len(kinds), seed

    @pytest.mark.parametrize("n, per_gap", [(3, 200), (4, 40), (5, 12)])
    def test_brute_force(self, n, per_gap):
        inside = 0
        for seed in range(8):
            rng = np.random.default_rng(100 * n + seed)
            x, y = np.sort(rng.normal(size=n)) * [1.0, 30.0][seed % 2], rng.normal(size=n)
            counts = rng.integers(1, 4, n) if seed % 4 > 1 else np.ones(n, int)
            repeated = np.repeat(x, counts)
            f = ln.minimal_interpolant(torch.from_numpy(repeated), torch.from_numpy(np.repeat(y, counts)))
            exact = brute_force(x, y, repeated, per_gap)
            assert f.reg <= exact * (1 + 1e-9), seed
            assert exact == pytest.approx(f.reg, rel=1e-6), seed
            inside += not np.isin(f.kinks.numpy(), x).all()
        assert inside or n < 5, "kinks off the points should be among the tests"

    @pytest.mark.parametrize("seed", range(5))
    def test_no_network_undercuts_the_bound(self, seed):
        """Exact fits with more kinks than points, in random places, each at its best scale or not."""
        rng = np.random.default_rng(seed)
        x, y = random_data(seed)
        bound = ln.minimal_interpolant(x, y).lower_bound
        least = x.min().item(), x.max().item()
        for width in (2 * len(x), 10 * len(x)):
            kinks = rng.uniform(*least, width)
            a = rng.normal(size=width)
            hidden = np.maximum(a * (x.numpy()[:, None] - kinks), 0)
            features = np.concatenate([hidden, x.numpy()[:, None], np.ones((len(x), 1))], axis=1)
            solution, *_ = np.linalg.lstsq(features, y.numpy(), rcond=None)
            if np.abs(features @ solution - y.numpy()).max() > 1e-8:
                continue
            model = ln.TwoLayerReLU(width)
            with torch.no_grad():
                for parameter, value in zip(
                    model.parameters(), (a, -a * kinks, solution[:-2], solution[-2], solution[-1]), strict=True
                ):
                    parameter.copy_(torch.as_tensor(value))
            assert ln.implicit_regularizer(model, x).item() >= bound


class TestInvariance:
    @pytest.mark.parametrize("seed", range(9))
    def test_order_reflection_lines_and_scale_of_y(self, seed):
        x, y = random_data(seed)
        f = ln.minimal_interpolant(x, y)
        free = (1 + x**2).mean().item()
        rng = np.random.default_rng(seed)
        order = torch.from_numpy(rng.permutation(len(x)))
        assert ln.minimal_interpolant(x[order], y[order]).reg == pytest.approx(f.reg, rel=1e-9)
        assert ln.minimal_interpolant(-x, y).reg == pytest.approx(f.reg, rel=1e-7)
        line = 0.3 * x / x.abs().max() - 2
        assert ln.minimal_interpolant(x, y + line).reg == pytest.approx(f.reg, rel=1e-7)
        for factor in (-1.0, 1e-6, 1e6):
            scaled = ln.minimal_interpolant(x, factor * y)
            assert scaled.reg - free == pytest.approx(abs(factor) * (f.reg - free), rel=1e-6, abs=1e-9 * free)

    @pytest.mark.parametrize("scale", [1e-6, 1e6])
    @pytest.mark.parametrize("shift", [0.0, 3.0])
    def test_badly_scaled_inputs(self, scale, shift):
        rng = np.random.default_rng(1)
        x, y = torch.from_numpy(scale * (rng.uniform(-1, 1, 20) + shift)), torch.from_numpy(rng.normal(size=20))
        f = ln.minimal_interpolant(x, y)
        assert f.reg <= connect_the_dots(x, y) * (1 + 1e-9)
        assert f.reg / f.lower_bound - 1 <= 1e-8
        assert changes(f) == ln.minimum_convexity_changes(x, y)
        assert_fits(f, x, y)

    def test_repeated_points_are_fitted_once_and_counted_as_often_as_they_are_there(self):
        x, y = ln.twelve_points()
        often = torch.tensor([0, 1, 2, 3, 3, 3, 4, 5, 6, 7, 8, 9, 9, 10, 11])
        f = ln.minimal_interpolant(x[often], y[often])
        assert_fits(f, x[often], y[often])
        twice = ln.minimal_interpolant(x.repeat(2), y.repeat(2))
        assert twice.reg == pytest.approx(ln.minimal_interpolant(x, y).reg, rel=1e-12)
        assert f.reg != pytest.approx(twice.reg, rel=1e-3)

    def test_single_precision_and_integers(self):
        x, y = torch.tensor([0, 1, 2, 4]), torch.tensor([0, 1, 0, 1])
        exact = ln.minimal_interpolant(x, y).reg
        assert ln.minimal_interpolant(x.float(), y.float()).reg == exact
        assert ln.minimal_interpolant(x, y).model.a.dtype == torch.float64

    def test_data_are_left_as_they_are(self):
        x, y = torch.tensor([2.0, 0.0, 1.0]), torch.tensor([1.0, 0.0, 5.0])
        ln.minimal_interpolant(x, y)
        assert x.tolist() == [2, 0, 1] and y.tolist() == [1, 0, 5]


@pytest.mark.parametrize("seed", range(20))
def test_a_kink_on_a_point_is_there_to_the_last_bit(seed):
    """Else the unit would be active at the point, and reg higher."""
    x, y = random_data(seed)
    f = ln.minimal_interpolant(x, y)
    kinks = f.kinks.numpy()
    on = np.isin(kinks, x.numpy())
    assert on.any()
    with torch.no_grad():
        inputs = torch.outer(x, f.model.a) + f.model.b
    for i in np.flatnonzero(on):
        assert inputs[:, i][x == kinks[i]].abs().max().item() == 0


class TestSmallData:
    def test_one_point(self):
        f = ln.minimal_interpolant(torch.tensor([3.0]), torch.tensor([-2.0]))
        assert (f.reg, f.lower_bound, f.slope, f.intercept, len(f.kinks)) == (10.0, 10.0, 0.0, -2.0, 0)
        assert_fits(f, torch.tensor([3.0]), torch.tensor([-2.0]))
        assert f(torch.tensor([[1.0], [2.0]])).tolist() == [[-2.0], [-2.0]]

    def test_one_point_twice(self):
        f = ln.minimal_interpolant(torch.tensor([3.0, 3.0]), torch.tensor([-2.0, -2.0]))
        assert (f.reg, f.slope) == (10.0, 0.0)

    def test_two_points(self):
        x, y = torch.tensor([3.0, 1.0]), torch.tensor([0.0, 4.0])
        f = ln.minimal_interpolant(x, y)
        assert (f.slope, f.intercept, f.reg, len(f.kinks)) == (-2.0, 6.0, 6.0, 0)
        assert_fits(f, x, y)

    def test_three_points_by_hand(self):
        """One unit, active at one end point alone: 2 |J| distance sqrt(1 + x^2) / n, by the cheaper end."""
        x, y = torch.tensor([-1.0, 0.0, 3.0]), torch.tensor([1.0, 0.0, 3.0])
        f = ln.minimal_interpolant(x, y)
        assert f.kinks.tolist() == [0.0] and f.jumps.tolist() == pytest.approx([2.0])
        assert f.reg == pytest.approx(1 + 10 / 3 + 2 * 2 * 1 * math.sqrt(2) / 3, rel=1e-12)
        assert f.model.a.item() < 0

    @pytest.mark.parametrize("slope", [0.0, 0.1, -1e5])
    def test_points_on_a_line(self, slope):
        rng = np.random.default_rng(0)
        x = torch.from_numpy(rng.normal(size=40))
        f = ln.minimal_interpolant(x, slope * x + 0.7)
        assert len(f.kinks) == 0 and f.reg == pytest.approx((1 + x**2).mean().item(), rel=1e-12)
        assert f.lower_bound == f.reg
        assert ln.minimum_convexity_changes(x, slope * x + 0.7) == 0
        assert_fits(f, x, slope * x + 0.7)


class TestMinimumConvexityChanges:
    @pytest.mark.parametrize(
        "y, changes",
        [
            ([5.0], 0),
            ([5.0, 1.0, 3.0], 0),
            ([0, 1, 3, 6, 10], 0),
            ([0, 1, 0, 1, 0, 1], 3),
            ([0, 1, 2, 3, 2, 1, 0], 0),
            ([0, 0, 1, 2, 3, 3], 1),
            ([0, 1, 0, 0, 0, 1, 0], 2),
        ],
    )
    def test_known(self, y, changes):
        x = torch.arange(len(y)) * 0.1 + 7
        assert ln.minimum_convexity_changes(x, torch.tensor(y)) == changes
        assert ln.minimum_convexity_changes(x.flip(0), -1e-6 * torch.tensor(y)) == changes

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    def test_rounding_is_no_bend(self, dtype):
        for seed in range(200):
            rng = np.random.default_rng(seed)
            x = 10.0 ** rng.uniform(-3, 3) * rng.uniform(-1, 1, 30) + rng.normal()
            y = rng.normal() * x + rng.normal()
            x, y = torch.from_numpy(x).to(dtype), torch.from_numpy(y).to(dtype)
            assert ln.minimum_convexity_changes(x, y) == 0, seed

    @pytest.mark.parametrize("seed", range(5))
    def test_counts_what_the_polygon_does(self, seed):
        x, y = random_data(seed)
        order = x.argsort()
        x, y = (x / x.abs().max())[order], y[order]
        bends = np.diff(np.diff(y) / np.diff(x))
        assert ln.minimum_convexity_changes(x, y) == np.count_nonzero(np.diff(np.sign(bends)))


def test_a_hundred_points_take_less_than_a_second():
    """Far less, on the machine that this was written on."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=100) * 10)
    for y in (torch.sin(x), torch.from_numpy(rng.normal(size=100))):
        began = time.perf_counter()
        f = ln.minimal_interpolant(x, y)
        assert time.perf_counter() - began < 1
        assert f.reg / f.lower_bound - 1 < 1e-8


@pytest.mark.parametrize("function", [ln.minimal_interpolant, ln.minimum_convexity_changes])
class TestBadData:
    @pytest.mark.parametrize(
        "x, y, message",
        [
            ([], [], "x and y must hold at least one point, got none"),
            ([0.0, 1.0], [0.0], r"same shape \(n,\), got \(2,\) and \(1,\)"),
            ([[0.0, 1.0]], [[0.0, 1.0]], r"same shape \(n,\), got \(1, 2\)"),
            ([0.0, math.nan], [0.0, 1.0], "x must be finite and below 1e.100 in size, got nan at index 1"),
            ([0.0, 1.0], [-math.inf, 1.0], "y must be finite and below 1e.100 in size, got -inf at index 0"),
            ([0.0, 1e200], [0.0, 1.0], "x must be finite and below 1e.100 in size, got 1e.200 at index 1"),
            ([0.0, 2.0, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0], "no function fits both labels 1.0 and 3.0 at x = 2.0"),
            (
                [0.0, 1e-90, 1.0],
                [0.0, 1e20, 0.0],
                "the labels differ too much between x = 0.0 and 1e-90: the slope there is 1e.110",
            ),
        ],
    )
    def test_values(self, function, x, y, message):
        x, y = (torch.tensor(v, dtype=torch.float64) for v in (x, y))
        with pytest.raises(ValueError, match=message):
            function(x, y)

    @pytest.mark.parametrize(
        "x, y, message",
        [
            ([0.0, 1.0], torch.zeros(2), "x must be a tensor or an array of real numbers, got list"),
            (torch.zeros(2), np.zeros(2, dtype=complex), "y must be a tensor or an array of real numbers, got complex128"),
            (
                torch.zeros(2),
                torch.zeros(2, dtype=torch.complex64),
                "y must be a tensor or an array of real numbers, got complex64",
            ),
            (torch.zeros(2, dtype=torch.bool), torch.zeros(2), "x must be a tensor or an array of real numbers, got bool"),
        ],
    )
    def test_types(self, function, x, y, message):
        with pytest.raises(TypeError, match=message):
            function(x, y)


@pytest.mark.parametrize(
    "clearance, error, message",
    [
        (-0.1, ValueError, r"clearance must be in \[0, 0.5\), got -0.1"),
        (0.5, ValueError, r"clearance must be in \[0, 0.5\), got 0.5"),
        (math.nan, ValueError, "clearance must be finite, got nan"),
        ("a", TypeError, "clearance must be a number, got 'a'"),
    ],
)
def test_bad_clearance(clearance, error, message):
    with pytest.raises(error, match=message):
        ln.minimal_interpolant(*ln.twelve_points(), clearance=clearance)
