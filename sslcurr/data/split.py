"""Which images train, validate and test, and nested subsets of them; the same on every machine for the same seed."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sslcurr.data.pack import Pack
from sslcurr.errors import DataError, SpecError
from sslcurr.files import write_whole
from sslcurr.seeds import numpy_generator
from sslcurr.spec.target import CLASSES, MULTILABEL, TARGETS

__all__ = ["SplitSettings", "assign", "lacking_classes", "lacking_sentence", "subset"]

NUM_TRIES = 100
# Two folds hardly say how much models differ: intervals would cover 85 to 88 %.
FEWEST_FOLDS, MOST_FOLDS = 3, 20
SLACK = 0.95
# Fewer images are divided in no time.
MANY = 20_000
SPLIT_VERSION = 1
NUM_REMEMBERED = 8  # splits that are remembered, one for each data set and seed in use

ShareDistances = Sequence[tuple[list[float], list[float]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitSettings:
    """Shares of the images for validation and testing; the rest trains. Raises SpecError if they leave nothing.

    With `folds` the labelled images are divided into so many alike parts, of which number `fold` tests, whatever `test`
    is, and `val` is the share of the others that validates.
    """

    val: float = 0.15
    test: float = 0.2
    seed: int = 0
    folds: int = 0
    fold: int = 0

    def __post_init__(self) -> None:
        for name in ("val", "test"):
            share = getattr(self, name)
            if not 0.0 <= share < 1.0:
                raise SpecError(f"{name} must be a share in [0, 1), got {share}", f"0.2 takes a fifth for {name}")
        if self.folds and not FEWEST_FOLDS <= self.folds <= MOST_FOLDS:
            raise SpecError(f"folds are {FEWEST_FOLDS} to {MOST_FOLDS}, got {self.folds}", "five are usual: --folds 5")
        if self.fold and not 0 <= self.fold < self.folds:
            raise SpecError(f"there is no fold {self.fold} of {self.folds}", "folds are numbered from 0 on")
        if self.val + self.test >= 1.0:
            raise SpecError(
                f"val {self.val} and test {self.test} leave no images for training", "their sum must be below 1"
            )


def assign(pack: Pack | Any, settings: SplitSettings) -> np.ndarray:
    """The split of each image of a pack: strings "train", "val", "test" or "" (not used), [N].

    Only its `num_images`, `labels`, `groups`, `splits` and `label_names` are used.

    Splits that were given are kept. What was given without a split is divided by class into the parts that were not
    given: into all three if none was, into train and val if only "test" was, into train and test if only "val" was, and
    it is all "train" if both were. The shares are those of the images so divided, kept within one image of a class, or
    with groups, of which all images land on one side, within one group. Images appended to a pack, of groups that it
    did not have, do not change the splits of those before. An image without a label trains if others have one, and in a
    pack without labels all images train that were not given another split. An image that may not train because its
    group is in val or test, and was not given or divided there, is not used.

    Raises DataError if a class has fewer images, or fewer groups, than there are parts to divide into.
    """
    key = _key(pack, settings)
    if key not in remembered:
        while len(remembered) >= NUM_REMEMBERED:
            remembered.pop(next(iter(remembered)))
        remembered[key] = _kept(pack, settings, key)
    return remembered[key].copy()


remembered: dict[str, np.ndarray] = {}  # every stage of a chain asks for the split of one pack


def _kept(pack: Pack | Any, settings: SplitSettings, key: str) -> np.ndarray:
    """`assign`; of many images it is kept beside their pack. A damaged file is as none: its checksums are read, too."""
    if pack.num_images < MANY or pack.parts:
        return _assign(pack, settings)
    path = pack.folder / f"split-{SPLIT_VERSION}-{key[:16]}.npz"
    with suppress(OSError, ValueError, KeyError, zipfile.BadZipFile):
        kept = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        if kept["key"].item() == key:
            return np.asarray(kept["splits"])
    splits = _assign(pack, settings)

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez_compressed(file, splits=splits, key=np.array(key))

    with suppress(OSError):  # a store that cannot be written is heard of elsewhere
        write_whole(path, write)
    return splits


def _key(pack: Pack | Any, settings: SplitSettings) -> str:
    """Names all that a split depends on; class names are in messages only, and errors are not kept."""
    about = hashlib.sha256(repr((pack.num_images, astuple(settings))).encode())
    for column in (pack.labels, pack.groups, pack.splits):
        if column is None:
            about.update(b"none")
        else:
            column = np.asarray(column)
            column = column.astype(str) if column.dtype == object else column  # objects' bytes are addresses
            about.update(f"{column.dtype.str} {column.shape}".encode())
            about.update(column.tobytes())
    return about.hexdigest()


def _assign(pack: Pack | Any, settings: SplitSettings) -> np.ndarray:
    """`assign`, not remembered."""
    if settings.folds:
        return _assign_fold(pack, settings)
    splits = np.full(pack.num_images, "", dtype="<U5")
    if pack.splits is not None:
        splits[:] = pack.splits
    given_splits = set(splits.tolist())
    shares = {
        part: share
        for part, share in (("test", settings.test), ("val", settings.val))
        if part not in given_splits and share > 0.0
    }
    # An image without a group is a group of its own, so there is one case to think about.
    _, groups = np.unique(np.arange(pack.num_images) if pack.groups is None else pack.groups, return_inverse=True)
    held = _groups_held_out(splits, groups)
    free = (splits == "") & ~held[groups]
    in_given_training = np.zeros(len(held), dtype=bool)
    in_given_training[groups[splits == "train"]] = True
    divided = np.flatnonzero(free & ~in_given_training[groups] & (pack.labels >= 0))
    if shares and divided.size:
        splits[divided] = _divide(pack.labels[divided], groups[divided], shares, settings.seed, pack)
        held = _groups_held_out(splits, groups)
    splits[(splits == "") & ~held[groups]] = "train"
    return splits


def _assign_fold(pack: Pack | Any, settings: SplitSettings) -> np.ndarray:
    """`assign` where one of several folds tests."""
    given = set() if pack.splits is None else set(np.asarray(pack.splits).tolist()) - {""}
    if given:
        raise DataError(
            f"there are images given as {' and '.join(sorted(given))}, and folds divide all images",
            "leave out --folds; --split-column none leaves out the splits of a table",
        )
    _, groups = np.unique(np.arange(pack.num_images) if pack.groups is None else pack.groups, return_inverse=True)
    labels = np.asarray(pack.labels)
    labelled = np.flatnonzero(labels >= 0)
    *names, last = [f"fold {number}" for number in range(settings.folds)]
    shares = dict.fromkeys(names, 1 / settings.folds)
    fold_of = _divide(labels[labelled], groups[labelled], shares, settings.seed, pack, last)
    tested = f"fold {settings.fold}"
    splits = np.full(pack.num_images, "", dtype="<U5")
    splits[labelled[fold_of == tested]] = "test"
    rest = labelled[fold_of != tested]
    if settings.val > 0.0:
        splits[rest] = _divide(labels[rest], groups[rest], {"val": settings.val}, settings.seed, pack)
    held = _groups_held_out(splits, groups)
    splits[(splits == "") & ~held[groups]] = "train"
    return splits


def lacking_classes(pack: Pack | Any, splits: np.ndarray) -> dict[str, list[str]]:
    """The classes, or labels, that have images, but none in the part (train, val, test), by part; `splits` are as of
    `assign`.

    Parts without any image are left out: there nothing is measured. Training is not, for nothing goes without it.
    Numbers lack nothing.
    """
    holds = _holds(pack)
    known = holds.any(axis=0)
    lacking = {}
    for part in ("train", "val", "test"):
        members = splits == part
        if members.any() or part == "train":
            missing = np.flatnonzero(known & ~holds[members].any(axis=0))
            lacking[part] = [pack.classes[code] for code in missing]
    return {part: names for part, names in lacking.items() if names}


def _holds(pack: Pack | Any) -> np.ndarray:
    """Which images are of which class, or have which label, bool [N, T]."""
    if pack.target == CLASSES.name:
        return np.asarray(pack.labels)[:, None] == np.arange(len(pack.classes))
    return np.asarray(pack.values == 1) if pack.target == MULTILABEL.name else np.zeros((len(pack.labels), 0), bool)


def lacking_sentence(part: str, names: Sequence[str], target: str = CLASSES.name) -> str:
    """What it means that a part has no image of some classes, or of some labels of another kind of target."""
    what = {
        "train": ("training", f"cannot be learnt, and a mean over all {TARGETS[target].outputs} misleads"),
        "val": ("validation", "not looked at when the best epoch is chosen"),
        "test": ("test", "not measured"),
    }
    noun, effect = what[part]
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    one = len(names) == 1
    of = ("class", "classes") if target == CLASSES.name else ("label", "labels")
    return f"{of[not one]} {shown} {'has' if one else 'have'} no {noun} image: {effect}"


def subset(indices: np.ndarray, labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """A share of `indices`, sorted, the same share of every class and at least one image of each.

    `labels` are the class codes of `indices`, one each; -1 (no label) counts as a class. Smaller subsets of one seed
    lie inside larger ones. Raises SpecError unless the fraction is in (0, 1].
    """
    if not 0.0 < fraction <= 1.0:
        raise SpecError(f"fraction must be in (0, 1], got {fraction}", "0.25 takes a quarter of the training images")
    indices, labels = np.asarray(indices), np.asarray(labels)
    if indices.shape != labels.shape:
        raise ValueError(f"{len(indices)} indices, but {len(labels)} labels")
    by_index = np.argsort(indices, kind="stable")
    indices, labels = indices[by_index], labels[by_index]
    chosen = [indices[:0]]
    for label in np.unique(labels):
        members = numpy_generator(seed, "subset", int(label)).permutation(indices[labels == label])
        chosen.append(members[: max(1, _rounded(len(members) * fraction))])
    return np.sort(np.concatenate(chosen))


def _rounded(value: float) -> int:
    """The nearest integer, halves up: Python rounds them to even, so that shares of small classes would jump."""
    return int(np.floor(value + 0.5))


def _groups_held_out(splits: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Which groups have an image in val or test, bool [num_groups]."""
    held = np.zeros(int(groups.max(initial=-1)) + 1, dtype=bool)
    held[groups[(splits == "val") | (splits == "test")]] = True
    return held


def _divide(
    labels: np.ndarray, groups: np.ndarray, shares: dict[str, float], seed: int, pack: Pack, rest: str = "train"
) -> np.ndarray:
    """The part of each labelled image: a key of `shares`, or `rest`."""
    parts = [*shares, rest]
    codes, labels = np.unique(labels, return_inverse=True)
    _, first, members = np.unique(groups, return_index=True, return_inverse=True)
    order = np.empty(len(first), dtype=np.int64)  # groups are numbered as they come, not by name
    order[np.argsort(first)] = np.arange(len(first))
    members = order[members]
    pairs, counts = np.unique(members * len(codes) + labels, return_counts=True)
    of_group, of_class = np.divmod(pairs, len(codes))
    num_groups = np.bincount(of_class, minlength=len(codes))
    what = "images" if len(first) == len(labels) else "groups"
    if (short := np.flatnonzero(num_groups < len(parts))).size:
        raise DataError(
            f"class {pack.label_names[codes[short[0]]]} has {num_groups[short[0]]} {what}, too few to be in each of "
            + ", ".join(sorted(parts)),
            "add images to it or take it out; a table with a column split can also say where they go"
            if rest == "train"
            else "add images to it or take it out, or give fewer folds",
        )
    images: list[list[tuple[int, int]]] = [[] for _ in first]  # of each group: class, number of images
    for group, label, count in zip(of_group.tolist(), of_class.tolist(), counts.tolist(), strict=True):
        images[group].append((label, count))
    alone = len(pairs) == len(first) and counts.max() == 1  # each group is one image
    deal = partial(_deal_alone, of_class.tolist()) if alone else partial(_deal, images)
    part_shares = [*shares.values(), 1.0 - sum(shares.values())]
    for attempt in range(NUM_TRIES):
        draws = numpy_generator(seed, "split", attempt).random(len(first)).tolist()
        part_of = deal(part_shares, draws, blind=attempt > 0)
        if part_of is not None:
            return np.array(parts)[np.array(part_of)[members]]
    raise DataError(
        f"found no split that has every class in each of {', '.join(sorted(parts))} without dividing a group",
        "too many classes share too few groups; say where they go in a column split of a table",
    )


def _deal(
    images: Sequence[Sequence[tuple[int, int]]], shares: Sequence[float], draws: Sequence[float], *, blind: bool
) -> list[int] | None:
    """The number of each group's part, decided group by group; None if some class did not come into every part.

    `images` are (class, number of images) of each group, `draws` a random number in [0, 1) for each. What comes later
    changes nothing of what was decided, so a data set can grow at its end and keep its test images. A part is drawn
    among those that keep every class of the group within SLACK of its share in every part, counted in its largest
    group so far; where there is none, the part that comes nearest is taken. A part that lacks a class of the group goes
    first. `blind` draws among all parts, for the few odd sets where that is what finds a way.
    """
    parts = range(len(shares))
    have: dict[int, list[float]] = {}  # by class: images above the share of each part
    largest: dict[int, int] = {}
    lacking: dict[int, set[int]] = {}
    chosen = []
    for group, draw in zip(images, draws, strict=True):
        candidates: Sequence[int] = parts
        distances = []  # of each class: of every part from its share if the group went elsewhere, and if it came
        for label, count in group:
            if label not in have:
                have[label], largest[label], lacking[label] = [0.0] * len(shares), 1, set(parts)
            if lacking[label]:
                candidates = [part for part in candidates if part in lacking[label]] or candidates
            unit = largest[label]
            left = [above - share * count for above, share in zip(have[label], shares, strict=True)]
            distances.append(([abs(above) / unit for above in left], [abs(above + count) / unit for above in left]))
        near = candidates if blind else _near(distances, candidates)
        part = _drawn(near, shares, draw) if near else min(candidates, key=partial(_squares, distances))
        for label, count in group:
            above = have[label]
            for p in parts:
                above[p] += (count if p == part else 0) - shares[p] * count
            if count > largest[label]:
                largest[label] = count
            lacking[label].discard(part)
        chosen.append(part)
    return None if any(lacking.values()) else chosen


def _deal_alone(
    labels: Sequence[int], shares: Sequence[float], draws: Sequence[float], *, blind: bool
) -> list[int] | None:
    """`_deal`, number for number, where each group is one image; `labels` are their classes."""
    parts = tuple(range(len(shares)))
    have = {label: [0.0] * len(shares) for label in labels}
    lacking = {label: set(parts) for label in have}
    totals: dict[tuple[int, ...], float] = {}
    chosen = []
    for label, draw in zip(labels, draws, strict=True):
        left = [above - share for above, share in zip(have[label], shares, strict=True)]
        lacks = lacking[label]
        candidates = tuple(part for part in parts if part in lacks) if lacks else parts
        near = candidates
        if not blind:
            far = [part for part in parts if not -SLACK <= left[part] <= SLACK]
            if len(far) > 1:
                near = ()
            elif far:
                near = tuple(part for part in candidates if part == far[0] and -SLACK <= left[part] + 1 <= SLACK)
            else:
                near = tuple([part for part in candidates if -SLACK <= left[part] + 1 <= SLACK])
        if near:
            if near not in totals:
                totals[near] = sum(shares[part] for part in near)
            remaining = draw * totals[near]
            for part in near[:-1]:
                remaining -= shares[part]
                if remaining < 0:
                    break
            else:
                part = near[-1]
        else:
            distances = [([abs(above) for above in left], [abs(above + 1) for above in left])]
            part = min(candidates, key=partial(_squares, distances))
        left[part] = have[label][part] + (1 - shares[part])
        have[label] = left
        lacks.discard(part)
        chosen.append(part)
    return None if any(lacking.values()) else chosen


def _near(distances: ShareDistances, candidates: Sequence[int]) -> Sequence[int]:
    """The candidates that leave every class within SLACK of its share in every part."""
    for elsewhere, come in distances:
        far = [part for part, distance in enumerate(elsewhere) if distance > SLACK]
        candidates = [part for part in candidates if come[part] <= SLACK and (not far or far == [part])]
    return candidates


def _squares(distances: ShareDistances, part: int) -> float:
    """The sum of all squared distances if the group came to `part`."""
    return sum(
        distance * distance
        for elsewhere, come in distances
        for distance in (come[p] if p == part else elsewhere[p] for p in range(len(come)))
    )


def _drawn(parts: Sequence[int], shares: Sequence[float], draw: float) -> int:
    """One of `parts`, by their shares."""
    remaining = draw * sum(shares[part] for part in parts)
    for part in parts[:-1]:
        remaining -= shares[part]
        if remaining < 0:
            return part
    return parts[-1]
