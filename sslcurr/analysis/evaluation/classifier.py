"""How good a stage is at the target task: the test report of a fine-tuned model, or of a probe on frozen features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from sslcurr.analysis.measures.calibration import (
    Bin,
    claims_of,
    expected_error,
    probabilities_of,
    reliability,
    temperature_of,
)
from sslcurr.analysis.measures.classification import classification_measures
from sslcurr.analysis.measures.intervals import Images
from sslcurr.analysis.measures.probes import Features, ProbeResult, probe_layers
from sslcurr.analysis.measures.targets import (
    agreement_of,
    by_fold,
    least_variance,
    macro_values,
    multilabel_measures,
    r2_values,
    regression_measures,
)
from sslcurr.analysis.results.training.document import (
    Calibration,
    LabelReport,
    NumberBin,
    ProbedLayer,
    ReliabilityBin,
    TargetReport,
)
from sslcurr.data.pack import Pack, load_pack
from sslcurr.engine.cost import FORWARD
from sslcurr.engine.graph import Job
from sslcurr.engine.selection import Selection, select
from sslcurr.engine.store import Stage, Store, analysis_name, data_placed, data_portable
from sslcurr.errors import SpecError
from sslcurr.files import read_as, write_whole
from sslcurr.progress import Reporter
from sslcurr.spec.stage import BackboneSpec, DataSpec, Json, StageSpec, hash_of, key_of, to_dict
from sslcurr.spec.target import CLASSES, MULTILABEL, REGRESSION, TARGET_TASKS, TARGETS, TargetKind, labels_text
from sslcurr.tasks import config_of, task_class

if TYPE_CHECKING:
    from torch import nn

    from sslcurr.data.views.view import View
    from sslcurr.spec.runtime import Runtime

REPORT = "classification"
HEAD = "head.safetensors"
# Raised when the reports of the same weights and images come out differently.
# 2: intervals by Student's t. 3: small classes that are all right are not certain. 4: with calibration.
VERSION = 4
# 2: linear probes are trained ten times closer to their optimum. 3: intervals by Student's t. 4: as 3 above.
PROBE_VERSION = 4


def evaluate(stage: Stage, spec: StageSpec, store: Store, device: str) -> tuple[TargetReport, Path]:
    """The test report of a fine-tuned stage, and the folder of it with `predictions.csv`.

    The split is `test`, or `val` for data without test images.
    """
    folder = store.analysis(REPORT, _report_inputs(stage, spec), lambda part: _evaluate(stage, spec, part, device))
    return report_in(folder), folder


def _report_inputs(stage: Stage, spec: StageSpec) -> Json:
    return {
        "version": VERSION,
        "weights": stage.record.weights_sha256,
        "stage": stage.key,
        "data": hash_of(spec.data),
    }


def kept_report(stage: Stage, spec: StageSpec, store: Store) -> TargetReport | None:
    """The test report of a fine-tuned stage, if the store has it."""
    inputs = _report_inputs(stage, spec)
    return report_in(store.analyses / analysis_name(REPORT, inputs)) if store.has_analysis(REPORT, inputs) else None


class ReportWork:
    """The test report of a fine-tuned stage: see `sslcurr.engine.jobs.Work`."""

    @staticmethod
    def is_done(job: Job, store: Store) -> bool:
        """Whether the report is in the store."""
        stage = store.stage(job.arguments["stage"])
        return store.has_analysis(REPORT, _report_inputs(stage, stage.spec))

    @staticmethod
    def run(job: Job, store: Store, runtime: Runtime, report: Reporter) -> None:
        """Test it."""
        stage = store.stage(job.arguments["stage"])
        evaluate(stage, stage.spec, store, runtime.device)


def report_job(spec: StageSpec, num_images: int) -> Job:
    """The test report of a fine-tuned stage as a job, of so many images."""
    return Job(
        name=f"report {key_of(spec)}",
        kind="report",
        title=f"{spec.title}: test",
        arguments={"stage": key_of(spec)},
        needs=(key_of(spec),),
        cost=FORWARD * num_images,
    )


def report_in(folder: Path) -> TargetReport:
    """The report that an analysis keeps, with the path of its predictions.

    Raises:
        StoreError: it is damaged.
    """
    report = read_as(folder / "done.json", TargetReport)
    return msgspec.structs.replace(report, predictions=f"{folder}/predictions.csv")


def _evaluate(stage: Stage, spec: StageSpec, part: Path, device: str) -> Json:
    from sslcurr.engine.batches import Feed, Scanner
    from sslcurr.engine.device import tested_placement

    selection = select(spec.data, labelled=True)
    split = report_split(selection)
    where = tested_placement(device, spec.training.precision)
    _, network = classifier_of(stage, spec)
    network = network.to(where.device)
    scan = Scanner(Feed(selection, spec.backbone, where.device), fixed_view_of(spec), where.autocast)
    outputs = {name: scan(network, name).double().cpu().numpy() for name in {split, "val"} if len(selection.rows[name])}
    target = TARGET_TASKS[spec.task]
    report = write_report(part, selection, split, predictions_of_outputs(outputs[split], target))
    if target is not REGRESSION:
        report = msgspec.structs.replace(report, calibration=_calibration(outputs, selection, split, target))
    return report.to_json()


def predictions_of_outputs(
    outputs: NDArray[np.float64], target: TargetKind, temperature: float = 1.0
) -> NDArray[np.float64]:
    """What outputs of a network, [N, T], say: probabilities of classes or of labels, or numbers."""
    if target is REGRESSION:
        return outputs
    return probabilities_of(outputs, exclusive=target is CLASSES, temperature=temperature)


def _calibration(
    outputs: dict[str, NDArray[np.float64]], selection: Selection, split: str, target: TargetKind
) -> Calibration:
    """Of the probabilities on a split, with and without the temperature that the validation images choose."""
    exclusive = target is CLASSES
    targets = {name: selection.targets(selection.rows[name]) for name in outputs}
    temperature = None
    if "val" in outputs and split != "val":
        temperature = temperature_of(outputs["val"], targets["val"], exclusive=exclusive)

    def bins_at(temperature: float) -> list[Bin]:
        probabilities = probabilities_of(outputs[split], exclusive=exclusive, temperature=temperature)
        return reliability(*claims_of(probabilities, targets[split], exclusive=exclusive))

    plain, calibrated = bins_at(1.0), None if temperature is None else bins_at(temperature)
    return Calibration(
        error=expected_error(plain),
        bins=_shown_bins(plain),
        temperature=temperature,
        calibrated_error=None if calibrated is None else expected_error(calibrated),
        calibrated_bins=None if calibrated is None else _shown_bins(calibrated),
    )


def calibration_at(probabilities: NDArray[Any], targets: NDArray[Any], target: TargetKind) -> Calibration:
    """Of probabilities as they are; of classes, or of labels."""
    bins = reliability(*claims_of(probabilities, targets, exclusive=target is CLASSES))
    return Calibration(
        error=expected_error(bins),
        bins=_shown_bins(bins),
        temperature=None,
        calibrated_error=None,
        calibrated_bins=None,
    )


def _shown_bins(bins: Sequence[Bin]) -> list[ReliabilityBin]:
    return [ReliabilityBin(num=each.num, confidence=each.confidence, right=each.right) for each in bins]


def classifier_of(stage: Stage, spec: StageSpec) -> tuple[nn.Module, nn.Module]:
    """The backbone of a fine-tuned stage, and the same with its last layer: [N, C, H, W] to [N, outputs].

    Outputs are logits of classes or of labels, or numbers. Both are on the CPU, in evaluation mode.
    """
    from torch import nn

    from sslcurr.backbones.build import build, num_features
    from sslcurr.backbones.checkpoint import load_into, read_head

    backbone = build(spec.backbone)
    load_into(backbone, stage.weights)
    matrix, bias = read_head(stage.folder / HEAD)
    linear = nn.Linear(num_features(backbone), len(matrix))
    linear.load_state_dict({"weight": matrix, "bias": bias})
    return backbone, nn.Sequential(backbone, linear).eval()


def fixed_view_of(spec: StageSpec) -> View:
    """The view of an image that a fine-tuned stage is tested on."""
    return task_class(spec.task).fixed_view(config_of(spec))


def classes_of(stage: Stage) -> tuple[str, ...]:
    """The names of the classes, labels or numbers that a stage was fine-tuned for.

    Raises:
        DataError: the packed images, which say those of a stage of an older version, are gone.
    """
    known = stage.record.classes
    return tuple(load_pack(Path(stage.spec.data.pack)).classes if isinstance(known, UnsetType) else known)


def probe(
    weights: Path | None,
    weights_sha256: str,
    backbone: BackboneSpec,
    image_size: int,
    data: DataSpec,
    kind: str,
    store: Store,
    device: str,
    seed: int = 0,
    layers: str = "*",
) -> tuple[TargetReport, Path]:
    """The test report of a probe (`knn` or `linear`) on frozen features of a checkpoint, and its folder.

    Every stage of the network and its pooled output whose name `layers` matches (`pooled`, `layer*`) are probed; the
    layer with the best main measure on the validation images is reported, all of them are listed under `layers`.
    `weights` None is the untrained backbone.

    Raises:
        SpecError: no layer has such a name.
    """
    inputs = _probe_inputs(weights_sha256, backbone, image_size, data, kind, layers)
    folder = store.analysis(
        kind, inputs, lambda part: _probe(weights, backbone, image_size, data, kind, part, device, seed, layers)
    )
    return report_in(folder), folder


def _probe_inputs(
    weights_sha256: str, backbone: BackboneSpec, image_size: int, data: DataSpec, kind: str, layers: str
) -> Json:
    return {
        "version": PROBE_VERSION,
        "weights": weights_sha256,
        "backbone": to_dict(backbone),
        "image_size": image_size,
        "data": hash_of(data),
        "probe": kind,
        **({} if layers == "*" else {"layers": layers}),
    }


class ProbeWork:
    """A probe of a stage's frozen features: see `sslcurr.engine.jobs.Work`."""

    @staticmethod
    def is_done(job: Job, store: Store) -> bool:
        """Whether the probe is in the store."""
        values = job.arguments
        stage = store.stage(values["stage"])
        digest, backbone = stage.record.weights_sha256, stage.spec.backbone
        data = data_placed(values["data"], store)
        inputs = _probe_inputs(digest, backbone, values["image_size"], data, values["probe"], values["layers"])
        return store.has_analysis(values["probe"], inputs)

    @staticmethod
    def run(job: Job, store: Store, runtime: Runtime, report: Reporter) -> None:
        """Probe it."""
        values = job.arguments
        stage = store.stage(values["stage"])
        digest, backbone = stage.record.weights_sha256, stage.spec.backbone
        data = data_placed(values["data"], store)
        seed, layers = values["seed"], values["layers"]
        size, kind = values["image_size"], values["probe"]
        probe(stage.weights, digest, backbone, size, data, kind, store, runtime.device, seed, layers)


def probe_job(
    spec: StageSpec, image_size: int, data: DataSpec, kind: str, store: Store, num_images: int, layers: str = "*"
) -> Job:
    """A probe of a stage as a job.

    Args:
        spec: the stage.
        image_size: side of the images, in pixels.
        data: the images.
        kind: `knn` or `linear`.
        store: where the stage is.
        num_images: of all splits.
        layers: those that are probed, a pattern of names.
    """
    arguments = {
        "stage": key_of(spec),
        "image_size": image_size,
        "data": data_portable(data, store),
        "probe": kind,
        "seed": spec.seed,
        "layers": layers,
    }
    return Job(
        name=f"{kind} {hash_of(arguments)[:16]}",
        kind="probe",
        title=f"{spec.title}: {kind}",
        arguments=arguments,
        needs=(key_of(spec),),
        cost=FORWARD * num_images,
    )


def _probe(
    weights: Path | None,
    backbone: BackboneSpec,
    image_size: int,
    data: DataSpec,
    kind: str,
    part: Path,
    device: str,
    seed: int,
    layers: str,
) -> Json:
    from fnmatch import fnmatchcase

    selection = select(data, labelled=True)
    split = report_split(selection)
    every = features_of(weights, backbone, image_size, selection, device, seed)
    wanted = {name: features for name, features in every.items() if fnmatchcase(name, layers)}
    if not wanted:
        raise SpecError(f"no layer of {backbone.name} is named {layers!r}", f"there are {', '.join(every)}")
    target = TARGETS[selection.pack.target]
    best, results = probe_layers(wanted, kind, len(selection.pack.classes), split, target)
    report = write_report(part, selection, split, results[best].predictions)
    tried = {name: _probed(result, target) for name, result in results.items()}
    setting = tried[best]
    return msgspec.structs.replace(
        report, probe=kind, layer=best, neighbours=setting.neighbours, C=setting.C, layers=tried
    ).to_json()


def _probed(result: ProbeResult, target: TargetKind) -> ProbedLayer:
    setting, is_of_classes = result.setting, target is CLASSES
    return ProbedLayer(
        val_balanced_accuracy=result.validation if is_of_classes else UNSET,
        val_score=UNSET if is_of_classes else result.validation,
        neighbours=int(setting["neighbours"]) if "neighbours" in setting else UNSET,
        C=setting.get("C", UNSET),
    )


def features_of(
    weights: Path | None,
    backbone: BackboneSpec,
    image_size: int,
    selection: Selection,
    device: str,
    seed: int,
) -> dict[str, Features]:
    """Layer -> `Features` of the labelled images, for a checkpoint or (weights None) an untrained backbone."""

    from sslcurr.backbones.build import StageFeatures, build
    from sslcurr.backbones.checkpoint import load_into
    from sslcurr.data.views.view import View
    from sslcurr.engine.batches import Feed, Scanner
    from sslcurr.engine.device import placement
    from sslcurr.seeds import seed_torch

    seed_torch(seed, "init", "backbone")
    network = build(backbone)
    if weights is not None:
        load_into(network, weights)
    where = placement(device, "32")
    module = StageFeatures(network.to(where.device))
    scan = Scanner(Feed(selection, backbone, where.device), View(size=image_size, crop="center"))
    x: dict[str, NDArray[Any]] = {}
    for name in ("train", "val", "test"):
        if len(selection.rows[name]):
            x[name] = scan(module, name).cpu().numpy()
    y = {name: selection.targets(selection.rows[name]) for name in ("train", "val", "test")}
    edges = np.cumsum([0, *module.widths])
    return {
        layer: Features({split: values[:, edges[i] : edges[i + 1]] for split, values in x.items()}, y)
        for i, layer in enumerate(module.names)
    }


def report_split(selection: Selection) -> str:
    """The split that is reported: `test` where there are test images, else `val`, else `train`."""
    return next(name for name in ("test", "val", "train") if len(selection.rows[name]))


def images_of(selection: Selection, split: str) -> Images:
    """How the main measure averages the images of a split, and which of them belong together."""
    return images_of_rows(selection.pack, selection.rows[split])


def images_of_rows(pack: Pack, rows: NDArray[np.integer], folds: NDArray[np.integer] | None = None) -> Images:
    """The same of rows of a pack; `folds` are those that tested them, where there are several models."""
    groups = None if pack.groups is None else pack.groups[rows]
    if pack.values is None:
        return Images.of(len(rows), classes=pack.labels[rows], groups=groups, folds=folds)
    least = least_variance(pack.values[rows], groups) if pack.target == MULTILABEL.name else 0.0
    return Images.of(len(rows), groups=groups, least=least, folds=folds, shares=False)


def write_report(part: Path, selection: Selection, split: str, predictions: NDArray[Any]) -> TargetReport:
    """Write `predictions.csv` into `part`; gives the report.

    Args:
        part: a folder.
        selection: the images.
        split: those that are reported.
        predictions: [N, T] probabilities of classes or of labels, or numbers.
    """
    pack, rows = selection.pack, selection.rows[split]
    groups = pack.groups[rows] if pack.groups is not None else None
    named: dict[str, Any] = {"path": [pack.names[row] for row in rows]}
    if groups is not None:
        named["group"] = [str(group) for group in groups]
    target = TARGETS[pack.target]
    labels = pack.labels[rows] if pack.values is None else pack.values[rows]
    table, report = judged(labels, predictions, target, pack.classes, groups, split)
    write_columns(part / "predictions.csv", {**named, **table})
    return report


def judged(
    labels: NDArray[Any],
    predictions: NDArray[Any],
    target: TargetKind,
    names: Sequence[str],
    groups: NDArray[Any] | None,
    split: str,
    folds: NDArray[Any] | None = None,
) -> tuple[dict[str, Any], TargetReport]:
    """Predictions as columns of a table, and how good they are.

    Args:
        labels: [N] class numbers, or [N, T] values of another kind of target.
        predictions: [N, T] probabilities, or numbers.
        target: the kind of target.
        names: of the T classes, labels or numbers.
        groups: [N] group numbers; images of one group are not independent.
        split: what the images are called.
        folds: [N] the fold that tested each image; None for one model.

    Returns:
        Columns `label`, `prediction`, `probability_NAME` and, where the target is no class, `value`: what each image
        gives to the main measure, which is their mean. And the report.
    """
    if target is CLASSES:
        measures = classification_measures(labels, predictions, names, groups, folds)
        table = {"label": [names[label] for label in labels], **predicted_columns(predictions, target, names)}
        return table, TargetReport(split=split, **vars(measures))
    if target is MULTILABEL:
        values = macro_values(labels, predictions, folds=folds)
        found = multilabel_measures(labels, predictions, names, groups, folds)
        table = {"label": label_texts(labels, names), **predicted_columns(predictions, target, names)}
        report = TargetReport(
            split=split,
            interval=found.interval,
            auroc=found.auroc,
            num_images=found.num_images,
            classes=list(names),
            target=target.name,
            average_precision=found.average_precision,
            average_precision_interval=found.average_precision_interval,
            labels={name: LabelReport(**vars(each)) for name, each in found.labels.items()},
        )
    else:
        numbers, foretold = labels[:, 0].astype(np.float64), predictions[:, 0].astype(np.float64)
        values = by_fold(lambda rows: r2_values(numbers[rows], foretold[rows]), len(numbers), folds)
        table = {"label": [f"{number:.9g}" for number in labels[:, 0]], **predicted_columns(predictions, target, names)}
        report = TargetReport(
            split=split,
            classes=list(names),
            target=target.name,
            agreement=[NumberBin(**vars(each)) for each in agreement_of(numbers, foretold)],
            **vars(regression_measures(numbers, foretold, groups, folds)),
        )
    # In full, so that their mean is the measure to the last digit.
    return table | ({} if values is None else {"value": [repr(float(value)) for value in values]}), report


def predicted_columns(predictions: NDArray[Any], target: TargetKind, names: Sequence[str]) -> dict[str, Any]:
    """Predictions as columns of a table: what is predicted, and the probability of each class or label."""
    if target is REGRESSION:
        return {"prediction": predictions[:, 0]}
    if target is CLASSES:
        named = [names[number] for number in predictions.argmax(axis=1)]
    else:
        named = [labels_text(name for name, p in zip(names, row, strict=True) if p >= 0.5) for row in predictions]
    return {"prediction": named, **{f"probability_{name}": predictions[:, c] for c, name in enumerate(names)}}


def label_texts(values: NDArray[Any], names: Sequence[str]) -> list[str]:
    """Labels that hold together, [N, T] values, as texts of `sslcurr.data.targets`."""
    return [
        labels_text(
            (name for name, value in zip(names, row, strict=True) if value == 1),
            (name for name, value in zip(names, row, strict=True) if np.isnan(value)),
        )
        for row in values
    ]


def write_columns(path: Path, columns: dict[str, Any]) -> None:
    """Write columns of predictions as CSV, numbers with fractions in six digits."""
    import pandas as pd

    table = pd.DataFrame(columns)
    write_whole(path, lambda part: table.to_csv(part, index=False, float_format="%.6g"))
