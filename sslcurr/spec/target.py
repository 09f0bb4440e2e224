"""What a target can be: the class of an image, labels that may hold together, or a number; and by what it is judged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sslcurr.errors import SpecError, did_you_mean


class TargetKind(NamedTuple):
    """A kind of target.

    Attributes:
        name: as `--target` has it.
        task: what trains it.
        measure: its main measure, as tables call it; higher is better, and 1 is perfect.
        metric: the same, as JSON and metrics call it.
        outputs: what its outputs are called, in the plural.
    """

    name: str
    task: str
    measure: str
    metric: str
    outputs: str

    @property
    def validation(self) -> str:
        """The name of the main measure on validation images, among the metrics of a stage."""
        return f"val_{self.metric}"


CLASSES = TargetKind("classes", "classification", "balanced accuracy", "balanced_accuracy", "classes")
MULTILABEL = TargetKind("multilabel", "multilabel", "macro AUROC", "auroc", "labels")
REGRESSION = TargetKind("regression", "regression", "R²", "r2", "values")
TARGETS = {kind.name: kind for kind in (CLASSES, MULTILABEL, REGRESSION)}
TARGET_TASKS = {kind.task: kind for kind in TARGETS.values()}
# In a list of tasks: the target task of the data set, whichever that is.
TARGET = "target"


def check_target(name: str | None) -> None:
    """Raises SpecError where there is no such kind of target; None leaves it to the data."""
    if name is not None and name not in TARGETS:
        raise SpecError(f"unknown target {name!r}", did_you_mean(name, TARGETS))


# Labels that hold together are written `effusion|mass`: sorted by name, with a question mark before one of which
# nothing is known (`?mass`), and nothing at all where none holds. A number is written as Python writes it.
BETWEEN = "|"
UNKNOWN = "?"


def labels_text(holding: Iterable[str], unknown: Iterable[str] = ()) -> str:
    """Labels that hold together as text; `unknown` are those of which nothing is known."""
    return BETWEEN.join(sorted({*holding, *(f"{UNKNOWN}{name}" for name in unknown)}))
