"""Carries the repository's address to every file that has to contain it.

python tools/set_repository_url.py [https://github.com/OWNER/NAME]

Without an argument it is the address of the remote "origin". Needs nothing but Python and git.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACES = (
    "_config.yml",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "README.md",
    "book/*.md",
    "notebooks/*.ipynb",
    "pyproject.toml",
    "tools/first_cell.py",
)
# https://github.com/OWNER/NAME, git@github.com:OWNER/NAME.git, ssh://git@github.com/OWNER/NAME
ADDRESS = re.compile(r"github\.com[/:]([\w.-]+)/([\w.-]+?)(?:\.git)?/?(?=[\s\"')\]]|$)", re.MULTILINE)
# While OWNER stands, addresses are code in README.md: a link would lead nowhere.
CODE = re.compile(r"`(https://[^`\s]*OWNER[^`\s]*)`")


def repository(text: str) -> tuple[str, str]:
    """Finds the repository that a text names.

    Args:
        text: an address, or the content of ``_config.yml``.

    Returns:
        Owner and name in the first GitHub address.

    Raises:
        ValueError: if there is none.
    """
    match = ADDRESS.search(text)
    if match is None:
        raise ValueError(f"no address of the form https://github.com/OWNER/NAME in {text.strip()[:100]!r}")
    return match[1], match[2]


def with_address(root: Path, address: str) -> dict[Path, str]:
    """Finds the files that name another repository.

    Args:
        root: the repository's folder.
        address: of the repository on GitHub, in any form that git takes.

    Returns:
        What these files should contain.

    Raises:
        ValueError: if the address is none on GitHub.
    """
    owner, name = repository(address)
    old_owner, old_name = repository((root / "_config.yml").read_text("utf-8"))
    contents = {}
    for path in sorted(path for place in PLACES for path in root.glob(place)):
        text = path.read_text("utf-8")
        new = CODE.sub(r"<\1>", text) if owner != "OWNER" and path.name == "README.md" else text
        new = new.replace(f"{old_owner}/{old_name}", f"{owner}/{name}")
        new = new.replace(f"{old_owner}.github.io/{old_name}", f"{owner}.github.io/{name}")
        if new != text:
            contents[path] = new
    return contents


def main(arguments: list[str]) -> int:
    """Rewrites the files and says which.

    Args:
        arguments: the address, or nothing.

    Returns:
        Exit status: 0 if the address now stands everywhere.
    """
    try:
        if arguments:
            address = arguments[0]
        else:
            origin = ["git", "-C", str(ROOT), "remote", "get-url", "origin"]
            address = subprocess.run(origin, check=True, capture_output=True, text=True).stdout
        contents = with_address(ROOT, address)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip()
        print(f"{reason}; to give the address: make url URL=https://github.com/OWNER/NAME", file=sys.stderr)
        return 1
    for path, text in contents.items():
        path.write_text(text, "utf-8", newline="\n")
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
