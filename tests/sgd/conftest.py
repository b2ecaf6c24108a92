"""What the tests of runs share: interrupts as a user presses them, and progress bars to look at."""

import signal
import threading
import time

import pytest


@pytest.fixture
def ctrl_c():
    """Send this process interrupts once a run listens for them, as a user at a terminal would."""
    threads = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def press(times=1, after=0.3, when=lambda: True):
        def wait_and_press():
            while signal.getsignal(signal.SIGINT) is signal.default_int_handler or not when():
                time.sleep(0.001)
            for _ in range(times):
                time.sleep(after)
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        threads.append(threading.Thread(target=wait_and_press, daemon=True))
        threads[-1].start()

    yield press
    for thread in threads:
        thread.join(timeout=10)
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def assert_interrupts_work_as_ever():
    def look():
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    return look


@pytest.fixture
def bars(monkeypatch):
    """The progress bars that a call makes, each with its arguments and the steps that it counted."""
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    made = []

    class Bar:
        def __init__(self, **arguments):
            self.arguments, self.done, self.labels = arguments, 0, []
            made.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, steps):
            self.done += steps

        def set_postfix_str(self, label, refresh):
            self.labels.append(label)

    monkeypatch.setattr("labelnoise_utils.sgd.progress.tqdm", Bar)
    return made
