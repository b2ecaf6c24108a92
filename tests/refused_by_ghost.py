"""Models that the ghost method refuses, each with what it says, and what "vmap" says where it refuses them too."""

import torch
import torch.nn.functional as F
from architectures import (
    FAILS,
    NO_RULE,
    OUTSIDE,
    Cube,
    Doubled,
    Function,
    Specimen,
    between,
    by_hand,
    cached_view,
    convolved,
    dense,
    forward_of_its_own,
    last_step,
    numbers,
    parameter,
    stepwise,
    tied_layers,
    trained,
    tries,
)
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

import labelnoise_utils as ln

REFUSED = {
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
        lambda: (Function(lambda self, x: self.layer.forward(x).tanh(), layer=nn.Linear(3, 2)), numbers(3)),
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
    # Of the whole matrix: by rows, autograd's own second derivatives are wrong; see test_norms.
    "weight norm": Specimen(
        lambda: (
            nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 4), dim=None), nn.Tanh(), nn.Linear(4, 2)),
            numbers(3),
        ),
        ghost="'0.bias' " + NO_RULE.format("ParametrizedLinear"),
    ),
    "weight norm, frozen bias": Specimen(
        lambda: (
            lambda layer: (layer.bias.requires_grad_(False), (nn.Sequential(layer, nn.Tanh(), nn.Linear(4, 2)), numbers(3)))[1]
        )(parametrizations.weight_norm(nn.Linear(3, 4), dim=None)),
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
        ghost="parameter 'one.weight' belongs to a layer that is called within a transform of torch.func",
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
        ghost=FAILS + "|puts a hook on a tensor",  # that of torch 2.6
        vmap=FAILS + "|puts a hook on a tensor",
    ),
    "written into zeros": Specimen(
        lambda: (Function(by_hand, layer=nn.Linear(3, 2)), numbers(3)),
        ghost=FAILS + "vmap: inplace",
        vmap=FAILS + "vmap: inplace",
    ),
}
