"""The playground: what is refused, its HTML, and its law, its keyboard and its pauses in a browser."""

import json
import math
import re
from importlib.resources import files

import numpy as np
import pytest
import test_interactive
from browser import VIEWS
from playwright.sync_api import expect

import labelnoise_utils as ln

browse = test_interactive.browse

STILL = {"reduced_motion": "reduce"}
VALLEY_JS = str(files("labelnoise_utils.page").joinpath("valley.js"))


def html(**settings):
    return ln.playground(**settings)._repr_html_()


class TestWhatIsRefused:
    @pytest.mark.parametrize("name", ["lr", "noise_std", "u", "v"])
    @pytest.mark.parametrize(("value", "error"), [("1", TypeError), (None, TypeError), (True, TypeError), (np.nan, ValueError)])
    def test_no_finite_number(self, name, value, error):
        with pytest.raises(error, match=f"^{name} must be"):
            ln.playground(**{name: value})

    @pytest.mark.parametrize("name", ["batch_size", "particles", "seed"])
    @pytest.mark.parametrize("value", ["1", None, True, 1.0])
    def test_no_integer(self, name, value):
        with pytest.raises(TypeError, match=f"^{name} must be an integer"):
            ln.playground(**{name: value})

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("lr", 0, "lr must be positive, got 0"),
            ("lr", -0.1, "lr must be positive, got -0.1"),
            ("noise_std", -1, "noise_std must be at least 0, got -1"),
            ("batch_size", 0, "batch_size must be at least 1, got 0"),
            ("batch_size", 1025, "batch_size must be at most 1024, got 1025"),
            ("u", -0.1, "u must lie between 0 and 3, .* got -0.1"),
            ("v", 3.1, "v must lie between 0 and 3, .* got 3.1"),
            ("particles", 0, "particles must be at least 1, got 0"),
            ("particles", 2001, "particles must be at most 2000, got 2001"),
            ("seed", -1, "seed must be at least 0, got -1"),
            ("seed", 2**32, "seed must be at most 4294967295, got 4294967296"),
        ],
    )
    def test_out_of_range(self, name, value, message):
        with pytest.raises(ValueError, match=message):
            ln.playground(**{name: value})

    def test_arguments_without_a_name(self):
        with pytest.raises(TypeError):
            ln.playground(0.1)


class TestHtml:
    def test_is_the_same_for_the_same_settings_and_has_an_id_for_each(self):
        assert html(u=2) == html(u=2.0) == html(u=np.float64(2), particles=np.int64(300))
        one_changed = dict(lr=0.03, noise_std=0.4, batch_size=5, u=1, v=1, particles=9, seed=1)
        pages = [html(), *(html(**{name: value}) for name, value in one_changed.items())]
        ids = [re.findall(r'\bid="([^"]*)"', page) for page in pages]
        assert len({one for (one,) in ids}) == len(pages)

    def test_asks_for_nothing_and_ends_nothing_early(self):
        page = html()
        assert not re.search(r"https?:|url\(|@import|\bimport\b|\bsrc=|fetch\(", page)
        assert page.count("</script>") == page.count("</style>") == page.count("<script>") == 1
        (script,) = re.findall(r"<script>(.*)</script>", page, re.DOTALL)
        assert "</" not in script
        assert len(page) < 40_000

    def test_every_input_has_a_label_and_every_picture_words(self):
        page = test_interactive.Fragment(html())
        assert len(page.of("input")) == len(page.of("label")) == 6
        assert all(" " in canvas["aria-label"] and canvas["role"] == "img" for canvas in page.of("canvas"))

    def test_a_slider_offers_what_was_given(self):
        page = test_interactive.Fragment(html(lr=0.0123, batch_size=3, v=0.33))
        inputs = {one["name"]: one for one in page.of("input")}
        for name, value in dict(lr=0.0123, batch_size=3, v=0.33, noise_std=0.5, u=2.8).items():
            values = json.loads(inputs[name]["data-values"])
            assert values[int(inputs[name]["value"])] == value
            assert values == sorted(set(values))
            assert len(json.loads(inputs[name]["data-texts"])) == len(values) == int(inputs[name]["max"]) + 1

    def test_has_a_text_where_no_html_is_shown(self):
        assert repr(ln.playground(lr=0.1)).startswith("Playground(lr=0.1, noise_std=0.5")


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


ADVANCE = """(root, steps) => {
    const { t, settled, now, first, errors, cloud, diverged } = root.advance(steps);
    return { t, settled, now, first, errors, diverged, u: [...cloud.u], v: [...cloud.v] };
}"""


# Without a step.
STEPS = "() => document.querySelector('.labelnoise-playground').advance(0).t"


def advance(page, steps, number=0):
    """Some steps of a playground on the page, at once; its numbers after them."""
    return page.locator(".labelnoise-playground").nth(number).evaluate(ADVANCE, steps)


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
            page.add_script_tag(path=VALLEY_JS)
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
            page.add_script_tag(path=VALLEY_JS)
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

        browse(*(html(**case) for case in settings), act=act, **STILL)

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
                assert f"decays at {ratio:.3f} times" in said
                assert f"the law says {law:.3f} times" in said

        pages = [
            html(lr=lr, noise_std=noise_std, batch_size=batch_size, u=2, v=0.5, particles=particles, seed=seed)
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
            expect(page.locator(".labelnoise-readout")).to_contain_text("No noise, so no drift")

        browse(html(noise_std=0), act=act, **STILL)

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

        browse(html(u=0.3, v=0.3), html(u=0, v=0), html(lr=0.2, u=3, v=2.5), act=act, **STILL)


def step_number(page, number=0):
    """As the readout has it."""
    return int(re.match(r"Step ([\d,]+)", page.locator(".labelnoise-readout").nth(number).inner_text())[1].replace(",", ""))


@pytest.mark.site
class TestInABrowser:
    @pytest.mark.parametrize("view", VIEWS)
    def test_the_keyboard_reaches_and_moves_everything(self, browse, view):
        def act(page):
            assert step_number(page) == 0
            for name in ("Start", "Step forward", "Reset"):
                page.keyboard.press("Tab")
                expect(page.get_by_role("button", name=name)).to_be_focused()
            names = ("learning rate lr", "noise σ", "batch size B", "start u", "start v", "speed")
            texts = (
                ("0.02", "0.05"),
                ("0.5", "0.7"),
                ("1", "2"),
                ("2.8", "2.85"),
                ("1.6", "1.65"),
                ("automatic", "1 step a frame"),
            )
            for row, (name, (before, after)) in enumerate(zip(names, texts, strict=True)):
                page.keyboard.press("Tab")
                slider = page.get_by_role("slider", name=name)
                expect(slider).to_be_focused()
                expect(slider).to_have_attribute("aria-valuetext", before)
                advance(page, 30)
                page.keyboard.press("ArrowRight")
                expect(slider).to_have_attribute("aria-valuetext", after)
                expect(page.locator(".labelnoise-controls > span").nth(row)).to_have_text(after)
                assert step_number(page) == (30 if name == "speed" else 0)
            page.get_by_role("button", name="Reset").click()
            result = advance(page, 0)
            assert (result["u"][0], result["v"][0]) == (2.85, 1.65)
            expect(page.get_by_role("status")).to_have_text(re.compile("^Paused. Step 0. Mean"))

        browse(html(), act=act, view=view, **STILL)

    def test_buttons(self, browse):
        def act(page):
            play, forward = page.get_by_role("button", name="Start"), page.get_by_role("button", name="Step forward")
            forward.focus()
            page.keyboard.press("Enter")
            assert step_number(page) == 1
            page.get_by_role("slider", name="speed").press("End")
            forward.click()
            assert step_number(page) == 1001
            picture = page.get_by_role("img").nth(1)
            expect(picture).to_have_attribute("aria-label", re.compile("after 1,001 steps; the predicted line, thin and black"))
            before = picture.screenshot()
            page.get_by_role("slider", name="speed").press("Home")
            play.click()
            expect(page.get_by_role("button", name="Pause")).to_be_visible()
            expect(page.get_by_role("status")).to_contain_text("Running. Step")
            page.get_by_role("slider", name="speed").press("End")  # goes on, faster
            expect(page.locator(".labelnoise-readout")).to_contain_text("The cloud has come to the flat point", timeout=60_000)
            expect(play).to_be_visible()
            expect(page.get_by_role("status")).to_contain_text("Paused. Step")
            assert picture.screenshot() != before
            page.get_by_role("slider", name="speed").press("Home")
            play.click()  # from the start again
            page.wait_for_timeout(300)
            page.get_by_role("button", name="Pause").click()
            assert 0 <= step_number(page) < 1000
            page.get_by_role("button", name="Reset").click()
            assert step_number(page) == 0

        browse(html(), act=act, **STILL)

    def test_a_click_in_the_plane_chooses_the_start(self, browse):
        def act(page):
            advance(page, 10)
            plane = page.get_by_role("img").nth(0)
            size = plane.bounding_box()
            unit = (size["width"] - 62) / 3.5  # of the plane, which shows -0.25 to 3.25 on each axis
            for u, v in ((0.5, 2.0), (3.0, 0.0)):
                position = {"x": 50 + (u + 0.25) * unit, "y": size["height"] - 40 - (v + 0.25) * (size["height"] - 50) / 3.5}
                plane.click(position=position)
                assert step_number(page) == 0
                result = advance(page, 0)
                assert (result["u"][0], result["v"][0]) == (u, v)
                expect(page.get_by_role("slider", name="start u")).to_have_attribute("aria-valuetext", f"{u:g}")
                expect(page.get_by_role("slider", name="start v")).to_have_attribute("aria-valuetext", f"{v:g}")
            plane.click(position={"x": 2, "y": 2})  # beyond the axes: the nearest there is
            assert (advance(page, 0)["u"][0], advance(page, 0)["v"][0]) == (0, 3)

        browse(html(), act=act, view="phone", **STILL)

    def test_runs_while_it_is_seen_and_only_then(self, browse):
        def act(page):
            page.wait_for_function(f"({STEPS})() > 3")
            page.evaluate("window.scrollTo(0, 1e6)")
            page.wait_for_timeout(500)
            before = page.evaluate(STEPS)
            page.wait_for_timeout(1000)
            assert page.evaluate(STEPS) == before
            page.evaluate("window.scrollTo(0, 0)")
            page.wait_for_function(f"({STEPS})() > {before + 3}")
            expect(page.get_by_role("status")).to_have_text("")  # nothing aloud that nobody asked for
            page.get_by_role("button", name="Pause").click()
            expect(page.get_by_role("status")).to_contain_text("Paused. Step")

        browse(html(), '<div style="height: 3000px"></div>', act=act)

    def test_waits_under_reduced_motion(self, browse):
        def act(page):
            page.wait_for_timeout(1000)
            assert page.evaluate(STEPS) == 0
            expect(page.get_by_role("button", name="Start")).to_be_visible()

        browse(html(), act=act, **STILL)

    def test_several_on_a_page_move_apart_beside_a_figure_of_pictures(self, browse):
        def act(page):
            advance(page, 40, 1)
            assert [step_number(page, number) for number in range(3)] == [0, 40, 0]
            page.get_by_role("slider", name="learning rate lr").nth(2).press("ArrowRight")
            assert [step_number(page, number) for number in range(3)] == [0, 40, 0]
            page.get_by_role("slider", name="height").press("ArrowRight")
            expect(page.get_by_role("img", name="Figure; height = 2")).to_have_count(1)
            leaked = page.evaluate("['step', 'makeRun', 'setUp', 'NOISE', 'line'].filter((name) => name in window)")
            assert leaked == []

        pictures = test_interactive.html(test_interactive.draw, height=[1, 2])
        browse(html(), pictures, html(), html(u=1), act=act, **STILL)

    def test_is_white_and_sharp_on_any_ground_and_screen(self, browse):
        def act(page):
            for canvas in page.get_by_role("img").all():
                wide, corner = canvas.evaluate(
                    "(one) => [one.width / one.clientWidth, [...one.getContext('2d').getImageData(0, 0, 1, 1).data]]"
                )
                assert wide == pytest.approx(3, abs=0.01)
                assert corner == [255] * 4

        browse(html(), act=act, view="phone", device_scale_factor=3, color_scheme="dark", **STILL)

    def test_without_scripts_there_is_a_sentence_and_no_dead_control(self, browse):
        def act(page):
            expect(page.get_by_text("A cloud of 300 runs of label-noise SGD on h = u v, from u = 2.8")).to_be_visible()
            for role in ("slider", "button", "img"):
                expect(page.get_by_role(role)).to_have_count(0)

        browse(html(), act=act, java_script_enabled=False)
