"""What is done where no data set is named: few labels and a small network, so that a first command soon ends.

The values are those of the packaged images; `benchmarks/first.py` shows what they give over five seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sslcurr.spec.request import Request
from sslcurr.spec.settings import parse
from sslcurr.spec.target import CLASSES, TARGET, TARGET_TASKS

BACKBONE, LABEL_FRACTION, EPOCHS = "test_resnet", 0.08, 6
OF_TARGET = {"epochs": "40", "batch_size": "16"}


def demonstration(request: Request, tasks: Sequence[str]) -> Request:
    """A request that names no data set, with the values of the demonstration where it says nothing itself.

    Args:
        request: without a data set, and not from a checkpoint.
        tasks: of the call.

    Raises:
        SpecError: a setting that cannot be.
    """
    pretext = [task for task in tasks if task != TARGET and task not in TARGET_TASKS]
    target = CLASSES.task
    said = parse(request.settings, [*pretext, *TARGET_TASKS, "data", "search"])
    wanted = {task: {"epochs": str(EPOCHS)} for task in pretext} | ({target: OF_TARGET} if TARGET in tasks else {})
    added = [
        f"{task}.{name}={value}"
        for task, values in wanted.items()
        for name, value in values.items()
        if name not in said.get(task, {}) and getattr(request, name) is None
    ]
    return replace(
        request,
        backbone=request.backbone or BACKBONE,
        label_fraction=LABEL_FRACTION if request.label_fraction == 1.0 else request.label_fraction,
        settings=(*request.settings, *added),
    )
