"""Which data the interpolant takes: few points, points on a line, and what is refused; and how their polygon bends."""

import math

import numpy as np
import pytest
import torch
from interpolants import assert_fits, random_data

import labelnoise_utils as ln


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


@pytest.mark.parametrize("function", [ln.minimal_interpolant, ln.minimum_convexity_changes])
class TestBadData:
    @pytest.mark.parametrize(
        "x, y, message",
        [
            ([], [], "x and y must hold at least one point, got none"),
            ([0.0, 1.0], [0.0], r"must have shapes .*\(n,\), got \(2,\) and \(1,\)"),
            ([[0.0, 1.0]], [[0.0, 1.0]], r"must have shape.* \(n,\).*, got \(1, 2\)"),
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
            ([0.0, 1.0], torch.zeros(2), "x must be a torch.Tensor or a NumPy array, got list"),
            (torch.zeros(2), np.zeros(2, dtype=complex), "y must hold real numbers, got torch.complex128"),
            (
                torch.zeros(2),
                torch.zeros(2, dtype=torch.complex64),
                "y must hold real numbers, got torch.complex64",
            ),
            (torch.zeros(2, dtype=torch.bool), torch.zeros(2), "x must hold real numbers, got torch.bool"),
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
