"""Every layer class of torch.nn: exact, or refused by name."""

import inspect
import re

import pytest
import torch
from architectures import Function, numbers
from layer_classes import BASES, EXAMPLES, METHODS, built, how, table
from plain import assert_gradients_close, gradient_of, plain_loop
from torch import nn

import labelnoise_utils as ln
from labelnoise_utils.regularizer import ghost
from labelnoise_utils.regularizer.rules import RULES

pytestmark = [
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
    pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning"),
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*is deprecated.*"),
]


def test_no_class_is_left_out():
    """Of those of torch.nn that are modules, except for losses and bases."""
    public = {name for name, thing in vars(nn).items() if inspect.isclass(thing) and issubclass(thing, nn.Module)}
    losses = {name for name in public if re.search(r"Loss(2d)?$", name)}
    assert public - losses - BASES - {"AdaptiveLogSoftmaxWithLoss"} == EXAMPLES.keys() | {"SyncBatchNorm"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_exact_or_refused(name):
    model, x = built(name)
    said = how(name)
    if said == "refused":
        with pytest.raises(ValueError, match=name):
            ln.per_example_sq_norms(model, x)
        return
    try:
        norms, gradient = plain_loop(model, x)
    except (NotImplementedError, RuntimeError):  # torch has no second derivative of it, so no gradient of reg
        norms, gradient = values_alone(model, x), None
    assert norms.max() > 0
    for method in ("auto", *METHODS[METHODS.index(said) :]):
        try:
            with torch.set_grad_enabled(gradient is not None):
                measured = ln.per_example_sq_norms(model, x, method=method)
        except ValueError:
            assert method not in ("auto", said)
            continue
        torch.testing.assert_close(measured, norms, rtol=1e-9, atol=0)
        if gradient is not None:
            assert_gradients_close(gradient_of(measured.mean(), list(model.parameters())), gradient, 1e-8)


def values_alone(model, x):
    norms = []
    for x_i in x.split(1):
        slopes = [torch.autograd.grad(h, model.parameters(), retain_graph=True) for h in model(x_i).flatten()]
        norms.append(sum(g.square().sum() for of_h in slopes for g in of_h))
    return torch.stack(norms)


def test_the_table_of_the_api_page():
    """Has each class once, and the ghost norms take what they have a rule for."""
    rows = table()
    listed = [name for names in rows.values() for name in names]
    assert sorted(listed) == sorted(EXAMPLES.keys() | {"SyncBatchNorm"})
    ruled = {layer.__name__ for layer in RULES if layer.__module__.startswith("torch.nn.")}
    assert ruled <= {*rows["ghost"]}
    assert {"Linear", "Conv2d", "LayerNorm"} <= ruled and "LSTM" in rows["loop"]


class TestRegisteredRule:
    def layer(self):
        class Scale(nn.Module):
            def __init__(self):
                super().__init__()
                self.s = nn.Parameter(torch.full((4,), 2.0))

            def forward(self, a):
                return self.s * a

        return Scale

    def model(self, scale):
        return nn.Sequential(nn.Linear(3, 4), scale(), nn.Tanh(), nn.Linear(4, 2)).double(), numbers(3)

    def test_exact(self):
        scale = self.layer()
        model, x = self.model(scale)
        with pytest.raises(ln.NotCoveredError, match="parameter '1.s' belongs to Scale, which has no rule"):
            ln.per_example_sq_norms(model, x, method="ghost")
        ln.register_rule(scale, lambda layer, a, g: {"s": (a * g).flatten(1, -2).sum(dim=1).square().sum(dim=1)}, ("s",))
        norms, gradient = plain_loop(model, x)
        measured = ln.per_example_sq_norms(model, x, method="ghost")
        torch.testing.assert_close(measured, norms, rtol=1e-10, atol=0)
        assert_gradients_close(gradient_of(measured.mean(), list(model.parameters())), gradient)

    @pytest.mark.parametrize(
        "rule", [lambda layer, a, g: {"s": (a * g).square().sum(dim=(1, 2)) * 1.01}, lambda layer, a, g: {}]
    )
    def test_wrong_rule(self, rule):
        """Is found out, whatever it does, and "auto" is right."""
        scale = self.layer()
        ln.register_rule(scale, rule, ("s",))
        model, x = self.model(scale)
        with pytest.raises((ln.NotCoveredError, KeyError), match="s"):
            ln.per_example_sq_norms(model, x, method="ghost")
        torch.testing.assert_close(ln.per_example_sq_norms(model, x), plain_loop(model, x)[0], rtol=1e-10, atol=0)

    def test_bad_arguments(self):
        with pytest.raises(TypeError, match="layer must be a class of modules, got Linear"):
            ln.register_rule(nn.Linear(2, 2), lambda layer, a, g: {})
        with pytest.raises(TypeError, match="rule must be a function, got int"):
            ln.register_rule(self.layer(), 3)
        with pytest.raises(ValueError, match="Linear has a rule already"):
            ln.register_rule(nn.Linear, lambda layer, a, g: {})


def test_rest_by_copies(monkeypatch):
    """One bare parameter beside layers with rules: those go by their rules all the same."""
    model = Function(
        lambda self, x: self.two(self.one(x).tanh()) * self.s,
        one=nn.Linear(3, 40),
        two=nn.Linear(40, 2),
        s=nn.Parameter(torch.ones(2)),
    ).double()
    x, copied = numbers(3), []
    original = ghost.h_and_norms
    monkeypatch.setattr(ghost, "h_and_norms", lambda *args: copied.append([*args[3]]) or original(*args))
    norms, gradient = plain_loop(model, x)
    measured = ln.per_example_sq_norms(model, x)
    torch.testing.assert_close(measured, norms, rtol=1e-10, atol=0)
    assert_gradients_close(gradient_of(measured.mean(), list(model.parameters())), gradient)
    assert copied == [["s"]]
