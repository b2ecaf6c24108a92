"""``{ledger}`` makes the page of all claims: a hand-written list, and beside each claim what the notebooks measured.

``{cell}`` links a cell by its id: ``{cell}`1117a7fd``` or ``{cell}`its words <1117a7fd>```; it also gives every cell of a
notebook an anchor to link to.
"""

import html
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from recorded import Page, Recorded, named, pages
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

VERDICTS = {
    "holds": "holds",
    "condition": "holds with a condition",
    "no": "does not hold",
    "open": "open",
}
FIELDS = {"claim", "place", "verdict", "note", "checks"}


@dataclass(frozen=True)
class Claim:
    """A claim of the paper in our words, its place, the verdict and what qualifies it, and the checks that show it."""

    number: int
    group: str
    claim: str
    place: str
    verdict: str
    note: str
    checks: tuple[Recorded, ...]


def claims(path: Path, recorded: list[Recorded]) -> list[Claim]:
    """The hand-written list, each claim with its checks as they were recorded.

    Args:
        path: of a YAML file: groups of claims by name; ``checks`` are references as in ``recorded.belongs``.
        recorded: every check of the book.

    Returns:
        The claims, in the file's order.

    Raises:
        ValueError: if a field or a verdict is unknown, if a verdict other than "open" has no check, or one that needs
            a note has none.
        LookupError: if a check is gone.
    """
    found = []
    for group, entries in yaml.safe_load(path.read_text("utf-8")).items():
        for entry in entries:
            words, verdict = entry["claim"], entry["verdict"]
            references, note = entry.get("checks", []), entry.get("note", "")
            if set(entry) > FIELDS or set(entry) - FIELDS or verdict not in VERDICTS:
                raise ValueError(f"{words!r}: a field or the verdict {verdict!r} is unknown")
            if verdict != "open" and not references:
                raise ValueError(f"{words!r}: no check shows that it {VERDICTS[verdict]}")
            if verdict != "holds" and not note:
                raise ValueError(f"{words!r}: say which condition, what is wrong, or why it is open")
            try:
                checks = [check for one in references for check in named(recorded, one)]
            except LookupError as gone:
                raise LookupError(f"{words!r}: {gone}") from None
            checks = tuple(dict.fromkeys(checks))
            found.append(Claim(len(found) + 1, group, words, entry["place"], verdict, note, checks))
    return found


def own(recorded: list[Recorded], listed: list[Claim]) -> list[Recorded]:
    """The checks that show no claim of the paper."""
    taken = {check for claim in listed for check in claim.checks}
    return [check for check in recorded if check not in taken]


class Ledger(SphinxDirective):
    """All claims by their groups, and after them the checks that belong to none; asks for the list and the folder."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        """Make the tables."""
        path, folder = (Path(self.env.srcdir) / argument for argument in self.arguments)
        self.env.note_dependency(str(path))
        try:
            self.pages = {page.name: page for page in pages(self.env.app, folder)}
            recorded = [check for page in self.pages.values() for check in page.checks]
            self.claims = claims(path, recorded)
        except (LookupError, ValueError, FileNotFoundError) as wrong:
            raise self.error(str(wrong)) from wrong
        if not recorded:
            raise self.error(f"no check in {folder}: run the notebooks first")
        groups = dict.fromkeys(claim.group for claim in self.claims)
        return [*self._head(), *map(self._group, groups), self._own(own(recorded, self.claims), len(recorded))]

    def _head(self) -> Iterator[nodes.Node]:
        yield nodes.raw("", _filter(self._chapters()), format="html")

    def _chapters(self) -> list[Page]:
        used = {check.page for claim in self.claims for check in claim.checks}
        return [page for page in self.pages.values() if page.name in used]

    def _group(self, group: str) -> nodes.section:
        head = ("claim", "verdict", "checked", "predicted", "measured")
        table, body = _table("labelnoise-ledger", (36, 16, 24, 12, 12), head)
        for claim in self.claims:
            if claim.group == group:
                body += self._claim(claim)
        return _section(group, table)

    def _claim(self, claim: Claim) -> list[nodes.row]:
        where = [f"in-{Path(name).name[:2]}" for name in dict.fromkeys(check.page for check in claim.checks)]
        classes = [f"claim-{claim.number}", f"verdict-{claim.verdict}", *where]
        height = {"morerows": len(claim.checks) - 1} if len(claim.checks) > 1 else {}
        words = nodes.entry("", *self._parsed(claim.claim), nodes.paragraph(text=claim.place, classes=["place"]), **height)
        verdict = nodes.strong(text=VERDICTS[claim.verdict])
        note = self._parsed(claim.note) if claim.note else []
        said = nodes.entry("", nodes.paragraph("", "", verdict), *note, classes=["verdict"], **height)
        rows = [nodes.row("", *map(_entry, self._cells(check)), classes=[*classes]) for check in claim.checks]
        rows = rows or [nodes.row("", *(_entry(nodes.Text("")) for _ in range(3)), classes=[*classes])]
        rows[0].insert(0, [words, said])
        rows[0]["classes"].append("first")
        return rows

    def _cells(self, check: Recorded) -> tuple[nodes.Node, ...]:
        page = self.pages[check.page]
        label = f"chapter {page.number}" if page.number else page.title
        tolerance = f" {check.tolerance}" if check.tolerance else ""
        where = nodes.inline("", "", link(label, check.page, check.cell), nodes.Text(f": {check.claim.strip()}"))
        return where, nodes.Text(check.predicted + tolerance), nodes.Text(check.measured)

    def _own(self, checks: list[Recorded], total: int) -> nodes.section:
        said = (
            f"The book has {total} checks; every one of them held when these pages were built. "
            f"{total - len(checks)} of them stand above, beside a claim of the paper. The other {len(checks)} hold up what the "
            "book says on its own account: that a fast function agrees with a slow one, that a run has converged, what comes "
            "after the paper."
        )
        parts = [nodes.paragraph(text=said)]
        for page in self.pages.values():
            rest = [check for check in checks if check.page == page.name]
            if not rest:
                continue
            head = ("checked", "measured", "predicted", "tolerance")
            table, body = _table("labelnoise-own", (46, 20, 20, 14), head)
            for check in rest:
                claim = link(check.claim.strip(), check.page, check.cell)
                values = (nodes.Text(value) for value in (check.measured, check.predicted, check.tolerance))
                body += nodes.row("", _entry(claim), *map(_entry, values))
            name = f"{page.number}. {page.title}" if page.number else page.title
            summary = (
                f'<details class="labelnoise-checks labelnoise-folded"><summary>{html.escape(name)}: {len(rest)}</summary>'
            )
            parts += [nodes.raw("", summary, format="html"), table, nodes.raw("", "</details>", format="html")]
        return _section("The book's own checks", *parts)

    def _parsed(self, text: str) -> list[nodes.Node]:
        holder = nodes.Element()
        self.state.nested_parse(StringList([text], source="ledger"), 0, holder)
        return holder.children


class Cell(SphinxRole):
    """A link to a cell by its id; Sphinx warns of an id that no notebook has."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Find the cell, and make the link."""
        words, _, identifier = self.text.rstrip(">").rpartition("<")
        found = pages_with(identifier, Path(self.env.srcdir))
        if len(found) != 1:
            wrong = f"{len(found)} notebooks have a cell {identifier!r}, and one is needed"
            return [nodes.Text(words)], [self.inliner.reporter.error(wrong)]
        return [link(words.strip() or "cell", found[0], identifier)], []


def pages_with(identifier: str, root: Path) -> list[str]:
    """The notebooks with a cell of that id."""
    return [
        f"notebooks/{path.stem}"
        for path in sorted((root / "notebooks").glob("*.ipynb"))
        if any(cell["id"] == identifier for cell in json.loads(path.read_text("utf-8"))["cells"])
    ]


def link(words: str, page: str, cell: str) -> nodes.reference:
    """A link to a cell, from a page in ``book/``; pages that are no notebooks have no anchors at their cells."""
    anchor = f"#cell-{cell}" if page.startswith("notebooks/") else ""
    return nodes.reference("", words, refuri=f"../{page}.html{anchor}", internal=True)


def give_cells_anchors(app: Sphinx, doctree: nodes.document) -> None:
    """The container of a notebook's cell gets the cell's id."""
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix != ".ipynb":
        return
    cells = json.loads(path.read_text("utf-8"))["cells"]
    for node in doctree.findall(nodes.container):
        if "cell_index" in node:
            node["ids"].append(f"cell-{cells[node['cell_index']]['id']}")


def _filter(chapters: list[Page]) -> str:
    names = [(f"in-{Path(page.name).name[:2]}", f"{page.number} {page.title}".strip()) for page in chapters]
    verdicts = [(f"verdict-{key}", words) for key, words in VERDICTS.items()]
    boxes = []
    for label, everything, choices in (("chapter", "all chapters", names), ("verdict", "all verdicts", verdicts)):
        options = "".join(f'<option value="{value}">{html.escape(words)}</option>' for value, words in choices)
        boxes.append(f'<label>{label} <select><option value="">{everything}</option>{options}</select></label>')
    return f'<form class="labelnoise-filter" hidden>{"".join(boxes)}<output aria-live="polite"></output></form>'


def _section(title: str, *content: nodes.Node) -> nodes.section:
    return nodes.section("", nodes.title(text=title), *content, ids=[nodes.make_id(title)], names=[title.lower()])


def _table(name: str, widths: tuple[int, ...], head: tuple[str, ...]) -> tuple[nodes.table, nodes.tbody]:
    group, body = nodes.tgroup(cols=len(widths)), nodes.tbody()
    group += [nodes.colspec(colwidth=width) for width in widths]
    group += [nodes.thead("", nodes.row("", *(_entry(nodes.Text(word)) for word in head))), body]
    return nodes.table("", group, classes=[name]), body


def _entry(content: nodes.Node) -> nodes.entry:
    return nodes.entry("", nodes.paragraph("", "", content))


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx about this extension."""
    app.add_directive("ledger", Ledger)
    app.add_role("cell", Cell())
    app.connect("doctree-read", give_cells_anchors)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
