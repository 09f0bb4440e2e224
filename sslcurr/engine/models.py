"""Any checkpoint by what a person calls it: a stage, a file of ours or of another project, a timm name, `random`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from sslcurr.engine.ancestry import FILE_KEY, Weights
from sslcurr.engine.plan import SCRATCH, Parent, parent_of
from sslcurr.engine.run import weights_of
from sslcurr.engine.store import LATEST, Stage, Store, path_placed, path_portable
from sslcurr.errors import CheckpointError, SpecError, StoreError, did_you_mean
from sslcurr.files import write_whole
from sslcurr.spec.stage import BackboneSpec, Json, part_from_dict, to_dict

if TYPE_CHECKING:
    from torch import nn

    from sslcurr.backbones.foreign import Conversion

RANDOM = "random"
IMAGENET = "imagenet"
# Raised when the same foreign file is turned into other weights.
IMPORT_VERSION = 1
SMALL_STEM_SIZE = 32


class Preprocessing(TypedDict):
    """What weights were trained with: normalisation of an input in [0, 1], and the side of the views in pixels."""

    mean: list[float]
    std: list[float]
    image_size: int


@dataclass(frozen=True)
class Model:
    """A backbone with its weights, to be analysed.

    Attributes:
        title: what tables call it; unlike the others of the same command.
        backbone: the network.
        image_size: side of the views it was trained with, in pixels; None if nobody knows.
        weights: the checkpoint; None is an untrained network.
        digest: sha256 of the weights, or what the untrained network was drawn from.
        stage: the stage it is, if it is one.
        seed: of an untrained network.
    """

    title: str
    backbone: BackboneSpec
    image_size: int | None
    weights: Path | None
    digest: str
    stage: Stage | None = None
    seed: int = 0

    def network(self) -> nn.Module:
        """The network with its weights, in evaluation mode, on the CPU."""
        import torch

        from sslcurr.backbones.build import build
        from sslcurr.backbones.checkpoint import load_into
        from sslcurr.seeds import seed_torch

        with torch.random.fork_rng(devices=[]):
            seed_torch(self.seed, "init", "backbone")
            network = build(self.backbone)
        if self.weights is not None:
            load_into(network, self.weights)
        return network.eval()

    @property
    def named_weights(self) -> Weights | None:
        """The weights, to find the stages behind them; None of an untrained network."""
        if self.stage is not None:
            return Weights(self.stage.key)
        return None if self.weights is None else Weights(f"{FILE_KEY}{self.digest}", str(self.weights.resolve()))

    @property
    def identity(self) -> dict[str, object]:
        """What analyses of it are keyed by, with the image size that they use."""
        return {"weights": self.digest, "backbone": to_dict(self.backbone)}


def model_portable(model: Model, store: Store) -> Json:
    """A model as plain values for other processes: weights that lie in the store are named from its root."""
    return {
        "title": model.title,
        "backbone": to_dict(model.backbone),
        "image_size": model.image_size,
        "weights": "" if model.weights is None else path_portable(str(model.weights.resolve()), store),
        "digest": model.digest,
        "stage": None if model.stage is None else model.stage.key,
        "seed": model.seed,
    }


def model_placed(plain: Json, store: Store) -> Model:
    """A model from plain values, with the paths that it has on this machine."""
    key, weights = plain["stage"], path_placed(plain["weights"], store, len(("stages", "key", "backbone.safetensors")))
    return Model(
        **{
            **plain,
            "backbone": part_from_dict(BackboneSpec, plain["backbone"]),
            "weights": Path(weights) if weights else None,
            "stage": None if key is None else store.stage(key),
        }
    )


def named_weights(start: str | None, backbone: str | None) -> tuple[str | None, str | None]:
    """Where a chain starts, and the network, where the network is named with a tag of timm's weights, or the start as
    `imagenet`.

    Raises:
        SpecError: both name weights, or `imagenet` of no network.
    """
    name, dot, _ = (backbone or "").partition(".")
    if start == IMAGENET:
        if backbone is None:
            raise SpecError("--from imagenet: of which network?", "add --backbone, such as --backbone resnet50")
        return backbone, name
    if dot and start is not None:
        raise SpecError(f"--backbone {backbone} names weights, and --from {start} others", f"give --backbone {name}")
    return (backbone, name) if dot else (start, backbone)


def parent_from(text: str | None, store: Store, backbone: str | None = None, stem: str | None = None) -> Parent:
    """Where a chain starts; None is scratch.

    Args:
        text: a checkpoint file of ours or of another project, a stage's folder, the beginning of a stage's key, or the
            name of a timm network whose weights are on this machine.
        store: keeps what files of other projects were turned into.
        backbone: the network that a foreign file holds; None finds it out.
        stem: its stem, where the weights do not show it.

    Raises:
        StoreError, CheckpointError: there is no such stage or file, or it does not fit.
    """
    if text is None:
        return SCRATCH
    path = Path(text).expanduser()
    if path.is_dir() and (path / "backbone.safetensors").is_file():
        path = path / "backbone.safetensors"
    if path.is_dir():
        raise CheckpointError(f"{text} is a folder without a backbone.safetensors", "give a file, or a stage's folder")
    if not path.exists():
        if path.suffix in (".safetensors", ".pth", ".pt", ".ckpt", ".tar", ".bin") or "/" in text:
            raise CheckpointError(f"there is no checkpoint at {text}", "give a file, a stage's key or a timm name")
        return _parent_by_name(text, store, stem)
    stage = store.find(path.resolve().parent.name)
    if stage is not None and stage.weights.resolve() == path.resolve():
        return parent_of(stage.spec)
    from sslcurr.backbones.checkpoint import is_ours

    if not is_ours(path):
        path = imported(path, store, backbone, stem)
    return _parent_at(path)


def _parent_at(path: Path) -> Parent:
    from sslcurr.backbones.checkpoint import read_header
    from sslcurr.files import sha256_of

    header = read_header(path)
    return Parent(
        key=f"{FILE_KEY}{sha256_of(path)}",
        lineage=header.tasks,
        source=str(path.resolve()),
        backbone=header.backbone,
        image_size=header.image_size,
    )


def _parent_by_name(text: str, store: Store, stem: str | None) -> Parent:
    """A stage by its key, or else a timm network by its name."""
    try:
        return parent_of(store.resolve(text).spec)
    except StoreError as error:
        if store.named(text) is not None:  # a run without a model
            raise
        from sslcurr.backbones.build import import_timm

        timm, name = import_timm(), text.partition(".")[0]
        if not timm.is_model(name):
            if re.fullmatch("[0-9a-f]{4,16}", text) or LATEST.fullmatch(text) or store.named(text) is not None:
                raise
            near = difflib.get_close_matches(name, timm.list_models(), n=1, cutoff=0.8)
            raise StoreError(
                f"{text!r} is no file, no run or stage of {store.root} and no timm network",
                f"{f'did you mean {near[0]}? or ' if near else ''}see sslcurr runs, or give the store as --runs FOLDER",
            ) from error
    if stem not in (None, "imagenet"):
        raise SpecError(f"timm's weights of {text} have the ImageNet stem", "leave out --stem")
    weights, about = timm_weights(text), timm.get_pretrained_cfg(text)
    assert about is not None
    preprocessing: Preprocessing = {
        "mean": list(about.mean),
        "std": list(about.std),
        "image_size": about.input_size[-1],
    }
    return _parent_at(imported(weights, store, name, None, title=text, preprocessing=preprocessing))


def timm_weights(name: str) -> Path:
    """The file with timm's weights of a network, if this machine has it; nothing is downloaded.

    Raises:
        CheckpointError: it has not, or there are none.
    """
    import torch
    from huggingface_hub import try_to_load_from_cache

    from sslcurr.backbones.build import import_timm

    timm = import_timm()
    try:
        about = timm.get_pretrained_cfg(name)
    except RuntimeError:  # a tag that there is not
        about = None
    architecture = name.partition(".")[0]
    if about is None or not (about.hf_hub_id or about.url or about.file):
        names = [each for each in timm.list_pretrained(f"{architecture}*") if each.partition(".")[0] == architecture]
        hint = did_you_mean(name, names) if names else "give a checkpoint file, or random for an untrained network"
        raise CheckpointError(f"timm has no weights named {name!r}", hint)
    places = [Path(about.file)] if about.file else []
    if about.hf_hub_id:
        cached = [try_to_load_from_cache(about.hf_hub_id, each) for each in ("model.safetensors", "pytorch_model.bin")]
        places += [Path(each) for each in cached if isinstance(each, str)]
    if about.url:
        places.append(Path(torch.hub.get_dir()) / "checkpoints" / str(about.url).rpartition("/")[2])
    for place in places:
        if place.is_file():
            return place
    raise CheckpointError(
        f"the weights of {name} are not on this machine",
        f"where there is a network: python -c \"import timm; timm.create_model('{name}', pretrained=True)\"; "
        f"or compare with an untrained one: random:{architecture}",
    )


# ---- other projects' files


def imported(
    path: Path,
    store: Store,
    backbone: str | None = None,
    stem: str | None = None,
    title: str | None = None,
    preprocessing: Preprocessing | None = None,
) -> Path:
    """What a foreign file was turned into, a checkpoint of ours under `store.imports`, made if it is not there.

    `preprocessing` says the `mean`, `std` and `image_size` it was trained with, where these are known.
    """
    from sslcurr.files import sha256_of

    inputs = {"version": IMPORT_VERSION, "file": sha256_of(path), "backbone": backbone, "stem": stem, "title": title}
    inputs |= {"seen": preprocessing} if preprocessing is not None else {}

    def work(part: Path) -> Json:
        conversion, spec = conversion_of(path, backbone, stem)
        size = None
        if preprocessing is not None:
            size = int(preprocessing["image_size"])
            if len(preprocessing["mean"]) == spec.channels:
                spec = replace(spec, mean=tuple(preprocessing["mean"]), std=tuple(preprocessing["std"]))
        write_whole(
            part / "backbone.safetensors",
            lambda file: write_import(conversion, spec, file, title=title or path.stem, image_size=size),
        )
        return {"from": str(path), "layout": conversion.layout, "matched": len(conversion.matched)}

    return store.cached(store.imports, "import", inputs, work) / "backbone.safetensors"


def conversion_of(
    path: Path,
    backbone: str | None = None,
    stem: str | None = None,
    *,
    unsafe_pickle: bool = False,
    allow_missing: bool = False,
) -> tuple[Conversion, BackboneSpec]:
    """The weights of a foreign file as those of a backbone, which is found out where it is not named.

    Raises:
        CheckpointError: it cannot be read, or does not fit.
    """
    from sslcurr.backbones import foreign, foreign_read

    state = foreign_read.read_state(path, unsafe_pickle=unsafe_pickle)
    spec = foreign.named(state, backbone, stem=stem) if backbone is not None else foreign.guess(state, stem=stem)
    return foreign.convert_state(state, spec, allow_missing=allow_missing), spec


def write_import(
    conversion: Conversion, spec: BackboneSpec, path: Path, *, title: str, image_size: int | None = None
) -> None:
    """Write converted weights as a checkpoint of ours; `title` stands for the tasks it went through."""
    from sslcurr.backbones import checkpoint

    size = image_size or (224 if spec.stem == "imagenet" else SMALL_STEM_SIZE)
    checkpoint.save_weights(conversion.weights, checkpoint.Header(backbone=spec, image_size=size, tasks=(title,)), path)


# ---- models to be analysed


def models_from(
    texts: Sequence[str], store: Store, *, backbone: str | None = None, stem: str | None = None, seed: int = 0
) -> list[Model]:
    """Models by what a person calls them; `random` (or `random:NAME`) is an untrained network.

    `random` alone is of the network `backbone`, or else of the first of the others.

    Raises:
        SpecError, StoreError, CheckpointError: something among them is not there or does not fit.
    """
    named: list[Model | None] = [
        None if text.partition(":")[0] == RANDOM else model_of(parent_from(text, store, backbone, stem), store, text)
        for text in texts
    ]
    first = next((model for model in named if model is not None), None)
    models = []
    for text, model in zip(texts, named, strict=True):
        if model is None:
            name = text.partition(":")[2] or backbone
            if name is not None:
                like = first.backbone if first is not None else BackboneSpec(name=name)
                spec = replace(like, name=name, stem=stem or ("imagenet" if name != like.name else like.stem))
            elif first is not None:
                spec = first.backbone
            else:
                raise SpecError(f"{text} does not name a network", "give random:resnet50, or --backbone")
            size = first.image_size if first is not None else None
            model = Model(f"untrained {spec.name}", spec, size, None, f"untrained, seed {seed}", seed=seed)
        models.append(model)
    return titled(models)


def model_of(parent: Parent, store: Store, text: str = "") -> Model:
    """A stage or a checkpoint file as a model."""
    from sslcurr.files import sha256_of

    assert parent.key is not None
    assert parent.backbone is not None
    weights = weights_of(parent.key, parent.source, store)
    stage = None if parent.source else store.find(parent.key)
    digest = stage.record.weights_sha256 if stage is not None else sha256_of(weights)
    title = " -> ".join(parent.lineage) or Path(text).stem
    return Model(title, parent.backbone, parent.image_size, weights, digest, stage)


def titled(models: Sequence[Model]) -> list[Model]:
    """Models with titles that differ: equal ones are distinguished by seeds, keys or numbers."""
    titles = [model.title for model in models]
    distinct = []
    for number, model in enumerate(models):
        title = model.title
        if titles.count(title) > 1:
            same = [other for other in models if other.title == title]
            seeds = [other.stage.spec.seed for other in same if other.stage is not None]
            if len(set(seeds)) == len(same) and model.stage is not None:
                title = f"{title} (seed {model.stage.spec.seed})"
            elif len({other.digest for other in same}) == len(same) and model.stage is not None:
                title = f"{title} ({model.stage.key[:6]})"
            else:
                title = f"{title} ({number + 1})"
        distinct.append(replace(model, title=title))
    return distinct
