"""A scientist's questions in their order: the sections of the page, what each shows, and what answers a missing one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sslcurr.analysis.report.answers import Answers
from sslcurr.analysis.report.asked import option_of, options_of, settings_in, trains
from sslcurr.analysis.report.tables import command_of
from sslcurr.analysis.results.document import is_set
from sslcurr.analysis.results.estimate import INTERVAL, between, ends_of, share
from sslcurr.analysis.results.report.document import ReportDocument, StoredRun, StoredSplit
from sslcurr.analysis.results.report.tables import dataset_table, device_table
from sslcurr.analysis.results.table import Column, Row, Table, count
from sslcurr.wording import counted


@dataclass(frozen=True)
class Linked:
    """A table whose rows are about runs; none for a table that is about something else."""

    table: Table
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """A section.

    Attributes:
        id: of the section in the page.
        title: the question.
        short: what it is called in the contents.
        lacking: what is said where the store has no answer; empty where there is always one.
        command: the command that would answer it.
        tables: what it shows.
        runs: whose cards it shows.
        always: whether the page has it in any case.
    """

    id: str
    title: str
    short: str
    lacking: str = ""
    command: str = ""
    tables: tuple[Linked, ...] = ()
    runs: tuple[str, ...] = field(default=())
    always: bool = False

    @property
    def is_answered(self) -> bool:
        """Whether the store holds anything for it."""
        return self.always or bool(self.tables or self.runs)


# Options that vary a setting within one result.
VARIED = ("over", "ssl-fractions", "label-fractions")
# Kind of a result -> the section of its card.
KINDS = {
    "train": "baseline",
    "rank": "order",
    "search": "order",
    "explain": "order",
    "variants": "robustness",
    "grid": "robustness",
    "attend": "attention",
    "cka": "features",
    "fid": "features",
    "probe": "features",
}


def questions(document: ReportDocument, answers: Mapping[str, Answers]) -> list[Question]:
    """All sections of the page, those without an answer among them.

    Args:
        document: what the store holds.
        answers: name of each run -> what it says.
    """
    runs: dict[str, list[str]] = {}
    for run in document.runs:
        section = "unkept" if run.kind is None else KINDS.get(run.kind, "others")
        runs.setdefault(section, []).append(run.run)

    place = {run.run: list(KINDS).index(run.kind) if run.kind in KINDS else 0 for run in document.runs}

    def cards(section: str) -> tuple[str, ...]:
        return tuple(sorted(runs.get(section, ()), key=place.__getitem__))  # of one kind the newest first

    data = next((option_of(command_of(run), "dataset") for run in document.runs if run.kind is not None), None)
    on = f" --dataset {data}" if data else ""
    return [
        Question("data", "Which data?", "data", "the packs of these data sets are gone", tables=_data(document)),
        Question(
            "split",
            "How were the images split?",
            "split",
            "the stages that say it are gone",
            tables=_splits(document, answers),
        ),
        Question(
            "baseline",
            "What is it compared with?",
            "baseline",
            "nothing was trained from scratch",
            f"sslcurr chain TASKS --baseline scratch{on}",
            _baselines(document, answers),
            cards("baseline"),
        ),
        Question(
            "tasks",
            "Which settings differ from the tasks' recipes?",
            "settings",
            "no command is known",
            tables=_settings(document, answers),
        ),
        Question(
            "order",
            "Which task, and which order?",
            "order",
            "no tasks were compared",
            f"sslcurr rank TASK TASK TASK --length 3 --seeds 3{on}",
            runs=cards("order"),
        ),
        Question(
            "robustness",
            "How robust is it?",
            "robustness",
            "one seed, one setting",
            f"sslcurr rank TASKS --over backbone=resnet18,resnet50 --seeds 3{on}",
            _robustness(document, answers),
            cards("robustness"),
        ),
        Question(
            "attention",
            "Where do the models look?",
            "attention",
            "not measured",
            f"sslcurr attend KEY --masks FOLDER{on}",
            runs=cards("attention"),
        ),
        Question(
            "features",
            "How alike, how far, how good are the features?",
            "similarity, distances, probes",
            "not measured",
            f"sslcurr probe KEY random{on}",
            runs=cards("features"),
        ),
        Question("others", "Other results", "other results", runs=cards("others")),
        Question("cost", "What did it cost?", "cost", tables=_cost(document), always=True),
        Question("repeat", "How is it repeated?", "how to repeat", runs=cards("unkept"), always=True),
    ]


def missing(found: Sequence[Question]) -> list[Question]:
    """The questions to which the store has no answer."""
    return [question for question in found if not question.is_answered and question.lacking]


def _data(document: ReportDocument) -> tuple[Linked, ...]:
    return (Linked(dataset_table(document.datasets)),) if document.datasets else ()


# ---- split


def _splits(document: ReportDocument, answers: Mapping[str, Answers]) -> tuple[Linked, ...]:
    """How the images of each data set were divided, and whether models saw reported images before."""
    rows: list[Row] = []
    for dataset in document.datasets:
        ways = {
            stage.split
            for stage in document.stages
            if stage.fingerprint == dataset.fingerprint and isinstance(stage.split, StoredSplit)
        }
        given = {} if not is_set(dataset.given) else dataset.given
        groups = dataset.num_groups if is_set(dataset.num_groups) else None
        leaks = [
            answers[run.run].leaks for run in document.runs if (answers[run.run].dataset or run.dataset) == dataset.name
        ]
        if ways or given:
            rows.append(
                {
                    "dataset": dataset.name,
                    "split": "; ".join([*_given(given), *sorted(_way(way, given) for way in ways)]),
                    "groups": "none are known" if groups is None else f"{groups:,}, each on one side",
                    "leaks": _leaks(leaks),
                }
            )
    columns = (
        Column("data set", ("dataset",)),
        Column("split", ("split",)),
        Column("groups, such as patients", ("groups",)),
        Column("reported images among those trained on", ("leaks",)),
    )
    table = Table("splits", "How images are divided", columns, rows, tuple(_split_notes(rows)))
    return (Linked(table),) if rows else ()


def _split_notes(rows: Sequence[Row]) -> Iterator[str]:
    yield "Shares are of the images that have no split of their own, drawn by class; groups stay together."
    if any(row["groups"] == "none are known" for row in rows):
        yield "Without groups, images of one patient may be on both sides: give a table a column group."


def _given(given: Mapping[str, int]) -> Iterator[str]:
    named = {name: number for name, number in given.items() if name}
    if named:
        yield "comes with the data set: " + ", ".join(f"{name} {number:,}" for name, number in named.items())


def _way(way: StoredSplit, given: Mapping[str, int]) -> str:
    if way.folds:
        return f"{way.folds} folds, seed {way.seed}"
    parts = {"val": way.val, "test": way.test}
    shares = [f"{share(part)} % {name}" for name, part in parts.items() if name not in given]
    return f"{', '.join(shares)}, seed {way.seed}" if shares else ""


def _leaks(leaks: Sequence[int]) -> str:
    looked = [each for each in leaks if each >= 0]
    if not looked:
        return "not looked for"
    some = sum(each > 0 for each in looked)
    return (
        f"in {some} of {counted(len(looked), 'result')}: see its notes"
        if some
        else f"none, in {counted(len(looked), 'result')}"
    )


# ---- baseline, settings, robustness


def _baselines(document: ReportDocument, answers: Mapping[str, Answers]) -> tuple[Linked, ...]:
    rows: list[Row] = []
    names = []
    for run in document.runs:
        for each in answers[run.run].baselines:
            ends = ends_of(each.interval)
            rows.append(
                {"run": run.run, "result": _heading(run, answers), "baseline": each.name, "mean": each.mean, **ends}
                | {"num_seeds": each.num_seeds}
            )
            names.append(run.run)
    columns = (
        Column("result", ("result",)),
        Column("baseline", ("baseline",)),
        Column("main measure (%)", ("mean",), share),
        Column(INTERVAL, ("low", "high"), between),
        Column("seeds", ("num_seeds",), count),
    )
    return (Linked(Table("baselines", "Chains without pretext tasks", columns, rows), tuple(names)),) if rows else ()


def _heading(run: StoredRun, answers: Mapping[str, Answers]) -> str:
    return answers[run.run].heading or run.title


def _settings(document: ReportDocument, answers: Mapping[str, Answers]) -> tuple[Linked, ...]:
    """What the commands set, that the recipes would set otherwise."""
    known = [run for run in document.runs if command_of(run) and answers[run.run].num_seeds]
    rows: list[Row] = [
        {
            "result": _heading(run, answers),
            "settings": _given_in(command_of(run)),
        }
        for run in known
    ]
    columns = (Column("result", ("result",)), Column("set on the command line", ("settings",)))
    notes = (
        "All else is as the recipe of the task says for these data: sslcurr tasks show TASK --dataset DATA. How each "
        "stage was trained stands with its result.",
    )
    table = Table("settings", "Settings that were given", columns, rows, notes)
    return (Linked(table, tuple(run.run for run in known)),) if rows else ()


def _given_in(command: Sequence[str]) -> str:
    """The settings of a command line; where it does not say how it trained, where they are."""
    if trains(command):
        return "   ".join(settings_in(command)) or "nothing: all are the recipes'"
    word = command[1] if len(command) > 1 else command[0]
    return "those of the results that it joins" if word == "join" else f"not said by its command, {word}"


def _robustness(document: ReportDocument, answers: Mapping[str, Answers]) -> tuple[Linked, ...]:
    """Seeds, folds and settings of each result that trains chains."""
    known = [run for run in document.runs if answers[run.run].num_seeds]
    rows: list[Row] = [
        {
            "result": _heading(run, answers),
            "num_seeds": answers[run.run].num_seeds,
            "folds": option_of(command_of(run), "folds") or ("one split" if trains(command_of(run)) else "not known"),
            "over": "; ".join(f"{name} {value}" for name, value in options_of(command_of(run)) if name in VARIED)
            or ("one setting" if trains(command_of(run)) else "not known"),
        }
        for run in known
    ]
    columns = (
        Column("result", ("result",)),
        Column("seeds", ("num_seeds",), count),
        Column("folds", ("folds",)),
        Column("settings", ("over",)),
    )
    table = Table("robustness", "Seeds, folds and settings of each result", columns, rows)
    return (Linked(table, tuple(run.run for run in known)),) if rows else ()


def _cost(document: ReportDocument) -> tuple[Linked, ...]:
    return (Linked(device_table(document.totals.devices)),) if document.totals.devices else ()
