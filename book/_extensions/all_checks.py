"""``{all-checks}`` lists every check of the book, chapter by chapter, from what the notebooks left when they ran."""

import json
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from labelnoise_utils.page.folded import DATA

FIELDS = ("claim", "measured", "predicted", "tolerance")


def checks_of(notebook: Path) -> list[dict[str, str]]:
    """The checks in the outputs of an executed notebook, in their order."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [check for output in outputs for check in output.get("metadata", {}).get(DATA, [])]


class AllChecks(SphinxDirective):
    """A table for each page that checks something; it asks for the folder with the executed copies."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the tables."""
        folder = Path(self.env.srcdir) / self.arguments[0]
        copies = {page: folder / f"{Path(page).name}.ipynb" for page in self.env.app.config.external_site_map}
        for page, copy in copies.items():
            if page.startswith("notebooks/") and not copy.is_file():
                raise self.error(f"no executed copy of {page} in {folder}: its checks would be missing without a word")
        found = {page: checks_of(copy) for page, copy in copies.items() if copy.is_file()}
        total = sum(map(len, found.values()))
        if not total:
            raise self.error(f"no check in {folder}: run the notebooks first")
        said = nodes.paragraph(text=f"The book has {total} checks; every one of them held when these pages were built.")
        return [said, *(node for page, checks in found.items() if checks for node in self._section(page, checks))]

    def _section(self, page: str, checks: list[dict[str, str]]) -> Iterator[nodes.Node]:
        link = pending_xref(
            "", nodes.inline(), refdomain="std", reftype="doc", reftarget=f"/{page}", refexplicit=False, refwarn=True
        )
        yield nodes.paragraph("", "", nodes.strong("", "", link), nodes.Text(f": {len(checks)}"))
        table = nodes.table(classes=["labelnoise-all-checks"])
        group = nodes.tgroup(cols=len(FIELDS))
        group += [nodes.colspec(colwidth=width) for width in (46, 20, 20, 14)]
        group += nodes.thead("", _row(dict(zip(FIELDS, FIELDS, strict=True))))
        group += nodes.tbody("", *map(_row, checks))
        table += group
        yield table


def _row(check: dict[str, str]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph(text=check[field])) for field in FIELDS))


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx about this extension."""
    app.add_directive("all-checks", AllChecks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
