"""Tables of data sets."""

from __future__ import annotations

from collections.abc import Iterator

from sslcurr.analysis.results.catalog.document import CheckDocument, DatasetDocument, DatasetsDocument, PackDocument
from sslcurr.analysis.results.table import Column, Row, Table, count
from sslcurr.spec.target import MULTILABEL, REGRESSION

# Lines of a kind that the terminal shows at most.
MOST_LINES = 20
CatalogDocument = DatasetsDocument | DatasetDocument | CheckDocument | PackDocument


def tables(document: CatalogDocument, title: str) -> Iterator[Table]:
    """The data sets with a name, or the classes of one that was checked."""
    if isinstance(document, DatasetsDocument):
        yield _datasets(document)
    elif isinstance(document, CheckDocument):
        yield _classes(document)


def closing_lines(document: CatalogDocument) -> list[str]:
    """What the terminal shows below the tables."""
    if isinstance(document, DatasetsDocument):
        return ["sslcurr data show NAME says how to get one and where its files go"]
    if isinstance(document, DatasetDocument):
        return _facts(document)
    if isinstance(document, CheckDocument):
        return _findings(document)
    size = f"{document.images:,} images of {document.pack_size} x {document.pack_size} x {document.channels}"
    return [
        f"{document.dataset}: {size} for training at {document.image_size} px, {document.bytes / 2**20:,.1f} MiB, "
        f"{document.seconds:.1f} s",
        f"pack: {document.pack}",
    ]


def _datasets(document: DatasetsDocument) -> Table:
    rows = [
        {
            "name": entry.name,
            "title": entry.title,
            "images": entry.images,
            "classes": entry.classes or None,
            "licence": entry.licence,
            "there": entry.there.partition(": ")[0],
        }
        for entry in document.datasets
    ]
    columns = (
        Column("name", ("name",)),
        Column("what", ("title",)),
        Column("images", ("images",), count),
        Column("classes", ("classes",), count),
        Column("licence", ("licence",)),
        Column("there", ("there",)),
    )
    return Table("datasets", "", columns, rows)


def _facts(document: DatasetDocument) -> list[str]:
    facts = document.to_json()
    lines = [f"{facts.pop('name')}: {facts.pop('title')}"]
    for key, value in facts.items():
        if key in ("schema", "invocation"):
            continue
        for number, line in enumerate(value if isinstance(value, list) else str(value).split("\n")):
            lines.append(f"  {key.replace('_', ' ') if number == 0 else '':<16} {line}")
    return lines


def _classes(document: CheckDocument) -> Table:
    counts = document.counts
    splits = [split for split in ("train", "val", "test", "") if any(split in each for each in counts.values())]
    rows: list[Row] = []
    for name, each in counts.items():
        shown = {f"split {split}": each.get(split, 0) for split in splits}
        rows.append({"class": name, **shown, "images": sum(each.values())})
    num_images = document.images - len(document.faults) - len(document.broken)
    given = {"": num_images - sum(document.splits.values()), **document.splits}
    together = document.target == MULTILABEL.name  # an image counts for each of its labels
    total: Row = {"class": "all", "images": num_images if together else sum(row["images"] for row in rows)}
    for split in splits:
        total[f"split {split}"] = given.get(split, 0) if together else sum(row[f"split {split}"] for row in rows)
    heads = {MULTILABEL.name: "label", REGRESSION.name: "number"}
    columns = [Column(heads.get(str(document.target), "class"), ("class",))]
    columns += [Column(split or "to be split", (f"split {split}",), count) for split in splits]
    columns.append(Column("images", ("images",), count))
    heading = f"{document.dataset}: {document.root}"
    return Table("check", heading, tuple(columns), [*rows, total], breaks=frozenset({len(rows)}))


def _findings(document: CheckDocument) -> list[str]:
    groups = "" if document.groups is None else f", {document.groups:,} groups"
    sides = document.sides
    num_copies = sum(len(names) - 1 for names in document.copies)
    lines = [
        f"{document.images:,} images{groups}, {document.grey:,} of them grey; sides from {sides.shortest:,} to "
        f"{sides.longest:,} pixels, median {sides.median:,}",
        f"{len(document.faults):,} missing or with a wrong label, {len(document.broken):,} broken, "
        f"{num_copies:,} copies of others",
    ]
    if any(document.parts.values()):
        parts = ", ".join(f"{number:,} {part}" for part, number in document.parts.items() if number)
        lines.append(f"a training divides them so: {parts}")
    apart = [" = ".join(names) for names in document.not_in_one_group]
    for title, sentences in (("problem", document.sentences), ("copy", apart)):
        lines += [f"{title}: {sentence}" for sentence in sentences[:MOST_LINES]]
        if len(sentences) > MOST_LINES:
            lines.append(f"... and {len(sentences) - MOST_LINES:,} more; --json and --out have all of them")
    if apart:
        lines.append(
            "copies that no group holds together may come to different splits: give them one group, or see --duplicates"
        )
    if not document.sentences:
        lines.append("no problems found")
    return lines
