"""What a run keeps: models at its snapshots, and a file that holds it all."""

import copy
import stat

import numpy as np
import pytest
import torch
from cases import CLOUD, X, Y, assert_same_run, quick
from plain import flat
from torch import nn

import labelnoise_utils as ln

SENSED = ln.matrix_sensing(3, 1, 7).x


def short_run(model, x=X, y=Y, **arguments):
    return quick(model, x, y, **dict(steps=100, record=6) | arguments)


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


class TestModelAt:
    def test_has_the_parameters_of_the_snapshot(self):
        model = ln.TwoLayerReLU(5)
        run = short_run(model)
        for i in [*range(len(run.step)), -1, -2]:
            np.testing.assert_array_equal(flat(run.model_at(i)), run.theta[i])
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
