"""Charts of trainings: curves of a stage, and what its search for a learning rate tried."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.results.style import COLOURS, GREY, Figure, canvas, chart, entitle, legend, mark_of
from sslcurr.engine.store import Stage
from sslcurr.files import read_json

# A log with more rows than these is drawn as means of rows that follow each other.
MOST_POINTS = 400


def thinned(values: NDArray[Any], most: int = MOST_POINTS) -> NDArray[Any]:
    """Rows in order, or means of equal bins of them where they are more than `most`."""
    if len(values) <= most:
        return values
    starts = np.linspace(0, len(values), most + 1).astype(int)[:-1]
    return np.add.reduceat(values, starts) / np.diff([*starts, len(values)])[:, None]


def _columns(path: Path) -> dict[str, NDArray[Any]]:
    """The numbers of a log by column; empty where there is no such file."""
    from sslcurr.engine.log import read_rows

    rows = read_rows(path) if path.is_file() else []
    names = list(rows[0]) if rows else []
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}


def draw_curves(base: Path, title: str, stage: Stage, formats: Sequence[str]) -> Figure | None:
    """Loss, validation measures and learning rate over epochs, from the log of a stage."""
    steps, epochs = _columns(stage.folder / "metrics.csv"), _columns(stage.folder / "epochs.csv")
    if not steps:
        return None
    shown = {name: values for name, values in epochs.items() if name not in ("epoch", "step", "val_loss")}
    at, losses, rates = thinned(np.stack([steps["epoch"], steps["loss"], steps["lr"]], axis=1)).T
    heights = [2.0, *([1.2] if shown else []), 1.0]
    with canvas(base, 6.0, 0.8 + sum(heights), formats) as figure:
        panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        single = "o" if len(at) == 1 else ""
        panels[0].plot(at, losses, single or "-", color=COLOURS[0], linewidth=1.2, label="training loss", gid="loss")
        # A validation is made at the end of an epoch, the first of which is number 0.
        if "val_loss" in epochs:
            look: dict[str, Any] = {"color": COLOURS[1], "marker": "s", "linestyle": "--"}
            panels[0].plot(epochs["epoch"] + 1, epochs["val_loss"], markersize=4, label="validation loss", **look)
        panels[0].set(ylabel="loss")
        handles = panels[0].get_legend_handles_labels()[0]
        if shown:
            accuracies = all("accuracy" in name for name in shown)
            for number, (name, values) in enumerate(shown.items(), start=2):
                label = name.removeprefix("val_").replace("_", " ") + " (validation)"
                values = 100 * values if accuracies else values
                look = {"color": COLOURS[number % len(COLOURS)], "marker": mark_of(number), "linestyle": "-."}
                panels[1].plot(epochs["epoch"] + 1, values, markersize=4, label=label, gid=name, **look)
            panels[1].set(ylabel="accuracy, %" if accuracies else "measure")
            handles += panels[1].get_legend_handles_labels()[0]
        panels[-1].plot(at, rates, single or "-", color="black", linewidth=1.2, gid="rate")
        panels[-1].set(ylabel="learning rate", xlabel="epoch", ylim=(0, 1.08 * max(np.nanmax(rates), 1e-12)))
        panels[-1].yaxis.set_major_formatter("{x:g}")
        for axes in panels:
            axes.grid(linewidth=0.5, alpha=0.5)
        figure.align_ylabels()
        entitle(figure, title)
        legend(figure, handles if len(handles) > 1 else [])
    return Figure(base, title)


def draw_rates(base: Path, title: str, stage: Stage, formats: Sequence[str]) -> Figure | None:
    """Rates that were tried against what came of them."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    from sslcurr.engine.log import read_rows

    table = stage.folder / "search" / "search.csv"
    rows = read_rows(table) if table.is_file() else []
    asked = stage.spec
    if not rows or asked.search is None:
        return None
    recipe = asked.training.lr
    measure = rows[0]["measure"].removeprefix("val_").replace("_", " ")
    up = "training loss of the last epoch" if measure == "loss" else f"{measure} (validation)"
    title = f"{title}: {len(rows)} learning rates tried"
    with chart(base, 6.0, 3.2, formats) as axes:
        for state, marker, colour in (("finished", "o", COLOURS[0]), ("pruned", "X", GREY)):
            found = [(float(row["lr"]), float(row["value"])) for row in rows if row["state"] == state and row["value"]]
            if found:
                label = f"{'stopped early' if state == 'pruned' else state} ({len(found)})"
                axes.plot(*zip(*found, strict=True), marker, color=colour, markersize=6, label=label, gid=state)
        failed = [float(row["lr"]) for row in rows if row["state"] == "failed"]
        for number, rate in enumerate(failed):
            label = f"failed ({len(failed)})" if number == 0 else "_"
            axes.axvline(rate, color=COLOURS[1], linestyle="-.", linewidth=1, alpha=0.7, label=label)
        chosen_path = stage.folder / "search" / "found.json"
        if chosen_path.is_file():
            chosen = read_json(chosen_path)["lr"]
            axes.axvline(
                chosen, color="black", linestyle="--", linewidth=1.3, label=f"chosen: {chosen:.3g}", gid="chosen"
            )
        axes.axvline(
            recipe, color=COLOURS[2], linestyle=":", linewidth=1.6, label=f"recipe: {recipe:.3g}", gid="recipe"
        )
        if asked.search.draw == "log":
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(min(asked.search.low, recipe) / 1.1, max(asked.search.high, recipe) * 1.1)
        axes.set(xlabel="learning rate", ylabel=up)
        axes.grid(linewidth=0.5, alpha=0.5)
        entitle(axes.figure, title)
        legend(axes.figure, axes.get_legend_handles_labels()[0])
    return Figure(base, title)
