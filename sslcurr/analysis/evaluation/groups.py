"""The fine-tuned chains that names mean, seeds of one chain together, and the masks of their images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslcurr.errors import SpecError

if TYPE_CHECKING:
    from sslcurr.analysis.evaluation.attention import Gaze
    from sslcurr.analysis.evaluation.masks import Regions
    from sslcurr.engine.dataset import Data
    from sslcurr.engine.store import Stage, Store
    from sslcurr.spec.stage import DataSpec, StageSpec


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
            stages = [stage for key in records[name].stages if (stage := store.find(key)) is not None]
            if not records[name].finished:
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

    from sslcurr.spec.stage import key_of

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

    from sslcurr.analysis.evaluation.masks import regions_of
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
    from sslcurr.analysis.evaluation.attention import described

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
