"""Charts of the search for an ordering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sslcurr.analysis.results.ranking.style import about_document, accuracy_label, joined_tasks, mark_handle, name_rows
from sslcurr.analysis.results.search import figures
from sslcurr.analysis.results.style import COLOURS, GREY, WIDEST, Figure, Formats, canvas, entitle, legend, percent


def draw_search(base: Path, document: Mapping[str, Any], formats: Sequence[str]) -> Figure | None:
    """What the search looked at, by length: a row a candidate, a point a look; and how its finalists did."""
    from matplotlib.lines import Line2D

    looks = list(dict.fromkeys((rung["short"], rung["seeds"]) for rung in document["rungs"]))
    looks.sort(key=lambda look: (not look[0], look[1]))  # the short look, then longer ones with more seeds
    blocks: dict[int, dict[tuple[str, ...], dict[tuple[bool, int], Mapping[str, Any]]]] = {}
    left_out: dict[int, set[tuple[str, ...]]] = {}
    for rung in document["rungs"]:
        block = blocks.setdefault(rung["length"], {})
        for candidate in rung["candidates"]:
            block.setdefault(tuple(candidate["ordering"]), {})[rung["short"], rung["seeds"]] = candidate
        for ordering in rung["not_afforded"]:
            block.setdefault(tuple(ordering), {})
            left_out.setdefault(rung["length"], set()).add(tuple(ordering))
    if not any(blocks.values()):
        return None
    names: list[str] = []
    places: list[float] = []
    place = 0.0
    title = f"The search: {about_document(document)}; the validation images choose what is found"
    finalists = [row for row in document["finalists"] if row.get("mean") is not None]
    num_rows = sum(map(len, blocks.values())) + 0.6 * len(blocks)
    heights = [num_rows, len(finalists) + 0.4]
    with canvas(base, WIDEST, 1.0 + 0.2 * sum(heights) + 0.5 * bool(finalists), formats) as figure:
        if finalists:
            axes, below = figure.subplots(2, 1, height_ratios=[heights[0], heights[1]])
        else:
            axes, below = figure.add_subplot(), None
        for number, (length, block) in enumerate(sorted(blocks.items())):
            if number:
                axes.axhline(place - 0.3, color="0.7", linewidth=0.8)
                place += 0.6
            # Those that came furthest first, among them by the last score.
            order = sorted(block, key=lambda name: (-len(block[name]), -_last_score(block[name]), name))
            for ordering in order:
                for look, candidate in block[ordering].items():
                    which = looks.index(look)
                    colour = COLOURS[which % len(COLOURS)]
                    axes.plot(
                        percent(candidate["score"]),
                        place,
                        "o^sDvPX"[which % 7],
                        markersize=5.5,
                        color=colour,
                        markerfacecolor=colour if candidate["kept"] else "white",
                        gid="kept" if candidate["kept"] else "dropped",
                    )
                if ordering in left_out.get(length, ()) and not block[ordering]:
                    text = "left out: budget"
                    axes.text(
                        0.02, place, text, transform=axes.get_yaxis_transform(), va="center", color=GREY, fontsize=8
                    )
                names.append(joined_tasks(ordering))
                places.append(place)
                place += 1
        name_rows(axes, names, places)
        axes.tick_params(axis="y", labelsize=8)
        axes.set(xlabel="score: balanced accuracy of a probe on validation images, %")
        handles = []
        for which, (short, seeds) in enumerate(looks):
            label = f"{'short look' if short else 'all epochs'}, {seeds} seed{'s' * (seeds != 1)}"
            handles.append(mark_handle("o^sDvPX"[which % 7], COLOURS[which % len(COLOURS)], True, label))
        handles.append(Line2D([], [], linestyle="", label="filled: kept; open: dropped"))
        if below is not None:
            for row_place, row in enumerate(finalists):
                mean, std = percent(row["mean"]), row.get("std")
                below.plot(mean, row_place, "P", markersize=7, color="black", gid="finalist")
                if std is not None:
                    below.hlines(row_place, mean - 100 * std, mean + 100 * std, color="black", linewidth=1.2)
            found = document.get("ordering")
            chosen = [" (found)" if row["ordering"] == found else "" for row in finalists]
            name_rows(
                below, [joined_tasks(row["ordering"]) + mark for row, mark in zip(finalists, chosen, strict=True)]
            )
            below.tick_params(axis="y", labelsize=8)
            below.set(xlabel=accuracy_label(document))
            spread = any(row.get("std") is not None for row in finalists)
            label = "finalist, fully trained" + (" (± standard deviation over seeds)" if spread else "")
            handles.append(mark_handle("P", "#000000", True, label, 7))
        entitle(figure, title)
        legend(figure, handles)
    return Figure(base, title)


def _last_score(looks: Mapping[tuple[bool, int], Mapping[str, Any]]) -> float:
    scores = [candidate["score"] for candidate in looks.values() if candidate["score"] is not None]
    return float(scores[-1]) if scores else -1.0


def draw(document: Mapping[str, Any], folder: Path, formats: Formats) -> list[Figure | None]:
    """Draw the charts into `folder`."""
    return [figures.draw_search(folder / "search", document, formats)]
