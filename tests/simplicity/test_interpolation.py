"""The programme finds the interpolant with the least reg: against brute force, against a grid, against its own network."""

import itertools

import numpy as np
import pytest
import scipy.optimize
import torch
from interpolants import assert_fits, price, random_data

import labelnoise_utils as ln


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


def changes(f):
    """Sign changes of the jumps: no grid and no tolerance."""
    return int(np.count_nonzero(np.diff(np.sign(f.jumps.numpy()))))


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


def test_a_hundred_points():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=100) * 10)
    for y in (torch.sin(x), torch.from_numpy(rng.normal(size=100))):
        f = ln.minimal_interpolant(x, y)
        assert f.reg / f.lower_bound - 1 < 1e-8
