"""Charts of trainings: curves of a stage, and what its search for a learning rate tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.results.style import COLOURS, GREY, Chart, mark_of
from sslcurr.engine.store import Stage
from sslcurr.files import read_json
from sslcurr.integrity import read_rows

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
    rows = read_rows(path) if path.is_file() else []
    names = list(rows[0]) if rows else []
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}


def stage_charts(title: str, stage: Stage) -> list[Chart]:
    """The curves of a finished stage, from its log, and its search for a learning rate, as far as there are any."""
    return [chart for chart in (curves(title, stage), rates(title, stage)) if chart is not None]


def curves(title: str, stage: Stage) -> Chart | None:
    """Loss, validation measures and learning rate over epochs, from the log of a stage."""
    steps, epochs = _columns(stage.folder / "metrics.csv"), _columns(stage.folder / "epochs.csv")
    if not steps:
        return None
    shown = {name: values for name, values in epochs.items() if name not in ("epoch", "step", "val_loss")}
    heights = [2.0, *([1.2] if shown else []), 1.0]

    def paint(figure: Any) -> Sequence[Any]:
        panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        handles = _paint_losses(panels[0], steps, epochs)
        if shown:
            handles += _paint_measures(panels[1], shown, epochs)
        at, _, learning_rates = _thinned_log(steps)
        panels[-1].plot(at, learning_rates, _line(at), color="black", linewidth=1.2, gid="rate")
        highest = max(np.nanmax(learning_rates), 1e-12)
        panels[-1].set(ylabel="learning rate", xlabel="epoch", ylim=(0, 1.08 * highest))
        panels[-1].yaxis.set_major_formatter("{x:g}")
        for axes in panels:
            axes.grid(linewidth=0.5, alpha=0.5)
        if hasattr(figure, "align_ylabels"):
            figure.align_ylabels()
        return handles if len(handles) > 1 else []

    return Chart(f"curves-{stage.key}", title, 6.0, 0.8 + sum(heights), paint, panels=True)


Columns = Mapping[str, NDArray[Any]]


def _thinned_log(steps: Columns) -> NDArray[Any]:
    """Epochs, losses and rates of a log, few enough to be drawn."""
    return thinned(np.stack([steps["epoch"], steps["loss"], steps["lr"]], axis=1)).T


def _line(values: NDArray[Any]) -> str:
    return "o" if len(values) == 1 else "-"


def _paint_losses(axes: Any, steps: Columns, epochs: Columns) -> list[Any]:
    at, losses, _ = _thinned_log(steps)
    axes.plot(at, losses, _line(at), color=COLOURS[0], linewidth=1.2, label="training loss", gid="loss")
    # A validation is made at the end of an epoch, the first of which is number 0.
    if "val_loss" in epochs:
        axes.plot(
            epochs["epoch"] + 1,
            epochs["val_loss"],
            color=COLOURS[1],
            marker="s",
            linestyle="--",
            markersize=4,
            label="validation loss",
        )
    axes.set(ylabel="loss")
    handles: list[Any] = axes.get_legend_handles_labels()[0]
    return handles


def _paint_measures(axes: Any, shown: Columns, epochs: Columns) -> list[Any]:
    accuracies = all("accuracy" in name for name in shown)
    for number, (name, values) in enumerate(shown.items(), start=2):
        axes.plot(
            epochs["epoch"] + 1,
            100 * values if accuracies else values,
            color=COLOURS[number % len(COLOURS)],
            marker=mark_of(number),
            linestyle="-.",
            markersize=4,
            label=name.removeprefix("val_").replace("_", " ") + " (validation)",
            gid=name,
        )
    axes.set(ylabel="accuracy, %" if accuracies else "measure")
    handles: list[Any] = axes.get_legend_handles_labels()[0]
    return handles


def rates(title: str, stage: Stage) -> Chart | None:
    """Learning rates that were tried against what came of them."""
    table = stage.folder / "search" / "search.csv"
    rows = read_rows(table) if table.is_file() else []
    asked = stage.spec
    if not rows or asked.search is None:
        return None
    search, recipe = asked.search, asked.training.lr

    def paint(axes: Any) -> Sequence[Any]:
        _paint_trials(axes, rows)
        chosen = stage.folder / "search" / "found.json"
        if chosen.is_file():
            rate = read_json(chosen)["lr"]
            axes.axvline(rate, color="black", linestyle="--", linewidth=1.3, label=f"chosen: {rate:.3g}", gid="chosen")
        label = f"recipe: {recipe:.3g}"
        axes.axvline(recipe, color=COLOURS[2], linestyle=":", linewidth=1.6, label=label, gid="recipe")
        if search.draw == "log":
            _make_logarithmic(axes)
        axes.set_xlim(min(search.low, recipe) / 1.1, max(search.high, recipe) * 1.1)
        measure = rows[0]["measure"].removeprefix("val_").replace("_", " ")
        up = "training loss of the last epoch" if measure == "loss" else f"{measure} (validation)"
        axes.set(xlabel="learning rate", ylabel=up)
        axes.grid(linewidth=0.5, alpha=0.5)
        handles: list[Any] = axes.get_legend_handles_labels()[0]
        return handles

    return Chart(f"search-{stage.key}", f"{title}: {len(rows)} learning rates tried", 6.0, 3.2, paint)


def _paint_trials(axes: Any, rows: Sequence[Mapping[str, str]]) -> None:
    for state, marker, colour in (("finished", "o", COLOURS[0]), ("pruned", "X", GREY)):
        trials = [(float(row["lr"]), float(row["value"])) for row in rows if row["state"] == state and row["value"]]
        if trials:
            label = f"{'stopped early' if state == 'pruned' else state} ({len(trials)})"
            axes.plot(*zip(*trials, strict=True), marker, color=colour, markersize=6, label=label, gid=state)
    failed = [float(row["lr"]) for row in rows if row["state"] == "failed"]
    for number, rate in enumerate(failed):
        label = f"failed ({len(failed)})" if number == 0 else "_"
        axes.axvline(rate, color=COLOURS[1], linestyle="-.", linewidth=1, alpha=0.7, label=label)


def _make_logarithmic(axes: Any) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
