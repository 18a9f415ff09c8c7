"""Stopping a long command in order: the first Ctrl-C or SIGTERM asks, the second ends.

The idea: a signal sets a flag that the work asks for; what is finished is kept, workers end, and
one line says so.  Whoever does not want to wait for the present step signals again.
It fails outside of the main thread, where Python takes no signals; then nothing is changed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPED = "stopped; what is finished is kept, the same command goes on from there"


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Take Ctrl-C and SIGTERM as a wish to stop while the block runs.

    Yields
    ------
    callable
        Whether a stop is wished for.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    wished = threading.Event()

    def wish(number: int, _: FrameType | None) -> None:
        if wished.is_set():
            # at once, whatever is being done: workers end with this process
            os.write(2, f"islet-imaging: {STOPPED}\n".encode())
            os._exit(128 + number)
        wished.set()
        os.write(2, b"islet-imaging: stopping after this step; once more to stop at once\n")

    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, wish)
    try:
        yield wished.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.stderr.flush()
