"""Tables that list images: CSV, Parquet or JSON lines, with the columns path, label, group, split, mask and boxes."""

from __future__ import annotations

import csv
import json
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from sslcurr.data.sources.boxes import Boxes, Mask
from sslcurr.data.sources.source import SPLIT_NAMES, ImageFault, Source, sorted_classes, with_free_parts
from sslcurr.errors import DataError, did_you_mean
from sslcurr.wording import and_more, reason_of

__all__ = ["TABLE_SUFFIXES", "from_columns", "from_table", "read_columns"]

TABLE_SUFFIXES = (".csv", ".parquet", ".pq", ".jsonl")
LABEL_TABLE_NAMES = ("labels.csv", "metadata.csv")
PATH_COLUMNS = ("path", "file_name")
MASK_COLUMNS = ("mask", "boxes")
SOURCE_COLUMNS = (*PATH_COLUMNS, "label", "group", "split", *MASK_COLUMNS)


def from_table(table: Path) -> Source:
    """The images that a table lists, in the order of its rows; see `sslcurr.data.sources.catalog.find_source`.

    Raises DataError if it lacks its path column, names a file twice, contradicts itself about splits, or has masks that
    are not there or boxes that are none.
    """
    name = table.parent.name if table.name.lower() in LABEL_TABLE_NAMES and table.parent.name else table.stem
    return from_columns(read_columns(table), root=table.parent, table=table, name=name)


def from_columns(columns: dict[str, list[str]], *, root: Path, table: Path, name: str) -> Source:
    """The images of columns of text; paths are relative to `root`, and `table` is what messages speak of."""
    path_column = next((column for column in PATH_COLUMNS if column in columns), None)
    if path_column is None:
        hint = f"{did_you_mean('path', columns)}; the column must be called path"
        if len(columns) == 1 and ";" in next(iter(columns)):
            hint = "its columns are separated by ';'; save it with commas"
        raise DataError(f"{table} has no column path (or file_name)", hint)
    names = [_relative(text, root, row, table) for row, text in enumerate(columns[path_column], start=1)]
    if not names:
        raise DataError(f"{table} lists no images", "it has a header but no rows")
    for path, count in Counter(names).items():
        if count > 1:
            raise DataError(f"{table} lists {path} {count} times", "keep one row an image")
    none = [""] * len(names)
    labels = [text or None for text in _integers_without_point(columns.get("label", none))]
    groups = _integers_without_point(columns["group"]) if "group" in columns else none
    splits = [_split_name(text, table) for text in columns.get("split", none)]
    check_groups(groups, splits, names, table)
    there = [
        i for i, name in enumerate(names) if os.path.isfile(root / name)
    ]  # not Path.is_file: it raises for names that are too long
    if not there:
        raise DataError(
            f"{table} lists {names[0]}, which is not there" + and_more(len(names)),
            f"paths are relative to the table's folder, {root}",
        )
    present = set(there)
    files, texts = (columns.get(column, none) for column in MASK_COLUMNS)
    masks = {names[i]: mask_of(files[i], texts[i], names[i], root, table) for i in there if files[i] or texts[i]}
    check_masks(masks, table)
    notes: list[str] = []
    return Source(
        name=name,
        root=root,
        names=[names[i] for i in there],
        labels=[labels[i] for i in there],
        groups=[groups[i] for i in there] if any(groups[i] for i in there) else None,
        splits=with_free_parts([splits[i] for i in there], notes),
        arrays=None,
        image_size=None,
        classes=sorted_classes(labels[i] for i in there),
        faults=tuple(ImageFault(names[i], "is not there") for i in range(len(names)) if i not in present),
        notes=tuple(notes),
        masks={name: mask for name, mask in masks.items() if mask is not None},
    )


def mask_of(file: str, boxes: str, image: str, root: Path, table: Path) -> Mask | None:
    """The mask that a row names for an image: a file, its path relative to `root`, or boxes; None if it has neither.

    Raises DataError if it has both, or if the boxes are none. Whether the file is there is for `check_masks`.
    """
    if file and boxes:
        raise DataError(f"{table} has both a mask and boxes for {image}", "keep one of them")
    if file:
        return Path(os.path.normpath(root / file))
    return Boxes.from_text(boxes, f"{image} in {table}") if boxes else None


def check_masks(masks: Mapping[str, Mask | None], table: Path) -> None:
    """Raises DataError if files of masks are not there."""
    absent = [mask for mask in masks.values() if isinstance(mask, Path) and not os.path.isfile(mask)]
    if absent:
        raise DataError(
            f"{table} names the mask {absent[0]}, which is not there" + and_more(len(absent)),
            f"paths are relative to the table's folder, {table.parent}; an image without a mask has an empty cell, and "
            "a column that means something else needs another name",
        )


def read_columns(table: Path, wanted: Sequence[str] = SOURCE_COLUMNS) -> dict[str, list[str]]:
    """The columns of a table as text, without blanks around; of Parquet and JSON lines only the `wanted` ones.

    Raises DataError if it cannot be read.
    """
    suffix = table.suffix.lower()
    if suffix == ".csv":
        return _read_csv(table)
    return _read_json_lines(table, wanted) if suffix == ".jsonl" else _read_parquet(table, wanted)


def csv_rows(table: Path) -> list[list[str]]:
    """The rows of a CSV file as they are. Raises DataError if it cannot be read."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.reader(file, strict=True))  # else a quote that is never closed swallows the rest
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read as CSV: {error}", "save it as comma-separated UTF-8 text") from error


def _read_csv(table: Path) -> dict[str, list[str]]:
    rows = csv_rows(table)
    if not rows:
        raise DataError(f"{table} is empty", "it needs a header with a column path")
    header = [name.strip() for name in rows[0]]
    for name, count in Counter(header).items():
        if count > 1 and name in SOURCE_COLUMNS:
            raise DataError(f"{table} has {count} columns called {name}", "keep one of them")
    columns: dict[str, list[str]] = {name: [] for name in header}
    # Of columns of one name the last counts, and gets one cell a row.
    places = {name: place for place, name in enumerate(header)}
    for line, row in enumerate(rows[1:], start=2):
        if any(row[len(header) :]):
            raise DataError(f"{table} has more cells in row {line} than its header", "quote names that contain a comma")
        if any(row):
            cells = [cell for cell, _ in zip_longest(row[: len(header)], header, fillvalue="")]
            for name, place in places.items():
                columns[name].append(cells[place].strip())
    return columns


def _read_json_lines(table: Path, wanted: Sequence[str]) -> dict[str, list[str]]:
    rows: list[dict[str, object]] = []
    try:
        for number, line in enumerate(table.read_text(encoding="utf-8-sig").split("\n"), start=1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise DataError(f"{table} has no JSON object in line {number}", "write one object a line")
                rows.append(row)
    except ValueError as error:  # both kinds: not UTF-8, not JSON
        raise DataError(
            f"{table} cannot be read as JSON lines: {error}", "write one object a line, in UTF-8"
        ) from error
    present = {name for row in rows for name in row}
    columns = {name: [_cell_text(row.get(name)) for row in rows] for name in wanted if name in present}
    return columns or {name: [] for name in present}


def _read_parquet(table: Path, wanted: Sequence[str]) -> dict[str, list[str]]:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        with pq.ParquetFile(table) as file:
            names = file.schema_arrow.names
            # Other columns may hold whole images.
            content = file.read(columns=[c for c in names if c in wanted])
    except (pa.ArrowException, OSError) as error:
        reason = reason_of(error)
        raise DataError(f"{table} cannot be read as Parquet: {reason}", "write it again") from error
    columns = {name: [_cell_text(value) for value in content[name].to_pylist()] for name in content.column_names}
    return columns or {name: [] for name in names}


def _cell_text(value: object) -> str:
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


def check_groups(groups: Iterable[str], splits: Iterable[str], names: Iterable[str], table: Path) -> None:
    """Raises DataError if a group has images in two splits; it names images, for a group may be a patient's name."""
    first_of: dict[str, tuple[str, str]] = {}
    for group, split, name in zip(groups, splits, names, strict=True):
        if not group or not split:
            continue
        split_before, name_before = first_of.setdefault(group, (split, name))
        if split_before != split:
            raise DataError(
                f"{table} has one group in two splits: {name_before} in {split_before}, {name} in {split}",
                "images of one group, such as one patient, belong in one split",
            )
