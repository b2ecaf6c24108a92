"""Matrix sensing, small: the page itself draws the measurements and trains, with label noise and without."""

from ..arguments import as_between, as_count, as_nonnegative
from ..data import psd_uniqueness_bound
from .controls import as_text
from .stage import LiveFigure, buttons, canvas, live_figure, slider, speed_slider

STDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)


def live_sensing(
    *, dim: int = 12, measurements: int = 32, noise_std: float = 0.3, step_size: float = 0.5, seed: int = 0
) -> LiveFigure:
    """Let a matrix of rank 1 be found, or not, from too few measurements: the spectrum collapses while one looks.

    A :class:`MatrixSensing` of size ``dim`` starts at the identity and reads ``measurements`` numbers ``<A_i, X*>``, A_i with
    independent standard normal entries and X* of rank 1 with entries of its factor from N(0, 1/dim), one a step. Two copies
    read the same examples, one with fresh label noise. One picture has the eigenvalues of ``X = U U^T`` of both and of
    X*; the other ``||X - X*||_F^2 / ||X*||_F^2`` of both against steps. The reader can have other measurements, more of them
    or fewer, and turn the noise on and off; a sentence says how many measurements leave nothing to choose
    (:func:`psd_uniqueness_bound`).

    All of it is JavaScript inside the returned HTML: it needs no kernel and asks for nothing from outside.

    Args:
        dim: d, 4 to 16.
        measurements: n at first, 4 to 100.
        noise_std: standard deviation of the label noise at first, >= 0; each is plus or minus it.
        step_size: the learning rate over ``1 / E reg(U_0) = 1 / (2 d (d + 1))``, above 0 and below 1.
        seed: of the data and the noise, 0 to 2**32 - 1; the reader can have the next one.

    Returns:
        An object for the last line of a cell or for ``display``.

    Raises:
        TypeError: if a number is no number, or no integer where one is needed.
        ValueError: if a number is out of its range.

    Source: section 1.1, "Matrix sensing", and Figure 1; chapter "Recover a low-rank matrix".

    >>> live_sensing(dim=10, measurements=25)
    a 10 x 10 matrix of rank 1 from 25 measurements, with label noise of standard deviation 0.3 and without
    """
    dim, seed = as_count("dim", dim, 4, 16), as_count("seed", seed, 0, 2**32 - 1)
    measurements = as_count("measurements", measurements, 4, 100)
    noise_std, step_size = as_nonnegative("noise_std", noise_std), as_between("step_size", step_size, 0.01, 0.99)
    bound = psd_uniqueness_bound(dim, 1)
    offered = sorted({round(bound * k / 10) for k in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 18)})
    inside = f"""<div class="labelnoise-pair">
{canvas("Eigenvalues of X")}
{canvas("Test error against steps")}
</div>
{buttons("Start", "Start again", "New matrix")}
<p class="labelnoise-readout"></p>
<div class="labelnoise-controls">
{slider("noise_std", "noise σ", STDS, noise_std)}
{slider("measurements", "measurements n", offered, measurements)}
{speed_slider()}
</div>
<p class="labelnoise-hint">The noise can be changed while it runs; another number of measurements starts anew.</p>"""
    text = (
        f"a {dim} x {dim} matrix of rank 1 from {measurements} measurements, "
        f"with label noise of standard deviation {as_text(noise_std)} and without"
    )
    return live_figure(
        "sensing",
        inside,
        label="Matrix sensing, to play with",
        text=text,
        scripts=("engine/loop.js", "engine/matrix_sensing.js", "engine/spectrum.js", "sensing.js"),
        settings={"dim": dim, "lr": step_size / (2 * dim * (dim + 1)), "bound": bound, "seed": seed},
    )
