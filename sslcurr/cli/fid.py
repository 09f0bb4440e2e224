"""`sslcurr fid [REFERENCE] [DATASET]...`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sslcurr.analysis.results.distances.document import INCEPTION
from sslcurr.cli import completion
from sslcurr.cli.choices import CHECKPOINT, Split
from sslcurr.cli.help import DATA, Command
from sslcurr.cli.options import ModelOptions, shared_options
from sslcurr.cli.output import show_document
from sslcurr.errors import SpecError


class ManyValues(Command):
    """A command whose options `--datasets` and `--models` take all values up to the next option."""

    many = ("--datasets", "--models")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """`--models A B` becomes `--models A --models B`."""
        expanded: list[str] = []
        option: str | None = None
        has_value = False
        for argument in [*args, "--"]:
            if argument.startswith("-") and argument != "-":
                if option is not None and not has_value and not ctx.resilient_parsing:
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
        metavar="[DATASET]...",
        help="The reference first, then the data sets to compare with it: names, folders or tables.",
        autocompletion=completion.datasets_or_models,
    ),
]
ReferenceOption = Annotated[
    str | None,
    typer.Option(
        metavar="DATASET",
        help="The data set that distances are measured from, if it is not the first argument.",
        rich_help_panel=DATA,
        autocompletion=completion.datasets,
    ),
]
DatasetsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--datasets",
        metavar="DATASET...",
        help="The data sets to compare, if they are not arguments.",
        rich_help_panel=DATA,
        autocompletion=completion.datasets,
    ),
]
ModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--models",
        metavar="CHECKPOINT...",
        help=f"Models in whose features distances are measured. {CHECKPOINT} Default: inception.",
        autocompletion=completion.checkpoints,
    ),
]
LayerOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Layer of the features, such as layer3, averaged over positions. Inception has 64, 192, 768 and pooled.",
        autocompletion=completion.choices("pooled", "layer1", "layer2", "layer3", "layer4"),
    ),
]
NumImagesOption = Annotated[
    int | None,
    typer.Option(
        "--num-images",
        metavar="N",
        help="Use so many images of each data set. Default: as many as the smallest has (or half of the reference), up "
        "to 5,000.",
        rich_help_panel=DATA,
    ),
]
AccuracyOption = Annotated[
    Path | None,
    typer.Option(
        metavar="CSV",
        help="Accuracies to set beside the distances: a table with the columns model, accuracy and, if they differ, "
        "dataset. Default: those of fine-tuned stages in the store.",
    ),
]
InceptionWeightsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", envvar="SSLCURR_INCEPTION", help="Weights of the Inception network, of torch-fidelity."
    ),
]


@shared_options
def fid(
    folders: FoldersArgument = None,
    reference: ReferenceOption = None,
    datasets: DatasetsOption = None,
    models: ModelsOption = None,
    layer: LayerOption = "pooled",
    split: Annotated[Split, typer.Option(help="Which images of it are used.", rich_help_panel=DATA)] = Split.all,
    num_images: NumImagesOption = None,
    halves: Annotated[
        int,
        typer.Option(
            "--halves", min=1, metavar="N", help="Repeat the draw of images so often, for the standard deviation."
        ),
    ] = 5,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Also estimate the distance for infinitely many images.")
    ] = False,
    accuracy: AccuracyOption = None,
    inception_weights: InceptionWeightsOption = None,
    download: Annotated[
        bool, typer.Option("--download", help="Download the weights of Inception if they are missing.")
    ] = False,
    *,
    shared: ModelOptions,
) -> None:
    """Measure how far data sets are from a reference (FID, KID).

    The Fréchet and the kernel distance are measured in the features of models.
    The FID of few images is above 0 even between equal data sets.
    So all pairs use equal numbers of images.
    The distance between random halves of the reference is printed, too, for comparison.

    Examples:

        sslcurr fid ~/images ~/elsewhere --models last random
        sslcurr fid fashion digits --models last
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
