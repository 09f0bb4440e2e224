"""Chains trained and reported: what `pretrain`, `chain` and `finetune` do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sslcurr.analysis.results.plan.document import PlanDocument, PlannedStage
from sslcurr.api.session import Session
from sslcurr.errors import SpecError

if TYPE_CHECKING:
    from sslcurr.engine.plan import Planner
    from sslcurr.engine.store import Store
    from sslcurr.spec.stage import StageSpec

CLASSIFICATION = "classification"


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a command trains and reports.

    Attributes:
        tasks: the stages; the last may be `classification`, which is then reported on the test split.
        start: a checkpoint file, a stage's folder or the beginning of its key; None is from scratch.
        baseline: train classification from scratch too, to compare.
        probe: `knn` or `linear`: report a probe on the frozen features of the last stage instead.
        layers: the layers that the probe looks at, a pattern of names.
    """

    tasks: tuple[str, ...]
    start: str | None = None
    baseline: bool = False
    probe: str | None = None
    layers: str = "*"


def pretraining(session: Session, task: str, *, start: str | None = None) -> Target:
    """`sslcurr pretrain`."""
    from sslcurr.tasks import check_pretext

    check_pretext([task])
    return Target(tasks=(task,), start=start)


def chain(
    session: Session, tasks: Sequence[str], *, finetune: bool = True, baseline: bool = False, start: str | None = None
) -> Target:
    """`sslcurr chain`.

    Raises:
        SpecError: masks for a chain that ends with no classification.
    """
    from sslcurr.tasks import check_pretext

    check_pretext(tasks)
    if not finetune:
        refuse_masks(session, "--no-finetune")
    return Target(tasks=(*tasks, *([CLASSIFICATION] if finetune else [])), start=start, baseline=finetune and baseline)


def finetuning(
    session: Session, checkpoint: str | None, *, probe: str | None = None, layers: str = "*", baseline: bool = False
) -> Target:
    """`sslcurr finetune`; `probe` is `knn`, `linear` or None, which trains all weights.

    Raises:
        SpecError: layers of a probe without one, masks with one.
    """
    if probe is None:
        if layers != "*":
            raise SpecError("--layers is for probes, and --probe full trains all layers", "add --probe linear or knn")
        return Target(tasks=(CLASSIFICATION,), start=checkpoint, baseline=baseline and checkpoint is not None)
    refuse_masks(session, f"--probe {probe}")
    return Target(tasks=(), start=checkpoint, baseline=baseline, probe=probe, layers=layers)


def refuse_masks(session: Session, option: str) -> None:
    """Raises SpecError where masks are given to a command that fine-tunes no model: `option` is why."""
    if session.request.masks is not None:
        raise SpecError(f"--masks is for fine-tuned models, and {option} makes none", f"leave out --masks, or {option}")


def plan(session: Session, target: Target) -> PlanDocument:
    """What would be trained, with every value resolved; the data is read and packed."""
    from sslcurr.engine.plan import described_values
    from sslcurr.spec.stage import key_of, to_dict

    store = session.store()
    planner = session.planner(target.tasks, target.start)
    specs, baseline = _planned(planner, store, target)
    stages = [
        PlannedStage(
            task=spec.task,
            key=key_of(spec),
            reused=store.find(key_of(spec)) is not None,
            asked=to_dict(spec),
            resolved=described_values(spec),
        )
        for spec in (*specs, *baseline)
    ]
    return session.finished(PlanDocument(stages=stages, store=str(store.root)))


def _planned(planner: Planner, store: Store, target: Target) -> tuple[list[StageSpec], list[StageSpec]]:
    """The stages of the target, and those of its baseline.

    Raises:
        SpecError: the network cannot see views as small as those that are still to be trained on.
    """
    from sslcurr.backbones.build import check as check_backbone
    from sslcurr.engine.plan import Parent, input_sizes
    from sslcurr.spec.stage import key_of

    parent = planner.parent
    specs = planner.chain(target.tasks)
    # From scratch with the same backbone and images: what the pretraining is compared with.
    scratch = Parent(backbone=planner.backbone(parent), image_size=planner.data.image_size)
    compared = target.baseline and target.probe is None
    baseline = planner.chain([CLASSIFICATION], scratch) if compared else []
    if any(store.find(key_of(spec)) is None for spec in (*specs, *baseline)):
        check_backbone(planner.backbone(parent), {size for spec in (*specs, *baseline) for size in input_sizes(spec)})
    return specs, baseline
