"""The two-layer ReLU network is its formula."""

import re

import numpy as np
import pytest
import torch
from cases import CASES, X, Y, quick, with_random_skip
from plain import flat

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


class TestInAnyDimension:
    @pytest.mark.parametrize("dim", [None, 1, 2, 3, 10])
    @pytest.mark.parametrize("skip", [True, False, "constant"])
    def test_formula(self, dim, skip):
        model = ln.TwoLayerReLU(5, dim=dim, skip=skip, seed=1)
        if skip:
            with_random_skip(model, 0)
        x = np.random.default_rng(0).normal(size=(9, dim or 1))
        a = model.a.detach().numpy().reshape(5, -1)
        b, c = (p.detach().numpy() for p in (model.b, model.c))
        h = model(torch.from_numpy(x[:, 0] if dim is None else x)).detach().numpy()
        for x_i, h_i in zip(x, h, strict=True):
            expected = sum(ci * max(0.0, ai @ x_i + bi) for ai, bi, ci in zip(a, b, c, strict=True))
            if skip is True:
                expected += model.a0.detach().numpy().reshape(-1) @ x_i
            if skip:
                expected += model.b0.item()
            assert h_i == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("dim, point", [(None, ()), (1, (1,)), (3, (3,))])
    @pytest.mark.parametrize("skip, names", [(True, "a b c a0 b0"), (False, "a b c"), ("constant", "a b c b0")])
    def test_parameters(self, dim, point, skip, names):
        """Their order and shapes, which are the face that others rely on."""
        model = ln.TwoLayerReLU(4, dim=dim, skip=skip)
        shapes = {"a": (4, *point), "b": (4,), "c": (4,), "a0": point, "b0": ()}
        found = [(name, tuple(p.shape)) for name, p in model.named_parameters()]
        assert found == [(name, shapes[name]) for name in names.split()]
        assert model.config == {"width": 4, "dim": dim, "skip": skip}

    def test_initial_scales(self):
        """Within five standard errors of the variance of a normal."""
        model = ln.TwoLayerReLU(10_000, dim=3, seed=0, input_std=3.0, output_std=0.5)
        for parameter, std in ((model.a, 3.0), (model.b, 3.0), (model.c, 0.5)):
            assert abs(parameter.square().mean() / std**2 - 1) < 5 * (2 / parameter.numel()) ** 0.5
        assert not model.a0.any() and not model.b0

    @pytest.mark.parametrize("batch_size", [1, 4])
    def test_one_coordinate_is_the_line(self, batch_size):
        """The same start and, up to rounding, the same way; to the last bit where the same kernel takes both."""
        thetas = []
        for dim in (None, 1):
            build, x, y, lr = CASES["relu"]
            model = ln.TwoLayerReLU(20, dim=dim, seed=1)
            assert torch.equal(flat(model), flat(build()))
            run = quick(model, x if dim is None else x[:, None], y, lr=lr, steps=2000, batch_size=batch_size)
            assert run.engine == "compiled"
            thetas.append(run.theta)
        np.testing.assert_array_equal(*thetas)

    @pytest.mark.parametrize("dim", range(1, 13))
    @pytest.mark.parametrize("width", [1, 5, 37])
    def test_compiled_steps_in_every_dimension(self, dim, width):
        """The passes over the units differ by the dimension: each is the other engine's step."""
        rng = np.random.default_rng(dim)
        x, y = torch.from_numpy(rng.normal(size=(9, dim)) / dim**0.5), torch.from_numpy(rng.normal(size=9))
        for skip in (True, "constant"):
            compiled, plain = (
                quick(ln.TwoLayerReLU(width, dim=dim, skip=skip), x, y, lr=0.002, steps=100, engine=engine)
                for engine in ("compiled", "torch")
            )
            np.testing.assert_allclose(compiled.theta, plain.theta, rtol=0, atol=1e-11)
            assert np.abs(plain.theta[-1] - plain.theta[0]).max() > 1e-3

    @pytest.mark.parametrize("dim", [2, 4])
    @pytest.mark.parametrize("batch_size", [1, 2])
    def test_compiled_step_keeps_single_entries(self, batch_size, dim):
        """Positions are those in theta, although the kernel works on a transposed."""
        model = ln.TwoLayerReLU(4, dim=dim, seed=1)
        torch.nn.init.constant_(model.b, 20.0)  # all units are active, so that all parameters move
        before, frozen = flat(model).numpy(), np.array([1, 6, 4 * dim + 9])
        x, y = np.random.default_rng(0).normal(size=(2, dim)), np.array([5.0, -3.0])
        indices = np.arange(batch_size, dtype=np.int32)[None]
        steps = []
        for positions in (frozen, frozen[:0]):
            theta = before.copy()
            assert model.compiled_sgd(theta, x, y, indices, np.zeros((1, batch_size)), 0.01, positions) == 1
            steps.append(theta - before)
        assert steps[1].all()
        steps[1][frozen] = 0
        np.testing.assert_allclose(*steps, rtol=0, atol=1e-14)

    @pytest.mark.parametrize("dim", [1, 2, 3, 5])
    @pytest.mark.parametrize("skip", [True, False, "constant"])
    @pytest.mark.parametrize("on_kinks", [True, False])
    def test_reg_is_its_formula(self, dim, skip, on_kinks):
        """By every way to reg, with its gradient; a unit on its kink adds nothing."""
        rng = np.random.default_rng(dim)
        model = ln.TwoLayerReLU(30, dim=dim, skip=skip)
        with torch.no_grad():
            for p in model.parameters():
                values = rng.normal(0, 1.5, tuple(p.shape))
                p.copy_(torch.from_numpy(np.asarray(np.round(values) if on_kinks else values)))
        x = torch.from_numpy(rng.normal(0, 2, (11, dim)))
        x = x.round() if on_kinks else x
        p = x @ model.a.T + model.b
        assert (p == 0).any() == on_kinks
        squares = x.square().sum(dim=1)
        norms = torch.relu(p).square().sum(dim=1) + (1 + squares) * (model.c.square() * (p > 0)).sum(dim=1)
        norms = norms + {True: 1 + squares, False: 0, "constant": 1}[skip]
        expected = norms.mean()
        slopes = torch.autograd.grad(expected, [model.a, model.b, model.c])
        for method in ("auto", "vmap", "loop"):
            reg = ln.implicit_regularizer(model, x, method=method)
            assert reg.item() == pytest.approx(expected.item(), rel=1e-12)
            found = torch.autograd.grad(reg, [model.a, model.b, model.c])
            for one, other in zip(found, slopes, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
            parts = ln.per_example_sq_norms(model, x, method=method).detach()
            torch.testing.assert_close(parts, norms.detach(), rtol=1e-12, atol=0)

    @pytest.mark.parametrize("skip", [True, False, "constant"])
    @pytest.mark.parametrize("dim", [None, 1, 3])
    def test_a_run_is_saved_with_its_model(self, tmp_path, dim, skip):
        model = ln.TwoLayerReLU(5, dim=dim, skip=skip, seed=1)
        x = X if dim is None else torch.stack([X] * dim, dim=1)
        run = quick(model, x, Y)
        run.save(tmp_path / "run")
        loaded = ln.Run.load(tmp_path / "run")
        assert loaded.model.config == model.config
        assert torch.equal(loaded.model_at(-1)(x), model(x))

    def test_a_file_from_before_there_was_a_dimension(self, tmp_path):
        model = ln.TwoLayerReLU(5)
        model.config = {"width": 5, "skip": True}
        quick(model).save(tmp_path / "run")
        loaded = ln.Run.load(tmp_path / "run")
        assert loaded.model.config == {"width": 5, "dim": None, "skip": True}
        assert torch.equal(loaded.model_at(-1)(X), model(X))

    @pytest.mark.parametrize("shape", [(3,), (4, 2), (4, 3, 1), ()])
    def test_refuses_other_shapes(self, shape):
        with pytest.raises(ValueError, match=re.escape(f"x must have shape (n, d) with d = 3, got {shape}")):
            ln.TwoLayerReLU(5, dim=3)(torch.zeros(shape, dtype=torch.float64))
        if shape:
            # Of one example, the first.
            with pytest.raises(ValueError, match=re.escape(f"x must have shape (n, d) with d = 3, got {(1, *shape[1:])}"[:-1])):
                quick(ln.TwoLayerReLU(5, dim=3), torch.zeros(shape), torch.zeros(shape[0]))

    @pytest.mark.parametrize(
        "arguments, error, message",
        [
            (dict(dim=0), ValueError, "dim must be at least 1, got 0"),
            (dict(dim=-2), ValueError, "dim must be at least 1, got -2"),
            (dict(dim=2.0), TypeError, "dim must be an integer, got 2.0"),
            (dict(dim=True), TypeError, "dim must be an integer, got True"),
            (dict(dim="2"), TypeError, "dim must be an integer, got '2'"),
            (dict(skip="linear"), ValueError, "skip must be True, False or 'constant', got 'linear'"),
            (dict(skip=None), ValueError, "skip must be True, False or 'constant', got None"),
            (dict(skip=1), ValueError, "skip must be True, False or 'constant', got 1"),
            (dict(skip=np.ones(2)), ValueError, "skip must be True, False or 'constant', got array"),
        ],
    )
    def test_bad_arguments(self, arguments, error, message):
        with pytest.raises(error, match=message):
            ln.TwoLayerReLU(4, **arguments)


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
