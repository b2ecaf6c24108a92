"""What a run keeps: models at its snapshots, and a file that is whole and safe, or refused."""

import copy
import json
import os
import pickle
import stat
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

import labelnoise_utils as ln

X, Y = ln.twelve_points()
CLOUD = torch.from_numpy(np.random.default_rng(0).normal(size=(7, 3)))
SENSED = ln.matrix_sensing(3, 1, 7).x


def short_run(model, x=X, y=Y, **arguments):
    defaults = dict(lr=0.002, steps=100, noise=ln.LabelNoise(0.5), record=6, progress=False)
    return ln.train(model, x, y, **defaults | arguments)


def frozen_relu():
    model = ln.TwoLayerReLU(4, seed=2)
    model.c.requires_grad_(False)
    return model


RUNS = {
    "product": lambda: short_run(ln.Product(2.0, 0.3)),
    "relu": lambda: short_run(ln.TwoLayerReLU(5)),
    "relu-without-skip": lambda: short_run(ln.TwoLayerReLU(5, skip=False)),
    "relu-frozen": lambda: short_run(frozen_relu()),
    "relu-float32": lambda: short_run(ln.TwoLayerReLU(5, dtype=torch.float32)),
    "matrix": lambda: short_run(ln.MatrixSensing(3), SENSED, CLOUD[:, 0]),
    "matrix-float32": lambda: short_run(ln.MatrixSensing(3, dtype=torch.float32), SENSED, CLOUD[:, 0]),
    "sigmoidal": lambda: short_run(ln.TwoLayerSigmoidal(4, 3, "logistic"), CLOUD, CLOUD[:, 0]),
    "mlp": lambda: short_run(ln.MLP([3, 4, 4, 2], "tanh"), CLOUD, CLOUD[:, :2]),
    "one-snapshot": lambda: short_run(ln.Product(), record=[100]),
}


def assert_same_run(one, other):
    for column in ("step", "loss", "reg", "theta"):
        saved, loaded = getattr(one, column), getattr(other, column)
        assert saved.dtype == loaded.dtype
        np.testing.assert_array_equal(saved, loaded)
    for fact in ("steps", "engine", "seconds", "interrupted", "steps_per_second"):
        assert getattr(one, fact) == getattr(other, fact)
        assert type(getattr(one, fact)) is type(getattr(other, fact))


class TestModelAt:
    def test_has_the_parameters_of_the_snapshot(self):
        model = ln.TwoLayerReLU(5)
        run = short_run(model)
        for i in [*range(len(run.step)), -1, -2]:
            theta = nn.utils.parameters_to_vector(run.model_at(i).parameters())
            np.testing.assert_array_equal(theta.detach(), run.theta[i])
        assert torch.equal(run.model_at(-1)(X), model(X))

    def test_frozen_parameters_are_where_they_were(self):
        model = frozen_relu()
        at_start = RUNS["relu-frozen"]().model_at(0)
        assert torch.equal(at_start(X), model(X))
        assert not at_start.c.requires_grad

    def test_shares_nothing_with_the_run(self):
        run = short_run(ln.TwoLayerReLU(5))
        before = run.theta.copy()
        for _ in range(2):
            model = run.model_at(2)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.fill_(7.0)
            np.testing.assert_array_equal(run.theta, before)
            assert not (run.model_at(2).a == 7).any()

    def test_can_be_trained_on(self):
        run = short_run(ln.TwoLayerReLU(5))
        again = short_run(run.model_at(-1))
        np.testing.assert_array_equal(again.theta[0], run.theta[-1])

    @pytest.mark.parametrize("i", [6, -7, 100])
    def test_no_such_snapshot(self, i):
        run = short_run(ln.Product())
        assert len(run.step) == 6
        with pytest.raises(IndexError):
            run.model_at(i)

    @pytest.mark.parametrize("width", [4, 6])
    def test_another_architecture_is_refused(self, width):
        run = short_run(ln.TwoLayerReLU(5))
        with pytest.raises(ValueError, match=rf"\(17,\).* {3 * width + 2} trainable parameters"):
            run.model_at(0, ln.TwoLayerReLU(width))


@pytest.mark.parametrize("name", RUNS)
def test_file_holds_the_whole_run(name, tmp_path):
    run = RUNS[name]()
    run.save(tmp_path / "run.npz")
    loaded = ln.Run.load(tmp_path / "run.npz")
    assert_same_run(run, loaded)
    assert type(loaded.model) is type(run.model)
    flags = [[(n, p.dtype, p.requires_grad) for n, p in r.model.named_parameters()] for r in (run, loaded)]
    assert flags[0] == flags[1]
    dtype = next(run.model.parameters()).dtype
    inputs = {"mlp": CLOUD, "sigmoidal": CLOUD, "matrix": SENSED, "matrix-float32": SENSED}
    x = inputs.get(name, X).to(dtype)
    for i in (0, -1):
        assert torch.equal(run.model_at(i)(x), loaded.model_at(i)(x))


def test_path_may_be_text_and_have_any_name(tmp_path):
    run = short_run(ln.Product())
    for name in ("a run", "run.dat", "run.npz", "läuft"):
        run.save(str(tmp_path / name))
        assert_same_run(run, ln.Run.load(str(tmp_path / name)))
    assert len(list(tmp_path.iterdir())) == 4


def test_loaded_run_can_be_saved_again(tmp_path):
    run = short_run(frozen_relu())
    run.save(tmp_path / "one")
    ln.Run.load(tmp_path / "one").save(tmp_path / "two")
    again = ln.Run.load(tmp_path / "two")
    assert_same_run(run, again)
    assert torch.equal(again.model_at(-1)(X), run.model_at(-1)(X))


class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 1, dtype=torch.float64)

    def forward(self, x):
        return self.inner(x)[:, 0]


def tied():
    model = ln.MLP([3, 3, 3, 1], "tanh")
    model.layers[1].weight = model.layers[0].weight
    return model


class Subclass(ln.MLP):
    def forward(self, x):
        return super().forward(x) + 1


@pytest.mark.parametrize("build", [Mine, tied, lambda: Subclass([3, 2, 1])])
def test_model_of_ones_own_is_passed_again(build, tmp_path):
    model = build()
    start = copy.deepcopy(model)
    run = short_run(model, CLOUD, CLOUD[:, 0])
    run.save(tmp_path / "run.npz")
    loaded = ln.Run.load(tmp_path / "run.npz")
    assert_same_run(run, loaded)
    assert loaded.model is None
    with pytest.raises(ValueError, match=r"does not hold its model.*run.model_at\(i, model\)"):
        loaded.model_at(0)
    assert torch.equal(loaded.model_at(-1, start)(CLOUD), model(CLOUD))
    loaded.save(tmp_path / "again.npz")
    assert_same_run(run, ln.Run.load(tmp_path / "again.npz"))


def test_file_holds_no_pickle(tmp_path):
    for i, name in enumerate(RUNS):
        RUNS[name]().save(tmp_path / str(i))
        with np.load(tmp_path / str(i), allow_pickle=False) as file:
            for key in file.files:
                assert file[key].dtype.kind in "fiU"


def test_file_is_readable_by_those_who_may_read_others(tmp_path):
    (tmp_path / "other").touch()
    short_run(ln.Product()).save(tmp_path / "run")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("other", "run")}
    assert len(modes) == 1


class TestWholeOrNotAtAll:
    """An error or a kill at any moment leaves the old file, and no other."""

    @pytest.fixture
    def old(self, tmp_path):
        run = short_run(ln.Product(2.0, 0.5))
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
            short_run(ln.Product(9.0, 0.1)).save(tmp_path / "run")
        monkeypatch.undo()
        self.assert_old_is_there(old, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["run"]

    def test_kill(self, old, tmp_path, monkeypatch):
        """Up to one last system call the old file is untouched, and by then the new is complete."""
        new, replace, seen = short_run(ln.Product(9.0, 0.1)), os.replace, []

        def look_and_replace(source, target):
            assert os.fspath(target) == os.fspath(tmp_path / "run")
            seen.extend(ln.Run.load(path) for path in (source, target))
            replace(source, target)

        monkeypatch.setattr("os.replace", look_and_replace)
        new.save(tmp_path / "run")
        assert_same_run(new, seen[0])
        assert_same_run(old, seen[1])

    def test_old_file_is_replaced(self, old, tmp_path):
        new = short_run(ln.TwoLayerReLU(3))
        new.save(tmp_path / "run")
        assert_same_run(new, ln.Run.load(tmp_path / "run"))
        assert [path.name for path in tmp_path.iterdir()] == ["run"]

    def test_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            short_run(ln.Product()).save(tmp_path / "nowhere" / "run")


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
        short_run(model).save(path)
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
