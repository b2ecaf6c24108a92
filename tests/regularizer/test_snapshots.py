"""Loss and reg at the snapshots of a run."""

import pytest
import torch
from architectures import N
from cases import MODELS, random_data
from plain import flat, plain_loop
from torch import nn
from unchanged import assert_as_it_was, snapshot
from zoo import WARNINGS, specimen

import labelnoise_utils as ln
from labelnoise_utils.regularizer import snapshots
from labelnoise_utils.regularizer.snapshots import loss_and_reg

pytestmark = WARNINGS


@pytest.mark.parametrize("name", ["mlp of several outputs", "tied layers", "weight kept in a list", "gru"])
def test_loss_and_reg_at_many_parameters(name):
    """Also where torch.func cannot put other parameters into the model."""
    model, x = specimen(name)
    size = flat(model).numel()
    theta = torch.randn(3, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = torch.ones_like(model(x)).detach()
    before = snapshot(model)
    loss, reg = loss_and_reg(model, theta, x, y)
    assert_as_it_was(model, before)
    for k in range(3):
        nn.utils.vector_to_parameters(theta[k], model.parameters())
        assert loss[k].item() == pytest.approx((model(x) - y).square().sum().item() / N, rel=1e-12)
        assert reg[k].item() == pytest.approx(plain_loop(model, x)[0].mean().item(), rel=1e-10)


@pytest.mark.parametrize("chunk", [1, 100, 2**17])
@pytest.mark.parametrize("name", MODELS)
def test_the_books_models(name, chunk, monkeypatch):
    """Where they have a closed form and where not, in one piece and in many; of x and of other inputs."""
    model = MODELS[name](0)
    for room in ("mlp", "two_layer_relu", "two_layer_sigmoidal", "matrix_sensing"):
        monkeypatch.setattr(f"labelnoise_utils.models.{room}.NUMBERS_PER_CHUNK", chunk)
    (x, y), (probe, _) = random_data(model, 7, 0), random_data(model, 3, 1)
    theta = torch.randn(5, flat(model).numel(), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    loss, reg = loss_and_reg(model, theta, x, y)
    elsewhere = loss_and_reg(model, theta, x, y, reg_on=probe)
    torch.testing.assert_close(elsewhere[0], loss, rtol=1e-14, atol=0)
    for k in range(5):
        nn.utils.vector_to_parameters(theta[k], model.parameters())
        assert loss[k].item() == pytest.approx((model(x) - y).square().sum().item() / 7, rel=1e-12)
        assert reg[k].item() == pytest.approx(plain_loop(model, x)[0].mean().item(), rel=1e-12)
        assert elsewhere[1][k].item() == pytest.approx(plain_loop(model, probe)[0].mean().item(), rel=1e-12)


def test_frozen_parameters_with_whole_gradients_and_without(monkeypatch):
    model = ln.MLP([3, 8, 6, 2], "tanh", bias_std=1.0)
    model.layers[1].weight.requires_grad_(False)
    x, y = random_data(model, 7, 0)
    theta = torch.randn(4, flat(model).numel(), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ways = []
    for most in (7 * theta.shape[1], 7 * theta.shape[1] - 1):
        monkeypatch.setattr(snapshots, "WHOLE_GRADIENTS", most)
        ways.append(loss_and_reg(model, theta, x, y))
    for one, other in zip(*ways, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)
        assert len(one.unique()) == 4
