"""A chapter takes as long to read as it says, and no longer than its part allows."""

import pytest
from repository import SITE, TOC, tool

pytestmark = pytest.mark.site

READING = tool("reading_time")
PARTS = {
    part["caption"]: [entry["file"] for entry in part["chapters"] if entry["file"].startswith("notebooks/")]
    for part in TOC["parts"]
}
TRUNK = PARTS["The effect"]
OTHERS = [chapter for part in PARTS.values() for chapter in part if chapter not in TRUNK]


def reading_of(chapter):
    page = SITE / f"{chapter}.html"
    if not page.is_file():
        pytest.skip("the book is not built: run `make book`")
    return READING.read(page)


def test_the_trunk_has_five_chapters_of_seventy_five_minutes_in_all():
    assert len(TRUNK) == 5
    assert sum(reading_of(chapter).minutes for chapter in TRUNK) <= 75


@pytest.mark.parametrize("chapter", TRUNK)
def test_a_chapter_of_the_trunk_is_short_and_has_something_to_play_with(chapter):
    found = reading_of(chapter)
    assert found.longest_cell <= 10 and found.longest_output <= 12
    assert found.figures <= 4 and found.moving >= 1


@pytest.mark.parametrize("chapter", OTHERS)
def test_another_chapter_takes_at_most_twenty_five_minutes(chapter):
    found = reading_of(chapter)
    assert found.minutes <= 25
    assert found.longest_cell <= 15 and found.longest_output <= 25
    assert found.figures <= 6


@pytest.mark.parametrize("chapter", [*TRUNK, *OTHERS])
def test_the_stated_time_is_the_measured_one(chapter):
    found = reading_of(chapter)
    assert found.stated is not None, "the chapter does not say how many minutes it takes to read"
    assert abs(found.minutes / found.stated - 1) <= 0.2, f"says {found.stated} minutes, takes {found.minutes:.1f}"


PAGE = """<article class="bd-article">
<h1>Title of four words<a class="headerlink">#</a></h1>
<p>It takes 3 minutes to read. A formula <span class="math">\\(a + b\\)</span> is one word.</p>
<div class="math">\\[a + b = c\\]</div>
<div class="cell"><div class="cell_input"><div class="highlight"><pre>one = 1

two = 2</pre></div></div>
<div class="cell_output"><div class="highlight"><pre>1
2
3</pre></div><details><summary>2 of 2 checks hold</summary><table><tr><td>folded</td></tr></table></details></div></div>
<div class="cell tag_hide-input"><div class="cell_input"><pre>folded = True</pre></div>
<div class="cell_output"><figure><img src="a.png"><figcaption>Caption of four words</figcaption></figure></div></div>
<div class="cell tag_hide-cell"><div class="cell_input"><div class="highlight"><pre>import this</pre></div></div></div>
<div class="solution dropdown admonition"><p>folded <img src="b.png"></p></div>
<div class="labelnoise-explore"><img src="c.png"><p>Words that move do not count.</p></div>
</article>"""


def test_what_is_folded_does_not_count(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(PAGE, "utf-8")
    found = READING.read(page)
    assert (found.lines, found.longest_cell, found.longest_output) == (2, 2, 4)
    assert (found.figures, found.moving, found.stated) == (2, 1, 3)
    title, sentences, equation, caption = 4, 11 + 1, 5, 4
    assert found.words == title + sentences + equation + caption
