"""h = <u*u - v*v, x>: the formula, reg, and the exact law of u v under label noise."""

import math

import numpy as np
import pytest
import torch
from cases import CLOUD, MODELS
from plain import flat

import labelnoise_utils as ln


class TestModel:
    @pytest.mark.parametrize("signed", [True, False])
    def test_formula(self, signed):
        model = MODELS["diagonal" if signed else "diagonal-unsigned"](3)
        x = np.random.default_rng(0).normal(size=(7, 5))
        u = model.u.tolist()
        v = model.v.tolist() if signed else [0.0] * 5
        w = [a * a - b * b for a, b in zip(u, v, strict=True)]
        np.testing.assert_allclose(model.coefficients().detach(), w, rtol=1e-14)
        expected = [sum(w[j] * row[j] for j in range(5)) for row in x]
        np.testing.assert_allclose(model(torch.from_numpy(x)).detach(), expected, rtol=1e-12)

    def test_order_of_the_parameters(self):
        shapes = {name: tuple(p.shape) for name, p in ln.DiagonalLinear(3).named_parameters()}
        assert list(shapes.items()) == [("u", (3,)), ("v", (3,))]
        assert [name for name, _ in ln.DiagonalLinear(3, signed=False).named_parameters()] == ["u"]

    def test_start(self):
        assert ln.DiagonalLinear(3, scale=0.5)(CLOUD).tolist() == [0.0] * len(CLOUD)
        assert flat(ln.DiagonalLinear(2, signed=False, scale=0.5)).tolist() == [0.5, 0.5]
        assert ln.DiagonalLinear(3, dtype=torch.float32).u.dtype == torch.float32

    @pytest.mark.parametrize("name", ["diagonal", "diagonal-unsigned"])
    def test_reg_is_a_weighted_sum_of_squares(self, name):
        model, x = MODELS[name](1), torch.from_numpy(np.random.default_rng(2).normal(size=(6, 5)))
        total = sum(p.detach().square() for p in model.parameters())
        expected = 4 * (x.square().mean(dim=0) * total).sum()
        torch.testing.assert_close(ln.implicit_regularizer(model, x).detach(), expected, rtol=1e-12, atol=0)

    def test_reg_of_given_coefficients_is_least_where_one_of_each_pair_is_zero(self):
        """Then it is 4 sum q |w|."""
        w, x = torch.tensor([2.0, -3.0, 0.0], dtype=torch.float64), CLOUD
        weights = 4 * x.square().mean(dim=0)
        model = ln.DiagonalLinear(3)
        sizes = torch.tensor([[0.0, 0.1, 1.0]], dtype=torch.float64).T
        u, v = (w.clamp(min=0) + sizes).sqrt(), ((-w).clamp(min=0) + sizes).sqrt()
        loss, reg = model.loss_and_reg(torch.cat([u, v], dim=1), x, x @ w)
        assert loss.max() < 1e-25
        torch.testing.assert_close(reg, (weights * (w.abs() + 2 * sizes)).sum(dim=1), rtol=1e-12, atol=0)
        assert reg.argmin() == 0

    @pytest.mark.parametrize("shape", [(3,), (4, 2), (2, 3, 3), ()])
    def test_refuses_other_shapes(self, shape):
        with pytest.raises(ValueError, match=r"x must have shape \(n, 3\), got"):
            ln.DiagonalLinear(3)(torch.zeros(shape, dtype=torch.float64))

    @pytest.mark.parametrize(
        "arguments, error, message",
        [
            (dict(dim=0), ValueError, "dim must be at least 1, got 0"),
            (dict(dim=2.0), TypeError, "dim must be an integer, got 2.0"),
            (dict(dim=2, signed=1), TypeError, "signed must be True or False, got 1"),
            (dict(dim=2, scale=0), ValueError, "scale must be positive, got 0"),
            (dict(dim=2, scale=math.nan), ValueError, "scale must be finite, got nan"),
            (dict(dim=2, scale="1"), TypeError, "scale must be a number, got '1'"),
        ],
    )
    def test_bad_arguments(self, arguments, error, message):
        with pytest.raises(error, match=message):
            ln.DiagonalLinear(**arguments)


@pytest.mark.parametrize("engine", ["compiled", "torch"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_law_of_u_times_v_step_by_step(engine, batch_size):
    """One input: u <- u (1 - 2 g x) and v <- v (1 + 2 g x), so u v <- u v (1 - 4 g^2 x^2), exactly."""
    lr, steps, c, label = 0.02, 300, 1.3, 0.7
    x, y = torch.full((2, 1), c, dtype=torch.float64), torch.full((2,), label, dtype=torch.float64)
    noise = ln.LabelNoise(0.8)
    settings = dict(lr=lr, steps=steps, noise=noise, batch_size=batch_size, seed=5, engine=engine)
    model = ln.DiagonalLinear(1, scale=0.6)
    run = ln.train(model, x, y, **settings, record=range(steps + 1), progress=False)
    (_, z), *rest = ln.sgd_draws(2, steps, noise=noise, batch_size=batch_size, seed=5)
    assert not rest
    u, v = run.theta.T
    g = 2 * lr * (c * (u**2 - v**2)[:-1] - label - z.mean(axis=1))
    np.testing.assert_allclose((u * v)[1:], (u * v)[:-1] * (1 - 4 * g**2 * c**2), rtol=1e-12)
    assert u[-1] * v[-1] < 0.9 * u[0] * v[0], "the law should have had something to do"


def test_without_noise_nothing_moves_at_zero_error():
    model = MODELS["diagonal"](0)
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(4, 5)))
    before = flat(model)
    ln.train(model, x, model(x).detach(), lr=0.01, steps=500, progress=False)
    torch.testing.assert_close(flat(model), before, rtol=0, atol=1e-14)


def test_frozen_parameters_stay():
    model = ln.DiagonalLinear(3, scale=0.5)
    model.v.requires_grad_(False)
    ln.train(model, CLOUD, CLOUD[:, 0], lr=0.01, steps=100, noise=ln.LabelNoise(0.5), progress=False)
    assert model.v.tolist() == [0.5] * 3 and model.u.tolist() != [0.5] * 3


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("batch_size", [1, None])
@pytest.mark.parametrize(
    "extras",
    [
        dict(noise=ln.ParameterNoise(0.1)),
        dict(noise=ln.LangevinNoise(0.01)),
        dict(noise=ln.LabelNoise(0.5), momentum=0.5, penalty=0.1),
    ],
)
def test_other_steps_are_those_of_the_torch_engine(signed, batch_size, extras):
    thetas = []
    for engine in ("compiled", "torch"):
        settings = dict(lr=0.003, steps=100, batch_size=batch_size, engine=engine, progress=False)
        model = ln.DiagonalLinear(3, signed=signed)
        thetas.append(ln.train(model, CLOUD, CLOUD[:, 0] ** 2, **settings, **extras).theta)
    np.testing.assert_allclose(thetas[0], thetas[1], rtol=0, atol=1e-12)
    assert np.abs(thetas[0][-1] - thetas[0][0]).max() > 0.05
