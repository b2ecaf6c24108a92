"""The network of least reg in any dimension: certified, as on a line, and the same however the data are written down."""

import math

import numpy as np
import pytest
import torch
from interpolants import assert_least, cloud, grid, random_data

import labelnoise_utils as ln

SKIPS = [True, "constant", False]


def reg(x, y, **options):
    return ln.minimal_interpolant(x, y, **options).reg


def turned(x, angle=0.7):
    """Rotated in the plane of the first two coordinates."""
    turn = torch.eye(x.shape[1], dtype=x.dtype)
    turn[:2, :2] = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return x @ turn


class TestOnALine:
    def test_against_the_linear_programme(self):
        for seed in range(100):
            rng = np.random.default_rng(seed)
            n = rng.integers(3, 16)
            x, y = torch.from_numpy(rng.normal(size=n)), torch.from_numpy(rng.normal(size=n))
            f = ln.minimal_interpolant(x[:, None], y)
            assert f.reg == pytest.approx(reg(x, y), rel=1e-6), seed
            assert_least(f, x[:, None], y)

    def test_the_twelve_points(self):
        x, y = ln.twelve_points()
        assert reg(x[:, None], y) == pytest.approx(4.682802, abs=1e-6)

    def test_repeated_points(self):
        x, y = random_data(0)
        x, y = x.repeat_interleave(2)[3:], y.repeat_interleave(2)[3:]
        assert reg(x[:, None], y) == pytest.approx(reg(x, y), rel=1e-6)

    def test_units_of_both(self):
        """Three points by hand: one unit, awake on one end alone. Where its kink is, is free; it has the least slope."""
        x, y = torch.tensor([-1.0, 0.0, 3.0]), torch.tensor([1.0, 0.0, 3.0])
        for f in (ln.minimal_interpolant(x, y), ln.minimal_interpolant(x[:, None], y)):
            (unit,) = f.units
            assert f.reg == pytest.approx(1 + 10 / 3 + 2 * 2 * math.sqrt(2) / 3, rel=1e-9)
            assert unit.active.tolist() == [True, False, False]
            assert (unit.normal.item(), unit.offset, unit.jump) == pytest.approx((-1, 0, 2), abs=1e-9)


@pytest.mark.parametrize("skip", SKIPS)
class TestCertified:
    @pytest.mark.parametrize("n, d, seed", [(4, 2, 0), (8, 2, 1), (12, 2, 2), (20, 2, 3), (8, 3, 4), (12, 3, 5), (15, 3, 6)])
    def test_random_data(self, n, d, seed, skip):
        x, y = cloud(n, d, seed)
        assert_least(ln.minimal_interpolant(x, y, skip=skip), x, y)

    @pytest.mark.parametrize("side, d", [(2, 2), (3, 2), (4, 2), (2, 3)])
    def test_grids(self, side, d, skip):
        x, y = grid(side, d, seed=side)
        f = ln.minimal_interpolant(x, y, skip=skip)
        assert_least(f, x, y)
        assert reg(x.int() if side == 3 else x, y.int(), skip=skip) == f.reg

    @pytest.mark.parametrize("direction", [(1.0, 2.0), (0.3, 0.1), (0.0, 1.0)])
    def test_a_line_in_the_plane(self, direction, skip):
        """As on a line, where it is as far from 0; |x|^2 counts, so not with another offset."""
        t, y = cloud(8, 1, 7)
        direction = torch.tensor([direction], dtype=torch.float64)
        f = ln.minimal_interpolant(t @ direction, y, skip=skip)
        assert_least(f, t @ direction, y)
        assert f.reg == pytest.approx(reg(t * direction.norm(), y, skip=skip), rel=1e-6)
        assert_least(ln.minimal_interpolant(t @ direction + 0.1, y, skip=skip), t @ direction + 0.1, y)

    def test_a_plane_in_space(self, skip):
        x, y = cloud(9, 2, 8)
        inside = turned(torch.nn.functional.pad(x, (0, 2)).roll(1, dims=1)).roll(1, dims=1)
        f = ln.minimal_interpolant(turned(inside), y, skip=skip)
        assert_least(f, turned(inside), y)
        assert f.reg == pytest.approx(reg(x, y, skip=skip), rel=1e-6)

    @pytest.mark.parametrize(
        "change", [lambda x: x + 100, lambda x: 1000 * x, lambda x: 1e-3 * x, lambda x: x * x.new([1, 1e4])]
    )
    def test_far_large_small_and_thin(self, change, skip):
        x, y = cloud(10, 2, 9)
        assert_least(ln.minimal_interpolant(change(x), y, skip=skip), change(x), y)

    @pytest.mark.parametrize("change", [lambda y: y + 1e6, lambda y: 1e8 * y, lambda y: 1e-20 * y, lambda y: y**9])
    def test_labels_of_any_size(self, change, skip):
        """Without a constant unit labels that are nearly the same leave less than these numbers of digits: not tried."""
        x, y = cloud(8, 2, 10)
        if skip or change(y).std() > 1e-3 * change(y).mean().abs():
            assert_least(ln.minimal_interpolant(x, change(y), skip=skip), x, change(y))

    def test_ten_dimensions(self, skip):
        x, y = cloud(12, 10, 11)
        f = ln.minimal_interpolant(x, y, skip=skip)
        assert f.patterns == 2**12 - 3 and f.model.a.shape[1] == 10
        assert_least(f, x, y)

    def test_more_dimensions_than_points(self, skip):
        """Affinely independent points: a line fits any labels, or else any set of points has a unit of its own."""
        x, y = cloud(5, 7, 12)
        f = ln.minimal_interpolant(x, y, skip=skip)
        assert_least(f, x, y)
        assert (len(f.units) == 0) == (skip is True)

    def test_repeated_points(self, skip):
        x, y = cloud(8, 2, 13)
        often = torch.tensor([0, 1, 1, 2, 3, 4, 5, 5, 5, 6, 7])
        f = ln.minimal_interpolant(x[often], y[often], skip=skip)
        assert_least(f, x[often], y[often])
        assert reg(x.repeat(3, 1), y.repeat(3), skip=skip) == pytest.approx(reg(x, y, skip=skip), rel=1e-9)
        assert f.reg != pytest.approx(reg(x, y, skip=skip), rel=1e-3)

    def test_one_point(self, skip):
        x, y = torch.tensor([[3.0, 4.0]]), torch.tensor([-2.0])
        f = ln.minimal_interpolant(x, y, skip=skip)
        assert_least(f, x, y)
        # Without a skip unit relu(b) alone: at its best scale 2 |v| sqrt(1 + |x|^2).
        assert f.reg == pytest.approx({True: 26, "constant": 1, False: 4 * math.sqrt(26)}[skip])
        assert f(x[0]).item() == pytest.approx(-2)
        if skip is False:
            (unit,) = f.units
            assert unit.normal.tolist() == [0, 0] and unit.jump * unit.offset == pytest.approx(-2)

    def test_equal_labels(self, skip):
        x, _ = cloud(7, 2, 14)
        for value in (0.0, -3.7):
            f = ln.minimal_interpolant(x, torch.full((7,), value), skip=skip)
            assert_least(f, x, torch.full((7,), value))
            least = {True: (1 + x.square().sum(1)).mean().item(), "constant": 1}.get(skip)
            assert not len(f.units) or (skip is False and value)
            assert least is None or f.reg == pytest.approx(least, rel=1e-12)

    def test_the_same_to_whoever_asks(self, skip):
        """Order of the examples and, if |x| stays, of the coordinates; signs and rotations."""
        x, y = cloud(11, 2, 15)
        expected = pytest.approx(reg(x, y, skip=skip), rel=1e-6)
        assert reg(x.flip(0), y.flip(0), skip=skip) == expected
        assert reg(x.flip(1), y, skip=skip) == expected
        assert reg(-x, y, skip=skip) == expected
        assert reg(x, -y, skip=skip) == expected
        assert reg(turned(x), y, skip=skip) == expected

    def test_a_turned_grid(self, skip):
        x, y = grid(3, 2, seed=16)
        f = ln.minimal_interpolant(turned(x), y, skip=skip)
        assert_least(f, turned(x), y)
        assert f.reg == pytest.approx(reg(x, y, skip=skip), rel=1e-6)

    @pytest.mark.parametrize("factor", [1e-3, 0.5, 20.0])
    def test_units_scale_with_the_labels(self, factor, skip):
        x, y = cloud(9, 2, 17)
        free = {True: (1 + x.square().sum(1)).mean().item(), "constant": 1.0, False: 0.0}[skip]
        assert reg(x, factor * y, skip=skip) - free == pytest.approx(factor * (reg(x, y, skip=skip) - free), rel=1e-6)


@pytest.mark.parametrize("factor", [1e-150, 1e-30, 1e99])
def test_inputs_of_any_size(factor):
    """The price of a unit does not depend on the size of small ones."""
    x, y = cloud(7, 3, 24)
    x = x / 3
    f = ln.minimal_interpolant(factor * x, y, skip=False)
    assert_least(f, factor * x, y)
    if factor < 1:
        assert f.reg == pytest.approx(reg(1e-12 * x, y, skip=False), rel=1e-6)


def test_straight_labels_need_no_unit():
    x, _ = cloud(30, 3, 18)
    y = x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + 7
    f = ln.minimal_interpolant(x, y)
    assert_least(f, x, y)
    assert (len(f.units), f.patterns) == (0, 0)
    assert f.reg == pytest.approx((1 + x.square().sum(1)).mean().item(), rel=1e-12)
    assert f.model.a0.tolist() == pytest.approx([1, -2, 0.5])


def test_what_a_skip_unit_is_worth():
    """It may be left unused, but its own share of reg is there."""
    x, y = cloud(9, 2, 19)
    whole, constant, none = (ln.minimal_interpolant(x, y, skip=skip).reg for skip in SKIPS)
    squares = x.square().sum(1).mean().item()
    assert whole - squares <= constant * (1 + 1e-9) and constant - 1 <= none * (1 + 1e-9)


def test_a_call_is_the_network():
    x, y = cloud(8, 2, 21)
    f = ln.minimal_interpolant(x, y)
    t = torch.randn(3, 4, 2, dtype=torch.float64)
    assert f(t).shape == (3, 4) and f(x[0]).shape == ()
    assert f(t)[1, 2].item() == pytest.approx(f.model(t[1])[2].item())
    assert f(t.float().numpy()).dtype == torch.float64
    of_units = sum(unit.jump * torch.relu(t @ unit.normal + unit.offset) for unit in f.units)
    torch.testing.assert_close(f(t), of_units + t @ f.model.a0 + f.model.b0)


def test_single_precision_and_data_that_stay_as_they_are():
    x, y = cloud(8, 2, 22)
    x, y = x.float(), y.float()
    before = x.clone(), y.clone()
    f = ln.minimal_interpolant(x, y)
    assert f.model.a.dtype == torch.float64
    assert reg(x.double().numpy(), y.double().numpy()) == f.reg
    assert torch.equal(x, before[0]) and torch.equal(y, before[1])


def test_active_is_in_the_order_of_the_examples():
    """On a line and in the plane, repeated examples included."""
    x, y = cloud(9, 2, 23)
    often = torch.tensor([8, 3, 3, 0, 1, 2, 4, 7, 5, 6, 6])
    for inputs in (x[often], x[often, 0]):
        f = ln.minimal_interpolant(inputs, y[often])
        pre_activations = inputs.reshape(11, -1) @ f.model.a.detach().reshape(len(f.model.a), -1).T + f.model.b.detach()
        active = torch.stack([unit.active for unit in f.units], dim=1)
        assert torch.equal(active, pre_activations > 0)
