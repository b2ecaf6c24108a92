"""The engine's two smallest models in a browser: their steps are Python's on the same draws; the terms are equation (6)'s."""

from importlib.resources import files

import numpy as np
import pytest
import torch
from trajectories import assert_same_on_the_page

import labelnoise_utils as ln

PAGE = files("labelnoise_utils.page")
PATHS = ("engine/random.js", "engine/product.js", "engine/three_parameters.js", "push_terms.js", "space_valley.js")


class ThreeParameters(torch.nn.Module):
    """(u v, v^2 + w^2), of which an example's row of the identity picks one."""

    def __init__(self, u, v, w):
        super().__init__()
        self.theta = torch.nn.Parameter(torch.tensor([u, v, w], dtype=torch.float64))

    def forward(self, x):
        u, v, w = self.theta
        return x @ torch.stack([u * v, v**2 + w**2])


CASES = {
    "product": ("makeProduct", lambda: ln.Product(2.0, 1.0), torch.zeros(3, 1), torch.tensor([1.0, 0.8, 1.3]), 0.01),
    "three parameters": (
        "makeThreeParameters",
        lambda: ThreeParameters(2.4, 0.7, 1.0),
        torch.eye(2, dtype=torch.float64),
        torch.tensor([1.0, 2.0], dtype=torch.float64),
        0.005,
    ),
}


@pytest.fixture
def evaluate(browse):
    """The value of a script on a page that has the engine's files."""

    def evaluate(code, argument=None):
        values = []

        def act(page):
            for path in PATHS:
                page.add_script_tag(path=str(PAGE.joinpath(path)))
            values.append(page.evaluate(code, argument))

        browse(act=act)
        return values[0]

    return evaluate


@pytest.mark.site
@pytest.mark.parametrize("case", CASES)
def test_steps_reg_and_loss_are_those_of_python_on_the_same_draws(evaluate, case):
    make, model, x, y, lr = CASES[case]
    tolerances = dict(rtol=1e-12)
    run = assert_same_on_the_page(evaluate, make, {}, model(), x, y, lr=lr, noise_std=0.7, outputs=tolerances)
    assert run.engine == ("compiled" if case == "product" else "torch")
    assert np.linalg.norm(run.theta[-1] - run.theta[0]) > 0.1


@pytest.mark.site
class TestTerms:
    def test_each_is_that_of_equation_six_and_together_they_are_the_step_but_for_the_third_order(self, evaluate):
        f, displacement, noise, lr = 1.6, [0.21, 0.13], 0.5, 0.03
        found = evaluate(
            """([f, [du, dv], noise, lr]) => [...TERMS.map((term) => {
                const out = [0, 0];
                addTerms({ [term]: true }, f, du, dv, noise, lr, out);
                return [term, out];
            }), ["step", (() => {
                const theta = [f + du, 1 / f + dv];
                makeProduct().step(theta, VALLEY, 0, noise, lr);
                return [theta[0] - f - du, theta[1] - 1 / f - dv];
            })()]]""",
            [f, displacement, noise, lr],
        )
        found = {name: np.array(value) for name, value in found}
        step = found.pop("step")
        star, x = ln.Product(f, 1 / f), torch.zeros(1)
        label = torch.tensor([1 + noise], dtype=torch.float64)
        at = torch.tensor(displacement, dtype=torch.float64)
        terms = ln.update_terms(star, x, label, at, lr=lr, order=3)
        for name, value in found.items():
            np.testing.assert_allclose(value, terms[int(name[0]), int(name[1])].numpy(), rtol=1e-12, atol=1e-16)
        left_out = {
            key: value for key, value in terms.items() if f"{key[0]}{key[1]}" not in found and value.abs().max() > 1e-15
        }
        assert set(left_out) == {(2, 1)}
        np.testing.assert_allclose(sum(found.values()) + left_out[2, 1].numpy(), step, rtol=1e-12)

    def test_the_foot_is_the_nearest_point(self, evaluate):
        points = np.random.default_rng(3).uniform(0.05, 3, (300, 2))
        feet = np.array(evaluate("(points) => points.map(([u, v]) => footOf(u, v))", points.tolist()))
        grid = np.geomspace(0.05, 20, 20_001)
        nearest = np.hypot(points[:, :1] - grid, points[:, 1:] - 1 / grid).min(axis=1)
        found = np.hypot(points[:, 0] - feet, points[:, 1] - 1 / feet)
        assert (found <= nearest + 1e-12).all()

    def test_the_sum_of_both_steps_is_downhill_everywhere(self, evaluate):
        """It is -2 lr a^2 grad reg along the valley, exactly, and across it points to the origin."""
        found = evaluate(
            """() => {
                const all = Object.fromEntries(TERMS.map((term) => [term, true]));
                const places = [];
                for (let k = -52; k <= 52; k++) {
                    const f = 1.02 ** k;
                    for (const part of [-1, -0.5, -0.1, 0.01, 0.3, 1]) {
                        const a = part * farthest(f);
                        const { pair, along, across } = mirrored(makeProduct(), f, a, 0.02, all);
                        const feet = pair.map(({ at }) => footOf(...at));
                        const errors = pair.map(({ error }) => error);
                        places.push([f, a, along, across, ...errors, ...pair.flatMap(({ at }) => at), ...feet]);
                    }
                }
                return places;
            }"""
        )
        f, a, along, across, *errors, u, v, twin_u, twin_v, foot, twin_foot = np.array(found).T
        length = np.hypot(f, 1 / f)
        slope = 2 * (f**2 - 1 / f**2) / length  # of reg = u^2 + v^2, towards larger u
        np.testing.assert_allclose(along, -2 * 0.02 * a**2 * slope, rtol=0, atol=1e-14)
        sides = abs(f - 1) > 1e-9
        assert (along * slope < 0)[sides].all()
        assert (across < 0).all()
        assert (errors[0] * a > 0).all() and (errors[1] * a < 0).all()
        assert np.min([u, v, twin_u, twin_v]) > 0
        np.testing.assert_allclose(foot, f, rtol=1e-9)  # "nearest" holds for both
        np.testing.assert_allclose(twin_foot, f, rtol=1e-9)


@pytest.mark.site
def test_the_valley_in_space(evaluate):
    """Its points are without error, its reg, drift and nearest points those of ln."""
    angles = [-0.8, -0.2, 0.3, 0.9, 1.2]
    found = evaluate(
        "(angles) => angles.map((p) => [spaceAt(p), tangentAt(p), spaceReg(p), spaceDrift(p, 0.01, 0.7), "
        "angleNear(spaceAt(p).map((x) => x + 0.01), p + 0.2)])",
        angles,
    )
    x, y = torch.eye(2, dtype=torch.float64), torch.tensor([1.0, 2.0], dtype=torch.float64)
    for p, (place, tangent, reg, moved, near) in zip(angles, found, strict=True):
        model = ThreeParameters(*place)
        with torch.no_grad():
            np.testing.assert_allclose(model(x).numpy(), y.numpy(), rtol=1e-12)
        assert abs(ln.linearize(model, x).jacobian.numpy() @ tangent).max() < 1e-12
        assert reg == pytest.approx(ln.implicit_regularizer(model, x).item(), rel=1e-12)
        drift = ln.drift(model, x, lr=0.01, noise_std=0.7).numpy()
        np.testing.assert_allclose((moved - p) * np.array(tangent), drift, rtol=0, atol=1e-9 * np.linalg.norm(drift) + 1e-13)
        off = np.array(place) + 0.01
        angle = np.linspace(p - 0.3, p + 0.3, 60_001)
        curve = np.array([1 / np.cos(angle) / 2**0.5, np.cos(angle) * 2**0.5, np.sin(angle) * 2**0.5])
        assert near == pytest.approx(angle[np.square(off[:, None] - curve).sum(axis=0).argmin()], abs=2e-5)
    assert ln.implicit_regularizer(ThreeParameters(1.0, 1.0, 1.0), x).item() == pytest.approx(5)
