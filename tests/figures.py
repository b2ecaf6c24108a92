"""A figure to explore, the HTML that becomes of it, and the elements of a piece of HTML."""

from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure

import labelnoise_utils as ln


def draw(height=1.0, colour="black"):
    figure = Figure(figsize=(3, 2), dpi=100)
    ax = figure.subplots()
    ax.bar([0], [height], color=colour)
    ax.set_ylim(0, 3)
    return figure


def html(*args, **kwargs):
    return ln.explore(*args, **kwargs)._repr_mimebundle_()["text/html"]


class Fragment(HTMLParser):
    """The elements of a piece of HTML, each as (tag, attributes)."""

    def __init__(self, html):
        super().__init__()
        self.elements = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def assert_white_and_sharp(page, scale=3):
    """Every canvas on a page has as many points as the screen, which has so many to a pixel, and is white at its corner."""
    for canvas in page.get_by_role("img").all():
        wide, corner = canvas.evaluate(
            "(one) => [one.width / one.clientWidth, [...one.getContext('2d').getImageData(0, 0, 1, 1).data]]"
        )
        assert wide == pytest.approx(scale, abs=0.01)
        assert corner == [255] * 4
