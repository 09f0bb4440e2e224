"""Reported images that a model was trained on before, as documents have them, and the sentences that say so."""

from __future__ import annotations

from msgspec import UnsetType

from sslcurr.analysis.results.document import Part
from sslcurr.spec.stage import KEY_SHOWN
from sslcurr.wording import and_more, arrow, counted


class OverlapStage(Part, frozen=True, kw_only=True):
    """A stage that was trained on reported images.

    Attributes:
        key: of the stage.
        tasks: that its weights went through.
        dataset: name of the data set that it was trained on.
        images: how many of the reported images it was trained on.
    """

    key: str
    tasks: list[str]
    dataset: str
    images: int


class Overlap(Part, frozen=True, kw_only=True):
    """Reported images that were trained on before, found by their contents.

    Attributes:
        split: whose images are reported.
        images: how many of them some stage was trained on, each once; above 0 only where that was allowed.
        of: how many images are reported.
        copies: how many of them have a copy among the training images of the same data set.
        stages: that were trained on reported images.
        unknown: what is not known, each completes "not known: "; where it is empty, all is known.
    """

    split: str
    images: int
    of: int
    copies: int
    stages: list[OverlapStage]
    unknown: list[str]


def overlap_sentence(overlap: Overlap, dataset: str) -> str:
    """How many images, and by which stages."""
    first = overlap.stages[0]
    by = f"{arrow(first.tasks)} ({first.key[:KEY_SHOWN]}, on {first.dataset})"
    return (
        f"{overlap.images:,} of {counted(overlap.of, f'{overlap.split} image')} of {dataset} were trained on before, "
        f"by {by}{and_more(len(overlap.stages))}"
    )


def overlap_lines(overlap: Overlap | UnsetType, dataset: str | UnsetType) -> list[str]:
    """What a reader of the figures must know, a line each; none where all is well, or of documents without it."""
    if isinstance(overlap, UnsetType):
        return []
    lines = []
    if overlap.images:
        name = "this data set" if isinstance(dataset, UnsetType) else dataset
        lines.append(f"{overlap_sentence(overlap, name)}: the figures are too good")
    if overlap.copies:
        lines.append(
            f"{overlap.copies:,} of {counted(overlap.of, f'{overlap.split} image')} have a copy among the training "
            "images: the figures are too good (sslcurr data check lists copies)"
        )
    return [*lines, *(f"not known: {sentence}" for sentence in overlap.unknown)]
