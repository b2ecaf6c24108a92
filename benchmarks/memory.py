"""Memory that a long run takes: ``python benchmarks/memory.py relu 10000000``, in a process of its own.

Prints by how many MB the process's peak grew over a run of so many steps, less the run's snapshots.
"""

import resource
import sys

import cases

import labelnoise_utils as ln

KILOBYTE = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, else in kilobytes


def peak() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTE


def growth(case: cases.Case, steps: int) -> float:
    """Train for so many steps, with the usual snapshots.

    Args:
        case: what to train.
        steps: how long.

    Returns:
        Growth of the peak above that after a run of ten steps, which loads and compiles all there is
        to load and compile, less the size of the snapshots; in MB.
    """
    case.train(steps=10, record=[0])
    before = peak()
    run = case.train(steps=steps)
    return (peak() - before - run.theta.nbytes) / 1e6
