"""Ctrl-C and SIGTERM as a request that the training loop answers between two steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sslcurr.errors import Interrupted

# A job manager may send SIGTERM to a process and to the one that passes it on: within so many seconds that is one stop.
ONE_REQUEST = 5.0


class StopSignals:
    """Remembers the first signal that asked to stop.

    Attributes:
        signal: its number; 0 while none has.
        raises: whether it is raised at once, as there is nothing to save.
    """

    signal = 0
    raises = False


_outer: StopSignals | None = None


@contextmanager
def stop_signals(*, raises: bool = False, insists: bool = True) -> Iterator[StopSignals]:
    """Turn Ctrl-C and SIGTERM into a stop after the step at hand; a second one stops at once.

    Within another such context this is the same request: what came before counts.

    Args:
        raises: raise Interrupted at the first, wherever the process is; a context within may save first.
        insists: whether a second signal stops at once; that of the outermost context counts.
    """
    global _outer
    if threading.current_thread() is not threading.main_thread():
        yield StopSignals()
        return
    if _outer is not None:
        outer, _outer.raises = _outer.raises, raises
        try:
            yield _outer
        finally:
            _outer.raises = outer
        return
    stop, began = StopSignals(), [0.0]
    stop.raises = raises

    def ask(number: int, frame: FrameType | None) -> None:
        if not stop.signal:
            stop.signal, began[0] = number, time.monotonic()
            if stop.raises:
                raise Interrupted("stopped", "run the same command again to go on", number)
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
