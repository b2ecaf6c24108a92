"""A round cloud that drifts along a valley in space: three parameters, two data points; the page itself computes it."""

from ..arguments import as_between, as_count, as_positive
from .controls import as_text
from .stage import LiveFigure, buttons, canvas, live_figure, slider, speed_slider

STDS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
LEAST, MOST = 0.75, 2.6


def cloud_in_space(
    *, u: float = 2.4, lr: float = 0.01, noise_std: float = 1.0, particles: int = 250, seed: int = 0
) -> LiveFigure:
    """Let a cloud of label-noise SGD drift along a valley in space, to be turned by hand: here one sees that it is round.

    Three parameters u, v, w and two outputs, ``h_1 = u v`` and ``h_2 = v^2 + w^2``, with the labels 1 and 2. So the valley
    is the curve where the surface u v = 1 meets the round cylinder v^2 + w^2 = 2. In the plane across it the cloud is
    predicted to have the variance ``lr noise_std^2`` in every direction, to first order in lr, though the walls are not
    equally steep; along it the mean is predicted to move by ``-lr^2 noise_std^2 P grad reg`` in each step, P being the
    projection on the tangent. On the valley ``reg = (u^2 + v^2) / 2 + 2 (v^2 + w^2) = (u^2 + 1 / u^2) / 2 + 4``, which is
    least, 5, where u = 1.

    All of it is JavaScript inside the returned HTML: it needs no kernel and asks for nothing from outside.

    Args:
        u: where on the valley the runs start, 0.75 to 2.6; v = 1 / u, w = sqrt(2 - v^2).
        lr: learning rate, > 0 and at most 0.05.
        noise_std: standard deviation of the label noise at first, 0 to 1.5, in units of the label; each is plus or minus it.
        particles: independent runs in the cloud, 2 to 1000.
        seed: of the draws, 0 to 2**32 - 1; the reader can have the next one.

    Returns:
        An object for the last line of a cell or for ``display``.

    Raises:
        TypeError: if an argument is no number, or no integer where one is needed.
        ValueError: if an argument is out of its range.

    Source: ours; sections 3.2 and 3.3, whose isotropic cloud this is; chapter "See the cloud push downhill".

    >>> cloud_in_space()
    A cloud of 250 runs of label-noise SGD on h = (u v, v² + w²), from u = 2.4, with lr = 0.01, σ = 1
    """
    u, noise_std = as_between("u", u, LEAST, MOST), as_between("noise_std", noise_std, 0, STDS[-1])
    lr = as_between("lr", as_positive("lr", lr), 0, 0.05)
    particles, seed = as_count("particles", particles, 2, 1000), as_count("seed", seed, 0, 2**32 - 1)
    inside = f"""<div class="labelnoise-pair">
{canvas("The cloud on its valley in space", "Drag to turn")}
{canvas("Reg along the way")}
</div>
{buttons("Start", "Start again", "Other noise")}
<p class="labelnoise-readout"></p>
<div class="labelnoise-controls">
<label><span>view</span> <select name="view" autocomplete="off"><option value="side">from the side</option>
<option value="along">along the valley</option></select></label><span></span>
{slider("noise_std", "noise σ", STDS, noise_std)}
{speed_slider()}
</div>
<p class="labelnoise-hint">Drag the left picture, or use the arrow keys on it, to turn it. In its corner is the cloud seen along
the valley, with a circle of twice the predicted width; grey is the shadow on the floor. Another noise starts anew.</p>"""
    text = (
        f"A cloud of {particles} runs of label-noise SGD on h = (u v, v² + w²), from u = {as_text(u)}, "
        f"with lr = {as_text(lr)}, σ = {as_text(noise_std)}"
    )
    # Near its end the drift slows down to the rate 4/3 (lr noise_std)^2.
    settings = {"u": u, "lr": lr, "particles": particles, "seed": seed, "horizon": round(3 / lr**2)}
    return live_figure(
        "space",
        inside,
        label="A round cloud that drifts along a valley in space",
        text=text,
        scripts=("engine/three_parameters.js", "turn.js", "space_valley.js", "space.js"),
        settings=settings,
    )
