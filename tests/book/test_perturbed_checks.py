"""Every check of the book can fail: moved by three tolerances it does, and its bound is not the end of what is possible.

Nothing is run again: the checks are read back from the words that the notebooks left (``labelnoise_utils.page.folded``).
"""

import re
import sys

import pytest
from repository import PAGES, ROOT

import labelnoise_utils as ln

sys.path.insert(0, str(ROOT / "book" / "_extensions"))
from recorded import Recorded, checks_of

EXECUTED = ROOT / "_build" / "executed"
NUMBER = re.compile(r"[-+]?(?:inf|nan|\d+(?:\.\d+)?(?:e[-+]?\d+)?)")

# What a quantity can be at all, by what it is called (the first that fits): a bound at the end of that would never fail.
POSSIBLE = [
    (r"standard errors", 0, None),
    (r"\bshares?\b|\bprobability\b|\bcorrelation\b", 0, 1),
    (r"\bchance\b.*%|%.*\bwrong\b", 0, 100),
]


def numbers(words):
    """The numbers in "4", "[1, 2, 3]" or "0.1 to 2 (30 values)"; of the last, both ends."""
    return [float(number) for number in NUMBER.findall(words.partition("(")[0])]


def arguments(check):
    """What `ln.check` was called with: its prediction and tolerances, or its bounds."""
    if not check.tolerance:
        bounds = re.findall(r"at (least|most) (\S+)", check.predicted)
        return {f"at_{which}": float(bound) for which, bound in bounds}
    found = {"predicted": numbers(check.predicted)}
    for number, percent in re.findall(r"([-+.\de]+|inf)(%)?", check.tolerance.removeprefix("within")):
        if NUMBER.fullmatch(number):
            found["rtol" if percent else "atol"] = float(number) / (100 if percent else 1)
    if len(found["predicted"]) == 1:
        found["predicted"] = found["predicted"][0]
    return found


def moved(check):
    """The measured values, each in turn moved by three tolerances from where it should be, both ways.

    Of a bound: by three times the way to it, or past it where it is met exactly; of an exact check: by the last digit told.
    """
    values, asked = numbers(check.measured), arguments(check)
    for i, value in enumerate(values):
        if "predicted" not in asked:
            for name, bound in asked.items():
                way = max(3 * abs(bound - value), 1e-3 * abs(bound), 1e-12)
                yield [*values[:i], bound + (way if name == "at_most" else -way), *values[i + 1 :]]
            continue
        target = asked["predicted"] if isinstance(asked["predicted"], float) else asked["predicted"][min(i, 1)]
        tolerance = asked.get("atol", 0) + asked.get("rtol", 0) * abs(target)
        for sign in (-1, 1):
            step = 3 * tolerance or 1e-3 * max(abs(value), 1)
            yield [*values[:i], value + sign * step, *values[i + 1 :]]


def is_broken(check, values):
    """Whether `ln.check` refuses these values in place of the measured ones."""
    asked = arguments(check)
    if isinstance(asked.get("predicted"), list) and len(asked["predicted"]) != len(values):
        asked["predicted"] = [asked["predicted"][0]] * len(values)
    try:
        ln.check(check.claim, values if len(values) > 1 else values[0], **asked)
    except AssertionError:
        return True
    return False


def survivors(check):
    return [values for values in moved(check) if not is_broken(check, values)]


def excludes_nothing(check):
    """Whether the words say what range is possible and the bound allows all of it, or a tolerance allows 0 as well."""
    asked = arguments(check)
    if "predicted" in asked:
        targets = asked["predicted"] if isinstance(asked["predicted"], list) else [asked["predicted"]]
        reach = [asked.get("atol", 0) + asked.get("rtol", 0) * abs(target) for target in targets]
        return any(far >= abs(target) > 0 for far, target in zip(reach, targets, strict=True))
    for words, low, high in POSSIBLE:
        if re.search(words, check.claim) and "over" not in check.claim.split():
            below = "at_least" in asked and asked["at_least"] > low
            above = "at_most" in asked and (high is None or asked["at_most"] < high)
            return not (below or above)
    return False


def made(measured, predicted, tolerance, claim="x"):
    return Recorded("notebooks/01_x", "00000000", claim, measured, predicted, tolerance)


@pytest.mark.parametrize(
    "check",
    [
        made("1.02", "1", "within 5%"),
        made("2.5e-13", "0", "within 1e-12"),
        made("[1, 2, 3.02]", "[1, 2, 3]", "within 2% plus 0.01"),
        made("0.983 to 1.01 (9 values)", "1", "within 3%"),
        made("10", "10", "exactly"),
        made("0", "0", "exactly"),
        made("0.8", "at least 0.78 and at most 0.9", ""),
        made("[0, 0.5]", "at least 0", ""),
        made("1", "at most 1", ""),
    ],
)
def test_what_is_said_is_read_back_and_can_fail(check):
    assert not is_broken(check, numbers(check.measured))
    assert list(moved(check))
    assert survivors(check) == []


def test_a_tolerance_without_end_survives():
    assert survivors(made("1", "1", "within inf"))


def test_a_bound_at_the_end_of_what_is_possible_excludes_nothing():
    assert excludes_nothing(made("0.3", "at most 1", "", "share outside 1 sqrt(lr)"))
    assert excludes_nothing(made("0.3", "at least 0", "", "apart, in standard errors"))
    assert not excludes_nothing(made("0.3", "at most 0.86", "", "share outside 2 sqrt(lr)"))
    assert not excludes_nothing(made("0.3", "1", "within 10%", "share of the first"))
    assert excludes_nothing(made("1.3", "1", "within 100%"))
    assert not excludes_nothing(made("1e-13", "0", "within 1e-12"))


def test_every_check_of_the_book_can_fail():
    copies = [EXECUTED / f"{page.rsplit('/', 1)[-1]}.ipynb" for page in PAGES]
    found = [check for copy in copies if copy.is_file() for check in checks_of(copy.stem, copy)]
    if not found:
        pytest.skip("no notebook has been executed: run `make book`")
    assert [(c.page, c.cell, c.claim) for c in found if survivors(c)] == []
    assert [(c.page, c.cell, c.claim) for c in found if excludes_nothing(c)] == []
