"""The document of what a store holds as one page that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslcurr.analysis.report.answers import Answers, answers_of
from sslcurr.analysis.report.kept import KeptPart, Outline, Parts, states_of
from sslcurr.analysis.report.pictures import (
    LEAST_CHART,
    MOST_BYTES,
    STAGE_FILES,
    Picture,
    drawn_stages,
    files_of,
    last_stages,
    pictures_of,
    pictures_of_stage,
    places_of,
)
from sslcurr.analysis.report.questions import Question, missing, questions
from sslcurr.analysis.report.summary import Summary, summaries
from sslcurr.analysis.report.svg import sparkline
from sslcurr.analysis.report.tables import command_of, found_by
from sslcurr.analysis.results.document import Document
from sslcurr.analysis.results.estimate import share
from sslcurr.analysis.results.ranking.document import RankDocument
from sslcurr.analysis.results.report.document import ReportDocument, StoredRun
from sslcurr.analysis.results.report.tables import (
    hours,
    run_table,
    settings_table,
    stage_table,
)
from sslcurr.analysis.results.search.document import SearchDocument
from sslcurr.analysis.results.table import Table
from sslcurr.engine.store import Store
from sslcurr.errors import StoreError
from sslcurr.wording import counted

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

FOLDER = Path(__file__).parent
# Stages that have a row.
MOST_STAGES = 1500
# Tables that are folded away.
FOLDED = ("matrix", "alike", "confusion")

OTHERS = "Other results"


@dataclass(frozen=True)
class Page:
    """The report as one file of text.

    Attributes:
        html: the page.
        num_figures: that are in it.
        left_out: what there was no room for, a sentence each.
    """

    html: str
    num_figures: int
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Placed:
    """A figure as one of those for which there is room or not.

    Attributes:
        name: of the run whose card it belongs to, or of the stage.
        slot: where it stands: a run's name, `summary NAME` for the main figure of a summary, None for curves of stages.
        place: among the figures of its part.
        number: among all, which its ids begin with.
        importance: the lower, the later it is left out.
        outline: as it is known before anything is drawn.
    """

    name: str
    slot: str | None
    place: int
    number: int
    importance: tuple[int, int, int]
    outline: Outline

    @property
    def title(self) -> str:
        """What it shows."""
        return self.outline.title

    @property
    def prefix(self) -> str:
        """What its ids begin with."""
        return f"f{self.number}-"

    def num_bytes(self, outline: Outline) -> int:
        """What it takes of a page, with what stands around it; of a chart that was not drawn what it takes at least."""
        size = LEAST_CHART if outline.num_bytes is None else outline.num_bytes + outline.num_ids * len(self.prefix)
        return 2 * len(self.title.encode()) + size + 400


def page(document: ReportDocument, store: Store, most_bytes: int = MOST_BYTES, *, whole: bool = False) -> Page:
    """The page of a document: as many figures as fit into `most_bytes`, the most important first.

    Args:
        document: what was gathered.
        store: whose runs these are; what the page is put together from is kept there.
        most_bytes: of the page.
        whole: whether the document has all that the store holds, so that no other parts are kept.
    """
    environment = _environment()
    parts = Parts(store)
    runs = {run.run: _part_of_run(parts, run, environment) for run in document.runs}
    drawn = drawn_stages(document, {name: part.ends for name, part in runs.items()})
    stages = {key: _part_of_stage(parts, title, key) for title, key in drawn.items()}
    known = summaries(document, {name: part.answers for name, part in runs.items()})
    if whole:
        parts.leave_only({*runs, *stages})
    frame = Frame(document, runs, known, len(drawn) == len(document.stages), environment)
    room = most_bytes - len(frame.html({}, {}).encode())
    kept: dict[str | None, list[Shown]] = {}
    left: dict[str | None, list[str]] = {}
    titles: list[str] = []
    for figure in sorted(_placed(runs, stages, known), key=lambda figure: figure.importance):
        size = figure.num_bytes(figure.outline)
        if size <= room:
            size = figure.num_bytes(parts.outline(figure.name, figure.place))
        if size > room:
            left.setdefault(figure.slot, []).append(figure.title)
            titles.append(figure.title)
            continue
        room -= size
        kept.setdefault(figure.slot, []).append(_shown(figure, parts.pieces(figure.name, figure.place)))
    parts.keep()
    return Page(frame.html(kept, left), sum(map(len, kept.values())), tuple(titles))


def _part_of_run(parts: Parts, run: StoredRun, environment: Environment) -> KeptPart:
    """What the page needs of a run."""

    def places(file: str) -> Sequence[Path]:
        return places_of(file, parts.store)

    def make() -> tuple[KeptPart, list[Picture]]:
        try:
            result = found_by(run)
        except StoreError as error:
            result, shown = None, Card(run, command_of(run), fault=str(error))
        else:
            shown = card(run, result)
        files = [] if result is None else files_of(result)
        states = states_of(files, places)  # before they are read
        pictures, gone = ([], []) if result is None else pictures_of(result, parts.store)
        shown = replace(shown, gone=tuple(gone))
        macros: Any = environment.get_template("parts.html.j2").module
        top, bottom = str(macros.card_top(shown)), str(macros.card_bottom(shown))
        said = Answers() if result is None else answers_of(result, command_of(run))
        ends = last_stages(run, result)
        part = KeptPart(files=files, states=states, top=top, bottom=bottom, ends=ends, answers=said)
        return part, pictures

    return parts.find(run.run, run, places, make)


def _part_of_stage(parts: Parts, title: str, key: str) -> KeptPart:
    """The curves of a stage; none where it is gone."""

    def places(file: str) -> Sequence[Path]:
        return [parts.store.stage(key).folder / file]

    def make() -> tuple[KeptPart, list[Picture]]:
        files = list(STAGE_FILES)
        states, stage = states_of(files, places), parts.store.find(key)
        return KeptPart(files=files, states=states), [] if stage is None else pictures_of_stage(title, stage)

    return parts.find(key, title, places, make)


def _placed(runs: Mapping[str, KeptPart], stages: Mapping[str, KeptPart], known: Sequence[Summary]) -> Iterator[Placed]:
    """All figures in their order: main ones first, then those of the newest run, those of stages last."""
    main = {_main_figure(summary, runs, stages): f"summary {summary.dataset}" for summary in known}
    number = 0
    for age, (name, part) in enumerate(runs.items()):
        for place, outline in enumerate(part.outlines):
            first, last = outline.importance
            slot = main.get((name, place), name)
            yield Placed(name, slot, place, number, (first if slot == name else 0, age, last), outline)
            number += 1
    begin = number
    for key, part in stages.items():
        for place, outline in enumerate(part.outlines):
            head = main.get((key, place))
            first = outline.importance[0] if head is None else 0
            yield Placed(key, head, place, number, (first, 0, number - begin), outline)
            number += 1


def _main_figure(
    summary: Summary, runs: Mapping[str, KeptPart], stages: Mapping[str, KeptPart]
) -> tuple[str, int] | None:
    """The part and the place of the figure that stands beside a summary: of its run, or the curve of its chain."""
    if not summary.main:
        return None
    part = runs[summary.main]
    for place, outline in enumerate(part.outlines):
        if outline.name and outline.name == part.answers.figure:
            return summary.main, place
    if any(stages[key].outlines for key in part.ends if key in stages):
        return next((key, 0) for key in part.ends if key in stages and stages[key].outlines)
    return (summary.main, 0) if part.outlines else None


@dataclass(frozen=True)
class Shown:
    """A picture as the template takes it; `titled` where it bears its title itself."""

    title: str
    markup: Markup
    titled: bool


def _shown(figure: Placed, pieces: Sequence[str]) -> Shown:
    from markupsafe import Markup

    markup = figure.prefix.join(pieces)
    # A chart bears its title; for a reader of the screen it is said again.
    return Shown(figure.title, Markup(markup), markup.startswith("<svg"))


@dataclass(frozen=True)
class Card:
    """A run as the page shows it.

    Attributes:
        run: as the document has it.
        command: its command line; empty where that is not known.
        tables: of what it found.
        folded: tables that are folded away.
        heading: the question that it answers; the title of the run where none is known.
        fault: why what it found cannot be shown; empty where it can.
        chain_command: the command line that trains what it chose.
        gone: a sentence for each of its sheets that is gone.
    """

    run: StoredRun
    command: tuple[str, ...]
    tables: tuple[Table, ...] = ()
    folded: tuple[Table, ...] = ()
    heading: str = ""
    fault: str = ""
    chain_command: str | None = None
    gone: tuple[str, ...] = ()

    @property
    def settings(self) -> Table:
        """How its stages were trained."""
        return settings_table(self.run.settings)


def card(run: StoredRun, result: Document | None) -> Card:
    """A run with what it found as the page shows it; a kind that this version does not know stops no page."""
    command, fault = command_of(run), run.fault
    if result is None:
        if run.kind is not None:
            fault = f"this version of sslcurr knows no tables for results of the kind {run.kind}"
        return Card(run, command, fault=fault)
    tables = result.tables(run.title)
    return Card(
        run,
        command,
        tuple(table for table in tables if table.name not in FOLDED),
        tuple(table for table in tables if table.name in FOLDED),
        answers_of(result, command).heading,
        chain_command=result.command if isinstance(result, RankDocument | SearchDocument) else None,
    )


@dataclass(frozen=True)
class Filled:
    """A card as HTML: what stands above and below its figures, and these."""

    name: str
    top: Markup
    bottom: Markup
    pictures: Sequence[Shown]
    left_out: Sequence[str]


class Frame:
    """The page around its figures, whose tables are made once.

    Args:
        document: what was gathered.
        parts: name of each run -> its cards.
        known: the summaries.
        all_drawn: whether the curves of all stages are drawn.
        environment: what templates are read by.
    """

    def __init__(
        self,
        document: ReportDocument,
        parts: Mapping[str, KeptPart],
        known: Sequence[Summary],
        all_drawn: bool,
        environment: Environment,
    ) -> None:
        from markupsafe import Markup

        script = (FOLDER / "report.js").read_text()
        self.parts, self.known = parts, known
        self.questions = questions(document, {name: part.answers for name, part in parts.items()})
        self.template = environment.get_template("report.html.j2")
        table = environment.get_template("parts.html.j2").module.cell_table  # type: ignore[attr-defined]
        stages = document.stages
        stage_rows = stage_table(stages[:MOST_STAGES], max(0, len(stages) - MOST_STAGES))
        links = [f"#run-{run.run}" for run in document.runs]
        self.tables = {
            question.id: [
                table(each.table, f"table-{each.table.name}", links=[f"#run-{name}" for name in each.runs])
                for each in question.tables
            ]
            for question in self.questions
        }
        self.values = {
            "document": document,
            "missing": missing(self.questions),
            "runs_table": table(run_table(document.runs), "table-runs", links=links),
            "stages_table": table(stage_rows, "table-stages", extras=_stage_columns(document)),
            "all_drawn": all_drawn,
            "style": Markup((FOLDER / "report.css").read_text()),
            "script": Markup(script),
            "digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        }

    def html(self, kept: Mapping[str | None, Sequence[Shown]], left: Mapping[str | None, Sequence[str]]) -> str:
        """The page with the figures for which there is room, and the titles of the others, by their places."""
        from markupsafe import Markup

        def filled(name: str) -> Filled:
            part = self.parts[name]
            return Filled(name, Markup(part.top), Markup(part.bottom), kept.get(name, ()), left.get(name, ()))

        sections = [
            Section(question, self.tables[question.id], list(map(filled, question.runs)))
            for question in self.questions
            if question.is_answered
        ]
        heads = [Head(each, kept.get(f"summary {each.dataset}", ())) for each in self.known]
        pictures, left_out = kept.get(None, ()), left.get(None, ())
        return self.template.render(heads=heads, sections=sections, pictures=pictures, left_out=left_out, **self.values)


@dataclass(frozen=True)
class Section:
    """A question with its tables as HTML, and the cards that answer it."""

    question: Question
    tables: Sequence[Markup]
    cards: Sequence[Filled]


@dataclass(frozen=True)
class Head:
    """A summary with its main figure."""

    summary: Summary
    pictures: Sequence[Shown]


def _environment() -> Environment:
    """What the templates are read by."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "hours": hours,
        "duration": duration,
        "minus": minus,
        "prose": prose,
        "shell": shell,
        "share": share,
        "raw": raw,
        "counted": counted,
    }
    return environment


def _stage_columns(document: ReportDocument) -> list[tuple[str, list[Any]]]:
    """What the page shows of stages beside their table: small curves, and links to the runs that made them."""
    from markupsafe import Markup

    stages = document.stages[:MOST_STAGES]
    maker: Mapping[str, str] = {key: run.run for run in document.runs for key in run.stages}  # the oldest made it
    return [
        ("course of the loss", [Markup(sparkline(stage.curve)) for stage in stages]),
        ("made by", [run_link(maker.get(stage.key)) for stage in stages]),
    ]


def duration(value: float) -> str:
    """A time, given in hours, in the unit that suits it."""
    if value >= 1:
        return f"{value:,.1f} hours"
    return f"{60 * value:.0f} minutes" if 60 * value >= 2 else f"{3600 * value:.0f} seconds"


def shell(command: Sequence[str]) -> str:
    """A command line that a shell takes as it is."""
    return shlex.join(command)


def minus(text: str) -> str:
    """A number with a minus sign rather than a hyphen."""
    return re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", text)


def prose(text: str) -> str:
    """A sentence with arrows, minus signs, and percent signs that stay with their numbers."""
    return minus(text.replace(" -> ", " → ").replace(" %", "\N{NO-BREAK SPACE}%"))


def raw(value: Any) -> str:
    """A value as the page's script sorts it: nothing where it is not known."""
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, (int, float)) else str(value)


def run_link(name: str | None) -> Any:
    """A link to the card of a run."""
    from markupsafe import Markup

    return Markup('<a href="#run-{0}">{0}</a>').format(name) if name else "-"
