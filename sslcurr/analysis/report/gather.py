"""All that a store holds, as the one document that the page is made of."""

from __future__ import annotations

import csv
import itertools
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sslcurr.engine.store import Stage, Store
from sslcurr.errors import StoreError, did_you_mean
from sslcurr.files import read_json
from sslcurr.version import __version__

# Points of a small curve, stages that are drawn in full, stages that have a row.
MOST_POINTS = 60


def gather(store: Store, names: Sequence[str] = ()) -> dict[str, Any]:
    """What a store holds, as plain values: runs and stages, newest first, with totals.

    Args:
        store: is only read.
        names: of the runs that count, with the stages that they need; none: all there is.

    Raises:
        StoreError: nothing is there, or a run of that name is not.
    """
    records = store.all_runs()
    for name in names:
        if name not in records:
            hint = did_you_mean(name, records) if records else "sslcurr runs lists them"
            raise StoreError(f"there is no run {name!r} in {store.root}", hint)
    chosen = {name: record for name, record in records.items() if not names or name in names}
    wanted = {key for record in chosen.values() for key in record["stages"]}
    every = {stage.key: _describe(stage) for stage in reversed(store.all()) if not names or stage.key in wanted}
    if not chosen and not every:
        raise StoreError(
            f"the store {store.root} is empty", "train something first, or give the store of your runs as --runs FOLDER"
        )
    runs = [_run(store, name, record, every) for name, record in reversed(chosen.items())]
    devices: dict[str, dict[str, Any]] = {}
    versions: dict[str, dict[str, Any]] = {}
    for stage in every.values():
        device = devices.setdefault(stage["device"], {"device": stage["device"], "stages": 0, "hours": 0.0})
        device["stages"] += 1
        device["hours"] += stage["hours"]
        text = json.dumps(stage["versions"], sort_keys=True)
        versions.setdefault(text, {"versions": stage["versions"], "stages": 0})["stages"] += 1
    return {
        "store": str(store.root),
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "sslcurr": __version__,
        "totals": {
            "runs": len(runs),
            "finished": sum(run["finished"] for run in runs),
            "stages": len(every),
            "hours": sum(stage["hours"] for stage in every.values()),
            "devices": sorted(devices.values(), key=lambda device: -device["hours"]),
            "versions": sorted(versions.values(), key=lambda entry: -entry["stages"]),
        },
        "datasets": _datasets(store, every.values(), chosen.values()),
        "runs": runs,
        "stages": list(every.values()),
    }


def _run(store: Store, name: str, record: Mapping[str, Any], stages: Mapping[str, Any]) -> dict[str, Any]:
    found = store.result(name)
    keys = list(dict.fromkeys(record["stages"]))
    there = [stages[key] for key in keys if key in stages]
    document = found[1] if found is not None else None
    return {
        "run": name,
        "kind": found[0] if found is not None else None,
        "title": record["title"],
        "dataset": record["dataset"],
        "seed": record["seed"],
        "created": record["created"],
        "finished": record["finished"],
        "balanced_accuracy": record["balanced_accuracy"],
        "command": record["command"],
        "stages": keys,
        "missing": [key for key in keys if key not in stages],
        "hours": sum(stage["hours"] for stage in there),
        "devices": list(dict.fromkeys(stage["device"] for stage in there)),
        "failed": list((document or {}).get("failed", [])),
        "settings": _settings(there),
        "document": document,
    }


def _settings(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How the stages of a run were trained: each way once."""
    ways: dict[str, dict[str, Any]] = {}
    for stage in stages:
        way = {"task": stage["task"], **stage["settings"]}
        ways.setdefault(json.dumps(way), {**way, "stages": 0})["stages"] += 1
    return list(ways.values())


def _describe(stage: Stage) -> dict[str, Any]:
    """What the report says of a stage, read as it was written, so that one of another version is no stumbling block."""
    spec, record = read_json(stage.folder / "stage.json"), stage.record
    data, training, searched = spec["data"], spec["training"], record.get("search")
    return {
        "key": stage.key,
        "task": spec["task"],
        "chain": [*spec["lineage"], spec["task"]],
        "parent": spec["parent"],
        "dataset": data.get("name", ""),
        "fingerprint": data["fingerprint"],
        "pack": Path(data.get("pack", "")).name,
        "seed": spec["seed"],
        "num_images": record["num_images"],
        "steps": record["steps"],
        "hours": record["seconds"] / 3600,
        "images_per_second": record["images_per_second"],
        "device": record["device"],
        "precision": record["precision"],
        "versions": record["versions"],
        "metrics": record["metrics"],
        "settings": {
            "version": spec["version"],
            "backbone": spec["backbone"]["name"],
            "stem": spec["backbone"]["stem"],
            "channels": spec["backbone"]["channels"],
            "image_size": spec["config"].get("image_size"),
            "epochs": training["epochs"],
            "batch_size": training["batch_size"],
            "optimizer": training["optimizer"],
            "lr": training["lr"] if searched is None else searched["lr"],
            "lr_searched": searched is not None,
            "share": data.get("fraction", 1.0),
        },
        "curve": curve(stage.folder / "metrics.csv"),
    }


def curve(path: Path) -> list[list[float]]:
    """The loss of a stage at no more than 60 steps: means of as many stretches, [step, loss]; none without a log."""
    if not path.is_file():
        return []
    rows = []
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            try:
                step, loss = int(row["step"]), float(row["loss"])
            except (KeyError, TypeError, ValueError):
                continue  # a line that a full disk cut short
            if math.isfinite(loss):
                rows.append((step, loss))
    edges = [len(rows) * i // MOST_POINTS for i in range(MOST_POINTS + 1)] if len(rows) > MOST_POINTS else []
    parts = [rows[a:b] for a, b in itertools.pairwise(edges)] if edges else [[row] for row in rows]
    return [[part[len(part) // 2][0], sum(loss for _, loss in part) / len(part)] for part in parts]


def _datasets(store: Store, stages: Any, records: Any) -> list[dict[str, Any]]:
    """The data sets that stages and runs saw, as far as their packs are still there."""
    names = [stage["pack"] for stage in stages] + [pack for record in records for pack in record["packs"]]
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(names):
        path = store.packs / name / "pack.json"
        if not name or not path.is_file():
            continue
        pack = read_json(path)
        entry = found.setdefault(
            pack["fingerprint"],
            {key: pack.get(key) for key in ("name", "num_images", "skipped", "classes", "channels", "fingerprint")},
        )
        entry["channels"] = max(entry["channels"], pack["channels"])
        entry.setdefault("sizes", []).append(pack["size"])
    for entry in found.values():
        entry["sizes"] = sorted(set(entry["sizes"]))
    for stage in stages:
        blank = dict.fromkeys(("num_images", "skipped", "classes", "channels"))
        found.setdefault(
            stage["fingerprint"],
            {"name": stage["dataset"], **blank, "fingerprint": stage["fingerprint"], "sizes": []},
        )
    return list(found.values())
