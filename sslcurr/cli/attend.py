"""`sslcurr attend RUN...`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sslcurr.cli.cka import Split
from sslcurr.cli.options import MASKS, Seeing, shared_options
from sslcurr.errors import SpecError

if TYPE_CHECKING:
    from sslcurr.analysis.gaze import Gaze
    from sslcurr.analysis.regions import Regions
    from sslcurr.engine.plan import Data
    from sslcurr.engine.spec import DataSpec, StageSpec
    from sslcurr.engine.store import Stage, Store


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
    from sslcurr.analysis import gaze
    from sslcurr.cli.looking import looked, opened_data
    from sslcurr.cli.progress import reporting
    from sslcurr.cli.results import plotted, print_files, print_json
    from sslcurr.data.catalog import DEFAULT
    from sslcurr.engine.store import write_whole

    settings = gaze.Settings(method.value, target.value, layer, shared.image_size or 0)
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
                found = [gaze.gaze_of(s, s.spec, regions, settings, store, shared.device, progress) for s in stages]
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
        small = [row for row in rows if max(row["map_size"]) < gaze.FEWEST_CELLS]
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


def chains_of(names: list[str], store: Store, note: Any) -> dict[str, list[Stage]]:
    """The fine-tuned stages that names mean, chain by chain: those that differ by their seeds alone are one chain.

    Raises:
        SpecError: a name means none.
        StoreError: it is neither a run nor a stage.
    """
    found: dict[str, Stage] = {}
    records = store.all_runs()
    for name in names:
        if name in records:
            stages = [stage for key in records[name]["stages"] if (stage := store.find(key)) is not None]
            if not records[name]["finished"]:
                note(f"run {name} is unfinished: only its finished chains are looked at")
        else:
            path = Path(name)
            stages = [store.resolve(path.name if (path / "done.json").is_file() else name)]
        ended = [stage for stage in stages if stage.spec.task == "classification"]
        if not ended:
            raise SpecError(
                f"{name} ends with {stages[-1].spec.task if stages else 'nothing'}, and has no classes to attend to",
                f"fine-tune it first: sslcurr finetune {stages[-1].key[:8]}" if stages else "see sslcurr runs",
            )
        found |= {stage.key: stage for stage in ended}
    groups: dict[tuple[Any, ...], list[Stage]] = {}
    for stage in found.values():
        groups.setdefault((stage.spec.tasks, seedless(stage, store)), []).append(stage)
    chains: dict[str, list[Stage]] = {}
    for (tasks, _), stages in groups.items():
        title = " -> ".join(tasks)
        seeds = [stage.spec.seed for stage in stages]
        if len(set(seeds)) < len(seeds):  # their parents differ: not one chain at several seeds
            for stage in stages:
                chains[f"{title} ({stage.key[:6]})"] = [stage]
        elif title in chains or sum(other == tasks for other, _ in groups) > 1:
            chains[f"{title} ({stages[0].key[:6]})"] = stages
        else:
            chains[title] = stages
    return chains


def seedless(stage: Stage, store: Store) -> tuple[str, ...]:
    """What a stage and all before it were but for their seeds; of one that is gone the key, in which its seed is."""
    from dataclasses import replace

    from sslcurr.engine.spec import key_of

    keys: list[str] = []
    now: Stage | None = stage
    while now is not None:
        spec = now.spec
        keys.append(key_of(replace(spec, seed=0, parent=None)))
        now = None if spec.parent is None else store.find(spec.parent)
        if now is None and spec.parent is not None:
            keys.append(spec.parent)
    return tuple(keys)


def regions_for(spec: StageSpec, data: Data, split: str, store: Store, report: Any) -> Regions:
    """The masks of a split's images, as the stage was fine-tuned on them where it is the same data set.

    Raises:
        SpecError: none of these images has a mask.
    """
    from dataclasses import replace

    from sslcurr.analysis.regions import regions_of
    from sslcurr.engine.selection import rows_of

    pack = data.pack
    own: DataSpec = data.spec(1.0)
    if spec.data.fingerprint == pack.fingerprint:
        own = replace(own, val=spec.data.val, test=spec.data.test, split_seed=spec.data.split_seed)
    rows = rows_of(own, split, pack)
    labelled = pack.labels[rows] >= 0
    with report.counting("reading masks") as progress:
        rows = rows[labelled] if labelled.any() else rows
        found = regions_of(data.masks, pack, rows, store, split, report.note, progress=progress)
    if found is None:
        raise SpecError(
            f"no mask is known of the {split} images of {pack.name}",
            "give --masks FOLDER with PNGs named like the images, or a table with a column mask or boxes",
        )
    return found


def row_of(title: str, stages: list[Stage], found: list[Gaze], regions: Regions) -> dict[str, Any]:
    """The row of one chain, for `--json`."""
    from sslcurr.analysis.gaze import described

    return {
        "chain": title,
        "tasks": list(stages[0].spec.tasks),
        "stages": [stage.key for stage in stages],
        "seeds": [stage.spec.seed for stage in stages],
        **described(found, regions),
        "layer": found[0].layer,
        "map_size": list(found[0].map_size),
        "sheet": str(found[0].folder / "sheet.png"),
        "images": [str(each.folder / "images.csv") for each in found],
    }


def print_attention(document: dict[str, Any]) -> None:
    """A row for each chain, with its classes below it where there are several."""
    from sslcurr.cli.rankings import between, spread
    from sslcurr.cli.results import console, percent, table
    from sslcurr.data.source import counted

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
