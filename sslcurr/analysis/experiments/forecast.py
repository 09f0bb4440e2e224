"""What many chains will cost before any of them is trained: stages with and without sharing, hours, disk space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sslcurr.analysis.experiments.chains import Chains
from sslcurr.engine.cost import measured_speed, recorded_speed, weights_bytes
from sslcurr.spec.stage import StageSpec, key_of

if TYPE_CHECKING:
    from sslcurr.spec.runtime import Runtime


@dataclass(frozen=True)
class Forecast:
    """The cost of a set of chains.

    Attributes:
        stages: every stage once, parents first.
        there: keys of those that the store holds.
        num_alone: pretraining stages if every chain were trained by itself.
        num_shared: pretraining stages with shared prefixes.
        speeds: task -> images a second.
        measured: the tasks whose speed was measured now; the others' is that of earlier stages.
        hours: of what is to be trained.
        gigabytes: of weights that will be written.
    """

    stages: list[StageSpec]
    there: set[str]
    num_alone: int
    num_shared: int
    speeds: dict[str, float]
    measured: list[str]
    hours: float
    gigabytes: float


def forecast(chains: Chains, specs: Sequence[Sequence[StageSpec]], runtime: Runtime) -> Forecast:
    """The cost of chains, given the stages of each.

    Images a second are those of the latest stage in the store of that task, network, size and device; where there is
    none, the first steps of a training are measured and thrown away.
    """
    stages = {key_of(spec): spec for chain in specs for spec in chain}
    pretext = [key_of(spec) for chain in specs for spec in chain if spec.task != "classification"]
    there = {key for key in stages if chains.store.find(key) is not None}
    missing = [spec for key, spec in stages.items() if key not in there]
    speeds, measured, seconds = {}, [], 0.0
    for spec in missing:
        if spec.task not in speeds:
            known = recorded_speed(spec, chains.store, runtime.device)
            if known is None:
                measured.append(spec.task)
            speeds[spec.task] = known or measured_speed(spec, runtime)
        seconds += chains.passes(spec) / speeds[spec.task]
    return Forecast(
        stages=list(stages.values()),
        there=there,
        num_alone=len(pretext),
        num_shared=len(set(pretext)),
        speeds=speeds,
        measured=measured,
        hours=seconds / 3600,
        gigabytes=weights_bytes(missing) / 1e9,
    )
