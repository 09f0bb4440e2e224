"""The pictures of the page: charts of documents, curves of stages, sheets of images."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sslcurr.analysis.report.svg import inline_svg
from sslcurr.analysis.results.attention.document import AttentionDocument
from sslcurr.analysis.results.document import Document, is_set
from sslcurr.analysis.results.estimate import Run
from sslcurr.analysis.results.probing.document import ProbeDocument
from sslcurr.analysis.results.ranking.document import Best, Choice, RankDocument
from sslcurr.analysis.results.report.document import ReportDocument, StoredRun
from sslcurr.analysis.results.search.document import SearchDocument
from sslcurr.analysis.results.training.document import TrainDocument
from sslcurr.engine.store import Stage, Store
from sslcurr.errors import StoreError
from sslcurr.integrity import sound
from sslcurr.wording import arrow

if TYPE_CHECKING:
    from sslcurr.analysis.results.style import Chart

# Stages that are drawn in full.
MOST_DRAWN = 24
# Bytes of the page, a little under what it may have; and of one sheet within it.
MOST_BYTES, MOST_SHEET = 4_800_000, 700_000
SHEET_WIDTH = 1600
# Figures of a run that come before the others of all runs where there is no room for all.
FIRST_FIGURES = 4
# No chart takes fewer bytes: axes with nothing in them take more.
LEAST_CHART = 4_500
# The files of a stage that its curves are drawn from.
STAGE_FILES = ("stage.json", "metrics.csv", "epochs.csv", "search/search.csv", "search/found.json")


@dataclass(frozen=True)
class Picture:
    """A figure without its place in the page.

    Attributes:
        title: what it shows.
        importance: the lower, the later it is left out; of several runs' with the same first number, the newest's.
        source: a chart that is still to be drawn, or an `img` element.
        name: of the chart, such as `orderings`; empty of others.
    """

    title: str
    importance: tuple[int, int]
    source: Chart | str
    name: str = ""

    def pieces(self) -> list[str]:
        """An `svg` or `img` element, cut where what its ids begin with belongs; a chart is drawn."""
        if isinstance(self.source, str):
            return [self.source]
        text = self.source.svg()
        mark = f"i{hashlib.sha256(text.encode()).hexdigest()[:32]}-"  # no text of the chart has it
        return inline_svg(text, mark, self.title).split(mark)


def pictures_of(document: Document, store: Store) -> tuple[list[Picture], list[str]]:
    """All figures of what a run found, and a sentence for each sheet of attention maps that is gone."""
    pictures = [
        Picture(chart.title, (1 if number < FIRST_FIGURES else 2, number), chart, chart.name)
        for number, chart in enumerate(charts_of(document))
    ]
    gone: list[str] = []
    for number, chain in enumerate(document.chains if isinstance(document, AttentionDocument) else ()):
        title = f"Attention of {chain.chain} on images of each class"
        markup = sheet(chain.sheet, title, store) if chain.sheet else None
        if markup is None:
            gone.append(f"the sheet of {chain.chain} is gone ({chain.sheet})")
        else:
            pictures.append(Picture(title, (1, FIRST_FIGURES + number), markup))
    return pictures, gone


def files_of(document: Document) -> list[str]:
    """The files that the figures of a document show beside what it says."""
    if isinstance(document, AttentionDocument):
        return [chain.sheet for chain in document.chains if chain.sheet]
    if isinstance(document, ProbeDocument) and is_set(document.embeddings):
        return [entry.points for entry in document.embeddings]
    return []


def places_of(file: str, store: Store) -> tuple[Path, Path]:
    """Where a file of an analysis is looked for: it was written where the command ran, and the store may have moved."""
    return store.analyses / Path(file).parent.name / Path(file).name, Path(file)


def charts_of(document: Document) -> list[Chart]:
    """The charts of a document."""
    return list(document.figures().values())


def pictures_of_stage(title: str, stage: Stage) -> list[Picture]:
    """The curves of a stage."""
    return [Picture(chart.title, (3, number), chart) for number, chart in enumerate(stage_charts(title, stage))]


def stage_charts(title: str, stage: Stage) -> list[Chart]:
    """The charts of a stage; what draws is only loaded here."""
    from sslcurr.analysis.results.training import curves

    return curves.stage_charts(title, stage)


def drawn_stages(document: ReportDocument, ends: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The stages whose curves are drawn in full, title -> key: those of the newest finished runs' chains.

    Args:
        document: what was gathered.
        ends: name of each run -> its `last_stages`.
    """
    stages = {stage.key: stage for stage in document.stages}
    keys: dict[str, None] = {}
    for run in document.runs:
        if not run.finished:
            continue
        for end in ends[run.run]:
            path: list[str] = []
            current: str | None = end
            while current in stages and current not in path:
                path.insert(0, current)
                current = stages[current].parent
            keys |= dict.fromkeys(path)
    titles: dict[str, str] = {}
    for key in list(keys)[:MOST_DRAWN]:
        title = f"{arrow(stages[key].chain)}, seed {stages[key].seed}"
        titles[title if title not in titles else f"{title} ({key[:8]})"] = key
    return titles


def last_stages(run: StoredRun, document: Document | None) -> list[str]:
    """The last stages of the chains that a run is about: of many chains, those it found best.

    Args:
        run: as the report has it.
        document: what it found, where that can be read.
    """
    if isinstance(document, TrainDocument):
        return [stage.key for stage in document.stages]
    best, rows = _chains(document)
    rows = [row for row in rows if row[0] == best] or rows[-1:]
    keys = [row_run.key for _, runs in rows for row_run in runs[:1]]
    return [key for key in keys if key is not None] or run.stages[-1:]


def _chains(document: Document | None) -> tuple[list[str] | None, list[tuple[list[str], Sequence[Run]]]]:
    """The ordering that was chosen, and orderings with their seeds."""
    if isinstance(document, SearchDocument):
        return document.ordering, [(row.ordering, row.runs) for row in document.finalists]
    if not isinstance(document, RankDocument):
        return None, []
    rows: list[tuple[list[str], Sequence[Run]]] = [([row.task], row.runs) for row in document.tasks]
    rows += [(row.ordering, row.runs) for row in document.orderings or ()]
    choice = document.best.on_validation if isinstance(document.best, Best) else None
    return (choice.ordering if isinstance(choice, Choice) else None), rows


def sheet(path: str, title: str, store: Store) -> str | None:
    """A contact sheet as an element that holds its pixels, shrunk to what a page needs; None if it is gone."""
    from markupsafe import escape
    from PIL import Image, features

    file = next((place for place in places_of(path, store) if place.is_file()), None)
    if file is None:
        return None
    form = "WEBP" if features.check("webp") else "JPEG"
    try:
        with Image.open(sound(file)) as opened:
            image = opened.convert("RGB")
    except (OSError, StoreError, Image.DecompressionBombError):
        return None
    data = b""
    for width, quality in ((SHEET_WIDTH, 82), (1200, 75), (900, 65), (600, 60)):
        if image.width > width:
            image = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
        out = io.BytesIO()
        image.save(out, form, quality=quality)
        data = out.getvalue()
        if len(data) <= MOST_SHEET:
            break
    source = f"data:image/{form.lower()};base64,{base64.b64encode(data).decode()}"
    return f'<img src="{source}" alt="{escape(title)}" width="{image.width}" height="{image.height}">'
