"""The file of a run is whole and safe, or refused."""

import json
import os
import pickle
import zipfile

import numpy as np
import pytest
from cases import assert_same_run, quick

import labelnoise_utils as ln


class TestWholeOrNotAtAll:
    """An error or a kill at any moment leaves the old file, and no other."""

    @pytest.fixture
    def old(self, tmp_path):
        run = quick(ln.Product(2.0, 0.5), record=6)
        run.save(tmp_path / "run")
        return run

    def assert_old_is_there(self, old, path):
        assert_same_run(old, ln.Run.load(path / "run"))

    @pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
    @pytest.mark.parametrize("where", ["os.replace", "pathlib.Path.write_bytes", "numpy.savez"])
    def test_error(self, old, tmp_path, monkeypatch, where, error):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(where, fail)
        with pytest.raises(type(error)):
            quick(ln.Product(9.0, 0.1), record=6).save(tmp_path / "run")
        monkeypatch.undo()
        self.assert_old_is_there(old, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["run"]

    def test_kill(self, old, tmp_path, monkeypatch):
        """Up to one last system call the old file is untouched, and by then the new is complete."""
        new, replace, seen = quick(ln.Product(9.0, 0.1), record=6), os.replace, []

        def look_and_replace(source, target):
            assert os.fspath(target) == os.fspath(tmp_path / "run")
            seen.extend(ln.Run.load(path) for path in (source, target))
            replace(source, target)

        monkeypatch.setattr("os.replace", look_and_replace)
        new.save(tmp_path / "run")
        assert_same_run(new, seen[0])
        assert_same_run(old, seen[1])

    def test_old_file_is_replaced(self, old, tmp_path):
        new = quick(ln.TwoLayerReLU(3), record=6)
        new.save(tmp_path / "run")
        assert_same_run(new, ln.Run.load(tmp_path / "run"))
        assert [path.name for path in tmp_path.iterdir()] == ["run"]

    def test_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            quick(ln.Product(), record=6).save(tmp_path / "nowhere" / "run")


def rewritten(path, changes):
    """Change or, with None, drop arrays of a saved run."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files} | changes
    with open(path, "wb") as file:
        np.savez(file, **{key: value for key, value in arrays.items() if value is not None})


def rewritten_facts(path, **changes):
    with np.load(path) as file:
        about = json.loads(str(file["about"]))
    rewritten(path, {"about": json.dumps(about | changes)})


class Bomb:
    """What a pickle can do to whoever reads it."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def object_array(path):
    bomb = np.empty(6, dtype=object)
    bomb[:] = [Bomb()] * 6
    rewritten(path, {"loss": bomb})


def model_of(name, config=None):
    return {"name": name, "config": config or {}}


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("step,loss\n0,1\n"),
    "a zip of something else": lambda path: zipfile.ZipFile(path, "w").writestr("a.txt", "a"),
    "an npz of something else": lambda path: np.savez(open(path, "wb"), a=np.arange(3)),
    "an npy": lambda path: np.save(open(path, "wb"), np.arange(3)),
    "a pickle": lambda path: path.write_bytes(pickle.dumps(Bomb())),
    "an array of objects": object_array,
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "cut by a byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "without its head": lambda path: path.write_bytes(path.read_bytes()[100:]),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "no step": lambda path: rewritten(path, {"step": None}),
    "no theta": lambda path: rewritten(path, {"theta": None}),
    "no facts": lambda path: rewritten(path, {"about": None}),
    "no frozen values": lambda path: rewritten(path, {"rest.a0": None}),
    "frozen values of another shape": lambda path: rewritten(path, {"rest.a0": np.zeros(2)}),
    "no frozen": lambda path: rewritten(path, {"frozen": None}),
    "unknown frozen parameter": lambda path: rewritten(path, {"frozen": np.array(["q"])}),
    "facts that are no json": lambda path: rewritten(path, {"about": "{"}),
    "facts that are a list": lambda path: rewritten(path, {"about": "[1]"}),
    "a fact missing": lambda path: rewritten(path, {"about": json.dumps({"model": None})}),
    "lengths that differ": lambda path: rewritten(path, {"loss": np.zeros(5)}),
    "a number for a column": lambda path: rewritten(path, {"reg": np.float64(1)}),
    "theta of another width": lambda path: rewritten(path, {"theta": np.zeros((6, 15))}),
    "theta without rows": lambda path: rewritten(path, {"theta": np.zeros(6)}),
    "unknown model": lambda path: rewritten_facts(path, model=model_of("Perceptron")),
    "a function for a model": lambda path: rewritten_facts(path, model=model_of("train")),
    "another model": lambda path: rewritten_facts(path, model=model_of("Product")),
    "another width": lambda path: rewritten_facts(path, model=model_of("TwoLayerReLU", {"width": 6})),
    "a width below 1": lambda path: rewritten_facts(path, model=model_of("TwoLayerReLU", {"width": 0})),
    "a model without a name": lambda path: rewritten_facts(path, model={}),
    "a model that is a number": lambda path: rewritten_facts(path, model=5),
}


class TestDamagedFile:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "the run.npz"
        model = ln.TwoLayerReLU(5)
        model.a0.requires_grad_(False)
        quick(model, record=6).save(path)
        return path

    @pytest.mark.parametrize("kind", DAMAGE)
    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_is_named(self, path, kind):
        DAMAGE[kind](path)
        with pytest.raises(ValueError, match="the run.npz is not a run that Run.save wrote"):
            ln.Run.load(path)

    def test_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nothing"):
            ln.Run.load(tmp_path / "nothing")

    @pytest.mark.parametrize("seed", range(3))
    def test_any_cut_and_any_changed_byte(self, path, seed):
        """Either the run comes back as it was, or the file is refused: nothing in between."""
        rng = np.random.default_rng(seed)
        whole, run = path.read_bytes(), ln.Run.load(path)
        refused = 0
        for at in rng.integers(len(whole), size=150):
            cut = whole[:at]
            changed = bytearray(whole)
            changed[at] ^= 1 << rng.integers(8)
            for content in (cut, bytes(changed)):
                path.write_bytes(content)
                try:
                    loaded = ln.Run.load(path)
                except ValueError as error:
                    assert "the run.npz" in str(error)
                    refused += 1
                else:
                    assert_same_run(run, loaded)
        assert refused > 250
