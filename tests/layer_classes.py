"""Every layer class of torch.nn in a small network, and which method of the regularizer takes it.

The tests compare each network with a plain loop of autograd; the build makes the table of the API page from it.
"""

import functools
import warnings

import torch
from architectures import Function, numbers
from torch import nn

import labelnoise_utils as ln

METHODS = ("ghost", "vmap", "loop")

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


def table():
    """For each method the classes that it is the first to take, and those that are refused, by name."""
    rows = {method: [] for method in (*METHODS, "refused")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in EXAMPLES:
            rows[how(name)].append(name)
    rows["ghost"].append("SyncBatchNorm")  # see OTHERS
    return {method: sorted(names) for method, names in rows.items()}
