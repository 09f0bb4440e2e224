"""Does each task learn? kNN and linear balanced accuracy of frozen features, beside the untrained backbone.

    python benchmarks/learning.py --dataset FOLDER --name ham --epochs 8 --json learning-ham.json

Every task is trained on the training images for the same number of passes over them, with its own recipe, from
`--seeds` different starts. An untrained network gains from its batch norms alone, once they know the images:
"untrained-norms-set" is such a network, and gains are counted from it. `--lightly` adds MoCo v2, SwAV, SimCLR and BYOL
trained with lightly's heads, losses and transforms (`lightly_tasks.py`), at the same rates and batches. Probes see
every stage of the network; the best layer is chosen on the validation images and all numbers are of the test images.
The network with its norms set is kept in the store (`norms-set/SEED-*.safetensors`), and `sslcurr finetune` takes it.
Stages and probes lie in the store (`--runs`): the same command goes on where it stopped, and two can share the work.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import records
import torch

from sslcurr.analysis.evaluation.classifier import features_of, report_split
from sslcurr.analysis.measures.classification import balanced_accuracy
from sslcurr.analysis.measures.probes import probe_layers
from sslcurr.backbones.build import build
from sslcurr.backbones.checkpoint import Header, save_backbone
from sslcurr.data.views.view import View
from sslcurr.engine.batches import Feed
from sslcurr.engine.plan import Planner
from sslcurr.engine.run import train_stage
from sslcurr.engine.selection import select
from sslcurr.engine.store import Store
from sslcurr.files import read_json, write_whole
from sslcurr.progress import Reporter
from sslcurr.seeds import seed_for
from sslcurr.spec.request import Request
from sslcurr.spec.runtime import Runtime
from sslcurr.spec.stage import StageSpec, hash_of
from sslcurr.tasks import PRETEXT

UNTRAINED, CALIBRATED = "untrained", "untrained-norms-set"
LIGHTLY = ("mocov2", "swav", "simclr", "byol")
LAYERS = ("layer3", "layer4", "pooled")
COLUMNS = ("layer3", "pooled", "best", "gain")


def plan(task: str, seed: int, arguments: argparse.Namespace, store: Store) -> StageSpec:
    """The stage of a task, its recipe's values but for the backbone, the epochs and the batch size."""
    request = Request(
        dataset=str(arguments.dataset),
        backbone=arguments.backbone,
        stem=arguments.stem or None,
        image_size=arguments.image_size or None,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size or None,
        seed=seed,
        settings=(
            *([f"data.channels={arguments.channels}"] if arguments.channels else []),
            *(given for given in arguments.set if given.startswith((f"{task}.", "data."))),
        ),
    )
    return Planner(request, store, [task]).chain([task])[0]


def probes(weights: Path | None, sha256: str, spec: StageSpec, store: Store, device: str) -> dict[str, Any]:
    """Test balanced accuracy at every layer, and the layer that is best on the validation images, for both probes."""

    def compute(part: Path) -> dict[str, Any]:
        selection = select(spec.data, labelled=True)
        split = report_split(selection)
        layers = features_of(weights, spec.backbone, spec.config["image_size"], selection, device, spec.seed)
        found: dict[str, Any] = {"split": split}
        for kind in ("knn", "linear"):
            best, results = probe_layers(layers, kind, len(selection.pack.classes), split)
            labels = selection.labels(split)
            test = {name: balanced_accuracy(labels, r.predictions.argmax(axis=1)) for name, r in results.items()}
            found[kind] = {"layers": test, "layer": best, "best": test[best]}
        return found

    inputs = {
        "version": 2,
        "weights": sha256,
        "data": hash_of(spec.data),
        "size": spec.config["image_size"],
        "backbone": hash_of(spec.backbone),
    }
    return read_json(store.analysis("learning", inputs, compute) / "done.json")


def set_norms(spec: StageSpec, path: Path) -> None:
    """Write an untrained backbone whose batch norms know the mean and variance of the training images.

    Any training does that much, even at a learning rate of almost 0: what a task learns is what it gains beyond it.
    """
    selection = select(spec.data, labelled=False)
    torch.manual_seed(seed_for(spec.seed, "init", "backbone"))
    network = build(spec.backbone).train()
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None  # a plain average over the batches
    view = View(size=spec.config["image_size"], crop="center")
    rows = np.random.default_rng(spec.seed).permutation(selection.rows["train"])
    feed = Feed(selection, spec.backbone, torch.device("cpu"))
    with torch.no_grad():
        for part in np.array_split(rows, max(1, len(rows) // spec.training.batch_size)):
            network(feed.views(part, [view], torch.Generator())[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    header = Header(backbone=spec.backbone, image_size=spec.config["image_size"], tasks=())
    write_whole(path, lambda temporary: save_backbone(network, header, temporary))


def measure(task: str, seed: int, arguments: argparse.Namespace, store: Store) -> dict[str, Any]:
    """Train (or find) one task from one seed, and probe it."""
    if task == UNTRAINED:
        spec = plan("rotation", seed, arguments, store)
        return {"task": task, "seed": seed, **probes(None, f"untrained {seed}", spec, store, arguments.device)}
    if task == CALIBRATED:
        spec = plan("rotation", seed, arguments, store)
        weights = store.root / "norms-set" / f"{seed}-{hash_of(spec)[:16]}.safetensors"
        if not weights.exists():
            set_norms(spec, weights)
        return {"task": task, "seed": seed, **probes(weights, f"{CALIBRATED} {seed}", spec, store, arguments.device)}
    name, _, library = task.partition("@")
    spec = plan(name, seed, arguments, store)
    if library:
        from lightly_tasks import train_with_lightly

        began = time.monotonic()
        key = hash_of({"spec": spec, "library": importlib.metadata.version("lightly")})[:16]
        weights = store.root / "lightly" / f"{key}.safetensors"
        if not weights.exists():
            train_with_lightly(spec, weights)
        found = probes(weights, f"lightly {key}", spec, store, arguments.device)
        return {"task": task, "seed": seed, "seconds": round(time.monotonic() - began, 1), "stage": {}, **found}
    stage = train_stage(spec, store, Runtime(device=arguments.device), Reporter())
    record = stage.record
    found = probes(stage.weights, record.weights_sha256, spec, store, arguments.device)
    return {"task": task, "seed": seed, "seconds": round(record.seconds, 1), "stage": record.metrics, **found}


def summary(values: list[float]) -> dict[str, float]:
    """Mean and standard deviation over seeds."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": round(statistics.mean(values), 4), "std": round(spread, 4), "n": len(values)}


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line a task: means over seeds, and the gain over the untrained backbone with norms set of the same seed."""
    untrained = {row["seed"]: row for row in rows if row["task"] == CALIBRATED}
    lines = []
    for task in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == task]
        line: dict[str, Any] = {"task": task}
        for kind in ("knn", "linear"):
            layers = {name: summary([row[kind]["layers"][name] for row in own]) for name in LAYERS}
            best = summary([row[kind]["best"] for row in own])
            gain = summary([row[kind]["best"] - untrained[row["seed"]][kind]["best"] for row in own])
            line[kind] = {**layers, "best": best, "gain": gain, "chosen": [row[kind]["layer"] for row in own]}
        lines.append(line)
    return lines


def shown(row: dict[str, Any]) -> str:
    """The best layer of both probes, and the last ones."""
    parts = []
    for kind in ("knn", "linear"):
        layers = " ".join(f"{row[kind]['layers'][name]:.3f}" for name in LAYERS)
        parts.append(f"{kind} {row[kind]['best']:.3f} at {row[kind]['layer']} ({layers})")
    return "  ".join(parts)


def main() -> None:
    """Parse, train, probe, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="a folder or table of labelled images")
    parser.add_argument("--name", required=True, help="what to call the data set in the results")
    parser.add_argument("--tasks", nargs="*", default=list(PRETEXT))
    parser.add_argument("--lightly", nargs="*", default=[], choices=LIGHTLY)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32, help="0: as the recipes have it")
    parser.add_argument("--image-size", type=int, default=64, help="0: as the images have it")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--stem", default="imagenet", help="empty: the usual one of the backbone at this size")
    parser.add_argument("--channels", type=int, default=0, help="1 makes a grey network of colour images")
    parser.add_argument("--set", nargs="*", default=[], help="TASK.NAME=VALUE, data.NAME=VALUE")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runs", type=Path, default=Path("runs-learning"))
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    store = Store(arguments.runs)
    rows = []
    for seed in arguments.seeds:
        for task in (UNTRAINED, CALIBRATED, *arguments.tasks, *(f"{name}@lightly" for name in arguments.lightly)):
            row = measure(task, seed, arguments, store)
            rows.append(row)
            print(f"{task:22} seed {seed}  {shown(row)}  {row.get('seconds', 0):.0f} s", flush=True)
    lines = table(rows)
    print(f"\n{arguments.name}: test balanced accuracy, mean (std) of {len(arguments.seeds)} seeds")
    print(f"{'':22} " + " ".join(f"{kind + ' ' + name:>15}" for kind in ("knn", "linear") for name in COLUMNS))
    for line in lines:
        cells = [line[kind][name] for kind in ("knn", "linear") for name in COLUMNS]
        print(f"{line['task']:22} " + " ".join(f"{cell['mean']:7.3f} ({cell['std']:.3f})" for cell in cells))
    records.write(
        arguments.json,
        f"balanced accuracy of probes on the test images, {arguments.backbone}",
        rows,
        packages=("torch", "torchvision", "lightly", "timm"),
        device="cuda" if torch.cuda.is_available() else "cpu",
        data=arguments.name,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        image_size=arguments.image_size,
        settings=arguments.set,
        table=lines,
    )


if __name__ == "__main__":
    main()
