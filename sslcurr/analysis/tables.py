"""From what commands found to tables: each number is read once, for the terminal, the page and papers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sslcurr.analysis.cells import (
    INTERVAL,
    Column,
    Document,
    Row,
    Table,
    arrow,
    between,
    count,
    general,
    measured,
    plus_minus,
    points,
    share,
    spread,
)
from sslcurr.data.source import counted

# What `sslcurr report --table` can print -> the kind of document that it is made of.
KINDS = {
    "rank": "rank",
    "orderings": "rank",
    "search": "search",
    "grid": "grid",
    "cka": "cka",
    "fid": "fid",
    "probe": "probe",
    "attend": "attend",
    "train": "train",
    "stages": "stages",
}
PREDICTORS = {
    "order": "how much of a curriculum it is",
    "mean": "the mean single-task accuracy",
    "last": "the accuracy of its last task",
}
# More layers than these are rows, not columns; more pairs than those beside each other are rows, too.
MOST_LAYERS, MOST_PAIRS, MOST_CELLS = 8, 4, 14


def tables(kind: str, document: Document, title: str = "") -> list[Table]:
    """The tables of what a command found, the main ones first.

    Args:
        kind: of the document, as in the store.
        document: as docs/commands.md says.
        title: of the run, such as `rotation -> classification`.
    """
    made = {
        "train": _train,
        "rank": _rank,
        "search": _search,
        "grid": _grid,
        "cka": _cka,
        "fid": _fid,
        "probe": _probe,
        "attend": _attend,
    }
    return list(made[kind](document, title)) if kind in made else []


# ---- what several have in common


def _ends(interval: Sequence[float] | None, name: str = "") -> Row:
    low, high = interval if interval is not None else (None, None)
    return {f"{name}low": low, f"{name}high": high}


def _summary(row: Mapping[str, Any]) -> Row:
    return {
        "mean": row["mean"],
        "std": row["std"],
        **_ends(row["interval"]),
        "validation": row["validation"],
        "num_seeds": len(row["runs"]),
    }


def _by_seed(row: Mapping[str, Any]) -> Row:
    return {f"seed_{run['seed']}": run["balanced_accuracy"] for run in row["runs"]}


def _attention(row: Mapping[str, Any], prefix: str = "attention") -> Row:
    found = row.get("attention")
    if found is None:
        return {}
    covered = {f"{prefix}_coverage": found["coverage"]} if "coverage" in found else {}
    return {
        prefix: found["mean"],
        f"{prefix}_std": found.get("std"),
        **_ends(found["interval"], f"{prefix}_"),
        **covered,
    }


ACCURACY = Column("balanced accuracy (%)", ("mean", "std"), spread)
BETWEEN = Column(INTERVAL, ("low", "high"), between)
VALIDATION = Column("validation (%)", ("validation",), share)
ATTENTION = Column("attention in masks (%)", ("attention", "attention_std"), plus_minus(1, 100))
COVERED = Column("without preference (%)", ("attention_coverage",), share)
ATTENTION_BETWEEN = Column(f"{INTERVAL} of attention", ("attention_low", "attention_high"), between)


def _seeds_column(rows: Sequence[Row], num_seeds: int) -> list[Column]:
    """How many seeds a row has, where one has fewer than were asked for."""
    short = any(row["num_seeds"] < num_seeds for row in rows)
    return [Column(f"seeds of {num_seeds}", ("num_seeds",), count)] if short else []


def _attention_columns(rows: Sequence[Row]) -> list[Column]:
    if not any("attention" in row for row in rows):
        return []
    covered = [COVERED] if any("attention_coverage" in row for row in rows) else []
    return [ATTENTION, ATTENTION_BETWEEN, *covered]


def _filled(rows: list[Row]) -> list[Row]:
    """Rows that all have the same values, in the same order; what one lacks is None."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in names} for row in rows]


def _highest(rows: Sequence[Row], name: str) -> frozenset[int]:
    values = [row.get(name) for row in rows]
    known = [value for value in values if value is not None]
    return frozenset(i for i, value in enumerate(values) if len(known) > 1 and value == max(known))


def _about_images(document: Document) -> str:
    return f"{document['dataset']}, {counted(document['num_images'], document['split'] + ' image')}"


def failures(document: Document) -> list[str]:
    """A sentence for each chain that failed."""
    return [
        f"failed: {arrow(failure['ordering']) or 'no pretext task'}, seed {failure['seed']}: {failure['reason']}"
        for failure in document.get("failed", ())
    ]


# ---- the kinds


def _rank(document: Document, title: str) -> Iterator[Table]:
    seeds = document["seeds"]
    gains = {name: "gain_over_imagenet" if name == "ImageNet" else "gain" for name in document["baselines"]}
    rows: list[Row] = []
    for name, row in document["baselines"].items():
        rows.append({"task": name, "baseline": True, **_summary(row), **_attention(row), **_by_seed(row)})
    for row in document["tasks"]:
        over: Row = {}
        for name, key in gains.items():
            gain = row.get(key) or {"mean": None, "interval": None}
            over |= {f"gain_over_{name}": gain["mean"], **_ends(gain["interval"], f"gain_over_{name}_")}
        rows.append(
            {"task": row["task"], "baseline": False, **_summary(row), **over, **_attention(row), **_by_seed(row)}
        )
    gain_columns = [
        Column(f"gain over {name} (points)", tuple(f"gain_over_{name}{end}" for end in ("", "_low", "_high")), points)
        for name in gains
    ]
    filled = _filled(rows)
    columns = [Column("task", ("task",)), ACCURACY, BETWEEN, *gain_columns, VALIDATION]
    columns += [*_attention_columns(rows), *_seeds_column(rows, len(seeds))]
    num_baselines = len(document["baselines"])
    best = frozenset(i + num_baselines for i in _highest(filled[num_baselines:], "mean"))
    notes = [
        f"± is the standard deviation over {counted(len(seeds), 'seed')}; intervals are over test images and seeds."
    ]
    if len(seeds) == 1:
        notes = ["One seed has no spread over seeds; intervals are over test images."]
    if len(document["tasks"]) > 1:
        notes.append(
            f"The best of {len(document['tasks'])} tasks is marked: chosen by the images it is quoted on, so it is a "
            "little too good."
        )
    if document.get("curriculum"):
        notes.append(f"curriculum: {arrow(document['curriculum'])}")
    notes += [f"neighbours that cannot be told apart: {arrow(group)}" for group in document.get("ties", ())]
    if (attention := document.get("attention")) is not None:
        notes.append(
            f"attention: share of the {attention['method']} maps inside the masks, "
            f"{counted(attention['num_images'], 'image')}; a map without preference has "
            f"{share(attention['coverage'])} %"
        )
    yield Table(
        "rank",
        f"Single tasks: {_about_images(document)}, {counted(len(seeds), 'seed')}, {document['measure']}",
        tuple(columns),
        filled,
        (*notes, *failures(document)),
        best=best,
        breaks=frozenset({num_baselines} if 0 < num_baselines < len(filled) else ()),
    )
    if document.get("orderings"):
        yield _orderings(document)


def _orderings(document: Document) -> Table:
    seeds = document["seeds"]
    rows = [
        {
            "ordering": arrow(row["ordering"]),
            "length": len(row["ordering"]),
            "kind": row["kind"],
            "full": row["full"],
            "uncertain": row["uncertain"],
            "best": row["best"],
            **_summary(row),
            **_attention(row),
            **_by_seed(row),
        }
        for row in document["orderings"]
    ]
    filled = _filled(rows)
    columns = [
        Column("pretraining", ("ordering",)),
        Column("kind", ("kind", "full", "uncertain"), _kind, words=True),
    ]
    columns += [ACCURACY, BETWEEN, VALIDATION, *_attention_columns(rows), *_seeds_column(rows, len(seeds))]
    notes = ["The best of each length by the test images is marked."]
    if document["split"] != "test":
        notes = [f"The best of each length by the {document['split']} images is marked."]
    if any(row["uncertain"] for row in rows):
        notes.append("?: two of its tasks cannot be told apart, so that its kind may be chance.")
    return Table(
        "orderings",
        f"Orderings: {_about_images(document)}, {counted(len(seeds), 'seed')}, {document['measure']}",
        tuple(columns),
        filled,
        (*notes, *choices(document), *tests(document)),
        best=frozenset(i for i, row in enumerate(rows) if row["best"]),
        breaks=frozenset(i for i in range(1, len(rows)) if rows[i]["length"] != rows[i - 1]["length"]),
    )


def _kind(kind: str | None, full: bool, uncertain: bool) -> str:
    return (kind or "-") + (", full" if full else "") + (" ?" if uncertain else "")


def choices(document: Document) -> list[str]:
    """Which chain is best by the reported images, which is too good to be true, and which the validation chooses."""
    best = document.get("best")
    if best is None:
        return []
    split = document["split"]
    chosen = best[f"on_{split}"]

    def figure(row: Mapping[str, Any]) -> str:
        return f"{spread(row['mean'], row['std'])} % ({INTERVAL}: {between(*(row['interval'] or (None, None)))})"

    found = [
        f"best on the {split} images: {arrow(chosen['ordering'])}, {figure(chosen)}: the best of {best['num_chains']}, "
        "chosen by the images it is quoted on, so it is too good"
    ]
    if "on_validation" in best:
        chosen = best["on_validation"]
        found.append(
            f"chosen on the validation images: {arrow(chosen['ordering'])}, {figure(chosen)} on the {split} images"
        )
    return found


def tests(document: Document) -> list[str]:
    """The test of the hypothesis in sentences."""
    found = []
    hypothesis = document.get("hypothesis") or {"permutation": [], "kendall": []}
    for test in hypothesis["permutation"]:
        against = "other orderings of the same tasks" if test["strata"] == "set" else "other orderings as long"
        if not test["num_strata"]:
            found.append(f"curricula against {against}: none to compare")
            continue
        effect = points(test["effect"], *(test["interval"] or (None, None)))
        found.append(
            f"curricula against {against}: {effect} points, p = {test['p_value']:.3f} (one-sided permutation test, "
            f"{test['num_arrangements']:,} arrangements, {'exact' if test['exact'] else 'drawn'})"
        )
    for entry in hypothesis["kendall"]:
        if entry["tau"] is not None:
            interval = entry["interval"]
            ends = "" if interval is None else f" ({interval[0]:+.2f} to {interval[1]:+.2f})"
            found.append(
                f"Kendall's tau of accuracy and {PREDICTORS.get(entry['by'], entry['by'])}, {entry['num_orderings']} "
                f"orderings of {entry['length']}: {entry['tau']:+.2f}{ends}"
            )
    return found


def _search(document: Document, title: str) -> Iterator[Table]:
    rows: list[Row] = []
    breaks = set()
    for rung in document["rungs"]:
        breaks.add(len(rows))
        step = {"length": rung["length"], "seeds": rung["seeds"], "short": rung["short"]}
        for candidate in rung["candidates"]:
            rows.append(
                {
                    **step,
                    "epochs": candidate["epochs"],
                    "ordering": arrow(candidate["ordering"]),
                    "score": candidate["score"],
                    "state": "kept" if candidate["kept"] else "",
                }
            )
        rows += [
            {**step, "ordering": arrow(ordering), "state": "left out: budget"} for ordering in rung["not_afforded"]
        ]
    breaks.add(len(rows))
    for finalist in document["finalists"]:
        rows.append(
            {
                "length": len(finalist["ordering"]),
                "seeds": len(finalist["runs"]),
                "ordering": arrow(finalist["ordering"]),
                "score": finalist["score"],
                "state": "found" if finalist["ordering"] == document["ordering"] else "fine-tuned",
                **{name: finalist[name] for name in ("mean", "std", "validation")},
            }
        )
    cost, missed = document["cost"], document["missed"]
    notes = [
        "Candidates are scored by a probe on the validation images; the last rows are fine-tuned.",
        f"{cost['image_passes']:,.0f} image passes, {cost['share']:.1%} of the {cost['exhaustive_image_passes']:,.0f} "
        "of all orderings",
    ]
    if missed is None:
        notes.append("what it missed is not known: the store does not hold all orderings (sslcurr rank --length N)")
    else:
        notes.append(
            f"number {missed['rank']} of {missed['num_orderings']} orderings; the best, {arrow(missed['best'])}, has "
            f"{share(missed['best_mean'])} %: {points(missed['gap'], *(missed['gap_interval'] or (None, None)))} "
            f"points; the median ordering {share(missed['median'])} %"
        )
    if document["ordering"]:
        notes.append(f"found: {arrow(document['ordering'])}")
    filled = _filled(rows)
    columns = (
        Column("tasks", ("length",), count),
        Column("epochs", ("epochs",), count),
        Column("seeds", ("seeds",), count),
        Column("candidate", ("ordering",)),
        Column("score (%)", ("score",), share),
        Column("", ("state",)),
        Column("validation (%)", ("validation",), lambda value: "" if value is None else share(value)),
        Column("balanced accuracy (%)", ("mean", "std"), lambda mean, std: "" if mean is None else spread(mean, std)),
    )
    yield Table(
        "search",
        f"Automatic curriculum: {document['dataset']}, {document['split']} images, "
        f"{counted(len(document['seeds']), 'seed')}, {document['measure']}",
        columns,
        filled,
        (*notes, *failures(document)),
        best=frozenset(i for i, row in enumerate(filled) if row["state"] == "found"),
        breaks=frozenset(breaks - {0}),
    )


def _grid(document: Document, title: str) -> Iterator[Table]:
    shares: list[float | None] = [*([None] if document["baseline"] else []), *document["ssl_fractions"]]
    cells = {(cell["label_fraction"], cell["ssl_fraction"]): cell for cell in document["cells"]}
    rows, columns = [], [Column("labels", ("label_fraction",), general)]
    for part in shares:
        name = document["baseline"] if part is None else f"images {part:.4g}"
        ends = tuple(f"{name} {end}" for end in ("mean", "std", "low", "high", "asked"))
        columns.append(Column(f"{name} (%)", ends, _grid_cell))
    for label in document["label_fractions"]:
        row: Row = {"label_fraction": label}
        for part, column in zip(shares, columns[1:], strict=True):
            cell = cells.get((label, part))
            found = {"mean": None, "std": None, "interval": None} if cell is None else cell
            values = (found["mean"], found["std"], *(found["interval"] or (None, None)), cell is not None)
            row |= dict(zip(column.fields, values, strict=True))
        rows.append(row)
    records = [
        {"label_fraction": cell["label_fraction"], "ssl_fraction": cell["ssl_fraction"], **_summary(cell)}
        | _by_seed(cell)
        for cell in document["cells"]
    ]
    notes = []
    for name, what in (("labels", "half the labels"), ("images", "half the images of pretraining")):
        entry = document["halving"].get(name)
        if entry is not None:
            notes.append(f"{what}: {points(entry['mean'], *(entry['interval'] or (None, None)))} points")
    yield Table(
        "grid",
        f"{arrow(document['tasks'])} -> classification on {document['dataset']}, "
        f"{counted(len(document['seeds']), 'seed')}: balanced accuracy on the {document['split']} images by share of "
        f"labels (down) and of images of pretraining (across), with {INTERVAL}s",
        tuple(columns),
        rows,
        (*notes, *failures(document)),
        records=_filled(records),
    )


def _grid_cell(mean: float | None, std: float | None, low: float | None, high: float | None, asked: bool | None) -> str:
    if not asked:
        return ""
    return spread(mean, std) + ("" if low is None else f" ({between(low, high)})")


def _cka(document: Document, title: str) -> Iterator[Table]:
    pairs = [pair for pair in document["pairs"] if pair["layers"]]
    names = list(dict.fromkeys(row["layer"] for pair in pairs for row in pair["layers"]))
    about = (
        f"CKA ({document['estimator']}, {document['kernel']}) on {document['num_images']:,} images of "
        f"{document['dataset']} ({document['split']}), {document['num_batches']} "
        f"batch{'' if document['num_batches'] == 1 else 'es'}"
    )
    records = [
        {"a": pair["a"], "b": pair["b"], "layer": row["layer"], "cka": row["cka"], **_ends(row["interval"])}
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


def _fid(document: Document, title: str) -> Iterator[Table]:
    rows: list[Row] = []
    breaks = set()
    for model in document["models"]:
        breaks.add(len(rows))
        halves = {"dataset": f"halves of {document['reference']}", **model["halves"]}
        for entry in (halves, *model["datasets"]):
            row: Row = {"model": model["model"], "layer": model["layer"], "dataset": entry["dataset"]}
            for name in ("fid", "normalised", "kid", "extrapolated"):
                figure = entry.get(name)
                if figure is not None:
                    row |= {name: figure["mean"], f"{name}_sd": figure["sd"]}
            for where, known in document["accuracies"].items():
                row[f"accuracy on {where}" if where else "accuracy"] = known.get(model["model"])
            rows.append(row)
    filled = _filled(rows)
    columns = [
        Column("model", ("model",)),
        Column("data set", ("dataset",)),
        Column("FID", ("fid", "fid_sd"), plus_minus(3)),
        Column("FID / halves", ("normalised", "normalised_sd"), plus_minus(2)),
        Column("1000 KID", ("kid", "kid_sd"), plus_minus(2, 1e3)),
    ]
    if filled and "extrapolated" in filled[0]:
        columns.append(Column("FID, endless", ("extrapolated", "extrapolated_sd"), plus_minus(3)))
    for where in document["accuracies"]:
        name = f"accuracy on {where}" if where else "accuracy"
        columns.append(Column(f"{name} (%)", (name,), share))
    notes = [f"± is the standard deviation over {counted(document['draws'], 'draw')} of images."]
    for found in document["correlations"]:
        where = f" on {found['accuracy_on']}" if found["accuracy_on"] else ""
        notes.append(
            f"{found['dataset']}: distance against accuracy{where}, {found['num_models']} models: "
            f"Spearman {found['spearman']:+.2f} (p = {found['spearman_p']:.2f}), "
            f"Kendall {found['kendall']:+.2f} (p = {found['kendall_p']:.2f})"
        )
    yield Table(
        "fid",
        f"Distances to {document['reference']} ({document['split']}), {document['num_images']:,} images of each side",
        tuple(columns),
        filled,
        tuple(notes),
        breaks=frozenset(breaks - {0}),
    )


def _probe(document: Document, title: str) -> Iterator[Table]:
    rows: list[Row] = []
    breaks = set()
    for model in document["models"]:
        breaks.add(len(rows))
        for layer, found in model["layers"].items():
            row: Row = {"model": model["model"], "layer": layer, "num_features": found["num_features"]}
            for name, setting in (("knn", "neighbours"), ("linear", "C")):
                probe = found[name] or {"validation": None, "balanced_accuracy": None, "interval": None}
                row |= {f"{name}_validation": probe["validation"], name: probe["balanced_accuracy"]}
                row |= {**_ends(probe["interval"], f"{name}_"), f"{name}_{setting}": probe.get(setting)}
            rows.append({**row, **{name: found[name] for name in ("rankme", "logme", "h_score")}})
    split = document["models"][0]["split"]
    columns = [
        Column("model", ("model",)),
        Column("layer", ("layer",)),
        Column("features", ("num_features",), count),
        Column("kNN val (%)", ("knn_validation",), share),
        Column(f"kNN {split} (%)", ("knn",), share),
        Column(INTERVAL, ("knn_low", "knn_high"), between),
        Column("linear val (%)", ("linear_validation",), share),
        Column(f"linear {split} (%)", ("linear",), share),
        Column(INTERVAL, ("linear_low", "linear_high"), between),
        Column("RankMe", ("rankme",), measured),
        Column("LogME", ("logme",), measured),
        Column("H-score", ("h_score",), measured),
    ]
    # Without labels there is RankMe alone.
    columns = [c for c in columns if c.title == "layer" or any(c.value(row) is not None for row in rows)]
    judged = [c for c in columns if c.fields[0] not in ("model", "layer", "num_features") and c.title != INTERVAL]
    best = frozenset((i, columns.index(c)) for c in judged for i in _highest(rows, c.fields[0]))
    part = document.get("label_fraction", 1.0)
    notes = ["Higher is better for all; the best of each column is marked."]
    if any(c.fields[0] in ("knn", "linear") for c in columns):
        notes.append(f"Which is best among many on the {split} images is chosen by these images, so it is too good.")
    yield Table(
        "probe",
        f"Frozen features on {document['dataset']}"
        + (f", {share(part)} % of the training images" if part != 1 else "")
        + "; balanced accuracy of the probes",
        tuple(columns),
        rows,
        tuple(notes),
        best_cells=best,
        breaks=frozenset(breaks - {0}),
    )


def _attend(document: Document, title: str) -> Iterator[Table]:
    rows = [
        {
            "chain": chain["chain"],
            "num_seeds": len(chain["seeds"]),
            **_attention(chain),
            "coverage": chain["coverage"],
            "pointing": chain["pointing"]["mean"],
            **_ends(chain["pointing"]["interval"], "pointing_"),
            "num_undefined": chain["num_undefined"],
        }
        for chain in document["chains"]
    ]
    rows = _filled(rows)
    columns = (
        Column("chain", ("chain",)),
        Column("seeds", ("num_seeds",), count),
        ATTENTION,
        ATTENTION_BETWEEN,
        Column("without preference (%)", ("coverage",), share),
        Column("pointing (%)", ("pointing",), share),
        Column(f"{INTERVAL} of pointing", ("pointing_low", "pointing_high"), between),
        Column("undefined", ("num_undefined",), count),
    )
    split = "" if document["split"] == "all" else f"{document['split']} "
    about = f"{document['dataset']}, {counted(document['num_images'], split + 'image')} with a mask"
    yield Table(
        "attend",
        f"Attention inside the masks: {about}; {document['method']} of the {document['target']} class at "
        f"{document['layer']}",
        columns,
        rows,
        (
            "attention: share of the map inside the mask; without preference: share of the view that the mask covers, "
            "which a map that prefers nothing has; pointing: share of the images whose highest point is inside.",
        ),
        best=_highest(rows, "attention"),
    )
    for chain in document["chains"]:
        classes = [
            {
                "class": name,
                "num_images": found["num_images"],
                "attention": found["attention"],
                **_ends(found["interval"]),
                "coverage": found["coverage"],
                "pointing": _number_of(found["pointing"]),
            }
            for name, found in chain["classes"].items()
        ]
        by_class = (
            Column("class", ("class",)),
            Column("images", ("num_images",), count),
            Column("attention in masks (%)", ("attention",), share),
            BETWEEN,
            Column("without preference (%)", ("coverage",), share),
            Column("pointing (%)", ("pointing",), share),
        )
        yield Table("classes", f"Attention by class: {chain['chain']}", by_class, classes)


def _number_of(value: Any) -> Any:
    return value["mean"] if isinstance(value, Mapping) else value


def _train(document: Document, title: str) -> Iterator[Table]:
    reports = {
        name: document[key]
        for key, name in (("downstream", title or "this chain"), ("baseline", "scratch"))
        if key in document
    }
    if not reports:
        yield _trained(document, "train")
        return
    rows: list[Row] = [
        {
            "model": name,
            "split": report["split"],
            "num_images": report["num_images"],
            "balanced_accuracy": report["balanced_accuracy"],
            **_ends(report["interval"]),
            "accuracy": report["accuracy"],
            "auroc": report["auroc"],
            "layer": report.get("layer"),
            **_attention(report),
        }
        for name, report in reports.items()
    ]
    first = next(iter(reports.values()))
    columns = [
        Column("model", ("model",)),
        Column("balanced accuracy (%)", ("balanced_accuracy",), share),
        BETWEEN,
        Column("accuracy (%)", ("accuracy",), share),
        Column("AUROC", ("auroc",), measured),
        *([Column("layer", ("layer",))] if any(row["layer"] for row in rows) else []),
        *_attention_columns(rows),
    ]
    shown: tuple[str, ...] = ()
    if any("attention" in row for row in rows):
        shown = ("attention: share of the maps inside the masks; without preference: share that the masks cover.",)
    yield Table(
        "train",
        f"{title or 'This chain'} on {counted(first['num_images'], first['split'] + ' image')}",
        tuple(columns),
        _filled(rows),
        (f"{INTERVAL}s are over {first['split']} images, of one training each.", *shown),
        best=_highest(rows, "balanced_accuracy") if len(rows) > 1 else frozenset(),
    )
    names = list(reports)
    classes = [
        {
            "class": name,
            **{f"recall {place}": reports[model]["per_class_recall"].get(name) for place, model in enumerate(names)},
        }
        for name in first["classes"]
    ]
    columns = [Column("class", ("class",))]
    columns += [Column(f"recall of {name} (%)", (f"recall {place}",), share) for place, name in enumerate(names)]
    yield Table("classes", "Recall by class", tuple(columns), classes)
    for name, report in reports.items():
        if len(report["classes"]) <= MOST_CELLS:
            columns = [Column("true class", ("true",))]
            columns += [Column(f"as {given}", (str(place),), count) for place, given in enumerate(report["classes"])]
            lines = [
                {"true": true, **{str(place): number for place, number in enumerate(line)}}
                for true, line in zip(report["classes"], report["confusion_matrix"], strict=True)
            ]
            yield Table("confusion", f"Confusion matrix of {name}: images", tuple(columns), lines)
    if document.get("stages"):
        yield _trained(document, "trained")


def _trained(document: Document, name: str) -> Table:
    rows = _filled(
        [
            {"task": stage["task"], "key": stage["key"], "seconds": stage["seconds"], **stage["metrics"]}
            for stage in document["stages"]
        ]
    )
    measures = [key for key in (rows[0] if rows else {}) if key not in ("task", "key", "seconds")]
    columns = [Column("task", ("task",)), Column("stage", ("key",)), Column("seconds", ("seconds",), plus_minus(1))]
    columns += [Column(key, (key,), general) for key in measures]
    return Table(name, "Stages, with what was measured at their ends", tuple(columns), rows)


def stage_table(stages: Sequence[Mapping[str, Any]], num_left_out: int = 0) -> Table:
    """The table of trained stages.

    Args:
        stages: as `report.gather` describes them.
        num_left_out: so many more there are.
    """
    rows = [
        {
            "key": stage["key"],
            "chain": arrow(stage["chain"]),
            "dataset": stage["dataset"],
            "seed": stage["seed"],
            "num_images": stage["num_images"],
            "loss": stage["metrics"].get("loss"),
            "validation": stage["metrics"].get("val_balanced_accuracy"),
            "hours": stage["hours"],
            "images_per_second": stage["images_per_second"],
            "device": stage["device"],
            "precision": stage["precision"],
            **{f"version_{name}": version for name, version in stage["versions"].items()},
        }
        for stage in stages
    ]
    columns = [
        Column("stage", ("key",), lambda key: key[:8], words=True),
        Column("chain", ("chain",)),
        Column("data", ("dataset",)),
        Column("seed", ("seed",), count),
        Column("images", ("num_images",), count),
        Column("last loss", ("loss",), general),
        Column("validation (%)", ("validation",), share),
        Column("hours", ("hours",), lambda value: f"{value:.2g}" if value < 10 else f"{value:,.1f}"),
        Column("images/s", ("images_per_second",), lambda value: "-" if value is None else f"{value:,.0f}"),
        Column("device, precision", ("device", "precision"), lambda *both: ", ".join(both), words=True),
    ]
    if not any(row["validation"] is not None for row in rows):
        columns = [column for column in columns if column.fields != ("validation",)]
    notes = (
        (f"{counted(num_left_out, 'older stage')} left out: sslcurr runs --stages lists all",) if num_left_out else ()
    )
    return Table("stages", "Stages, newest first", tuple(columns), _filled(rows), notes)
