"""`sslcurr probe CHECKPOINT...`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from sslcurr.cli.choices import CHECKPOINT
from sslcurr.cli.options import Looking, shared_options


class Projection(StrEnum):
    """How features are laid on a plane."""

    pca = "pca"
    tsne = "tsne"
    umap = "umap"


@shared_options
def probe(
    checkpoints: Annotated[list[str], typer.Argument(metavar="CHECKPOINT...", help=CHECKPOINT)],
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME|FOLDER|TABLE", help="The labelled images.", rich_help_panel="Data"),
    ] = None,
    label_fraction: Annotated[
        float,
        typer.Option("--label-fraction", help="Share of the training images that is used.", rich_help_panel="Data"),
    ] = 1.0,
    layers: Annotated[str, typer.Option(metavar="GLOB", help="Which layers, such as pooled or layer*.")] = "*",
    projection: Annotated[
        Projection | None,
        typer.Option(help="Also lay the features of the test images on a plane. Default: pca with --plot, else none."),
    ] = None,
    *,
    shared: Looking,
) -> None:
    """What are frozen features worth, layer by layer? kNN and linear probes, RankMe, LogME and H-score.

    Nothing of the network is trained. Probes learn from the training images and choose their settings on the validation
    images. LogME and H-score need labels but no training, RankMe not even labels. Higher is better for all of them.
    """
    from sslcurr.analysis.evaluation.embedding import embedding_of
    from sslcurr.analysis.evaluation.scores import document_of, remarks_of, score
    from sslcurr.cli.looking import looked, note_sizes, opened_data
    from sslcurr.cli.output import plotted, print_files, print_json
    from sslcurr.cli.progress import reporting
    from sslcurr.engine.models import models_from
    from sslcurr.spec.stage import in_range

    in_range("--label-fraction", label_fraction, 0, 1, above=True)
    store, folder_of_plots = shared.store(), shared.plots()
    plane = projection.value if projection is not None else "pca" if folder_of_plots is not None else None
    with reporting() as report:
        models = models_from(checkpoints, store, backbone=shared.backbone, stem=shared.stem, seed=shared.seed)
        note_sizes(shared, models, report)
        rows, folders, packs, planes = [], [], [], []
        for model in models:
            data = opened_data(shared, dataset, store, report, model.image_size)
            scores, folder = score(
                model, data, label_fraction, layers, store, shared.device, image_size=shared.image_size
            )
            rows.append(scores)
            folders.append(folder)
            packs.append(data)
            if plane is not None:
                with report.counting(f"features of {model.title}") as progress:
                    embedding, needed = embedding_of(
                        model, data, plane, store, device=shared.device, seed=shared.seed, progress=progress
                    )
                planes.append(embedding)
                folders += needed
        for remark in remarks_of(packs[0]):
            report.note(remark)
        document = document_of(
            rows, planes, dataset=packs[0].pack.name, label_fraction=label_fraction, seed=shared.seed
        ).to_json()
        looked(store, "probe", document, models, packs, folders)
        files = plotted("probe", document, folder_of_plots)
    if shared.json:
        print_json({**document, "files": files})
    else:
        print_scores(document)
        print_files(files)


def print_scores(document: dict[str, Any]) -> None:
    """A row for each model and layer; the best of each column is marked."""
    from sslcurr.cli.output import console, percent, table

    split = document["models"][0]["split"]
    columns = {
        "kNN val": lambda row: (row["knn"] or {}).get("validation"),
        f"kNN {split}": lambda row: (row["knn"] or {}).get("balanced_accuracy"),
        "linear val": lambda row: (row["linear"] or {}).get("validation"),
        f"linear {split}": lambda row: (row["linear"] or {}).get("balanced_accuracy"),
        "RankMe": lambda row: row["rankme"],
        "LogME": lambda row: row["logme"],
        "H-score": lambda row: row["h_score"],
    }
    shares = list(columns)[:4]
    if all(
        row["knn"] is None and row["logme"] is None for model in document["models"] for row in model["layers"].values()
    ):
        columns = {"RankMe": columns["RankMe"]}  # there are no labels
    rows = table("model", "layer", "features", *columns, right=["features", *columns])
    every = [row for model in document["models"] for row in model["layers"].values()]
    best = {
        name: max((value for value in map(get, every) if value is not None), default=None)
        for name, get in columns.items()
    }
    for model in document["models"]:
        for place, (layer, row) in enumerate(model["layers"].items()):
            cells = []
            for name, get in columns.items():
                value = get(row)
                text = "-" if value is None else percent(value) if name in shares else f"{value:.3f}"
                cells.append(f"[bold]{text}[/bold]" if value is not None and value == best[name] else text)
            rows.add_row(model["model"] if place == 0 else "", layer, str(row["num_features"]), *cells)
        rows.add_section()
    out = console()
    out.print(
        f"Frozen features on {document['dataset']}; balanced accuracy of the probes, the best of each column in bold",
        markup=False,
    )
    out.print(rows)
