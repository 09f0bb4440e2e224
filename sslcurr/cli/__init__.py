"""The command line: one file a command, each of which parses, plans, runs and prints."""

from __future__ import annotations


def main() -> None:
    """Entry point of the console script `sslcurr`."""
    from sslcurr.cli.app import app

    app(prog_name="sslcurr")
