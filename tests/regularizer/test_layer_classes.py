"""Every layer class of torch.nn: exact, or refused by name."""

import functools
import inspect
import re

import pytest
import torch
from architectures import Function, numbers
from plain import assert_gradients_close, gradient_of, plain_loop
from repository import ROOT
from torch import nn

import labelnoise_utils as ln
from labelnoise_utils.regularizer import ghost

METHODS = ("ghost", "vmap", "loop")

pytestmark = [
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
    pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning"),
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*is deprecated.*"),
]

SHAPES = {"0d": (8,), "1d": (4, 8), "2d": (4, 6, 6), "3d": (2, 4, 4, 4)}

# Between two linear layers, on inputs of a shape.
SIMPLE = {
    "0d": "CELU ELU GELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh Identity LeakyReLU LogSigmoid LogSoftmax Mish PReLU"
    " RReLU ReLU ReLU6 SELU SiLU Sigmoid Softmax Softmin Softplus Softshrink Softsign Tanh Tanhshrink Dropout AlphaDropout"
    " Flatten FeatureAlphaDropout Sequential",
    "1d": "Dropout1d",
    "2d": "Dropout2d Softmax2d",
    "3d": "Dropout3d",
}
ARGUMENTS = {
    "0d": dict(
        Linear=(8, 5),
        LazyLinear=(5,),
        LayerNorm=(8,),
        RMSNorm=(8,),
        GroupNorm=(2, 8),
        BatchNorm1d=(8,),
        LazyBatchNorm1d=(),
        Threshold=(0.1, 0.2),
        Unflatten=(1, (2, 4)),
    ),
    "1d": dict(
        Conv1d=(4, 3, 2),
        LazyConv1d=(3, 2),
        ConvTranspose1d=(4, 3, 2),
        LazyConvTranspose1d=(3, 2),
        AvgPool1d=(2,),
        MaxPool1d=(2,),
        LPPool1d=(2, 2),
        AdaptiveAvgPool1d=(3,),
        AdaptiveMaxPool1d=(3,),
        CircularPad1d=(1,),
        ConstantPad1d=(1, 2.0),
        ReflectionPad1d=(1,),
        ReplicationPad1d=(1,),
        ZeroPad1d=(1,),
        LocalResponseNorm=(2,),
        Upsample=(None, 2),
        InstanceNorm1d=(4, 1e-5, 0.1, True, True),
        LazyInstanceNorm1d=(1e-5, 0.1, True, True),
    ),
    "2d": dict(
        Conv2d=(4, 3, 2),
        LazyConv2d=(3, 2),
        ConvTranspose2d=(4, 3, 2),
        LazyConvTranspose2d=(3, 2),
        AvgPool2d=(2,),
        MaxPool2d=(2,),
        LPPool2d=(2, 2),
        AdaptiveAvgPool2d=(3,),
        AdaptiveMaxPool2d=(3,),
        CircularPad2d=(1,),
        ConstantPad2d=(1, 2.0),
        ReflectionPad2d=(1,),
        ReplicationPad2d=(1,),
        ZeroPad2d=(1,),
        ChannelShuffle=(2,),
        PixelShuffle=(2,),
        PixelUnshuffle=(2,),
        Unfold=(2,),
        UpsamplingBilinear2d=(None, 2),
        UpsamplingNearest2d=(None, 2),
        BatchNorm2d=(4,),
        LazyBatchNorm2d=(),
        InstanceNorm2d=(4, 1e-5, 0.1, True, True),
        LazyInstanceNorm2d=(1e-5, 0.1, True, True),
        CrossMapLRN2d=(2,),
        FractionalMaxPool2d=(2, 3),
    ),
    "3d": dict(
        Conv3d=(2, 3, 2),
        LazyConv3d=(3, 2),
        ConvTranspose3d=(2, 3, 2),
        LazyConvTranspose3d=(3, 2),
        AvgPool3d=(2,),
        MaxPool3d=(2,),
        LPPool3d=(2, 2),
        AdaptiveAvgPool3d=(2,),
        AdaptiveMaxPool3d=(2,),
        CircularPad3d=(1,),
        ConstantPad3d=(1, 2.0),
        ReflectionPad3d=(1,),
        ReplicationPad3d=(1,),
        ZeroPad3d=(1,),
        BatchNorm3d=(2,),
        LazyBatchNorm3d=(),
        InstanceNorm3d=(2, 1e-5, 0.1, True, True),
        LazyInstanceNorm3d=(1e-5, 0.1, True, True),
        FractionalMaxPool3d=(2, 2),
    ),
}


def around(layer, shape, use=None):
    """Linear, the layer, tanh, linear; by ``use`` the layer is called in another way."""
    use = use or (lambda layer, z: layer(z))
    first = nn.Linear(shape[-1], shape[-1])
    layer.eval()
    with torch.random.fork_rng(), torch.no_grad():
        z = use(layer, first(numbers(*shape).float()))
    z = z[0] if isinstance(z, tuple) else z

    def forward(self, x):
        z = use(self.layer, self.first(x))
        return self.out((z[0] if isinstance(z, tuple) else z).tanh().flatten(1))

    return Function(forward, first=first, layer=layer, out=nn.Linear(z[0].numel(), 2)).eval(), numbers(*shape)


def tokens_in(layer):
    x = torch.arange(20).reshape(5, 4) % 7
    return Function(lambda self, x: self.out(self.layer(x).flatten(1).tanh()), layer=layer,
                    out=nn.LazyLinear(2)).eval(), x  # fmt: skip


def unpooled(d):
    pool = getattr(nn, f"MaxPool{d}d")(2, return_indices=True)
    return around(getattr(nn, f"MaxUnpool{d}d")(2), SHAPES[f"{d}d"], lambda layer, z: layer(*pool(z)))


def of_parts(parts, one, two):
    return around(parts, (8,), lambda parts, z: (z * parts[one]).tanh() * parts[two])


def halves():
    return nn.Parameter(torch.ones(8)), nn.Parameter(torch.ones(8) / 2)


OTHERS = {
    "Bilinear": lambda: around(nn.Bilinear(8, 8, 3), (8,), lambda layer, z: layer(z, z.sin())),
    "CosineSimilarity": lambda: around(nn.CosineSimilarity(), (4, 8), lambda layer, z: layer(z, z.sin())),
    "PairwiseDistance": lambda: around(nn.PairwiseDistance(), (4, 8), lambda layer, z: layer(z, z.sin())),
    "Embedding": lambda: tokens_in(nn.Embedding(7, 3)),
    "EmbeddingBag": lambda: tokens_in(nn.EmbeddingBag(7, 3)),
    "Fold": lambda: around(nn.Fold((3, 3), 2), (8, 4)),
    "MaxUnpool1d": lambda: unpooled(1),
    "MaxUnpool2d": lambda: unpooled(2),
    "MaxUnpool3d": lambda: unpooled(3),
    "RNNCell": lambda: around(nn.RNNCell(8, 3), (8,)),
    "GRUCell": lambda: around(nn.GRUCell(8, 3), (8,)),
    "LSTMCell": lambda: around(nn.LSTMCell(8, 3), (8,)),
    "RNN": lambda: around(nn.RNN(8, 3, batch_first=True), (4, 8)),
    "GRU": lambda: around(nn.GRU(8, 3, batch_first=True), (4, 8)),
    "LSTM": lambda: around(nn.LSTM(8, 3, batch_first=True), (4, 8)),
    "MultiheadAttention": lambda: around(
        nn.MultiheadAttention(8, 2, batch_first=True), (4, 8), lambda layer, z: layer(z, z, z)
    ),
    "TransformerEncoderLayer": lambda: around(nn.TransformerEncoderLayer(8, 2, 5, batch_first=True), (4, 8)),
    "TransformerDecoderLayer": lambda: around(
        nn.TransformerDecoderLayer(8, 2, 5, batch_first=True), (4, 8), lambda layer, z: layer(z, z.sin())
    ),
    "TransformerEncoder": lambda: around(
        nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 5, batch_first=True), 2), (4, 8)
    ),
    "TransformerDecoder": lambda: around(
        nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 5, batch_first=True), 2), (4, 8), lambda d, z: d(z, z.sin())
    ),
    "Transformer": lambda: around(nn.Transformer(8, 2, 1, 1, 5, batch_first=True), (4, 8), lambda t, z: t(z, z.sin())),
    "ParameterList": lambda: of_parts(nn.ParameterList(halves()), 0, 1),
    "ParameterDict": lambda: of_parts(nn.ParameterDict(zip("ab", halves(), strict=True)), "a", "b"),
    "ModuleList": lambda: around(nn.ModuleList([nn.Linear(8, 3)]), (8,), lambda layers, z: layers[0](z)),
    "ModuleDict": lambda: around(nn.ModuleDict({"a": nn.Linear(8, 3)}), (8,), lambda layers, z: layers["a"](z)),
    "DataParallel": lambda: around(nn.DataParallel(nn.Linear(8, 3)), (8,)),
    "SyncBatchNorm": None,  # computes as BatchNorm does in eval mode, but on one machine torch refuses it a CPU
}
# What is no layer: base classes, which compute nothing.
BASES = {"Container", "Module", "RNNBase", "RNNCellBase"}

EXAMPLES = {
    **{
        name: functools.partial(lambda name, shape, args: around(getattr(nn, name)(*args), shape), name, SHAPES[kind], args)
        for kind, of_kind in ARGUMENTS.items()
        for name, args in of_kind.items()
    },
    **{
        name: functools.partial(lambda name, shape: around(getattr(nn, name)(), shape), name, SHAPES[kind])
        for kind, names in SIMPLE.items()
        for name in names.split()
    },
    **{name: build for name, build in OTHERS.items() if build is not None},
}
EXAMPLES = {name: build for name, build in sorted(EXAMPLES.items()) if hasattr(nn, name)}


def built(name):
    torch.manual_seed(0)
    model, x = EXAMPLES[name]()
    if any(isinstance(p, nn.UninitializedParameter) for p in model.parameters()):
        model(x if not x.is_floating_point() else x.float())
    return model.double(), x


def how(name):
    """The first method that takes the class, or "refused"."""
    model, x = built(name)
    for method in METHODS:
        try:
            with torch.no_grad():
                ln.implicit_regularizer(model, x, method=method)
        except ValueError:
            continue
        return method
    return "refused"


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
    """Says what is true: each class by the first method that takes it."""
    page = (ROOT / "book" / "api.md").read_text("utf-8")
    table = {row[0]: set(row[1].split(", ")) for row in re.findall(r"^\| (ghost|vmap|loop|refused) +\| (.*?) *\|$", page, re.M)}
    measured = {}
    for name in EXAMPLES:
        measured.setdefault(how(name), set()).add(name)
    measured["ghost"].add("SyncBatchNorm")
    assert table == measured


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
