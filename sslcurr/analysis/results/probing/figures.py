"""Charts of probes of frozen features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.results.charts import distinct, draw_lines, line_of
from sslcurr.analysis.results.probing.document import METHODS
from sslcurr.analysis.results.style import COLOURS, FORMATS, GREY, WIDEST, Figure, Formats, chart, entitle, mark_of
from sslcurr.wording import shortened

# Classes with a colour and a name of their own; the rest share one.
MOST_CLASSES = 20


# An SVG holds more points than these as a picture.
MOST_MARKS = 2000


def draw(document: Mapping[str, Any], folder: Path, formats: Formats) -> list[Figure | None]:
    """Draw the charts into `folder`."""
    models = document["models"]
    names = list(dict.fromkeys(layer for model in models for layer in model["layers"]))
    titles = distinct([model["model"] for model in models])
    found: list[Figure | None] = []
    probes = {"knn": "k nearest neighbours", "linear": "Linear probe"}
    for kind, what in probes.items():
        lines = {
            title: line_of([model["layers"].get(name, {}).get(kind) or {} for name in names], "balanced_accuracy", 100)
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
            title: line_of([{"rankme": model["layers"].get(name, {}).get("rankme")} for name in names], "rankme", 1)
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
