"""Features on a plane: PCA, t-SNE or UMAP of what a model gives for images, to look at."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.evaluation.features import BackboneExtractor, Progress, drawn, extract, features_job
from sslcurr.analysis.results.document import Json, Part
from sslcurr.analysis.results.probing.document import Embedding
from sslcurr.engine.cost import FORWARD
from sslcurr.engine.dataset import Data, packed_placed, packed_portable
from sslcurr.engine.graph import Job
from sslcurr.engine.jobs import AnalysisWork
from sslcurr.engine.models import Model, model_placed, model_portable
from sslcurr.engine.store import Store, analysis_name
from sslcurr.errors import DataError, SpecError
from sslcurr.files import read_as, write_whole
from sslcurr.progress import Reporter
from sslcurr.spec.runtime import Runtime

EMBEDDING = "embedding"
# Raised when the same features come out at other places.
VERSION = 1
MOST_IMAGES = 3000
FEWEST_IMAGES = 4
PERPLEXITY, NEIGHBOURS = 30.0, 15


def embed(
    features: NDArray[np.floating[Any]], method: str, seed: int = 0
) -> tuple[NDArray[np.float64], list[float] | None]:
    """Points of a plane for [N, D] features.

    t-SNE (https://jmlr.org/papers/v9/vandermaaten08a.html) starts from the first two principal components, with a
    perplexity of 30, a quarter of the images at most; UMAP (https://arxiv.org/abs/1802.03426) has 15 neighbours. Both
    keep neighbours together; how far groups lie apart in them means little.

    Args:
        features: four images or more.
        method: one of `PROJECTIONS`.
        seed: of what is random in it.

    Returns:
        [N, 2], and for PCA the shares of the variance that both axes hold.

    Raises:
        SpecError: the package umap-learn is not installed.
    """
    from sklearn.decomposition import PCA

    features = np.asarray(features, dtype=np.float64)
    if method == "pca":
        model = PCA(n_components=2, svd_solver="full")
        with np.errstate(invalid="ignore"):  # features that are all equal have no variance to share
            points = model.fit_transform(features)
        shares = np.nan_to_num(model.explained_variance_ratio_)
        return points, [float(share) for share in shares]
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(PERPLEXITY, len(features) / 4)
        start = "pca" if np.ptp(features, axis=0).any() else "random"
        return TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(features).astype(float), None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it has to say of packages that it does not need
            from umap import UMAP
    except ImportError as error:
        raise SpecError("UMAP needs the package umap-learn", "pip install 'sslcurr[umap]', or take tsne") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a seed keeps it on one core
        start = "random" if len(features) < 12 else "pca"
        model = UMAP(n_neighbors=min(NEIGHBOURS, len(features) - 1), random_state=seed, n_jobs=1, init=start)
        return np.asarray(model.fit_transform(features), dtype=float), None


class Plane(Part, frozen=True, kw_only=True):
    """What the store keeps of a plane beside its points: how it was made, and shares of the variance of both axes."""

    method: str
    explained: list[float] | None


def embedding_of(
    model: Model,
    data: Data,
    method: str,
    store: Store,
    *,
    device: str = "auto",
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Embedding, list[Path]]:
    """The pooled features of a model's images on a plane, and the analyses that were needed.

    The images are those of the test split, or all where it has none.

    Raises:
        DataError: there are fewer than four images.
    """
    rows, split = _rows(data, seed)
    if len(rows) < FEWEST_IMAGES:
        raise DataError(f"{data.pack.name} has {len(rows)} images to draw, and a plane needs four", "give more images")
    extractor = BackboneExtractor(model)
    features, source = extract(
        extractor, data, split=split, most=MOST_IMAGES, seed=seed, store=store, device=device, progress=progress
    )

    def work(part: Path) -> Json:
        points, explained = embed(np.asarray(features), method, seed)
        _write(part / "points.csv", points, [data.pack.names[row] for row in rows], _labels(data, rows))
        return Plane(method=method, explained=explained).to_json()

    folder = store.analysis(EMBEDDING, _inputs(source.name, method, seed), work)
    plane = read_as(folder / "done.json", Plane)
    embedding = Embedding(
        model=model.title,
        method=plane.method,
        explained=plane.explained,
        layer=extractor.layer,
        split=split,
        num_images=len(rows),
        points=str(folder / "points.csv"),
    )
    return embedding, [source, folder]


def _inputs(features: str, method: str, seed: int) -> Json:
    return {"version": VERSION, "features": features, "method": method, "seed": seed}


class EmbeddingWork(AnalysisWork):
    """The features of a model on a plane: see `sslcurr.engine.jobs.Work`."""

    @staticmethod
    def run(job: Job, store: Store, runtime: Runtime, report: Reporter) -> None:
        """Lay them there."""
        values = job.arguments
        model, data = model_placed(values["model"], store), packed_placed(values["data"], store)
        embedding_of(model, data, values["method"], store, device=runtime.device, seed=values["seed"])


def embedding_jobs(model: Model, data: Data, method: str, store: Store, *, seed: int = 0) -> list[Job]:
    """What `embedding_of` does as jobs: the features, and the plane."""
    rows, split = _rows(data, seed)
    features = features_job(BackboneExtractor(model), data, split=split, most=MOST_IMAGES, seed=seed, store=store)
    plane = Job(
        name=analysis_name(EMBEDDING, _inputs(features.name, method, seed)),
        kind="embedding",
        title=f"{method} of {model.title} on {data.pack.name}",
        arguments={
            "model": model_portable(model, store),
            "data": packed_portable(data, store),
            "method": method,
            "seed": seed,
        },
        needs=(features.name,),
        cost=FORWARD * len(rows),
    )
    return [features, plane]


def _rows(data: Data, seed: int) -> tuple[NDArray[np.integer], str]:
    try:
        return drawn(data, "test", MOST_IMAGES, seed), "test"
    except DataError:
        return drawn(data, "all", MOST_IMAGES, seed), "all"


def _labels(data: Data, rows: NDArray[np.integer]) -> list[str]:
    return [data.pack.label_names[label] if label >= 0 else "" for label in data.pack.labels[rows]]


def _write(path: Path, points: NDArray[np.float64], names: Sequence[str], labels: Sequence[str]) -> None:
    import pandas as pd

    table = pd.DataFrame({"path": names, "label": labels, "x": points[:, 0], "y": points[:, 1]})
    write_whole(path, lambda temporary: table.to_csv(temporary, index=False, float_format="%.6g"))
