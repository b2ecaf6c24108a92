"""What somebody sees and does who waits for a run: a bar, and an interrupt that loses nothing."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from tqdm.auto import tqdm


@contextlib.contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turn the first interrupt inside the block into a set event; a second one interrupts as ever.

    Yields:
        The event. In a thread other than the main one nothing changes, since signals do not reach it.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(signum: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def progress_bar(total: int, show: bool) -> Iterator[Callable[[int], None]]:
    """A bar over steps, with rate and time left, that appears after two seconds.

    Args:
        total: number of steps.
        show: whether there is a bar at all.

    Yields:
        The function to call with each number of steps made.
    """
    # tqdm's notebook bar overlooks the variable that its text bar honours.
    hidden = not show or os.environ.get("TQDM_DISABLE", "0") not in ("", "0")
    with tqdm(total=total, unit="step", unit_scale=True, delay=2, mininterval=0.5, disable=hidden) as bar:
        yield bar.update
