"""Cross-validation: every chain once for each fold, each image tested by a model that did not see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from sslcurr.analysis.evaluation.classifier import calibration_at, images_of_rows, judged, report_in, write_columns
from sslcurr.analysis.evaluation.predictions import PROBABILITY, read_predictions
from sslcurr.analysis.experiments.chains import (
    Chain,
    Chains,
    FailedChain,
    MeasuredChain,
    Shares,
    measured_score,
    values_of,
)
from sslcurr.analysis.measures.intervals import Images
from sslcurr.analysis.results.ranking.document import Ordering
from sslcurr.analysis.results.training.document import FoldReport, TargetReport
from sslcurr.data.pack import Pack
from sslcurr.engine.plan import Parent, Planner
from sslcurr.engine.store import Store
from sslcurr.files import read_as
from sslcurr.progress import Reporter
from sslcurr.spec.stage import Json, StageSpec
from sslcurr.spec.target import CLASSES, REGRESSION, TARGETS

if TYPE_CHECKING:
    from sslcurr.spec.runtime import Runtime

FOLDS = "folds"
# Raised when the reports of the same folds come out differently.
VERSION = 1
SPLIT = "out-of-fold"


class FoldedChains(Chains):
    """Trains and measures each chain once for every fold; what is measured of it are all images, each by the model of
    the fold that tests it.

    Args:
        planner: resolves stages; its data has folds.
        store, runtime, report, how: as of `Chains`.

    Attributes:
        parts: the chains of each fold.
        rows: [N] all reported images, in the order of the data.
        folds: [N] which fold tests each.
    """

    def __init__(
        self, planner: Planner, store: Store, runtime: Callable[[], Runtime], report: Reporter, **how: Any
    ) -> None:
        super().__init__(planner.of_fold(0), store, runtime, report, **how)
        self.split = SPLIT
        folds = range(planner.request.folds)
        self.parts = [Chains(planner.of_fold(number), store, runtime, report, **how) for number in folds]
        for part in self.parts:
            part.failed, part.trained, part.needed, part.folders = self.failed, self.trained, self.needed, self.folders
        rows = [part.selection.rows[part.split] for part in self.parts]
        self.order = np.argsort(np.concatenate(rows), kind="stable")
        self.rows = np.concatenate(rows)[self.order]
        self.folds = np.repeat(np.arange(len(rows)), [len(each) for each in rows])[self.order]

    @property
    def images(self) -> Images:
        """How the main measure averages all images, which of them belong together, and which fold tested each."""
        return images_of_rows(self.selection.pack, self.rows, self.folds)

    @property
    def num_images(self) -> int:
        """How many images are reported."""
        return len(self.folds)

    def specs(
        self, ordering: Ordering, seed: int, parent: Parent | None = None, shares: Shares | None = None
    ) -> list[StageSpec]:
        """The stages of a chain in all folds."""
        return [spec for part in self.parts for spec in part.specs(ordering, seed, parent, shares)]

    def passes(self, spec: StageSpec) -> float:
        """Image passes that a stage takes."""
        return self.parts[spec.data.fold].passes(spec)

    def fill(
        self, chains: Iterable[tuple[Ordering, int]], parent: Parent | None = None, shares: Shares | None = None
    ) -> None:
        """As of `Chains`, in all folds."""
        listed = list(chains)
        for part in self.parts:
            part.filling = self.filling
            part.fill(listed, parent, shares)

    def run(self, ordering: Ordering, seed: int, parent: Parent | None = None, shares: Shares | None = None) -> Chain:
        """Train what is missing of a chain in every fold, and measure it on all images."""
        measured: list[MeasuredChain] = []
        for part in self.parts:
            part.filling = self.filling
            found = part.run(ordering, seed, parent, shares)
            if isinstance(found, FailedChain):
                return found
            measured.append(found)
        return self._pooled(measured)

    def known(self, ordering: Ordering, seed: int) -> MeasuredChain | None:
        """The measured chain if the store holds it in every fold; nothing is trained."""
        found = [part.known(ordering, seed) for part in self.parts]
        measured = [each for each in found if each is not None]
        return self._pooled(measured) if len(measured) == len(found) else None

    def _pooled(self, measured: Sequence[MeasuredChain]) -> MeasuredChain:
        report, folder = self.pooled_report([each.folder for each in measured])
        self.folders[folder.name] = folder
        validations = [each.validation for each in measured if each.validation is not None]
        return replace(
            measured[0],
            score=measured_score(report, self.dataset),
            validation=float(np.mean(validations)) if len(validations) == len(measured) else None,
            values=values_of(folder),
            key=None,
            folder=folder,
        )

    def report_of(self, chain: MeasuredChain) -> TargetReport:
        """The report of a chain that was measured in all folds."""
        return report_in(chain.folder)

    def pooled_report(self, folders: Sequence[Path]) -> tuple[TargetReport, Path]:
        """The report of all images, each by the model of its fold, and its folder with `predictions.csv`.

        Args:
            folders: of the reports of the folds.
        """
        inputs = {"version": VERSION, "reports": [folder.name for folder in folders]}
        pack = self.selection.pack

        def work(part: Path) -> Json:
            parts = [read_as(folder / "done.json", TargetReport) for folder in folders]
            predictions = np.concatenate([predictions_in(folder, pack) for folder in folders])[self.order]
            report = write_pooled(part, pack, self.rows, predictions, self.folds)
            scores = [
                FoldReport(fold=number, score=each.score, num_images=each.num_images)
                for number, each in enumerate(parts)
            ]
            return structs.replace(report, folds=scores).to_json()

        folder = self.store.analysis(FOLDS, inputs, work)
        return report_in(folder), folder


def predictions_in(folder: Path, pack: Pack) -> NDArray[np.float64]:
    """[N, T] probabilities or numbers of a report, in data order, as far as the file has their digits."""
    table = read_predictions(folder)
    if pack.target == REGRESSION.name:
        return table[["prediction"]].to_numpy(dtype=float)
    found = table[[f"{PROBABILITY}{name}" for name in pack.classes]].to_numpy(dtype=float)
    if pack.target == CLASSES.name:
        number = {name: place for place, name in enumerate(pack.classes)}
        # What was likeliest stays so, where six digits are the same.
        found[np.arange(len(found)), [number[name] for name in table["prediction"]]] += 1e-9
    return found


def write_pooled(
    part: Path, pack: Pack, rows: NDArray[np.integer], predictions: NDArray[np.float64], folds: NDArray[np.integer]
) -> TargetReport:
    """Write the predictions of all folds into a folder; gives their report.

    Args:
        part: the folder.
        pack: the images.
        rows: [N] of the pack.
        predictions: [N, T].
        folds: [N].
    """
    groups = None if pack.groups is None else pack.groups[rows]
    target = TARGETS[pack.target]
    labels = pack.labels[rows] if pack.values is None else pack.values[rows]
    table, report = judged(labels, predictions, target, pack.classes, groups, SPLIT, folds)
    named: dict[str, Any] = {"path": [pack.names[row] for row in rows]}
    if groups is not None:
        named["group"] = [str(group) for group in groups]
    write_columns(part / "predictions.csv", {**named, **table, "fold": folds})
    if target is REGRESSION:
        return report
    return structs.replace(report, calibration=calibration_at(predictions, labels, target))
