"""The rooms of the package, its tests and its reference: each imports only from rooms above it, no file holds two ideas."""

import ast
import re
from pathlib import Path
from types import ModuleType

import pytest

import labelnoise_utils

HOUSE = Path(labelnoise_utils.__file__).parent
ROOMS = ["arguments", "data", "regularizer", "models", "sgd", "theory", "simplicity", "page", "__init__"]
FILES = {path.relative_to(HOUSE): path for path in sorted(HOUSE.rglob("*.py"))}
TESTS = Path(__file__).parent
TEST_FILES = {path.relative_to(TESTS): path for path in sorted(TESTS.rglob("*.py"))}
API = (TESTS.parent / "book" / "api.md").read_text("utf-8")


def room(path):
    return path.parts[0].removesuffix(".py")


def imported_rooms(path):
    """The rooms that a file of the package imports from, by relative imports."""
    rooms = set()
    for node in ast.walk(ast.parse((HOUSE / path).read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = path.parts[: len(path.parts) - node.level]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            rooms |= {[*above, *name.split(".")][0] for name in names}
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not any(name.split(".")[0] == "labelnoise_utils" for name in names), f"{path} imports by the full name"
    return rooms


def test_every_file_is_in_a_room():
    assert {room(path) for path in FILES} == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_imports_only_from_its_own_room_and_those_above(path):
    allowed = ROOMS[: ROOMS.index(room(path)) + 1]
    assert imported_rooms(path) <= set(allowed)


def test_an_import_from_below_is_seen():
    assert imported_rooms(Path("theory/flow.py")) == {"arguments", "regularizer", "sgd", "theory"}


@pytest.mark.parametrize("path", [*FILES.values(), *TEST_FILES.values()], ids=lambda path: str(path.relative_to(TESTS.parent)))
def test_a_file_is_at_most_400_lines_long(path):
    assert len(path.read_text("utf-8").splitlines()) <= 400


def test_every_folder_of_tests_is_a_room():
    """Or "book", for the repository, the notebooks and the built site."""
    folders = {path.parts[0] for path in TEST_FILES if len(path.parts) > 1}
    assert folders == {path.parts[0] for path in FILES if len(path.parts) > 1} | {"book"}
    assert max(len(path.parts) for path in TEST_FILES) == 2


def test_test_files_have_names_of_their_own():
    """Without packages pytest imports each by its name alone."""
    names = [path.name for path in TEST_FILES if path.name != "conftest.py"]
    assert len(names) == len(set(names))


def test_the_reference_has_the_rooms_in_order_and_each_name_in_its_own():
    titles = [title.lower() for title in re.findall(r"^## (.*)$", API, re.MULTILINE)]
    assert titles == [name for name in ROOMS if name not in ("arguments", "__init__")]
    sections = dict(zip(titles, re.split(r"^## .*$", API, flags=re.MULTILINE)[1:], strict=True))
    for name in labelnoise_utils.__all__:
        public = getattr(labelnoise_utils, name)
        is_module = isinstance(public, ModuleType)
        where = public.__name__ if is_module else public.__module__
        described = rf"{re.escape(where)}\.\w+" if is_module else name
        assert re.search(rf"^\.\. auto\w+:: {described}$", sections[where.split(".")[1]], re.MULTILINE), name
