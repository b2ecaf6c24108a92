"""A figure that the reader moves: one object with a face for a live notebook and one for a page."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from . import live, offline
from .controls import Value, in_words, make_controls
from .pictures import Picture, take


@dataclass(frozen=True, repr=False, eq=False)
class Exploration:
    """A figure with controls, as :func:`labelnoise_utils.explore` makes it; a notebook shows it.

    Attributes:
        text: what it is, in a line.
        html: the face for a page.
        widget: the face for a live notebook, an ipywidgets box; None if nobody is there to move it.
    """

    text: str
    html: str
    widget: object = None

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict:
        bundle = {"text/plain": self.text, "text/html": self.html}
        if self.widget is not None:
            bundle = self.widget._repr_mimebundle_() | bundle
        return bundle


def explore(
    function: Callable,
    *,
    alt: str | Callable[..., str] = "Figure",
    start: Mapping[str, Value] | None = None,
    labels: Mapping[str, str] | None = None,
    **values: Sequence[Value],
) -> Exploration:
    """Draw a figure whose arguments the reader chooses.

    For a reader in a live notebook (Jupyter, Colab) each move of a control calls ``function`` again: what trains in it,
    trains then. Where a program executes the notebook, as for the book's pages, or where ipywidgets is missing, all
    pictures are drawn now, and the result moves over them without a kernel.

    A slider with three values or more has a Play button, which moves through them once.

    Args:
        function: called with one value for each control, by name; returns a matplotlib figure, or opens one with pyplot
            (without ``plt.show()``). The figure is closed afterwards.
        alt: what is to be seen, for those who do not see it: a text, to which the chosen values are added, or a function
            of the same arguments that returns it.
        start: the value at which a control stands at first, by the control's name; otherwise its first one.
        labels: the words for a control, by its name; otherwise the name.
        **values: for each control, under the name of the argument, at least two values: numbers for a slider, strings for
            a list. The names ``alt``, ``start`` and ``labels`` are taken.

    Returns:
        The figure with its controls, to be the last line of a cell or passed to ``display``.

    Raises:
        TypeError: if ``function`` cannot be called or draws no figure, or an argument is not of the kind above.
        ValueError: if there is no control, one has fewer than two values or two that read the same (in six digits),
            ``start`` or ``labels`` name what does not exist, or the combinations are more than 64.

    What ``function`` itself raises is passed on, with the values added.

    >>> from matplotlib.figure import Figure
    >>> def parabola(curvature):
    ...     figure = Figure()
    ...     figure.subplots().plot([-1, 0, 1], [curvature, 0, curvature])
    ...     return figure
    >>> explore(parabola, curvature=[1, 2, 4], alt="Three points of a parabola")
    figure with controls, drawn for curvature = 1
    """
    if not callable(function):
        raise TypeError(f"explore needs a function that draws a figure, got {function!r}")
    if not isinstance(alt, str) and not callable(alt):
        raise TypeError(f"alt must be a text or a function that returns one, and is no control, got {alt!r}")
    controls = make_controls(values, start=start, labels=labels)

    def draw(choice: Sequence[Value]) -> Picture:
        chosen = dict(zip(values, choice, strict=True))
        said = in_words(controls, choice)
        try:
            return take(function, chosen, f"{alt}; {said}" if isinstance(alt, str) else str(alt(**chosen)))
        except Exception as error:
            error.add_note(f"while drawing for {said}")
            raise

    first = tuple(control.start for control in controls)
    said = in_words(controls, first)
    text = f"figure with controls, drawn for {said}"
    if live.is_possible():
        began = time.perf_counter()
        picture = draw(first)
        seconds = time.perf_counter() - began
        html = offline.still(picture, f"Drawn for {said}. Run the notebook to choose other values.")
        return Exploration(text, html, live.widget(draw, controls, picture, seconds))
    choices = list(itertools.product(*(control.values for control in controls)))
    return Exploration(text, offline.moving([draw(choice) for choice in choices], choices.index(first), controls))
