"""What the benchmarks share: programs that take turns, and a table of medians, quartiles and bars."""

import operator
import time
from collections.abc import Callable, Mapping

import numpy as np

MET = {">=": operator.ge, "<=": operator.le, "<": operator.lt}


def cpu_times(calls: Mapping[str, Callable[[], object]], repeats: int, *, at_least: float = 0.0) -> dict[str, np.ndarray]:
    """Let programs take turns, and time each.

    Args:
        calls: the programs.
        repeats: how many turns each has.
        at_least: seconds of a turn; a program that is done sooner is called again.

    Returns:
        For each of them (repeats,), seconds of CPU time per call.
    """
    times = {name: np.empty(repeats) for name in calls}
    for repeat in range(repeats):
        for name, call in calls.items():
            begin, count, spent = time.process_time(), 0, 0.0
            while count == 0 or spent < at_least:
                call()
                count, spent = count + 1, time.process_time() - begin
            times[name][repeat] = spent / count
    return times


def print_head() -> None:
    """Print the names of the columns."""
    print(f"{'':54}{'median':>8}{'quartiles':>15}{'bar':>6}")


def print_row(what: str, values: np.ndarray, bar: float | None = None, sign: str = ">=") -> None:
    """Print median and quartiles of some values, the bar, and whether the median meets it."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    shown = [f"{v:.3g}" if v < 100 else f"{v:,.0f}" for v in (median, low, high)]
    line = f"  {what:52}{shown[0]:>8}{'-'.join(shown[1:]) if low < high else '':>15}"
    if bar is not None:
        line += f"{sign:>5} {bar:<6,g}{'met' if MET[sign](median, bar) else 'missed'}"
    print(line.rstrip(), flush=True)
