"""How good a stage is at the target task: the test report of a fine-tuned model, or of a probe on frozen features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from sslcurr.analysis.measures.classification import classification_measures
from sslcurr.analysis.measures.probes import Features, ProbeResult, probe_layers
from sslcurr.analysis.results.training.document import ClassificationReport, ProbedLayer
from sslcurr.data.pack import load_pack
from sslcurr.engine.cost import FORWARD
from sslcurr.engine.graph import Job
from sslcurr.engine.selection import Selection, select
from sslcurr.engine.store import Stage, Store, data_placed, data_portable
from sslcurr.errors import SpecError
from sslcurr.files import read_as, write_whole
from sslcurr.progress import Reporter
from sslcurr.spec.stage import BackboneSpec, DataSpec, Json, StageSpec, hash_of, key_of, to_dict
from sslcurr.tasks import config_of, task_class

if TYPE_CHECKING:
    from torch import nn

    from sslcurr.data.views.view import View
    from sslcurr.spec.runtime import Runtime

REPORT = "classification"
# Raised when the reports of the same weights and images come out differently.
# 2: intervals by Student's t. 3: small classes that are all right are not certain.
VERSION = 3
# 2: linear probes are trained ten times closer to their optimum. 3: intervals by Student's t. 4: as 3 above.
PROBE_VERSION = 4


def evaluate(stage: Stage, spec: StageSpec, store: Store, device: str) -> tuple[ClassificationReport, Path]:
    """The test report of a `classification` stage, and the folder of it with `predictions.csv`.

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


def report_in(folder: Path) -> ClassificationReport:
    """The report that an analysis keeps, with the path of its predictions.

    Raises:
        StoreError: it is damaged.
    """
    report = read_as(folder / "done.json", ClassificationReport)
    return msgspec.structs.replace(report, predictions=f"{folder}/predictions.csv")


def _evaluate(stage: Stage, spec: StageSpec, part: Path, device: str) -> Json:
    import torch

    from sslcurr.engine.batches import Feed, Scanner
    from sslcurr.engine.device import SLOWEST_BF16, placement, times_slower

    selection = select(spec.data, labelled=True)
    split = report_split(selection)
    where = placement(device, spec.training.precision)
    if times_slower(where) > SLOWEST_BF16:
        where = placement(device, "32")
    _, network = classifier_of(stage, spec)
    scan = Scanner(Feed(selection, spec.backbone, where.device), fixed_view_of(spec), where.autocast)
    logits = scan(network.to(where.device), split)
    return write_report(part, selection, split, torch.softmax(logits.double().cpu(), dim=1).numpy()).to_json()


def classifier_of(stage: Stage, spec: StageSpec) -> tuple[nn.Module, nn.Module]:
    """The backbone of a fine-tuned stage, and the same with its classifier: [N, C, H, W] to [N, classes] logits.

    Both are on the CPU, in evaluation mode.
    """
    from safetensors.torch import load_file
    from torch import nn

    from sslcurr.backbones.build import build, num_features
    from sslcurr.backbones.checkpoint import load_into

    backbone = build(spec.backbone)
    load_into(backbone, stage.weights)
    head = load_file(stage.folder / "head.safetensors")
    (matrix,) = [value for value in head.values() if value.ndim == 2]
    (bias,) = [value for value in head.values() if value.ndim == 1]
    linear = nn.Linear(num_features(backbone), len(matrix))
    linear.load_state_dict({"weight": matrix, "bias": bias})
    return backbone, nn.Sequential(backbone, linear).eval()


def fixed_view_of(spec: StageSpec) -> View:
    """The view of an image that a stage of `classification` is tested on."""
    return task_class(spec.task).fixed_view(config_of(spec))


def classes_of(spec: StageSpec) -> tuple[str, ...]:
    """The names of the classes that a stage was fine-tuned for.

    Raises:
        DataError: the packed images, which say them, are gone.
    """
    return tuple(load_pack(Path(spec.data.pack)).classes)


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
) -> tuple[ClassificationReport, Path]:
    """The test report of a probe (`knn` or `linear`) on frozen features of a checkpoint, and its folder.

    Every stage of the network and its pooled output whose name `layers` matches (`pooled`, `layer*`) are probed; the
    layer with the best balanced accuracy on the validation images is reported, all of them are listed under `layers`.
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
    best, results = probe_layers(wanted, kind, len(selection.pack.classes), split)
    report = write_report(part, selection, split, results[best].probabilities)
    tried = {name: _probed(result) for name, result in results.items()}
    setting = tried[best]
    return msgspec.structs.replace(
        report, probe=kind, layer=best, neighbours=setting.neighbours, C=setting.C, layers=tried
    ).to_json()


def _probed(result: ProbeResult) -> ProbedLayer:
    setting = result.setting
    return ProbedLayer(
        val_balanced_accuracy=result.validation,
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
    import torch

    from sslcurr.backbones.build import StageFeatures, build
    from sslcurr.backbones.checkpoint import load_into
    from sslcurr.data.views.view import View
    from sslcurr.engine.batches import Feed, Scanner
    from sslcurr.engine.device import placement
    from sslcurr.seeds import seed_for

    torch.manual_seed(seed_for(seed, "init", "backbone"))
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
    y = {name: selection.labels(name) for name in ("train", "val", "test")}
    edges = np.cumsum([0, *module.widths])
    return {
        layer: Features({split: values[:, edges[i] : edges[i + 1]] for split, values in x.items()}, y)
        for i, layer in enumerate(module.names)
    }


def report_split(selection: Selection) -> str:
    """The split that is reported: `test` where there are test images, else `val`, else `train`."""
    return next(name for name in ("test", "val", "train") if len(selection.rows[name]))


def write_report(part: Path, selection: Selection, split: str, probabilities: NDArray[Any]) -> ClassificationReport:
    """Write `predictions.csv` into `part`; gives the report."""
    import pandas as pd

    pack, rows = selection.pack, selection.rows[split]
    labels = pack.labels[rows]
    classes: Sequence[str] = pack.classes
    table = pd.DataFrame(
        {
            "path": [pack.names[row] for row in rows],
            **({} if pack.groups is None else {"group": [str(pack.groups[row]) for row in rows]}),
            "label": [classes[label] for label in labels],
            "prediction": [classes[c] for c in probabilities.argmax(axis=1)],
            **{f"probability_{name}": probabilities[:, c] for c, name in enumerate(classes)},
        }
    )
    write_whole(part / "predictions.csv", lambda path: table.to_csv(path, index=False, float_format="%.6g"))
    groups = pack.groups[rows] if pack.groups is not None else None
    measures = classification_measures(labels, probabilities, classes, groups)
    return ClassificationReport(split=split, **vars(measures))
