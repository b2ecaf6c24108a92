"""Theorem 2's perturbations keep the values at the data and lower reg, in every case and with kinks on data points."""

import copy
import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from plain import flat, flat_gradient

import labelnoise_utils as ln

CASES, PLACES = (1, 2, 3, 4), ("between", "left", "right", "none")


def reg(model, x):
    """Equation (16) over n; much faster than autograd, and compared with it below."""
    return ((ln.regularizer_by_unit(model, x).sum() + (1 + x**2).sum()) / len(x)).item()


def values(model, x):
    with torch.no_grad():
        return model(x)


def instances(case, place, count):
    for seed in range(count):
        yield ln.random_two_kinks(case, place, concave_first=seed % 2 == 0, seed=seed)


def compare(instance, model):
    """Largest change at the data from the instance's network to this one, over the largest value; and the change of reg."""
    before, after = values(instance.model, instance.x), values(model, instance.x)
    change = reg(model, instance.x) - reg(instance.model, instance.x)
    return ((after - before).abs().max() / before.abs().max()).item(), change


def halfway(instance):
    return min(0.5 * instance.largest_epsilon(), 0.5)


def units(instance):
    """a, b, c and k of the two units."""
    pair = [instance.left, instance.right]
    a, b, c = (p.detach().numpy()[pair] for p in (instance.model.a, instance.model.b, instance.model.c))
    return a, b, c, -b / a


def reflected(instance):
    """The instance in a mirror, x to -x: what was left is right."""
    model = copy.deepcopy(instance.model)
    with torch.no_grad():
        model.a.neg_()
        model.a0.neg_()
    return ln.TwoKinks(model, -instance.x, instance.right, instance.left, -instance.pivot)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", CASES)
def test_thousand_instances(case, place):
    """Values are kept, reg falls, and it falls as the formula says; the kinks move apart or stay on x_0."""
    for instance in instances(case, place, 200 if place == "none" else 1000):
        epsilon = halfway(instance)
        model = instance.apart(epsilon)
        changed, fall = compare(instance, model)
        slope, curvature = instance.reg_along()
        assert changed <= 1e-12
        assert fall < 0 and slope < 0 < curvature
        assert fall == pytest.approx(slope * epsilon + curvature * epsilon**2, rel=1e-8)
        before, after = instance.kinks, dataclasses.replace(instance, model=model).kinks
        assert after[0] <= before[0] and before[1] <= after[1]
        if place == "left":
            assert after[0] == before[0] == instance.pivot and after[1] > before[1]
        if place == "right":
            assert after[1] == before[1] == instance.pivot and after[0] < before[0]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", CASES)
class TestSlope:
    def test_against_autograd(self, case, place):
        """The slope of reg, by backpropagation through it, along the path at its start."""
        for instance in instances(case, place, 5):
            gradient = flat_gradient(ln.implicit_regularizer(instance.model, instance.x), instance.model)
            step = 1e-3
            direction = flat(instance.apart(step)) - flat(instance.model)
            assert instance.reg_along()[0] == pytest.approx((gradient @ direction).item() / step, rel=1e-9)

    def test_against_differences(self, case, place):
        for instance in instances(case, place, 20):
            slope, _ = instance.reg_along()
            steps = np.array([1e-4, 2e-4]) * min(instance.largest_epsilon(), 1)
            falls = [reg(instance.apart(e), instance.x) - reg(instance.model, instance.x) for e in steps]
            # Extrapolated to 0, which is exact for a parabola.
            measured = 2 * falls[0] / steps[0] - falls[1] / steps[1]
            assert measured == pytest.approx(slope, rel=1e-6)

    def test_only_two_units_and_the_skip_unit_change(self, case, place):
        instance = ln.random_two_kinks(case, place, width=5, seed=3)
        after = instance.apart(0.01)
        for name, before in instance.model.named_parameters():
            moved = (after.get_parameter(name) != before).flatten().tolist()
            expected = {"a": [True, True, False, False, False], "b": [True, True, False, False, False], "c": [False] * 5}
            assert moved == expected.get(name, [case in (2, 3)]), name


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", [2, 3])
def test_as_printed_the_function_changes(case, place):
    for instance in instances(case, place, 100):
        before = values(instance.model, instance.x)
        epsilon = halfway(instance)
        printed = values(instance.apart(epsilon, as_printed=True), instance.x)
        assert (printed - before).abs().max().item() > 1e-2
        # It is a0 x + b0 that is lost.
        lost = instance.model.a0.item() * instance.x + instance.model.b0.item()
        torch.testing.assert_close(before - printed, lost, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", [1, 4])
def test_cases_1_and_4_are_right_as_printed(case):
    for instance in instances(case, "between", 20):
        one, other = instance.apart(0.01), instance.apart(0.01, as_printed=True)
        assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


class TestPaper:
    """The formulas of Appendix B, as they stand there, with cases 2 and 3 as increments."""

    @pytest.mark.parametrize("case", CASES)
    def test_parameters(self, case):
        for instance in instances(case, "between", 50):
            epsilon, x0 = halfway(instance), instance.pivot
            (a1, a2), (b1, b2), (c1, c2), _ = units(instance)
            if case == 4:
                a, b = a2 * (1 - epsilon), b2 + x0 * a2 * epsilon
                expected = [a1 - c2 / c1 * (a - a2), a, b1 - c2 / c1 * (b - b2), b, 0, 0]
            else:
                a, b = a1 * (1 - epsilon), b1 + x0 * a1 * epsilon
                sign = -1 if case == 1 else 1
                expected = [a, a2 + sign * c1 / c2 * (a - a1), b, b2 + sign * c1 / c2 * (b - b1)]
                expected += [0, 0] if case == 1 else [-c1 * (a - a1), -c1 * (b - b1)]
            after = dataclasses.replace(instance, model=instance.apart(epsilon))
            new_a, new_b, _, _ = units(after)
            skip = [(p - q).item() for p, q in ((after.model.a0, instance.model.a0), (after.model.b0, instance.model.b0))]
            np.testing.assert_allclose([*new_a, *new_b, *skip], expected, rtol=1e-12, atol=1e-12)

    def test_how_far_the_kinks_move_in_case_1(self):
        """The two displays before the comparison of values, for k1 and for k2."""
        for instance in instances(1, "between", 50):
            epsilon, x0 = halfway(instance), instance.pivot
            (a1, a2), (b1, b2), (c1, c2), kinks = units(instance)
            moved = np.array(dataclasses.replace(instance, model=instance.apart(epsilon)).kinks) - kinks
            left = -epsilon * (a1 * x0 + b1) / (a1 * (1 - epsilon))
            right = a1 * c1 * epsilon * (a2 * x0 + b2) / (a2 * (c2 * a2 + c1 * a1 * epsilon))
            np.testing.assert_allclose(moved, [left, right], rtol=1e-9)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", CASES)
def test_mirror_images(case, place):
    """Case 1 in a mirror is case 4, and 2 and 3 are their own images with the other unit turned first."""
    for instance in instances(case, place, 20):
        image = reflected(instance)
        assert image.case == {1: 4, 2: 2, 3: 3, 4: 1}[case]
        changed, fall = compare(image, image.apart(halfway(image)))
        assert changed <= 1e-12 and fall < 0
        if case in (1, 4):
            one, other = instance.apart(0.01), image.apart(0.01)
            torch.testing.assert_close(values(other, -instance.x), values(one, instance.x), rtol=1e-12, atol=1e-12)
            assert reg(other, image.x) == pytest.approx(reg(one, instance.x), rel=1e-12)


@pytest.mark.parametrize("place", ["left", "right"])
@pytest.mark.parametrize("case", CASES)
def test_a_kink_on_a_point_stays_on_it_to_the_last_bit(case, place):
    """Else the unit might become active there, and reg jump."""
    for instance in instances(case, place, 50):
        unit = instance.left if place == "left" else instance.right
        for epsilon in (0.0, 1e-6, 0.1 * instance.largest_epsilon(), halfway(instance)):
            model = instance.apart(epsilon)
            x0 = torch.tensor([instance.pivot], dtype=torch.float64)
            inputs = torch.outer(x0, model.a.detach()) + model.b.detach()
            assert inputs[0, unit] == 0
            assert instance.pivot in instance.x


@pytest.mark.parametrize("convention", [0.0, 0.5, 1.0])
def test_no_convention_for_the_derivative_at_a_kink_changes_the_fall(convention):
    """Each unit's input at x_0 is what it was, so relu'(0) enters reg before and after alike."""

    def reg_with(model, x):
        p = torch.outer(x, model.a.detach()) + model.b.detach()
        on = (p > 0) + convention * (p == 0)
        return ((torch.relu(p) ** 2 + model.c.detach() ** 2 * (1 + x[:, None] ** 2) * on**2).sum(1) + 1 + x**2).mean().item()

    for case in CASES:
        for place in ("left", "right"):
            for instance in instances(case, place, 20):
                epsilon = halfway(instance)
                slope, curvature = instance.reg_along()
                fall = reg_with(instance.apart(epsilon), instance.x) - reg_with(instance.model, instance.x)
                assert fall == pytest.approx(slope * epsilon + curvature * epsilon**2, rel=1e-8)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", CASES)
def test_largest_epsilon(case, place):
    """Up to there no unit is switched on or off at a data point, and just beyond one is."""

    def active(model, x):
        return torch.outer(x, model.a.detach()) + model.b.detach() > 0

    for instance in instances(case, place, 25):
        largest, x = instance.largest_epsilon(), instance.x
        assert 0 < largest < math.inf
        before = active(instance.model, x)
        assert torch.equal(before, active(instance.apart(0.999 * largest), x))
        assert not torch.equal(before, active(instance.apart(1.001 * largest), x))


class TestRegularizerByUnit:
    @pytest.mark.parametrize("seed", range(4))
    def test_sums_to_reg(self, seed):
        rng = np.random.default_rng(seed)
        model, x = ln.TwoLayerReLU(20, seed=seed), torch.from_numpy(rng.normal(size=9))
        terms = ln.regularizer_by_unit(model, x)
        exact = ln.implicit_regularizer(model, x).item()
        assert terms.shape == (20, 9)
        assert (terms.sum() + (1 + x**2).sum()).item() / 9 == pytest.approx(exact, rel=1e-12)

    def test_each_term_is_a_squared_gradient(self):
        model, x = ln.TwoLayerReLU(4, seed=1), torch.linspace(-1, 1, 5, dtype=torch.float64)
        terms = ln.regularizer_by_unit(model, x)
        for j in range(5):
            gradients = torch.autograd.grad(model(x[j : j + 1]).sum(), (model.a, model.b, model.c))
            torch.testing.assert_close(sum(g**2 for g in gradients), terms[:, j])

    def test_a_unit_on_its_kink_pays_nothing(self):
        instance = ln.random_two_kinks(1, "left", seed=0)
        at = instance.x.tolist().index(instance.pivot)
        assert ln.regularizer_by_unit(instance.model, instance.x)[0, at] == 0


class TestInstances:
    @pytest.mark.parametrize("concave_first", [True, False])
    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("case", CASES)
    def test_are_what_they_are_called(self, case, place, concave_first):
        for seed in range(12):
            instance = ln.random_two_kinks(case, place, concave_first=concave_first, seed=seed)
            a, _, c, _ = units(instance)
            k1, k2 = instance.kinks
            x = instance.x.numpy()
            assert instance.case == case and np.diff(x).min() >= 0.0999
            assert (np.sign(a) == {1: [1, 1], 2: [1, -1], 3: [-1, 1], 4: [-1, -1]}[case]).all()
            assert (np.sign(c) == ([-1, 1] if concave_first else [1, -1])).all()
            inside = x[(x >= k1) & (x <= k2)]
            assert k1 < k2 and len(inside) == (place != "none")
            if place != "none":
                assert inside[0] == instance.pivot
            assert (k1 == instance.pivot) == (place == "left") and (k2 == instance.pivot) == (place == "right")

    def test_seeds_differ_and_repeat(self):
        one, again, other = (ln.random_two_kinks(1, seed=seed) for seed in (4, 4, 5))
        assert torch.equal(one.x, again.x) and torch.equal(one.model.a, again.model.a)
        assert not torch.equal(one.x, other.x)

    @pytest.mark.parametrize(
        "arguments, error, message",
        [
            (dict(case=5), ValueError, "case must be 1, 2, 3 or 4, got 5"),
            (dict(case="1"), TypeError, "case must be an integer, got '1'"),
            (dict(case=1, place="on"), ValueError, "place must be one of between, left, right, none, got 'on'"),
            (dict(case=1, width=1), ValueError, "width must be at least 2, got 1"),
            (dict(case=1, seed=-1), ValueError, "seed must be at least 0, got -1"),
        ],
    )
    def test_bad_arguments(self, arguments, error, message):
        with pytest.raises(error, match=message):
            ln.random_two_kinks(**arguments)


class TestBadPairs:
    def setup_method(self):
        self.instance = ln.random_two_kinks(1, seed=0)

    def test_same_bend(self):
        with torch.no_grad():
            self.instance.model.c[0] *= -1
        with pytest.raises(ValueError, match="the two units must bend opposite ways"):
            dataclasses.replace(self.instance)

    def test_wrong_order(self):
        with pytest.raises(ValueError, match="the kinks must enclose the pivot"):
            dataclasses.replace(self.instance, left=1, right=0)

    def test_pivot_outside(self):
        with pytest.raises(ValueError, match="the kinks must enclose the pivot, 9.0"):
            dataclasses.replace(self.instance, pivot=9.0)

    def test_another_point_between(self):
        more = torch.cat([self.instance.x, torch.tensor([self.instance.pivot + 1e-6], dtype=torch.float64)])
        with pytest.raises(ValueError, match="no data point but the pivot may lie between the two kinks"):
            dataclasses.replace(self.instance, x=more)

    @pytest.mark.parametrize(
        "change, error, message",
        [
            (dict(left=9), ValueError, "left must be below the width, 6, got 9"),
            (dict(right=0.0), TypeError, "right must be an integer, got 0.0"),
            (dict(pivot="a"), TypeError, "pivot must be a number, got 'a'"),
            (dict(x=[0.0]), TypeError, "x must be a tensor in float64"),
            (dict(model=ln.MLP([1, 2, 1])), TypeError, "model must be a TwoLayerReLU in float64 with skip unit, got MLP"),
            (dict(model=ln.TwoLayerReLU(6, skip=False)), TypeError, "with skip unit"),
            (dict(model=ln.TwoLayerReLU(6, skip="constant")), TypeError, "with skip unit"),
            (dict(model=ln.TwoLayerReLU(6, dim=1)), ValueError, "on a line, dim=None, got dim=1"),
        ],
    )
    def test_wrong_kinds(self, change, error, message):
        with pytest.raises(error, match=message):
            dataclasses.replace(self.instance, **change)

    def test_epsilon(self):
        with pytest.raises(ValueError, match="epsilon must be finite, got nan"):
            self.instance.apart(math.nan)
        with pytest.raises(TypeError, match="epsilon must be a number, got None"):
            self.instance.apart(None)


def test_units_of_a_trained_network():
    """Not only the instances made for it: any network with a kink too many."""
    x, y = ln.twelve_points()
    model = ln.TwoLayerReLU(50, seed=0)
    ln.train(model, x, y, lr=0.001, steps=100_000, progress=False)
    kinks = (-model.b / model.a).detach()
    order = [i for i in kinks.argsort().tolist() if -1 < kinks[i] < 1]
    found = 0
    for left, right in itertools.pairwise(order):
        between = x[(x >= kinks[left]) & (x <= kinks[right])]
        if len(between) > 1 or model.c[left] * model.c[right] >= 0:
            continue
        pivot = between[0] if len(between) else (kinks[left] + kinks[right]) / 2
        instance = ln.TwoKinks(model, x, left, right, pivot.item())
        changed, fall = compare(instance, instance.apart(0.1 * min(instance.largest_epsilon(), 1)))
        assert changed <= 1e-12 and fall < 0
        found += 1
    assert found >= 5
