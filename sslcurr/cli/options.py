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

from sslcurr.cli import completion
from sslcurr.cli.help import ADVANCED, DATA, MACHINE, MODEL, SEVERAL, TRAINING
from sslcurr.cli.progress import Lines
from sslcurr.spec.runtime import GPU_WAYS, TRACKERS
from sslcurr.spec.stage import PRECISIONS, STEMS
from sslcurr.spec.target import TARGETS

if TYPE_CHECKING:
    from sslcurr.api.lab import Lab

NUMBER, SHARE, COLUMN = "N", "SHARE", "COLUMN"
IMAGES = "NAME|FOLDER|TABLE"
MASKS = (
    "Masks of lungs, lesions or other regions: a folder of PNG files named like the images, or a table with a column "
    "mask or boxes. The report then says how much of the attention lies inside. Default: the masks of the data set, if "
    "it has any."
)
ALLOW_OVERLAP = (
    "Go on although test images were used in training before, by a stage that the command starts from or tests. The "
    "result then says how many."
)
DATA_ROOT = "Folder that relative paths and data sets with a name are looked for in. Default: the working directory."


def _option(panel: str, name: str, text: str, offers: completion.Completer | None = None, **rest: Any) -> Any:
    return typer.Option(name, help=text, rich_help_panel=panel, autocompletion=offers, **rest)


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
    _option(DATA, "--data-root", DATA_ROOT, envvar="SSLCURR_DATA", metavar="FOLDER"),
]
PathColumn = Annotated[
    str | None,
    _option(DATA, "--path-column", "Column of a table that has the paths. Default: path or file_name.", metavar=COLUMN),
]
LabelColumn = Annotated[
    str | None,
    _option(
        DATA,
        "--label-column",
        "Column that has the labels, or none. Give A,B,C for columns of 0 and 1: labels that may hold together. "
        "Default: label.",
        metavar=COLUMN,
    ),
]
GroupColumn = Annotated[
    str | None,
    _option(
        DATA,
        "--group-column",
        "Column that says which images belong together, such as the patient. They are never divided between training "
        "and test. none: each image stands alone. Default: group.",
        metavar=COLUMN,
    ),
]
SplitColumn = Annotated[
    str | None,
    _option(
        DATA,
        "--split-column",
        "Column that has train, val or test, or none: draw the splits. Default: split.",
        metavar=COLUMN,
    ),
]
TargetKindOption = Annotated[
    str | None,
    _option(
        DATA,
        "--target",
        f"What a label is: {', '.join(TARGETS)}. multilabel: several may hold together. regression: a number. Default: "
        "read from the labels.",
        completion.choices(*TARGETS),
        callback=_target,
        metavar="KIND",
    ),
]
Frames = Annotated[
    str,
    _option(
        DATA,
        "--frames",
        "Files with several frames (DICOM) or pages (TIFF). refuse: stop. first: take the first. all: take all, as one "
        "group.",
        completion.choices("refuse", "first", "all"),
        callback=check_frames,
        metavar="refuse|first|all",
    ),
]
OtherBackbone = Annotated[
    str | None,
    _option(
        MODEL,
        "--backbone",
        "Name in timm of the network: of another project's file that is not recognised, or of random.",
        metavar="NAME",
    ),
]
OtherStem = Annotated[
    str | None,
    _option(
        MODEL,
        "--stem",
        "First layers of that network. small: 3 x 3, stride 2. cifar: 3 x 3, stride 1.",
        completion.choices(*STEMS),
        metavar="|".join(STEMS),
    ),
]
UnlabelledOption = Annotated[
    list[str] | None,
    _option(
        DATA,
        "--unlabelled",
        "More images for the pretext tasks, beside the training images of --dataset. Images that also are validation "
        "or test images of --dataset are left out. May be repeated.",
        completion.datasets,
        metavar=IMAGES,
    ),
]
FoldsOption = Annotated[
    int,
    _option(
        DATA,
        "--folds",
        "Cross-validation in N folds: everything is trained N times, and every labelled image is tested once.",
        metavar=NUMBER,
        show_default=False,
    ),
]
RunName = Annotated[
    str | None,
    _option(
        MACHINE,
        "--name",
        "A name for the run. Other commands take it in place of the run's number and of the key of its last stage.",
        metavar="NAME",
    ),
]
RunNote = Annotated[
    str | None, _option(MACHINE, "--note", "Why it is run. sslcurr runs show prints it.", metavar="TEXT")
]
DryRun = Annotated[bool, _option(MACHINE, "--dry-run", "Read the data, print the plan, and train nothing.")]
SaveMinutes = Annotated[
    float, _option(ADVANCED, "--save-minutes", "Longest time between two saves, in minutes.", metavar="MINUTES")
]
Tensorboard = Annotated[bool, _option(ADVANCED, "--tensorboard", "The same as --tracker tensorboard.")]
Tracker = Annotated[
    list[str] | None,
    _option(
        MACHINE,
        "--tracker",
        f"Also send curves and results to a tracker: {', '.join(TRACKERS)}. May be repeated.",
        completion.choices(*TRACKERS),
        callback=_tracker,
        metavar="NAME",
    ),
]
Profile = Annotated[
    Path | None,
    _option(
        ADVANCED,
        "--profile",
        "Print where the time of each training goes. A trace of a few steps, for chrome://tracing, is written to this "
        "folder.",
        metavar="FOLDER",
    ),
]
Devices = Annotated[
    str,
    _option(
        SEVERAL,
        "--devices",
        "How many GPUs (or processes on a CPU) train each stage together. all: all GPUs of this machine. srun: the "
        "tasks that srun started. The batch size is that of all of them together.",
        completion.choices("1", "2", "4", "8", "all", "srun"),
        callback=_devices,
        metavar="N|all|srun",
    ),
]
Recompute = Annotated[
    bool,
    _option(ADVANCED, "--recompute", "Keep fewer activations in memory. Larger batches fit, and steps take longer."),
]
Gpu = Annotated[
    list[str] | None,
    _option(
        ADVANCED,
        "--gpu",
        f"A way for a GPU to train faster: {', '.join(GPU_WAYS)}, or none. May be repeated. Default: what was measured "
        "to be faster on this GPU.",
        completion.choices(*GPU_WAYS, "none"),
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
    frames: Frames = "refuse"


@dataclass(frozen=True, kw_only=True)
class ImageOptions(SourceOptions):
    """Where images come from and how they are read."""

    image_size: Annotated[
        int | None,
        _option(
            DATA,
            "--image-size",
            "Side of the images that the network is given, in pixels. Default: as the model was trained, else by the "
            "data set, else 224.",
            metavar="PIXELS",
        ),
    ] = None
    skip_broken: Annotated[
        bool, _option(DATA, "--skip-broken", "Leave out images that are missing or cannot be read.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """The store, the device, and the form of the output."""

    runs: Annotated[
        Path,
        _option(
            MACHINE,
            "--runs",
            "The store: the folder that keeps trained stages and results.",
            envvar="SSLCURR_RUNS",
            metavar="FOLDER",
        ),
    ] = Path("runs")
    device: Annotated[
        str,
        _option(
            MACHINE,
            "--device",
            "Where to compute. cuda:N is GPU number N, from 0.",
            completion.choices("auto", "cpu", "cuda"),
            callback=_device,
            metavar="auto|cpu|cuda|cuda:N",
        ),
    ] = "auto"
    workers: Annotated[
        int,
        _option(MACHINE, "--workers", "Threads that read images. 0: one for each core.", min=0, metavar=NUMBER),
    ] = 0
    json: Annotated[bool, _option(MACHINE, "--json", "Print one JSON document in place of tables.")] = False

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
        _option(
            MACHINE, "--plot", "Write charts (PNG, SVG), tables (CSV) and JSON to this folder, too.", metavar="FOLDER"
        ),
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
            "CPU threads that compute, for each of --jobs. 0: chosen by torch, or the cores divided by --jobs. For "
            "results that are equal to the last bit, give the same number.",
            min=0,
            metavar=NUMBER,
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
            "Processes that train and measure at once. auto: one for each GPU, or one for every two cores. Results do "
            "not depend on it if --threads is the same. Default: 1.",
            completion.choices("auto", "1", "2", "4", "8"),
            callback=_jobs,
            metavar="N|auto",
        ),
    ] = None
    per_gpu: Annotated[
        int,
        _option(
            SEVERAL,
            "--per-gpu",
            "How many of these share one GPU and its memory. Above 1, --jobs is auto.",
            min=1,
            metavar=NUMBER,
        ),
    ] = 1
    lease: Annotated[
        float,
        _option(
            ADVANCED,
            "--lease",
            "A stage of another process is taken over after so many minutes without a sign of life.",
            metavar="MINUTES",
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
            "Your images. A folder with one sub-folder for each class, or with images only. Or a table (CSV, Parquet) "
            "with the column path, and if there are any label, group and split. Or a name of sslcurr data list. "
            "Default: the data set of the stage to start from, or else fashion, 2,500 small images that come with "
            "sslcurr.",
            completion.datasets,
            metavar=IMAGES,
        ),
    ] = None
    target_kind: TargetKindOption = None
    fraction: Annotated[
        float,
        _option(DATA, "--fraction", "Share of the training images that pretraining uses, such as 0.25.", metavar=SHARE),
    ] = 1.0
    label_fraction: Annotated[
        float,
        _option(
            DATA, "--label-fraction", "Share of the labelled images that fine-tuning uses, such as 0.1.", metavar=SHARE
        ),
    ] = 1.0
    backbone: Annotated[
        str | None,
        _option(
            TRAINING,
            "--backbone",
            "The network, by its name in timm: a CNN or a transformer. A name with a tag, such as resnet50.a1_in1k, "
            "brings pretrained weights. Default: resnet18 for images up to 64 pixels, else resnet50.",
            metavar="NAME",
        ),
    ] = None
    stem: Annotated[
        str | None,
        _option(
            TRAINING,
            "--stem",
            "First layers. imagenet: the usual ones. For small images: small (3 x 3, stride 2, no pooling) or cifar "
            "(the same with stride 1). Default: small for ResNets on images up to 64 pixels, else imagenet.",
            completion.choices(*STEMS),
            metavar="|".join(STEMS),
        ),
    ] = None
    epochs: Annotated[
        int | None,
        _option(TRAINING, "--epochs", "Epochs of every stage. Default: as each task needs.", metavar=NUMBER),
    ] = None
    batch_size: Annotated[
        int | None,
        _option(TRAINING, "--batch-size", "Images in a step of training. Default: as each task needs.", metavar=NUMBER),
    ] = None
    lr: Annotated[
        str | None,
        _option(
            TRAINING,
            "--lr",
            "Learning rate of every stage. search: try ten in each stage first. Default: as each task needs.",
            completion.choices("search"),
            callback=_lr,
            metavar="RATE|search",
        ),
    ] = None
    lr_range: Annotated[
        str | None,
        _option(
            ADVANCED,
            "--lr-range",
            "Lowest and highest rate that --lr search tries, such as 0.001,0.6. Default: by the optimizer and the "
            "batch size.",
            callback=_lr_range,
            metavar="LOW,HIGH",
        ),
    ] = None
    lr_pruner: Annotated[
        str | None,
        _option(
            ADVANCED,
            "--lr-pruner",
            "How --lr search stops bad rates early. Default: none.",
            completion.choices("none", "asha", "hyperband"),
            callback=_lr_pruner,
            metavar="none|asha|hyperband",
        ),
    ] = None
    seed: Annotated[
        int,
        _option(
            TRAINING,
            "--seed",
            "Seed of the weights, the order of images and their views. The division into splits has a seed of its own, "
            "data.seed.",
            min=0,
            metavar=NUMBER,
        ),
    ] = 0
    settings: Annotated[
        list[str] | None,
        _option(
            TRAINING,
            "--set",
            "Any other setting, such as rotation.epochs=20, mocov2.temperature=0.1 or data.val=0.1. sslcurr tasks show "
            "TASK lists them. May be repeated.",
            completion.settings,
            metavar="TASK.NAME=VALUE",
        ),
    ] = None
    run_name: RunName = None
    run_note: RunNote = None
    precision: Annotated[
        str,
        _option(
            MACHINE,
            "--precision",
            "Precision of the arithmetic. auto: bf16 on GPUs that support it, else 32.",
            completion.choices(*PRECISIONS),
            metavar="|".join(PRECISIONS),
        ),
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
            "Where --jobs run. here: on this machine. shared: in this process, together with other processes on the "
            "same store. ray: on a Ray cluster, as many as it has room for.",
            completion.choices("here", "shared", "ray"),
            metavar="here|shared|ray",
        ),
    ] = "here"
    ray_address: Annotated[
        str | None,
        _option(
            ADVANCED,
            "--ray-address",
            "Address of the Ray cluster. auto: the one of this machine. Default: start one here.",
            completion.choices("auto"),
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
    allow_overlap: Annotated[bool, _option(ADVANCED, "--allow-overlap", ALLOW_OVERLAP)] = False
    freeze: Annotated[
        str | None,
        _option(
            ADVANCED,
            "--freeze",
            "Layers that fine-tuning does not change: stem, N (the stem and the first N stages of the network), or "
            "all.",
            completion.choices("stem", "1", "2", "3", "all"),
            metavar="stem|N|all",
        ),
    ] = None
    layer_decay: Annotated[
        float | None,
        _option(
            ADVANCED,
            "--layer-decay",
            "Fine-tune earlier layers with lower learning rates: each with this share of that of the next layer, such "
            "as 0.7.",
            metavar=SHARE,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ContinueOptions(WorkOptions, DrawingOptions):
    """The options of training a finished stage on."""

    epochs: Annotated[
        int | None, _option(TRAINING, "--epochs", "How many more epochs. Default: as many as it had.", metavar=NUMBER)
    ] = None
    lr: Annotated[
        str | None,
        _option(TRAINING, "--lr", "Learning rate. Default: that of the stage.", callback=_rate, metavar="RATE"),
    ] = None
    masks: Annotated[Path | None, _option(DATA, "--masks", MASKS, metavar="FOLDER|TABLE")] = None
    data_root: DataRoot = None
    allow_overlap: Annotated[bool, _option(ADVANCED, "--allow-overlap", ALLOW_OVERLAP)] = False
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
            DATA,
            "--set",
            "How the images are divided into splits, such as data.test=0.3. May be repeated.",
            completion.data_settings,
            metavar="data.NAME=VALUE",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ModelOptions(DatasetOptions):
    """The shared options of the commands that analyse checkpoints."""

    backbone: OtherBackbone = None
    stem: OtherStem = None
    seed: Annotated[
        int,
        _option(MODEL, "--seed", "Seed of all that is drawn: images, halves and untrained weights.", metavar=NUMBER),
    ] = 0


@dataclass(frozen=True, kw_only=True)
class DrawnImageOptions(ThreadOptions, DrawingOptions, SourceOptions):
    """The shared options of the commands that run any images through a finished model, and draw."""


@dataclass(frozen=True, kw_only=True)
class FileOptions(ThreadOptions, SourceOptions):
    """The shared options of the commands that run any images through a checkpoint, into a file."""

    image_size: Annotated[
        int | None,
        _option(
            DATA,
            "--image-size",
            "Side of the images that the network is given, in pixels. Default: as in its training.",
            metavar="PIXELS",
        ),
    ] = None
    backbone: OtherBackbone = None
    stem: OtherStem = None
    seed: Annotated[int, _option(MODEL, "--seed", "Seed of untrained weights.", metavar=NUMBER)] = 0


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
    items = fields(options)
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
