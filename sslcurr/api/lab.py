"""`Lab`: what every command does, for Python. It prints nothing, returns documents and raises the commands' errors."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, get_type_hints

from sslcurr.api.options import (
    PATHS,
    AttendOptions,
    ChainOptions,
    CheckOptions,
    CkaOptions,
    EmbedOptions,
    ExplainOptions,
    ExportOptions,
    FidOptions,
    FinetuneOptions,
    GridOptions,
    ImportOptions,
    Options,
    OverOptions,
    PredictOptions,
    ProbeOptions,
    RankOptions,
    SampleOptions,
    SearchOptions,
    SlurmOptions,
    StartOptions,
    TaskOptions,
    option_names,
)
from sslcurr.api.session import Session
from sslcurr.errors import SpecError, did_you_mean
from sslcurr.progress import Reporter
from sslcurr.spec.request import Request
from sslcurr.spec.runtime import Pooling, Runtime

if TYPE_CHECKING:
    from sslcurr.analysis.results.attention.document import AttentionDocument
    from sslcurr.analysis.results.catalog.document import (
        CheckDocument,
        DatasetDocument,
        DatasetsDocument,
        PackDocument,
    )
    from sslcurr.analysis.results.comparison.document import CompareDocument
    from sslcurr.analysis.results.distances.document import DistancesDocument
    from sslcurr.analysis.results.document import Document
    from sslcurr.analysis.results.explanation.document import ExplanationDocument
    from sslcurr.analysis.results.forecast.document import ForecastDocument
    from sslcurr.analysis.results.grid.document import GridDocument
    from sslcurr.analysis.results.inventory.document import (
        HandoverDocument,
        InspectionDocument,
        RemovalDocument,
        RunDocument,
        RunsDocument,
        StageDocument,
        StagesDocument,
    )
    from sslcurr.analysis.results.plan.document import PlanDocument
    from sslcurr.analysis.results.prediction.document import EmbedDocument, PredictDocument
    from sslcurr.analysis.results.probing.document import ProbeDocument
    from sslcurr.analysis.results.queue.document import LiveDocument, QueueDocument, WorkDocument
    from sslcurr.analysis.results.ranking.document import RankDocument
    from sslcurr.analysis.results.report.document import ReportDocument
    from sslcurr.analysis.results.search.document import SearchDocument
    from sslcurr.analysis.results.search_forecast.document import SearchForecastDocument
    from sslcurr.analysis.results.similarity.document import SimilarityDocument
    from sslcurr.analysis.results.slurm.document import SlurmDocument
    from sslcurr.analysis.results.tasks.document import TaskDocument, TasksDocument
    from sslcurr.analysis.results.training.document import TrainDocument
    from sslcurr.analysis.results.variants.document import VariantsDocument
    from sslcurr.analysis.results.weights.document import ExportDocument, ImportDocument


class Lab:
    """A store, and what is to be done with it.

        lab = sslcurr.Lab("runs", dataset="covid", data_root="~/data")
        ranking = lab.rank(["mocov2", "swav", "rotation"], orderings="all", seeds=3)
        lab.chain(ranking.curriculum).downstream.interval

    Every method does what the command of its name does (docs/commands.md), takes options that hold for this call alone,
    and raises `SslcurrError`s: a mistake in one line, and in `hint` what to do about it. A call that was interrupted
    goes on when it is made again.

    Args:
        runs: the folder of the store, made where it is not there.
        reporter: hears of progress, notes and files; the default says nothing.
        invocation: the command line that the store and the documents name; default: this program's.
        options: see `Options`.

    Raises:
        SpecError: there is no such option.
    """

    def __init__(
        self,
        runs: str | Path = "runs",
        *,
        reporter: Reporter | None = None,
        invocation: Sequence[str] | None = None,
        **options: Unpack[Options],
    ) -> None:
        self.runs_folder = Path(runs).expanduser()
        self.reporter = reporter or Reporter()
        self.invocation = tuple(invocation if invocation is not None else sys.argv)
        self.options: Options = options
        self._call(Options, {})

    def _call(
        self, kind: Any, options: Any
    ) -> tuple[Session, dict[str, Any]]:  # a TypedDict, which one only `kind` says
        """The session of a call, and those of its options that are its own; `kind` is a TypedDict of all it takes.

        Raises:
            SpecError: there is no such option, or a path cannot be.
        """
        names = option_names() | frozenset(get_type_hints(kind))
        for name in {**self.options, **options}:
            if name not in names:
                raise SpecError(f"there is no option {name!r}", did_you_mean(name, names))
        general = {name: value for name, value in options.items() if name in option_names()}
        return self._session({**self.options, **general}), {n: v for n, v in options.items() if n not in general}

    def _computing(self, kind: Any, options: Any) -> tuple[Session, dict[str, Any]]:
        """The same of a call that trains or computes features: the number of threads is in force from here on.

        Raises:
            SpecError: there is no such option, or a path or a number of threads cannot be.
        """
        from sslcurr.engine.threads import use_threads

        session, how = self._call(kind, options)
        use_threads(session.runtime.threads)
        return session, how

    def _plan(self, kind: Any, options: Any) -> tuple[Session, dict[str, Any]]:
        """The same of a call that draws nothing, as it has no results."""
        session, how = self._computing(kind, options)
        return replace(session, plot=None), how

    def _session(self, options: dict[str, Any]) -> Session:  # Options, some in the form in which a person gives them
        if "sslcurr.data.known" in sys.modules:
            from sslcurr.data.known import forget

            forget()
        for name in PATHS:
            if options.get(name) is not None:
                options[name] = Path(options[name]).expanduser()
        if options.get("dataset") is not None:
            options["dataset"] = str(options["dataset"])
        if isinstance(options.get("unlabelled"), (str, Path)):
            raise SpecError("unlabelled data sets are several", f"give unlabelled=[{str(options['unlabelled'])!r}]")
        options["unlabelled"] = tuple(str(name) for name in options.get("unlabelled") or ())
        if isinstance(options.get("settings"), str):
            raise SpecError("settings are several", f"give settings=[{options['settings']!r}]")
        options["settings"] = tuple(options.get("settings") or ())
        if isinstance(options.get("tracker"), str):
            raise SpecError("trackers are several", f"give tracker=[{options['tracker']!r}]")
        options["tracker"] = tuple(options.get("tracker") or ())
        if isinstance(options.get("gpu"), str):
            raise SpecError("ways of a GPU are several", f"give gpu=[{options['gpu']!r}]")
        options["gpu"] = tuple(options.get("gpu") or ("auto",))
        if isinstance(options.get("lr"), int):
            options["lr"] = float(options["lr"])
        options["profile"] = str(options.get("profile") or "")
        plot = options.pop("plot", None)
        runtime, pooling = (_fields_of(kind, options) for kind in (Runtime, Pooling))
        return Session(
            runs=self.runs_folder,
            request=Request(**options),
            runtime=Runtime(**runtime),
            pooling=Pooling(**pooling),
            reporter=self.reporter,
            invocation=self.invocation,
            plot=plot,
        )

    # ---- training

    def pretrain(self, task: str, **options: Unpack[StartOptions]) -> TrainDocument:
        """Train a backbone by one pretext task, without labels."""
        from sslcurr.api import training

        session, how = self._computing(StartOptions, options)
        return training.train(session, training.pretraining(session, task, **how))

    def plan_pretrain(self, task: str, **options: Unpack[StartOptions]) -> PlanDocument:
        """What `pretrain` would do, with every value resolved; the data is read and packed."""
        from sslcurr.api import training

        session, how = self._plan(StartOptions, options)
        return training.plan(session, training.pretraining(session, task, **how))

    def chain(self, tasks: Sequence[str], **options: Unpack[ChainOptions]) -> TrainDocument:
        """Train a backbone by `tasks`, each starting from the one before, fine-tune it and report the test split."""
        from sslcurr.api import training

        session, how = self._computing(ChainOptions, options)
        return training.train(session, training.chain(session, tasks, **how))

    def plan_chain(self, tasks: Sequence[str], **options: Unpack[ChainOptions]) -> PlanDocument:
        """What `chain` would do, with every value resolved; the data is read and packed."""
        from sslcurr.api import training

        session, how = self._plan(ChainOptions, options)
        return training.plan(session, training.chain(session, tasks, **how))

    def finetune(self, checkpoint: str | None = None, **options: Unpack[FinetuneOptions]) -> TrainDocument:
        """Train classification from a checkpoint (None: from scratch) and report the test split."""
        from sslcurr.api import training

        session, how = self._computing(FinetuneOptions, options)
        return training.train(session, training.finetuning(session, checkpoint, **how))

    def plan_finetune(self, checkpoint: str | None = None, **options: Unpack[FinetuneOptions]) -> PlanDocument:
        """What `finetune` would do, with every value resolved; the data is read and packed."""
        from sslcurr.api import training

        session, how = self._plan(FinetuneOptions, options)
        return training.plan(session, training.finetuning(session, checkpoint, **how))

    def go_on(self, key: str, **options: Unpack[Options]) -> TrainDocument:
        """Train a finished stage on, as a stage of its own: `sslcurr continue`. A fine-tuned one is reported."""
        from sslcurr.api import training

        session, _ = self._computing(Options, options)
        return training.train(*training.continuing(session, key))

    def plan_go_on(self, key: str, **options: Unpack[Options]) -> PlanDocument:
        """What `go_on` would do, with every value resolved."""
        from sslcurr.api import training

        session, _ = self._plan(Options, options)
        return training.plan(*training.continuing(session, key))

    # ---- orderings

    def rank(self, tasks: Sequence[str] = (), **options: Unpack[RankOptions]) -> RankDocument:
        """Train each task alone, rank the tasks by balanced accuracy, and measure orderings of them.

        No tasks are the four of the study. Chains that could not be trained are in `failed` of the document.
        """
        from sslcurr.api import orderings

        session, how = self._computing(RankOptions, options)
        return orderings.rank(session, tasks, **how)

    def plan_rank(self, tasks: Sequence[str] = (), **options: Unpack[RankOptions]) -> ForecastDocument:
        """What `rank` would train, and how long it would take."""
        from sslcurr.api import orderings

        session, how = self._plan(RankOptions, options)
        return orderings.plan_rank(session, tasks, **how)

    def rank_over(self, tasks: Sequence[str] = (), **options: Unpack[OverOptions]) -> VariantsDocument:
        """Rank the tasks under every combination of settings: `sslcurr rank --over`."""
        from sslcurr.api import over

        session, how = self._computing(OverOptions, options)
        return over.rank_over(session, tasks, **how)

    def plan_rank_over(self, tasks: Sequence[str] = (), **options: Unpack[OverOptions]) -> ForecastDocument:
        """What `rank_over` would train, all settings together, and how long it would take."""
        from sslcurr.api import over

        session, how = self._plan(OverOptions, options)
        return over.plan_rank_over(session, tasks, **how)

    def search(self, tasks: Sequence[str] = (), **options: Unpack[SearchOptions]) -> SearchDocument:
        """Find a good ordering without training them all: `sslcurr rank --search`."""
        from sslcurr.api import search

        session, how = self._computing(SearchOptions, options)
        return search.search(session, tasks, **how)

    def plan_search(self, tasks: Sequence[str] = (), **options: Unpack[SearchOptions]) -> SearchForecastDocument:
        """What `search` would spend at most."""
        from sslcurr.api import search

        session, how = self._plan(SearchOptions, options)
        return search.plan_search(session, tasks, **how)

    def join(self, documents: Sequence[str | Path], **options: Unpack[Options]) -> RankDocument:
        """Documents of `rank` over different seeds, files or names of runs, as one over all of them."""
        from sslcurr.api import tables

        return tables.join(self._call(Options, options)[0], documents)

    def explain(self, ranking: str | Path, **options: Unpack[ExplainOptions]) -> ExplanationDocument:
        """What lies behind the differences between the chains of a ranking, a file or the name of a run."""
        from sslcurr.api import tables

        session, how = self._call(ExplainOptions, options)
        return tables.explain(session, ranking, **how)

    def grid(self, tasks: Sequence[str], **options: Unpack[GridOptions]) -> GridDocument:
        """Train a chain on shares of the images and of the labels."""
        from sslcurr.api import orderings

        session, how = self._computing(GridOptions, options)
        return orderings.grid(session, tasks, **how)

    def plan_grid(self, tasks: Sequence[str], **options: Unpack[GridOptions]) -> ForecastDocument:
        """What `grid` would train, and how long it would take."""
        from sslcurr.api import orderings

        session, how = self._plan(GridOptions, options)
        return orderings.plan_grid(session, tasks, **how)

    # ---- workers

    def queue_chain(self, tasks: Sequence[str], **options: Unpack[ChainOptions]) -> QueueDocument:
        """Write down what `chain` would do, so that workers do it; run `chain` afterwards for the results."""
        from sslcurr.api import training

        session, how = self._plan(ChainOptions, options)
        return training.queue(session, training.chain(session, tasks, **how))

    def queue_rank(self, tasks: Sequence[str] = (), **options: Unpack[RankOptions]) -> QueueDocument:
        """Write down what `rank` would do, as far as that is known, so that workers do it."""
        from sslcurr.api import orderings

        session, how = self._plan(RankOptions, options)
        return orderings.queue_rank(session, tasks, **how)

    def queue_rank_over(self, tasks: Sequence[str] = (), **options: Unpack[OverOptions]) -> QueueDocument:
        """Write down what `rank_over` would do, as far as that is known, so that workers do it."""
        from sslcurr.api import over

        session, how = self._plan(OverOptions, options)
        return over.queue_rank_over(session, tasks, **how)

    def queue_grid(self, tasks: Sequence[str], **options: Unpack[GridOptions]) -> QueueDocument:
        """Write down what `grid` would do, so that workers do it."""
        from sslcurr.api import orderings

        session, how = self._plan(GridOptions, options)
        return orderings.queue_grid(session, tasks, **how)

    def work(self, *, until_idle: bool = False, **options: Unpack[Options]) -> WorkDocument:
        """Carry out what is written down, beside other workers; `until_idle` ends when all is done."""
        from sslcurr.api import queues

        session, _ = self._plan(Options, options)
        return queues.work(session, until_idle=until_idle)

    def live(self) -> LiveDocument:
        """What all processes on the store are at."""
        return next(self.looks())

    def looks(self) -> Iterator[LiveDocument]:
        """The same again and again, as often as it is asked for, without end."""
        from sslcurr.api import queues

        return queues.looks(self._call(Options, {})[0])

    # ---- clusters

    def slurm(
        self, command: Sequence[str] = (), *, wait: bool = False, **options: Unpack[SlurmOptions]
    ) -> SlurmDocument:
        """Submit workers on this store to SLURM; `wait` until all have ended.

        `command` is a command line without `sslcurr`, of rank, grid or chain, that is planned first, in a process of
        its own and with the options that it names. Without one, the workers train what was planned before.
        """
        from sslcurr.api import clusters

        session, how = self._call(SlurmOptions, options)
        return clusters.slurm(session, command, wait=wait, **how)

    def plan_slurm(self, command: Sequence[str] = (), **options: Unpack[SlurmOptions]) -> SlurmDocument:
        """The script that `slurm` would submit; nothing is planned or submitted."""
        from sslcurr.api import clusters

        session, how = self._plan(SlurmOptions, options)
        return clusters.plan_slurm(session, command, **how)

    # ---- what models have learnt

    def cka(self, checkpoints: Sequence[str], **options: Unpack[CkaOptions]) -> SimilarityDocument:
        """How alike models are, layer by layer (CKA)."""
        from sslcurr.api import models

        session, how = self._computing(CkaOptions, options)
        return models.cka(session, checkpoints, **how)

    def fid(self, reference: str, datasets: Sequence[str], **options: Unpack[FidOptions]) -> DistancesDocument:
        """How far data sets are from a reference in the features of models (FID, KID)."""
        from sslcurr.api import models

        session, how = self._computing(FidOptions, options)
        return models.fid(session, reference, datasets, **how)

    def probe(self, checkpoints: Sequence[str], **options: Unpack[ProbeOptions]) -> ProbeDocument:
        """What frozen features are worth, layer by layer."""
        from sslcurr.api import models

        session, how = self._computing(ProbeOptions, options)
        return models.probe(session, checkpoints, **how)

    def attend(self, names: Sequence[str], **options: Unpack[AttendOptions]) -> AttentionDocument:
        """How much of what fine-tuned models attend to lies inside masks; `names` are runs, or keys of stages."""
        from sslcurr.api import models

        session, how = self._computing(AttendOptions, options)
        return models.attend(session, names, **how)

    # ---- finished models

    def predict(self, model: str, inputs: Sequence[str] = (), **options: Unpack[PredictOptions]) -> PredictDocument:
        """What a fine-tuned model says of images.

        Args:
            model: the key of a stage, its folder, a run with one, or a file that `export` wrote.
            inputs: folders, tables, data sets with a name, single files; none are the stage's own images.
            options: see `PredictOptions`.
        """
        from sslcurr.api import inference

        session, how = self._computing(PredictOptions, options)
        return inference.predict(session, model, inputs, **how)

    def embed(self, model: str, inputs: Sequence[str], **options: Unpack[EmbedOptions]) -> EmbedDocument:
        """Features of images by any checkpoint, into a file."""
        from sslcurr.api import inference

        session, how = self._computing(EmbedOptions, options)
        return inference.embed(session, model, inputs, **how)

    # ---- weights

    def import_weights(self, file: str | Path, **options: Unpack[ImportOptions]) -> ImportDocument:
        """Turn another project's checkpoint into one of ours."""
        from sslcurr.api import weights

        session, how = self._call(ImportOptions, options)
        return weights.import_weights(session, Path(file), **how)

    def export(self, checkpoint: str, **options: Unpack[ExportOptions]) -> ExportDocument:
        """Write a checkpoint for other programs; a fine-tuned stage goes with its classifier."""
        from sslcurr.api import weights

        session, how = self._call(ExportOptions, options)
        return weights.export(session, checkpoint, **how)

    # ---- the store

    def runs(self) -> RunsDocument:
        """The runs (commands) of the store, the one begun first first."""
        from sslcurr.api import stores

        return stores.runs(self._call(Options, {})[0])

    def stages(self) -> StagesDocument:
        """The finished stages of the store, oldest first."""
        from sslcurr.api import stores

        return stores.stages(self._call(Options, {})[0])

    def show(self, name: str, **options: Unpack[Options]) -> RunDocument | StageDocument:
        """All that is known of a run, or of the stage whose key begins with `name`."""
        from sslcurr.api import stores

        return stores.show(self._call(Options, options)[0], name)

    def result(self, name: str) -> Document:
        """The document of a run's command.

        Raises:
            StoreError: there is no such run, or it did not come so far.
        """
        from sslcurr.api import stores

        return stores.result(self._call(Options, {})[0], name)

    def compare(self, first: str, second: str, **options: Unpack[Options]) -> CompareDocument:
        """Two runs, one beside the other: settings that differ, and results with their paired differences."""
        from sslcurr.api import stores

        return stores.compare(self._call(Options, options)[0], first, second)

    def export_run(self, name: str, *, out: str | Path, packs: bool = False) -> HandoverDocument:
        """A run as one file (zip), to hand to a colleague; `packs`: with the packed images."""
        from sslcurr.api import stores

        return stores.export_run(self._call(Options, {})[0], name, out=out, packs=packs)

    def import_run(self, file: str | Path) -> HandoverDocument:
        """Take a run from such a file into the store; every file is verified first."""
        from sslcurr.api import stores

        return stores.import_run(self._call(Options, {})[0], file)

    def check_runs(self, *, repair: bool = False) -> InspectionDocument:
        """Hold all of the store against what was written; `repair` removes what is damaged or left over."""
        from sslcurr.api import stores

        return stores.check(self._call(Options, {})[0], repair=repair)

    def remove(self, names: Sequence[str] = (), *, dry_run: bool = False) -> RemovalDocument:
        """Forget runs, then remove the stages, analyses and packs that no run needs; `dry_run` only says which."""
        from sslcurr.api import stores

        return stores.remove(self._call(Options, {})[0], names, dry_run=dry_run)

    def report(self, names: Sequence[str] = (), *, out: str | Path | None = None) -> ReportDocument:
        """All that the store holds, or these runs of it; `out` is a file for the page, HTML."""
        from sslcurr.api import stores

        return stores.report(self._call(Options, {})[0], names, out=None if out is None else Path(out))

    def table_text(self, name: str, names: Sequence[str] = (), *, form: str = "md") -> str:
        """A table for a paper, of the newest run that has it or of the run that is named.

        Args:
            name: rank, orderings, variants, agreement, rates, search, components, predictors, models, insertions, grid,
                cka, fid, probe, attend, train or stages.
            names: runs.
            form: md, latex or csv.
        """
        from sslcurr.api import stores

        return stores.table_text(self._call(Options, {})[0], name, names, form=form)

    # ---- tasks and data

    def tasks(self) -> TasksDocument:
        """The tasks that can be trained."""
        from sslcurr.api import tasks

        return tasks.tasks(self._call(Options, {})[0])

    def task(self, name: str, **options: Unpack[TaskOptions]) -> TaskDocument:
        """A task's settings: the paper's, and those its recipe gives for a data set or a size of one."""
        from sslcurr.api import tasks

        session, how = self._call(TaskOptions, options)
        return tasks.task(session, name, **how)

    def datasets(self, **options: Unpack[Options]) -> DatasetsDocument:
        """The data sets that have a name, and which of them are there."""
        from sslcurr.api import datasets

        return datasets.datasets(self._call(Options, options)[0])

    def dataset(self, name: str, **options: Unpack[Options]) -> DatasetDocument:
        """What is known of a data set that has a name."""
        from sslcurr.api import datasets

        return datasets.dataset(self._call(Options, options)[0], name)

    def check(self, name: str, **options: Unpack[CheckOptions]) -> CheckDocument:
        """Open every image of a data set and look for what would stop or falsify a training."""
        from sslcurr.api import datasets

        session, how = self._call(CheckOptions, options)
        return datasets.check(session, name, **how)

    def prepare(self, *, download: bool = False, **options: Unpack[Options]) -> PackDocument:
        """Decode the data set once, to the pack that trainings of this image size use; `download` fetches it first."""
        from sslcurr.api import datasets

        return datasets.prepare(self._call(Options, options)[0], download=download)

    def sample(self, name: str, out: str | Path, **options: Unpack[SampleOptions]) -> Path:
        """Draw a contact sheet of a data set, a class a row; gives the file."""
        from sslcurr.api import datasets

        session, how = self._call(SampleOptions, options)
        return datasets.sample(session, name, Path(out), **how)

    def example(self, folder: str | Path, *, kind: str = "dicom") -> int:
        """Write a small study of DICOM (or png) files to try every command with; gives the number of its images."""
        from sslcurr.api import datasets

        return datasets.example(self._call(Options, {})[0], Path(folder), kind=kind)


def _fields_of(kind: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Those options that are fields of a class, taken out of them."""
    return {item.name: options.pop(item.name) for item in fields(kind) if item.name in options}
