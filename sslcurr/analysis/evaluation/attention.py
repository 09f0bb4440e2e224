"""How much of a fine-tuned model's attention lies inside masks: class activation maps of images, measured and drawn."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.evaluation.attending import TARGETS as TARGETS
from sslcurr.analysis.evaluation.attending import AttentionSettings as AttentionSettings
from sslcurr.analysis.evaluation.attending import KeptAttention as KeptAttention
from sslcurr.analysis.evaluation.attending import Progress
from sslcurr.analysis.evaluation.classifier import classes_of, report_job
from sslcurr.analysis.evaluation.masks import ImageMasks, kept_masks
from sslcurr.analysis.measures import attention
from sslcurr.analysis.results.document import Json
from sslcurr.analysis.results.estimate import Estimate, ReportAttention
from sslcurr.data.pack import load_pack
from sslcurr.engine.graph import Job
from sslcurr.engine.store import Stage, Store
from sslcurr.errors import DataError, SpecError
from sslcurr.files import read_as
from sslcurr.integrity import sound
from sslcurr.progress import Reporter
from sslcurr.spec.runtime import Runtime
from sslcurr.spec.stage import StageSpec, hash_of, key_of
from sslcurr.spec.target import CLASSES
from sslcurr.spec.target import TARGETS as KINDS

ATTENTION = "attention"
# Raised when the same weights, images and masks give other numbers.
VERSION = 1


@dataclass(frozen=True, eq=False)
class ModelAttention:
    """The attention of one model, image by image; all arrays are [N], in the order of the rows of the masks.

    Attributes:
        inside, pointing, coverage: as the functions of `measures.attention`; NaN where a map is zero everywhere.
        predicted: class numbers.
        groups: of the images; None where nothing is known.
        layer: whose maps they are, `map_size` high and wide.
        folder: of the analysis, with `images.csv` and `maps.npy`.
    """

    inside: NDArray[np.float64]
    pointing: NDArray[np.float64]
    coverage: NDArray[np.float64]
    predicted: NDArray[np.int64]
    groups: NDArray[np.integer] | None
    layer: str
    map_size: tuple[int, int]
    folder: Path


def measure_attention(
    stage: Stage,
    spec: StageSpec,
    masks: ImageMasks,
    settings: AttentionSettings,
    store: Store,
    device: str,
    progress: Progress | None = None,
) -> ModelAttention:
    """The attention of a fine-tuned stage in the images that have a mask; computed once, then read.

    Args:
        stage, spec: what was fine-tuned.
        masks: of the images that it is shown, whichever data set they are of.
        settings: how.
        store: keeps it.
        device: as `--device`.
        progress: called with the number of images done and of all.

    Raises:
        SpecError: there is no such layer, or labels are asked for that the model does not know.
    """
    pack = masks.pack
    classes = _names_of(stage, spec, masks)
    if settings.target == "label" and pack.target != CLASSES.name:
        raise SpecError(
            f"the labels of {pack.name} are {KINDS[pack.target].outputs}, and --target label is for classes",
            "leave out --target label",
        )
    if settings.target == "label" and tuple(pack.classes) != classes:
        raise SpecError(
            f"{pack.name} has other classes than {stage.key} was fine-tuned for", "leave out --target label"
        )

    def work(part: Path) -> Json:
        from sslcurr.analysis.evaluation.maps import measure_maps

        return measure_maps(stage, spec, masks, settings, classes, device, progress, part).to_json()

    folder = store.analysis(ATTENTION, _inputs(stage, masks, settings), work)
    kept, arrays = read_as(folder / "done.json", KeptAttention), np.load(sound(folder / "images.npz"))
    return ModelAttention(**dict(arrays), groups=masks.groups, layer=kept.layer, map_size=kept.map_size, folder=folder)


def _inputs(stage: Stage, masks: ImageMasks, settings: AttentionSettings) -> Json:
    return {
        "version": VERSION,
        "stage": stage.key,
        "weights": stage.record.weights_sha256,
        "images": masks.pack.fingerprint,
        "pack_size": masks.pack.size,
        "masks": masks.digest,
        **asdict(settings),
    }


class AttentionWork:
    """The attention of a fine-tuned stage: see `sslcurr.engine.jobs.Work`."""

    @staticmethod
    def is_done(job: Job, store: Store) -> bool:
        """Whether it is in the store."""
        stage, masks, settings = _arguments(job, store)
        return store.has_analysis(ATTENTION, _inputs(stage, masks, settings))

    @staticmethod
    def run(job: Job, store: Store, runtime: Runtime, report: Reporter) -> None:
        """Measure it."""
        stage, masks, settings = _arguments(job, store)
        measure_attention(stage, stage.spec, masks, settings, store, runtime.device)


def _arguments(job: Job, store: Store) -> tuple[Stage, ImageMasks, AttentionSettings]:
    values = job.arguments
    stage = store.stage(values["stage"])
    masks = kept_masks(store.analyses / values["masks"], load_pack(store.packs / values["pack"]))
    return stage, masks, AttentionSettings(**values["settings"])


def attention_job(spec: StageSpec, masks: ImageMasks, settings: AttentionSettings) -> Job | None:
    """The attention of a fine-tuned stage as a job; None for masks of a version that did not keep whose they are.

    Args:
        spec: the stage.
        masks: of the images that it is shown, in the store.
        settings: how.
    """
    if not (masks.folder / "rows.npy").is_file():
        return None
    arguments = {
        "stage": key_of(spec),
        "masks": masks.folder.name,
        "pack": masks.pack.folder.name,
        "settings": asdict(settings),
    }
    return Job(
        name=f"attention {hash_of(arguments)[:16]}",
        kind="attention",
        title=f"{spec.title}: attention",
        arguments=arguments,
        needs=(key_of(spec),),
        cost=float(len(masks.rows)),
    )


def measuring_jobs(
    spec: StageSpec, num_images: int, masks: ImageMasks | None, settings: AttentionSettings
) -> list[Job]:
    """What is measured of a fine-tuned stage as jobs: its test report, and its attention where masks are known.

    Args:
        spec: the stage.
        num_images: that are reported.
        masks: of these images, in the store.
        settings: how attention is measured.
    """
    attended = None if masks is None else attention_job(spec, masks, settings)
    return [report_job(spec, num_images), *([] if attended is None else [attended])]


def _names_of(stage: Stage, spec: StageSpec, masks: ImageMasks) -> tuple[str, ...]:
    """The names of a stage's classes; none where nobody knows them any more."""
    if spec.data.fingerprint == masks.pack.fingerprint:
        return tuple(masks.pack.classes)
    try:
        return tuple(load_pack(Path(spec.data.pack)).classes)
    except DataError:  # it is gone
        return classes_of(stage) if isinstance(stage.record.classes, list) else ()


# ---- what it comes to


def estimate_of(values: NDArray[np.float64], groups: NDArray[np.integer] | None) -> Estimate:
    """The mean of [S, N] shares by seed and image, as `measures.attention.summary`, for documents."""
    mean = attention.summary(values, groups)
    return Estimate(mean=mean.mean, std=mean.std, interval=mean.interval)


def report_attention(measured: ModelAttention) -> ReportAttention:
    """The attention of one model, for the report of its test images."""
    mean = attention.summary(measured.inside[None], measured.groups)
    return ReportAttention(
        mean=mean.mean,
        interval=mean.interval,
        coverage=float(measured.coverage.mean()),
        pointing=attention.mean_of(measured.pointing[None]),
        num_images=len(measured.inside),
    )
