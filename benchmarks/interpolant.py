"""The network of least reg on points in the plane, built and certified: ``python -m benchmarks.interpolant``.

README.md says how to read what it prints. The exit status is 1 if a network is not certified or misses its labels, else 0.
"""

import importlib.metadata
import platform
import sys

import numpy as np
import torch

import labelnoise_utils as ln

from .table import cpu_times, print_head, print_row

# Points, turns, and the most seconds that the median may take.
SIZES = ((30, 5, 3), (100, 1, 60))
MISS = 1e-7


def cloud(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gaussian points in the plane, and Gaussian labels.

    Args:
        n: how many.

    Returns:
        x (n, 2) and y (n,), in float64.
    """
    rng = np.random.default_rng(n)
    return torch.from_numpy(rng.normal(size=(n, 2))), torch.from_numpy(rng.normal(size=n))


def check_result(x: torch.Tensor, y: torch.Tensor, f: ln.NetworkInterpolant) -> None:
    """Leave with status 1 unless the network fits, and no other can have a reg that is lower by 1e-6 of it."""
    with torch.no_grad():
        miss = ((f.model(x) - y).abs().max() / (y.max() - y.min())).item()
    if not (f.certified and miss <= MISS):
        sys.exit(f"wrong: n = {len(x)}, reg {f.reg} with the bound {f.lower_bound}, labels missed by {miss:.1e} of their range")


def main() -> None:
    """Measure, and print the table row by row."""
    torch.set_num_threads(1)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("clarabel", "numpy", "scipy"))
    print(f"Python {platform.python_version()}, {versions}; float64, one thread")
    print_head()
    print("minimal_interpolant in the plane: seconds of CPU time, and what is left below reg")
    for n, turns, bar in SIZES:
        x, y = cloud(n)
        found = []
        seconds = cpu_times({"exact": lambda x=x, y=y, found=found: found.append(ln.minimal_interpolant(x, y))}, turns)["exact"]
        f = found[-1]
        check_result(x, y, f)
        print_row(f"n = {n}, {f.patterns:,} patterns, {len(f.units)} units", seconds, bar, "<=")
        print_row("  (reg - lower bound) / reg", np.array([1 - f.lower_bound / f.reg]), 1e-6, "<=")


if __name__ == "__main__":
    main()
