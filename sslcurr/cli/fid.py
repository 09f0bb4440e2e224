"""`sslcurr fid [REFERENCE] [DATASET]...`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from sslcurr.cli.choices import CHECKPOINT, Split
from sslcurr.cli.options import ModelOptions, shared_options
from sslcurr.cli.output import show
from sslcurr.errors import SpecError

INCEPTION = "inception"


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
    shared: ModelOptions,
) -> None:
    """How far are data sets from a reference in the features of models? Fréchet (FID) and kernel (KID) distances.

    FID is 0 for endlessly many images of equal data sets, and above it for few: so all pairs have equal numbers of
    images, and the distance is also divided by that of random halves of the reference. Features are kept in the store.
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
        show(document, shared)


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
