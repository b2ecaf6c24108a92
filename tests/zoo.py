"""Models of many kinds, each with what the fast methods of the regularizer say to it."""

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from architectures import (
    FAILS,
    Function,
    Specimen,
    added_in_place,
    between,
    convolved,
    dense,
    detour,
    frames,
    frozen_layers,
    hooked_layers,
    language_model,
    numbers,
    stepwise_out,
    tokens,
    trained,
    without_gradient,
)
from refused_by_ghost import REFUSED
from torch import nn

import labelnoise_utils as ln
from labelnoise_utils.regularizer import Method

METHODS = get_args(Method)

# Of torch, about some of the layers.
WARNINGS = [
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit.(script|trace)"),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning"),
    pytest.mark.filterwarnings("ignore:Initializing zero-element tensors:UserWarning"),
]


COVERED = {
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
}


ZOO = COVERED | REFUSED


def specimen(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)  # from which layers draw their initial parameters
        model, x = ZOO[name].build()
    return model.double(), x


def methods_for(name):
    """Those that cover the model."""
    return [method for method in METHODS if getattr(ZOO[name], method, None) is None]
