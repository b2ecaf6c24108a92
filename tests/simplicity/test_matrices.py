"""Measures of matrices, on matrices whose answers are known."""

import math

import numpy as np
import pytest
import torch

import labelnoise_utils as ln


class TestSingularValues:
    def test_count_and_sum(self):
        rng = np.random.default_rng(0)
        left, right = (np.linalg.qr(rng.normal(size=(n, n)))[0] for n in (5, 7))
        values = np.array([3.0, 2.0, 0.16, 0.14, 0.0])
        matrix = torch.from_numpy(left * values @ right[:5])
        assert [ln.effective_rank(matrix, tol=tol) for tol in (0.04, 0.05, 0.5, 0.7)] == [4, 3, 2, 1]
        assert ln.nuclear_norm(matrix) == pytest.approx(5.3, rel=1e-12)
        assert ln.nuclear_norm(matrix.T.float()) == pytest.approx(5.3, rel=1e-6)

    def test_nuclear_norm_of_u_times_its_transpose_is_the_norm_of_u(self):
        u = torch.from_numpy(np.random.default_rng(1).normal(size=(6, 4)))
        assert ln.nuclear_norm(u @ u.T) == pytest.approx(u.square().sum().item(), rel=1e-12)

    def test_zero_matrix(self):
        assert (ln.effective_rank(torch.zeros(3, 3), tol=0.1), ln.nuclear_norm(torch.zeros(3, 3))) == (0, 0.0)

    @pytest.mark.parametrize(
        "matrix, error, message",
        [
            (torch.zeros(3), ValueError, r"two dimensions.*\(3,\)"),
            (torch.zeros(0, 3), ValueError, r"neither of them empty.*\(0, 3\)"),
            (torch.tensor([[1.0, math.nan]]), ValueError, "matrix must be finite"),
            ([[1.0]], TypeError, "matrix must be a torch.Tensor, got list"),
        ],
    )
    def test_bad_matrix(self, matrix, error, message):
        for measure in (ln.nuclear_norm, lambda m: ln.effective_rank(m, tol=0.1)):
            with pytest.raises(error, match=message):
                measure(matrix)

    @pytest.mark.parametrize("tol", [-0.1, 1.0, math.nan])
    def test_bad_tol(self, tol):
        with pytest.raises(ValueError, match="tol must be"):
            ln.effective_rank(torch.eye(2), tol=tol)
