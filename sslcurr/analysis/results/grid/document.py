"""The document of `sslcurr grid`: a chain on shares of the images and of the labels, the study's Table 1."""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.document import Document, Part, Predicted
from sslcurr.analysis.results.estimate import Difference, Failure, Summary
from sslcurr.analysis.results.overlap import Overlap


class Cell(Summary, frozen=True, kw_only=True):
    """A chain on one pair of shares, measured over seeds.

    Attributes:
        label_fraction: share of the labels.
        ssl_fraction: share of the images of pretraining; None without pretraining.
        gain: over training from scratch with the same labels; unset without `--baseline`, and in documents of 0.1.0.
    """

    first: ClassVar[tuple[str, ...]] = ("label_fraction", "ssl_fraction")

    label_fraction: float
    ssl_fraction: float | None
    gain: Difference | UnsetType = UNSET


class Halving(Part, frozen=True, kw_only=True):
    """What half the labels and half the images of pretraining cost in the main measure; None where not known."""

    labels: Difference | None
    images: Difference | None


class GridDocument(Document, frozen=True, kw_only=True):
    """A chain on shares of the images and of the labels.

    Attributes:
        dataset: its name.
        split: whose images are reported.
        ssl_fractions: shares of the images of pretraining.
        label_fractions: shares of the labels.
        baseline: `scratch`, or None without one.
        tasks: the pretext tasks in their order.
        seeds: those of every chain.
        cells: a row for each pair of shares.
        halving: the slopes of a plane through all cells.
        failed: the chains that could not be trained.
        overlap: reported images that were trained on before; unset in documents before 0.2, and where training images
            are reported.
        target: `multilabel` or `regression`, where the target is no class.
    """

    kind: ClassVar[str] = "grid"
    version: ClassVar[int] = 2
    intervals_since: ClassVar[int | None] = 2

    dataset: str
    split: str
    ssl_fractions: list[float]
    label_fractions: list[float]
    baseline: str | None
    tasks: list[str]
    seeds: list[int]
    cells: list[Cell]
    halving: Halving
    failed: list[Failure]
    overlap: Overlap | UnsetType = UNSET
    target: str | UnsetType = UNSET

    def predicted(self) -> dict[str, list[Predicted]]:
        """Of every cell."""
        return {
            f"labels {cell.label_fraction:.4g}, "
            + (f"images {cell.ssl_fraction:.4g}" if cell.ssl_fraction is not None else str(self.baseline)): (
                cell.predicted()
            )
            for cell in self.cells
        }
