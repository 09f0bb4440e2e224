"""The document of `sslcurr runs compare`: what two runs were asked for, and how far their results differ."""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.document import Document, Part
from sslcurr.analysis.results.estimate import Difference


class ComparedSetting(Part, frozen=True, kw_only=True):
    """A setting that differs.

    Attributes:
        setting: its name, after that of its task where it is of one.
        values: its value in each of the two runs as text, several with commas; None where a run has no such.
    """

    setting: str
    values: tuple[str | None, str | None]


class ComparedChain(Part, frozen=True, kw_only=True):
    """A chain that both runs measured.

    Attributes:
        chain: its title; both titles where they differ.
        seeds: that were compared, those that both runs have; of each run where both have one only, and they differ.
        measured: its main measure in each of the two runs, a share of 1.
        difference: the second minus the first, paired by image, and by seed where a run has several.
    """

    chain: str
    seeds: list[list[int]]
    measured: tuple[float, float]
    difference: Difference


class CompareDocument(Document, frozen=True, kw_only=True):
    """Two runs, one beside the other.

    Attributes:
        runs: numbers of the two runs.
        titles: what they are about, with their names where they have any.
        settings: that differ.
        chains: that both measured on the same images.
        reason: why results are not compared; unset where they are.
        num_images: that were reported.
        target: `multilabel` or `regression`, where the target is no class.
    """

    kind: ClassVar[str] = "compare"

    runs: list[str]
    titles: list[str]
    settings: list[ComparedSetting]
    chains: list[ComparedChain]
    reason: str | UnsetType = UNSET
    num_images: int | UnsetType = UNSET
    target: str | UnsetType = UNSET
