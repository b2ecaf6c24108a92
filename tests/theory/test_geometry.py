"""The geometry at a zero-error point: Jacobian, gamma, normal and tangent directions; against torch.func."""

import math

import pytest
import torch
from plain import flat, h_of_theta, plain_loop
from points import Convolutional, X, gaussian, linear, poisoned, tanh
from refusals import refusals
from torch import nn
from unchanged import assert_as_it_was, snapshot
from zoo import WARNINGS, ZOO, specimen

import labelnoise_utils as ln

pytestmark = WARNINGS

NAN = math.nan


def partly_frozen():
    model = ln.MLP([2, 4, 3, 2], "tanh", seed=1, bias_std=0.5)
    model.layers[0].bias.requires_grad_(False)
    model.layers[1].weight.requires_grad_(False)
    return model


LINEARIZED = {
    "product": lambda: (ln.Product(3.0, 4.0), torch.zeros(2)),
    "tanh": lambda: (tanh(), X),
    "outputs": lambda: (ln.MLP([2, 4, 3], "logistic", seed=2), X),
    "frozen": lambda: (partly_frozen(), X),
    "relu": lambda: (ln.TwoLayerReLU(5, seed=1), ln.twelve_points()[0]),
    "relu in the plane": lambda: (ln.TwoLayerReLU(5, dim=2, seed=1), X),
    "convolutional": lambda: (Convolutional(), gaussian(4, 6)),
    "more examples than parameters": lambda: (linear(2), gaussian(9, 2)),
}


class TestLinearize:
    @pytest.mark.parametrize("name", LINEARIZED)
    def test_jacobian_is_that_of_torch_func(self, name):
        model, x = LINEARIZED[name]()
        expected = torch.func.jacrev(h_of_theta(model, x))(flat(model))
        jacobian = ln.linearize(model, x).jacobian
        assert jacobian.shape == (model(x).numel(), len(flat(model)))
        torch.testing.assert_close(jacobian, expected.reshape(jacobian.shape), rtol=1e-12, atol=1e-14)
        assert not jacobian.requires_grad

    def test_rows_are_examples_then_outputs_and_columns_those_of_parameters_to_vector(self):
        model = partly_frozen()
        jacobian = ln.linearize(model, X).jacobian.view(3, 2, -1)
        free = [p for p in model.parameters() if p.requires_grad]
        for i in range(3):
            for k in range(2):
                slopes = torch.autograd.grad(model(X)[i, k], free)
                expected = nn.utils.parameters_to_vector([g.contiguous() for g in slopes])
                torch.testing.assert_close(jacobian[i, k], expected, rtol=1e-13, atol=1e-15)

    @pytest.mark.parametrize("name", LINEARIZED)
    def test_gamma_and_normal_are_eigenvalues_and_vectors(self, name):
        model, x = LINEARIZED[name]()
        point = ln.linearize(model, x)
        reg = ln.implicit_regularizer(model, x).item()
        assert point.gamma.sum().item() == pytest.approx(reg, rel=1e-12)
        assert (point.gamma > 0).all() and (point.gamma.diff() <= 0).all()
        r = len(point.gamma)
        assert point.normal.shape == (len(flat(model)), r)
        torch.testing.assert_close(point.normal.T @ point.normal, torch.eye(r, dtype=torch.float64), rtol=0, atol=1e-13)
        matrix = point.jacobian.T @ point.jacobian / len(x)
        assert torch.linalg.matrix_rank(matrix, hermitian=True, rtol=1e-12) == r
        torch.testing.assert_close(matrix @ point.normal, point.normal * point.gamma, rtol=0, atol=1e-13 * reg)

    @pytest.mark.parametrize("name", LINEARIZED)
    def test_tangent_vectors_do_not_change_h(self, name):
        model, x = LINEARIZED[name]()
        point = ln.linearize(model, x)
        v = gaussian(len(flat(model)), seed=1)
        tangent = point.project_tangent(v)
        scale = point.jacobian.norm() * v.norm()
        assert (point.jacobian @ tangent).abs().max() < 1e-14 * scale
        torch.testing.assert_close(point.project_tangent(tangent), tangent, rtol=0, atol=1e-13)
        # What was taken off is normal: a combination of the rows of the Jacobian.
        normal = v - tangent
        torch.testing.assert_close(point.normal @ (point.normal.T @ normal), normal, rtol=0, atol=1e-13)
        rest = len(v) - len(point.gamma)
        assert (tangent.norm() > 0.1) == (rest > 0)

    def test_rows_are_projected_one_by_one(self):
        point = ln.linearize(tanh(), X)
        rows = gaussian(5, 17)
        expected = torch.stack([point.project_tangent(row) for row in rows])
        torch.testing.assert_close(point.project_tangent(rows), expected, rtol=0, atol=1e-14)

    def test_repeated_example_adds_no_direction(self):
        once, twice = ln.linearize(tanh(), X), ln.linearize(tanh(), torch.cat([X, X[:1]]))
        assert len(once.gamma) == len(twice.gamma) == 3
        v = gaussian(17)
        torch.testing.assert_close(twice.project_tangent(v), once.project_tangent(v), rtol=0, atol=1e-13)

    def test_redundant_example_adds_no_direction(self):
        x = gaussian(2, 3)
        x = torch.cat([x, (2 * x[0] - x[1])[None]])
        assert len(ln.linearize(linear(), x).gamma) == 2

    def test_tol_is_relative_to_the_largest_singular_value(self):
        x = torch.diag(torch.tensor([100.0, 1.0, 1e-3], dtype=torch.float64))
        for tol, rank in ((None, 3), (0, 3), (0.99e-5, 3), (1.01e-5, 2), (0.0099, 2), (0.0101, 1), (0.999, 1)):
            assert len(ln.linearize(linear(), x, tol=tol).gamma) == rank
        torch.testing.assert_close(ln.linearize(linear(), x).gamma, torch.tensor([1e4, 1.0, 1e-6], dtype=torch.float64) / 3)

    @pytest.mark.parametrize("detached", [False, True])
    def test_zero_jacobian(self, detached):
        class Constant(ln.Product):
            def forward(self, x):
                return x.clone() if detached else super().forward(x)

        point = ln.linearize(Constant(0.0, 0.0), torch.ones(2, dtype=torch.float64))
        assert point.jacobian.tolist() == [[0, 0], [0, 0]]
        assert point.gamma.shape == (0,) and point.normal.shape == (2, 0)
        v = gaussian(2)
        assert torch.equal(point.project_tangent(v), v)
        assert ln.tangential_gradient(Constant(0.0, 0.0), torch.ones(2, dtype=torch.float64)).tolist() == [0, 0]

    def test_single_precision(self):
        single, double = ln.linearize(tanh(dtype=torch.float32), X.float()), ln.linearize(tanh(), X)
        assert single.jacobian.dtype == single.gamma.dtype == torch.float32
        torch.testing.assert_close(single.jacobian, double.jacobian.float(), rtol=1e-5, atol=1e-6)
        assert len(single.gamma) == 3

    @pytest.mark.parametrize("name", ZOO)
    def test_modules_of_many_kinds(self, name):
        model, x = specimen(name)
        before = snapshot(model)
        if any(p.is_complex() for p in model.parameters()):
            with pytest.raises(ValueError, match="must be float32 or float64 for a Jacobian, got torch.complex128"):
                ln.linearize(model, x)
            return
        gamma = ln.linearize(model, x).gamma
        assert_as_it_was(model, before)
        assert gamma.sum().item() == pytest.approx(plain_loop(model, x)[0].mean().item(), rel=1e-12)

    @pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
    def test_callers_mode_changes_nothing(self, mode):
        expected = ln.linearize(tanh(), X)
        model = tanh()
        with mode():
            inside = ln.linearize(model, X.clone())
        assert torch.equal(inside.jacobian, expected.jacobian)

    def test_size_limit_comes_before_the_work(self, monkeypatch):
        model, calls = partly_frozen(), []
        model.register_forward_hook(lambda *_: calls.append(1))
        count = len(flat(model))
        monkeypatch.setattr("labelnoise_utils.theory.geometry.LARGEST_JACOBIAN", 3 * 2 * count)
        ln.linearize(model, X)
        monkeypatch.setattr("labelnoise_utils.theory.geometry.LARGEST_JACOBIAN", 3 * 2 * count - 1)
        calls.clear()
        with pytest.raises(ValueError, match=f"would hold 3 x 2 x {count} numbers .* more than {6 * count - 1}:"):
            ln.linearize(model, X)
        assert len(calls) <= 3  # two of them check x


class Root(ln.Product):
    """With an infinite slope at 0."""

    def forward(self, x):
        return super().forward(x).abs().sqrt()


BAD_INPUT = {
    "x a list": (lambda: ln.linearize(tanh(), [1, 2]), TypeError, "x must be a torch.Tensor or a NumPy array, .* got list"),
    "x NaN": (lambda: ln.linearize(tanh(), X * NAN), ValueError, "x must be finite"),
    "x of another shape": (
        lambda: ln.linearize(tanh(), X[:, :1]),
        ValueError,
        r"x of shape \(3, 1\) .* is not what model takes",
    ),
    "x of another dtype": (
        lambda: ln.linearize(tanh(), X.float()),
        ValueError,
        "x of .* torch.float32 is not what model takes",
    ),
    "no module": (lambda: ln.linearize(lambda x: x, X), TypeError, "model must be a torch.nn.Module, got function"),
    "nothing to train": (lambda: ln.linearize(tanh().requires_grad_(False), X), ValueError, "no trainable parameter"),
    "half precision": (
        lambda: ln.linearize(tanh(dtype=torch.bfloat16), X.bfloat16()),
        ValueError,
        "'layers.0.weight' .*bfloat16",
    ),
    "theta NaN": (lambda: ln.linearize(poisoned(), X), ValueError, r"model\(x\) is not finite: the parameters hold NaN"),
    "infinite slope": (lambda: ln.linearize(Root(0.0, 1.0), X), ValueError, "the Jacobian of the model is not finite"),
    "tol negative": (lambda: ln.linearize(tanh(), X, tol=-0.1), ValueError, r"tol must be in \[0, 1\), got -0.1"),
    "tol 1": (lambda: ln.linearize(tanh(), X, tol=1), ValueError, r"tol must be in \[0, 1\), got 1"),
    "tol text": (lambda: ln.linearize(tanh(), X, tol="small"), TypeError, "tol must be a number, got 'small'"),
    "vector a list": (lambda: ln.linearize(tanh(), X).project_tangent([0.0] * 17), TypeError, "vector must be a .* got list"),
    "vector short": (lambda: ln.linearize(tanh(), X).project_tangent(gaussian(3)), ValueError, r"vector .*\(17,\).*got \(3,\)"),
    "vector columns": (lambda: ln.linearize(tanh(), X).project_tangent(gaussian(17, 2)), ValueError, r"got \(17, 2\)"),
    "vector single": (lambda: ln.linearize(tanh(), X).project_tangent(torch.zeros(17)), ValueError, "and torch.float32"),
}

test_bad_input_is_named = refusals(BAD_INPUT)
