"""Sigmoid units on a page: where the theory has them, which classes they form, and what a hand does to the label."""

import re

import numpy as np
import pytest
import torch
from playgrounds import STILL
from playwright.sync_api import expect

import labelnoise_utils as ln

ROOT = ".labelnoise-units"


def page_of(*args, **settings):
    return ln.live_units(*args, **settings)._repr_html_()


def advance(page, steps, number=0):
    return page.locator(ROOT).nth(number).evaluate("(root, steps) => root.advance(steps)", steps)


def network(result, activation):
    """The same network in torch."""
    theta = torch.tensor(result["theta"], dtype=torch.float64)
    model = ln.TwoLayerSigmoidal(result["width"], 1, activation)
    with torch.no_grad():
        model.w.copy_(theta[: result["width"], None])
        model.c.copy_(theta[result["width"] :])
    return model


ONE = torch.ones(1, 1, dtype=torch.float64)


@pytest.mark.site
class TestTheory:
    @pytest.mark.parametrize("activation", ["tanh", "logistic"])
    def test_the_marks_are_minima_of_reg(self, browse, activation):
        cases = [(width, y) for width in (2, 3, 6, 20) for y in (0.25, 1.0, 1.5, 3.0)]

        def act(page):
            for number, (width, y) in enumerate(cases):
                result = advance(page, 0, number)
                assert len(result["minima"]) in (1, 2)
                for minimum in result["minima"]:
                    outputs = torch.tensor([o for o, count in minimum for _ in range(count)], dtype=torch.float64)
                    assert len(outputs) == width
                    assert outputs.sum().item() == pytest.approx(y, abs=1e-9)
                    model = ln.one_data_point.network(outputs, ONE, activation)
                    assert ln.is_non_repellent(model, ONE, torch.tensor([y], dtype=torch.float64), tol=1e-6)
                    slope = ln.one_data_point.slope(outputs, activation)
                    curvature = ln.one_data_point.curvature(outputs, activation)
                    active = outputs > 0
                    assert np.ptp(slope[active].numpy()) < 1e-6
                    # From a stationary point with one negative curvature: down along the tangent unless their inverses add up.
                    negative = curvature[active] < 0
                    assert negative.sum() <= 1
                    if negative.any() and active.sum() > 1:
                        assert (1 / curvature[active]).sum() < 0

        browse(*(page_of(activation, width=width, y=y) for width, y in cases), act=act, **STILL)

    @pytest.mark.parametrize("activation", ["tanh", "logistic"])
    def test_classes_are_those_of_the_package(self, browse, activation):
        def act(page):
            for steps in (0, 1000, 20_000, 100_000):
                result = advance(page, steps)
                model = network(result, activation)
                if activation == "tanh":  # here (c, h) and (-c, -h) are the same unit
                    with torch.no_grad():
                        flip = model.w[:, 0].sign()
                        model.c.mul_(flip)
                        model.w.mul_(flip[:, None])
                expected = ln.unit_classes(model, ONE, tol=result["tol"])
                silent = [int(k) for k in torch.nonzero(expected.silent[expected.labels])[:, 0]]
                assert sorted(result["silent"]) == silent
                sizes = sorted(len(members) for members in result["active"])
                assert sizes == sorted(expected.sizes[~expected.silent].tolist())

        browse(page_of(activation), act=act, **STILL)

    def test_one_tanh_unit_is_left(self, browse):
        cases = [dict(y=1.0, seed=1), dict(y=2.5, seed=2), dict(y=0.5, seed=3, width=6)]

        def act(page):
            for number, case in enumerate(cases):
                result = advance(page, 1_000_000, number)
                (active,) = result["active"]
                assert len(active) == 1
                assert len(result["silent"]) == case.get("width", 20) - 1
                c, h = (float(value) for value in ln.one_data_point.unit(case["y"], "tanh"))
                unit = result["units"][active[0]]
                # The cloud's standard deviation is sqrt(lr); h moves at most as far as w.
                assert abs(abs(unit["c"]) - c) < 5 * result["tol"] and abs(abs(unit["h"]) - h) < 5 * result["tol"]
                said = page.locator(".labelnoise-readout").nth(number)
                expect(said).to_contain_text("the error is at its floor; one active unit")

        browse(*(page_of(**case) for case in cases), act=act, **STILL)

    def test_without_noise_no_unit_falls_silent(self, browse):
        def act(page):
            first = advance(page, 10_000)
            later = advance(page, 1_000_000)
            assert len(later["silent"]) <= 4
            np.testing.assert_allclose(later["theta"], first["theta"], atol=1e-9)
            expect(page.locator(".labelnoise-readout")).to_contain_text("without noise nothing moves")

        browse(page_of(noise_std=0), act=act, **STILL)


@pytest.mark.site
class TestHand:
    def test_the_label_is_dragged_while_it_goes_on(self, browse):
        def act(page):
            advance(page, 5000)
            picture = page.get_by_role("img").nth(1)
            area = picture.bounding_box()
            grip = picture.evaluate("(one) => one.getBoundingClientRect().right - 24") + 0
            label = page.get_by_role("slider", name="label y")
            rows = [y for y in range(int(area["y"]) + 30, int(area["y"] + area["height"]) - 40, 6)]
            for row in rows:  # the handle is where the mouse becomes a hand
                page.mouse.move(grip, row)
                if picture.evaluate("(one) => one.style.cursor") == "grab":
                    break
            page.mouse.down()
            page.mouse.move(grip, row - 40, steps=4)
            page.mouse.up()
            expect(label).not_to_have_attribute("aria-valuetext", "1")
            result = advance(page, 0)
            assert result["t"] == 5000 and result["y"] > 1.2
            assert abs(sum(unit["o"] for unit in advance(page, 2000)["units"]) - result["y"]) < 2

        browse(page_of(), act=act, **STILL)

    def test_a_finger_drags_the_label_too(self, browse):
        def act(page):
            picture = page.get_by_role("img").nth(1)
            picture.scroll_into_view_if_needed()
            area = picture.bounding_box()
            touch = page.context.new_cdp_session(page)
            x, rows = area["x"] + area["width"] - 24, range(int(area["y"]) + 40, int(area["y"] + area["height"]) - 45, 10)
            for row in rows:
                touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": row}]})
                for k in range(1, 4):
                    point = {"x": x, "y": row - 10 * k}
                    touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
                touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
                if advance(page, 0)["y"] != 1:
                    break
            assert advance(page, 0)["y"] > 1

        browse(page_of(), act=act, view="phone", has_touch=True, **STILL)

    def test_what_starts_anew_and_what_does_not(self, browse):
        def act(page):
            for name, key, anew in (
                ("label y", "ArrowRight", False),
                ("noise σ", "ArrowLeft", False),
                ("units", "ArrowLeft", True),
                ("speed", "ArrowRight", False),
            ):
                advance(page, 100)
                before = advance(page, 0)["t"]
                page.get_by_role("slider", name=name).press(key)
                assert advance(page, 0)["t"] == (0 if anew else before)
            assert len(advance(page, 0)["units"]) == 15
            page.get_by_role("combobox", name="activation").select_option("logistic")
            first = advance(page, 0)
            assert first["t"] == 0 and all(0 < unit["h"] < 1 for unit in first["units"])
            page.get_by_role("button", name="New start").click()
            assert advance(page, 0)["theta"] != first["theta"]
            expect(page.get_by_role("status")).to_have_text(re.compile("^Paused. Step 0: "))

        browse(page_of(), act=act, **STILL)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            (dict(activation="relu"), ValueError, "activation must be one of tanh, logistic, got 'relu'"),
            (dict(width=0), ValueError, "width must be at least 1, got 0"),
            (dict(width=61), ValueError, "width must be at most 60, got 61"),
            (dict(width=2.0), TypeError, "width must be an integer"),
            (dict(y=0), ValueError, "y must lie between 0.25 and 3, got 0"),
            (dict(y="1"), TypeError, "y must be"),
            (dict(noise_std=-1), ValueError, "noise_std must be at least 0"),
            (dict(lr=0), ValueError, "lr must be positive"),
            (dict(lr=0.2), ValueError, "lr must lie between 0 and 0.1, got 0.2"),
            (dict(seed=-1), ValueError, "seed must be at least 0, got -1"),
        ],
    )
    def test_settings(self, settings, error, message):
        with pytest.raises(error, match=message):
            ln.live_units(**settings)
