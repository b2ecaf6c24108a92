"""A figure to explore, the HTML that becomes of it, and the elements of a piece of HTML."""

from html.parser import HTMLParser

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
