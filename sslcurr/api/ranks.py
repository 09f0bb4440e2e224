"""Processes that torchrun or srun has started to train together: each takes its place before its command begins."""

from __future__ import annotations


def take_place(devices: int | str = 1) -> None:
    """Let the first of these processes go on with its command; the others help it to its end, and do not return.

    Nothing happens in a process that is alone.

    Args:
        devices: as of `Runtime`; `srun` where that has started the processes.

    Raises:
        SpecError: they cannot meet.
        SystemExit: the first needs no more help.
    """
    from sslcurr.engine.launch import launch_of

    launch = launch_of(devices)
    if launch is not None:
        from sslcurr.engine.crew import begin

        begin(launch)
