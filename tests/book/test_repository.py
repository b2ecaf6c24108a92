"""What the repository says of itself holds: addresses, versions, licences, clean notebooks."""

import importlib.metadata
import json
import re
import subprocess
import sys
import textwrap
import tomllib

import pytest
import torch
import yaml
from repository import NOTEBOOKS, ROOT

import labelnoise_utils

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def by_name(path):
    return path.name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
class TestNotebook:
    def test_starts_by_installing_the_package(self, path):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        first = next(cell for cell in cells if cell["cell_type"] == "code")
        assert "".join(first["source"]) == (ROOT / "tools/first_cell.py").read_text().rstrip("\n")
        assert "hide-cell" in first["metadata"]["tags"]

    def test_is_stripped_and_its_cells_have_ids(self, path):
        notebook = json.loads(path.read_text("utf-8"))
        assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
        assert notebook["metadata"]["kernelspec"]["name"] == "python3"
        ids = [cell["id"] for cell in notebook["cells"]]
        assert len(set(ids)) == len(ids)
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                assert (cell["outputs"], cell["execution_count"]) == ([], None)

    def test_is_a_chapter_of_the_book(self, path):
        assert re.fullmatch(r"\d\d_[a-z0-9_]+\.ipynb", path.name)
        assert f"notebooks/{path.stem}\n" in (ROOT / "_toc.yml").read_text("utf-8")


def test_versions_agree():
    version = labelnoise_utils.__version__
    assert importlib.metadata.version("labelnoise-utils") == version
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"] == version


def test_package_has_lower_bounds_only_and_ci_exact_versions():
    for requirement in PYPROJECT["project"]["dependencies"]:
        assert re.fullmatch(r"[a-z-]+>=[\d.]+", requirement)
    pins = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if line and not line.startswith("#")]
    for pin in pins:
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; .+)?", pin)


def test_what_only_some_calls_need_is_asked_for_alike_everywhere():
    """By the extra of its own, the book, the tests, CI and conda."""
    extras = PYPROJECT["project"]["optional-dependencies"]
    pins = (ROOT / "constraints.txt").read_text("utf-8")
    conda = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    for requirement in extras["interpolant"] + extras["cluster"]:
        name = requirement.split(">=")[0]
        assert requirement in extras["book"] and requirement in extras["test"]
        assert re.search(rf"^{name}==", pins, re.MULTILINE) and name in conda


def test_tools_to_compare_with_are_pinned():
    def lines(path):
        return [line for line in (ROOT / path).read_text("utf-8").splitlines() if not line.startswith("#")]

    pinned = {pin.split("==")[0] for pin in lines("constraints.txt")}
    for requirement in lines("tests/oracles.txt"):
        assert re.fullmatch(r"[\w-]+>=[\d.]+", requirement)
        assert requirement.split(">=")[0] in pinned
    for requirement in lines("benchmarks/requirements.txt"):
        assert re.fullmatch(r"[\w-]+==[\d.]+", requirement)


def test_conda_environment_has_the_dependencies():
    entries = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    names = {re.match(r"[a-z-]+", entry)[0] for entry in entries if isinstance(entry, str)}
    for requirement in PYPROJECT["project"]["dependencies"]:
        name = requirement.split(">=")[0]
        assert {"torch": "pytorch-cpu"}.get(name, name) in names
        if name == "torch":
            assert requirement.replace("torch", "pytorch-cpu") in entries


def test_licences_are_there():
    assert (ROOT / "LICENSE").read_text("utf-8").startswith("BSD 3-Clause License")
    assert "creativecommons.org/licenses/by/4.0" in (ROOT / "LICENSE-TEXT").read_text("utf-8")
    for vendored in (ROOT / "book/_static/vendor").iterdir():
        assert (vendored / "LICENSE").is_file() and (vendored / "README.md").is_file()


def check_schema(schema, *paths):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *paths]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_citation_file_is_valid():
    check_schema("vendor.citation-file-format", ROOT / "CITATION.cff")


def test_workflows_are_valid_and_end_in_time():
    assert WORKFLOWS
    check_schema("vendor.github-workflows", *WORKFLOWS)
    check_schema("custom.github-workflows-require-timeout", *WORKFLOWS)


@pytest.mark.parametrize("path", WORKFLOWS, ids=by_name)
def test_workflow_has_few_rights_and_pinned_actions(path):
    text = path.read_text("utf-8")
    assert yaml.safe_load(text)["permissions"] == {}
    for action in re.findall(r"uses: *(.*)", text):
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)


def test_packages_are_asked_for_by_name_and_not_by_server():
    """So that the book installs from whatever index or mirror its reader has set up."""
    server = re.compile(rb"\b(pypi|pythonhosted|npmjs|jsdelivr|anaconda)\.(org|com|net)\b")
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    if listing.returncode:
        pytest.skip("not a git checkout")
    for name in listing.stdout.decode().split("\0"):
        path = ROOT / name
        if path.is_file() and "vendor" not in path.parts:
            assert not server.search(path.read_bytes()), name


def test_the_readme_s_examples_run(capsys):
    torch.manual_seed(0)
    found = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), flags=re.DOTALL)
    of_reg, of_a_loop = [textwrap.dedent(block) for block in found]
    assert max(len([line for line in block.splitlines() if line]) for block in (of_reg, of_a_loop)) <= 15
    names = {}
    exec(of_reg, names)
    run, reg = names["run"], names["reg"]
    assert reg == pytest.approx(run.reg[0], rel=1e-4) and run.reg[-1] < 0.7 * reg and len(run.reg) == len(run.step)
    assert sum(names["shares"].values()).item() == pytest.approx(reg, rel=1e-5)
    assert capsys.readouterr().out == f"reg {reg:.2f} -> {run.reg[-1]:.2f}\n"
    exec(of_a_loop, names)
    model, classifier, x, y = (names[name] for name in ("model", "classifier", "x", "y"))
    assert model.training and classifier.training
    assert labelnoise_utils.implicit_regularizer(model, x) < 0.7 * reg
    right = (classifier(x).argmax(dim=1) == (y[:, 0] > 0)).float().mean()
    assert right > 0.8
    assert (model(x) - y).square().mean() < 0.5 * y.square().mean()
