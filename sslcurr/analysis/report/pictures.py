"""The pictures of the page: charts of documents, curves of stages, sheets of images."""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sslcurr.analysis.report.svg import inline_svg
from sslcurr.analysis.report.tables import found_by
from sslcurr.analysis.results.attention.document import AttentionDocument
from sslcurr.analysis.results.document import Document
from sslcurr.analysis.results.estimate import Run
from sslcurr.analysis.results.ranking.document import Best, Choice, RankDocument
from sslcurr.analysis.results.report.document import ReportDocument, StoredRun
from sslcurr.analysis.results.search.document import SearchDocument
from sslcurr.analysis.results.style import Chart
from sslcurr.analysis.results.training.curves import stage_charts
from sslcurr.analysis.results.training.document import TrainDocument
from sslcurr.engine.store import Store
from sslcurr.errors import StoreError
from sslcurr.integrity import sound
from sslcurr.wording import arrow

# Stages that are drawn in full.
MOST_DRAWN = 24
# Bytes of the page, a little under what it may have; and of one sheet within it.
MOST_BYTES, MOST_SHEET = 4_800_000, 700_000
SHEET_WIDTH = 1600
# Figures of a run that come before the others of all runs where there is no room for all.
FIRST_FIGURES = 4


@dataclass(frozen=True)
class Picture:
    """A figure as it stands in the page.

    Attributes:
        title: what it shows.
        markup: an `svg` or `img` element.
        run: the name of the run whose card it belongs to; None for curves of stages.
        importance: the lower, the later it is left out; compared first.
    """

    title: str
    markup: str
    run: str | None
    importance: tuple[int, ...]


def pictures(document: ReportDocument, store: Store) -> tuple[list[Picture], list[str]]:
    """All figures of a document, and a sentence for each sheet of attention maps that is gone."""
    drawn: list[Picture] = []
    gone: list[str] = []
    for age, run in enumerate(document.runs):
        result = readable(run)
        if result is None:
            continue
        for number, chart in enumerate(charts_of(result)):
            importance = (1 if number < FIRST_FIGURES else 2, age, number)
            drawn.append(_picture(chart, run.run, importance, len(drawn)))
        if isinstance(result, AttentionDocument):
            sheets, missing = _sheets(result, run.run, age, store)
            drawn += sheets
            gone += missing
    number = 0
    for title, key in drawn_stages(document).items():
        stage = store.find(key)
        for chart in stage_charts(title, stage) if stage is not None else ():
            drawn.append(_picture(chart, None, (3, 0, number), len(drawn)))
            number += 1
    return drawn, gone


def readable(run: StoredRun) -> Document | None:
    """What a run found; None where that is not kept, damaged, or of a kind that this version does not know."""
    try:
        return found_by(run)
    except StoreError:
        return None


def charts_of(document: Document) -> list[Chart]:
    """The charts of a document."""
    return list(document.figures().values())


def _picture(chart: Chart, run: str | None, importance: tuple[int, ...], number: int) -> Picture:
    """A chart as the picture of that number, which its ids begin with."""
    with tempfile.TemporaryDirectory() as folder:
        figure = chart.save(Path(folder), formats=("svg",))
        text = figure.base.with_name(f"{figure.base.name}.svg").read_text()
    return Picture(figure.title, inline_svg(text, f"f{number}-", figure.title), run, importance)


def _sheets(document: AttentionDocument, run: str, age: int, store: Store) -> tuple[list[Picture], list[str]]:
    """The sheets of attention maps, and a sentence for each that is gone."""
    sheets: list[Picture] = []
    gone: list[str] = []
    for number, chain in enumerate(document.chains):
        title = f"Attention of {chain.chain} on images of each class"
        markup = sheet(chain.sheet, title, store) if chain.sheet else None
        if markup is None:
            gone.append(f"{run}: the sheet of {chain.chain} is gone ({chain.sheet})")
        else:
            sheets.append(Picture(title, markup, run, (1, age, FIRST_FIGURES + number)))
    return sheets, gone


def drawn_stages(document: ReportDocument) -> dict[str, str]:
    """The stages whose curves are drawn in full, title -> key: those of the newest finished runs' chains."""
    stages = {stage.key: stage for stage in document.stages}
    keys: dict[str, None] = {}
    for run in document.runs:
        if not run.finished:
            continue
        for end in last_stages(run):
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


def last_stages(run: StoredRun) -> list[str]:
    """The last stages of the chains that a run is about: of many chains, those it found best."""
    document = readable(run)
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

    # Written where the command ran; the store may have been moved since.
    places = (store.analyses / Path(path).parent.name / Path(path).name, Path(path))
    file = next((place for place in places if place.is_file()), None)
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
