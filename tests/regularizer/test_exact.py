"""The regularizer is exact for any module: against a plain autograd loop and closed forms."""

import math

import numpy as np
import pytest
import torch
from architectures import Function, N, numbers
from plain import assert_gradients_close, gradient_of, plain_loop
from torch import nn
from zoo import METHODS, WARNINGS, ZOO, methods_for, specimen

import labelnoise_utils as ln
from labelnoise_utils.regularizer import exact, ghost

pytestmark = WARNINGS


def test_the_methods_are_those_that_the_zoo_speaks_of():
    assert METHODS == ("auto", "ghost", "vmap", "loop")
    assert len(ZOO) >= 20


@pytest.mark.parametrize("name", ZOO)
def test_value_and_gradient_are_autograds(name):
    """And "ghost" and "vmap" cover what they should, and refuse the rest for the reason that they should."""
    model, x = specimen(name)
    norms, gradient = plain_loop(model, x)
    assert norms.max() > 0
    free = [p for p in model.parameters() if p.requires_grad]
    covering = methods_for(name)
    assert {"auto", "loop"} <= {*covering}
    for method in METHODS:
        if method not in covering:
            with pytest.raises(ValueError, match=getattr(ZOO[name], method)):
                ln.per_example_sq_norms(model, x, method=method)
            continue
        measured = ln.per_example_sq_norms(model, x, method=method)
        assert measured.shape == (N,)
        torch.testing.assert_close(measured, norms, rtol=1e-10, atol=0)
        reg = ln.implicit_regularizer(model, x, method=method)
        assert reg.shape == ()
        torch.testing.assert_close(reg, norms.mean(), rtol=1e-10, atol=0)
        assert_gradients_close(gradient_of(reg, free), gradient)
        with torch.no_grad():
            measured = ln.per_example_sq_norms(model, x, method=method)
        torch.testing.assert_close(measured, norms, rtol=1e-10, atol=0)
        assert not measured.requires_grad


CHUNKED = ["mlp of several outputs", "transformer", "frames as examples", "tied layers", "frozen layers"]


@pytest.mark.parametrize("chunk_size", [1, 2, 3, N, N + 7])
@pytest.mark.parametrize("name", CHUNKED)
def test_chunks_change_nothing(name, chunk_size):
    model, x = specimen(name)
    norms, gradient = plain_loop(model, x)
    free = [p for p in model.parameters() if p.requires_grad]
    for method in methods_for(name):
        measured = ln.per_example_sq_norms(model, x, method=method, chunk_size=chunk_size)
        torch.testing.assert_close(measured, norms, rtol=1e-12, atol=0)
        assert_gradients_close(gradient_of(measured.mean(), free), gradient)


@pytest.mark.parametrize("method", ["ghost", "vmap"])
def test_chunks_are_as_large_as_asked(monkeypatch, method):
    """By default so large that a chunk holds NUMBERS_PER_CHUNK numbers."""
    sizes = []
    limit = f"labelnoise_utils.regularizer.{dict(ghost='ghost', vmap='gradients')[method]}.NUMBERS_PER_CHUNK"
    original = ghost.h_and_norms
    monkeypatch.setattr(ghost, "h_and_norms", lambda h, chunk, *args: sizes.append(len(chunk)) or original(h, chunk, *args))
    # For an example the layer gives 1 number; its gradient has 4.
    model, x = nn.Linear(3, 1), torch.zeros(50, 3)
    ln.implicit_regularizer(model, x, method=method)
    assert sizes == [50]
    sizes.clear()
    ln.implicit_regularizer(model, x, method=method, chunk_size=7)
    assert sizes == [7] * 7 + [1]
    sizes.clear()
    monkeypatch.setattr(limit, 20 if method == "ghost" else 90)
    ln.implicit_regularizer(model, x, method=method)
    assert sizes == ([17, 17, 16] if method == "ghost" else [22, 22, 6])
    sizes.clear()
    monkeypatch.setattr(limit, 1)
    ln.implicit_regularizer(model, x, method=method)
    assert sizes == [1] * 50


@pytest.mark.parametrize("room", [7, 8])
def test_auto_takes_vmap_where_a_chunk_has_room_for_eight_examples(monkeypatch, room):
    """With fewer the loop is faster; here no layer has a rule."""
    model, x = specimen("list of parameters")
    expected = ln.implicit_regularizer(model, x, method="vmap" if room == 8 else "loop")
    monkeypatch.setattr(exact, "NUMBERS_PER_CHUNK", room * sum(p.numel() for p in model.parameters()))
    taken = []
    for way in ("vmap_sq_norms", "loop_sq_norms"):
        original = getattr(exact, way)
        monkeypatch.setattr(exact, way, lambda *args, way=way, original=original: taken.append(way) or original(*args))
    assert ln.implicit_regularizer(model, x).item() == pytest.approx(expected.item(), rel=1e-14)
    assert taken == ["vmap_sq_norms" if room == 8 else "loop_sq_norms"]


class MatrixSensing(nn.Module):
    """h = <A, U U^T>."""

    def __init__(self, u):
        super().__init__()
        self.u = nn.Parameter(u)

    def forward(self, a):
        return (a * (self.u @ self.u.T)).sum(dim=(1, 2))


class TestClosedForms:
    @pytest.mark.parametrize("u, v", [(3.0, 4.0), (0.0, 0.0), (-1.5, 0.25)])
    @pytest.mark.parametrize("method", ["auto", "vmap", "loop"])
    def test_product(self, u, v, method):
        """reg = u^2 + v^2, and its gradient is 2 u, 2 v."""
        model = ln.Product(u, v)
        reg = ln.implicit_regularizer(model, numbers(2), method=method)
        assert reg.item() == pytest.approx(u**2 + v**2, rel=1e-15)
        reg.backward()
        gradient = model.u.grad.item(), model.v.grad.item()
        assert gradient == pytest.approx((2 * u, 2 * v), rel=1e-15)

    @pytest.mark.parametrize("skip", [True, False])
    @pytest.mark.parametrize("on_kinks", [True, False])
    @pytest.mark.parametrize("seed", range(3))
    def test_two_layer_relu_is_equation_16(self, seed, on_kinks, skip):
        """R / n, with the indicator of a x + b > 0: a unit on its kink adds nothing."""
        rng = np.random.default_rng(seed)
        m, n = 30, 11
        a, b, c, x = (
            np.round(v) if on_kinks else v
            for v in (rng.normal(0, 1.5, m), rng.normal(0, 1.5, m), rng.normal(0, 2, m), rng.normal(0, 2, n))
        )
        z = np.outer(x, a) + b
        assert (z == 0).any() == on_kinks
        active = z > 0
        terms = (c * x[:, None] * active) ** 2 + (c * active) ** 2 + np.where(active, z, 0) ** 2
        total = terms.sum(axis=1) + (x**2 + 1 if skip else 0)
        model = ln.TwoLayerReLU(m, skip=skip)
        with torch.no_grad():
            for target, value in zip((model.a, model.b, model.c), (a, b, c), strict=True):
                target.copy_(torch.from_numpy(value))
        for method in ("auto", "vmap", "loop"):
            norms = ln.per_example_sq_norms(model, torch.from_numpy(x), method=method)
            np.testing.assert_allclose(norms.detach(), total, rtol=1e-12)
            reg = ln.implicit_regularizer(model, torch.from_numpy(x), method=method)
            assert reg.item() == pytest.approx(total.mean(), rel=1e-12)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize(
        "activation, slope",
        [(torch.tanh, lambda z: 1 - z.tanh() ** 2), (torch.sigmoid, lambda z: z.sigmoid() * (1 - z.sigmoid()))],
        ids=["tanh", "logistic"],
    )
    def test_two_layer_sigmoidal_is_equation_20(self, activation, slope, method):
        """sum_i c_i^2 s'(w_i x)^2 |x|^2 + s(w_i x)^2."""
        model = Function(
            lambda self, x: self.c(activation(self.w(x))), w=nn.Linear(4, 7, bias=False), c=nn.Linear(7, 1, bias=False)
        ).double()
        x = numbers(4)
        z, c = x @ model.w.weight.T, model.c.weight[0]
        expected = ((c * slope(z)) ** 2).sum(dim=1) * (x**2).sum(dim=1) + (activation(z) ** 2).sum(dim=1)
        torch.testing.assert_close(ln.per_example_sq_norms(model, x, method=method), expected, rtol=1e-12, atol=0)

    @pytest.mark.parametrize("method", ["auto", "vmap", "loop"])
    def test_matrix_sensing_is_equation_2(self, method):
        """The mean of ||(A + A^T) U||^2."""
        model, a = MatrixSensing(numbers(5)), numbers(5, 5)
        expected = ((a + a.mT) @ model.u).square().sum(dim=(1, 2)).mean()
        torch.testing.assert_close(ln.implicit_regularizer(model, a, method=method), expected, rtol=1e-12, atol=0)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("build", [nn.Linear, lambda *sizes: ln.MLP(sizes)], ids=["layer", "mlp without hidden layer"])
    def test_linear_model(self, build, method):
        """H = W x + b with k outputs: k (|x|^2 + 1), whatever the parameters."""
        x = numbers(3)
        norms = ln.per_example_sq_norms(build(3, 4).double(), x, method=method)
        torch.testing.assert_close(norms, 4 * ((x**2).sum(dim=1) + 1), rtol=1e-14, atol=0)

    @pytest.mark.parametrize("method", METHODS)
    def test_half_the_trace_of_the_hessian_at_zero_error(self, method):
        """Of mean (h - y)^2: the convention that ties reg to the sharpness."""
        model = ln.MLP([2, 3, 1], "tanh", seed=1)
        x = numbers(2)
        y = model(x).detach()
        parts = {name: p.detach() for name, p in model.named_parameters()}

        def loss(parts):
            return (torch.func.functional_call(model, parts, (x,)) - y).square().mean()

        hessian = torch.func.hessian(loss)(parts)
        trace = sum(hessian[name][name].reshape(p.numel(), p.numel()).trace() for name, p in parts.items())
        assert trace.item() == pytest.approx(2 * ln.implicit_regularizer(model, x, method=method).item(), rel=1e-12)


class TestByParameter:
    @pytest.mark.parametrize("name", ["transformer", "frozen layers", "tied layers", "layer never called", "lstm"])
    def test_shares_are_autograds(self, name):
        model, x = specimen(name)
        free = [key for key, p in model.named_parameters() if p.requires_grad]
        expected = {}
        for key in free:
            alone, _ = specimen(name)
            alone.requires_grad_(False).get_parameter(key).requires_grad_(True)
            expected[key] = plain_loop(alone, x)[0].mean().item() if alone(x).requires_grad else 0
        for method in methods_for(name):
            shares = ln.regularizer_by_parameter(model, x, method=method)
            assert list(shares) == free
            for key, share in shares.items():
                assert share.shape == ()
                assert share.item() == pytest.approx(expected[key], rel=1e-10, abs=0)
            total = ln.implicit_regularizer(model, x, method=method)
            torch.testing.assert_close(sum(shares.values()), total, rtol=1e-12, atol=0)

    def test_gradient(self):
        model, x = specimen("mlp of several outputs")
        free = list(model.parameters())
        for method in METHODS:
            of_sum = gradient_of(sum(ln.regularizer_by_parameter(model, x, method=method).values()), free)
            assert_gradients_close(of_sum, gradient_of(ln.implicit_regularizer(model, x, method=method), free), rtol=1e-12)
            last = list(ln.regularizer_by_parameter(model, x, method=method).values())[-1]
            assert not last.requires_grad or not any(g.any() for g in gradient_of(last, free)), "h is linear in the last bias"


@pytest.mark.parametrize("function", [ln.implicit_regularizer, ln.per_example_sq_norms, ln.regularizer_by_parameter])
@pytest.mark.parametrize(
    "changes, error, message",
    [
        (dict(method="bogus"), ValueError, "method must be one of auto, ghost, vmap, loop, got 'bogus'"),
        (dict(method=None), ValueError, "method must be one of auto, ghost, vmap, loop, got None"),
        (dict(chunk_size=0), ValueError, "chunk_size must be at least 1, got 0"),
        (dict(chunk_size=-2), ValueError, "chunk_size must be at least 1, got -2"),
        (dict(chunk_size=1.5), TypeError, "chunk_size must be an integer, got 1.5"),
        (dict(chunk_size=True), TypeError, "chunk_size must be an integer, got True"),
        (dict(x=torch.zeros(0, 3)), ValueError, r"at least one example.*got shape \(0, 3\)"),
        (dict(x=[0.0] * 3), TypeError, "x must be a torch.Tensor or a NumPy array, .* got list"),
        (dict(x=torch.full((5, 3), math.nan)), ValueError, r"x must be finite, got nan at index \(0, "),
        (dict(model=torch.sin), TypeError, "model must be a torch.nn.Module, got builtin"),
        (dict(model=nn.ReLU()), ValueError, "no trainable parameter"),
    ],
)
def test_bad_arguments(function, changes, error, message):
    arguments = dict(model=nn.Linear(3, 1), x=torch.zeros(5, 3)) | changes
    with pytest.raises(error, match=message):
        function(arguments.pop("model"), arguments.pop("x"), **arguments)
