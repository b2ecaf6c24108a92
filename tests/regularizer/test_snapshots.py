"""Loss and reg at the snapshots of a run."""

import pytest
import torch
from architectures import N
from plain import flat, plain_loop
from torch import nn
from unchanged import assert_as_it_was, snapshot
from zoo import WARNINGS, specimen

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
