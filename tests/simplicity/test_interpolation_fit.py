"""The interpolant goes through its points, however unevenly they lie, or is refused; and its bound is one."""

import decimal

import numpy as np
import pytest
import torch

import labelnoise_utils as ln

EPS = np.finfo(float).eps
GAPS = {
    "wide": lambda rng, n: 10 ** rng.uniform(-5, 2, n),
    "clusters": lambda rng, n: 10 ** np.where(rng.random(n) < 0.8, rng.uniform(-5, -3, n), rng.uniform(0, 2, n)),
    "equal": lambda rng, n: np.full(n, 10 ** rng.uniform(-3, 2)),
    "far away": lambda rng, n: 10 ** rng.uniform(-2, 1, n),
}
LABELS = {
    "rough": lambda rng, x: rng.normal(size=len(x)),
    "smooth": lambda rng, x: np.sin(3 * (x - x[0]) / np.ptp(x)),
    "convex": lambda rng, x: ((x - x[0]) / np.ptp(x)) ** 2,
    "steps": lambda rng, x: rng.integers(0, 3, len(x)).astype(float),
    "polygon": lambda rng, x: np.interp(x, x[[0, 2, -1]], rng.normal(size=3)),
    "of any scale": lambda rng, x: 10 ** rng.uniform(-9, 9) * rng.normal(size=len(x)),
    "high up": lambda rng, x: 1e4 + rng.normal(size=len(x)),
    "nearly a line": lambda rng, x: 0.3 * (x - x[0]) + 10 ** rng.uniform(-12, -6) * rng.normal(size=len(x)),
}


def uneven(gaps, labels, seed):
    """5 to 60 points, around 0 or around 1e6."""
    rng = np.random.default_rng([seed, list(GAPS).index(gaps), list(LABELS).index(labels)])
    x = np.append(0, GAPS[gaps](rng, rng.integers(4, 60)).cumsum())
    x += 1e6 if gaps == "far away" else -rng.uniform() * x[-1]
    return torch.from_numpy(x), torch.from_numpy(LABELS[labels](rng, x))


def rounding(x, y):
    """How far f may be from labels that rounding can have bent away from a line: what the docstring promises, twice over."""
    slope = np.abs(np.diff(y) / np.diff(x))
    return 8 * EPS * max(np.abs(y).max(), (slope * np.abs(x[1:])).max(), (slope * np.abs(x[:-1])).max())


def exact_reg(x, kinks, jumps):
    """Of the function with these kinks, each unit at its best scale, in 50 digits; all arguments lists of Decimals."""
    total = sum(1 + v * v for v in x)
    for kink, jump in zip(kinks, jumps, strict=True):
        sides = ([v for v in x if v > kink], [v for v in x if v < kink])
        total += 2 * abs(jump) * min((sum((v - kink) ** 2 for v in s) * sum(1 + v * v for v in s)).sqrt() for s in sides)
    return total / len(x)


def exact_connect_the_dots(x, y):
    """Reg of the polygon through the points, in 50 digits."""
    x, y = ([decimal.Decimal(v) for v in values.tolist()] for values in (x, y))
    slopes = [(y[i + 1] - y[i]) / (x[i + 1] - x[i]) for i in range(len(x) - 1)]
    return exact_reg(x, x[1:-1], [after - before for before, after in zip(slopes, slopes[1:], strict=False)])


@pytest.fixture(autouse=True)
def fifty_digits():
    with decimal.localcontext(prec=50):
        yield


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("gaps", GAPS)
class TestUnevenPoints:
    def test_function_and_network_go_through_the_points(self, gaps, labels):
        for seed in range(4):
            x, y = uneven(gaps, labels, seed)
            f = ln.minimal_interpolant(x, y)
            assert (f(x) - y).abs().max().item() <= rounding(x.numpy(), y.numpy()), seed
            t = torch.cat([x, torch.linspace(x[0], x[-1], 501, dtype=torch.float64)])
            units = f.jumps.abs() * (t[:, None].abs() + f.kinks.abs())
            with torch.no_grad():
                assert (f.model(x) - y).abs().max() <= 1e-7 * (y.max() - y.min()), seed
                size = units.sum(1) + (f.model.a0 * t).abs() + f.model.b0.abs() + y.abs().max()
                assert ((f(t) - f.model(t)).abs() / size).max().item() <= 8 * EPS, seed
                terms = torch.outer(x, f.model.a), f.model.b
                # What rounding a x and b does to relu(a x + b)^2.
                unsure = 2 * EPS * (torch.relu(sum(terms)) * sum(v.abs() for v in terms)).sum().item() / len(x)
            assert abs(ln.implicit_regularizer(f.model, x).item() - f.reg) <= 1e-12 * f.reg + unsure, seed

    def test_reg_lies_between_the_bound_and_connect_the_dots(self, gaps, labels):
        """Both in many digits: the bound holds, not up to rounding but as it is."""
        for seed in range(2):
            x, y = uneven(gaps, labels, seed)
            f = ln.minimal_interpolant(x, y)
            own = exact_reg(*([decimal.Decimal(v) for v in values.tolist()] for values in (x, f.kinks, f.jumps)))
            dots = exact_connect_the_dots(x, y)
            assert f.reg == pytest.approx(float(own), rel=1e-12), seed
            assert f.reg <= float(dots) * (1 + 1e-12), seed
            if len(f.kinks):
                assert decimal.Decimal(f.lower_bound) <= min(own, dots), seed
            assert f.reg - f.lower_bound <= 1e-8 * f.reg, seed

    def test_no_needless_change_of_convexity(self, gaps, labels):
        for seed in range(4):
            x, y = uneven(gaps, labels, seed)
            signs = np.sign(ln.minimal_interpolant(x, y).jumps.numpy())
            assert np.count_nonzero(np.diff(signs)) == ln.minimum_convexity_changes(x, y), seed


@pytest.mark.parametrize("seed", range(5))
def test_sixty_points_that_lie_very_unevenly(seed):
    """Bends that differ by nine orders of magnitude; each is met to its own rounding, not to that of the largest."""
    rng = np.random.default_rng(seed)
    x = np.append(0, 10 ** rng.uniform(-5, 2, 59)).cumsum()
    y = rng.normal(size=60)
    f = ln.minimal_interpolant(x, y)
    slopes = np.diff(y) / np.diff(x)
    on = np.isin(x[1:-1], f.kinks.numpy())
    alone = [not np.isin(f.knots.numpy(), x)[i - 1 : i + 2].all() for i in np.searchsorted(f.knots.numpy(), x[1:-1])]
    expected, found = (
        np.diff(slopes)[on & ~np.array(alone)],
        f.jumps.numpy()[np.isin(f.kinks.numpy(), x[1:-1][~np.array(alone)])],
    )
    assert len(found) > 20
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_bends_far_below_the_largest_count():
    """One step of slope 1e5 in an arc whose bends are 1e-11 of that: together they are a thousandth of the labels' range."""
    x = np.sort(np.append(np.linspace(0, 100, 30), 50.00001 + 1e-5))
    y = 1e-7 * x**2 + (x > 50.00001)
    x, y = np.append(x, 50.00001), np.append(y, 1e-7 * 50.00001**2)
    f = ln.minimal_interpolant(x, y)
    assert len(f.kinks) >= 25
    with torch.no_grad():
        assert np.abs(f.model(torch.from_numpy(x)).numpy() - y).max() <= 1e-7
    assert np.count_nonzero(np.diff(np.sign(f.jumps.numpy()))) == ln.minimum_convexity_changes(x, y)


@pytest.mark.parametrize("clearance", [0.01, 0.1, 0.4])
@pytest.mark.parametrize("gaps", GAPS)
def test_kinks_that_stay_away_from_uneven_points(gaps, clearance):
    """No kink may lie on a point, to take what the others leave: the programme itself has to be met to rounding."""
    for labels in ("rough", "steps"):
        x, y = uneven(gaps, labels, 0)
        f = ln.minimal_interpolant(x, y, clearance=clearance)
        nearest = (f.kinks[:, None] - x).abs().min(1).values
        gap = torch.searchsorted(x, f.kinks)
        assert (nearest >= clearance * (x[gap] - x[gap - 1]) * (1 - 1e-9) - 4 * EPS * f.kinks.abs()).all()
        with torch.no_grad():
            assert (f.model(x) - y).abs().max() <= 1e-6 * (y.max() - y.min())
        assert f.reg - f.lower_bound <= 1e-8 * f.reg


class TestRefusal:
    def test_says_by_how_much_the_network_misses(self):
        """Gaps of 1e-5 at 1e6: x itself resolves them to 1e-5, and no sum of units does better."""
        rng = np.random.default_rng(0)
        x = 1e6 + np.append(0, 10 ** rng.uniform(-5, 2, 40)).cumsum()
        with pytest.raises(ArithmeticError, match=r"the network misses labels by up to \S+e-0[4-6], and their range is \d"):
            ln.minimal_interpolant(x, rng.normal(size=41))

    def test_a_line_far_away_is_no_miss(self):
        """The last digit of large labels."""
        x = torch.linspace(-1, 1, 9, dtype=torch.float64)
        f = ln.minimal_interpolant(x, 1e12 + x.abs())
        assert (f(x) - 1e12 - x.abs()).abs().max().item() <= 1e-3


class TestNearlyOnALine:
    def test_small_bends_add_up(self):
        """Each bend alone could be rounding, all together could not: f follows the arc."""
        x = 1e3 + np.linspace(0, 1, 81)
        y = 1 + 1e-12 * (x - 1e3) ** 2
        f = ln.minimal_interpolant(x, y)
        assert 0 < len(f.kinks) < 79
        assert np.abs(f(x).numpy() - y).max() <= rounding(x, y)
        assert ln.minimum_convexity_changes(x, y) == 0

    @pytest.mark.parametrize("seed", range(20))
    def test_single_precision_is_met_to_its_own_rounding(self, seed):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=200).astype(np.float32)
        y = (np.abs(x) * 0.7 + 0.1).astype(np.float32)
        f = ln.minimal_interpolant(x, y)
        assert len(f.kinks) <= 2
        assert np.abs(f(x).numpy() - y).max() <= 4 * np.finfo(np.float32).eps * np.abs(y).max()


class TestArrays:
    @pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64, np.int32, np.uint8])
    def test_as_tensors(self, dtype):
        x, y = np.array([3, 0, 1, 4], dtype=dtype), np.array([1, 0, 2, 5], dtype=dtype)
        f, g = ln.minimal_interpolant(x, y), ln.minimal_interpolant(torch.from_numpy(x), torch.from_numpy(y))
        assert (f.reg, f.lower_bound, f.kinks.tolist()) == (g.reg, g.lower_bound, g.kinks.tolist())
        assert ln.minimum_convexity_changes(x, y) == ln.minimum_convexity_changes(torch.from_numpy(x), torch.from_numpy(y))
        assert f(x).tolist() == y.tolist()

    def test_read_only_reversed_and_mixed(self):
        x, y = np.arange(4.0)[::-1], torch.tensor([0, 1, 0, 2])
        x.flags.writeable = False
        assert ln.minimal_interpolant(x, y)(x).tolist() == y.tolist()
        assert x.tolist() == [3, 2, 1, 0]

    @pytest.mark.parametrize("value", [[0.0, 1.0], np.array(["a", "b"]), np.array([True, False]), np.array([1j, 2])])
    def test_others_are_refused(self, value):
        message = r"x must (be a torch.Tensor or a NumPy array, got list|hold (real )?numbers, got .*(<U1|bool|complex128))"
        with pytest.raises(TypeError, match=message):
            ln.minimal_interpolant(value, np.zeros(2))


def test_values_beyond_the_points_and_gradients():
    """f goes on straight, and can be differentiated."""
    x, y = np.array([0.0, 1.0, 3.0, 4.0]), np.array([0.0, 2.0, 0.0, 5.0])
    f = ln.minimal_interpolant(x, y)
    t = torch.tensor([[-2.0, 0.5], [2.0, 7.0]], dtype=torch.float64, requires_grad=True)
    f(t).sum().backward()
    with torch.no_grad():
        torch.testing.assert_close(f(t), f.model(t.flatten()).reshape(2, 2), rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(f(t), f.intercept + f.slope * t + torch.relu(t[..., None] - f.kinks) @ f.jumps)
    assert f.kinks.tolist() == [1, 3]
    torch.testing.assert_close(t.grad, torch.tensor([[2.0, 2.0], [-1.0, 5.0]], dtype=torch.float64))
