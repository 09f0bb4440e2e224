"""The user's mistakes. Each says in one line what is wrong and, in its hint, what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SslcurrError(Exception):
    """A mistake or a circumstance that the user can mend; the command line prints it without a traceback.

    `exit_code` is that of the command line.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class SpecError(SslcurrError):
    """A setting that cannot be: unknown, of the wrong type, or out of range."""


class DataError(SslcurrError):
    """Images, tables or labels that are missing, broken or do not fit the command."""


class Changed(DataError):
    """Files that are not as they were when they were packed: the same command sees them as they are now."""


class StoreError(SslcurrError):
    """A stage or folder of results that is missing, half-written or cannot be written."""


class CheckpointError(SslcurrError):
    """Weights that cannot be read or do not fit the backbone."""


class TrainingError(SslcurrError):
    """A training that cannot go on, such as a loss that is not finite."""


class CommandError(SslcurrError):
    """Another command that this one runs, and that failed with `exit_code`."""

    def __init__(self, message: str, hint: str, exit_code: int) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code


class Interrupted(SslcurrError):
    """A training stopped by a signal after its state was saved; `signal` is the signal's number."""

    def __init__(self, message: str, hint: str, signal: int) -> None:
        super().__init__(message, hint)
        self.signal = signal


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the computer or of a GPU, was not enough."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)  # torch's on the CPU


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word, or all of them when none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
