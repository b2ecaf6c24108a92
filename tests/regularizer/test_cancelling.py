"""Numbers that were wrong without a word in float32, where terms nearly cancel; and another default device."""

import copy
import subprocess
import sys

import pytest
import torch
from architectures import Function, numbers
from plain import plain_loop
from torch import nn

import labelnoise_utils as ln

METHODS = ["auto", "ghost", "vmap", "loop"]


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()


class TestNearCancelling:
    """Norms as sums of products of pairs cancel in float32 (private-transformers, fastDP)."""

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("scale", [1e-1, 1e-2, 1e-3])
    def test_convolution_of_nearly_equal_inputs(self, scale, method):
        torch.manual_seed(1)
        base = 1 + scale * torch.randn(4, 2, 12, dtype=torch.float64)
        layer = nn.Conv1d(2, 40, 5)
        model = Function(lambda self, x: self.layer(x).diff(dim=2).square().sum(dim=2).mean(dim=1), layer=layer).double()
        x = base.float()
        model = model.float()
        model.layer.bias.requires_grad_(False)
        measured = ln.per_example_sq_norms(model, x, method=method).double()
        exact = plain_loop(copy.deepcopy(model).double(), x.double())[0]
        torch.testing.assert_close(measured.detach(), exact, rtol=1e-3, atol=0)

    @pytest.mark.parametrize("method", METHODS)
    def test_difference_of_weighted_tokens(self, method):
        """Slopes that are exact in float32 and add up to nearly nothing: what is left is as exact as the inputs."""
        weights = torch.tensor([1.0, -1, 2, -2, 4, -4, 1, -1])
        layer = nn.Linear(64, 64)
        model = Function(lambda self, x: (weights.to(x.dtype)[:, None] * self.layer(x)).sum(dim=(1, 2)), layer=layer)
        torch.manual_seed(2)
        x = (torch.randn(4, 1, 64) + 1e-3 * torch.randn(4, 8, 64)).float()
        measured = ln.per_example_sq_norms(model, x, method=method, parameters="layer.weight").double()
        exact = plain_loop(_weight_only(model), x.double())[0]
        torch.testing.assert_close(measured.detach(), exact, rtol=1e-3, atol=0)

    @pytest.mark.parametrize("repeats", [1, 3, 8])
    def test_never_negative(self, repeats):
        """Where the exact value is 0: equal tokens under an output that is centred."""
        layer = nn.Linear(64, 64)
        model = Function(lambda self, x: (lambda z: z - z.mean(dim=1, keepdim=True))(self.layer(x)).sum(dim=1), layer=layer)
        x = torch.randn(4, 1, 64).expand(4, 8, 64) + 1e-7 * repeats * torch.randn(4, 8, 64)
        measured = ln.per_example_sq_norms(model, x, method="auto")
        assert (measured >= 0).all() and measured.max() < 1e-6

    def test_token_that_comes_again_with_the_opposite_slope(self):
        signs = torch.tensor([1.0, -1, 1, -1])
        layer = nn.Embedding(5, 16)
        model = Function(lambda self, x: (signs.to(self.layer.weight)[:, None] * self.layer(x)).sum(dim=(1, 2)), layer=layer)
        x = torch.tensor([[1, 1, 1, 1], [1, 1, 2, 2], [0, 1, 2, 3], [4, 1, 4, 1]])
        torch.testing.assert_close(
            ln.per_example_sq_norms(model, x, method="ghost"), torch.tensor([0.0, 0, 64, 128]), rtol=1e-6, atol=0
        )

    def test_gradient_where_it_is_small(self):
        """The other way to the norm can be differentiated as well."""
        weights = torch.tensor([1.0, -1, 2, -2], dtype=torch.float64)
        layer = nn.Linear(32, 32).double()
        model = Function(lambda self, x: (weights[:, None] * self.layer(x).tanh()).sum(dim=(1, 2)), layer=layer)
        x = numbers(1, 32) + 1e-3 * numbers(4, 32)
        by_ghost, by_loop = (ln.implicit_regularizer(model, x, method=method) for method in ("ghost", "loop"))
        torch.testing.assert_close(by_ghost, by_loop, rtol=1e-8, atol=0)
        for one, other in zip(*(torch.autograd.grad(reg, layer.parameters()) for reg in (by_ghost, by_loop)), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9 * other.abs().max().item())


def _weight_only(model):
    model = copy.deepcopy(model).double()
    model.layer.bias.requires_grad_(False)
    return model


def test_default_device_of_another_kind():
    """small-text issue 2; in a process of its own, as the setting is global."""
    code = """
import torch, labelnoise_utils as ln
model, x = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)), torch.randn(5, 3)
expected = [ln.per_example_sq_norms(model, x, method=m) for m in ("auto", "ghost", "vmap", "loop")]
torch.set_default_device("meta")
for m, norms in zip(("auto", "ghost", "vmap", "loop"), expected):
    assert torch.equal(ln.per_example_sq_norms(model, x, method=m), norms), m
    assert all(share.device.type == "cpu" for share in ln.regularizer_by_parameter(model, x, method=m).values())
assert ln.linearize(model, x).jacobian.device.type == "cpu"
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
