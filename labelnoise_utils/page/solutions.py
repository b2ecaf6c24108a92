"""All tanh units that are at rest on two data points, with their prices under the reader's hand."""

from ..arguments import as_between
from .controls import as_text
from .stage import LiveFigure, canvas, live_figure, slider

MOST = 1.0
FIRST = tuple(k / 100 for k in range(101))
SECOND = tuple(k / 100 for k in range(-50, 51))
LENGTHS = (0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 5.0, 10.0)


def live_solutions(*, prices: tuple[float, float] = (0.4, 0.02), sq_norm: float = 0.1) -> LiveFigure:
    """Let the reader drag the prices of two data points, and see all solutions of the equations of a tanh unit.

    The first data point has length 1, the second ``sq_norm ** 0.5``. A unit at rest is a critical point (c, h_1, h_2) of
    ``Gamma = sum_j [h_j^2 + c^2 |x_j|^2 (1 - h_j^2)^2] - c sum_j mu_j h_j``. The left picture is the plane of the prices mu,
    shaded by the number of solutions with c > 0, and green where one of them is a minimum of Gamma. The right one has the
    solutions in the plane of h_1 and h_2, on the branches of the two cubics, and says each one's c. They are computed as
    in :func:`~labelnoise_utils.simplicity.several_data_points.units`.

    All of it is JavaScript inside the returned HTML: it needs no kernel and asks for nothing from outside.

    Args:
        prices: mu at first, from 0 to 1 and from -1/2 to 1/2.
        sq_norm: squared length of the second data point at first, 0.03 to 10.

    Returns:
        An object for the last line of a cell or for ``display``.

    Raises:
        TypeError: if a number is no number, or ``prices`` no pair.
        ValueError: if a number is out of its range.

    Source: Appendix C for several data points; chapter "Add data points".

    >>> live_solutions(prices=(0.8, 0.1))
    All units at rest on two data points at prices 0.8 and 0.1, squared lengths 1 and 0.1
    """
    if not isinstance(prices, tuple | list) or len(prices) != 2:
        raise TypeError(f"prices must be a pair of numbers, got {prices!r}")
    first, second = as_between("prices[0]", prices[0], 0, MOST), as_between("prices[1]", prices[1], -MOST / 2, MOST / 2)
    sq_norm = as_between("sq_norm", sq_norm, LENGTHS[0], LENGTHS[-1])
    inside = f"""<div class="labelnoise-pair">
{canvas("Plane of the two prices", "Drag the blue point")}
{canvas("Plane of the values of a unit on the two points")}
</div>
<p class="labelnoise-readout"></p>
<div class="labelnoise-controls">
{slider("first", "price μ₁", FIRST, first)}
{slider("second", "price μ₂", SECOND, second)}
{slider("length", "|x₂|²", LENGTHS, sq_norm)}
</div>
<p class="labelnoise-hint">Drag the blue point. A price of the other sign turns the sign of its value.</p>"""
    return live_figure(
        "solutions",
        inside,
        label="All units at rest on two data points, to play with",
        text=f"All units at rest on two data points at prices {as_text(first)} and {as_text(second)}, "
        f"squared lengths 1 and {as_text(sq_norm)}",
        scripts=("solutions_law.js", "solutions.js"),
        settings={"most": MOST},
    )
