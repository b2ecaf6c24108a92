"""What the flows have in common: fields at many parameter vectors, at once where that gives the same; runs of any model."""

import copy
import threading

import numpy as np
import pytest
import torch
from cases import assert_same_trajectory
from plain import flat, loss_of, plain_loop
from points import X, Y, tanh
from torch import nn

import labelnoise_utils as ln
from labelnoise_utils.sgd.job import prepare
from labelnoise_utils.theory.residual_flow import _fields as residual_fields
from labelnoise_utils.theory.solver import one_after_the_other, together_where_possible
from labelnoise_utils.theory.unequal_flow import unequal_fields


class Counting(nn.Module):
    """A network that says how often it was called."""

    def __init__(self, calls):
        super().__init__()
        self.inner, self.calls = tanh(), calls

    def forward(self, x):
        self.calls.append(len(x))
        return self.inner(x)


FIELDS = {
    "unequal": lambda model, job: unequal_fields(model, job),
    "residual": lambda model, job: residual_fields(model, job, 3),
}


@pytest.mark.parametrize("name", FIELDS)
def test_many_parameter_vectors_in_few_calls_as_one_by_one(name):
    calls = []
    model = Counting(calls)
    job = prepare(model, X, Y, lr=0.01, steps=10, noise=ln.LabelNoise(np.array([1.0, 0.2, 0.5])), batch_size=2)
    fields = FIELDS[name](model, job)
    theta = flat(model) + 0.1 * torch.randn(20, 17, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    calls.clear()
    together = fields(theta)
    assert len(calls) < 10  # some for the derivatives, none for each vector
    one_by_one = torch.cat([fields(row[None]) for row in theta])
    torch.testing.assert_close(together, one_by_one, rtol=0, atol=1e-13)
    assert together.abs().max() > 1e-3


class TestTogetherWherePossible:
    def setup_method(self):
        self.model = ln.Product(2.0, 0.5)
        self.slow = one_after_the_other(self.model, lambda: flat(self.model) ** 2)

    def fields(self, many, at_once=4):
        return together_where_possible(prepare(self.model, X, Y, lr=0.01, steps=10), many, self.slow, at_once)

    def test_another_answer_is_not_taken(self):
        assert self.fields(lambda theta: theta**2 + 1e-3) is self.slow

    def test_what_cannot_run_is_not_taken(self):
        assert self.fields(torch.vmap(lambda theta: theta * theta.sum().item())) is self.slow

    def test_nothing_at_once(self):
        assert self.fields(lambda theta: theta**2, at_once=0) is self.slow

    def test_a_hook_is_not_passed_over(self):
        """Whether or not it changes anything where the answers are compared."""
        self.model.u.register_hook(lambda g: g.clamp(-100, 100))
        assert self.fields(lambda theta: theta**2) is self.slow

    def test_the_same_answer_is_taken_and_the_model_left_as_it_was(self):
        sizes = []
        fast = self.fields(lambda theta: sizes.append(len(theta)) or theta**2)
        assert fast is not self.slow
        assert flat(self.model).tolist() == [2.0, 0.5]
        rows = torch.arange(12.0, dtype=torch.float64).view(6, 2)
        assert torch.equal(fast(rows), rows**2)
        assert sizes == [1, 4, 2]


def net():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0)).double()


def flow(kind, model, **settings):
    """Of label noise, equal or not, or of plain SGD, whose labels contradict each other, from a minimum."""
    settings = dict(lr=0.02, steps=400, record=[0, 100, 400]) | settings
    if kind != "residual":
        noise = dict(noise_std=0.5) if kind == "equal" else dict(noise=ln.LabelNoise(np.array([1.0, 0.2, 0.5])))
        return ln.effective_flow(model, X, Y, **noise, **settings), X, Y
    x, y = X.repeat(2, 1), torch.cat([Y + 0.4, Y - 0.4])
    ln.project_to_minimum(model, x, y)
    return ln.residual_flow(model, x, y, **settings), x, y


def wrapped(model):
    forward = model.forward
    model.forward = lambda x: forward(x)
    return model


def closing_over_a_weight(model):
    weight, bias = model[0].weight, model[0].bias
    model[0].forward = lambda x: x @ weight.T + bias
    return model


def with_a_lock(model):
    model.lock = threading.Lock()
    return model


class Keeping(nn.Sequential):
    """Keeps its output, with its graph, from call to call."""

    def forward(self, x):
        self.kept = super().forward(x)
        return self.kept


def with_an_activation(model):
    model = Keeping(*model)
    model(X)
    return model


UNCOPIED = [wrapped, closing_over_a_weight, with_a_lock, with_an_activation]


@pytest.mark.parametrize("kind", ["equal", "unequal", "residual"])
class TestRun:
    @pytest.mark.parametrize("change", UNCOPIED)
    def test_of_a_model_of_which_there_is_no_copy(self, kind, change):
        """The snapshots are those of its own parameters, as with :func:`train`."""
        model, plain = change(net()), net()
        run, x, y = flow(kind, model)
        expected, *_ = flow(kind, plain)
        np.testing.assert_allclose(run.theta, expected.theta, rtol=0, atol=1e-8)
        np.testing.assert_allclose(run.loss, expected.loss, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(run.reg, expected.reg, rtol=1e-6)
        assert run.loss[-1] == pytest.approx(loss_of(model, x, y).item(), rel=1e-12)
        assert run.reg[-1] == pytest.approx(plain_loop(model, x)[0].mean().item(), rel=1e-12)
        assert np.abs(run.theta[-1] - run.theta[0]).max() > 1e-3
        assert run.model is None
        torch.testing.assert_close(run.model_at(-1, plain)(x), model(x), rtol=0, atol=1e-12)

    def test_saved_and_loaded_with_its_frozen_parameters(self, kind, tmp_path):
        model = ln.TwoLayerSigmoidal(4, 2, "tanh")
        model.c.requires_grad_(False)
        run, x, _ = flow(kind, model)
        run.save(tmp_path / "run")
        loaded = ln.Run.load(tmp_path / "run")
        assert_same_trajectory(loaded, run)
        torch.testing.assert_close(loaded.model_at(-1)(x), model(x), rtol=0, atol=1e-14)

    def test_loaded_run_knows_its_model_again(self, kind, tmp_path):
        class Scaled(nn.Sequential):
            def __init__(self):
                super().__init__(*net())
                self.register_buffer("scale", torch.tensor(0.7, dtype=torch.float64))

            def forward(self, x):
                return self.scale * super().forward(x)

        model = Scaled()
        run, x, _ = flow(kind, model)
        run.save(tmp_path / "run")
        loaded, other = ln.Run.load(tmp_path / "run"), Scaled()
        other.scale.fill_(3.0)
        torch.testing.assert_close(loaded.model_at(-1, other)(x), model(x), rtol=0, atol=1e-14)
        other[1] = nn.Sigmoid()
        with pytest.raises(ValueError, match="its output for the first example is another one"):
            loaded.model_at(-1, other)

    def test_hooks_are_obeyed(self, kind):
        model, plain = net(), net()
        if kind == "residual":
            flow(kind, plain, steps=1, record=[0])  # to a minimum, where the hook plays no part
            model = copy.deepcopy(plain)
        model[0].weight.register_hook(lambda g: g * 0)
        for one in (model, plain):
            before = one[0].weight.detach().clone()
            flow(kind, one)
            assert torch.equal(one[0].weight, before) == (one is model)


@pytest.mark.parametrize("noise", [dict(noise_std=0.0), dict(noise=ln.LabelNoise(np.zeros(3)))])
def test_hook_of_a_module_is_obeyed(noise):
    model = net()
    before = copy.deepcopy(model)
    model[2].register_full_backward_hook(lambda module, into, out: tuple(g * 0 for g in into))
    ln.effective_flow(model, X, Y, lr=0.02, steps=400, **noise)
    assert torch.equal(model[0].weight, before[0].weight)
    assert not torch.allclose(model[2].weight, before[2].weight)
