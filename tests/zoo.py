"""Models of many kinds, each with what the fast methods of the regularizer say to it, and reg by nothing but autograd."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

import labelnoise_utils as ln

N = 5


class Function(nn.Module):
    """A module from its parts and a forward function."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.function = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


def numbers(*shape):
    return torch.randn(N, *shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


def tokens(length, kinds):
    """Each kind is there, some in one example more than once."""
    return torch.arange(N * length).reshape(N, length) ** 2 % kinds


def parameter(*shape, dtype=torch.float64):
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(9), dtype=dtype))


def trained(model, x):
    """With running statistics and power iterations that are not the initial ones."""
    model.double().train()
    with torch.no_grad():
        for _ in range(3):
            model(2 * x + 1)
    return model.eval(), x


def tied_layers():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), nn.Linear(3, 2)), numbers(3)


def frozen_layers():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    model[2].bias.requires_grad_(False)
    model[4].weight.requires_grad_(False)
    return model, numbers(3)


class Block(nn.Module):
    """Of a transformer, with causal attention, from linear layers."""

    def __init__(self, width):
        super().__init__()
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.into, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        heads = self.into(self.before_attention(x)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(*heads, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.before_mlp(x))))


def language_model():
    def forward(self, x):
        z = self.token(x) + self.position(torch.arange(x.shape[1]))
        return self.head(self.norm(self.blocks(z)).mean(dim=1))

    parts = dict(token=nn.Embedding(7, 4, padding_idx=1), position=nn.Embedding(6, 4), norm=nn.LayerNorm(4))
    return Function(forward, blocks=nn.Sequential(Block(4), Block(4)), head=nn.Linear(4, 3), **parts), tokens(6, 7)


def added_in_place(self, x):
    z = self.one(x)
    z += self.two(F.relu(self.norm(x), inplace=True))
    z[:, 0] *= 3
    return z.mul_(2).tanh()


def hooked_layers():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model[0].register_forward_pre_hook(lambda layer, args: (3 * args[0],))
    model[0].register_forward_hook(lambda layer, args, z: z**2)
    model[2].register_forward_hook(lambda layer, args, z: z.sin(), prepend=True)
    return model, numbers(3)


def frames():
    """Each example is several frames, which go through the convolution like examples of their own."""

    def forward(self, x):
        z = self.norm(self.convolution(x.reshape(-1, 2, 8))).tanh().mean(dim=-1)
        return self.out(z.reshape(len(x), -1))

    parts = dict(convolution=nn.Conv1d(2, 4, 3, groups=2), norm=nn.BatchNorm1d(4), out=nn.Linear(12, 2))
    return trained(Function(forward, **parts), numbers(3, 2, 8))


def detour(way):
    """Half of the model behind something that stops the gradient."""

    def forward(self, x):
        return self.out(x.tanh()) + way(self.behind, x)

    return Function(forward, behind=nn.Linear(3, 2), out=nn.Linear(3, 2)), numbers(3)


def without_gradient(layer, x):
    with torch.no_grad():
        return layer(x)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def forward_of_its_own():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model[0].forward = lambda x: F.linear(x, 2 * model[0].weight, model[0].bias)
    return model.double(), numbers(3)


def cached_view(through):
    def forward(self, x):
        return self.layer(x).tanh() @ self.kept[0]

    layer = nn.Linear(3, 3).double()
    return Function(forward, layer=layer, kept=[through(layer.weight)]), numbers(3)


class Cube(torch.autograd.Function):
    """Without a rule for vmap."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, slope):
        return slope * 3 * ctx.saved_tensors[0] ** 2


def by_hand(self, x):
    z = torch.zeros(len(x), 2, dtype=x.dtype)
    z[:, :] = self.layer(x)
    return z.tanh()


def tries(self, x):
    """What goes in is first too narrow."""
    try:
        self.layer(x[:, :2])
    except RuntimeError:
        return F.linear(x, self.layer.weight).tanh() + self.layer(x)


def stepwise(self, x):
    z = x.new_zeros(len(x), 3)
    for t in range(x.shape[1]):
        z = self.cell(x[:, t], z)
    return z


def stepwise_out(self, x):
    return self.out(stepwise(self, x))


def last_step(cell):
    return Function(lambda self, x: self.cell(x)[0][:, -1], cell=cell), numbers(4, 2)


def dense():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def between(function, *shape, out=2):
    """A linear layer, the function, another linear layer."""
    first = nn.Linear(shape[-1], shape[-1]).double()
    features = function(first(numbers(*shape)[:1])).numel()
    return (
        Function(
            lambda self, x: self.out(function(self.first(x)).reshape(len(x), -1)),
            first=first,
            out=nn.Linear(features, out),
        ),
        numbers(*shape),
    )


def convolved(*layers, shape):
    model = nn.Sequential(*layers, nn.Tanh(), nn.Flatten())
    features = model(numbers(*shape).float()).shape[1]
    return trained(nn.Sequential(*model, nn.Linear(features, 2)), numbers(*shape))


class Specimen(NamedTuple):
    """A model with its x, and what "ghost" and "vmap" say where they refuse it."""

    build: Callable
    ghost: str | None = None
    vmap: str | None = None


NO_RULE = "belongs to {}, which has no rule"
OUTSIDE = "parameter 'layer.weight' is used outside the call of its layer"
FAILS = "method '(ghost|vmap)' fails on the model: "

ZOO = {
    # What "ghost" covers.
    "mlp of several outputs": Specimen(lambda: (ln.MLP([3, 5, 4, 2], "tanh"), numbers(3))),
    "linear layers on sequences": Specimen(
        lambda: (nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2, bias=False), nn.Flatten()), numbers(3, 2))
    ),
    "linear layers on long sequences": Specimen(
        lambda: (nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1), nn.Flatten(), nn.Linear(20, 1)), numbers(4, 5, 2))
    ),
    "convolution, all options": Specimen(
        lambda: convolved(
            nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2),
            nn.GELU(),
            nn.Conv2d(6, 4, 3, stride=2, bias=False),
            shape=(4, 7, 6),
        )
    ),
    "convolution by channel": Specimen(
        lambda: convolved(nn.Conv2d(3, 6, 3, groups=3), nn.SiLU(), nn.Conv2d(6, 2, 1), nn.AvgPool2d(2), shape=(3, 6, 6))
    ),
    "convolution, same size": Specimen(
        lambda: convolved(nn.Conv1d(2, 3, 4, padding="same", dilation=2), nn.Tanh(), nn.Conv1d(3, 2, 3), shape=(2, 9))
    ),
    "convolution, valid": Specimen(
        lambda: convolved(nn.Conv1d(2, 3, 2, padding="valid", stride=2), nn.MaxPool1d(2), shape=(2, 9))
    ),
    "convolution, circular": Specimen(
        lambda: convolved(nn.Conv2d(2, 3, (3, 2), padding="same", padding_mode="circular", dilation=2), shape=(2, 5, 6))
    ),
    "convolution, reflected": Specimen(
        lambda: convolved(nn.Conv2d(2, 3, 3, padding=(2, 1), padding_mode="reflect", stride=2), shape=(2, 5, 6))
    ),
    "convolution, replicated": Specimen(
        lambda: convolved(nn.Conv1d(2, 3, 3, padding=2, padding_mode="replicate"), shape=(2, 5))
    ),
    "convolution, three dimensions": Specimen(
        lambda: convolved(nn.Conv3d(2, 4, 2, stride=(2, 1, 1), padding=(1, 0, 1), groups=2), shape=(2, 4, 3, 3))
    ),
    "convolution of one example without its dimension": Specimen(
        lambda: (
            Function(
                lambda self, x: self.out(self.convolution(x[0]).tanh().mean(1))[None],
                convolution=nn.Conv1d(6, 4, 3),
                out=nn.Linear(4, 2),
            ),
            numbers(6, 8),
        )
    ),
    "frames as examples": Specimen(frames),
    "transformer": Specimen(language_model),
    "residual, layer norm, in place": Specimen(
        lambda: (Function(added_in_place, one=nn.Linear(3, 3), two=nn.Linear(3, 3), norm=nn.LayerNorm(3)), numbers(3))
    ),
    "layer norm over two dimensions": Specimen(
        lambda: trained(
            nn.Sequential(nn.LayerNorm((3, 4), bias=False), nn.LayerNorm(4), nn.Flatten(), nn.Linear(12, 2)), numbers(3, 4)
        )
    ),
    "rms norm": Specimen(lambda: (nn.Sequential(nn.Linear(3, 6), nn.RMSNorm(6), nn.GELU(), nn.Linear(6, 1)), numbers(3))),
    "group norm": Specimen(lambda: convolved(nn.Conv1d(2, 4, 1), nn.GroupNorm(2, 4), shape=(2, 3))),
    "batch norm": Specimen(
        lambda: trained(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)), numbers(3))
    ),
    "batch norm of sequences": Specimen(lambda: convolved(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), shape=(2, 4))),
    "batch norm of pictures": Specimen(lambda: convolved(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), shape=(2, 4, 4))),
    "batch norm of volumes": Specimen(lambda: convolved(nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3), shape=(2, 3, 3, 3))),
    "frozen layers": Specimen(frozen_layers),
    "output of several dimensions": Specimen(
        lambda: (Function(lambda self, x: self.layer(x).reshape(-1, 2, 2), layer=nn.Linear(3, 4)), numbers(3))
    ),
    "output that one parameter does not reach": Specimen(
        lambda: (
            Function(lambda self, x: torch.cat([self.one(x), self.two(x)], 1), one=nn.Linear(3, 1), two=nn.Linear(3, 1)),
            numbers(3),
        )
    ),
    "embedding of tokens": Specimen(
        lambda: (
            Function(lambda self, x: self.out(self.embed(x).tanh().mean(1)), embed=nn.Embedding(7, 4), out=nn.Linear(4, 2)),
            tokens(6, 7),
        )
    ),
    "embedding, sparse, padding": Specimen(
        lambda: (
            Function(
                lambda self, x: self.out(self.embed(x).tanh().mean(1)),
                embed=nn.Embedding(7, 4, padding_idx=-3, sparse=True),
                out=nn.Linear(4, 2),
            ),
            tokens(6, 7),
        ),
        vmap=FAILS + "reshape is not implemented for sparse tensors",
    ),
    "dropout in eval mode": Specimen(
        lambda: (nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.ReLU(inplace=True), nn.Linear(4, 1)).eval(), numbers(3))
    ),
    "hooks that change what goes in and out": Specimen(hooked_layers),
    "layer called by keyword": Specimen(
        lambda: (Function(lambda self, x: self.layer(input=x).tanh(), layer=nn.Linear(3, 2)), numbers(3))
    ),
    "layer never called": Specimen(
        lambda: (Function(lambda self, x: self.layer(x).tanh(), layer=nn.Linear(3, 2), idle=nn.Linear(3, 2)), numbers(3))
    ),
    "layer without gradient": Specimen(lambda: detour(without_gradient)),
    "layer detached": Specimen(lambda: detour(lambda layer, x: layer(x).detach())),
    "traced by fx": Specimen(lambda: (torch.fx.symbolic_trace(dense()), numbers(3))),
    "frozen recurrent start": Specimen(
        lambda: (
            Function(stepwise_out, cell=nn.GRUCell(2, 3).requires_grad_(False), out=nn.Linear(3, 2)),
            numbers(4, 2),
        )
    ),
    "centred over the batch": Specimen(lambda: between(lambda z: (z - z.mean(dim=0)).cos() + z**2, 3)),
    "summed along the batch": Specimen(lambda: between(lambda z: z.cumsum(dim=0).tanh(), 3)),
    "batch norm of the batch": Specimen(lambda: between(lambda z: F.batch_norm(z, None, None, training=True) ** 3, 4, 5)),
    # What "ghost" refuses and "vmap" covers.
    "product": Specimen(lambda: (ln.Product(3.0, 4.0), numbers()), ghost="'u' " + NO_RULE.format("Product")),
    "two-layer relu": Specimen(lambda: (ln.TwoLayerReLU(6), numbers()), ghost="'a' " + NO_RULE.format("TwoLayerReLU")),
    "tied layers": Specimen(tied_layers, ghost="parameter '0.weight' is shared: it is '2.weight' too"),
    "tied autoencoder": Specimen(
        lambda: (
            Function(lambda self, x: F.linear(self.layer(x).tanh(), self.layer.weight.T), layer=nn.Linear(3, 2)),
            numbers(3),
        ),
        ghost=OUTSIDE,
    ),
    "penalty in the output": Specimen(
        lambda: (
            Function(lambda self, x: self.layer(x).tanh() + (self.layer.weight**2).sum(), layer=nn.Linear(3, 2)),
            numbers(3),
        ),
        ghost=OUTSIDE,
    ),
    "forward called directly": Specimen(
        lambda: (Function(lambda self, x: self.layer.forward(x).tanh(), layer=nn.Linear(3, 2)), numbers(3))
    ),
    "layer whose first call fails": Specimen(lambda: (Function(tries, layer=nn.Linear(3, 3)), numbers(3)), ghost=OUTSIDE),
    "layer called twice": Specimen(
        lambda: (Function(lambda self, x: self.layer(self.layer(x).tanh()), layer=nn.Linear(3, 3)), numbers(3)),
        ghost="parameter 'layer.weight' belongs to a layer that is called more than once",
    ),
    "layer in two places": Specimen(
        lambda: (lambda layer: (nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(3, 1)), numbers(3)))(
            nn.Linear(3, 3)
        ),
        ghost="parameter '0.weight' belongs to a layer that is called more than once",
    ),
    "bare parameter": Specimen(
        lambda: (
            Function(
                lambda self, x: self.scale * self.layer(x)[:, 0] + self.shift,
                layer=nn.Linear(3, 1),
                scale=parameter(),
                shift=parameter(1),
            ),
            numbers(3),
        ),
        ghost="'scale' " + NO_RULE.format("Function"),
    ),
    "list of parameters": Specimen(
        lambda: (
            Function(
                lambda self, x: (x @ self.parts[0]).tanh() @ self.parts[1],
                parts=nn.ParameterList([parameter(3, 4), parameter(4, 2)]),
            ),
            numbers(3),
        ),
        ghost="'parts.0' " + NO_RULE.format("ParameterList"),
    ),
    "unused and empty parameters": Specimen(
        lambda: (
            Function(
                lambda self, x: self.layer(x) + self.none.sum(), layer=nn.Linear(3, 1), idle=parameter(4), none=parameter(0, 3)
            ),
            numbers(3),
        ),
        ghost="'idle' " + NO_RULE.format("Function"),
    ),
    "layer of no width": Specimen(
        lambda: (nn.Sequential(nn.Linear(3, 0), nn.Linear(0, 2)), numbers(3)),
        ghost=FAILS + "cannot reshape tensor of 0 elements",
    ),
    "subclass of a layer": Specimen(
        lambda: (nn.Sequential(Doubled(3, 4), nn.Tanh(), nn.Linear(4, 2)), numbers(3)), ghost=NO_RULE.format("Doubled")
    ),
    "layer with a forward of its own": Specimen(
        forward_of_its_own,
        ghost=NO_RULE.format("Linear"),
        vmap="parameter '0.weight' is used through a reference that is no attribute of a module",
    ),
    "weight norm": Specimen(
        lambda: (nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2)), numbers(3)),
        ghost="'0.bias' " + NO_RULE.format("ParametrizedLinear"),
    ),
    "weight norm, frozen bias": Specimen(
        lambda: (
            lambda layer: (layer.bias.requires_grad_(False), (nn.Sequential(layer, nn.Tanh(), nn.Linear(4, 2)), numbers(3)))[1]
        )(parametrizations.weight_norm(nn.Linear(3, 4))),
        ghost=NO_RULE.format("ParametrizationList"),
    ),
    "spectral norm": Specimen(
        lambda: trained(
            nn.Sequential(parametrizations.spectral_norm(nn.Linear(3, 4, bias=False)), nn.Tanh(), nn.Linear(4, 2)), numbers(3)
        ),
        ghost=NO_RULE.format("ParametrizationList"),
    ),
    "pruned": Specimen(
        lambda: (
            nn.Sequential(prune.l1_unstructured(nn.Linear(3, 4).double(), "weight", 3), nn.Tanh(), nn.Linear(4, 2)),
            numbers(3),
        ),
        ghost="'0.weight_orig' " + NO_RULE.format("Linear"),
    ),
    "attention": Specimen(
        lambda: (
            Function(
                lambda self, x: self.attend(x, x, x)[0].sum(dim=(1, 2)), attend=nn.MultiheadAttention(4, 2, batch_first=True)
            ),
            numbers(3, 4),
        ),
        ghost=NO_RULE.format("MultiheadAttention"),
    ),
    "transformer layer of torch": Specimen(
        lambda: (
            Function(
                lambda self, x: self.layer(x).sum(dim=1), layer=nn.TransformerEncoderLayer(4, 2, 5, batch_first=True)
            ).eval(),
            numbers(3, 4),
        ),
        ghost=NO_RULE.format("MultiheadAttention"),
    ),
    "recurrent cell": Specimen(
        lambda: (Function(stepwise, cell=nn.GRUCell(2, 3)), numbers(4, 2)), ghost=NO_RULE.format("GRUCell")
    ),
    "instance norm": Specimen(
        lambda: convolved(nn.Conv1d(2, 3, 2), nn.InstanceNorm1d(3, affine=True, track_running_stats=True), shape=(2, 4)),
        ghost=NO_RULE.format("InstanceNorm1d"),
    ),
    "transposed convolution, prelu": Specimen(
        lambda: convolved(nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1), nn.PReLU(3), shape=(2, 3, 3)),
        ghost=NO_RULE.format("ConvTranspose2d"),
    ),
    "bilinear": Specimen(
        lambda: (
            Function(lambda self, x: self.both(self.one(x), x).tanh(), one=nn.Linear(3, 4), both=nn.Bilinear(4, 3, 2)),
            numbers(3),
        ),
        ghost=NO_RULE.format("Bilinear"),
    ),
    "complex parameters": Specimen(
        lambda: (
            Function(
                lambda self, x: ((self.layer(x) * self.phase).sum(dim=1).abs() ** 2)[:, None],
                layer=nn.Linear(3, 4),
                phase=parameter(4, dtype=torch.complex128),
            ),
            numbers(3),
        ),
        ghost="'phase' " + NO_RULE.format("Function"),
    ),
    "complex layer": Specimen(
        lambda: (
            Function(
                lambda self, x: self.layer(x.to(torch.complex128)).abs() ** 2, layer=nn.Linear(3, 2, dtype=torch.complex128)
            ),
            numbers(3),
        ),
        ghost="parameter 'layer.weight' is complex",
    ),
    "gradient as output": Specimen(
        lambda: (
            Function(
                lambda self, x: torch.func.grad(lambda x: self.two(self.one(x).tanh()).sum())(x),
                one=nn.Linear(3, 4),
                two=nn.Linear(4, 1),
            ),
            numbers(3),
        ),
        ghost=FAILS,
    ),
    # What only the loop covers.
    "lstm": Specimen(
        lambda: last_step(nn.LSTM(2, 3, num_layers=2, bidirectional=True, proj_size=2, batch_first=True)),
        ghost=NO_RULE.format("LSTM"),
        vmap=FAILS + "Batching rule not implemented",
    ),
    "gru": Specimen(
        lambda: last_step(nn.GRU(2, 3, batch_first=True)),
        ghost=NO_RULE.format("GRU"),
        vmap=FAILS + "Batching rule not implemented",
    ),
    "scripted": Specimen(
        lambda: (torch.jit.script(dense()), numbers(3)),
        ghost=NO_RULE.format("RecursiveScriptModule"),
        vmap=FAILS + "The stateless API can't be used with Jitted modules",
    ),
    "traced by jit": Specimen(
        lambda: (torch.jit.trace(dense(), numbers(3)[:1]), numbers(3)),
        ghost=NO_RULE.format("TracedModule"),
        vmap=FAILS + "The stateless API can't be used with Jitted modules",
    ),
    "branch on the data": Specimen(
        lambda: (Function(lambda self, x: self.layer(x) * (2 if x.sum() > 0 else 3), layer=nn.Linear(3, 2)), numbers(3)),
        ghost=FAILS + ".*data-dependent control flow",
        vmap=FAILS + ".*data-dependent control flow",
    ),
    "expert by the data": Specimen(
        lambda: (
            Function(
                lambda self, x: self.experts[int(x.sum() > 0)](x), experts=nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])
            ),
            numbers(3),
        ),
        ghost=FAILS + ".*item",
        vmap=FAILS + ".*item",
    ),
    "view of a weight kept": Specimen(
        lambda: cached_view(lambda weight: weight.T),
        ghost=OUTSIDE,
        vmap="parameter 'layer.weight' is used through a reference that is no attribute of a module",
    ),
    "weight kept in a list": Specimen(
        lambda: cached_view(lambda weight: weight),
        ghost=OUTSIDE,
        vmap="parameter 'layer.weight' is used through a reference that is no attribute of a module",
    ),
    "function without a rule": Specimen(
        lambda: between(Cube.apply, 3), ghost=FAILS + ".*autograd.Function", vmap=FAILS + ".*autograd.Function"
    ),
    "checkpoint": Specimen(
        lambda: (
            Function(
                lambda self, x: self.out(checkpoint(lambda x: self.layer(x).tanh(), x, use_reentrant=False)),
                layer=nn.Linear(3, 3),
                out=nn.Linear(3, 2),
            ),
            numbers(3),
        ),
        ghost=FAILS,
        vmap=FAILS,
    ),
    "written into zeros": Specimen(
        lambda: (Function(by_hand, layer=nn.Linear(3, 2)), numbers(3)),
        ghost=FAILS + "vmap: inplace",
        vmap=FAILS + "vmap: inplace",
    ),
}


def specimen(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)  # from which layers draw their initial parameters
        model, x = ZOO[name].build()
    return model.double(), x


def plain_loop(model, x):
    """||grad h(x_i)||^2 and grad reg with nothing but autograd, an example and output at a time."""
    free = [p for p in model.parameters() if p.requires_grad]
    norms = []
    with sdpa_kernel(SDPBackend.MATH):  # which can be differentiated twice
        for i in range(len(x)):
            norm = torch.zeros((), dtype=torch.float64)
            for h in model(x[i : i + 1].clone()).flatten():
                for g in torch.autograd.grad(h, free, create_graph=True, materialize_grads=True):
                    norm = norm + g.to_dense().abs().square().sum()
            norms.append(norm)
    norms = torch.stack(norms)
    return norms.detach(), gradient_of(norms.mean(), free)


def gradient_of(reg, free):
    """Zeros where reg does not depend on a parameter, or on none."""
    if not reg.requires_grad:
        return [torch.zeros_like(p) for p in free]
    return [g.to_dense() for g in torch.autograd.grad(reg, free, materialize_grads=True)]


def assert_gradients_close(measured, expected, rtol=1e-10):
    """Relative to the largest entry of all."""
    scale = max(g.abs().max().item() for g in expected if g.numel())
    for one, other in zip(measured, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=rtol * scale)


def snapshot(model):
    """All that a call can leave behind in a module: values, objects, modes, hooks, gradients."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    kept = {name: (tensor, id(tensor), tensor.data_ptr()) for name, tensor in tensors.items()}
    flags = {name: (tensor.requires_grad, copy.deepcopy(tensor.grad)) for name, tensor in tensors.items()}
    values = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    attributes = [(name, module.training, dict(vars(module))) for name, module in model.named_modules()]
    # Dictionaries and the like by what they hold, and by the identity of it.
    shallow = [
        (name, training, {key: _frozen(value) for key, value in attributes.items()})
        for name, training, attributes in attributes
    ]
    return kept, flags, values, shallow


def _frozen(value):
    if isinstance(value, dict):
        return [(key, id(held)) for key, held in value.items()]
    return id(value)


def assert_as_it_was(model, before):
    kept, flags, values, shallow = snapshot(model)
    assert {name: rest for name, (_, *rest) in kept.items()} == {name: rest for name, (_, *rest) in before[0].items()}
    assert shallow == before[3]
    for name in values:
        assert torch.equal(values[name], before[2][name])
        for one, other in zip(flags[name], before[1][name], strict=True):
            assert one is other or torch.equal(one, other)
