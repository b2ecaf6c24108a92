"""When connecting the dots is optimal: for which inputs the polygon has the least reg, whatever the labels."""

import numpy as np
import torch

from ..arguments import as_tensor
from .labelled_points import distinct_points
from .programme import TOLERANCE, Kinks, most_wanted


def dots_are_optimal(x: torch.Tensor | np.ndarray) -> bool:
    r"""Whether connecting the dots has the least reg of all exact fits, for every choice of the labels.

    Let w(k) be the price of a kink at k, as in :func:`minimal_interpolant`. A kink in the gap from ``x_i`` to ``x_{i+1}``, at
    ``k = (1 - t) x_i + t x_{i+1}``, does to the data what bends ``1 - t`` and ``t`` times as large do at the two ends. So
    connecting the dots is optimal for every y if and only if

    ``(1 - t) w(x_i) + t w(x_{i+1}) <= w(k)``

    for all k in all gaps but the first and the last, where it always holds. If it fails anywhere, it is beaten for all labels
    whose bends are of one sign, none of them 0. For each facing w is the length of a vector that is linear in k, so the k
    at which the left side is largest beside the right one has a closed form.

    It holds for equally spaced inputs if ``1 + x^2`` varies by at most a factor of 4, as in ``[-sqrt(3), sqrt(3)]``. Where it
    fails, the bends of the polygon cost at most ``sqrt(2)`` times those of the optimum.

    Args:
        x: (n,), the inputs, in any order; repeated ones count as often as they are there.

    Returns:
        True or False. A kink that is cheaper by less than 1e-9 of its price, what :func:`minimal_interpolant` can see,
        does not count.

    Raises:
        TypeError: if x is no tensor or array, or not of real numbers.
        ValueError: if x has another shape, holds no point, or a value is NaN, infinite or beyond 1e100.

    Source: ours; section 1.2 asks for "nearest-neighbor" interpolation. Chapter "Build the simplest interpolant".

    >>> dots_are_optimal(torch.linspace(-1, 1, 12)), dots_are_optimal(5.14 * torch.arange(6) - 9.35)
    (True, False)
    """
    x = as_tensor("x", x)
    if x.dim() != 1:
        raise ValueError(f"x must have shape (n,), got {tuple(x.shape)}")
    x, _, place, _ = distinct_points(x, torch.zeros(len(x)))
    if len(x) < 4:
        return True
    counts = np.bincount(place)
    chords = np.concatenate([[0], Kinks.at(x, counts, x[1:-1]).price, [0]])
    return bool(most_wanted(x, counts, chords)[1].max(initial=0) <= 1 + TOLERANCE)
