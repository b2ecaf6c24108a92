"""A run that blows up says where and why, and leaves the model at the last finite snapshot."""

import math
import warnings

import numpy as np
import pytest
import torch
from cases import BATCHES, CASES, ENGINES, X, Y, quick
from plain import flat, loss_of, plain_loop

import labelnoise_utils as ln


@pytest.mark.parametrize("engine", ENGINES)
class TestDivergence:
    @pytest.mark.parametrize("batch_size", BATCHES)
    @pytest.mark.parametrize("name", ["product", "relu", "relu-2d", "mlp-relu", "deep-relu", "outputs"])
    def test_too_large_a_learning_rate(self, engine, name, batch_size):
        build, x, y, _ = CASES[name]
        model = build()
        bound = 1 / plain_loop(model, x)[0].max().item()
        # Far above: a ReLU network a little above it kills units instead, and then may be stable.
        lr = 1000 * bound
        arguments = dict(lr=lr, steps=10_000, batch_size=batch_size, engine=engine, record=100)
        with pytest.raises(ln.DivergenceError) as caught:
            quick(model, x, y, **arguments)
        error = caught.value
        assert isinstance(error, ArithmeticError)
        assert 0 <= error.last_step <= error.step < 10_000
        assert error.lr_bound == pytest.approx(bound, rel=1e-10)
        assert math.isfinite(error.last_loss)
        assert error.last_loss == pytest.approx(loss_of(model, x, y).item(), rel=1e-12)
        # The model is back where a run of that length ends.
        expected = build()
        if error.last_step:
            with warnings.catch_warnings(action="ignore"):
                quick(expected, x, y, **arguments | dict(steps=error.last_step, record=2))
        np.testing.assert_array_equal(flat(model), flat(expected))
        message = str(error)
        for part in (
            f"step {error.step};",
            f"lr = {lr:g}",
            f"{bound:.3g}",
            f"{error.last_loss:.4g}",
        ):
            assert part in message

    def test_a_run_that_starts_well(self, engine):
        """From near the saddle at 0 the product grows calmly until lr reg passes 1."""
        model = ln.Product(1e-6, 1e-6)
        x, y = torch.zeros(1), torch.full((1,), 4.0)
        arguments = dict(lr=0.3, steps=1000, record=range(1001), noise=None, engine=engine)
        with pytest.raises(ln.DivergenceError) as caught:
            quick(model, x, y, **arguments)
        assert caught.value.last_step > 10
        assert math.isfinite(caught.value.last_loss)
        expected = ln.Product(1e-6, 1e-6)
        quick(expected, x, y, **arguments | dict(steps=caught.value.last_step, record=2))
        np.testing.assert_array_equal(flat(model), flat(expected))
        assert caught.value.lr_bound == pytest.approx(1 / 2e-12)

    def test_back_at_the_start_if_no_snapshot_is_finite(self, engine):
        model = ln.Product(3.0, 3.0)
        with pytest.raises(ln.DivergenceError) as caught:
            quick(model, X, Y, lr=10, steps=1000, record=[1000], engine=engine)
        assert caught.value.last_step == 0
        assert flat(model).tolist() == [3.0, 3.0]
        assert caught.value.last_loss == pytest.approx(loss_of(ln.Product(3.0, 3.0), X, Y).item())

    def test_a_snapshot_with_an_infinite_loss_is_not_the_last(self, engine):
        """The residual is still finite when its square no longer is."""
        model = ln.Product(3.0, 3.0)
        with pytest.raises(ln.DivergenceError) as caught:
            quick(model, X, Y, lr=10, steps=1000, record=range(1001), engine=engine)
        assert 1 <= caught.value.last_step < caught.value.step
        assert math.isfinite(loss_of(model, X, Y).item())

    def test_parameters_that_overflow_in_the_last_step(self, engine):
        """No residual tells of it."""
        model = ln.Product(1e76, 1e76)
        with pytest.raises(ln.DivergenceError) as caught:
            quick(model, X, Y, lr=1e90, steps=1, engine=engine)
        assert (caught.value.step, caught.value.last_step) == (1, 0)
        assert flat(model).tolist() == [1e76, 1e76]

    def test_a_stable_learning_rate_is_below_the_bound(self, engine):
        """Half of the bound trains, for the model whose bound is exact."""
        model = ln.Product(2.0, 0.5)
        run = quick(model, X, torch.ones(12), lr=0.5 / 4.25, steps=500, noise=None, engine=engine)
        assert run.loss[-1] < 1e-6


def test_engines_diverge_at_the_same_step():
    steps = []
    for engine in ENGINES:
        with pytest.raises(ln.DivergenceError) as caught:
            quick(ln.Product(1.0, 1.0), X, Y, lr=1.2, steps=1000, engine=engine)
        steps.append((caught.value.step, caught.value.last_step))
    assert steps[0] == steps[1]
