"""What the calls of `Lab` take, as typed dictionaries: the options of the commands, under the same names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Required, TypedDict


class Options(TypedDict, total=False):
    """What can be asked for, of a `Lab` or of one call: the options of the command line, under the same names.

    docs/commands.md explains them. `target_kind` is `--target`, `unlabelled` are data sets that pretext tasks see, too.
    `folds`: of a cross-validation (0: none). `freeze` and `layer_decay` are of the target task.
    `run_name` and `run_note` are `--name` and `--note`, `tracker` has names of trackers.
    `settings` are those of `--set`, such as `["rotation.lr=0.1"]`; `plot` is a folder for charts, `profile` one for
    traces of trainings.
    """

    dataset: str | Path | None
    data_root: str | Path | None
    image_size: int | None
    skip_broken: bool
    frames: str
    path_column: str | None
    label_column: str | None
    group_column: str | None
    split_column: str | None
    target_kind: str | None
    unlabelled: Sequence[str | Path]
    folds: int
    freeze: str | None
    layer_decay: float | None
    run_name: str | None
    run_note: str | None
    masks: str | Path | None
    allow_overlap: bool
    fraction: float
    label_fraction: float
    backbone: str | None
    stem: str | None
    epochs: int | None
    batch_size: int | None
    lr: float | str | None
    lr_range: tuple[float, float] | None
    lr_pruner: str | None
    seed: int
    settings: Sequence[str]
    precision: str
    device: str
    workers: int
    threads: int
    devices: int | str
    jobs: int | str | None
    per_gpu: int
    job_pool: str
    ray_address: str | None
    lease: float
    save_minutes: float
    tensorboard: bool
    tracker: Sequence[str]
    recompute: bool
    gpu: Sequence[str]
    plot: str | Path | None
    profile: str | Path | None


class StartOptions(Options, total=False):
    """`start`: a checkpoint file, a stage's folder or the beginning of its key, to start from; None is from scratch."""

    start: str | None


class ChainOptions(StartOptions, total=False):
    """`finetune`: end with classification (True). `baseline`: train it from scratch too, to compare (False)."""

    finetune: bool
    baseline: bool


class FinetuneOptions(Options, total=False):
    """How much learns from the labels.

    `probe`: `knn` or `linear` classifies frozen features; None trains all weights. `layers`: those that a probe looks
    at, a pattern of names. `baseline`: also report the same from scratch.
    """

    probe: str | None
    layers: str
    baseline: bool


class MeasureOptions(StartOptions, total=False):
    """`seeds`: how many, from the option `seed` on (3). `measure`: `finetune`, or `linear` or `knn` on frozen features.
    `layers`: those that a probe looks at. `length`: most tasks of an ordering."""

    seeds: int
    measure: str
    layers: str
    length: int | None


class RankOptions(MeasureOptions, total=False):
    """Which orderings are measured, and what they are compared with.

    `orderings`: words (curriculum, anti, full, pairs, triples, all) or orderings such as `"mocov2,swav"`; `length`
    alone stands for all. `imagenet`: weights to compare with. `watch`: tell the reporter the table so far.
    """

    orderings: str | Sequence[str]
    imagenet: str | None
    watch: bool


class OverOptions(MeasureOptions, total=False):
    """The settings that a ranking is repeated over.

    `over`: setting -> two values or more, such as `{"epochs": [5, 10], "mocov2.temperature": [0.1, 0.2]}`, or words
    such as `["epochs=5,10"]`; None and `"default"` are the recipe's. `against`: a learning rate, or `"default"`, to
    compare that of the option `lr` with. `orderings`: as of `rank`.
    """

    over: Mapping[str, Sequence[object]] | Sequence[str]
    against: str | float | None
    orderings: str | Sequence[str]


class SearchOptions(MeasureOptions, total=False):
    """How a good ordering is looked for.

    `strategy`: `knowledge-gradient`, `beam`, `halving`, `random` or `curriculum`. `budget`: most image passes, as a
    share of all orderings' (0.25). `tolerance`: points from the best that are good enough (1). `confidence`: it ends
    when the ordering that it chooses is good enough with this probability (0.9). `batch`: runs that are chosen at a
    time (as many as `jobs`). `as_if_empty`: stages that the store holds cost something, too. `side`: figures that may
    help to foretell orderings, `cka` and `probe`. Of a beam search: `beam`, prefixes of each length, and finalists,
    that are kept (2); `score`, what prunes, `knn`, `linear` or `target`; `penalty`, what a stage loses for features
    wholly unlike its parent's (0).
    """

    strategy: str
    budget: float
    tolerance: float
    confidence: float
    batch: int | None
    as_if_empty: bool
    side: Sequence[str]
    beam: int
    score: str
    penalty: float


class ExplainOptions(Options, total=False):
    """What is known of the tasks of a ranking: `similarity`, results of `cka` between the models of single tasks, and
    `distances`, results of `fid` in their features; files or names of runs."""

    similarity: Sequence[str | Path]
    distances: Sequence[str | Path]


class GridOptions(Options, total=False):
    """`ssl_fractions`, `label_fractions`: shares of the images and of the labels. `seeds`: how many (3). `baseline`:
    also train each share of the labels from scratch."""

    ssl_fractions: Sequence[float]
    label_fractions: Sequence[float]
    seeds: int
    baseline: bool


class CkaOptions(Options, total=False):
    """`split`: train, val, test or all. `num_images`: so many at random. `layers`: stages, blocks, all or a pattern.
    `estimator`: unbiased or biased. `kernel`: linear or rbf. `pool`: none or avg. The option `batch_size`: images that
    are compared at once."""

    split: str
    num_images: int | None
    layers: str
    estimator: str
    kernel: str
    pool: str


class FidOptions(Options, total=False):
    """`models`: in whose features (inception). `layer`: whose. `split`: whose images (all). `num_images`: of each side.
    `halves`: random draws. `extrapolate`: also estimate the distance for endlessly many images. `accuracy`: a CSV table
    of the models' accuracies. `inception_weights`: a file; `download`: fetch them."""

    models: Sequence[str]
    layer: str
    split: str
    num_images: int | None
    halves: int
    extrapolate: bool
    accuracy: str | Path | None
    inception_weights: str | Path | None
    download: bool


class ProbeOptions(Options, total=False):
    """`layers`: a pattern of names. `projection`: pca, tsne or umap lays the test images on a plane."""

    layers: str
    projection: str | None


class AttendOptions(Options, total=False):
    """`split`: whose images. `method`: gradcam, gradcam++ or eigencam. `target`: predicted or label. `layer`: whose."""

    split: str
    method: str
    target: str
    layer: str


class PredictOptions(Options, total=False):
    """`out`: a file for all predictions, CSV, Parquet or JSON; without one they are in the document. `top`: the
    likeliest classes only. `ensemble`: other models that are averaged with the first; `"seeds"` is its chain at the
    other seeds of the store. `flips`: average mirror images, too. `calibrated`: divide outputs by the temperature.
    `split`: of the stage's own images, where no others are named."""

    out: str | Path | None
    top: int | None
    ensemble: Sequence[str]
    flips: bool
    calibrated: bool
    split: str


class EmbedOptions(Options, total=False):
    """`out`: a file for the features, `.npz` or Parquet. `layer`: whose (pooled)."""

    out: Required[str | Path]
    layer: str


class ImportOptions(Options, total=False):
    """`out`: the file to write. `allow_missing`: fill missing weights with fresh ones. `unsafe_pickle`: run the code
    that a pickled file asks to run."""

    out: Path | None
    allow_missing: bool
    unsafe_pickle: bool


class ExportOptions(Options, total=False):
    """`form`: timm, torchvision or onnx. `out`: the file to write. `backbone_only`: leave out the classifier."""

    form: str
    out: Path | None
    backbone_only: bool


class SlurmOptions(Options, total=False):
    """What workers ask SLURM for, as `sslcurr.engine.pools.slurm.Allocation` has it. `logs`: their folder, else `slurm`
    in the store."""

    partition: Required[str]
    num_workers: Required[int]
    gpus_per_worker: int
    cpus_per_worker: int
    memory: float | None
    time: int
    account: str | None
    qos: str | None
    constraint: str | None
    setup: Sequence[str]
    logs: str | Path | None


class TaskOptions(Options, total=False):
    """`num_images`, `num_classes`: what the recipe is resolved for without a data set. `out`: a PNG of its views."""

    num_images: int | None
    num_classes: int | None
    out: Path | None


class CheckOptions(Options, total=False):
    """`out`: a CSV file for a table of all images. `duplicates`: one for the pairs of equal images."""

    out: Path | None
    duplicates: Path | None


class SampleOptions(Options, total=False):
    """`num_images`: of each class (8). `num_classes`: at most (30)."""

    num_images: int
    num_classes: int


PATHS = ("data_root", "masks", "plot", "profile")


def option_names() -> frozenset[str]:
    """The names of the options that every call takes."""
    return frozenset(Options.__annotations__)
