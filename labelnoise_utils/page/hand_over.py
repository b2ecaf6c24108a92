"""The hand-over under the reader's hand: the level at which one unit hands over to another, and reg that pulls it."""

from ..arguments import as_between
from ..simplicity.hand_over import TWO
from .controls import as_text
from .stage import LiveFigure, buttons, canvas, live_figure, slider, speed_slider

LEAST, MOST = 0.305, 0.495
LEVELS = tuple(round(LEAST + k / 1000, 3) for k in range(191))
CONCAVE = 0.45


def live_hand_over(*, level: float = CONCAVE) -> LiveFigure:
    """Let the reader drag the level at which unit B hands over to unit A, and see where reg pulls it.

    The networks are those of ``hand_over.TWO``: at each level they fit the six data. The first picture is the function near the
    hand-over, the second reg against the level, with the other three free numbers at their best. Let go, the network follows
    ``-P grad reg``, the flow of label noise, along the zero-error manifold: away from .45, the only level at which the function
    is concave, to .362.

    All of it is JavaScript inside the returned HTML: it needs no kernel and asks for nothing from outside.

    Args:
        level: at first, 0.305 to 0.495.

    Returns:
        An object for the last line of a cell or for ``display``.

    Raises:
        TypeError: if the level is no number.
        ValueError: if it is out of its range.

    Source: ours; chapter "Go deeper".

    >>> live_hand_over()
    Six points, and networks that fit them at every level of the hand-over, at first 0.45
    """
    level = as_between("level", level, LEAST, MOST)
    inside = f"""<div class="labelnoise-pair">
{canvas("A function through three points", "Drag the dashed line: the level")}
{canvas("Reg against the level", "Drag the point")}
</div>
{buttons("Start", "Start again", "Another start")}
<p class="labelnoise-readout"></p>
<div class="labelnoise-controls">
{slider("level", "level", LEVELS, level)}
{speed_slider()}
</div>
<p class="labelnoise-hint">Drag the dashed line, or the point, or move the slider; while it runs, reg pulls the level.</p>"""
    text = f"Six points, and networks that fit them at every level of the hand-over, at first {as_text(level)}"
    settings = {
        "x": [float(v) for v in TWO.x],
        "y": [float(v) for v in TWO.y],
        "levels": [LEAST, MOST],
        "concave": CONCAVE,
        "starts": [0.31, 0.49, 0.45],
        "step": 0.02,
        "horizon": 4000,
        "seed": 0,
    }
    return live_figure(
        "hand-over",
        inside,
        label="The level of the hand-over, to play with",
        text=text,
        scripts=("engine/solve.js", "engine/hand_over.js", "hand_over.js"),
        settings=settings,
    )
