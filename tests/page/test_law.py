"""The law in the playground, in a browser: its noise, its steps one by one, and the decay that it says."""

import math
from importlib.resources import files

import numpy as np
import pytest
from playgrounds import STILL, advance, page_of
from playwright.sync_api import expect

PAGE = files("labelnoise_utils.page")
SCRIPTS = [str(PAGE.joinpath(name)) for name in ("engine/random.js", "engine/product.js", "valley.js")]


def words(seed):
    """The generator sfc32, from its definition."""
    mask = 2**32 - 1
    a, b, c, counter = 0, seed, 0, 1
    drawn = 0
    while True:
        word = (a + b + counter) & mask
        counter = (counter + 1) & mask
        a, b, c = b ^ (b >> 9), (c + (c << 3)) & mask, (((c << 21) | (c >> 11)) + word) & mask
        drawn += 1
        if drawn > 15:
            yield word


def mean_signs(draw, batch_size):
    """Example after example, a bit each: from the top of a word, 32 to a word."""
    bits = "".join(f"{next(draw):032b}"[: min(32, batch_size - first)] for first in range(0, batch_size, 32))
    return sum(1 if bit == "1" else -1 for bit in bits) / batch_size


def reference(steps, *, lr, noise_std, batch_size, u, v, particles, seed):
    draw = words(seed)
    theta = np.tile([u, v], (particles, 1))
    for _ in range(steps):
        noise = noise_std * np.array([mean_signs(draw, batch_size) for _ in range(particles)])
        residual = theta.prod(axis=1) - 1 - noise
        theta = theta - lr * 2 * residual[:, None] * theta[:, ::-1]
    return theta


def sampling_error(lr, noise_std, batch_size, squared_error, steps, particles):
    """Standard error of ln s after some steps, averaged over the particles.

    ln s falls by g^2, and g = 2 lr (e - Z) with Z the mean of signs times noise_std: given e, the variance of g^2 is
    16 lr^4 (4 e^2 var + 2 var^2 (1 - 1/B)), var = noise_std^2 / B.
    """
    variance = noise_std**2 / batch_size
    per_step = 16 * lr**4 * (4 * squared_error * variance + 2 * variance**2 * (1 - 1 / batch_size))
    return math.sqrt(per_step * steps / particles)


@pytest.mark.site
class TestLaw:
    def test_one_step_multiplies_s_by_one_minus_g_squared(self, browse):
        def act(page):
            for path in SCRIPTS:
                page.add_script_tag(path=path)
            worst = page.evaluate(
                """() => {
                    let worst = 0;
                    for (let k = 0; k < 2000; k++) {
                        const [u, v, noise] = [3 * Math.random(), 3 * Math.random(), 4 * Math.random() - 2];
                        const [lr, noiseStd] = [0.2 * Math.random(), 2];
                        const cloud = { u: [u], v: [v] };
                        step(cloud, { lr, noiseStd, batchSize: 1 }, () => noise / noiseStd);
                        const g = 2 * lr * (u * v - 1 - noise);
                        const s = cloud.u[0] ** 2 - cloud.v[0] ** 2;
                        const scale = (u * u + v * v) * (1 + g * g);
                        worst = Math.max(worst, Math.abs(s - (u * u - v * v) * (1 - g * g)) / scale);
                    }
                    return worst;
                }"""
            )
            assert worst < 1e-12

        browse(act=act)

    def test_noise_has_mean_zero_and_variance_one_over_the_batch(self, browse):
        draws = 100_000
        script = """([draws, batchSize]) => {
            const next = makeWords(7);
            return Array.from({ length: draws }, () => meanSign(next, batchSize));
        }"""

        def act(page):
            for path in SCRIPTS:
                page.add_script_tag(path=path)
            for batch_size in (1, 3, 32, 40):
                z = np.array(page.evaluate(script, [draws, batch_size]))
                assert abs(z.mean()) < 5 / math.sqrt(batch_size * draws)
                spread = math.sqrt(2 * (1 - 1 / batch_size) / draws)  # relative, of the mean of z^2
                assert batch_size * (z**2).mean() == pytest.approx(1, abs=5 * spread + 1e-12)
                assert abs((z[1:] * z[:-1]).mean()) < 5 / (batch_size * math.sqrt(draws))

        browse(act=act)

    def test_trajectory_is_that_of_the_definition(self, browse):
        settings = [
            dict(lr=0.02, noise_std=0.5, batch_size=batch_size, u=2.0, v=1.0, particles=20, seed=3_000_000_000)
            for batch_size in (1, 3, 40)
        ]

        def act(page):
            for number, case in enumerate(settings):
                for steps in (1, 49, 100):  # however the steps are taken
                    result = advance(page, steps, number)
                assert result["t"] == 150
                expected = reference(150, **case)
                assert np.ptp(expected, axis=0).min() > 0.01
                np.testing.assert_allclose(result["u"], expected[:, 0], rtol=1e-12)
                np.testing.assert_allclose(result["v"], expected[:, 1], rtol=1e-12)
                page.get_by_role("button", name="Reset").nth(number).click()
                np.testing.assert_array_equal(advance(page, 150, number)["u"], result["u"])

        browse(*(page_of(**case) for case in settings), act=act, **STILL)

    def test_decay_meets_the_prediction(self, browse):
        particles = 300
        cases = [(0.005, 0.5, 1), (0.01, 0.5, 1), (0.01, 1.0, 1), (0.003, 2.0, 1)]
        cases += [(0.01, 1.0, 4), (0.005, 2.0, 16), (0.01, 2.0, 64)]
        cases = [(*case, seed) for case in cases for seed in (101, 102, 103)]

        def act(page):
            for number, (lr, noise_std, batch_size, _) in enumerate(cases):
                variance = noise_std**2 / batch_size
                rate = 4 * lr**2 * variance
                result = advance(page, math.ceil(1.5 / rate), number)
                assert result["settled"]["t"] < 5 / (lr * 4.25)
                steps = result["t"] - result["settled"]["t"]
                error = result["errors"] / steps
                ratio = math.log(result["settled"]["s"] / result["now"]["s"]) / (rate * steps)
                spread = sampling_error(lr, noise_std, batch_size, error, steps, particles) / (rate * steps)

                # The law, with the error that was measured.
                law = -math.log1p(-4 * lr**2 * (variance + error)) / rate
                assert ratio == pytest.approx(law, abs=5 * spread), cases[number]

                # Without it: the error adds lr reg / (1 - lr reg), to first order; on the valley reg = hypot(s, 2).
                pull = lr * np.hypot(np.geomspace(result["settled"]["s"], result["now"]["s"], 1001), 2)
                expected = (1 + pull / (1 - pull)).mean()
                assert ratio == pytest.approx(expected, abs=5 * spread + pull.max() ** 2), cases[number]

                said = page.locator(".labelnoise-readout").nth(number).inner_text()
                assert f"It shrinks {ratio:.3f} times as fast as" in said
                assert f"the prediction is {law:.3f} times" in said

        pages = [
            page_of(lr=lr, noise_std=noise_std, batch_size=batch_size, u=2, v=0.5, particles=particles, seed=seed)
            for lr, noise_std, batch_size, seed in cases
        ]
        browse(*pages, act=act, **STILL)

    def test_without_noise_the_cloud_stops_on_the_valley(self, browse):
        def act(page):
            landed = advance(page, 500)
            later = advance(page, 100_000)
            assert landed["now"]["squaredError"] < 1e-20
            assert np.ptp(landed["u"]) == 0
            np.testing.assert_allclose(later["u"], landed["u"], rtol=1e-9)
            np.testing.assert_allclose(later["v"], landed["v"], rtol=1e-9)
            expect(page.locator(".labelnoise-readout")).to_contain_text("Fitted, and without noise nothing moves any more")

        browse(page_of(noise_std=0), act=act, **STILL)

    def test_what_has_no_decay_to_show_is_said(self, browse):
        def act(page):
            said = page.locator(".labelnoise-readout")
            assert advance(page, 2000, 0)["now"]["s"] == 0
            expect(said.nth(0)).to_contain_text("With u = v at the start u² − v² is 0 and stays 0: mean (uv")
            assert set(advance(page, 2000, 1)["u"]) == {0}
            expect(said.nth(1)).to_contain_text("at u = v = 0 nothing ever moves")
            result = advance(page, 2000, 2)
            assert result["diverged"] and result["t"] < 20
            bound = f"{1 / (3**2 + 2.5**2):.3g}"
            expect(said.nth(2)).to_contain_text("learning rate 0.2 is too large here")
            expect(said.nth(2)).to_contain_text(f"has to stay below 1/(u² + v²), from this start {bound}")
            page.get_by_role("button", name="Step forward").nth(2).click()
            expect(page.get_by_role("status").nth(2)).to_contain_text("Paused. Diverged")

        browse(page_of(u=0.3, v=0.3), page_of(u=0, v=0), page_of(lr=0.2, u=3, v=2.5), act=act, **STILL)
