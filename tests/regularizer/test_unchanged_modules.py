"""A call leaves the module as it was, also after an error."""

import copy
import gc
import weakref

import pytest
import torch
from architectures import Function, mlp, numbers
from plain import gradient_of, plain_loop
from refusals import WAYS, regularize
from torch import nn
from unchanged import assert_as_it_was, snapshot
from zoo import METHODS, WARNINGS, methods_for, specimen

import labelnoise_utils as ln
from labelnoise_utils.regularizer.hypothesis import (
    attributes_kept,
    twice_differentiable,
)

pytestmark = WARNINGS


class TestModuleIsLeftAsItWas:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("grads", [False, True])
    @pytest.mark.parametrize(
        "name",
        ["transformer", "frozen layers", "batch norm of pictures", "tied layers", "weight norm", "layer in two places",
         "hooks that change what goes in and out", "spectral norm", "pruned", "attention", "lstm"],
    )  # fmt: skip
    def test_after_a_value_and_a_gradient(self, name, grads, method):
        model, x = specimen(name)
        if grads:
            for p in model.parameters():
                p.grad = torch.full_like(p, 3.0)
        before, x_before = snapshot(model), x.clone()
        for call in (ln.implicit_regularizer, ln.regularizer_by_parameter):
            try:
                value = call(model, x, method=method)
                if call is ln.implicit_regularizer:
                    gradient_of(value, [p for p in model.parameters() if p.requires_grad])
            except ValueError:
                assert method not in methods_for(name)
            assert_as_it_was(model, before)
        assert torch.equal(x, x_before)
        assert x.grad is None and not x.requires_grad

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
    @pytest.mark.parametrize("call", range(1, 5))
    def test_after_an_error_in_a_layer(self, monkeypatch, call, error, method):
        """In whichever call of the layer: the first is that of the check."""
        model, x, calls = mlp(), numbers(3), []
        linear = nn.functional.linear

        def fails(a, weight, bias):
            calls.append(weight)
            if len(calls) == 3 * call - 1:  # of three layers the second
                raise error("stop")
            return linear(a, weight, bias)

        before = snapshot(model)
        monkeypatch.setattr(nn.functional, "linear", fails)
        try:
            ln.implicit_regularizer(model, x, method=method)
        except error:
            pass
        else:
            # "auto" gets over an error, ends in the loop, and "ghost" and "vmap" do not call the model that often.
            assert error is KeyError and method == "auto" and call > 1 or len(calls) < 3 * call - 1
        assert len(calls) >= 2
        assert_as_it_was(model, before)

    @pytest.mark.parametrize("method", ["auto", "loop"])
    def test_after_an_error_of_one_example(self, method):
        """Which is not the first, so the check does not meet it."""

        def forward(self, x):
            if x.max() > 9:
                raise ArithmeticError("too large")
            return self.layer(x)

        model, x = Function(forward, layer=nn.Linear(3, 2)).double(), numbers(3)
        x[3, 1] = 10
        before = snapshot(model)
        with pytest.raises(ArithmeticError, match="too large"):
            ln.implicit_regularizer(model, x, method=method)
        assert_as_it_was(model, before)
        assert ln.implicit_regularizer(model, x[:3], method=method) > 0

    @pytest.mark.parametrize("method", METHODS)
    def test_no_graph_stays(self, method):
        """Without gradients nothing of a call stays in memory."""
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        outputs = []
        model[0].register_forward_hook(lambda layer, args, z: outputs.append(weakref.ref(z)))
        with torch.no_grad():
            ln.implicit_regularizer(model, numbers(3), method=method)
        gc.collect()
        assert outputs and not any(of() is not None for of in outputs)


class Remembering(nn.Module):
    """As models do that cache a mask, or show their activations."""

    def __init__(self):
        super().__init__()
        self.layer, self.last = nn.Linear(3, 2), None

    def forward(self, x):
        if not hasattr(self, "mask"):
            self.mask = torch.tensor([1.0, 0.5], dtype=x.dtype)
        self.last = self.layer(x) * self.mask
        return self.last.tanh()


class Lazy(nn.Module):
    """Makes its weight when it is first called, and keeps it."""

    def __init__(self):
        super().__init__()
        self.layer, self.weight = nn.Linear(3, 2), None

    def forward(self, x):
        if self.weight is None:
            self.weight = 2 * self.layer.weight
        return self.layer(x).tanh() @ self.weight


class TestWhatStays:
    @pytest.mark.parametrize("way", ["auto", "vmap", "loop"])
    def test_weight_that_is_made_at_the_first_call(self, way):
        """The first calls are those of the checks, where it would have no gradient."""
        model = Lazy().double()
        with pytest.raises(ValueError, match="parameter 'layer.weight' is used outside the call of its layer"):
            ln.per_example_sq_norms(model, numbers(3), method="ghost")
        expected = plain_loop(copy.deepcopy(model), numbers(3))[0]
        torch.testing.assert_close(ln.per_example_sq_norms(model, numbers(3), method=way), expected, rtol=1e-10, atol=0)
        assert model.weight is None

    @pytest.mark.parametrize("way", WAYS)
    def test_attributes_that_the_model_sets(self, way):
        """Under vmap they would be tensors that nobody can read later."""
        model, x = Remembering().double(), numbers(3)
        before = snapshot(model)
        regularize(model, x, way)
        assert_as_it_was(model, before)
        h = model(x)
        last, mask = model.last, model.mask
        regularize(model, x, way)
        assert model.last is last and model.mask is mask
        torch.testing.assert_close(last.tanh(), h)

    @pytest.mark.parametrize("error", [None, KeyboardInterrupt])
    def test_attributes_kept(self, error):
        model = nn.Sequential(nn.Linear(3, 2))
        model[0].old = 1
        try:
            with attributes_kept(model):
                model[0].old, model[0].new = 2, 3
                del model[0].in_features
                if error is not None:
                    raise error
        except KeyboardInterrupt:
            assert error is not None
        assert (model[0].old, model[0].in_features) == (1, 3)
        assert not hasattr(model[0], "new")

    def test_the_choice_of_attention(self):
        """In which kernels torch may take; for the gradient of reg it is one that has a second derivative."""
        model, x = specimen("transformer")
        flags = [torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.mem_efficient_sdp_enabled]
        before = [flag() for flag in flags]
        assert all(before)
        with twice_differentiable(model):
            assert not any(flag() for flag in flags)
        ln.implicit_regularizer(model, x).backward()
        assert [flag() for flag in flags] == before

    def test_recurrent_layers_without_cudnn(self):
        assert torch.backends.cudnn.enabled
        for name, enabled in [("transformer", True), ("lstm", False)]:
            with twice_differentiable(specimen(name)[0]):
                assert torch.backends.cudnn.enabled == enabled
        assert torch.backends.cudnn.enabled
