"""What a store holds, gathered into one plain document, and that document as one page that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sslcurr.analysis.report.pictures import MOST_BYTES, Picture, drawn_stages, pictures
from sslcurr.analysis.report.svg import sparkline
from sslcurr.analysis.report.tables import dataset_table, device_table, hours, run_table, settings_table
from sslcurr.analysis.results.estimate import share
from sslcurr.analysis.results.kinds import tables
from sslcurr.analysis.results.training.tables import stage_table
from sslcurr.engine.store import Store
from sslcurr.wording import counted

# Points of a small curve, stages that are drawn in full, stages that have a row.
MOST_STAGES = 1500
# Tables that are folded away.
FOLDED = ("matrix", "alike", "confusion")

SECTIONS = {
    "rank": "Rankings and orderings",
    "search": "Automatic curricula",
    "grid": "Shares of images and labels",
    "train": "Chains",
    "cka": "Similarity (CKA)",
    "fid": "Distances of data sets (FID)",
    "probe": "Frozen features (probes)",
    "attend": "Attention",
    "": "Runs without kept results",
}


# ---- the document


# ---- a table for a paper


# ---- figures


# ---- the page


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


def page(document: Mapping[str, Any], store: Store, most_bytes: int = MOST_BYTES) -> Page:
    """The page of a document: as many figures as fit into `most_bytes`, the most important first."""
    found, gone = pictures(document, store)
    room = most_bytes - len(_html(document, [], [], gone).encode())
    kept: list[Picture] = []
    left: list[Picture] = []
    for picture in sorted(found, key=lambda picture: picture.importance):
        size = 2 * len(picture.title.encode()) + len(picture.markup.encode()) + 400  # with what stands around it
        if size <= room:
            kept.append(picture)
            room -= size
        else:
            left.append(picture)
    return Page(_html(document, kept, left, gone), len(kept), tuple(picture.title for picture in left))


def _html(document: Mapping[str, Any], kept: Sequence[Picture], left: Sequence[Picture], gone: Sequence[str]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    folder = Path(__file__).parent
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
    script = (folder / "report.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    pictures_of: dict[str | None, list[dict[str, Any]]] = {}
    for picture in kept:
        markup = Markup(picture.markup)
        # A chart bears its title; for a reader of the screen it is said again.
        entry = {"title": picture.title, "markup": markup, "titled": markup.startswith("<svg")}
        pictures_of.setdefault(picture.run, []).append(entry)
    missing: dict[str | None, list[str]] = {}
    for picture in left:
        missing.setdefault(picture.run, []).append(picture.title)
    stages = document["stages"]
    maker: dict[str, str] = {}
    for run in document["runs"]:
        maker |= dict.fromkeys(run["stages"], run["run"])  # the oldest run that needs a stage made it
    extras = [
        ("course of the loss", [Markup(sparkline(stage["curve"])) for stage in stages[:MOST_STAGES]]),
        ("made by", [run_link(maker.get(stage["key"])) for stage in stages[:MOST_STAGES]]),
    ]
    sections = []
    for kind, title in SECTIONS.items():
        cards = [card(run) for run in document["runs"] if (run["kind"] or "") == kind]
        if cards:
            sections.append({"id": kind or "unkept", "title": title, "cards": cards})
    return environment.get_template("report.html.j2").render(
        document=document,
        sections=sections,
        runs=run_table(document["runs"]),
        settings=settings_table,
        datasets=dataset_table(document["datasets"]),
        devices=device_table(document["totals"]["devices"]),
        stages=stage_table(stages[:MOST_STAGES], max(0, len(stages) - MOST_STAGES)),
        extras=extras,
        all_drawn=len(drawn_stages(document)) == len(stages),
        pictures=pictures_of,
        left_out=missing,
        gone=gone,
        style=Markup((folder / "report.css").read_text()),
        script=Markup(script),
        digest=digest,
    )


def card(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run as the page shows it."""
    made = tables(run["kind"], run["document"], run["title"]) if run["kind"] is not None else []
    return {
        **run,
        "tables": [table for table in made if table.name not in FOLDED],
        "folded": [table for table in made if table.name in FOLDED],
        "known_kind": run["kind"] is None or bool(made),
        "chain_command": (run["document"] or {}).get("command"),
    }


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
