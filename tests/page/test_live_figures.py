"""What every figure that the page computes does alike."""

import re

import pytest
from browser import VIEWS
from figures import Fragment, assert_white_and_sharp
from playgrounds import STILL
from playwright.sync_api import expect

import labelnoise_utils as ln

FIGURES = {
    "units": ln.live_units,
    "sensing": ln.live_sensing,
    "motor": ln.live_motor,
    "network": ln.live_network,
    "longer": ln.how_much_longer,
    "longer-relu": lambda **settings: ln.how_much_longer("lr", 0.5, model="relu", **settings),
}
RUNNING = ("units", "sensing", "motor")
STEPS = "(root) => root.advance(0).t"


@pytest.mark.parametrize("name", FIGURES)
class TestHtml:
    def test_is_the_same_for_the_same_settings_and_has_an_id_for_each(self, name):
        pages = [FIGURES[name](seed=seed).html for seed in (0, 0, 1)]
        assert pages[0] == pages[1]
        first, _, other = (re.findall(r'\bid="([^"]*)"', page) for page in pages)
        assert len(first) == len(other) == 1 and first != other

    def test_asks_for_nothing_and_ends_nothing_early(self, name):
        page = FIGURES[name]()._repr_html_()
        assert not re.search(r"https?:|url\(|@import|\bimport\b|\bsrc=|fetch\(", page)
        assert page.count("</script>") == page.count("</style>") == page.count("<script>") == 1
        assert len(page) < 65_000

    def test_every_control_has_a_label_and_every_picture_words(self, name):
        page = Fragment(FIGURES[name]()._repr_html_())
        assert len(page.of("input")) + len(page.of("select")) == len(page.of("label")) > 0
        assert all(" " in canvas["aria-label"] and canvas["role"] == "img" for canvas in page.of("canvas"))
        assert {group["role"] for group in page.of("div") if "aria-label" in group} == {"group"}


@pytest.mark.site
class TestInABrowser:
    def test_without_scripts_there_is_a_sentence_and_no_dead_control(self, browse):
        figures = [figure() for figure in FIGURES.values()]

        def act(page):
            for figure in figures:
                expect(page.get_by_text(figure.text[:40]).first).to_be_visible()
            for role in ("slider", "button", "img", "combobox", "spinbutton"):
                expect(page.get_by_role(role)).to_have_count(0)

        browse(*(figure.html for figure in figures), act=act, java_script_enabled=False)

    @pytest.mark.parametrize("name", RUNNING)
    @pytest.mark.parametrize("view", VIEWS)
    def test_the_keyboard_reaches_everything(self, browse, name, view):
        def act(page):
            reached = []
            for _ in range(len(page.locator("button, input, select").all())):
                page.keyboard.press("Tab")
                reached.append(page.evaluate("document.activeElement.name || document.activeElement.textContent"))
            assert reached[:2] == ["Start", "Start again"] and len(set(reached)) == len(reached)
            assert page.locator("canvas").first.evaluate("(one) => one.width > 100")

        browse(FIGURES[name]().html, act=act, view=view, **STILL)

    @pytest.mark.parametrize("name", RUNNING)
    def test_runs_while_it_is_seen_and_only_then(self, browse, name):
        def act(page):
            root = page.locator(".labelnoise-stage")
            page.wait_for_function(f"({STEPS})(document.querySelector('.labelnoise-stage')) > 3")
            expect(page.get_by_role("status")).to_have_text("")  # nothing aloud that nobody asked for
            page.evaluate("window.scrollTo(0, 1e6)")
            page.wait_for_timeout(500)
            before = root.evaluate(STEPS)
            page.wait_for_timeout(700)
            assert root.evaluate(STEPS) == before
            page.evaluate("window.scrollTo(0, 0)")
            page.wait_for_function(f"({STEPS})(document.querySelector('.labelnoise-stage')) > {before + 3}")
            page.get_by_role("button", name="Pause").click()
            expect(page.get_by_role("status")).to_contain_text(re.compile(r"^Paused\. .*Step \d"))

        browse(FIGURES[name]().html, '<div style="height: 3000px"></div>', act=act)

    @pytest.mark.parametrize("name", RUNNING)
    def test_waits_under_reduced_motion(self, browse, name):
        def act(page):
            page.wait_for_timeout(700)
            assert page.locator(".labelnoise-stage").evaluate(STEPS) == 0
            page.get_by_role("button", name="Start", exact=True).click()
            page.wait_for_function(f"({STEPS})(document.querySelector('.labelnoise-stage')) > 0")

        browse(FIGURES[name]().html, act=act, **STILL)

    def test_is_over_within_seconds_and_leaves_no_name_behind(self, browse):
        """Untouched: the collapse is seen in less than 20 s on a machine that does nothing else."""

        def act(page):
            leaked = page.evaluate("['makeStage', 'makeUnits', 'count', 'NOISE', 'line'].filter((name) => name in window)")
            assert leaked == []
            expect(page.locator(".labelnoise-readout").first).to_contain_text("one active unit, 19 silent", timeout=60_000)

        browse(FIGURES["units"]().html, FIGURES["longer"]().html, act=act)

    def test_is_white_and_sharp_on_any_ground_and_screen(self, browse):
        pages = (figure().html for figure in FIGURES.values())
        browse(*pages, act=assert_white_and_sharp, view="phone", device_scale_factor=3, color_scheme="dark", **STILL)
