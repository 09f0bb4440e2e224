"""Do groups of keys help MoCo v2 and DenseCL on small batches? Probes after trainings with and without them.

    python benchmarks/groups.py --dataset ham=FOLDER cxr=FOLDER --fraction ham=0.3 cxr=0.6 --json groups.json

Both trainings of a pair have the same seed, images and recipe; they differ in `bn_group` alone: a quarter of the batch
(four images at least) against the whole batch. Probes see every stage of the network; the best layer is chosen on the
validation images and all numbers are of the test images. The result is written after each pair, and the same command
goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

import records

from sslcurr.analysis.evaluation.classifier import features_of, report_split
from sslcurr.analysis.measures.classification import balanced_accuracy
from sslcurr.analysis.measures.probes import probe_layers
from sslcurr.engine.plan import Planner
from sslcurr.engine.run import train_stage
from sslcurr.engine.selection import select
from sslcurr.engine.store import Store
from sslcurr.progress import Reporter
from sslcurr.spec.request import Request
from sslcurr.spec.runtime import Runtime

MEASURES = ("linear best", "linear pooled", "knn best", "knn pooled")


def accuracies(task: str, group: int, seed: int, data: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one stage, and probe it: test balanced accuracies, and what the training ended with."""
    name, _, folder = data.partition("=")
    store = Store(arguments.runs)
    request = Request(
        dataset=folder,
        backbone="test_resnet",
        stem="imagenet",
        image_size=arguments.image_size,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        fraction=float(dict(given.split("=") for given in arguments.fraction).get(name, 1)),
        seed=seed,
        settings=(f"{task}.bn_group={group}",),
    )
    spec = Planner(request, store, [task]).chain([task])[0]
    stage = train_stage(spec, store, Runtime(device="cpu"), Reporter())
    selection = select(spec.data, labelled=True)
    split = report_split(selection)
    layers = features_of(stage.weights, spec.backbone, spec.config["image_size"], selection, "cpu", spec.seed)
    found: dict[str, Any] = {
        "images": stage.record.num_images,
        "steps": stage.record.steps,
        "loss": stage.record.metrics["loss"],
        "accuracy": stage.record.metrics["accuracy"],
    }
    labels = selection.labels(split)
    for kind in ("linear", "knn"):
        best, results = probe_layers(layers, kind, len(selection.pack.classes), split)
        for title, layer in (("best", best), ("pooled", "pooled")):
            predicted = results[layer].predictions.argmax(axis=1)
            found[f"{kind} {title}"] = round(float(balanced_accuracy(labels, predicted)), 4)
    return found


def paired(rows: list[dict[str, Any]], measure: str) -> dict[str, float]:
    """Mean difference of pairs (with groups minus without), its 95 % t interval, and how many pairs gained."""
    from scipy.stats import t

    differences = [row["groups"][measure] - row["none"][measure] for row in rows]
    count = len(differences)
    half = 0.0
    if count > 1:
        half = float(t.ppf(0.975, count - 1)) * statistics.stdev(differences) / math.sqrt(count)
    mean = statistics.mean(differences)
    return {
        "mean": round(mean, 4),
        "low": round(mean - half, 4),
        "high": round(mean + half, 4),
        "gained": sum(difference > 0 for difference in differences),
        "n": count,
    }


def table(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Paired differences for each data set and task, and over all pairs."""
    kinds = list(dict.fromkeys(f"{row['data']} {row['task']}" for row in rows))
    chosen = {kind: [row for row in rows if f"{row['data']} {row['task']}" == kind] for kind in kinds}
    chosen["all"] = rows
    return {kind: {measure: paired(own, measure) for measure in MEASURES} for kind, own in chosen.items()}


def main() -> None:
    """Train, probe, write and print pair by pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, nargs="+", help="NAME=FOLDER OR TABLE")
    parser.add_argument("--fraction", nargs="*", default=[], help="NAME=SHARE of the training images to train on")
    parser.add_argument("--tasks", nargs="*", default=["mocov2", "densecl"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--runs", type=Path, default=Path("runs-groups"))
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    group = max(4, arguments.batch_size // 4)
    rows: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        for data in arguments.dataset:
            for task in arguments.tasks:
                pair = {
                    name: accuracies(task, size, seed, data, arguments)
                    for name, size in (("groups", group), ("none", 2 * arguments.batch_size))
                }
                rows.append({"data": data.partition("=")[0], "task": task, "seed": seed, **pair})
                print(json.dumps(rows[-1]), flush=True)
                records.write(
                    arguments.json,
                    "test balanced accuracy of probes after training with keys in groups, and with one group",
                    rows,
                    packages=("torch", "timm", "scikit-learn"),
                    epochs=arguments.epochs,
                    batch_size=arguments.batch_size,
                    bn_group=group,
                    image_size=arguments.image_size,
                    differences=table(rows),
                )
    for kind, measures in table(rows).items():
        cells = (
            f"{name} {100 * d['mean']:+.1f} ({100 * d['low']:+.1f} to {100 * d['high']:+.1f})"
            for name, d in measures.items()
        )
        print(f"{kind:16} n={measures[MEASURES[0]]['n']:<3}", "  ".join(cells))


if __name__ == "__main__":
    main()
