"""Where images come from: a data set by name, a folder of images, or a table that lists them.

`find` only looks at names and tables; no image is opened here.
"""

from __future__ import annotations

import csv
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from itertools import zip_longest
from pathlib import Path

import numpy as np

from sslcurr.data.read import EXTENSIONS
from sslcurr.errors import DataError, did_you_mean

__all__ = ["CATALOG", "Entry", "Source", "find"]

DEFAULT = "fashion"
TABLE_SUFFIXES = (".csv", ".parquet", ".pq")
TABLE_NAMES = ("labels.csv", "metadata.csv")
PATH_COLUMNS = ("path", "file_name")
SPLIT_NAMES = {
    "": "",
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


@dataclass(frozen=True, eq=False)
class Source:
    """The images of a data set, not yet opened, with what is known about each; all lists have one entry an image.

    `names` are paths relative to `root` with forward slashes, or synthetic where the images are embedded (`arrays`,
    uint8 [N, H, W] or [N, H, W, C]; `root` is None then). A label None is no label. `splits` are "train", "val" or
    "test", or "" where that is left to `sslcurr.data.split.assign`; a group "" means that the image is a group of its
    own. `classes` are sorted by name, or in the data set's own order where it has one. `image_size` is the training
    size in pixels that suits the data set, if it is known. `notes` are one-line remarks worth showing to the user.
    `epochs` by task replace the recipes' where a data set is for a short demonstration.
    """

    name: str
    root: Path | None
    names: list[str]
    labels: list[str | None]
    groups: list[str] | None
    splits: list[str] | None
    arrays: np.ndarray | None
    image_size: int | None
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    epochs: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """What is known about a named data set; `loader` makes its source, looking for files in the data root if any."""

    title: str
    modality: str
    num_classes: int
    licence: str
    citation: str
    image_size: int
    loader: Callable[[Path | None], Source]


FASHION_CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
# A whole chain of three pretext tasks and fine-tuning in under four minutes on two CPU cores.
FASHION_EPOCHS = {"mocov2": 4, "swav": 2, "rotation": 1, "classification": 6}


def load_fashion(data_root: Path | None = None) -> Source:
    """The embedded part of Fashion-MNIST: 2,000 images for training and validation, 500 for testing, 28 x 28 grey."""
    with (
        resources.files("sslcurr.data").joinpath("embedded/fashion_mini.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        x_train, y_train, x_test, y_test = (arrays[k] for k in ("x_train", "y_train", "x_test", "y_test"))
    return Source(
        name="fashion",
        root=None,
        names=[f"train/{i:05d}" for i in range(len(x_train))] + [f"test/{i:05d}" for i in range(len(x_test))],
        labels=[FASHION_CLASSES[y] for y in (*y_train, *y_test)],
        groups=None,
        splits=[""] * len(x_train) + ["test"] * len(x_test),
        arrays=np.concatenate([x_train, x_test]),
        image_size=28,
        classes=FASHION_CLASSES,
        epochs=FASHION_EPOCHS,
    )


CATALOG: dict[str, Entry] = {
    "fashion": Entry(
        title="Fashion-MNIST, 2,500 images of it, embedded",
        modality="product photographs",
        num_classes=10,
        licence="MIT",
        citation="Xiao, Rasul, Vollgraf: Fashion-MNIST, 2017, https://arxiv.org/abs/1708.07747",
        image_size=28,
        loader=load_fashion,
    ),
}


def find(dataset: str | None, data_root: Path | None = None) -> Source:
    """The source that a `--dataset` names: a data set of the catalog, a folder of images, or a CSV or Parquet table.

    None means the embedded Fashion-MNIST. A relative path is looked for in the working directory, then in `data_root`.
    A catalog name wins over a folder of the same name; `./name` is the folder.

    Raises DataError if there is no such data set, if a folder has no images or an empty class, and if a table lacks its
    path column, names a file twice or one that is missing, or contradicts itself about splits.
    """
    if dataset is None:
        dataset = DEFAULT
    if dataset in CATALOG:
        return CATALOG[dataset].loader(data_root)
    path = _look_up(dataset, data_root)
    if path.is_dir():
        return _from_folder(path)
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise DataError(f"{dataset} is a file, but not a table", f"give a folder or a {', '.join(TABLE_SUFFIXES)} file")
    return _from_table(path)


def _look_up(dataset: str, data_root: Path | None) -> Path:
    """The existing folder or file, absolute."""
    given = Path(dataset).expanduser()
    candidates = [given] if given.is_absolute() or data_root is None else [given, data_root.expanduser() / given]
    for candidate in candidates:
        if dataset and candidate.exists():
            return candidate.resolve()
    is_table = given.suffix.lower() in TABLE_SUFFIXES
    if is_table or "/" in dataset or os.sep in dataset or dataset.startswith((".", "~")):
        kind = "table" if is_table else "folder"
        places = " or ".join(str(candidate.absolute()) for candidate in candidates)
        raise DataError(f"the {kind} {dataset} is not there", f"looked for {places}")
    raise DataError(
        f"unknown data set {dataset!r}",
        f"{did_you_mean(dataset, CATALOG)}; or give a folder of images, or a .csv or .parquet table",
    )


# --- folders


@dataclass
class _Walk:
    """What lies below a folder: images as sorted relative paths, and how many other files there are."""

    images: list[str] = field(default_factory=list)
    num_others: int = 0


def _from_folder(root: Path) -> Source:
    walk = _walk(root)
    if not walk.images:
        known = ", ".join(sorted(EXTENSIONS))
        raise DataError(f"the folder {root} has no images", f"extensions that are read: {known}")
    notes: list[str] = []
    empty: list[str] = []
    split_folders = _split_folders(root, walk.images)
    if split_folders:
        parts = [name.split("/") for name in walk.images]
        # What lies outside has no label and can serve pretraining only.
        splits: list[str] | None = [split_folders.get(part[0], "train") for part in parts]
        labels = [part[1] if part[0] in split_folders and len(part) > 2 else None for part in parts]
        for folder in sorted(split_folders):
            empty += [f"{folder}/{child}" for child in _empty_folders(root / folder, folder, walk.images)]
    else:
        splits = None
        labels = [name.split("/", 1)[0] if "/" in name else None for name in walk.images]
        if any(label is not None for label in labels):
            empty = _empty_folders(root, "", walk.images)
    if empty:
        raise DataError(
            f"the class folder {root / empty[0]} has no images" + _and_more(len(empty)),
            "fill it or remove it; a class without images cannot be learnt",
        )
    num_unlabelled = labels.count(None)
    if num_unlabelled and num_unlabelled < len(labels):
        notes.append(f"{_count(num_unlabelled, 'image')} beside the class folders: used without a label")
    classes = _classes(labels)
    if len(classes) < 2:
        notes += [
            f"there is a {table}: pass it as --dataset {root / table} to use its labels"
            for table in TABLE_NAMES
            if (root / table).is_file()
        ]
    if walk.num_others:
        notes.append(f"{_count(walk.num_others, 'file')} ignored that are not images")
    return Source(
        name=root.name or "root",
        root=root,
        names=walk.images,
        labels=labels,
        groups=None,
        splits=_with_free_parts(splits, notes),
        arrays=None,
        image_size=None,
        classes=classes,
        notes=tuple(notes),
    )


def _walk(root: Path) -> _Walk:
    found = _Walk()

    def visit(folder: Path, prefix: str, above: frozenset[str]) -> None:
        try:
            with os.scandir(folder) as entries:
                inside = sorted(entries, key=lambda e: e.name)
        except PermissionError as error:
            raise DataError(f"the folder {folder} may not be read", "change its permissions") from error
        for entry in inside:
            if _is_ignored(entry.name):
                continue
            if entry.is_dir():
                real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                if real not in above:  # a link to a folder it lies in would never end
                    visit(Path(entry.path), f"{prefix}{entry.name}/", above | {real})
            elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
                found.images.append(prefix + entry.name)
            else:
                found.num_others += 1

    visit(root, "", frozenset({str(root)}))
    found.images.sort()
    return found


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _split_folders(root: Path, images: Sequence[str]) -> dict[str, str]:
    """Folder name -> split, if `root` has a training folder and another one with class folders in them; else {}."""
    with_classes = {name.split("/")[0] for name in images if name.count("/") > 1}
    splits = {folder: SPLIT_NAMES.get(folder.lower(), "") for folder in sorted(with_classes)}
    splits = {folder: split for folder, split in splits.items() if split}
    return splits if "train" in splits.values() and len(set(splits.values())) > 1 else {}


def _empty_folders(folder: Path, prefix: str, images: Sequence[str]) -> list[str]:
    """The sub-folders of `folder` in which no image lies at any depth."""
    depth = prefix.count("/") + 1 if prefix else 0
    filled = {name.split("/")[depth] for name in images if name.startswith(f"{prefix}/" if prefix else "")}
    children = sorted(child.name for child in folder.iterdir() if child.is_dir() and not _is_ignored(child.name))
    return [child for child in children if child not in filled]


# --- tables


def _from_table(table: Path) -> Source:
    columns = _read_csv(table) if table.suffix.lower() == ".csv" else _read_parquet(table)
    path_column = next((column for column in PATH_COLUMNS if column in columns), None)
    if path_column is None:
        hint = f"{did_you_mean('path', columns)}; the column must be called path"
        if len(columns) == 1 and ";" in next(iter(columns)):
            hint = "its columns are separated by ';'; save it with commas"
        raise DataError(f"{table} has no column path (or file_name)", hint)
    root = table.parent
    names = [_relative(text, root, row, table) for row, text in enumerate(columns[path_column], start=1)]
    if not names:
        raise DataError(f"{table} lists no images", "it has a header but no rows")
    for name, count in Counter(names).items():
        if count > 1:
            raise DataError(f"{table} lists {name} {count} times", "keep one row an image")
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise DataError(
            f"{table} lists {missing[0]}, which is not there" + _and_more(len(missing)),
            f"paths are relative to the table's folder, {root}",
        )
    none = [""] * len(names)
    label_texts = _integers_without_point(columns.get("label", none))
    groups = _integers_without_point(columns["group"]) if "group" in columns else None
    splits = [_split_name(text, table) for text in columns["split"]] if "split" in columns else None
    if groups is not None and splits is not None:
        _check_groups(groups, splits, table)
    if groups is not None and not any(groups):
        groups = None
    order = sorted(range(len(names)), key=names.__getitem__)
    labels = [label_texts[i] or None for i in order]
    notes: list[str] = []
    return Source(
        name=table.parent.name if table.name.lower() in TABLE_NAMES and table.parent.name else table.stem,
        root=root,
        names=[names[i] for i in order],
        labels=labels,
        groups=[groups[i] for i in order] if groups is not None else None,
        splits=_with_free_parts([splits[i] for i in order] if splits is not None else None, notes),
        arrays=None,
        image_size=None,
        classes=_classes(labels),
        notes=tuple(notes),
    )


def _read_csv(table: Path) -> dict[str, list[str]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read as CSV: {error}", "save it as comma-separated UTF-8 text") from error
    if not rows:
        raise DataError(f"{table} is empty", "it needs a header with a column path")
    header = [name.strip() for name in rows[0]]
    columns: dict[str, list[str]] = {name: [] for name in header}
    for line, row in enumerate(rows[1:], start=2):
        if any(row[len(header) :]):
            raise DataError(f"{table} has more cells in row {line} than its header", "quote names that contain a comma")
        if any(row):
            for name, cell in zip_longest(header, row[: len(header)], fillvalue=""):
                columns[name].append(cell.strip())
    return columns


def _read_parquet(table: Path) -> dict[str, list[str]]:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        with pq.ParquetFile(table) as file:
            names = file.schema_arrow.names
            # Other columns may hold whole images.
            content = file.read(columns=[c for c in names if c in (*PATH_COLUMNS, "label", "group", "split")])
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{table} cannot be read as Parquet: {reason}", "write it again") from error
    columns = {name: [_text(value) for value in content[name].to_pylist()] for name in content.column_names}
    return columns or {name: [] for name in names}


def _text(value: object) -> str:
    """A cell as text: nothing for None and NaN."""
    if value is None or value != value:
        return ""
    return str(value).strip()


def _integers_without_point(texts: Sequence[str]) -> list[str]:
    """Turns 3.0 into 3, which is how integers beside empty cells come out of spreadsheets and pandas.

    Left alone where another value has a fraction: 1.0 beside 1.5 is a number, not a name.
    """
    if any(re.fullmatch(r"[+-]?\d*\.\d*[1-9]\d*", text) for text in texts):
        return list(texts)
    return [re.sub(r"\.0+$", "", text) if re.fullmatch(r"[+-]?\d+\.0+", text) else text for text in texts]


def _relative(text: str, root: Path, row: int, table: Path) -> str:
    if not text:
        raise DataError(f"{table} has no path in row {row}", "fill it in or remove the row")
    if os.path.isabs(text):
        path = Path(os.path.normpath(text))
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
    return posixpath.normpath(text)


def _split_name(text: str, table: Path) -> str:
    try:
        return SPLIT_NAMES[text.lower()]
    except KeyError:
        accepted = ", ".join(name for name in SPLIT_NAMES if name)
        raise DataError(f"{table} has the unknown split {text!r}", f"accepted: {accepted}, or empty") from None


def _check_groups(groups: Iterable[str], splits: Iterable[str], table: Path) -> None:
    split_of: dict[str, str] = {}
    for group, split in zip(groups, splits, strict=True):
        if group and split and split_of.setdefault(group, split) != split:
            raise DataError(
                f"{table} has the group {group} in both {split_of[group]} and {split}",
                "images of one group, such as one patient, belong in one split",
            )


# --- both


def _with_free_parts(splits: list[str] | None, notes: list[str]) -> list[str] | None:
    """Leaves a part that no image was given to (val, mostly) to be taken from the training images, and says so."""
    if splits is None or not any(splits):
        return None
    absent = [part for part in ("val", "test") if part not in splits]
    if not absent or "" in splits or "train" not in splits:
        return splits
    notes.append(f"no images were given as {' or '.join(absent)}: taken from the training images")
    return ["" if split == "train" else split for split in splits]


def _classes(labels: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(sorted({label for label in labels if label is not None}))


def _and_more(count: int) -> str:
    return f", and {count - 1} more" if count > 1 else ""


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
