"""Tables written row by row, so that memory does not grow with them: CSV, JSON, Parquet; and features as `.npz`."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sslcurr.errors import SpecError

TABLES = (".csv", ".parquet", ".json")
FEATURES = (".npz", ".parquet")

Values = Sequence[Any] | NDArray[Any]


class RowFile(Protocol):
    """A file that takes rows."""

    def write(self, columns: Mapping[str, Values]) -> None:
        """Add rows: the same columns each time, in the same order, of one length; None is no value."""


def check_form(path: Path, forms: Sequence[str], option: str = "--out") -> None:
    """Raises SpecError for a file whose ending names no form that can be written."""
    if path.suffix.lower() not in forms:
        raise SpecError(
            f"{option} writes {', '.join(forms)}, and not {path.name!r}", f"give a name that ends in {forms[0]}"
        )


@contextmanager
def row_file(path: Path, suffix: str) -> Iterator[RowFile]:
    """A file of rows, of the form that `suffix` names (the path may have another ending); whole when the block ends."""
    if suffix == ".parquet":
        with _Parquet.at(path) as parquet:
            yield parquet
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = _Csv(file) if suffix == ".csv" else _Json(file)
        yield rows
        rows.close()


def as_text(value: Any) -> str:
    """A value in a CSV file: numbers with fractions in six digits, as reports write them."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _rows(columns: Mapping[str, Values]) -> Iterator[tuple[Any, ...]]:
    plain = [values.tolist() if isinstance(values, np.ndarray) else values for values in columns.values()]
    return zip(*plain, strict=True)


class _Csv:
    def __init__(self, file: Any) -> None:
        self.writer = csv.writer(file, lineterminator="\n")
        self.begun = False

    def write(self, columns: Mapping[str, Values]) -> None:
        if not self.begun:
            self.writer.writerow(columns)
            self.begun = True
        self.writer.writerows([as_text(value) for value in row] for row in _rows(columns))

    def close(self) -> None:
        pass


class _Json:
    """A list of objects, one a line."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.begun = False

    def write(self, columns: Mapping[str, Values]) -> None:
        names = list(columns)
        for row in _rows(columns):
            self.file.write(",\n" if self.begun else "[\n")
            self.file.write(json.dumps(dict(zip(names, row, strict=True)), allow_nan=False))
            self.begun = True

    def close(self) -> None:
        self.file.write("\n]\n" if self.begun else "[]\n")


class _Parquet:
    """Columns of texts or of numbers, by their first values."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer: Any = None

    @classmethod
    @contextmanager
    def at(cls, path: Path) -> Iterator[_Parquet]:
        rows = cls(path)
        try:
            yield rows
        finally:
            if rows.writer is not None:
                rows.writer.close()

    def write(self, columns: Mapping[str, Values]) -> None:
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        if self.writer is None:
            kinds = {name: _kind_of(values, pa) for name, values in columns.items()}
            self.writer = pq.ParquetWriter(self.path, pa.schema(list(kinds.items())), compression="zstd")
        arrays = [
            pa.array(values, type=field.type, from_pandas=isinstance(values, np.ndarray))
            for field, values in zip(self.writer.schema, columns.values(), strict=True)
        ]
        self.writer.write_table(pa.Table.from_arrays(arrays, schema=self.writer.schema))


def _kind_of(values: Values, pa: Any) -> Any:
    if isinstance(values, np.ndarray):
        return pa.from_numpy_dtype(values.dtype)
    is_number = any(isinstance(value, float) for value in values)
    return pa.float64() if is_number else pa.string()


@contextmanager
def feature_zip(path: Path, num_rows: int) -> Iterator[FeatureZip]:
    """A `.npz` file with `features`, float32 [num_rows, D], and other columns, whole when the block ends."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        rows = FeatureZip(archive, num_rows)
        yield rows
        rows.close()


class FeatureZip:
    """Features that are written as they come; what else is known of images is written at the end."""

    def __init__(self, archive: zipfile.ZipFile, num_rows: int) -> None:
        self.archive = archive
        self.num_rows = num_rows
        self.file: Any = None
        self.columns: dict[str, list[Any]] = {}

    def write(self, features: NDArray[np.float32], columns: Mapping[str, Sequence[str]]) -> None:
        """Add rows: their features, [n, D], and texts."""
        if self.file is None:
            self.file = self.archive.open("features.npy", "w", force_zip64=True)
            header = {"descr": "<f4", "fortran_order": False, "shape": (self.num_rows, features.shape[1])}
            np.lib.format.write_array_header_2_0(self.file, header)
        self.file.write(np.ascontiguousarray(features, dtype="<f4").tobytes())
        for name, values in columns.items():
            self.columns.setdefault(name, []).extend(values)

    def close(self) -> None:
        """Write the texts."""
        if self.file is not None:
            self.file.close()
        for name, values in self.columns.items():
            with self.archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, np.array(values, dtype=str), version=(2, 0), allow_pickle=False)
