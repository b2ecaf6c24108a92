"""Runs the notebooks whose outputs are not in the cache yet, side by side, in the order that they are given.

    python tools/execute_notebooks.py notebooks/*.ipynb book/introduction.md

The cache knows a notebook by its code cells alone. A change in the package, or in the versions of
its dependencies, makes every output stale as well, so the cache is dropped when their fingerprint
changes. The book's build then finds every output in the cache and runs nothing. A copy of each
notebook with its outputs is left in ``_build/executed``: the tests run it again and compare.
"""

import hashlib
import importlib
import os
import shutil
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.cache.main import JupyterCacheBase
from jupyter_cache.executors.utils import ExecutionResult, create_cache_bundle, single_nb_execution

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "_build"
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


def execute(notebook: nbformat.NotebookNode, folder: Path) -> ExecutionResult:
    """Runs a notebook in place, in a kernel of its own.

    Args:
        notebook: what to run.
        folder: where the kernel runs.

    Returns:
        The outcome, with its duration, and its error if there was one.
    """
    # A kernel warns in its log that it talks to this process through a socket on this machine.
    quiet = ["--log-level=ERROR"]
    return single_nb_execution(
        notebook, str(folder), timeout=SECONDS_PER_CELL, allow_errors=False, kernel_name="python3", extra_arguments=quiet
    )


def fill(cache: JupyterCacheBase, paths: Iterable[Path]) -> bool:
    """Runs what is not in the cache, and says of each notebook how long it took.

    Args:
        cache: where outputs go.
        paths: of the notebooks, ``.ipynb`` or MyST Markdown, the ones that take longest first.

    Returns:
        Whether every notebook ran to its end.
    """
    for path in paths:
        reader = "myst_nb_md" if path.suffix == ".md" else "nbformat"
        cache.add_nb_to_project(str(path), read_data={"type": "plugin", "name": reader})
    waiting = [cache.get_project_notebook(str(path)) for path in paths if cache.get_cached_project_nb(str(path)) is None]
    done = True
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {pool.submit(execute, project.nb, Path(project.uri).parent): project for project in waiting}
        for future in as_completed(running):
            project, result = running[future], future.result()
            if result.err is None:
                bundle = create_cache_bundle(project, result.cwd, None, result.time, None)
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
                print(f"{Path(project.uri).name}: {result.time:.0f} s", flush=True)
            else:
                done = False
                print(f"{result.exc_string}\n{Path(project.uri).name}: FAILED, see above", flush=True)
    return done


def leave_copies(cache: JupyterCacheBase, paths: Iterable[Path], folder: Path) -> None:
    """Writes each notebook with its outputs.

    Args:
        cache: where the outputs are.
        paths: of the notebooks.
        folder: where the copies go, each under its notebook's name.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in paths:
        _, notebook = cache.merge_match_into_notebook(cache.get_project_notebook(str(path)).nb)
        nbformat.write(notebook, folder / f"{path.stem}.ipynb")


def main(notebooks: list[str]) -> int:
    """Fills the cache, and leaves executed copies.

    Args:
        notebooks: paths of the notebooks, ``.ipynb`` or MyST Markdown.

    Returns:
        Exit status: 0 if every notebook's outputs are now in the cache.
    """
    folder = BUILD / ".jupyter_cache"
    if drop_if_stale(folder, fingerprint(ROOT)):
        print("The package or constraints.txt has changed: every notebook runs again.")
    cache = get_cache(folder)
    paths = [Path(notebook).resolve() for notebook in notebooks]
    # Kernels that find no font cache would each build one, and say so on their pages.
    importlib.import_module("matplotlib.font_manager")
    if not fill(cache, paths):
        return 1
    leave_copies(cache, paths, BUILD / "executed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
