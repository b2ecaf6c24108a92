"""The face for a page: a picture for each combination; its HTML, and in a browser."""

import re

import numpy as np
import pytest
from browser import VIEWS
from figures import Fragment, draw, html
from matplotlib.figure import Figure
from playwright.sync_api import expect

import labelnoise_utils as ln
from labelnoise_utils.page import live


class TestPage:
    def test_has_a_picture_for_each_combination_and_shows_the_first(self):
        images = Fragment(html(draw, height=[1, 2, 3], colour=["red", "blue"], alt="A bar")).of("img")
        assert [image["alt"] for image in images] == [
            f"A bar; height = {height}, colour = {colour}" for height in (1, 2, 3) for colour in ("red", "blue")
        ]
        assert ["hidden" in image for image in images] == [False] + 5 * [True]
        assert len({image["src"] for image in images}) == 6
        assert all((image["width"], image["height"]) == ("300", "200") for image in images)

    def test_starts_where_it_is_told(self):
        values = dict(height=np.linspace(0.1, 0.5, 5), colour=["red", "blue"])
        fragment = Fragment(html(draw, start={"colour": "blue", "height": 0.3}, **values))
        (shown,) = [image for image in fragment.of("img") if "hidden" not in image]
        assert shown["alt"] == "Figure; height = 0.3, colour = blue"
        assert fragment.of("input")[0]["value"] == "2"
        assert [option["value"] for option in fragment.of("option") if "selected" in option] == ["1"]

    def test_alt_may_be_a_function_and_is_escaped(self):
        page = html(draw, height=[1, 2], alt=lambda height: f'"<b>" & {height:.1f}')
        assert [image["alt"] for image in Fragment(page).of("img")] == ['"<b>" & 1.0', '"<b>" & 2.0']
        assert "<b>" not in page

    def test_labels_and_values_are_escaped(self):
        evil = '</script><img src="x" onerror="alert(1)">'
        page = html(lambda **_: draw(), labels={"a": evil}, a=[evil, "b"], c_d=[1, 2])
        fragment = Fragment(page)
        assert len(fragment.of("img")) == 4
        assert page.count("</script>") == 1 and page.count("</style>") == 1
        assert "<span>c d</span>" in page

    def test_every_input_stands_in_its_label(self):
        page = html(draw, height=[1, 2], colour=["red", "blue"])
        assert page.count("<label>") == 2
        for tag in ("input", "select"):
            before = page.split(f"<{tag} ")[0]
            assert before.count("<label>") == before.count("</label>") + 1

    def test_a_slider_with_three_values_has_a_play_button(self):
        page = Fragment(html(draw, height=[1, 2, 3], labels={"height": "<of> the bar"}))
        assert [button["aria-label"] for button in page.of("button")] == ["Play <of> the bar"]
        assert Fragment(html(draw, height=[1, 2], colour=["red", "blue", "green"])).of("button") == []

    def test_asks_for_nothing_and_has_no_ids(self):
        fragment = Fragment(html(draw, height=[1, 2]))
        for tag, attributes in fragment.elements:
            assert "id" not in attributes, tag
            assert "href" not in attributes, tag
            assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")

    def test_is_the_same_each_time(self):
        page = html(draw, height=[1, 2], colour=["red", "blue"])
        assert page == html(draw, height=[1, 2], colour=["red", "blue"])
        assert page != html(draw, height=[1, 2], colour=["red", "green"])

    def test_is_small(self):
        x, y = ln.twelve_points()

        def two_panels(width):
            figure = Figure(figsize=(5.8, 2.8), dpi=130)
            for noise, ax in enumerate(figure.subplots(1, 2)):
                models = [ln.TwoLayerReLU(width, seed=seed) for seed in range(5)]
                ln.plots.functions(ax, models, x, y, noise=bool(noise))
            return figure

        assert len(html(two_panels, width=range(10, 26))) < 300_000

    def test_text_and_types(self):
        bundle = ln.explore(draw, height=[1, 2], colour=["red", "blue"], start={"height": 2})._repr_mimebundle_()
        assert set(bundle) == {"text/plain", "text/html"}
        assert bundle["text/plain"] == "figure with controls, drawn for height = 2, colour = red"

    def test_the_function_gets_plain_numbers(self):
        seen = []

        def record(**chosen):
            seen.append(chosen)
            return draw()

        ln.explore(record, width=np.array([1, 2]), lr=np.array([0.1, 0.2], dtype=np.float64))
        assert seen == [dict(width=w, lr=lr) for w in (1, 2) for lr in (0.1, 0.2)]
        assert {type(value) for chosen in seen for value in chosen.values()} == {int, float}

    def test_small_numbers_read_well(self):
        images = Fragment(html(lambda lr: draw(), lr=[1e-5, 0.1 + 0.2, 2e7, 1e-12, 1000])).of("img")
        values = [image["alt"].removeprefix("Figure; lr = ") for image in images]
        assert values == ["1e-5", "0.3", "2e+7", "1e-12", "1000"]


@pytest.mark.site
class TestInABrowser:
    @pytest.mark.parametrize("view", VIEWS)
    def test_the_keyboard_moves_the_slider_and_the_picture(self, browse, view):
        def wide(height):
            figure = draw(height)
            figure.set_size_inches(9, 2)
            return figure

        def act(page):
            slider, picture = page.get_by_role("slider", name="height"), page.get_by_role("img")
            expect(picture).to_have_count(1)
            expect(picture).to_have_attribute("alt", "A bar; height = 0.5")
            expect(slider).to_have_attribute("aria-valuetext", "0.5")
            expect(page.get_by_role("status")).to_have_text("")
            before = picture.screenshot()
            page.keyboard.press("Tab")
            expect(slider).to_be_focused()
            for key, text in (("ArrowRight", "1"), ("End", "2"), ("ArrowLeft", "1.5")):
                page.keyboard.press(key)
                expect(slider).to_have_attribute("aria-valuetext", text)
                expect(page.locator(".labelnoise-controls > span")).to_have_text(text)
                expect(picture).to_have_count(1)
                expect(picture).to_have_attribute("alt", f"A bar; height = {text}")
                expect(page.get_by_role("status")).to_have_text(f"A bar; height = {text}")
            expect(picture).to_be_in_viewport(ratio=1)
            assert picture.screenshot() != before

        browse(html(wide, height=[0.5, 1, 1.5, 2], alt="A bar"), act=act, view=view)

    def test_two_controls_choose_together(self, browse):
        def act(page):
            slider, choice = page.get_by_role("slider", name="height"), page.get_by_role("combobox", name="fill")
            expect(page.get_by_role("img")).to_have_attribute("alt", "Figure; height = 2, fill = blue")
            choice.select_option("red")
            expect(page.get_by_role("img")).to_have_attribute("alt", "Figure; height = 2, fill = red")
            slider.press("ArrowRight")
            expect(page.get_by_role("img")).to_have_attribute("alt", "Figure; height = 3, fill = red")
            choice.focus()
            choice.press("ArrowDown")
            expect(page.get_by_role("img")).to_have_attribute("alt", "Figure; height = 3, fill = blue")

        start, labels = {"height": 2, "colour": "blue"}, {"colour": "fill"}
        browse(html(draw, height=[1, 2, 3], colour=["red", "blue"], start=start, labels=labels), act=act)

    def test_figures_on_a_page_move_apart_even_if_they_are_the_same(self, browse, monkeypatch):
        def act(page):
            groups = page.get_by_role("group", name="Figure with controls")
            groups.nth(1).get_by_role("slider").press("ArrowRight")
            for number, text in enumerate(("1", "2", "1")):
                expect(groups.nth(number).get_by_role("img")).to_have_attribute("alt", f"Figure; height = {text}")

        page = html(draw, height=[1, 2])
        monkeypatch.setattr(live, "is_possible", lambda: True)
        still = html(draw, height=[1, 2])
        browse(still, page, page, page, act=act)

    @pytest.mark.parametrize("view", VIEWS)
    def test_play_moves_a_slider_to_its_end(self, browse, view):
        def act(page):
            page.clock.install()
            slider, other = page.get_by_role("slider", name="height"), page.get_by_role("combobox", name="fill")
            picture, status = page.get_by_role("img"), page.get_by_role("status")
            page.clock.run_for(5000)
            expect(picture).to_have_attribute("alt", "Figure; height = 1, fill = red")  # nothing moves by itself
            slider.focus()
            page.keyboard.press("Tab")
            expect(page.get_by_role("button", name="Play height")).to_be_focused()
            page.keyboard.press("Enter")
            for height in (2, 3):
                expect(picture).to_have_attribute("alt", f"Figure; height = {height}, fill = red")
                expect(slider).to_have_attribute("aria-valuetext", f"{height}")
                expect(status).to_have_text("")
                page.clock.run_for(700)
            expect(page.get_by_role("button", name="Play height")).to_be_focused()
            expect(status).to_have_text("Figure; height = 3, fill = red")
            page.keyboard.press("Enter")  # from its first value again
            expect(picture).to_have_attribute("alt", "Figure; height = 1, fill = red")
            page.get_by_role("button", name="Pause height").click()
            page.clock.run_for(5000)
            expect(status).to_have_text("Figure; height = 1, fill = red")
            for move in (lambda: other.select_option("blue"), lambda: slider.press("Home")):
                page.get_by_role("button", name="Play height").click()
                move()  # ends it
                expect(page.get_by_role("button", name="Play height")).to_be_visible()
                page.clock.run_for(5000)
                expect(status).to_have_text(re.compile("^Figure; height = [12], fill = blue$"))

        page = html(draw, height=[1, 2, 3], colour=["red", "blue"], labels={"colour": "fill"})
        browse(page, act=act, view=view)

    def test_play_moves_one_of_two_sliders(self, browse):
        def act(page):
            page.clock.install()
            picture = page.get_by_role("img")
            page.get_by_role("button", name="Play height").click()
            page.get_by_role("button", name="Play line width").click()  # and pauses the other
            page.clock.run_for(5000)
            expect(picture).to_have_attribute("alt", "Figure; height = 2, line width = 9")
            expect(page.get_by_role("button", name="Pause")).to_have_count(0)

        browse(html(lambda height, line_width: draw(height), height=[1, 2, 3], line_width=[7, 8, 9]), act=act)

    def test_without_scripts_there_is_the_picture_and_no_dead_control(self, browse):
        def act(page):
            expect(page.get_by_role("img")).to_have_attribute("alt", "Figure; height = 1")
            expect(page.get_by_role("slider")).to_have_count(0)
            expect(page.get_by_role("button")).to_have_count(0)

        browse(html(draw, height=[1, 2, 3]), act=act, java_script_enabled=False)
