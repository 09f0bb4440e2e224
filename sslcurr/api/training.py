"""Chains trained and reported: what `pretrain`, `chain` and `finetune` do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.estimate import Difference
from sslcurr.analysis.results.overlap import Overlap
from sslcurr.analysis.results.plan.document import PlanDocument, PlannedStage
from sslcurr.analysis.results.training.document import TargetReport, TrainDocument, TrainedStage
from sslcurr.api.foresight import foretell
from sslcurr.api.overlap import checked_overlap, joined
from sslcurr.api.session import Session
from sslcurr.errors import SpecError
from sslcurr.spec.stage import Json
from sslcurr.spec.target import TARGET, TARGET_TASKS
from sslcurr.wording import arrow

if TYPE_CHECKING:
    from sslcurr.analysis.evaluation.masks import ImageMasks
    from sslcurr.analysis.results.queue.document import QueueDocument
    from sslcurr.engine.graph import Job
    from sslcurr.engine.plan import Planner
    from sslcurr.engine.run import Outcome
    from sslcurr.engine.store import Store
    from sslcurr.spec.record import RunRecord
    from sslcurr.spec.stage import StageSpec


# Options that concern fine-tuned models alone.
OF_TUNING = {"masks": "--masks", "freeze": "--freeze", "layer_decay": "--layer-decay"}


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a command trains and reports.

    Attributes:
        tasks: the stages; the last may be `TARGET`, that of the data set, which is then reported on the test split.
        start: a checkpoint file, a stage's folder or the beginning of its key; None is from scratch.
        baseline: train classification from scratch too, to compare.
        probe: `knn` or `linear`: report a probe on the frozen features of the last stage instead.
        layers: the layers that the probe looks at, a pattern of names.
        again: train the stage `start` on, with its last layer where it is fine-tuned.
    """

    tasks: tuple[str, ...]
    start: str | None = None
    baseline: bool = False
    probe: str | None = None
    layers: str = "*"
    again: bool = False


def pretraining(session: Session, task: str, *, start: str | None = None) -> Target:
    """`sslcurr pretrain`."""
    from sslcurr.tasks import check_pretext

    check_pretext([task])
    refuse_folds(session, "pretrain")
    return Target(tasks=(task,), start=start)


def chain(
    session: Session,
    tasks: Sequence[str],
    *,
    finetune: bool = True,
    baseline: bool = False,
    start: str | None = None,
) -> Target:
    """`sslcurr chain`.

    Raises:
        SpecError: masks or folds for a chain that ends with no target task.
    """
    from sslcurr.tasks import check_pretext

    check_pretext(tasks)
    if not finetune:
        refuse_tuning(session, "--no-finetune")
        if session.request.folds:
            raise SpecError("--folds is for what is tested, and --no-finetune tests nothing", "leave out one of them")
    check_folds(session)
    ends = [TARGET] if finetune else []
    return Target(tasks=(*tasks, *ends), start=start, baseline=finetune and baseline)


def finetuning(
    session: Session,
    checkpoint: str | None,
    *,
    probe: str | None = None,
    layers: str = "*",
    baseline: bool = False,
) -> Target:
    """`sslcurr finetune`; `probe` is `knn`, `linear` or None, which trains all weights.

    Raises:
        SpecError: layers of a probe without one, masks with one.
    """
    if session.request.unlabelled:
        raise SpecError("--unlabelled is for pretext tasks, and fine-tuning has none", "leave it out")
    check_folds(session)
    if probe is None:
        if layers != "*":
            raise SpecError("--layers is for probes, and --probe full trains all layers", "add --probe linear or knn")
        has_baseline = baseline and checkpoint is not None
        return Target(tasks=(TARGET,), start=checkpoint, baseline=has_baseline)
    refuse_tuning(session, f"--probe {probe}")
    return Target(tasks=(), start=checkpoint, baseline=baseline, probe=probe, layers=layers)


def continuing(session: Session, key: str) -> tuple[Session, Target]:
    """`sslcurr continue`: the seed is that of the stage.

    Raises:
        StoreError: there is no such stage.
    """
    stage = session.existing_store().resolve(key)
    task = stage.spec.task
    if task not in TARGET_TASKS:
        refuse_tuning(session, f"continuing {task}")
        session.reporter.note(f"the heads and memories of {task} are not kept, and begin anew")
    tasks = (TARGET if task in TARGET_TASKS else task,)
    session = replace(session, request=replace(session.request, seed=stage.spec.seed))
    return session, Target(tasks=tasks, start=str(stage.folder), again=True)


def check_folds(session: Session) -> None:
    """Raises SpecError for folds that cannot be, and for masks with them."""
    from sslcurr.data.split import SplitSettings

    folds = session.request.folds
    if folds:
        SplitSettings(folds=folds)
        if any(setting.startswith("data.fold") for setting in session.request.settings):
            raise SpecError("--folds trains every fold, and --set names one", "leave out --folds, or --set data.fold")
        if session.request.masks is not None:
            raise SpecError("--masks is for one model, and --folds makes several", "leave out --masks or --folds")


def refuse_folds(session: Session, command: str) -> None:
    """Raises SpecError where folds are asked of a command that has none."""
    if session.request.folds:
        raise SpecError(f"--folds is for chain, finetune and rank, and {command} has none", "leave it out")


def refuse_tuning(session: Session, option: str) -> None:
    """Raises SpecError where what is of fine-tuned models is given to a command that makes none: `option` is why."""
    for name, flag in OF_TUNING.items():
        if getattr(session.request, name) is not None:
            raise SpecError(
                f"{flag} is for fine-tuned models, and {option} makes none", f"leave out {flag}, or {option}"
            )


def plan(session: Session, target: Target) -> PlanDocument:
    """What would be trained, with every value resolved; the data is read and packed."""
    from sslcurr.engine.plan import resolved_settings
    from sslcurr.spec.stage import key_of, to_dict

    store = session.store()
    first = session.planner(target.tasks, target.start)
    planned: list[StageSpec] = []
    for planner in _fold_planners(first):
        specs, baseline = _planned(planner, store, target)
        _overlap(session, planner, target, store)
        planned += [*specs, *baseline]
    seconds = foretell(session, first, store, planned, _passes(first))
    stages = [
        PlannedStage(
            task=spec.task,
            key=key_of(spec),
            reused=store.find(key_of(spec)) is not None,
            asked=to_dict(spec),
            resolved=resolved_settings(spec, first.answers),
        )
        for spec in planned
    ]
    return session.finished(
        PlanDocument(stages=stages, hours=None if seconds is None else seconds / 3600, store=str(store.root))
    )


def _passes(planner: Planner) -> Callable[[StageSpec], float]:
    """What gives the image passes of a stage."""
    from sslcurr.engine.cost import image_passes

    def passes(spec: StageSpec) -> float:
        of_fold = planner.of_fold(spec.data.fold) if planner.request.folds else planner
        return image_passes(spec, len(of_fold.selection(spec.task).rows["train"]))

    return passes


def _fold_planners(planner: Planner) -> list[Planner]:
    """The planner of each fold; the planner itself where there are none."""
    folds = planner.request.folds
    return [planner.of_fold(number) for number in range(folds)] if folds else [planner]


def _planned(planner: Planner, store: Store, target: Target) -> tuple[list[StageSpec], list[StageSpec]]:
    """The stages of the target, and those of its baseline.

    Raises:
        SpecError: the network cannot see views as small as those that are still to be trained on.
    """
    from sslcurr.engine.plan import Parent
    from sslcurr.spec.stage import key_of

    parent = planner.parent
    specs = [planner.again(store.stage(str(parent.key)))] if target.again else planner.chain(target.tasks)
    # From scratch with the same backbone and images: what the pretraining is compared with.
    scratch = Parent(backbone=planner.backbone(parent), image_size=planner.data.image_size)
    compared = target.baseline and target.probe is None
    baseline = planner.chain([TARGET], scratch) if compared else []
    if any(store.find(key_of(spec)) is None for spec in (*specs, *baseline)):
        planner.check_backbone([*specs, *baseline])
    return specs, baseline


def _overlap(session: Session, planner: Planner, target: Target, store: Store) -> Overlap | UnsetType:
    """The reported images that the target's start was trained on; unset where nothing is reported.

    Raises:
        DataError: there are some, and that is not allowed.
    """
    from sslcurr.analysis.evaluation.classifier import report_split

    if target.probe is None and TARGET not in target.tasks:
        return UNSET
    selection = planner.selection(TARGET)
    weights = [planner.parent.named_weights]
    return checked_overlap(session, weights, planner.data.spec(1.0), selection, store, report_split(selection))


def train(session: Session, target: Target) -> TrainDocument:
    """Train what is missing of a target, and report it."""
    from sslcurr.analysis.evaluation.masks import masks_of_report
    from sslcurr.engine.run import run_stages
    from sslcurr.engine.store import run_name

    if session.request.folds:
        return _train_folds(session, target)
    store = session.store()
    planner = session.planner(target.tasks, target.start)
    specs, baseline = _planned(planner, store, target)
    overlap = _overlap(session, planner, target, store)
    record = _record(session, planner, target, store, [*specs, *baseline])
    # Noted before anything is trained: half-done stages of a run that will go on are needed, too.
    store.note_run(record)
    ends = any(spec.task in TARGET_TASKS for spec in (*specs, *baseline))
    # A mask that cannot be is heard of before training.
    masks = masks_of_report(planner, store, session.reporter.note) if ends else None
    reports = Reports(session, store, masks)
    foretell(session, planner, store, [*specs, *baseline], _passes(planner))
    with session.filling(store, run_name(record.asked)) as filling:
        if filling is not None:
            filling.add(_jobs(planner, store, [specs, baseline], masks))
        outcomes = run_stages(specs, store, session.runtime, session.reporter, filling)
        compared = run_stages(baseline, store, session.runtime, session.reporter, filling)
        if filling is not None:
            filling.wait(filling.graph.jobs)
    if target.probe is None:
        reports.add("downstream", outcomes)
        reports.add("baseline", compared)
    else:
        _probe(session, planner, target, store, reports)
    best = next((report.score for report in reports.reports.values()), None)
    record = msgspec.structs.replace(record, analyses=reports.analyses, finished=True).scored(best, planner.target)
    store.note_run(record)
    document = session.finished(
        TrainDocument(
            stages=[_trained(outcome) for outcome in outcomes],
            downstream=reports.reports.get("downstream", UNSET),
            baseline=reports.reports.get("baseline", UNSET),
            gain=_gain(planner, reports),
            dataset=planner.data.pack.name,
            seeds=[session.request.seed],
            overlap=overlap,
            title=record.title,
            baseline_stages=[_trained(outcome) for outcome in compared],
        )
    )
    session.keep(store, record, document)
    session.draw(document)
    session.draw_stages([outcome.stage for outcome in (*outcomes, *compared)])
    return document


def _train_folds(session: Session, target: Target) -> TrainDocument:
    """The same in every fold of a cross-validation, reported on all images."""
    from sslcurr.analysis.experiments.chains import FailedChain
    from sslcurr.analysis.experiments.folds import FoldedChains
    from sslcurr.analysis.measures.comparisons import Comparisons
    from sslcurr.analysis.measures.intervals import sample
    from sslcurr.engine.plan import Parent
    from sslcurr.engine.runs import run_record
    from sslcurr.engine.store import run_name
    from sslcurr.errors import TrainingError
    from sslcurr.spec.stage import key_of

    store, seed = session.store(), session.request.seed
    planner = session.planner([*target.tasks, *([TARGET] if target.probe else [])], target.start)
    measure = target.probe or "finetune"
    how = {"measure": measure, "layers": target.layers, "device": session.device}
    chains = FoldedChains(planner, store, lambda: session.runtime, session.reporter, **how)
    overlaps = [_overlap(session, part.planner, target, store) for part in chains.parts]
    parts = [each for each in overlaps if isinstance(each, Overlap)]
    tasks = tuple(task for task in target.tasks if task != TARGET)
    # From scratch with the same backbone and images: what the pretraining is compared with.
    scratch = Parent(backbone=planner.backbone(planner.parent), image_size=planner.data.image_size)
    asked = {"downstream": (tasks, planner.parent), **({"baseline": ((), scratch)} if target.baseline else {})}
    specs = {name: chains.specs(ordering, seed, parent) for name, (ordering, parent) in asked.items()}
    keys = list(dict.fromkeys(key_of(spec) for each in specs.values() for spec in each))
    title = (
        f"{arrow([*planner.parent.lineage, *tasks, target.probe or chains.target.task])}, {planner.request.folds} folds"
    )
    identity = {"folds": planner.request.folds, "start": planner.parent.key, "probe": target.probe, "stages": keys}
    identity |= {"baseline": target.baseline, "layers": target.layers, "data": planner.data.pack.fingerprint}
    record = run_record(planner, store, identity=identity, title=title, stages=keys, invocation=session.invocation)
    store.note_run(record)
    there = {key for key in keys if store.find(key) is not None}
    reports, values = {}, {}
    foretell(session, planner, store, [spec for each in specs.values() for spec in each], _passes(planner))
    with session.filling(store, run_name(record.asked)) as chains.filling:
        for ordering, parent in asked.values():
            chains.fill([(ordering, seed)], parent)
        for name, (ordering, parent) in asked.items():
            found = chains.run(ordering, seed, parent)
            if isinstance(found, FailedChain):
                raise TrainingError(found.reason, "what was trained is kept: run the same command again")
            reports[name] = chains.report_of(found)
            values[name] = sample(found.values[None], chains.images)
    analyses = list(chains.folders)
    record = msgspec.structs.replace(record, analyses=analyses, finished=True)
    store.note_run(record := record.scored(reports["downstream"].score, chains.target))
    stages = {name: [_of_fold(spec, store, there) for spec in each] for name, each in specs.items()}
    gain = Difference.of(Comparisons(values).difference("baseline", "downstream")) if target.baseline else UNSET
    document = session.finished(
        TrainDocument(
            stages=stages["downstream"],
            downstream=reports["downstream"],
            baseline=reports.get("baseline", UNSET),
            gain=gain,
            dataset=planner.data.pack.name,
            seeds=[seed],
            overlap=joined(parts) if parts else UNSET,
            title=record.title,
            baseline_stages=stages.get("baseline", []),
        )
    )
    session.keep(store, record, document)
    session.draw(document)
    return document


def _of_fold(spec: StageSpec, store: Store, there: set[str]) -> TrainedStage:
    from sslcurr.spec.stage import key_of

    stage = store.stage(key_of(spec))
    record = stage.record
    return TrainedStage(
        task=spec.task,
        key=stage.key,
        checkpoint=str(stage.weights),
        reused=stage.key in there,
        metrics=record.metrics,
        seconds=record.seconds,
        images_per_second=record.images_per_second,
    )


def _record(session: Session, planner: Planner, target: Target, store: Store, specs: Sequence[StageSpec]) -> RunRecord:
    from sslcurr.engine.runs import run_record
    from sslcurr.spec.stage import key_of

    keys = [key_of(spec) for spec in specs]
    pretext = [spec.task for spec in specs[: len(target.tasks)]]
    tasks = [*planner.parent.lineage, *pretext, *([target.probe] if target.probe else [])]
    return run_record(
        planner,
        store,
        identity=_asked(session, planner, target, keys),
        title=arrow(tasks),
        stages=keys,
        invocation=session.invocation,
    )


def _jobs(planner: Planner, store: Store, chains: Sequence[Sequence[StageSpec]], masks: ImageMasks | None) -> list[Job]:
    """The stages of chains that are not there, and what is measured of their ends, as jobs."""
    from sslcurr.analysis.evaluation.attention import AttentionSettings, measuring_jobs
    from sslcurr.analysis.evaluation.classifier import report_split
    from sslcurr.engine.run import stage_jobs
    from sslcurr.spec.stage import key_of

    jobs: list[Job] = []
    for specs in chains:
        missing = [spec for spec in specs if store.find(key_of(spec)) is None]
        jobs += stage_jobs(missing, store, _passes(planner))
        if specs and specs[-1].task in TARGET_TASKS:
            selection = planner.selection(TARGET)
            num_reported = len(selection.rows[report_split(selection)])
            jobs += measuring_jobs(specs[-1], num_reported, masks, AttentionSettings())
    return jobs


def queue(session: Session, target: Target) -> QueueDocument:
    """Write down what would be trained, for workers."""
    from sslcurr.analysis.evaluation.masks import masks_of_report
    from sslcurr.api.queues import queued
    from sslcurr.engine.plans import Plan
    from sslcurr.engine.store import run_name

    store = session.store()
    first = session.planner(target.tasks, target.start)
    jobs: list[Job] = []
    planned: list[StageSpec] = []
    for planner in _fold_planners(first):
        specs, baseline = _planned(planner, store, target)
        _overlap(session, planner, target, store)
        masks = masks_of_report(planner, store, session.reporter.note) if TARGET in target.tasks else None
        planned += [*specs, *baseline]
        jobs += _jobs(planner, store, [specs, baseline], masks)
    record = _record(session, first, target, store, planned)
    store.note_run(record)
    plan = Plan(run_name(record.asked), session.invocation, store)
    plan.add(jobs)
    return queued(session, store, plan)


def _gain(planner: Planner, reports: Reports) -> Difference | UnsetType:
    """Of the chain over its baseline, paired by image; unset where one of them was not tested."""
    from sslcurr.analysis.evaluation.classifier import images_of, report_split
    from sslcurr.analysis.experiments.chains import values_of
    from sslcurr.analysis.measures.comparisons import Comparisons
    from sslcurr.analysis.measures.intervals import sample

    if len(reports.reports) < 2:
        return UNSET
    selection = planner.selection(TARGET)
    images = images_of(selection, report_split(selection))
    figures = {
        name: sample(values_of(Path(str(report.predictions)).parent)[None], images)
        for name, report in reports.reports.items()
    }
    return Difference.of(Comparisons(figures).difference("baseline", "downstream"))


def _asked(session: Session, planner: Planner, target: Target, keys: list[str]) -> Json:
    """What tells the run apart from others."""
    from sslcurr.spec.stage import to_dict

    parent = planner.parent
    probed: list[object] = []
    if target.probe is not None:
        # A probe has no stage of its own whose key would say which images, network and seed it was asked for.
        backbone, size = to_dict(planner.backbone(parent)), planner.data.image_size
        probed = [planner.data.pack.fingerprint, session.request.label_fraction, backbone, size, session.request.seed]
        probed += [target.layers] if target.layers != "*" else []
    return {
        "stages": keys,
        "start": parent.key,
        "probe": target.probe,
        "baseline": target.baseline,
        "probed": probed,
    }


def _trained(outcome: Outcome) -> TrainedStage:
    record = outcome.stage.record
    return TrainedStage(
        task=outcome.spec.task,
        key=outcome.stage.key,
        checkpoint=str(outcome.stage.weights),
        reused=outcome.reused,
        metrics=record.metrics,
        seconds=record.seconds,
        images_per_second=record.images_per_second,
    )


class Reports:
    """The test reports of a call, and the analyses that hold them.

    Attributes:
        reports: `downstream` and `baseline`, as far as there are any.
        analyses: names of folders of the store.
    """

    def __init__(self, session: Session, store: Store, masks: ImageMasks | None) -> None:
        self.session = session
        self.store = store
        self.masks = masks
        self.reports: dict[str, TargetReport] = {}
        self.folders: list[str] = []
        self.attention: list[str] = [] if masks is None else [masks.folder.name]

    @property
    def analyses(self) -> list[str]:
        """Names of folders of the store: reports, then what attention needs."""
        return [*self.folders, *self.attention]

    def keep(self, name: str, report: TargetReport, folder: Path) -> None:
        """Keep a report that is in an analysis."""
        self.reports[name] = report
        self.folders.append(folder.name)

    def add(self, name: str, outcomes: Sequence[Outcome]) -> None:
        """Report the last of some stages, where it is a classification."""
        from sslcurr.analysis.evaluation import classifier

        if not outcomes or outcomes[-1].spec.task not in TARGET_TASKS:
            return
        last, device = outcomes[-1], self.session.device
        report, folder = classifier.evaluate(last.stage, last.spec, self.store, device)
        if self.masks is not None:
            from sslcurr.analysis.evaluation.attention import AttentionSettings, measure_attention, report_attention

            settings = AttentionSettings()
            attention = measure_attention(last.stage, last.spec, self.masks, settings, self.store, device)
            self.attention.append(attention.folder.name)
            report = msgspec.structs.replace(report, attention=report_attention(attention))
        self.keep(name, report, folder)


def _probe(session: Session, planner: Planner, target: Target, store: Store, reports: Reports) -> None:
    """Report a probe of a checkpoint, and of the untrained backbone when it is asked for or all there is."""
    from sslcurr.analysis.evaluation import classifier
    from sslcurr.engine.run import weights_of
    from sslcurr.files import sha256_of

    assert target.probe is not None
    planner.selection(TARGET)  # raises where there are no labels
    parent, request = planner.parent, session.request
    backbone, size = planner.backbone(parent), planner.data.image_size
    data = planner.data.spec(request.label_fraction)

    def measure(name: str, weights: Path | None, digest: str) -> None:
        report, folder = classifier.probe(
            weights,
            digest,
            backbone,
            size,
            data,
            target.probe or "",
            store,
            session.device,
            request.seed,
            target.layers,
        )
        reports.keep(name, report, folder)

    if parent.key is not None:
        weights = weights_of(parent.key, parent.source, store)
        measure("downstream", weights, sha256_of(weights))
    if parent.key is None or target.baseline:
        measure("downstream" if parent.key is None else "baseline", None, f"untrained, seed {request.seed}")
