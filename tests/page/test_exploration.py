"""Figures that move: what is refused."""

import subprocess
import sys

import numpy as np
import pytest
from figures import draw

import labelnoise_utils as ln


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
