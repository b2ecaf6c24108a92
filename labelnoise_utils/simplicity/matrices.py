"""How simple a matrix is: its rank and its nuclear norm."""

import torch

from ..arguments import as_number


def effective_rank(matrix: torch.Tensor, *, tol: float) -> int:
    """How many singular values are above ``tol`` times the largest.

    Args:
        matrix: (m, k).
        tol: in [0, 1), which fraction of the largest is not worth counting.

    Returns:
        The number, 0 for the zero matrix.

    Raises:
        TypeError: if ``matrix`` is no tensor or ``tol`` no number.
        ValueError: if ``matrix`` is no matrix or not finite, or ``tol`` is outside [0, 1).

    Source: Figure 1, whose matrix X* has rank 5.

    >>> effective_rank(torch.diag(torch.tensor([2.0, 1.0, 0.01])), tol=0.05)
    2
    """
    if not 0 <= as_number("tol", tol) < 1:
        raise ValueError(f"tol must be in [0, 1), got {tol:g}")
    values = _singular_values(matrix)
    return int((values > tol * values.max()).sum())


def nuclear_norm(matrix: torch.Tensor) -> float:
    """The sum of the singular values; for ``X = U U^T`` that is the trace, ``||U||_F^2``.

    Args:
        matrix: (m, k).

    Returns:
        The norm.

    Raises:
        TypeError: if ``matrix`` is no tensor.
        ValueError: if it is no matrix, or not finite.

    Source: section 1.1, "Matrix sensing".

    >>> nuclear_norm(torch.diag(torch.tensor([2.0, -1.0])))
    3.0
    """
    return _singular_values(matrix).sum().item()


def _singular_values(matrix: torch.Tensor) -> torch.Tensor:
    if not isinstance(matrix, torch.Tensor):
        raise TypeError(f"matrix must be a torch.Tensor, got {type(matrix).__name__}")
    if matrix.dim() != 2 or 0 in matrix.shape:
        raise ValueError(f"matrix must have two dimensions, neither of them empty, got shape {tuple(matrix.shape)}")
    if not torch.isfinite(matrix).all():
        raise ValueError("matrix must be finite, got NaN or infinity")
    return torch.linalg.svdvals(matrix.detach())
