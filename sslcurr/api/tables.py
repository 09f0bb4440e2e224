"""Tables of chains that were measured before: several joined into one, and what lies behind one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sslcurr.analysis.results.document import Document
from sslcurr.analysis.results.estimate import target_of
from sslcurr.api.session import Session
from sslcurr.errors import DataError, SpecError, StoreError
from sslcurr.wording import reason_of

if TYPE_CHECKING:
    import pandas as pd

    from sslcurr.analysis.experiments.join import Given
    from sslcurr.analysis.results.explanation.document import ExplanationDocument
    from sslcurr.analysis.results.ranking.document import RankDocument

Kept = TypeVar("Kept", bound=Document)

JOIN = "join"
# Raised when the same documents give other numbers.
VERSION = 1


@dataclass(frozen=True)
class Read:
    """A document of `rank` that was read, with the table of its predictions."""

    given: Given
    table: pd.DataFrame


def join(session: Session, documents: Sequence[str | Path]) -> RankDocument:
    """Several documents of `rank` as one over all their seeds.

    Raises:
        SpecError: they are no parts of one ranking, or one of them is no ranking.
        DataError: predictions are missing, or not those of a document.
    """
    from sslcurr.analysis.evaluation.predictions import NAME, write_table
    from sslcurr.analysis.experiments.join import check_alike, identity_of, joined, remarks_of, tasks_in
    from sslcurr.engine.runs import record_result
    from sslcurr.engine.store import analysis_name
    from sslcurr.spec.stage import hash_of

    session.plots()
    read = [read_ranking(session, str(text)) for text in documents]
    given = [each.given for each in read]
    check_alike(given)
    rankings = [each.document for each in given]
    inputs = {"version": VERSION, "documents": [hash_of(plain) for plain in identity_of(rankings)]}
    store = session.store()
    folder = store.analyses / analysis_name(JOIN, inputs)
    document = session.finished(joined(given, str(folder / NAME)))

    def keep(part: Path) -> dict[str, object]:
        table = _one_table(read)
        write_table(table, part)
        return {"predictions": len(table)}

    store.analysis(JOIN, inputs, keep)
    for remark in remarks_of(document, given):
        session.reporter.note(remark)
    record_result(
        store,
        document,
        identity={JOIN: inputs},
        title=f"join {' '.join(tasks_in(rankings))}",
        dataset=document.dataset,
        analyses=[folder.name],
        score=max((row.mean for row in document.tasks if row.mean is not None), default=None),
        target=target_of(document.target),
        finished=not document.failed,
        invocation=session.invocation,
    )
    session.draw(document)
    return document


def _one_table(read: Sequence[Read]) -> pd.DataFrame:
    """The predictions of all documents, each run once."""
    from sslcurr.analysis.evaluation.predictions import as_table

    there: set[tuple[str, int]] = set()
    tables = []
    for each in read:
        for (chain, seed), rows in each.table.groupby(["chain", "seed"], observed=True, sort=False):
            if (chain, seed) not in there:
                there.add((str(chain), int(seed)))
                tables.append(rows)
    return as_table(tables, read[0].given.reported.classes)


def explain(
    session: Session,
    ranking: str | Path,
    *,
    similarity: Sequence[str | Path] = (),
    distances: Sequence[str | Path] = (),
) -> ExplanationDocument:
    """What lies behind the differences between the chains of a ranking; see `ExplainOptions`.

    Raises:
        SpecError: there is no such ranking, or a task is missing in what is known of them.
        DataError: predictions are missing, or not those of the ranking.
    """
    from sslcurr.analysis.experiments.explain import Known, explained
    from sslcurr.analysis.experiments.join import identity_of
    from sslcurr.analysis.results.distances.document import DistancesDocument
    from sslcurr.analysis.results.similarity.document import SimilarityDocument
    from sslcurr.engine.runs import record_result
    from sslcurr.spec.stage import hash_of

    session.plots()
    known = Known(
        similarity={str(text): kept(session, str(text), SimilarityDocument) for text in similarity},
        distances={str(text): kept(session, str(text), DistancesDocument) for text in distances},
    )
    given = read_ranking(session, str(ranking)).given
    document = session.finished(explained(given, known))
    others = [each.to_json() for each in (*known.similarity.values(), *known.distances.values())]
    record_result(
        session.store(),
        document,
        identity={"explain": hash_of(identity_of([given.document])), "by": [hash_of(plain) for plain in others]},
        title=f"explain {' '.join(document.tasks)}",
        dataset=document.dataset,
        invocation=session.invocation,
    )
    session.draw(document)
    return document


# ---- results that were kept


def read_ranking(session: Session, text: str) -> Read:
    """A document of `rank`, from a file or by the name of its run, with its predictions.

    Raises:
        SpecError: there is no such file or run, or it is of another kind.
        DataError: predictions are missing or unlike each other.
    """
    from sslcurr.analysis.evaluation.predictions import Reported, predictions_of, tables_beside
    from sslcurr.analysis.experiments.join import Given
    from sslcurr.analysis.results.ranking.document import RankDocument

    document = kept(session, text, RankDocument)
    path = Path(text).expanduser()
    runs = document.predicted()
    if not any(runs.values()):
        raise DataError(f"{text}: no chain was measured", "every chain of it failed: leave it out")
    try:
        table = predictions_of(runs, tables_beside(path) if path.is_file() else ())
        return Read(Given(text, document, Reported.of(table)), table)
    except DataError as error:
        raise DataError(f"{text}: {error}", error.hint) from error


def kept(session: Session, text: str, kind: type[Kept]) -> Kept:
    """A result of a kind, from a file or by the name of its run in the store.

    Raises:
        SpecError: there is no such file or run, or it is of another kind.
    """
    from sslcurr.analysis.results.kinds import decode, load_result

    path, word = Path(text).expanduser(), kind.kind
    hint = f"give a file that sslcurr {word} --json printed or --plot wrote, or the name of a run (sslcurr runs)"
    if path.is_file():
        try:
            document = load_result(path, word)
        except StoreError as error:
            reason = reason_of(error.__cause__ or error)
            raise SpecError(f"{text} is no document of sslcurr {word} ({reason})", hint) from error
    else:
        store = session.existing_store() if session.runs.is_dir() else None
        run = None if store is None else store.named(text)
        result = None if store is None or run is None else store.result(run)
        if result is None:
            raise SpecError(f"there is no file {text}, and no result of a run {text} in {session.runs}", hint)
        document = decode(*result)
    if not isinstance(document, kind):
        raise SpecError(f"{text} is a document of sslcurr {document.kind}, not of sslcurr {word}", hint)
    return document
