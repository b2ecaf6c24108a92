"""The ledger has every check that the notebooks left: beside a claim of the paper, or as the book's own."""

import re
import sys
from collections import Counter

import pytest
import yaml
from bs4 import BeautifulSoup
from repository import PAGES, ROOT

sys.path.insert(0, str(ROOT / "book" / "_extensions"))
import ledger
from recorded import Recorded, belongs, checks_of, named

LIST = ROOT / "book" / "ledger.yml"
EXECUTED = ROOT / "_build" / "executed"
ONE = Recorded("notebooks/02_x", "1117a7fd", "exponent of sigma (+- 0.01)", "1.998", "2", "within 0.03")
TWO = Recorded("notebooks/02_x", "1117a7fd", "exponent of B", "-0.9989", "-1", "within 0.03")
OTHER = Recorded("notebooks/03_y", "6d5a9877", "way [over] predicted", "0.986", "1", "within 5%")
ENTRY = {"claim": "It is so.", "place": "Section 1", "verdict": "holds", "checks": ["1117a7fd exponent of B"]}


def listed(tmp_path, **changes):
    path = tmp_path / "ledger.yml"
    path.write_text(yaml.safe_dump({"A group": [ENTRY | changes]}))
    return ledger.claims(path, [ONE, TWO, OTHER])


@pytest.mark.parametrize(
    "reference, found",
    [
        ("1117a7fd", [ONE, TWO]),
        ("1117a7fd exponent of sigma *", [ONE]),
        ("1117a7fd * B", [TWO]),
        ("6d5a9877 way [over] predicted", [OTHER]),
        ("1117a7fd exponent", []),
        ("6d5a9877 exponent of B", []),
    ],
)
def test_a_reference_names_checks_of_a_cell(reference, found):
    assert [one for one in (ONE, TWO, OTHER) if belongs(one, reference)] == found


def test_a_claim_has_what_was_recorded(tmp_path):
    (claim,) = listed(tmp_path, checks=["1117a7fd", "1117a7fd exponent of B", "6d5a9877 way*"])
    assert claim.checks == (ONE, TWO, OTHER)
    (claim,) = listed(tmp_path)
    assert ledger.own([ONE, TWO, OTHER], [claim]) == [ONE, OTHER]


@pytest.mark.parametrize(
    "changes, error, words",
    [
        (dict(checks=["1117a7fd exponent of b"]), LookupError, "It is so.*no check.*exponent of b"),
        (dict(checks=["ffffffff"]), LookupError, "no check.*ffffffff"),
        (dict(checks=[]), ValueError, "no check shows"),
        (dict(verdict="perhaps"), ValueError, "perhaps"),
        (dict(verdict="no"), ValueError, "what is wrong"),
        (dict(verdict="open", checks=[]), ValueError, "why it is open"),
        (dict(remark="x"), ValueError, "unknown"),
    ],
)
def test_a_list_that_is_not_kept_up_is_refused(tmp_path, changes, error, words):
    with pytest.raises(error, match=words):
        listed(tmp_path, **changes)


def test_an_id_in_two_notebooks_names_no_cell():
    with pytest.raises(LookupError, match="several"):
        named([ONE, Recorded("notebooks/09_z", "1117a7fd", "else", "1", "1", "exactly")], "1117a7fd")


def test_every_cell_that_the_slips_name_is_there():
    named = re.findall(r"{cell}`[^`<]*<([^>`]+)>`", (ROOT / "book" / "slips.md").read_text("utf-8"))
    assert len(named) > 25
    assert {one: len(ledger.pages_with(one, ROOT)) for one in set(named)} == dict.fromkeys(named, 1)


def copies():
    found = {page: EXECUTED / f"{page.rsplit('/', 1)[-1]}.ipynb" for page in PAGES}
    return {page: path for page, path in found.items() if path.is_file()}


@pytest.fixture
def page(built):
    return BeautifulSoup((built / "book" / "ledger.html").read_text("utf-8"), "html.parser").select_one("article")


@pytest.mark.site
def test_every_check_stands_beside_a_claim_or_as_the_books_own(page):
    recorded = [check for name, path in copies().items() for check in checks_of(name, path)]
    listed = ledger.claims(LIST, recorded)
    assert len(listed) >= 110
    assert len(page.select("table.labelnoise-ledger tbody tr.first")) == len(listed)
    own = Counter(check.claim.strip() for check in ledger.own(recorded, listed))
    shown = Counter(row.td.get_text().replace("’", "'") for row in page.select("table.labelnoise-own tbody tr"))
    assert shown == own
    for number, claim in enumerate(listed, start=1):
        rows = page.select(f"tr.claim-{number}")
        assert [row.select("td")[-1].get_text() for row in rows] == ([c.measured for c in claim.checks] or [""])


@pytest.mark.site
@pytest.mark.parametrize("name", ["ledger", "slips"])
def test_links_to_cells_meet_a_cell(built, name):
    html = BeautifulSoup((built / "book" / f"{name}.html").read_text("utf-8"), "html.parser")
    links = {link["href"] for link in html.select("article a") if "#cell-" in link.get("href", "")}
    assert links
    targets = {}
    for link in links:
        address, _, anchor = link.partition("#")
        path = (built / "book" / address).resolve()
        if path not in targets:
            targets[path] = set(re.findall(r'id="(cell-[^"]+)"', path.read_text("utf-8")))
        assert anchor in targets[path], link


@pytest.mark.site
@pytest.mark.parametrize("view", ["wide", "phone"])
def test_claims_are_chosen_by_verdict_and_chapter_from_the_keyboard(built, open_page, view):
    """Over file://, where no server is."""
    page = open_page((built / "book" / "ledger.html").as_uri(), view)
    said, (chapter, verdict) = page.locator(".labelnoise-filter output"), page.locator(".labelnoise-filter select").all()
    total = page.locator("tr.first").count()
    assert said.inner_text() == f"{total} of {total} claims"
    verdict.focus()
    page.keyboard.press("End")
    shown = page.locator("tr.first:visible")
    assert 0 < shown.count() < total
    assert said.inner_text() == f"{shown.count()} of {total} claims"
    assert all("verdict-open" in row.get_attribute("class") for row in shown.all())
    verdict.select_option("")
    chapter.select_option("in-10")
    assert 0 < shown.count() < total
    assert all("in-10" in row.get_attribute("class") for row in page.locator("table.labelnoise-ledger tbody tr:visible").all())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not page.complaints


@pytest.mark.site
def test_a_link_to_a_cell_in_a_folded_solution_unfolds_it(built, open_page):
    address = (built / "notebooks" / "03_watch_sgd_become_an_ornstein_uhlenbeck_process.html").as_uri()
    page = open_page(f"{address}#cell-97c63eac")
    page.wait_for_function("document.getElementById('cell-97c63eac').closest('.toggle-hidden') === null")
    assert page.locator("#cell-97c63eac").is_visible()
    assert page.locator(".solution.toggle-hidden").count() > 0
