"""What a model's frozen features are worth, layer by layer: probes, and scores that train nothing."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UNSET

from sslcurr.analysis.evaluation.classifier import features_of, judged, report_split
from sslcurr.analysis.measures import feature_scores
from sslcurr.analysis.measures.probes import Features, ProbeResult, probe_knn, probe_linear
from sslcurr.analysis.results.document import Json, Part
from sslcurr.analysis.results.probing.document import (
    Embedding,
    KnnProbe,
    LayerScores,
    LinearProbe,
    ModelScores,
    ProbeDocument,
)
from sslcurr.backbones.layers import not_finite
from sslcurr.engine.cost import FORWARD
from sslcurr.engine.dataset import Data, packed_placed, packed_portable
from sslcurr.engine.graph import Job
from sslcurr.engine.jobs import AnalysisWork
from sslcurr.engine.models import Model, model_placed, model_portable
from sslcurr.engine.selection import Selection, select
from sslcurr.engine.store import Store, analysis_name
from sslcurr.errors import DataError, SpecError
from sslcurr.files import read_as
from sslcurr.progress import Reporter
from sslcurr.spec.runtime import Runtime
from sslcurr.spec.stage import hash_of
from sslcurr.spec.target import CLASSES, TARGETS, TargetKind

SCORES = "scores"
# Raised when the same features give other scores.
# 2: intervals by Student's t. 3: small classes that are all right are not certain.
VERSION = 3


class KeptScores(Part, frozen=True, kw_only=True):
    """What the store keeps of the scores of a model.

    Attributes:
        split: whose images probes are reported on.
        layers: name -> scores, in the order of the network.
    """

    split: str
    layers: dict[str, LayerScores]


def score(
    model: Model,
    data: Data,
    fraction: float,
    layers: str,
    store: Store,
    device: str = "auto",
    *,
    image_size: int | None = None,
) -> tuple[ModelScores, Path]:
    """Scores of a model's layers, and the analysis that holds them.

    Probes learn from the training images, choose on the validation images and are reported on the test images, with a
    95 % interval over these. RankMe, LogME and H-score are of the training images. Without labels there is RankMe only,
    without classes no LogME and no H-score.

    Args:
        fraction: share of the training images.
        layers: a pattern of names.

    Raises:
        SpecError: no layer has such a name, or features are not finite. DataError: too few images.
    """
    spec = data.spec(fraction)
    inputs = _inputs(model, data, fraction, layers, image_size)
    labelled, size = inputs["labelled"], inputs["image_size"]

    def work(part: Path) -> Json:
        selection = select(spec, labelled=labelled, pack=data.pack)
        if len(selection.rows["train"]) < 4:
            raise DataError(f"{data.pack.name} has too few training images to score features", "give more images")
        features = features_of(model.weights, model.backbone, size, selection, device, model.seed)
        wanted = {name: each for name, each in features.items() if fnmatchcase(name, layers)}
        if not wanted:
            raise SpecError(
                f"no layer of {model.backbone.name} is named {layers!r}", f"there are {', '.join(features)}"
            )
        for name, each in wanted.items():
            if not np.isfinite(each.x["train"]).all():
                raise not_finite(model.title, name)
        scores = _scores(wanted, selection, labelled=labelled)
        return KeptScores(split=report_split(selection), layers=scores).to_json()

    folder = store.analysis(SCORES, inputs, work)
    kept = read_as(folder / "done.json", KeptScores)
    scores = ModelScores(
        model=model.title, backbone=model.backbone.name, weights=model.digest, split=kept.split, layers=kept.layers
    )
    return scores, folder


def _inputs(model: Model, data: Data, fraction: float, layers: str, image_size: int | None) -> Json:
    return {
        "version": VERSION,
        **model.identity,
        "image_size": image_size or model.image_size or data.image_size,
        "data": hash_of(data.spec(fraction)),
        "labelled": data.pack.is_labelled,
        "layers": layers,
    }


class ScoresWork(AnalysisWork):
    """The scores of a model's layers: see `sslcurr.engine.jobs.Work`."""

    @staticmethod
    def run(job: Job, store: Store, runtime: Runtime, report: Reporter) -> None:
        """Compute them."""
        values = job.arguments
        model, data = model_placed(values["model"], store), packed_placed(values["data"], store)
        fraction, layers, size = values["fraction"], values["layers"], values["image_size"]
        score(model, data, fraction, layers, store, runtime.device, image_size=size)


def score_job(
    model: Model, data: Data, fraction: float, layers: str, store: Store, *, image_size: int | None = None
) -> Job:
    """What `score` does with the same arguments as a job."""
    return Job(
        name=analysis_name(SCORES, _inputs(model, data, fraction, layers, image_size)),
        kind="scores",
        title=f"scores of {model.title} on {data.pack.name}",
        arguments={
            "model": model_portable(model, store),
            "data": packed_portable(data, store),
            "fraction": fraction,
            "layers": layers,
            "image_size": image_size,
        },
        cost=FORWARD * data.pack.num_images,
    )


def document_of(
    models: Sequence[ModelScores],
    embeddings: Sequence[Embedding],
    *,
    dataset: str,
    label_fraction: float,
    seed: int,
) -> ProbeDocument:
    """The document of all models; it has no embeddings where there are none."""
    return ProbeDocument(
        dataset=dataset,
        label_fraction=label_fraction,
        models=list(models),
        embeddings=list(embeddings) or UNSET,
        seeds=[seed],
    )


def remarks_of(data: Data) -> list[str]:
    """What a person should know of the scores on a data set."""
    return [] if data.pack.is_labelled else [f"{data.pack.name} has no labels: only RankMe can be computed"]


def _scores(layers: dict[str, Features], selection: Selection, *, labelled: bool) -> dict[str, LayerScores]:
    scores: dict[str, LayerScores] = {}
    for name, features in layers.items():
        # The pooled output of a ResNet is its last stage, pooled.
        twin = next((other for other in scores if np.array_equal(features.x["train"], layers[other].x["train"])), None)
        scores[name] = scores[twin] if twin is not None else _scores_of(features, selection, labelled=labelled)
    return scores


def _scores_of(features: Features, selection: Selection, *, labelled: bool) -> LayerScores:
    x, y = features.x["train"], features.y["train"]
    rankme = feature_scores.rankme(x) if np.any(x) else None
    knn: KnnProbe | None = None
    linear: LinearProbe | None = None
    target = TARGETS[selection.pack.target]
    if labelled and np.ptp(x, axis=0).any():
        num_outputs, split = len(selection.pack.classes), report_split(selection)
        nearest = probe_knn(features, num_outputs, split, target)
        knn = KnnProbe(
            neighbours=int(nearest.setting["neighbours"]), **_judged(nearest, features, selection, split, target)
        )
        straight = probe_linear(features, num_outputs, split, target)
        linear = LinearProbe(C=straight.setting["C"], **_judged(straight, features, selection, split, target))
    has_classes = labelled and target is CLASSES
    return LayerScores(
        num_features=int(x.shape[1]),
        rankme=rankme,
        knn=knn,
        linear=linear,
        logme=feature_scores.logme(x, y) if has_classes else None,
        h_score=feature_scores.h_score(x, y) if has_classes else None,
    )


def _judged(
    result: ProbeResult, features: Features, selection: Selection, split: str, target: TargetKind
) -> dict[str, Any]:
    """The main measure of a probe on the validation images and on the reported ones, and the latter's interval."""
    pack, rows = selection.pack, selection.rows[split]
    groups = None if pack.groups is None else pack.groups[rows]
    _, report = judged(features.y[split], result.predictions, target, pack.classes, groups, split)
    shown = {"balanced_accuracy": report.score} if target is CLASSES else {"score": report.score}
    validation = result.validation if len(features.y["val"]) else None
    return {"validation": validation, "interval": report.interval, **shown}
