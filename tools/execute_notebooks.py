"""Runs the notebooks whose outputs are not in the cache yet, side by side.

    python tools/execute_notebooks.py notebooks/*.ipynb book/introduction.md

The cache knows a notebook by its code cells alone. A change in the package, or in the versions of
its dependencies, makes every output stale as well, so the cache is dropped when their fingerprint
changes. The book's build then finds every output in the cache and runs nothing.
"""

import hashlib
import importlib
import shutil
import sys
from pathlib import Path

from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "_build" / ".jupyter_cache"
SECONDS_PER_CELL = 900


def fingerprint(root: Path) -> str:
    """Hash of everything but the notebooks themselves that their outputs depend on.

    Args:
        root: the repository.

    Returns:
        SHA-256 over the names and contents of the package's files and of ``constraints.txt``.
    """
    files = [root / "constraints.txt"]
    for path in (root / "labelnoise_utils").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            files.append(path)
    digest = hashlib.sha256()
    for path in sorted(files):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def drop_if_stale(cache: Path, current: str) -> bool:
    """Removes the cache unless it was filled under the current fingerprint.

    Args:
        cache: the cache's folder.
        current: what ``fingerprint`` says now.

    Returns:
        Whether an older cache was removed.
    """
    stamp = cache / "fingerprint"
    if stamp.exists() and stamp.read_text() == current:
        return False
    stale = cache.exists()
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(parents=True)
    stamp.write_text(current)
    return stale


def main(notebooks: list[str]) -> int:
    """Fills the cache.

    Args:
        notebooks: paths of the notebooks, ``.ipynb`` or MyST Markdown.

    Returns:
        Exit status: 0 if every notebook's outputs are now in the cache.
    """
    if drop_if_stale(CACHE, fingerprint(ROOT)):
        print("The package or constraints.txt has changed: every notebook runs again.")
    cache = get_cache(CACHE)
    uris = [str(Path(notebook).resolve()) for notebook in notebooks]
    for uri in uris:
        reader = "myst_nb_md" if uri.endswith(".md") else "nbformat"
        cache.add_nb_to_project(uri, read_data={"type": "plugin", "name": reader})

    # Kernels that find no font cache would each build one, and say so on their pages.
    importlib.import_module("matplotlib.font_manager")
    executor = load_executor("local-parallel", cache)
    result = executor.run_and_cache(filter_uris=uris, timeout=SECONDS_PER_CELL)

    for uri in result.succeeded:
        seconds = cache.get_cached_project_nb(uri).data["execution_seconds"]
        print(f"{Path(uri).name}: {seconds:.0f} s")
    failed = result.excepted + result.errored
    for uri in failed:
        print(f"{Path(uri).name}: FAILED, see above")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
