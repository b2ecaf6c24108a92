"""The theme ships all of Font Awesome's icons, 1.4 MB; the pages load the dozen that they show."""

import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

# An icon in the theme's script: name:[width,height,[aliases],"code point","path"], with the path or a list of two.
ICON = re.compile(r'(?:"([\w-]+)"|([\w-]+)):\[\d+,\d+,\[[^\]]*\],"[0-9a-f]+",(?:"[^"]*"|\[(?:"[^"]*",?)*\])\]')
NAME = re.compile(rb"\bfa-([\w-]+)")


def keep_used(script: str, used: set[str]) -> str:
    """The script with those icons only."""
    kept = ICON.sub(lambda icon: icon[0] if (icon[1] or icon[2]) in used else "", script)
    return re.sub(r"(?<=[{,]),+|,+(?=})", "", kept)


def drop_unused_icons(app: Sphinx, error: Exception | None) -> None:
    """Cut the theme's script down to the icons that a page or a script of the theme names."""
    if error or app.builder.format != "html":
        return
    out = Path(app.outdir)
    path = out / "_static" / "scripts" / "fontawesome.js"
    script = path.read_text("utf-8")
    users = [*out.rglob("*.html"), *(one for one in path.parent.glob("*.js") if one != path)]
    used = {name.decode() for user in users for name in NAME.findall(user.read_bytes())}
    smaller = keep_used(script, used)
    if not 0 < len(ICON.findall(smaller)) < 100 < len(ICON.findall(script)):
        raise ExtensionError("the theme's fontawesome.js is not of the form that its icons can be picked from")
    path.write_text(smaller, "utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx about this extension."""
    app.connect("build-finished", drop_unused_icons)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
