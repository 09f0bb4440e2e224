"""Pretext tasks and classification: one file a task, one line in the table."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from sslcurr.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from sslcurr.tasks.base import Task

TASKS = {
    "relative-location": "sslcurr.tasks.relative_location:RelativeLocation",
    "jigsaw": "sslcurr.tasks.jigsaw:Jigsaw",
    "rotation": "sslcurr.tasks.rotation:Rotation",
    "npid": "sslcurr.tasks.npid:NPID",
    "deepcluster": "sslcurr.tasks.deepcluster:DeepCluster",
    "odc": "sslcurr.tasks.odc:ODC",
    "simclr": "sslcurr.tasks.simclr:SimCLR",
    "mocov2": "sslcurr.tasks.mocov2:MoCoV2",
    "densecl": "sslcurr.tasks.densecl:DenseCL",
    "swav": "sslcurr.tasks.swav:SwAV",
    "byol": "sslcurr.tasks.byol:BYOL",
    "simsiam": "sslcurr.tasks.simsiam:SimSiam",
    "dino": "sslcurr.tasks.dino:DINO",
    "barlow-twins": "sslcurr.tasks.barlow_twins:BarlowTwins",
    "vicreg": "sslcurr.tasks.vicreg:VICReg",
    "classification": "sslcurr.tasks.classification:Classification",
}
PRETEXT = tuple(name for name in TASKS if name != "classification")


def check_pretext(names: list[str]) -> None:
    """Say at once, before anything heavy is imported, which name is no pretext task.

    Raises:
        SpecError: an unknown name, or `classification`, which `chain` adds itself.
    """
    for name in names:
        if name == "classification":
            raise SpecError(
                "classification is no pretext task", "chain ends with it by itself; finetune trains it alone"
            )
        if name not in TASKS:
            raise SpecError(f"unknown task {name!r}", did_you_mean(name, PRETEXT))


def task_class(name: str) -> type[Task]:
    """The class of a task by its name in the table; imports torch.

    Raises:
        SpecError: no task has that name.
    """
    if name not in TASKS:
        raise SpecError(f"unknown task {name!r}", did_you_mean(name, TASKS))
    module, _, attribute = TASKS[name].partition(":")
    found: type[Task] = getattr(importlib.import_module(module), attribute)
    return found
