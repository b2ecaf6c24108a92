"""The hand-over on a page: its numbers are the package's to 1e-12, a hand moves the level, and reg pulls it."""

import re

import numpy as np
import pytest
import torch
from browser import VIEWS
from figures import Fragment, assert_white_and_sharp
from playgrounds import STILL
from playwright.sync_api import expect

import labelnoise_utils as ln

TWO = ln.hand_over.TWO
ROOT = ".labelnoise-hand-over"


def page_of(**settings):
    return ln.live_hand_over(**settings)._repr_html_()


def advance(page, steps, number=0):
    return page.locator(ROOT).nth(number).evaluate("(root, steps) => root.advance(steps)", steps)


class TestHtml:
    @pytest.mark.parametrize("level, error", [(0.3, ValueError), (0.5, ValueError), ("0.4", TypeError)])
    def test_what_is_refused(self, level, error):
        with pytest.raises(error, match="^level must"):
            ln.live_hand_over(level=level)

    def test_is_the_same_for_the_same_settings_asks_for_nothing_and_has_labels(self):
        assert page_of() == page_of(level=np.float64(0.45)) != page_of(level=0.4)
        assert not re.search(r"https?:|url\(|@import|\bimport\b|\bsrc=|fetch\(", page_of())
        page = Fragment(page_of())
        assert len(page.of("input")) == len(page.of("label")) == 2
        assert len(page.of("canvas")) == 2 and len(page_of()) < 60_000


@pytest.mark.site
class TestNumbers:
    def test_are_the_packages(self, browse):
        x, y = TWO.data()
        levels = (0.31, 0.362, 0.4, 0.45, 0.49)

        def act(page):
            for number, level in enumerate(levels):
                for steps in (0, 40):
                    result = advance(page, steps, number)
                    c_a, c_b, a, now = result["at"]
                    point = np.array([c_a**2, c_b**2, a**2, now])
                    if not steps:
                        assert now == level
                        np.testing.assert_allclose(point, TWO.best(level), rtol=1e-12)
                    model = TWO.network(point)
                    theta = torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
                    np.testing.assert_allclose(result["theta"], theta, rtol=1e-12)
                    np.testing.assert_allclose(result["kinks"], TWO.kinks(now), rtol=1e-12)
                    assert result["reg"] == pytest.approx(ln.implicit_regularizer(model, x).item(), rel=1e-12)
                    flow = ln.drift(model, x, lr=1, noise_std=1).numpy()
                    assert result["velocity"][3] == pytest.approx(-flow[-1], rel=1e-9, abs=1e-12)
                    np.testing.assert_allclose(result["velocity"][:2], flow[6:8], rtol=1e-8, atol=1e-11)
                    assert result["changes"] == (0 if now == 0.45 else 2 if now < 0.45 else 1)

        browse(*(page_of(level=level) for level in levels), act=act, **STILL)

    def test_reg_pulls_the_level_to_its_minimum(self, browse):
        def act(page):
            for number in range(3):
                result = advance(page, 4000, number)
                assert result["at"][3] == pytest.approx(TWO.minimum()[-1], abs=1e-5)
                assert np.subtract(*result["pulls"]) == pytest.approx(0, abs=1e-4) and result["changes"] == 2

        browse(*(page_of(level=level) for level in (0.31, 0.45, 0.49)), act=act, **STILL)


@pytest.mark.site
class TestHand:
    @pytest.mark.parametrize("view", VIEWS)
    def test_the_level_line_and_the_point_are_dragged(self, browse, view):
        def act(page):
            for canvas, place in ((0, "line"), (1, "point")):
                area = page.get_by_role("img").nth(canvas).bounding_box()
                left, right, top, bottom = 50, area["width"] - 12, 14, area["height"] - 40

                def at(level, place=place, area=area, left=left, right=right, top=top, bottom=bottom):
                    if place == "line":
                        return area["x"] + 150, area["y"] + bottom - (1.0 - level) * (bottom - top) / 0.9
                    regs = [TWO.reg(TWO.best(one)) for one in (0.305, 0.495, TWO.minimum()[-1])]
                    low, high, now = min(regs), max(regs), TWO.reg(TWO.best(level))
                    up = (now - low) / (high - low) * (bottom - top - 12)
                    return area["x"] + left + (level - 0.305) / 0.19 * (right - left), area["y"] + bottom - 8 - up

                page.mouse.move(*at(advance(page, 0)["at"][3]))
                page.mouse.down()
                for level in (0.4, 0.34, 0.48):
                    page.mouse.move(*at(level), steps=4)
                    assert advance(page, 0)["at"][3] == pytest.approx(level, abs=0.006)
                page.mouse.up()
                before = advance(page, 0)["at"][3]
                page.mouse.move(*at(0.36))
                assert advance(page, 0)["at"][3] == before

        browse(page_of(), act=act, view=view, **STILL)

    def test_keyboard_and_words(self, browse):
        def act(page):
            for role, name in (
                *(("button", one) for one in ("Start", "Start again", "Another start")),
                *(("slider", one) for one in ("level", "speed")),
            ):
                page.keyboard.press("Tab")
                expect(page.get_by_role(role, name=name, exact=True)).to_be_focused()
            expect(page.locator(".labelnoise-readout")).to_contain_text("they meet, and f is concave")
            page.get_by_role("slider", name="level", exact=True).focus()
            page.keyboard.press("ArrowLeft")
            expect(page.locator(".labelnoise-readout")).to_contain_text("two needless changes")
            assert advance(page, 0)["at"][3] == 0.449
            page.get_by_role("button", name="Another start").click()
            assert advance(page, 0)["at"][3] == 0.31
            expect(page.locator(".labelnoise-readout")).to_contain_text("the level rises")

        browse(page_of(), act=act, **STILL)

    def test_runs_while_it_is_seen_and_waits_under_reduced_motion(self, browse):
        t = "() => document.querySelector('.labelnoise-hand-over').advance(0).t"

        def waits(page):
            page.wait_for_timeout(500)
            assert advance(page, 0)["t"] == 0

        def runs(page):
            page.wait_for_function(f"({t})() > 5")
            page.evaluate("window.scrollTo(0, 1e6)")
            page.wait_for_timeout(400)
            before = advance(page, 0)["t"]
            page.wait_for_timeout(400)
            assert advance(page, 0)["t"] == before

        browse(page_of(), act=waits, **STILL)
        browse(page_of(), '<div style="height: 4000px"></div>', act=runs)

    def test_without_scripts_there_is_a_sentence_and_on_any_screen_a_white_picture(self, browse):
        def act(page):
            expect(page.get_by_text("Six points, and networks")).to_be_visible()
            expect(page.get_by_role("slider")).to_have_count(0)

        browse(page_of(), act=act, java_script_enabled=False)
        browse(page_of(), act=assert_white_and_sharp, view="phone", device_scale_factor=3, color_scheme="dark", **STILL)
