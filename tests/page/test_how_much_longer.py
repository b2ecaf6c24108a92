"""Predict, then reveal: the answer, the measurement, its standard error, and the law beside it."""

import math
import re
from importlib.resources import files

import numpy as np
import pytest
from browser import VIEWS
from playgrounds import STILL
from playwright.sync_api import expect

import labelnoise_utils as ln

ROOT = ".labelnoise-longer"


def page_of(*args, **settings):
    return ln.how_much_longer(*args, **settings)._repr_html_()


def measure(page, number=0):
    return page.locator(ROOT).nth(number).evaluate("(root) => root.advance()")


@pytest.mark.site
class TestMeasurement:
    def test_meets_the_law(self, browse):
        cases = [("noise", 2), ("noise", 0.5), ("lr", 0.5), ("lr", 2), ("batch", 2), ("batch", 8)]
        laws = [1 / 4, 4, 4, 1 / 4, 2, 8]

        def act(page):
            for number, ((change, by), law) in enumerate(zip(cases, laws, strict=True)):
                result = measure(page, number)
                assert result["law"] == pytest.approx(law, rel=1e-12)
                assert not any(result["diverged"]) and result["runs"] == 100
                lr = 0.005 * (max(by, 1) if change == "lr" else 1)
                pull = lr * (3**2 + 1 / 9)  # the law is that of small ones; what the errors leave is of second order
                assert result["withError"] == pytest.approx(law, rel=2 * pull)
                tolerance = 5 * result["error"] / result["ratio"] + 2 * pull**2
                assert result["ratio"] == pytest.approx(result["withError"], rel=tolerance), (change, by)
                assert 0 < result["error"] < 0.05 * result["ratio"]
                said = page.locator(".labelnoise-readout").nth(number).inner_text()
                measured, error = map(float, re.search(r"just now: ([\d.]+) ± ([\d.]+) times", said).groups())
                assert measured == pytest.approx(result["ratio"], abs=0.6 * error)

        browse(*(page_of(*case, seed=7) for case in cases), act=act, **STILL)

    def test_on_the_relu_network(self, browse):
        def act(page):
            result = measure(page)
            assert not any(result["diverged"]) and result["runs"] == 6
            # lr reg is .1 to .2 at these starts; twice its square, and the standard error.
            assert result["ratio"] == pytest.approx(result["withError"], rel=0.08 + 5 * result["error"] / result["ratio"])
            assert 1 / 5 < result["ratio"] < 1 / 3

        browse(page_of("noise", 2, model="relu"), act=act, **STILL)

    def test_other_seeds_are_another_measurement_within_its_error(self, browse):
        def act(page):
            results = [measure(page, number) for number in range(8)]
            ratios = np.log([result["ratio"] for result in results])
            errors = np.array([result["error"] / result["ratio"] for result in results])
            assert len(set(ratios)) == 8
            # Eight standard normal numbers: their chi^2 with 7 degrees of freedom is below 24.3 in 99.9% and above .6.
            chi2 = (((ratios - ratios.mean()) / errors) ** 2).sum()
            assert 0.6 < chi2 < 24.3

        browse(*(page_of("lr", 0.5, seed=seed) for seed in range(8)), act=act, **STILL)

    def test_the_standard_error_is_the_jackknifes(self, browse):
        rng = np.random.default_rng(3)
        t = 100 * 1.3 ** np.arange(20)
        rates = [rng.uniform(0.8, 1.2, 5) / 2000, rng.uniform(0.8, 1.2, 5) / 6000]
        clouds = [np.exp(-t[:, None] * rate) for rate in rates]

        def crossing(mean):
            j = int(np.argmax(mean <= 0.5))
            part = (mean[j - 1] - 0.5) / (mean[j - 1] - mean[j])
            return math.exp((1 - part) * math.log(t[j - 1]) + part * math.log(t[j]))

        def log_ratio(kept):
            before, after = (crossing(cloud[:, kept].mean(axis=1)) for cloud in clouds)
            return math.log(after / before)

        without = np.array([log_ratio([k for k in range(5) if k != left]) for left in range(5)])
        error = math.sqrt(4 / 5 * ((without - without.mean()) ** 2).sum())

        def act(page):
            page.add_script_tag(path=str(files("labelnoise_utils.page").joinpath("longer_measured.js")))
            given = [
                [{"t": at, "reg": row.tolist(), "mean": row.mean()} for at, row in zip(t.tolist(), cloud, strict=True)]
                for cloud in clouds
            ]
            result = page.evaluate("([first, second]) => compare({ windows: first }, { windows: second })", given)
            ratio = math.exp(log_ratio(range(5)))
            assert result["ratio"] == pytest.approx(ratio, rel=1e-12)
            assert result["error"] == pytest.approx(ratio * error, rel=1e-9)

        browse(act=act)


@pytest.mark.site
class TestInABrowser:
    @pytest.mark.parametrize("view", VIEWS)
    def test_nothing_is_told_before_the_answer(self, browse, view):
        def act(page):
            said, axis = page.locator(".labelnoise-readout"), page.get_by_role("img")
            expect(said).to_contain_text("Answer first")
            expect(axis).to_have_count(1)
            expect(page.get_by_role("strong")).to_be_visible()
            page.wait_for_timeout(300)
            expect(said).to_contain_text("Answer first")
            page.keyboard.press("Tab")
            slider, number = page.get_by_role("slider"), page.get_by_role("spinbutton")
            expect(slider).to_be_focused()
            page.keyboard.press("ArrowRight")
            expect(number).to_have_value("1")  # 2^.05
            expect(slider).to_have_attribute("aria-valuetext", "1.04 times as many steps")
            page.keyboard.press("Tab")
            expect(number).to_be_focused()
            number.fill("3")
            expect(axis).to_have_attribute("aria-label", re.compile("yours is 3"))
            page.keyboard.press("Tab")
            expect(page.get_by_role("button", name="Reveal")).to_be_focused()
            page.keyboard.press("Enter")
            expect(said).to_contain_text("Measured just now: 4.0", timeout=30_000)
            expect(said).to_contain_text("You said 3. The law predicts 4; the error that the jitter itself makes adds a little")
            expect(page.get_by_role("status")).to_contain_text("Measured just now")
            expect(axis).to_have_count(2)
            expect(slider).to_be_disabled()
            expect(page.get_by_role("button", name="Guess again")).to_be_focused()
            page.keyboard.press("Enter")
            expect(said).to_contain_text("Answer first")
            expect(slider).to_be_enabled()
            expect(slider).to_be_focused()

        browse(page_of("lr", 0.5), act=act, view=view, **STILL)

    def test_the_mark_is_dragged(self, browse):
        def act(page):
            axis = page.get_by_role("img")
            area = axis.bounding_box()
            page.mouse.move(area["x"] + area["width"] / 2, area["y"] + 60)
            page.mouse.down()
            page.mouse.move(area["x"] + area["width"] - 2, area["y"] + 60, steps=5)
            page.mouse.up()
            expect(page.get_by_role("spinbutton")).to_have_value("8")
            expect(axis).to_have_attribute("aria-label", re.compile("yours is 8"))

        browse(page_of(), act=act, view="phone")


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("args", "settings", "error", "message"),
        [
            (("sigma",), {}, ValueError, "change must be one of noise, lr, batch, got 'sigma'"),
            ((), dict(model="mlp"), ValueError, "model must be one of product, relu, got 'mlp'"),
            (("batch", 2), dict(model="relu"), ValueError, "change='batch' is measured on model='product' only"),
            (("batch", 2.0), {}, TypeError, "by must be an integer"),
            (("batch", 9), {}, ValueError, "by must be at most 8, got 9"),
            (("lr", 0), {}, ValueError, "by must be positive"),
            (("lr", 1), {}, ValueError, "by must not be 1"),
            (("noise", 3), {}, ValueError, "the law's answer, 0.111111, must lie between 1/8 and 8; got 3"),
            (("noise", "2"), {}, TypeError, "by must be"),
            ((), dict(seed=1.5), TypeError, "seed must be an integer"),
        ],
    )
    def test_settings(self, args, settings, error, message):
        with pytest.raises(error, match=message):
            ln.how_much_longer(*args, **settings)

    def test_the_question_in_words(self):
        assert repr(ln.how_much_longer()).startswith("Double the noise σ. How many times as many steps")
        assert repr(ln.how_much_longer("lr", 2 / 3)).startswith("Multiply the learning rate by 2/3. ")
