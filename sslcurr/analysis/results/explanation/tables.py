"""Tables of what lies behind the differences between chains."""

from __future__ import annotations

import math
from collections.abc import Iterator

from msgspec import UnsetType

from sslcurr.analysis.results.columns import about_images
from sslcurr.analysis.results.estimate import (
    INTERVAL,
    between,
    correlated,
    ends_of,
    points,
    share,
    signed,
)
from sslcurr.analysis.results.explanation.document import (
    ACCURACY,
    DISTANCE,
    SIMILARITY,
    Block,
    ExplanationDocument,
    Fit,
    Foretelling,
    Insertion,
    Source,
)
from sslcurr.analysis.results.table import Column, Row, Table, count
from sslcurr.wording import and_more, arrow, counted

GROUPS = {
    ACCURACY: "single-task accuracies",
    SIMILARITY: "CKA of single-task models",
    DISTANCE: "Fréchet distances",
}
PREDICTORS = {
    (ACCURACY, "order"): "how much of a curriculum it is",
    (ACCURACY, "mean"): "mean single-task accuracy",
    (ACCURACY, "last"): "accuracy of its last task",
    (ACCURACY, "best"): "accuracy of its best task",
    (SIMILARITY, "neighbours"): "mean CKA of neighbouring tasks",
    (SIMILARITY, "least"): "least CKA of neighbouring tasks",
    (DISTANCE, "mean"): "mean distance over its tasks",
    (DISTANCE, "last"): "distance of its last task",
}
# Triples that a terminal shows, and the largest p-value that is called something.
MOST_TRIPLES, LEVEL = 12, 0.05


def tables(document: ExplanationDocument, title: str) -> Iterator[Table]:
    """Components of variance, then what foretells chains, then what inserting a task costs."""
    yield _components(document)
    if document.foretelling.correlations:
        yield _predictors(document)
    yield from [_models(document)] if document.foretelling.fits else []
    if isinstance(document.insertion, Insertion):
        yield _insertions(document, document.insertion)


def csv_tables(document: ExplanationDocument) -> Iterator[Table]:
    """What `--plot` writes as CSV."""
    yield from tables(document, "")


def _about(document: ExplanationDocument) -> str:
    images = about_images(document.dataset, document.num_images, document.split)
    return f"{images}, {counted(len(document.seeds), 'seed')}, {document.measure}"


def length_name(length: int | None) -> str:
    """What a block of chains is called."""
    return "all chains" if length is None else f"chains of {counted(length, 'task')}"


def model_name(fit: Fit) -> str:
    """What a model is called."""
    return "all of them" if len(fit.groups) > 1 else " + ".join(["length", *(GROUPS[group] for group in fit.groups)])


# ---- components of variance


def _components(document: ExplanationDocument) -> Table:
    columns = [
        Column("chains", ("chains",)),
        Column("number", ("num_chains",), count),
        Column("real (points)", ("real_sd",), share),
        Column("seed", ("seed_sd",), share),
        Column("first stage", ("stage_sd",), share),
        Column("run", ("run_sd",), share),
        Column("images", ("images_sd",), share),
        Column("real share (%)", ("real_share",), share),
        Column(INTERVAL, ("low", "high"), between),
        Column("luck (%)", ("luck_share",), share),
        Column("images (%)", ("images_share",), share),
    ]
    rows = [_component_row(block) for block in document.blocks]
    notes = [*_about_components(document), *_test_lines(document), *_left_out(document)]
    about = f"What the differences between chains consist of: {_about(document)}"
    return Table("components", about, tuple(columns), rows, tuple(notes))


def _about_components(document: ExplanationDocument) -> list[str]:
    """What the columns are, and why blocks have no values."""
    reasons = [block.reason for block in document.blocks]
    if None not in reasons and len(set(reasons)) == 1:
        return [str(reasons[0])]
    return [
        "Standard deviations in points: real differences between chains; what a seed does to all; the luck of a first "
        "stage at a seed, which all chains over it share; the luck of one run; the choice of images, in a chain's "
        "mean. 0.0 stands for a variance that was estimated as 0 or below.",
        f"Shares are of the variance between the chains' means over {counted(len(document.seeds), 'seed')}. A share "
        "below 0 is an estimate of one near 0, and those beside it are too large by as much.",
        *(f"{length_name(block.length)}: {block.reason}" for block in document.blocks if block.reason),
    ]


def _component_row(block: Block) -> Row:
    variances = {} if block.variances is None else block.variances.to_json()
    shares = block.shares
    row: Row = {"chains": length_name(block.length), "num_chains": block.num_chains, "num_stages": block.num_stages}
    for name, key in (("real", "chain"), ("seed", "seed"), ("stage", "stage"), ("run", "run"), ("images", "images")):
        variance = variances.get(key)
        row |= {f"{name}_sd": None if variance is None else math.sqrt(max(variance, 0.0)), f"{name}_variance": variance}
    return {
        **row,
        "real_share": None if shares is None else shares.real,
        **ends_of(None if shares is None else shares.interval),
        "luck_share": None if shares is None else shares.luck,
        "images_share": None if shares is None else shares.images,
        "p_value": block.p_value,
    }


def _test_lines(document: ExplanationDocument) -> list[str]:
    """Whether chains differ by more than luck and images."""
    lines = []
    for block in document.blocks:
        if block.p_value is not None:
            verdict = "differ by more than luck and images" if block.p_value <= LEVEL else "may all be equally good"
            p = "p < 0.001" if block.p_value < 0.001 else f"p = {block.p_value:.3f}"
            lines.append(f"{length_name(block.length)}: they {verdict}, {p} (F test)")
    return lines


def _left_out(document: ExplanationDocument) -> list[str]:
    if not document.left_out:
        return []
    return [f"left out, as not measured at every seed: {arrow(document.left_out[0])}{and_more(len(document.left_out))}"]


# ---- what foretells a chain


def _predictors(document: ExplanationDocument) -> Table:
    rows: list[Row] = [
        {
            "length": entry.length,
            "group": entry.group,
            "predictor": PREDICTORS.get((entry.group, entry.predictor), entry.predictor),
            "tau": entry.tau,
            **ends_of(entry.interval),
            "num_orderings": entry.num_orderings,
        }
        for entry in document.foretelling.correlations
    ]
    columns = (
        Column("tasks", ("length",), count),
        Column("orderings", ("num_orderings",), count),
        Column("predictor", ("predictor",)),
        Column(f"Kendall's tau ({INTERVAL})", ("tau", "low", "high"), correlated),
    )
    notes = [
        "Each seed's chains are foretold by the single-task accuracies of the other seeds. Intervals are over seeds "
        "and images, with the tasks as they are."
    ]
    if any(entry.tau is None for entry in document.foretelling.correlations):
        notes.append("-: at some seed all orderings are equal in one of the two.")
    notes += _sources(document)
    breaks = frozenset(i for i in range(1, len(rows)) if rows[i]["length"] != rows[i - 1]["length"])
    about = f"Which orderings of a length are better, and what says so: {_about(document)}"
    return Table("predictors", about, columns, rows, tuple(notes), breaks=breaks)


def _sources(document: ExplanationDocument) -> list[str]:
    lines = []
    for name, source in (("CKA", document.similarity), ("distances", document.distances)):
        if isinstance(source, Source):
            images = counted(source.num_images, "image")
            lines.append(f"{name}: {', '.join(source.names)}, on {images} of {source.dataset}")
    return lines


def _models(document: ExplanationDocument) -> Table:
    foretelling = document.foretelling
    rows: list[Row] = [
        {"model": model_name(fit), "r_squared": fit.r_squared, "p_value": fit.p_value, "smallest": fit.smallest_p_value}
        for fit in foretelling.fits
    ]
    columns = (
        Column("model", ("model",)),
        Column("R² of chains not seen", ("r_squared",), _hundredths),
        Column("p", ("p_value",), _thousandths),
        Column("smallest possible p", ("smallest",), _thousandths),
    )
    chains, sets = counted(foretelling.num_chains, "chain"), counted(foretelling.num_sets, "set")
    notes = [
        f"{chains}, orderings of {sets} of tasks. All orderings of one set are left out and foretold from those of the "
        "others. 1 is perfect, 0 no better than the mean of the others."
    ]
    if foretelling.most is not None:
        notes.append(f"Single runs have luck: a perfect model would have an R² of about {foretelling.most:.2f}.")
    notes += _about_test(foretelling)
    return Table("models", f"What foretells a chain: {_about(document)}", columns, rows, tuple(notes))


def _about_test(foretelling: Foretelling) -> list[str]:
    """How p-values were found, and what they can show."""
    if foretelling.reason is not None:
        return [foretelling.reason]
    how = "exact" if foretelling.exact else "drawn"
    lines = [
        f"p: share of the ways to rename the tasks with an R² as large (one-sided permutation test, "
        f"{foretelling.num_arrangements:,} arrangements, {how})."
    ]
    smallest = [fit.smallest_p_value for fit in foretelling.fits if fit.smallest_p_value is not None]
    if smallest and min(smallest) > LEVEL:
        lines.append(
            f"So few tasks can show nothing: p cannot be below {min(smallest):.3f}, whatever the models foretell."
        )
    return lines


def _hundredths(value: float | None) -> str:
    return "-" if value is None else signed(value, 2)


def _thousandths(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


# ---- inserting a task


def _insertions(document: ExplanationDocument, insertion: Insertion) -> Table:
    rows: list[Row] = [
        {
            "ordering": arrow(row.ordering),
            "unlike": row.unlike,
            "gain": row.gain.mean,
            **ends_of(row.gain.interval),
            "told_apart": row.gain.told_apart,
        }
        for row in insertion.rows
    ]
    columns = (
        Column("three tasks", ("ordering",)),
        Column("middle unlike both (1 - CKA)", ("unlike",), lambda value: f"{value:.3f}"),
        Column("gain over the two without it (points)", ("gain", "low", "high"), points),
    )
    return Table(
        "insertions",
        f"What inserting a task between two others gives: {_about(document)}",
        columns,
        rows,
        tuple(insertion_lines(insertion)),
        detail=len(rows) > MOST_TRIPLES,
    )


def insertion_lines(insertion: Insertion) -> list[str]:
    """The mean gain, and whether it falls where the middle task is unlike both of its neighbours."""
    gain, slope = insertion.gain, insertion.slope
    lines = [f"inserting a task: {points(gain.mean, *(gain.interval or (None, None)))} points, mean of all"]
    if slope.mean is None:
        ends = [row.unlike for row in insertion.rows]
        return [
            *lines,
            f"all middle tasks are about as unlike their neighbours (1 - CKA from {min(ends):.3f} on, up to "
            f"{max(ends):.3f}): how that matters cannot be seen",
        ]
    low, high = slope.interval or (None, None)
    tenth = points(slope.mean / 10, *(None if end is None else end / 10 for end in (low, high)))
    line = f"for each 0.1 that the middle task is less alike to both neighbours (CKA): {tenth} points"
    if insertion.p_value is None:
        return [*lines, line]
    smallest = _thousandths(insertion.smallest_p_value)
    test = f"share of the ways to rename the tasks with as steep a fall: p = {insertion.p_value:.3f}"
    return [*lines, line, f"{test}; the smallest that it could be is {smallest}"]


def closing_lines(document: ExplanationDocument) -> list[str]:
    """Why nothing is said of what foretells chains, and what inserting a task gives where its table is left out."""
    lines = (
        []
        if document.foretelling.fits or document.foretelling.reason is None
        else [f"what foretells a chain: {document.foretelling.reason}"]
    )
    insertion = document.insertion
    if not isinstance(insertion, UnsetType) and len(insertion.rows) > MOST_TRIPLES:
        lines += insertion_lines(insertion)
    return lines
