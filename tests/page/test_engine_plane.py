"""The engine in the plane: its ReLU network steps as Python's, and its exact fit of least reg is that of Python's programme."""

import numpy as np
import pytest
import torch
from trajectories import assert_same_on_the_page

import labelnoise_utils as ln

PATHS = [f"engine/{name}.js" for name in ("random", "loop", "solve", "cuts", "least_reg", "two_layer_relu_plane")]
SKIPS = (True, "constant", False)
LEAST = """([points, y, skip]) => {
    const { cones } = cutsOf(points);
    const began = performance.now();
    return { ...leastReg(points, y, skip), milliseconds: performance.now() - began, patterns: cones.length };
}"""


def least(evaluate, x, y, skip):
    found = evaluate(LEAST, [np.asarray(x).tolist(), np.asarray(y).tolist(), skip])
    found["model"] = network(found, skip)
    return found


def network(found, skip):
    """The same network in torch, each unit at its best scale."""
    units = found["units"]
    model = ln.TwoLayerReLU(max(1, len(units)), dim=2, skip=skip)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for i, unit in enumerate(units):
            model.a[i] = torch.tensor(unit["w"], dtype=torch.float64)
            model.b[i], model.c[i] = unit["b"], unit["c"]
        if skip is True:
            model.a0.copy_(torch.tensor(found["line"][:2], dtype=torch.float64))
        if skip:
            model.b0.fill_(found["line"][2])
    return model


def reg_at_best_scales(model, x):
    """Each unit's share at its best scale, twice the root of the product of its two parts, and the skip unit's.

    On its own crease a unit is not awake, whatever rounding makes of it.
    """
    with torch.no_grad():
        p = torch.relu(x @ model.a.T + model.b)
        sizes = 1 + x.square().sum(1)
        shares = 2 * (p.square().sum(0) * model.c.square() * ((p > 1e-7 * p.max(0).values) * sizes[:, None]).sum(0)).sqrt()
        free = {True: sizes.sum(), "constant": torch.tensor(float(len(x))), False: torch.tensor(0.0)}[model.config["skip"]]
        return ((shares.sum() + free) / len(x)).item()


def random_set(seed):
    random = np.random.default_rng(seed)
    n = 4 + seed % 7
    return random.uniform(-1, 1, (n, 2)), random.uniform(-1, 1, n)


corners = np.array([[1.0, 1], [-1, -1], [1, -1], [-1, 1]])
grid = np.array([[i, j] for i in (-1.0, 0, 1) for j in (-1.0, 0, 1)])
along = np.linspace(-1, 1, 6)[:, None] * [1, 0.3]
DEGENERATE = {
    "four corners": (corners, corners.prod(1)),
    "a grid": (grid, np.array([1, 0, -1, 0.5, 1, -1, 0, 1, 0])),
    "on a line": (along, np.array([0, 1, 0, 1, 0, -1.0])),
    "nearly on a line": (along + [[0, 1e-4]] * np.array([[0], [1], [0], [0], [-1], [0]]), np.array([0, 1, 0, 1, 0, -1.0])),
    "four on a line of seven": (
        np.array([[-1, 0], [1, 0], [2, 0], [3, 0], [-1, -1], [2, 2], [-1, -2]]) / 3,
        [0, 0, 0, 0, 1, -1, 1],
    ),
    "two close to each other": (np.vstack([corners, [[0.03, 0.0], [-0.02, 0.0]]]), [1, 0, -1, 1, 1, -1]),
}


@pytest.mark.site
class TestModel:
    @pytest.mark.parametrize("skip", SKIPS)
    def test_steps_and_reg_are_those_of_python_on_the_same_draws(self, evaluate, skip):
        x, y = map(torch.from_numpy, random_set(3))
        model = ln.TwoLayerReLU(30, dim=2, skip=skip, seed=1)
        options = dict(width=30, skip=skip)
        tolerances = dict(rtol=1e-11, atol=1e-12)
        make = "makeTwoLayerReluInPlane"
        run = assert_same_on_the_page(evaluate, make, options, model, x, y, lr=0.002, noise_std=0.3, outputs=tolerances)
        assert run.loss[-1] < 0.2 * run.loss[0]  # it went somewhere

    def test_relu_has_the_derivative_0_at_0_and_nan_stays(self, evaluate):
        at_zero, nan = evaluate(
            """() => {
                const model = makeTwoLayerReluInPlane({ width: 1, skip: false });
                const data = { x: [1, 1], y: [5], n: 1, dim: 2 };
                const theta = Float64Array.of(1, 1, -2, 2);
                model.step(theta, data, 0, 0, 0.1);
                return [[...theta], Number.isNaN(model.step(Float64Array.of(NaN, 0, 0, 1), data, 0, 0, 0.1))];
            }"""
        )
        assert at_zero == [1, 1, -2, 2]
        assert nan

    def test_a_random_start_has_the_scales_of_python(self, evaluate):
        options = dict(width=400, inputStd=2, outputStd=0.5)
        theta = np.array(evaluate("(o) => [...makeTwoLayerReluInPlane(o).start(makeNormals(makeWords(3)))]", options))
        *parts, skip = np.split(theta, [1200, 1600])
        for part, std in zip(parts, (2, 0.5), strict=True):
            assert np.sqrt((part**2).mean()) == pytest.approx(std, rel=5 / np.sqrt(2 * len(part)))
        assert (skip == 0).all() and len(skip) == 3


def assert_is_the_least(found, x, y, skip):
    """Reg, bound and network against Python's programme, which has another solver."""
    best = ln.minimal_interpolant(np.asarray(x), np.asarray(y, dtype=float), skip=skip)
    assert found["patterns"] == best.patterns
    assert found["reg"] == pytest.approx(best.reg, rel=1e-6)
    # Each one's bound holds for the other's network.
    assert found["bound"] <= best.reg * (1 + 1e-12) and best.lower_bound <= found["reg"] * (1 + 1e-9)
    assert found["reg"] - found["bound"] <= 1e-6 * found["reg"]
    # The network is what the numbers say.
    x, y = torch.from_numpy(np.asarray(x)), torch.tensor(np.asarray(y), dtype=torch.float64)
    assert (found["model"](x) - y).abs().max().item() == pytest.approx(found["misfit"], abs=1e-9)
    assert found["misfit"] < 1e-5
    assert best.lower_bound * (1 - 1e-6) <= reg_at_best_scales(found["model"], x) <= found["reg"] * (1 + 1e-5)


@pytest.mark.site
class TestLeastReg:
    @pytest.mark.parametrize("skip", SKIPS)
    def test_is_that_of_python_on_random_sets(self, evaluate, skip):
        took = []
        for seed in range(7):
            x, y = random_set(seed)
            found = least(evaluate, x, y, skip)
            assert_is_the_least(found, x, y, skip)
            took.append(found["milliseconds"])
        assert np.median(took) < 1000  # some 20 where nothing else runs

    @pytest.mark.parametrize("skip", SKIPS)
    @pytest.mark.parametrize("name", DEGENERATE)
    def test_and_where_points_lie_on_lines_or_close(self, evaluate, name, skip):
        x, y = DEGENERATE[name]
        assert_is_the_least(least(evaluate, x, y, skip), x, y, skip)

    @pytest.mark.parametrize(("skip", "free"), [(True, 1 + 2 / 3), ("constant", 1.0)])
    def test_what_is_free_needs_no_unit(self, evaluate, skip, free):
        x = corners[[0, 1, 2, 3, 0, 1]] * np.array([1, 1, 1, 1, 0, 0])[:, None] + np.array([[0, 0]] * 4 + [[0, 0.5], [0.5, 0]])
        y = 0.25 + (x @ [0.5, -1] if skip is True else 0 * x[:, 0])
        found = least(evaluate, x, y, skip)
        size = np.mean(1 + (x**2).sum(1)) if skip is True else free
        assert found["units"] == [] and found["reg"] == found["bound"] == pytest.approx(size, rel=1e-12)
        assert found["misfit"] < 1e-11

    def test_the_bound_is_one_for_any_network(self, evaluate):
        """Random networks through the data are never below it."""
        x, y = random_set(4)
        found = least(evaluate, x, y, "constant")
        points, labels = torch.from_numpy(x), torch.from_numpy(y)
        ratios = []
        for seed in range(20):
            model = ln.TwoLayerReLU(40, dim=2, skip="constant", seed=seed, input_std=1.0)
            with torch.no_grad():
                p = torch.relu(points @ model.a.T + model.b)
                design = torch.cat([p, torch.ones(len(x), 1, dtype=torch.float64)], dim=1)
                solution = torch.linalg.lstsq(design, labels[:, None], driver="gelsd").solution[:, 0]
                model.c.copy_(solution[:-1])
                model.b0.copy_(solution[-1])
                assert (model(points) - labels).abs().max() < 1e-9
            ratios.append(reg_at_best_scales(model, points) / found["bound"])
        assert min(ratios) > 1
