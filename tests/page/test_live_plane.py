"""Points in the plane under the hand: what is refused, the least reg anew at each move, label noise that runs towards it."""

import re

import numpy as np
import pytest
import torch
from browser import VIEWS
from figures import Fragment
from playgrounds import STILL
from playwright.sync_api import expect

import labelnoise_utils as ln

ROOT = ".labelnoise-in-plane"
# Plain numbers only, since a promise of typed arrays does not travel.
ADVANCE = """async (root, steps) => {
    const { run, first, settled, points, selected, history } = await root.advance(steps);
    const { optimum, theta, surface, ...rest } = run;
    const { surface: values, theta: units, ...least } = optimum;
    const theirs = { ...least, theta: [...units], surface: [...values] };
    return { ...rest, theta: [...theta], optimum: theirs, first: first.reg, settled, points, selected, history };
}"""


def page_of(*args, **settings):
    return ln.live_plane(*args, **settings)._repr_html_()


def advance(page, steps, number=0):
    return page.locator(ROOT).nth(number).evaluate(ADVANCE, steps)


def point(page, number):
    return page.locator(f"{ROOT} .labelnoise-dots button").nth(number)


def place(page, number):
    box = point(page, number).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def python_least(found, skip="constant"):
    *x, y = np.array(found["points"]).T
    return ln.minimal_interpolant(np.column_stack(x), y, skip=skip)


THREE = dict(x=[[0, 0], [1, 0], [0, 1]], y=[0, 1, -1])


class TestHtml:
    def test_is_the_same_for_the_same_settings_and_ends_nothing_early(self):
        pages = [page_of(seed=seed) for seed in (0, 0, 1)]
        assert pages[0] == pages[1] != pages[2]
        ids = [re.findall(r'\bid="([^"]*)"', page) for page in pages]
        assert len(ids[0]) == len(ids[2]) == 1 and ids[0] != ids[2]
        assert not re.search(r"https?:|url\(|@import|\bimport\b|\bsrc=|fetch\(", pages[0])
        assert pages[0].count("</script>") == pages[0].count("</style>") == 1
        assert len(pages[0]) < 90_000

    def test_every_control_has_a_label_and_every_picture_words(self):
        page = Fragment(page_of())
        assert len(page.of("input")) + len(page.of("select")) == len(page.of("label")) == 5
        assert all(" " in canvas["aria-label"] and canvas["role"] == "img" for canvas in page.of("canvas"))
        assert {group["role"] for group in page.of("div") if "aria-label" in group} == {"group"}

    def test_what_it_says_where_no_script_runs(self):
        assert repr(ln.live_plane(**THREE, noise_std=0.2)) == (
            "The function of least reg through 3 points in the plane, "
            "and label noise of standard deviation 0.2 that runs towards it"
        )

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (dict(x=[[0, 0]]), ValueError, "x and y are given together"),
            (dict(x=[[0, 0], [1, 0]], y=[0, 1]), ValueError, "n from 3 to 10, got \\(2, 2\\) and \\(2,\\)"),
            (dict(x=[[0, 0, 0]] * 3, y=[0] * 3), ValueError, "x must have shape"),
            (dict(x=[[0, 0], [1, 0], [0, 1]], y=[0, 1]), ValueError, "x must have shape"),
            (dict(x=[[0, 0], [1.1, 0], [0, 1]], y=[0, 1, 0]), ValueError, "x must lie between -1 and 1"),
            (dict(x=[[0, 0], [float("nan"), 0], [0, 1]], y=[0, 1, 0]), ValueError, "x must lie"),
            (dict(x=[[0, 0], [1, 0], [0, 1]], y=[0, 1, 0.3]), ValueError, "y must be among -1, -0.75"),
            (dict(x=[[0, 0], [0.04, 0], [0, 1]], y=[0, 1, 0]), ValueError, "at least 0.05 apart, got 0.04"),
            (dict(skip="line"), ValueError, "skip"),
            (dict(noise_std=-1), ValueError, "noise_std must be at least 0"),
            (dict(width=0), ValueError, "width must be at least 1"),
            (dict(width=201), ValueError, "width must be at most 200"),
            (dict(seed=2.5), TypeError, "seed must be an integer"),
        ],
    )
    def test_refused(self, arguments, error, message):
        with pytest.raises(error, match=message):
            ln.live_plane(**arguments)


@pytest.mark.site
class TestTheory:
    @pytest.mark.parametrize("preset", ["sign of x₁ x₂", "a bump", "at random"])
    def test_label_noise_comes_within_a_tenth_of_the_least_reg_of_python(self, browse, preset):
        def act(page):
            page.get_by_role("combobox", name="points").select_option(preset)
            first = advance(page, 0)
            best = python_least(first)
            assert first["optimum"]["reg"] == pytest.approx(best.reg, rel=1e-6)
            assert first["first"] > 3 * best.reg
            found = advance(page, 2_500_000)
            assert found["isOver"] and found["loss"] < 5e-3
            assert 0.97 * best.reg < found["reg"] < 1.1 * best.reg
            said = page.locator(f"{ROOT} .labelnoise-readout").inner_text()
            assert f"the least reg is {best.reg:.3f}, with " in said and "Done: reg" in said

        browse(page_of(), act=act, **STILL)

    def test_without_noise_reg_stays(self, browse):
        def act(page):
            found = advance(page, 200_000)
            assert found["noiseStd"] == 0 and found["reg"] > 3 * found["optimum"]["reg"]
            expect(page.locator(f"{ROOT} .labelnoise-readout")).to_contain_text("no noise: nothing pushes")
            page.get_by_role("button", name="Switch noise on").click()
            assert advance(page, 300_000)["reg"] < 2 * found["optimum"]["reg"]

        browse(page_of(noise_std=0), act=act, **STILL)

    @pytest.mark.parametrize(("words", "skip"), [("linear", True), ("none", False)])
    def test_the_pictures_are_those_of_the_networks(self, browse, words, skip):
        """Colours and creases are read off the parameters, as Python's models have them."""

        def act(page):
            page.get_by_role("combobox", name="skip unit").select_option(words)
            found = advance(page, 100)
            best = python_least(found, skip)
            assert found["optimum"]["reg"] == pytest.approx(best.reg, rel=1e-6)
            theta = torch.tensor(found["optimum"]["theta"], dtype=torch.float64)
            free = 3 if skip else 0
            model = ln.TwoLayerReLU((len(theta) - free) // 4, dim=2, skip=skip)
            torch.nn.utils.vector_to_parameters(theta, model.parameters())
            side = torch.linspace(-1.1, 1.1, 81, dtype=torch.float64)
            ground = torch.stack(torch.meshgrid(side, side, indexing="xy"), dim=-1).reshape(-1, 2) * torch.tensor([1.0, -1.0])
            with torch.no_grad():
                np.testing.assert_allclose(found["optimum"]["surface"], model(ground).numpy(), rtol=1e-5, atol=1e-5)
            assert len(found["optimum"]["creases"]) == found["optimum"]["units"] == model.c.numel()

        browse(page_of(), act=act, **STILL)


@pytest.mark.site
class TestHand:
    @pytest.mark.parametrize("view", VIEWS)
    @pytest.mark.parametrize("picture", [0, 1])
    def test_a_mouse_drags_in_either_picture_and_the_least_reg_follows(self, browse, view, picture):
        def act(page):
            before = advance(page, 500)
            x, y = place(page, 4)
            if picture:
                one, other = (page.get_by_role("img").nth(k).bounding_box() for k in (0, 1))
                x, y = x + other["x"] - one["x"], y + other["y"] - one["y"]
            page.mouse.move(x, y)
            page.mouse.down()
            page.mouse.move(x - 30, y + 40, steps=6)
            page.mouse.up()
            after = advance(page, 0)
            assert after["selected"] == 4
            moved = np.array(after["points"]) - before["points"]
            assert moved[4, 0] < -0.1 and moved[4, 1] < -0.1 and moved[4, 2] == 0
            assert not np.delete(moved, 4, axis=0).any()
            assert after["theta"] == before["theta"]  # the network lives through it
            assert after["t"] == 0
            assert after["optimum"]["reg"] == pytest.approx(python_least(after).reg, rel=1e-6)
            assert after["optimum"]["reg"] != pytest.approx(before["optimum"]["reg"], rel=1e-3)
            expect(page.get_by_role("combobox", name="points")).to_have_value("")

        browse(page_of(), act=act, view=view, **STILL)

    def test_a_finger_drags_and_does_not_scroll_the_page(self, browse):
        def act(page):
            session = page.context.new_cdp_session(page)
            x, y = place(page, 6)

            def touch(kind, *points):
                at = [{"x": a, "y": b} for a, b in points]
                session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

            touch("touchStart", (x, y))
            for k in range(1, 6):
                touch("touchMove", (x, y + 8 * k))
            touch("touchEnd")
            assert place(page, 6) == pytest.approx((x, y + 40), abs=1.5)
            assert page.evaluate("window.scrollY") == 0

        browse(page_of(), '<div style="height: 3000px"></div>', act=act, view="phone", has_touch=True, **STILL)

    def test_the_keyboard_moves_labels_adds_and_removes(self, browse):
        def act(page):
            first = advance(page, 0)["points"][2]
            point(page, 2).focus()
            page.keyboard.press("ArrowUp")
            page.keyboard.press("Shift+ArrowLeft")
            page.keyboard.press("-")
            moved = advance(page, 0)
            assert moved["points"][2] == pytest.approx([first[0] - 0.1, first[1] + 0.02, first[2]])  # -1 is the lowest
            page.keyboard.press("+")
            page.keyboard.press("PageUp")
            found = advance(page, 0)
            assert found["points"][2][2] == -0.5
            assert found["optimum"]["reg"] == pytest.approx(python_least(found).reg, rel=1e-6)
            name = f"Point 3 of 8: x1 = {first[0] - 0.1:.2f}, x2 = {first[1] + 0.02:.2f}, label -0.5"
            expect(point(page, 2)).to_have_attribute("aria-label", name)
            label = page.get_by_role("slider", name="label of point 3")
            expect(label).to_have_attribute("aria-valuetext", "-0.5")
            label.press("End")
            assert advance(page, 0)["points"][2][2] == 1
            point(page, 2).focus()
            page.keyboard.press("Delete")
            expect(page.get_by_role("button", name="Point 3 of 7")).to_be_focused()
            for _ in range(3):
                page.get_by_role("button", name="Add a point").press("Enter")
            expect(page.get_by_role("button", name="Point 10 of 10")).to_be_focused()
            expect(page.get_by_role("button", name="Add a point")).to_be_disabled()
            for _ in range(9):
                page.keyboard.press("Delete")
            assert len(advance(page, 0)["points"]) == 3
            expect(page.get_by_role("button", name="Remove a point")).to_be_disabled()

        browse(page_of(), act=act, **STILL)

    def test_points_keep_apart_and_inside(self, browse):
        def act(page):
            point(page, 0).focus()
            for _ in range(60):
                page.keyboard.press("ArrowRight")
            x, y, _ = advance(page, 0)["points"][0]
            assert x == pytest.approx(0.94) and y == 0  # the next step would be nearer than 0.05 to the one at 1
            page.keyboard.press("ArrowUp")
            for _ in range(10):
                page.keyboard.press("Shift+ArrowUp")
            assert advance(page, 0)["points"][0][1] == 1

        browse(page_of(**THREE), act=act, **STILL)

    def test_other_points_are_apart_and_new_each_time(self, browse):
        def act(page):
            seen = []
            for _ in range(3):
                page.get_by_role("button", name="Other points").click()
                found = advance(page, 0)
                x = torch.tensor(found["points"], dtype=torch.float64)
                assert len(x) == 8 and torch.pdist(x[:, :2]).min() >= 0.05 and x[:, :2].abs().max() <= 0.9
                assert found["optimum"]["reg"] == pytest.approx(python_least(found).reg, rel=1e-6)
                seen.append(found["points"])
            assert seen[0] != seen[1] != seen[2]

        browse(page_of(), act=act, **STILL)


@pytest.mark.site
class TestInABrowser:
    def test_runs_while_it_is_seen_and_only_then(self, browse):
        steps = f"document.querySelector('{ROOT}').advance(0).then(({{ run }}) => run.t)"

        def act(page):
            page.wait_for_function(f"async () => (await {steps}) > 30")
            expect(page.get_by_role("status")).to_have_text("")  # nothing aloud that nobody asked for
            page.evaluate("window.scrollTo(0, 1e6)")
            page.wait_for_timeout(500)
            before = page.evaluate(steps)
            page.wait_for_timeout(700)
            assert page.evaluate(steps) == before
            page.evaluate("window.scrollTo(0, 0)")
            page.wait_for_function(f"async () => (await {steps}) > {before + 30}")
            page.get_by_role("button", name="Pause").click()
            expect(page.get_by_role("status")).to_contain_text("Paused. Step")

        browse(page_of(), '<div style="height: 3000px"></div>', act=act)

    def test_waits_under_reduced_motion_with_the_least_reg_drawn(self, browse):
        def act(page):
            page.wait_for_timeout(700)
            assert advance(page, 0)["t"] == 0
            picture = page.get_by_role("img", name=re.compile("^The function of least reg through 8 points.* reg 7.55"))
            expect(picture).to_be_visible()
            page.get_by_role("button", name="Start", exact=True).click()
            page.wait_for_function(f"document.querySelector('{ROOT} .labelnoise-readout').textContent.match(/Step [1-9]/)")

        browse(page_of(), act=act, **STILL)

    @pytest.mark.parametrize("view", VIEWS)
    def test_everything_has_a_name_a_place_and_no_name_outside(self, browse, view):
        def act(page):
            assert [advance(page, 100 * number, number)["t"] for number in (0, 1)] == [0, 100]
            names = page.locator("button, input, select, canvas").evaluate_all(
                "(all) => all.map((one) => one.getAttribute('aria-label') || (one.labels?.[0] ?? one).textContent.trim())"
            )
            assert all(names)
            leaked = ["engine", "makeDrive", "makeDots", "leastReg", "solve", "drawPlane"]
            assert page.evaluate("(names) => names.filter((name) => name in window)", leaked) == []
            (corner,) = {
                tuple(one.evaluate("(one) => [...one.getContext('2d').getImageData(0, 0, 1, 1).data]"))
                for one in page.get_by_role("img").all()
            }
            assert corner == (255,) * 4

        browse(page_of(), page_of(**THREE), act=act, view=view, color_scheme="dark", **STILL)
