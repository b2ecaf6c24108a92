"""A motor that label noise drives: U among its fits, which turns where the labels are not equally noisy."""

from collections.abc import Sequence

import torch

from ..arguments import as_between, as_count, as_positive
from .controls import as_text
from .stage import LiveFigure, buttons, canvas, live_figure, slider, speed_slider

U = ((1.0, 0.0), (0.6, 0.5))
MOST = 1.2
STDS = tuple(k / 20 for k in range(round(20 * MOST) + 1))
SLIDERS = {"noise_11": "noise σ₁₁", "noise_12": "noise σ₁₂", "noise_22": "noise σ₂₂"}
PRESETS = {
    "Equal noise": (0.5, 0.5, 0.5),
    "Most on X₁₁": (0.9, 0.2, 0.2),
    "Most on X₁₂": (0.2, 0.9, 0.2),
    "Most on X₂₂": (0.2, 0.2, 0.9),
}
# A frame of 1/60 s is this much of lr^2 t, so that a turn takes some seconds whatever lr; and the run ends after so much of it.
PER_FRAME, HORIZON, MOST_STEPS = 0.128, 1000, 20_000


def live_motor(
    *, noise_std: Sequence[float] | torch.Tensor = PRESETS["Most on X₁₁"], lr: float = 0.003, seed: int = 0
) -> LiveFigure:
    r"""Let label noise turn a matrix among its fits for ever, with the noise of each label under the reader's hand.

    The model is ``MatrixSensing(2)``, ``X = U U^T``, and the labels are X_11, X_12 and X_22. So the lengths of the rows of U
    and the angle between them are given, and a common rotation is free: two hands of a clock. The fits are the circle
    ``U_0 R(phi)``, and a second one of mirror images. ``reg`` is the same at each of them, and so is the weighted reg
    ``(1/n) sum_i sigma_i^2 |grad h_i|^2``; yet, where the levels sigma_i differ, each step turns U on average by
    ``lr^2 v . (U J) / |U|^2``, counter-clockwise if this is positive. J is a quarter turn, and v the drift, of which only Lie
    brackets of the gradients are left:

        v = -(2/n) P sum_ai (M K)_ai H_i g_a,  K = (g_a . g_b),  K M + M K = 2 diag(sigma^2)

    with g_i and H_i gradient and Hessian of h_i. The angle of a step is linear in the sigma_i^2, and 0 where they are equal.

    The step is ``theta <- theta - lr grad (h_i - y_i - Z_i)^2`` with i uniform and Z_i plus or minus sigma_i; after a slow
    beginning some thousands are made in each frame. Orange is SGD, thin black lines are predictions, which start where the
    hands are when the noise is set. To first order in lr they are right: within a few per cent at the default lr. What is
    predicted of the turning is hidden until the hands have made a quarter of a turn (at settings that do not turn, for the
    steps that this takes with most noise on X_11), or until the reader has set something.

    All of it is JavaScript inside the returned HTML: it needs no kernel and asks for nothing from outside. A run is
    reproducible; what is chosen stands in the address, from where it can be sent.

    Args:
        noise_std: standard deviations of the noise of the three labels at first, 0 to 1.2 each, in units of the labels.
        lr: learning rate, > 0 and at most 0.01.
        seed: of the draws, 0 to 2**32 - 1; the reader can have the next one.

    Returns:
        An object for the last line of a cell or for ``display``.

    Raises:
        TypeError: if noise_std is no sequence, or an argument no number, or no integer where one is needed.
        ValueError: if an argument is out of its range, or noise_std has not three numbers.

    Source: ours; chapter "Give every label its own noise".

    >>> live_motor()
    A matrix that label noise turns among its fits: noise (0.9, 0.2, 0.2) on the labels X11, X12, X22, lr = 0.003
    """
    levels = _as_levels(noise_std)
    lr = as_between("lr", as_positive("lr", lr), 0, 0.01)
    seed = as_count("seed", seed, 0, 2**32 - 1)
    sliders = "\n".join(slider(name, words, STDS, level) for (name, words), level in zip(SLIDERS.items(), levels, strict=True))
    inside = f"""<div class="labelnoise-pair">
{canvas("The rows of U as two hands")}
{canvas("Turns against steps")}
</div>
<div class="labelnoise-wide">
{canvas("Noise and misfit of the three labels", "Drag the circles: the noise")}
</div>
{buttons("Start", "Start again", "Other noise")}
<div class="labelnoise-presets" role="group" aria-label="Noise levels to choose from">
{buttons(*PRESETS)}
</div>
<p class="labelnoise-readout"></p>
<div class="labelnoise-controls">
{sliders}
<label><span>fits</span> <select name="circle" autocomplete="off"><option value="rotations">rotations of U</option>
<option value="reflections">mirror images (turn the other way)</option></select></label><span></span>
{speed_slider()}
</div>
<p class="labelnoise-hint">Drag the blue circles, or move the sliders, while it runs. Black is predicted: the spread
of the misfits, and (after a quarter of a turn, or once you have set something) the hands and, by the arrow, the way and
the speed.</p>"""
    text = (
        f"A matrix that label noise turns among its fits: noise ({', '.join(map(as_text, levels))}) "
        f"on the labels X11, X12, X22, lr = {as_text(lr)}"
    )
    settings = {
        "u": [entry for row in U for entry in row],
        "lr": lr,
        "presets": list(PRESETS.values()),
        "pace": min(MOST_STEPS, round(PER_FRAME / lr**2)),
        "horizon": round(HORIZON / lr**2),
        "seed": seed,
    }
    return live_figure(
        "motor",
        inside,
        label="A motor that label noise drives, to play with",
        text=text,
        scripts=(
            "engine/loop.js",
            "engine/matrix_sensing.js",
            "engine/solve.js",
            "engine/motor.js",
            "link.js",
            "motor_pictures.js",
            "motor.js",
        ),
        settings=settings,
        styles=("motor.css",),
    )


def _as_levels(noise_std: Sequence[float] | torch.Tensor) -> tuple[float, ...]:
    try:
        levels = tuple(noise_std.tolist() if isinstance(noise_std, torch.Tensor) else noise_std)
    except TypeError:
        raise TypeError(f"noise_std must be a sequence of three numbers, got {noise_std!r}") from None
    if len(levels) != len(SLIDERS):
        raise ValueError(f"noise_std must have three numbers, one for each label, got {len(levels)}")
    return tuple(as_between("noise_std", level, 0, MOST) for level in levels)
