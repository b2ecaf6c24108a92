"""Playgrounds on a page, and in a browser some steps of them."""

import labelnoise_utils as ln

STILL = {"reduced_motion": "reduce"}


def page_of(**settings):
    return ln.playground(**settings)._repr_html_()


ADVANCE = """(root, steps) => {
    const { t, settled, now, first, errors, cloud, diverged } = root.advance(steps);
    return { t, settled, now, first, errors, diverged, u: [...cloud.u], v: [...cloud.v] };
}"""


def advance(page, steps, number=0):
    """Some steps of a playground on the page, at once; its numbers after them."""
    return page.locator(".labelnoise-playground").nth(number).evaluate(ADVANCE, steps)
