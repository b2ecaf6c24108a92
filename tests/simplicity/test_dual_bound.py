"""The lower bound: an independent cone programme has that value, and no network that fits, however made, has less."""

from fractions import Fraction

import cvxpy
import numpy as np
import pytest
import torch
from interpolants import cloud, grid

import labelnoise_utils as ln
from labelnoise_utils.simplicity.dual_bound import bound_from
from labelnoise_utils.simplicity.patterns import all_patterns

SKIPS = [True, "constant", False]


def independent(x, y, skip):
    """The programme with all patterns at once, a vector of outputs for each, as cvxpy states it; repeated examples are rows."""
    x, y = x.numpy(), y.numpy()
    n, d = x.shape
    lifted = np.column_stack([x, np.ones(n)])
    squares = (lifted**2).sum(1)
    patterns = [np.isin(np.arange(n), [j for j in range(n) if one[j]]) for one in _with_repetitions(x)]
    outputs, cost, constraints = 0, 0, []
    for active in patterns:
        for sign in (1, -1):
            unit = cvxpy.Variable(d + 1)
            rows = np.where(active[:, None], lifted, -lifted)
            constraints.append(rows @ unit >= 0)
            values = (active[:, None] * lifted) @ unit
            cost += 2 / n * np.sqrt(active @ squares) * cvxpy.norm(values)
            outputs += sign * values
    free = {True: lifted, "constant": lifted[:, -1:]}.get(skip)
    if free is not None:
        outputs += free @ cvxpy.Variable(free.shape[1])
    problem = cvxpy.Problem(cvxpy.Minimize(cost), [*constraints, outputs == y])
    # Tighter than its default, with which its first releases end further off than what is compared.
    problem.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    return problem.value + {True: squares.mean(), "constant": 1, False: 0}[skip]


def _with_repetitions(x):
    points, place = np.unique(x, axis=0, return_inverse=True)
    return all_patterns(points).active[:, place.reshape(-1)]


def fitted(x, y, skip, seed, width=60):
    """A random wide network whose output weights and skip unit are refitted, by the least squares that have the least norm."""
    model = ln.TwoLayerReLU(width, dim=x.shape[1], skip=skip, seed=seed)
    with torch.no_grad():
        relu = torch.relu(x @ model.a.T + model.b)
        free = {True: torch.column_stack([x, torch.ones(len(x))]), "constant": torch.ones(len(x), 1)}.get(skip, x[:, :0])
        solution = torch.linalg.lstsq(torch.column_stack([relu, free.to(x)]), y, driver="gelsd").solution
        model.c.copy_(solution[:width])
        if skip:
            model.b0.fill_(solution[-1])
        if skip is True:
            model.a0.copy_(solution[width:-1])
        balance = (relu.square().sum(0) / ((relu > 0).T.to(x) @ (1 + x.square().sum(1))) / model.c.square()).pow(0.25)
        balance = torch.where(torch.isfinite(balance) & (balance > 0), balance, 1.0)
        model.c.mul_(balance)
        model.a.div_(balance[:, None])
        model.b.div_(balance)
    return model


@pytest.mark.parametrize("skip", SKIPS)
class TestBound:
    @pytest.mark.parametrize(
        "x, y",
        [cloud(3, 1, 0), cloud(6, 2, 1), cloud(7, 2, 2), cloud(6, 3, 3), cloud(4, 5, 4), grid(3, 2, 5), grid(2, 3, 6)],
        ids=["3 on a line", "6 in a plane", "7 in a plane", "6 in space", "4 in five dimensions", "a grid", "a cube"],
    )
    def test_against_cvxpy(self, x, y, skip):
        f = ln.minimal_interpolant(x, y, skip=skip)
        expected = pytest.approx(independent(x, y, skip), rel=1e-6)
        assert f.reg == expected
        assert f.lower_bound == expected

    def test_against_cvxpy_with_repeated_examples(self, skip):
        x, y = cloud(5, 2, 7)
        often = torch.tensor([0, 0, 1, 2, 2, 2, 3, 4])
        f = ln.minimal_interpolant(x[often], y[often], skip=skip)
        assert f.lower_bound == pytest.approx(independent(x[often], y[often], skip), rel=1e-6)

    @pytest.mark.parametrize("exact", [True, False])
    def test_no_network_that_fits_has_less(self, exact, skip):
        x, y = cloud(8, 2, 8)
        f = ln.minimal_interpolant(x, y, skip=skip, exact=exact)
        regs = []
        for seed in range(50):
            model = fitted(x, y, skip, seed)
            with torch.no_grad():
                assert (model(x) - y).abs().max().item() < 1e-8
            regs.append(ln.implicit_regularizer(model, x).item())
        assert min(regs) >= f.lower_bound
        # At their best scales they are near enough for this to mean something.
        assert min(regs) < 20 * f.reg

    def test_a_network_with_other_units_at_the_same_values(self, skip):
        """Halves of units, moved kinks between points: reg stays or grows."""
        x, y = cloud(8, 2, 9)
        f = ln.minimal_interpolant(x, y, skip=skip)
        theta = torch.nn.utils.parameters_to_vector(f.model.parameters()).detach()
        double = ln.TwoLayerReLU(2 * len(f.model.c), dim=2, skip=skip)
        with torch.no_grad():
            for name in ("a", "b", "c"):
                getattr(double, name).copy_(torch.cat([getattr(f.model, name)] * 2) / 2**0.5)
            for name in ("a0", "b0"):
                if getattr(double, name) is not None:
                    getattr(double, name).copy_(getattr(f.model, name))
            torch.testing.assert_close(double(x), f.model(x))
        assert theta.isfinite().all()
        assert ln.implicit_regularizer(double, x).item() == pytest.approx(f.reg, rel=1e-9)

    def test_the_search_has_a_bound_too(self, skip):
        """Lower, and for labels that no line fits above what the skip unit costs."""
        x, y = cloud(10, 2, 10)
        exact, searched = (ln.minimal_interpolant(x, y, skip=skip, exact=exact) for exact in (True, False))
        free = {True: (1 + x.square().sum(1)).mean().item(), "constant": 1.0, False: 0.0}[skip]
        assert free < searched.lower_bound < exact.lower_bound * (1 - 1e-4)
        assert not searched.certified


def test_labels_that_are_missed_cost_the_bound():
    dual = [Fraction(2), Fraction(-3)]
    assert bound_from(dual, np.array([1.0, -1.0]), np.zeros(2)) == 5
    assert bound_from(dual, np.array([1.0, -1.0]), np.array([0.5, 1.0])) == 1
    assert bound_from(dual, np.array([-1.0, 1.0]), np.zeros(2)) == 0
