"""How far data sets are apart in the features of a model: Fréchet and kernel distances to a reference data set.

Both depend on the number of images, the Fréchet distance strongly so: two halves of one data set are not at 0. So every
pair has equal numbers of images, and distances are divided by that of random disjoint halves of the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.evaluation.features import Sight, features_of
from sslcurr.analysis.measures.frechet import Moments, extrapolated_distance, frechet_distance, halves, kernel_distance
from sslcurr.engine.dataset import Data
from sslcurr.engine.selection import rows_of
from sslcurr.engine.store import Stage, Store
from sslcurr.errors import DataError
from sslcurr.files import read_json
from sslcurr.seeds import numpy_generator
from sslcurr.spec.stage import in_range
from sslcurr.wording import counted

# Raised when the same features give other distances.
VERSION = 1
MOST_IMAGES = 5000
FEWEST_IMAGES = 2
# Draws are from so many images of a data set at least, where it has them.
POOL = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How distances are measured.

    Attributes:
        split: whose images are taken: `all`, `train`, `val` or `test`.
        num_images: of each side of each pair; None takes as many as all data sets have, and 5,000 at most.
        halves: how many times the reference is cut in two, and images of each data set drawn.
        extrapolate: also estimate the Fréchet distance for endlessly many images (https://arxiv.org/abs/1911.07023).
        seed: of what is drawn.
    """

    split: str = "all"
    num_images: int | None = None
    halves: int = 5
    extrapolate: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        in_range("--halves", self.halves, 1)
        if self.num_images is not None:
            in_range("--num-images", self.num_images, FEWEST_IMAGES)


def common_number(reference: Data, others: Sequence[Data], settings: Settings) -> int:
    """Images of each side of each pair.

    Raises:
        DataError: a data set has too few for the number asked for, or for any.
    """
    counts = [
        (len(rows_of(reference.spec(1.0), settings.split, reference.pack)) // 2, f"half of {reference.pack.name}")
    ]
    for data in others:
        if data.pack.fingerprint != reference.pack.fingerprint:
            counts.append((len(rows_of(data.spec(1.0), settings.split, data.pack)), data.pack.name))
    least, name = min(counts)
    if least < FEWEST_IMAGES:
        raise DataError(
            f"{name} has {counted(least, 'image')}, and a distance needs {FEWEST_IMAGES}", "give more images"
        )
    if settings.num_images is None:
        return min(least, MOST_IMAGES)
    if settings.num_images > least:
        raise DataError(
            f"{name} has {counted(least, 'image')}, fewer than --num-images {settings.num_images}",
            f"give --num-images {least}, or leave it out",
        )
    return settings.num_images


def measure(
    sight: Sight,
    reference: Data,
    others: Sequence[Data],
    num: int,
    settings: Settings,
    store: Store,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Any], list[Path]]:
    """Distances of `others` to the reference in the features of one model, and the analyses they rest on.

    Args:
        num: images of each side of each pair, from `common_number`.

    Returns:
        `num_features`; `halves`, the distance of two halves of the reference; `datasets`, for each of the others its
        name, `fid`, `normalised` (fid over that of the halves of the same draw), `kid` and, if asked for,
        `extrapolated`. Each figure has a `mean`, the standard deviation `sd` over draws, and its `values`.
    """
    folders: list[Path] = []

    def of(data: Data, most: int) -> NDArray[np.float32]:
        features, folder = features_of(
            sight,
            data,
            split=settings.split,
            most=most,
            seed=settings.seed,
            store=store,
            device=device,
            progress=progress,
        )
        folders.append(folder)
        return features

    most = max(2 * num, POOL)
    base = of(reference, most)
    found: list[NDArray[np.float32] | None] = []
    for data in others:
        same = data.pack.fingerprint == reference.pack.fingerprint
        found.append(None if same else of(data, most))
    inputs = {
        "version": VERSION,
        "features": [folder.name for folder in folders],
        "reference_at": [place for place, features in enumerate(found) if features is None],
        "num_images": num,
        "halves": settings.halves,
        "extrapolate": settings.extrapolate,
        "seed": settings.seed,
    }

    def work(part: Path) -> dict[str, Any]:
        return _measure(base, found, [data.pack.fingerprint for data in others], num, settings)

    folder = store.analysis("fid", inputs, work)
    folders.append(folder)
    report = read_json(folder / "done.json")
    for row, data in zip(report["datasets"], others, strict=True):
        row["dataset"] = data.pack.name
    return report, folders


def _measure(
    base: NDArray[np.float32],
    found: Sequence[NDArray[np.float32] | None],
    names: Sequence[str],
    num: int,
    settings: Settings,
) -> dict[str, Any]:
    """The figures; `names` seed what is drawn of each data set, so that it does not depend on the others."""
    figures = ["fid", "kid", *(["extrapolated"] if settings.extrapolate else [])]
    own: dict[str, list[Any]] = {name: [] for name in figures}
    rows: list[dict[str, list[Any]]] = [{name: [] for name in [*figures, "normalised"]} for _ in found]
    for number in range(settings.halves):
        first, second = halves(len(base), num, numpy_generator(settings.seed, "halves", number))
        left, right = base[np.sort(first)], base[np.sort(second)]
        # Beyond d images a covariance is all that is needed, and it is computed once for all pairs.
        left_moments = Moments.of(left)
        between = frechet_distance(left_moments, Moments.of(right))
        own["fid"].append(between)
        own["kid"].append(kernel_distance(left, right))
        if settings.extrapolate:
            own["extrapolated"].append(extrapolated_distance(left, right, seed=settings.seed).value)
        for place, features in enumerate(found):
            row = rows[place]
            if features is None:  # the reference itself: its other half
                for name in figures:
                    row[name].append(own[name][-1])
            else:
                generator = numpy_generator(settings.seed, "drawn", names[place], number)
                drawn = features[np.sort(generator.permutation(len(features))[:num])]
                assert len(drawn) == num
                row["fid"].append(frechet_distance(left_moments, Moments.of(drawn)))
                row["kid"].append(kernel_distance(left, drawn))
                if settings.extrapolate:
                    row["extrapolated"].append(extrapolated_distance(left, drawn, seed=settings.seed).value)
            row["normalised"].append(row["fid"][-1] / between if between > 0 else None)
    return {
        "num_features": int(base.shape[1]),
        "halves": {name: spread(values) for name, values in own.items()},
        "datasets": [{name: spread(values) for name, values in row.items()} for row in rows],
    }


def spread(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Mean and standard deviation (None of a single value) of a figure over draws; None where one is not defined."""
    known = [float(value) for value in values if value is not None]
    if len(known) < len(values):
        return None
    deviation = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return {"mean": float(np.mean(known)), "sd": deviation, "values": known}


# ---- distance and accuracy


def correlations(distances: Sequence[float], accuracies: Sequence[float]) -> dict[str, Any] | None:
    """Spearman's and Kendall's correlation of distance and accuracy over models, with p-values; None below three."""
    from scipy.stats import kendalltau, spearmanr

    if len(distances) < 3 or len(set(distances)) < 2 or len(set(accuracies)) < 2:
        return None
    spearman, kendall = spearmanr(distances, accuracies), kendalltau(distances, accuracies)
    return {
        "num_models": len(distances),
        "spearman": float(spearman.statistic),
        "spearman_p": float(spearman.pvalue),
        "kendall": float(kendall.statistic),
        "kendall_p": float(kendall.pvalue),
    }


def accuracies_in(store: Store, stages: Mapping[str, Stage]) -> dict[str, dict[str, float]]:
    """Balanced accuracies of what was fine-tuned from stages, as far as the store holds their reports.

    Args:
        stages: by model.

    Returns:
        Data set -> model -> mean over the classification stages that start from the model's stage.
    """
    reports = _reports(store)
    found: dict[str, dict[str, list[float]]] = {}
    for child in store.all():
        spec = child.spec
        if spec.task != "classification" or child.key not in reports:
            continue
        for model, stage in stages.items():
            if spec.parent == stage.key:
                found.setdefault(spec.data.name, {}).setdefault(model, []).append(reports[child.key])
    return {
        dataset: {model: float(np.mean(values)) for model, values in by_model.items()}
        for dataset, by_model in found.items()
    }


def _reports(store: Store) -> dict[str, float]:
    """Key of a classification stage -> balanced accuracy of its report."""
    found = {}
    for folder in store.all_analyses():
        if folder.name.startswith("classification-"):
            found[read_json(folder / "inputs.json")["stage"]] = read_json(folder / "done.json")["balanced_accuracy"]
    return found
