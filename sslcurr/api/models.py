"""What trained models have learnt: CKA, Fréchet distances, probes, attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sslcurr.api.session import Session
from sslcurr.errors import SpecError

if TYPE_CHECKING:
    from sslcurr.analysis.results.similarity.document import SimilarityDocument
    from sslcurr.engine.models import Model

# Names of layers that a note names at most; of more chains than these the run's title names none.
MOST_NAMES, MOST_CHAINS = 6, 4
INCEPTION = "inception"


def largest_views(models: Sequence[Model]) -> int | None:
    """The largest views that models were trained with, in pixels, if any of them says so."""
    return max((model.image_size for model in models if model.image_size is not None), default=None)


def cka(
    session: Session,
    checkpoints: Sequence[str],
    *,
    split: str = "test",
    num_images: int | None = None,
    layers: str = "stages",
    estimator: str = "unbiased",
    kernel: str = "linear",
    pool: str = "none",
) -> SimilarityDocument:
    """How alike models are, layer by layer; see `CkaOptions`.

    Raises:
        SpecError: there is one checkpoint only, or a layer is unknown.
    """
    from sslcurr.analysis.evaluation.similarity import Settings, compare, document_of
    from sslcurr.engine.runs import note_look

    if len(checkpoints) < 2:
        raise SpecError("there is one checkpoint, and CKA compares two at least", "give another, such as random")
    request = session.request
    settings = Settings(
        layers=layers,
        split=split,
        num_images=num_images,
        estimator=estimator,
        kernel=kernel,
        pool=pool,
        batch_size=request.batch_size or 0,
        seed=request.seed,
    )
    store = session.store()
    session.plots()
    models = session.models(checkpoints, store)
    data = session.open_data(request.dataset, store, largest_views(models))
    with session.reporter.counting("comparing") as progress:
        similarity = compare(
            models, data, settings, store, session.device, image_size=request.image_size, progress=progress
        )
    for title, names in similarity.undefined().items():
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        shown = ", ".join(names[:MOST_NAMES]) + more
        session.reporter.note(f"{title} gives the same features for all images, so CKA is not defined, at {shown}")
    document = session.finished(document_of(similarity, settings, data))
    note_look(store, document, models, [data], [similarity.folder], invocation=session.invocation)
    session.draw(document)
    return document
