"""What `rank` and `grid` print: rankings, tables of orderings, tests, forecasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sslcurr.analysis.results import table as cells
from sslcurr.cli.output import console, percent, print_json, table
from sslcurr.cli.progress import error_console
from sslcurr.wording import arrow

if TYPE_CHECKING:
    from rich.console import Console

    from sslcurr.analysis.experiments.chains import Chains
    from sslcurr.analysis.experiments.forecast import Forecast
    from sslcurr.analysis.experiments.ranking import Results
    from sslcurr.analysis.results.ranking.document import Ordering
    from sslcurr.cli.options import Shared
    from sslcurr.engine.plan import Parent


def spread(row: Mapping[str, Any], num_seeds: int = 0) -> str:
    """A mean with its spread over seeds, and over how many where that is not all `num_seeds`."""
    if row["mean"] is None:
        return "failed"
    shown = percent(row["mean"]) if row["std"] is None else f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f} %"
    return shown if len(row.get("runs", ())) >= num_seeds else f"{shown} ({len(row['runs'])} of {num_seeds} seeds)"


def between(interval: Sequence[float] | None) -> str:
    """An interval of accuracies."""
    return cells.between(*(interval or (None, None)))


def points(entry: Mapping[str, Any] | None) -> str:
    """A difference in points with its interval."""
    return "-" if entry is None else cells.points(entry["mean"], *(entry["interval"] or (None, None)))


def print_ranking(document: Mapping[str, Any]) -> None:
    """The ranking, the table of orderings, the test of the hypothesis, and the command for the curriculum."""
    from sslcurr.wording import counted

    out = console()
    seeds = document["seeds"]
    images = f"{document['num_images']} {document['split']} images"
    header = f"{document['dataset']}, {images}, {counted(len(seeds), 'seed')}, {document['measure']}"
    gains = {name: "gain_over_imagenet" if name == "ImageNet" else "gain" for name in document["baselines"]}
    columns = ["task", "balanced accuracy", "95 % interval", *(f"gain over {name}" for name in gains), "validation"]
    columns += ["AIL"] if "attention" in document else []
    rows = table(*columns, right=columns[1:], title=header)
    for name, row in document["baselines"].items():
        cells = [spread(row, len(seeds)), between(row["interval"]), *[""] * len(gains), percent(row["validation"])]
        rows.add_row(name, *cells, *attention_cells(row, document), style="dim")
    for row in document["tasks"]:
        over = [points(row.get(gain)) for gain in gains.values()]
        cells = [spread(row, len(seeds)), between(row["interval"]), *over, percent(row["validation"])]
        rows.add_row(row["task"], *cells, *attention_cells(row, document))
    out.print(rows)
    if "attention" in document:
        facts = document["attention"]
        out.print(
            f"AIL: attention inside the masks of {facts['num_images']} images ({facts['method']}, {facts['layer']}, "
            f"{facts['target']} class), which cover {percent(facts['coverage'])} of what the network sees",
            markup=False,
        )
    if document.get("orderings"):
        _print_orderings(document, out)
    _print_failures(document, out)
    if document["curriculum"]:
        out.print(f"curriculum: {arrow(document['curriculum'])}", style="bold", markup=False)
        for group in document["ties"]:
            out.print(f"  neighbours that cannot be told apart: {arrow(group)}", markup=False)
        out.print(document["command"], soft_wrap=True, markup=False)


def attention_cells(row: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    """How much of a chain's attention lies inside the masks, where the document says so of any."""
    if "attention" not in document:
        return []
    return [spread(row["attention"])] if row.get("attention", {}).get("mean") is not None else ["-"]


def _print_orderings(document: Mapping[str, Any], out: Console) -> None:
    from sslcurr.analysis.results.ranking.tables import choices, tests

    looks = ["AIL"] if "attention" in document else []
    columns = ("curr.", "pretraining", "kind", "balanced accuracy", "95 % interval", "validation", *looks, "")
    rows = table(*columns, right=("balanced accuracy", "95 % interval", "validation", *looks))
    length = 0
    for row in document["orderings"]:
        if length and len(row["ordering"]) != length:
            rows.add_section()
        length = len(row["ordering"])
        kind = (row["kind"] or "-") + (", full" if row["full"] else "") + (" ?" if row["uncertain"] else "")
        mark = "yes" if row["kind"] == "curriculum" else ""
        cells = [spread(row, len(document["seeds"])), between(row["interval"]), percent(row["validation"])]
        cells += attention_cells(row, document)
        rows.add_row(mark, arrow(row["ordering"]), kind, *cells, "best" if row["best"] else "")
    out.print(rows)
    if any(row["uncertain"] for row in document["orderings"]):
        out.print("?: two of its tasks cannot be told apart, so that its kind may be chance")
    for line in [*choices(document), *tests(document)]:
        out.print(line, markup=False)


def _print_failures(document: Mapping[str, Any], out: Console) -> None:
    from sslcurr.analysis.results.columns import failures

    for line in failures(document):
        out.print(line, style="red", markup=False)


def print_partial(results: Results) -> None:
    """The chains measured so far, on stderr."""
    from sslcurr.analysis.experiments.ranking import summary

    rows = table("pretraining", "seeds", "balanced accuracy", right=("seeds", "balanced accuracy"), title="so far")
    groups = [*results.baselines.items(), *((arrow(name), runs) for name, runs in results.chains.items())]
    for name, runs in groups:
        row = summary(runs, None)
        rows.add_row(name, f"{len(row['runs'])} of {len(results.seeds)}", spread(row))
    if groups:
        error_console().print(rows)


def print_forecast(
    chains: Chains,
    orderings: Sequence[Ordering],
    seeds: Sequence[int],
    reference: Parent | None,
    shared: Shared,
    *,
    guessed: bool,
) -> None:
    """The tree of stages, what is there, the cost with and without sharing, and how long it will take."""
    from rich.tree import Tree

    from sslcurr.analysis.experiments.forecast import forecast
    from sslcurr.spec.stage import key_of

    names: list[Ordering] = [(), *orderings]
    specs = {(name, seed): chains.specs(name, seed) for seed in seeds for name in names}
    extra = [chains.specs((), seed, reference) for seed in seeds] if reference is not None else []
    found = forecast(chains, [*specs.values(), *extra], shared.runtime())
    num_seeds = len(seeds)
    num_chains = len(specs) + len(extra)
    if shared.json:
        print_cost(found, num_chains, True, guessed=guessed)
        return
    out = console()
    state: dict[Ordering, set[str]] = {}
    ended: dict[Ordering, int] = {}
    for (name, _), chain in specs.items():
        if chains.measure == "finetune":
            ended[name] = ended.get(name, 0) + (key_of(chain[-1]) in found.there)
        for end, spec in enumerate(chain[: len(name)], start=1):
            state.setdefault(name[:end], set()).update({key_of(spec)} & found.there)
    begin = "scratch" if chains.planner.parent.key is None else "start"
    tree = Tree(_label(begin, None, ended.get(()), num_seeds))
    branches: dict[Ordering, Tree] = {(): tree}
    for prefix in sorted(state, key=len):
        label = _label(prefix[-1], len(state[prefix]), ended.get(prefix), num_seeds)
        branches[prefix] = branches[prefix[:-1]].add(label)
    out.print(tree)
    if guessed:
        out.print("the curriculum is known when each task was trained alone; the tree takes the order given")
    print_cost(found, num_chains, False)


def print_cost(found: Forecast, num_chains: int, as_json: bool, **more: Any) -> None:
    """What chains cost: stages with and without sharing, what is there, speeds, time, room."""
    from sslcurr.spec.stage import key_of

    if as_json:
        stages = [
            {
                "task": s.task,
                "tasks": list(s.tasks),
                "seed": s.seed,
                "key": key_of(s),
                "reused": key_of(s) in found.there,
            }
            for s in found.stages
        ]
        document = {
            "chains": num_chains,
            "pretraining_stages": {"alone": found.num_alone, "shared": found.num_shared},
            "stages": stages,
            "there": len(found.there),
            "images_per_second": found.speeds,
            "measured_now": found.measured,
            "hours": found.hours,
            "gigabytes": found.gigabytes,
        }
        print_json({**document, **more})
        return
    from sslcurr.wording import counted

    out = console()
    out.print(
        f"{counted(num_chains, 'chain')}; pretraining stages: {found.num_alone} one by one, {found.num_shared} with "
        f"shared prefixes; {counted(len(found.stages), 'stage')} in all, {len(found.there)} there already"
    )
    if found.speeds:
        now = {task: " (measured now)" if task in found.measured else "" for task in found.speeds}
        out.print("images/s: " + ", ".join(f"{task} {speed:,.0f}{now[task]}" for task, speed in found.speeds.items()))
        out.print(f"to be trained: about {_duration(found.hours)}, {found.gigabytes:.1f} GB of weights")


def _label(task: str, there: int | None, ended: int | None, num_seeds: int) -> str:
    parts = [] if there is None else [f"{there} of {num_seeds} there"]
    if ended is not None:
        parts.append(f"classification {ended} of {num_seeds}")
    return f"{task}  ({', '.join(parts)})" if parts else task


def _duration(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"


def print_search(document: Mapping[str, Any]) -> None:
    """What the automatic curriculum looked at, what it found, at what cost, and what it missed."""
    out = console()
    rows = table("tasks", "epochs", "seeds", "candidate", "score", "", right=("tasks", "epochs", "seeds", "score"))
    for rung in document["rungs"]:
        for candidate in rung["candidates"]:
            rows.add_row(
                str(rung["length"]),
                str(candidate["epochs"]),
                str(rung["seeds"]),
                arrow(candidate["ordering"]),
                percent(candidate["score"]),
                "kept" if candidate["kept"] else "",
            )
        for ordering in rung["not_afforded"]:
            rows.add_row(str(rung["length"]), "", "", arrow(ordering), "", "left out: budget", style="dim")
        rows.add_section()
    out.print(rows)
    finalists = table("finalist", "validation", "balanced accuracy", right=("validation", "balanced accuracy"))
    for row in document["finalists"]:
        finalists.add_row(arrow(row["ordering"]), percent(row["validation"]), spread(row))
    out.print(finalists)
    cost = document["cost"]
    out.print(
        f"{cost['image_passes']:,.0f} image passes, {cost['share']:.1%} of the {cost['exhaustive_image_passes']:,.0f} "
        "of all orderings"
    )
    missed = document["missed"]
    if missed is None:
        out.print("what it missed is not known: the store does not hold all orderings (sslcurr rank --length N)")
    else:
        entry = {"mean": missed["gap"], "interval": missed["gap_interval"]}
        out.print(
            f"number {missed['rank']} of {missed['num_orderings']} orderings; the best, {arrow(missed['best'])}, has "
            f"{percent(missed['best_mean'])}: {points(entry)} points; the median ordering {percent(missed['median'])}",
            markup=False,
        )
    _print_failures(document, out)
    if document["ordering"]:
        out.print(f"found: {arrow(document['ordering'])}", style="bold", markup=False)
        out.print(document["command"], soft_wrap=True, markup=False)


def print_grid(document: Mapping[str, Any]) -> None:
    """Table 1: labels down, images of pretraining across."""
    from sslcurr.wording import counted

    out = console()
    columns = [*(["scratch"] if document["baseline"] else []), *(f"{share:.4g}" for share in document["ssl_fractions"])]
    seeds = counted(len(document["seeds"]), "seed")
    title = (
        f"{arrow(document['tasks'])} -> classification on {document['dataset']}, {seeds}: "
        "balanced accuracy by share of labels (down) and of images of pretraining (across)"
    )
    out.print(title, markup=False)
    rows = table("labels", *columns, right=columns)
    cells = {(cell["label_fraction"], cell["ssl_fraction"]): cell for cell in document["cells"]}
    for label in document["label_fractions"]:
        shown = [cells.get((label, share)) for share in ([None] if document["baseline"] else [])]
        shown += [cells.get((label, share)) for share in document["ssl_fractions"]]
        rows.add_row(f"{label:.4g}", *["" if cell is None else spread(cell) for cell in shown])
    out.print(rows)
    for name, what in (("labels", "half the labels"), ("images", "half the images of pretraining")):
        entry = document["halving"][name]
        if entry is not None:
            out.print(f"{what}: {points(entry)} points")
    _print_failures(document, out)
