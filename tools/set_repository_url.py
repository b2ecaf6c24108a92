"""Carries the repository's address from `_config.yml` to every other file that has to contain it.

python tools/set_repository_url.py
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACES = (
    "CITATION.cff",
    "CONTRIBUTING.md",
    "README.md",
    "book/*.md",
    "notebooks/*.ipynb",
    "pyproject.toml",
    "tools/first_cell.py",
)
ADDRESS = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+)")


def repository(text: str) -> tuple[str, str]:
    """Finds the repository that a configuration file names.

    Args:
        text: content of ``_config.yml`` or ``pyproject.toml``.

    Returns:
        Owner and name in the first GitHub address.

    Raises:
        ValueError: if there is none.
    """
    match = ADDRESS.search(text)
    if match is None:
        raise ValueError("no address of the form https://github.com/OWNER/NAME in the configuration")
    return match[1], match[2]


def outdated(root: Path) -> dict[Path, str]:
    """Finds the files that name another repository than `_config.yml`.

    Args:
        root: the repository's folder.

    Returns:
        What these files should contain.
    """
    old_owner, old_name = repository((root / "pyproject.toml").read_text("utf-8"))
    owner, name = repository((root / "_config.yml").read_text("utf-8"))
    contents = {}
    for path in sorted(path for place in PLACES for path in root.glob(place)):
        text = path.read_text("utf-8")
        new = text.replace(f"{old_owner}/{old_name}", f"{owner}/{name}")
        new = new.replace(f"{old_owner}.github.io/{old_name}", f"{owner}.github.io/{name}")
        if new != text:
            contents[path] = new
    return contents


def main() -> None:
    """Rewrites the files and says which."""
    for path, text in outdated(ROOT).items():
        path.write_text(text, "utf-8", newline="\n")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
