"""The summary at the top of the page: of each data set, what its results say together, and what they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sslcurr.analysis.report.answers import AS_LONG, BASELINE, Answers, Gap
from sslcurr.analysis.results.report.document import ReportDocument, StoredRun
from sslcurr.wording import counted, duration

# Open questions that are named, and remarks of analyses.
MOST_GAPS, MOST_ALSO = 4, 3


@dataclass(frozen=True)
class Summary:
    """What is known of a data set.

    Attributes:
        dataset: its name.
        sentences: a question, the sentence that answers it, and what more is to say.
        gaps: what was not shown.
        main: the name of the run that speaks for it; empty where none does.
        others: how many more results there are of it.
    """

    dataset: str
    sentences: tuple[tuple[str, str, str], ...]
    gaps: tuple[Gap, ...]
    main: str = ""
    others: int = 0


def summaries(document: ReportDocument, answers: Mapping[str, Answers]) -> list[Summary]:
    """The summary of each data set, the one of which most is known first.

    Args:
        document: what the store holds.
        answers: name of each run -> what it says.
    """
    groups: dict[str, list[StoredRun]] = {}
    for run in document.runs:
        if run.kind is not None:
            groups.setdefault(answers[run.run].dataset or run.dataset, []).append(run)
    if not groups:
        return [_without_results(document)]
    ordered = sorted(groups.items(), key=lambda item: max(answers[run.run].weight for run in item[1]), reverse=True)
    return [_summary(document, name, runs, answers) for name, runs in ordered]


def _summary(
    document: ReportDocument, dataset: str, runs: Sequence[StoredRun], answers: Mapping[str, Answers]
) -> Summary:
    falling = sorted(runs, key=lambda run: answers[run.run].weight, reverse=True)  # of equals the newest
    said = [answers[run.run] for run in falling]
    main = said[0]
    closed = {name for each in said for name in each.closes}
    gaps = [gap for gap in main.gaps if gap.name not in closed]
    pretraining = next((each.pretraining for each in said if each.pretraining), "")
    longer = next((each for each in said if _is_as_long(main, each)), None)
    if pretraining and longer is not None:
        gaps = [gap for gap in gaps if gap.name != AS_LONG]
        pretraining += f" Trained for {longer.epochs} epochs, {longer.alone}."
    if pretraining:
        gaps = [gap for gap in gaps if gap.name != BASELINE]
    gaps = [*gaps[: MOST_GAPS - 1], Gap("data", f"Whether it holds for other images than those of {dataset}.")]
    order = [next((each.matters for each in said if each.matters), ""), next((e.order for e in said if e.order), "")]
    sentences = [
        (
            "Does pretraining help?",
            pretraining or "Not known: no result here compares a chain with training from scratch.",
        ),
        ("Which order?", " ".join(filter(None, order))),
        ("How sure is that?", f"{main.sure}{_unfinished(falling[0])}".strip()),
        ("What else?", " ".join([each.also for each in said if each.also][:MOST_ALSO])),
        ("What did it cost?", cost(document, dataset, runs)),
    ]
    return Summary(
        dataset=dataset,
        sentences=tuple((question, *_first(answer)) for question, answer in sentences if answer),
        gaps=tuple(gaps),
        main=falling[0].run,
        others=len(runs) - 1,
    )


def _first(text: str) -> tuple[str, str]:
    """The first sentence, and the rest."""
    first, point, rest = text.partition(". ")
    return first + point.strip(), rest


def _is_as_long(main: Answers, other: Answers) -> bool:
    """Whether a result has single tasks that were trained as long as the chains of another, or at least longer."""
    if main.longest < 2 or not other.alone or not other.epochs or not set(other.tasks) & set(main.tasks):
        return False
    if not main.epochs:
        return True  # its command does not say how long; what the other reaches is said with its epochs
    return float(other.epochs) >= main.longest * float(main.epochs)


def _unfinished(run: StoredRun) -> str:
    return "" if run.finished else " The run has not come to its end: this is what it found when it last ended."


def cost(document: ReportDocument, dataset: str, runs: Sequence[StoredRun]) -> str:
    """Stages, hours and devices of a data set, each stage once."""
    keys = {key for run in runs for key in run.stages}
    stages = [stage for stage in document.stages if stage.dataset == dataset or stage.key in keys]
    if not stages:
        return "Not kept: the stages of these results are not in this store."
    devices = list(dict.fromkeys(stage.device for stage in stages))
    more = f" and {len(devices) - 2} other devices" if len(devices) > 2 else ""
    seconds = 3600 * sum(stage.hours for stage in stages)
    missing = len({key for run in runs for key in run.missing})
    gone = (
        f" {counted(missing, 'further stage')} of these results {'is' if missing == 1 else 'are'} gone."
        if missing
        else ""
    )
    return f"{counted(len(stages), 'stage')}, {duration(seconds)} of training on {'; '.join(devices[:2])}{more}.{gone}"


def _without_results(document: ReportDocument) -> Summary:
    """What can be said of a store in which no result is kept."""
    names = list(
        dict.fromkeys([*(run.dataset for run in document.runs), *(stage.dataset for stage in document.stages)])
    )
    known = f"{counted(len(document.runs), 'run')} and {counted(len(document.stages), 'stage')}, but no kept result"
    return Summary(
        dataset=", ".join(filter(None, names)),
        sentences=(
            ("Does pretraining help?", f"Not known: there {'is' if len(document.runs) == 1 else 'are'} {known}.", ""),
            ("What did it cost?", *_first(cost(document, "", document.runs))),
        ),
        gaps=(Gap("results", "What these runs found: run their commands again, which trains nothing twice."),),
    )
