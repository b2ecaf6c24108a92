"""Runs under other noises, with momentum and a penalty, that are cut up, left and taken up again."""

import numpy as np
import pytest
from cases import CASES, assert_same_trajectory, quick
from noises import SETTINGS, slowed

import labelnoise_utils as ln
from labelnoise_utils.sgd import noise, training
from labelnoise_utils.sgd.noise import draws_from


@pytest.fixture
def cut_up(monkeypatch):
    """Written all the time, and from many chunks."""
    monkeypatch.setattr("labelnoise_utils.sgd.progress.PAUSES", 0)
    monkeypatch.setattr(training, "SECONDS_TO_CHECKPOINT", 0)
    monkeypatch.setattr("labelnoise_utils.sgd.noise.DRAWS_PER_CHUNK", 2**8)


class TestGoesOn:
    @pytest.mark.parametrize("engine, on", [("auto", "relu"), ("auto", "relu-2d"), ("torch", "outputs")])
    @pytest.mark.parametrize("setting", SETTINGS)
    def test_a_run_that_was_left_ends_as_one_that_was_not(self, tmp_path, cut_up, setting, engine, on):
        build, x, y, lr = CASES[on]
        batch_size = 1 if on == "relu" else 3
        settings = SETTINGS[setting] | dict(lr=slowed(lr, SETTINGS[setting]), batch_size=batch_size, engine=engine, steps=120)
        settings |= dict(record=[0, 7, 50, 120], checkpoint=tmp_path / "run")

        def leave(step, *_):
            if step in (7, 50) and step not in left:
                left.append(step)
                raise KeyError("left")

        left = []
        for _ in range(2):
            with pytest.raises(KeyError):
                quick(build(), x, y, callback=leave, **settings)
        run = quick(build(), x, y, callback=leave, **settings)
        del settings["checkpoint"]
        assert left == [7, 50]
        assert_same_trajectory(run, quick(build(), x, y, **settings))

    @pytest.mark.parametrize("setting", SETTINGS)
    def test_the_pieces_of_a_run_do_not_change_it(self, monkeypatch, setting):
        build, x, y, lr = CASES["sigmoidal-tanh"]
        settings = SETTINGS[setting] | dict(lr=slowed(lr, SETTINGS[setting]), batch_size=2)
        whole = quick(build(), x, y, **settings)
        monkeypatch.setattr("labelnoise_utils.sgd.noise.DRAWS_PER_CHUNK", 1)
        assert_same_trajectory(quick(build(), x, y, **settings), whole)

    @pytest.mark.parametrize(
        "law", [ln.TwoCopies(0.5, reshuffled=True), ln.FrozenNoise(0.5), ln.InputNoise(0.1), ln.LabelNoise(np.ones(11))]
    )
    def test_draws_go_on_from_a_position(self, monkeypatch, law):
        monkeypatch.setattr(noise, "DRAWS_PER_CHUNK", 2**9)
        arguments = dict(noise=law, batch_size=5, seed=2, outputs=(), inputs=(2,))
        chunks = list(draws_from(None, 11, 400, **arguments))
        assert len(chunks) > 3
        for first in (0, 2, len(chunks) - 1):
            for one, other in zip(draws_from(chunks[first][0], 11, 400, **arguments), chunks[first:], strict=True):
                assert one[0] == other[0]
                np.testing.assert_array_equal(one[1], other[1])
                np.testing.assert_array_equal(one[2], other[2])

    def test_another_call_is_refused(self, tmp_path):
        path = tmp_path / "run"
        quick(ln.TwoLayerReLU(5), checkpoint=path, momentum=0.5, penalty=0.01)
        for other, message in {0.6: "momentum was 0.5, and is 0.6", 0.0: "momentum was 0.5, and is 0.0"}.items():
            with pytest.raises(ValueError, match=message):
                quick(ln.TwoLayerReLU(5), checkpoint=path, momentum=other, penalty=0.01)
        with pytest.raises(ValueError, match="penalty was 0.01, and is 0.02"):
            quick(ln.TwoLayerReLU(5), checkpoint=path, momentum=0.5, penalty=0.02)
