"""The engine of the figures that move, in a browser: its models beside Python's on the same draws, its measures, its worker."""

import json

import numpy as np
import pytest
import torch
from trajectories import assert_same_on_the_page

import labelnoise_utils as ln
from labelnoise_utils.page import offline

ENGINE = (
    "random",
    "loop",
    "schedule",
    "lines",
    "spectrum",
    "two_layer_relu",
    "two_layer_sigmoidal",
    "matrix_sensing",
    "worker",
)
PATHS = [f"engine/{name}.js" for name in ENGINE]


def line():
    return ln.twelve_points()


def plane():
    rng = np.random.default_rng(4)
    return torch.from_numpy(rng.standard_normal((5, 3))), torch.from_numpy(rng.standard_normal(5))


def matrices():
    x, y, _ = ln.matrix_sensing(6, 2, 20, seed=1)
    return x, y


CASES = {
    "relu": ("makeTwoLayerRelu", dict(width=50), lambda: ln.TwoLayerReLU(50, seed=1), line, 0.002),
    "relu without the skip unit": (
        "makeTwoLayerRelu",
        dict(width=20, skip=False),
        lambda: ln.TwoLayerReLU(20, skip=False, seed=2),
        line,
        0.002,
    ),
    "tanh": (
        "makeTwoLayerSigmoidal",
        dict(width=8, dim=3),
        lambda: ln.TwoLayerSigmoidal(8, 3, seed=1),
        plane,
        0.01,
    ),
    "logistic": (
        "makeTwoLayerSigmoidal",
        dict(width=8, dim=3, activation="logistic"),
        lambda: ln.TwoLayerSigmoidal(8, 3, "logistic", seed=1),
        plane,
        0.01,
    ),
    "matrix": ("makeMatrixSensing", dict(dim=6), lambda: ln.MatrixSensing(6), matrices, 0.002),
}


@pytest.mark.site
class TestModels:
    @pytest.mark.parametrize("case", CASES)
    def test_steps_and_reg_are_those_of_python_on_the_same_draws(self, evaluate, case):
        make, options, model, data, lr = CASES[case]
        x, y = data()
        tolerances = dict(rtol=1e-11, atol=1e-12)
        run = assert_same_on_the_page(evaluate, make, options, model(), x, y, lr=lr, noise_std=0.5, outputs=tolerances)
        assert run.loss[-1] < 0.2 * run.loss[0]  # it went somewhere

    def test_relu_has_the_derivative_0_at_0_and_nan_stays(self, evaluate):
        at_zero, nan = evaluate(
            """() => {
                const model = makeTwoLayerRelu({ width: 1, skip: false });
                const data = { x: [1], y: [5], n: 1, dim: 1 };
                const theta = Float64Array.of(1, -1, 2);
                model.step(theta, data, 0, 0, 0.1);
                const broken = Float64Array.of(NaN, 0, 1);
                return [[...theta], Number.isNaN(model.step(broken, data, 0, 0, 0.1))];
            }"""
        )
        assert at_zero == [1, -1, 2]
        assert nan

    @pytest.mark.parametrize(
        ("make", "options", "expected"),
        [
            ("makeTwoLayerRelu", dict(width=400, inputStd=2, outputStd=0.5), [(400, 2), (400, 2), (400, 0.5), (2, 0)]),
            ("makeTwoLayerSigmoidal", dict(width=400, dim=2, inputStd=3, outputStd=1), [(800, 3), (400, 1)]),
            ("makeMatrixSensing", dict(dim=20, init="gaussian", scale=2), [(400, 2 / 20**0.5)]),
        ],
    )
    def test_a_random_start_has_the_scales_of_python(self, evaluate, make, options, expected):
        code = f"(options) => [...{make}(options).start(makeNormals(makeWords(3)))]"
        theta = np.array(evaluate(code, options))
        parts = np.split(theta, np.cumsum([size for size, _ in expected]))
        assert parts.pop().size == 0
        for part, (size, std) in zip(parts, expected, strict=True):
            assert np.sqrt((part**2).mean()) == pytest.approx(std, rel=5 / np.sqrt(2 * size))
            assert abs(part.mean()) <= 5 * std / np.sqrt(size)

    def test_the_identity_as_a_start(self, evaluate):
        assert evaluate("() => [...makeMatrixSensing({ dim: 3, scale: 2 }).start()]") == [2, 0, 0, 0, 2, 0, 0, 0, 2]


@pytest.mark.site
class TestMeasures:
    def test_length_and_changes_are_those_of_python(self, evaluate):
        models = [ln.TwoLayerReLU(30, seed=seed) for seed in range(5)]
        thetas = [torch.nn.utils.parameters_to_vector(model.parameters()).tolist() for model in models]
        found = evaluate(
            """(thetas) => {
                const model = makeTwoLayerRelu({ width: 30 });
                const x = linspace(-1, 1, 20001);
                return thetas.map((theta) => {
                    const y = valuesAt(model, Float64Array.from(theta), x);
                    return [curveLength(x, y), ...[0.1, 0.5, 2].map((tol) => convexityChanges(x, y, tol))];
                });
            }""",
            thetas,
        )
        for model, (length, *changes) in zip(models, found, strict=True):
            assert length == pytest.approx(ln.curve_length(model, -1, 1), rel=1e-12)
            assert changes == [ln.convexity_changes(model, -1, 1, tol=tol) for tol in (0.1, 0.5, 2)]
        assert len({changes for _, changes, *_ in found}) > 1

    @pytest.mark.parametrize("dim", [1, 2, 9, 12])
    def test_eigenvalues_and_rank(self, evaluate, dim):
        u = np.random.default_rng(dim).standard_normal((dim, max(1, dim // 2)))
        for matrix in (u @ u.T, u @ u.T - np.eye(dim), np.diag(np.arange(dim) - 1.0)):
            values, rank = evaluate(
                "([a, dim]) => { const v = eigenvalues(a, dim); return [[...v], effectiveRank(v, 0.05)]; }",
                [matrix.ravel().tolist(), dim],
            )
            expected = np.linalg.eigvalsh(matrix)[::-1]
            np.testing.assert_allclose(values, expected, rtol=0, atol=1e-13 * dim * abs(expected).max() + 1e-300)
            assert rank == ln.effective_rank(torch.from_numpy(matrix), tol=0.05)

    def test_x_is_u_times_its_transpose(self, evaluate):
        u = np.random.default_rng(1).standard_normal((4, 4))
        found = np.array(evaluate("(u) => [...gram(u, 4)]", u.ravel().tolist())).reshape(4, 4)
        np.testing.assert_allclose(found, u @ u.T, rtol=1e-13)


@pytest.mark.site
class TestDraws:
    def test_examples_are_uniform_and_noise_a_fair_sign_independent_of_them(self, evaluate):
        draws = 60_000
        pairs = evaluate(
            """(draws) => {
                const { index, sign } = makeDraws(11);
                return Array.from({ length: draws }, () => [index(12), sign()]);
            }""",
            draws,
        )
        indices, signs = np.array(pairs).T
        counts = np.bincount(indices, minlength=12)
        assert len(counts) == 12
        assert abs(counts - draws / 12).max() < 5 * np.sqrt(draws * 11 / 144)
        assert set(signs) == {-1, 1}
        assert abs(signs.mean()) < 5 / np.sqrt(draws)
        assert abs((signs * (indices - indices.mean())).mean()) < 5 * indices.std() / np.sqrt(draws)

    def test_normals(self, evaluate):
        draws = 60_000
        z = np.array(evaluate("(n) => { const z = makeNormals(makeWords(2)); return Array.from({ length: n }, z); }", draws))
        for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
            assert (z**power).mean() == pytest.approx(moment, abs=5 * np.sqrt(variance / draws))
        assert abs((z[1:] * z[:-1]).mean()) < 5 / np.sqrt(draws)


CASE = dict(x=[-1, -0.5, 0, 0.5, 1], y=[0, 1, 0, 1, 0], n=5, dim=1)


@pytest.mark.site
class TestWorker:
    """The same function in a worker and in the page."""

    SETTINGS = dict(options=dict(width=10), data=CASE, seed=3, runs=[dict(noiseStd=0.5), dict(noiseStd=0)])

    def pages(self, monkeypatch):
        plain = offline.embedded
        extra = {
            "serve": "serve(port, makeTwoLayerRelu, (model, run) => ({ size: model.size }));",
            "send": "window.send = makeEngine(engine);",
            "forbid": 'window.Worker = class { constructor() { throw new Error("no"); } };',
            "fail": "window.Worker = class { postMessage() { setTimeout(() => this.onerror()); } };",
        }
        monkeypatch.setattr(offline, "embedded", lambda name: extra[name] if name in extra else plain(name))
        engine = (*PATHS, "serve")
        return {how: offline.script(*how, "engine/port.js", "send", engine=engine) for how in ((), ("forbid",), ("fail",))}

    def test_runs_are_the_same_in_a_worker_and_in_the_page_and_however_they_are_cut(self, browse, monkeypatch):
        code = """async ([settings, pieces]) => {
            const data = { ...settings.data, x: Float64Array.from(settings.data.x), y: Float64Array.from(settings.data.y) };
            await send({ kind: "start", ...settings, data });
            let last;
            for (const steps of pieces) last = await send({ kind: "advance", steps });
            return last.runs.map((run) => ({ ...run, theta: [...run.theta] }));
        }"""
        settings = self.SETTINGS | dict(rate=dict(pull=0.2, most=0.01))
        results = []
        for page in self.pages(monkeypatch).values():

            def act(tab):
                for pieces in ([2500], [1, 99, 333, 7, 2060]):
                    results.append(tab.evaluate(code, [settings, pieces]))

            browse(page, act=act)
        assert len(results) == 6
        assert all(json.dumps(one) == json.dumps(results[0]) for one in results)
        noisy, plain = results[0]
        assert noisy["t"] == plain["t"] == 2500
        assert noisy["theta"] != plain["theta"]
        assert noisy["size"] == 32
        assert noisy["lr"] <= 0.01

    def test_a_run_diverges_and_says_what_the_rate_has_to_be_below(self, browse, monkeypatch):
        code = """async (settings) => {
            await send({ kind: "start", ...settings, data: { ...settings.data, x: Float64Array.from(settings.data.x),
                y: Float64Array.from(settings.data.y) } });
            const first = await send({ kind: "advance", steps: 0 });
            const last = await send({ kind: "advance", steps: 1000 });
            return [first.runs[0].largestRate, last.runs[0].diverged, last.runs[0].t];
        }"""
        found = []
        page = self.pages(monkeypatch)[()]
        browse(page, act=lambda tab: found.extend(tab.evaluate(code, self.SETTINGS | dict(rate=dict(lr=1)))))
        bound, diverged, t = found
        assert 0 < bound < 1
        assert diverged and t < 1000

    def test_a_change_keeps_the_network_and_counts_anew(self, browse, monkeypatch):
        code = """async (settings) => {
            const data = { ...settings.data, x: Float64Array.from(settings.data.x), y: Float64Array.from(settings.data.y) };
            await send({ kind: "start", ...settings, data });
            const before = await send({ kind: "advance", steps: 300 });
            const moved = { ...data, y: data.y.map((y) => y + 1) };
            const after = await send({ kind: "change", data: moved, runs: [{ noiseStd: 0 }, { noiseStd: 0 }] });
            const later = await send({ kind: "advance", steps: 20 });
            return [before, after, later].map(({ runs: [one] }) => [one.t, [...one.theta], one.loss, one.noiseStd]);
        }"""
        found = []
        page = self.pages(monkeypatch)[()]
        browse(page, act=lambda tab: found.extend(tab.evaluate(code, self.SETTINGS | dict(rate=dict(lr=0.01)))))
        before, after, later = found
        assert [one[0] for one in found] == [300, 0, 20]
        assert before[1] == after[1] != later[1]
        assert later[2] < after[2] > before[2]
        assert (before[3], after[3]) == (0.5, 0)


@pytest.mark.site
class TestSchedule:
    def test_the_rate_rises_as_reg_falls_and_is_halved_once_reg_is_level(self, evaluate):
        rates, halvings, over = evaluate(
            """() => {
                const rate = makeRate({ pull: 0.2, most: 0.01 });
                const falling = [200, 100, 50, 20, 5].map((reg) => rate.next(reg, 0.5, 100));
                for (let k = 0; k < 2e5 && !rate.isOver(); k++) falling.push(rate.next(5, 0.5, 100));
                return [falling, rate.halvings(), rate.isOver()];
            }"""
        )
        assert rates[:5] == pytest.approx([0.001, 0.002, 0.004, 0.01, 0.01])
        assert over and halvings == 7
        assert sorted(set(rates[5:-1])) == pytest.approx([0.01 / 2**k for k in range(6, -1, -1)])

    def test_while_reg_falls_it_is_not_halved(self, evaluate):
        assert (
            evaluate(
                """() => {
                const rate = makeRate({ pull: 1, most: 0.01 });
                for (let k = 1; k < 1e5; k++) rate.next(100 / k ** 0.2, 0.5, 100);
                return rate.halvings();
            }"""
            )
            == 0
        )

    def test_a_constant_one(self, evaluate):
        assert evaluate("() => [1e9, 1].map((reg) => makeRate({ lr: 0.3 }).next(reg, 1, 1))") == [0.3, 0.3]
