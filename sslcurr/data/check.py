"""What is wrong with a data set: found by opening every image, before a training does."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from sslcurr.data.contents import pixel_digest
from sslcurr.data.decode import image as decode_image
from sslcurr.data.decode import read
from sslcurr.data.decode.image import Traits
from sslcurr.data.decode.parallel import Crashed, Processes, in_threads
from sslcurr.data.flaws import Flaws, flaws_of
from sslcurr.data.sources.source import ImageFault, Source
from sslcurr.data.split import SplitSettings, assign, lacking_classes, lacking_sentence
from sslcurr.data.targets import Encoded, encoded
from sslcurr.errors import DataError
from sslcurr.files import read_regular
from sslcurr.spec.target import CLASSES, MULTILABEL, REGRESSION

__all__ = ["Findings", "check_source", "image_at", "numbered", "rows_of_copies"]

PARTS = ("train", "val", "test")
NO_CLASS = "(no label)"
NONE_HOLDS = "(none of them)"


@dataclass
class Findings:
    """What `check_source` found.

    `counts` are images by class and given split ("" where it is left to sslcurr): an image with several labels counts
    for each, and numbers count by ranges. `target` is the kind of what labels say, `given` are images by given split,
    `sides` the shortest, the median and the longest side in pixels. `faults` are what the tables say wrongly and files
    that are missing, `broken` what cannot be decoded. `copies` are sets of names of images with equal pixels, without
    blank ones; `contradictions` those among them with different labels, `across` those in different given splits,
    `apart` those that no group holds together, `divided` those of them that sslcurr, without settings, would train on
    and test on. `flaws` are blank images, those that use a sliver of the range, and files of which frames are left out.
    `empty` are classes without an image, `undivided` why the images cannot be divided, `lacking` the classes of which a
    part (train, val, test) has no image, `parts` how many would train, validate, test and be used for nothing, being of
    a group that validates or tests.
    """

    num_images: int
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    target: str = CLASSES.name
    given: Counter[str] = field(default_factory=Counter)
    sides: tuple[int, int, int] = (0, 0, 0)
    num_grey: int = 0
    num_groups: int | None = None
    faults: list[ImageFault] = field(default_factory=list)
    broken: list[ImageFault] = field(default_factory=list)
    copies: list[list[str]] = field(default_factory=list)
    contradictions: list[list[str]] = field(default_factory=list)
    across: list[list[str]] = field(default_factory=list)
    apart: list[list[str]] = field(default_factory=list)
    divided: list[list[str]] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    undivided: str = ""
    lacking: dict[str, list[str]] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    flaws: Flaws = field(default_factory=Flaws)

    @property
    def problems(self) -> list[str]:
        """What stops a training or makes its numbers wrong, a line each; an empty list is a sound data set."""
        lines = [f"{fault.name} {fault.reason}" for fault in self.faults]
        lines += [f"{fault.name} cannot be decoded: {fault.reason}" for fault in self.broken]
        lines += [f"{' = '.join(names)}: the same image with different labels" for names in self.contradictions]
        lines += [f"{' = '.join(names)}: the same image in different splits" for names in self.across]
        lines += [f"{' = '.join(names)}: the same image for training and for testing" for names in self.divided]
        lines += self.flaws.problems
        lines += [f"class {name} has no image" for name in self.empty]
        lines += [lacking_sentence(part, names, self.target) for part, names in self.lacking.items()]
        return lines + ([self.undivided] if self.undivided else [])


def check_source(source: Source, *, workers: int = 0, progress: Callable[[int, int], None] | None = None) -> Findings:
    """Opens every image of a source and looks for what would stop or falsify a training.

    `workers` threads decode, one a core for 0. `progress` is called with the number of images done and of all.
    """
    findings = Findings(num_images=len(source.names) + len(source.faults), faults=list(source.faults))
    names_of: dict[bytes, list[int]] = defaultdict(list)
    seen: dict[int, tuple[str, Traits, int]] = {}
    sides: list[int] = []

    rows = range(len(source.names))
    dicom = [source.root is not None and read.may_be_dicom(source.place(i)[0]) for i in rows]
    workers = workers or os.cpu_count() or 1

    def describe(processes: Processes, i: int) -> _Described | str:
        try:
            if source.arrays is not None:
                return _described(image_at(source, i))
            path, frame = source.place(i)
            return processes.read(path, partial(_described_file, path, frame))
        except (decode_image.BrokenImage, Crashed) as error:
            return str(error)

    with (
        read.pillow_without_warnings(),
        Processes.for_dicom(sum(dicom), workers) as processes,
        closing(in_threads(partial(describe, processes), rows, workers)) as results,
    ):
        for done, (i, result) in enumerate(results, start=1):
            if isinstance(result, str):
                findings.broken.append(ImageFault(source.names[i], result))
            else:
                if not result.traits.is_blank:  # which says more of them than that they are equal
                    names_of[result.digest].append(i)
                seen[i] = source.names[i], result.traits, result.height * result.width
                sides += [result.height, result.width]
                findings.num_grey += result.is_grey
            if progress is not None:
                progress(done, len(source.names))
    findings.broken.sort(key=lambda fault: fault.name)
    findings.flaws = flaws_of(seen[i] for i in sorted(seen))
    if sides:
        sides.sort()
        findings.sides = sides[0], sides[len(sides) // 2], sides[-1]
    part_of = _count(source, findings, {fault.name for fault in findings.broken})
    _compare_copies(source, findings, [sorted(equal) for equal in names_of.values() if len(equal) > 1], part_of)
    return findings


def image_at(source: Source, i: int) -> np.ndarray:
    """Image i of a source, uint8 [H, W, 1 or 3]. Raises read.BrokenImage."""
    if source.arrays is not None:
        image = source.arrays[i]
        return read.to_grey_if_equal(image[..., None] if image.ndim == 2 else image)
    return _image_in(*source.place(i))


def _image_in(path: Path, frame: int | None, traits: Traits | None = None) -> np.ndarray:
    try:
        data = read_regular(path)
    except OSError as error:
        raise decode_image.BrokenImage(f"it cannot be read: {error.strerror}") from error
    return read.decode(data, frame, traits)


@dataclass(frozen=True)
class _Described:
    """An image: a digest of its pixels, its sides, whether it is grey, and what was noted of it."""

    digest: bytes
    height: int
    width: int
    is_grey: bool
    traits: Traits


def _described_file(path: Path, frame: int | None) -> _Described:
    traits = Traits()
    return _described(_image_in(path, frame, traits), traits)


def _described(image: np.ndarray, traits: Traits | None = None) -> _Described:
    """What is compared and counted of an image; without traits it is looked at here."""
    if traits is None:
        traits = Traits()
        traits.look_at(image)
    return _Described(pixel_digest(image), image.shape[0], image.shape[1], image.shape[2] == 1, traits)


def numbered(groups: Sequence[str]) -> list[str]:
    """A number for each group, in the order in which they come: patients' and studies' names are not written down.

    A hash of a name would not do: names and numbers of patients can be tried out.
    """
    number_of: dict[str, int] = {}
    return [str(number_of.setdefault(group, len(number_of) + 1)) if group else "" for group in groups]


def _count(source: Source, findings: Findings, broken: set[str]) -> dict[int, str]:
    """Counts images; the part of each that sslcurr would put it into, none where it cannot divide them."""
    readable = [i for i, name in enumerate(source.names) if name not in broken]
    findings.target = source.target
    labels = [source.labels[i] for i in readable]
    groups = [source.groups[i] if source.groups else "" for i in readable]
    targets = encoded(source.target, source.classes, labels, groups)
    for row, i in enumerate(readable):
        split = source.splits[i] if source.splits else ""
        findings.given[split] += 1
        for name in _counted_as(source, targets, row):
            findings.counts.setdefault(name, Counter())[split] += 1
    named = targets.names if source.target == REGRESSION.name else source.classes
    findings.empty = [name for name in named if name not in findings.counts]
    order = (*named, NONE_HOLDS, NO_CLASS)
    findings.counts = {name: findings.counts[name] for name in order if name in findings.counts}
    codes = np.unique([group or f"\0{i}" for i, group in zip(readable, groups, strict=True)], return_inverse=True)[1]
    if source.groups is not None:
        findings.num_groups = len(set(codes.tolist()))
    rows = SimpleNamespace(
        num_images=len(readable),
        labels=targets.labels,
        values=targets.values,
        target=source.target,
        label_names=targets.names,
        groups=codes,
        splits=np.array([source.splits[i] for i in readable], dtype="<U5") if source.splits else None,
        classes=source.classes,
    )
    try:
        parts = assign(rows, SplitSettings())
    except DataError as error:
        findings.undivided = str(error)
        return {}
    findings.lacking = lacking_classes(rows, parts)
    findings.parts = {part or "not used": int((parts == part).sum()) for part in (*PARTS, "")}
    return dict(zip(readable, parts.tolist(), strict=True))


def _counted_as(source: Source, targets: Encoded, row: int) -> list[str]:
    """What an image counts as: its class, each of its labels, or the range that its number lies in."""
    if targets.labels[row] < 0:
        return [NO_CLASS]
    if source.target != MULTILABEL.name or targets.values is None:
        return [targets.names[targets.labels[row]]]
    return [name for name, value in zip(source.classes, targets.values[row], strict=True) if value == 1] or [NONE_HOLDS]


def _compare_copies(source: Source, findings: Findings, equals: list[list[int]], part_of: dict[int, str]) -> None:
    for equal in sorted(equals):
        names = [source.names[i] for i in equal]
        findings.copies.append(names)
        if len({source.labels[i] for i in equal} - {None}) > 1:
            findings.contradictions.append(names)
        # Where the test images are given, what was left open will train or validate.
        splits = {source.splits[i] for i in equal} if source.splits else {""}
        groups = {source.groups[i] for i in equal} if source.groups else {""}
        if len(splits) > 1:
            findings.across.append(names)
        elif groups == {""} or len(groups) > 1:
            findings.apart.append(names)
            if {"train", "test"} <= {part_of.get(i, "") for i in equal}:
                findings.divided.append(names)


def rows_of_copies(copies: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """Pairs of names, the first of each set with each of the others: a list of duplicates as ISIC 2020's."""
    return [(names[0], other) for names in copies for other in names[1:]]
