"""Ctrl-C and SIGTERM as a request that the training loop answers between two steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# A job manager may send SIGTERM to a process and to the one that passes it on: within so many seconds that is one stop.
ONE_REQUEST = 5.0


class StopSignals:
    """Remembers the first signal that asked to stop; 0 while none has."""

    signal = 0


_outer: StopSignals | None = None


@contextmanager
def stop_signals(*, insists: bool = True) -> Iterator[StopSignals]:
    """Turn Ctrl-C and SIGTERM into a stop after the step at hand; a second one stops at once.

    Within another such context this is the same request: what came before counts.

    Args:
        insists: whether a second signal stops at once.
    """
    global _outer
    if threading.current_thread() is not threading.main_thread():
        yield StopSignals()
        return
    if _outer is not None:
        yield _outer
        return
    stop, began = StopSignals(), [0.0]

    def ask(number: int, frame: FrameType | None) -> None:
        if not stop.signal:
            stop.signal, began[0] = number, time.monotonic()
        elif insists and (number == signal.SIGINT or time.monotonic() - began[0] > ONE_REQUEST):
            raise KeyboardInterrupt

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    _outer = stop
    try:
        yield stop
    finally:
        _outer = None
        for number, handler in before.items():
            signal.signal(number, handler)
