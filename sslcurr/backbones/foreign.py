"""Foreign checkpoints: the backbone in a file that another project wrote.

A file is a set of tensors with dotted names. Somewhere in them is the backbone, under a prefix that the project chose:
every prefix under which the file has names of the backbone is a candidate, and the one with most of them is taken.
Where a file has several copies (online and momentum, student and teacher), `_rank` says which one is meant.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sslcurr.backbones.build import build
from sslcurr.errors import CheckpointError
from sslcurr.spec.stage import BackboneSpec

# Names that a project gives the first component of a ResNet's keys; none for its own names. Numbers are places in
# nn.Sequential(*children): layer1 is the fifth child, the fourth without pooling, the third without ReLU too.
RENAMINGS: dict[str, dict[str, str]] = {
    "": {},
    "children": {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"},
    "children without pooling": {"0": "conv1", "1": "bn1", "3": "layer1", "4": "layer2", "5": "layer3", "6": "layer4"},
    "children with weights": {"0": "conv1", "1": "bn1", "2": "layer1", "3": "layer2", "4": "layer3", "5": "layer4"},
}

# Names that differ inside a block: lightly's own ResNet and others for CIFAR.
INNER_RENAMINGS = {".shortcut.": ".downsample."}

# Names of layers that have changed. The first are those of torchvision's DenseNet before 0.3, in which the released
# CheXNet and many after it were saved (norm.1 for norm1; the pattern is of torchvision's models/densenet.py,
# _load_state_dict), the second those of MONAI's.
FORMER_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\."), r"\1\2."),
    (re.compile(r"(denselayer\d+\.)layers\."), r"\1"),
)

# Words of a prefix that say a network follows another one as a moving average, and is not trained itself.
COPY_WORDS = {"momentum", "target", "key", "k", "m", "ema", "shadow", "slow", "averaged"}

# What a person calls a layout: the prefix of the backbone, and a key that the file must have besides. First match.
LAYOUTS: tuple[tuple[str, str, str], ...] = (
    ("VISSL", r"(^|\.)_feature_blocks\.$", r""),
    ("lightly-train", r"(^|[._])embedding_model\.|(^|\.)(wrapped_model|model_wrapper)\.|^lightly_train\.", r""),
    ("MoCo", r"(^|\.)module\.(encoder_q|base_encoder)\.$", r""),
    ("DINO", r"^(teacher|student)\.", r""),
    ("SwAV", r"^(state_dict\.)?(module\.)?$", r"(^|\.)prototypes\."),
    ("OpenSelfSup", r"^(state_dict\.)?(backbone|encoder_q\.0|online_net\.0)\.$", r"(^|\.)(encoder_q|online_net)\.0\."),
    (
        "MMSelfSup",
        r"^(state_dict\.)?backbone\.$",
        r"^(state_dict\.)?(neck|head|encoder_k\.module|target_net|memory_bank)\.",
    ),
    (
        "solo-learn",
        r"^(state_dict\.)?(backbone|encoder)\.$",
        r"^(state_dict\.)?(momentum_(backbone|encoder|projector)|projector|predictor|classifier)\.",
    ),
    ("lightly", r"(^|\.)((student|teacher|query)_)?backbone\.$", r"_head\.|prototypes\.|online_classifier\."),
    ("torchvision or timm", r"^((state_dict|state_dict_ema|model|module|_orig_mod)\.)*$", r""),
)

# Networks that `guess` knows, by the end of a key that only their family has. A family's first fit is taken.
FAMILIES: dict[str, tuple[str, ...]] = {
    ".0.conv1.weight": (
        "resnet50",
        "resnet18",
        "resnet34",
        "resnet101",
        "resnet152",
        "wide_resnet50_2",
        "wide_resnet101_2",
        "resnext50_32x4d",
        "resnext101_32x8d",
        "resnext101_64x4d",
        "resnet26",
    ),
    "stages.0.blocks.0.conv_dw.weight": ("convnext_tiny", "convnext_small", "convnext_base"),
    "features.denseblock1.denselayer1.norm1.weight": ("densenet121", "densenet169", "densenet201"),
    "blocks.0.0.conv_dw.weight": ("efficientnet_b0", "mobilenetv3_large_100", "mobilenetv3_small_100"),
    "s1.b1.conv1.conv.weight": ("regnety_016", "regnety_032"),
}

COUNTER = "num_batches_tracked"  # BatchNorm counts with it and computes nothing from it: old files lack it
LEAST_MATCHED_SHARE = (
    0.1  # with less than this share of its names, a file has not this backbone but a few names like its
)


@dataclass(frozen=True, slots=True)
class Conversion:
    """What became of a foreign file.

    Attributes:
        weights: exactly the keys and shapes of the backbone's state dict: float32, counters int64, own memory.
        layout: a person's word for where the backbone was found, as `MoCo`, or the prefix of its keys.
        matched: keys of the file that were used, by their full names.
        missing: keys of the backbone that the file does not have and that got fresh values.
        dropped: keys of the file that were not used.
    """

    weights: dict[str, Tensor]
    layout: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    dropped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Group:
    """A place in the file where the backbone may be: `keys` are the file's names by the backbone's."""

    prefix: str
    renaming: str
    keys: dict[str, str]


@functools.lru_cache(maxsize=64)
def _table(spec: BackboneSpec) -> dict[str, tuple[int, ...]]:
    """The shapes of a backbone's state dict by name, in its order; needs no memory for weights."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in build(spec).state_dict().items()}


def _needed(table: dict[str, tuple[int, ...]]) -> list[str]:
    return [name for name in table if not name.endswith(COUNTER)]


def _as_now(name: str) -> str:
    """The name that torchvision gives a layer today."""
    for pattern, replacement in FORMER_NAMES:
        name = pattern.sub(replacement, name)
    return name


def _renamed(parts: list[str], renaming: str, table: dict[str, tuple[int, ...]]) -> str | None:
    """The backbone's name for the last components of a key; None if the renaming does not know the first one."""
    names = RENAMINGS[renaming]
    if names and parts[0] not in names:
        return None
    name = _as_now(".".join([names.get(parts[0], parts[0]), *parts[1:]]))
    if name not in table:
        for theirs, ours in INNER_RENAMINGS.items():
            name = name.replace(theirs, ours)
    return name


def _matching_groups(state: dict[str, Tensor], table: dict[str, tuple[int, ...]]) -> list[_Group]:
    """Every place of the file with names of the backbone."""
    tops = {name.split(".")[0] for name in table}
    keys_at: dict[tuple[str, str], dict[str, str]] = {}
    for key in state:
        parts = key.split(".")
        for start, part in enumerate(parts):
            for renaming, names in RENAMINGS.items():
                if (names.get(part) if names else part) not in tops:
                    continue
                name = _renamed(parts[start:], renaming, table)
                if name in table:
                    prefix = "".join(f"{before}." for before in parts[:start])
                    keys_at.setdefault((prefix, renaming), {})[name] = key
    fewest = max(1.0, LEAST_MATCHED_SHARE * len(_needed(table)))
    return [
        _Group(prefix, renaming, keys)
        for (prefix, renaming), keys in keys_at.items()
        if sum(not name.endswith(COUNTER) for name in keys) >= fewest
    ]


def _surplus(state: dict[str, Tensor], table: dict[str, tuple[int, ...]], group: _Group) -> list[str]:
    """Keys of the file inside parts of the backbone that the backbone has not, as the blocks of a deeper network."""
    tops = {name.split(".")[0] for name in table} - {"head"}  # a classifier may lie beside what is kept of a head
    surplus = []
    for key in state:
        if key.startswith(group.prefix):
            name = _renamed(key.removeprefix(group.prefix).split("."), group.renaming, table)
            if name is not None and name not in table and name.split(".")[0] in tops:
                surplus.append(key)
    return surplus


def _words(prefix: str) -> set[str]:
    return set(re.split(r"[._]", prefix.lower()))


def _rank(prefix: str, has_student: bool) -> int:
    """Which of several copies is meant, least first: the trained one before one that follows it.

    `backbone` is what lightly, MMSelfSup and solo-learn name the network that they evaluate; beside a `query_backbone`
    or `student_backbone` of lightly's benchmarks it is the average. DINO evaluates its teacher
    (https://github.com/facebookresearch/dino), and so does lightly: a teacher comes before its student.
    """
    words = _words(prefix)
    if words & COPY_WORDS:
        return 5
    if "teacher" in words:
        return 2 if has_student else 5
    if "student" in words:
        return 3
    return 0 if "backbone" in prefix.split(".") else 1


def _best(state: dict[str, Tensor], table: dict[str, tuple[int, ...]]) -> _Group | None:
    """The place with most of the backbone's names and shapes; of equal ones the one that is meant."""
    has_student = any("student" in _words(key) for key in state)

    def order(group: _Group) -> tuple[int, int, int, int, int, str]:
        needed = [name for name in _needed(table) if name in group.keys]
        same = sum(tuple(state[group.keys[name]].shape) == table[name] for name in needed)
        surplus = len(_surplus(state, table, group))
        return -same, -len(needed), surplus, _rank(group.prefix, has_student), len(group.prefix), group.prefix

    return min(_matching_groups(state, table), key=order, default=None)


def _differing(state: dict[str, Tensor], table: dict[str, tuple[int, ...]], group: _Group) -> list[str]:
    """Names of another shape in the file, in the backbone's order, counters left out."""
    return [
        name for name in _needed(table) if name in group.keys and tuple(state[group.keys[name]].shape) != table[name]
    ]


def guess(state: dict[str, Tensor], *, stem: str | None = None) -> BackboneSpec:
    """Which timm backbone a file holds, by names and shapes, with ImageNet's mean and deviation.

    A first convolution of 3 x 3 in a ResNet gives the stem `cifar`. Weights do not show a stride, so a `small` stem
    looks the same: give `stem` where it is known.

    Raises:
        CheckpointError: no network that is known here fits, or it takes neither 1 nor 3 channels.
    """
    has_student = any("student" in _words(key) for key in state)
    fits: list[tuple[int, BackboneSpec]] = []
    for ending, names in FAMILIES.items():
        if not any(_as_now(f".{key}").endswith(ending) for key in state):
            continue
        for name in names:
            spec = BackboneSpec(name=name)
            table = _table(spec)
            group = _best(state, table)
            if group is None or not _fits(state, table, group):
                continue
            shape = tuple(state[group.keys[next(iter(table))]].shape)
            fitting = _with_input(spec, shape, stem)
            rank = _rank(group.prefix, has_student)
            if rank <= 1:
                return fitting
            fits.append((rank, fitting))
    if fits:
        return min(fits, key=lambda fit: fit[0])[1]
    if (wide := _widened(state)) is not None:
        raise _too_wide(*wide)
    raise CheckpointError(
        f"cannot tell which backbone the file holds; its keys are {_few(state)}",
        "give --backbone NAME, the name of the network in timm",
    )


def named(state: dict[str, Tensor], name: str, *, stem: str | None = None) -> BackboneSpec:
    """The backbone `name` with the channels, and where `stem` is not given the stem, of the file's first convolution.

    Raises:
        CheckpointError: it takes neither 1 nor 3 channels. SpecError: timm has no such network.
    """
    spec = BackboneSpec(name=name)
    table = _table(spec)
    first, group = next(iter(table)), _best(state, table)
    if group is None or first not in group.keys or state[group.keys[first]].ndim != 4:
        return replace(spec, stem=stem or "imagenet")  # `convert_state` says what is wrong with it
    return _with_input(spec, tuple(state[group.keys[first]].shape), stem)


def _fits(state: dict[str, Tensor], table: dict[str, tuple[int, ...]], group: _Group) -> bool:
    """Whether all but the first convolution is as in the backbone, and that at least in number of outputs."""
    first = next(iter(table))
    return (
        all(name in group.keys for name in _needed(table))
        and set(_differing(state, table, group)) <= {first}
        and state[group.keys[first]].ndim == 4
        and state[group.keys[first]].shape[0] == table[first][0]
        and (state[group.keys[first]].shape[2:] == table[first][2:] or _is_small(state, group))
        and not _surplus(state, table, group)
    )


def _is_small(state: dict[str, Tensor], group: _Group) -> bool:
    """Whether it is a ResNet whose first convolution is 3 x 3."""
    return "conv1.weight" in group.keys and tuple(state[group.keys["conv1.weight"]].shape[2:]) == (3, 3)


def _with_input(spec: BackboneSpec, shape: tuple[int, ...], stem: str | None) -> BackboneSpec:
    """The backbone with the channels and the stem of a first convolution of `shape`, [out, in, height, width]."""
    if shape[1] not in (1, 3):
        raise _wrong_channels(spec.name, shape[1])
    if stem is None:
        stem = "cifar" if shape[2:] == (3, 3) and spec.name.startswith(("resn", "wide_resnet")) else "imagenet"
    if shape[1] == 1:
        return replace(spec, stem=stem, channels=1, mean=(0.449,), std=(0.226,))
    return replace(spec, stem=stem)


def _wrong_channels(name: str, channels: int) -> CheckpointError:
    if channels == 2:
        return CheckpointError(
            f"the {name} in the file takes 2 input channels (Sobel images, as DeepCluster's) and cannot be used",
            "take a checkpoint that was trained on colour or grey images",
        )
    return CheckpointError(
        f"the {name} in the file takes {channels} input channels and cannot be used",
        "take a checkpoint that was trained on images of 1 or 3 channels",
    )


def _widened(state: dict[str, Tensor]) -> tuple[str, int] | None:
    """The ResNet that a file holds with a multiple of all its channels, and the factor: RN50w2 is resnet50 times 2."""
    for name in FAMILIES[".0.conv1.weight"]:
        table = _table(BackboneSpec(name=name))
        group = _best(state, table)
        if group is None or not all(each in group.keys for each in _needed(table)) or _surplus(state, table, group):
            continue
        shapes = {each: tuple(state[group.keys[each]].shape) for each in _needed(table)}
        factor = shapes["conv1.weight"][0] // table["conv1.weight"][0] if shapes["conv1.weight"] else 0
        if factor > 1 and all(_is_wider(shapes[each], table[each], factor) for each in shapes):
            return name, factor
    return None


def _is_wider(theirs: tuple[int, ...], ours: tuple[int, ...], factor: int) -> bool:
    """Whether a parameter has a multiple of the channels, of images the same and of kernels the same size."""
    channels = tuple(size if size in (1, 3) else size * factor for size in ours[:2])
    return theirs == (*channels, *ours[2:])


def _too_wide(name: str, factor: int) -> CheckpointError:
    return CheckpointError(
        f"the file holds a {name} of {factor} times the width, which timm does not have; no --backbone fits it",
        f"take the checkpoint of the {name} of normal width that the same authors publish",
    )


def _few(state: dict[str, Tensor]) -> str:
    names = ", ".join(list(state)[:3])
    return names if len(state) <= 3 else f"{names}, ... ({len(state)} in all)"


def _looks_like(state: dict[str, Tensor]) -> str | None:
    try:
        return guess(state).name
    except CheckpointError:
        return None


def _elsewhere(state: dict[str, Tensor], spec: BackboneSpec) -> str:
    """A hint: which backbone to ask for instead."""
    name = _looks_like(state)
    if name is not None and name != spec.name:
        return f"it looks like a {name}: give --backbone {name}"
    return f"give --backbone NAME that fits: the file is no checkpoint of a {spec.name}"


def convert_state(
    state: dict[str, Tensor], spec: BackboneSpec, *, allow_missing: bool = False, seed: int = 0
) -> Conversion:
    """The backbone of `spec` out of the tensors of a foreign file, in the shapes that `build(spec)` has.

    The place with most of the backbone's names is taken. Of several copies it is the trained one, before any that
    follows it as a moving average (`momentum`, `target`, `key`); of a teacher and a student it is the teacher, which
    DINO's authors evaluate. Where names are missing and `allow_missing` is given, they get the values of a network
    that is built anew after `seed`; the global generator stays as it was. Numbers of 16 or 64 bits become float32.

    Layouts known from https://github.com/open-mmlab/mmselfsup (and OpenSelfSup before it),
    https://github.com/facebookresearch/moco, https://github.com/facebookresearch/swav,
    https://github.com/facebookresearch/vissl, https://github.com/facebookresearch/dino,
    https://github.com/lightly-ai/lightly, https://github.com/lightly-ai/lightly-train and
    https://github.com/vturrisi/solo-learn; any other prefix is found as well.

    Raises:
        CheckpointError: the file has not this backbone, or with another stem or other channels, or not all of it, or
            its weights are not finite.
        SpecError: timm cannot build `spec`.
    """
    table = _table(spec)
    group = _best(state, table)
    if group is None:
        raise CheckpointError(
            f"the file has no weights of a {spec.name}; its keys are {_few(state)}", _elsewhere(state, spec)
        )
    _check_shapes(state, spec, table, group)
    _check_parts_without_weights(spec, group)
    missing = [name for name in _needed(table) if name not in group.keys]
    if missing:
        _check_missing(state, spec, missing, allow_missing=allow_missing)
    fresh = _fresh(spec, seed) if missing else {}
    weights: dict[str, Tensor] = {}
    for name, shape in table.items():
        if name in missing:
            weights[name] = fresh[name].clone()
        elif name.endswith(COUNTER):
            weights[name] = _counter(state, group, name)
        else:
            weights[name] = _weight(state, group.keys[name], shape)
    matched = tuple(group.keys[name] for name in table if name in group.keys)
    used = set(matched)
    return Conversion(
        weights=weights,
        layout=_layout(state, group.prefix),
        matched=matched,
        missing=tuple(missing),
        dropped=tuple(key for key in state if key not in used),
    )


def _check_shapes(
    state: dict[str, Tensor], spec: BackboneSpec, table: dict[str, tuple[int, ...]], group: _Group
) -> None:
    """Refuse another architecture, another stem and other channels."""
    first = next(iter(table))
    differing = _differing(state, table, group)
    shape = tuple(state[group.keys[first]].shape) if first in group.keys else table[first]
    alike = len(shape) == 4 and shape[0] == table[first][0]
    if alike and shape[1] not in (1, 3):
        raise _wrong_channels(spec.name, shape[1])
    others = [name for name in differing if name != first or not alike]
    if others:
        if (wide := _widened(state)) is not None:
            raise _too_wide(*wide)
        theirs, ours = tuple(state[group.keys[others[0]]].shape), table[others[0]]
        raise CheckpointError(
            f"the file holds another architecture than {spec.name}: {group.keys[others[0]]} is {theirs}, not {ours}",
            _elsewhere(state, spec),
        )
    if surplus := _surplus(state, table, group):
        raise CheckpointError(
            f"the file holds another architecture than {spec.name}, which has no {surplus[0]}", _elsewhere(state, spec)
        )
    if shape[2:] != table[first][2:]:
        theirs_size, ours_size = (f"{size[2]} x {size[3]}" for size in (shape, table[first]))
        hints: dict[tuple[int, ...], str] = {
            (3, 3): "give --stem cifar or --stem small",
            (7, 7): "give --stem imagenet",
        }
        raise CheckpointError(
            f"the file has a {theirs_size} first convolution, and {spec.name} with the stem {spec.stem} "
            f"one of {ours_size}",
            hints.get(shape[2:], _elsewhere(state, spec)),
        )
    if shape[1] != table[first][1]:
        raise CheckpointError(
            f"the {spec.name} in the file takes {shape[1]} input channels, and the requested one {spec.channels}",
            f"import it with channels = {shape[1]}: colour weights are not made grey, nor grey ones colour",
        )


def _check_parts_without_weights(spec: BackboneSpec, group: _Group) -> None:
    """Refuse what computes something else with the same weights, as far as the places of the children show it.

    nn.Sequential(*children) of a ResNet that calls its first ReLU as a function, as lightly's own ResNet does, has no
    ReLU there: it was trained without it, and timm's network has it.
    """
    if group.renaming == "children with weights":
        raise CheckpointError(
            "the network in the file has no ReLU after its first normalisation, which no timm ResNet can do: "
            f"{group.keys.get('layer1.0.conv1.weight', group.prefix)} is the third of its children",
            "train it anew with a ResNet of torchvision or timm as its backbone",
        )
    if group.renaming == "children without pooling" and spec.stem == "imagenet":
        raise CheckpointError(
            f"the network in the file has no pooling after its first convolution, and {spec.name} has",
            "take a checkpoint of the whole network, or of one with a 3 x 3 first convolution (--stem cifar)",
        )


def _check_missing(state: dict[str, Tensor], spec: BackboneSpec, missing: list[str], *, allow_missing: bool) -> None:
    """Refuse a file that is whole as another network, and, unless allowed, one that is not whole."""
    total = len(_needed(_table(spec)))
    name = _looks_like(state)
    if name is not None and name != spec.name:
        raise CheckpointError(
            f"the file holds another architecture than {spec.name}: {len(missing)} of {total} keys are missing "
            f"(first: {missing[0]})",
            f"it looks like a {name}: give --backbone {name}",
        )
    if not allow_missing:
        raise CheckpointError(
            f"the file lacks {len(missing)} of {total} keys of {spec.name} (first: {missing[0]})",
            "sslcurr import FILE --allow-missing fills them with fresh weights",
        )


def _fresh(spec: BackboneSpec, seed: int) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {name: tensor.detach() for name, tensor in build(spec).state_dict().items()}


def _counter(state: dict[str, Tensor], group: _Group, name: str) -> Tensor:
    theirs = state[group.keys[name]] if name in group.keys else torch.zeros((), dtype=torch.int64)
    if theirs.numel() != 1 or not bool(torch.isfinite(theirs.float()).all()):
        raise CheckpointError(f"{group.keys[name]} is not a number", "the file is damaged: copy it again")
    return theirs.reshape(()).to(torch.int64, copy=True)


def _weight(state: dict[str, Tensor], key: str, shape: tuple[int, ...]) -> Tensor:
    theirs = state[key]
    if not theirs.is_floating_point():
        raise CheckpointError(
            f"{key} is of {theirs.dtype}, not of floating point", "take the checkpoint from before it was quantised"
        )
    # empty + copy_: contiguous and of its own memory, whatever the file's tensor shares or strides.
    ours = torch.empty(shape, dtype=torch.float32).copy_(theirs)
    if not bool(torch.isfinite(ours).all()):
        raise CheckpointError(
            f"{key} has weights that are not finite (NaN or inf)", "that training diverged: take an earlier checkpoint"
        )
    return ours


def _layout(state: dict[str, Tensor], prefix: str) -> str:
    for name, of_prefix, besides in LAYOUTS:
        if re.search(of_prefix, prefix) and any(re.search(besides, key) for key in state):
            return name
    return f"prefix {prefix!r}"
