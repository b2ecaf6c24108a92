"""A run by either engine: what its seed makes of it, what is recorded, and what becomes of the model."""

import itertools

import numpy as np
import pytest
import torch
from cases import BATCHES, CASES, CLOUD, ENGINES, X, Y, assert_same_trajectory, quick
from plain import flat, loss_of, plain_loop
from torch import nn

import labelnoise_utils as ln


@pytest.mark.parametrize("engine", ENGINES)
class TestReproducible:
    def test_same_seed_same_trajectory_other_seed_another(self, engine):
        build, x, y, lr = CASES["relu"]
        one, two, other = (quick(build(), x, y, lr=lr, seed=seed, engine=engine) for seed in (3, 3, 4))
        assert_same_trajectory(one, two)
        assert np.abs(one.theta[-1] - other.theta[-1]).max() > 1e-6

    @pytest.mark.parametrize("batch_size", BATCHES)
    def test_trajectory_does_not_depend_on_what_is_recorded(self, engine, batch_size):
        build, x, y, lr = CASES["relu"]
        final = []
        for record in (2, 50, [200], [0], range(201), [7, 8, 100]):
            model = build()
            quick(model, x, y, lr=lr, batch_size=batch_size, record=record, engine=engine)
            final.append(flat(model))
        for theta in final[1:]:
            np.testing.assert_array_equal(theta, final[0])

    @pytest.mark.parametrize("batch_size", BATCHES)
    def test_short_run_is_the_beginning_of_a_long_one(self, engine, batch_size):
        build, x, y, lr = CASES["product"]
        arguments = dict(lr=lr, batch_size=batch_size, engine=engine, record=[0, 10, 1000])
        short = quick(build(), x, y, steps=1000, **arguments)
        long = quick(build(), x, y, steps=2000, **arguments)
        assert_same_trajectory(short, long)

    def test_a_callers_no_grad_changes_nothing(self, engine):
        build, x, y, _ = CASES["relu"]
        expected = quick(build(), x, y, engine=engine)
        with torch.no_grad():
            run = quick(build(), x, y, engine=engine)
        assert_same_trajectory(run, expected)


class TestRecord:
    @pytest.mark.parametrize("steps", [1, 2, 10, 1000, 54_321])
    @pytest.mark.parametrize("count", [2, 3, 20, 200])
    def test_log_spaced_from_the_first_step_to_the_last(self, count, steps):
        x, y = torch.zeros(1), torch.ones(1)
        step = quick(ln.Product(), x, y, steps=steps, record=count, noise=None).step
        assert step[0] == 0 and step[-1] == steps
        assert len(step) <= count
        assert (np.diff(step) > 0).all()
        late = step[step > 3 * count].astype(float)
        if late.size > 2:
            # Equal ratios, up to the rounding of the first of them.
            ratios = late[1:] / late[:-1]
            assert ratios.max() / ratios.min() < 1 + 2 / late[0]

    def test_two_hundred_by_default(self):
        run = ln.train(ln.Product(), torch.zeros(1), torch.ones(1), lr=0.01, steps=10**6, progress=False)
        assert 150 < len(run.step) <= 200

    @pytest.mark.parametrize("engine", ENGINES)
    def test_chosen_steps(self, engine):
        build, x, y, _ = CASES["relu"]
        run = quick(build(), x, y, record=[150, 3, 3, 40], engine=engine)
        assert run.step.tolist() == [3, 40, 150]
        assert run.theta.shape[0] == len(run.loss) == len(run.reg) == 3
        every = quick(build(), x, y, record=range(201), engine=engine)
        np.testing.assert_array_equal(run.theta, every.theta[run.step])

    @pytest.mark.parametrize("record", [np.array([0, 5]), (0, 5), range(0, 6, 5), [np.int32(5), 0]])
    def test_step_numbers_may_come_in_any_sequence(self, record):
        assert quick(ln.Product(), X, Y, record=record).step.tolist() == [0, 5]

    @pytest.mark.parametrize("engine", ENGINES)
    def test_first_snapshot_is_the_start_and_last_the_end(self, engine):
        build, x, y, _ = CASES["relu"]
        model = build()
        run = quick(model, x, y, engine=engine)
        np.testing.assert_array_equal(run.theta[0], flat(build()))
        np.testing.assert_array_equal(run.theta[-1], flat(model))
        assert run.theta.dtype == np.float64
        assert (run.steps, run.interrupted) == (200, False)

    @pytest.mark.parametrize("name", ["product", "relu", "matrix", "deep-relu", "outputs"])
    @pytest.mark.parametrize("engine", ENGINES)
    def test_loss_and_reg_are_those_of_the_snapshot_without_noise(self, engine, name):
        build, x, y, lr = CASES[name]
        run = quick(build(), x, y, lr=lr, record=5, noise=ln.LabelNoise(3.0), engine=engine)
        for i in range(len(run.step)):
            model = run.model_at(i)
            assert run.loss[i] == pytest.approx(loss_of(model, x, y).item(), rel=1e-11)
            assert run.reg[i] == pytest.approx(plain_loop(model, x)[0].mean().item(), rel=1e-11)

    def test_module_that_torch_func_cannot_transform(self):
        class Branching(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = ln.MLP([3, 4, 2], "tanh", seed=5)

            def forward(self, x):
                return self.inner(x) if x.sum() > 1e9 else 2 * self.inner(x)

        y = CLOUD[:, :2]
        model = Branching()
        run = quick(model, CLOUD, y, record=4)
        assert run.engine == "torch"
        np.testing.assert_array_equal(flat(model), run.theta[-1])
        for i in range(4):
            at_i = run.model_at(i)
            assert run.loss[i] == pytest.approx(loss_of(at_i, CLOUD, y).item(), rel=1e-12)
            reg = ln.implicit_regularizer(at_i, CLOUD, method="loop").item()
            assert run.reg[i] == pytest.approx(reg, rel=1e-12)

    def test_large_data_are_read_in_parts(self, monkeypatch):
        build, x, y, _ = CASES["relu"]
        expected = quick(build(), x, y)
        monkeypatch.setattr("labelnoise_utils.regularizer.snapshots.NUMBERS_PER_CHUNK", 5 * 62)
        run = quick(build(), x, y)
        np.testing.assert_allclose(run.loss, expected.loss, rtol=1e-12)
        np.testing.assert_allclose(run.reg, expected.reg, rtol=1e-12)

    def test_rate_counts_all_steps_recorded_or_not(self):
        run = quick(ln.Product(), X, Y, steps=1000, record=[0, 10])
        assert run.seconds > 0
        assert run.steps_per_second == 1000 / run.seconds


class TestModel:
    @pytest.mark.parametrize("engine", ENGINES)
    def test_parameters_keep_their_memory(self, engine):
        """Whoever holds a view of a parameter, an optimizer for instance, sees it change."""
        build, x, y, _ = CASES["relu"]
        model = build()
        views = [p.detach() for p in model.parameters()]
        quick(model, x, y, engine=engine)
        for view, parameter in zip(views, model.parameters(), strict=True):
            assert torch.equal(view, parameter)
            assert view.data_ptr() == parameter.data_ptr()

    @pytest.mark.parametrize("engine", ENGINES)
    def test_nothing_else_changes(self, engine):
        build, x, y, _ = CASES["relu"]
        model = build()
        x_before, y_before = x.clone(), y.clone()
        quick(model, x, y, engine=engine)
        assert torch.equal(x, x_before) and torch.equal(y, y_before)
        assert all(p.grad is None and p.requires_grad for p in model.parameters())
        assert model.training

    def test_buffers_and_mode_stay(self):
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
        model.double().eval()
        buffers = {key: value.clone() for key, value in model.named_buffers()}
        quick(model, CLOUD, CLOUD[:, :1], batch_size=4)
        assert not any(module.training for module in model.modules())
        for key, value in model.named_buffers():
            assert torch.equal(value, buffers[key])

    def test_run_holds_a_copy(self):
        model = ln.TwoLayerReLU(5)
        run = quick(model, X, Y)
        with torch.no_grad():
            model.a.fill_(9.0)
        assert run.theta.max() < 9 and run.model.a.max() < 9

    def test_float32(self):
        build, x, y, _ = CASES["relu"]
        double = quick(build(), x, y, engine="torch")
        model = ln.TwoLayerReLU(20, seed=1, dtype=torch.float32)
        single = quick(model, x, y)
        assert single.theta.dtype == np.float32
        assert model.a.dtype == torch.float32
        np.testing.assert_allclose(single.theta, double.theta, atol=1e-4)

    def test_integer_inputs_reach_the_model_as_integers(self):
        class Tokens(nn.Module):
            def __init__(self):
                super().__init__()
                self.embedding = nn.Embedding(5, 3, dtype=torch.float64)

            def forward(self, x):
                return self.embedding(x).mean(dim=(1, 2))

        x, y = torch.tensor([[0, 1], [2, 3], [4, 0]]), torch.tensor([1, 2, 3])
        run = quick(Tokens(), x, y, lr=0.1, steps=2000, noise=None)
        assert run.loss[-1] < 1e-3 < run.loss[0]

    def test_data_may_be_arrays(self):
        expected = quick(ln.TwoLayerReLU(5), X, Y)
        assert_same_trajectory(quick(ln.TwoLayerReLU(5), X.numpy(), Y.numpy()), expected)

    def test_data_may_be_views(self):
        padded = torch.stack([X, Y], dim=1)
        strided = quick(ln.TwoLayerReLU(5), padded[:, 0], padded[:, 1])
        assert_same_trajectory(strided, quick(ln.TwoLayerReLU(5), X, Y))


def test_noise_moves_what_plain_sgd_leaves():
    """The effect itself: on the hyperbola u v = y only noise makes |u| and |v| equal."""
    x, y = torch.zeros(1), torch.ones(1)
    ends = {
        noise: quick(ln.Product(2.0, 0.5), x, y, lr=0.01, steps=100_000, noise=noise).theta[-1]
        for noise in (None, ln.LabelNoise(0.5))
    }
    (u, v), (u_noise, v_noise) = ends.values()
    assert abs(u * v - 1) < 1e-12 and abs(u - v) > 1
    assert abs(u_noise - v_noise) < 0.1


def test_seeds_of_runs_are_independent_of_each_other():
    ends = [quick(ln.Product(), X, Y, seed=seed).theta[-1] for seed in range(5)]
    for one, other in itertools.combinations(ends, 2):
        assert not np.array_equal(one, other)
