"""The simplest function in the plane under the reader's hand, and label noise that runs towards it."""

from collections.abc import Sequence
from html import escape

import torch

from ..arguments import as_count, as_nonnegative
from ..models.two_layer_relu import Skip, check_skip
from .controls import as_text
from .stage import LiveFigure, buttons, canvas, live_figure, slider

FEWEST, MOST = 3, 10
APART = 0.05
STDS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
SEEDS = tuple(range(20))
LABELS = tuple(k / 4 for k in range(-4, 5))

# A rate that rises as reg falls, as for live_network.
AUTOMATIC = {"pull": 0.15, "most": 0.05}

ENGINE = ("random", "loop", "schedule", "lines", "solve", "cuts", "least_reg", "two_layer_relu_plane", "worker")
SCRIPTS = ("noise_floor.js", "dots.js", "drive.js", "plane_pictures.js", "plane_words.js", "engine/port.js", "plane.js")
SKIPS = {"linear": True, "constant": "constant", "none": False}

Points = tuple[tuple[float, float, float], ...]

PRESETS: dict[str, tuple[str, Points]] = {
    "saddle": (
        "sign of x₁ x₂",
        (
            (0.8, 0.8, 1),
            (-0.8, -0.8, 1),
            (0.8, -0.8, -1),
            (-0.8, 0.8, -1),
            (0.25, 0.5, 1),
            (-0.5, 0.3, -1),
            (-0.3, -0.35, 1),
            (0.45, -0.25, -1),
        ),
    ),
    "bump": (
        "a bump",
        ((0.6, 0.1, 0), (-0.55, 0.25, 0), (0.15, 0.65, 0), (-0.1, -0.6, 0), (0.5, -0.5, 0), (-0.6, -0.45, 0), (0.05, 0, 1)),
    ),
    "random": (
        "at random",
        (
            (-0.3, -0.59, 0.25),
            (-0.73, 0.26, -0.25),
            (-0.75, -0.19, -1),
            (0.41, -0.73, -0.75),
            (-0.13, 0.56, -0.75),
            (0.47, 0.22, 1),
            (0.13, -0.18, 1),
        ),
    ),
}


def live_plane(
    x: Sequence[Sequence[float]] | torch.Tensor | None = None,
    y: Sequence[float] | torch.Tensor | None = None,
    *,
    skip: Skip = "constant",
    noise_std: float = 0.5,
    width: int = 40,
    seed: int = 0,
) -> LiveFigure:
    r"""Let the reader drag points in the plane: the function of least reg is found anew, and label noise runs towards it.

    Left the optimum of :func:`labelnoise_utils.minimal_interpolant`, worked out in the page by a barrier method on the dual,
    ``max mu . y`` with ``|mu . o| <= (2 / n) beta(S) |o|`` for the outputs o of every unit awake on S: it gives a network and,
    with mu, a number that no network undercuts; where the two are further apart than 1e-5 of reg, the figure says so. Right
    :class:`labelnoise_utils.TwoLayerReLU` with ``dim=2, input_std=1`` under ``theta <- theta - lr grad (h(x_i) - y_i - Z)^2``
    with i uniform and Z plus or minus ``noise_std``. Its rate is ``min(0.05, 0.15 / reg)``, looked at every 100 steps; once reg
    is level it is halved six times, and the run ends. A point that is moved changes the data under the network that is there.

    All of it is JavaScript inside the returned HTML: it needs no kernel and asks for nothing from outside. A run is
    reproducible; the start and the draws are other ones than those of Python for the same seed.

    Args:
        x: (n, 2), n from 3 to 10, coordinates from -1 to 1, points at least 0.05 apart; eight points if left out.
        y: (n,), their labels, among -1, -0.75, ..., 1; the sign of ``x_1 x_2`` if left out.
        skip: True for a linear and a constant unit, ``"constant"`` for the constant alone, False for none.
        noise_std: standard deviation of the label noise, >= 0, in units of the label.
        width: hidden units of the network that is trained, 1 to 200.
        seed: of the start and of all draws, 0 to 2**32 - 1.

    Returns:
        An object for the last line of a cell or for ``display``.

    Raises:
        TypeError: if an argument is no number, or no integer where one is needed.
        ValueError: if an argument is out of its range, only one of x and y is given, their lengths differ, or points are too
            few, too many or too near to each other.

    Source: the question of section 1.2, last paragraph; chapter "Find the simplest function in any dimension".

    >>> live_plane([[0, 0], [1, 0], [0, 1]], [0, 1, -1])
    The function of least reg through 3 points in the plane, and label noise of standard deviation 0.5 that runs towards it
    """
    check_skip(skip)
    noise_std = as_nonnegative("noise_std", noise_std)
    width, seed = as_count("width", width, 1, 200), as_count("seed", seed, 0, 2**32 - 1)
    presets = {name: points for name, (_, points) in PRESETS.items()}
    names = {name: words for name, (words, _) in PRESETS.items()}
    start = "saddle"
    if x is not None or y is not None:
        start, presets, names = "given", {"given": _as_points(x, y)} | presets, {"given": "as given"} | names
    options = "".join(
        f'<option value="{name}"{" selected" * (name == start)}>{escape(names[name])}</option>' for name in presets
    )
    skips = "".join(f"<option{' selected' * (value == skip)}>{name}</option>" for name, value in SKIPS.items())
    inside = f"""<div class="labelnoise-pair">
<div class="labelnoise-plane">
{canvas("The function of least reg")}
<div class="labelnoise-dots" role="group" aria-label="Data points: arrow keys move one, plus and minus change its label"></div>
</div>
{canvas("A network that label noise trains")}
</div>
<p class="labelnoise-readout"></p>
<div class="labelnoise-wide">
{canvas("Reg against steps")}
</div>
{buttons("Start", "Start over", "Switch noise off", "Other points", "Add a point", "Remove a point")}
<p class="labelnoise-hint">Drag a point, in either picture; double-click on the left for another. On the keyboard: Tab to a
point, arrows move it, + and − change its label, Delete removes it.</p>
<div class="labelnoise-controls">
{slider("label", "label", LABELS, 0.0)}
<label><span>points</span> <select autocomplete="off">{options}<option value="" hidden>your own</option></select></label>
<span></span>
<label><span>skip unit</span> <select autocomplete="off">{skips}</select></label>
<span></span>
{slider("noise_std", "noise σ", STDS, noise_std or 0.5)}
{slider("seed", "start (seed)", SEEDS, seed)}
</div>"""
    return live_figure(
        "in-plane",
        inside,
        label="The simplest function in the plane, to play with",
        text=(
            f"The function of least reg through {len(presets[start])} points in the plane, "
            f"and label noise of standard deviation {as_text(noise_std)} that runs towards it"
        ),
        scripts=SCRIPTS,
        settings=AUTOMATIC | {"presets": presets, "start": start, "noiseIsOn": noise_std > 0, "width": width, "seed": seed},
        styles=("dots.css", "plane.css"),
        engine=(*(f"engine/{name}.js" for name in ENGINE), "plane_worker.js"),
    )


def _as_points(x: Sequence[Sequence[float]] | torch.Tensor | None, y: Sequence[float] | torch.Tensor | None) -> Points:
    if x is None or y is None:
        raise ValueError("x and y are given together, or neither")
    x, y = (torch.as_tensor(values, dtype=torch.float64) for values in (x, y))
    if x.dim() != 2 or x.shape[1] != 2 or x.shape[:1] != y.shape or not FEWEST <= len(x) <= MOST:
        raise ValueError(
            f"x must have shape (n, 2) and y (n,), n from {FEWEST} to {MOST}, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if not (x.abs() <= 1).all():
        raise ValueError("x must lie between -1 and 1, which is what is drawn")
    if not torch.isin(y, torch.tensor(LABELS, dtype=torch.float64)).all():
        raise ValueError(f"y must be among {', '.join(map(as_text, LABELS))}")
    # As many digits as the picture has any use for.
    x = x.mul(1e6).round() / 1e6
    if torch.pdist(x).min() < APART:
        raise ValueError(f"points must be at least {APART} apart, got {torch.pdist(x).min():.3g}")
    return tuple((a, b, label) for (a, b), label in zip(x.tolist(), y.tolist(), strict=True))
