"""Interrupts, which return the run so far, and the bar that counts its steps."""

import os
import signal
import threading
import time

import numpy as np
import pytest
import torch
from cases import CASES, CLOUD, ENGINES, FOREVER, X, Y, assert_same_trajectory, quick
from plain import flat, loss_of
from torch import nn

import labelnoise_utils as ln


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
class TestInterrupt:
    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("name", ["product", "relu", "deep-tanh"])
    def test_returns_the_run_so_far(self, ctrl_c, assert_interrupts_work_as_ever, name, engine):
        build, x, y, lr = CASES[name]
        quick(build(), x, y, lr=lr, engine=engine)  # compiles
        model = build()
        ctrl_c()
        start = time.monotonic()
        with pytest.warns(UserWarning, match=rf"interrupted after \d+ of {FOREVER} steps") as caught:
            run = quick(model, x, y, lr=lr, steps=FOREVER, engine=engine)
        assert time.monotonic() - start < 20
        assert caught[0].filename == quick.__code__.co_filename
        assert run.interrupted and 0 < run.steps < FOREVER
        assert run.step[0] == 0 and run.step[-1] == run.steps
        assert f"after {run.steps} of" in str(caught[0].message)
        np.testing.assert_array_equal(run.theta[-1], flat(model))
        assert len(run.step) == len(run.loss) == len(run.reg) == len(run.theta)
        assert run.loss[-1] == pytest.approx(loss_of(model, x, y).item(), rel=1e-9)
        assert run.steps_per_second == run.steps / run.seconds
        assert_interrupts_work_as_ever()

    @pytest.mark.parametrize("engine", ENGINES)
    def test_what_was_done_is_the_beginning_of_the_whole_run(self, ctrl_c, engine):
        build, x, y, lr = CASES["relu"]
        arguments = dict(lr=lr, engine=engine)
        quick(build(), x, y, **arguments)
        ctrl_c(after=0.1)
        with pytest.warns(UserWarning, match="interrupted"):
            run = quick(build(), x, y, steps=FOREVER, **arguments)
        again = quick(build(), x, y, steps=run.steps, **arguments)
        np.testing.assert_array_equal(run.theta[-1], again.theta[-1])

    def test_second_one_stops_at_once(self, ctrl_c, assert_interrupts_work_as_ever):
        class Stuck(nn.Linear):
            def forward(self, x):
                if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
                    time.sleep(20)
                return super().forward(x)

        ctrl_c(times=2)
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            quick(Stuck(3, 1, dtype=torch.float64), CLOUD, CLOUD[:, :1], steps=FOREVER)
        assert time.monotonic() - start < 15
        assert_interrupts_work_as_ever()

    def test_handler_is_restored_after_a_run_and_after_an_error(self, ctrl_c, assert_interrupts_work_as_ever):
        quick(ln.Product(), X, Y)
        assert_interrupts_work_as_ever()
        with pytest.raises(ln.DivergenceError):
            quick(ln.Product(3.0, 3.0), X, Y, lr=10)
        assert_interrupts_work_as_ever()

    def test_runs_in_another_thread_as_well(self):
        runs = []
        thread = threading.Thread(target=lambda: runs.append(quick(ln.Product(), X, Y)))
        thread.start()
        thread.join()
        assert_same_trajectory(runs[0], quick(ln.Product(), X, Y))


def terminate_at(step):
    return lambda now, *_: signal.raise_signal(signal.SIGTERM) if now == step else None


class TestTermination:
    """SIGTERM, by which a cluster or a container asks a process to end."""

    @pytest.mark.parametrize("engine", ENGINES)
    def test_returns_the_run_so_far(self, engine):
        before = signal.getsignal(signal.SIGTERM)
        model = ln.TwoLayerReLU(5)
        with pytest.warns(UserWarning, match="interrupted after 50 of 200 steps; the run so far is returned$"):
            run = quick(model, engine=engine, record=[0, 50, 200], callback=terminate_at(50))
        assert (run.steps, run.interrupted, run.step.tolist()) == (50, True, [0, 50])
        np.testing.assert_array_equal(run.theta[-1], flat(model))
        assert signal.getsignal(signal.SIGTERM) is before

    def test_and_the_runs_so_far(self):
        jobs = [dict(model=ln.TwoLayerReLU(5), x=X, y=Y, lr=0.002, steps=FOREVER, record=[0, 7]) for _ in range(2)]
        jobs[1]["callback"] = lambda step, *_: step and os.kill(os.getpid(), signal.SIGTERM)
        with pytest.warns(UserWarning, match="interrupted: 2 of 2 runs ended early"):
            runs = ln.train_many(jobs, progress=False)
        assert all(run.interrupted and run.steps < FOREVER for run in runs)

    @pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
    def test_second_signal_acts_as_ever(self, first):
        class Heard(Exception):
            pass

        def hear(*_):
            raise Heard

        def twice(*_):
            signal.raise_signal(first)
            signal.raise_signal(signal.SIGTERM)

        before = signal.signal(signal.SIGTERM, hear)
        try:
            with pytest.raises(Heard):
                quick(ln.Product(), callback=twice)
            assert signal.getsignal(signal.SIGTERM) is hear
        finally:
            signal.signal(signal.SIGTERM, before)


class TestProgressBar:
    @pytest.mark.parametrize("engine", ENGINES)
    def test_counts_every_step(self, bars, engine):
        quick(ln.Product(), X, Y, steps=70_000 if engine == "compiled" else 700, progress=True)
        (bar,) = bars
        assert bar.done == bar.arguments["total"]
        assert bar.arguments["disable"] is False

    @pytest.mark.parametrize("progress, variable", [(False, "0"), (True, "1"), (False, "1")])
    def test_can_be_hidden(self, bars, monkeypatch, progress, variable):
        """By the argument, or everywhere by tqdm's own variable."""
        monkeypatch.setenv("TQDM_DISABLE", variable)
        quick(ln.Product(), X, Y, progress=progress)
        assert bars[0].arguments["disable"] is True

    def test_says_nothing_on_short_runs(self, capsys):
        quick(ln.Product(), X, Y, progress=True)
        assert capsys.readouterr() == ("", "")

    @pytest.mark.parametrize("engine", ENGINES)
    def test_has_the_latest_loss_and_reg(self, bars, monkeypatch, engine):
        monkeypatch.setattr("labelnoise_utils.sgd.progress.PAUSES", 0)
        monkeypatch.setattr("labelnoise_utils.sgd.training.SECONDS_TO_BAR", 0)
        run = quick(ln.TwoLayerReLU(5), engine=engine, progress=True, record=[1, 200])
        assert bars[0].labels[0] == f"loss {run.loss[0]:.3g}, reg {run.reg[0]:.3g}"
        bare = quick(ln.TwoLayerReLU(5), engine=engine, progress=True, record=[1, 200], reg_on=False)
        assert bars[1].labels[0] == f"loss {bare.loss[0]:.3g}"
        quick(ln.TwoLayerReLU(5), engine=engine, progress=True, record=[1, 200], callback=lambda *_: None)
        last = f"loss {run.loss[-1]:.3g}, reg {run.reg[-1]:.3g}"
        assert last in bars[2].labels

    @pytest.mark.parametrize("progress, variable", [(False, "0"), (True, "1"), (True, "0")])
    def test_costs_nothing_where_nobody_looks(self, bars, monkeypatch, progress, variable):
        """Neither hidden nor before it appears."""
        measured, measure = [], ln.sgd.training.loss_and_reg
        monkeypatch.setenv("TQDM_DISABLE", variable)
        monkeypatch.setattr(
            "labelnoise_utils.sgd.training.loss_and_reg", lambda *a, **kw: (measured.append(len(a[1])), measure(*a, **kw))[1]
        )
        run = quick(ln.TwoLayerReLU(5), progress=progress)
        assert measured == [len(run.step)] and not bars[0].labels
