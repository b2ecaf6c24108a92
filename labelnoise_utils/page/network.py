"""A two-layer ReLU network on a line as something to play with: the page itself trains it."""

import math
from collections.abc import Sequence
from html import escape

import torch

from ..arguments import as_count, as_nonnegative, as_positive
from ..data import twelve_points
from .controls import as_text
from .stage import LiveFigure, buttons, canvas, live_figure, slider

MAX_POINTS = 40
MAX_WIDTH = 500
STDS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
RATES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
WIDTHS = (5, 10, 20, 50, 100, 200)
SEEDS = tuple(range(20))

# The start of the book's quick runs, and a rate that rises as reg falls.
START = {"inputStd": 1.7, "outputStd": 1.7}
AUTOMATIC = {"pull": 0.15, "most": 0.01}

ENGINE = ("random", "loop", "schedule", "lines", "two_layer_relu", "worker")
SCRIPTS = (
    "noise_floor.js",
    "network_pictures.js",
    "network_words.js",
    "network_link.js",
    "dots.js",
    "drive.js",
    "engine/port.js",
    "network.js",
)
NAMES = {"given": "as given", "twelve": "the book's twelve", "bumps": "two bumps", "sine": "a sine", "step": "a step"}

Points = tuple[tuple[float, float], ...]


def live_network(
    x: Sequence[float] | torch.Tensor | None = None,
    y: Sequence[float] | torch.Tensor | None = None,
    *,
    noise_std: float = 0.5,
    lr: float | None = None,
    width: int = 50,
    seed: int = 0,
) -> LiveFigure:
    """Let a two-layer ReLU network learn a few points in front of the reader, who moves them.

    The model is that of :class:`labelnoise_utils.TwoLayerReLU` with ``input_std = output_std = 1.7``, in the page: a step is
    ``theta <- theta - lr grad (h(x_i) - y_i - Z)^2`` with i uniform and Z plus or minus ``noise_std``. The same start on the
    same examples without noise runs beside it. First both fit, slowly enough for the eye; then thousands of steps pass in a
    frame, and where there is noise reg falls and the function loses its changes between convex and concave.

    Without an ``lr`` the rate is ``min(0.01, 0.15 / reg)``, looked at every 100 steps, so that a step always takes about the
    same part of the error while reg falls. Once reg is level it is halved six times, 2e5 steps each, and the run ends.

    All of it is JavaScript inside the returned HTML: it needs no kernel and asks for nothing from outside. A run is
    reproducible; the start and the draws are other ones than those of Python for the same seed.

    Args:
        x: (n,), the places of the points, -1 to 1; the twelve points of :func:`labelnoise_utils.twelve_points` if left out.
        y: (n,), their labels, -0.95 to 1.15, which is what is drawn.
        noise_std: standard deviation of the label noise, >= 0, in units of the label.
        lr: learning rate, > 0; None for one that rises as reg falls.
        width: hidden units, 1 to 500.
        seed: of the start and of all draws, 0 to 2**32 - 1.

    Returns:
        An object for the last line of a cell or for ``display``.

    Raises:
        TypeError: if an argument is no number, or no integer where one is needed.
        ValueError: if an argument is out of its range, only one of x and y is given, their lengths differ, or they are fewer
            than 2 or more than 40.

    Source: Figures 2 and 3 of the paper, whose experiment this is.

    >>> live_network([-1, 0, 1], [0, 1, 0], width=20)
    A ReLU network of 20 hidden units on 3 points, with label noise of standard deviation 0.5 and without
    """
    given = _as_points(x, y)
    noise_std = as_nonnegative("noise_std", noise_std)
    lr = None if lr is None else as_positive("lr", lr)
    width, seed = as_count("width", width, 1, MAX_WIDTH), as_count("seed", seed, 0, 2**32 - 1)
    presets = _presets()
    start = next((name for name, points in presets.items() if points == given), "given")
    if start == "given":
        presets = {"given": given} | presets
    options = "".join(
        f'<option value="{name}"{" selected" * (name == start)}>{escape(NAMES[name])}</option>' for name in presets
    )
    rates = sorted({*RATES, *([lr] if lr else [])})
    inside = f"""<div class="labelnoise-plane">
{canvas("Functions of two networks")}
<div class="labelnoise-dots" role="group" aria-label="Data points: arrow keys move one, Delete removes it"></div>
</div>
<p class="labelnoise-readout"></p>
<div class="labelnoise-plots">
{canvas("Training error against steps")}
{canvas("reg against steps")}
{canvas("Convexity changes against steps")}
</div>
<p class="labelnoise-speed"></p>
{buttons("Start", "Start over", "Switch noise off", "Add a point", "Remove a point")}
<p class="labelnoise-hint">While the noise is on the orange curve shakes about the points; switch it off to see its fit.
Drag a point; double-click beside it for another. On the keyboard: Tab to a point, arrows, Delete.
The address of the page says what you chose: send it.</p>
<div class="labelnoise-controls">
<label><span>points</span> <select autocomplete="off">{options}<option value="" hidden>your own</option></select></label>
<span></span>
{slider("noise_std", "noise σ", STDS, noise_std or 0.5)}
{slider("lr", "learning rate", (0, *rates), lr or 0, ("rising", *map(as_text, rates)))}
{slider("width", "hidden units", WIDTHS, width)}
{slider("seed", "start (seed)", SEEDS, seed)}
</div>"""
    return live_figure(
        "network",
        inside,
        label="Label-noise SGD on a network, to play with",
        text=(
            f"A ReLU network of {width} hidden units on {len(given)} points, "
            f"with label noise of standard deviation {as_text(noise_std)} and without"
        ),
        scripts=SCRIPTS,
        settings=START | AUTOMATIC | {"presets": presets, "start": start, "noiseIsOn": noise_std > 0},
        styles=("dots.css", "network.css"),
        engine=(*(f"engine/{name}.js" for name in ENGINE), "network_worker.js"),
    )


def _as_points(x: Sequence[float] | torch.Tensor | None, y: Sequence[float] | torch.Tensor | None) -> Points:
    if x is None and y is None:
        x, y = twelve_points()
    if x is None or y is None:
        raise ValueError("x and y are given together, or neither")
    x, y = (torch.as_tensor(values, dtype=torch.float64) for values in (x, y))
    if x.dim() != 1 or x.shape != y.shape or not 2 <= len(x) <= MAX_POINTS:
        raise ValueError(
            f"x and y must have the same shape (n,), n from 2 to {MAX_POINTS}, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if not ((x.abs() <= 1) & (y >= -0.95) & (y <= 1.15)).all():
        raise ValueError("x must lie between -1 and 1, and y between -0.95 and 1.15, which is what is drawn")
    # As many digits as the picture and its address have any use for.
    return tuple((round(a, 6), round(b, 6)) for a, b in zip(x.tolist(), y.tolist(), strict=True))


def _presets() -> dict[str, Points]:
    """Data by name: the twelve points, and three functions at places where their shape shows."""
    x = [-1 + 2 * k / 13 for k in range(14)]
    functions = {
        "bumps": lambda t: -0.3 + math.exp(-(((t + 0.5) / 0.22) ** 2)) + 0.7 * math.exp(-(((t - 0.5) / 0.22) ** 2)),
        "sine": lambda t: 0.7 * math.sin(math.pi * t),
        "step": lambda t: -0.4 if t < 0 else 0.6,
    }
    return {"twelve": _as_points(None, None)} | {name: _as_points(x, list(map(f, x))) for name, f in functions.items()}
