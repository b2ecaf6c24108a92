"""Equation (6): its terms one by one against explicit derivatives."""

import math

import numpy as np
import pytest
import torch
from plain import flat, flat_gradient, h_of_theta, loss_of
from points import POINTS, Kept, X, Y, gaussian, poisoned, tanh
from refusals import refusals
from torch import nn
from torch.nn.utils import vector_to_parameters
from unchanged import assert_as_it_was, snapshot
from zoo import WARNINGS, ZOO, specimen

import labelnoise_utils as ln

pytestmark = WARNINGS

TERMS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
NAN = math.nan


def exact_step(model, x, y, displacement, lr):
    """-lr grad (h - y)^2 at theta* + displacement, by nothing but autograd."""
    theta = flat(model)
    vector_to_parameters(theta + displacement, model.parameters())
    slope = flat_gradient(loss_of(model, x, y), model)
    vector_to_parameters(theta, model.parameters())
    return -lr * slope


def one_example(name):
    """With noise on its label, so that no term is zero."""
    model, x, y = POINTS[name]()
    return model, x[:1], y[:1] + 0.7


class TestUpdateTerms:
    @pytest.mark.parametrize("name", POINTS)
    def test_six_terms_by_explicit_derivatives(self, name):
        model, x, y = one_example(name)
        theta, lr = flat(model), 0.03
        d = 0.3 * gaussian(len(theta), seed=1)

        def h(theta):
            return h_of_theta(model, x)(theta)[0]

        e = (h(theta) - y[0]).item()
        g, hessian = torch.func.jacrev(h)(theta), torch.func.jacrev(torch.func.jacrev(h))(theta)
        third = torch.func.jacrev(torch.func.jacrev(torch.func.jacrev(h)))(theta)
        expected = {
            (0, 0): -2 * lr * e * g,
            (1, 0): -2 * lr * (g @ d) * g,
            (0, 1): -2 * lr * e * (hessian @ d),
            (2, 0): -lr * g * (d @ hessian @ d),
            (1, 1): -2 * lr * (hessian @ d) * (g @ d),
            (0, 2): -lr * e * (third @ d @ d),
        }
        terms = ln.update_terms(model, x, y, d, lr=lr)
        assert list(terms) == list(TERMS)  # in the paper's order
        for term, value in expected.items():
            assert not terms[term].requires_grad
            torch.testing.assert_close(terms[term], value, rtol=1e-11, atol=1e-15)
            assert value.norm() > 1e-5 or (name, term) == ("product", (0, 2))

    @pytest.mark.parametrize("order", [0, 1, 2, 3])
    @pytest.mark.parametrize("name", POINTS)
    def test_remainder_has_the_next_order(self, name, order):
        model, x, y = one_example(name)
        direction, lr = gaussian(len(flat(model)), seed=2), 0.1
        sizes, errors = (4e-3, 2e-3), []
        for size in sizes:
            terms = ln.update_terms(model, x, y, size * direction, lr=lr, order=order)
            assert len(terms) == (order + 1) * (order + 2) // 2
            errors.append((sum(terms.values()) - exact_step(model, x, y, size * direction, lr)).norm().item())
        if (name, order) == ("product", 3):  # a polynomial of degree 3
            assert max(errors) < 1e-15
        else:
            assert math.log2(errors[0] / errors[1]) == pytest.approx(order + 1, abs=0.02)

    @pytest.mark.parametrize("kind", ["layer", "plain layer", "instance", "plain instance", "group"])
    def test_norms_whose_third_derivatives_torch_gets_wrong(self, kind):
        """Pytorch issue 196700; those of group norm are right."""
        norm = {
            "layer": lambda: nn.LayerNorm([2, 3]),
            "plain layer": lambda: nn.LayerNorm(3, elementwise_affine=False),
            "instance": lambda: nn.InstanceNorm1d(2, affine=True),
            "plain instance": lambda: nn.InstanceNorm1d(2),
            "group": lambda: nn.GroupNorm(1, 2),
        }[kind]()
        model = nn.Sequential(nn.Conv1d(1, 2, 2), norm, nn.Tanh(), nn.Flatten(1), nn.Linear(6, 1)).double()
        with torch.no_grad():
            for k, p in enumerate(model.parameters()):
                p.copy_(gaussian(*p.shape, seed=k))
        x, y = gaussian(2, 1, 4), torch.tensor([[0.5], [0.1]], dtype=torch.float64)
        d = gaussian(len(flat(model)), seed=9)
        for order in range(4):
            errors = []
            for size in (2e-3, 1e-3):
                terms = ln.update_terms(model, x[:1], y[:1], size * d, lr=0.1, order=order)
                errors.append((sum(terms.values()) - exact_step(model, x[:1], y[:1], size * d, 0.1)).norm().item())
            assert math.log2(errors[0] / errors[1]) == pytest.approx(order + 1, abs=0.1)
        model.append(nn.Flatten(0))
        _, path = ln.expanded_sgd(model, x, y[:, 0], lr=0.01, noise=ln.LabelNoise(0.5), steps=5, record=5, seed=3)
        ((indices, z),) = ln.sgd_draws(2, 5, noise=ln.LabelNoise(0.5), seed=3)
        theta = torch.zeros_like(d)
        for i, z_i in zip(indices[:, 0], torch.from_numpy(z[:, 0]), strict=True):
            theta = theta + sum(ln.update_terms(model, x[[i]], y[[i], 0] + z_i, theta, lr=0.01).values())
        np.testing.assert_allclose(path[-1, 0], theta, rtol=0, atol=1e-12)

    def test_orders_are_those_of_the_displacement(self):
        """A term with a + b derivatives along the displacement is homogeneous of that degree in it."""
        model, x, y = one_example("convolutional")
        d = gaussian(len(flat(model)))
        one, two = (ln.update_terms(model, x, y, factor * d, lr=0.1, order=4) for factor in (1, 2))
        assert len(one) == 15
        for a, b in one:
            torch.testing.assert_close(two[a, b], 2 ** (a + b) * one[a, b], rtol=1e-11, atol=1e-12)

    def test_only_the_terms_on_e_alone_are_free_of_the_noise(self):
        """With b derivatives of grad h and none of e the term has the factor e, the others do not see the label."""
        model, x, y = one_example("tanh")
        d = gaussian(17)
        one, two = (ln.update_terms(model, x, y + z, d, lr=0.1) for z in (0, 1))
        for a, b in TERMS:
            assert torch.equal(one[a, b], two[a, b]) == (a > 0)

    def test_frozen_parameters_are_left_out(self):
        model, x, y = one_example("tanh")
        whole = ln.update_terms(model, x, y, torch.cat([torch.zeros(12), torch.ones(5)]).double(), lr=0.1)
        model.layers[0].requires_grad_(False)
        part = ln.update_terms(model, x, y, torch.ones(5, dtype=torch.float64), lr=0.1)
        for term in TERMS:
            torch.testing.assert_close(part[term], whole[term][12:], rtol=1e-12, atol=1e-15)

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_callers_mode_changes_nothing(self, mode):
        model, x, y = one_example("tanh")
        expected = ln.update_terms(model, x, y, gaussian(17), lr=0.1)
        with mode():
            inside = ln.update_terms(model, x.clone(), y.clone(), gaussian(17), lr=0.1)
        for term in TERMS:
            assert torch.equal(inside[term], expected[term])

    def test_modules_of_many_kinds(self):
        """A module is covered or refused; a parameter that torch.func misses would be wrong without a word."""

        class Total(nn.Module):
            def __init__(self, inner):
                super().__init__()
                self.inner = inner

            def forward(self, x):
                return self.inner(x).reshape(len(x), math.prod(self.inner(x).shape[1:])).sum(dim=1)

        refused = []
        for name in ZOO:
            inner, x = specimen(name)
            model, x = Total(inner), x[:1]
            free = [p for p in model.parameters() if p.requires_grad]
            d = 0.1 * gaussian(sum(p.numel() for p in free))
            y = torch.full((1,), 0.3, dtype=torch.float64)
            before = snapshot(model)
            try:
                terms = ln.update_terms(model, x, y, d, lr=0.1, order=1)
            except ValueError as error:
                message = str(error)
                assert "torch.func" in message or "must be float32 or float64" in message, name
                refused.append(name)
                assert_as_it_was(model, before)
                continue
            assert_as_it_was(model, before)
            h = model(x)[0]
            g = flat_gradient(h, model)
            assert (terms[0, 0] + 0.2 * (h - 0.3) * g).abs().max() < 1e-12 * (1 + g.abs().max()), name
            assert (terms[1, 0] + 0.2 * (g @ d) * g).abs().max() < 1e-12 * (1 + g.square().sum()), name
        assert "transformer" not in refused
        assert {"view of a weight kept", "weight kept in a list"} <= set(refused)
        assert len(refused) < len(ZOO) / 4


ONE, D, STEP = (X[:1], Y[:1]), torch.zeros(17, dtype=torch.float64), dict(lr=0.1)


OUTPUTS = ln.MLP([2, 4, 2], "tanh"), X[:1], torch.zeros(1, 2, dtype=torch.float64)
BAD_INPUT = {
    "displacement a list": (lambda: ln.update_terms(tanh(), *ONE, [0.0] * 17, **STEP), TypeError, "displacement .* got list"),
    "displacement short": (lambda: ln.update_terms(tanh(), *ONE, D[:3], **STEP), ValueError, r"shape \(17,\), got \(3,\)"),
    "displacement NaN": (lambda: ln.update_terms(tanh(), *ONE, D * NAN, **STEP), ValueError, "displacement must be finite"),
    "three examples": (
        lambda: ln.update_terms(tanh(), X, Y, D, **STEP),
        ValueError,
        r"one example with one .*\(3, 2\) and \(3,\)",
    ),
    "two outputs": (
        lambda: ln.update_terms(*OUTPUTS, D, **STEP),
        ValueError,
        "one example with one output",
    ),
    "y a number": (
        lambda: ln.update_terms(tanh(), X[:1], 0.3, D, **STEP),
        TypeError,
        "y must be a torch.Tensor or a NumPy array, got float",
    ),
    "y of another shape": (
        lambda: ln.update_terms(tanh(), X[:1], Y[0], D, **STEP),
        ValueError,
        r"y must have .*\(1,\), got \(\)",
    ),
    "y NaN": (lambda: ln.update_terms(tanh(), X[:1], Y[:1] * NAN, D, **STEP), ValueError, "y must be finite"),
    "x a list": (
        lambda: ln.update_terms(tanh(), [1, 2], Y[:1], D, **STEP),
        TypeError,
        "x must be a torch.Tensor or a NumPy array, .* got list",
    ),
    "theta NaN": (lambda: ln.update_terms(poisoned(), *ONE, D, **STEP), ValueError, r"model\(x\) is not finite"),
    "lr 0": (lambda: ln.update_terms(tanh(), *ONE, D, lr=0), ValueError, "lr must be positive, got 0"),
    "order -1": (lambda: ln.update_terms(tanh(), *ONE, D, order=-1, **STEP), ValueError, "order must be at least 0, got -1"),
    "order 1.5": (lambda: ln.update_terms(tanh(), *ONE, D, order=1.5, **STEP), TypeError, "order must be an integer, got 1.5"),
    "unseen": (lambda: ln.update_terms(Kept(), *ONE, D[:6], **STEP), ValueError, "torch.func does not see every use of a par"),
}

test_bad_input_is_named = refusals(BAD_INPUT)
