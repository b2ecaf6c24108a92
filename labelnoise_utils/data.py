"""The data sets of the paper's experiments, as functions of what the paper leaves open."""

from typing import Literal

import torch

from .arguments import as_number


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
