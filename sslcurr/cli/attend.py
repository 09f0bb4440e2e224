"""`sslcurr attend RUN...`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sslcurr.analysis.evaluation.groups import chains_of, regions_for, row_of
from sslcurr.cli.choices import Split
from sslcurr.cli.options import MASKS, Seeing, shared_options
from sslcurr.errors import SpecError

if TYPE_CHECKING:
    from sslcurr.engine.dataset import Data


# Of more chains than these the classes are not printed.
MOST_CHAINS = 4


class Method(StrEnum):
    """Of class activation maps."""

    gradcam = "gradcam"
    gradcam_plus_plus = "gradcam++"
    eigencam = "eigencam"


class Target(StrEnum):
    """Whose map it is."""

    predicted = "predicted"
    label = "label"


@shared_options
def attend(
    names: Annotated[
        list[str],
        typer.Argument(metavar="RUN|KEY...", help="Runs (see sslcurr runs) or stages that end with classification."),
    ],
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME|FOLDER|TABLE", help="The images.", rich_help_panel="Data")
    ] = None,
    masks: Annotated[Path | None, typer.Option(metavar="FOLDER|TABLE", help=MASKS, rich_help_panel="Data")] = None,
    split: Annotated[Split, typer.Option(help="Whose images are looked at.", rich_help_panel="Data")] = Split.test,
    method: Annotated[Method, typer.Option(help="How maps are made; eigencam knows no classes.")] = Method.gradcam,
    target: Annotated[Target, typer.Option(help="The class whose map is taken.")] = Target.predicted,
    layer: Annotated[
        str,
        typer.Option(metavar="NAME", help="Whose maps are weighted. Default: the last stage with 4 x 4 cells or more."),
    ] = "",
    *,
    shared: Seeing,
) -> None:
    """How much of what fine-tuned models attend to lies in the lungs, or in any other region? (AIL)

    The share of each image's class activation map that lies inside its mask, beside the share of the view that the mask
    covers, which is what a map without preference would have, and how often the highest point lies inside.
    """
    from sslcurr.analysis.evaluation import attention
    from sslcurr.cli.looking import looked, opened_data
    from sslcurr.cli.output import plotted, print_files, print_json
    from sslcurr.cli.progress import reporting
    from sslcurr.data.sources.catalog import DEFAULT
    from sslcurr.files import write_whole

    settings = attention.Settings(method.value, target.value, layer, shared.image_size or 0)
    store, folder = shared.store(), shared.plots()
    with reporting() as report:
        chains = chains_of(names, store, report.note)
        packs: dict[int, Data] = {}
        rows, folders, foreign = [], [], set()
        for title, stages in chains.items():
            spec = stages[0].spec
            if dataset is None and spec.data.name != DEFAULT:
                raise SpecError(
                    f"{title} was fine-tuned on {spec.data.name}, and no images are given",
                    "say with --dataset where they are",
                )
            size = shared.image_size or spec.config["image_size"]
            if size not in packs:
                packs[size] = opened_data(shared, dataset, store, report, size, masks=masks)
            data = packs[size]
            if spec.data.fingerprint != data.pack.fingerprint and spec.data.name not in foreign:
                foreign.add(spec.data.name)
                report.note(f"{title} was fine-tuned on {spec.data.name}; these are images of {data.pack.name}")
            regions = regions_for(spec, data, split.value, store, report)
            with report.counting(f"maps of {title}") as progress:
                found = [
                    attention.gaze_of(s, s.spec, regions, settings, store, shared.device, progress) for s in stages
                ]
            rows.append(row_of(title, stages, found, regions))
            folders += [regions.folder, *(each.folder for each in found)]
        document = {
            "dataset": next(iter(packs.values())).pack.name,
            "split": split.value,
            "method": settings.method,
            "target": settings.target,
            "layer": ", ".join(dict.fromkeys(row["layer"] for row in rows)),
            "masks": "those of the data set" if masks is None else str(masks),
            "num_images": max(row["num_images"] for row in rows),
            "chains": rows,
        }
        small = [row for row in rows if max(row["map_size"]) < attention.FEWEST_CELLS]
        if small:
            height, width = small[0]["map_size"]
            report.note(
                f"the maps of {small[0]['layer']} have {height} x {width} cells, which is coarse: an earlier --layer, "
                "or a larger --image-size, tells more"
            )
        num_undefined = sum(row["num_undefined"] for row in rows)
        if num_undefined:
            num_maps = sum(row["num_images"] * len(row["seeds"]) for row in rows)
            report.note(
                f"{num_undefined} of {num_maps} maps are zero everywhere (nothing speaks for the class): left out"
            )
        stages = [stage for group in chains.values() for stage in group]
        of = ", ".join(chains) if len(chains) <= MOST_CHAINS else f"{len(chains)} chains of {', '.join(names)}"
        looked(store, "attend", document, stages, list(packs.values()), folders, of=of)
        files = plotted("attend", document, folder)
        if folder is not None:
            for number, row in enumerate(rows, start=1):
                copy = folder / (f"sheet-{number}.png" if len(rows) > 1 else "sheet.png")
                content = Path(row["sheet"]).read_bytes()
                write_whole(copy, content)
                files.append(str(copy))
    if shared.json:
        print_json({**document, "files": files})
    else:
        print_attention(document)
        print_files(files)


def print_attention(document: dict[str, Any]) -> None:
    """A row for each chain, with its classes below it where there are several."""
    from sslcurr.cli.forecast import between, spread
    from sslcurr.cli.output import console, percent, table
    from sslcurr.wording import counted

    out = console()
    out.print(
        f"Attention inside the masks of {counted(document['num_images'], 'image')} of {document['dataset']} "
        f"({document['split']}): {document['method']}, {document['layer']}, {document['target']} class",
        markup=False,
    )
    columns = ("chain", "class", "images", "seeds", "inside", "95 % interval", "mask covers", "highest point inside")
    rows = table(*columns, right=columns[2:])
    many = len(document["chains"]) > MOST_CHAINS
    for chain in document["chains"]:
        found = chain["attention"]
        rows.add_row(
            chain["chain"],
            "all",
            str(chain["num_images"]),
            str(len(chain["seeds"])),
            "-" if found["mean"] is None else spread(found),
            between(found["interval"]),
            percent(chain["coverage"]),
            percent(chain["pointing"]["mean"]),
        )
        for name, row in chain["classes"].items() if len(chain["classes"]) > 1 and not many else ():
            cells = (percent(row["attention"]), between(row["interval"]), percent(row["coverage"]))
            rows.add_row("", name, str(row["num_images"]), "", *cells, percent(row["pointing"]))
        rows.add_section()
    out.print(rows)
    out.print("A map without preference has as much inside as the mask covers.")
    if many:
        out.print("By class: --json")
