"""All units at rest on two data points: the page's solver against Python's, and what a hand does to the prices."""

import re

import numpy as np
import pytest
from browser import VIEWS
from figures import Fragment
from playgrounds import STILL
from playwright.sync_api import expect

import labelnoise_utils as ln

ROOT = ".labelnoise-solutions"
S = ln.several_data_points


def page_of(**settings):
    return ln.live_solutions(**settings)._repr_html_()


def solutions(page, prices=None, norms=None):
    """Units (m, 3) and their indices, of the page; at the prices under the hand if none are given."""
    script = "(root, [prices, norms]) => root.solutions(prices, norms)"
    found = page.locator(ROOT).evaluate(script, [prices, norms])
    return np.array([[one["c"], *one["h"]] for one in found]).reshape(-1, 3), [one["index"] for one in found]


class TestHtml:
    def test_is_the_same_for_the_same_settings_asks_for_nothing_and_has_labels(self):
        assert page_of() == page_of(sq_norm=np.float64(0.1)) != page_of(sq_norm=0.3)
        assert not re.search(r"https?:|url\(|@import|\bimport\b|\bsrc=|fetch\(", page_of())
        page = Fragment(page_of())
        assert len(page.of("input")) == len(page.of("label")) == 3
        assert len(page.of("canvas")) == 2
        assert len(page_of()) < 60_000

    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            (dict(prices=(1.3, 0)), ValueError, r"prices\[0\] must lie between 0 and 1,"),
            (dict(prices=(1, -0.7)), ValueError, r"prices\[1\] must lie between -0.5 and 0.5"),
            (dict(prices=0.4), TypeError, "prices must be a pair"),
            (dict(prices=("a", 0)), TypeError, r"prices\[0\] must be a number"),
            (dict(sq_norm=0), ValueError, "sq_norm must lie between 0.03 and 10"),
        ],
    )
    def test_what_is_refused(self, settings, error, message):
        with pytest.raises(error, match=message):
            ln.live_solutions(**settings)


@pytest.mark.site
class TestSolver:
    def test_finds_what_python_finds_to_twelve_digits(self, browse):
        rng = np.random.default_rng(5)
        cases = [([0.4, 0.02], [1.0, 0.1]), ([0.85, 0.0], [1.0, 0.3]), ([0.0, 0.0], [1.0, 1.0]), ([0.0, -0.3], [1.0, 2.0])]
        cases += [
            ((rng.normal(size=2) * 10 ** rng.uniform(-1.5, 0)).tolist(), [1.0, 10 ** rng.uniform(-1.5, 1)]) for _ in range(40)
        ]

        def act(page):
            for prices, norms in cases:
                found, indices = solutions(page, prices, norms)
                expected = S.units(prices, norms).numpy()
                assert found.shape == expected.shape, (prices, norms)
                np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
                if len(expected):
                    assert indices == S.lagrangian(expected, prices, norms).index.tolist()

        browse(page_of(), act=act, **STILL)


@pytest.mark.site
class TestHand:
    @pytest.mark.parametrize("view", VIEWS)
    def test_the_prices_are_dragged(self, browse, view):
        def act(page):
            plane = page.get_by_role("img").nth(0)
            plane.scroll_into_view_if_needed()
            size = plane.bounding_box()
            unit = min(size["width"] - 62, size["height"] - 68) / 1.0

            def at(first, second):
                return size["x"] + 50 + unit * first, size["y"] + size["height"] - 40 - unit * (second + 0.5)

            assert len(solutions(page)[0]) == 4
            page.mouse.move(*at(0.4, 0.02))
            page.mouse.down()
            page.mouse.move(*at(0.9, 0.3), steps=5)
            page.mouse.up()
            first, second = (page.get_by_role("slider", name=f"price μ{k}") for k in "₁₂")
            assert float(first.get_attribute("aria-valuetext")) == pytest.approx(0.9, abs=0.011)
            assert float(second.get_attribute("aria-valuetext")) == pytest.approx(0.3, abs=0.011)
            now = [float(one.get_attribute("aria-valuetext")) for one in (first, second)]
            np.testing.assert_allclose(solutions(page)[0], S.units(now, [1.0, 0.1]), rtol=1e-12)
            expect(page.locator(".labelnoise-readout")).to_contain_text("one unit is at rest")

        browse(page_of(), act=act, view=view, **STILL)

    def test_keys_move_them_and_words_follow(self, browse):
        def act(page):
            said = page.locator(".labelnoise-readout")
            expect(said).to_contain_text("At prices 0.4 and 0.02, with |x₂|² = 0.1, 4 units are at rest")
            expect(said).to_contain_text("One is a minimum of Γ")
            page.get_by_role("slider", name="price μ₁").press("End")
            page.get_by_role("slider", name="price μ₂").press("End")
            expect(page.get_by_role("status")).to_contain_text("At prices 1 and 0.5")
            assert solutions(page)[0].shape == S.units([1.0, 0.5], [1.0, 0.1]).shape
            page.get_by_role("slider", name="|x₂|²").press("End")
            expect(page.get_by_role("status")).to_contain_text("|x₂|² = 10")
            expect(page.get_by_role("img").nth(1)).to_have_attribute("aria-label", re.compile("solution.*index"))

        browse(page_of(), act=act, **STILL)
