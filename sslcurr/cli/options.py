"""The options that several commands share."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from sslcurr.cli.progress import Lines
from sslcurr.spec.runtime import GPU_WAYS, TRACKERS
from sslcurr.spec.target import TARGETS

if TYPE_CHECKING:
    from sslcurr.api.lab import Lab

DATA, TRAINING, MACHINE, SEVERAL = "Data", "Training", "Machine and output", "Several at once"
COLUMN, COLUMN_OR_NONE = "COLUMN", "COLUMN|none"
MASKS = (
    "Masks of lungs, lesions or other regions, to measure how much of the attention lies inside: a folder of PNGs "
    "named like the images, or a table with a column mask or boxes. Default: the masks of the data set."
)

ALLOW_OVERLAP = (
    "Go on where test images were trained on before, by a stage that a command starts from or tests. The document and "
    "the report then say how many."
)


def _option(panel: str, name: str, text: str, **rest: Any) -> Any:
    return typer.Option(name, help=text, rich_help_panel=panel, **rest)


def _device(value: str) -> str:
    kind, _, index = value.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not index.isdigit()):
        raise typer.BadParameter(f"{value!r} is not auto, cpu, cuda or cuda:N")
    return value


def _tracker(value: list[str] | None) -> list[str] | None:
    for each in value or ():
        if each not in TRACKERS:
            raise typer.BadParameter(f"{each!r} is not {', '.join(TRACKERS)}")
    return value


def _rate(value: str | None) -> str | None:
    if value is not None:
        _checked_number(value)
    return value


def _lr(value: str | None) -> str | None:
    if value not in (None, "search"):
        _checked_number(value)
    return value


def _lr_range(value: str | None) -> str | None:
    if value is not None:
        parts = value.split(",")
        if len(parts) != 2:
            raise typer.BadParameter(f"{value!r} is not LOW,HIGH, such as 0.001,0.6")
        for part in parts:
            _checked_number(part)
    return value


def _lr_pruner(value: str | None) -> str | None:
    if value not in (None, "none", "asha", "hyperband"):
        raise typer.BadParameter(f"{value!r} is not none, asha or hyperband")
    return value


def _target(value: str | None) -> str | None:
    if value not in (None, *TARGETS):
        raise typer.BadParameter(f"{value!r} is not {', '.join(TARGETS)}")
    return value


def _jobs(value: str | None) -> str | None:
    if value not in (None, "auto") and not (value.isdigit() and int(value)):
        raise typer.BadParameter(f"{value!r} is not a number from 1 on, or auto")
    return value


def _devices(value: str) -> str:
    if value not in ("all", "srun") and not (value.isdigit() and int(value)):
        raise typer.BadParameter(f"{value!r} is not a number from 1 on, all or srun")
    return value


def _checked_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number") from None


def check_frames(value: str) -> str:
    """A value of --frames; raises typer.BadParameter for another."""
    if value not in ("refuse", "first", "all"):
        raise typer.BadParameter(f"{value!r} is not refuse, first or all")
    return value


DataRoot = Annotated[
    Path | None,
    _option(
        DATA,
        "--data-root",
        "Folder of the data sets that are given by a name or a relative path. Default: the working directory.",
        envvar="SSLCURR_DATA",
        metavar="FOLDER",
    ),
]
RunName = Annotated[
    str | None,
    _option(MACHINE, "--name", "Call the run so. The name stands wherever a run or the key of its last stage does."),
]
RunNote = Annotated[str | None, _option(MACHINE, "--note", "Why it is run; shown by sslcurr runs show.")]
DryRun = Annotated[bool, _option(MACHINE, "--dry-run", "Read the data and show the plan. Train nothing.")]
PathColumn = Annotated[
    str | None,
    _option(DATA, "--path-column", "Column of a table with the paths. Default: path or file_name.", metavar=COLUMN),
]
LabelColumn = Annotated[
    str | None,
    _option(
        DATA,
        "--label-column",
        "Column with the labels, or none. Several columns of 0 and 1, A,B,C: labels that may hold together. Default: "
        "label.",
        metavar=COLUMN_OR_NONE,
    ),
]
GroupColumn = Annotated[
    str | None,
    _option(
        DATA,
        "--group-column",
        "Column that says which images stay in one split, such as a patient's number, or none. Default: group.",
        metavar=COLUMN_OR_NONE,
    ),
]
SplitColumn = Annotated[
    str | None,
    _option(DATA, "--split-column", "Column with train, val, test, or none. Default: split.", metavar=COLUMN_OR_NONE),
]


TargetKindOption = Annotated[
    str | None,
    _option(
        DATA,
        "--target",
        "What the labels are: classes, multilabel (they may hold together) or regression (a number). Default: read "
        "from the labels.",
        callback=_target,
        metavar="classes|multilabel|regression",
    ),
]
OtherBackbone = Annotated[
    str | None,
    _option(
        TRAINING,
        "--backbone",
        "The timm network of a file of another project, if it is not recognised, or of an untrained model.",
        metavar="NAME",
    ),
]
OtherStem = Annotated[
    str | None, _option(TRAINING, "--stem", "Its stem: imagenet, small (3 x 3, stride 2) or cifar (3 x 3, stride 1).")
]
UnlabelledOption = Annotated[
    list[str] | None,
    _option(
        DATA,
        "--unlabelled",
        "Images that pretext tasks see beside the training images of --dataset. Its validation and test images are "
        "left out of them. May be repeated.",
        metavar="NAME|FOLDER|TABLE",
    ),
]
FoldsOption = Annotated[
    int,
    _option(
        TRAINING,
        "--folds",
        "Cross-validation: divide the labelled images into so many folds, train everything once for each on the other "
        "folds, and report all images.",
        metavar="K",
    ),
]
SaveMinutes = Annotated[
    float, _option(MACHINE, "--save-minutes", "Longest time between two saves of a running stage, in minutes.")
]
Tensorboard = Annotated[
    bool, _option(MACHINE, "--tensorboard", "Also write TensorBoard events into each stage's folder.")
]
Tracker = Annotated[
    list[str] | None,
    _option(
        MACHINE,
        "--tracker",
        "Send the curves of stages and the results to TensorBoard, MLflow or Weights & Biases. May be repeated.",
        callback=_tracker,
        metavar="tensorboard|mlflow|wandb",
    ),
]
Profile = Annotated[
    Path | None,
    _option(
        MACHINE,
        "--profile",
        "Say where the time of each training goes, and write a trace of a few steps to this folder, for "
        "chrome://tracing.",
        metavar="FOLDER",
    ),
]
Devices = Annotated[
    str,
    _option(
        SEVERAL,
        "--devices",
        "GPUs, or processes on a CPU, that train each stage together: a number, all GPUs of this machine, or srun: the "
        "tasks that srun has started. The batch size stays that of the whole step, and results are those of one.",
        callback=_devices,
        metavar="N|all|srun",
    ),
]
Recompute = Annotated[
    bool, _option(MACHINE, "--recompute", "Keep fewer activations: larger batches fit, steps take longer.")
]
Gpu = Annotated[
    list[str] | None,
    _option(
        MACHINE,
        "--gpu",
        f"A way for a GPU to train faster: {', '.join(GPU_WAYS)}; or none. May be repeated. Default: what was measured "
        "to pay on this GPU.",
        metavar="WAY",
    ),
]


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Where images come from."""

    data_root: DataRoot = None
    path_column: PathColumn = None
    label_column: LabelColumn = None
    group_column: GroupColumn = None
    split_column: SplitColumn = None
    frames: Annotated[
        str,
        _option(
            DATA,
            "--frames",
            "Files with several frames (DICOM) or pages (TIFF): refuse, take the first, or all (one group per file).",
            callback=check_frames,
            metavar="refuse|first|all",
        ),
    ] = "refuse"


@dataclass(frozen=True, kw_only=True)
class ImageOptions(SourceOptions):
    """Where images come from and how they are read."""

    image_size: Annotated[
        int | None, _option(DATA, "--image-size", "Side of the training views, in pixels.", metavar="PIXELS")
    ] = None
    skip_broken: Annotated[
        bool, _option(DATA, "--skip-broken", "Leave out images that are missing or cannot be decoded.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """The store, the device, and the form of the output."""

    runs: Annotated[
        Path,
        _option(
            MACHINE,
            "--runs",
            "The store: the folder of finished stages and results.",
            envvar="SSLCURR_RUNS",
            metavar="FOLDER",
        ),
    ] = Path("runs")
    device: Annotated[
        str, _option(MACHINE, "--device", "auto, cpu, cuda or cuda:N.", callback=_device, metavar="DEVICE")
    ] = "auto"
    workers: Annotated[int, _option(MACHINE, "--workers", "Threads that decode images. 0: one per core.", min=0)] = 0
    json: Annotated[bool, _option(MACHINE, "--json", "Print one JSON document instead of tables.")] = False

    @functools.cached_property
    def reporter(self) -> Lines:
        """Prints progress on stderr, and lists the files that were written."""
        return Lines()

    @contextmanager
    def lab(self) -> Iterator[Lab]:
        """The library with these options; its reporter is closed at the end."""
        with self.reporter:
            yield lab_of(self)


@dataclass(frozen=True, kw_only=True)
class DrawingOptions(MachineOptions):
    """Whether results are drawn."""

    plot: Annotated[
        Path | None,
        _option(MACHINE, "--plot", "Write charts (PNG, SVG), tables (CSV) and JSON to this folder.", metavar="FOLDER"),
    ] = None

    @property
    def draws(self) -> bool:
        """Whether the command has results to draw."""
        return True


@dataclass(frozen=True, kw_only=True)
class ThreadOptions(MachineOptions):
    """With how many threads."""

    threads: Annotated[
        int,
        _option(
            MACHINE,
            "--threads",
            "CPU threads that compute, of each of several jobs. 0: as many as torch chooses, or the cores shared out "
            "between --jobs. Bits of results depend on their number, so equal results need equal --threads.",
            min=0,
        ),
    ] = 0


@dataclass(frozen=True, kw_only=True)
class WorkerOptions(ThreadOptions):
    """How many jobs at once."""

    jobs: Annotated[
        str | None,
        _option(
            SEVERAL,
            "--jobs",
            "Worker processes that train and measure at once. auto: one for each GPU, else one for every two cores. "
            "Default: 1. With equal --threads, results do not depend on it.",
            callback=_jobs,
            metavar="N|auto",
        ),
    ] = None
    per_gpu: Annotated[
        int,
        _option(
            SEVERAL,
            "--per-gpu",
            "Workers that share a GPU, each with its part of the memory. Above 1 it implies --jobs auto.",
            min=1,
        ),
    ] = 1
    lease: Annotated[
        float,
        _option(
            SEVERAL,
            "--lease",
            "Minutes without a sign of life of another process after which its stage is taken over.",
        ),
    ] = 10.0


@dataclass(frozen=True, kw_only=True)
class WorkOptions(WorkerOptions):
    """How a worker on a shared store trains."""

    save_minutes: SaveMinutes = 5.0
    tensorboard: Tensorboard = False
    tracker: Tracker = None
    recompute: Recompute = False
    gpu: Gpu = None
    profile: Profile = None
    devices: Devices = "1"


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(WorkerOptions, DrawingOptions, ImageOptions):
    """The shared options of the commands that train."""

    dataset: Annotated[
        str | None,
        _option(
            DATA,
            "--dataset",
            "A name (see sslcurr data list), a folder (one sub-folder per class, or images only), or a CSV or Parquet "
            "table with the column path and, optionally, label, group and split. Default: that of the stage to start "
            "from, else fashion, 2,500 embedded images.",
            metavar="NAME|FOLDER|TABLE",
        ),
    ] = None
    target_kind: TargetKindOption = None
    fraction: Annotated[
        float, _option(DATA, "--fraction", "Share of the training images that pretraining uses. Subsets are nested.")
    ] = 1.0
    label_fraction: Annotated[
        float, _option(DATA, "--label-fraction", "Share of the labelled training images that fine-tuning uses.")
    ] = 1.0
    backbone: Annotated[
        str | None,
        _option(
            TRAINING,
            "--backbone",
            "A network of timm: a CNN or a transformer. With a tag (resnet50.a1_in1k) its weights, too. Default: "
            "resnet18 up to 64 px, else resnet50.",
            metavar="NAME",
        ),
    ] = None
    stem: Annotated[
        str | None,
        _option(
            TRAINING,
            "--stem",
            "First layers: imagenet, small (3 x 3, stride 2, no pooling) or cifar (the same with stride 1). Default: "
            "small for ResNets up to 64 px, else imagenet.",
        ),
    ] = None
    epochs: Annotated[
        int | None, _option(TRAINING, "--epochs", "Epochs of every stage. Default: from the task's recipe.")
    ] = None
    batch_size: Annotated[
        int | None, _option(TRAINING, "--batch-size", "Images per optimizer step. Default: from the task's recipe.")
    ] = None
    lr: Annotated[
        str | None,
        _option(
            TRAINING,
            "--lr",
            "Learning rate of every stage. search: first try ten learning rates in each stage. Default: from the "
            "task's recipe.",
            callback=_lr,
            metavar="RATE|search",
        ),
    ] = None
    lr_range: Annotated[
        str | None,
        _option(
            TRAINING,
            "--lr-range",
            "Range of the learning rates that --lr search tries, such as 0.001,0.6. Default: the study's range, scaled "
            "to the optimizer and the batch size.",
            callback=_lr_range,
            metavar="LOW,HIGH",
        ),
    ] = None
    lr_pruner: Annotated[
        str | None,
        _option(
            TRAINING,
            "--lr-pruner",
            "Stop bad trials of --lr search early: none, asha or hyperband. Default: none.",
            callback=_lr_pruner,
            metavar="none|asha|hyperband",
        ),
    ] = None
    seed: Annotated[
        int, _option(TRAINING, "--seed", "Seed of weights, order and views. The split has its own, data.seed.", min=0)
    ] = 0
    settings: Annotated[
        list[str] | None,
        _option(
            TRAINING,
            "--set",
            "Any other setting, such as rotation.epochs=20, mocov2.temperature=0.1 or data.val=0.1. May be repeated. "
            "See sslcurr tasks show TASK.",
            metavar="TASK.NAME=VALUE",
        ),
    ] = None
    run_name: RunName = None
    run_note: RunNote = None
    precision: Annotated[
        str, _option(MACHINE, "--precision", "32, bf16 or auto: bf16 on GPUs that support it, else 32.")
    ] = "auto"
    save_minutes: SaveMinutes = 5.0
    tensorboard: Tensorboard = False
    tracker: Tracker = None
    recompute: Recompute = False
    gpu: Gpu = None
    profile: Profile = None
    devices: Devices = "1"
    job_pool: Annotated[
        str,
        _option(
            SEVERAL,
            "--pool",
            "Where jobs run. here: in --jobs processes of this machine. shared: in this process, beside others that "
            "work on the same store. ray: on a Ray cluster, where --jobs is auto by default: as many as it has room "
            "for.",
            metavar="here|shared|ray",
        ),
    ] = "here"
    ray_address: Annotated[
        str | None,
        _option(
            SEVERAL,
            "--ray-address",
            "Address of a Ray cluster, or auto for the one of this machine. Default: start one here.",
            metavar="ADDRESS",
        ),
    ] = None
    dry_run: DryRun = False

    @property
    def draws(self) -> bool:
        """Whether the command has results to draw; a plan is none."""
        return not self.dry_run


@dataclass(frozen=True, kw_only=True)
class TargetOptions(TrainingOptions):
    """The shared options of the commands that end at the target task."""

    masks: Annotated[Path | None, _option(DATA, "--masks", MASKS, metavar="FOLDER|TABLE")] = None
    allow_overlap: Annotated[bool, _option(DATA, "--allow-overlap", ALLOW_OVERLAP)] = False
    freeze: Annotated[
        str | None,
        _option(
            TRAINING,
            "--freeze",
            "Part of the backbone that fine-tuning leaves as it is: stem, N (the stem and N stages) or all.",
            metavar="stem|N|all",
        ),
    ] = None
    layer_decay: Annotated[
        float | None,
        _option(
            TRAINING,
            "--layer-decay",
            "Learning rate of each layer of the backbone in fine-tuning, as a share of that of the next layer, such as "
            "0.7.",
            metavar="SHARE",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ContinueOptions(WorkOptions, DrawingOptions):
    """The options of training a finished stage on."""

    epochs: Annotated[int | None, _option(TRAINING, "--epochs", "How many more. Default: as many as it had.")] = None
    lr: Annotated[
        str | None,
        _option(TRAINING, "--lr", "Learning rate. Default: that of the stage.", callback=_rate, metavar="RATE"),
    ] = None
    masks: Annotated[Path | None, _option(DATA, "--masks", MASKS, metavar="FOLDER|TABLE")] = None
    data_root: DataRoot = None
    allow_overlap: Annotated[bool, _option(DATA, "--allow-overlap", ALLOW_OVERLAP)] = False
    run_name: RunName = None
    run_note: RunNote = None
    dry_run: DryRun = False

    @property
    def draws(self) -> bool:
        """Whether the command has results to draw; a plan is none."""
        return not self.dry_run


@dataclass(frozen=True, kw_only=True)
class PretextOptions(TrainingOptions):
    """The shared options of the commands that train pretext tasks."""

    unlabelled: UnlabelledOption = None


@dataclass(frozen=True, kw_only=True)
class ChainOptions(TargetOptions, PretextOptions):
    """The shared options of the commands that train pretext tasks and end at the target task."""


@dataclass(frozen=True, kw_only=True)
class FoldOptions(MachineOptions):
    """Of the commands that can cross-validate."""

    folds: FoldsOption = 0


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(TargetOptions, FoldOptions):
    """The shared options of fine-tuning."""


@dataclass(frozen=True, kw_only=True)
class FoldedChainOptions(ChainOptions, FoldOptions):
    """The shared options of the commands that train chains, in folds where these are asked for."""


@dataclass(frozen=True, kw_only=True)
class DatasetOptions(WorkerOptions, DrawingOptions, ImageOptions):
    """The shared options of the commands that run images through finished models."""

    settings: Annotated[
        list[str] | None,
        _option(
            TRAINING,
            "--set",
            "How the data is split, such as data.test=0.3. May be repeated.",
            metavar="data.NAME=VALUE",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ModelOptions(DatasetOptions):
    """The shared options of the commands that analyse checkpoints."""

    backbone: OtherBackbone = None
    stem: OtherStem = None
    seed: Annotated[
        int, _option(TRAINING, "--seed", "Seed of the random choice of images, halves and untrained weights.")
    ] = 0


@dataclass(frozen=True, kw_only=True)
class DrawnImageOptions(ThreadOptions, DrawingOptions, SourceOptions):
    """The shared options of the commands that run any images through a finished model, and draw."""


@dataclass(frozen=True, kw_only=True)
class FileOptions(ThreadOptions, SourceOptions):
    """The shared options of the commands that run any images through a checkpoint, into a file."""

    image_size: Annotated[
        int | None,
        _option(DATA, "--image-size", "Side of the views, in pixels. Default: that of the training.", metavar="PIXELS"),
    ] = None
    backbone: OtherBackbone = None
    stem: OtherStem = None
    seed: Annotated[int, _option(TRAINING, "--seed", "Seed of untrained weights.")] = 0


def lab_of(options: MachineOptions) -> Lab:
    """The library with the options of a command."""
    from sslcurr.api.lab import Lab, option_names
    from sslcurr.api.ranks import take_place

    values = {name: value for name, value in vars(options).items() if name in option_names()}
    values["settings"] = tuple(values.get("settings") or ())
    if values.get("lr") not in (None, "search"):
        values["lr"] = float(values["lr"])
    if values.get("jobs") not in (None, "auto"):
        values["jobs"] = int(values["jobs"])
    if values.get("devices", "1").isdigit():
        values["devices"] = int(values.get("devices", 1))
    elif values["devices"] == "srun":
        take_place("srun")
    if values.get("lr_range") is not None:
        low, _, high = values["lr_range"].partition(",")
        values["lr_range"] = (float(low), float(high))
    return Lab(options.runs, reporter=options.reporter, invocation=["sslcurr", *sys.argv[1:]], **values)


def shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add to a command the options of its parameter `shared`: the fields of the class it is annotated with."""
    signature = inspect.signature(command, eval_str=True)
    options = signature.parameters["shared"].annotation
    hints = get_type_hints(options, include_extras=True)
    panels, declared = [DATA, TRAINING, MACHINE, SEVERAL], options.__annotations__
    items = sorted(
        fields(options),
        key=lambda item: (panels.index(hints[item.name].__metadata__[0].rich_help_panel), item.name not in declared),
    )
    added = [
        inspect.Parameter(
            item.name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=hints[item.name],
            default=item.default if item.default is not MISSING else inspect.Parameter.empty,
        )
        for item in items
    ]
    parameters = [parameter for name, parameter in signature.parameters.items() if name != "shared"]
    parameters = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY) if p.kind is p.POSITIONAL_OR_KEYWORD else p for p in parameters
    ]

    @functools.wraps(command)
    def wrapped(**values: Any) -> None:
        shared = options(**{item.name: values.pop(item.name) for item in items})
        command(shared=shared, **values)

    wrapped.__signature__ = signature.replace(parameters=[*parameters, *added])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in [*parameters, *added]}
    return wrapped
