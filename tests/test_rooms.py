"""The package's rooms: each imports only from rooms above it, and no file holds two ideas."""

import ast
from pathlib import Path

import pytest

import labelnoise_utils

HOUSE = Path(labelnoise_utils.__file__).parent
ROOMS = ["arguments", "data", "regularizer", "models", "sgd", "theory", "simplicity", "page", "__init__"]
FILES = {path.relative_to(HOUSE): path for path in sorted(HOUSE.rglob("*.py"))}


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
    assert imported_rooms(Path("theory/flow.py")) == {"arguments", "regularizer", "sgd"}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_is_at_most_400_lines_long(path):
    assert len(FILES[path].read_text("utf-8").splitlines()) <= 400
