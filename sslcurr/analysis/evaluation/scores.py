"""What a model's frozen features are worth, layer by layer: probes, and scores that train nothing."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from sslcurr.analysis.evaluation.classifier import features_of, report_split
from sslcurr.analysis.measures import feature_scores
from sslcurr.analysis.measures.classification import balanced_accuracy
from sslcurr.analysis.measures.intervals import bootstrap_interval
from sslcurr.analysis.measures.probes import PROBES, Features
from sslcurr.backbones.layers import not_finite
from sslcurr.engine.dataset import Data
from sslcurr.engine.models import Model
from sslcurr.engine.selection import Selection, select
from sslcurr.engine.store import Store
from sslcurr.errors import DataError, SpecError
from sslcurr.files import read_json
from sslcurr.spec.stage import hash_of

# Raised when the same features give other scores.
VERSION = 1


def score(
    model: Model,
    data: Data,
    fraction: float,
    layers: str,
    store: Store,
    device: str = "auto",
    *,
    image_size: int | None = None,
) -> tuple[dict[str, Any], Path]:
    """Scores of a model's layers, and the analysis that holds them.

    Probes learn from the training images, choose on the validation images and are reported on the test images, with a
    95 % interval over these. RankMe, LogME and H-score are of the training images. Without labels there is RankMe only.

    Args:
        fraction: share of the training images.
        layers: a pattern of names.

    Raises:
        SpecError: no layer has such a name, or features are not finite. DataError: too few images.
    """
    spec = data.spec(fraction)
    labelled = len(data.pack.classes) > 1
    size = image_size or model.image_size or data.image_size
    inputs = {
        "version": VERSION,
        **model.identity,
        "image_size": size,
        "data": hash_of(spec),
        "labelled": labelled,
        "layers": layers,
    }

    def work(part: Path) -> dict[str, Any]:
        selection = select(spec, labelled=labelled, pack=data.pack)
        if len(selection.rows["train"]) < 4:
            raise DataError(f"{data.pack.name} has too few training images to score features", "give more images")
        found = features_of(model.weights, model.backbone, size, selection, device, model.seed)
        wanted = {name: features for name, features in found.items() if fnmatchcase(name, layers)}
        if not wanted:
            raise SpecError(f"no layer of {model.backbone.name} is named {layers!r}", f"there are {', '.join(found)}")
        for name, features in wanted.items():
            if not np.isfinite(features.x["train"]).all():
                raise not_finite(model.title, name)
        return {"split": report_split(selection), "layers": _scores(wanted, selection, labelled=labelled)}

    folder = store.analysis("scores", inputs, work)
    return read_json(folder / "done.json"), folder


def _scores(layers: dict[str, Features], selection: Selection, *, labelled: bool) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, features in layers.items():
        # The pooled output of a ResNet is its last stage, pooled.
        twin = next((other for other in found if np.array_equal(features.x["train"], layers[other].x["train"])), None)
        found[name] = found[twin] if twin is not None else _scores_of(features, selection, labelled=labelled)
    return found


def _scores_of(features: Features, selection: Selection, *, labelled: bool) -> dict[str, Any]:
    x, y = features.x["train"], features.y["train"]
    result: dict[str, Any] = {"num_features": int(x.shape[1])}
    varies = bool(np.ptp(x, axis=0).any())
    result["rankme"] = feature_scores.rankme(x) if np.any(x) else None
    if not labelled:
        return {**result, "knn": None, "linear": None, "logme": None, "h_score": None}
    split = report_split(selection)
    groups = selection.pack.groups
    for kind, probe in PROBES.items():
        if not varies:
            result[kind] = None
            continue
        measured = probe(features, len(selection.pack.classes), split)
        labels, predictions = features.y[split], measured.probabilities.argmax(axis=1)
        own = None if groups is None else groups[selection.rows[split]]
        result[kind] = {
            "validation": measured.validation if len(features.y["val"]) else None,
            "balanced_accuracy": balanced_accuracy(labels, predictions),
            "interval": list(bootstrap_interval(labels, predictions, own)),
            **measured.setting,
        }
    result["logme"] = feature_scores.logme(x, y)
    result["h_score"] = feature_scores.h_score(x, y)
    return result
