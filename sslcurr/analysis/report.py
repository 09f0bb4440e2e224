"""What a store holds, gathered into one plain document, and that document as one page that needs nothing else."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import itertools
import json
import math
import re
import shlex
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sslcurr import __version__
from sslcurr.analysis.cells import Column, Table, arrow, general, share
from sslcurr.analysis.tables import stage_table, tables
from sslcurr.data.source import counted
from sslcurr.engine.store import Stage, Store, read_json
from sslcurr.errors import StoreError, did_you_mean

# Points of a small curve, stages that are drawn in full, stages that have a row.
MOST_POINTS, MOST_DRAWN, MOST_STAGES = 60, 24, 1500
# Of the page, a little under what it may have; and of one picture within it.
MOST_BYTES, MOST_SHEET = 4_800_000, 700_000
SHEET_WIDTH = 1600
# Figures of a run that come before the others of all runs where there is no room for all.
FIRST_FIGURES = 4

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


def gather(store: Store, names: Sequence[str] = ()) -> dict[str, Any]:
    """What a store holds, as plain values: runs and stages, newest first, with totals.

    Args:
        store: is only read.
        names: of the runs that count, with the stages that they need; none: all there is.

    Raises:
        StoreError: nothing is there, or a run of that name is not.
    """
    records = store.all_runs()
    for name in names:
        if name not in records:
            hint = did_you_mean(name, records) if records else "sslcurr runs lists them"
            raise StoreError(f"there is no run {name!r} in {store.root}", hint)
    chosen = {name: record for name, record in records.items() if not names or name in names}
    wanted = {key for record in chosen.values() for key in record["stages"]}
    every = {stage.key: _describe(stage) for stage in reversed(store.all()) if not names or stage.key in wanted}
    if not chosen and not every:
        raise StoreError(
            f"the store {store.root} is empty", "train something first, or give the store of your runs as --runs FOLDER"
        )
    runs = [_run(store, name, record, every) for name, record in reversed(chosen.items())]
    devices: dict[str, dict[str, Any]] = {}
    versions: dict[str, dict[str, Any]] = {}
    for stage in every.values():
        device = devices.setdefault(stage["device"], {"device": stage["device"], "stages": 0, "hours": 0.0})
        device["stages"] += 1
        device["hours"] += stage["hours"]
        text = json.dumps(stage["versions"], sort_keys=True)
        versions.setdefault(text, {"versions": stage["versions"], "stages": 0})["stages"] += 1
    return {
        "store": str(store.root),
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "sslcurr": __version__,
        "totals": {
            "runs": len(runs),
            "finished": sum(run["finished"] for run in runs),
            "stages": len(every),
            "hours": sum(stage["hours"] for stage in every.values()),
            "devices": sorted(devices.values(), key=lambda device: -device["hours"]),
            "versions": sorted(versions.values(), key=lambda entry: -entry["stages"]),
        },
        "datasets": _datasets(store, every.values(), chosen.values()),
        "runs": runs,
        "stages": list(every.values()),
    }


def _run(store: Store, name: str, record: Mapping[str, Any], stages: Mapping[str, Any]) -> dict[str, Any]:
    found = store.result(name)
    keys = list(dict.fromkeys(record["stages"]))
    there = [stages[key] for key in keys if key in stages]
    document = found[1] if found is not None else None
    return {
        "run": name,
        "kind": found[0] if found is not None else None,
        "title": record["title"],
        "dataset": record["dataset"],
        "seed": record["seed"],
        "created": record["created"],
        "finished": record["finished"],
        "balanced_accuracy": record["balanced_accuracy"],
        "command": record["command"],
        "stages": keys,
        "missing": [key for key in keys if key not in stages],
        "hours": sum(stage["hours"] for stage in there),
        "devices": list(dict.fromkeys(stage["device"] for stage in there)),
        "failed": list((document or {}).get("failed", [])),
        "settings": _settings(there),
        "document": document,
    }


def _settings(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How the stages of a run were trained: each way once."""
    ways: dict[str, dict[str, Any]] = {}
    for stage in stages:
        way = {"task": stage["task"], **stage["settings"]}
        ways.setdefault(json.dumps(way), {**way, "stages": 0})["stages"] += 1
    return list(ways.values())


def _describe(stage: Stage) -> dict[str, Any]:
    """What the report says of a stage, read as it was written, so that one of another version is no stumbling block."""
    spec, record = read_json(stage.folder / "stage.json"), stage.record
    data, training, searched = spec["data"], spec["training"], record.get("search")
    return {
        "key": stage.key,
        "task": spec["task"],
        "chain": [*spec["lineage"], spec["task"]],
        "parent": spec["parent"],
        "dataset": data.get("name", ""),
        "fingerprint": data["fingerprint"],
        "pack": Path(data.get("pack", "")).name,
        "seed": spec["seed"],
        "num_images": record["num_images"],
        "steps": record["steps"],
        "hours": record["seconds"] / 3600,
        "images_per_second": record["images_per_second"],
        "device": record["device"],
        "precision": record["precision"],
        "versions": record["versions"],
        "metrics": record["metrics"],
        "settings": {
            "version": spec["version"],
            "backbone": spec["backbone"]["name"],
            "stem": spec["backbone"]["stem"],
            "channels": spec["backbone"]["channels"],
            "image_size": spec["config"].get("image_size"),
            "epochs": training["epochs"],
            "batch_size": training["batch_size"],
            "optimizer": training["optimizer"],
            "lr": training["lr"] if searched is None else searched["lr"],
            "lr_searched": searched is not None,
            "share": data.get("fraction", 1.0),
        },
        "curve": curve(stage.folder / "metrics.csv"),
    }


def curve(path: Path) -> list[list[float]]:
    """The loss of a stage at no more than 60 steps: means of as many stretches, [step, loss]; none without a log."""
    if not path.is_file():
        return []
    rows = []
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            try:
                step, loss = int(row["step"]), float(row["loss"])
            except (KeyError, TypeError, ValueError):
                continue  # a line that a full disk cut short
            if math.isfinite(loss):
                rows.append((step, loss))
    edges = [len(rows) * i // MOST_POINTS for i in range(MOST_POINTS + 1)] if len(rows) > MOST_POINTS else []
    parts = [rows[a:b] for a, b in itertools.pairwise(edges)] if edges else [[row] for row in rows]
    return [[part[len(part) // 2][0], sum(loss for _, loss in part) / len(part)] for part in parts]


def _datasets(store: Store, stages: Any, records: Any) -> list[dict[str, Any]]:
    """The data sets that stages and runs saw, as far as their packs are still there."""
    names = [stage["pack"] for stage in stages] + [pack for record in records for pack in record["packs"]]
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(names):
        path = store.packs / name / "pack.json"
        if not name or not path.is_file():
            continue
        pack = read_json(path)
        entry = found.setdefault(
            pack["fingerprint"],
            {key: pack.get(key) for key in ("name", "num_images", "skipped", "classes", "channels", "fingerprint")},
        )
        entry["channels"] = max(entry["channels"], pack["channels"])
        entry.setdefault("sizes", []).append(pack["size"])
    for entry in found.values():
        entry["sizes"] = sorted(set(entry["sizes"]))
    for stage in stages:
        blank = dict.fromkeys(("num_images", "skipped", "classes", "channels"))
        found.setdefault(
            stage["fingerprint"],
            {"name": stage["dataset"], **blank, "fingerprint": stage["fingerprint"], "sizes": []},
        )
    return list(found.values())


# ---- a table for a paper


def printed_table(document: Mapping[str, Any], name: str, kind: str) -> tuple[Table, list[str]]:
    """The table of a name, of the newest run that has it, and the command that makes it again.

    Args:
        document: what was gathered.
        name: such as `orderings`.
        kind: of the document that it is made of.

    Raises:
        StoreError: no run has it.
    """
    if name == "stages":
        return stage_table(document["stages"]), []
    for run in document["runs"]:
        if run["kind"] == kind:
            for table in tables(kind, run["document"], run["title"]):
                if table.name == name:
                    return table, run["command"]
    if len(document["runs"]) == 1:
        (run,) = document["runs"]
        if run["kind"] is None:
            message = f"the run {run['run']} has no kept result"
            raise StoreError(message, f"run its command again: {shlex.join(run['command'])}")
        raise StoreError(
            f"the run {run['run']} has no table {name!r}, its result is of the kind {run['kind']}",
            "sslcurr report --table stages, or another --run",
        )
    hint = f"run sslcurr {_command_word(name)}"
    if any(run["kind"] is None for run in document["runs"]):
        hint += "; a run from before results were kept has one when its command is run again"
    raise StoreError(f"no run in {document['store']} has a table {name!r}", hint)


def _command_word(name: str) -> str:
    return {"orderings": "rank --length 2", "search": "rank --search", "train": "chain"}.get(name, name)


# ---- figures


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


SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"
# Characters that no XML may hold, and a name of a class may.
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
# Every text of a figure names the same fonts, at length; once is enough.
FONTS = re.compile(r"font-family: [^;]*;? ?")
BLACK = re.compile(r"#000000\b|(?<=: )black\b")


def inline_svg(text: str, prefix: str, title: str) -> str:
    """An SVG file of matplotlib's as an element of a page: its ids begin with `prefix`, black is the text's colour.

    What may not be in a page (scripts, styles for everything, links elsewhere) is left out. Numbers on coloured cells
    are of a colour that is not quite black, so that they stay dark where the page is dark, too.
    """
    root = ElementTree.fromstring(FORBIDDEN.sub("", text))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.removeprefix(SVG) in ("metadata", "style", "script", "foreignObject", "title"):
                parent.remove(child)
    papers = {
        id(path)
        for group in root.iter(f"{SVG}g")
        if re.fullmatch(r"patch_\d+", group.get("id", ""))
        for path in group.findall(f"{SVG}path")
        if re.search(r"fill: #ffffff", path.get("style", "")) and "stroke: #" not in path.get("style", "")
    }
    # What nothing points at needs no id; several marks of a chart may have the same.
    pointed_at = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    for element in root.iter():
        name = element.tag.removeprefix(SVG)
        element.tag = name
        for key, value in list(element.attrib.items()):
            if key == LINK or key == "href":
                del element.attrib[key]
                if value.startswith("#"):
                    element.set("href", f"#{prefix}{value[1:]}")
                elif value.startswith("data:image/png;base64,"):
                    element.set("href", value)
                continue
            if key.startswith(("on", "{")):
                del element.attrib[key]
                continue
            if key == "id":
                if value not in pointed_at:
                    del element.attrib[key]
                    continue
                pointed_at.remove(value)
                value = prefix + value
            value = re.sub(r"url\(#", f"url(#{prefix}", value)
            if key in ("style", "fill", "stroke"):
                value = FONTS.sub("", BLACK.sub("currentColor", value))
                if id(element) in papers:
                    value = value.replace("fill: #ffffff", "fill: none")
                elif name != "text":
                    value = value.replace("#ffffff", "var(--paper)")
            element.set(key, value)
    _, _, width, height = (float(part) for part in root.get("viewBox", "0 0 400 300").split())
    for key in ("version", "width", "height"):
        root.attrib.pop(key, None)
    # Points to pixels; a page narrower than that shrinks it.
    root.attrib |= {"width": f"{width * 4 / 3:.0f}", "height": f"{height * 4 / 3:.0f}", "fill": "currentColor"}
    root.attrib |= {"font-family": "'DejaVu Sans', Verdana, sans-serif", "role": "img", "aria-label": title}
    return ElementTree.tostring(root, encoding="unicode")


def pictures(document: Mapping[str, Any], store: Store) -> tuple[list[Picture], list[str]]:
    """All figures of a document, and a sentence for each sheet of attention maps that is gone."""
    from sslcurr.analysis import plots

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
            if run["kind"] not in plots.KINDS:
                continue
            folder = next(folders)
            folder.mkdir()
            drawn(plots.draw(run["kind"], run["document"], folder, formats=("svg",)), run["run"], age)
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

    folder = Path(__file__).parent / "page"
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
        "tables": [table for table in made if table.name not in ("matrix", "confusion")],
        "folded": [table for table in made if table.name in ("matrix", "confusion")],
        "known_kind": run["kind"] is None or bool(made),
        "chain_command": (run["document"] or {}).get("command"),
    }


def state_of(run: Mapping[str, Any]) -> str:
    """How far a run has come, in a few words."""
    if not run["finished"]:
        num = len(run["stages"])
        there = f"{num - len(run['missing'])} of {counted(num, 'stage')} there" if num else "no stage yet"
        return f"with failures, {there}" if run["failed"] else f"unfinished, {there}"
    if run["missing"]:
        return f"finished, {counted(len(run['missing']), 'stage')} removed"
    return "finished"


def run_table(runs: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each run."""
    rows = [
        {
            "run": run["run"],
            "kind": run["kind"] or "not kept",
            "title": run["title"],
            "dataset": run["dataset"],
            "balanced_accuracy": run["balanced_accuracy"],
            "hours": run["hours"],
            "created": run["created"],
            "state": state_of(run),
        }
        for run in runs
    ]
    columns = (
        Column("run", ("run",)),
        Column("result", ("kind",)),
        Column("what was asked", ("title",)),
        Column("data", ("dataset",)),
        Column("balanced accuracy (%)", ("balanced_accuracy",), share),
        Column("hours of its stages", ("hours",), hours),
        Column("begun", ("created",), lambda text: text[:16].replace("T", " "), words=True),
        Column("state", ("state",)),
    )
    notes = []
    if any(run["kind"] == "rank" and run["balanced_accuracy"] is not None for run in runs):
        notes.append("Of a ranking: its best single task, chosen by the images it is quoted on, so it is too good.")
    if any(run["kind"] == "search" and run["balanced_accuracy"] is not None for run in runs):
        notes.append("Of an automatic curriculum: the ordering that the validation images chose.")
    return Table("runs", "Runs, newest first", columns, rows, tuple(notes))


def settings_table(settings: list[dict[str, Any]]) -> Table:
    """How the stages of a run were trained."""
    columns = (
        Column("task", ("task",)),
        Column("stages", ("stages",), str),
        Column("backbone", ("backbone", "stem", "channels"), _backbone, words=True),
        Column("pixels", ("image_size",), general),
        Column("share of images (%)", ("share",), share),
        Column("epochs", ("epochs",), general),
        Column("batch size", ("batch_size",), general),
        Column("optimizer", ("optimizer",)),
        Column("learning rate", ("lr", "lr_searched"), _rate),
    )
    return Table("settings", "How its stages were trained", columns, settings)


def _backbone(name: str, stem: str, channels: int) -> str:
    return f"{name}, stem {stem}, {'grey' if channels == 1 else 'colour'}"


def _rate(lr: float, searched: bool) -> str:
    return general(lr) + (" (found)" if searched else "")


def dataset_table(datasets: list[dict[str, Any]]) -> Table:
    """A row for each data set."""
    columns = (
        Column("data set", ("name",)),
        Column("images", ("num_images",), lambda number: "-" if number is None else f"{number:,}"),
        Column("classes", ("classes",), _classes, words=True),
        Column("channels", ("channels",), general),
        Column("sides of its packs", ("sizes",), lambda sizes: ", ".join(map(str, sizes)) or "-", words=True),
        Column("fingerprint", ("fingerprint",), lambda text: text[:12], words=True),
    )
    notes: tuple[str, ...] = ()
    if any(entry["num_images"] is None for entry in datasets):
        notes = ("The pack of a data set without a number of images is not in the store any more.",)
    return Table("datasets", "Data sets", columns, datasets, notes)


def _classes(names: Sequence[str] | None) -> str:
    if not names:
        return "-" if names is None else "no labels"
    return f"{len(names)}: {', '.join(names[:12])}" + (" …" if len(names) > 12 else "")


def device_table(devices: list[dict[str, Any]]) -> Table:
    """Hours by device."""
    columns = (
        Column("device", ("device",)),
        Column("stages", ("stages",), str),
        Column("hours", ("hours",), hours),
    )
    return Table("devices", "Hours of training by device", columns, devices)


def hours(value: float | None) -> str:
    """A time in hours, with digits enough for a short one."""
    return "-" if value is None else f"{value:,.1f}" if value >= 10 else f"{value:.2g}"


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


def sparkline(points: Sequence[Sequence[float]]) -> str:
    """A small curve of the loss."""
    if len(points) < 2:
        return ""
    (first, last), losses = (points[0][0], points[-1][0]), [loss for _, loss in points]
    low, high = min(losses), max(losses)

    def places() -> Iterator[str]:
        for step, loss in points:
            x = 118 * (step - first) / ((last - first) or 1) + 1
            yield f"{x:.1f},{23 - 22 * (loss - low) / ((high - low) or 1):.1f}"

    label = f"from {losses[0]:.3g} to {losses[-1]:.3g}, lowest {low:.3g}"
    return (
        f'<svg class="spark" viewBox="0 0 120 24" role="img" aria-label="{label}">'
        f'<polyline points="{" ".join(places())}"/></svg>'
    )
