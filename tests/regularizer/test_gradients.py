"""The regularizer is differentiable, and as exact as its numbers' type allows."""

import pytest
import torch
from architectures import Function, mlp, numbers, parameter
from plain import assert_gradients_close, gradient_of, plain_loop
from torch import nn
from zoo import METHODS, WARNINGS, specimen

import labelnoise_utils as ln

pytestmark = WARNINGS


class TestTypes:
    @pytest.mark.parametrize("method", METHODS)
    def test_float32(self, method):
        model, x = specimen("transformer")
        norms, gradient = plain_loop(model, x)
        model = model.float()
        measured = ln.per_example_sq_norms(model, x, method=method)
        assert measured.dtype == torch.float32
        torch.testing.assert_close(measured.double(), norms, rtol=1e-4, atol=0)
        measured = [g.double() for g in gradient_of(measured.mean(), list(model.parameters()))]
        assert_gradients_close(measured, gradient, rtol=1e-3)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision(self, dtype, method):
        """The result is float32, and as good as the gradients are."""
        model, x = mlp(dtype=dtype), numbers(3).to(dtype)
        exact, _ = plain_loop(model.double(), x.double())
        model = model.to(dtype)  # whose numbers were rounded before
        for measured in (ln.per_example_sq_norms(model, x, method=method), ln.implicit_regularizer(model, x, method=method)):
            assert measured.dtype == torch.float32
            assert measured.requires_grad
            expected = exact if measured.dim() else exact.mean()
            torch.testing.assert_close(measured.double(), expected, rtol=4 * torch.finfo(dtype).eps, atol=0)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_squares_beyond_the_range_of_half_precision(self, dtype, method):
        """300^2 is more than 65504, and 270001 has more digits than half precision."""
        model, x = nn.Linear(3, 1).to(dtype), torch.full((2, 3), 300.0, dtype=dtype)
        assert ln.per_example_sq_norms(model, x, method=method).tolist() == [270001, 270001]
        assert ln.implicit_regularizer(model, x, method=method).item() == 270001

    @pytest.mark.parametrize("method", METHODS)
    def test_half_precision_of_all_layers(self, method):
        """Of which each has an operation in float32 of its own."""
        model = nn.Sequential(
            nn.Conv1d(2, 4, 2), nn.GroupNorm(2, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Flatten(),
            nn.LayerNorm(12), nn.Linear(12, 2),
        )  # fmt: skip
        model, x = model.eval().bfloat16(), numbers(2, 4).bfloat16()
        expected = plain_loop(model.double(), x.double())[0].float()
        measured = ln.per_example_sq_norms(model.bfloat16(), x, method=method)
        torch.testing.assert_close(measured, expected, rtol=0.05, atol=0)

    def test_complex_parameters_are_pairs_of_real_ones(self):
        """h = |w|^2 |x|^2: the gradient by the real and by the imaginary part is 2 w |x|^2."""
        w = parameter(2, dtype=torch.complex128)
        model = Function(lambda self, x: (self.w.abs() ** 2).sum() * (x**2).sum(dim=1), w=w)
        x = numbers(3)
        expected = 4 * (w.abs() ** 2).sum() * (x**2).sum(dim=1) ** 2
        for method in ("auto", "vmap", "loop"):
            torch.testing.assert_close(ln.per_example_sq_norms(model, x, method=method), expected, rtol=1e-12, atol=0)

    @pytest.mark.parametrize("method", METHODS)
    def test_within_autocast(self, method):
        model, x = mlp(dtype=torch.float32), numbers(3).float()
        expected = ln.per_example_sq_norms(model, x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            measured = ln.per_example_sq_norms(model, x, method=method)
        assert not torch.equal(measured, expected)
        torch.testing.assert_close(measured, expected, rtol=0.02, atol=0)

    @pytest.mark.parametrize("method", METHODS)
    def test_within_autocast_that_has_seen_other_parameters(self, method):
        """Of which it keeps the rounded values."""
        model, x = mlp(dtype=torch.float32), numbers(3).float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            model(x)
            with torch.no_grad():
                model[0].weight.mul_(-3)
            measured = ln.per_example_sq_norms(model, x, method=method)
            assert torch.is_autocast_cache_enabled()
        torch.testing.assert_close(measured, ln.per_example_sq_norms(model, x), rtol=0.02, atol=0)


class TestGradient:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("grad", [True, False])
    def test_is_there_when_it_is_wanted(self, grad, method):
        model, x = specimen("rms norm")
        expected = ln.implicit_regularizer(model, x)
        with torch.set_grad_enabled(grad):
            reg = ln.implicit_regularizer(model, x, method=method)
        torch.testing.assert_close(reg, expected, rtol=1e-12, atol=0)
        assert reg.requires_grad == grad
        assert (reg.grad_fn is not None) == grad
        with torch.no_grad(), torch.enable_grad():
            assert ln.implicit_regularizer(model, x, method=method).requires_grad

    @pytest.mark.parametrize("method", METHODS)
    def test_in_inference_mode_the_value_is_the_same(self, method):
        """Where every gradient is missing, the sum of their squares would be 0."""
        model, x = specimen("rms norm")
        expected = ln.per_example_sq_norms(model, x).detach()
        with torch.inference_mode():
            x_within = x.clone()
            measured = [ln.per_example_sq_norms(model, part, method=method) for part in (x, x_within)]
            measured.append(sum(ln.regularizer_by_parameter(model, x, method=method).values()))
            assert torch.is_inference_mode_enabled()
        for norms in measured:
            assert not norms.requires_grad
        torch.testing.assert_close(measured, [expected, expected, expected.mean()], rtol=1e-12, atol=0)
        assert x_within.is_inference()
        reg = ln.implicit_regularizer(model, x_within, method=method)
        reg.backward()
        assert reg.item() == pytest.approx(expected.mean().item(), rel=1e-12)

    def test_model_made_in_inference_mode(self):
        with torch.inference_mode():
            model = nn.Linear(3, 1)
        with pytest.raises(ValueError, match="'weight' was made in torch.inference_mode"):
            ln.implicit_regularizer(model, torch.zeros(5, 3))

    @pytest.mark.parametrize("method", METHODS)
    def test_backward_adds_to_a_loss(self, method):
        """And once more, independent of the first call."""
        model, x = specimen("convolution, same size")
        free = list(model.parameters())
        of_loss = torch.autograd.grad(model(x).square().mean(), free)
        of_reg = plain_loop(model, x)[1]
        (model(x).square().mean() + 0.5 * ln.implicit_regularizer(model, x, method=method)).backward()
        expected = [a + 0.5 * b for a, b in zip(of_loss, of_reg, strict=True)]
        assert_gradients_close([p.grad for p in free], expected)
        first, second = (ln.implicit_regularizer(model, x, method=method) for _ in range(2))
        model.zero_grad(set_to_none=False)
        first.backward()
        assert_gradients_close([p.grad for p in free], of_reg)
        second.backward()
        assert_gradients_close([p.grad for p in free], [2 * g for g in of_reg])

    @pytest.mark.parametrize("method", METHODS)
    def test_gradcheck(self, method):
        """Against differences of values, by the parameters and by x."""
        model, x = mlp(), numbers(3)[:2].requires_grad_()
        inputs = (x, *model.parameters())
        assert torch.autograd.gradcheck(lambda x, *free: ln.implicit_regularizer(model, x, method=method), inputs)

    @pytest.mark.parametrize("name", ["transformer", "convolution, all options", "batch norm of pictures", "group norm"])
    def test_by_x(self, name):
        """The loop is plain autograd; tokens have no gradient, so there by what is embedded."""
        model, x = specimen(name)
        if not x.is_floating_point():
            model = nn.Sequential(model.blocks, model.norm, nn.Flatten(), nn.Linear(24, 2).double())
            x = numbers(6, 4)
        x.requires_grad_()
        of = [torch.autograd.grad(ln.implicit_regularizer(model, x, method=m), x)[0] for m in ("loop", "ghost", "vmap")]
        assert of[0].abs().max() > 1e-3
        assert_gradients_close(of[1:], [of[0]] * 2)

    @pytest.mark.parametrize("method", METHODS)
    def test_training_with_the_explicit_regularizer(self, method):
        """From a point of zero error, where the loss alone would move nothing."""
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 1)).double()
        x = numbers(3)
        y = model(x).detach()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        losses, regs = [], []
        for _ in range(40):
            reg = ln.implicit_regularizer(model, x, method=method)
            loss = (model(x) - y).square().mean()
            optimizer.zero_grad()
            (loss + 0.1 * reg).backward()
            optimizer.step()
            losses.append(loss.item())
            regs.append(reg.item())
        assert losses[0] == 0
        assert regs[-1] < 0.9 * regs[0]
        assert losses[-1] + 0.1 * regs[-1] < 0.1 * regs[0]
