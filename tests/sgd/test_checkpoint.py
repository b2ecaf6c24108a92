"""A run that was killed, interrupted or left by its callback goes on, and ends as one that was never stopped."""

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import Normalised
from cases import BATCHES, CASES, CLOUD, ENGINES, KINDS, X, Y, assert_same_trajectory, quick
from killed import RUNS, ends
from plain import flat

import labelnoise_utils as ln
from labelnoise_utils.sgd import checkpoint, training
from labelnoise_utils.sgd.noise import draws_from

TESTS = Path(__file__).parents[1]
RECORD = [0, 3, 50, 120, 200]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "the run"


@pytest.fixture(autouse=True)
def written_all_the_time_and_from_many_chunks(monkeypatch):
    monkeypatch.setattr("labelnoise_utils.sgd.progress.PAUSES", 0)
    monkeypatch.setattr(training, "SECONDS_TO_CHECKPOINT", 0)
    monkeypatch.setattr("labelnoise_utils.sgd.noise.DRAWS_PER_CHUNK", 2**9)


def at(step, act):
    """A callback that does something at one step."""
    return lambda now, *_: act() if now == step else None


def interrupted(model, x=X, y=Y, *, step=50, **arguments):
    """A run that somebody ends at a step."""
    end = at(step, lambda: signal.raise_signal(signal.SIGTERM))
    with warnings.catch_warnings(action="ignore"):
        run = quick(model, x, y, callback=end, **dict(record=RECORD) | arguments)
    assert (run.steps, run.interrupted) == (step, True)
    return run


@pytest.fixture(scope="module")
def survivors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    paths = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(TESTS / "killed.py"), str(folder)]
    # Autograd forks only where it has no thread for a GPU.
    env = os.environ | {"PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return folder, [line.split(";") for line in done.stdout.splitlines()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
class TestKilled:
    @pytest.mark.parametrize("name", RUNS)
    def test_ends_as_a_run_that_was_never_stopped(self, survivors, name):
        folder, codes = survivors
        expected = [[str(end), "0" if end is None else str(-signal.SIGKILL)] for end in ends(name)]
        assert [code for run, *code in codes if run == name] == expected
        model, x, y, arguments = RUNS[name]
        run, undisturbed = ln.Run.load(folder / f"{name}.run"), quick(model(), x, y, **arguments)
        assert_same_trajectory(run, undisturbed)
        assert (run.steps, run.interrupted, run.engine) == (undisturbed.steps, False, undisturbed.engine)
        assert not [left.name for left in folder.iterdir() if ".part" in left.name]

    @pytest.mark.parametrize("name", RUNS)
    def test_went_on_and_did_not_begin_anew(self, survivors, name):
        """The callback is called again where it did not return, and nowhere else."""
        heard = (survivors[0] / f"{name}.txt").read_text().split()
        steps = [str(step) for step in RUNS[name][-1]["record"]]
        assert list(dict.fromkeys(heard)) == [*steps, "ended"]
        counts = [heard.count(step) for step in steps]
        # Killed at the third, and twice more, at most, before the file knew of it; likewise at the fourth and the last.
        assert counts[:2] == [1, 1] and 2 <= counts[2] <= 3 and 2 <= counts[3] <= 3 and counts[4:] == [1, 2]


@pytest.mark.parametrize("engine", ENGINES)
class TestInterrupted:
    @pytest.mark.parametrize("batch_size, kind", list(zip(BATCHES, KINDS, strict=True)))
    def test_goes_on_to_the_same_numbers(self, path, engine, batch_size, kind):
        build, x, y, lr = CASES["outputs"]
        arguments = dict(lr=lr, batch_size=batch_size, noise=ln.LabelNoise(0.3, kind), engine=engine, record=[0, 3, 120, 200])
        expected = quick(build(), x, y, **arguments)
        for step in (3, 120):
            model = build()
            run = interrupted(model, x, y, step=step, checkpoint=path, **arguments)
            np.testing.assert_array_equal(run.theta[-1], flat(model))
        model = build()
        run = quick(model, x, y, checkpoint=path, **arguments)
        assert_same_trajectory(run, expected)
        np.testing.assert_array_equal(flat(model), expected.theta[-1])

    def test_also_with_the_model_as_it_was_left(self, path, engine):
        model = ln.TwoLayerReLU(5)
        interrupted(model, checkpoint=path, engine=engine)
        run = quick(model, checkpoint=path, engine=engine, record=RECORD)
        assert_same_trajectory(run, quick(ln.TwoLayerReLU(5), engine=engine, record=RECORD))
        again = quick(ln.TwoLayerReLU(5), checkpoint=path, engine=engine, record=RECORD)
        assert_same_trajectory(again, run)
        assert again.seconds == run.seconds
        with pytest.raises(ValueError, match="parameters are not those that it began with; build the model as for that run"):
            quick(model, checkpoint=path, engine=engine, record=RECORD)


class TestOver:
    def test_is_returned_without_a_step(self, path, monkeypatch):
        run = quick(ln.TwoLayerReLU(5), checkpoint=path)
        before, heard, model = path.read_bytes(), [], ln.TwoLayerReLU(5)
        again = quick(model, checkpoint=path, callback=lambda step, *_: heard.append(step))
        assert_same_trajectory(again, run)
        np.testing.assert_array_equal(flat(model), run.theta[-1])
        assert not heard and again.seconds == run.seconds and path.read_bytes() == before

    def test_by_its_callback(self, path):
        one, two = (
            quick(ln.TwoLayerReLU(5), checkpoint=path, record=RECORD, callback=lambda step, *_: step == 50) for _ in range(2)
        )
        assert_same_trajectory(one, two)
        assert (two.steps, two.stopped, two.interrupted) == (50, True, False)

    def test_an_error_in_the_callback_is_not_the_end(self, path):
        def fail():
            raise OSError("no space")

        model = ln.TwoLayerReLU(5)
        with pytest.raises(OSError, match="no space") as caught:
            quick(model, checkpoint=path, record=RECORD, callback=at(50, fail))
        assert caught.value.__notes__ == ["in the callback at step 50"]
        heard = []
        run = quick(model, checkpoint=path, record=RECORD, callback=lambda step, *_: heard.append(step))
        assert heard == [50, 120, 200]
        assert_same_trajectory(run, quick(ln.TwoLayerReLU(5), record=RECORD))

    def test_by_divergence(self, path):
        """From the file the same error comes again, with snapshots from before."""
        arguments = dict(lr=0.3, steps=1000, record=range(1001), noise=None)
        x, y = torch.zeros(1), torch.full((1,), 4.0)
        errors = []
        for given in ({}, dict(checkpoint=path), dict(checkpoint=path)):
            with pytest.raises(ln.DivergenceError) as caught:
                quick(ln.Product(1e-6, 1e-6), x, y, **arguments, **given)
            errors.append(vars(caught.value))
        assert errors[0] == errors[1] == errors[2]


class TestAnotherCall:
    """Each is refused, with its name, and changes neither the file nor the model."""

    OTHER = {
        "lr": (dict(lr=0.001), "lr was 0.002, and is 0.001"),
        "steps": (dict(steps=300), "steps was 200, and is 300"),
        "noise": (dict(noise=ln.LabelNoise(0.5, "gaussian")), r"noise was .*rademacher.*, and is .*gaussian"),
        "no noise": (dict(noise=None), "and is None"),
        "batch": (dict(batch_size=2), "batch_size was 1, and is 2"),
        "seed": (dict(seed=4), "seed was 3, and is 4"),
        "record": (dict(record=[0, 3, 50, 121, 200]), "record was 5 steps, .*, and is 5 steps, "),
        "engine": (dict(engine="torch"), "engine was compiled, and is torch"),
        "reg": (dict(reg_on=X[:3]), "reg_on was True, and is torch.float64"),
        "theta": (dict(keep_theta=False), "keep_theta was True, and is False"),
        "x": (dict(x=X + 1e-15 * (X == X[3])), "train: x was torch.float64 [^;]*$"),
        "y": (dict(y=Y[[1, 0, *range(2, 12)]]), "train: y was torch.float64 [^;]*$"),
        "width": (dict(model=lambda: ln.TwoLayerReLU(6)), "model was TwoLayerReLU .*5.*, and is TwoLayerReLU .*6"),
        "class": (dict(model=ln.Product), "model was TwoLayerReLU .*, and is Product"),
        "start": (dict(model=lambda: ln.TwoLayerReLU(5, seed=1)), "began with, nor those that it was left with; build"),
        "frozen": (
            dict(model=lambda: frozen(ln.TwoLayerReLU(5))),
            "layers of the model was .*buffers and frozen parameters was",
        ),
    }

    @pytest.mark.parametrize("case", OTHER)
    def test_is_refused(self, path, case):
        other, message = self.OTHER[case]
        interrupted(ln.TwoLayerReLU(5), checkpoint=path)
        before = path.read_bytes()
        arguments = dict(model=lambda: ln.TwoLayerReLU(5), record=RECORD, checkpoint=path) | other
        model = arguments.pop("model")()
        start = flat(model)
        with pytest.raises(ValueError, match=rf"the run is the checkpoint of another (call|run).*{message}"):
            quick(model, **arguments)
        assert path.read_bytes() == before
        np.testing.assert_array_equal(flat(model), start)

    @pytest.mark.parametrize("change", ["buffer", "function", "mode"])
    def test_of_a_model_of_one_s_own(self, path, change):
        arguments = dict(x=CLOUD, y=CLOUD[:, :1], record=RECORD, checkpoint=path)
        interrupted(Normalised(), **arguments)
        model = Normalised(squash=torch.relu if change == "function" else torch.tanh)
        if change == "buffer":
            model.norm.running_mean[0] += 1e-6
        if change == "mode":
            model.last.train()
        with pytest.raises(ValueError, match="checkpoint of another call of train"):
            quick(model, **arguments)


def frozen(model):
    model.a0.requires_grad_(False)
    return model


class Own(Normalised):
    """With what its run depends on later on only, and what calls change."""

    def __init__(self, top=10.0, hook=None, recorded=None):
        super().__init__()
        self.top, self.calls, self.outputs, self.cache = top, 0, {}, None
        self.table, self.tied = torch.tensor([top]), [self.last.weight, self.last.weight.view(-1)]
        if hook is not None:
            self.last.weight.register_hook(hook)
        if recorded is not None:
            self.last.register_forward_hook(lambda module, given, h: recorded.append(h))

    def forward(self, z):
        self.calls += 1
        self.outputs["last"] = super().forward(z)
        if self.cache is None:
            self.cache = {"zeros": self.table * 0}
        return self.outputs["last"].clamp(max=self.top) + self.cache["zeros"]


class TestOwnModel:
    ARGUMENTS = dict(x=CLOUD, y=CLOUD[:, :1], record=RECORD)

    @pytest.mark.parametrize(
        "other, name",
        [
            (dict(top=9.0), "'top' of the model was 10.0, and is 9.0; 'table' of the model was [0-9a-f]*, and is [0-9a-f]*"),
            (dict(hook=torch.zeros_like), "'last.weight._backward_hooks' of the model was not there, and is "),
            (dict(recorded=[]), "'last._forward_hooks' of the model was not there, and is "),
        ],
    )
    def test_with_other_attributes_and_hooks(self, path, other, name):
        """Which show only after step 0."""
        interrupted(Own(), checkpoint=path, **self.ARGUMENTS)
        with pytest.raises(ValueError, match=f"the checkpoint of another call of train: {name}"):
            quick(Own(**other), checkpoint=path, **self.ARGUMENTS)

    @pytest.mark.parametrize("seed", range(10))
    def test_new_and_as_it_was_left(self, path, seed):
        rng, recorded = np.random.default_rng(seed), []

        def build():
            return Own(hook=lambda grad: grad / 2, recorded=recorded)

        expected, model = quick(build(), **self.ARGUMENTS), build()
        for step in sorted(rng.choice([0, 3, 50, 120], size=3, replace=False)):
            interrupted(model, step=step, checkpoint=path, **self.ARGUMENTS)
            if rng.random() < 0.5:
                model = build()
        assert_same_trajectory(quick(model, checkpoint=path, **self.ARGUMENTS), expected)

    def test_in_another_default_type(self, path):
        interrupted(Own(), checkpoint=path, **self.ARGUMENTS)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            with pytest.raises(ValueError, match="default dtype was torch.float32, and is torch.float64"):
                quick(Own().float().double(), checkpoint=path, **self.ARGUMENTS)
        finally:
            torch.set_default_dtype(before)

    def test_of_a_file_that_does_not_know_attributes(self, path, monkeypatch):
        """As the first ones that there were."""
        with monkeypatch.context() as patch:
            dumps, later = checkpoint.json.dumps, checkpoint.NOT_KNOWN
            first = lambda call: {key: value for key, value in call.items() if key not in later}  # noqa: E731
            patch.setattr(
                "labelnoise_utils.sgd.checkpoint.json.dumps",
                lambda it: dumps(it | dict(call=first(it["call"])) if "call" in it else it),
            )
            interrupted(Own(), checkpoint=path, **self.ARGUMENTS)
            assert b"_modules" not in path.read_bytes()
        assert_same_trajectory(quick(Own(), checkpoint=path, **self.ARGUMENTS), quick(Own(), **self.ARGUMENTS))


def test_a_whole_number_is_that_number(path):
    interrupted(ln.Product(), noise=ln.ParameterNoise(1), lr=1e-4, checkpoint=path)
    assert quick(ln.Product(), noise=ln.ParameterNoise(1.0), lr=1e-4, record=RECORD, checkpoint=path).steps == 200


class TestFile:
    def test_any_cut_and_any_changed_byte(self, path):
        """Either the run goes on to the same numbers, or the file is refused by name."""
        expected = quick(ln.Product(), record=[0, 5])
        interrupted(ln.Product(), step=5, record=[0, 5], checkpoint=path)
        whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
        for place in rng.integers(len(whole), size=25):
            changed = bytearray(whole)
            changed[place] ^= 1 << rng.integers(8)
            for content in (whole[:place], bytes(changed)):
                path.write_bytes(content)
                try:
                    run = quick(ln.Product(), record=[0, 5], checkpoint=path)
                except ValueError as error:
                    assert "the run is not a checkpoint that train wrote, or is damaged" in str(error)
                    assert path.read_bytes() == content
                    refused += 1
                else:
                    assert_same_trajectory(run, expected)
        assert refused > 40

    @pytest.mark.parametrize("kind", ["a run", "text", "nothing", "a folder"])
    def test_something_else(self, path, kind):
        if kind == "a run":
            quick(ln.Product()).save(path)
        elif kind == "a folder":
            path.mkdir()
        else:
            path.write_text("step,loss" if kind == "text" else "")
        with pytest.raises(ValueError, match="the run is not a checkpoint that train wrote"):
            quick(ln.Product(), checkpoint=path)

    def test_that_cannot_be_written_is_known_before_the_first_step(self, path):
        model, heard = ln.Product(), []
        with pytest.raises(FileNotFoundError, match="the run"):
            quick(model, checkpoint=path / "nowhere", callback=lambda *told: heard.append(told))
        assert not heard and flat(model).tolist() == flat(ln.Product()).tolist()

    def test_that_can_no_longer_be_written_costs_no_run(self, path, monkeypatch):
        def full(*_):
            raise OSError("disk full")

        with pytest.warns(UserWarning, match=r"no checkpoint at step \d+, the one before stands: .*disk full"):
            run = quick(ln.Product(), checkpoint=path, callback=at(0, lambda: monkeypatch.setattr("os.replace", full)))
        monkeypatch.undo()
        assert_same_trajectory(run, quick(ln.Product()))
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    def test_from_another_machine_is_taken_with_a_warning(self, path, monkeypatch):
        interrupted(ln.Product(), checkpoint=path)
        monkeypatch.setattr("llvmlite.binding.get_host_cpu_name", lambda: "z80")
        with pytest.warns(UserWarning, match="and this is z80 with .* the same up to rounding only"):
            run = quick(ln.Product(), checkpoint=path, record=RECORD)
        assert run.steps == 200

    def test_is_written_seldom(self, path, monkeypatch):
        """At first, at the end, and in between only when it is time."""
        monkeypatch.undo()
        written, replace = [], os.replace
        monkeypatch.setattr("os.replace", lambda *paths: (written.append(paths), replace(*paths)))
        quick(ln.Product(), steps=50_000, record=10, checkpoint=path)
        assert len(written) == 2

    @pytest.mark.parametrize("checkpoint", [5, True, b"run", open])
    def test_has_a_path(self, checkpoint):
        with pytest.raises(TypeError, match="checkpoint must be the path of a file"):
            quick(ln.Product(), checkpoint=checkpoint)

    def test_in_the_working_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        quick(ln.Product(), checkpoint="run")
        assert (tmp_path / "run").exists()


def test_jobs_have_checkpoints_of_their_own(tmp_path):
    def jobs(**more):
        settings = dict(x=X, y=Y, lr=0.002, steps=200, record=RECORD, noise=ln.LabelNoise(0.5))
        return [dict(model=ln.TwoLayerReLU(5), seed=seed, **settings, **more) for seed in range(3)]

    expected = ln.train_many(jobs(), progress=False)
    ln.train(**jobs()[1], checkpoint=tmp_path / "1", callback=lambda step, *_: step == 3, progress=False)
    (tmp_path / "1").unlink()
    for _ in range(2):
        named = [job | dict(checkpoint=tmp_path / str(job["seed"])) for job in jobs()]
        for run, other in zip(ln.train_many(named, n_jobs=2, progress=False), expected, strict=True):
            assert_same_trajectory(run, other)


@pytest.mark.parametrize("kind", [None, *KINDS])
@pytest.mark.parametrize("outputs", [(), (3,)])
def test_draws_go_on_from_a_position(kind, outputs):
    noise = kind and ln.LabelNoise(0.5, kind)
    arguments = dict(noise=noise, batch_size=5, seed=2, outputs=outputs)
    chunks = list(draws_from(None, 11, 400, **arguments))
    count = len(chunks)
    assert count > 4
    for first in (0, 3, count - 1):
        rest = list(draws_from(chunks[first][0], 11, 400, **arguments))
        assert len(rest) == count - first
        for (place, *one), (other_place, *other) in zip(rest, chunks[first:], strict=True):
            assert place == other_place
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])
