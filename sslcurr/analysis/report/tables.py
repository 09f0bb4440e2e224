"""The tables of the page that no single command prints: runs, settings, data sets, devices."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from sslcurr.analysis.results.estimate import share
from sslcurr.analysis.results.kinds import tables
from sslcurr.analysis.results.table import Column, Table, general
from sslcurr.analysis.results.training.tables import stage_table
from sslcurr.errors import StoreError
from sslcurr.wording import counted


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
