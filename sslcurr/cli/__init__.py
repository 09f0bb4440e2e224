"""The command line: one file a command, each of which parses, plans, runs and prints."""

from __future__ import annotations

import os
import sys

from sslcurr.wording import is_unicode, visible


def main() -> None:
    """Entry point of the console script `sslcurr`."""
    odd = [word for word in sys.argv[1:] if not is_unicode(word)]
    if odd:  # a file name of another encoding, which no record could hold
        print(f"error: {visible(odd[0])} is no text in UTF-8\nhint: rename that file or folder", file=sys.stderr)
        raise SystemExit(1)
    try:
        from sslcurr.cli.app import program
        from sslcurr.cli.completion import completed_words

        words = completed_words(os.environ)
        if words is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # a line is being typed there
        program(sys.argv[1:] if words is None else words)(prog_name="sslcurr")
    except KeyboardInterrupt:  # while the program loads; commands have their own answer
        print("stopped: interrupted before anything was begun\nhint: run the same command again", file=sys.stderr)
        raise SystemExit(130) from None
