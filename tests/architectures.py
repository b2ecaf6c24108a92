"""Modules of many kinds, from which the zoo is made: tied, frozen, hooked, written in place, used outside their layers."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

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


def through(function):
    """A linear layer, then the function."""
    return Function(lambda self, x: function(self.layer(x)), layer=nn.Linear(3, 2))


def numbers(*shape):
    return torch.randn(N, *shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


def tokens(length, kinds):
    """Each kind is there, some in one example more than once."""
    return torch.arange(N * length).reshape(N, length) ** 2 % kinds


def parameter(*shape, dtype=torch.float64):
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(9), dtype=dtype))


def mlp(outputs=2, dtype=torch.float64):
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, outputs)).to(dtype)


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


class Normalised(nn.Module):
    """With buffers and a frozen layer, as a residual network has them."""

    def __init__(self, seed=0, squash=torch.tanh):
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.norm, self.last = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)
        self.first.requires_grad_(False)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)
        self.squash = squash
        self.double().eval()

    def forward(self, z):
        return self.last(self.squash(self.norm(self.first(z))))


class Looking(nn.Module):
    """What torch.vmap cannot run, since it looks at its input."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x) if x.sum().item() < 1e9 else -self.inner(x)
