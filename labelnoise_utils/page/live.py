"""The face for a notebook that somebody sits in front of: ipywidgets, which draw anew at each move."""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from html import escape

from .controls import Control, Value, in_words
from .pictures import Picture


def is_possible() -> bool:
    """Whether somebody is there to move a control, and ipywidgets to show one.

    In Jupyter's messages a front end says whether running code may ask its reader a question (``allow_stdin``). A
    program that executes a notebook says no, and who reads the result later has no kernel.

    Returns:
        True in a notebook with a reader, where ipywidgets is installed.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if not hasattr(shell, "get_parent") or importlib.util.find_spec("ipywidgets") is None:
        return False
    return shell.get_parent().get("content", {}).get("allow_stdin", True)


def widget(draw: Callable[[Sequence[Value]], Picture], controls: Sequence[Control], first: Picture, seconds: float) -> object:
    """Sliders and lists below a picture, which is drawn anew when one of them moves.

    Args:
        draw: makes the picture for a choice, one value for each control.
        controls: what the reader chooses from.
        first: the picture at the start.
        seconds: that it took; a control that plays leaves half as much again for each of the others.

    Returns:
        An ipywidgets box: the picture, a line of text, the controls.
    """
    import ipywidgets

    picture = ipywidgets.HTML(first.html())
    inputs = [_input(ipywidgets, control) for control in controls]

    def told(then: str = "") -> str:
        return f'<p role="status">{escape(in_words(controls, [entry.value for entry in inputs]))}{then}</p>'

    status = ipywidgets.HTML(told())

    def redraw(_: object) -> None:
        status.value = told(": drawing")
        try:
            picture.value = draw([entry.value for entry in inputs]).html()
        except Exception as error:  # what a callback raises appears nowhere in a notebook
            status.value = f'<p role="alert">{escape(f"{type(error).__name__}: {error}")}</p>'
        else:
            status.value = told()

    for entry in inputs:
        entry.observe(redraw, "value")
    rows = [_with_play(ipywidgets, *pair, 1.5 * seconds) for pair in zip(inputs, controls, strict=True)]
    return ipywidgets.VBox([picture, status, *rows])


def _input(ipywidgets: object, control: Control) -> object:
    settings = {
        "options": list(zip(control.texts, control.values, strict=True)),
        "value": control.start,
        "description": control.label,
        "style": {"description_width": "initial"},
        "layout": {"width": "min(100%, 36rem)"},
    }
    if control.is_numeric:
        return ipywidgets.SelectionSlider(continuous_update=False, **settings)
    return ipywidgets.Dropdown(**settings)


def _with_play(ipywidgets: object, entry: object, control: Control, seconds: float) -> object:
    """A slider and, beside it, what moves through its values."""
    if not control.has_play:
        return entry
    milliseconds = round(1000 * max(0.7, seconds))
    play = ipywidgets.Play(value=entry.index, max=len(control.values) - 1, interval=milliseconds, show_repeat=False)
    play.tooltip = f"Play {control.label}"
    ipywidgets.link((play, "value"), (entry, "index"))
    return ipywidgets.HBox([entry, play])
