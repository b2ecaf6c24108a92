"""The certificate holds where it should, fails where one inequality is not strict, and its intervals contain the truth."""

import sys
import time
from fractions import Fraction

import numpy as np
import pytest
from refusals import refusals

import labelnoise_utils as ln
from labelnoise_utils.simplicity.hand_over.terms import derivatives

HandOver, ONE, TWO, DEEP = ln.hand_over.HandOver, ln.hand_over.ONE, ln.hand_over.TWO, ln.hand_over.DEEP
certify = ln.hand_over.certify


@pytest.mark.parametrize("data, changes, needed", [(ONE, 1, 0), (TWO, 2, 0), (DEEP, 3, 1)])
def test_the_data_of_the_book_are_certified_within_a_second(data, changes, needed):
    began = time.perf_counter()
    proof = certify(data)
    assert time.perf_counter() - began < 1
    assert proof.holds and all(q.at_least > 0 for q in proof.inequalities)
    assert (proof.changes, proof.needed) == (changes, needed)
    np.testing.assert_allclose(proof.point, data.minimum(), rtol=1e-10)
    expected = len(data.x) * len(data.sizes[1:-1]) + len(data.x) * (data.sizes[-2] - 1)
    assert sum(q.part == "pattern" for q in proof.inequalities) == expected


@pytest.mark.parametrize("front", range(1, 8))
def test_units_in_front_do_not_help(front):
    x, y = ("-9/10", "-3/5", "2/5", "1/2", "9/10", "1"), ("0", "0", "-21/10", "-12/5", "-18/5", "-129/20")
    proof = certify(HandOver(x, y, front=front))
    assert proof.holds and (proof.changes, proof.needed) == (2, 0)
    assert sum(q.part == "corner" for q in proof.inequalities) == front


def failed(proof):
    return {q.part for q in proof.inequalities if q.at_least <= 0}


def test_bends_that_are_needed_are_not_certified():
    proof = certify(HandOver(TWO.x, (*TWO.y[:4], "-9/20", "-59/20")))
    assert not proof.holds and proof.changes == proof.needed == 2
    assert failed(proof) == {"bends"}


def test_a_box_too_large_is_not_certified():
    proof = certify(TWO, radius=0.1)
    assert not proof.holds and {"one stationary point", "strict minimum", "kinks"} <= failed(proof)


def test_lines_that_cross_at_the_balance_are_not_certified():
    """With A's line moved so that it meets B's where the pulls balance, f is concave, up to rounding."""
    data = TWO
    for _ in range(60):
        level = Fraction(data.minimum()[-1])
        off, on = data.kinks(level)
        shift = (off - on) * data.slopes[1]
        if abs(shift) < Fraction(1, 10**15):
            break
        data = HandOver(data.x, (*data.y[:4], *(y - shift / 2 for y in data.y[4:])))
    gap = abs(float(np.subtract(*data.kinks(data.minimum()[-1]))))
    proof = certify(data, radius=max(1e-12, 10 * gap))
    assert gap < 1e-9 and not proof.holds and "kinks" in failed(proof)


def test_intervals_contain_the_exact_derivatives():
    """In fractions nothing is rounded."""
    iv = pytest.importorskip("mpmath").iv
    at = [Fraction(4, 5), Fraction(1, 4), Fraction(43, 5), Fraction(9, 25)]

    def number(f):
        return iv.mpf(f.numerator) / iv.mpf(f.denominator)

    exact = derivatives(TWO.terms(), at, Fraction)
    within = derivatives(TWO.terms(), [number(v) for v in at], number)
    for one, other in zip([*exact[0], *sum(exact[1], [])], [*within[0], *sum(within[1], [])], strict=True):
        scaled = number(Fraction(one))
        assert other.a <= scaled.b and scaled.a <= other.b
        assert float(other.mid) == pytest.approx(float(one), rel=1e-12, abs=1e-12)


def test_more_digits_move_the_point_by_less_than_a_double():
    np.testing.assert_array_max_ulp(np.array(certify(TWO, digits=40).point), np.array(certify(TWO, digits=80).point), 1)


def test_the_global_precision_of_mpmath_stays():
    mpmath = pytest.importorskip("mpmath")
    before = mpmath.iv.dps, mpmath.mp.dps
    certify(TWO, digits=60)
    assert (mpmath.iv.dps, mpmath.mp.dps) == before


def test_without_mpmath_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpmath.ctx_iv", None)
    with pytest.raises(ImportError, match="pip install mpmath"):
        certify(TWO)


test_bad_arguments_are_named = refusals(
    {
        "radius": (lambda: certify(TWO, radius=0.0), ValueError, "radius must be positive"),
        "digits": (lambda: certify(TWO, digits=10), ValueError, "digits must be at least 20"),
        "kind": (lambda: certify(TWO, digits=40.0), TypeError, "digits must be an integer"),
    }
)
