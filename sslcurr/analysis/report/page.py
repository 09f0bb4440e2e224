"""The document of what a store holds as one page that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslcurr.analysis.report.pictures import MOST_BYTES, Picture, drawn_stages, pictures
from sslcurr.analysis.report.svg import sparkline
from sslcurr.analysis.report.tables import command_of, found_by
from sslcurr.analysis.results.estimate import share
from sslcurr.analysis.results.ranking.document import RankDocument
from sslcurr.analysis.results.report.document import ReportDocument, StoredRun
from sslcurr.analysis.results.report.tables import (
    dataset_table,
    device_table,
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

# Stages that have a row.
MOST_STAGES = 1500
# Tables that are folded away.
FOLDED = ("matrix", "alike", "confusion")

SECTIONS = {
    "rank": "Rankings and orderings",
    "variants": "Rankings over settings",
    "explain": "What lies behind the differences",
    "search": "Automatic curricula",
    "grid": "Shares of images and labels",
    "train": "Chains",
    "cka": "Similarity (CKA)",
    "fid": "Distances of data sets (FID)",
    "probe": "Frozen features (probes)",
    "attend": "Attention",
    "": "Runs without kept results",
}
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


def page(document: ReportDocument, store: Store, most_bytes: int = MOST_BYTES) -> Page:
    """The page of a document: as many figures as fit into `most_bytes`, the most important first."""
    drawn, gone = pictures(document, store)
    room = most_bytes - len(_html(document, [], [], gone).encode())
    kept: list[Picture] = []
    left: list[Picture] = []
    for picture in sorted(drawn, key=lambda picture: picture.importance):
        size = 2 * len(picture.title.encode()) + len(picture.markup.encode()) + 400  # with what stands around it
        if size <= room:
            kept.append(picture)
            room -= size
        else:
            left.append(picture)
    return Page(_html(document, kept, left, gone), len(kept), tuple(picture.title for picture in left))


@dataclass(frozen=True)
class Shown:
    """A picture as the template takes it; `titled` where it bears its title itself."""

    title: str
    markup: Markup
    titled: bool


@dataclass(frozen=True)
class Card:
    """A run as the page shows it.

    Attributes:
        run: as the document has it.
        command: its command line; empty where that is not known.
        tables: of what it found.
        folded: tables that are folded away.
        fault: why what it found cannot be shown; empty where it can.
        chain_command: the command line that trains what it chose.
    """

    run: StoredRun
    command: tuple[str, ...]
    tables: tuple[Table, ...] = ()
    folded: tuple[Table, ...] = ()
    fault: str = ""
    chain_command: str | None = None


def card(run: StoredRun) -> Card:
    """A run as the page shows it; what is damaged or of an unknown kind stops no page."""
    command, fault = command_of(run), run.fault
    try:
        result = found_by(run)
    except StoreError as error:
        return Card(run, command, fault=str(error))
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
        chain_command=result.command if isinstance(result, RankDocument | SearchDocument) else None,
    )


@dataclass(frozen=True)
class Section:
    """Cards of one kind under a title."""

    id: str
    title: str
    cards: tuple[Card, ...]


def sections_of(document: ReportDocument) -> list[Section]:
    """The cards of all runs, by kind; those of kinds that this version does not know come last."""
    groups: dict[str, list[StoredRun]] = {kind: [] for kind in SECTIONS}
    others: list[StoredRun] = []
    for run in document.runs:
        groups.get(run.kind or "", others).append(run)
    sections = [
        Section(kind or "unkept", SECTIONS[kind], tuple(map(card, runs))) for kind, runs in groups.items() if runs
    ]
    return [*sections, *([Section("others", OTHERS, tuple(map(card, others)))] if others else [])]


def _html(document: ReportDocument, kept: Sequence[Picture], left: Sequence[Picture], gone: Sequence[str]) -> str:
    from markupsafe import Markup

    folder = Path(__file__).parent
    script = (folder / "report.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shown: dict[str | None, list[Shown]] = {}
    for picture in kept:
        # A chart bears its title; for a reader of the screen it is said again.
        titled = picture.markup.startswith("<svg")
        shown.setdefault(picture.run, []).append(Shown(picture.title, Markup(picture.markup), titled))
    missing: dict[str | None, list[str]] = {}
    for picture in left:
        missing.setdefault(picture.run, []).append(picture.title)
    stages = document.stages
    return str(
        _environment(folder)
        .get_template("report.html.j2")
        .render(
            document=document,
            sections=sections_of(document),
            runs=run_table(document.runs),
            settings=settings_table,
            datasets=dataset_table(document.datasets),
            devices=device_table(document.totals.devices),
            stages=stage_table(stages[:MOST_STAGES], max(0, len(stages) - MOST_STAGES)),
            extras=_stage_columns(document),
            all_drawn=len(drawn_stages(document)) == len(stages),
            pictures=shown,
            left_out=missing,
            gone=gone,
            style=Markup((folder / "report.css").read_text()),
            script=Markup(script),
            digest=digest,
        )
    )


def _environment(folder: Path) -> Environment:
    """What the template is read by."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "hours": hours,
        "duration": duration,
        "minus": minus,
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


def raw(value: Any) -> str:
    """A value as the page's script sorts it: nothing where it is not known."""
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, (int, float)) else str(value)


def run_link(name: str | None) -> Any:
    """A link to the card of a run."""
    from markupsafe import Markup

    return Markup('<a href="#run-{0}">{0}</a>').format(name) if name else "-"
