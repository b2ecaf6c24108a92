"""Matrix sensing on a page: its data and measures beside NumPy's, and what noise finds where nothing else would."""

import numpy as np
import pytest
from playgrounds import STILL
from playwright.sync_api import expect

import labelnoise_utils as ln

ROOT = ".labelnoise-sensing"


def page_of(**settings):
    return ln.live_sensing(**settings)._repr_html_()


def advance(page, steps, number=0):
    return page.locator(ROOT).nth(number).evaluate("(root, steps) => root.advance(steps)", steps)


@pytest.mark.site
class TestNumbers:
    def test_data_and_measures_are_numpys(self, browse):
        def act(page):
            result = advance(page, 3000)
            d, n = result["dim"], result["n"]
            assert (d, n) == (9, 20)
            x, target = np.reshape(result["x"], (n, d, d)), np.reshape(result["target"], (d, d))
            assert abs(x.mean()) < 5 / x.size**0.5 and abs(x.var() - 1) < 5 * (2 / x.size) ** 0.5
            np.testing.assert_allclose(result["y"], np.tensordot(x, target, axes=2), atol=1e-12)
            assert np.linalg.matrix_rank(target) == 1
            for name in ("noisy", "plain"):
                u = np.reshape(result[f"{name}Theta"], (d, d))
                matrix = u @ u.T
                np.testing.assert_allclose(result[name], np.linalg.eigvalsh(matrix)[::-1], atol=1e-12)
                error = ((matrix - target) ** 2).sum() / (target**2).sum()
                assert result[f"{name}Error"] == pytest.approx(error, rel=1e-12)
            residuals = np.tensordot(x, matrix, axes=2) - result["y"]
            assert result["plainLoss"] == pytest.approx((residuals**2).mean(), rel=1e-9)

        browse(page_of(dim=9, measurements=20, seed=5), act=act, **STILL)

    def test_noise_finds_the_matrix_and_without_it_another_one_fits(self, browse):
        seeds = [0, 1, 2]
        bound = ln.psd_uniqueness_bound(12, 1)

        def act(page):
            for number in range(len(seeds)):
                result = advance(page, 500_000, number)
                assert result["n"] < bound and not result["diverged"]
                assert result["plainLoss"] < 1e-8
                assert result["plainError"] > 1  # worse than the guess that it is 0
                assert result["noisyError"] < 0.1
                assert result["noisy"][1] < 0.1 * result["noisy"][0]
                said = page.locator(".labelnoise-readout").nth(number)
                expect(said).to_contain_text("Without noise the 32 numbers are fitted, by another matrix: test error")
                expect(said).to_contain_text("Fewer than 45 measurements")

        browse(*(page_of(seed=seed) for seed in seeds), act=act, **STILL)

    def test_beyond_the_bound_there_is_nothing_to_choose(self, browse):
        def act(page):
            result = advance(page, 100_000)
            assert result["plainError"] < 0.01
            said = page.locator(".labelnoise-readout")
            expect(said).to_contain_text("Without noise they are fitted by the same matrix")
            expect(said).to_contain_text("More than 45 measurements")

        browse(page_of(measurements=80), act=act, **STILL)

    def test_without_noise_both_are_the_same(self, browse):
        def act(page):
            result = advance(page, 2000)
            assert result["noisyTheta"] == result["plainTheta"]
            page.get_by_role("slider", name="noise σ").press("End")
            later = advance(page, 2000)
            assert later["t"] == 4000 and later["noisyTheta"] != later["plainTheta"]
            page.get_by_role("slider", name="measurements n").press("ArrowRight")
            assert advance(page, 0)["t"] == 0

        browse(page_of(noise_std=0), act=act, **STILL)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            (dict(dim=3), ValueError, "dim must be at least 4, got 3"),
            (dict(dim=17), ValueError, "dim must be at most 16, got 17"),
            (dict(dim=8.0), TypeError, "dim must be an integer"),
            (dict(measurements=0), ValueError, "measurements must be at least 4, got 0"),
            (dict(noise_std=-1), ValueError, "noise_std must be at least 0"),
            (dict(step_size=1), ValueError, "step_size must lie between 0.01 and 0.99, got 1"),
            (dict(seed=2**32), ValueError, "seed must be at most 4294967295"),
        ],
    )
    def test_settings(self, settings, error, message):
        with pytest.raises(error, match=message):
            ln.live_sensing(**settings)
