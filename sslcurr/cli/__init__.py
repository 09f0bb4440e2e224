"""The command line: one file a command, each of which parses, plans, runs and prints."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the console script `sslcurr`."""
    try:
        from sslcurr.cli.app import app

        app(prog_name="sslcurr")
    except KeyboardInterrupt:  # while the program loads; commands have their own answer
        print("stopped: interrupted before anything was begun\nhint: run the same command again", file=sys.stderr)
        raise SystemExit(130) from None
