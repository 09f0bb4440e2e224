"""Tables of predictions."""

from __future__ import annotations

from collections.abc import Iterator

from sslcurr.analysis.results.document import is_set
from sslcurr.analysis.results.estimate import share
from sslcurr.analysis.results.prediction.document import EmbedDocument, PredictDocument, PredictedImage
from sslcurr.analysis.results.table import Column, Row, Table, general
from sslcurr.analysis.results.training.tables import report_tables
from sslcurr.wording import counted

MOST_ROWS = 20


def tables(document: PredictDocument | EmbedDocument, title: str) -> Iterator[Table]:
    """The first predictions, and how good they are where labels are known."""
    if isinstance(document, EmbedDocument):
        return
    if is_set(document.images) and document.images:
        yield _predictions(document, document.images)
    if is_set(document.report):
        name = document.models[0] if len(document.models) == 1 else f"mean of {len(document.models)} models"
        yield from report_tables({name: document.report}, title or name, _left_out(document))


def _left_out(document: PredictDocument) -> list[str]:
    """Which labelled images are no part of the report, and what is not known of them."""
    notes = []
    if document.num_trained:
        trained = counted(document.num_trained, "labelled image")
        notes.append(f"{trained} that the model was trained on left out; --allow-overlap counts them")
    if document.num_unknown:
        notes.append(f"{counted(document.num_unknown, 'image')} with labels that the model does not know left out")
    return notes + [f"not known: {sentence}" for sentence in document.unknown]


def _predictions(document: PredictDocument, images: list[PredictedImage]) -> Table:
    has_labels = any(is_set(image.label) for image in images)
    rows: list[Row] = []
    for image in images[:MOST_ROWS]:
        probabilities = image.probabilities if is_set(image.probabilities) else {}
        rows.append(
            {
                "path": image.path,
                "label": image.label if is_set(image.label) else None,
                "prediction": image.prediction,
                "probability": next(iter(probabilities.values()), None),
                "reason": image.reason,
            }
        )
    columns = [Column("image", ("path",)), *([Column("label", ("label",))] if has_labels else [])]
    columns.append(Column("prediction", ("prediction",), _shown, words=True))
    if any(row["probability"] is not None for row in rows):
        columns.append(Column("highest probability (%)", ("probability",), share))
    if any(row["reason"] for row in rows):
        columns.append(Column("cannot be read", ("reason",)))
    more = len(images) - len(rows)
    notes = [f"{counted(more, 'more image')}: --json and --out have all"] if more > 0 else []
    return Table("predict", f"Predictions of {', '.join(document.models)}", tuple(columns), rows, tuple(notes))


def _shown(prediction: str | float | None) -> str:
    if isinstance(prediction, float):
        return general(prediction)
    return "-" if prediction is None else prediction or "(none)"


def closing_lines(document: PredictDocument | EmbedDocument) -> list[str]:
    """How many images there were, and where the file is."""
    broken = f", {document.num_broken:,} of them cannot be read" if document.num_broken else ""
    images = f"{counted(document.num_images, 'image')}{broken}"
    if isinstance(document, EmbedDocument):
        return [f"{images}, {document.num_features:,} features of {document.layer} each: {document.out}"]
    notes = [] if is_set(document.report) else _left_out(document)  # else below its table
    return [*notes, images if document.out is None else f"predictions of {images}: {document.out}"]
