"""Bad input gets an error that names it: one test for a whole table of such input, one for every way to reg."""

import pytest
import torch
from unchanged import assert_as_it_was, snapshot
from zoo import METHODS

import labelnoise_utils as ln


def refusals(table, call=lambda bad: bad()):
    """A test for each entry of the table, (input, error, pattern of the message): ``call`` on the input is refused so.

    By default the input is the call itself.
    """

    @pytest.mark.parametrize("case", table)
    def test_bad_input_is_named(case):
        bad, error, message = table[case]
        with pytest.raises(error, match=message):
            call(bad)

    return test_bad_input_is_named


WAYS = [*METHODS, "estimate"]


def regularize(model, x, way):
    if way == "estimate":
        return ln.estimate_regularizer(model, x).value
    return ln.implicit_regularizer(model, x, method=way)


def refused(model, x, error, message):
    """By every way to reg, and the model is as it was."""
    before, rng_state = snapshot(model), torch.get_rng_state()
    for way in WAYS:
        with pytest.raises(error, match=message):
            regularize(model, x, way)
    assert_as_it_was(model, before)
    assert torch.equal(torch.get_rng_state(), rng_state)
