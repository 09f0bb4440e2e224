"""Tables of the similarity of models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sslcurr.analysis.results.estimate import INTERVAL, ends_of, measured
from sslcurr.analysis.results.table import Column, Document, Row, Table

# More layers than these are rows, not columns; more pairs than those beside each other are rows, too.
MOST_LAYERS, MOST_PAIRS, MOST_CELLS = 8, 4, 14


def tables(document: Document, title: str) -> Iterator[Table]:
    """The tables, the main ones first; `title` is that of the run."""
    pairs = [pair for pair in document["pairs"] if pair["layers"]]
    names = list(dict.fromkeys(row["layer"] for pair in pairs for row in pair["layers"]))
    about = (
        f"CKA ({document['estimator']}, {document['kernel']}) on {document['num_images']:,} images of "
        f"{document['dataset']} ({document['split']}), {document['num_batches']} "
        f"batch{'' if document['num_batches'] == 1 else 'es'}"
    )
    records = [
        {"a": pair["a"], "b": pair["b"], "layer": row["layer"], "cka": row["cka"], **ends_of(row["interval"])}
        for pair in pairs
        for row in pair["layers"]
    ]

    def ends(name: str) -> tuple[str, ...]:
        return (f"{name} cka", f"{name} low", f"{name} high")

    def values(name: str, row: Mapping[str, Any]) -> Row:
        return dict(zip(ends(name), (row["cka"], *(row["interval"] or (None, None))), strict=True))

    rows: list[Row]
    if pairs and len(pairs) <= MOST_PAIRS:
        titles = [f"{pair['a']} | {pair['b']}" for pair in pairs]
        columns = [Column("layer", ("layer",))]
        columns += [Column(text, ends(str(place)), measured) for place, text in enumerate(titles)]
        by_layer: dict[str, Row] = {name: {"layer": name} for name in names}
        for place, pair in enumerate(pairs):
            for found in pair["layers"]:
                by_layer[found["layer"]] |= values(str(place), found)
        rows = list(by_layer.values())
    elif pairs and len(names) <= MOST_LAYERS:
        columns = [Column("models", ("models",)), *(Column(name, ends(name), measured) for name in names)]
        rows = [{"models": f"{pair['a']} | {pair['b']}"} for pair in pairs]
        for row, pair in zip(rows, pairs, strict=True):
            for found in pair["layers"]:
                row |= values(found["layer"], found)
    else:
        columns = [Column(name, (name,)) for name in ("a", "b", "layer")]
        columns.append(Column("CKA", ("cka", "low", "high"), measured))
        rows = [dict(record) for record in records]
    if pairs:
        known = any(row["interval"] for pair in pairs for row in pair["layers"])
        brackets = f"; in brackets the {INTERVAL} over batches" if known else ""
        note = f"Same layers of two models; 1 is alike, 0 unrelated{brackets}."
        yield Table("cka", about, tuple(columns), rows, (note,), records=records)
    layers = {model["title"]: model["layers"] for model in document["models"]}
    for number, pair in enumerate(document["pairs"], start=1):
        across = layers[pair["b"]]
        if len(document["pairs"]) > MOST_PAIRS or len(across) > MOST_CELLS:
            continue
        # Layers of foreign networks may be called anything, so that columns are told apart by their places.
        matrix = [
            {"layer": name, **{str(place): value for place, value in enumerate(line)}}
            for name, line in zip(layers[pair["a"]], pair["matrix"], strict=True)
        ]
        cells = [
            {"a": pair["a"], "b": pair["b"], "layer_a": row["layer"], "layer_b": name, "cka": row[str(place)]}
            for row in matrix
            for place, name in enumerate(across)
        ]
        columns = [Column("layer", ("layer",))]
        columns += [Column(name, (str(place),), measured) for place, name in enumerate(across)]
        text = f"Layers of {pair['a']} (down) against layers of {pair['b']} (across): CKA"
        yield Table("cka" if not pairs and number == 1 else "matrix", text, tuple(columns), matrix, records=cells)
