"""The kinds of documents that commands keep, and what is made of each: tables and charts."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sslcurr.analysis.results.document import Document, Json, Part, in_order_of
from sslcurr.analysis.results.estimate import Estimate
from sslcurr.errors import SpecError, StoreError, did_you_mean
from sslcurr.files import read_json
from sslcurr.wording import reason_of

if TYPE_CHECKING:
    from sslcurr.analysis.results.style import Figure, Formats
    from sslcurr.analysis.results.table import Table

# kind -> module and class of its document. A new kind is a folder and a line here.
KINDS = {
    "train": "sslcurr.analysis.results.training.document:TrainDocument",
    "rank": "sslcurr.analysis.results.ranking.document:RankDocument",
    "variants": "sslcurr.analysis.results.variants.document:VariantsDocument",
    "search": "sslcurr.analysis.results.search.document:SearchDocument",
    "grid": "sslcurr.analysis.results.grid.document:GridDocument",
    "explain": "sslcurr.analysis.results.explanation.document:ExplanationDocument",
    "cka": "sslcurr.analysis.results.similarity.document:SimilarityDocument",
    "fid": "sslcurr.analysis.results.distances.document:DistancesDocument",
    "probe": "sslcurr.analysis.results.probing.document:ProbeDocument",
    "attend": "sslcurr.analysis.results.attention.document:AttentionDocument",
    "predict": "sslcurr.analysis.results.prediction.document:PredictDocument",
    "embed": "sslcurr.analysis.results.prediction.document:EmbedDocument",
    "report": "sslcurr.analysis.results.report.document:ReportDocument",
    "plan": "sslcurr.analysis.results.plan.document:PlanDocument",
    "tasks": "sslcurr.analysis.results.tasks.document:TasksDocument",
    "task": "sslcurr.analysis.results.tasks.document:TaskDocument",
    "datasets": "sslcurr.analysis.results.catalog.document:DatasetsDocument",
    "dataset": "sslcurr.analysis.results.catalog.document:DatasetDocument",
    "check": "sslcurr.analysis.results.catalog.document:CheckDocument",
    "pack": "sslcurr.analysis.results.catalog.document:PackDocument",
    "import": "sslcurr.analysis.results.weights.document:ImportDocument",
    "export": "sslcurr.analysis.results.weights.document:ExportDocument",
    "runs": "sslcurr.analysis.results.inventory.document:RunsDocument",
    "run": "sslcurr.analysis.results.inventory.document:RunDocument",
    "stages": "sslcurr.analysis.results.inventory.document:StagesDocument",
    "stage": "sslcurr.analysis.results.inventory.document:StageDocument",
    "compare": "sslcurr.analysis.results.comparison.document:CompareDocument",
    "handover": "sslcurr.analysis.results.inventory.document:HandoverDocument",
    "inspection": "sslcurr.analysis.results.inventory.document:InspectionDocument",
    "removal": "sslcurr.analysis.results.inventory.document:RemovalDocument",
    "queue": "sslcurr.analysis.results.queue.document:QueueDocument",
    "work": "sslcurr.analysis.results.queue.document:WorkDocument",
    "live": "sslcurr.analysis.results.queue.document:LiveDocument",
    "forecast": "sslcurr.analysis.results.forecast.document:ForecastDocument",
    "search-forecast": "sslcurr.analysis.results.search_forecast.document:SearchForecastDocument",
    "slurm": "sslcurr.analysis.results.slurm.document:SlurmDocument",
}
# What `sslcurr report --table` can print -> the kind of document that it is made of.
TABLE_NAMES = {
    "rank": "rank",
    "orderings": "rank",
    "variants": "variants",
    "agreement": "variants",
    "rates": "variants",
    "search": "search",
    "components": "explain",
    "predictors": "explain",
    "models": "explain",
    "insertions": "explain",
    "grid": "grid",
    "cka": "cka",
    "fid": "fid",
    "probe": "probe",
    "attend": "attend",
    "train": "train",
    "stages": "stages",
}


def document_class(kind: str) -> type[Document]:
    """The class of a kind's documents.

    Raises:
        SpecError: there is no such kind.
    """
    if kind not in KINDS:
        raise SpecError(f"there are no documents of kind {kind!r}", did_you_mean(kind, KINDS))
    module, _, name = KINDS[kind].partition(":")
    document: type[Document] = getattr(importlib.import_module(module), name)
    return document


def decode(kind: str, plain: Any) -> Document:
    """A document from plain values, as the store keeps it and `--json` prints it; unknown keys are passed over.

    Raises:
        SpecError: there is no such kind.
        StoreError: the values are not a document of that kind.
    """
    try:
        document = msgspec.convert(plain, document_class(kind))
    except msgspec.ValidationError as error:
        raise StoreError(
            f"a result of kind {kind} is damaged ({error})", "run its command again: what was trained is kept"
        ) from error
    names = list(_names(document.to_json()))
    if names != list(_names(in_order_of(document.to_json(), plain))):
        return msgspec.structs.replace(document, name_order=plain)
    return document


def _names(plain: Any) -> Iterator[str]:
    """All names of plain values in their order."""
    if isinstance(plain, dict):
        for name, value in plain.items():
            yield name
            yield from _names(value)
    elif isinstance(plain, list):
        for value in plain:
            yield from _names(value)


def load_result(path: str | Path, kind: str | None = None) -> Document:
    """A document from a file: one that a store keeps under `results`, or one that a command printed with `--json`.

    Args:
        path: the file.
        kind: of the document; a file of a store says it itself.

    Raises:
        StoreError, SpecError: it cannot be read, or it is not known of which kind it is.
    """
    plain = read_json(Path(path))
    if isinstance(plain, dict) and plain.keys() == {"kind", "document"}:
        return _fitting(decode(plain["kind"], plain["document"]), path)
    if kind is None:
        raise SpecError(f"{path} does not say of which kind it is", f"give one: {', '.join(sorted(KINDS))}")
    return _fitting(decode(kind, plain), path)


def _fitting(document: Document, path: str | Path) -> Document:
    """A document of a file, once its parts were seen to fit together: names that are named, rows as long as others.

    Raises:
        StoreError: they do not.
    """
    try:
        document.tables()
    except (LookupError, ValueError, TypeError, ArithmeticError, AttributeError, AssertionError) as error:
        raise StoreError(
            f"{path} is damaged: its parts do not fit together ({reason_of(error)})",
            "run the command again that wrote it: what was trained is kept",
        ) from error
    return document


def json_schema(kind: str) -> Json:
    """The JSON Schema (https://json-schema.org/draft/2020-12/schema) of a kind's documents, as `--json` prints them.

    Raises:
        SpecError: there is no such kind.
    """
    document = document_class(kind)
    schema = msgspec.json.schema(document)
    modules = {document.__module__, Estimate.__module__}  # classes of other kinds may have the same names
    parts = {part.__name__: part for part in _subclasses(Part) if part.__module__ in modules}
    for name, definition in schema["$defs"].items():
        if name in parts and "properties" in definition:
            printed = parts[name].printed_names()
            definition["properties"] = {field: definition["properties"][field] for field in printed}
            definition["required"] = [field for field in printed if field in definition.get("required", ())]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _subclasses(kind: type[Part]) -> list[type[Part]]:
    return [each for child in kind.__subclasses__() for each in (child, *_subclasses(child))]


def tables(kind: str, plain: Json, title: str = "") -> list[Table]:
    """The tables of what a command found, the main ones first; none of a kind that this version does not know.

    Args:
        kind: of the document, as in the store.
        plain: the document, as docs/commands.md says.
        title: of the run, such as `rotation -> classification`.

    Raises:
        StoreError: the values are not a document of that kind.
    """
    return decode(kind, plain).tables(title) if kind in KINDS else []


def draw(kind: str, plain: Json, folder: Path, *, formats: Formats = ("png", "svg")) -> list[Figure]:
    """Draw what a command found into `folder`.

    Args:
        kind: of the document, as in the store.
        plain: the document, as the command prints it with `--json` (docs/commands.md).
        folder: an existing folder.
        formats: png, svg or both.

    Raises:
        SpecError, StoreError: as `decode`.
    """
    return [chart.save(folder, formats) for chart in decode(kind, plain).figures().values()]
