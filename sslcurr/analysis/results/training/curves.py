"""Charts of trainings: curves of a stage, and what its search for a learning rate tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.results.style import (
    COLOURS,
    GREY,
    INK,
    LARGE,
    LINE,
    MARK,
    Chart,
    colour_of,
    dash_of,
    labelled,
    line_handle,
    logarithmic,
    mark_handle,
    mark_of,
    plain,
)
from sslcurr.engine.store import Stage
from sslcurr.files import read_json
from sslcurr.integrity import read_rows

# How trials can end without a result -> what that is called, and their mark and colour.
APART = {"pruned": ("stopped early", "X", GREY), "failed": ("failed", "v", COLOURS[1])}
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
    """The curves of a finished stage, from its log, and its search for a learning rate, as far as there are any.

    Args:
        title: the chain up to the stage, and its seed.
        stage: whose files are read.
    """
    title = title.replace(" -> ", " → ")
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
        panels[-1].plot(at, learning_rates, _line(at), color=INK, markersize=MARK, gid="rate")
        highest = max(np.nanmax(learning_rates), 1e-12)
        panels[-1].set(ylabel="learning rate", xlabel="epoch", ylim=(0, 1.08 * highest))
        panels[-1].yaxis.set_major_formatter(plain)
        for axes in panels:
            axes.grid()
        if hasattr(figure, "align_ylabels"):
            figure.align_ylabels()
        return handles if len(handles) > 1 else []

    return Chart(f"curves-{stage.key}", f"Training curves: {title}", 6.0, 0.8 + sum(heights), paint, panels=True)


Columns = Mapping[str, NDArray[Any]]


def _thinned_log(steps: Columns) -> NDArray[Any]:
    """Epochs, losses and rates of a log, few enough to be drawn."""
    return thinned(np.stack([steps["epoch"], steps["loss"], steps["lr"]], axis=1)).T


def _line(values: NDArray[Any]) -> str:
    return "o" if len(values) == 1 else "-"


def _paint_losses(axes: Any, steps: Columns, epochs: Columns) -> list[Any]:
    at, losses, _ = _thinned_log(steps)
    axes.plot(at, losses, _line(at), color=COLOURS[0], label="training loss", gid="loss")
    # A validation is made at the end of an epoch, the first of which is number 0.
    if "val_loss" in epochs:
        _paint_epochs(axes, 1, epochs, epochs["val_loss"], "validation loss", "val_loss")
    axes.set(ylabel="loss")
    return labelled(axes)


def _paint_measures(axes: Any, shown: Columns, epochs: Columns) -> list[Any]:
    accuracies = all("accuracy" in name for name in shown)
    for number, (name, values) in enumerate(shown.items(), start=2):
        label = name.removeprefix("val_").replace("_", " ") + " (validation)"
        _paint_epochs(axes, number, epochs, 100 * values if accuracies else values, label, name)
    axes.set(ylabel="accuracy, %" if accuracies else "measure")
    return labelled(axes)


def _paint_epochs(axes: Any, number: int, epochs: Columns, values: NDArray[Any], label: str, name: str) -> None:
    """A point for each epoch."""
    look: Any = {"color": colour_of(number), "marker": mark_of(number), "linestyle": dash_of(number)}
    axes.plot(epochs["epoch"] + 1, values, markersize=4, label=label, gid=name, **look)


def rates(title: str, stage: Stage) -> Chart | None:
    """Learning rates that were tried against what came of them.

    Trials that were stopped early or failed are rows of their own below: what a trial has when it is stopped says
    nothing beside what others have at their end.
    """
    table = stage.folder / "search" / "search.csv"
    trials = read_rows(table) if table.is_file() else []
    search, recipe = stage.spec.search, stage.spec.training.lr
    if not trials or search is None:
        return None
    record = stage.folder / "search" / "found.json"
    chosen = float(read_json(record)["lr"]) if record.is_file() else None
    ended = {state: [row for row in trials if row["state"] == state] for state in ("finished", *APART)}
    apart = [state for state in APART if ended[state]]
    limits = min(search.low, recipe) / 1.1, max(search.high, recipe) * 1.1

    def paint_one(axes: Any) -> Sequence[Any]:
        handles = _paint_finished(axes, ended["finished"], chosen)
        axes.set(xlabel="learning rate (logarithmic)", xlim=limits)
        logarithmic(axes.xaxis)
        return [*handles, *_paint_levels([axes], chosen, recipe)]

    def paint_both(sheet: Any) -> Sequence[Any]:
        above, below = sheet.subplots(2, 1, sharex=True, height_ratios=[2.4, 0.26 * len(apart)])
        handles = _paint_finished(above, ended["finished"], chosen)
        for row, state in enumerate(apart):
            handles.append(_paint_apart(below, row, state, ended[state]))
        below.set_yticks(range(len(apart)), [APART[state][0] for state in apart])
        below.set(ylim=(len(apart) - 0.4, -0.6), xlabel="learning rate (logarithmic)", xlim=limits)
        logarithmic(below.xaxis)
        below.grid(axis="x")
        return [*handles, *_paint_levels([above, below], chosen, recipe)]

    told = [f"{len(trials)} tried", *(f"{len(ended[state])} {APART[state][0]}" for state in apart)]
    return Chart(
        f"search-{stage.key}",
        f"Learning rates: {title}; {', '.join(told)}",
        6.0,
        3.2 + 0.4 * len(apart),
        paint_both if apart else paint_one,
        panels=bool(apart),
    )


def _paint_finished(axes: Any, trials: Sequence[Mapping[str, str]], chosen: float | None) -> list[Any]:
    """Trials that came to their end, and a ring around that with the chosen rate."""
    measure = trials[0]["measure"].removeprefix("val_").replace("_", " ") if trials else "loss"
    factor = 100 if "accuracy" in measure else 1
    places = [(float(row["lr"]), factor * float(row["value"])) for row in trials]
    handles = [mark_handle("o", COLOURS[0], True, f"finished ({len(places)})", LARGE)]
    for rate, value in places:
        axes.plot(rate, value, "o", color=COLOURS[0], markersize=LARGE, gid="finished")
        if rate == chosen:
            axes.plot(rate, value, "o", color=INK, markersize=11, markerfacecolor="none", gid="ring")
    up = f"{measure} (validation){', %' if factor == 100 else ''}"
    axes.set(ylabel="training loss of the last epoch" if measure == "loss" else up)
    axes.grid()
    return handles


def _paint_apart(axes: Any, row: int, state: str, trials: Sequence[Mapping[str, str]]) -> Any:
    """A row of trials without a result; gives the entry of the legend."""
    name, marker, colour = APART[state]
    rates = [float(trial["lr"]) for trial in trials]
    axes.plot(rates, [row] * len(rates), marker, color=colour, markersize=LARGE, gid=state)
    return mark_handle(marker, colour, True, f"{name} ({len(rates)}), no result", LARGE)


def _paint_levels(panels: Sequence[Any], chosen: float | None, recipe: float) -> list[Any]:
    """Lines at the chosen rate and at that of the recipe."""
    handles = []
    for rate, name, colour, dash in ((chosen, "chosen", INK, "--"), (recipe, "recipe", COLOURS[2], ":")):
        if rate is not None:
            for axes in panels:
                axes.axvline(rate, color=colour, linestyle=dash, linewidth=LINE, gid=name, zorder=1)
            handles.append(line_handle(colour, f"{name}: {plain(float(f'{rate:.3g}'))}", dash))
    return handles
