"""What the executed copies of the notebooks hold: their titles, and every check with the cell that made it."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sphinx.application import Sphinx

from labelnoise_utils.page.folded import DATA


@dataclass(frozen=True)
class Recorded:
    """A check that held when the book was built: its page, the id of its cell, and the fields of ``folded.Check``."""

    page: str
    cell: str
    claim: str
    measured: str
    predicted: str
    tolerance: str


@dataclass(frozen=True)
class Page:
    """A page of the book: its name for Sphinx, its number ("" where it has none), its title, and its checks."""

    name: str
    number: str
    title: str
    checks: tuple[Recorded, ...]


def checks_of(page: str, copy: Path) -> tuple[Recorded, ...]:
    """The checks in the outputs of an executed notebook, in their order."""
    return tuple(
        Recorded(page, cell["id"], **check)
        for cell in json.loads(copy.read_text("utf-8"))["cells"]
        for output in cell.get("outputs", [])
        for check in output.get("metadata", {}).get(DATA, [])
    )


def title_of(copy: Path) -> str:
    """The first heading of an executed notebook."""
    texts = ("".join(cell["source"]) for cell in json.loads(copy.read_text("utf-8"))["cells"])
    return next(found[1].strip() for text in texts if (found := re.search(r"^# (.+)$", text, re.MULTILINE)))


def numbers(app: Sphinx) -> dict[str, str]:
    """The number that each page has in the sidebar; chapters are counted through all parts that are numbered."""
    site = app.config.external_site_map
    listed = [(name, bool(part.numbered)) for part in site.root.subtrees for name in part.files()]
    numbered = [name for name, has_number in listed if has_number]
    return {name: str(numbered.index(name) + 1) if has_number else "" for name, has_number in listed}


def pages(app: Sphinx, folder: Path) -> list[Page]:
    """Every page of the book that was executed, in the book's order.

    Args:
        app: of Sphinx.
        folder: with the executed copies.

    Returns:
        A page for each, without those that have nothing to run.

    Raises:
        FileNotFoundError: if a chapter has no executed copy: its checks would be missing without a word.
    """
    found = []
    count = numbers(app)
    for name in app.config.external_site_map:
        copy = folder / f"{Path(name).name}.ipynb"
        if copy.is_file():
            found.append(Page(name, count.get(name, ""), title_of(copy), checks_of(name, copy)))
        elif name.startswith("notebooks/"):
            raise FileNotFoundError(f"no executed copy of {name} in {folder}: its checks would be missing")
    return found


def belongs(check: Recorded, reference: str) -> bool:
    """Whether a reference, a cell's id and the check's claim, names a check; ``*`` stands for any words.

    Args:
        check: one of the book.
        reference: a cell's id, and the words of a check in it; without words, all checks of the cell.

    Returns:
        Whether it does.

    >>> check = Recorded("notebooks/02_x", "1117a7fd", "exponent of sigma (+- 0.01)", "1.998", "2", "within 0.03")
    >>> belongs(check, "1117a7fd exponent of sigma *"), belongs(check, "1117a7fd"), belongs(check, "1117a7fd exponent")
    (True, True, False)
    """
    cell, _, claim = reference.strip().partition(" ")
    pattern = ".*".join(map(re.escape, claim.strip().split("*"))) if claim else ".*"
    return check.cell == cell and bool(re.fullmatch(pattern, check.claim.strip()))


def named(checks: Iterable[Recorded], reference: str) -> list[Recorded]:
    """The checks that a reference names.

    Args:
        checks: all of the book.
        reference: as in ``belongs``.

    Returns:
        One or more, in their order.

    Raises:
        LookupError: if there is none, or if the cell's id is not that of one page.
    """
    found = [check for check in checks if belongs(check, reference)]
    if not found:
        raise LookupError(f"no check of the executed notebooks is {reference!r}")
    if len({check.page for check in found}) > 1:
        raise LookupError(f"{reference!r} is in several notebooks")
    return found
