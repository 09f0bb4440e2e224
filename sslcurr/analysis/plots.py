"""From what commands found to charts: one function for each kind of document."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis import curves, standings
from sslcurr.analysis.charts import (
    COLOURS,
    FORMATS,
    GREY,
    WIDEST,
    Figure,
    chart,
    draw_bars,
    draw_lines,
    draw_matrix,
    entitle,
    heat,
    legend,
    mark_of,
    percent,
    shortened,
)
from sslcurr.analysis.embedding import METHODS
from sslcurr.data.source import counted
from sslcurr.engine.store import Stage
from sslcurr.errors import SpecError, did_you_mean

__all__ = ["KINDS", "Figure", "draw", "draw_embedding", "draw_stages"]

Formats = Sequence[str]
# Classes with a colour and a name of their own; the rest share one.
MOST_CLASSES = 20
# An SVG holds more points than these as a picture.
MOST_MARKS = 2000


def draw(kind: str, document: Mapping[str, Any], folder: Path, *, formats: Formats = FORMATS) -> list[Figure]:
    """Draw what a command found into `folder`.

    Args:
        kind: of the document: train, rank, search, grid, cka, fid, probe or attend.
        document: as the command prints it with `--json` (docs/commands.md).
        folder: an existing folder.
        formats: png, svg or both.

    Raises:
        SpecError: there is no such kind.
    """
    if kind not in KINDS:
        raise SpecError(f"there are no charts of kind {kind!r}", did_you_mean(kind, sorted(KINDS)))
    return [figure for figure in KINDS[kind](document, folder, formats) if figure is not None]


def _rank(document: Mapping[str, Any], folder: Path, formats: Formats) -> list[Figure | None]:
    found = [standings.draw_singles(folder / "singles", document, formats)]
    if document.get("orderings"):
        found.append(standings.draw_orderings(folder / "orderings", document, formats))
        found.append(standings.draw_tree(folder / "tree", document, formats))
    return found


def _search(document: Mapping[str, Any], folder: Path, formats: Formats) -> list[Figure | None]:
    return [standings.draw_search(folder / "search", document, formats)]


def _grid(document: Mapping[str, Any], folder: Path, formats: Formats) -> list[Figure | None]:
    shares = [*([None] if document["baseline"] else []), *document["ssl_fractions"]]
    labels = document["label_fractions"]
    cells = {(cell["label_fraction"], cell["ssl_fraction"]): cell for cell in document["cells"]}
    table = [[cells.get((label, share)) for share in shares] for label in labels]
    values = np.array([[math.nan if cell is None else percent(cell["mean"]) for cell in line] for line in table])
    finite = values[np.isfinite(values)]
    if not finite.size:
        return []
    narrow = len(shares) > 5  # too narrow for a mean and its spread in one line
    low, high = float(finite.min()), float(finite.max())
    seeds = counted(len(document["seeds"]), "seed")
    title = f"{' → '.join(document['tasks'])} → classification: {document['dataset']}, {seeds}"
    height = 1.3 + (0.45 if narrow else 0.36) * len(labels)
    base = folder / "grid"
    with chart(base, max(4.6, min(WIDEST, 2.1 + 1.05 * len(shares))), max(2.4, height), formats) as axes:
        heat(
            axes,
            values,
            [f"{100 * label:.4g}" for label in labels],
            [str(document["baseline"]) if share is None else f"{100 * share:.4g}" for share in shares],
            across="images of pretraining, %",
            down="labels, %",
            low=low,
            high=high if high > low else low + 1,
            what=f"balanced accuracy\non {document['split']} images, %",
            texts=[[_cell(cell, "\n" if narrow else " ") for cell in line] for line in table],
            text_size=9 if len(shares) <= 8 else 7,
        )
        if document["baseline"] and len(shares) > 1:
            axes.axvline(0.5, color="white", linewidth=4)  # no pretraining: beside the scale of the others
        entitle(axes.figure, title)
    return [Figure(base, title)]


def _cell(cell: Mapping[str, Any] | None, between: str) -> str:
    if cell is None:
        return ""
    if cell["mean"] is None:
        return "failed"
    mean = f"{100 * cell['mean']:.1f}"
    return mean if cell.get("std") is None else f"{mean}{between}± {100 * cell['std']:.1f}"


def _train(document: Mapping[str, Any], folder: Path, formats: Formats) -> list[Figure | None]:
    found: list[Figure | None] = []
    for part, name in (("downstream", "confusion"), ("baseline", "confusion-baseline")):
        report = document.get(part)
        if report and report.get("confusion_matrix"):
            found.append(_confusion(folder / name, report, part, formats))
    return found


def _confusion(base: Path, report: Mapping[str, Any], part: str, formats: Formats) -> Figure:
    counts = np.array(report["confusion_matrix"], dtype=float)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    names = [shortened(str(name), 24) for name in report["classes"]]
    many = len(names)
    side = max(2.2, min(4.6, 0.42 * many))
    # Numbers as large as their cells allow; where they could not be read there are none.
    digits = max(1, len(f"{counts.max():.0f}"))
    size = min(9.0, 72 * side / many / (0.72 * digits))
    title = {"downstream": "Confusion matrix", "baseline": "Confusion matrix from scratch"}[part]
    accuracy = report.get("balanced_accuracy")
    if accuracy is not None:
        title += f": balanced accuracy {100 * accuracy:.1f} %"
    title += f" on {report.get('num_images', int(counts.sum()))} {report.get('split', 'test')} images"
    longest = max(map(len, names))
    with chart(base, min(WIDEST, side + 1.4 + 0.08 * longest), side + 0.6 + 0.06 * longest, formats) as axes:
        texts = [[f"{n:.0f}" if n or many <= 12 else "" for n in line] for line in counts]
        heat(
            axes,
            shares,
            names,
            names,
            across="predicted class",
            down="true class",
            low=0.0,
            high=1.0,
            what="share of the row (recall)",
            texts=texts if size >= 5 else None,
            text_size=size,
            colours="Blues",
        )
        entitle(axes.figure, title)
    return Figure(base, title)


def _cka(document: Mapping[str, Any], folder: Path, formats: Formats) -> list[Figure | None]:
    found: list[Figure | None] = []
    about = (
        f"{document['num_images']} images of {document['dataset']} ({document['split']}), {document['estimator']} "
        f"{document['kernel']} CKA"
    )
    same = [pair for pair in document["pairs"] if pair["layers"]]
    names = list(dict.fromkeys(row["layer"] for pair in same for row in pair["layers"]))
    if len(names) > 1:
        lines = {}
        for pair in same:
            rows: list[dict[str, Any]] = [
                next((row for row in pair["layers"] if row["layer"] == name), {}) for name in names
            ]
            lines[f"{pair['a']} | {pair['b']}"] = _line(rows, "cka", 1.0)
        title = f"Same layers of two models: {about}"
        found.append(
            draw_lines(folder / "layers", lines, names, title=title, across="layer", up="CKA", formats=formats)
        )
    models = document["models"]
    pairs = [(a, b) for a in range(len(models)) for b in range(a + 1, len(models))]
    for (a, b), pair in zip(pairs, document["pairs"], strict=True):
        found.append(
            draw_matrix(
                folder / ("matrix" if len(models) == 2 else f"matrix-{a + 1}-{b + 1}"),
                np.array(pair["matrix"], dtype=float),
                models[a]["layers"],
                models[b]["layers"],
                title=f"Layers of two models: {about}",
                across=pair["b"],
                down=pair["a"],
                what="CKA",
                formats=formats,
            )
        )
    return found


def _line(
    rows: Sequence[Mapping[str, Any]], name: str, factor: float
) -> tuple[list[float], list[float] | None, list[float] | None]:
    """A value of each row and the ends of its interval, for `draw_lines`; NaN is not drawn."""
    values = [math.nan if row.get(name) is None else factor * row[name] for row in rows]
    ends = [row.get("interval") if row.get(name) is not None else None for row in rows]
    if not any(ends):
        return values, None, None
    low, high = ([factor * end[side] if end else math.nan for end in ends] for side in (0, 1))
    return values, low, high


def _fid(document: Mapping[str, Any], folder: Path, formats: Formats) -> list[Figure | None]:
    known: dict[str, float] = (
        next(iter(document["accuracies"].values()), {}) if len(document["accuracies"]) == 1 else {}
    )
    order = sorted(document["models"], key=lambda model: known.get(model["model"], math.inf))
    bars = {
        model["model"]: {entry["dataset"]: _draws(entry["normalised"]) for entry in model["datasets"]}
        for model in order
    }
    if not any(value for by_name in bars.values() for value in by_name.values()):
        return []  # the halves of the reference are equal: nothing can be divided by 0
    names = [entry["dataset"] for entry in order[0]["datasets"]]
    unknown_last = "" if len(known) == len(order) else ", unknown last"
    sorted_by = f" (by rising accuracy{unknown_last})" if known else ""
    charts = {
        "by-dataset": ({name: {model: values[name] for model, values in bars.items()} for name in names}, "data set"),
        "by-model": (bars, f"model{sorted_by}"),
    }
    return [
        draw_bars(
            folder / base,
            groups,
            title=f"Distance to {document['reference']}, {document['num_images']:,} images of each side "
            f"(whiskers: lowest and highest of {document['draws']} draws)",
            across=across,
            up="FID / FID of two halves",
            line=1.0,
            line_name=f"two halves of {document['reference']}",
            formats=formats,
        )
        for base, (groups, across) in charts.items()
    ]


def _draws(figure: Mapping[str, Any] | None) -> tuple[float, float, float] | None:
    """Mean, lowest and highest value of a figure over draws."""
    return None if figure is None else (figure["mean"], min(figure["values"]), max(figure["values"]))


def _probe(document: Mapping[str, Any], folder: Path, formats: Formats) -> list[Figure | None]:
    models = document["models"]
    names = list(dict.fromkeys(layer for model in models for layer in model["layers"]))
    titles = _distinct([model["model"] for model in models])
    found: list[Figure | None] = []
    probes = {"knn": "k nearest neighbours", "linear": "Linear probe"}
    for kind, what in probes.items():
        lines = {
            title: _line([model["layers"].get(name, {}).get(kind) or {} for name in names], "balanced_accuracy", 100)
            for title, model in zip(titles, models, strict=True)
        }
        lines = {title: line for title, line in lines.items() if not np.isnan(line[0]).all()}
        if lines:
            whiskers = ", 95 % intervals" if any(line[1] for line in lines.values()) else ""
            found.append(
                draw_lines(
                    folder / f"probe-{kind}",
                    lines,
                    names,
                    title=f"{what} on frozen features: {document['dataset']}{whiskers}",
                    across="layer",
                    up=f"balanced accuracy on\n{models[0]['split']} images, %",
                    shares=False,
                    formats=formats,
                )
            )
    if not found:  # there are no labels
        lines = {
            title: _line([{"rankme": model["layers"].get(name, {}).get("rankme")} for name in names], "rankme", 1)
            for title, model in zip(titles, models, strict=True)
        }
        lines = {title: line for title, line in lines.items() if not np.isnan(line[0]).all()}
        if lines:
            title = f"RankMe of frozen features: {document['dataset']}"
            up = "RankMe (effective rank)"
            base = folder / "rankme"
            found.append(
                draw_lines(base, lines, names, title=title, across="layer", up=up, shares=False, formats=formats)
            )
    for number, entry in enumerate(document.get("embeddings", []), start=1):
        found.append(_embedding(folder / f"embedding-{number}", entry, document["dataset"], formats))
    return found


def _embedding(base: Path, entry: Mapping[str, Any], dataset: str, formats: Formats) -> Figure | None:
    import pandas as pd

    if not Path(entry["points"]).is_file():
        return None  # removed from the store since
    table = pd.read_csv(entry["points"], dtype={"label": str, "path": str}, keep_default_na=False)
    classes = sorted(set(table["label"]) - {""})
    return draw_embedding(
        base,
        table[["x", "y"]].to_numpy(),
        [classes.index(label) if label else -1 for label in table["label"]],
        classes,
        title=f"{entry['model']}, {entry['layer']}: {entry['num_images']:,} images of {dataset} ({entry['split']})",
        method=METHODS[entry["method"]],
        explained=entry["explained"],
        formats=formats,
    )


def _distinct(names: Sequence[str]) -> list[str]:
    """Names, numbered where they would be the same in a legend."""
    short = [shortened(name, 60) for name in names]
    return [
        f"{name} ({short[: place + 1].count(name)})" if short.count(name) > 1 else name
        for place, name in enumerate(short)
    ]


def _attend(document: Mapping[str, Any], folder: Path, formats: Formats) -> list[Figure | None]:
    from matplotlib.lines import Line2D

    chains = [chain for chain in document["chains"] if (chain.get("attention") or {}).get("mean") is not None]
    if not chains:
        return []
    classes = list(dict.fromkeys(name for chain in chains for name in chain["classes"]))
    rows: list[str | None] = [None, *classes]  # all images first
    title = (
        f"Attention ({document['method']}, {document['layer']}) in the marked region: {document['num_images']} "
        f"{'' if document['split'] == 'all' else document['split'] + ' '}images of {document['dataset']}"
    )
    base = folder / "attention"
    if len(chains) > len(COLOURS):
        return [_attention_of_many(base, chains, title, formats)]
    step = 0.8 / len(chains)
    with chart(base, 6.0, 1.0 + len(rows) * (0.16 + 0.13 * len(chains)), formats) as axes:
        covered = False
        for number, chain in enumerate(chains):
            colour, marker = COLOURS[number % len(COLOURS)], mark_of(number)
            for row, name in enumerate(rows):
                place = row + (number - (len(chains) - 1) / 2) * step
                entry = chain["classes"].get(name) if name is not None else None
                value, interval, coverage = (
                    (chain["attention"]["mean"], chain["attention"].get("interval"), chain.get("coverage"))
                    if name is None
                    else (None, None, None)
                    if entry is None
                    else (entry["attention"], entry.get("interval"), entry.get("coverage"))
                )
                if interval is not None:
                    axes.plot([100 * interval[0], 100 * interval[1]], [place] * 2, color=colour, linewidth=1.2)
                if value is not None:
                    axes.plot(percent(value), place, marker, markersize=5, color=colour, gid="attention")
                if coverage is not None:
                    covered = True
                    ends = [place - step / 2, place + step / 2]
                    axes.plot([percent(coverage)] * 2, ends, color="black", linewidth=1.6, gid="coverage")
        for row in range(1, len(rows)):
            axes.axhline(row - 0.5, color="0.7" if row == 1 else "0.9", linewidth=0.8)
        counts = {name: entry.get("num_images") for chain in chains for name, entry in chain["classes"].items()}
        labels = [
            "all images" if name is None else shortened(name, 26) + (f" ({counts[name]})" if counts[name] else "")
            for name in rows
        ]
        axes.set_yticks(range(len(rows)), labels)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="x", linewidth=0.5, alpha=0.5)
        axes.set(xlabel="attention in the region, %")
        named = _distinct([chain["chain"] for chain in chains])
        whiskers = any(chain["attention"].get("interval") for chain in chains)
        handles = [
            Line2D(
                [], [], color=COLOURS[n % len(COLOURS)], marker=mark_of(n), linestyle="-" if whiskers else "", label=t
            )
            for n, t in enumerate(named)
        ]
        if covered:
            mark: Any = {"marker": "|", "markersize": 10, "markeredgewidth": 1.6, "linestyle": "", "color": "black"}
            handles.append(Line2D([], [], label="share of the image in the region", **mark))
        entitle(axes.figure, title)
        legend(axes.figure, handles)
    return [Figure(base, title)]


def _attention_of_many(base: Path, chains: Sequence[Mapping[str, Any]], title: str, formats: Formats) -> Figure:
    """A row a chain, over all images: more chains than there are colours cannot be told apart class by class."""
    from matplotlib.lines import Line2D

    title = f"{title}; by class: --json"
    names = _distinct([chain["chain"].removesuffix(" -> classification") for chain in chains])
    with chart(base, 6.6, 1.2 + 0.19 * len(chains), formats) as axes:
        for place, chain in enumerate(chains):
            interval = chain["attention"].get("interval")
            if interval is not None:
                axes.plot([100 * interval[0], 100 * interval[1]], [place] * 2, color=GREY, linewidth=1.2)
            axes.plot(percent(chain["attention"]["mean"]), place, "o", markersize=5, color=COLOURS[0], gid="attention")
            if chain.get("coverage") is not None:
                ends = [place - 0.5, place + 0.5]
                axes.plot([percent(chain["coverage"])] * 2, ends, color="black", linewidth=1.4, gid="coverage")
        axes.set_yticks(range(len(names)), [shortened(name.replace(" -> ", " → "), 60) for name in names], fontsize=8)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="x", linewidth=0.5, alpha=0.5)
        axes.set(xlabel="attention in the region, %")
        entitle(axes.figure, title)
        whiskers = any(chain["attention"].get("interval") for chain in chains)
        handles = [
            Line2D([], [], color=COLOURS[0], marker="o", linestyle="", label="mean over images and seeds"),
            *([Line2D([], [], color=GREY, label="95 % interval")] if whiskers else []),
            Line2D([], [], color="black", linewidth=1.4, label="share of the image in the region"),
        ]
        legend(axes.figure, handles)
    return Figure(base, title)


def draw_embedding(
    base: Path,
    points: NDArray[Any],
    labels: Sequence[int] | NDArray[Any],
    classes: Sequence[str],
    *,
    title: str,
    method: str,
    explained: Sequence[float] | None = None,
    formats: Formats = FORMATS,
) -> Figure:
    """Draw images as points of a plane, their classes as colours and markers.

    Args:
        base: path without suffix.
        points: [N, 2].
        labels: [N], numbers of `classes`; below 0 where there is none.
        classes: their names; those with fewest images share one colour where they are many.
        title: in a line.
        method: how the plane was made, such as t-SNE; names the axes.
        explained: shares of the variance that the two axes hold (PCA); the axes then have a scale.
        formats: png, svg or both.
    """
    labels = np.asarray(labels, dtype=int)
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    present = [int(number) for number in np.argsort(-counts, kind="stable") if counts[number]]
    most = MOST_CLASSES if len(present) <= MOST_CLASSES else MOST_CLASSES - 1
    named = sorted(present[:most])
    rest = np.isin(labels, present[most:])
    groups = [
        (labels < 0, "no label", GREY, "."),
        (rest, f"{len(present) - most} other classes", GREY, "."),
        *(
            (labels == number, shortened(classes[number], 26), COLOURS[place % len(COLOURS)], mark_of(place))
            for place, number in enumerate(named)
        ),
    ]
    size = 14 if len(points) <= 500 else 8 if len(points) <= MOST_MARKS else 4
    with chart(base, WIDEST, 4.2, formats) as axes:
        for mask, name, colour, marker in groups:
            if mask.any():
                axes.scatter(
                    *points[mask].T,
                    s=3 * size if marker == "." else size,  # it is a small circle
                    color=colour,
                    marker=marker,
                    linewidths=0,
                    alpha=0.8,
                    label=f"{name} ({mask.sum()})",
                    rasterized=len(points) > MOST_MARKS,
                )
        if explained is None:
            axes.set(xticks=[], yticks=[], xlabel=f"{method} 1", ylabel=f"{method} 2")
        else:
            axes.set(
                **{
                    f"{name}label": f"{method} {n + 1} ({100 * explained[n]:.1f} % of the variance)"
                    for n, name in enumerate("xy")
                }
            )
        entitle(axes.figure, title)
        handles, texts = axes.get_legend_handles_labels()
        if handles:
            beside = axes.figure.legend(handles, texts, loc="outside right upper", fontsize=8, markerscale=1.6)
            for handle in beside.legend_handles:
                handle.set_alpha(1)
    return Figure(base, title)


def draw_stages(stages: Mapping[str, Stage], folder: Path, *, formats: Formats = FORMATS) -> list[Figure]:
    """Draw the curves of finished stages, title -> stage, from their logs; and their searches for a learning rate."""
    found = []
    for title, stage in stages.items():
        logged = curves.draw_curves(folder / f"curves-{stage.key}", title, stage, formats)
        search = curves.draw_rates(folder / f"search-{stage.key}", title, stage, formats)
        found += [figure for figure in (logged, search) if figure is not None]
    return found


KINDS: dict[str, Callable[[Mapping[str, Any], Path, Formats], list[Figure | None]]] = {
    "train": _train,
    "rank": _rank,
    "search": _search,
    "grid": _grid,
    "cka": _cka,
    "fid": _fid,
    "probe": _probe,
    "attend": _attend,
}
