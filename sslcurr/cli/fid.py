"""`sslcurr fid [REFERENCE] [DATASET]...`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from sslcurr.cli.choices import CHECKPOINT, Split
from sslcurr.cli.options import Looking, shared_options
from sslcurr.errors import DataError, SpecError, did_you_mean

if TYPE_CHECKING:
    from sslcurr.analysis.evaluation.features import Sight
    from sslcurr.engine.dataset import Data
    from sslcurr.engine.models import Model

INCEPTION = "inception"


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
    from sslcurr.analysis.evaluation.features import Inception
    from sslcurr.analysis.evaluation.inception import IMAGE_SIZE
    from sslcurr.cli.looking import looked, note_sizes, opened_data
    from sslcurr.cli.output import plotted, print_json
    from sslcurr.cli.progress import reporting
    from sslcurr.engine.models import models_from
    from sslcurr.wording import counted

    first, others = named_data(folders or [], reference, datasets or [], bool(models))
    settings = distances.Settings(
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
        sights = sights_of(texts, backbones, layer, inception_weights, download=download)
        given = None if accuracy is None else accuracies_of(accuracy, [sight.title for sight in sights])
        packs: dict[tuple[str, int | None, bool], Data] = {}

        def data_of(name: str, size: int | None, exact: bool = False) -> Data:
            key = (name, size, exact)
            if key not in packs:
                packs[key] = opened_data(shared, name, store, report, size, exact=exact)
            return packs[key]

        def looks(sight: Sight) -> tuple[int, bool]:
            """The size of what a model is shown, and whether packs have just that size."""
            if isinstance(sight, Inception):
                return IMAGE_SIZE, True
            # A model of which nobody knows what it was trained on sees all data sets at the size of the reference.
            return shared.image_size or sight.image_size or data_of(first, None).image_size, False

        size, exact = looks(sights[0])
        num = distances.common_number(
            data_of(first, size, exact), [data_of(name, size, exact) for name in others], settings
        )
        rows, used = [], []
        for sight in sights:
            size, exact = looks(sight)
            with report.counting(f"features of {sight.title}") as progress:
                found, analyses = distances.measure(
                    sight,
                    data_of(first, size, exact),
                    [data_of(name, size, exact) for name in others],
                    num,
                    settings,
                    store,
                    shared.device,
                    progress,
                )
            rows.append({"model": sight.title, "layer": sight.layer, "image_size": size, **found})
            used += analyses
            if num < found["num_features"]:
                report.note(
                    f"{counted(num, 'image')} of each side, fewer than the {found['num_features']} features of "
                    f"{sight.title}: FID is then far above its value for many images; compare normalised, or by KID"
                )
            if extrapolate and num < 4 * found["num_features"]:
                report.note(
                    f"to estimate the distance for endlessly many images {sight.title} needs "
                    f"{4 * found['num_features']:,} of each side; with {num:,} it may be far off, above the raw one too"
                )
            if found["halves"]["fid"]["mean"] == 0:
                report.note(f"the halves of the reference are equal to {sight.title}: nothing can be divided by 0")
        stages = {model.title: model.stage for model in backbones if model.stage is not None}
        known = distances.accuracies_in(store, stages) if given is None else given
        title, *titles = titles_of([first, *others], [data_of(name, size, exact) for name in (first, *others)])
        for row in rows:
            for entry, name in zip(row["datasets"], titles, strict=True):
                entry["dataset"] = name
        document = document_of(rows, title, known, num, settings)
        looked(store, "fid", document, backbones, list(packs.values()), used, of=f"{title}: {', '.join(titles)}")
        files = [*write_table(document, folder), *plotted("fid", document, folder)]
    if shared.json:
        print_json({**document, "files": files})
    else:
        print_distances(document, files)


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


def titles_of(names: Sequence[str], data: Sequence[Data]) -> list[str]:
    """Short names of data sets, or those they were given by where two are alike."""
    short = [each.pack.name for each in data]
    return [
        name if short.count(title) > 1 and names.count(name) == 1 else title
        for name, title in zip(names, short, strict=True)
    ]


def sights_of(
    texts: Sequence[str], backbones: Sequence[Model], layer: str, weights: Path | None, *, download: bool
) -> list[Sight]:
    """The models in the order they were named, each at the layer asked for; Inception has layers of its own."""
    from sslcurr.analysis.evaluation.features import Backbone, Inception
    from sslcurr.analysis.evaluation.inception import find_weights

    found: list[Sight] = []
    left = iter(backbones)
    for text in texts:
        if text == INCEPTION:
            if layer != "pooled" and backbones:
                raise SpecError(f"the models have no layer {layer!r} in common", "leave out --layer, or inception")
            found.append(Inception(find_weights(weights, download=download), layer))
        else:
            found.append(Backbone(next(left), layer))
    return found


def accuracies_of(path: Path, titles: Sequence[str]) -> dict[str, dict[str, float]]:
    """Data set ("" is any) -> model -> accuracy, from a table.

    Raises:
        DataError: it cannot be read, or does not fit the models.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read {path} ({error})", "give a CSV file with the columns model and accuracy"
        ) from error
    missing = {"model", "accuracy"} - set(table.columns)
    if missing:
        raise DataError(f"{path} has no column {sorted(missing)[0]}", "it needs the columns model and accuracy")
    if not len(table):
        raise DataError(f"{path} has no rows", "it needs one for each model")
    found: dict[str, dict[str, float]] = {}
    for line in table.to_dict("records"):
        name = str(line["model"])
        if name not in titles:
            raise DataError(
                f"{path} names a model {name!r} that is not among those compared", did_you_mean(name, titles)
            )
        value = pd.to_numeric(line["accuracy"], errors="coerce")
        if not pd.notna(value):
            raise DataError(f"the accuracy of {name} in {path} is {line['accuracy']!r}", "give a number")
        found.setdefault(str(line.get("dataset", "")), {})[name] = float(value)
    return found


def document_of(
    rows: list[dict[str, Any]], reference: str, known: dict[str, dict[str, float]], num: int, settings: Any
) -> dict[str, Any]:
    """The JSON document: figures by model and data set, and how they go with accuracy."""
    from sslcurr.analysis.evaluation.distances import correlations

    names = [row["dataset"] for row in rows[0]["datasets"]]
    together = []
    for place, name in enumerate(names):
        # Accuracies on the data set itself, or else on the only one of which they are known.
        where = name if name in known else next(iter(known)) if len(known) == 1 else None
        if where is None:
            continue
        pairs = [
            (row["datasets"][place]["normalised"]["mean"], known[where][row["model"]])
            for row in rows
            if row["model"] in known[where] and row["datasets"][place]["normalised"] is not None
        ]
        found = correlations([distance for distance, _ in pairs], [accuracy for _, accuracy in pairs])
        if found is not None:
            together.append({"dataset": name, "accuracy_on": where or None, **found})
    return {
        "reference": reference,
        "split": settings.split,
        "num_images": num,
        "draws": settings.halves,
        "models": rows,
        "accuracies": known,
        "correlations": together,
    }


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


def write_table(document: dict[str, Any], folder: Path | None) -> list[str]:
    """Write `fid.csv`, a row for each model and data set; gives the path."""
    import pandas as pd

    from sslcurr.files import write_whole

    if folder is None:
        return []
    lines: list[dict[str, Any]] = []
    for model in document["models"]:
        for entry in [{"dataset": f"halves of {document['reference']}", **model["halves"]}, *model["datasets"]]:
            line = {"model": model["model"], "layer": model["layer"], "dataset": entry["dataset"]}
            for name in ("fid", "normalised", "kid", "extrapolated"):
                figure = entry.get(name)
                if figure is not None:
                    line |= {name: figure["mean"], f"{name}_sd": figure["sd"]}
            for where, known in document["accuracies"].items():
                line[f"accuracy on {where}" if where else "accuracy"] = known.get(model["model"])
            lines.append(line)
    frame = pd.DataFrame(lines)
    write_whole(folder / "fid.csv", lambda path: frame.to_csv(path, index=False, float_format="%.8g"))
    return [str(folder / "fid.csv")]
