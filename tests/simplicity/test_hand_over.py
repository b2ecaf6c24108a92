"""The hand-over: its networks fit, its formula is reg, its minimum is one, and the optimiser's gradient is autograd's."""

import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from plain import flat
from refusals import refusals
from repository import tool

import labelnoise_utils as ln
from labelnoise_utils.simplicity.hand_over import explicit
from labelnoise_utils.simplicity.hand_over.terms import Term, derivatives, value

HandOver, ONE, TWO, DEEP = ln.hand_over.HandOver, ln.hand_over.ONE, ln.hand_over.TWO, ln.hand_over.DEEP
FIVE = HandOver(("-9/10", "-2/5", "-1/10", "1/10", "2/5"), ("0", "-1/40", "-7/40", "-11/40", "-23/40"), left=1)
ALL = {"one": ONE, "two": TWO, "deep": DEEP, "five": FIVE}
CHANGES = {"one": (1, 0), "two": (2, 0), "deep": (3, 1), "five": (2, 0)}


def points(data, count=5, seed=0):
    """Points of the chart."""
    rng, (low, high) = np.random.default_rng(seed), map(float, data.levels)
    for _ in range(count):
        yield np.append(rng.uniform(0.1, 5, len(data.sizes) - 1), rng.uniform(low, high))


def misfit(model, data):
    x, y = data.data()
    return (model(x) - y).detach().abs().max().item()


@pytest.mark.parametrize("name", ALL)
class TestChart:
    def test_every_network_fits_and_has_the_reg_of_the_formula(self, name):
        data = ALL[name]
        for point in points(data):
            model = data.network(point)
            assert misfit(model, data) < 1e-13
            assert ln.implicit_regularizer(model, data.data()[0]).item() == pytest.approx(data.reg(point), rel=1e-12)

    def test_the_chart_has_as_many_coordinates_as_the_manifold(self, name):
        data = ALL[name]
        point = next(points(data))
        assert len(point) == len(flat(data.network(point))) - ln.linearize(data.network(point), data.data()[0]).normal.shape[1]

    def test_the_minimum_is_non_repellent_with_positive_curvatures(self, name):
        data = ALL[name]
        x, y = data.data()
        model = data.network(data.minimum())
        assert misfit(model, data) < 1e-14
        assert ln.tangential_gradient(model, x).norm() < 1e-12
        curvatures = ln.tangential_curvature(model, x)[0]
        assert len(curvatures) == len(data.minimum()) and curvatures.min() > 0.003

    def test_changes_of_convexity(self, name):
        data = ALL[name]
        x, y = data.data()
        level = data.minimum()[-1]
        found = ln.convexity_changes(data.network(level), x[0].item(), x[-1].item(), tol=0.02)
        assert (found, ln.minimum_convexity_changes(x, y)) == CHANGES[name] == (data.changes(level), data.needed())

    def test_best_is_the_least_at_its_level(self, name):
        data = ALL[name]
        rng = np.random.default_rng(1)
        for point in points(data, 3):
            best = data.best(point[-1])
            others = [best * np.append(np.exp(0.1 * rng.normal(size=len(best) - 1)), 1) for _ in range(20)]
            assert data.reg(best) <= min(map(data.reg, [point, *others]))
            step = 1e-6
            difference = (data.reg(data.best(best[-1] + step)) - data.reg(data.best(best[-1] - step))) / (2 * step)
            assert data.slope(best[-1]) == pytest.approx(difference, rel=1e-4, abs=1e-7)


def test_a_linear_unit_changes_nothing_where_the_plateau_has_two_points():
    for data in (ONE, TWO, DEEP):
        x, _ = data.data()
        network = data.network(data.minimum())
        model = ln.hand_over.WithLinearUnit(network)
        assert ln.tangential_gradient(model, x).norm() < 1e-12
        torch.testing.assert_close(ln.tangential_curvature(model, x)[0], ln.tangential_curvature(network, x)[0])


def test_two_lines_meet_at_one_level_only():
    level = Fraction(9, 20)
    assert TWO.kinks(level)[0] == TWO.kinks(level)[1] and TWO.changes(level) == 0
    assert [TWO.changes(level + e) for e in (Fraction(-1, 1000), Fraction(1, 1000))] == [2, 1]


def test_a_balance_outside_of_the_gap_is_refused():
    steep = HandOver(TWO.x, (*TWO.y[:5], -6))
    with pytest.raises(ArithmeticError, match="no minimum on these levels"):
        steep.minimum()


CORNER = ("-9/10", "-3/5", "2/5", "1/2", "9/10", "1"), ("0", "0", "-21/10", "-12/5", "-18/5", "-129/20")


@pytest.mark.parametrize("front", [1, 2, 4])
class TestUnitsInFront:
    def test_every_network_fits_and_has_the_reg_of_the_formula(self, front):
        data = HandOver(*CORNER, front=front)
        assert len(data.sizes) == 4 + front
        for squares, level in ((p[:-1], p[-1]) for p in points(data)):
            point = [*squares, level]
            model = data.network(point)
            assert misfit(model, data) < 1e-12
            assert ln.implicit_regularizer(model, data.data()[0]).item() == pytest.approx(data.reg(point), rel=1e-11)

    def test_no_small_move_on_the_manifold_lowers_reg(self, front):
        """Moves of all kinds: kinks to the left, units that come on at the plateau."""
        data = HandOver(*CORNER, front=front)
        x, y = data.data()
        model = data.network(data.minimum())
        theta, reg = torch.nn.utils.parameters_to_vector(model.parameters()).detach(), ln.implicit_regularizer(model, x).item()
        generator, rises = torch.Generator().manual_seed(0), []
        while len(rises) < 60:
            move = 1e-4 * torch.randn(len(theta), generator=generator, dtype=torch.float64)
            torch.nn.utils.vector_to_parameters(theta + move, model.parameters())
            ln.project_to_zero_error(model, x, y)
            rises.append(ln.implicit_regularizer(model, x).item() - reg)
        assert min(rises) > 0


X, Y = TWO.x, TWO.y
test_bad_data_are_named = refusals(
    {
        "no fractions": (lambda: HandOver(("a",) * 6, Y), ValueError, "x must hold fractions"),
        "too few": (lambda: HandOver(X[:5], Y[:5]), ValueError, "left \\+ 4 \\+ right = 6 numbers, got 5 and 5"),
        "order": (lambda: HandOver(X[::-1], Y), ValueError, "x must be increasing"),
        "plateau": (lambda: HandOver(X, (1, *Y[1:])), ValueError, "plateaus must be level"),
        "level line": (lambda: HandOver(X, (*Y[:3], Y[2], *Y[4:])), ValueError, "neither of the two lines may be level"),
        "kink": (lambda: HandOver(X, (0, 0, -2, "-21/10", *Y[4:])), ValueError, "must meet its plateau in the gap"),
        "no level": (lambda: HandOver(X, (*Y[:4], 3, "1/2")), ValueError, "at no level do both units switch"),
        "front": (lambda: HandOver(X, Y, front=-1), ValueError, "front must be at least 0"),
        "front and right": (lambda: HandOver(DEEP.x, DEEP.y, 1, 4, 1), ValueError, "front must be 0 with a right plateau"),
        "left": (lambda: HandOver(X, Y, left=0), ValueError, "left must be at least 1"),
        "right": (lambda: HandOver(X, Y, right=1.0), TypeError, "right must be an integer"),
        "level": (lambda: TWO.best(0.2), ValueError, "level must lie between 0.3 and 0.5, got 0.2"),
        "no number": (lambda: TWO.best("x"), TypeError, "level must be a number"),
        "shapes": (lambda: ln.hand_over.fit_with_least_reg([1, 2, 1], torch.ones(3), torch.ones(2)), ValueError, "same shape"),
        "sizes": (lambda: ln.hand_over.fit_with_least_reg([1, 1], torch.ones(2), torch.ones(2)), ValueError, "hidden layer"),
    }
)


def test_derivatives_of_terms_are_those_of_autograd():
    half = Fraction(1, 2)
    terms = [Term((1, -1), (half, Fraction(2), Fraction(3))), Term((-1, 2), (Fraction(1), half, Fraction(0)))]
    at = torch.tensor([0.7, 1.3, -0.4], dtype=torch.float64)
    gradient, hessian = derivatives(terms, at.tolist())
    expected = torch.func.grad(lambda v: value(terms, list(v)))(at), torch.func.hessian(lambda v: value(terms, list(v)))(at)
    torch.testing.assert_close(torch.tensor(gradient, dtype=torch.float64), expected[0])
    torch.testing.assert_close(torch.tensor(hessian, dtype=torch.float64), expected[1])


@pytest.mark.parametrize("sizes", [[1, 5, 1], [1, 4, 3, 1], [1, 2, 3, 4, 1]])
def test_the_gradient_of_the_explicit_fit_is_autograds(sizes):
    x, y = ONE.data()
    model = ln.hand_over.WithLinearUnit(ln.MLP(sizes, seed=1, bias_std=1.0), 0.3)
    parameters = [*model.core.parameters(), model.slope]
    total = 7 * (model(x) - y).square().sum() + len(x) * ln.implicit_regularizer(model, x)
    expected = torch.cat([g.reshape(-1) for g in torch.autograd.grad(total, parameters)]).numpy()
    theta = torch.nn.utils.parameters_to_vector(parameters).detach().numpy().copy()
    found, scratch = np.zeros(len(theta)), np.zeros((3, len(sizes), max(sizes)))
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        explicit._add_gradient(theta, np.array(sizes), a, b, 7.0, found, *scratch)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_the_explicit_fit_at_depth_two_comes_near_the_programme():
    x, y = ONE.data()
    (model,) = ln.hand_over.fit_with_least_reg([1, 20, 1], x, y, steps=20_000)
    bound = ln.minimal_interpolant(x, y).lower_bound
    assert (model(x) - y).square().mean() < 1e-6
    assert bound <= ln.implicit_regularizer(model, x).item() + 1e-3 < 1.1 * bound


def test_recorded_runs_are_what_the_script_would_write(tmp_path, monkeypatch):
    """A row of the script, by a run of no length; and the table has such rows."""
    script = tool("record_hand_over")
    for name, number in (("TABLE", tmp_path / "table.json"), ("STEPS", 2000), ("EARLY", 100)):
        monkeypatch.setattr(script, name, number)
    script.main([0])
    table, recorded = json.loads((tmp_path / "table.json").read_text("utf-8")), ln.hand_over.recorded_runs()
    assert table.keys() == recorded.keys()
    settings = ("command", "lr", "noise_std", "start")
    assert [table[key] for key in settings] == [recorded[key] for key in settings]
    for row in recorded["runs"]:
        assert row.keys() == table["runs"][0].keys()
        assert row["changes"][0] == 0 and row["changes"][-1] == 2
        assert row["level"][0] == pytest.approx(0.45) and len(row["early"]) == 9
