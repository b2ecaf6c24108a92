"""The browser that tests open pages in, and the two sizes of window in which a page is looked at."""

import os
import shutil

import pytest

VIEWS = {"wide": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}

# No sandbox, since CI runs as root; nothing that makes chromium itself ask the network.
FLAGS = """
    --no-sandbox --disable-gpu --disable-quic --no-first-run
    --disable-background-networking --disable-component-update --disable-sync
""".split()


def unavailable(reason):
    """Skips at home; in CI a book that cannot be tested is a failure."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def chromium():
    """Path of the browser."""
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        unavailable("no chromium: apt-get install chromium")
    return executable
