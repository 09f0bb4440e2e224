"""The pictures of the page: charts of documents, curves of stages, sheets of images."""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sslcurr.analysis.report.svg import inline_svg
from sslcurr.engine.store import Store
from sslcurr.wording import arrow

# Points of a small curve, stages that are drawn in full, stages that have a row.
MOST_DRAWN = 24


# Of the page, a little under what it may have; and of one picture within it.
MOST_BYTES, MOST_SHEET = 4_800_000, 700_000


SHEET_WIDTH = 1600


# Figures of a run that come before the others of all runs where there is no room for all.
FIRST_FIGURES = 4


@dataclass
class Picture:
    """A figure as it stands in the page.

    Attributes:
        title: what it shows.
        markup: an `svg` or `img` element.
        place: of the card that it belongs to, from the newest; stages have none.
        importance: the lower, the sooner it is left out; compared first.
    """

    title: str
    markup: str
    run: str | None
    importance: tuple[int, ...]


def pictures(document: Mapping[str, Any], store: Store) -> tuple[list[Picture], list[str]]:
    """All figures of a document, and a sentence for each sheet of attention maps that is gone."""
    from sslcurr.analysis.results import kinds
    from sslcurr.analysis.results.training import figures as plots

    found: list[Picture] = []
    gone: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        folders = (Path(place) / str(number) for number in range(1_000_000))

        def drawn(figures: Sequence[plots.Figure], run: str | None, age: int) -> None:
            for number, figure in enumerate(figures):
                path = figure.base.with_name(f"{figure.base.name}.svg")
                markup = inline_svg(path.read_text(), f"f{len(found)}-", figure.title)
                rank = 3 if run is None else 1 if number < FIRST_FIGURES else 2
                found.append(Picture(figure.title, markup, run, (rank, age, number)))

        for age, run in enumerate(document["runs"]):
            if run["kind"] not in (*kinds.FIGURES, *kinds.KINDS):
                continue
            folder = next(folders)
            folder.mkdir()
            drawn(kinds.draw(run["kind"], run["document"], folder, formats=("svg",)), run["run"], age)
            for number, chain in enumerate(run["document"]["chains"] if run["kind"] == "attend" else ()):
                title = f"Attention of {chain['chain']} on images of each class"
                markup = sheet(str(chain["sheet"]), title, store) if chain.get("sheet") else None
                if markup is None:
                    gone.append(f"{run['run']}: the sheet of {chain['chain']} is gone ({chain.get('sheet')})")
                else:
                    found.append(Picture(title, markup, run["run"], (1, age, FIRST_FIGURES + number)))
        folder = next(folders)
        folder.mkdir()
        titles = drawn_stages(document)
        stages = {title: stage for title, key in titles.items() if (stage := store.find(key)) is not None}
        drawn(plots.draw_stages(stages, folder, formats=("svg",)) if stages else [], None, 0)
    return found, gone


def drawn_stages(document: Mapping[str, Any]) -> dict[str, str]:
    """The stages whose curves are drawn in full, title -> key: those of the newest finished runs' chains."""
    stages = {stage["key"]: stage for stage in document["stages"]}
    keys: dict[str, None] = {}
    for run in document["runs"]:
        if not run["finished"]:
            continue
        for end in _ends(run):
            path: list[str] = []
            while end in stages and end not in path:
                path.insert(0, end)
                end = stages[end]["parent"]
            keys |= dict.fromkeys(path)
    titles: dict[str, str] = {}
    for key in list(keys)[:MOST_DRAWN]:
        stage = stages[key]
        title = f"{arrow(stage['chain'])}, seed {stage['seed']}"
        titles[title if title not in titles else f"{title} ({key[:8]})"] = key
    return titles


def _ends(run: Mapping[str, Any]) -> list[str]:
    """The last stages of the chains that a run is about: of many chains, those it found best."""
    document = run["document"] or {}
    if run["kind"] == "train":
        return [stage["key"] for stage in document["stages"]]
    rows = [{"ordering": [row["task"]], **row} for row in document.get("tasks", ()) if isinstance(row, dict)]
    rows += document.get("orderings", []) + document.get("finalists", [])
    best = (document.get("best") or {}).get("on_validation", {}).get("ordering") or document.get("ordering")
    rows = [row for row in rows if row["ordering"] == best] or rows[-1:]
    return [one["key"] for row in rows for one in row["runs"][:1]] or list(run["stages"][-1:])


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
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except (OSError, Image.DecompressionBombError):
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
