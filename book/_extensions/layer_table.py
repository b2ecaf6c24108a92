"""``{layer-table}`` says which method of the regularizer takes which layer of torch, as the tests find it out."""

import functools
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

TESTS = Path(__file__).resolve().parents[2] / "tests"


class LayerTable(SphinxDirective):
    """A row for each method, with the classes that it is the first to take."""

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        self.env.note_dependency(str(TESTS / "layer_classes.py"))
        group = nodes.tgroup(cols=2)
        group += [nodes.colspec(colwidth=width) for width in (10, 90)]
        group += nodes.thead("", _row("method", "layers"))
        group += nodes.tbody("", *(_row(method, ", ".join(names)) for method, names in _methods().items()))
        return [nodes.table("", group, classes=["labelnoise-layer-table"])]


@functools.cache
def _methods() -> dict[str, list[str]]:
    """Build all the networks, once for the pages that show the table."""
    sys.path.insert(0, str(TESTS))
    try:
        from layer_classes import table
    finally:
        sys.path.remove(str(TESTS))
    return table()


def _row(*cells: str) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph(text=cell)) for cell in cells))


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx about this extension."""
    app.add_directive("layer-table", LayerTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
