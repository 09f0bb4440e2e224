"""What commands print on stdout: tables for a person, one JSON document for a script."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sslcurr.engine.run import Outcome
    from sslcurr.engine.store import Stage, Store
    from sslcurr.spec.stage import StageSpec


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(document, indent=2, allow_nan=False))


def console() -> Console:
    """The console of results."""
    from rich.console import Console

    # Into a file or a pipe nothing is cut to the width of a terminal that is not there.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def table(*columns: str, right: Sequence[str] = (), title: str | None = None) -> Table:
    """An empty table; the columns in `right` are numbers. Text cells are plain, never markup."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", no_wrap=column in right)
    return made


def percent(value: float | None) -> str:
    """A share as a percentage with one decimal."""
    return "-" if value is None else f"{100 * value:.1f} %"


def print_plan(specs: Sequence[StageSpec], store: Store, as_json: bool) -> None:
    """What a run would do: each stage, whether it is there, and its resolved settings."""
    from sslcurr.cli.progress import short
    from sslcurr.engine.plan import describe
    from sslcurr.spec.stage import key_of, to_dict

    found = {key_of(spec): store.find(key_of(spec)) is not None for spec in specs}
    if as_json:
        stages = [
            {"task": spec.task, "key": key_of(spec), "reused": found[key_of(spec)], "asked": to_dict(spec)}
            for spec in specs
        ]
        print_json({"stages": stages})
        return
    rows = table("stage", "key", "", "resolved to", title=f"plan, store {store.root}")
    for spec in specs:
        settings = ", ".join(f"{name} {short(value)}" for name, value in describe(spec).items())
        rows.add_row(spec.task, key_of(spec), "have" if found[key_of(spec)] else "train", settings)
    console().print(rows)


def print_stages(outcomes: Sequence[Outcome]) -> None:
    """The stages of a run."""
    rows = table("stage", "key", "", "images/s", "seconds", "metrics", right=("images/s", "seconds"))
    for outcome in outcomes:
        record = outcome.stage.record
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in record["metrics"].items())
        rows.add_row(
            outcome.spec.task,
            outcome.stage.key,
            "reused" if outcome.reused else "trained",
            f"{record['images_per_second']:,.0f}",
            f"{record['seconds']:,.1f}",
            metrics,
        )
    console().print(rows)


def print_reports(reports: dict[str, dict[str, Any]], predictions: dict[str, str]) -> None:
    """Test reports beside each other: one column for each name."""
    from rich.text import Text

    first = next(iter(reports.values()))
    rows = table(f"{first['split']}, {first['num_images']} images", *reports, right=list(reports))
    rows.add_row("balanced accuracy", *[percent(r["balanced_accuracy"]) for r in reports.values()], style="bold")
    rows.add_row("95 % interval", *[" to ".join(percent(v) for v in r["interval"]) for r in reports.values()])
    rows.add_row("accuracy", *[percent(r["accuracy"]) for r in reports.values()])
    rows.add_row("AUROC", *["-" if r["auroc"] is None else f"{r['auroc']:.3f}" for r in reports.values()])
    if any("layer" in r for r in reports.values()):
        rows.add_row("layer", *[str(r.get("layer", "-")) for r in reports.values()])
    looks = [r.get("attention") for r in reports.values()]
    if any(looks):
        shown = ["-" if a is None else f"{percent(a['mean'])} ({percent(a['coverage'])})" for a in looks]
        rows.add_row("attention inside masks (they cover)", *shown)
    for name in first["classes"]:
        rows.add_row(Text(f"recall of {name}"), *[percent(r["per_class_recall"][name]) for r in reports.values()])
    out = console()
    out.print(rows)
    for name, path in predictions.items():
        out.print(f"predictions of {name}: {path}", soft_wrap=True, markup=False)


def plotted(kind: str, document: dict[str, Any], folder: Path | None) -> list[str]:
    """Draw what a command found into a folder, if there is one; gives the paths."""
    if folder is None:
        return []
    from sslcurr.analysis.results.kinds import draw

    return [f"{figure.base}.{form}" for figure in draw(kind, document, folder) for form in ("png", "svg")]


def curves(stages: Mapping[str, Stage], folder: Path | None) -> list[str]:
    """Draw the curves of stages, title -> stage, and their searches for a rate, as `plotted` does."""
    if folder is None:
        return []
    from sslcurr.analysis.results.training.figures import draw_stages

    return [f"{figure.base}.{form}" for figure in draw_stages(stages, folder) for form in ("png", "svg")]


def print_files(files: Sequence[str]) -> None:
    """Where files were written, on one line."""
    if files:
        folder = Path(files[0]).parent
        names = dict.fromkeys(Path(path).name for path in files)
        shown = ", ".join(list(names)[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        console().print(f"written to {folder}: {shown}", soft_wrap=True, markup=False)
