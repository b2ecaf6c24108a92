"""A notebook alone in an empty folder, in an environment that has torch but not the package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT

NOTEBOOK = next((ROOT / "notebooks").glob("01_*.ipynb"))
CONSTRAINTS = os.environ.get("CONSTRAINTS", "constraints.txt")


@pytest.fixture
def repository(tmp_path):
    """The package as it stands here, as a git repository of its own."""
    repository = tmp_path / "repository"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "labelnoise_utils", repository / "labelnoise_utils", ignore=ignored)
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, repository)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init"], ["add", "--all"], ["commit", "--message=package"]):
        subprocess.run([*git, *command], cwd=repository, check=True, stdout=subprocess.DEVNULL)
    return repository


@pytest.fixture
def environment(tmp_path):
    """What a process in the fresh environment sees: none of ours, but the same exact versions."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "JUPYTER", "VIRTUAL_ENV", "GIT_"))
    }
    if CONSTRAINTS:
        environment["PIP_CONSTRAINT"] = str(ROOT / CONSTRAINTS)
    return environment


def files_of(distribution, python):
    """Every installed file of a distribution with its size and time of change."""
    listing = """
import importlib.metadata, os, sys
for file in importlib.metadata.files(sys.argv[1]):
    if not str(file).endswith(".pyc"):
        status = os.stat(file.locate())
        print(file, status.st_size, status.st_mtime_ns)
"""
    command = [python, "-c", listing, distribution]
    files = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert files
    return files


@pytest.mark.fresh
def test_notebook_on_its_own(tmp_path, repository, environment):
    folder, venv = tmp_path / "alone", tmp_path / "venv"
    folder.mkdir()
    shutil.copy(NOTEBOOK, folder)
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = venv / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "torch", "nbclient", "ipykernel"]
    subprocess.run(install, check=True, env=environment)
    torch = files_of("torch", python)

    environment["LABELNOISE_UTILS_SOURCE"] = f"git+file://localhost{repository}"
    run = [venv / "bin" / "jupyter-execute", "--timeout=900", NOTEBOOK.name]
    result = subprocess.run(run, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr

    assert files_of("torch", python) == torch
    where = [python, "-c", "import labelnoise_utils; print(labelnoise_utils.__file__)"]
    package = subprocess.run(where, cwd=folder, check=True, capture_output=True, text=True).stdout
    assert Path(package).is_relative_to(venv)
