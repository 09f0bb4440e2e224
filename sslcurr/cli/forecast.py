"""What `rank` and `grid` print: rankings, tables of orderings, tests, forecasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sslcurr.analysis.results import estimate
from sslcurr.cli.output import console, percent, print_json, table
from sslcurr.cli.progress import error_console
from sslcurr.wording import arrow

if TYPE_CHECKING:
    from rich.console import Console

    from sslcurr.analysis.experiments.chains import Chains
    from sslcurr.analysis.experiments.ranking import Results
    from sslcurr.analysis.results.estimate import Failure
    from sslcurr.analysis.results.forecast.document import ForecastDocument
    from sslcurr.analysis.results.grid.document import GridDocument
    from sslcurr.analysis.results.ranking.document import Ordering, RankDocument
    from sslcurr.analysis.results.search.document import SearchDocument
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
    return estimate.between(*(interval or (None, None)))


def points(entry: Mapping[str, Any] | None) -> str:
    """A difference in points with its interval."""
    return "-" if entry is None else estimate.points(entry["mean"], *(entry["interval"] or (None, None)))


def print_ranking(ranking: RankDocument) -> None:
    """The ranking, the table of orderings, the test of the hypothesis, and the command for the curriculum."""
    from sslcurr.wording import counted

    document = ranking.to_json()
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
        _print_orderings(ranking, out)
    _print_failures(ranking.failed, out)
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


def _print_orderings(ranking: RankDocument, out: Console) -> None:
    from sslcurr.analysis.results.ranking.tables import choices, tests

    document = ranking.to_json()
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
    for line in [*choices(ranking), *tests(ranking)]:
        out.print(line, markup=False)


def _print_failures(failed: Sequence[Failure], out: Console) -> None:
    from sslcurr.analysis.results.columns import failures

    for line in failures(failed):
        out.print(line, style="red", markup=False)


def print_partial(results: Results) -> None:
    """The chains measured so far, on stderr."""
    from sslcurr.analysis.experiments.ranking import summary

    rows = table("pretraining", "seeds", "balanced accuracy", right=("seeds", "balanced accuracy"), title="so far")
    groups = [*results.baselines.items(), *((arrow(name), runs) for name, runs in results.chains.items())]
    for name, runs in groups:
        row = summary(runs, None).to_json()
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
    from sslcurr.analysis.experiments.forecast import forecast_ranking

    document, tree = forecast_ranking(chains, orderings, seeds, shared.runtime(), reference=reference, guessed=guessed)
    if not shared.json:
        for line in tree:
            console().print(line, soft_wrap=True, markup=False)
    print_cost(document, shared.json)


def print_cost(document: ForecastDocument, as_json: bool) -> None:
    """What chains cost: stages with and without sharing, what is there, speeds, time, room."""
    if as_json:
        print_json(document.to_json())
        return
    for line in document.closing_lines():
        console().print(line, markup=False)


def print_search(search: SearchDocument) -> None:
    """What the automatic curriculum scored, what it chose, at what cost, and what it missed."""
    document = search.to_json()
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
    _print_failures(search.failed, out)
    if document["ordering"]:
        out.print(f"found: {arrow(document['ordering'])}", style="bold", markup=False)
        out.print(document["command"], soft_wrap=True, markup=False)


def print_grid(grid: GridDocument) -> None:
    """Table 1: labels down, images of pretraining across."""
    from sslcurr.wording import counted

    document = grid.to_json()
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
    _print_failures(grid.failed, out)
