"""The playground: what is refused, its HTML, its keyboard and its pauses in a browser."""

import json
import re

import numpy as np
import pytest
from browser import VIEWS
from figures import Fragment, assert_white_and_sharp, draw, html
from playgrounds import STILL, advance, page_of
from playwright.sync_api import expect

import labelnoise_utils as ln

# Without a step.
STEPS = "() => document.querySelector('.labelnoise-playground').advance(0).t"


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
        assert page_of(u=2) == page_of(u=2.0) == page_of(u=np.float64(2), particles=np.int64(300))
        one_changed = dict(lr=0.03, noise_std=0.4, batch_size=5, u=1, v=1, particles=9, seed=1)
        pages = [page_of(), *(page_of(**{name: value}) for name, value in one_changed.items())]
        ids = [re.findall(r'\bid="([^"]*)"', page) for page in pages]
        assert len({one for (one,) in ids}) == len(pages)

    def test_asks_for_nothing_and_ends_nothing_early(self):
        page = page_of()
        assert not re.search(r"https?:|url\(|@import|\bimport\b|\bsrc=|fetch\(", page)
        assert page.count("</script>") == page.count("</style>") == page.count("<script>") == 1
        (script,) = re.findall(r"<script>(.*)</script>", page, re.DOTALL)
        assert "</" not in script
        assert len(page) < 45_000

    def test_every_input_has_a_label_and_every_picture_words(self):
        page = Fragment(page_of())
        assert len(page.of("input")) == len(page.of("label")) == 6
        assert all(" " in canvas["aria-label"] and canvas["role"] == "img" for canvas in page.of("canvas"))

    def test_a_slider_offers_what_was_given(self):
        page = Fragment(page_of(lr=0.0123, batch_size=3, v=0.33))
        inputs = {one["name"]: one for one in page.of("input")}
        for name, value in dict(lr=0.0123, batch_size=3, v=0.33, noise_std=1, u=2.8).items():
            values = json.loads(inputs[name]["data-values"])
            assert values[int(inputs[name]["value"])] == value
            assert values == sorted(set(values))
            assert len(json.loads(inputs[name]["data-texts"])) == len(values) == int(inputs[name]["max"]) + 1

    def test_has_a_text_where_no_html_is_shown(self):
        assert repr(ln.playground(lr=0.1)).startswith("Playground(lr=0.1, noise_std=1.0")


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
                ("0.005", "0.01"),
                ("1", "1.5"),
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
            expect(page.get_by_role("status")).to_have_text(
                re.compile("^Paused. Step 0. Fitting: the cloud falls into the valley")
            )

        browse(page_of(), act=act, view=view, **STILL)

    def test_buttons(self, browse):
        def act(page):
            play, forward = page.get_by_role("button", name="Start"), page.get_by_role("button", name="Step forward")
            forward.focus()
            page.keyboard.press("Enter")
            assert step_number(page) == 1
            page.get_by_role("slider", name="speed").press("End")
            forward.click()
            assert step_number(page) == 1001
            picture = page.get_by_role("img").nth(2)
            expect(picture).to_have_attribute("aria-label", re.compile("after 1,001 steps; the predicted line, thin and black"))
            error = page.get_by_role("img").nth(1)
            expect(error).to_have_attribute("aria-label", re.compile("^Mean squared error .*: at the start 12.1, it is 0.0"))
            before = picture.screenshot()
            page.get_by_role("slider", name="speed").press("Home")
            play.click()
            expect(page.get_by_role("button", name="Pause")).to_be_visible()
            expect(page.get_by_role("status")).to_contain_text("Running. Step")
            page.get_by_role("slider", name="speed").press("End")  # goes on, faster
            expect(page.locator(".labelnoise-readout")).to_contain_text(
                "The cloud has come to the widest point", timeout=60_000
            )
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

        browse(page_of(), act=act, **STILL)

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

        browse(page_of(), act=act, view="phone", **STILL)

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

        browse(page_of(), '<div style="height: 3000px"></div>', act=act)

    def test_the_fit_takes_seconds_whatever_the_learning_rate(self, browse):
        """Counted in frames: from the start to the floor at least two seconds' worth of pictures."""
        frames = """(root) => new Promise((resolve) => {
            let count = 0;
            const look = () => {
                const { settled, t } = root.advance(0);
                if (settled) resolve([count, t]);
                else requestAnimationFrame(look);
                count++;
            };
            look();
        })"""

        def act(page):
            page.get_by_role("button", name="Start").click()
            count, steps = page.locator(".labelnoise-playground").evaluate(frames)
            assert 120 <= count <= 900
            assert steps < 1000

        for lr in (0.002, 0.02):
            browse(page_of(lr=lr), act=act, **STILL)

    def test_waits_under_reduced_motion(self, browse):
        def act(page):
            page.wait_for_timeout(1000)
            assert page.evaluate(STEPS) == 0
            expect(page.get_by_role("button", name="Start")).to_be_visible()

        browse(page_of(), act=act, **STILL)

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

        pictures = html(draw, height=[1, 2])
        browse(page_of(), pictures, page_of(), page_of(u=1), act=act, **STILL)

    def test_is_white_and_sharp_on_any_ground_and_screen(self, browse):
        browse(page_of(), act=assert_white_and_sharp, view="phone", device_scale_factor=3, color_scheme="dark", **STILL)

    def test_without_scripts_there_is_a_sentence_and_no_dead_control(self, browse):
        def act(page):
            expect(page.get_by_text("A cloud of 300 runs of label-noise SGD on h = u v, from u = 2.8")).to_be_visible()
            for role in ("slider", "button", "img"):
                expect(page.get_by_role(role)).to_have_count(0)

        browse(page_of(), act=act, java_script_enabled=False)
