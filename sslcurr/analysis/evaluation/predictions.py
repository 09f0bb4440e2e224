"""Every prediction behind a document in one compact table, so that another rule can judge it later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sslcurr.analysis.results.document import Predicted
from sslcurr.files import write_whole

if TYPE_CHECKING:
    import pandas as pd

NAME = "predictions.parquet"


def read_predictions(folder: Path) -> pd.DataFrame:
    """The predictions of a report: a row an image in data order, labels and classes as text.

    Columns: `path`, `group` (where images have groups), `label`, `prediction`, and a `probability_` a class.
    """
    import pandas as pd

    text = {"path": str, "group": str, "label": str, "prediction": str}
    return pd.read_csv(folder / "predictions.csv", dtype=text, keep_default_na=False)


def predictions_of(runs: Mapping[str, Sequence[Predicted]]) -> pd.DataFrame:
    """The predictions of many runs: a row for each chain, seed and image.

    Columns: `chain`, `seed`, `path`, `group` (where images have groups), `label`, `prediction`.

    Args:
        runs: title of a chain -> its runs.
    """
    import pandas as pd

    tables = []
    for chain, each in runs.items():
        for run in each:
            table = read_predictions(Path(run.predictions).parent)
            kept = table[[name for name in ("path", "group", "label", "prediction") if name in table]]
            tables.append(kept.assign(chain=chain, seed=run.seed))
    if not tables:
        return pd.DataFrame()
    found = pd.concat(tables, ignore_index=True)
    text = [name for name in found if name != "seed"]
    return found[["chain", "seed", *(name for name in text if name != "chain")]].astype(dict.fromkeys(text, "category"))


def write_predictions(runs: Mapping[str, Sequence[Predicted]], folder: Path) -> Path | None:
    """Write the predictions of many runs into a folder as Parquet; None where there are none."""
    table = predictions_of(runs)
    if not len(table):
        return None
    path = folder / NAME
    write_whole(path, lambda part: table.to_parquet(part, index=False, compression="zstd"))
    return path
