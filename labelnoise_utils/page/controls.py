"""What a reader can choose: for each control its values, and the words for them."""

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..arguments import as_number

MAX_PICTURES = 64

Value = int | float | str


@dataclass(frozen=True)
class Control:
    """A choice among at least two values, which are all numbers or all strings."""

    name: str
    label: str
    values: tuple[Value, ...]
    start: Value

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as the reader sees them."""
        return tuple(map(as_text, self.values))

    @property
    def is_numeric(self) -> bool:
        """Whether it is a slider rather than a list to pick from."""
        return not isinstance(self.values[0], str)

    @property
    def has_play(self) -> bool:
        """Whether a button moves through its values: a slider with three or more."""
        return self.is_numeric and len(self.values) > 2


def as_text(value: Value) -> str:
    """A value in words; a number to six digits, 1e-5 rather than 1e-05."""
    if isinstance(value, str):
        return value
    return f"{value:g}".replace("e-0", "e-").replace("e+0", "e+")


def make_controls(
    values: Mapping[str, Sequence],
    *,
    start: Mapping[str, Value] | None = None,
    labels: Mapping[str, str] | None = None,
) -> list[Control]:
    """Check what the caller offers to choose from.

    Args:
        values: for each control the values that it may take.
        start: the value that a control has at first, if that is not its first one.
        labels: the words for a control, if those are not its name.

    Returns:
        The controls, in the order of ``values``.

    Raises:
        TypeError: if values are no sequence, are neither all numbers nor all strings, or an option is no mapping.
        ValueError: if there is no control, one has fewer than two values or two that read the same, an option names a
            control or a value that does not exist, or all combinations would be more than ``MAX_PICTURES`` pictures.
    """
    start, labels = _as_option("start", start, values), _as_option("labels", labels, values)
    if not values:
        raise ValueError("explore needs a control: an argument of your function with its values, such as lr=[0.01, 0.1]")
    controls = []
    for name, offered in values.items():
        checked = _as_values(name, offered)
        first = _find(name, checked, start.get(name, checked[0]))
        controls.append(Control(name, labels.get(name, name.replace("_", " ")), checked, first))
    pictures = math.prod(len(control.values) for control in controls)
    if pictures > MAX_PICTURES:
        factors = " x ".join(f"{len(control.values)} of {control.name}" for control in controls)
        raise ValueError(f"{factors} values make {pictures} pictures, and at most {MAX_PICTURES} are allowed: leave some out")
    return controls


def in_words(controls: Sequence[Control], choice: Sequence[Value]) -> str:
    """What is chosen, such as ``lr = 0.1, noise std = 0.5``."""
    return ", ".join(f"{control.label} = {as_text(value)}" for control, value in zip(controls, choice, strict=True))


def _as_option(name: str, given: Mapping | None, values: Mapping) -> Mapping:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(
            f"{name} is an option, from names of controls to what they get, and no control itself, got {given!r}; "
            "if an argument of your function has this name, give it another"
        )
    for control in given:
        if control not in values:
            raise ValueError(f"{name} has {control!r}, which is none of the controls ({', '.join(values)})")
    return given


def _as_values(name: str, offered: Sequence) -> tuple[Value, ...]:
    if isinstance(offered, np.ndarray) and offered.ndim == 1:
        offered = offered.tolist()
    if not isinstance(offered, Sequence) or isinstance(offered, str | bytes):
        raise TypeError(f"{name} must be a sequence of the values to choose from, got {offered!r}")
    if len(offered) < 2:
        raise ValueError(f"{name} needs at least two values to choose from, got {list(offered)}")
    if all(isinstance(value, str) for value in offered):
        checked = tuple(offered)
    elif any(isinstance(value, str) for value in offered):
        raise TypeError(f"{name} must have either numbers or strings as values, got {list(offered)}")
    else:
        checked = tuple(_as_plain_number(f"a value of {name}", value) for value in offered)
    seen = set()
    for text in map(as_text, checked):
        if text in seen:
            raise ValueError(f"{name} has two values that read {text!r}")
        seen.add(text)
    return checked


def _as_plain_number(name: str, value: object) -> int | float:
    number = as_number(name, value)
    return int(value) if isinstance(value, numbers.Integral) else number


def _find(name: str, values: tuple[Value, ...], wanted: Value) -> Value:
    """The value that is meant, also if it differs in rounding."""
    if not isinstance(wanted, str):
        wanted = _as_plain_number(f"the start of {name}", wanted)
    for value in values:
        if isinstance(value, str) == isinstance(wanted, str) and as_text(value) == as_text(wanted):
            return value
    raise ValueError(f"start has {wanted!r} for {name}, which is none of its values")
