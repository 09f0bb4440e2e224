"""Every prediction behind a document in one compact table, so that another rule can judge it later."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sslcurr.analysis.measures.intervals import Images
from sslcurr.analysis.measures.targets import least_variance
from sslcurr.analysis.results.document import Predicted
from sslcurr.data.targets import values_of
from sslcurr.errors import DataError
from sslcurr.files import write_whole
from sslcurr.integrity import sound
from sslcurr.spec.target import BETWEEN, MULTILABEL, UNKNOWN
from sslcurr.wording import reason_of

if TYPE_CHECKING:
    import pandas as pd

NAME = "predictions.parquet"
VALUE, FOLD = "value", "fold"
COLUMNS = ("path", "group", "label", "prediction", VALUE, FOLD)
PROBABILITY = "probability_"
NUMBER = re.compile(r"[+-]?\d[\d.e+-]*")
MISSING_HINT = (
    "lay the predictions.parquet that --plot wrote beside the document; for a document NAME.json it may be called "
    "NAME.parquet"
)


def read_predictions(folder: Path) -> pd.DataFrame:
    """The predictions of a report: a row an image in data order, labels and classes as text.

    Columns: `path`, `group` (where images have groups), `label`, `prediction`, a `probability_` a class or label,
    `value`, what an image gives to the main measure, where the target is no class, and `fold`, which tested it, in a
    cross-validation.
    """
    import pandas as pd

    text = {"path": str, "group": str, "label": str, "prediction": str}
    return pd.read_csv(sound(folder / "predictions.csv"), dtype=text, keep_default_na=False)


def predictions_of(runs: Mapping[str, Sequence[Predicted]], beside: Sequence[Path] = ()) -> pd.DataFrame:
    """The predictions of many runs: a row for each chain, seed and image.

    Columns: `chain`, `seed`, `path`, `group` (where images have groups), `label`, `prediction`, `value`, what an image
    gives to the main measure, where the target is no class, and `fold`, which tested it, if any. The categories of
    `label` are the classes in the order of the data set.

    Args:
        runs: title of a chain -> its runs.
        beside: such tables, where a run is looked for before its own predictions are.

    Raises:
        DataError: predictions are missing, or cannot be read.
    """
    import pandas as pd

    tables = _Tables()
    rows = [tables.of(chain, run, beside) for chain, each in runs.items() for run in each]
    return as_table(rows, tables.classes) if rows else pd.DataFrame()


def as_table(tables: Sequence[pd.DataFrame], classes: Sequence[str]) -> pd.DataFrame:
    """Tables with the columns of `predictions_of` as one, texts as categories; `classes` in the data set's order."""
    import pandas as pd

    found = pd.concat([table.astype(_texts(table)) for table in tables], ignore_index=True)
    named = [*classes, *(name for name in found["label"].unique() if name not in classes)]
    kinds = dict.fromkeys(_texts(found), "category") | {"label": pd.CategoricalDtype(named)}
    return found[["chain", "seed", *(name for name in COLUMNS if name in found)]].astype(kinds)


def _texts(table: pd.DataFrame) -> dict[str, type]:
    return {name: str for name in table if name not in ("seed", VALUE, FOLD)}


class _Tables:
    """Predictions of runs, each file with those of many runs read once.

    Attributes:
        classes: in the order of the data set, as far as a file says it.
    """

    def __init__(self) -> None:
        self.classes: list[str] = []
        self._many: dict[Path, dict[tuple[str, int], pd.DataFrame]] = {}

    def of(self, chain: str, run: Predicted, beside: Sequence[Path]) -> pd.DataFrame:
        """The predictions of a run."""
        path = Path(run.predictions)
        for candidate in [*beside, *([path] if path.suffix == ".parquet" else [])]:
            found = self._runs_of(candidate).get((chain, run.seed))
            if found is not None:
                return found
        if path.suffix == ".parquet" or not path.is_file():
            raise DataError(f"there are no predictions of {chain}, seed {run.seed}", MISSING_HINT)
        table = read_predictions(path.parent)
        if not self.classes:
            self.classes = [name.removeprefix(PROBABILITY) for name in table if name.startswith(PROBABILITY)]
        kept = table[[name for name in COLUMNS if name in table]]
        return kept.assign(chain=chain, seed=run.seed)

    def _runs_of(self, path: Path) -> dict[tuple[str, int], pd.DataFrame]:
        """The runs of a table; none where it is not there."""
        if path not in self._many:
            self._many[path] = self._read(path) if path.is_file() else {}
        return self._many[path]

    def _read(self, path: Path) -> dict[tuple[str, int], pd.DataFrame]:
        import pandas as pd

        try:
            table = pd.read_parquet(path)
            if not self.classes and hasattr(table["label"], "cat"):
                self.classes = [str(name) for name in table["label"].cat.categories]
            runs = table.groupby(["chain", "seed"], observed=True, sort=False)
            return {(str(chain), int(seed)): rows for (chain, seed), rows in runs}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"cannot read the predictions in {path} ({reason_of(error)})", MISSING_HINT) from error


def write_predictions(runs: Mapping[str, Sequence[Predicted]], folder: Path) -> Path | None:
    """Write the predictions of many runs into a folder as Parquet; None where there are none.

    Raises:
        DataError: some are missing.
    """
    table = predictions_of(runs)
    return write_table(table, folder) if len(table) else None


def write_table(table: pd.DataFrame, folder: Path) -> Path:
    """Write a table of `predictions_of` into a folder as Parquet."""
    path = folder / NAME
    write_whole(path, lambda part: table.to_parquet(part, index=False, compression="zstd"))
    return path


def tables_beside(document: Path) -> list[Path]:
    """Where the predictions behind a document in a file may lie, those that are named like it first."""
    return [
        document.with_suffix(".parquet"),
        document.with_name(f"{document.stem}-{NAME}"),
        document.with_name(NAME),
    ]


# ---- as arrays


@dataclass(frozen=True)
class Reported:
    """The reported images of several runs, and what each of them gives to the main measure of each run.

    Attributes:
        paths: [N] names of the images, in data order.
        classes: in the order of the data set; of another kind of target, the labels that occur as texts.
        labels: [N] class numbers, or those of the texts.
        groups: [N] group numbers; None without groups.
        values: (chain, seed) -> [N], of classes 1 where it names the image rightly.
        is_of_classes: whether the target is a class.
        folds: [N] which fold tested each image; None where one model tested all.
    """

    paths: NDArray[Any]
    classes: tuple[str, ...]
    labels: NDArray[np.intp]
    groups: NDArray[np.intp] | None
    values: dict[tuple[str, int], NDArray[np.float64]]
    is_of_classes: bool = True
    folds: NDArray[np.intp] | None = None

    @property
    def images(self) -> Images:
        """How the main measure averages the images, and which of them belong together."""
        num_images = len(self.labels)
        if self.is_of_classes:
            return Images.of(num_images, classes=self.labels, groups=self.groups, folds=self.folds)
        return Images.of(num_images, groups=self.groups, least=self._least(), folds=self.folds, shares=False)

    def _least(self) -> float:
        """What the variance over images is at least: nothing for numbers, that of `least_variance` for labels."""
        texts = self.label_texts()
        if all(NUMBER.fullmatch(text) for text in texts):
            return 0.0
        names = sorted({part.removeprefix(UNKNOWN) for text in texts if text for part in text.split(BETWEEN)})
        values = values_of(MULTILABEL.name, names, texts)
        assert values is not None
        return least_variance(values, self.groups)

    def label_texts(self) -> list[str]:
        """[N] labels as texts."""
        return [self.classes[label] for label in self.labels]

    @classmethod
    def of(cls, table: pd.DataFrame) -> Reported:
        """From a table of `predictions_of` with a run at least.

        Raises:
            DataError: runs were not tested on the same images, or these have other labels.
        """
        values: dict[tuple[str, int], NDArray[np.float64]] = {}
        first = None
        for (chain, seed), found in table.groupby(["chain", "seed"], observed=True, sort=False):
            if first is None:
                first = found
                paths = found["path"].to_numpy(dtype=str)
                labels = found["label"].to_numpy(dtype=str)
            rows = found if np.array_equal(found["path"].to_numpy(dtype=str), paths) else _in_order(found, paths)
            if rows is None or not np.array_equal(rows["label"].to_numpy(dtype=str), labels):
                raise DataError(
                    f"{chain}, seed {seed}, was not tested on the images of the other runs",
                    "the predictions are of another data set or split: give those that were written with the document",
                )
            if VALUE in rows:
                values[str(chain), int(seed)] = rows[VALUE].to_numpy(dtype=float)
            else:
                values[str(chain), int(seed)] = (rows["prediction"].to_numpy(dtype=str) == labels).astype(float)
        assert first is not None
        classes = tuple(str(name) for name in first["label"].cat.categories)
        numbers = {name: number for number, name in enumerate(classes)}
        codes = np.array([numbers[name] for name in labels])
        folds = first[FOLD].to_numpy(dtype=np.intp) if FOLD in first else None
        return cls(paths, classes, codes, _numbers(first), values, VALUE not in table, folds)


def _in_order(rows: pd.DataFrame, paths: NDArray[Any]) -> pd.DataFrame | None:
    """The rows in the order of the paths; None where they are of other images."""
    names = rows["path"].to_numpy(dtype=str)
    if len(names) != len(paths) or len(set(names)) < len(names) or set(names) != set(paths):
        return None
    place = {name: number for number, name in enumerate(names)}
    return rows.iloc[[place[name] for name in paths]]


def _numbers(rows: pd.DataFrame) -> NDArray[np.intp] | None:
    """The group numbers of rows; texts that are no numbers are numbered by their order."""
    if "group" not in rows or rows["group"].isna().any():
        return None
    names = rows["group"].to_numpy(dtype=str)
    if all(name.lstrip("-").isdigit() for name in names):
        return names.astype(np.intp)
    return np.unique(names, return_inverse=True)[1]
