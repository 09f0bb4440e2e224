"""What `pretrain`, `chain` and `finetune` have in common: plan, show or run, report, print."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslcurr.cli.options import Shared
from sslcurr.cli.output import curves, plotted, print_files, print_json, print_plan, print_reports, print_stages
from sslcurr.cli.progress import Lines, reporting

if TYPE_CHECKING:
    from sslcurr.analysis.evaluation.masks import Regions
    from sslcurr.analysis.experiments.chains import Chains
    from sslcurr.engine.plan import Planner
    from sslcurr.engine.store import Store


def carry_out(
    shared: Shared,
    tasks: Sequence[str],
    *,
    start: str | None = None,
    baseline: bool = False,
    probe: str | None = None,
    layers: str = "*",
) -> None:
    """Train `tasks` from the checkpoint `start` (None: from scratch) and report the target task.

    Args:
        shared: the shared options.
        tasks: the stages; the last may be `classification`, which is then reported on the test split.
        start: a checkpoint file, a stage's folder or the beginning of its key.
        baseline: train classification from scratch too, and show it beside.
        probe: `knn` or `linear`: report a probe on the frozen features of the last stage instead.
        layers: the layers that the probe looks at, a pattern of names.
    """
    from sslcurr.backbones.build import check as check_backbone
    from sslcurr.engine import plan
    from sslcurr.spec.stage import key_of

    with opened(shared, tasks, start) as (planner, store, report):
        parent = planner.parent
        specs = planner.chain(tasks)
        # From scratch with the same backbone and images: what the pretraining is compared with.
        scratch = plan.Parent(backbone=planner.backbone(parent), image_size=planner.data.image_size)
        extra = planner.chain(["classification"], scratch) if baseline and probe is None else []
        if any(store.find(key_of(spec)) is None for spec in (*specs, *extra)):
            sizes = {size for spec in (*specs, *extra) for size in plan.input_sizes(spec)}
            check_backbone(planner.backbone(parent), sizes)
        if shared.dry_run:
            print_plan([*specs, *extra], store, shared.json)
            return
        document = _run(shared, planner, specs, extra, parent, baseline, probe, layers, report)
    if shared.json:
        print_json(document)


@contextmanager
def opened(shared: Shared, tasks: Sequence[str], start: str | None) -> Iterator[tuple[Planner, Store, Lines]]:
    """The planner of a command with its data packed, the store, and the reporter, which is closed at the end."""
    from sslcurr.engine import plan
    from sslcurr.engine.models import parent_from

    store = shared.store()
    if not shared.dry_run:
        shared.plots()  # a folder that cannot be written is heard of now
    with reporting() as report:
        parent = parent_from(start, store, shared.backbone, shared.stem)
        with report.packing() as progress:
            planner = plan.Planner(shared.wishes(), store, tasks, parent, progress)
        for text in planner.data.notes:
            report.note(text)
        yield planner, store, report


def _run(
    shared: Shared,
    planner: Any,
    specs: Sequence[Any],
    extra: Sequence[Any],
    parent: Any,
    baseline: bool,
    probe: str | None,
    layers: str,
    report: Lines,
) -> dict[str, Any]:
    from sslcurr.analysis.evaluation.masks import regions_of_report
    from sslcurr.engine.run import run_stages
    from sslcurr.spec.stage import key_of, to_dict

    store = shared.store()
    keys = [key_of(spec) for spec in (*specs, *extra)]
    # A probe has no stage of its own whose key would say which images, network and seed it was asked for.
    asked_of = [
        planner.data.pack.fingerprint,
        shared.label_fraction,
        to_dict(planner.backbone(parent)),
        planner.data.image_size,
        shared.seed,
    ]
    probed = [*asked_of, *([layers] if layers != "*" else [])] if probe else []
    record = run_record(
        planner,
        store,
        asked={"stages": keys, "start": parent.key, "probe": probe, "baseline": baseline, "probed": probed},
        title=" -> ".join([*parent.lineage, *(spec.task for spec in specs), *([probe] if probe else [])]),
        stages=keys,
    )
    # Noted before anything is trained: half-done stages of a run that will go on are needed, too.
    store.note_run(record)
    ends = any(spec.task == "classification" for spec in (*specs, *extra))
    # A mask that cannot be is heard of before training.
    regions = regions_of_report(planner, store, report.note) if ends else None
    needed = any(store.find(key) is None for key in keys)
    runtime = shared.runtime() if needed else None
    outcomes = run_stages(specs, store, runtime, report)
    compared = run_stages(extra, store, runtime, report)
    reports, predictions, looked = _reports(
        shared, planner, outcomes, compared, parent, baseline, probe, layers, regions
    )
    record |= {
        "analyses": [*(Path(folder).name for folder in predictions.values()), *looked],
        "balanced_accuracy": next((r["balanced_accuracy"] for r in reports.values()), None),
        "finished": True,
    }
    store.note_run(record)
    document: dict[str, Any] = {"stages": [outcome.to_json() for outcome in outcomes]}
    for name, key in (("downstream", record["title"]), ("baseline", "scratch")):
        if key in reports:
            document[name] = {**reports[key], "predictions": f"{predictions[key]}/predictions.csv"}
    store.keep_result(record, "train", document)
    shown = {outcome.stage.key: outcome for outcome in (*outcomes, *compared)}
    files = [
        *plotted("train", document, shared.plots()),
        *curves({" -> ".join(each.spec.tasks): each.stage for each in shown.values()}, shared.plots()),
    ]
    document["files"] = files
    if not shared.json:
        if outcomes or compared:
            print_stages([*outcomes, *compared])
        if reports:
            print_reports(reports, {name: f"{folder}/predictions.csv" for name, folder in predictions.items()})
        if outcomes and not reports:
            print(f"checkpoint: {outcomes[-1].stage.weights}")
        print_files(files)
    return document


def _reports(
    shared: Shared,
    planner: Any,
    outcomes: Sequence[Any],
    compared: Sequence[Any],
    parent: Any,
    baseline: bool,
    probe: str | None,
    layers: str,
    regions: Regions | None,
) -> tuple[dict[str, dict[str, Any]], dict[str, str], list[str]]:
    """Test reports and the folders that hold their predictions, by the name of what was tested, and the names of the
    analyses of attention."""
    from sslcurr.analysis.evaluation import attention, classifier

    found: dict[str, tuple[dict[str, Any], Path]] = {}
    looked: list[str] = [regions.folder.name] if regions is not None else []
    store = shared.store()
    if probe is None:
        for name, group in ((None, outcomes), ("scratch", compared)):
            if group and group[-1].spec.task == "classification":
                last = group[-1]
                title = name or " -> ".join(last.spec.tasks)
                found[title] = classifier.evaluate(last.stage, last.spec, store, shared.device)
                if regions is not None:
                    seen = attention.gaze_of(last.stage, last.spec, regions, attention.Settings(), store, shared.device)
                    looked.append(seen.folder.name)
                    found[title][0]["attention"] = attention.in_short(seen)
    else:
        found = probes(shared, planner, parent, baseline, probe, layers)
    return {name: r for name, (r, _) in found.items()}, {name: str(f) for name, (_, f) in found.items()}, looked


def probes(
    shared: Shared, planner: Any, parent: Any, baseline: bool, probe: str, layers: str
) -> dict[str, tuple[dict[str, Any], Path]]:
    """Probe reports of a checkpoint, and of the untrained backbone when it is asked for or all there is."""
    from sslcurr.analysis.evaluation import classifier
    from sslcurr.backbones.checkpoint import sha256_of
    from sslcurr.engine.run import weights_of

    planner.selection("classification")  # raises where there are no labels
    store = shared.store()
    backbone = planner.backbone(parent)
    data = planner.data.spec(shared.label_fraction)

    def measure(weights: Path | None, digest: str) -> tuple[dict[str, Any], Path]:
        return classifier.probe(
            weights, digest, backbone, planner.data.image_size, data, probe, store, shared.device, shared.seed, layers
        )

    found = {}
    if parent.key is not None:
        weights = weights_of(parent.key, parent.source, store)
        found[" -> ".join([*parent.lineage, probe])] = measure(weights, sha256_of(weights))
    if parent.key is None or baseline:
        title = probe if parent.key is None else "scratch"
        found[title] = measure(None, f"untrained, seed {shared.seed}")
    return found


def run_record(planner: Any, store: Any, *, asked: dict[str, Any], title: str, stages: list[str]) -> dict[str, Any]:
    """The record of a command for the store: what it was asked, and which stages it needs beside those it starts from.

    `asked` tells runs apart: the same is the same run.
    """
    from sslcurr.engine.store import now, run_name

    earlier = store.all_runs().get(run_name(asked), {})
    return {
        "asked": asked,
        "title": title,
        "dataset": planner.data.pack.name,
        "seed": planner.wishes.seed,
        "stages": [*ancestors(planner.parent.key, store), *stages],
        "analyses": earlier.get("analyses", []),  # until it is known again which are needed
        "packs": [planner.data.pack.folder.name],
        "balanced_accuracy": None,
        "finished": False,
        "command": ["sslcurr", *sys.argv[1:]],
        "created": now(),
    }


def note(chains: Chains, record: dict[str, Any]) -> None:
    """Write the record of a command over many chains, with all that they need so far."""
    own = [*record["stages"], *(key for key in chains.needed if key not in record["stages"])]
    analyses = [*chains.folders, *(name for name in record["analyses"] if not record["finished"])]
    chains.store.note_run(record | {"stages": own, "analyses": list(dict.fromkeys(analyses))})


def ancestors(key: str | None, store: Any) -> list[str]:
    """The keys of a stage and all those before it that the store holds, oldest first."""
    keys: list[str] = []
    while key is not None and (stage := store.find(key)) is not None:
        keys.insert(0, key)
        key = stage.spec.parent
    return keys
