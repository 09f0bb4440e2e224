"""What jobs do: the kinds of work, and one job carried out from its beginning to its end."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from sslcurr import errors
from sslcurr.claims import Lost, Taken
from sslcurr.engine.graph import Job
from sslcurr.engine.signals import stop_signals
from sslcurr.engine.store import Store
from sslcurr.errors import Interrupted, SslcurrError, TrainingError
from sslcurr.files import mistake_of
from sslcurr.progress import Reporter
from sslcurr.spec.stage import Json

if TYPE_CHECKING:
    from sslcurr.spec.runtime import Runtime


class Work(Protocol):
    """A kind of work, on the `arguments` of a job."""

    @staticmethod
    def is_done(job: Job, store: Store) -> bool:
        """Whether the store holds its result; what the job needs is done."""

    @staticmethod
    def run(job: Job, store: Store, runtime: Runtime, report: Reporter) -> None:
        """Do it, so that the store holds its result.

        Raises:
            Taken: another process is at it, and the store does not wait.
            Lost: another process has done it meanwhile.
            TrainingError: it cannot be done; other jobs go on.
        """


class AnalysisWork:
    """For works whose jobs have the name of the analysis that they leave in the store."""

    @staticmethod
    def is_done(job: Job, store: Store) -> bool:
        """Whether the analysis is there."""
        return store.has_named(job.name)


# As a table of plug-ins, "module:attribute": imported at the first job of the kind.
KINDS = {
    "stage": "sslcurr.engine.run:StageWork",
    "trial": "sslcurr.engine.run:TrialWork",
    "report": "sslcurr.analysis.evaluation.classifier:ReportWork",
    "probe": "sslcurr.analysis.evaluation.classifier:ProbeWork",
    "attention": "sslcurr.analysis.evaluation.attention:AttentionWork",
    "scores": "sslcurr.analysis.evaluation.scores:ScoresWork",
    "features": "sslcurr.analysis.evaluation.features:FeaturesWork",
    "embedding": "sslcurr.analysis.evaluation.embedding:EmbeddingWork",
    "distances": "sslcurr.analysis.evaluation.distances:DistancesWork",
    "similarity": "sslcurr.analysis.evaluation.similarity:SimilarityWork",
}


def work_of(kind: str) -> type[Work]:
    """The work of a kind of jobs."""
    module, _, attribute = KINDS[kind].partition(":")
    work: type[Work] = getattr(importlib.import_module(module), attribute)
    return work


class Event(msgspec.Struct, kw_only=True):
    """What a pool says of a job.

    Attributes:
        what: `ended`: the store holds the result. `failed`: it cannot be done. `taken`: another process is at it.
            `lost`: its worker died. `stopped`: a signal asked for that. `error`: the command cannot go on. `progress`:
            of the training, in `status`. `note`: a remark, in `text`.
        worker: the number of the worker, from 0.
        job: the job's name.
        text, hint: a reason, or a remark.
        kind: the class of an error.
        signal: that asked to stop.
        done_here: whether this worker did it, and did not find it done.
        by_machine: whether the worker died with its machine.
        status: how far the training is: step, total_steps, epoch, epochs, images_per_second, loss.
    """

    what: Literal["ended", "failed", "taken", "lost", "stopped", "error", "progress", "note"]
    worker: int = 0
    job: str = ""
    text: str = ""
    hint: str = ""
    kind: str = ""
    signal: int = 0
    done_here: bool = False
    by_machine: bool = False
    status: Json = msgspec.field(default_factory=dict)

    def error(self) -> SslcurrError:
        """The error of an `error` event, of the class that it had."""
        kind: Any = getattr(errors, self.kind, SslcurrError)
        error: SslcurrError = kind(self.text, self.hint)
        return error


def carry_out(job: Job, store: Store, runtime: Runtime, report: Reporter, worker: int = 0) -> Event:
    """Do a job, and say how it ended; what is nobody's mistake is raised."""
    work = work_of(job.kind)
    try:
        if work.is_done(job, store):
            return Event(what="ended", worker=worker, job=job.name)
        made = store.num_made
        with stop_signals(raises=True):  # a training saves first
            work.run(job, store, runtime, report)
    except Lost:  # another process has done it
        return Event(what="ended", worker=worker, job=job.name)
    except Taken as taken:
        return Event(what="taken", worker=worker, job=job.name, text=str(taken))
    except TrainingError as error:
        return Event(what="failed", worker=worker, job=job.name, text=str(error), hint=error.hint)
    except Interrupted as stop:
        return Event(what="stopped", worker=worker, job=job.name, text=str(stop), hint=stop.hint, signal=stop.signal)
    except (SslcurrError, OSError) as error:
        mistake = mistake_of(error, store.place) if isinstance(error, OSError) else error
        if mistake is None:
            raise
        name = type(mistake).__name__
        return Event(what="error", worker=worker, job=job.name, text=str(mistake), hint=mistake.hint, kind=name)
    return Event(what="ended", worker=worker, job=job.name, done_here=store.num_made > made)
