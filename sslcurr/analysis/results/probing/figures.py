"""Charts of probes of frozen features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from sslcurr.analysis.results.charts import Line, distinct, line_chart, line_of
from sslcurr.analysis.results.estimate import Interval, measure_of
from sslcurr.analysis.results.probing.document import PROJECTIONS, Embedding, LayerScores, Probe, ProbeDocument
from sslcurr.analysis.results.style import GREY, WIDEST, Chart, colour_of, labelled, mark_of
from sslcurr.integrity import sound
from sslcurr.wording import images_of, shortened

# Classes with a colour and a name of their own; the rest share one.
MOST_CLASSES = 20
# An SVG holds more points than these as a picture.
MOST_MARKS = 2000

Score = tuple[float | None, Interval | None]


def charts(document: ProbeDocument) -> Iterator[Chart]:
    """Each probe over the layers, or RankMe where there are no labels; then a plane of points for each model."""
    names = list(dict.fromkeys(layer for model in document.models for layer in model.layers))
    probes = {"knn": ("Nearest neighbours (kNN)", _knn), "linear": ("Linear probe", _linear)}
    accuracies = {kind: _lines(document, names, score_of, 100) for kind, (_, score_of) in probes.items()}
    for kind, lines in accuracies.items():
        if lines:
            yield line_chart(
                f"probe-{kind}",
                lines,
                names,
                title=f"{probes[kind][0]} on frozen features: {document.dataset}",
                across="layer",
                up=f"{measure_of(document.target)} on {document.models[0].split} images, %",
                shares=False,
            )
    ranks = {} if any(accuracies.values()) else _lines(document, names, _rankme, 1)
    if ranks:
        title, up = f"RankMe of frozen features: {document.dataset}", "RankMe (effective rank)"
        yield line_chart("rankme", ranks, names, title=title, across="layer", up=up, shares=False)
    embeddings = [] if document.embeddings is UNSET else document.embeddings
    for number, entry in enumerate(embeddings, start=1):
        if Path(entry.points).is_file():  # it may have been removed from the store since
            yield _embedding(f"embedding-{number}", entry, document.dataset)


def _knn(scores: LayerScores) -> Score:
    return _accuracy(scores.knn)


def _linear(scores: LayerScores) -> Score:
    return _accuracy(scores.linear)


def _accuracy(probe: Probe | None) -> Score:
    return (None, None) if probe is None else (probe.value, probe.interval)


def _rankme(scores: LayerScores) -> Score:
    return scores.rankme, None


def _lines(
    document: ProbeDocument, names: Sequence[str], score_of: Callable[[LayerScores], Score], factor: float
) -> dict[str, Line]:
    """A line for each model that has such a score, by its title, over the layers `names`."""
    lines = {}
    for title, model in zip(distinct([model.model for model in document.models]), document.models, strict=True):
        scores = [score_of(model.layers[name]) if name in model.layers else (None, None) for name in names]
        if any(value is not None for value, _ in scores):
            lines[title] = line_of([value for value, _ in scores], [interval for _, interval in scores], factor)
    return lines


def _embedding(name: str, entry: Embedding, dataset: str) -> Chart:
    import pandas as pd

    table = pd.read_csv(sound(Path(entry.points)), dtype={"label": str, "path": str}, keep_default_na=False)
    classes = sorted(set(table["label"]) - {""})
    return embedding_chart(
        name,
        table[["x", "y"]].to_numpy(),
        [classes.index(label) if label else -1 for label in table["label"]],
        classes,
        title=f"Features of {entry.model}, {entry.layer}: {dataset}, {images_of(entry.num_images, entry.split)}",
        method=PROJECTIONS[entry.method],
        explained=entry.explained,
    )


def embedding_chart(
    name: str,
    points: NDArray[Any],
    labels: Sequence[int] | NDArray[Any],
    classes: Sequence[str],
    *,
    title: str,
    method: str,
    explained: Sequence[float] | None = None,
) -> Chart:
    """Images as points of a plane, their classes as colours and markers.

    Args:
        name: of the chart.
        points: [N, 2].
        labels: [N], numbers of `classes`; below 0 where there is none.
        classes: their names; those with fewest images share one colour where they are many.
        title: in a line.
        method: how the plane was made, such as t-SNE; names the axes.
        explained: shares of the variance that the two axes hold (PCA); the axes then have a scale.
    """
    groups = _groups(np.asarray(labels, dtype=int), classes)
    size = 14 if len(points) <= 500 else 8 if len(points) <= MOST_MARKS else 4

    def paint(axes: Any) -> Sequence[Any]:
        for mask, label, colour, marker in groups:
            if mask.any():
                axes.scatter(
                    *points[mask].T,
                    s=3 * size if marker == "." else size,  # it is a small circle
                    color=colour,
                    marker=marker,
                    linewidths=0,
                    alpha=0.8,
                    label=f"{label} ({mask.sum()})",
                    rasterized=len(points) > MOST_MARKS,
                )
        if explained is None:
            axes.set(xticks=[], yticks=[], xlabel=f"{method} 1", ylabel=f"{method} 2")
        else:
            first, second = (
                f"{method} {n} ({100 * part:.1f} % of the variance)" for n, part in enumerate(explained, 1)
            )
            axes.set(xlabel=first, ylabel=second)
        return labelled(axes)

    return Chart(name, title, WIDEST, 4.2, paint, beside=True)


def _groups(labels: NDArray[Any], classes: Sequence[str]) -> list[tuple[NDArray[Any], str, str, str]]:
    """Groups of points: which belong to it, its name, colour and marker."""
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    present = [int(number) for number in np.argsort(-counts, kind="stable") if counts[number]]
    most = MOST_CLASSES if len(present) <= MOST_CLASSES else MOST_CLASSES - 1
    rest = np.isin(labels, present[most:])
    return [
        (labels < 0, "no label", GREY, "."),
        (rest, f"{len(present) - most} other classes", GREY, "."),
        *(
            (labels == number, shortened(classes[number], 26), colour_of(place), mark_of(place))
            for place, number in enumerate(sorted(present[:most]))
        ),
    ]
