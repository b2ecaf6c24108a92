"""Random networks of layers of every kind, ties, hooks, frozen parts, several inputs: all methods beside the plain loop."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations

import labelnoise_utils as ln

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")

WIDTH, LENGTH, N = 4, 3, 3


class Flat(nn.Module):
    """From features (b, WIDTH) to features, by one layer on sequences, pictures or the features themselves."""

    def __init__(self, kind, bias):
        super().__init__()
        self.kind = kind
        self.layer = LAYERS[kind](bias)
        self.add = kind in ("linear", "gelu", "attention")

    def forward(self, x):
        z = USES.get(self.kind, lambda layer, x: layer(x))(self.layer, x)
        return x + z if self.add else z


def batch_norm(bias):
    norm = nn.BatchNorm1d(WIDTH)
    with torch.no_grad():
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    return norm


class Scaled(nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(WIDTH) + 0.5)

    def forward(self, x):
        return self.scale * x


LAYERS = {
    "linear": lambda bias: nn.Linear(WIDTH, WIDTH, bias=bias),
    "tanh": lambda bias: nn.Tanh(),
    "gelu": lambda bias: nn.GELU(),
    "dropout": lambda bias: nn.Dropout(),
    "layer norm": lambda bias: nn.LayerNorm(WIDTH, eps=0.1),
    "rms norm": lambda bias: nn.RMSNorm(WIDTH, eps=0.1),
    "group norm": lambda bias: nn.GroupNorm(2, WIDTH, eps=0.1),
    "batch norm": batch_norm,
    "conv1d": lambda bias: nn.Conv1d(1, 2, 3, padding=1, stride=2, bias=bias),
    "conv2d": lambda bias: nn.Conv2d(1, 2, 2, padding=1, padding_mode="circular", groups=1, bias=bias),
    "tokens": lambda bias: nn.Linear(2, 2, bias=bias),
    "transposed": lambda bias: nn.ConvTranspose1d(1, 1, 3, padding=1, bias=bias),
    "scale": Scaled,
    "prelu": lambda bias: nn.PReLU(),
    "bilinear": lambda bias: nn.Bilinear(WIDTH, WIDTH, WIDTH, bias=bias),
    # Of the whole matrix: by rows, torch's own second derivatives are wrong, and so would be what it is compared with.
    "weight norm": lambda bias: parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH, bias=bias), dim=None),
    "attention": lambda bias: nn.MultiheadAttention(2, 1, bias=bias, batch_first=True),
    "gru": lambda bias: nn.GRU(2, 2, bias=bias, batch_first=True),
    "cell": lambda bias: nn.GRUCell(WIDTH, WIDTH, bias=bias),
}

USES = {
    "conv1d": lambda layer, x: layer(x[:, None]).flatten(1),
    "conv2d": lambda layer, x: layer(x.view(-1, 1, 2, 2)).flatten(2)[:, :, :2].flatten(1),
    "tokens": lambda layer, x: layer(x.view(-1, 2, 2)).flatten(1),
    "transposed": lambda layer, x: layer(x[:, None])[:, 0],
    "bilinear": lambda layer, x: layer(x, x.cos()),
    "attention": lambda layer, x: layer(*[x.view(-1, 2, 2)] * 3)[0].flatten(1),
    "gru": lambda layer, x: layer(x.view(-1, 2, 2))[0].flatten(1),
}


class Net(nn.Module):
    """Layers one after the other; what else happens is in ``extras``."""

    def __init__(self, kinds, bias, outputs, extras):
        super().__init__()
        self.token = nn.Embedding(5, WIDTH)
        self.layers = nn.ModuleList(Flat(kind, bias) for kind in kinds)
        self.out = nn.Linear(WIDTH, outputs)
        self.extras = extras

    def forward(self, x, tokens=None):
        if tokens is not None:
            x = x + self.token(tokens).tanh().sum(dim=1)
        for layer in self.layers:
            x = layer(x)
        if "twice" in self.extras:
            x = self.layers[0](x)
        if "outside" in self.extras:
            x = F.linear(x.sin(), self.out.weight[:1].expand(WIDTH, WIDTH))
        return self.out(x)


EXTRAS = ["twice", "outside", "tie", "frozen", "forward hook", "backward hook", "subset"]


@st.composite
def networks(draw):
    """A network, what is passed to it, and which of its parameters count."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    kinds = draw(st.lists(st.sampled_from([*LAYERS]), min_size=1, max_size=4))
    extras = draw(st.sets(st.sampled_from(EXTRAS), max_size=2))
    model = Net(kinds, draw(st.booleans()), draw(st.integers(1, 2)), extras)
    linear = [layer.layer for layer in model.layers if layer.kind == "linear"]
    if "tie" in extras and len(linear) > 1:
        linear[-1].weight = linear[0].weight
    if "frozen" in extras:
        for k, p in enumerate(model.layers.parameters()):
            p.requires_grad_(k % 2 == 1)
    if "forward hook" in extras:
        model.layers[-1].register_forward_hook(lambda layer, args, z: z.sin())
    if "backward hook" in extras:
        model.out.weight.register_hook(lambda g: g / 2)
    x = torch.randn(N, WIDTH)
    if draw(st.booleans()):
        x = (x, torch.randint(5, (N, LENGTH)))
    parameters = "out" if "subset" in extras else None
    return model.eval(), x, parameters


def loop(model, x, names):
    """Values and the gradient of their mean."""
    free = [p for name, p in model.named_parameters() if p.requires_grad and (names is None or name.split(".")[0] == names)]
    norms = []
    for i in range(N):
        x_i = tuple(part[i : i + 1] for part in x) if isinstance(x, tuple) else (x[i : i + 1],)
        slopes = [torch.autograd.grad(h, free, create_graph=True, materialize_grads=True) for h in model(*x_i).flatten()]
        norms.append(sum(g.square().sum() for of_h in slopes for g in of_h))
    norms = torch.stack(norms)
    return norms.detach(), gradient(norms, model)


def gradient(norms, model):
    free = [p for p in model.parameters() if p.requires_grad]
    if not norms.requires_grad:
        return torch.zeros(sum(p.numel() for p in free), dtype=norms.dtype)
    return torch.cat([g.flatten() for g in torch.autograd.grad(norms.mean(), free, materialize_grads=True)])


def cast(x, dtype):
    return (x[0].to(dtype), x[1]) if isinstance(x, tuple) else x.to(dtype)


def compare(model, x, parameters, dtype, rtol):
    model, x = model.to(dtype), cast(x, dtype)
    norms, slopes = loop(model, x, parameters)
    taken = set()
    for method in ("auto", "ghost", "vmap"):
        try:
            measured = ln.per_example_sq_norms(model, x, method=method, parameters=parameters)
        except ln.NotCoveredError:
            assert method != "auto"
            continue
        except ValueError as error:
            assert method != "auto" and f"method '{method}' fails on the model" in str(error)
            continue
        taken.add(method)
        torch.testing.assert_close(measured.detach(), norms, rtol=rtol, atol=rtol * norms.max().item())
        torch.testing.assert_close(gradient(measured, model), slopes, rtol=rtol, atol=rtol * slopes.abs().max().item())
    return taken


FAST = dict(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[*HealthCheck],
    phases=[Phase.generate, Phase.shrink],
)


@settings(max_examples=1000, **FAST)
@given(networks())
def test_float64(network):
    compare(*network, torch.float64, 1e-9)


@settings(max_examples=300, **FAST)
@given(networks())
def test_float32(network):
    compare(*network, torch.float32, 1e-4)
