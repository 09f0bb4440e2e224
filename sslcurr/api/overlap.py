"""No figure on images that were trained on before, unless that is allowed: what every command with a figure checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from sslcurr.analysis.results.overlap import Overlap, OverlapStage, overlap_lines, overlap_sentence
from sslcurr.api.session import Session
from sslcurr.errors import DataError

if TYPE_CHECKING:
    from sslcurr.engine.ancestry import Weights
    from sslcurr.engine.overlap import StageOverlap
    from sslcurr.engine.selection import Selection
    from sslcurr.engine.store import Store
    from sslcurr.spec.stage import DataSpec


def checked_overlap(
    session: Session,
    weights: Sequence[Weights | None],
    data: DataSpec,
    selection: Selection,
    store: Store,
    split: str,
) -> Overlap | UnsetType:
    """The reported images that `weights` were trained on; unset where training images are reported.

    Args:
        session: the call.
        weights: those that are tested, or that training starts from; None is an untrained network.
        data: the target's images, with their split.
        selection: the same, its rows.
        store: where the stages are.
        split: whose images are reported.

    Raises:
        DataError: there are some, and `allow_overlap` is not asked for.
    """
    from sslcurr.engine.overlap import find_overlap

    if split not in ("test", "val"):
        return UNSET
    pack, rows = selection.pack, selection.rows[split]
    trained = [each for each in weights if each is not None]
    result = find_overlap(trained, data, pack, rows, split, store)
    overlap = Overlap(
        split=split,
        images=result.images,
        of=result.of,
        copies=result.copies,
        stages=[_stage(stage) for stage in result.stages],
        unknown=list(result.unknown),
    )
    if overlap.images and not session.request.allow_overlap:
        raise DataError(overlap_sentence(overlap, pack.name), _hint(result.stages, data))
    for line in overlap_lines(overlap, pack.name):
        session.reporter.note(line)
    return overlap


def joined(parts: Sequence[Overlap]) -> Overlap | UnsetType:
    """Several sets of reported images as one; unset where there are none."""
    if not parts:
        return UNSET
    return Overlap(
        split=parts[0].split,
        images=sum(part.images for part in parts),
        of=sum(part.of for part in parts),
        copies=sum(part.copies for part in parts),
        stages=[stage for part in parts for stage in part.stages],
        unknown=list(dict.fromkeys(sentence for part in parts for sentence in part.unknown)),
    )


def _stage(found: StageOverlap) -> OverlapStage:
    spec = found.spec
    return OverlapStage(key=found.stage.key, tasks=list(spec.tasks), dataset=spec.data.name, images=found.images)


def _hint(stages: Sequence[StageOverlap], data: DataSpec) -> str:
    """What to do about images that were trained on before."""
    from sslcurr.engine.origin import split_options

    allow = "--allow-overlap goes on, and the report says so"
    if data.folds:
        return (
            "a stage of one split cannot be cross-validated, as other folds test what it has seen: let the command "
            f"pretrain in each fold, or leave out --folds. {allow}"
        )
    options = {split_options(found.spec.data, data) for found in stages}
    if all(found.spec.data.fingerprint == data.fingerprint for found in stages) and len(options) == 1:
        return f"it is the same data set, divided in another way: give {options.pop()}. {allow}"
    return f"test on other images, or pretrain without these. {allow}"
