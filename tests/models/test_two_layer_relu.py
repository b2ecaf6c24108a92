"""The two-layer ReLU network is its formula."""

import numpy as np
import pytest
import torch
from cases import with_random_skip

import labelnoise_utils as ln
from labelnoise_utils.regularizer.snapshots import loss_and_reg


class TestTwoLayerReLU:
    @pytest.mark.parametrize("skip", [True, False])
    def test_formula(self, skip):
        model = ln.TwoLayerReLU(5, skip=skip, seed=1)
        if skip:
            with_random_skip(model, 0)
        x = torch.linspace(-2, 2, 9, dtype=torch.float64)
        for x_i, h_i in zip(x.tolist(), model(x).tolist(), strict=True):
            a, b, c = (p.tolist() for p in (model.a, model.b, model.c))
            h = sum(ci * max(0.0, ai * x_i + bi) for ai, bi, ci in zip(a, b, c, strict=True))
            if skip:
                h += model.a0.item() * x_i + model.b0.item()
            assert h_i == pytest.approx(h, abs=1e-12)

    def test_order_of_the_parameters(self):
        names = [name for name, _ in ln.TwoLayerReLU(3).named_parameters()]
        assert names == ["a", "b", "c", "a0", "b0"]
        assert [n for n, _ in ln.TwoLayerReLU(3, skip=False).named_parameters()] == names[:3]

    def test_initial_scales(self):
        """Within five standard errors of the variance of a normal."""
        m = 20_000
        model = ln.TwoLayerReLU(m, seed=0, input_std=3.0, output_std=0.5)
        for parameter, std in ((model.a, 3.0), (model.b, 3.0), (model.c, 0.5)):
            assert abs(parameter.square().mean() / std**2 - 1) < 5 * (2 / m) ** 0.5
        assert model.a0.item() == model.b0.item() == 0.0

    @pytest.mark.parametrize("x", [torch.zeros(3, 1), torch.zeros(())])
    def test_refuses_other_shapes(self, x):
        with pytest.raises(ValueError, match=r"x must have shape \(n,\), got"):
            ln.TwoLayerReLU(3)(x)


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("frozen", [(), ("b",), ("a", "c")])
def test_loss_and_reg_of_a_relu_network_in_closed_form(skip, frozen):
    """Beside the way that serves any module; with frozen parameters that one has to answer."""

    class Generic(ln.TwoLayerReLU):
        """The same formula, without the class's own way to reg."""

    models = [kind(9, skip=skip, seed=3) for kind in (ln.TwoLayerReLU, Generic)]
    x, y = (torch.from_numpy(v) for v in np.random.default_rng(0).normal(size=(2, 6)))
    for model in models:
        for name in frozen:
            model.get_parameter(name).requires_grad_(False)
    size = sum(p.numel() for p in models[0].parameters() if p.requires_grad)
    theta = torch.from_numpy(np.random.default_rng(1).normal(size=(4, size)))
    for found, expected in zip(*(loss_and_reg(model, theta, x, y) for model in models), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
        assert found.unique().numel() == 4
