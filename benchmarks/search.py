"""How well does the search for an ordering do, for what it costs? Replays on measured tables, and a simulation.

    python benchmarks/search.py --simulation --repeats 200 --json benchmarks/results/search-simulation.json
    python benchmarks/search.py --tables charts/fashion/rank.json --repeats 500 --json FILE

A table is a document of `sslcurr rank --length N` with several seeds. A search sees the validation accuracies of some
of its seeds (`--seen`), and is judged by the test accuracies of the others: its own luck is not its truth. In the
simulation the truth is known. Budgets are shares of what training and measuring all orderings at the seeds that are
seen would cost.

Replays of one table share its seeds, so their intervals are over the ways to divide the seeds, not over replays.

Regret: points between the ordering that is chosen and the best. Within: the share of replays in which that is at most
the standard deviation of a single run. Place: among all orderings, 1 for the best. Gain: over the mean of all.

Nobody who sees only some seeds knows the best of the others, and the best of two seeds was lucky. So the first rows
measure everything at the seeds that are seen: "all, means" takes the highest mean, "all, model" the highest of the
search's own model. `more_than_all` is the regret beyond that of "all, means", paired by replay: what searching loses.
It has no bias from the luck of the seeds that judge, since both orderings were chosen without them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from records import write
from scipy import stats

from sslcurr.analysis.experiments.knowledge_gradient import KnowledgeGradient
from sslcurr.analysis.experiments.orderings import orderings_of
from sslcurr.analysis.experiments.strategies import (
    Beam,
    Curriculum,
    Halving,
    Prices,
    Random,
    Run,
    State,
    Strategy,
    all_runs,
)
from sslcurr.analysis.results.ranking.document import Ordering

KNOWLEDGE_GRADIENT = "knowledge-gradient"
STRATEGIES: dict[str, Callable[[int], Strategy]] = {
    KNOWLEDGE_GRADIENT: lambda seed: KnowledgeGradient(confidence=1.0),
    "random": Random,
    "halving": Halving,
    "beam": lambda seed: Beam(),
    "curriculum": lambda seed: Curriculum(),
}
# Bounds rather than strategies: they measure all runs, whatever that costs.
BOUNDS: dict[str, Callable[[int], Strategy]] = {
    "all, means": Random,
    "all, model": lambda seed: Everything(confidence=1.0),
}
# Of the truth: standard deviation over orderings, of a run (points), and the weights of tasks, pairs and chance.
STRUCTURES = {"structured": (1.0, 0.7, 0.3), "unstructured": (0.3, 0.3, 1.0)}
SETTINGS = [
    (spread, noise, structure) for spread, noise in ((2.0, 1.0), (2.0, 2.0), (1.0, 2.0)) for structure in STRUCTURES
]
SEEDS = 3  # of the exhaustive search
INHERITED = 0.5  # share of the variance of a run that is luck of its stages, which chains over them share
DECAY = 0.6
STOPPED_AT, STOPPED_BY = 0.9, 0.5  # probability, and share of the exhaustive cost


class Everything(KnowledgeGradient):
    """All runs are measured; the model chooses."""

    def runs(self, state: State) -> list[Run]:
        """What is missing."""
        return state.pending(all_runs(state.candidates(), state.seeds))


@dataclass(frozen=True)
class World:
    """A table of runs, with what is true of its orderings.

    Attributes:
        tasks, length, seeds: of the search.
        prices: what runs cost.
        values: run -> what the search sees, in points.
        truth: ordering -> its accuracy in points.
        noise: standard deviation of a run.
        group: worlds of one group are not independent.
    """

    tasks: tuple[str, ...]
    length: int
    seeds: tuple[int, ...]
    prices: Prices
    values: Mapping[Run, float]
    truth: Mapping[Ordering, float]
    noise: float
    group: int


@dataclass(frozen=True)
class Outcome:
    """How one search ended: see the module."""

    regret: float
    within: bool
    place: int
    gain: float
    share: float
    group: int
    stated: float | None = None
    right: bool | None = None


def replay(strategy: Strategy, world: World, budget: float, tolerance: float = 1.0) -> Outcome:
    """A search in a world."""
    exhaustive = world.prices.exhaustive(world.length, len(world.seeds))
    state = State(world.tasks, world.length, world.seeds, world.prices, budget=budget * exhaustive)
    while runs := strategy.runs(state):
        for run in runs:
            state.tell(run, world.values[run])
    chosen = strategy.choice(state)
    truths = np.array(list(world.truth.values()))
    value = world.truth[chosen] if chosen else float(truths.mean())
    stated = strategy.probability(state) if isinstance(strategy, KnowledgeGradient) else None
    regret = float(truths.max() - value)
    return Outcome(
        regret=regret,
        within=regret <= world.noise,
        place=1 + int((truths > value).sum()),
        gain=float(value - truths.mean()),
        share=state.spent / exhaustive,
        group=world.group,
        stated=stated,
        right=None if stated is None else regret <= tolerance,
    )


# ---- worlds


def simulated(repeat: int, spread: float, noise: float, weights: Sequence[float], num_tasks: int) -> World:
    """A world with a known truth: see `SETTINGS`."""
    names = tuple(f"task-{number}" for number in range(num_tasks))
    orderings = orderings_of(names, range(1, 4))
    number = {name: place for place, name in enumerate(names)}
    generator = np.random.default_rng(repeat)
    alone, paired = generator.normal(size=num_tasks), generator.normal(size=(num_tasks, num_tasks))
    raw = []
    for ordering in orderings:
        chain = [number[name] for name in ordering]
        decays = [DECAY ** (len(chain) - 1 - place) for place in range(len(chain))]
        by_task = sum(alone[task] * decay for task, decay in zip(chain, decays, strict=True))
        by_pair = sum(paired[a, b] * decay for (a, b), decay in zip(itertools.pairwise(chain), decays[1:], strict=True))
        raw.append(weights[0] * by_task + weights[1] * by_pair + weights[2] * generator.normal())
    truth = (np.array(raw) - np.mean(raw)) / np.std(raw) * spread + 60
    seeds = tuple(range(SEEDS))
    luck = np.random.default_rng(10_000 + repeat)
    of_seed = {seed: luck.normal() for seed in seeds}
    of_stage: dict[Run, float] = {}
    values = {}
    for ordering, true in zip(orderings, truth, strict=True):
        decays = [DECAY ** (len(ordering) - end) for end in range(1, len(ordering) + 1)]
        for seed in seeds:
            stages = [of_stage.setdefault((ordering[:end], seed), luck.normal()) for end in range(1, len(ordering) + 1)]
            inherited = float(np.dot(decays, stages)) / math.sqrt(float(np.dot(decays, decays)))
            own = math.sqrt(INHERITED) * inherited + math.sqrt(1 - INHERITED) * luck.normal()
            values[ordering, seed] = true + of_seed[seed] + noise * own
    prices = Prices(dict.fromkeys(names, 1.0), dict.fromkeys(names, 1.0), 0.5)
    return World(names, 3, seeds, prices, values, dict(zip(orderings, truth.tolist(), strict=True)), noise, repeat)


@dataclass(frozen=True)
class Table:
    """A measured table.

    Attributes:
        name: of its file.
        tasks, length, seeds: of the ranking.
        seen, judged: run -> validation and test accuracy in points.
        noise: standard deviation of a run on the test images, pooled over the orderings.
    """

    name: str
    tasks: tuple[str, ...]
    length: int
    seeds: tuple[int, ...]
    seen: Mapping[Run, float]
    judged: Mapping[Run, float]
    noise: float

    @classmethod
    def read(cls, path: Path, judge: str) -> Table:
        """From a document; chains that lack a seed are an error."""
        document = json.loads(path.read_text(encoding="utf-8"))
        rows = {(row["task"],): row["runs"] for row in document["tasks"]}
        rows |= {tuple(row["ordering"]): row["runs"] for row in document["orderings"]}
        seeds = tuple(document["seeds"])
        seen = {(name, run["seed"]): 100 * run["validation"] for name, runs in rows.items() for run in runs}
        figure = "balanced_accuracy" if judge == "test" else "validation"
        judged = {(name, run["seed"]): 100 * run[figure] for name, runs in rows.items() for run in runs}
        matrix = np.array([[judged[name, seed] for seed in seeds] for name in rows])
        noise = math.sqrt(float(matrix.var(axis=1, ddof=1).mean()))
        tasks = tuple(sorted(name[0] for name in rows if len(name) == 1))
        return cls(path.stem, tasks, max(map(len, rows)), seeds, seen, judged, noise)

    def world(self, repeat: int, num_seen: int, measure: float) -> World:
        """One of the ways to show a search some of the seeds and to judge it by the others."""
        ways = list(itertools.permutations(self.seeds, num_seen))
        shown = ways[int(np.random.default_rng(repeat // len(ways)).permutation(len(ways))[repeat % len(ways)])]
        others = [seed for seed in self.seeds if seed not in shown]
        orderings = list(dict.fromkeys(name for name, _ in self.seen))
        truth = {name: float(np.mean([self.judged[name, seed] for seed in others])) for name in orderings}
        values = {(name, at): self.seen[name, seed] for name in orderings for at, seed in enumerate(shown)}
        prices = Prices(dict.fromkeys(self.tasks, 1.0), dict.fromkeys(self.tasks, 1.0), measure)
        group = list(itertools.combinations(self.seeds, num_seen)).index(tuple(sorted(shown)))
        return World(self.tasks, self.length, tuple(range(num_seen)), prices, values, truth, self.noise, group)


# ---- many replays


Work = tuple[str, dict[str, Any], int, str, float]


def _outcome(work: Work) -> Outcome:
    kind, how, repeat, strategy, budget = work
    if kind == "simulation":
        world = simulated(repeat, **how)
    else:
        world = Table.read(Path(how["path"]), how["judge"]).world(repeat, how["seen"], how["measure"])
    if strategy == "stopping":
        return replay(KnowledgeGradient(confidence=STOPPED_AT), world, budget)
    return replay((STRATEGIES | BOUNDS)[strategy](zlib.crc32(f"{repeat}".encode())), world, budget)


def table_of(
    kind: str, how: dict[str, Any], strategies: Sequence[str], budgets: Sequence[float], repeats: int, pool: Any
) -> list[dict[str, Any]]:
    """A row for each bound, and each strategy and budget; differences are paired by replay."""
    rows: list[dict[str, Any]] = []

    def add(name: str, budget: float, known: Mapping[str, list[Outcome]]) -> list[Outcome]:
        work = [(kind, how, repeat, name, budget) for repeat in range(repeats)]
        each: list[Outcome] = pool.map(_outcome, work, chunksize=4)
        row = {"strategy": name, "budget": budget, **summary(each)}
        row |= {key: mean_and_ends(_less(each, other), [o.group for o in each]) for key, other in known.items()}
        rows.append(row)
        print(*(f"{key} {_shown(value)}" for key, value in row.items()), flush=True)
        return each

    everything: dict[str, list[Outcome]] = {}
    for name in BOUNDS:
        everything.setdefault("more_than_all", add(name, 1.0, everything))
    for budget in budgets:
        known = dict(everything)
        for name in sorted(strategies, key=lambda name: name != KNOWLEDGE_GRADIENT):
            each = add(name, budget, known)
            if name == KNOWLEDGE_GRADIENT:
                known["more_regret"] = each
    return rows


def _less(each: Sequence[Outcome], other: Sequence[Outcome]) -> list[float]:
    return [ours.regret - theirs.regret for ours, theirs in zip(each, other, strict=True)]


def stopping(how: dict[str, Any], repeats: int, pool: Any) -> dict[str, Any]:
    """The search that ends when it is sure, or at half of the cost: how often it is right, and what it spends."""
    work = [("simulation", how, repeat, "stopping", STOPPED_BY) for repeat in range(repeats)]
    each = pool.map(_outcome, work, chunksize=4)
    sure = [outcome for outcome in each if (outcome.stated or 0) >= STOPPED_AT]
    row = {
        "sure": len(sure) / len(each),
        "stated": float(np.mean([outcome.stated for outcome in sure])) if sure else None,
        "right": share_and_ends([bool(outcome.right) for outcome in sure]),
        "share": float(np.mean([outcome.share for outcome in each])),
    }
    print("ends at", STOPPED_AT, *(f"{key} {_shown(value)}" for key, value in row.items()), flush=True)
    return row


def summary(each: Sequence[Outcome]) -> dict[str, Any]:
    """Means over replays, with 95 % intervals."""
    groups = [outcome.group for outcome in each]
    alone = len(set(groups)) == len(groups)
    within = [outcome.within for outcome in each]
    row: dict[str, Any] = {
        "regret": mean_and_ends([outcome.regret for outcome in each], groups),
        "within": share_and_ends(within) if alone else mean_and_ends(within, groups),
        "place": float(np.mean([outcome.place for outcome in each])),
        "gain": float(np.mean([outcome.gain for outcome in each])),
        "share": float(np.mean([outcome.share for outcome in each])),
    }
    if each[0].stated is not None:
        row["stated"] = float(np.mean([outcome.stated for outcome in each]))
        row["right"] = float(np.mean([outcome.right for outcome in each]))
    return row


def mean_and_ends(values: Sequence[float], groups: Sequence[int]) -> list[float]:
    """Mean and ends of its 95 % interval, by Student's t over the means of groups."""
    numbers = np.array(groups)
    means = [float(np.mean(np.array(values)[numbers == group])) for group in sorted(set(groups))]
    mean, num = float(np.mean(means)), len(means)
    half = float(stats.t.ppf(0.975, num - 1) * np.std(means, ddof=1) / math.sqrt(num)) if num > 1 else math.nan
    return [mean, mean - half, mean + half]


def share_and_ends(values: Sequence[bool]) -> list[float] | None:
    """Share and ends of its exact 95 % interval."""
    if not values:
        return None
    interval = stats.binomtest(sum(values), len(values)).proportion_ci()
    return [sum(values) / len(values), float(interval.low), float(interval.high)]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, list):
        return f"{value[0]:.2f} ({value[1]:.2f} to {value[2]:.2f})"
    return str(value)


def main() -> None:
    """Read the command line, replay, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulation", action="store_true", help="worlds whose truth is known")
    parser.add_argument("--num-tasks", type=int, default=4, help="of the simulation")
    parser.add_argument("--tables", type=Path, nargs="*", default=[], help="documents of sslcurr rank")
    parser.add_argument("--strategies", default=",".join(STRATEGIES), help="separated by commas")
    parser.add_argument("--budget", default="0.05,0.1,0.25", help="shares of the exhaustive cost")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--seen", type=int, default=SEEDS, help="seeds of a table that a search sees")
    parser.add_argument("--judge", choices=["test", "validation"], default="test", help="images of the other seeds")
    parser.add_argument("--measure", type=float, default=0.5, help="cost of a fine-tuning; that of a stage is 1")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    asked = parser.parse_args()
    names, budgets = asked.strategies.split(","), [float(each) for each in asked.budget.split(",")]
    worlds: list[dict[str, Any]] = []
    with multiprocessing.Pool(asked.processes) as pool:
        for spread, noise, structure in SETTINGS if asked.simulation else []:
            print(f"simulation: orderings {spread:g}, a run {noise:g} points, {structure}", flush=True)
            how = {"spread": spread, "noise": noise, "weights": STRUCTURES[structure], "num_tasks": asked.num_tasks}
            rows = table_of("simulation", how, names, budgets, asked.repeats, pool)
            ended = stopping(how, asked.repeats, pool) if KNOWLEDGE_GRADIENT in names else None
            worlds.append({"simulation": how | {"structure": structure}, "rows": rows, "stopping": ended})
        for path in asked.tables:
            table = Table.read(path, asked.judge)
            print(f"{table.name}: a run {table.noise:.2f} points", flush=True)
            how = {"path": str(path), "judge": asked.judge, "seen": asked.seen, "measure": asked.measure}
            rows = table_of("table", how, names, budgets, asked.repeats, pool)
            worlds.append({"table": table.name, "noise": table.noise, **how, "rows": rows})
    write(asked.json, "search", worlds, packages=["numpy", "scipy"], repeats=asked.repeats)


if __name__ == "__main__":
    main()
