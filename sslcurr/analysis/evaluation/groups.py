"""The fine-tuned chains that names mean, seeds of one chain together, and their attention in one document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from sslcurr.analysis.measures.attention import mean_of, summary
from sslcurr.analysis.results.attention.document import AttentionDocument, ChainAttention, ClassAttention
from sslcurr.analysis.results.estimate import Difference
from sslcurr.engine.store import Stage, Store
from sslcurr.errors import SpecError
from sslcurr.spec.stage import DataSpec, StageSpec, key_of
from sslcurr.spec.target import TARGET_TASKS

if TYPE_CHECKING:
    from sslcurr.analysis.evaluation.attention import AttentionSettings, ModelAttention
    from sslcurr.analysis.evaluation.masks import ImageMasks
    from sslcurr.engine.dataset import Data
    from sslcurr.progress import Reporter

# Of more chains than these a run's title names what was asked for.
MOST_CHAINS = 4


def chains_of(names: Sequence[str], store: Store, note: Callable[[str], None]) -> dict[str, list[Stage]]:
    """The fine-tuned stages that names mean, chain by chain: those that differ by their seeds alone are one chain.

    Args:
        names: of runs, or of stages: keys, beginnings of keys, folders.
        store: where they are.
        note: called with one-line remarks.

    Raises:
        SpecError: a name means none.
        StoreError: it is neither a run nor a stage.
    """
    by_key: dict[str, Stage] = {}
    for name in names:
        by_key |= {stage.key: stage for stage in _fine_tuned(name, store, note)}
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Stage]] = {}
    for stage in by_key.values():
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


def _fine_tuned(name: str, store: Store, note: Callable[[str], None]) -> list[Stage]:
    """The stages of classification that one name means."""
    named = store.named(name)
    if named is not None:
        run = store.all_runs()[named]
        stages = [stage for key in run.stages if (stage := store.find(key)) is not None]
        if not run.finished:
            note(f"run {name} is unfinished: only its finished chains are measured")
    else:
        path = Path(name)
        stages = [store.resolve(path.name if (path / "done.json").is_file() else name)]
    fine_tuned = [stage for stage in stages if stage.spec.task in TARGET_TASKS]
    if not fine_tuned:
        raise SpecError(
            f"{name} ends with {stages[-1].spec.task if stages else 'nothing'}, and has no classes to attend to",
            f"fine-tune it first: sslcurr finetune {stages[-1].key[:8]}" if stages else "see sslcurr runs",
        )
    return fine_tuned


def seedless(stage: Stage, store: Store) -> tuple[str, ...]:
    """What a stage and all before it were but for their seeds; of one that is gone the key, in which its seed is."""
    keys: list[str] = []
    current: Stage | None = stage
    while current is not None:
        spec = current.spec
        keys.append(key_of(replace(spec, seed=0, parent=None)))
        current = None if spec.parent is None else store.find(spec.parent)
        if current is None and spec.parent is not None:
            keys.append(spec.parent)
    return tuple(keys)


def images_of_split(spec: StageSpec, data: Data) -> DataSpec:
    """The images of a data set, divided as the stage was fine-tuned on them where it is the same data set."""
    images = data.spec(1.0)
    if spec.data.fingerprint != data.pack.fingerprint:
        return images
    of = spec.data
    return replace(images, val=of.val, test=of.test, split_seed=of.split_seed, folds=of.folds, fold=of.fold)


def masks_of_split(spec: StageSpec, data: Data, split: str, store: Store, report: Reporter) -> ImageMasks:
    """The masks of a split's images, as the stage was fine-tuned on them where it is the same data set.

    Raises:
        SpecError: none of these images has a mask.
    """
    from sslcurr.analysis.evaluation.masks import masks_of
    from sslcurr.engine.selection import split_rows

    pack = data.pack
    rows = split_rows(images_of_split(spec, data), split, pack)
    labelled = pack.labels[rows] >= 0
    rows = rows[labelled] if labelled.any() else rows
    with report.counting("reading masks") as progress:
        masks = masks_of(data.masks, pack, rows, store, split, report.note, progress=progress)
    if masks is None:
        raise SpecError(
            f"no mask is known of the {split} images of {pack.name}",
            "give --masks FOLDER with PNGs named like the images, or a table with a column mask or boxes",
        )
    return masks


# ---- the document


def chain_attention(
    title: str, stages: Sequence[Stage], measured: Sequence[ModelAttention], masks: ImageMasks
) -> ChainAttention:
    """What the attention of one chain comes to, over all images and by class.

    Args:
        title: of the chain.
        stages: one for each seed.
        measured: the attention of each.
        masks: of the images that all were shown.
    """
    from sslcurr.analysis.evaluation.attention import estimate_of

    inside, pointing = (np.stack([getattr(each, name) for each in measured]) for name in ("inside", "pointing"))
    first, specs = measured[0], [stage.spec for stage in stages]
    return ChainAttention(
        chain=title,
        tasks=list(specs[0].tasks),
        stages=[stage.key for stage in stages],
        seeds=[spec.seed for spec in specs],
        attention=estimate_of(inside, first.groups),
        coverage=float(first.coverage.mean()),
        pointing=estimate_of(pointing, first.groups),
        num_images=len(first.coverage),
        num_undefined=int(np.isnan(inside).sum()),
        classes=_by_class(inside, pointing, first, masks),
        layer=first.layer,
        map_size=first.map_size,
        sheet=str(first.folder / "sheet.png"),
        images=[str(each.folder / "images.csv") for each in measured],
    )


def compared(
    chains: Sequence[ChainAttention],
    measured: Sequence[Sequence[ModelAttention]],
    shown: Sequence[NDArray[np.integer]],
) -> list[ChainAttention]:
    """Chains with what they lend each other, and how they differ from the first, where they were shown the same images.

    Args:
        chains: rows of a document.
        measured: the attention of each one's stages.
        shown: [N] numbers of the images that each was shown.
    """
    from sslcurr.analysis.measures.attention import sample_of
    from sslcurr.analysis.measures.comparisons import Comparisons

    samples = {
        place: sample_of(np.stack([each.inside for each in models]), models[0].groups, chain.seeds)
        for place, (chain, models) in enumerate(zip(chains, measured, strict=True))
    }
    same = [place for place, rows in enumerate(shown) if np.array_equal(rows, shown[0])]
    table = Comparisons({place: samples[place] for place in same})
    rows = []
    for place, chain in enumerate(chains):
        if place not in same:
            rows.append(chain)
            continue
        estimate = msgspec.structs.replace(chain.attention, interval=table.interval(place))
        difference = Difference.of(table.difference(0, place)) if place else UNSET
        rows.append(msgspec.structs.replace(chain, attention=estimate, difference=difference))
    return rows


def _by_class(
    inside: np.ndarray, pointing: np.ndarray, first: ModelAttention, masks: ImageMasks
) -> dict[str, ClassAttention]:
    """Name of the images' class -> attention, of [seeds, images] shares."""
    labels, groups = masks.pack.labels[masks.rows], first.groups
    classes = {}
    for label, name in enumerate(masks.pack.label_names):
        members = labels == label
        if members.any():
            mean = summary(inside[:, members], None if groups is None else groups[members])
            classes[name] = ClassAttention(
                num_images=int(members.sum()),
                attention=mean.mean,
                interval=mean.interval,
                coverage=float(first.coverage[members].mean()),
                pointing=mean_of(pointing[:, members]),
            )
    return classes


def document_of(
    chains: Sequence[ChainAttention],
    settings: AttentionSettings,
    *,
    dataset: str,
    split: str,
    masks: Path | None,
) -> AttentionDocument:
    """The document of the attention of chains.

    Args:
        chains: one at least.
        settings: how it was measured.
        dataset: name of the data set.
        split: whose images were shown.
        masks: where they are from; None is the data set's.
    """
    return AttentionDocument(
        dataset=dataset,
        split=split,
        method=settings.method,
        target=settings.target,
        layer=", ".join(dict.fromkeys(chain.layer for chain in chains)),
        masks="those of the data set" if masks is None else str(masks),
        num_images=max(chain.num_images for chain in chains),
        chains=list(chains),
        seeds=sorted({seed for chain in chains for seed in chain.seeds}),
    )


def remarks_of(chains: Sequence[ChainAttention]) -> list[str]:
    """What a person should know of the maps, a sentence each: coarse ones, and those that are zero everywhere."""
    from sslcurr.analysis.evaluation.attending import FEWEST_CELLS

    remarks = []
    coarse = [chain for chain in chains if max(chain.map_size) < FEWEST_CELLS]
    if coarse:
        height, width = coarse[0].map_size
        remarks.append(
            f"the maps of {coarse[0].layer} have {height} x {width} cells, which is coarse: an earlier --layer, "
            "or a larger --image-size, tells more"
        )
    num_undefined = sum(chain.num_undefined for chain in chains)
    if num_undefined:
        num_maps = sum(chain.num_images * len(chain.seeds) for chain in chains)
        remarks.append(
            f"{num_undefined} of {num_maps} maps are zero everywhere (nothing speaks for the class): left out"
        )
    return remarks


def subject_of(chains: Sequence[str], names: Sequence[str]) -> str:
    """What a run is about: the titles of its chains, or of many chains the names that were asked for."""
    return ", ".join(chains) if len(chains) <= MOST_CHAINS else f"{len(chains)} chains of {', '.join(names)}"
