"""The theory on two-layer ReLU networks in several dimensions, whose gradient and reg are written out."""

import numpy as np
import pytest
import torch
from plain import flat
from points import gaussian, second_derivative_of_reg
from zoo import WARNINGS

import labelnoise_utils as ln

pytestmark = WARNINGS

X = torch.tensor([[1.0, 0.5], [-0.5, 1.0], [0.3, -1.2]], dtype=torch.float64)
Y = torch.tensor([0.8, -0.5, 0.3], dtype=torch.float64)
SKIPS = [True, False, "constant"]


def point(skip, dim=2):
    """A point of zero error, some way from every kink."""
    model = ln.TwoLayerReLU(5, dim=dim, skip=skip, seed=37)
    x = X if dim == 2 else torch.cat([X, gaussian(3, dim - 2)], dim=1)
    assert ln.project_to_zero_error(model, x, Y) >= 1
    assert (model(x) - Y).abs().max() <= 1e-12
    assert (x @ model.a.T + model.b).abs().min() > 0.3
    return model, x


def reg_of(model, x):
    p = x @ model.a.T + model.b
    squares = x.square().sum(dim=1)
    units = torch.relu(p).square().sum(dim=1) + (1 + squares) * (model.c.square() * (p > 0)).sum(dim=1)
    return (units + {True: 1 + squares, False: 0, "constant": 1}[model.config["skip"]]).mean()


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("skip", SKIPS)
def test_linearize_and_drift(skip, dim):
    model, x = point(skip, dim)
    p = (x @ model.a.T + model.b).detach()
    slopes = (p > 0) * model.c.detach()
    ones = torch.ones(3, 1, dtype=torch.float64)
    last = {True: [x, ones], False: [], "constant": [ones]}[skip]
    jacobian = torch.cat([(slopes[..., None] * x[:, None]).reshape(3, -1), slopes, torch.relu(p), *last], dim=1)
    torch.testing.assert_close(ln.linearize(model, x).jacobian, jacobian, rtol=1e-13, atol=1e-14)
    free = list(model.parameters())
    gradient = torch.cat(
        [g.reshape(-1) for g in torch.autograd.grad(reg_of(model, x), free, allow_unused=True, materialize_grads=True)]
    )
    tangential = gradient - torch.linalg.pinv(jacobian) @ jacobian @ gradient
    assert tangential.norm() > 0.1
    torch.testing.assert_close(ln.tangential_gradient(model, x), tangential, rtol=1e-10, atol=1e-12)
    drift = ln.drift(model, x, lr=0.01, noise_std=0.5, batch_size=2)
    torch.testing.assert_close(drift, -(0.01**2) * 0.5**2 / 2 * tangential, rtol=1e-10, atol=1e-16)
    assert ln.is_non_repellent(model, x, Y) is False


@pytest.mark.parametrize("skip", SKIPS)
def test_curvature_along_the_manifold(skip):
    model, x = point(skip)
    values, vectors = ln.tangential_curvature(model, x)
    for k in (0, len(values) - 1):
        second = second_derivative_of_reg(model, x, Y, vectors[:, k])
        assert second == pytest.approx(values[k].item(), rel=1e-3, abs=1e-4)


def test_update_terms_to_the_third_order_are_the_step():
    """Between kinks h is of degree 2 in theta, so a step is of degree 3 in the displacement."""
    model, x = point(True)
    theta = flat(model)
    d = 1e-3 * gaussian(len(theta), seed=1)
    terms = ln.update_terms(model, x[:1], Y[:1] + 0.7, d, lr=0.1, order=3)
    torch.nn.utils.vector_to_parameters(theta + d, model.parameters())
    slope = torch.autograd.grad((model(x[:1]) - Y[:1] - 0.7).square().sum(), list(model.parameters()))
    step = -0.1 * torch.cat([g.reshape(-1) for g in slope])
    torch.testing.assert_close(sum(terms.values()), step, rtol=0, atol=1e-14)
    assert terms[2, 0].norm() > 1e-9


def test_expanded_sgd_leaves_out_the_third_order():
    """The six terms are those up to the second, so half the noise makes an eighth of the error."""
    apart = []
    for noise_std in (0.02, 0.01):
        model, x = point(True)
        settings = dict(lr=0.002, noise=ln.LabelNoise(noise_std), steps=50, seed=3)
        _, path = ln.expanded_sgd(model, x, Y, record=1, **settings)
        start = flat(model).numpy()
        run = ln.train(model, x, Y, record=[50], progress=False, **settings)
        assert run.engine == "compiled"
        displacement = run.theta[-1] - start
        assert np.linalg.norm(displacement) > 0.1 * noise_std
        apart.append(np.linalg.norm(path[-1, 0] - displacement))
    assert np.log2(apart[0] / apart[1]) == pytest.approx(3, abs=0.1)


def test_effective_flow_goes_down_reg_along_the_manifold():
    """In a time in which no kink meets an example; by the derivative of reg at the start, -lr^2 var |P grad reg|^2."""
    model, x = point(True)
    pattern = x @ model.a.T + model.b > 0
    lr, noise_std, steps = 1e-3, 0.5, 4000
    before = ln.implicit_regularizer(model, x).item()
    rate = lr**2 * noise_std**2 * ln.tangential_gradient(model, x).square().sum().item()
    run = ln.effective_flow(model, x, Y, lr=lr, noise_std=noise_std, steps=steps, record=[0, steps])
    assert torch.equal(x @ model.a.T + model.b > 0, pattern)
    assert run.loss[-1] < 1e-4
    assert run.reg[-1] == pytest.approx(reg_of(model, x).item(), rel=1e-12)
    assert before - run.reg[-1] == pytest.approx(rate * steps, rel=0.05)
