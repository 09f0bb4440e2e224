"""What every command needs: a store, what is asked for, where it runs, and who hears of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sslcurr.analysis.results.document import Document
from sslcurr.errors import SpecError
from sslcurr.files import writable_folder, write_json
from sslcurr.progress import Reporter
from sslcurr.spec import settings
from sslcurr.spec.request import Request
from sslcurr.spec.runtime import Pooling, Runtime
from sslcurr.wording import first_command

if TYPE_CHECKING:
    from sslcurr.engine.ancestry import Weights
    from sslcurr.engine.dataset import Data
    from sslcurr.engine.fill import Filling
    from sslcurr.engine.graph import Job
    from sslcurr.engine.models import Model
    from sslcurr.engine.origin import Origin
    from sslcurr.engine.plan import Planner
    from sslcurr.engine.store import Stage, Store
    from sslcurr.spec.record import RunRecord

Found = TypeVar("Found", bound=Document)


# Names of runs, and what they must not look like: keys, and words that mean something already.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
HEX = re.compile(r"[0-9a-f]{4,16}")
RESERVED = ("last", "random", "imagenet", "seeds", "none")


@dataclass(frozen=True, kw_only=True)
class Session:
    """One call of the library.

    Attributes:
        runs: the folder of the store.
        request: what is asked for.
        runtime: where and how it runs.
        pooling: how much of it runs at once.
        reporter: hears of it.
        invocation: the command line that the store and the documents name.
        plot: a folder for charts, or None.
    """

    runs: Path
    request: Request
    runtime: Runtime
    pooling: Pooling
    reporter: Reporter
    invocation: tuple[str, ...]
    plot: Path | None = None

    @property
    def device(self) -> str:
        """`auto`, `cpu`, `cuda` or `cuda:N`."""
        return self.runtime.device

    def store(self) -> Store:
        """The store, made if it is not there.

        Raises:
            SpecError: it cannot be made or written.
        """
        from sslcurr.engine.store import Store

        return Store(writable_folder(self.runs, "--runs"), lease=self.pooling.lease, note=self.reporter.note)

    def existing_store(self) -> Store:
        """The store, which must be there; it need not be writable.

        Raises:
            StoreError: there is no such folder.
        """
        from sslcurr.engine.store import Store
        from sslcurr.errors import StoreError

        if not self.runs.is_dir():
            raise StoreError(
                f"there is no store at {self.runs}",
                f"give --runs FOLDER, or train something first: {first_command(self.runs)}",
            )
        return Store(self.runs, note=self.reporter.note)

    @contextmanager
    def filling(self, store: Store, run: str = "") -> Iterator[Filling | None]:
        """What carries out jobs in several processes, where that is asked for; None for one after the other, here.

        Args:
            store: holds the results.
            run: the name of the command's run, for the plan by which other processes help.

        Raises:
            SpecError: there is no such pool.
            StoreError: the store's file system has no locks that lock.
        """
        from sslcurr.engine.plans import Plan
        from sslcurr.engine.pool import POOLS

        if self.is_alone:
            yield None
            return
        make = POOLS.find(self.pooling.job_pool)
        plan = Plan(run, self.invocation, store) if self.pooling.job_pool == "shared" and run else None
        with self._filling(store, make, plan=plan) as filling:
            yield filling

    @contextmanager
    def working(self, store: Store) -> Iterator[Filling]:
        """What carries out the jobs of others: in this process, or in several of this machine.

        Raises:
            StoreError: the store's file system has no locks that lock.
        """
        from sslcurr.engine.pool import POOLS

        make = POOLS.find("shared" if self.num_workers == 1 else "here")
        with self._filling(store, make, is_worker=True) as filling:
            yield filling

    def carry_out(self, store: Store, jobs: Callable[[], Iterable[Job]]) -> None:
        """Do jobs in several processes, where that is asked for; else nothing, and `jobs` is not called.

        What follows finds their results in the store.

        Raises:
            TrainingError: a job cannot be done.
            SslcurrError: a job met a mistake, as it would be raised here.
        """
        from sslcurr.errors import TrainingError

        with self.filling(store) as filling:
            if filling is None:
                return
            filling.add(jobs())
            filling.wait(filling.graph.jobs)
            for name in filling.graph.jobs:
                if (failed := filling.failure(name)) is not None:
                    raise TrainingError(failed.reason, failed.hint)

    @property
    def is_alone(self) -> bool:
        """Whether one job after the other is done in this process."""
        return self.pooling.job_pool == "here" and self.num_workers == 1

    @property
    def num_workers(self) -> int:
        """How many processes of this machine work at once."""
        from sslcurr.engine.pool import num_workers

        return num_workers(self.pooling, self.runtime)

    def _filling(self, store: Store, make: Any, **how: Any) -> Filling:
        from sslcurr.claims import check_locks
        from sslcurr.data.known import confirm
        from sslcurr.engine.fill import Filling
        from sslcurr.engine.threads import threads_of_each, use_threads

        check_locks(store.root)
        confirm()
        if self.pooling.job_pool == "here" and (workers := self.num_workers) > 1:
            use_threads(threads_of_each(self.runtime.threads, workers))  # so that what is done here has the same bits
        return Filling(lambda: make(self.pooling, store, self.runtime, self.reporter), store, self.reporter, **how)

    def plots(self) -> Path | None:
        """The folder for charts, made if it is not there.

        Raises:
            SpecError: it cannot be made or written.
        """
        return None if self.plot is None else writable_folder(self.plot, "--plot")

    def planner(self, tasks: Sequence[str], start: str | None = None) -> Planner:
        """The planner of `tasks` from the checkpoint `start`, with the data packed.

        Raises:
            SslcurrError: a setting, a checkpoint or data that cannot be.
        """
        from sslcurr.engine.demo import demonstration
        from sslcurr.engine.models import named_weights, parent_from
        from sslcurr.engine.plan import Planner

        if self.request.run_name is not None:
            check_form(self.request.run_name)
        if self.runtime.trackers:
            from sslcurr.engine.trackers import check_trackers

            check_trackers(self.runtime.trackers)
        if self.request.unlabelled and self.request.dataset is None and start is None:
            raise SpecError(
                "--unlabelled adds to the training images of a data set, and none is named",
                "give --dataset too; to pretrain on these images alone, name them as --dataset",
            )
        store = self.store()
        self.plots()  # a folder that cannot be written is heard of now
        start, backbone = named_weights(start, self.request.backbone)
        parent = parent_from(start, store, backbone, self.request.stem)
        weights = parent.named_weights
        origin = None if weights is None else self.origin([(start or "", weights)], store)
        request = replace(self.request, backbone=backbone)
        request = request if origin is None else origin.request(request)
        if request.dataset is None:
            request = demonstration(request, tasks)
            self.reporter.note(
                f"no --dataset: clothes that come with sslcurr, {request.label_fraction:.0%} of their labels, the "
                f"network {request.backbone}; --dataset fashion takes all labels and the usual settings"
            )
        with self.reporter.counting("decoding images") as progress:
            planner = Planner(request, store, tasks, parent, progress)
        self._opened(planner.data, origin)
        return planner

    def origin(self, named: Sequence[tuple[str, Weights | None]], store: Store) -> Origin | None:
        """The data set of the stages that a call names, as `origin_of`, which is said; None where the call names one.

        Raises:
            SpecError: the stages were trained on different images, or for some it is not known on which.
        """
        from sslcurr.engine.origin import origin_of

        if self.request.dataset is not None:
            return None
        origin = origin_of(named, store)
        self.reporter.note(f"images: those that {origin.title} was trained on, {origin.data.name}")
        return origin

    def _opened(self, data: Data, origin: Origin | None) -> None:
        """Say what a person should know of a data set that was opened.

        Raises:
            DataError: it is not that of the stages any more, where it should be.
        """
        if origin is not None:
            origin.check(data.pack)
        for text in data.notes:
            self.reporter.note(text)

    def open_data(
        self,
        dataset: str | None,
        store: Store,
        size: int | None,
        *,
        exact: bool = False,
        masks: Path | None = None,
        origin: Origin | None = None,
    ) -> Data:
        """A data set, packed for views of `size` pixels (None: the data set's own), or to just that size; that of
        `origin`, where it is given."""
        from sslcurr.engine.dataset import open_data, split_of

        request = replace(self.request, dataset=dataset, masks=masks)
        request = request if origin is None else origin.request(request)
        split = split_of(settings.parse(request.settings, ["data"]))
        if exact:
            split, request = replace(split, pack_size=size or 0), replace(request, image_size=size)
        with self.reporter.counting("decoding images") as progress:
            data = open_data(request, split, store, size, progress)
        self._opened(data, origin)
        return data

    def models(self, checkpoints: Sequence[str], store: Store) -> list[Model]:
        """Models by what a person calls them; it is said where they see images of different sizes."""
        from sslcurr.engine.models import models_from

        request = self.request
        models = models_from(checkpoints, store, backbone=request.backbone, stem=request.stem, seed=request.seed)
        sizes = {model.title: request.image_size or model.image_size for model in models}
        if len({size for size in sizes.values() if size is not None}) > 1:
            shown = ", ".join(f"{title} {size}" for title, size in sizes.items() if size is not None)
            self.reporter.note(
                f"models see images of different sizes, in pixels: {shown}; --image-size makes them equal"
            )
        return models

    def keep(self, store: Store, record: RunRecord, document: Document) -> None:
        """Keep what a command found in the store, and tell it the trackers."""
        plain = document.to_json()
        store.keep_result(record, document.kind, plain)
        if self.runtime.trackers:
            import json

            from sslcurr.engine.store import run_name
            from sslcurr.engine.trackers import track_result

            run, text = run_name(record.asked), json.dumps(plain, indent=1)
            names = self.runtime.trackers
            track_result(names, store.root, run, record, document.kind, text, self.reporter.note)

    def draw(self, document: Document) -> None:
        """Draw the charts of a document, and write it with its tables and predictions, into the folder for charts, if
        any."""
        from sslcurr.analysis.evaluation.predictions import write_predictions
        from sslcurr.analysis.results.formats import write_csv

        folder = self.plots()
        if folder is not None:
            for table in document.csv_tables():
                self.reporter.wrote(write_csv(table, folder))
            for chart in document.figures().values():
                self.wrote(chart.save(folder))
            path = folder / f"{document.kind}.json"
            write_json(path, document.to_json())
            self.reporter.wrote(path)
            written = write_predictions(document.predicted(), folder)
            if written is not None:
                self.reporter.wrote(written)

    def draw_stages(self, stages: Sequence[Stage]) -> None:
        """Draw the curves of stages into the folder for charts, if there is one."""
        from sslcurr.analysis.results.training.curves import stage_charts
        from sslcurr.wording import arrow

        folder = self.plots()
        if folder is not None:
            for stage in {stage.key: stage for stage in stages}.values():
                for chart in stage_charts(f"{arrow(stage.spec.tasks)}, seed {stage.spec.seed}", stage):
                    self.wrote(chart.save(folder))

    def wrote(self, figure: Any) -> None:
        """Tell the files of a figure."""
        from sslcurr.analysis.results.style import FIGURE_FORMATS

        for form in FIGURE_FORMATS:
            self.reporter.wrote(Path(f"{figure.base}.{form}"))

    def finished(self, document: Found) -> Found:
        """A document with the version of its layout and the command line that made it."""
        if "sslcurr.data.known" in sys.modules:
            from sslcurr.data.known import confirm

            confirm()
        return document.made_by(list(self.invocation))


def check_form(name: str) -> None:
    """Raises SpecError for a name of a run that could be taken for something else."""
    if not NAME.fullmatch(name) or HEX.fullmatch(name) or name.partition("~")[0] in RESERVED:
        raise SpecError(
            f"{name!r} is no name for a run",
            "begin with a letter, go on with letters, digits, - _ and .; take no word such as last or random, and "
            "nothing that looks like a key",
        )
