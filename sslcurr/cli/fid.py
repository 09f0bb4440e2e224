"""`sslcurr fid [REFERENCE] [DATASET]...`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from sslcurr.analysis.results.distances.document import INCEPTION
from sslcurr.cli.choices import CHECKPOINT, Split
from sslcurr.cli.options import ModelOptions, shared_options
from sslcurr.cli.output import show_document
from sslcurr.errors import SpecError


class ManyValues(TyperCommand):
    """A command whose options `--datasets` and `--models` take all values up to the next option."""

    many = ("--datasets", "--models")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """`--models A B` becomes `--models A --models B`."""
        expanded: list[str] = []
        option: str | None = None
        has_value = False
        for argument in [*args, "--"]:
            if argument.startswith("-") and argument != "-":
                if option is not None and not has_value:
                    ctx.fail(f"{option} needs a value, or several")
                option = argument if argument in self.many else None
                has_value = False
            elif option is not None:
                expanded += [option] if has_value else []
                has_value = True
            expanded.append(argument)
        return super().parse_args(ctx, expanded[:-1])


FoldersArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[REFERENCE] [DATASET]...",
        help="The reference, then the data sets to compare: names, folders or tables.",
    ),
]
ReferenceOption = Annotated[
    str | None,
    typer.Option(metavar="DATASET", help="Data set that distances are measured from.", rich_help_panel="Data"),
]
DatasetsOption = Annotated[
    list[str] | None,
    typer.Option("--datasets", metavar="DATASET...", help="Data sets to compare with it.", rich_help_panel="Data"),
]
ModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--models", metavar="CHECKPOINT...", help=f"Models whose features are used. {CHECKPOINT} Default: inception."
    ),
]
LayerOption = Annotated[
    str,
    typer.Option(metavar="NAME", help="Layer, such as layer3. It is average-pooled. Inception has 64, 192 and 768."),
]
NumImagesOption = Annotated[
    int | None,
    typer.Option(
        "--num-images",
        metavar="N",
        help="Images per data set. Default: as many as all of them (and half of the reference) have, up to 5,000.",
        rich_help_panel="Data",
    ),
]
AccuracyOption = Annotated[
    Path | None,
    typer.Option(
        metavar="CSV",
        help="Accuracies of the models: a table with the columns model, accuracy and, if they differ, dataset. "
        "Default: those of fine-tuned stages in the store.",
    ),
]
InceptionWeightsOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", envvar="SSLCURR_INCEPTION", help="torch-fidelity's weights of the Inception network."),
]


@shared_options
def fid(
    folders: FoldersArgument = None,
    reference: ReferenceOption = None,
    datasets: DatasetsOption = None,
    models: ModelsOption = None,
    layer: LayerOption = "pooled",
    split: Annotated[Split, typer.Option(help="Split whose images are used.", rich_help_panel="Data")] = Split.all,
    num_images: NumImagesOption = None,
    halves: Annotated[
        int, typer.Option("--halves", min=1, metavar="N", help="Random draws, for the standard deviation.")
    ] = 5,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Also extrapolate the distance to infinitely many images.")
    ] = False,
    accuracy: AccuracyOption = None,
    inception_weights: InceptionWeightsOption = None,
    download: Annotated[
        bool, typer.Option("--download", help="Download the Inception weights if they are missing.")
    ] = False,
    *,
    shared: ModelOptions,
) -> None:
    """Measure how far data sets are from a reference: Fréchet (FID) and kernel (KID) distances.

    Distances are measured in the features of models, which the store keeps.
    The FID of few images is above 0 even between equal data sets.
    So all pairs use equal numbers of images, and the distance is also divided
    by that between random halves of the reference.
    """
    first, others = named_data(folders or [], reference, datasets or [], bool(models))
    with shared.lab() as lab:
        document = lab.fid(
            first,
            others,
            models=models or [INCEPTION],
            layer=layer,
            split=split.value,
            num_images=num_images,
            halves=halves,
            extrapolate=extrapolate,
            accuracy=accuracy,
            inception_weights=inception_weights,
            download=download,
        )
        show_document(document, shared)


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
