"""The runs that take too long for a page, as they were recorded."""

import json
from importlib import resources


def recorded_runs() -> dict:
    """Label noise on data TWO from the concave fit, small steps, as ``tools/record_hand_over.py`` wrote it down.

    Returns:
        ``command`` and package ``version`` of the recording; ``lr``, ``noise_std``, ``start``, the first level; and ``runs``,
        of each its ``seed``, the ``steps`` of its snapshots, there ``level``, ``reg`` and ``changes`` of convexity, with
        the noise taken off; and ``early``, the parameters at the second snapshot as they were.

    Source: ours; chapter "Go deeper".

    >>> [run["changes"][-1] for run in recorded_runs()["runs"]]
    [2, 2, 2]
    """
    return json.loads(resources.files(__package__).joinpath("recorded.json").read_text("utf-8"))
