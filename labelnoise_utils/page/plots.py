"""The house style, and the figures that more than one chapter draws."""

from collections.abc import Iterable

import matplotlib as mpl
import torch
from matplotlib.axes import Axes

# Okabe-Ito; a colour means the same in every chapter.
NOISE, PLAIN, DATA, PREDICTION = "#D55E00", "#0072B2", "#000000", "#000000"

STYLE = {
    "figure.figsize": (6.4, 3.6),
    "figure.dpi": 130,
    "savefig.dpi": 160,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.bbox": "tight",
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "font.size": 10,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
}


def use_style() -> None:
    """Set Matplotlib's defaults to the book's."""
    mpl.rcParams.update(STYLE)


def functions(ax: Axes, models: Iterable[torch.nn.Module], x: torch.Tensor, y: torch.Tensor, *, noise: bool) -> None:
    """Draw what models of one input compute, over the data they were trained on.

    Args:
        ax: where to draw.
        models: each from a tensor (n,) to a tensor (n,).
        x: (n,), the data's inputs.
        y: (n,), the data's labels.
        noise: whether the models were trained with label noise; sets colour and line style.
    """
    t = torch.linspace(x.min().item(), x.max().item(), 1001, dtype=x.dtype)
    colour, line = (NOISE, "-") if noise else (PLAIN, "--")
    with torch.no_grad():
        for model in models:
            ax.plot(t, model(t), line, color=colour, linewidth=1.1, alpha=0.8)
    ax.plot(x, y, "o", color=DATA, markersize=5, zorder=3)
    ax.set_xlabel("input x")
