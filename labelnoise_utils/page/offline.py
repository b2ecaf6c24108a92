"""The face that needs no kernel: all pictures in one piece of HTML, and inputs that choose among them."""

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from .controls import Control
from .pictures import Picture


def moving(pictures: Sequence[Picture], start: int, controls: Sequence[Control]) -> str:
    """HTML that moves by itself; it asks for nothing from outside and is the same for the same pictures.

    Args:
        pictures: one for each combination of values, that of the last control running fastest.
        start: number of the picture to show first.
        controls: what the reader chooses from.

    Returns:
        A piece of HTML with its style and its script. The inputs show only where the script runs.
    """
    images = "\n".join(picture.html(hidden=number != start) for number, picture in enumerate(pictures))
    inputs = "\n".join(map(_input, controls))
    return f"""<div class="labelnoise-explore" role="group" aria-label="Figure with controls">
<style>{embedded("figure.css")}</style>
{images}
<div class="labelnoise-controls" hidden>
{inputs}
</div>
<p role="status"></p>
<script>{embedded("explore.js")}</script>
</div>"""


def still(picture: Picture, said: str) -> str:
    """One picture and a sentence below it.

    Args:
        picture: what to show.
        said: the sentence.

    Returns:
        A piece of HTML with its style.
    """
    return f"""<div class="labelnoise-explore" data-ready>
<style>{embedded("figure.css")}</style>
{picture.html()}
<p>{escape(said)}</p>
</div>"""


def _input(control: Control) -> str:
    start = control.values.index(control.start)
    label = f"<span>{escape(control.label)}</span>"
    if control.is_numeric:
        texts = escape(json.dumps(control.texts))
        field = f'<input type="range" min="0" max="{len(control.texts) - 1}" value="{start}" data-texts="{texts}"'
        value = '<span aria-hidden="true"></span>'
        return f'<label>{label} {field} autocomplete="off"></label>{value}{_play(control)}'
    options = "".join(
        f'<option value="{number}"{" selected" * (number == start)}>{escape(text)}</option>'
        for number, text in enumerate(control.texts)
    )
    return f'<label>{label} <select autocomplete="off">{options}</select></label><span></span>'


def _play(control: Control) -> str:
    """A button that moves through the values, where there are more of them than a key or two would do."""
    if not control.has_play:
        return ""
    name = escape(control.label)
    return f'<button type="button" data-label="{name}" aria-label="Play {name}">Play</button>'


def embedded(name: str) -> str:
    """A file of this folder as it may stand inside a style or a script.

    Args:
        name: of the file.

    Returns:
        Its text, with nothing in it that ends the element early.
    """
    return files(__package__).joinpath(name).read_text("utf-8").strip().replace("</", "<\\/")


def script(*names: str, engine: Sequence[str] = ()) -> str:
    """Some JavaScript files of this folder as one script, whose names no other script on the page sees.

    Args:
        names: of the files, each before those that use it.
        engine: files that run in a worker: together the body of a function ``engine(port)`` that ``names`` can use. None
            of what is in it has a name outside; ``port.js`` makes the worker of its text.

    Returns:
        A script element.
    """
    inside = "\n\n".join(map(embedded, names))
    if engine:
        body = "\n\n".join(map(embedded, engine))
        inside = f"function engine(port) {{\n{body}\n}}\n\n{inside}"
    return f'<script>(() => {{\n"use strict";\n{inside}\n}})();</script>'
