"""How long the built pages take to read, and what a reader meets on them.

    python tools/reading_time.py _build/html/notebooks/*.html

Prose is read at 200 words a minute; a line of code that is not folded takes 8 seconds, a figure 30. What is folded away
does not count: solutions, checks, hidden code. A formula within a line is a word; one that stands alone has as many words
as its source has pieces between blanks.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from bs4 import BeautifulSoup, Tag

WORDS_A_MINUTE = 200
SECONDS_A_LINE = 8
SECONDS_A_FIGURE = 30

FOLDED = """
    .solution.dropdown, .admonition.dropdown > :not(.admonition-title), details > :not(summary), .cell.tag_hide-cell,
    .cell.tag_hide-input > .cell_input, .cell.tag_hide-output > .cell_output, .headerlink, script, style, [hidden]
"""
MOVES = ".labelnoise-explore"


@dataclass(frozen=True)
class Reading:
    """What a reader meets on one page.

    Attributes:
        words: of prose, formulas included.
        lines: of code that is not folded, blank ones left out.
        figures: pictures and things that move.
        moving: those of them that move.
        longest_cell: lines of the longest visible cell.
        longest_output: lines of the longest output of a cell.
        stated: the minutes that the page itself says, or None.
    """

    words: int
    lines: int
    figures: int
    moving: int
    longest_cell: int
    longest_output: int
    stated: int | None

    @property
    def minutes(self) -> float:
        """By the formula above."""
        return self.words / WORDS_A_MINUTE + (self.lines * SECONDS_A_LINE + self.figures * SECONDS_A_FIGURE) / 60


def read(page: Path) -> Reading:
    """Measure a built page.

    Args:
        page: an HTML file of the book.

    Returns:
        What is on it, and how long it takes.
    """
    article = BeautifulSoup(page.read_text("utf-8"), "html.parser").select_one("article.bd-article")
    stated = re.search(r"(\d+) minutes to read", article.get_text(" "))
    for folded in article.select(FOLDED):
        folded.decompose()
    captions = _take_out(article, "figcaption")
    moving = _take_out(article, MOVES)
    figures = len(moving) + len(_take_out(article, "img"))
    outputs = [_lines_of_output(output) for output in _take_out(article, ".cell_output")]
    cells = [_lines(code) for code in _take_out(article, ".highlight pre")]
    words = sum(map(_words, [article, *captions]))
    return Reading(
        words, sum(cells), figures, len(moving), max(cells, default=0), max(outputs, default=0), stated and int(stated[1])
    )


def _take_out(article: Tag, selector: str) -> list[Tag]:
    return [found.extract() for found in article.select(selector)]


def _words(text: Tag) -> int:
    words = 0
    for formula in _take_out(text, ".math"):
        words += len(formula.get_text().split()) if formula.name == "div" else 1
    return words + len(re.findall(r"[^\W_]+(?:[’'.-][^\W_]+)*", text.get_text(" ")))


def _lines(block: Tag) -> int:
    return sum(bool(line.strip()) for line in block.get_text().splitlines())


def _lines_of_output(output: Tag) -> int:
    return sum(map(_lines, output.select("pre"))) + len(output.select("tr, summary"))


def main(pages: list[str]) -> int:
    """Print a line for each page.

    Args:
        pages: paths of built pages.

    Returns:
        Exit status 0.
    """
    print("minutes stated  words  lines figures moving  longest cell, output")
    total = 0.0
    for page in pages:
        found = read(Path(page))
        total += found.minutes
        print(
            f"{found.minutes:7.1f} {found.stated or '-':>6} {found.words:6d} {found.lines:6d} {found.figures:7d} "
            f"{found.moving:6d} {found.longest_cell:13d} {found.longest_output:7d}  {Path(page).stem}"
        )
    print(f"{total:7.1f} in all")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
