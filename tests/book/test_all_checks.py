"""The page of all checks has every check that the notebooks left, under its chapter."""

import re

import nbformat
import pytest
from bs4 import BeautifulSoup
from repository import ROOT

from labelnoise_utils.page.folded import DATA

pytestmark = pytest.mark.site

EXECUTED = ROOT / "_build" / "executed"


def claims_in(notebook):
    cells = nbformat.read(notebook, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [check["claim"] for output in outputs for check in output.get("metadata", {}).get(DATA, [])]


def test_every_check_is_listed_under_its_page(built):
    page = BeautifulSoup((built / "book" / "checks.html").read_text("utf-8"), "html.parser").select_one("article")
    expected = {path.stem: claims_in(path) for path in sorted(EXECUTED.glob("*.ipynb"))}
    listed = {}
    for table in page.select("table.labelnoise-all-checks"):
        link = table.find_previous("a", class_="internal", href=re.compile("html"))
        rows = table.select("tbody tr")
        listed[link["href"].rsplit("/", 1)[-1].removesuffix(".html")] = [row.td.get_text() for row in rows]
    assert {stem: len(claims) for stem, claims in listed.items()} == {k: len(v) for k, v in expected.items() if v}
    assert sum(map(len, listed.values())) > 100
