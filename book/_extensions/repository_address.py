"""While the repository's address is the placeholder, no page has a button that would lead nowhere."""

from sphinx.application import Sphinx
from sphinx.config import Config

LINKS = ("launch_buttons", "repository_url", "use_issues_button", "use_repository_button")


def without_dead_links(app: Sphinx, config: Config) -> None:
    """Take the buttons to the repository, Colab and Binder off every page while OWNER stands for its owner."""
    options = config.html_theme_options
    if "/OWNER/" in options.get("repository_url", ""):
        for link in LINKS:
            options.pop(link, None)


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx about this extension."""
    app.connect("config-inited", without_dead_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
