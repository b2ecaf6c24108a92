"""Why the cloud is pushed, in a browser: the hand, the switches, and the cloud that the sum of two steps moves."""

import re

import numpy as np
import pytest
from browser import VIEWS
from figures import Fragment
from playgrounds import STILL
from playwright.sync_api import expect

import labelnoise_utils as ln

LR, SIGMA = 0.02, 0.5


def push(**settings):
    return ln.push(**settings)._repr_html_()


def advance(page, steps):
    return page.locator(".labelnoise-push").evaluate("(root, steps) => root.advance(steps)", steps)


def moved(result):
    """The mean's way along the valley, and its standard error from the scatter of u^2 - v^2, whose slope is 2 sqrt(reg)."""
    u, v = np.array(result["u"]), np.array(result["v"])
    slope = 2 * np.sqrt(np.mean(u**2 + v**2))
    return result["moved"], np.std(u**2 - v**2, ddof=1) / slope / np.sqrt(len(u))


class TestHtml:
    @pytest.mark.parametrize(
        ("name", "value", "error"),
        [
            ("u", 0.3, ValueError),
            ("u", "1", TypeError),
            ("distance", 0.9, ValueError),
            ("lr", 0, ValueError),
            ("lr", 0.1, ValueError),
            ("noise_std", -1, ValueError),
            ("particles", 0, ValueError),
            ("seed", 1.5, TypeError),
        ],
    )
    def test_what_is_refused(self, name, value, error):
        with pytest.raises(error, match=f"^{name} must"):
            ln.push(**{name: value})

    def test_is_the_same_for_the_same_settings_asks_for_nothing_and_has_labels(self):
        assert push() == push(u=np.float64(1.7)) != push(u=1.5)
        assert not re.search(r"https?:|url\(|@import|\bimport\b|\bsrc=|fetch\(", push())
        page = Fragment(push())
        assert len(page.of("input")) + len(page.of("select")) == len(page.of("label")) == 9
        assert len(page.of("canvas")) == 3
        assert len(push()) < 60_000


@pytest.mark.site
class TestHand:
    @pytest.mark.parametrize("view", VIEWS)
    def test_a_point_is_dragged_and_its_twin_follows(self, browse, view):
        def act(page):
            plane = page.get_by_role("img").nth(0)
            size = plane.bounding_box()
            unit = min(size["width"] - 62, size["height"] - 80) / 3.05

            def at(u, v):
                return size["x"] + 50 + u * unit, size["y"] + size["height"] - 40 - v * unit

            first = advance(page, 40)
            page.mouse.move(*at(*first["mirror"]["pair"][0]["at"]))
            page.mouse.down()
            for target in ((1.2, 1.6), (0.6, 2.2), (1.4, 0.5), (2.9, 2.9)):
                page.mouse.move(*at(*target), steps=4)
                result = advance(page, 0)
                (point, twin), foot, distance = result["mirror"]["pair"], result["foot"], result["distance"]
                middle = np.mean([point["at"], twin["at"]], axis=0)
                np.testing.assert_allclose(middle, [foot, 1 / foot], rtol=1e-12)
                assert np.hypot(*np.subtract(point["at"], middle)) == pytest.approx(abs(distance))
                assert point["error"] * twin["error"] <= 0
                assert result["mirror"]["along"] * (foot - 1) <= 0
                if target != (2.9, 2.9):  # farther off than the twin can follow
                    np.testing.assert_allclose(point["at"], target, atol=0.06)
                assert result["t"] == 0  # the cloud starts anew from the new place
            page.mouse.up()
            before = advance(page, 0)["foot"]
            page.mouse.move(*at(0.5, 0.5))
            assert advance(page, 0)["foot"] == before

        browse(push(), act=act, view=view, **STILL)

    def test_a_finger_drags_the_point_and_scrolls_elsewhere(self, browse):
        touch = """(plane, [x, y]) => {
            const touch = new Touch({ identifier: 1, target: plane, clientX: x, clientY: y });
            return plane.dispatchEvent(new TouchEvent("touchstart", { touches: [touch], cancelable: true, bubbles: true }));
        }"""

        def act(page):
            plane = page.get_by_role("img").nth(0)
            size = plane.bounding_box()
            unit = min(size["width"] - 62, size["height"] - 80) / 3.05
            u, v = advance(page, 0)["mirror"]["pair"][0]["at"]
            on_it = [size["x"] + 50 + u * unit, size["y"] + size["height"] - 40 - v * unit]
            assert plane.evaluate(touch, on_it) is False
            assert plane.evaluate(touch, [size["x"] + 60, size["y"] + 60]) is True

        browse(push(), act=act, view="phone", has_touch=True, **STILL)

    def test_keyboard(self, browse):
        def act(page):
            for role, name in (
                *(("button", one) for one in ("Start", "Start again", "Other noise")),
                ("group", None),  # the terms, closed until Enter
                *(("checkbox", f"({term})") for term in ("0, 0", "1, 0", "0, 1", "2, 0", "1, 1")),
                ("combobox", "noise"),
                *(("slider", one) for one in ("u on the valley", "distance across", "speed")),
            ):
                page.keyboard.press("Tab")
                if role == "group":
                    expect(page.locator("summary")).to_be_focused()
                    page.keyboard.press("Enter")
                    continue
                expect(page.get_by_role(role, name=name, exact=role != "checkbox")).to_be_focused()
            before = advance(page, 0)
            page.get_by_role("slider", name="u on the valley").press("ArrowRight")
            page.get_by_role("slider", name="distance across").press("ArrowLeft")
            after = advance(page, 0)
            assert after["foot"] > before["foot"] and after["distance"] == pytest.approx(before["distance"] - 0.01)
            expect(page.get_by_role("status")).to_contain_text("Paused. Above the valley the error is +")

        browse(push(), act=act, **STILL)

    def test_waits_under_reduced_motion_and_runs_only_while_it_is_seen(self, browse):
        t = "() => document.querySelector('.labelnoise-push').advance(0).t"

        def waits(page):
            page.wait_for_timeout(600)
            assert page.evaluate(t) == 0
            page.get_by_role("button", name="Start", exact=True).click()
            page.wait_for_function(f"({t})() > 3")

        def runs(page):
            page.wait_for_function(f"({t})() > 3")
            page.evaluate("window.scrollTo(0, 1e6)")
            page.wait_for_timeout(500)
            before = page.evaluate(t)
            page.wait_for_timeout(700)
            assert page.evaluate(t) == before
            expect(page.get_by_role("status")).to_have_text("")  # nothing aloud that nobody asked for

        browse(push(), act=waits, **STILL)
        browse(push(), '<div style="height: 4000px"></div>', act=runs)

    def test_without_scripts_there_is_a_sentence(self, browse):
        def act(page):
            expect(page.get_by_text("A point across the valley u v = 1 at u = 1.7, its mirror twin")).to_be_visible()
            for role in ("slider", "button", "img", "checkbox"):
                expect(page.get_by_role(role)).to_have_count(0)

        browse(push(), act=act, java_script_enabled=False)


@pytest.mark.site
class TestCloud:
    @pytest.mark.parametrize("u", [2.5, 1.7, 0.5])
    def test_drifts_as_predicted(self, browse, u):
        def act(page):
            result = advance(page, 1500)
            way, error = moved(result)
            # To first order in lr reg the variance is right, and it takes some 1 / (4 lr reg) steps to build up.
            pull = LR * max(u**2 + u**-2, 2)
            assert result["expected"] > 0.2
            assert way == pytest.approx(result["expected"], abs=5 * error + result["expected"] * (pull**2 + 10 / 1500))

        browse(push(u=u, particles=400, seed=11), act=act, **STILL)

    def test_with_all_terms_a_run_is_label_noise_sgd(self, browse):
        def act(page):
            result = advance(page, 300)
            assert result["t"] == 300
            u = np.array(result["u"])
            s, reg = u**2 - np.square(result["v"]), 1.7**2 + 1.7**-2
            # The exact law, g^2 = 4 lr^2 (Z - e)^2, whose mean has the settled error.
            rate = 4 * LR**2 * SIGMA**2 / (1 - LR * reg)
            error = s.std(ddof=1) / np.sqrt(len(s))
            start = 1.7**2 - 1.7**-2
            assert s.mean() == pytest.approx(start * np.exp(-300 * rate), abs=5 * error + start * 300 * rate * 2 * LR * reg)

        browse(push(particles=400, seed=3), act=act, **STILL)

    def test_terms_switched_off(self, browse):
        cases = {"0, 1": True, "2, 0": True, "1, 1": False, "0, 0": False}

        def act(page):
            page.locator("summary").click()
            full = advance(page, 800)["expected"]
            pull = LR * (1.7**2 + 1.7**-2)
            for term, drives in cases.items():
                page.get_by_role("checkbox", name=f"({term})").uncheck()
                result = advance(page, 800)
                assert result["t"] == 800
                way, error = moved(result)
                assert result["expected"] == pytest.approx(full if drives else 0, abs=1e-12)
                assert way == pytest.approx(full * drives, abs=5 * error + pull * full), term
                if term == "1, 1":
                    assert abs(result["mirror"]["along"]) < 1e-15
                    expect(page.locator(".labelnoise-readout")).to_contain_text("Without (1, 1) nothing leans")
                page.get_by_role("checkbox", name=f"({term})").check()
            page.get_by_role("checkbox", name="(1, 0)").uncheck()
            result = advance(page, 300)
            u, v = np.array(result["u"]), np.array(result["v"])
            kept = (u > 0.05) & (v > 0.05)
            assert np.std((u * v)[kept]) > 2 * np.sqrt(LR * (1.7**2 + 1.7**-2)) * SIGMA
            expect(page.locator(".labelnoise-readout")).to_contain_text("no wall holds the runs")

        browse(push(particles=300, seed=5), act=act, **STILL)

    def test_frozen_noise_is_another_label_and_pushes_nothing(self, browse):
        def act(page):
            page.get_by_role("combobox", name="noise").select_option("frozen")
            early = advance(page, 1000)
            late = advance(page, 4000)
            h = np.multiply(late["u"], late["v"])
            np.testing.assert_allclose(np.unique(h.round(9)), [1 - SIGMA, 1 + SIGMA])
            assert late["moved"] == pytest.approx(early["moved"], abs=1e-9)
            expect(page.locator(".labelnoise-readout")).to_contain_text("nothing pushes")

        browse(push(particles=50), act=act, **STILL)
