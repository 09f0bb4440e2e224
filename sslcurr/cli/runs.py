"""`sslcurr runs`: what the store holds, and how to make room in it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sslcurr.cli.choices import Json, Runs
from sslcurr.cli.options import open_store, writable_folder
from sslcurr.errors import StoreError, did_you_mean

app = typer.Typer(invoke_without_command=True, help="List, show and remove what the store holds.")


def existing(runs: Path) -> Any:
    """The store at `runs`, which must be there.

    Raises:
        StoreError: there is no such folder.
    """
    if not runs.is_dir():
        raise StoreError(f"there is no store at {runs}", "give --runs FOLDER, or train something first")
    return open_store(runs)


@app.callback()
def list_runs(
    ctx: typer.Context,
    runs: Runs = Path("runs"),
    stages: Annotated[bool, typer.Option("--stages", help="List stages instead of runs.")] = False,
    json: Json = False,
) -> None:
    """List the runs (commands) of a store, or its stages."""
    if ctx.invoked_subcommand is not None:
        return
    from sslcurr.cli.output import console, percent, print_json, table

    store = existing(runs)
    if stages:
        found = [describe(stage) for stage in store.all()]
        if json:
            print_json({"stages": found})
            return
        rows = table("stage", "chain", "data", "images", "seed", "seconds", right=("images", "seed", "seconds"))
        for stage in found:
            rows.add_row(
                stage["key"],
                " -> ".join(stage["tasks"]),
                stage["dataset"],
                f"{stage['num_images']:,}",
                str(stage["seed"]),
                f"{stage['seconds']:,.1f}",
            )
        console().print(rows)
        return
    records = store.all_runs()
    if json:
        print_json({"runs": [{"run": name, **record} for name, record in records.items()]})
        return
    rows = table("run", "chain", "data", "seed", "balanced accuracy", "begun", right=("seed", "balanced accuracy"))
    for name, record in records.items():
        state = percent(record["balanced_accuracy"]) if record["finished"] else "unfinished"
        rows.add_row(name, record["title"], record["dataset"], str(record["seed"]), state, record["created"][:16])
    console().print(rows)


def describe(stage: Any) -> dict[str, Any]:
    """What a person wants to know of a stage."""
    spec, record = stage.spec, stage.record
    return {
        "key": stage.key,
        "task": spec.task,
        "tasks": list(spec.tasks),
        "dataset": spec.data.name,
        "seed": spec.seed,
        "checkpoint": str(stage.weights),
        **{name: record[name] for name in ("num_images", "metrics", "seconds", "device", "precision", "versions")},
    }


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="RUN|KEY", help="A run, or the beginning of a stage's key.")],
    runs: Runs = Path("runs"),
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FOLDER", help="Draw there what the run found, or the curves of the stage."),
    ] = None,
    json: Json = False,
) -> None:
    """Show all that is known of a run or a stage."""
    import json as text

    from sslcurr.cli.output import curves, plotted, print_json
    from sslcurr.spec.stage import to_dict

    store = existing(runs)
    records = store.all_runs()
    folder = None if plot is None else writable_folder(plot, "--plot")
    files: list[str] = []
    if name in records:
        found = store.result(name)
        document = {"run": name, **records[name], "found": None if found is None else found[1]}
        if found is not None:
            files = plotted(found[0], found[1], folder)
            if found[0] == "train":
                trained = [stage for key in records[name]["stages"] if (stage := store.find(key)) is not None]
                files += curves({" -> ".join(stage.spec.tasks): stage for stage in trained}, folder)
        elif folder is not None:
            raise StoreError(f"what run {name} found is not known yet", "run its command again, then draw it")
    else:
        stage = store.resolve(name)
        document = {**describe(stage), "asked": to_dict(stage.spec), "happened": stage.record}
        files = curves({" -> ".join(stage.spec.tasks): stage}, folder)
    document["files"] = files
    if json:
        print_json(document)
    else:
        for key, value in document.items():
            if (value or key != "files") and key != "found":
                print(f"{key}: {value if isinstance(value, str) else text.dumps(value)}")


@app.command()
def remove(
    names: Annotated[list[str] | None, typer.Argument(metavar="RUN...", help="Runs to forget.")] = None,
    runs: Runs = Path("runs"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Forget RUNS (none: only tidy), then remove the stages, analyses and packs that no run needs."""
    from sslcurr.cli.output import print_json
    from sslcurr.files import size_of

    store = existing(runs)
    records = store.all_runs()
    for name in names or []:
        if name not in records:
            raise StoreError(f"there is no run {name!r} in {runs}", did_you_mean(name, records) if records else "")
    forgotten = set(names or [])
    found = store.unneeded(without=forgotten)
    sizes = {str(path): size_of(path) for path in found}
    if not json:
        for path, size in sizes.items():
            print(f"{size / 2**20:10.1f} MiB  {path}")
    if not dry_run and (found or forgotten):
        if not yes and not sys.stdin.isatty():
            raise StoreError("removing needs a yes", "add --yes, or --dry-run to look first")
        if not yes and not typer.confirm(f"remove {len(found)} entries and forget {len(forgotten)} runs?"):
            raise typer.Exit(1)
        store.forget(forgotten)
        store.remove(found)
    if json:
        print_json({"forgotten": sorted(forgotten), "removed": sizes, "dry_run": dry_run})
    else:
        verb = "would free" if dry_run else "freed"
        print(f"{verb} {sum(sizes.values()) / 2**20:.1f} MiB")
