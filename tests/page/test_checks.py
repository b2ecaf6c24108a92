"""``check`` fails whenever what it says is not so, and says it in one line."""

import math

import numpy as np
import pytest
import torch

import labelnoise_utils as ln

NAN, INF = math.nan, math.inf

HOLDS = [
    (dict(measured=1.0, predicted=1.0), "1, predicted 1 exactly"),
    (dict(measured=0.51, predicted=0.5, rtol=0.05), "0.51, predicted 0.5 within 5%"),
    (dict(measured=0.49, predicted=0.5, rtol=0.05), "0.49, predicted 0.5 within 5%"),
    (dict(measured=-0.51, predicted=-0.5, rtol=0.05), "-0.51, predicted -0.5 within 5%"),
    (dict(measured=1e-7, predicted=0.0, atol=1e-6), "1e-07, predicted 0 within 1e-06"),
    (dict(measured=1.14, predicted=1.0, rtol=0.1, atol=0.05), "within 10% plus 0.05"),
    (dict(measured=1.5, predicted=1.5, rtol=0, atol=0), "within 0% plus 0"),
    (dict(measured=10, at_least=9), "10, at least 9"),
    (dict(measured=9, at_least=9), "9, at least 9"),
    (dict(measured=-3, at_most=0), "-3, at most 0"),
    (dict(measured=0.0, at_most=0), "0, at most 0"),
    (dict(measured=0.8, at_least=0.78, at_most=0.9), "0.8, at least 0.78 and at most 0.9"),
    (dict(measured=[1, 2, 3], at_least=1, at_most=3), "[1, 2, 3], at least 1 and at most 3"),
    (dict(measured=[1.0, 2.0], predicted=[1.0, 2.0]), "[1, 2], predicted [1, 2] exactly"),
    (dict(measured=[1.0, 1.01], predicted=1.0, rtol=0.02), "[1, 1.01], predicted 1 within 2%"),
    (dict(measured=np.arange(10), at_most=9), "0 to 9 (10 values), at most 9"),
    (dict(measured=torch.tensor(2.0), predicted=2.0), "2, predicted 2 exactly"),
    (dict(measured=True, predicted=True), "1, predicted 1 exactly"),
    (dict(measured=np.bool_([True, True]), predicted=1), "[1, 1], predicted 1 exactly"),
]

FAILS = [
    dict(measured=1.0, predicted=np.nextafter(1, 2)),
    dict(measured=0.53, predicted=0.5, rtol=0.05),
    dict(measured=0.47, predicted=0.5, rtol=0.05),
    dict(measured=0.5, predicted=-0.5, rtol=0.05),
    dict(measured=2e-6, predicted=0.0, atol=1e-6),
    dict(measured=1e-300, predicted=0.0, rtol=0.5),
    dict(measured=1.16, predicted=1.0, rtol=0.1, atol=0.05),
    dict(measured=8, at_least=9),
    dict(measured=1e-9, at_most=0),
    dict(measured=0.77, at_least=0.78, at_most=0.9),
    dict(measured=0.91, at_least=0.78, at_most=0.9),
    dict(measured=[1.0, 2.0, 3.1], at_most=3),
    dict(measured=[1.0, 2.0], predicted=[1.0, 2.1], rtol=0.01),
    dict(measured=[1.0, 1.1], predicted=1.0, rtol=0.02),
    dict(measured=[True, False], predicted=True),
    # Nothing that is not a number is close to anything.
    dict(measured=NAN, predicted=NAN),
    dict(measured=NAN, predicted=1.0, rtol=INF),
    dict(measured=1.0, predicted=NAN, atol=1e9),
    dict(measured=1.0, predicted=1.0, rtol=NAN),
    dict(measured=NAN, at_least=-1e300),
    dict(measured=NAN, at_most=1e300),
    dict(measured=[1.0, NAN], at_least=0, at_most=2),
    dict(measured=1.0, at_least=NAN),
    dict(measured=None, at_least=0),
    dict(measured=None, predicted=1.0, atol=9.0),
    dict(measured=INF, at_most=1e300),
    dict(measured=INF, predicted=1.0, rtol=0.5),
    dict(measured=torch.tensor([1.0, 2.0]), at_most=1.5),
]


@pytest.mark.parametrize("arguments, words", HOLDS)
def test_what_holds_is_printed_in_one_line(capsys, arguments, words):
    ln.check("the claim", **arguments)
    out = capsys.readouterr().out
    assert out.startswith("holds: the claim: ")
    assert out.endswith(words + "\n")
    assert out.count("\n") == 1


@pytest.mark.parametrize("arguments", FAILS)
def test_what_does_not_hold_fails_and_prints_nothing(capsys, arguments):
    with pytest.raises(AssertionError, match="^does not hold: the claim: "):
        ln.check("the claim", **arguments)
    assert capsys.readouterr().out == ""


def test_message_of_a_failure_has_both_numbers():
    with pytest.raises(AssertionError) as caught:
        ln.check("runs that end straight", 8, at_least=9)
    assert str(caught.value) == "does not hold: runs that end straight: 8, at least 9"
    with pytest.raises(AssertionError) as caught:
        ln.check("rate", [0.5, 0.61], [0.5, 0.6], rtol=0.01)
    expected = "does not hold: rate: [0.5, 0.61], predicted [0.5, 0.6] within 1%"
    assert str(caught.value) == expected


def test_holds_also_when_python_drops_assertions():
    """It raises, and does not use the statement that ``python -O`` removes."""
    code = compile(open(ln.check.__code__.co_filename).read(), "checks.py", "exec", optimize=2)
    namespace = {"__name__": ln.check.__module__}
    exec(code, namespace)
    with pytest.raises(AssertionError):
        namespace["check"]("the claim", 1, 2)


def test_tensors_with_gradients_are_numbers(capsys):
    """What implicit_regularizer returns."""
    reg = ln.implicit_regularizer(ln.Product(3.0, 4.0), torch.zeros(1))
    assert reg.requires_grad
    ln.check("reg of the product", reg, 25.0)
    ln.check("twice", [reg, 2 * reg], torch.tensor([25.0, 50.0]))
    assert capsys.readouterr().out.count("holds") == 2
    with pytest.raises(AssertionError):
        ln.check("reg of the product", reg, 24.0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(measured=1.0), "needs either a prediction or a bound"),
        (dict(measured=1.0, rtol=0.1), "needs either a prediction or a bound"),
        (dict(measured=1.0, predicted=1.0, at_least=0), "needs either a prediction or a bound"),
        (dict(measured=1.0, predicted=1.0, at_most=2), "needs either a prediction or a bound"),
        (dict(measured=[], predicted=1.0), "at least one measured value"),
        (dict(measured=[], at_most=1.0), "at least one measured value"),
        (dict(measured=[1.0, 2.0], predicted=[1.0, 2.0, 3.0]), r"shape \(2,\), predicted \(3,\)"),
        (dict(measured=1.0, predicted=[1.0, 1.0]), r"shape \(\), predicted \(2,\)"),
        (dict(measured=[[1.0], [2.0]], predicted=[1.0, 2.0]), r"shape \(2, 1\), predicted \(2,\)"),
        (dict(measured=[1.0], predicted=[[1.0]]), r"shape \(1,\), predicted \(1, 1\)"),
    ],
)
def test_nothing_to_compare_is_an_error_of_the_caller(arguments, message):
    """Shapes that would broadcast are compared with nothing."""
    with pytest.raises(ValueError, match=message):
        ln.check("the claim", **arguments)
