"""A two-layer ReLU network on a line as something to play with: the page itself trains it."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape

import torch

from ..arguments import as_nonnegative, as_positive
from ..data import twelve_points
from .controls import as_text
from .offline import embedded, script
from .stage import as_count, slider

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
PAGE = ("playground_pictures.js", "network_pictures.js", "network_words.js", "network_link.js", "engine/port.js", "network.js")

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class LiveNetwork:
    """What :func:`labelnoise_utils.live_network` returns; a notebook or a page shows it, and the reader moves it.

    Attributes:
        points: the data at first, pairs of x and y.
        noise_std: standard deviation of the label noise at first.
        lr: learning rate at first; None where it rises as reg falls.
        width: hidden units.
        seed: of the start and of all draws.
    """

    points: Points
    noise_std: float
    lr: float | None
    width: int
    seed: int

    def _repr_html_(self) -> str:
        presets = _presets()
        start = next((name for name, points in presets.items() if points == self.points), "given")
        if start == "given":
            presets = {"given": self.points} | presets
        rates = sorted({*RATES, *([self.lr] if self.lr else [])})
        inputs = "\n".join(
            (
                slider("noise_std", "noise σ", STDS, self.noise_std or 0.5),
                slider("lr", "learning rate", (0, *rates), self.lr or 0, ("rising", *(as_text(rate) for rate in rates))),
                slider("width", "hidden units", WIDTHS, self.width),
                slider("seed", "start (seed)", SEEDS, self.seed),
            )
        )
        names = {"given": "as given", "twelve": "the book's twelve", "bumps": "two bumps", "sine": "a sine", "step": "a step"}
        options = "".join(
            f'<option value="{name}"{" selected" * (name == start)}>{escape(names[name])}</option>' for name in presets
        )
        options += '<option value="" hidden>your own</option>'
        settings = escape(json.dumps(START | AUTOMATIC | {"presets": presets, "start": start, "noiseIsOn": self.noise_std > 0}))
        canvas = '<canvas role="img" aria-label="{}"></canvas>'
        inside = f"""<style>{embedded("figure.css")}
{embedded("network.css")}</style>
<p class="labelnoise-fallback">{escape(self._in_words())} It needs JavaScript: open the book's page, or trust the notebook.</p>
<div class="labelnoise-needs-script" hidden>
<div class="labelnoise-plane">
{canvas.format("Functions of two networks")}
<div class="labelnoise-dots" role="group" aria-label="Data points: arrow keys move one, Delete removes it"></div>
</div>
<p class="labelnoise-readout"></p>
<div class="labelnoise-plots">
{canvas.format("Training error against steps")}
{canvas.format("reg against steps")}
{canvas.format("Convexity changes against steps")}
</div>
<p class="labelnoise-speed"></p>
<p class="labelnoise-buttons">
<button type="button">Start</button>
<button type="button">Start over</button>
<button type="button">Switch noise off</button>
<button type="button">Add a point</button>
<button type="button">Remove a point</button>
</p>
<p class="labelnoise-hint">Drag a point; double-click beside it for another. On the keyboard: Tab to a point, arrows, Delete.
The address of the page says what you chose: send it.</p>
<div class="labelnoise-controls">
<label><span>points</span> <select autocomplete="off">{options}</select></label><span></span>
{inputs}
</div>
</div>
<p role="status"></p>
{script(*PAGE, engine=[*(f"engine/{name}.js" for name in ENGINE), "network_worker.js"])}"""
        name = sha256(f"{settings} {inside}".encode()).hexdigest()[:8]
        return f"""<div class="labelnoise-explore labelnoise-network" id="network-{name}" role="group"
aria-label="Label-noise SGD on a network, to play with" data-settings="{settings}" data-ready>
{inside}
</div>"""

    def _in_words(self) -> str:
        rate = "a learning rate that rises as reg falls" if self.lr is None else f"lr = {as_text(self.lr)}"
        return (
            f"A two-layer ReLU network of {self.width} hidden units on {len(self.points)} points, trained by SGD with label "
            f"noise σ = {as_text(self.noise_std)} and without, with {rate}."
        )


def live_network(
    x: Sequence[float] | torch.Tensor | None = None,
    y: Sequence[float] | torch.Tensor | None = None,
    *,
    noise_std: float = 0.5,
    lr: float | None = None,
    width: int = 50,
    seed: int = 0,
) -> LiveNetwork:
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
    LiveNetwork(points=((-1.0, 0.0), (0.0, 1.0), (1.0, 0.0)), noise_std=0.5, lr=None, width=20, seed=0)
    """
    return LiveNetwork(
        _as_points(x, y),
        as_nonnegative("noise_std", noise_std),
        None if lr is None else as_positive("lr", lr),
        as_count("width", width, 1, MAX_WIDTH),
        as_count("seed", seed, 0, 2**32 - 1),
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
