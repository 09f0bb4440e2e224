"""What lies in a folder of images and is not data: thumbnails, masks of other images, the program's own output."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sslcurr.data.sources.words import is_generic, split_of_folder, tokens, word_set
from sslcurr.errors import DataError
from sslcurr.files import OUTPUT_MARK, open_regular
from sslcurr.version import PROGRAM
from sslcurr.wording import counted

__all__ = [
    "STORE_FOLDERS",
    "Companions",
    "is_hidden",
    "is_of_a_system",
    "is_our_picture",
    "is_output",
    "is_store",
    "masks_among",
    "without_companions",
]

# Of Synology's, QNAP's and other file servers, of Windows and macOS; without the hidden ones, in lower case.
SYSTEM_FOLDERS = frozenset(
    {
        "@eadir",
        "@tmp",
        "@recycle",
        "@__thumb",
        "@recently-snapshot",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "recycler",
    }
    | {"system volume information", "lost+found", "network trash folder", "temporary items", "__pycache__"}
)
STORE_FOLDERS = frozenset(
    {"stages", "analyses", "packs", "results", "runs", "imports", "plans", "using", "removed"}
    | {"answers", "listings", "rendered", "speeds"}
)
STORE_FILES = ("*/pack.json", "*/rows.jsonl", "*/done.json", "*/stage.json", "*/inputs.json")
OUR_MARK = f"Software\0{PROGRAM}".encode()
HEAD_BYTES = 512  # the mark follows the first few fields of a PNG
FEW = 30  # larger folders are looked through for our own pictures by name only

MASK_WORDS = (
    "masks|mask|segmentations|segmentation|segmented|segm|seg|groundtruths|groundtruth|gts|gt|annotations|annotation|"
    "contours|contour|rois|roi|lesion|labels|label|superpixels|trimaps|trimap|overlays|overlay|heatmaps|heatmap"
)
THUMBNAIL_WORDS = "thumbnails|thumbnail|thumbs|thumb|previews|preview"
FOLDER_WORDS = {
    "mask": frozenset(MASK_WORDS.split("|")) - {"lesion"} | {"manual", "segmim"},
    "thumbnail": frozenset(THUMBNAIL_WORDS.split("|")),
}
ENDINGS = {
    "mask": re.compile(rf"[ _.-]+(?:{MASK_WORDS}|ground[ _-]truth)(?:[ _.-]*\(?\d+\)?)?$", re.IGNORECASE),
    "thumbnail": re.compile(rf"[ _.-]+(?:{THUMBNAIL_WORDS})(?:[ _.-]*\d+)?$|-\d+x\d+$", re.IGNORECASE),
}
LAST_WORDS = tuple({*MASK_WORDS.split("|"), *THUMBNAIL_WORDS.split("|"), "truth", "x"})  # 150x150
NUMBERING = "0123456789()_-. "
DIGIT = re.compile(r"\d")
BEGINNING = re.compile(rf"^(?:{MASK_WORDS}|{THUMBNAIL_WORDS})[ _.-]+", re.IGNORECASE)
NEGATIONS = word_set("no non not with without wearing incorrect correct improper proper un face")


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or macOS's shadow of an archive."""
    return name.startswith(".") or name == "__MACOSX"


def is_of_a_system(name: str) -> bool:
    """Whether a folder is one that file servers and systems make for thumbnails, rubbish and snapshots."""
    return name.casefold() in SYSTEM_FOLDERS


def is_output(folder: str) -> bool:
    """Whether this program made a folder for what it writes."""
    return os.path.exists(os.path.join(folder, OUTPUT_MARK))


def is_store(folder: str, inside: Collection[str]) -> bool:
    """Whether a folder, with folders of the names `inside`, is a store: of stages, packs, records of runs."""
    parts = STORE_FOLDERS & set(inside)
    if not parts:
        return False
    if is_output(folder) or (os.path.basename(folder) == "runs" and parts == set(inside)):
        return True
    place = Path(folder)
    records = any(_is_record(path) for path in (place / "runs").glob("*.json")) if "runs" in parts else False
    return records or any(True for part in parts for name in STORE_FILES for _ in (place / part).glob(name))


def _is_record(path: Path) -> bool:
    return re.fullmatch(r"[0-9a-f]{8}", path.stem) is not None


def is_our_picture(path: str) -> bool:
    """Whether a PNG file is a chart or a sheet that this program wrote."""
    try:
        with open_regular(Path(path)) as file:
            return OUR_MARK in file.read(HEAD_BYTES)
    except OSError:
        return False


def may_be_ours(pictures: Sequence[str], others: Collection[str]) -> Iterator[str]:
    """The PNG files of a folder that are worth a look inside: all of few; of many those beside an SVG of their name,
    and those without a number in theirs."""
    names = [name for name in pictures if name.lower().endswith(".png")]
    few = len(names) <= FEW
    for name in names:
        if few or f"{name[:-4]}.svg" in others or not DIGIT.search(name):
            yield name


@dataclass
class Companions:
    """Images that belong to other images, by what they are: masks, thumbnails."""

    of_kind: dict[str, list[str]] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """A remark on each kind."""
        hints = {"mask": " (--masks takes them)", "thumbnail": ""}
        return [
            f"{counted(len(names), kind)} left out, of images that are there, such as {names[0]}{hints[kind]}"
            for kind, names in self.of_kind.items()
            if names
        ]


def without_companions(images: Sequence[str]) -> tuple[list[str], Companions]:
    """The images without masks and thumbnails of others among them, and these.

    `x_mask.png` is a mask if `x` with any extension lies beside it; a folder `masks` holds masks if most of its images
    are named like images in the folder that it lies in, or in a folder `images` or of a split beside it.

    Raises DataError for a folder `masks` of which that cannot be told: its images are named like those of a class.
    """
    places, stems_in = _places(images)
    found: dict[str, str] = {}
    for name, (folder, stem) in zip(images, places, strict=True):
        kind = _kind_by_ending(stem, stems_in[folder])
        if kind:
            found[name] = kind
    kinds = _companion_folders(images, stems_in)
    if kinds:
        for name in images:
            kind = next((kinds[above] for above in _folders_above(name) if above in kinds), "")
            if kind:
                found[name] = kind
    if not found:
        return list(images), Companions()
    of_kind = {kind: [name for name in images if found.get(name) == kind] for kind in ENDINGS}
    return [name for name in images if name not in found], Companions(of_kind)


def _places(names: Sequence[str]) -> tuple[list[tuple[str, str]], dict[str, set[str]]]:
    """Folder and stem of each path, and the stems in each folder."""
    places = []
    stems_in: dict[str, set[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        stem = file.rpartition(".")[0] or file
        places.append((folder, stem))
        stems_in.setdefault(folder, set()).add(stem)
    return places, stems_in


def masks_among(names: Sequence[str]) -> list[str]:
    """Those of the paths that are named like masks of others of them in the same folder: `x_mask.png` and `x.png`."""
    places, stems_in = _places(names)
    return [
        name
        for name, (folder, stem) in zip(names, places, strict=True)
        if _kind_by_ending(stem, stems_in[folder]) == "mask"
    ]


def _kind_by_ending(stem: str, beside: Collection[str]) -> str:
    """What an image is by the end of its name, where the one it belongs to lies beside it."""
    if not stem.lower().rstrip(NUMBERING).endswith(LAST_WORDS):
        return ""
    for kind, ending in ENDINGS.items():
        base = ending.sub("", stem)
        if base != stem and base in beside:
            return kind
    return ""


def _folders_above(name: str) -> Iterator[str]:
    """The folders that an image lies in, the outermost first."""
    place = name.find("/")
    while place >= 0:
        yield name[:place]
        place = name.find("/", place + 1)


def kind_of_folder(name: str) -> str:
    """What a folder's images are by its name, `mask` or `thumbnail`; "" for other names."""
    words = [word for word in tokens(name) if not is_generic(word)]
    if words and not NEGATIONS & set(words):
        for kind, known in FOLDER_WORDS.items():
            if words[-1] in known or "".join(words[-2:]) in known:
                return kind
    return ""


def _companion_folders(images: Sequence[str], stems_in: dict[str, set[str]]) -> dict[str, str]:
    """The folders of masks and of thumbnails."""
    candidates: dict[str, str] = {}
    candidates_of: dict[str, list[str]] = {}
    for folder in stems_in:
        for above in _folders_above(f"{folder}/"):
            kind = kind_of_folder(above.rpartition("/")[2])
            if kind:
                candidates_of.setdefault(folder, []).append(above)
                candidates.setdefault(above, kind)
    if not candidates:
        return {}
    members: dict[str, list[str]] = {}
    for image in images:
        for candidate in candidates_of.get(image.rpartition("/")[0], ()):
            members.setdefault(candidate, []).append(image)
    folders = {above for folder in stems_in for above in _folders_above(f"{folder}/")}
    siblings: dict[str, list[str]] = {}
    for folder in sorted(folders):
        siblings.setdefault(folder.rpartition("/")[0], []).append(folder)
    return {
        candidate: kind
        for candidate, kind in candidates.items()
        if _is_companion(candidate, kind, members[candidate], stems_in, siblings, candidates)
    }


def _is_companion(
    candidate: str,
    kind: str,
    members: Sequence[str],
    stems_in: dict[str, set[str]],
    siblings: dict[str, list[str]],
    candidates: Collection[str],
) -> bool:
    """Whether most images of a folder are named like images in the folder around it, or in one of images beside it."""
    around, _, name = candidate.rpartition("/")
    beside = [folder for folder in siblings[around] if folder != candidate and folder not in candidates]
    known = FOLDER_WORDS[kind] | {"ground", "truth"}
    remainder = [word for word in tokens(name) if word not in known and not is_generic(word)]
    of_images = [folder for folder in beside if _holds_its_images(folder.rpartition("/")[2], remainder)]
    near = sum(_has_partner(image, candidate, [around, *of_images], stems_in) for image in members)
    if 2 * near >= len(members):
        return True
    if 2 * sum(_has_partner(image, candidate, beside, stems_in) for image in members) < len(members):
        return False
    if remainder or any(set(tokens(folder.rpartition("/")[2])) & FOLDER_WORDS[kind] for folder in beside):
        return False  # classes such as `mask` and `no mask`, or `neutrophils segmented`
    other = next(folder for folder in beside if any(_has_partner(i, candidate, [folder], stems_in) for i in members))
    raise DataError(
        f"the images of {candidate} are named like those of {other}: are they {kind}s of them, or a class?",
        f"move {candidate} out of the data set; if it is a class, give it another name",
    )


def _holds_its_images(name: str, remainder: Sequence[str]) -> bool:
    words = tokens(name)
    return (
        is_generic(name)
        or bool(split_of_folder(name))
        or (bool(remainder) and [word for word in words if not is_generic(word)] == list(remainder))
    )


def _has_partner(image: str, candidate: str, places: Sequence[str], stems_in: dict[str, set[str]]) -> bool:
    """Whether an image of a folder has one of its name in one of `places`, or at the same place below it."""
    folder, _, file = image.rpartition("/")
    stem = os.path.splitext(file)[0]
    stems = {stem, BEGINNING.sub("", stem), *(ending.sub("", stem) for ending in ENDINGS.values())}
    inside = folder[len(candidate) :]
    return any(
        not stems.isdisjoint(stems_in.get(below.strip("/"), ()))
        for place in places
        for below in {place, f"{place}{inside}"}
    )
