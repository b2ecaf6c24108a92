"""Matrix sensing: the model is its formula, the compiled step its gradient, and reg is linear in X."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from plain import flat
from torch import nn

import labelnoise_utils as ln
from labelnoise_utils.regularizer.snapshots import loss_and_reg
from labelnoise_utils.sgd.engines import train_compiled
from labelnoise_utils.sgd.job import prepare


def gaussian(dim, seed=0, dtype=torch.float64):
    return ln.MatrixSensing(dim, init="gaussian", seed=seed, dtype=dtype)


def data(dim, n, seed=0):
    """Measurements and labels that no matrix of this size explains."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(n, dim, dim))), torch.from_numpy(rng.normal(size=n))


class TestModel:
    @pytest.mark.parametrize("dim", [1, 2, 5])
    def test_formula(self, dim):
        model, (x, _) = gaussian(dim), data(dim, 4)
        u = model.u.detach().numpy()
        for a, h in zip(x.numpy(), model(x).tolist(), strict=True):
            triples = itertools.product(range(dim), repeat=3)
            assert h == pytest.approx(sum(a[j, k] * u[j, m] * u[k, m] for j, k, m in triples), abs=1e-12)
        np.testing.assert_allclose(model.matrix(), u @ u.T, atol=1e-14)

    @pytest.mark.parametrize("dim", [1, 2, 5])
    def test_packed_measurements_give_the_same(self, dim):
        model, (x, _) = gaussian(dim), data(dim, 4)
        packed = ln.pack_measurements(x)
        assert packed.shape == (4, dim * (dim + 1) // 2)
        torch.testing.assert_close(model(packed), model(x), rtol=0, atol=1e-12)
        norms = [ln.per_example_sq_norms(model, form) for form in (packed, x)]
        torch.testing.assert_close(*norms, rtol=1e-12, atol=0)

    def test_gradient_is_that_of_the_paper(self):
        model, (x, _) = gaussian(5), data(5, 1)
        (gradient,) = torch.autograd.grad(model(x)[0], model.u)
        torch.testing.assert_close(gradient, (x[0] + x[0].T) @ model.u.detach(), rtol=0, atol=1e-12)

    def test_start(self):
        assert torch.equal(ln.MatrixSensing(3, scale=0.5).u, 0.5 * torch.eye(3, dtype=torch.float64))
        dim, scale = 200, 3.0
        u = ln.MatrixSensing(dim, init="gaussian", scale=scale, seed=1).u.detach()
        # Within five standard errors of the variance of a normal.
        assert abs(u.square().mean() * dim / scale**2 - 1) < 5 * math.sqrt(2) / dim
        assert torch.equal(gaussian(4, seed=1).u, gaussian(4, seed=1).u)
        assert not torch.equal(gaussian(4, seed=1).u, gaussian(4, seed=2).u)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_dtype(self, dtype):
        model = gaussian(3, dtype=dtype)
        assert model.u.dtype == model.matrix().dtype == dtype
        assert model(data(3, 2)[0].to(dtype)).dtype == dtype

    @pytest.mark.parametrize(
        "arguments, error, message",
        [
            (dict(dim=0), ValueError, "dim must be at least 1, got 0"),
            (dict(dim=2.0), TypeError, "dim must be an integer, got 2.0"),
            (dict(dim=2, scale=0), ValueError, "scale must be positive, got 0"),
            (dict(dim=2, scale=math.nan), ValueError, "scale must be finite, got nan"),
            (dict(dim=2, init="zero"), ValueError, "init must be one of identity, gaussian, got 'zero'"),
        ],
    )
    def test_bad_arguments(self, arguments, error, message):
        with pytest.raises(error, match=message):
            ln.MatrixSensing(**arguments)

    @pytest.mark.parametrize("shape", [(4, 3, 2), (4, 2, 2), (4, 9), (4, 5), (4,), (4, 3, 3, 1)])
    def test_measurements_of_another_shape(self, shape):
        model = ln.MatrixSensing(3)
        with pytest.raises(ValueError, match=r"square measurements, shape \(n, 3, 3\), or packed ones, \(n, 6\)"):
            model(torch.zeros(shape, dtype=torch.float64))
        with pytest.raises(ValueError, match="square measurements"):
            ln.train(model, torch.zeros(shape), torch.zeros(4), lr=0.1, steps=1)

    @pytest.mark.parametrize(
        "change, message",
        [
            (dict(x=torch.zeros(0, 3, 3)), r"x must hold at least one example.*shape \(0, 3, 3\)"),
            (dict(y=torch.zeros(5)), "same number of examples, got 4 and 5"),
            (dict(y=torch.tensor([0.0, math.nan, 0.0, 0.0])), r"y must be finite, got nan at index \(1,\)"),
            (dict(y=torch.tensor([0.0, 0.0, math.inf, 0.0])), r"y must be finite, got inf at index \(2,\)"),
            (dict(x=torch.full((4, 3, 3), -math.inf)), r"x must be finite, got -inf at index \(0, 0, 0\)"),
        ],
    )
    def test_bad_data(self, change, message):
        arguments = dict(x=torch.zeros(4, 3, 3), y=torch.zeros(4)) | change
        with pytest.raises(ValueError, match=message):
            ln.train(ln.MatrixSensing(3), **arguments, lr=0.1, steps=1)


def step_by_autograd(model, x, y, indices, noise, lr):
    """U after one step of equation (5) on a batch, in float64."""
    u = model.u.detach().double().requires_grad_()
    h = (x[indices].double() * (u @ u.T)).sum(dim=(1, 2))
    loss = (h - y[indices].double() - torch.from_numpy(noise)).square().mean()
    (gradient,) = torch.autograd.grad(loss, u)
    return u.detach() - lr * gradient, lr * gradient


class TestCompiledStep:
    @pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-4)])
    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize(
        "dim, batch_size",
        [(1, 1), (1, 6), (2, 1), (2, 3), (4, 1), (5, 1), (7, 1), (7, 2), (7, 5), (7, 8), (40, 1), (40, 30)],
    )
    def test_is_autograds(self, dim, batch_size, packed, dtype, tolerance):
        """Relative to what the step adds, on examples drawn with replacement, so that some come twice."""
        rng = np.random.default_rng(dim + batch_size)
        n, lr = 12, 1 / dim**2
        x, y = (part.to(dtype) for part in data(dim, n))
        model = gaussian(dim, dtype=dtype)
        indices = rng.integers(n, size=(1, batch_size)).astype(np.int32)
        noise = rng.normal(size=(1, batch_size))
        expected, change = step_by_autograd(model, x, y, indices[0], noise[0], lr)
        form = ln.pack_measurements(x) if packed else x
        assert train_compiled(prepare(model, form, y, lr=lr, steps=1, engine="compiled"))(indices, noise) == 1
        assert change.norm() > 1e-3 * expected.norm()
        # Rounding of U itself besides that of the step.
        scale = change.norm() if dtype == torch.float32 else expected.norm()
        assert (model.u.detach().double() - expected).norm() <= tolerance * scale

    def test_at_the_papers_size(self):
        """In float32, with labels of which the step leaves a small residual."""
        x, y, _ = ln.matrix_sensing(100, 5, 300, packed=True, dtype=torch.float32)
        full = ln.matrix_sensing(100, 5, 300).x
        rng = np.random.default_rng(0)
        for batch_size in (1, 250):
            model = ln.MatrixSensing(100, dtype=torch.float32)
            indices = rng.integers(300, size=(1, batch_size)).astype(np.int32)
            noise = rng.normal(size=(1, batch_size))
            expected, change = step_by_autograd(model, full, y, indices[0], noise[0], 1e-4)
            train_compiled(prepare(model, x, y, lr=1e-4, steps=1, engine="compiled"))(indices, noise)
            assert (model.u.detach().double() - expected).norm() <= 1e-4 * change.norm()

    @pytest.mark.parametrize("batch_size", [1, 4, None])
    def test_engines_agree_in_float32(self, batch_size):
        """Along a run, which multiplies differences: to some hundred roundings, not to the last digit."""
        x, y, _ = ln.matrix_sensing(6, 1, 10, dtype=torch.float32)
        arguments = dict(lr=0.002, steps=500, batch_size=batch_size, noise=ln.LabelNoise(0.3), progress=False)
        runs = [ln.train(gaussian(6, dtype=torch.float32), x, y, engine=e, **arguments) for e in ("compiled", "torch")]
        assert [run.engine for run in runs] == ["compiled", "torch"]
        assert runs[0].theta.dtype == np.float32
        np.testing.assert_allclose(runs[0].theta, runs[1].theta, rtol=0, atol=1e-4)
        assert np.abs(runs[1].theta[-1] - runs[1].theta[0]).max() > 1e-2

    @pytest.mark.parametrize("batch_size", [1, 5])
    def test_frozen_entries_keep_their_values(self, batch_size):
        model, (x, y) = gaussian(4), data(4, 6)
        theta = flat(model).numpy()
        start, frozen = theta.copy(), np.array([0, 7, 15])
        indices, noise = np.zeros((3, batch_size), np.int32), np.zeros((3, batch_size))
        model.compiled_sgd(theta, model.compiled_inputs(x), y.numpy(), indices, noise, 0.01, frozen)
        np.testing.assert_array_equal(theta == start, np.isin(np.arange(16), frozen))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("poison", [math.nan, math.inf])
    @pytest.mark.parametrize("batch_size, place", [(1, 0), (4, 3), (7, 1), (7, 6)])
    def test_stops_at_the_step_that_is_not_finite(self, batch_size, place, poison, dtype):
        x, y = (part.to(dtype) for part in data(3, 5))
        descend = train_compiled(prepare(gaussian(3, dtype=dtype), x, y, lr=1e-3, steps=6))
        noise = np.zeros((6, batch_size))
        noise[4, place] = poison
        assert descend(np.ones((6, batch_size), np.int32), noise) == 4

    def test_packed_measurements_are_read_where_they_lie(self):
        x = torch.zeros(4, 6)
        assert ln.MatrixSensing(3).compiled_inputs(x).ctypes.data == x.data_ptr()


class Generic(ln.MatrixSensing):
    """The same formula, without the class's own kernel and own way to reg."""


class TestRegIsLinearInX:
    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize("dim, n", [(1, 3), (5, 7), (30, 700)])
    def test_reg_matrix(self, dim, n, packed):
        model, (x, _) = gaussian(dim), data(dim, n)
        form = ln.pack_measurements(x) if packed else x
        q = model.reg_matrix(form)
        squares = sum((a + a.T) @ (a + a.T) for a in x) / n
        torch.testing.assert_close(q, squares, rtol=1e-12, atol=1e-12 * dim)
        reg = ln.implicit_regularizer(Generic(dim, init="gaussian"), form)
        assert (q * model.matrix()).sum().item() == pytest.approx(reg.item(), rel=1e-12)

    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize("dim, n, k", [(1, 3, 2), (5, 7, 4), (30, 400, 50)])
    def test_loss_and_reg_are_those_of_the_generic_code(self, dim, n, k, packed, monkeypatch):
        monkeypatch.setattr("labelnoise_utils.models.matrix_sensing.NUMBERS_PER_CHUNK", 3 * max(n, dim**2))
        x, y = data(dim, n)
        x = ln.pack_measurements(x) if packed else x
        theta = torch.randn(k, dim**2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        quick, generic = (loss_and_reg(cls(dim), theta, x, y) for cls in (ln.MatrixSensing, Generic))
        for one, other in zip(quick, generic, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=0)

    def test_a_model_with_more_in_it_goes_the_generic_way(self):
        model, (x, y) = ln.MatrixSensing(3), data(3, 4)
        model.more = nn.Parameter(torch.ones(2, dtype=torch.float64))
        theta = torch.randn(2, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        expected = loss_and_reg(ln.MatrixSensing(3), theta[:, :9], x, y)
        for one, other in zip(loss_and_reg(model, theta, x, y), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=0)

    @pytest.mark.parametrize("dim, n", [(5, 4000), (20, 400)])
    @pytest.mark.parametrize("init", ["identity", "gaussian"])
    def test_expectation_of_equation_2(self, dim, n, init):
        """2 (d + 1) ||U||^2, within four standard errors of the mean over n measurements."""
        model = ln.MatrixSensing(dim, init=init, scale=1.7)
        norms = ln.per_example_sq_norms(model, data(dim, n)[0]).detach()
        expected = 2 * (dim + 1) * model.u.detach().square().sum()
        error = norms.std() / n**0.5
        assert error < 0.05 * expected, "the error should tell d + 1 from d"
        assert abs(norms.mean() - expected) < 4 * error

    def test_eigenvalues_concentrate_as_n_grows(self):
        """The variance of an entry of Q falls as 1/n, so the spread of the eigenvalues about as 1/sqrt(n)."""
        dim, spreads = 8, []
        for n in (100, 1600):
            runs = [ln.MatrixSensing(dim).reg_matrix(data(dim, n, seed)[0]) for seed in range(20)]
            relative = torch.linalg.eigvalsh(torch.stack(runs)) / (2 * (dim + 1))
            spreads.append((relative - 1).square().mean().sqrt().item())
        assert 3 < spreads[0] / spreads[1] < 5.3  # 4, and 20 matrices


MEMORY = """
import pathlib, sys
import torch
import labelnoise_utils as ln

torch.set_num_threads(1)
def peak():
    return 1024 * int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

def run(dim, n, steps):
    x, y, _ = ln.matrix_sensing(dim, 5, n, packed=True, dtype=torch.float32)
    model = ln.MatrixSensing(dim, dtype=torch.float32)
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    run = ln.train(model, x, y, lr=0.01, steps=steps, batch_size=250, noise=ln.LabelNoise(0.3), record=200, progress=False)
    assert run.engine == "compiled" and run.theta.shape[0] == len(run.step)
    return (x.nbytes + peak() - before) / x.nbytes

run(100, 300, 10)  # loads and compiles
print(run(100, 2500, 400))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_a_run_at_the_papers_size():
    """At most 1.5 times the packed measurements, with the snapshots and everything else."""
    output = subprocess.run([sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True).stdout
    assert float(output) <= 1.5


def test_recovers_where_plain_descent_does_not():
    """The effect in small: rank 1, d = 10, fewer measurements than the bound; noise, then noise off."""
    dim, n = 10, 24
    assert n < 0.75 * ln.psd_uniqueness_bound(dim, 1)
    errors = []
    for seed in range(5):
        x, y, target = ln.matrix_sensing(dim, 1, n, seed)
        for noise, steps in ((None, 100_000), (ln.LabelNoise(0.5**0.5), 400_000)):
            model = ln.MatrixSensing(dim)
            ln.train_stages([model], x, y, [(0.003, steps, noise), (0.003, 60_000, None)], record=2, progress=False)
            with torch.no_grad():
                assert (model(x) - y).square().mean() < 1e-4
            errors.append((model.matrix() - target).square().sum() / target.square().sum())
            if noise:
                assert ln.effective_rank(model.matrix(), tol=0.05) == 1
    plain, noisy = np.reshape(errors, (5, 2)).T
    assert np.median(plain) > 0.5
    assert noisy.max() < 0.01
