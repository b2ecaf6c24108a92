"""The repository's address: the same everywhere, set by one command, and no link while it is not set."""

import importlib.util
import shutil
import subprocess
import sys
import tomllib
from types import SimpleNamespace

import pytest
import yaml
from repository import NOTEBOOKS, ROOT, tool

URL = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["repository"]["url"]
FORMS = [
    "https://github.com/ada/noise",
    "https://github.com/ada/noise.git\n",
    "git@github.com:ada/noise.git",
    "ssh://git@github.com/ada/noise",
]


@pytest.fixture
def copy(tmp_path):
    """A repository of its own with every file that has the address."""
    setter = tool("set_repository_url")
    for path in [path for place in setter.PLACES for path in ROOT.glob(place)]:
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    shutil.copy(ROOT / "tools/set_repository_url.py", tmp_path / "tools")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def set_address(copy, *arguments):
    command = [sys.executable, "tools/set_repository_url.py", *arguments]
    return subprocess.run(command, cwd=copy, capture_output=True, text=True)


def test_address_is_the_same_everywhere():
    assert tool("set_repository_url").with_address(ROOT, URL) == {}, "run `make url`"
    assert tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"] == URL
    for name in ("CITATION.cff", "README.md", "tools/first_cell.py"):
        assert URL in (ROOT / name).read_text("utf-8"), name


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("by", ["argument", "origin"])
def test_setting_the_address_reaches_every_file(copy, form, by):
    if by == "origin":
        subprocess.run(["git", "remote", "add", "origin", form.strip()], cwd=copy, check=True)
    done = set_address(copy, *([form] if by == "argument" else []))
    assert done.returncode == 0, done.stderr
    assert tool("set_repository_url").with_address(copy, form) == {}
    names = [path.relative_to(ROOT) for path in NOTEBOOKS]
    for name in [*names, "_config.yml", "CITATION.cff", "README.md", "pyproject.toml", "tools/first_cell.py"]:
        text = (copy / name).read_text("utf-8")
        assert "https://github.com/ada/noise" in text
        assert URL not in text
    readme = (copy / "README.md").read_text("utf-8")
    assert "<https://colab.research.google.com/github/ada/noise/blob/main/notebooks/01_" in readme


@pytest.mark.parametrize("arguments, message", [((), "origin"), (("https://example.org/book",), "github.com/OWNER/NAME")])
def test_without_an_address_on_github_nothing_changes(copy, arguments, message):
    before = (copy / "README.md").read_bytes()
    done = set_address(copy, *arguments)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert (copy / "README.md").read_bytes() == before


@pytest.mark.parametrize("owner", ["OWNER", "ada"])
def test_buttons_are_there_once_the_address_is(owner):
    spec = importlib.util.spec_from_file_location("repository_address", ROOT / "book/_extensions/repository_address.py")
    extension = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(extension)
    given = {"repository_url": f"https://github.com/{owner}/book", "use_repository_button": True, "launch_buttons": {"a": 1}}
    config = SimpleNamespace(html_theme_options=dict(given))
    extension.without_dead_links(None, config)
    assert config.html_theme_options == ({} if owner == "OWNER" else given)


@pytest.mark.parametrize("source", [None, "git+https://github.com/OWNER/label-noise-book"], ids=["as it stands", "by name"])
def test_first_cell_says_what_to_set(tmp_path, source):
    """In an environment without the package, which an empty search path is."""
    if "/OWNER/" not in URL:
        pytest.skip("the address is set")
    cell = (ROOT / "tools/first_cell.py").read_text("utf-8")
    hidden = "import importlib.util\nimportlib.util.find_spec = lambda name: None\n"
    environment = {"PATH": ""} | ({"LABELNOISE_UTILS_SOURCE": source} if source else {})
    run = subprocess.run([sys.executable, "-c", hidden + cell], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1 and "RuntimeError" in run.stderr and "set LABELNOISE_UTILS_SOURCE" in run.stderr
