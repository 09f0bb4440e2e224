"""Before anything is trained: which stages are to come, how long they take, and what would be quicker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sslcurr.errors import SpecError
from sslcurr.progress import Course, ExpectedStage
from sslcurr.spec.target import TARGET_TASKS
from sslcurr.wording import counted, duration

if TYPE_CHECKING:
    from sslcurr.analysis.experiments.chains import Chains
    from sslcurr.api.session import Session
    from sslcurr.engine.plan import Planner
    from sslcurr.engine.store import Store
    from sslcurr.spec.stage import StageSpec

# What takes longer is said before it begins, in seconds.
LONG = 3600.0
# What is suggested instead of the defaults.
QUICK_SIZE, QUICK_EPOCHS = 64, 50


def foretell(
    session: Session,
    planner: Planner,
    store: Store,
    specs: Sequence[StageSpec],
    passes: Callable[[StageSpec], float],
    *,
    warns: bool = True,
) -> float | None:
    """Tell the reporter of the stages that a command is about to train, and the person where these take over an hour.

    Args:
        session: of the command.
        planner: of its images and its request.
        store: where the stages are, or will be.
        specs: the stages in their order.
        passes: image passes that a stage takes.
        warns: whether it is said; else the stages follow from others of which it was.

    Returns:
        Seconds that they take here, one after the other; None where nobody knows.
    """
    from sslcurr.engine.cost import Speeds, expected_stages, timed_where_large
    from sslcurr.engine.pool import num_gpus

    on_cpu = not num_gpus(session.device)
    stages = expected_stages(specs, store, Speeds(store, session.runtime), passes)
    stages = timed_where_large(stages, specs, session.device, on_cpu=on_cpu)
    if session.is_alone:
        session.reporter.expects(stages)
    seconds = seconds_of(stages)
    # Workers elsewhere are as many as there are, and as quick as they are.
    is_known = warns and seconds is not None and session.pooling.job_pool == "here"
    if seconds is not None and is_known and seconds / session.num_workers > LONG:
        session.reporter.note(_warning(session, planner, stages, specs, seconds, on_cpu=on_cpu))
    return seconds


def foretell_chains(
    session: Session, chains: Sequence[Chains], specs: Sequence[Sequence[StageSpec]], *, warns: bool = True
) -> None:
    """The same of many chains: `specs` are all stages of each of `chains`, which share a store."""
    from sslcurr.spec.stage import key_of

    trainers = {key_of(spec): each for each, named in zip(chains, specs, strict=True) for spec in named}
    every = list({key_of(spec): spec for named in specs for spec in named}.values())
    first = chains[0]
    foretell(session, first.planner, first.store, every, lambda spec: trainers[key_of(spec)].passes(spec), warns=warns)


def seconds_of(stages: Sequence[ExpectedStage]) -> float | None:
    """What stages take one after the other; None where nobody knows."""
    course = Course()
    course.expect(stages)
    return course.seconds()


def _warning(
    session: Session,
    planner: Planner,
    stages: Sequence[ExpectedStage],
    specs: Sequence[StageSpec],
    seconds: float,
    *,
    on_cpu: bool,
) -> str:
    """How long it takes, of what, and what would be quicker of what was left to the defaults."""
    keys = {stage.key for stage in stages if stage.passes}
    missing = list({key: spec for key, spec in _by_key(specs) if key in keys}.values())
    epochs = max(spec.training.epochs for spec in missing)
    network, size = missing[0].backbone.name, missing[0].config["image_size"]
    workers = session.num_workers
    what = f"{counted(len(missing), 'stage')} of up to {counted(epochs, 'epoch')}, {network} at {size} pixels"
    where = "on a CPU" if on_cpu else "on this GPU"
    jobs = f" by {counted(workers, 'job')}" if workers > 1 else ""
    text = f"this takes about {duration(seconds / workers)} here: {what} {where}{jobs}"
    quicker = [
        f"{options} (about {duration(other / workers)})"
        for options, other in _quicker(session, planner, stages, missing, seconds)
    ]
    quicker += ["a GPU"] if on_cpu else []
    if not quicker:
        return text
    *firsts, last = quicker
    return f"{text}. Quicker: {', '.join(firsts)}{', or ' if firsts else ''}{last}"


def _by_key(specs: Sequence[StageSpec]) -> Iterator[tuple[str, StageSpec]]:
    from sslcurr.spec.stage import key_of

    return ((key_of(spec), spec) for spec in specs)


def _quicker(
    session: Session,
    planner: Planner,
    stages: Sequence[ExpectedStage],
    missing: Sequence[StageSpec],
    seconds: float,
) -> Iterator[tuple[str, float]]:
    """Options that change what was left to the defaults, each with the seconds that it would take."""
    smaller = _smaller(session, planner, missing)
    if smaller is not None:
        options, share = smaller
        yield options, share * seconds
    has_epochs = planner.request.epochs is not None or any("epochs" in values for values in planner.settings.values())
    pretext = {key: spec.training.epochs for key, spec in _by_key(missing) if spec.task not in TARGET_TASKS}
    if has_epochs or all(epochs <= QUICK_EPOCHS for epochs in pretext.values()):
        return
    shorter = seconds_of(
        [
            replace(stage, passes=stage.passes * min(1.0, QUICK_EPOCHS / pretext.get(stage.key, QUICK_EPOCHS)))
            for stage in stages
        ]
    )
    assert shorter is not None
    # Fine-tuning on few labels is short, and a scratch that is cut off early flatters pretraining.
    kept = {spec.task: spec.training.epochs for spec in missing if spec.task in TARGET_TASKS}
    options = "".join(f" --set {task}.epochs={epochs}" for task, epochs in kept.items())
    yield f"--epochs {QUICK_EPOCHS}{options}", shorter
    if smaller is not None:
        yield "both", smaller[1] * shorter


def _smaller(session: Session, planner: Planner, missing: Sequence[StageSpec]) -> tuple[str, float] | None:
    """Options for smaller images and their network, and the share of the time that they take; None where a person has
    chosen the size, or another would be no quicker."""
    from sslcurr.engine.cost import seconds_of_pass

    size, now, request = planner.data.image_size, missing[0].backbone, planner.request
    if request.image_size is not None or planner.parent.key is not None or size <= QUICK_SIZE:
        return None
    try:
        small = planner.backbone_at(QUICK_SIZE)
    except SpecError:
        return None
    precision = missing[0].training.precision
    quick = seconds_of_pass(small, QUICK_SIZE, session.device, precision)
    share = quick / seconds_of_pass(now, size, session.device, precision)
    network = f" --backbone {small.name}" if request.backbone is None else ""
    return (f"--image-size {QUICK_SIZE}{network}", share) if share < 1 else None
