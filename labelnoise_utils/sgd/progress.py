"""What somebody sees and does who waits for a run: a bar, and an interrupt that loses nothing."""

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

from tqdm.auto import tqdm

SECONDS_TO_BAR = 2
INTERRUPTS = signal.SIGINT, signal.SIGTERM

# What is done now and then pauses so many times as long as it took.
PAUSES = 99


@contextlib.contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turn the first interrupt or request to end, SIGINT or SIGTERM, inside the block into a set event.

    A second one, of either kind, acts as ever, and so do all after the block.

    Yields:
        The event. In a thread other than the main one nothing changes, since signals do not reach it.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    home = os.getpid()

    def handle(signum: int, frame: object) -> None:
        if os.getpid() == home:
            stop.set()
            put_back()
        elif signum == signal.SIGTERM:  # a worker that was forked in the block, and is told to end by its pool
            put_back()
            signal.raise_signal(signum)

    # One that was not set from Python, None, could not be put back; what a shell has ignored, as for `program &`, stays so.
    before = {number: handler for number in INTERRUPTS if (handler := signal.getsignal(number)) not in (None, signal.SIG_IGN)}
    try:
        for number in before:
            signal.signal(number, handle)
        yield stop
    finally:
        put_back()


@contextlib.contextmanager
def progress_bar(total: int, show: bool) -> Iterator[Callable[[int], None]]:
    """A bar over steps, with rate and time left, that appears after two seconds.

    Args:
        total: number of steps.
        show: whether there is a bar at all.

    Yields:
        The function to call with each number of steps made.
    """
    with _bar(total, show) as bar:
        yield bar.update


@contextlib.contextmanager
def labelled_bar(total: int, show: bool) -> Iterator[tuple[Callable[[int], None], Callable[[float, float], None] | None]]:
    """The same for one run, with its latest loss and reg.

    Args:
        total: number of steps.
        show: whether there is a bar at all.

    Yields:
        The function to call with each number of steps made, and the one to call with a loss and a reg, NaN where there is
        none; None in its place if nobody would see them.
    """
    with _bar(total, show) as bar:

        def label(loss: float, reg: float) -> None:
            seen = [f"{name} {value:.3g}" for name, value in (("loss", loss), ("reg", reg)) if not math.isnan(value)]
            bar.set_postfix_str(", ".join(seen), refresh=False)

        yield bar.update, None if _is_hidden(show) else label


def _is_hidden(show: bool) -> bool:
    # tqdm's notebook bar overlooks the variable that its text bar honours.
    return not show or os.environ.get("TQDM_DISABLE", "0") not in ("", "0")


def _bar(total: int, show: bool) -> tqdm:
    hidden = _is_hidden(show)
    return tqdm(total=total, unit="step", unit_scale=True, delay=SECONDS_TO_BAR, mininterval=0.5, disable=hidden)


class NowAndThen:
    """When to do again what takes some time, so that it takes about a hundredth of all time.

    Args:
        pause: the least number of seconds from one time to the next.
        wait: the number of seconds before the first.
    """

    def __init__(self, pause: float, wait: float) -> None:
        self._pause, self._next = pause, time.perf_counter() + wait

    def is_due(self) -> bool:
        """Whether the pause is over."""
        return time.perf_counter() >= self._next

    @contextlib.contextmanager
    def once(self) -> Iterator[None]:
        """Do it in the block.

        Yields:
            Nothing.
        """
        began = time.perf_counter()
        try:
            yield
        finally:
            now = time.perf_counter()
            self._next = now + max(self._pause, PAUSES * (now - began))
