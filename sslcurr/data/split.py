"""Which images train, validate and test, and nested subsets of them; the same on every machine for the same seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sslcurr.data.pack import Pack
from sslcurr.errors import DataError, SpecError
from sslcurr.seeds import numpy_generator

__all__ = ["SplitSettings", "assign", "subset"]

NUM_TRIES = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitSettings:
    """Shares of the images for validation and testing; the rest trains. Raises SpecError if they leave nothing."""

    val: float = 0.15
    test: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("val", "test"):
            share = getattr(self, name)
            if not 0.0 <= share < 1.0:
                raise SpecError(f"{name} must be a share in [0, 1), got {share}", f"0.2 takes a fifth for {name}")
        if self.val + self.test >= 1.0:
            raise SpecError(
                f"val {self.val} and test {self.test} leave no images for training", "their sum must be below 1"
            )


def assign(pack: Pack, settings: SplitSettings) -> np.ndarray:
    """The split of each image of a pack: strings "train", "val", "test" or "" (not used), [N].

    Splits that were given are kept. What was given without a split is divided by class into the parts that were not
    given: into all three if none was, into train and val if only "test" was, into train and test if only "val" was, and
    it is all "train" if both were. The shares are those of the images so divided. With groups, all images of a group
    land on one side and the shares are approximated. An image without a label trains if others have one, and in a pack
    without labels all images train that were not given another split. An image that may not train because its group is
    in val or test, and was not given or divided there, is not used.

    Raises DataError if a class has fewer images, or fewer groups, than there are parts to divide into.
    """
    splits = np.full(pack.num_images, "", dtype="<U5")
    if pack.splits is not None:
        splits[:] = pack.splits
    given = set(splits.tolist())
    shares = {
        part: share
        for part, share in (("test", settings.test), ("val", settings.val))
        if part not in given and share > 0.0
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


def _divide(labels: np.ndarray, groups: np.ndarray, shares: dict[str, float], seed: int, pack: Pack) -> np.ndarray:
    """The part of each labelled image: a key of `shares`, or "train"."""
    parts = [*shares, "train"]
    _, codes = np.unique(labels, return_inverse=True)
    _, members = np.unique(groups, return_inverse=True)
    counts = np.zeros((int(members.max()) + 1, int(codes.max()) + 1), dtype=np.int64)  # images of each group and class
    np.add.at(counts, (members, codes), 1)
    what = "images" if len(counts) == len(labels) else "groups"
    num_units = (counts > 0).sum(0)
    if (short := np.flatnonzero(num_units < len(parts))).size:
        name = pack.classes[int(labels[codes == short[0]][0])]
        raise DataError(
            f"class {name} has {num_units[short[0]]} {what}, too few to be in each of {', '.join(sorted(parts))}",
            "add images to it or take it out; a table with a column split can also say where they go",
        )
    generator = numpy_generator(seed, "split")
    if what == "images":
        chosen = _divide_images(codes, shares, generator)
        return np.array(parts)[chosen]
    wanted = np.array([*shares.values(), 1.0 - sum(shares.values())])[:, None] * counts.sum(0)
    for _ in range(NUM_TRIES):
        part_of_group = _divide_groups(counts, wanted, generator)
        if part_of_group is not None:
            return np.array(parts)[part_of_group[members]]
    raise DataError(
        f"found no split that has every class in each of {', '.join(sorted(parts))} without dividing a group",
        "too many classes share too few groups; say where they go in a column split of a table",
    )


def _divide_images(codes: np.ndarray, shares: dict[str, float], generator: np.random.Generator) -> np.ndarray:
    """The number of each image's part, class by class; the last part, train, has what is left, at least one."""
    chosen = np.full(len(codes), len(shares), dtype=np.int64)
    for code in range(int(codes.max()) + 1):
        order = generator.permutation(np.flatnonzero(codes == code))
        start = 0
        for part, share in enumerate(shares.values()):
            reserved = len(shares) - part  # one for each part that follows
            count = min(max(1, _rounded(share * len(order))), len(order) - start - reserved)
            chosen[order[start : start + count]] = part
            start += count
    return chosen


def _divide_groups(counts: np.ndarray, wanted: np.ndarray, generator: np.random.Generator) -> np.ndarray | None:
    """The number of each group's part [num_groups], or None if some class did not come into every part.

    `counts` are images [num_groups, num_classes], `wanted` images [num_parts, num_classes]. First every part gets one
    group of every class, the class with the fewest groups choosing first; then the largest of the remaining groups goes
    where it brings the counts nearest to the wanted ones, and so on.
    """
    num_parts = len(wanted)
    shuffled = generator.permutation(len(counts))
    part_of = np.full(len(counts), -1, dtype=np.int64)
    weights = 1.0 / counts.sum(0)
    have = np.zeros_like(wanted)

    def change(group: np.ndarray | int, part: np.ndarray | int) -> np.ndarray:
        """By how much the squared distance to the wanted counts, as shares of the classes, would grow."""
        before = (have[part] - wanted[part]) * weights
        after = before + counts[group] * weights
        # Rounded, so that no processor's last bit decides between equal choices.
        return np.round((after**2 - before**2).sum(-1), 9)

    def put(group: int, part: int) -> None:
        part_of[group] = part
        have[part] += counts[group]

    for code in np.argsort((counts > 0).sum(0), kind="stable"):
        for part in range(num_parts):
            if have[part, code] == 0:
                candidates = shuffled[(part_of[shuffled] < 0) & (counts[shuffled, code] > 0)]
                if candidates.size == 0:
                    return None
                put(int(candidates[np.argmin(change(candidates, part))]), part)
    rest = shuffled[part_of[shuffled] < 0]
    every_part = np.arange(num_parts)
    for group in rest[np.argsort(-counts[rest].sum(1), kind="stable")]:
        put(int(group), int(np.argmin(change(int(group), every_part))))
    return part_of
