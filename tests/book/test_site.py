"""The built book, opened in a browser as a reader would."""

import re
from html.parser import HTMLParser
from urllib.parse import parse_qs, unquote, urldefrag, urlsplit

import nbformat
import pytest
from browser import VIEWS
from playwright.sync_api import expect
from repository import CHAPTERS, NOTEBOOKS, PAGES, URL

pytestmark = pytest.mark.site

ALL_PAGES = [*PAGES, "index", "search"]


def untypeset(page):
    """Formulas that MathJax left alone, could not read, or set in red for a macro it lacks."""
    wrong = ("mjx-merror", "mjx-mtext[style*='color: red']")
    return [
        *page.locator(".math:not(:has(mjx-container))").all_inner_texts(),
        *page.locator(", ".join(f".math:has({mark})" for mark in wrong)).all_text_contents(),
    ]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("opened", ALL_PAGES, indirect=True)
def test_page_is_in_order(look, view):
    page = look(view)
    assert untypeset(page) == []
    for image in page.locator("img").all():
        alt = image.get_attribute("alt") or ""
        assert " " in alt.strip() and not re.search(r"\.[A-Za-z]\w{2,3}$", alt), image.get_attribute("src")[:80]
    width, visible = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width <= visible, "scrolls sideways"
    assert page.complaints == []


def test_sidebar_closes_and_opens(server, open_page):
    page = open_page(f"{server}/{PAGES[2]}.html")
    # The first chapter: a link further down may be below the fold.
    link = page.locator(".bd-sidebar-primary").get_by_role("link", name="See what label noise does")
    button = page.locator("button.primary-toggle:visible")
    expect(link).to_be_in_viewport()
    button.click()
    expect(link).not_to_be_in_viewport()
    button.click()
    expect(link).to_be_in_viewport()
    link.click()
    expect(page.locator("article h1")).to_contain_text("See what label noise does")
    assert page.complaints == []


def test_sidebar_opens_and_closes_on_a_phone(server, open_page):
    page = open_page(f"{server}/{PAGES[2]}.html", "phone")
    # The first chapter: as above.
    link = page.locator(".bd-sidebar-primary").get_by_role("link", name="See what label noise does")
    button = page.locator("button.primary-toggle:visible")
    expect(link).not_to_be_in_viewport()
    button.click()
    expect(link).to_be_in_viewport()
    page.keyboard.press("Escape")
    expect(link).not_to_be_in_viewport()
    button.click()
    link.click()
    expect(page.locator("article h1")).to_contain_text("See what label noise does")
    assert page.complaints == []


@pytest.mark.parametrize("view", VIEWS)
def test_search_leads_to_a_chapter(server, open_page, view):
    page = open_page(f"{server}/{PAGES[2]}.html", view)
    page.locator(".search-button__button:visible, .search-button:visible").first.click()
    page.keyboard.type("interpolant")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html*")
    page.wait_for_load_state("networkidle")  # the search page reads what it quotes
    page.locator("#search-results a[href*='notebooks/09_']").first.click()
    page.wait_for_url("**/notebooks/09_*")
    expect(page.locator("article h1")).to_contain_text("interpolant")
    assert page.complaints == []


def test_search_finds_every_chapter(server, open_page):
    page = open_page(f"{server}/search.html")
    for path in NOTEBOOKS:
        title = nbformat.read(path, as_version=4).cells[0].source.splitlines()[0]
        page.goto(f"{server}/search.html?q={max(re.findall(r'[A-Za-z]+', title), key=len)}", wait_until="commit")
        expect(page.locator(f"#search-results a[href*='notebooks/{path.stem}.html']").first).to_be_visible()


@pytest.mark.parametrize("words", ["regularizer", "manifold", "time scale is"])
def test_search_results_are_readable(server, open_page, words):
    page = open_page(f"{server}/search.html?q={words}")
    results = page.locator("#search-results")
    quotations = results.locator(".context").all_inner_texts()
    word = max(words.split(), key=len)
    assert sum(word in quotation.lower() for quotation in quotations) > len(quotations) / 2
    assert not re.search(r"\\[a-zA-Z(\[]", results.inner_text()), "raw LaTeX"
    assert results.locator("mjx-container").count() > 0
    assert untypeset(page) == []
    assert "Show the code" not in results.inner_text()
    assert page.complaints == []


# A4 with margins of 1 cm.
PAPER = {"width": 718, "height": 1047}


def put_on_paper(page):
    """The page as it is printed."""
    page.set_viewport_size(PAPER)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")


# What reaches beyond the text's right edge, and the boxes that cut off a line.
CUT_OFF = """() => {
  const edge = document.querySelector("article").getBoundingClientRect().right + 1;
  return [...document.querySelectorAll("article :not(mjx-assistive-mml, mjx-assistive-mml *)")].filter((element) => {
    const { right, width } = element.getBoundingClientRect();
    const isCut = element.matches("pre, .cell_output") && element.scrollWidth > element.clientWidth + 1;
    return width > 1 && (isCut || right > edge);
  }).map((element) => element.outerHTML.slice(0, 80));
}"""


@pytest.mark.parametrize("opened", PAGES, indirect=True)
def test_page_prints(look):
    page = look(color_scheme="dark")
    put_on_paper(page)
    no_use = ":is(button, input, details:not([open]) > summary, .bd-sidebar-primary, .prev-next-footer):visible"
    assert page.locator(no_use).count() == 0
    assert "Show the code" not in page.locator("body").inner_text()
    assert page.locator("article .solution > *:not(:visible)").count() == 0
    assert page.evaluate(CUT_OFF) == []
    for figure in page.locator(".labelnoise-explore:has(> .labelnoise-controls):has(img)").all():
        expect(figure.locator("img:visible")).to_have_count(1)
        for label in figure.locator("label").all():
            value = label.locator("select").or_(label.locator("xpath=self::*[input]/following-sibling::span[1]"))
            assert label.locator("span").is_visible() and value.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_unfolded_code_is_printed(server, open_page):
    page = open_page(f"{server}/notebooks/{CHAPTERS[0]}.html")
    cell = page.locator("details.hide").first
    cell.locator("summary").click()
    put_on_paper(page)
    expect(cell.locator("pre")).to_be_visible()


@pytest.mark.parametrize("name", CHAPTERS)
@pytest.mark.skipif("/OWNER/" in URL, reason="the repository's address is not set")
def test_buttons_open_the_notebook(server, open_page, name):
    page = open_page(f"{server}/notebooks/{name}.html")
    links = page.locator(".dropdown-launch-buttons a")
    targets = [link.get_attribute("href") for link in links.all()]
    repository = urlsplit(URL).path
    colab = f"https://colab.research.google.com/github{repository}/blob/main/notebooks/{name}.ipynb"
    assert colab in targets
    binder = urlsplit(next(target for target in targets if "mybinder.org" in target))
    assert binder.path == f"/v2/gh{repository}/main"
    assert parse_qs(binder.query)["urlpath"] == [f"lab/tree/notebooks/{name}.ipynb"]


class Document(HTMLParser):
    """The addresses that an HTML file points to and the fragments that it has."""

    def __init__(self, path):
        super().__init__()
        self.targets, self.fragments = [], set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        for key, value in attributes:
            if key in ("href", "src") and value:
                self.targets.append(value)
            elif key == "id" or (tag == "a" and key == "name"):
                self.fragments.add(value)


def test_inner_links_lead_somewhere(built):
    documents = {path: Document(path) for path in (built / f"{name}.html" for name in ALL_PAGES)}
    broken = []
    for path, document in documents.items():
        for target in document.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            fragment = unquote(urldefrag(target).fragment)
            if not file.is_file():
                broken.append(f"{path.relative_to(built)}: {target}")
            elif fragment and file in documents and fragment not in documents[file].fragments:
                broken.append(f"{path.relative_to(built)}: {target}")
    assert broken == []


@pytest.mark.parametrize("name", PAGES)
def test_a_link_to_a_theorem_says_which_one(built, name):
    """Sphinx puts "Theorem" and the number where a link has no words of its own; a theorem without a number has none."""
    links = re.findall(r"<a class=\"[^\"]*\" href=\"[^\"]*\"[^>]*>(.*?)</a>", (built / f"{name}.html").read_text("utf-8"))
    words = [re.sub(r"<[^>]*>", "", link).strip() for link in links]
    assert {"Theorem", "Proposition", "Lemma", "Definition", "Remark"}.isdisjoint(words)


def test_the_first_page_is_light(built):
    """With its scripts, but without MathJax, fonts and styles."""
    page = built / "book" / "introduction.html"
    scripts = {
        (page.parent / urlsplit(unquote(path)).path).resolve()
        for path in re.findall(r'<script[^>]* src="([^"]+)"', page.read_text())
    }
    weight = page.stat().st_size + sum(path.stat().st_size for path in scripts if "mathjax" not in path.parts)
    assert weight < 400_000


def test_every_icon_is_drawn(server, open_page):
    """The script that draws them holds those that the pages use, and no others."""
    page = open_page(f"{server}/{PAGES[1]}.html")
    expect(page.locator("i[class*='fa-']")).to_have_count(0)
    assert page.locator("svg[data-icon]").count() > 5
    assert page.locator("svg[data-icon]:not(:has(path[d]))").count() == 0


def test_every_page_is_in_the_table_of_contents(built):
    pages = {path.relative_to(built).as_posix() for path in built.rglob("*.html")}
    pages = {page for page in pages if not page.startswith("_static/")}
    sources = {page for page in pages if page.startswith("_modules/")}  # the code that [source] leads to
    assert pages - sources == {f"{name}.html" for name in ALL_PAGES}


@pytest.mark.skipif("/OWNER/" not in URL, reason="the repository's address is set")
def test_no_page_leads_to_a_repository_without_an_address(built):
    pages = list(built.rglob("*.html"))
    assert len(pages) > len(CHAPTERS)
    for page in pages:
        targets = " ".join(Document(page).targets)
        for dead in ("OWNER", "colab.research.google.com", "mybinder.org"):
            assert dead not in targets, page
