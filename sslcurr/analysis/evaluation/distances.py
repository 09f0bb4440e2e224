"""How far data sets are apart in the features of a model: Fréchet and kernel distances to a reference data set.

Both depend on the number of images, the Fréchet distance strongly so: two halves of one data set are not at 0. So every
pair has equal numbers of images, and distances are divided by that of random disjoint halves of the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from msgspec import UNSET, structs
from numpy.typing import NDArray

from sslcurr.analysis.evaluation.features import (
    FeatureExtractor,
    extract,
    extractor_placed,
    extractor_portable,
    features_job,
)
from sslcurr.analysis.measures.correlation import kendall_tau, spearman_rho, with_p_value
from sslcurr.analysis.measures.frechet import Moments, extrapolated_distance, frechet_distance, halves, kernel_distance
from sslcurr.analysis.results.distances.document import (
    Correlation,
    DatasetDistances,
    Distance,
    Distances,
    DistancesDocument,
    ModelDistances,
    NormalisedDistances,
)
from sslcurr.analysis.results.document import Json, Part
from sslcurr.engine.cost import FORWARD
from sslcurr.engine.dataset import Data, packed_placed, packed_portable
from sslcurr.engine.graph import Job
from sslcurr.engine.jobs import AnalysisWork
from sslcurr.engine.selection import split_rows
from sslcurr.engine.store import Stage, Store, analysis_name
from sslcurr.errors import DataError, StoreError, did_you_mean
from sslcurr.files import hint_for, read_as, read_json
from sslcurr.progress import Reporter
from sslcurr.seeds import numpy_generator
from sslcurr.spec.ranges import in_range
from sslcurr.spec.runtime import Runtime
from sslcurr.spec.target import TARGET_TASKS
from sslcurr.wording import counted

DISTANCES = "fid"
# Raised when the same features give other distances.
VERSION = 1
MOST_IMAGES = 5000
FEWEST_IMAGES = 2
# Draws are from so many images of a data set at least, where it has them.
POOL = 2000

# Data set ("" is any) -> model -> accuracy, a share of 1.
Accuracies = dict[str, dict[str, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class FidSettings:
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


def common_number(reference: Data, others: Sequence[Data], settings: FidSettings) -> int:
    """Images of each side of each pair.

    Raises:
        DataError: a data set has too few for the number asked for, or for any.
    """
    counts = [
        (len(split_rows(reference.spec(1.0), settings.split, reference.pack)) // 2, f"half of {reference.pack.name}")
    ]
    for data in others:
        if data.pack.fingerprint != reference.pack.fingerprint:
            counts.append((len(split_rows(data.spec(1.0), settings.split, data.pack)), data.pack.name))
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


class MeasuredDistances(Part, frozen=True, kw_only=True):
    """What the store keeps of the distances in the features of one model; data sets have no names in it.

    Attributes:
        num_features: of an image.
        halves: of two halves of the reference.
        datasets: of each data set, in the order of the analysis.
    """

    num_features: int
    halves: Distances
    datasets: list[NormalisedDistances]


def measure(
    extractor: FeatureExtractor,
    reference: Data,
    others: Sequence[Data],
    num: int,
    settings: FidSettings,
    store: Store,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
    *,
    titles: Sequence[str] = (),
) -> tuple[ModelDistances, list[Path]]:
    """Distances of `others` to the reference in the features of one model, and the analyses they rest on.

    Args:
        num: images of each side of each pair, from `common_number`.
        titles: what the data sets are called, from `titles_of`; the names of their packs where none are given.
    """
    folders: list[Path] = []

    def features_of(data: Data) -> NDArray[np.float32]:
        features, folder = extract(
            extractor,
            data,
            **_drawn(num, settings),
            store=store,
            device=device,
            progress=progress,
        )
        folders.append(folder)
        return features

    base = features_of(reference)
    features = [None if is_reference else features_of(data) for data, is_reference in _marked(reference, others)]
    inputs = _inputs([folder.name for folder in folders], reference, others, num, settings)

    def work(part: Path) -> Json:
        return _measure(base, features, [data.pack.fingerprint for data in others], num, settings).to_json()

    folder = store.analysis(DISTANCES, inputs, work)
    measured = read_as(folder / "done.json", MeasuredDistances)
    names = titles or [data.pack.name for data in others]
    return _named(measured, extractor, reference.image_size, names), [*folders, folder]


def _drawn(num: int, settings: FidSettings) -> Json:
    """Which images of a data set features are taken of."""
    return {"split": settings.split, "most": max(2 * num, POOL), "seed": settings.seed}


def _marked(reference: Data, others: Sequence[Data]) -> list[tuple[Data, bool]]:
    """Data sets, each with whether it is the reference."""
    return [(data, data.pack.fingerprint == reference.pack.fingerprint) for data in others]


def _inputs(features: list[str], reference: Data, others: Sequence[Data], num: int, settings: FidSettings) -> Json:
    places = [place for place, (_, is_reference) in enumerate(_marked(reference, others)) if is_reference]
    return {
        "version": VERSION,
        "features": features,
        "reference_at": places,
        "num_images": num,
        "halves": settings.halves,
        "extrapolate": settings.extrapolate,
        "seed": settings.seed,
    }


class DistancesWork(AnalysisWork):
    """The distances in the features of a model: see `sslcurr.engine.jobs.Work`."""

    @staticmethod
    def run(job: Job, store: Store, runtime: Runtime, report: Reporter) -> None:
        """Compute them."""
        values = job.arguments
        extractor = extractor_placed(values["extractor"], store)
        reference, *others = (packed_placed(plain, store) for plain in values["data"])
        settings = FidSettings(**values["settings"])
        measure(extractor, reference, others, values["num_images"], settings, store, runtime.device)


def distances_jobs(
    extractor: FeatureExtractor, reference: Data, others: Sequence[Data], num: int, settings: FidSettings, store: Store
) -> list[Job]:
    """What `measure` does with the same arguments as jobs: the features of each data set, and the distances."""
    different = [data for data, is_reference in _marked(reference, others) if not is_reference]
    jobs = [features_job(extractor, data, **_drawn(num, settings), store=store) for data in (reference, *different)]
    names = [job.name for job in jobs]
    distances = Job(
        name=analysis_name(DISTANCES, _inputs(names, reference, others, num, settings)),
        kind="distances",
        title=f"distances for {extractor.title}",
        arguments={
            "extractor": extractor_portable(extractor, store),
            "data": [packed_portable(data, store) for data in (reference, *others)],
            "num_images": num,
            "settings": asdict(settings),
        },
        needs=tuple(names),
        cost=FORWARD * num * settings.halves,
    )
    return [*jobs, distances]


def _named(
    measured: MeasuredDistances, extractor: FeatureExtractor, image_size: int, titles: Sequence[str]
) -> ModelDistances:
    """The distances with the names of the model and of the data sets."""
    rows = zip(measured.datasets, titles, strict=True)
    return ModelDistances(
        model=extractor.title,
        layer=extractor.layer,
        image_size=image_size,
        num_features=measured.num_features,
        halves=measured.halves,
        datasets=[DatasetDistances(**structs.asdict(row), dataset=title) for row, title in rows],
    )


def _measure(
    base: NDArray[np.float32],
    others: Sequence[NDArray[np.float32] | None],
    names: Sequence[str],
    num: int,
    settings: FidSettings,
) -> MeasuredDistances:
    """The distances; `names` seed what is drawn of each data set, so that it does not depend on the others."""
    of_halves = Draws()
    of_others = [Draws() for _ in others]
    for number in range(settings.halves):
        first, second = halves(len(base), num, numpy_generator(settings.seed, "halves", number))
        left, right = base[np.sort(first)], base[np.sort(second)]
        # Beyond d images a covariance is all that is needed, and it is computed once for all pairs.
        moments = Moments.of(left)
        between = of_halves.add(left, moments, right, settings)
        for features, name, draws in zip(others, names, of_others, strict=True):
            if features is None:  # the reference itself: its other half
                draws.add_last_of(of_halves)
            else:
                generator = numpy_generator(settings.seed, "drawn", name, number)
                sample = features[np.sort(generator.permutation(len(features))[:num])]
                assert len(sample) == num
                draws.add(left, moments, sample, settings)
            draws.normalised.append(draws.fid[-1] / between if between > 0 else None)
    return MeasuredDistances(
        num_features=int(base.shape[1]),
        halves=of_halves.distances(),
        datasets=[draws.normalised_distances() for draws in of_others],
    )


@dataclass(frozen=True)
class Draws:
    """The distances of one set of images to a half of the reference, a value for each draw."""

    fid: list[float] = field(default_factory=list)
    kid: list[float] = field(default_factory=list)
    extrapolated: list[float] = field(default_factory=list)
    normalised: list[float | None] = field(default_factory=list)

    def add(
        self, left: NDArray[np.float32], moments: Moments, right: NDArray[np.float32], settings: FidSettings
    ) -> float:
        """Add the distances of two samples; `moments` are those of `left`. Gives the Fréchet distance."""
        self.fid.append(frechet_distance(moments, Moments.of(right)))
        self.kid.append(kernel_distance(left, right))
        if settings.extrapolate:
            self.extrapolated.append(extrapolated_distance(left, right, seed=settings.seed).value)
        return self.fid[-1]

    def add_last_of(self, other: Draws) -> None:
        """Add the distances that were last added to others."""
        self.fid.append(other.fid[-1])
        self.kid.append(other.kid[-1])
        self.extrapolated.extend(other.extrapolated[-1:])

    def distances(self) -> Distances:
        """Over all draws."""
        extrapolated = _distance(self.extrapolated) if self.extrapolated else UNSET
        return Distances(fid=_distance(self.fid), kid=_distance(self.kid), extrapolated=extrapolated)

    def normalised_distances(self) -> NormalisedDistances:
        """Over all draws, with those that are divided by the distance of the halves."""
        defined = [value for value in self.normalised if value is not None]
        normalised = _distance(defined) if len(defined) == len(self.normalised) else None
        return NormalisedDistances(**structs.asdict(self.distances()), normalised=normalised)


def _distance(values: Sequence[float]) -> Distance:
    values = [float(value) for value in values]
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Distance(mean=float(np.mean(values)), sd=deviation, values=values)


def remarks_of(distances: ModelDistances, num: int, *, extrapolate: bool) -> list[str]:
    """What a person should know of the distances in the features of a model.

    Args:
        num: images of each side of each pair.
        extrapolate: whether the distance for endlessly many images was estimated.
    """
    title, num_features = distances.model, distances.num_features
    sentences = []
    if num < num_features:
        sentences.append(
            f"{counted(num, 'image')} of each side, fewer than the {num_features} features of {title}: FID is then far "
            f"above its value for many images; compare normalised, or by KID"
        )
    if extrapolate and num < 4 * num_features:
        sentences.append(
            f"to estimate the distance for endlessly many images {title} needs {4 * num_features:,} of each side; with "
            f"{num:,} it may be far off, above the raw one too"
        )
    if distances.halves.fid.mean == 0:
        sentences.append(f"the halves of the reference are equal to {title}: nothing can be divided by 0")
    return sentences


# ---- the document


def document_of(
    reference: str,
    models: Sequence[ModelDistances],
    accuracies: Accuracies,
    num: int,
    settings: FidSettings,
) -> DistancesDocument:
    """The document of all models.

    Args:
        reference: what it is called, from `titles_of`.
        models: of the same data sets.
        accuracies: of the models, from `read_accuracies` or `accuracies_in`.
        num: images of each side of each pair.
        settings: how distances were measured.
    """
    return DistancesDocument(
        reference=reference,
        split=settings.split,
        num_images=num,
        draws=settings.halves,
        models=list(models),
        accuracies=accuracies,
        correlations=_correlations(models, accuracies),
        dataset=reference,
        seeds=[settings.seed],
    )


def titles_of(names: Sequence[str], data: Sequence[Data]) -> list[str]:
    """Short names of data sets, or those a person gave where two are alike."""
    short = [each.pack.name for each in data]
    return [
        name if short.count(title) > 1 and names.count(name) == 1 else title
        for name, title in zip(names, short, strict=True)
    ]


def _correlations(models: Sequence[ModelDistances], accuracies: Accuracies) -> list[Correlation]:
    correlations = []
    for place, dataset in enumerate(models[0].datasets):
        name = dataset.dataset
        # Accuracies on the data set itself, or else on the only one of which there are any.
        where = name if name in accuracies else next(iter(accuracies)) if len(accuracies) == 1 else None
        if where is None:
            continue
        pairs = [
            (distance.mean, accuracies[where][model.model])
            for model in models
            if model.model in accuracies[where] and (distance := model.datasets[place].normalised) is not None
        ]
        correlation = _correlation(name, where or None, pairs)
        if correlation is not None:
            correlations.append(correlation)
    return correlations


def _correlation(dataset: str, accuracy_on: str | None, pairs: Sequence[tuple[float, float]]) -> Correlation | None:
    """Spearman's and Kendall's correlation of distance and accuracy; None below three models."""
    distances, accuracies = [distance for distance, _ in pairs], [accuracy for _, accuracy in pairs]
    if len(pairs) < 3 or len(set(distances)) < 2 or len(set(accuracies)) < 2:
        return None
    spearman, kendall = (with_p_value(measure, distances, accuracies) for measure in (spearman_rho, kendall_tau))
    return Correlation(
        dataset=dataset,
        accuracy_on=accuracy_on,
        num_models=len(pairs),
        spearman=spearman[0],
        spearman_p=spearman[1],
        kendall=kendall[0],
        kendall_p=kendall[1],
    )


# ---- accuracies


def read_accuracies(path: Path, titles: Sequence[str]) -> Accuracies:
    """Accuracies from a table with the columns model, accuracy and, where they differ, dataset ("" is any).

    Args:
        path: a CSV file.
        titles: of the models that are compared.

    Raises:
        DataError: it cannot be read, or does not fit the models.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        hint = hint_for(error, "give a CSV file with the columns model and accuracy")
        raise DataError(f"cannot read {path} ({error})", hint) from error
    missing = {"model", "accuracy"} - set(table.columns)
    if missing:
        raise DataError(f"{path} has no column {sorted(missing)[0]}", "it needs the columns model and accuracy")
    if not len(table):
        raise DataError(f"{path} has no rows", "it needs one for each model")
    accuracies: Accuracies = {}
    for line in table.to_dict("records"):
        name = str(line["model"])
        if name not in titles:
            raise DataError(
                f"{path} names a model {name!r} that is not among those compared", did_you_mean(name, titles)
            )
        value = pd.to_numeric(line["accuracy"], errors="coerce")
        if not pd.notna(value):
            raise DataError(f"the accuracy of {name} in {path} is {line['accuracy']!r}", "give a number")
        accuracies.setdefault(str(line.get("dataset", "")), {})[name] = float(value)
    return accuracies


def accuracies_in(store: Store, stages: Mapping[str, Stage]) -> Accuracies:
    """Balanced accuracies of what was fine-tuned from stages, as far as the store holds their reports.

    Args:
        stages: by model.

    Returns:
        Means over the classification stages that start from the model's stage.
    """
    reports = _reports(store)
    values: dict[str, dict[str, list[float]]] = {}
    for child in store.readable():
        spec = child.spec
        if spec.task not in TARGET_TASKS or child.key not in reports:
            continue
        for model, stage in stages.items():
            if spec.parent == stage.key:
                values.setdefault(spec.data.name, {}).setdefault(model, []).append(reports[child.key])
    return {
        dataset: {model: float(np.mean(each)) for model, each in by_model.items()}
        for dataset, by_model in values.items()
    }


def _reports(store: Store) -> dict[str, float]:
    """Key of a classification stage -> balanced accuracy of its report."""
    reports = {}
    for folder in store.all_analyses():
        if folder.name.startswith("classification-"):
            try:
                accuracy = read_json(folder / "done.json")["balanced_accuracy"]
                reports[read_json(folder / "inputs.json")["stage"]] = accuracy
            except StoreError as error:
                store.left_out(error)
    return reports
