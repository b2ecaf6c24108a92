"""The built book behind a server, and a browser to open its pages."""

import functools
import http.server
import threading
from urllib.parse import urlsplit

import pytest
from browser import FLAGS, VIEWS, chromium, unavailable
from playwright.sync_api import sync_playwright
from repository import SITE


@pytest.fixture(scope="session")
def built():
    if not (SITE / "index.html").is_file():
        unavailable("the book is not built: run `make book`")
    return SITE


@pytest.fixture(scope="session")
def server(built):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=built)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture(scope="session")
def browser(built):
    executable = chromium()
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


def _open(browser, address, view="wide", **settings):
    """A page in a context of its own; `page.complaints` collects whatever should not happen."""
    context = browser.new_context(viewport=VIEWS[view], **settings)
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.complaints = []
    own = (address.split("//")[0] + "//" + urlsplit(address).netloc + "/", "data:", "blob:")

    def complain_if(condition, text):
        if condition:
            page.complaints.append(text)

    page.on("request", lambda r: complain_if(not r.url.startswith(own), f"outside: {r.url}"))
    page.on("requestfailed", lambda r: complain_if(True, f"failed: {r.url}"))
    page.on("response", lambda r: complain_if(r.status >= 400, f"{r.status}: {r.url}"))
    page.on("pageerror", lambda e: complain_if(True, f"error: {e}"))
    page.on("console", lambda m: complain_if(m.type == "error", f"console: {m.text}"))
    page.goto(address, wait_until="networkidle")
    page.evaluate("() => window.MathJax?.startup?.promise")
    return page


@pytest.fixture
def open_page(browser):
    """Opens an address."""
    pages = []

    def open_page(address, view="wide", **settings):
        pages.append(_open(browser, address, view, **settings))
        return pages[-1]

    yield open_page
    for page in pages:
        page.context.close()


@pytest.fixture(scope="module")
def opened(request, built, browser):
    """A page of the book for all tests of a file that ask for it by name: to open it takes longer than to look at it.

    From the disk, where a page may do least; the tests of what moves on the pages read them from a server.
    """
    page = _open(browser, (built / f"{request.param}.html").as_uri())
    yield page
    page.context.close()


@pytest.fixture
def look(opened):
    """Shows the opened page in a window of some size, by day or by night, on a screen or on paper."""

    def look(view="wide", color_scheme="light", media="screen"):
        opened.set_viewport_size(view if isinstance(view, dict) else VIEWS[view])
        opened.emulate_media(color_scheme=color_scheme, media=media)
        return opened

    return look
