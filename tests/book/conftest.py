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


@pytest.fixture
def open_page(browser):
    """Opens an address; collects in `page.complaints` whatever should not happen."""
    contexts = []

    def open_page(address, view="wide", **settings):
        context = browser.new_context(viewport=VIEWS[view], **settings)
        context.set_default_timeout(60_000)
        contexts.append(context)
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

    yield open_page
    for context in contexts:
        context.close()
