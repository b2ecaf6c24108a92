"""Predict, then reveal: how many times as many steps it takes until reg has halved, measured when the reader has answered."""

from fractions import Fraction
from html import escape
from typing import Literal, get_args

from ..arguments import as_count, as_positive
from ..data import twelve_points
from .controls import as_text
from .stage import LiveFigure, canvas, live_figure

Change = Literal["noise", "lr", "batch"]
Model = Literal["product", "relu"]

SIDES = 8.0  # the answers go from 1/8 to 8
VERBS = {2: "Double", 0.5: "Halve", 3: "Triple", 4: "Quadruple"}
NAMES = {"noise": "the noise σ", "lr": "the learning rate", "batch": "the batch B"}
ENGINES = {"product": "engine/product.js", "relu": "engine/two_layer_relu.js"}
SHOWN = {"product": "h = u v, one data point", "relu": "a ReLU network of width 50, twelve points on a line"}


def how_much_longer(change: Change = "noise", by: float = 2.0, *, model: Model = "product", seed: int = 0) -> LiveFigure:
    """Ask how many times as many steps it takes until reg has halved, take the reader's answer, then measure.

    The answer is typed, or dragged along a logarithmic axis from 1/8 to 8. After *Reveal* the page trains several runs with
    the setting before and several with the one after, all from zero training error, until the mean of their reg has halved,
    and puts the ratio of the two times with its standard error (jackknife over the runs) beside the answer and beside what
    the law says. By the law reg is a function of ``lr**2 noise_std**2 t / B``, so the ratio is ``by**-2`` for noise and
    learning rate and ``by`` for the batch. That is to first order in lr: the training error acts like further noise, so a
    second prediction has ``noise_std**2 / B`` plus the training error that the runs had. Nothing is
    stored: other seeds, another measurement.

    All of it is JavaScript inside the returned HTML: it needs no kernel and asks for nothing from outside.

    Args:
        change: what is changed: "noise" its standard deviation, "lr" the learning rate, "batch" the examples per step.
        by: the factor, within what the axis shows: 0.36 to 2.8 for noise and learning rate; for the batch, which is 1
            before, an integer from 2 to 8.
        model: "product" is :class:`Product` on one data point, y = 1, from u = 3, v = 1/3, 100 runs; "relu" is
            :class:`TwoLayerReLU` of width 50 on :func:`twelve_points`, 6 runs from starts of their own, fitted without noise.
        seed: of the starts and the noise, 0 to 2**32 - 1.

    Returns:
        An object for the last line of a cell or for ``display``.

    Raises:
        TypeError: if ``by`` is no number, or no integer for the batch, or ``seed`` no integer.
        ValueError: if a name is unknown, a number out of its range, ``by`` is 1, or a batch is asked of "relu".

    Source: equation (6) and section 3.3; the law is Lemma 8's drift, ``-lr**2 noise_std**2 / B grad reg`` per step.

    >>> how_much_longer("lr", 0.5)
    Halve the learning rate. How many times as many steps does it take until reg has halved?
    """
    for name, value, allowed in (("change", change, Change), ("model", model, Model)):
        if value not in get_args(allowed):
            raise ValueError(f"{name} must be one of {', '.join(get_args(allowed))}, got {value!r}")
    seed = as_count("seed", seed, 0, 2**32 - 1)
    if change == "batch":
        if model == "relu":
            raise ValueError("change='batch' is measured on model='product' only, got model='relu'")
        by = as_count("by", by, 2, int(SIDES))
    by = as_positive("by", by)
    law = by if change == "batch" else by**-2
    if by == 1 or not 1 / SIDES <= law <= SIDES:
        raise ValueError(f"by must not be 1, and the law's answer, {law:g}, must lie between 1/8 and 8; got {by}")
    before = _settings(model, change, by)
    key = {"noise": "noiseStd", "lr": "lr", "batch": "batch"}[change]
    after = before | {key: before[key] * by}
    text = f"{_asked(change, by)}. How many times as many steps does it take until reg has halved?"
    values = f"from {as_text(before[key])} to {as_text(after[key])}"
    fixed = ", ".join(
        f"{words} {as_text(before[one])}"
        for one, words in (("lr", "learning rate"), ("noiseStd", "σ ="), ("batch", "examples per step:"))
        if one != key
    )
    curves = canvas("Mean of reg against steps, before the change and after it")
    inside = f"""<p class="labelnoise-question"><strong>{escape(text)}</strong>
Here {escape(NAMES[change])} goes {values} ({SHOWN[model]}; {fixed}).</p>
<div class="labelnoise-answer">
<label><span>your answer</span> <input type="range" min="-3" max="3" step="0.05" value="0" autocomplete="off"></label>
<label><input type="number" min="0.125" max="8" step="any" value="1" autocomplete="off" aria-label="your answer, as a number">
<span>times as many</span></label>
</div>
<div class="labelnoise-wide">{canvas("Axis of the answers", "Drag the blue mark")}</div>
<p class="labelnoise-buttons">
<button type="button">Reveal</button>
<button type="button" hidden>Guess again</button>
</p>
<p class="labelnoise-readout"></p>
<div class="labelnoise-wide labelnoise-curves" hidden>{curves}</div>"""
    return live_figure(
        "longer",
        inside,
        label="Predict, then reveal",
        text=text,
        scripts=("engine/loop.js", ENGINES[model], "longer_measured.js", "longer.js"),
        settings={"model": model, "before": before, "after": after, "law": law, "what": NAMES[change], "seed": seed}
        | _data(model),
    )


def _asked(change: Change, by: float) -> str:
    """The change as a command."""
    if by in VERBS:
        return f"{VERBS[by]} {NAMES[change]}"
    return f"Multiply {NAMES[change]} by {Fraction(by).limit_denominator(100)}"


def _settings(model: Model, change: Change, by: float) -> dict[str, float]:
    """The setting before the change: such that the slower of the two is measured within seconds."""
    if model == "product":
        return {"lr": 0.005, "noiseStd": 0.5, "batch": 1, "runs": 100}
    least = min(by, 1.0)
    return {
        "lr": 0.001 / (least if change == "lr" else 1),
        "noiseStd": 0.5 / (least if change == "noise" else 1),
        "batch": 1,
        "runs": 6,
    }


def _data(model: Model) -> dict[str, list[float]]:
    if model == "product":
        return {"x": [1.0], "y": [1.0]}
    x, y = twelve_points()
    return {"x": x.tolist(), "y": y.tolist()}
