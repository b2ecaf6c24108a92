"""Numbers that were wrong without a word, each kind with the public report of a tool that met it: right, or refused by name.

What is right is a plain loop of autograd over the user's own model (``plain_loop``).
"""

import functools
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from architectures import Function, numbers
from plain import plain_loop
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from unchanged import assert_as_it_was, snapshot

import labelnoise_utils as ln

METHODS = ["auto", "ghost", "vmap", "loop"]

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()


def right_or_refused(model, x, refused, message):
    """ "auto" and "loop" are right; the methods named in ``refused`` say why not; the model is as it was."""
    expected = plain_loop(model, x)[0]
    before = snapshot(model)
    for method in METHODS:
        if method in refused:
            with pytest.raises(ln.NotCoveredError, match=message):
                ln.per_example_sq_norms(model, x, method=method)
        else:
            torch.testing.assert_close(ln.per_example_sq_norms(model, x, method=method), expected, rtol=1e-10, atol=0)
        assert_as_it_was(model, before)
    return expected


def refused_by_all(model, x, message):
    """With an error that names the reason; the model is as it was."""
    before, state, draws = snapshot(model), torch.get_rng_state(), (random.getstate(), repr(np.random.get_state()))  # noqa: NPY002
    for method in METHODS:
        with pytest.raises(ValueError, match=message):
            ln.per_example_sq_norms(model, x, method=method)
    assert_as_it_was(model, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert (random.getstate(), repr(np.random.get_state())) == draws  # noqa: NPY002


class TestHooks:
    """Hooks do not fire under vmap (functorch issue 638)."""

    FAST = ("ghost", "vmap")

    def test_on_a_parameter(self):
        """Half of the gradient of the first layer does not count."""
        model, x = net(), numbers(3)
        plain = plain_loop(model, x)[0]
        mask = torch.tensor([1.0, 0, 1, 0], dtype=torch.float64)[:, None]
        model[0].weight.register_hook(lambda g: g * mask)
        hooked = right_or_refused(model, x, self.FAST, r"parameter '0.weight' has a hook \(register_hook\), which torch.vmap")
        assert (hooked < plain).all()

    def test_on_a_parameter_that_does_not_count(self):
        """Of no matter."""
        model, x = net(), numbers(3)
        model[0].weight.register_hook(lambda g: 0 * g)
        shares = ln.per_example_sq_norms(model, x, method="ghost", parameters="2")
        torch.testing.assert_close(shares, (model[:2](x) ** 2).sum(dim=1) + 1)

    @pytest.mark.parametrize(
        "register", ["register_full_backward_hook", "register_full_backward_pre_hook", "register_backward_hook"]
    )
    def test_on_a_module(self, register):
        model, x = net(), numbers(3)
        plain = plain_loop(model, x)[0]
        if register == "register_full_backward_pre_hook":
            model[1].register_full_backward_pre_hook(lambda module, slopes: (slopes[0] / 2,))
        else:
            getattr(model[1], register)(lambda module, into, out: (into[0] / 2,))
        hooked = right_or_refused(model, x, self.FAST, "hook.*, which torch.vmap does not call")
        assert (hooked < plain).all()

    def test_on_every_module(self):
        model, x = net(), numbers(3)
        plain = plain_loop(model, x)[0]
        hook = nn.modules.module.register_module_full_backward_hook(
            lambda module, into, out: (into[0] / 2,) if isinstance(module, nn.Tanh) else None
        )
        try:
            hooked = right_or_refused(model, x, self.FAST, r"has a backward hook \(register_full_backward_hook\)")
        finally:
            hook.remove()
        assert (hooked < plain).all()

    @pytest.mark.parametrize("place", ["tensor", "node"])
    def test_made_in_forward(self, place):
        """As reversed gradients of domain adaptation are, and gradients that are clipped on the way."""

        def forward(self, x):
            z = self.one(x).tanh()
            if place == "tensor":
                z.register_hook(lambda g: 0.5 * g)
            else:
                z.grad_fn.register_hook(lambda into, out: tuple(0.5 * g for g in into))
            return self.two(z)

        model = Function(forward, one=nn.Linear(3, 4), two=nn.Linear(4, 1)).double()
        right_or_refused(model, numbers(3), self.FAST, "Function puts a hook on a tensor when it is called, which torch.vmap")


class Remembering(nn.Module):
    """Keeps the weight that it makes, in one of several ways."""

    def __init__(self, way):
        super().__init__()
        self.layer, self.out, self.way, self.cache = nn.Linear(3, 4), nn.Linear(4, 1), way, {}
        self.nested = {"weights": [None]}
        self.lru = functools.lru_cache(lambda: self.layer.weight / self.layer.weight.norm())

    def weight(self):
        if self.way == "lru_cache":
            return self.lru()
        if self.way == "nested":
            if self.nested["weights"][0] is None:
                self.nested["weights"][0] = self.layer.weight / self.layer.weight.norm()
            return self.nested["weights"][0]
        if "weight" not in self.cache:
            self.cache["weight"] = self.layer.weight / self.layer.weight.norm()
        return self.cache["weight"]

    def forward(self, x):
        return self.out(F.linear(x, self.weight(), self.layer.bias).tanh())


class TestCachedWeights:
    """A cache that is filled without gradients, or under vmap, is of no use afterwards (geotorch issue 34)."""

    def test_parametrize_cached(self):
        model, x = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 1)).double(), numbers(3)
        expected = plain_loop(model, x)[0]
        model(x).sum().backward()
        slopes = [p.grad.clone() for p in model.parameters()]
        for method in METHODS:
            with parametrize.cached():
                try:
                    measured = ln.per_example_sq_norms(model, x, method=method)
                except ln.NotCoveredError as error:
                    assert method in ("ghost", "vmap") and "parameter '0." in str(error)
                else:
                    torch.testing.assert_close(measured, expected, rtol=1e-10, atol=0)
                model.zero_grad()
                model(x).sum().backward()
            for p, slope in zip(model.parameters(), slopes, strict=True):
                torch.testing.assert_close(p.grad, slope)

    @pytest.mark.parametrize("way", ["dict", "nested", "lru_cache"])
    def test_kept_by_the_model(self, way):
        for method in METHODS:
            model, x = Remembering(way).double(), numbers(3)
            fresh = Remembering("none").double()
            fresh.load_state_dict(model.state_dict())
            try:
                measured = ln.per_example_sq_norms(model, x, method=method)
            except ln.NotCoveredError as error:
                assert method in ("ghost", "vmap") and "parameter 'layer.weight' is" in str(error)
            else:
                torch.testing.assert_close(measured, plain_loop(fresh, x)[0], rtol=1e-10, atol=0)
            assert model.cache == {} and model.nested == {"weights": [None]}
            model(x).sum().backward()
            assert model.layer.weight.grad.abs().min() > 0


class Stateful(nn.Module):
    """An LSTM that goes on from where it was."""

    def __init__(self, keep):
        super().__init__()
        self.cell, self.keep = nn.LSTMCell(3, 2), keep
        self.h, self.states, self.box = None, [], [[None]]

    def forward(self, x):
        before = {"attribute": lambda: self.h, "list": lambda: self.states[-1] if self.states else None,
                  "nested list": lambda: self.box[0][0]}[self.keep]()  # fmt: skip
        h, c = self.cell(x, None if before is None else tuple(part.detach() for part in before))
        if self.keep == "attribute":
            self.h = h, c
        elif self.keep == "list":
            self.states.append((h, c))
        else:
            self.box[0][0] = h, c
        return h


class TestState:
    """What a call leaves behind, the next one reads (spikingjelly issues 536 and 318)."""

    @pytest.mark.parametrize("keep", ["attribute", "list", "nested list"])
    def test_recurrent_state(self, keep):
        model = Stateful(keep).double()
        message = "model gives another output when it is called once more.* it keeps something from call to call"
        refused_by_all(model, numbers(3), message)
        assert model.h is None and model.states == [] and model.box == [[None]]

    def test_in_a_closure(self):
        """Which no attribute shows."""
        calls = []
        model = Function(lambda self, x: self.layer(x) * (calls.append(1) or len(calls)), layer=nn.Linear(3, 2)).double()
        refused_by_all(model, numbers(3), "model gives another output when it is called once more")

    def test_of_one_use(self):
        """What only shows activations is no state."""

        def forward(self, x):
            self.seen.append(self.one(x))
            return self.two(self.seen[-1].tanh())

        model = Function(forward, one=nn.Linear(3, 4), two=nn.Linear(4, 2), seen=[]).double()
        expected = plain_loop(model, numbers(3))[0]
        model.seen.clear()
        for method in METHODS:
            torch.testing.assert_close(ln.per_example_sq_norms(model, numbers(3), method=method), expected, rtol=1e-10, atol=0)
            assert model.seen == []


class Buffered(nn.Module):
    """Changes a tensor of its own when it is called."""

    def __init__(self, change, weight=False):
        super().__init__()
        self.l, self.change = nn.Linear(3, 2), change
        self.register_buffer("m", torch.ones(2))

    def forward(self, x):
        self.change(self)
        return self.l(x) * self.m


def through_numpy(values):
    values.detach().numpy()[...] *= 0.9


CHANGES = {
    "data, in place": lambda self: self.m.data.mul_(0.9),
    "data, another": lambda self: setattr(self.m, "data", self.m.data * 0.9),
    "detached": lambda self: self.m.detach().mul_(0.9),
    "numpy": lambda self: through_numpy(self.m),
    "another tensor": lambda self: setattr(self, "m", self.m * 0.9),
    "fused": lambda self: torch._foreach_mul_([self.m.data], 0.9),
    "functional batch norm": lambda self: F.batch_norm(
        torch.ones(3, 2, dtype=torch.float64), self.m.data, self.m.data, training=True
    ),
}


class TestTensorsChanged:
    """Through ``.data`` no version counts up (vector-quantize-pytorch issue 167, Lightning pull request 8540)."""

    @pytest.mark.parametrize("how", CHANGES)
    def test_buffer(self, how):
        model, x = Buffered(CHANGES[how]).double(), numbers(3)
        refused_by_all(model, x, "model changes its buffer 'm' when it is called")
        assert model.m.tolist() == [1, 1]

    def test_fused_observer(self):
        """Of quantisation aware training, in eval mode."""
        from torch.ao.quantization import FusedMovingAvgObsFakeQuantize

        model = nn.Sequential(nn.Linear(3, 4), FusedMovingAvgObsFakeQuantize(), nn.Linear(4, 1)).eval()
        refused_by_all(model, numbers(3).float(), "model changes its buffer '1.")

    @pytest.mark.parametrize("large", [False, True])
    def test_weight_of_largest_norm(self, large):
        """Weights changed in forward (braindecode pull request 680); they are put back, large ones too."""

        def forward(self, x):
            self.layer.weight.data.renorm_(2, 0, 0.1)
            return self.layer(x)

        model = Function(forward, layer=nn.Linear(3, 4000 if large else 2)).double()
        refused_by_all(model, numbers(3), "model changes its parameter 'layer.weight' when it is called")

    def test_frozen_weight_that_is_given_other_memory(self):
        def forward(self, x):
            self.layer.weight.data = self.layer.weight.data.clamp(-0.1, 0.1)
            return self.layer(x)

        model = Function(forward, layer=nn.Linear(3, 2)).double()
        model.layer.weight.requires_grad_(False)
        refused_by_all(model, numbers(3), "model changes its parameter 'layer.weight' when it is called")


def layer_drop(draw):
    return Function(lambda self, x: self.two(x if draw(self) else self.one(x).tanh()), one=nn.Linear(3, 3), two=nn.Linear(3, 1))


class TestChance:
    """Randomness that is not torch's global generator (cs249r_book pull request 1869)."""

    @pytest.mark.parametrize(
        "draw",
        [
            lambda self: random.random() < 0.01,
            lambda self: np.random.rand() < 0.01,  # noqa: NPY002
            lambda self: self.rng.random() < 0.01,
            lambda self: self.old.random_sample() < 0.01,
            lambda self: self.python.random() < 0.01,
            lambda self: torch.rand((), generator=self.generator) < 0.01,
            lambda self: torch.rand(()) < 0.01,
            lambda self: torch.empty(1).exponential_() < 0.01,
            lambda self: bool(torch.randperm(300)[0] == 0),
        ],
    )
    def test_layer_drop(self, draw):
        """That drops a layer once in a hundred calls, so that two calls mostly give the same."""
        model = layer_drop(draw).double()
        model.rng, model.old, model.python = np.random.default_rng(0), np.random.RandomState(0), random.Random(0)  # noqa: NPY002
        model.generator = torch.Generator().manual_seed(0)
        held = repr(model.rng.bit_generator.state), model.python.getstate(), model.generator.get_state()
        refused_by_all(model, numbers(3), r"model draws random numbers(, | in Function, ).* call model.eval\(\) first")
        assert (repr(model.rng.bit_generator.state), model.python.getstate()) == held[:2]
        assert torch.equal(model.generator.get_state(), held[2])

    @pytest.mark.parametrize("name", ["dropout", "dropout1d", "attention", "rrelu"])
    def test_operations_that_could_draw_and_do_not(self, name):
        """In eval mode torch's own say so by their arguments."""
        forwards = dict(
            dropout=lambda self, z: F.dropout(z, 0.5, training=self.training),
            dropout1d=lambda self, z: F.dropout1d(z, 0.5, training=self.training),
            attention=lambda self, z: F.scaled_dot_product_attention(*[z.view(1, 1, 2, 2)] * 3).view(1, 4),
            rrelu=lambda self, z: F.rrelu(z, training=self.training),
        )
        model = Function(lambda self, x: self.two(forwards[name](self, self.one(x))), one=nn.Linear(3, 4), two=nn.Linear(4, 1))
        with torch.no_grad():
            assert ln.implicit_regularizer(model.double().eval(), numbers(3), method="loop") > 0
        assert ln.implicit_regularizer(model, numbers(3)) > 0

    def test_draws_of_the_program_are_not_disturbed(self):
        torch.manual_seed(3)
        expected = torch.rand(4)
        model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1)).eval()
        torch.manual_seed(3)
        ln.implicit_regularizer(model, numbers(3).float())
        assert torch.equal(torch.rand(4), expected)


class TestForwardThatIsWrapped:
    """accelerate issue 1835, fairscale issue 816: a copy of the modules still runs the original, which is noticed."""

    def test_by_a_closure(self):
        model, x = net(), numbers(3)
        old = model.forward
        model.forward = lambda z: old(z)
        right_or_refused(model, x, ("ghost", "vmap"), "parameter '0.weight' is used (outside the call|through a reference)")

    def test_by_a_method(self):
        model, x = net(), numbers(3)
        model.forward = model.forward
        right_or_refused(model, x, (), "")


class TestCrosscheck:
    """One example of every result of a fast method is compared with the loop."""

    def test_weights_that_torch_reads_elsewhere(self, monkeypatch):
        """A patched F.linear whose slope by the weight is not that of a linear layer."""
        linear = F.linear

        class Halved(torch.autograd.Function):
            generate_vmap_rule = True

            @staticmethod
            def forward(w):
                return w * 1.0

            @staticmethod
            def setup_context(ctx, inputs, output):
                pass

            @staticmethod
            def backward(ctx, slope):
                return slope / 2

        monkeypatch.setattr(F, "linear", lambda a, weight, bias=None: linear(a, Halved.apply(weight), bias))
        model, x = net(), numbers(3)
        message = r"parameter '\d.weight' has the squared gradient norm .* by method 'ghost' .* by a loop of autograd"
        right_or_refused(model, x, ("ghost",), message)
