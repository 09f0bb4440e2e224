"""`sslcurr fid [REFERENCE] [DATASET]...`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from sslcurr.cli.choices import CHECKPOINT, Split
from sslcurr.cli.options import Looking, shared_options
from sslcurr.errors import SpecError

if TYPE_CHECKING:
    from sslcurr.engine.dataset import Data


class ManyValues(TyperCommand):
    """A command whose options `--datasets` and `--models` take all values up to the next option."""

    many = ("--datasets", "--models")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """`--models A B` becomes `--models A --models B`."""
        spread: list[str] = []
        option: str | None = None
        taken = False
        for argument in [*args, "--"]:
            if argument.startswith("-") and argument != "-":
                if option is not None and not taken:
                    ctx.fail(f"{option} needs a value, or several")
                option = argument if argument in self.many else None
                taken = False
            elif option is not None:
                spread += [option] if taken else []
                taken = True
            spread.append(argument)
        return super().parse_args(ctx, spread[:-1])


@shared_options
def fid(
    folders: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[REFERENCE] [DATASET]...",
            help="Two data sets or more, the reference first: names, folders, tables.",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="What distances are measured from.", rich_help_panel="Data"),
    ] = None,
    datasets: Annotated[
        list[str] | None,
        typer.Option("--datasets", metavar="DATASET...", help="What is compared with it.", rich_help_panel="Data"),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--models", metavar="CHECKPOINT...", help=f"In whose features. {CHECKPOINT} Default: inception."),
    ] = None,
    layer: Annotated[
        str, typer.Option(metavar="NAME", help="The layer, such as layer3; average-pooled. (Inception: 64, 192, 768.)")
    ] = "pooled",
    split: Annotated[Split, typer.Option(help="Whose images are taken.", rich_help_panel="Data")] = Split.all,
    num_images: Annotated[
        int | None,
        typer.Option(
            "--num-images",
            metavar="N",
            help="Images of each side of each pair. Default: as many as all have (of the reference half), up to 5,000.",
            rich_help_panel="Data",
        ),
    ] = None,
    halves: Annotated[int, typer.Option("--halves", min=1, metavar="N", help="Random draws, for the spread.")] = 5,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Also estimate the distance for endlessly many images.")
    ] = False,
    accuracy: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Accuracies of the models: columns model, accuracy and, if they differ, dataset. "
            "Default: what the store holds of them, fine-tuned.",
        ),
    ] = None,
    inception_weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", envvar="SSLCURR_INCEPTION", help="torch-fidelity's weights of the Inception network."
        ),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the Inception weights if they are absent.")
    ] = False,
    *,
    shared: Looking,
) -> None:
    """How far are data sets from a reference in the features of models? Fréchet (FID) and kernel (KID) distances.

    FID is 0 for endlessly many images of equal data sets, and above it for few: so all pairs have equal numbers of
    images, and the distance is also divided by that of random halves of the reference. Features are kept in the store.
    """
    from sslcurr.analysis.evaluation import distances
    from sslcurr.analysis.evaluation.features import INCEPTION, FeatureExtractor, InceptionExtractor, extractors_of
    from sslcurr.analysis.evaluation.inception import IMAGE_SIZE
    from sslcurr.analysis.results.distances.tables import csv_tables
    from sslcurr.analysis.results.formats import write_csv
    from sslcurr.cli.looking import looked, note_sizes, opened_data
    from sslcurr.cli.output import plotted, print_json
    from sslcurr.cli.progress import reporting
    from sslcurr.engine.models import models_from

    first, others = named_data(folders or [], reference, datasets or [], bool(models))
    settings = distances.FidSettings(
        split=split.value, num_images=num_images, halves=halves, extrapolate=extrapolate, seed=shared.seed
    )
    store, folder = shared.store(), shared.plots()
    texts = models or [INCEPTION]
    with reporting() as report:
        backbones = models_from(
            [text for text in texts if text != INCEPTION],
            store,
            backbone=shared.backbone,
            stem=shared.stem,
            seed=shared.seed,
        )
        note_sizes(shared, backbones, report)
        extractors = extractors_of(texts, backbones, layer, inception_weights, download=download)
        accuracies = (
            None if accuracy is None else distances.read_accuracies(accuracy, [each.title for each in extractors])
        )
        packs: dict[tuple[str, int | None, bool], Data] = {}

        def data_of(name: str, size: int | None, exact: bool = False) -> Data:
            key = (name, size, exact)
            if key not in packs:
                packs[key] = opened_data(shared, name, store, report, size, exact=exact)
            return packs[key]

        def size_of(extractor: FeatureExtractor) -> tuple[int, bool]:
            """The size of what a model is shown, and whether packs have just that size."""
            if isinstance(extractor, InceptionExtractor):
                return IMAGE_SIZE, True
            # A model of which nobody knows what it was trained on sees all data sets at the size of the reference.
            return shared.image_size or extractor.image_size or data_of(first, None).image_size, False

        names = [first, *others]
        opened = [data_of(name, *size_of(extractors[0])) for name in names]
        num = distances.common_number(opened[0], opened[1:], settings)
        title, *titles = distances.titles_of(names, opened)
        rows, used = [], []
        for extractor in extractors:
            base, *compared = [data_of(name, *size_of(extractor)) for name in names]
            with report.counting(f"features of {extractor.title}") as progress:
                row, analyses = distances.measure(
                    extractor, base, compared, num, settings, store, shared.device, progress, titles=titles
                )
            rows.append(row)
            used += analyses
            for remark in distances.remarks_of(row, num, extrapolate=extrapolate):
                report.note(remark)
        if accuracies is None:
            stages = {model.title: model.stage for model in backbones if model.stage is not None}
            accuracies = distances.accuracies_in(store, stages)
        document = distances.document_of(title, rows, accuracies, num, settings)
        plain = document.to_json()
        looked(store, "fid", plain, backbones, list(packs.values()), used, of=f"{title}: {', '.join(titles)}")
        files = [] if folder is None else [str(write_csv(table, folder)) for table in csv_tables(document)]
        files += plotted("fid", plain, folder)
    if shared.json:
        print_json({**plain, "files": files})
    else:
        print_distances(plain, files)


def named_data(
    folders: Sequence[str], reference: str | None, datasets: Sequence[str], with_models: bool
) -> tuple[str, list[str]]:
    """The reference and what is compared with it.

    Raises:
        SpecError: one of them is not named.
    """
    names = list(folders)
    first = reference if reference is not None else (names.pop(0) if names else None)
    others = list(dict.fromkeys([*datasets, *names]))
    if first is None:
        hint = "put the data sets before --models, which takes all that follows, or " if with_models else ""
        raise SpecError("no reference is named", f"{hint}give --reference NAME --datasets NAME...")
    if not others:
        raise SpecError(f"nothing is named to compare with {first}", "give another data set, or --datasets NAME...")
    return first, others


def print_distances(document: dict[str, Any], files: Sequence[str]) -> None:
    """A row for each data set and model."""
    from sslcurr.cli.output import console, print_files, table

    out = console()
    sizes = " or ".join(dict.fromkeys(str(model["image_size"]) for model in document["models"]))
    out.print(
        f"Distances to {document['reference']}, {document['num_images']:,} images of each side, at {sizes} pixels; "
        f"mean and standard deviation over {document['draws']} draws of images",
        markup=False,
        soft_wrap=True,
    )
    numbers = ["FID", "FID / halves", "KID x 1000"]
    extrapolated = any("extrapolated" in row for model in document["models"] for row in model["datasets"])
    numbers += ["FID, endless"] if extrapolated else []
    rows = table("model", "data set", *numbers, right=numbers)
    for model in document["models"]:
        entries = [{"dataset": f"halves of {document['reference']}", **model["halves"]}, *model["datasets"]]
        for place, entry in enumerate(entries):
            cells = [
                shown(entry["fid"], 3),
                shown(entry.get("normalised"), 2) if place else "1",
                shown(entry["kid"], 2, 1e3),
            ]
            if extrapolated:
                cells.append(shown(entry["extrapolated"], 3))
            rows.add_row(model["model"] if place == 0 else "", entry["dataset"], *cells)
        rows.add_section()
    out.print(rows)
    for found in document["correlations"]:
        where = f" on {found['accuracy_on']}" if found["accuracy_on"] else ""
        out.print(
            f"{found['dataset']}: distance against accuracy{where}, {found['num_models']} models: "
            f"Spearman {found['spearman']:+.2f} (p = {found['spearman_p']:.2f}), "
            f"Kendall {found['kendall']:+.2f} (p = {found['kendall_p']:.2f})",
            markup=False,
            soft_wrap=True,
        )
    print_files(files)


def shown(figure: dict[str, Any] | None, digits: int, factor: float = 1.0) -> str:
    """A mean with its standard deviation."""
    if figure is None:
        return "-"
    spread = "" if figure["sd"] is None else f" ± {factor * figure['sd']:.{digits}f}"
    return f"{factor * figure['mean']:.{digits}f}{spread}"
