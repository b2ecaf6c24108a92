"""In a notebook the checks of a cell are one line that opens, and data; elsewhere a line each."""

import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from labelnoise_utils.page.folded import DATA, Check, bundle

SCRIPT = """
import labelnoise_utils as ln
ln.check("first", 0.51, 0.5, rtol=0.05)
ln.check("second <b>", [1, 2], at_least=1)
"""
HOLD = [
    Check("first", "0.51", "0.5", "within 5%"),
    Check("second <b>", "[1, 2]", "at least 1", ""),
]


def outputs_of(*sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    try:
        NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    except CellExecutionError:
        pass
    return [cell.outputs for cell in cells]


def test_a_script_prints_a_line_for_each():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"holds: {one.line}" for one in HOLD]


def test_a_cell_gets_one_output_after_what_it_prints():
    with_checks, without, again, failing = outputs_of(
        SCRIPT + "print('between')\n", "1 + 1", "ln.check('third', 1, 1)", "ln.check('fourth', 1, 1)\nln.check('fifth', 2, 1)"
    )
    assert [one.output_type for one in with_checks] == ["stream", "display_data"]
    assert with_checks[1].data == bundle(HOLD)
    assert [one["claim"] for one in with_checks[1].metadata[DATA]] == ["first", "second <b>"]
    assert [one.output_type for one in without] == ["execute_result"]
    assert again[0].data == bundle([Check("third", "1", "1", "exactly")])
    assert "does not hold: fifth: 2, predicted 1 exactly" in str([one for one in failing if one.output_type == "error"])
    assert [one.metadata[DATA] for one in failing if one.output_type == "display_data"] == [
        [{"claim": "fourth", "measured": "1", "predicted": "1", "tolerance": "exactly"}]
    ]


@pytest.mark.parametrize("count", [1, 2])
def test_what_is_shown(count):
    shown = bundle(HOLD[:count])
    said = {1: "the check holds", 2: "2 of 2 checks hold"}[count]
    assert f"<summary>{said}</summary>" in shown["text/html"] and shown["text/plain"].startswith(said)
    assert shown["text/html"].count("<tr>") == count + 1 and "<b>" not in shown["text/html"]
