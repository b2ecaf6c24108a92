"""Sigmoid units on one data point, falling into their classes: the page itself trains them."""

from typing import get_args

from ..arguments import as_between, as_count, as_nonnegative, as_positive
from ..models.two_layer_sigmoidal import Sigmoid, check_activation
from .controls import as_text
from .stage import LiveFigure, buttons, canvas, live_figure, slider, speed_slider

LABELS = tuple(k / 20 for k in range(5, 61))
STDS = (0.0, 0.25, 0.5, 0.75, 1.0)
WIDTHS = (1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 40)
RATES = {"tanh": 0.01, "logistic": 0.02}
# The figure pauses once (lr noise_std)^2 times the steps is this: the logistic's units move more slowly.
HORIZONS = {"tanh": 150.0, "logistic": 2500.0}


def live_units(
    activation: Sigmoid = "tanh",
    *,
    width: int = 20,
    y: float = 1.0,
    lr: float | None = None,
    noise_std: float = 1.0,
    seed: int = 0,
) -> LiveFigure:
    """Let the units of a two-layer network on one data point fall into their classes, with the label under the reader's hand.

    The network is ``f = sum_i c_i s(w_i)``, a :class:`TwoLayerSigmoidal` on the data point x = 1 (of a longer input only
    ``w_i . x`` ever moves). Each unit is a dot in the plane of c and ``h = s(w)``, and a bar of height ``c h`` beside it. The
    label y can be dragged. Label noise moves the dots onto the thin black curve, where a unit with its output is at rest
    (equations 21 and 23), and along it to the circles: for tanh one unit with all of y, the others at the origin; for the
    logistic all units together, or one large and the rest together, by the label. The first steps are slow enough to
    follow; then each frame makes a sixtieth of the steps so far.

    All of it is JavaScript inside the returned HTML: it needs no kernel and asks for nothing from outside.

    Args:
        activation: s, at first.
        width: number of units at first, 1 to 60.
        y: the label at first, 0.25 to 3.
        lr: learning rate, > 0 and at most 0.1; by default 0.01 for tanh and 0.02 for the logistic.
        noise_std: standard deviation of the label noise at first, >= 0, in units of the label; each is plus or minus it.
        seed: of the start and the noise, 0 to 2**32 - 1; the reader can have the next one.

    Returns:
        An object for the last line of a cell or for ``display``.

    Raises:
        TypeError: if a number is no number, or no integer where one is needed.
        ValueError: if the activation is unknown or a number out of its range.

    Source: Theorem 3 and Appendix C; chapter "Sort sigmoid units into classes".

    >>> live_units("logistic", width=6, y=1.5)
    6 logistic units on one data point with y = 1.5, under label noise of standard deviation 1
    """
    check_activation(activation)
    width, seed = as_count("width", width, 1, 60), as_count("seed", seed, 0, 2**32 - 1)
    y, noise_std = as_between("y", y, LABELS[0], LABELS[-1]), as_nonnegative("noise_std", noise_std)
    rates = RATES if lr is None else dict.fromkeys(RATES, as_between("lr", as_positive("lr", lr), 0, 0.1))
    options = "".join(f"<option{' selected' * (one == activation)}>{one}</option>" for one in get_args(Sigmoid))
    inside = f"""<div class="labelnoise-pair">
{canvas("Plane of output weight c and value h")}
{canvas("Outputs of the units", "Drag the dashed line: the label")}
</div>
{buttons("Start", "Start again", "New start")}
<p class="labelnoise-readout"></p>
<div class="labelnoise-controls">
{slider("y", "label y", LABELS, y)}
{slider("noise_std", "noise σ", STDS, noise_std)}
{slider("width", "units", WIDTHS, width)}
<label><span>activation</span> <select name="activation" autocomplete="off">{options}</select></label><span></span>
{speed_slider()}
</div>
<p class="labelnoise-hint">Label and noise can be changed while it runs; units and activation start anew.</p>"""
    text = (
        f"{width} {activation} units on one data point with y = {as_text(y)}, "
        f"under label noise of standard deviation {as_text(noise_std)}"
    )
    return live_figure(
        "units",
        inside,
        label="Sigmoid units on one data point, to play with",
        text=text,
        scripts=("engine/loop.js", "engine/two_layer_sigmoidal.js", "units_law.js", "units.js"),
        settings={"lr": rates, "noiseStd": noise_std, "horizon": HORIZONS, "seed": seed},
    )
