"""The data sets of the paper's experiments, as functions of what the paper leaves open."""

import math
import os
from typing import Literal, NamedTuple

import numpy as np
import torch

from .arguments import as_integer, as_number

NUMBERS_PER_BLOCK = 2**18


def twelve_points(knots: Literal["between", "on"] = "between", *, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Twelve points on a zig-zag line: the data of Figures 2 and 3, in our version.

    The paper shows twelve points and gives no coordinates. These lie on a piecewise-linear function with slopes 1.5, -1.5,
    2, -1, so the simplest interpolant changes its convexity twice. Where the slope changes is the one choice that matters:

    * ``"between"`` (data B): in the middle of the gaps between points 2 and 3, 5 and 6, 8 and 9 (counted from 0). The
      corner itself is not in the data, and every run of three points is collinear.
    * ``"on"`` (data A): at the points 3, 6 and 9.

    Args:
        knots: where the slope changes.
        scale: factor on y.

    Returns:
        x (12,), equally spaced on [-1, 1], and y (12,), both float64. The first label is ``-0.3 * scale``.

    Raises:
        TypeError: if ``scale`` is no number.
        ValueError: if it is not finite, or ``knots`` is neither.

    Source: Figures 2 and 3.
    """
    offsets = {"between": 2.5, "on": 3.0}
    if knots not in offsets:
        raise ValueError(f"knots must be 'between' or 'on', got {knots!r}")
    x = torch.linspace(-1, 1, 12, dtype=torch.float64)
    gap = 2 / 11
    corners = [-1 + gap * (offsets[knots] + 3 * i) for i in range(3)]
    slopes = [1.5, -1.5, 2.0, -1.0]
    y = -0.3 + slopes[0] * (x + 1)
    for corner, before, after in zip(corners, slopes[:-1], slopes[1:], strict=True):
        y = y + (after - before) * torch.relu(x - corner)
    return x, as_number("scale", scale) * y


class Measurements(NamedTuple):
    """The data of matrix sensing, as :func:`matrix_sensing` draws them.

    Attributes:
        x: (n, d, d), the measurements A_i, or (n, d(d+1)/2), packed.
        y: (n,), the labels ``<A_i, X*>``.
        target: (d, d), the matrix X* that is to be recovered.
    """

    x: torch.Tensor
    y: torch.Tensor
    target: torch.Tensor


def matrix_sensing(
    dim: int, rank: int, n: int, seed: int = 0, *, packed: bool = False, dtype: torch.dtype = torch.float64
) -> Measurements:
    """Random linear measurements of a random matrix of low rank: the data of Figure 1, in our scale.

    ``y_i = <A_i, X*>``, where the entries of the A_i are independent and standard normal, as in the paper, and
    ``X* = U* U*^T``, where those of U* (d, rank) are ``N(0, 1/d)``, which the paper leaves open: X* then has about
    ``rank`` eigenvalues of order 1.

    Args:
        dim: d.
        rank: of X*, at most ``dim``.
        n: number of measurements.
        seed: the same seed gives the same X*, and the same first measurements, whatever n, ``packed`` and ``dtype``.
        packed: whether x comes as :func:`pack_measurements` makes it, in half of the memory; the measurements are
            drawn in blocks, and never held in full.
        dtype: of all three; they are drawn and multiplied in float64, then rounded.

    Returns:
        A named tuple of x (n, d, d) or (n, d(d+1)/2), y (n,) and target (d, d).

    Raises:
        TypeError: if a number is no integer, or ``dtype`` is not a real floating-point type.
        ValueError: if a number is out of range, or x would not fit into the memory of the machine.

    Source: Figure 1; chapter "Recover a low-rank matrix".

    >>> x, y, target = matrix_sensing(dim=4, rank=1, n=6)
    >>> x.shape, y.shape, target.shape
    (torch.Size([6, 4, 4]), torch.Size([6]), torch.Size([4, 4]))
    """
    dim, rank = _dim_and_rank(dim, rank)
    n, seed = as_integer("n", n, 1), as_integer("seed", seed, 0)
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype must be a floating-point torch.dtype, got {dtype!r}")
    shape = (n, dim * (dim + 1) // 2) if packed else (n, dim, dim)
    _check_memory(shape, dtype)
    of_target, of_measurements = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(2))
    factor = of_target.standard_normal((dim, rank)) / math.sqrt(dim)
    target = torch.from_numpy(factor @ factor.T)
    x, y = torch.empty(shape, dtype=dtype), torch.empty(n, dtype=dtype)
    for rows in torch.arange(n).split(max(1, NUMBERS_PER_BLOCK // dim**2)):
        block = torch.from_numpy(of_measurements.standard_normal((len(rows), dim, dim)))
        y[rows] = (block.flatten(1) @ target.flatten()).to(dtype)
        x[rows] = (pack_measurements(block) if packed else block).to(dtype)
    return Measurements(x, y, target.to(dtype))


def pack_measurements(measurements: torch.Tensor) -> torch.Tensor:
    """Measurements of symmetric matrices in half of the memory.

    ``<A, X> = sum_j A_jj X_jj + sum_{j<k} (A_jk + A_kj) X_jk`` for a symmetric X: these d(d+1)/2 coefficients are all that it
    sees of A.

    Args:
        measurements: (n, d, d).

    Returns:
        (n, d(d+1)/2), the coefficients, row by row of the upper triangle.

    Raises:
        TypeError: if it is no tensor of real floating-point numbers.
        ValueError: if it holds no measurement, or they are not square.

    Source: section 1.1, "Matrix sensing": the hypothesis X = U U^T is symmetric.

    >>> pack_measurements(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
    tensor([[1., 5., 4.]])
    """
    if not isinstance(measurements, torch.Tensor) or not measurements.is_floating_point():
        what = measurements.dtype if isinstance(measurements, torch.Tensor) else type(measurements).__name__
        raise TypeError(f"measurements must be a tensor of real floating-point numbers, got {what}")
    shape = tuple(measurements.shape)
    if len(shape) != 3 or shape[1] != shape[2]:
        raise ValueError(f"measurements must be square, of shape (n, d, d), got {shape}")
    if 0 in shape:
        raise ValueError(f"there must be at least one measurement, of at least one entry, got shape {shape}")
    n, d, _ = shape
    j, k = torch.triu_indices(d, d, device=measurements.device)
    packed = measurements.new_empty(n, len(j))
    # In blocks, so that no second array of this size is made on the way.
    for rows in torch.arange(n).split(max(1, NUMBERS_PER_BLOCK // d**2)):
        block = measurements[rows]
        packed[rows] = block[:, j, k] + torch.where(j < k, block[:, k, j], 0)
    return packed


def psd_uniqueness_bound(dim: int, rank: int) -> float:
    """About how many random measurements make X* the only positive semidefinite matrix that fits them.

    A positive semidefinite X has the labels of X* exactly if D = X - X* is measured as 0, and the D for which X* + t D
    stays positive semidefinite for some t > 0 form, up to their closure, the cone of symmetric D that are positive semidefinite
    on the null space of X*. It is the product of two cones:

    * whatever D does to the range of X*, a space of ``d r - r (r - 1) / 2`` dimensions for rank r;
    * the positive semidefinite cone on the null space. It is its own dual, so its statistical dimension is half of that of the
      space it lies in, ``(d - r)(d - r + 1) / 2``.

    The sum is the statistical dimension of the cone. n random measurements of D vanish on a uniformly random subspace of
    codimension n, which meets a convex cone in 0 alone with high probability once n exceeds the cone's statistical
    dimension by some standard deviations of its intrinsic volumes, and meets it elsewhere if n falls short by as much. Here
    one of these is about 0.4 d: for G a standard normal symmetric matrix of size d - r, the root of the variance of the sum of
    the squares of its positive eigenvalues, less twice their mean (McCoy and Tropp, 2014).

    So with clearly more measurements than this, an algorithm that fits them with X = U U^T has found X*, and nothing is
    learnt about what it prefers.

    Args:
        dim: d.
        rank: r, of X*.

    Returns:
        ``d r - r (r - 1) / 2 + (d - r)(d - r + 1) / 4``.

    Raises:
        TypeError: if a number is no integer.
        ValueError: if ``rank`` is not between 1 and ``dim``.

    Source: ours, from Amelunxen, Lotz, McCoy and Tropp (2014), Theorem II; the paper's setting has n = 2500.

    >>> psd_uniqueness_bound(dim=100, rank=5)
    2770.0
    """
    d, r = _dim_and_rank(dim, rank)
    return d * r - r * (r - 1) / 2 + (d - r) * (d - r + 1) / 4


def _dim_and_rank(dim: int, rank: int) -> tuple[int, int]:
    dim, rank = as_integer("dim", dim, 1), as_integer("rank", rank, 1)
    if rank > dim:
        raise ValueError(f"rank must be at most dim = {dim}, got {rank}")
    return dim, rank


def _check_memory(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Refuse an array that the machine's memory does not hold, as far as the system says how much that is."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return
    needed = math.prod(shape) * dtype.itemsize
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise ValueError(
            f"{shape[0]} measurements of shape {shape[1:]} in {dtype} take {needed / 1e9:,.1f} GB, and this machine has"
            f" {there / 1e9:,.1f} GB: packed=True halves them, dtype=torch.float32 halves them again, or draw fewer"
        )
