"""The motor on a page: it shows what the law says and what comes true, and a hand sets the noise."""

import re

import numpy as np
import pytest
import torch
from browser import VIEWS
from motors import MIRROR, PRESETS, U, flat, law
from playgrounds import STILL
from playwright.sync_api import expect

import labelnoise_utils as ln

ROOT = ".labelnoise-motor"


def page_of(**settings):
    return ln.live_motor(**settings)._repr_html_()


def advance(page, steps, number=0):
    return page.locator(ROOT).nth(number).evaluate("(root, steps) => root.advance(steps)", steps)


class TestHtml:
    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (dict(noise_std=0.5), TypeError, "noise_std must be a sequence of three numbers, got 0.5"),
            (dict(noise_std=torch.tensor(0.5)), TypeError, "noise_std must be a sequence of three numbers"),
            (dict(noise_std=(0.5, 0.5)), ValueError, "noise_std must have three numbers, one for each label, got 2"),
            (dict(noise_std=(0.5, 0.5, -0.1)), ValueError, "noise_std must lie between 0 and 1.2, got -0.1"),
            (dict(noise_std=(0.5, 1.3, 0)), ValueError, "noise_std must lie between 0 and 1.2, got 1.3"),
            (dict(noise_std=(0.5, 0.5, float("nan"))), ValueError, "noise_std must be finite"),
            (dict(noise_std="abc"), TypeError, "noise_std must be a number, got 'a'"),
            (dict(lr=0), ValueError, "lr must be positive"),
            (dict(lr=0.02), ValueError, "lr must lie between 0 and 0.01"),
            (dict(lr=None), TypeError, "lr must be a number"),
            (dict(seed=-1), ValueError, "seed must be at least 0"),
            (dict(seed=1.5), TypeError, "seed must be an integer"),
        ],
    )
    def test_what_is_refused(self, arguments, error, message):
        with pytest.raises(error, match=f"^{message}"):
            ln.live_motor(**arguments)

    def test_is_the_same_for_the_same_settings_also_as_an_array_or_a_tensor(self):
        levels = [0.9, 0.2, 0.2]
        assert page_of() == page_of(noise_std=np.array(levels)) == page_of(noise_std=torch.tensor(levels, dtype=torch.float64))
        assert page_of() != page_of(noise_std=(0.9, 0.2, 0.25))


@pytest.mark.site
class TestFigure:
    def test_shows_the_prediction_and_the_misfits_that_come_true(self, browse):
        def act(page):
            result = advance(page, 3_000_000)
            rate, covariance = law(U, (0.9, 0.2, 0.2))
            assert result["rate"] == pytest.approx(rate, rel=1e-12)
            assert result["predicted"] == pytest.approx(rate * 0.003**2 * 3_000_000, rel=1e-12)
            assert result["angle"] == pytest.approx(result["predicted"], rel=0.08)
            deviations = np.sqrt(0.003 * np.diag(covariance))
            np.testing.assert_allclose(result["deviations"], deviations, rtol=1e-12)
            assert (np.abs(result["misfits"]) < 6 * deviations).all()
            said = page.locator(f"{ROOT} .labelnoise-readout")
            expect(said).to_contain_text(
                re.compile(
                    r"^Reg is the same at every fit: there is nothing to descend\. Step 3,000,000\. "
                    rf"Predicted: counter-clockwise, one turn in {2 * np.pi / (rate * 9):.1f} million steps\. "
                    r"0\.\d\d turns since the noise was set, predicted 0\.65\.$"
                )
            )
            assert result["history"] <= 401 and result["trail"] == 150

        browse(page_of(), act=act, **STILL)

    def test_presets_turn_it_back_and_stop_it_while_it_runs(self, browse):
        def act(page):
            said = page.locator(f"{ROOT} .labelnoise-readout")
            for name, levels in PRESETS.items():
                before = advance(page, 200_000)
                page.get_by_role("button", name=name).click()
                expect(page.get_by_role("button", name=name)).to_have_attribute("aria-pressed", "true")
                assert page.locator("[aria-pressed=true]").count() == 1
                after = advance(page, 0)
                assert after["levels"] == list(levels) and after["theta"] == before["theta"] and after["t"] == before["t"]
                assert after["predicted"] == after["angle"] == after["since"]["angle"]
                assert after["rate"] == pytest.approx(law(U, levels)[0], abs=1e-12)
                rate = law(U, levels)[0]
                way = "Predicted: counter-clockwise" if rate > 0 else "Predicted: clockwise"
                expect(said).to_contain_text("Equal noise: no drift" if abs(rate) < 1e-12 else way)

        browse(page_of(), act=act, **STILL)

    def test_the_other_circle_turns_the_other_way_and_no_noise_not_at_all(self, browse):
        def act(page):
            one_way = advance(page, 1000)
            page.get_by_role("combobox", name="fits").select_option("mirror images (turn the other way)")
            other = advance(page, 0)
            assert other["t"] == 0 and other["theta"] == flat(U @ MIRROR)
            assert other["rate"] == pytest.approx(-one_way["rate"], rel=1e-12)
            expect(page.locator(f"{ROOT} .labelnoise-readout")).to_contain_text("Predicted: clockwise, one turn in")
            assert advance(page, 2_000_000)["angle"] < -1
            for name in ("noise σ₁₁", "noise σ₁₂", "noise σ₂₂"):
                page.get_by_role("slider", name=name).press("Home")
            rest = advance(page, 20_000)
            assert rest["rate"] == 0 and np.abs(rest["misfits"]).max() < 1e-9
            assert advance(page, 100)["theta"] == pytest.approx(rest["theta"], abs=1e-12)
            expect(page.locator(f"{ROOT} .labelnoise-readout")).to_contain_text("No noise")
            u = np.reshape(rest["theta"], (2, 2))
            np.testing.assert_allclose(u @ u.T, U @ U.T, atol=1e-9)

        browse(page_of(), act=act, **STILL)

    def test_pushes_that_cancel(self, browse):
        squares = np.array([law(U, level)[0] for level in np.eye(3)])
        third = np.sqrt(-(squares[0] * 0.25 + squares[1] * 0.04) / squares[2])

        def act(page):
            assert advance(page, 0)["rate"] == pytest.approx(0, abs=1e-12)
            assert advance(page, 1_200_000)["isRevealed"]
            expect(page.locator(f"{ROOT} .labelnoise-readout")).to_contain_text("Unequal noise whose pushes nearly cancel")

        browse(page_of(noise_std=(0.5, 0.2, third)), act=act, **STILL)

    def test_noise_of_next_to_nothing(self, browse):
        def act(page):
            assert advance(page, 1_200_000)["isRevealed"]
            expect(page.locator(f"{ROOT} .labelnoise-readout")).to_contain_text("Predicted: counter-clockwise, hardly at all.")

        browse(page_of(noise_std=(0.1, 0, 0)), act=act, **STILL)


@pytest.mark.site
class TestReveal:
    """What is predicted of the turning comes after the reader's own guess."""

    def words(self, page):
        pictures = page.get_by_role("img").evaluate_all(
            "(all) => all.slice(0, 2).map((one) => one.getAttribute('aria-label')).join()"
        )
        return page.locator(f"{ROOT} .labelnoise-readout").inner_text() + pictures

    def black(self, page):
        """Black pixels of the clock, without the words above and below it."""
        return page.get_by_role("img").first.evaluate("""(one) => {
            const [width, height] = [one.width, one.height];
            const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
            copy.drawImage(one, 0, 0);
            const { data } = copy.getImageData(0, 0.1 * height, width, 0.8 * height);
            let black = 0;
            for (let k = 0; k < data.length; k += 4) black += data[k] + data[k + 1] + data[k + 2] < 100;
            return black;
        }""")

    def test_after_a_quarter_of_a_turn(self, browse):
        def act(page):
            turned = advance(page, 0)
            while abs(turned["angle"]) < np.pi / 2:
                assert (
                    not turned["isRevealed"] and "redicted" not in self.words(page) and "clockwise, one" not in self.words(page)
                )
                assert turned["t"] < 2_000_000
                turned = advance(page, 100_000)
            assert turned["isRevealed"] and "Predicted: counter-clockwise" in self.words(page)
            page.get_by_role("button", name="Start again").click()
            assert advance(page, 0)["isRevealed"]  # once seen, no secret

        browse(page_of(), act=act, **STILL)

    def test_after_as_many_steps_where_nothing_turns(self, browse):
        quarter = np.pi / 2 / (law(U, (0.9, 0.2, 0.2))[0] * 0.003**2)

        def act(page):
            assert not advance(page, int(quarter) - 1)["isRevealed"] and "no drift" not in self.words(page)
            assert advance(page, 2)["isRevealed"] and "no drift" in self.words(page)

        browse(page_of(noise_std=(0.5, 0.5, 0.5)), act=act, **STILL)

    @pytest.mark.parametrize(
        "touch",
        [
            lambda page: page.get_by_role("button", name="Most on X₁₁").click(),
            lambda page: page.get_by_role("slider", name="noise σ₁₂").press("ArrowRight"),
            lambda page: page.get_by_role("combobox", name="fits").select_option("mirror images (turn the other way)"),
            lambda page: page.locator(ROOT).evaluate(
                "(root) => root.dispatchEvent(new CustomEvent('dragged', { detail: { name: 'noise_11', value: 0.7 } }))"
            ),
        ],
    )
    def test_at_the_first_setting(self, browse, touch):
        def act(page):
            page.get_by_role("slider", name="speed").press("ArrowRight")
            page.get_by_role("button", name="Other noise").click()
            assert not advance(page, 0)["isRevealed"] and "redicted" not in self.words(page)
            touch(page)
            assert advance(page, 0)["isRevealed"] and "redicted" in self.words(page)

        browse(page_of(), act=act, **STILL)

    def test_the_clock_has_no_black_hands_before(self, browse):
        def act(page):
            advance(page, 300_000)
            before = self.black(page)
            page.get_by_role("button", name="Most on X₁₁").click()
            assert self.black(page) > before + 20

        browse(page_of(), act=act, **STILL)


@pytest.mark.site
class TestHand:
    def test_a_phone_has_the_presets_under_the_hands(self, browse):
        def act(page):
            hands, turns = (page.get_by_role("img").nth(k).bounding_box() for k in (0, 1))
            presets = page.locator(f"{ROOT} .labelnoise-presets").bounding_box()
            assert 0 <= presets["y"] - hands["y"] - hands["height"] < 20 and presets["y"] + presets["height"] <= turns["y"]

        browse(page_of(), act=act, view="phone", **STILL)

    @pytest.mark.parametrize("view", VIEWS)
    @pytest.mark.parametrize("side", [1, -1])
    def test_a_mouse_drags_the_noise_on_either_side(self, browse, view, side):
        def act(page):
            advance(page, 100)
            page.get_by_role("img").nth(2).scroll_into_view_if_needed()
            area = page.get_by_role("img").nth(2).bounding_box()
            left, right, top, bottom = 96, area["width"] - 12, 46 if view == "phone" else 28, area["height"] - 24

            def at(row, level):
                x = (left + right) / 2 + side * level * (right - left) / 2.6
                return area["x"] + x, area["y"] + top + (row + 0.5) * (bottom - top) / 3

            for row, (level, wanted) in enumerate(zip((0.9, 0.2, 0.2), (0.3, 0.6, 1.1), strict=True)):
                page.mouse.move(*at(row, level))
                page.mouse.down()
                page.mouse.move(*at(row, wanted), steps=5)
                page.mouse.up()
                assert advance(page, 0)["levels"][row] == wanted
            page.mouse.move(*at(0, 1.0))  # no button, no change
            result = advance(page, 0)
            assert result["levels"] == [0.3, 0.6, 1.1] and result["t"] == 100
            slider = page.get_by_role("slider", name="noise σ₂₂")
            expect(slider).to_have_attribute("aria-valuetext", "1.1")

        browse(page_of(), act=act, view=view, **STILL)

    def test_a_finger_drags_a_handle_and_the_keyboard_a_slider(self, browse):
        def act(page):
            session = page.context.new_cdp_session(page)
            page.get_by_role("img").nth(2).scroll_into_view_if_needed()
            area = page.get_by_role("img").nth(2).bounding_box()
            middle, unit = (96 + area["width"] - 12) / 2, (area["width"] - 108) / 2.6

            def touch(kind, *levels):
                points = [
                    {"x": area["x"] + middle + level * unit, "y": area["y"] + 46 + (area["height"] - 70) / 6}
                    for level in levels
                ]
                session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

            scrolled = page.evaluate("window.scrollY")
            touch("touchStart", 0.9)
            for level in (0.8, 0.6, 0.4):
                touch("touchMove", level)
            touch("touchEnd")
            assert advance(page, 0)["levels"] == [0.4, 0.2, 0.2]
            assert page.evaluate("window.scrollY") == scrolled
            page.get_by_role("slider", name="noise σ₁₂").press("ArrowRight")
            assert advance(page, 0)["levels"] == [0.4, 0.25, 0.2]
            expect(page.get_by_role("status")).to_contain_text("Step 0. Predicted: counter-clockwise, one turn")

        browse(page_of(), act=act, view="phone", has_touch=True, **STILL)

    def test_what_is_chosen_stands_in_the_address_and_comes_back_from_it(self, browse):
        def act(page):
            assert page.evaluate("location.hash") == ""
            page.get_by_role("button", name="Most on X₂₂").first.click()
            page.get_by_role("combobox", name="fits").first.select_option("mirror images (turn the other way)")
            link = "#motor?noise_11=0.2&noise_12=0.2&noise_22=0.9&circle=reflections"
            assert page.evaluate("location.hash") == link
            other = "#motor?noise_11=1.2&noise_12=7&noise_22=0.05&circle=rotations"  # no slider has a 7
            page.evaluate("(hash) => { location.hash = hash; }", other)
            page.wait_for_function(f"() => document.querySelector('{ROOT}').advance(0).levels[0] === 1.2")
            result = advance(page, 0)
            assert result["levels"] == [1.2, 0.2, 0.05] and result["theta"] == flat(U)
            assert advance(page, 0, 1)["levels"] == [0.5, 0.5, 0.5]  # the address is the first figure's
            page.evaluate("(hash) => { location.hash = hash; }", link)
            page.reload()
            result = advance(page, 0)
            assert result["levels"] == [0.2, 0.2, 0.9] and result["theta"] == flat(U @ MIRROR)
            page.evaluate("location.hash = '#a-heading'")
            page.get_by_role("button", name="Start again").last.click()
            assert page.evaluate("location.hash") == "#a-heading"

        browse(page_of(), page_of(noise_std=(0.5, 0.5, 0.5)), act=act, **STILL)

    def test_another_seed_is_another_run_and_a_run_is_reproducible(self, browse):
        def act(page):
            first = advance(page, 5000)
            page.get_by_role("button", name="Start again").click()
            assert advance(page, 5000)["theta"] == first["theta"]
            page.get_by_role("button", name="Other noise").click()
            assert advance(page, 5000)["theta"] != first["theta"]

        browse(page_of(), act=act, **STILL)

    def test_it_stops_at_last_and_begins_anew(self, browse):
        def act(page):
            advance(page, 10_000_001)  # 1000 / lr^2
            said = page.locator(f"{ROOT} .labelnoise-readout")
            expect(said).to_contain_text("It stops here")
            page.get_by_role("button", name="Start", exact=True).click()
            page.wait_for_function(f"() => document.querySelector('{ROOT}').advance(0).t < 1e6")

        browse(page_of(lr=0.01), act=act, **STILL)
