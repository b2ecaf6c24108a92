"""The build runs the notebooks, keeps their outputs until something changes, and leaves copies that nbval compares with."""

import subprocess
import sys

import nbformat
import pytest
from jupyter_cache import get_cache
from repository import tool


class TestCacheOfOutputs:
    @pytest.fixture
    def tree(self, tmp_path):
        (tmp_path / "labelnoise_utils").mkdir()
        (tmp_path / "labelnoise_utils/noise.py").write_text("std = 1\n")
        (tmp_path / "constraints.txt").write_text("numpy==2\n")
        return tmp_path

    @pytest.mark.parametrize("name", ["labelnoise_utils/noise.py", "constraints.txt"])
    def test_goes_when_a_file_changes(self, tree, name):
        execute = tool("execute_notebooks")
        before = execute.fingerprint(tree)
        (tree / name).write_text("changed")
        assert execute.fingerprint(tree) != before

    def test_goes_when_a_file_is_removed_but_not_for_compiled_code(self, tree):
        execute = tool("execute_notebooks")
        before = execute.fingerprint(tree)
        (tree / "labelnoise_utils/__pycache__").mkdir()
        (tree / "labelnoise_utils/__pycache__/noise.nbi").touch()
        assert execute.fingerprint(tree) == before
        (tree / "labelnoise_utils/noise.py").unlink()
        assert execute.fingerprint(tree) != before

    def test_stays_while_the_fingerprint_stays(self, tmp_path):
        execute = tool("execute_notebooks")
        cache = tmp_path / "cache"
        assert not execute.drop_if_stale(cache, "a")
        (cache / "output").touch()
        assert not execute.drop_if_stale(cache, "a")
        assert (cache / "output").exists()
        assert execute.drop_if_stale(cache, "b")
        assert not (cache / "output").exists()


class TestComparison:
    """What the tests do with the executed copies: run them again, and compare what they print."""

    CELLS = ("print(f'{2**0.5:.3f} changes')", "import time\nprint(time.perf_counter())", "6 * 7")

    @pytest.fixture
    def copy(self, tmp_path):
        """A notebook whose second cell prints the clock, taken through the build."""
        execute = tool("execute_notebooks")
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in self.CELLS])
        notebook.cells[1].metadata.tags = ["nbval-ignore-output"]
        nbformat.write(notebook, tmp_path / "a.ipynb")
        execute.drop_if_stale(tmp_path / "cache", "")
        cache = get_cache(tmp_path / "cache")
        assert execute.fill(cache, [tmp_path / "a.ipynb"])
        execute.leave_copies(cache, [tmp_path / "a.ipynb"], tmp_path / "executed")
        return tmp_path / "executed" / "a.ipynb"

    def outcome(self, copy):
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--nbval", "--nbval-current-env", copy]
        run = subprocess.run(command, cwd=copy.parent, capture_output=True, text=True, timeout=300)
        return run.stdout.splitlines()[-1]

    def test_a_second_run_prints_the_same(self, copy):
        assert self.outcome(copy).startswith("3 passed")

    @pytest.mark.parametrize("cell, was, now", [(0, "1.414", "1.415"), (2, "42", "43")], ids=["printed", "result"])
    def test_a_number_changed_by_hand_is_found(self, copy, cell, was, now):
        text = copy.read_text("utf-8")
        assert f'"{was}' in text
        copy.write_text(text.replace(f'"{was}', f'"{now}'), "utf-8")
        assert self.outcome(copy).startswith("1 failed, 2 passed")


def test_a_notebook_that_fails_is_named(tmp_path, capsys):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    nbformat.write(notebook, tmp_path / "b.ipynb")
    execute = tool("execute_notebooks")
    execute.drop_if_stale(tmp_path / "cache", "")
    assert not execute.fill(get_cache(tmp_path / "cache"), [tmp_path / "b.ipynb"])
    said = capsys.readouterr().out
    assert "ZeroDivisionError" in said and "b.ipynb: FAILED" in said
