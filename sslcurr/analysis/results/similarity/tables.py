"""Tables of the similarity of models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import UNSET

from sslcurr.analysis.results.estimate import INTERVAL, ends_of, measured
from sslcurr.analysis.results.similarity.document import LayerSimilarity, ModelPair, SimilarityDocument
from sslcurr.analysis.results.table import Column, Row, Table

# More layers than these are rows, not columns; more pairs than those beside each other are rows, too.
MOST_LAYERS, MOST_PAIRS, MOST_CELLS = 8, 4, 14
# The fewest images that have intervals.
FEWEST = 80


def tables(document: SimilarityDocument, title: str) -> Iterator[Table]:
    """The layers that models have in common; then all layers of one model against all of another."""
    pairs = [pair for pair in document.pairs if pair.layers]
    if pairs:
        yield _same_layers(document, pairs)
    if len(document.pairs) > MOST_PAIRS:
        return
    for number, pair in enumerate(document.pairs):
        # Of many models of one network the same layers are what is asked.
        detail = len(document.pairs) > 1 and bool(pair.layers)
        rows, columns = _layers(document, pair)
        if len(columns) <= MOST_CELLS:
            yield _matrix(pair, rows, columns, "cka" if not pairs and number == 0 else "matrix", detail)
        else:
            yield _most_alike(pair, rows, columns, detail)


def csv_tables(document: SimilarityDocument) -> Iterator[Table]:
    """What `--plot` writes as CSV: a row for each pair of layers of each pair of models."""
    records: list[Row] = []
    for pair in document.pairs:
        layers_a, layers_b = _layers(document, pair)
        intervals = None if pair.matrix_interval is UNSET else pair.matrix_interval
        for i, layer_a in enumerate(layers_a):
            for j, layer_b in enumerate(layers_b):
                record = {"a": pair.a, "b": pair.b, "layer_a": layer_a, "layer_b": layer_b, "cka": pair.matrix[i][j]}
                records.append(record if intervals is None else {**record, **ends_of(intervals[i][j])})
    columns = [Column(name.replace("_", " "), (name,)) for name in ("a", "b", "layer_a", "layer_b")]
    columns.append(Column("CKA", ("cka", "low", "high"), measured))
    yield Table("cka", f"All layers of two models: {_about(document)}", tuple(columns), records)


def _about(document: SimilarityDocument) -> str:
    return (
        f"CKA ({document.estimator}, {document.kernel}) on {document.num_images:,} images of "
        f"{document.dataset} ({document.split}), {document.num_batches} "
        f"batch{'' if document.num_batches == 1 else 'es'}"
    )


# ---- layers that two models have in common


def _same_layers(document: SimilarityDocument, pairs: Sequence[ModelPair]) -> Table:
    names = list(dict.fromkeys(row.layer for pair in pairs for row in pair.layers))
    records = [
        {"a": pair.a, "b": pair.b, "layer": row.layer, "cka": row.cka, **ends_of(row.interval)}
        for pair in pairs
        for row in pair.layers
    ]
    if len(pairs) <= MOST_PAIRS:
        columns, rows = _layers_down(pairs, names)
    elif len(names) <= MOST_LAYERS:
        columns, rows = _layers_across(pairs, names)
    else:
        columns = [Column(title, (title,)) for title in ("a", "b", "layer")]
        columns.append(Column("CKA", ("cka", "low", "high"), measured))
        rows = [dict(record) for record in records]
    has_intervals = any(row.interval for pair in pairs for row in pair.layers)
    brackets = f"; in brackets {INTERVAL}s over images" if has_intervals else ""
    notes = [f"Same layers of two models; 1 is alike, 0 unrelated{brackets}."]
    if not has_intervals and document.num_images < FEWEST:
        notes.append(f"Fewer than {FEWEST} images say nothing of the error: there are no intervals.")
    return Table("cka", _about(document), tuple(columns), rows, tuple(notes), records=records)


def _layers_down(pairs: Sequence[ModelPair], names: Sequence[str]) -> tuple[list[Column], list[Row]]:
    columns = [Column("layer", ("layer",))]
    columns += [Column(f"{pair.a} | {pair.b}", _fields(str(place)), measured) for place, pair in enumerate(pairs)]
    by_layer: dict[str, Row] = {name: {"layer": name} for name in names}
    for place, pair in enumerate(pairs):
        for layer in pair.layers:
            by_layer[layer.layer] |= _values(str(place), layer)
    return columns, list(by_layer.values())


def _layers_across(pairs: Sequence[ModelPair], names: Sequence[str]) -> tuple[list[Column], list[Row]]:
    columns = [Column("models", ("models",)), *(Column(name, _fields(name), measured) for name in names)]
    rows: list[Row] = []
    for pair in pairs:
        row: Row = {"models": f"{pair.a} | {pair.b}"}
        for layer in pair.layers:
            row |= _values(layer.layer, layer)
        rows.append(row)
    return columns, rows


def _fields(name: str) -> tuple[str, str, str]:
    return f"{name} cka", f"{name} low", f"{name} high"


def _values(name: str, layer: LayerSimilarity) -> Row:
    return dict(zip(_fields(name), (layer.cka, *(layer.interval or (None, None))), strict=True))


# ---- all layers of one model against all of another


def _layers(document: SimilarityDocument, pair: ModelPair) -> tuple[list[str], list[str]]:
    """The layers of both models of a pair."""
    layers = {model.title: model.layers for model in document.models}
    return layers[pair.a], layers[pair.b]


def _matrix(pair: ModelPair, rows: Sequence[str], columns: Sequence[str], name: str, detail: bool) -> Table:
    # Layers of foreign networks may be called anything, so that columns are told apart by their places.
    lines: list[Row] = [
        {"layer": layer, **{str(place): value for place, value in enumerate(line)}}
        for layer, line in zip(rows, pair.matrix, strict=True)
    ]
    records = [
        {"a": pair.a, "b": pair.b, "layer_a": line["layer"], "layer_b": layer, "cka": line[str(place)]}
        for line in lines
        for place, layer in enumerate(columns)
    ]
    shown = [Column("layer", ("layer",))]
    shown += [Column(layer, (str(place),), measured) for place, layer in enumerate(columns)]
    text = f"Layers of {pair.a} (down) against layers of {pair.b} (across): CKA"
    return Table(name, text, tuple(shown), lines, records=records, detail=detail)


def _most_alike(pair: ModelPair, rows: Sequence[str], columns: Sequence[str], detail: bool) -> Table:
    lines: list[Row] = []
    for layer, values in zip(rows, pair.matrix, strict=True):
        defined = [(value, place) for place, value in enumerate(values) if value is not None]
        value, place = max(defined) if defined else (None, None)
        lines.append({"layer_a": layer, "layer_b": None if place is None else columns[place], "cka": value})
    shown = (
        Column(f"layer of {pair.a}", ("layer_a",)),
        Column(f"most alike of {pair.b}", ("layer_b",), lambda name: name or "-", words=True),
        Column("CKA", ("cka",), measured),
    )
    text = f"Layers of {pair.a} and the most alike layer of {pair.b}: CKA"
    return Table("alike", text, shown, lines, detail=detail)
