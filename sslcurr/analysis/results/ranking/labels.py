"""What the charts of rankings, searches and what is made of them write."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UnsetType

from sslcurr.analysis.results.estimate import INTERVAL, measure_of
from sslcurr.wording import counted, images_of, shortened

MEASURES = {"finetune": "fine-tuned", "linear": "linear probe", "knn": "nearest neighbours"}


def joined_tasks(ordering: Sequence[str]) -> str:
    """Tasks in their order, shortened."""
    return " → ".join(shortened(task, 24) for task in ordering) or "-"


def about_chains(dataset: str, split: str, num_images: int | None, num_seeds: int, measure: str) -> str:
    """The data set, images, seeds and measure in a line."""
    parts = [dataset, counted(num_seeds, "seed"), MEASURES.get(measure, measure)]
    if num_images is not None:
        parts.insert(1, images_of(num_images, split))
    return ", ".join(parts)


def accuracy_label(split: str, target: str | UnsetType) -> str:
    """The label of an axis of the main measure."""
    return f"{measure_of(target)} on {split} images, %"


def interval_label(num_seeds: int) -> str:
    """What whiskers are: the luck of one seed is not known."""
    return INTERVAL if num_seeds > 1 else f"{INTERVAL} of one seed, over images only"
