"""The network on a line: what is refused, its HTML, and in a browser what it does untouched and under the hand."""

import json
import re
from html import unescape
from urllib.parse import parse_qs

import numpy as np
import pytest
import torch
from browser import VIEWS
from figures import Fragment
from playgrounds import STILL
from playwright.sync_api import expect

import labelnoise_utils as ln

ROOT = ".labelnoise-network"
# Plain numbers only, since a promise of typed arrays does not travel.
ADVANCE = """async (root, steps) => {
    const { runs, first, settled, histories, points } = await root.advance(steps);
    const plain = ({ theta, curve, ...rest }) => ({ ...rest, theta: [...theta], curve: [...curve] });
    return { runs: runs.map(plain), first: plain(first), settled, histories, points };
}"""


def page_of(*args, **settings):
    return ln.live_network(*args, **settings)._repr_html_()


def advance(page, steps, number=0):
    return page.locator(ROOT).nth(number).evaluate(ADVANCE, steps)


def until(page, is_there, most=4_000_000, piece=100_000):
    """What there is after the first piece of steps with which something holds."""
    for _ in range(0, most, piece):
        found = advance(page, piece)
        if is_there(found):
            return found
    raise AssertionError(f"not after {most} steps")


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (dict(lr=0), ValueError, "lr must be positive, got 0"),
            (dict(lr="1"), TypeError, "lr must be a number"),
            (dict(noise_std=-1), ValueError, "noise_std must be at least 0, got -1"),
            (dict(width=0), ValueError, "width must be at least 1, got 0"),
            (dict(width=501), ValueError, "width must be at most 500, got 501"),
            (dict(width=2.5), TypeError, "width must be an integer"),
            (dict(seed=2**32), ValueError, "seed must be at most"),
            (dict(x=[0, 1]), ValueError, "x and y are given together"),
            (dict(x=[0, 1], y=[0]), ValueError, "same shape"),
            (dict(x=[0], y=[0]), ValueError, "n from 2 to 40"),
            (dict(x=[0] * 41, y=[0] * 41), ValueError, "n from 2 to 40"),
            (dict(x=[0, 1.1], y=[0, 0]), ValueError, "x must lie between -1 and 1"),
            (dict(x=[0, 1], y=[0, float("nan")]), ValueError, "y between"),
        ],
    )
    def test_refused(self, arguments, error, message):
        with pytest.raises(error, match=message):
            ln.live_network(**arguments)


def settings_of(page):
    return json.loads(unescape(re.search(r'data-settings="([^"]*)"', page)[1]))


class TestHtml:
    def test_presets_have_the_twelve_points_and_what_was_given(self):
        x, y = ln.twelve_points()
        settings = settings_of(page_of())
        np.testing.assert_allclose(settings["presets"]["twelve"], np.stack([x, y], axis=1), atol=1e-6)
        assert settings["start"] == "twelve" and list(settings["presets"]) == ["twelve", "bumps", "sine", "step"]
        own = settings_of(page_of([0, 1], torch.tensor([0.5, -0.5])))
        assert own["start"] == "given" and own["presets"]["given"] == [[0, 0.5], [1, -0.5]]

    def test_a_slider_offers_what_was_given(self):
        inputs = {one["name"]: one for one in Fragment(page_of(lr=0.0123, width=33, seed=77, noise_std=0.4)).of("input")}
        for name, value in dict(lr=0.0123, width=33, seed=77, noise_std=0.4).items():
            values = json.loads(inputs[name]["data-values"])
            assert values[int(inputs[name]["value"])] == value and values == sorted(set(values))
            assert len(json.loads(inputs[name]["data-texts"])) == len(values)


@pytest.mark.site
class TestUntouched:
    def test_fits_then_reg_falls_to_a_tenth_and_the_function_turns_straight(self, browse):
        """Three starts; without noise beside each nothing of the kind."""

        def act(page):
            for seed in range(3):
                page.get_by_role("slider", name="start (seed)").fill(str(seed))
                early = advance(page, 10_000)
                assert early["settled"]
                assert early["runs"][0]["reg"] > 0.7 * early["first"]["reg"]
                found = until(page, lambda one: one["runs"][0]["reg"] < one["first"]["reg"] / 10)
                assert "Training error at its floor" in page.locator(".labelnoise-readout").inner_text()
                found = until(page, lambda one: one["runs"][0]["isOver"], most=20_000_000, piece=500_000)
                noisy, plain = found["runs"]
                assert noisy["changes"] <= 4 < plain["changes"]
                assert max(noisy["loss"], plain["loss"]) < 1e-2
                assert noisy["reg"] < found["first"]["reg"] / 10 and plain["reg"] > found["first"]["reg"] / 2
                said = page.locator(".labelnoise-readout").inner_text()
                assert "Done: reg" in said and f"without noise {plain['changes']}" in said

        browse(page_of(), act=act, **STILL)

    def test_what_is_shown_is_what_python_finds_for_the_same_parameters(self, browse):
        x, y = (torch.tensor(values) for values in np.round(np.array(ln.twelve_points()), 6))

        def act(page):
            found = advance(page, 3000)
            assert [one["t"] for one in found["runs"]] == [3000, 3000]
            for run in found["runs"]:
                model = ln.TwoLayerReLU(50)
                torch.nn.utils.vector_to_parameters(torch.tensor(run["theta"], dtype=torch.float64), model.parameters())
                with torch.no_grad():
                    loss = (model(x) - y).square().mean().item()
                    curve = model(torch.linspace(-1, 1, 401, dtype=torch.float64)).numpy()
                assert run["loss"] == pytest.approx(loss, rel=1e-10)
                assert run["reg"] == pytest.approx(ln.implicit_regularizer(model, x).item(), rel=1e-12)
                np.testing.assert_allclose(run["curve"], curve, rtol=1e-5, atol=1e-6)
                # On a coarser grid, on which a kink may hide a turn.
                assert abs(run["changes"] - ln.convexity_changes(model, -1, 1, tol=0.1)) <= 2

        browse(page_of(), act=act, **STILL)

    def test_runs_while_it_is_seen_and_only_then(self, browse):
        steps = f"document.querySelector('{ROOT}').advance(0).then(({{ runs }}) => runs[0].t)"

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

    def test_waits_under_reduced_motion(self, browse):
        def act(page):
            page.wait_for_timeout(700)
            assert advance(page, 0)["runs"][0]["t"] == 0
            page.get_by_role("button", name="Start", exact=True).click()
            page.wait_for_function(f"document.querySelector('{ROOT} .labelnoise-speed').textContent.includes('a frame')")

        browse(page_of(), act=act, **STILL)

    def test_says_below_what_the_learning_rate_has_to_be(self, browse):
        def act(page):
            bound = advance(page, 0)["first"]["largestRate"]
            found = advance(page, 2000)
            assert found["runs"][0]["diverged"]
            said = page.locator(".labelnoise-readout").inner_text()
            assert said.startswith("Diverged at step")
            assert f"must be below {float(f'{bound:.2g}'):g}" in said
            page.get_by_role("slider", name="learning rate").press("Home")  # that starts anew
            assert advance(page, 20_000)["settled"]

        browse(page_of(lr=0.05), act=act, **STILL)


def place(page, number):
    box = page.locator(".labelnoise-dots button").nth(number).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.mark.site
class TestPoints:
    @pytest.mark.parametrize("view", VIEWS)
    def test_a_mouse_drags_adds_and_removes(self, browse, view):
        def act(page):
            before = advance(page, 500)
            x, y = place(page, 4)
            page.mouse.move(x, y)
            page.mouse.down()
            page.mouse.move(x, y - 30, steps=5)
            page.mouse.up()
            after = advance(page, 0)
            assert place(page, 4) == pytest.approx((x, y - 30), abs=1.5)
            assert after["points"][4][1] > before["points"][4][1] + 0.1
            assert [after["points"][k] for k in (3, 5)] == [before["points"][k] for k in (3, 5)]
            assert after["runs"][0]["theta"] == before["runs"][0]["theta"]  # the network lives through it
            assert after["runs"][0]["t"] == 0 and after["runs"][0]["loss"] > before["runs"][0]["loss"] / 2
            assert advance(page, 1000)["runs"][0]["loss"] < 0.5
            page.locator("canvas").first.dblclick(position={"x": 120, "y": 40})
            assert len(advance(page, 0)["points"]) == 13
            page.get_by_role("button", name="Remove a point").click()
            assert advance(page, 0)["points"] == after["points"]

        browse(page_of(), act=act, view=view, **STILL)

    def test_the_keyboard_moves_adds_and_removes(self, browse):
        def act(page):
            for _ in range(3):
                page.keyboard.press("Tab")
            point = page.get_by_role("button", name="Point 3 of 12")
            expect(point).to_be_focused()
            first = advance(page, 0)["points"][2]
            page.keyboard.press("ArrowUp")
            page.keyboard.press("Shift+ArrowLeft")
            assert advance(page, 0)["points"][2] == pytest.approx([first[0] - 0.1, first[1] + 0.02])
            expect(point).to_have_attribute("aria-label", f"Point 3 of 12: x = {first[0] - 0.1:.2f}, y = {first[1] + 0.02:.2f}")
            page.keyboard.press("Delete")
            expect(page.locator(".labelnoise-dots button")).to_have_count(11)
            expect(page.get_by_role("button", name="Point 3 of 11")).to_be_focused()
            page.get_by_role("button", name="Add a point").press("Enter")
            expect(page.get_by_role("button", name="Point 12 of 12")).to_be_focused()
            for _ in range(80):  # no further than what is drawn
                page.keyboard.press("ArrowDown")
            assert advance(page, 0)["points"][11][1] == -0.95
            for _ in range(12):
                page.keyboard.press("Delete")
            expect(page.locator(".labelnoise-dots button")).to_have_count(2)
            expect(page.get_by_role("button", name="Remove a point")).to_be_disabled()

        browse(page_of(), act=act, **STILL)

    def test_a_finger_drags_and_does_not_scroll_the_page(self, browse):
        def act(page):
            session = page.context.new_cdp_session(page)
            x, y = place(page, 6)

            def touch(kind, *points):
                at = [{"x": a, "y": b} for a, b in points]
                session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

            touch("touchStart", (x, y))
            for k in range(1, 6):
                touch("touchMove", (x, y - 10 * k))
            touch("touchEnd")
            assert place(page, 6) == pytest.approx((x, y - 50), abs=1.5)
            assert page.evaluate("window.scrollY") == 0

        browse(page_of(), '<div style="height: 3000px"></div>', act=act, view="phone", has_touch=True, **STILL)


@pytest.mark.site
class TestSettings:
    def test_the_address_holds_what_was_chosen_and_gives_it_back(self, browse):
        def act(page):
            assert "#" not in page.url
            page.get_by_role("combobox", name="points").select_option("two bumps")
            page.get_by_role("slider", name="hidden units").press("ArrowLeft")
            page.get_by_role("slider", name="learning rate").press("End")
            page.get_by_role("slider", name="noise").press("Home")
            page.get_by_role("button", name="Switch noise off").click()
            chosen = {name: value for name, (value,) in parse_qs(page.url.split("#network?")[1]).items()}
            assert chosen == dict(points="bumps", noise_std="0.1", lr="0.05", width="20", seed="0", noise="off")
            page.get_by_role("button", name="Point 1 of").focus()
            page.keyboard.press("ArrowUp")
            address, before = page.url, advance(page, 0)["points"]
            page.goto("about:blank")
            page.goto(address)
            found = advance(page, 0)
            np.testing.assert_allclose(found["points"], before, atol=6e-4)
            assert len(found["runs"][0]["theta"]) == 3 * 20 + 2 and found["runs"][0]["noiseStd"] == 0
            expect(page.get_by_role("slider", name="learning rate")).to_have_attribute("aria-valuetext", "0.05")
            expect(page.get_by_role("button", name="Switch noise on")).to_be_visible()
            page.evaluate("location.hash = '#network?points=sine&width=7&seed=no&lr=0.001'")  # what is not offered stays
            expect(page.get_by_role("combobox", name="points")).to_have_value("sine")
            assert len(advance(page, 0)["runs"][0]["theta"]) == 3 * 20 + 2
            page.evaluate("location.hash = '#a-section-of-the-page'")
            assert page.url.endswith("#a-section-of-the-page")
            expect(page.get_by_role("combobox", name="points")).to_have_value("sine")

        browse(page_of(), act=act, **STILL)

    def test_noise_is_switched_while_the_network_lives(self, browse):
        def act(page):
            page.get_by_role("button", name="Switch noise off").click()
            quiet = advance(page, 300_000)
            assert quiet["runs"][0]["noiseStd"] == 0 and quiet["runs"][0]["theta"] == quiet["runs"][1]["theta"]
            assert "nothing pushes" in page.locator(".labelnoise-readout").inner_text()
            page.get_by_role("button", name="Switch noise on").click()
            assert advance(page, 0)["runs"][0]["theta"] == quiet["runs"][0]["theta"]
            assert advance(page, 100)["runs"][0]["theta"] != quiet["runs"][0]["theta"]

        browse(page_of(), act=act, **STILL)

    def test_everything_has_a_name_and_several_figures_live_apart(self, browse):
        def act(page):
            advance(page, 100, 1)
            assert [advance(page, 0, number)["runs"][0]["t"] for number in (0, 1)] == [0, 100]
            names = page.locator("button, input, select, canvas").evaluate_all(
                "(all) => all.map((one) => one.getAttribute('aria-label') || (one.labels?.[0] ?? one).textContent.trim())"
            )
            assert all(names)
            for number, words in enumerate(
                ("Functions of two networks through 12 points", "Training error", "reg", "Convexity")
            ):
                expect(page.get_by_role("img").nth(number)).to_have_attribute("aria-label", re.compile(f"^{words} "))
            assert page.evaluate("['engine', 'serve', 'makeEngine'].filter((name) => name in window)") == []

        browse(page_of(), page_of(width=10, seed=1), act=act, **STILL)
