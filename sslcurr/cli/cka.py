"""`sslcurr cka A B [C...]`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from sslcurr.cli.choices import CHECKPOINT, Split
from sslcurr.cli.options import Looking, shared_options
from sslcurr.errors import SpecError

# More pairs than these have a row each, with so many layers in a table.
MOST_PAIRS, MOST_LAYERS = 3, 8


class Estimator(StrEnum):
    """Of HSIC."""

    unbiased = "unbiased"
    biased = "biased"


class Kernel(StrEnum):
    """Of the Gram matrices."""

    linear = "linear"
    rbf = "rbf"


class Pool(StrEnum):
    """What is compared of a map."""

    none = "none"
    avg = "avg"


@shared_options
def cka(
    checkpoints: Annotated[list[str], typer.Argument(metavar="CHECKPOINT CHECKPOINT...", help=CHECKPOINT)],
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME|FOLDER|TABLE", help="The images they are shown.", rich_help_panel="Data")
    ] = None,
    split: Annotated[Split, typer.Option(help="Whose images are shown.", rich_help_panel="Data")] = Split.test,
    num_images: Annotated[
        int | None,
        typer.Option("--num-images", metavar="N", help="So many at random. Default: all.", rich_help_panel="Data"),
    ] = None,
    layers: Annotated[
        str,
        typer.Option(metavar="stages|blocks|all|GLOB", help="Which layers are compared, such as layer4.*"),
    ] = "stages",
    estimator: Annotated[
        Estimator, typer.Option(help="unbiased may be below 0; biased is near 1 for few images, related or not.")
    ] = Estimator.unbiased,
    kernel: Annotated[Kernel, typer.Option(help="rbf takes the median distance as its bandwidth.")] = Kernel.linear,
    pool: Annotated[Pool, typer.Option(help="none: whole maps. avg: their mean over places.")] = Pool.none,
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size",
            metavar="N",
            help="Images compared at once; as many as there are gives the exact value and no interval. "
            "Default: an eighth of them, from 32 to 256.",
        ),
    ] = 0,
    *,
    shared: Looking,
) -> None:
    """How alike are models, layer by layer? Centred kernel alignment (CKA): 1 alike, 0 unrelated.

    Rotations and scales of features do not count. Images pass each model once. Models may be of different networks;
    each sees the images as it was trained to.
    """
    from sslcurr.analysis.evaluation.similarity import CkaSettings, compare, document_of
    from sslcurr.analysis.results.formats import write_csv
    from sslcurr.analysis.results.similarity.tables import csv_tables
    from sslcurr.cli.looking import largest, looked, note_sizes, opened_data
    from sslcurr.cli.output import plotted, print_json
    from sslcurr.cli.progress import reporting
    from sslcurr.engine.models import models_from

    if len(checkpoints) < 2:
        raise SpecError("there is one checkpoint, and CKA compares two at least", "give another, such as random")
    settings = CkaSettings(
        layers=layers,
        split=split.value,
        num_images=num_images,
        estimator=estimator.value,
        kernel=kernel.value,
        pool=pool.value,
        batch_size=batch_size,
        seed=shared.seed,
    )
    store, folder = shared.store(), shared.plots()
    with reporting() as report:
        models = models_from(checkpoints, store, backbone=shared.backbone, stem=shared.stem, seed=shared.seed)
        note_sizes(shared, models, report)
        data = opened_data(shared, dataset, store, report, largest(models))
        with report.counting("comparing") as progress:
            similarity = compare(
                models, data, settings, store, shared.device, image_size=shared.image_size, progress=progress
            )
        for remark in similarity.remarks():
            report.note(remark)
        document = document_of(similarity, settings, data)
        plain = document.to_json()
        looked(store, "cka", plain, models, [data], [similarity.folder])
        files = [] if folder is None else [str(write_csv(table, folder)) for table in csv_tables(document)]
        files += plotted("cka", plain, folder)
    if shared.json:
        print_json({**plain, "files": files})
    else:
        print_similarity(plain, files)


def print_similarity(document: dict[str, Any], files: list[str]) -> None:
    """Layer against the same layer, and for two models layer against layer."""
    from sslcurr.cli.output import console, print_files, table

    out = console()
    about = (
        f"CKA ({document['estimator']}, {document['kernel']}) on {document['num_images']} images of "
        f"{document['dataset']} ({document['split']}), {document['num_batches']} "
        f"batch{'' if document['num_batches'] == 1 else 'es'}"
    )
    out.print(about, markup=False)
    pairs = [pair for pair in document["pairs"] if pair["layers"]]
    names = list(dict.fromkeys(row["layer"] for pair in pairs for row in pair["layers"]))
    if 0 < len(pairs) <= MOST_PAIRS:
        heads = [f"{pair['a']}\n{pair['b']}" for pair in pairs]
        rows = table("layer", *heads, right=heads)
        for name in names:
            found = [next((row for row in pair["layers"] if row["layer"] == name), None) for pair in pairs]
            rows.add_row(name, *("" if row is None else shown(row) for row in found))
        out.print(rows)
    elif pairs:  # a row for each, so many layers at a time
        for start in range(0, len(names), MOST_LAYERS):
            some = names[start : start + MOST_LAYERS]
            rows = table("models", *some, right=some)
            for pair in pairs:
                by = {row["layer"]: row["cka"] for row in pair["layers"]}
                values = [by.get(name) for name in some]
                cells = ["-" if value is None else f"{value:.3f}" for value in values]
                rows.add_row(f"{pair['a']} | {pair['b']}", *cells)
            out.print(rows)
        if document["num_batches"] > 3:
            out.print("95 % intervals over batches: --json, or cka.csv of --plot")
    layers = {model["title"]: model["layers"] for model in document["models"]}
    for pair in document["pairs"]:
        if len(document["pairs"]) > 1 and pair["layers"]:
            continue  # of many models of one network the same layers are what is asked; the rest: --json, --plot
        print_matrix(pair, layers[pair["a"]], layers[pair["b"]])
    print_files(files)


def shown(row: dict[str, Any]) -> str:
    """A value with its interval."""
    if row["cka"] is None:
        return "-"
    interval = row["interval"]
    return f"{row['cka']:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def print_matrix(pair: dict[str, Any], rows: list[str], columns: list[str]) -> None:
    """All layers of one model against all of another, or for each layer its most alike where these are too many."""
    from sslcurr.cli.output import console, table

    most = 14
    title = f"rows: {pair['a']}, columns: {pair['b']}"
    if len(columns) <= most:
        made = table("layer", *columns, right=columns, title=title)
        for name, values in zip(rows, pair["matrix"], strict=True):
            made.add_row(name, *("-" if value is None else f"{value:.3f}" for value in values))
    else:
        made = table(f"layer of {pair['a']}", f"most alike of {pair['b']}", "CKA", right=["CKA"])
        for name, values in zip(rows, pair["matrix"], strict=True):
            best = (
                max((v, j) for j, v in enumerate(values) if v is not None)
                if any(v is not None for v in values)
                else None
            )
            made.add_row(name, *(("-", "-") if best is None else (columns[best[1]], f"{best[0]:.3f}")))
    console().print(made)
