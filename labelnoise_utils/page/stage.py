"""What the figures that compute in the page have in common: their frame in HTML, their controls, their words elsewhere."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape

from .controls import as_text
from .offline import embedded, script

SPEEDS = {0: "automatic", 1: "1 step a frame"} | {10**k: f"{10**k:,} steps a frame" for k in range(1, 5)}


@dataclass(frozen=True, repr=False, eq=False)
class LiveFigure:
    """A figure that a page computes while it is looked at; a notebook or a page shows it, and the reader moves it.

    Attributes:
        text: what it is, in a line.
        html: all of it, which needs no kernel and asks for nothing from outside.
    """

    text: str
    html: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


def live_figure(
    name: str,
    inside: str,
    *,
    label: str,
    text: str,
    scripts: Sequence[str],
    settings: Mapping[str, object],
    styles: Sequence[str] = (),
    engine: Sequence[str] = (),
) -> LiveFigure:
    """Put a figure into its frame.

    Args:
        name: of its kind: the class that its script looks for.
        inside: its pictures and controls, which show only where its script runs.
        label: what it is, for those who do not see it.
        text: what it would show, where no script runs.
        scripts: its own JavaScript files; the draws, the pen and the stage stand before them.
        settings: what the script has to know.
        styles: its own style sheets.
        engine: the files that it runs in a worker, if it has one; see :func:`labelnoise_utils.page.offline.script`.

    Returns:
        The figure; the same arguments give the same HTML.
    """
    style = "\n".join(map(embedded, ("figure.css", "stage.css", *styles)))
    body = f"""<style>{style}</style>
<p class="labelnoise-fallback">{escape(text)} It needs JavaScript: open the book's page, or trust the notebook.</p>
<div class="labelnoise-needs-script" hidden>
{inside}
</div>
<p role="status"></p>
{script("engine/random.js", "pen.js", "stage.js", *scripts, engine=engine)}"""
    data = f'data-settings="{escape(json.dumps(settings))}"'
    number = sha256(f"{data} {body}".encode()).hexdigest()[:8]
    html = f"""<div class="labelnoise-explore labelnoise-stage labelnoise-{name}" id="{name}-{number}" role="group"
aria-label="{escape(label)}" {data} data-ready>
{body}
</div>"""
    return LiveFigure(text, html)


def canvas(label: str, title: str = "") -> str:
    """A picture that a script draws; its label says what, and is renewed as it changes."""
    tip = f' title="{escape(title)}"' * bool(title)
    return f'<canvas role="img" aria-label="{escape(label)}"{tip}></canvas>'


def buttons(*names: str) -> str:
    """Buttons in a row; the first starts and pauses."""
    row = "\n".join(f'<button type="button">{escape(name)}</button>' for name in names)
    return f'<p class="labelnoise-buttons">\n{row}\n</p>'


def slider(name: str, label: str, offered: Sequence[float], start: float, texts: Sequence[str] | None = None) -> str:
    """A range input over some values, with the first one among them."""
    values = sorted({*offered, start})
    texts = texts or tuple(map(as_text, values))
    return (
        f'<label><span>{escape(label)}</span> <input type="range" name="{name}" min="0" max="{len(values) - 1}" '
        f'value="{values.index(start)}" data-values="{escape(json.dumps(values))}" data-texts="{escape(json.dumps(texts))}" '
        'autocomplete="off"></label><span aria-hidden="true"></span>'
    )


def speed_slider() -> str:
    """How many steps a frame."""
    return slider("speed", "speed", tuple(SPEEDS), 0, tuple(SPEEDS.values()))
