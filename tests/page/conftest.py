"""What the tests of figures that move share."""

from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files

import pytest
from browser import FLAGS, VIEWS, chromium
from playwright.sync_api import sync_playwright

from labelnoise_utils.page import live


@pytest.fixture
def somebody_there(monkeypatch):
    monkeypatch.setattr(live, "is_possible", lambda: True)


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>A figure that moves</title>
{}
</html>
"""


@pytest.fixture
def browse(tmp_path):
    """Opens figures in a browser, and lets a function look at the page."""
    executable = chromium()

    def look(file, act, settings):
        with sync_playwright() as p:
            browser = p.chromium.launch(executable_path=executable, args=FLAGS)
            page = browser.new_page(**settings)
            complaints = []
            allowed = (file.as_uri(), "data:", "blob:")  # a blob is the page's own: its worker
            page.on("request", lambda r: r.url.startswith(allowed) or complaints.append(f"outside: {r.url}"))
            page.on("pageerror", lambda e: complaints.append(f"error: {e}"))
            page.on("console", lambda m: complaints.append(f"console: {m.text}"))
            page.goto(file.as_uri())
            act(page)
            width, visible = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
            assert width <= visible, "scrolls sideways"
            browser.close()
            return complaints

    def browse(*pieces, act, view="wide", **settings):
        file = tmp_path / "figure.html"
        file.write_text(PAGE.format("\n".join(pieces)), "utf-8")
        settings["viewport"] = VIEWS[view]
        # Playwright takes a thread for itself, and this one may already have it.
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(look, file, act, settings).result() == []

    return browse


@pytest.fixture(scope="module")
def evaluate(request):
    """The value of a script on a page that has the module's PATHS; one page for all, since each only adds a moment."""
    executable = chromium()
    with ThreadPoolExecutor(1) as pool:  # playwright stays in one thread
        playwright = pool.submit(lambda: sync_playwright().start()).result()
        browser = pool.submit(lambda: playwright.chromium.launch(executable_path=executable, args=FLAGS)).result()
        page = pool.submit(browser.new_page).result()
        for path in request.module.PATHS:
            pool.submit(page.add_script_tag, path=str(files("labelnoise_utils.page").joinpath(path))).result()
        yield lambda code, argument=None: pool.submit(page.evaluate, code, argument).result()
        pool.submit(browser.close).result()
        pool.submit(playwright.stop).result()
