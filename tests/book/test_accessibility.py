"""No page has anything that axe-core finds wrong, but for what is the theme's."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from repository import PAGES

pytestmark = pytest.mark.site

# Rules that the theme breaks on every page, outside the article; inside it they hold like all others.
THE_THEME_S = {"label-content-name-mismatch", "landmark-unique", "region", "scrollable-region-focusable"}
# What docutils makes of a bibliography's entries and of the description of a function.
OF_DOCUTILS = {
    "book/bibliography": {"aria-allowed-role", "aria-deprecated-role", "aria-required-children"},
    "book/api": {"definition-list"},
}
# Where a point to be dragged lies is what the picture says, near another one or not: WCAG's exception for what is essential.
OF_THE_DATA = {"notebooks/13_find_the_simplest_function_in_any_dimension": {"target-size"}}
KNOWN = OF_DOCUTILS | OF_THE_DATA
ALL_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# By night only colours are others, and all rules once more take as long as all other tests of a page.
RULES = {"light": ALL_RULES, "dark": ["color-contrast"]}


def violations(page, scope, rules=ALL_RULES):
    options = {"resultTypes": ["violations"], "runOnly": rules}
    found = Axe().run(page, context=scope, options=options).response["violations"]
    return {one["id"]: [node["html"][:150] for node in one["nodes"]] for one in found}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("opened", "name"), [(name, name) for name in PAGES], indirect=["opened"], ids=PAGES)
def test_page_is_accessible(look, name, scheme):
    page = look(color_scheme=scheme)
    found = violations(page, "article", RULES[scheme])
    assert {rule: nodes for rule, nodes in found.items() if rule not in KNOWN.get(name, set())} == {}


def test_around_the_article_there_is_what_the_theme_has(server, open_page):
    page = open_page(f"{server}/{PAGES[1]}.html")
    assert set(violations(page, None)) <= THE_THEME_S
