"""`Lab`: what every command does, for Python. It prints nothing, returns documents and raises the commands' errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from sslcurr.api.session import Session
from sslcurr.errors import SpecError, did_you_mean
from sslcurr.progress import Reporter
from sslcurr.spec.request import Request
from sslcurr.spec.runtime import Runtime

if TYPE_CHECKING:
    from sslcurr.analysis.results.attention.document import AttentionDocument
    from sslcurr.analysis.results.catalog.document import (
        CheckDocument,
        DatasetDocument,
        DatasetsDocument,
        PackDocument,
    )
    from sslcurr.analysis.results.distances.document import DistancesDocument
    from sslcurr.analysis.results.forecast.document import ForecastDocument, SearchForecastDocument
    from sslcurr.analysis.results.grid.document import GridDocument
    from sslcurr.analysis.results.inventory.document import (
        RemovalDocument,
        RunDocument,
        RunsDocument,
        StageDocument,
        StagesDocument,
    )
    from sslcurr.analysis.results.plan.document import PlanDocument
    from sslcurr.analysis.results.probing.document import ProbeDocument
    from sslcurr.analysis.results.ranking.document import RankDocument
    from sslcurr.analysis.results.search.document import SearchDocument
    from sslcurr.analysis.results.similarity.document import SimilarityDocument
    from sslcurr.analysis.results.tasks.document import TaskDocument, TasksDocument
    from sslcurr.analysis.results.training.document import TrainDocument
    from sslcurr.analysis.results.weights.document import ExportDocument, ImportDocument


class Options(TypedDict, total=False):
    """What can be asked for, of a `Lab` or of one call: the options of the command line, under the same names.

    docs/commands.md explains them. `settings` are those of `--set`, such as `["rotation.lr=0.1"]`; `plot` is a folder
    for charts.
    """

    dataset: str | Path | None
    data_root: str | Path | None
    image_size: int | None
    skip_broken: bool
    frames: str
    masks: str | Path | None
    fraction: float
    label_fraction: float
    backbone: str | None
    stem: str | None
    epochs: int | None
    batch_size: int | None
    lr: float | str | None
    lr_range: tuple[float, float] | None
    lr_pruner: str | None
    seed: int
    settings: Sequence[str]
    precision: str
    device: str
    workers: int
    save_minutes: float
    tensorboard: bool
    recompute: bool
    plot: str | Path | None


PATHS = ("data_root", "masks", "plot")


def option_names() -> frozenset[str]:
    """The names of all options."""
    return frozenset(Options.__annotations__)


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
        self.session({})

    def session(self, changes: Options) -> Session:
        """The options of one call: those of this object with `changes`.

        Raises:
            SpecError: there is no such option.
        """
        options: dict[str, Any] = {**self.options, **changes}
        for name in options:
            if name not in option_names():
                raise SpecError(f"there is no option {name!r}", did_you_mean(name, option_names()))
        for name in PATHS:
            if options.get(name) is not None:
                options[name] = Path(options[name]).expanduser()
        if options.get("dataset") is not None:
            options["dataset"] = str(options["dataset"])
        if isinstance(options.get("settings"), str):
            raise SpecError("settings are several", f"give settings=[{options['settings']!r}]")
        options["settings"] = tuple(options.get("settings") or ())
        if isinstance(options.get("lr"), int):
            options["lr"] = float(options["lr"])
        plot = options.pop("plot", None)
        of_runtime = {item.name for item in fields(Runtime)}
        return Session(
            runs=self.runs_folder,
            request=Request(**{name: value for name, value in options.items() if name not in of_runtime}),
            runtime=Runtime(**{name: value for name, value in options.items() if name in of_runtime}),
            reporter=self.reporter,
            invocation=self.invocation,
            plot=plot,
        )

    # ---- training

    def pretrain(self, task: str, *, start: str | None = None, **options: Unpack[Options]) -> TrainDocument:
        """Train a backbone by one pretext task, without labels, from the checkpoint `start` or from scratch."""
        from sslcurr.api import training

        session = self.session(options)
        return training.train(session, training.pretraining(session, task, start))

    def plan_pretrain(self, task: str, *, start: str | None = None, **options: Unpack[Options]) -> PlanDocument:
        """What `pretrain` would do, with every value resolved."""
        from sslcurr.api import training

        session = self.session(options)
        return training.plan(session, training.pretraining(session, task, start))

    def chain(
        self,
        tasks: Sequence[str],
        *,
        finetune: bool = True,
        baseline: bool = False,
        start: str | None = None,
        **options: Unpack[Options],
    ) -> TrainDocument:
        """Train a backbone by `tasks`, each starting from the one before, then fine-tune it and report the test split.

        Args:
            tasks: pretext tasks in their order.
            finetune: end with classification.
            baseline: also train classification from scratch, to compare.
            start: a checkpoint or the key of a stage to start from.
        """
        from sslcurr.api import training

        session = self.session(options)
        target = training.chain(session, tasks, finetune=finetune, baseline=baseline, start=start)
        return training.train(session, target)

    def plan_chain(
        self,
        tasks: Sequence[str],
        *,
        finetune: bool = True,
        baseline: bool = False,
        start: str | None = None,
        **options: Unpack[Options],
    ) -> PlanDocument:
        """What `chain` would do, with every value resolved."""
        from sslcurr.api import training

        session = self.session(options)
        target = training.chain(session, tasks, finetune=finetune, baseline=baseline, start=start)
        return training.plan(session, target)

    def finetune(
        self,
        checkpoint: str | None = None,
        *,
        probe: str | None = None,
        layers: str = "*",
        baseline: bool = False,
        **options: Unpack[Options],
    ) -> TrainDocument:
        """Train classification from a checkpoint (None: from scratch) and report the test split.

        Args:
            checkpoint: a file, a stage's folder or its key.
            probe: `knn` or `linear` classifies frozen features instead; None trains all weights.
            layers: the layers that a probe looks at, a pattern of names.
            baseline: also report the same from scratch.
        """
        from sslcurr.api import training

        session = self.session(options)
        target = training.finetuning(session, checkpoint, probe=probe, layers=layers, baseline=baseline)
        return training.train(session, target)

    def plan_finetune(
        self,
        checkpoint: str | None = None,
        *,
        probe: str | None = None,
        layers: str = "*",
        baseline: bool = False,
        **options: Unpack[Options],
    ) -> PlanDocument:
        """What `finetune` would do, with every value resolved."""
        from sslcurr.api import training

        session = self.session(options)
        target = training.finetuning(session, checkpoint, probe=probe, layers=layers, baseline=baseline)
        return training.plan(session, target)

    # ---- orderings

    def rank(
        self,
        tasks: Sequence[str] = (),
        *,
        seeds: int = 3,
        orderings: str | Sequence[str] = (),
        length: int | None = None,
        measure: str = "finetune",
        layers: str = "*",
        start: str | None = None,
        imagenet: str | None = None,
        watch: bool = False,
        **options: Unpack[Options],
    ) -> RankDocument:
        """Train each task alone, rank the tasks by balanced accuracy, and measure orderings of them.

        Args:
            tasks: pretext tasks; none are the four of the study.
            seeds: how many, from the option `seed` on.
            orderings: words (curriculum, anti, full, pairs, triples, all) or orderings such as `"mocov2,swav"`.
            length: most tasks of what a word stands for; alone: all orderings.
            measure: `finetune`, or `linear` or `knn` on frozen features.
            layers: the layers that a probe looks at, a pattern of names.
            start: a checkpoint that every chain starts from.
            imagenet: ImageNet weights, or others, to compare with.
            watch: tell the reporter the table so far after every chain.

        Returns:
            The ranking; chains that could not be trained are in `failed`.
        """
        from sslcurr.api import orderings as api

        ranking = api.Ranking.of(
            self.session(options), tasks, seeds, orderings, length, measure, layers, start, imagenet
        )
        return ranking.run(watch=watch)

    def plan_rank(
        self,
        tasks: Sequence[str] = (),
        *,
        seeds: int = 3,
        orderings: str | Sequence[str] = (),
        length: int | None = None,
        measure: str = "finetune",
        layers: str = "*",
        start: str | None = None,
        imagenet: str | None = None,
        **options: Unpack[Options],
    ) -> ForecastDocument:
        """What `rank` would train, and how long it would take."""
        from sslcurr.api import orderings as api

        ranking = api.Ranking.of(
            self.session(options), tasks, seeds, orderings, length, measure, layers, start, imagenet
        )
        return ranking.forecast()
