"""What a person asks of a command, before the plan fills in the rest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# The fields that say which images, and how they are read: with them a stage's images are found again.
COLUMNS = ("path_column", "label_column", "group_column", "split_column")
OF_IMAGES = ("dataset", "data_root", "skip_broken", "frames", *COLUMNS, "target_kind", "unlabelled")


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a person asks for on the command line; None leaves a value to the plan. `lr` may be "search".

    `unlabelled` are data sets whose images pretext tasks see, too. `folds` of a cross-validation; 0 is none.
    `freeze` and `layer_decay` are of the target task. `run_name` and `run_note` are a person's.
    """

    dataset: str | None = None
    data_root: Path | None = None
    backbone: str | None = None
    stem: str | None = None
    image_size: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | str | None = None
    lr_range: tuple[float, float] | None = None
    lr_pruner: str | None = None
    fraction: float = 1.0
    label_fraction: float = 1.0
    seed: int = 0
    precision: str = "auto"
    settings: tuple[str, ...] = ()
    skip_broken: bool = False
    frames: str = "refuse"
    path_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    split_column: str | None = None
    target_kind: str | None = None
    unlabelled: tuple[str, ...] = ()
    folds: int = 0
    freeze: str | None = None
    layer_decay: float | None = None
    run_name: str | None = None
    run_note: str | None = None
    workers: int = 0
    masks: Path | None = None
    allow_overlap: bool = False
