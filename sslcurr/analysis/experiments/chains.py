"""Many chains over one store: each stage once, each chain measured at the target task, failures kept apart."""

from __future__ import annotations

import csv
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from msgspec import UNSET, structs
from numpy.typing import NDArray

from sslcurr.analysis.evaluation import classifier
from sslcurr.analysis.evaluation.attention import (
    AttentionSettings,
    ModelAttention,
    measure_attention,
    measuring_jobs,
)
from sslcurr.analysis.evaluation.masks import masks_of_report
from sslcurr.analysis.evaluation.predictions import VALUE, read_predictions
from sslcurr.analysis.measures.attention import mean_of
from sslcurr.analysis.measures.intervals import Images, Sample, sample
from sslcurr.analysis.results.estimate import Failure, Run
from sslcurr.analysis.results.ranking.document import Ordering
from sslcurr.analysis.results.training.document import TargetReport
from sslcurr.engine.cost import image_passes
from sslcurr.engine.fill import Filling
from sslcurr.engine.graph import Job
from sslcurr.engine.plan import Parent, Planner
from sslcurr.engine.plans import Plan
from sslcurr.engine.run import check_parent, stage_jobs, train_or_wait, weights_of
from sslcurr.engine.store import Stage, Store
from sslcurr.errors import DataError, TrainingError
from sslcurr.files import sha256_of
from sslcurr.integrity import sound
from sslcurr.progress import Reporter
from sslcurr.spec.record import RunRecord
from sslcurr.spec.stage import StageSpec, key_of
from sslcurr.spec.target import CLASSES, TARGET, TargetKind

if TYPE_CHECKING:
    from sslcurr.spec.runtime import Runtime

Name = TypeVar("Name", bound=Hashable)


class Shares(NamedTuple):
    """Which shares of the data a chain uses, each above 0 and at most 1.

    Attributes:
        label_fraction: of the labels.
        ssl_fraction: of the images of pretraining; None for a chain without pretraining.
    """

    label_fraction: float
    ssl_fraction: float | None


class Probed(NamedTuple):
    """A probe of frozen features.

    Attributes:
        score: main measure on the reported images.
        validation: that of the layer that was chosen, on the images that chose it: the validation images, or without
            any those of the training.
        folder: of the report, with `predictions.csv`.
    """

    score: float
    validation: float
    folder: Path


@dataclass(frozen=True)
class FailedStage:
    """A stage that could not be trained.

    Attributes:
        key: of the stage whose training failed: it, or one before it.
        reason: why, in a line.
    """

    key: str
    reason: str


@dataclass(frozen=True)
class MeasuredChain:
    """One chain at one seed, measured.

    Attributes:
        ordering: its pretext tasks; none for the baseline.
        seed: of weights, order and views.
        score: main measure of the target on the reported images.
        validation: the same on the validation images; None without any.
        values: [N], what each reported image gives to the score: of classes 1 where it is named rightly.
        key: of the last stage; None for a probe of an untrained network.
        folder: of the report, with `predictions.csv`.
        attention: of the fine-tuned model, where masks are known.
        target: the kind of target.
    """

    ordering: Ordering
    seed: int
    score: float
    validation: float | None
    values: NDArray[np.float64]
    key: str | None
    folder: Path
    attention: ModelAttention | None = None
    target: TargetKind = CLASSES

    def run(self) -> Run:
        """As documents have it."""
        return Run.of(
            self.score,
            self.target,
            seed=self.seed,
            validation=self.validation,
            key=self.key,
            predictions=str(self.folder / "predictions.csv"),
            attention=UNSET if self.attention is None else mean_of(self.attention.inside[None]),
        )


@dataclass(frozen=True)
class FailedChain:
    """A chain that could not be trained at one seed, and why."""

    ordering: Ordering
    seed: int
    reason: str

    def failure(self) -> Failure:
        """As documents have it."""
        return Failure(ordering=list(self.ordering), seed=self.seed, reason=self.reason)


Chain = MeasuredChain | FailedChain


class Chains:
    """Trains and measures chains of one data set and one measure.

    Args:
        planner: resolves stages; its seed is replaced by that of each chain.
        store: where stages and reports are kept.
        runtime: called once, when the first stage has to be trained.
        report: is told what happens.
        measure: `finetune` (classification, all weights trained), `linear` or `knn` (probes of frozen features).
        layers: the layers that are probed, a pattern of names.
        device: as `--device`.

    Where masks are known, and chains end with classification, it is also seen how much of their attention lies inside.
    """

    def __init__(
        self,
        planner: Planner,
        store: Store,
        runtime: Callable[[], Runtime],
        report: Reporter,
        *,
        measure: str = "finetune",
        layers: str = "*",
        device: str = "auto",
    ) -> None:
        self.planner = planner
        self.store = store
        self.report = report
        self.measure = measure
        self.layers = layers
        self.device = device
        self.failed: dict[str, FailedStage] = {}  # by key
        self.trained: list[StageSpec] = []
        self.needed: dict[str, StageSpec] = {}
        self.folders: dict[str, Path] = {}
        self.parts: list[Chains] = [self]
        self.filling: Filling | Plan | None = None  # what `fill` tells others to do; None does all of it here
        self._make_runtime = runtime
        self._runtime: Runtime | None = None
        self._checked: set[str] = set()
        self.selection = planner.selection(TARGET)
        self.split = classifier.report_split(self.selection)
        # Read before any training: a mask that cannot be is reported now.
        attends = measure == "finetune" and not planner.request.folds  # masks are for one model
        self.masks = masks_of_report(planner, store, report.note) if attends else None
        if self.masks is not None:
            self.folders[self.masks.folder.name] = self.masks.folder
        self.attention_settings = AttentionSettings()

    # ---- what the reported images are

    @property
    def dataset(self) -> str:
        """The name of the data set."""
        return self.planner.data.pack.name

    @property
    def target(self) -> TargetKind:
        """The kind of target."""
        return self.planner.target

    @property
    def images(self) -> Images:
        """How the main measure averages the reported images, and which of them belong together."""
        return classifier.images_of(self.selection, self.split)

    @property
    def num_images(self) -> int:
        """How many images are reported."""
        return len(self.selection.rows[self.split])

    # ---- stages

    def _planner_of(self, seed: int, shares: Shares | None) -> Planner:
        if shares is None:
            return self.planner.requesting(seed=seed)
        fractions = {"label_fraction": shares.label_fraction}
        if shares.ssl_fraction is not None:
            fractions["fraction"] = shares.ssl_fraction
        return self.planner.requesting(seed=seed, **fractions)

    def specs(
        self, ordering: Ordering, seed: int, parent: Parent | None = None, shares: Shares | None = None
    ) -> list[StageSpec]:
        """The stages of a chain, with classification at its end where that is the measure."""
        tasks = [*ordering, *([TARGET] if self.measure == "finetune" else [])]
        return self._planner_of(seed, shares).chain(tasks, parent)

    def check_network(self, tasks: Sequence[str]) -> None:
        """Refuse, before any training, a backbone that cannot see views as small as those of `tasks`.

        Raises:
            SpecError: it cannot.
        """
        specs = [self.specs((task,), self.planner.request.seed) for task in tasks]
        self.planner.check_backbone(spec for chain in specs for spec in chain)

    def passes(self, spec: StageSpec) -> float:
        """Image passes that a stage takes."""
        planner = self.planner.requesting(fraction=spec.data.fraction, label_fraction=spec.data.fraction)
        return image_passes(spec, len(planner.selection(spec.task).rows["train"]))

    def stage(self, specs: Sequence[StageSpec]) -> Stage | FailedStage:
        """The last of `specs`, trained if it is not there, the ones before only if they are needed for it."""
        spec = specs[-1]
        key = key_of(spec)
        self.needed[key] = spec
        stage = self.store.find(key)
        if stage is not None:
            if key not in self._checked:
                check_parent(stage, self.store, self.report)
                self._checked.add(key)
            return stage
        self._await(key)
        if (stage := self.store.find(key)) is not None:  # trained in another process
            return stage
        if key in self.failed:
            return self.failed[key]
        if len(specs) > 1:
            parent = self.stage(specs[:-1])
            if isinstance(parent, FailedStage):
                self.failed[key] = parent
                return parent
        if self._runtime is None:
            self._runtime = self._make_runtime()
        try:
            stage, trained = train_or_wait(spec, self.store, self._runtime, self.report)
        except TrainingError as error:
            self.failed[key] = FailedStage(key, str(error))
            return self.failed[key]
        if trained:
            self.trained.append(spec)
        self.report.stage_ends(spec, key, reused=False)
        return stage

    def _await(self, name: str) -> None:
        """Wait for a job in another process, where one was told of it, and keep why it failed, if so."""
        if isinstance(self.filling, Filling) and self.filling.knows(name):
            self.filling.wait([name])
            failed = self.filling.failure(name)
            if failed is not None:
                self.failed[name] = FailedStage(failed.origin, failed.reason)

    def fill(
        self, chains: Iterable[tuple[Ordering, int]], parent: Parent | None = None, shares: Shares | None = None
    ) -> None:
        """Let chains be trained and measured in other processes from now on; results are asked for as without.

        Args:
            chains: orderings and seeds.
            parent: where they start, if not where the planner does.
            shares: of labels and images, if not the planner's.
        """
        if self.filling is None:
            return
        jobs: dict[str, Job] = {}
        for ordering, seed in chains:
            specs = self.specs(ordering, seed, parent, shares)
            if specs:
                self._add_stages(jobs, specs)
                jobs |= {job.name: job for job in self._measures(specs[-1], seed, shares)}
        self.filling.add(jobs.values())

    def fill_probes(self, prefixes: Iterable[tuple[Sequence[StageSpec], int]], kind: str) -> None:
        """The same for stages, each with all before it, that are probed at a seed: `knn` or `linear`."""
        if self.filling is not None:
            jobs: dict[str, Job] = {}
            for specs, seed in prefixes:
                self._add_stages(jobs, specs)
                probe = self._probe_job(specs[-1], kind, seed, None)
                jobs[probe.name] = probe
            self.filling.add(jobs.values())

    def _add_stages(self, jobs: dict[str, Job], specs: Sequence[StageSpec]) -> None:
        """Add the stages of a chain that are to be trained; what is before one that is there is not needed."""
        assert self.filling is not None
        begin = len(specs)
        while begin:
            key = key_of(specs[begin - 1])
            if key in jobs or self.filling.knows(key) or self.store.find(key) is not None:
                break
            begin -= 1
        jobs |= {job.name: job for job in stage_jobs(specs[begin:], self.store, self.passes)}

    def _measures(self, spec: StageSpec, seed: int, shares: Shares | None) -> list[Job]:
        """What is measured of a chain that ends with a stage."""
        num_reported = len(self.selection.rows[self.split])
        if self.measure != "finetune":
            return [self._probe_job(spec, self.measure, seed, shares)]
        return measuring_jobs(spec, num_reported, self.masks, self.attention_settings)

    def _probe_job(self, spec: StageSpec, kind: str, seed: int, shares: Shares | None) -> Job:
        planner = self._planner_of(seed, shares)
        data = planner.data.spec(planner.request.label_fraction)
        num_images = sum(len(rows) for rows in self.selection.rows.values())
        size = planner.data.image_size
        return classifier.probe_job(spec, size, data, kind, self.store, num_images, self.layers)

    def missing(self, specs: Sequence[StageSpec]) -> bool:
        """Whether the last stage of a chain is still to be trained."""
        return bool(specs) and self.store.find(key_of(specs[-1])) is None

    def keys(self, ordering: Ordering, seed: int) -> list[str]:
        """The keys of a chain's stages."""
        return [key_of(spec) for spec in self.specs(ordering, seed)]

    def expect(self, orderings: Sequence[Ordering], seeds: Sequence[int], reference: Parent | None = None) -> None:
        """Note the stages of chains as needed before they are trained; `reference` is fine-tuned too."""
        for seed in seeds:
            self.need([self.specs(ordering, seed) for ordering in orderings])
            if reference is not None:
                self.need([self.specs((), seed, reference)])

    def need(self, chains: Sequence[Sequence[StageSpec]]) -> None:
        """Note stages as needed."""
        self.needed |= {key_of(spec): spec for specs in chains for spec in specs}

    # ---- measures

    def run(self, ordering: Ordering, seed: int, parent: Parent | None = None, shares: Shares | None = None) -> Chain:
        """Train what is missing of a chain and measure it.

        Args:
            ordering: the pretext tasks; none for the baseline.
            seed: of weights, order and views.
            parent: where it starts, if not where the planner does.
            shares: of labels and images, if not the planner's.
        """
        specs = self.specs(ordering, seed, parent, shares)
        stage = self.stage(specs) if specs else None
        if isinstance(stage, FailedStage):
            return FailedChain(ordering, seed, stage.reason)
        return self._measured(ordering, seed, specs, stage, parent, shares)

    def known(self, ordering: Ordering, seed: int) -> MeasuredChain | None:
        """The measured chain if its last stage is in the store; nothing is trained."""
        specs = self.specs(ordering, seed)
        stage = self.store.find(key_of(specs[-1])) if specs else None
        if specs and stage is None:
            return None
        return self._measured(ordering, seed, specs, stage, None, None)

    def _measured(
        self,
        ordering: Ordering,
        seed: int,
        specs: Sequence[StageSpec],
        stage: Stage | None,
        parent: Parent | None,
        shares: Shares | None,
    ) -> MeasuredChain:
        key = stage.key if stage is not None else None
        if self.measure != "finetune":
            probed = self.probed(stage, self.measure, self.planner.parent if parent is None else parent, seed, shares)
            # Without validation images a probe chooses its layer on the training images: that measures nothing.
            validation = probed.validation if len(self.selection.rows["val"]) else None
            values = values_of(probed.folder)
            return MeasuredChain(ordering, seed, probed.score, validation, values, key, probed.folder)
        assert stage is not None
        for job in self._measures(specs[-1], seed, shares) if self.filling is not None else ():
            self._await(job.name)
        report, folder = classifier.evaluate(stage, specs[-1], self.store, self.device)
        attention = None
        if self.masks is not None:
            attention = measure_attention(
                stage, specs[-1], self.masks, self.attention_settings, self.store, self.device
            )
            self.folders[attention.folder.name] = attention.folder
        self.folders[folder.name] = folder
        validation = stage.record.metrics.get(self.target.validation)
        score = measured_score(report, self.dataset)
        values = values_of(folder)
        return MeasuredChain(ordering, seed, score, validation, values, key, folder, attention, self.target)

    def probed(self, stage: Stage | None, kind: str, start: Parent, seed: int, shares: Shares | None = None) -> Probed:
        """A probe of a stage's frozen features, or of those at the start of all chains.

        Args:
            stage: None for the start.
            kind: `knn` or `linear`.
            start: where the chains start.
            seed: of the probe, and of the network where nothing was trained.
            shares: of the labels, if not the planner's.
        """
        planner = self._planner_of(seed, shares)
        weights: Path | None
        if stage is not None:
            if self.filling is not None:
                self._await(self._probe_job(stage.spec, kind, seed, shares).name)
            weights, digest = stage.weights, stage.record.weights_sha256
        elif start.key is not None:
            weights = weights_of(start.key, start.source, self.store)
            digest = sha256_of(weights)
        else:
            weights, digest = None, f"untrained, seed {seed}"
        report, folder = classifier.probe(
            weights,
            digest,
            planner.backbone(start),
            planner.data.image_size,
            planner.data.spec(planner.request.label_fraction),
            kind,
            self.store,
            self.device,
            seed,
            self.layers,
        )
        self.folders[folder.name] = folder
        assert isinstance(report.layers, dict)
        return Probed(measured_score(report, self.dataset), report.layers[str(report.layer)].validation, folder)


def note(chains: Chains, record: RunRecord) -> None:
    """Write the record of a command over many chains, with all that they need so far."""
    stages = [*record.stages, *(key for key in chains.needed if key not in record.stages)]
    analyses = [*chains.folders, *(name for name in record.analyses if not record.finished)]
    chains.store.note_run(structs.replace(record, stages=stages, analyses=list(dict.fromkeys(analyses))))


def measured_score(report: TargetReport, dataset: str) -> float:
    """The main measure of a report.

    Raises:
        DataError: it cannot be measured on these images.
    """
    if report.score is None:
        raise DataError(
            f"{report.kind.measure} cannot be measured on the {report.num_images} {report.split} images of {dataset}",
            "labels need images that have them and others that have not, and numbers have to differ: give more images "
            "to the test, such as --set data.test=0.3, or fewer --folds",
        )
    return report.score


def values_of(folder: Path) -> NDArray[np.float64]:
    """[N], what each image of a report gives to the main measure, in data order: of classes 1 where it is right."""
    with open(sound(folder / "predictions.csv"), encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if VALUE not in (rows.fieldnames or ()):  # importing pandas takes longer than reading these
            return np.array([row["label"] == row["prediction"] for row in rows], dtype=np.float64)
    return read_predictions(folder)[VALUE].to_numpy(dtype=float)


def scores_of(runs: Sequence[Chain]) -> list[float]:
    """The main measure of the chains that did not fail."""
    return [run.score for run in runs if isinstance(run, MeasuredChain)]


def figures_of(runs: Mapping[Name, Sequence[Chain]], images: Images) -> dict[Name, Sample]:
    """The main measure of chains over their seeds, and what each image does to it; failed runs are left out.

    Args:
        runs: of each chain over the seeds.
        images: the layout of the reported images.
    """
    figures = {}
    for name, each in runs.items():
        measured = [run for run in each if isinstance(run, MeasuredChain)]
        if measured:
            values = np.stack([run.values for run in measured])
            figures[name] = sample(values, images, [run.seed for run in measured])
    return figures
