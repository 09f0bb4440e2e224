"""What the catalog says of a data set, and where its files are looked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sslcurr.data.sources.source import Source
from sslcurr.errors import DataError

__all__ = ["Entry", "Needed", "locate"]

COLOUR_NORMALISATION = "ImageNet's mean and deviation of each channel: 0.485 0.456 0.406, 0.229 0.224 0.225"
GREY_NORMALISATION = "one channel; the mean of ImageNet's: 0.449, 0.226"

XRAY_VIEWS = (
    "crops, small rotations, brightness, contrast and blur; no hue, saturation or grey (one channel has none). A "
    "horizontal flip moves the heart to the other side: it is on, as in the study, and --set TASK.horizontal_flip=0 "
    "turns it off; never a vertical one"
)
SKIN_VIEWS = (
    "crops, both flips and any rotation (a lesion has no upright: --set TASK.vertical_flip=0.5), brightness, contrast, "
    "blur; little hue (--set TASK.hue=0.02), for colour is part of the diagnosis"
)
PHOTO_VIEWS = "those of the tasks' papers: crops, horizontal flip, colour jitter, grey, blur; no vertical flip"


@dataclass(frozen=True)
class Needed:
    """A file or folder that a data set needs, and what to fetch for it; any one of `paths` will do."""

    paths: tuple[str, ...]
    fetch: str

    def is_in(self, home: Path) -> bool:
        """Whether one of the paths is in that folder; a path may hold wildcards."""
        return any(any(home.glob(path)) if "*" in path else (home / path).exists() for path in self.paths)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known about a named data set.

    Attributes:
        num_images, num_classes: of the whole set; 0 classes where images have no label, or several.
        target, group, split: what becomes of a label, which images must stay together, which split is given.
        page: where a person gets it, and `tree` what lies in its folder then.
        needs: what must be there; nothing for data sets that come with a package.
        folders: names of its folder below the data root; the data root itself is looked at, too.
        package: the Python package that brings it, where nothing is needed; `extra` is sslcurr's that brings that.
            A plug-in whose own module makes the images may leave both empty.
        loader: makes the source from its folder (None where nothing is needed).
        downloader: fetches it into a folder with torchvision, where that can.
    """

    title: str
    modality: str
    num_images: int
    num_classes: int
    target: str
    group: str = "none"
    split: str = "none: 15 % validation, 20 % test, stratified"
    licence: str
    citation: str
    page: str
    tree: str = ""
    needs: tuple[Needed, ...] = ()
    folders: tuple[str, ...] = ()
    package: str = ""
    extra: str = ""
    image_size: int
    augmentations: str
    normalisation: str = COLOUR_NORMALISATION
    loader: Callable[[Path | None], Source]
    downloader: Callable[[Path], None] | None = None


def locate(name: str, entry: Entry, data_root: Path | None) -> Path | None:
    """The folder of a named data set; None where a package brings it.

    Looked for in `data_root` (None: the working directory) under its names, then in `data_root` itself.

    Raises DataError, saying what is missing, if it is nowhere whole, or the package not installed.
    """
    if not entry.needs:
        if entry.package and find_spec(entry.package) is None:
            hint = f"pip install 'sslcurr[{entry.extra}]'" if entry.extra else f"install the package {entry.package}"
            raise DataError(f"the images of {name} come with the package {entry.package}, which is not there", hint)
        return None
    root = (data_root or Path()).expanduser()
    homes = [root / folder for folder in entry.folders or (name,)] + [root]
    missing = {home: [needed for needed in entry.needs if not needed.is_in(home)] for home in homes}
    best = min(homes, key=lambda home: len(missing[home]))  # the first of equals
    if not missing[best]:
        return best.resolve()
    option = f" --data-root {data_root}" if data_root is not None else ""
    hint = f"sslcurr data show {name}{option} says how to get it and where it goes"
    if len(missing[best]) == len(entry.needs):
        where = root.absolute() if data_root is not None else f"{root.absolute()} (give --data-root)"
        raise DataError(f"the files of {name} are not in {where}", hint)
    lacking = ", ".join(needed.paths[0] for needed in missing[best])
    raise DataError(f"{name} is not complete in {best.absolute()}: no {lacking}", hint)
