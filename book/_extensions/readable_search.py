"""The search page has a script of the book's own, and MathJax for the formulas in what it quotes."""

from sphinx.application import Sphinx


def add_script(app: Sphinx, page: str, *_: object) -> None:
    """Load ``book/_static/search_results.js`` on the search page, after the search itself."""
    if page == "search":
        app.add_js_file("search_results.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx about this extension."""
    app.set_html_assets_policy("always")  # else MathJax comes only to pages with formulas of their own
    app.connect("html-page-context", add_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
