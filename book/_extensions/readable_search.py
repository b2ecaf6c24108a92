"""The search page has a script of the book's own, and MathJax for the formulas in what it quotes; it alone has the index."""

import re
from pathlib import Path

from sphinx.application import Sphinx

# The theme puts these on every page, for a search while one types, which the book does not have.
SEARCH = re.compile(r'\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>')


def add_script(app: Sphinx, page: str, *_: object) -> None:
    """Load ``book/_static/search_results.js`` on the search page, after the search itself."""
    if page == "search":
        app.add_js_file("search_results.js", loading_method="defer")


def leave_the_index_to_the_search(app: Sphinx, error: Exception | None) -> None:
    """Take the search's scripts off every other page: they are heavier than its text."""
    if error or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        if page.name != "search.html":
            page.write_text(SEARCH.sub("", page.read_text("utf-8")), "utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx about this extension."""
    app.set_html_assets_policy("always")  # else MathJax comes only to pages with formulas of their own
    app.connect("html-page-context", add_script)
    app.connect("build-finished", leave_the_index_to_the_search)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
