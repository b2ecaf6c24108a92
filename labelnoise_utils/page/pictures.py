"""One drawing as a picture that a page can hold: small, opaque, and with its content in words."""

import base64
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

COLOURS = 64


@dataclass(frozen=True)
class Picture:
    """A PNG image, its size in pixels, and what it shows."""

    png: bytes
    width: int
    height: int
    alt: str

    def html(self, *, hidden: bool = False) -> str:
        """An ``img`` element that holds the picture itself."""
        data = base64.b64encode(self.png).decode()
        size = f'width="{self.width}" height="{self.height}"'
        return f'<img {size} alt="{escape(self.alt)}" src="data:image/png;base64,{data}"{" hidden" * hidden}>'


def take(function: Callable, chosen: dict, alt: str) -> Picture:
    """Call a drawing function and keep what it drew, with no figure left open.

    Args:
        function: returns a figure, or opens one with pyplot.
        chosen: its arguments.
        alt: what the picture shows.

    Returns:
        The whole figure at its own size and resolution, so that pictures of one function fit on each other; in at most
        ``COLOURS`` colours, which leaves a third of the bytes and moves no colour visibly.

    Raises:
        TypeError: if there is no figure.
    """
    before = _open_figures()
    figure = None
    try:
        figure = function(**chosen)
        opened = [number for number in _open_figures() if number not in before]
        if not isinstance(figure, Figure):
            if not opened:
                raise TypeError(
                    f"the function must return a figure, or open one with pyplot and leave out plt.show(); got {figure!r}"
                )
            figure = sys.modules["matplotlib.pyplot"].figure(opened[-1])
        return _as_picture(figure, alt)
    finally:
        _close(figure, before)


def _open_figures() -> list[int]:
    pyplot = sys.modules.get("matplotlib.pyplot")
    return pyplot.get_fignums() if pyplot else []


def _close(figure: object, before: list[int]) -> None:
    pyplot = sys.modules.get("matplotlib.pyplot")
    if isinstance(figure, Figure) and pyplot:
        pyplot.close(figure)
    for number in _open_figures():
        if number not in before:
            pyplot.close(number)


def _as_picture(figure: Figure, alt: str) -> Picture:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba()))
    on_white = Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")
    # Of Pillow's ways the one that keeps the colour of a thin line or a small marker.
    few = on_white.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    few.save(buffer, format="png", optimize=True)
    return Picture(buffer.getvalue(), *few.size, alt)
