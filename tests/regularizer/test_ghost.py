"""What the ghost method covers, and what it refuses by name; beside the definition, layer by layer."""

import pytest
import torch
import torch.nn.functional as F
from architectures import Function, N, numbers, parameter
from plain import plain_loop
from torch import nn
from unchanged import assert_as_it_was, snapshot
from zoo import COVERED, WARNINGS, ZOO, specimen

import labelnoise_utils as ln
from labelnoise_utils.regularizer import NotCoveredError
from labelnoise_utils.regularizer.rules import RULES, squares, wide

pytestmark = WARNINGS


def assert_exact(model, x):
    expected = plain_loop(model, x)[0]
    torch.testing.assert_close(ln.per_example_sq_norms(model, x, method="ghost"), expected, rtol=1e-10, atol=0)


def assert_refused(model, x, message):
    """By "ghost" and the model as it was; "auto" is right."""
    before = snapshot(model)
    with pytest.raises(NotCoveredError, match=message):
        ln.implicit_regularizer(model, x, method="ghost")
    assert_as_it_was(model, before)
    torch.testing.assert_close(ln.per_example_sq_norms(model, x), plain_loop(model, x)[0], rtol=1e-10, atol=0)


def test_every_rule_is_in_the_zoo():
    """SyncBatchNorm computes as BatchNorm does in eval mode, but on one machine torch refuses it a CPU."""
    met = {type(layer) for name in COVERED for layer in specimen(name)[0].modules()}
    assert met >= {*RULES} - {nn.SyncBatchNorm}
    assert RULES[nn.SyncBatchNorm] is RULES[nn.BatchNorm1d]


@pytest.mark.parametrize("name", COVERED)
def test_auto_takes_it_where_it_covers(monkeypatch, name):
    model, x = specimen(name)
    expected = ln.implicit_regularizer(model, x, method="ghost")

    def fails(*args):
        raise AssertionError("not the first choice")

    monkeypatch.setattr("labelnoise_utils.regularizer.exact.vmap_sq_norms", fails)
    monkeypatch.setattr("labelnoise_utils.regularizer.exact.loop_sq_norms", fails)
    assert torch.equal(ln.implicit_regularizer(model, x), expected)


@pytest.mark.parametrize("gradient", [True, False])
def test_costs_one_pass_for_each_output(monkeypatch, gradient):
    """Whatever the number of examples; and for one example before a call of the model, and the passes of the loop."""
    calls, passes = [], []
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model.register_forward_pre_hook(lambda model, args: calls.append(args[0].shape))
    grad = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *args, **kwargs: passes.append(args) or grad(*args, **kwargs))
    with torch.set_grad_enabled(gradient):
        ln.implicit_regularizer(model, torch.zeros(100, 3), method="ghost")
    assert calls == [(1, 3)] * 2
    # The loop's for the check goes on to the parameters, the others stop at what comes out of the two layers.
    assert [len(arguments[1]) for arguments in passes] == [4, 4, 2, 2]


class TestBothWaysToANorm:
    """For few positions by the products of all pairs, for many by the sum itself."""

    @pytest.mark.parametrize("positions", [1, 2, 3, 5, 8, 13, 40])
    @pytest.mark.parametrize("widths", [(1, 1), (2, 9), (9, 2), (7, 8)])
    def test_linear_layer(self, positions, widths):
        layer = nn.Linear(*widths).double()
        model = Function(lambda self, x: self.layer(x).tanh().sum(dim=(1, 2)), layer=layer)
        assert_exact(model, numbers(positions, widths[0]))

    @pytest.mark.parametrize("groups", [1, 2])
    @pytest.mark.parametrize("size", [4, 6, 14])
    @pytest.mark.parametrize("kernel", [1, 3, 4])
    def test_convolution(self, kernel, size, groups):
        layer = nn.Conv1d(4, 6, kernel, groups=groups).double()
        model = Function(lambda self, x: self.layer(x).tanh().sum(dim=(1, 2)), layer=layer)
        assert_exact(model, numbers(4, size))

    @pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 3)])
    def test_linear_layer_on_any_number_of_dimensions(self, shape):
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Flatten()).double()
        assert_exact(model, numbers(*shape))


OPTIONS = [
    dict(stride=2),
    dict(stride=3, padding=2),
    dict(dilation=2),
    dict(padding=1, dilation=2, stride=2),
    dict(groups=2, stride=2, padding=1),
    dict(groups=4, bias=False),
    dict(padding="same"),
    dict(padding="same", dilation=3),
    dict(padding="valid", stride=2),
    dict(padding=2, padding_mode="reflect", stride=2),
    dict(padding=2, padding_mode="circular", groups=2),
    dict(padding="same", padding_mode="replicate", dilation=2),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind, size", [(nn.Conv1d, (9,)), (nn.Conv2d, (7, 8)), (nn.Conv3d, (7, 5, 6))])
def test_options_of_convolutions(kind, size, options):
    """Some of them leave out the last places of the input. With other kernel sizes along other dimensions."""
    if kind is nn.Conv3d and options.get("dilation") == 3:
        options = options | dict(dilation=2)
    model = Function(
        lambda self, x: self.layer(x).tanh().flatten(1).sum(dim=1), layer=kind(4, 8, (2, 3, 1)[: len(size)], **options)
    ).double()
    assert_exact(model, numbers(4, *size))


@pytest.mark.parametrize("padding_idx", [None, 0, 2, -1])
@pytest.mark.parametrize("sparse", [False, True])
def test_embedding_of_tokens_that_come_more_than_once(padding_idx, sparse):
    layer = nn.Embedding(4, 3, padding_idx=padding_idx, sparse=sparse).double()
    model = Function(lambda self, x: self.layer(x).cumsum(dim=1).sin().sum(dim=(1, 2)), layer=layer)
    x = torch.tensor([[0, 0, 0], [2, 2, 1], [3, 0, 3], [1, 2, 3], [2, 2, 2]])
    assert_exact(model, x)
    if padding_idx == 2:
        assert ln.per_example_sq_norms(model, x, method="ghost")[4] == 0


@pytest.mark.parametrize(
    "layer, shape",
    [
        (nn.LayerNorm(4), (4,)),
        (nn.LayerNorm(4, eps=0.1), (3, 4)),
        (nn.LayerNorm((3, 4), bias=False), (2, 3, 4)),
        (nn.RMSNorm(4), (3, 4)),
        (nn.RMSNorm((3, 4), eps=0.1), (3, 4)),
        (nn.GroupNorm(2, 4, eps=0.1), (4,)),
        (nn.GroupNorm(4, 4), (4, 3)),
        (nn.GroupNorm(1, 4), (4, 3, 2)),
        (nn.BatchNorm1d(4, eps=0.1), (4,)),
        (nn.BatchNorm1d(4), (4, 3)),
        (nn.BatchNorm2d(4), (4, 3, 2)),
        (nn.BatchNorm3d(4), (4, 3, 2, 2)),
    ],
    ids=str,
)
def test_normalisation(layer, shape):
    """With weights and statistics that are not 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for values in layer.double().state_dict().values():
            if values.is_floating_point():
                values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
    model = Function(lambda self, x: self.layer(x).sin().flatten(1).sum(dim=1), layer=layer).eval()
    assert_exact(model, numbers(*shape))
    for p in layer.parameters():
        p.requires_grad_(False)
        if any(q.requires_grad for q in layer.parameters()):
            assert_exact(model, numbers(*shape))
        p.requires_grad_(True)


class Unruled(nn.Linear):
    """A subclass that does not even change anything."""


class TestRefusedByName:
    """With the reason; that "auto" is then right, test_regularizer has for every model of the zoo."""

    @pytest.mark.parametrize("name", [name for name, what in ZOO.items() if what.ghost and "method" not in what.ghost])
    def test_error(self, name):
        model, x = specimen(name)
        with pytest.raises(NotCoveredError, match="^parameter '[a-z0-9_.]+' (belongs to|is) "):
            ln.implicit_regularizer(model, x, method="ghost")

    def test_only_trainable_parameters_need_a_rule(self):
        """Here the attention, which has none, is frozen: then the rest is covered, and no longer once it is not."""
        layer = nn.TransformerEncoderLayer(4, 2, 5, batch_first=True).double().eval()
        model, x = Function(lambda self, x: self.layer(x).sum(dim=1), layer=layer), numbers(3, 4)
        layer.self_attn.requires_grad_(False)
        assert_exact(model, x)
        layer.self_attn.out_proj.bias.requires_grad_(True)
        message = "parameter 'layer.self_attn.out_proj.bias' belongs to NonDynamicallyQuantizableLinear, which has no rule"
        assert_refused(model, x, message)

    def test_subclass(self):
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), Unruled(4, 2)).double()
        assert_refused(model, numbers(3), "parameter '2.weight' belongs to Unruled, which has no rule")
        model[2].requires_grad_(False)
        assert_exact(model, numbers(3))

    def test_parameter_that_the_layer_does_not_have(self):
        model = nn.Sequential(nn.Linear(3, 2)).double()
        model[0].scale = parameter(2)
        assert_refused(model, numbers(3), "parameter '0.scale' belongs to Linear, which has no rule")

    def test_bias_that_is_shared(self):
        model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)).double()
        model[2].bias = model[0].bias
        assert_refused(model, numbers(3), "parameter '0.bias' is shared: it is '2.bias' too")
        model[0].bias.requires_grad_(False)
        assert_exact(model, numbers(3))

    def test_parameter_that_the_model_holds_itself_too(self):
        model = Function(lambda self, x: self.layer(x) + self.same.sum(), layer=nn.Linear(3, 2)).double()
        model.same = model.layer.weight
        assert_refused(model, numbers(3), "parameter 'same' belongs to Function, which has no rule")

    def test_called_by_one_example_alone(self):
        """What the first example does says nothing of the others."""
        model = Function(
            lambda self, x: self.one(x) if x[0, 0] > 0 else self.two(x), one=nn.Linear(3, 2), two=nn.Linear(3, 2)
        ).double()
        x = numbers(3)
        assert (x[:, 0] > 0).any() and (x[:, 0] <= 0).any()
        with pytest.raises(ValueError, match="data-dependent"):
            ln.implicit_regularizer(model, x, method="ghost")
        torch.testing.assert_close(ln.per_example_sq_norms(model, x), plain_loop(model, x)[0], rtol=1e-10, atol=0)

    @pytest.mark.parametrize("gradient", [True, False])
    @pytest.mark.parametrize(
        "use",
        [
            lambda self, x: F.linear(x, self.layer.weight.T),
            lambda self, x: (self.layer.weight**2).sum(),
            lambda self, x: self.layer.weight.norm() * x.sum(dim=1, keepdim=True),
            lambda self, x: self.layer.forward(x),
            lambda self, x: self.layer.bias,
            lambda self, x: nn.utils.parameters_to_vector(self.parameters()).sum(),
            lambda self, x: next(self.layer.parameters()).mT.sum(),
            lambda self, x: torch.func.functional_call(self.layer, {"bias": torch.zeros(3).double()}, (x,)),
        ],
    )
    def test_used_outside_the_call(self, use, gradient):
        """Before and after it."""
        for forward in (lambda self, x: self.layer(x).sin() + use(self, x), lambda self, x: use(self, x) + self.layer(x).sin()):
            model, x = Function(forward, layer=nn.Linear(3, 3)).double(), numbers(3)
            with torch.set_grad_enabled(gradient), pytest.raises(NotCoveredError, match="parameter 'layer.(weight|bias)' "):
                ln.implicit_regularizer(model, x, method="ghost")
            torch.testing.assert_close(ln.per_example_sq_norms(model, x), plain_loop(model, x)[0], rtol=1e-10, atol=0)

    def test_used_outside_without_a_gradient(self):
        """Is no use."""
        model = Function(lambda self, x: self.layer(x).sin() * self.layer.weight.detach().norm(), layer=nn.Linear(3, 2))
        assert_exact(model.double(), numbers(3))

    @pytest.mark.parametrize("layer", [nn.Linear(3, 3), nn.LayerNorm(3)], ids=str)
    def test_input_that_is_changed_in_place_after_the_call(self, layer):
        """Autograd has no gradient of such a model; ghost, which has no use for what autograd keeps, would give a wrong one."""

        def forward(self, x):
            x = x.clone()
            z = self.layer(x)
            x.mul_(3)
            return z.tanh() + x

        model = Function(forward, layer=layer).double()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            plain_loop(model, numbers(3))
        for method in ("ghost", "auto"):
            with pytest.raises((ValueError, RuntimeError), match="modified by an inplace operation"):
                ln.implicit_regularizer(model, numbers(3), method=method)

    def test_layer_with_a_rule_that_fails(self):
        """An error of torch becomes one that says which method it was."""
        model = nn.Sequential(nn.Linear(3, 0), nn.Linear(0, 2)).double()
        with pytest.raises(ValueError, match="method 'ghost' fails on the model: cannot reshape tensor of 0 elements"):
            ln.implicit_regularizer(model, numbers(3), method="ghost")


class TestNoShare:
    """For the parameters of a layer that h does not depend on."""

    @pytest.mark.parametrize("name", ["layer never called", "layer without gradient", "layer detached"])
    @pytest.mark.parametrize("gradient", [True, False])
    def test_is_zero(self, name, gradient):
        model, x = specimen(name)
        idle = "idle" if hasattr(model, "idle") else "behind"
        with torch.set_grad_enabled(gradient):
            shares = ln.regularizer_by_parameter(model, x, method="ghost")
        assert shares[f"{idle}.weight"] == shares[f"{idle}.bias"] == 0
        assert sum(share > 0 for share in shares.values()) == 2

    def test_of_a_constant(self):
        model = Function(lambda self, x: torch.ones_like(x), layer=nn.Linear(3, 2)).double()
        reg = ln.implicit_regularizer(model, numbers(3), method="ghost")
        assert reg == 0 and reg.dtype == torch.float64


@pytest.mark.parametrize("name", ["centred over the batch", "summed along the batch", "batch norm of the batch"])
def test_what_mixes_the_batch_is_asked_for_one_example(name):
    """By definition h(x_i) is what the model computes for x[i:i+1], which here is not row i of what it computes for x."""
    model, x = specimen(name)
    assert not torch.allclose(model(x), torch.cat([model(x_i) for x_i in x.split(1)]), rtol=0.01)
    assert_exact(model, x)


def test_dtypes_that_cannot_hold_the_squares():
    for dtype in (torch.float16, torch.bfloat16):
        values = torch.full((2, 3), 300.0, dtype=dtype)
        assert squares(values).tolist() == [270000, 270000]
        assert wide(values).dtype == torch.float32
    values = torch.tensor([[3 + 4j, 1j]])
    assert squares(values).tolist() == [26]
    assert wide(numbers(3)).dtype == torch.float64 and len(numbers(3)) == N


def test_hooks_on_all_modules_count():
    """They come before and after the forward function of a layer, as its own hooks do."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    x = numbers(3)
    plain = ln.implicit_regularizer(model, x)
    hook = nn.modules.module.register_module_forward_hook(
        lambda module, args, h: 2 * h if isinstance(module, nn.Linear) else None
    )
    try:
        assert_exact(model, x)
        assert ln.implicit_regularizer(model, x) > 2 * plain
    finally:
        hook.remove()
