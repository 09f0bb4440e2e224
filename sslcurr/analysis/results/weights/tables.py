"""Tables of imported and exported checkpoints."""

from __future__ import annotations

from collections.abc import Iterator

from sslcurr.analysis.results.table import Column, Table, count
from sslcurr.analysis.results.weights.document import ExportDocument, ImportDocument

EXAMPLES = 3


def tables(document: ImportDocument | ExportDocument, title: str) -> Iterator[Table]:
    """Which keys of an imported file were used."""
    if isinstance(document, ExportDocument):
        return
    rows = []
    for name, keys in (("matched", document.matched), ("missing", document.missing), ("dropped", document.dropped)):
        examples = ", ".join(keys[:EXAMPLES]) + (" ..." if len(keys) > EXAMPLES else "")
        rows.append({"name": name, "num_keys": len(keys), "examples": examples})
    stem = "" if document.stem == "imagenet" else f", {document.stem} stem"
    heading = f"{document.backbone}{stem}, {document.channels} channels; layout: {document.layout}"
    columns = (Column("", ("name",)), Column("keys", ("num_keys",), count), Column("such as", ("examples",)))
    yield Table("import", heading, columns, rows)


def closing_lines(document: ImportDocument | ExportDocument) -> list[str]:
    """The file that was written, and how it is loaded."""
    if isinstance(document, ImportDocument):
        return [f"checkpoint: {document.checkpoint}"]
    return [f"written: {document.file}", *(f"  {line}" for line in document.how)]
