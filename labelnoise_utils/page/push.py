"""Why a round cloud is pushed: two mirror points across a valley, the sum of their steps, and the cloud that it moves."""

import math
from html import escape

from ..arguments import as_between, as_count, as_positive
from .controls import as_text
from .stage import LiveFigure, buttons, canvas, live_figure, slider, speed_slider

LEAST, MOST = 0.36, 2.8
PLACES = tuple(round(1.02**k, 4) for k in range(-51, 52))
DISTANCES = tuple(k / 100 for k in range(-80, 81))
TERMS = {
    "00": "(0, 0) noise",
    "10": "(1, 0) pull of the walls",
    "01": "(0, 1) noise × turning",
    "20": "(2, 0) bend",
    "11": "(1, 1) error × turning",
}
LARGEST_PULL = 0.5


def push(
    *, u: float = 1.7, distance: float = 0.5, lr: float = 0.02, noise_std: float = 0.5, particles: int = 200, seed: int = 0
) -> LiveFigure:
    """Let the reader find out why a cloud on a valley is pushed: a point to drag, its mirror twin, and the sum of their steps.

    The model is :class:`Product`, h = u v, on one data point, y = 1. The point stands across the valley u v = 1 from
    theta* = (u, 1 / u), its twin as far on the other side. The error is positive above and negative below, and the
    gradient of h has turned to opposite sides; so the product of the two, the term (1, 1) of equation (6), is the same at
    both. At the distance a their steps add up to ``-2 lr a^2 grad reg`` along the valley, reg = u^2 + v^2, to third order in a
    and for this model exactly: downhill from every place. A cloud is full of such pairs. The second picture has one,
    which starts at theta*; its mean is predicted to move by ``-lr w grad reg`` along the valley in each step, with
    ``w = lr noise_std^2 / (1 - lr reg)`` for the variance across it.

    Five of the six terms of equation (6) can be switched off, the sixth, (0, 2), being zero for this model. They are
    taken around the point of the valley that is nearest to each run at each step, so with all of them a run is label-noise
    SGD itself. Frozen noise, that each run keeps, is another label and pushes nothing.

    All of it is JavaScript inside the returned HTML: it needs no kernel and asks for nothing from outside.

    Args:
        u: where on the valley at first, 0.36 to 2.8; v is 1 / u.
        distance: of the point from the valley at first, -0.8 to 0.8, negative on the side of the origin. Nearer where its
            twin would leave the quadrant u, v > 0.
        lr: learning rate, > 0 and at most half of 1 / reg at the steepest place to choose.
        noise_std: standard deviation of the label noise, 0 to 1, in units of the label; each is plus or minus it.
        particles: runs in the cloud, 1 to 1000.
        seed: of the noise, 0 to 2**32 - 1; the reader can have the next one.

    Returns:
        An object for the last line of a cell or for ``display``.

    Raises:
        TypeError: if an argument is no number, or no integer where one is needed.
        ValueError: if an argument is out of its range.

    Source: section 3.3, which finds the push in the fifth term of equation (6); chapter "See the cloud push downhill".

    >>> push(u=1.5)
    A point across the valley u v = 1 at u = 1.5, its mirror twin, and a cloud of 200 runs with lr = 0.02, σ = 0.5
    """
    u, distance = as_between("u", u, LEAST, MOST), as_between("distance", distance, -0.8, 0.8)
    lr = as_between("lr", as_positive("lr", lr), 0, LARGEST_PULL / (MOST**2 + MOST**-2))
    noise_std = as_between("noise_std", noise_std, 0, 1)
    particles, seed = as_count("particles", particles, 1, 1000), as_count("seed", seed, 0, 2**32 - 1)
    switches = "\n".join(
        f'<label><input type="checkbox" name="term{term}" checked autocomplete="off"> <span>{escape(words)}</span></label>'
        for term, words in TERMS.items()
    )
    inside = f"""<div class="labelnoise-pair">
{canvas("A point across the valley and its mirror twin", "Drag the blue point")}
{canvas("The cloud in the plane of u and v")}
</div>
<div class="labelnoise-wide">
{canvas("Way of the mean along the valley")}
</div>
<p class="labelnoise-readout"></p>
{buttons("Start", "Start again", "Other noise")}
<details>
<summary>Switch terms of the step off (equation 6, explained below)</summary>
<div class="labelnoise-switches">
{switches}
</div>
</details>
<div class="labelnoise-controls">
<label><span>noise</span> <select name="noise" autocomplete="off"><option value="fresh">fresh</option>
<option value="frozen">frozen</option></select></label><span></span>
{slider("place", "u on the valley", PLACES, u)}
{slider("distance", "distance across", DISTANCES, distance)}
{speed_slider()}
</div>
<p class="labelnoise-hint">Drag the blue point, across the valley and along it. Steps are drawn without their noise, whose
mean is 0. What the sum (grey) has across the valley the walls take back; what it has along it (green) stays.</p>"""
    text = (
        f"A point across the valley u v = 1 at u = {as_text(u)}, its mirror twin, and a cloud of {particles} runs "
        f"with lr = {as_text(lr)}, σ = {as_text(noise_std)}"
    )
    # Three times as long as the law takes for a factor e; that of a visible noise where there is none.
    horizon = math.ceil(3 / (4 * lr**2 * (noise_std or 0.5) ** 2))
    return live_figure(
        "push",
        inside,
        label="Why the cloud is pushed, to play with",
        text=text,
        scripts=("engine/product.js", "push_terms.js", "push_pictures.js", "push.js"),
        settings={"lr": lr, "noiseStd": noise_std, "particles": particles, "horizon": horizon, "seed": seed},
    )
