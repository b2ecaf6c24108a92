"""One letter, one meaning: the list of letters on the notation page has every letter of every formula, once."""

import json
import re

import pytest
from repository import NOTEBOOKS, ROOT

NOTATION = ROOT / "book" / "notation.md"
PAGES = [*NOTEBOOKS, *(ROOT / "book" / f"{name}.md" for name in ("introduction", "notation"))]

GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau phi varphi chi psi"
    " omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
).split()
WORDS = r"\\(?:text|mathrm|operatorname|label|ref|tag|begin|end|mathsf|texttt)\*?\s*\{[^{}]*\}"


def formulas(path):
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text("utf-8"))["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        figures = [cell["metadata"].get("mystnb", {}).get("figure", {}).get("caption", "") for cell in cells]
        text = "\n\n".join([text, *figures])
    else:
        text = path.read_text("utf-8")
    text = re.sub(r"```.*?```|`[^`\n]*`", " ", text, flags=re.DOTALL)
    displayed = re.findall(r"\$\$(.*?)\$\$", text, flags=re.DOTALL)
    return displayed + re.findall(r"\$([^$]+?)\$", re.sub(r"\$\$.*?\$\$", " ", text, flags=re.DOTALL))


def letters(formula):
    """Greek letters by name, Latin ones as they are; capitals apart from small ones."""
    formula = re.sub(WORDS, " ", formula)
    commands = re.findall(r"\\([A-Za-z]+)", formula)
    rest = re.sub(r"\\[A-Za-z]+", " ", formula)
    return {name for name in commands if name in GREEK} | set(re.findall(r"[A-Za-z]", rest))


def listed():
    """For each row of the list: its letters."""
    section = re.search(r"## The letters of this book\n(.*?)\n## ", NOTATION.read_text("utf-8"), flags=re.DOTALL)[1]
    rows = re.findall(r"^\| (\$.*?) \|", section, flags=re.MULTILINE)
    return [letters(" ".join(re.findall(r"\$([^$]+)\$", row))) for row in rows]


def test_no_letter_is_listed_twice():
    seen = [letter for row in listed() for letter in row]
    assert {letter for letter in seen if seen.count(letter) > 1} == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_letter_is_listed(path):
    used = set().union(*map(letters, formulas(path)))
    assert used - set().union(*listed()) == set()
