"""A round cloud that drifts in space, in a browser: it is round, it drifts as predicted, and a hand turns it."""

import re

import numpy as np
import pytest
from figures import Fragment
from playgrounds import STILL
from playwright.sync_api import expect

import labelnoise_utils as ln

PARTICLES = 1000


def space(**settings):
    return ln.cloud_in_space(**settings)._repr_html_()


def advance(page, steps):
    return page.locator(".labelnoise-space").evaluate("(root, steps) => root.advance(steps)", steps)


class TestHtml:
    @pytest.mark.parametrize(
        ("name", "value", "error"),
        [
            ("u", 0.7, ValueError),
            ("u", None, TypeError),
            ("lr", 0.06, ValueError),
            ("noise_std", 1.6, ValueError),
            ("particles", 1, ValueError),
            ("seed", -1, ValueError),
        ],
    )
    def test_what_is_refused(self, name, value, error):
        with pytest.raises(error, match=f"^{name} must"):
            ln.cloud_in_space(**{name: value})

    def test_is_the_same_for_the_same_settings_and_asks_for_nothing(self):
        assert space() == space(u=2.4) != space(seed=1)
        assert not re.search(r"https?:|url\(|@import|\bimport\b|\bsrc=|fetch\(", space())
        page = Fragment(space())
        assert len(page.of("input")) + len(page.of("select")) == len(page.of("label")) == 3
        assert len(space()) < 50_000


@pytest.mark.site
class TestCloud:
    @pytest.mark.parametrize(("lr", "noise_std"), [(0.01, 1.0), (0.005, 1.5), (0.01, 0.5)])
    def test_is_round_and_drifts_as_predicted(self, browse, lr, noise_std):
        def act(page):
            steps = round(0.2 / (lr * noise_std) ** 2)
            result = advance(page, steps)
            # Each variance is right to first order in lr ||grad h||^2, which is below 9 here; of a normal sample it
            # has a relative standard error of sqrt(2 / n).
            pull = 9 * lr
            predicted = lr * noise_std**2
            for width in result["widths"]:
                assert width**2 == pytest.approx(predicted, rel=5 * np.sqrt(2 / PARTICLES) + pull)
            start = 4 + (2.4**2 + 2.4**-2) / 2
            fall = start - result["predicted"]
            assert fall > 0.5
            # Of its own reg each run has the slope of the valley times its scatter along it, at most.
            runs = np.array(result["runs"])
            error = np.std((runs[:, 0] ** 2 + runs[:, 1] ** 2) / 2, ddof=1) / np.sqrt(PARTICLES)
            assert result["reg"] == pytest.approx(result["predicted"], abs=fall * pull + 5 * error)

        browse(space(lr=lr, noise_std=noise_std, particles=PARTICLES, seed=2), act=act, **STILL)

    def test_comes_to_the_least_reg_and_without_noise_stands_still(self, browse):
        def act(page):
            assert advance(page, 60_000)["reg"] == pytest.approx(5, abs=0.02)
            expect(page.locator(".labelnoise-readout")).to_contain_text("it has come to the least reg")
            page.get_by_role("slider", name="noise σ").press("Home")
            result = advance(page, 1000)
            assert np.ptp(result["runs"], axis=0).max() == 0
            np.testing.assert_allclose(result["runs"][0], [2.4, 1 / 2.4, np.sqrt(2 - 2.4**-2)], rtol=1e-12)
            expect(page.locator(".labelnoise-readout")).to_contain_text("no noise, no cloud, and nothing moves")

        browse(space(particles=60), act=act, **STILL)


@pytest.mark.site
class TestHand:
    def test_a_mouse_and_the_arrow_keys_turn_it(self, browse):
        def act(page):
            picture = page.get_by_role("img").nth(0)
            before, seen = advance(page, 0), picture.screenshot()
            size = picture.bounding_box()
            x, y = size["x"] + size["width"] / 2, size["y"] + size["height"] / 2
            page.mouse.move(x, y)
            page.mouse.down()
            page.mouse.move(x + 60, y + 20, steps=3)
            page.mouse.up()
            after = advance(page, 0)
            assert after["turn"] == pytest.approx(before["turn"] + 0.6)
            assert after["tilt"] == pytest.approx(before["tilt"] + 0.2)
            assert picture.screenshot() != seen
            page.mouse.move(x, y)  # no button, no turn
            assert advance(page, 0)["turn"] == after["turn"]
            picture.focus()
            page.keyboard.press("ArrowLeft")
            assert advance(page, 0)["turn"] == pytest.approx(after["turn"] - 0.1)
            page.get_by_role("combobox", name="view").select_option("along")
            expect(picture).to_have_attribute("aria-label", re.compile("seen along the valley"))
            picture.focus()
            page.keyboard.press("ArrowUp")
            expect(page.get_by_role("combobox", name="view")).to_have_value("side")

        browse(space(), act=act, **STILL)

    def test_turns_by_itself_until_a_hand_does_and_not_under_reduced_motion(self, browse):
        def moves(page):
            page.wait_for_timeout(300)
            before = advance(page, 0)
            page.wait_for_timeout(800)
            after = advance(page, 0)
            assert after["turn"] != before["turn"] and after["t"] > before["t"]
            page.get_by_role("img").nth(0).press("ArrowRight")
            turned = advance(page, 0)["turn"]
            page.wait_for_timeout(300)
            assert advance(page, 0)["turn"] == turned
            expect(page.get_by_role("status")).to_have_text("")

        def stands(page):
            page.wait_for_timeout(600)
            assert advance(page, 0)["t"] == 0
            turn = advance(page, 0)["turn"]
            page.get_by_role("button", name="Start", exact=True).click()
            page.wait_for_function("() => document.querySelector('.labelnoise-space').advance(0).t > 3")
            assert advance(page, 0)["turn"] == turn
            page.get_by_role("button", name="Pause").click()
            expect(page.get_by_role("status")).to_contain_text("Paused. After")

        browse(space(), act=moves)
        browse(space(), act=stands, view="phone", **STILL)

    def test_without_scripts_there_is_a_sentence(self, browse):
        def act(page):
            expect(page.get_by_text("A cloud of 250 runs of label-noise SGD on h = (u v, v² + w²)")).to_be_visible()
            for role in ("slider", "button", "img"):
                expect(page.get_by_role(role)).to_have_count(0)

        browse(space(), act=act, java_script_enabled=False)
