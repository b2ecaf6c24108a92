"""Figures that move: what is refused, the face for a page, the face for a live notebook, and a browser."""

import importlib.util
import io
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest
from browser import FLAGS, VIEWS, chromium
from jupyter_client.manager import start_new_kernel
from matplotlib.figure import Figure
from PIL import Image
from playwright.sync_api import expect, sync_playwright

import labelnoise_utils as ln
from labelnoise_utils.page import live
from labelnoise_utils.page.pictures import take

VIEW = "application/vnd.jupyter.widget-view+json"


def draw(height=1.0, colour="black"):
    figure = Figure(figsize=(3, 2), dpi=100)
    ax = figure.subplots()
    ax.bar([0], [height], color=colour)
    ax.set_ylim(0, 3)
    return figure


class Fragment(HTMLParser):
    """The elements of a piece of HTML, each as (tag, attributes)."""

    def __init__(self, html):
        super().__init__()
        self.elements = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def html(*args, **kwargs):
    return ln.explore(*args, **kwargs)._repr_mimebundle_()["text/html"]


@pytest.fixture
def plt():
    """Pyplot, and the figures that are open left as they are."""
    before = mpl.get_backend()
    mpl.use("agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")
    mpl.use(before)


@pytest.fixture
def somebody_there(monkeypatch):
    monkeypatch.setattr(live, "is_possible", lambda: True)


class TestWhatIsRefused:
    @pytest.mark.parametrize("values", [0.5, "abc", None, {0.1, 0.2}, {"a": 1}, np.ones((2, 2)), iter([1, 2])])
    def test_values_that_are_no_sequence(self, values):
        with pytest.raises(TypeError, match="lr must be a sequence of the values to choose from"):
            ln.explore(draw, lr=values)

    @pytest.mark.parametrize("values", [[], [1.0], np.array([1.0]), ("a",)])
    def test_nothing_to_choose(self, values):
        with pytest.raises(ValueError, match="lr needs at least two values"):
            ln.explore(draw, lr=values)

    @pytest.mark.parametrize("value", [True, None, [1], 1j])
    def test_a_value_that_is_neither_number_nor_string(self, value):
        with pytest.raises(TypeError, match="a value of lr must be a number"):
            ln.explore(draw, lr=[1.0, value])

    def test_numbers_and_strings_mixed(self):
        with pytest.raises(TypeError, match="lr must have either numbers or strings"):
            ln.explore(draw, lr=[1.0, "large"])

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_value_that_is_not_finite(self, value):
        with pytest.raises(ValueError, match="a value of lr must be finite"):
            ln.explore(draw, lr=[1.0, value])

    @pytest.mark.parametrize(("values", "text"), [([1, 2, 1.0], "1"), ([0.1, 0.1 + 1e-9], "0.1"), (["a", "a"], "a")])
    def test_two_values_that_read_the_same(self, values, text):
        with pytest.raises(ValueError, match=f"lr has two values that read '{text}'"):
            ln.explore(draw, lr=values)

    def test_no_control(self):
        with pytest.raises(ValueError, match="needs a control"):
            ln.explore(draw)

    def test_too_many_pictures(self):
        message = r"9 of lr x 8 of std values make 72 pictures, and at most 64 are allowed"
        with pytest.raises(ValueError, match=message):
            ln.explore(draw, lr=range(9), std=range(8))

    @pytest.mark.parametrize("start", [{"lr": 3}, {"lr": "1"}])
    def test_a_start_that_is_no_value(self, start):
        with pytest.raises(ValueError, match=r"start has .* for lr, which is none of its values"):
            ln.explore(draw, start=start, lr=[1, 2])

    def test_a_start_that_is_neither_number_nor_string(self):
        with pytest.raises(TypeError, match="the start of lr must be a number"):
            ln.explore(draw, start={"lr": None}, lr=[1, 2])

    @pytest.mark.parametrize("option", ["start", "labels"])
    def test_an_option_for_no_control(self, option):
        with pytest.raises(ValueError, match=rf"{option} has 'std', which is none of the controls \(lr\)"):
            ln.explore(draw, lr=[1, 2], **{option: {"std": 1}})

    @pytest.mark.parametrize("option", ["start", "labels", "alt"])
    def test_a_control_with_the_name_of_an_option(self, option):
        with pytest.raises(TypeError, match=f"{option} .*no control"):
            ln.explore(draw, lr=[1, 2], **{option: [0, 1]})

    def test_no_function(self):
        with pytest.raises(TypeError, match="needs a function"):
            ln.explore(draw(), height=[1, 2])

    @pytest.mark.parametrize("result", [None, 3, "figure"])
    def test_a_function_that_draws_nothing(self, result):
        with pytest.raises(TypeError, match="must return a figure, or open one with pyplot"):
            ln.explore(lambda lr: result, lr=[1, 2])

    def test_nothing_is_drawn_before(self):
        with pytest.raises(ValueError, match="std needs"):
            ln.explore(lambda lr, std: pytest.fail("was called"), lr=[1, 2], std=[])

    def test_an_error_of_the_function_says_for_which_values(self):
        def fails(height, colour):
            return draw(height, colour) if height < 2 else 1 / 0

        with pytest.raises(ZeroDivisionError) as error:
            ln.explore(fails, height=[1, 2], colour=["red", "blue"])
        assert error.value.__notes__ == ["while drawing for height = 2, colour = red"]


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


class TestPicture:
    def test_shows_the_figure_at_its_size_and_opaque(self):
        figure = Figure(figsize=(2, 1), dpi=50)
        figure.patch.set_alpha(0)
        figure.add_axes((0.5, 0, 0.5, 1)).set(facecolor=ln.plots.NOISE, xticks=[], yticks=[])
        picture = take(lambda: figure, {}, "half of it orange")
        image = Image.open(io.BytesIO(picture.png))
        assert image.size == (100, 50) == (picture.width, picture.height)
        assert image.convert("RGBA").getpixel((10, 25)) == (255, 255, 255, 255)
        assert image.convert("RGB").getpixel((75, 25)) == tuple(bytes.fromhex(ln.plots.NOISE[1:]))

    def test_has_the_size_of_the_figure_whatever_savefig_does(self):
        with mpl.rc_context({"savefig.bbox": "tight", "savefig.dpi": 300}):
            picture = take(draw, {}, "")
        assert (picture.width, picture.height) == (300, 200)

    def test_follows_the_style_in_force(self):
        with mpl.rc_context({"figure.figsize": (2, 1), "figure.dpi": 70}):
            picture = take(lambda: Figure(), {}, "")
        assert (picture.width, picture.height) == (140, 70)

    @pytest.mark.parametrize("returned", [True, False])
    def test_closes_what_pyplot_opened_and_nothing_else(self, plt, returned):
        own, current = plt.figure(), plt.figure()

        def with_pyplot(height):
            figure, ax = plt.subplots()
            ax.plot([0, height])
            return figure if returned else None

        images = Fragment(html(with_pyplot, height=[1, 2])).of("img")
        assert images[0]["src"] != images[1]["src"]
        assert plt.get_fignums() == [own.number, current.number]
        assert plt.gcf() is current

    def test_closes_figures_also_after_an_error(self, plt):
        def fails(height):
            plt.figure()
            raise RuntimeError("no")

        with pytest.raises(RuntimeError, match="no"):
            ln.explore(fails, height=[1, 2])
        assert plt.get_fignums() == []

    def test_warns_of_nothing(self, plt):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ln.explore(lambda height: plt.subplots()[0], height=range(30))


class TestLive:
    def test_draws_one_picture_and_says_how_to_get_more(self, somebody_there):
        calls = []

        def counted(height):
            calls.append(height)
            return draw(height)

        exploration = ln.explore(counted, height=[1, 2, 3], start={"height": 2})
        bundle = exploration._repr_mimebundle_()
        assert calls == [2]
        assert set(bundle) == {"text/plain", "text/html", VIEW}
        assert bundle["text/plain"] == "figure with controls, drawn for height = 2"
        fragment = Fragment(bundle["text/html"])
        assert [image["alt"] for image in fragment.of("img")] == ["Figure; height = 2"]
        assert fragment.of("input") == fragment.of("script") == []
        assert "Drawn for height = 2. Run the notebook to choose other values." in bundle["text/html"]
        assert bundle[VIEW]["model_id"] == exploration.widget.model_id

    def test_a_move_draws_anew(self, somebody_there):
        calls = []

        def counted(**chosen):
            calls.append(chosen)
            return draw(**chosen)

        exploration = ln.explore(counted, height=[1, 2], colour=["red", "blue"], labels={"height": "of the bar"})
        picture, status, height, colour = exploration.widget.children
        assert [entry.description for entry in (height, colour)] == ["of the bar", "colour"]
        before = picture.value
        height.value = 2
        colour.value = "blue"
        assert calls == [
            dict(height=1, colour="red"),
            dict(height=2, colour="red"),
            dict(height=2, colour="blue"),
        ]
        (image,) = Fragment(picture.value).of("img")
        assert image["alt"] == "Figure; of the bar = 2, colour = blue"
        assert image["src"] not in before
        assert status.value == '<p role="status">of the bar = 2, colour = blue</p>'

    def test_an_error_is_shown_and_the_next_move_works(self, somebody_there):
        def fails(height):
            if height == 2:
                raise ValueError("lr < bound")
            return draw(height)

        picture, status, height = ln.explore(fails, height=[1, 2, 3]).widget.children
        before = picture.value
        height.value = 2
        assert picture.value == before
        assert status.value == '<p role="alert">ValueError: lr &lt; bound</p>'
        height.value = 3
        assert picture.value != before and "alert" not in status.value

    def test_shows_the_page_where_ipywidgets_is_missing(self, monkeypatch):
        class Shell:
            def get_parent(self):
                return {"content": {"allow_stdin": True}}

        class IPython:
            get_ipython = Shell

        monkeypatch.setitem(sys.modules, "IPython", IPython)
        assert live.is_possible()
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        assert not live.is_possible()
        assert len(Fragment(html(draw, height=[1, 2])).of("img")) == 2

    def test_the_kernel_knows_whether_somebody_is_there(self):
        """As a notebook's front end asks it, and as a program that executes notebooks does."""
        setup = "from matplotlib.figure import Figure\nimport labelnoise_utils as ln"
        manager, client = start_new_kernel()
        try:
            client.execute_interactive(setup, timeout=120)
            shown = {}
            for somebody in (True, False):
                messages = []
                client.execute_interactive(
                    "ln.explore(lambda height: Figure(), height=[1, 2, 3])",
                    allow_stdin=somebody, output_hook=messages.append, timeout=120,
                )  # fmt: skip
                (shown[somebody],) = [m["content"]["data"] for m in messages if m["msg_type"] == "execute_result"]
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
        assert VIEW in shown[True] and VIEW not in shown[False]
        assert [len(Fragment(shown[somebody]["text/html"]).of("img")) for somebody in (True, False)] == [1, 3]


def test_a_page_needs_neither_ipywidgets_nor_pyplot():
    code = """
import sys
from matplotlib.figure import Figure
import labelnoise_utils as ln
ln.explore(lambda lr: Figure(), lr=[1, 2])
print([name for name in ("ipywidgets", "IPython", "matplotlib.pyplot") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "[]\n"), result.stderr


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>A figure that moves</title>
{}
</html>
"""


@pytest.fixture
def browse(tmp_path):
    """Opens figures in a browser, and lets a function look at the page."""
    executable = chromium()

    def look(file, act, settings):
        with sync_playwright() as p:
            browser = p.chromium.launch(executable_path=executable, args=FLAGS)
            page = browser.new_page(**settings)
            complaints = []
            allowed = (file.as_uri(), "data:")
            page.on("request", lambda r: r.url.startswith(allowed) or complaints.append(f"outside: {r.url}"))
            page.on("pageerror", lambda e: complaints.append(f"error: {e}"))
            page.on("console", lambda m: complaints.append(f"console: {m.text}"))
            page.goto(file.as_uri())
            act(page)
            width, visible = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
            assert width <= visible, "scrolls sideways"
            browser.close()
            return complaints

    def browse(*pieces, act, view="wide", **settings):
        file = tmp_path / "figure.html"
        file.write_text(PAGE.format("\n".join(pieces)), "utf-8")
        settings["viewport"] = VIEWS[view]
        # Playwright takes a thread for itself, and this one may already have it.
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(look, file, act, settings).result() == []

    return browse


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

    def test_without_scripts_there_is_the_picture_and_no_dead_control(self, browse):
        def act(page):
            expect(page.get_by_role("img")).to_have_attribute("alt", "Figure; height = 1")
            expect(page.get_by_role("slider")).to_have_count(0)

        browse(html(draw, height=[1, 2]), act=act, java_script_enabled=False)
