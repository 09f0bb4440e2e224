"""What the intervals of the program cover, and what they tell apart: a simulation of tables of chains.

    python benchmarks/statistics.py --repeats 200 --json FILE

An image has a difficulty that all chains share, and one of its own for each chain. A run adds luck (its seed), and
chance for each image. A run names an image rightly where the sum is above 0, so the expected accuracy of a chain is
known.
Each table of K chains, S seeds and N images is judged by three rules:

    old         bootstrap of images and seeds, percentiles: what version 0.1.0 did
    plain       the intervals of `analysis/measures/intervals.py`, where each chain has nothing but its own seeds
    sslcurr     the same, where the chains of a table share their luck as `rank` has it

Columns: how often the true value lies inside (mean of a chain, mean of the baseline, gain over the baseline, difference
of two chains), how often two equal chains are told apart, the mean half width of a difference in points, and how often
true differences of 1, 2 and 4 points are told apart. Behind each is twice its own standard error over the tables.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from sslcurr.analysis.measures import intervals

Floats = NDArray[np.float64]

POINTS = (1, 2, 4)
RULES = ("old", "plain", "sslcurr")
RESAMPLES = 200
OLD = 5  # chains that are judged by the old rule: it takes long
COLUMNS = ("mean", "baseline", "gain", "difference", "falsely", "half_width", *(f"power_{p}" for p in POINTS))


@dataclass(frozen=True)
class World:
    """How tables are made.

    Attributes:
        num_images, num_seeds, num_chains: N, S and K; the baseline comes on top.
        luck: standard deviation of a seed's luck, in units of the images' difficulties; 0.05 is 1.3 points.
        baseline_luck: how many times that the baseline's is.
        unequal: chains' luck is up to so many times `luck`, evenly on a log scale.
        common: standard deviation of the luck that a seed brings to all chains.
        inherited: share of the luck (its variance) that chains of one first stage have in common.
        chance: standard deviation of what a run adds to each image by itself; with next to none, seeds tie.
        easy: mean of the difficulties: 0.6 is an accuracy of 70 %.
        group: images in a group, which share half of the variance of their difficulty.
    """

    num_images: int
    num_seeds: int
    num_chains: int
    luck: float = 0.05
    baseline_luck: float = 1.0
    unequal: float = 1.0
    common: float = 0.0
    inherited: float = 0.0
    chance: float = 0.5
    easy: float = 0.6
    group: int = 1


CLASSES = (0.4, 0.3, 0.2, 0.1)  # shares of the images
OWN = 0.3  # standard deviation of what a chain adds to the difficulty of an image


def first_stages(world: World) -> list[int]:
    """Of each chain: four chains share one where luck is inherited, else each has its own."""
    return [k // 4 if world.inherited else k for k in range(world.num_chains)]


def lucks(world: World, rng: np.random.Generator) -> Floats:
    """Standard deviations of the luck of the baseline and the chains."""
    factor = np.exp(rng.uniform(0, np.log(world.unequal), world.num_chains)) if world.unequal > 1 else 1.0
    return world.luck * np.concatenate([[world.baseline_luck], np.ones(world.num_chains) * factor])


def shift_of(points: float, easy: float, scale: float) -> float:
    """What to add to the difficulty so that the expected accuracy rises by so many points."""
    base = stats.norm.cdf(easy / scale)
    return float(optimize.brentq(lambda x: stats.norm.cdf((easy + x) / scale) - base - points / 100, 0, 3))


def draw(
    world: World, rng: np.random.Generator, points: Floats
) -> tuple[Floats, Floats, Floats, NDArray[np.intp] | None]:
    """[1 + K, S, N] of 0 and 1 with the baseline first, the true accuracies [1 + K], [N] classes and groups.

    Args:
        world: how.
        rng: the generator.
        points: [1 + K] how many points each chain is better than the baseline.
    """
    n, s, k = world.num_images, world.num_seeds, world.num_chains
    classes = np.searchsorted(np.cumsum(CLASSES)[:-1], (np.arange(n) + 0.5) / n, side="right")
    groups = None if world.group == 1 else np.arange(n) // world.group
    difficulty = rng.normal(0, 1, n)
    if groups is not None:
        difficulty = np.sqrt(0.5) * difficulty + np.sqrt(0.5) * rng.normal(0, 1, groups.max() + 1)[groups]
    sd = lucks(world, rng)
    stages = np.array(first_stages(world))
    shared = rng.normal(0, 1, (stages.max() + 1, s))[stages]
    drawn = rng.normal(0, 1, (k + 1, s))
    drawn[1:] = np.sqrt(1 - world.inherited) * drawn[1:] + np.sqrt(world.inherited) * shared
    luck = drawn * sd[:, None] + rng.normal(0, world.common, s)
    scales = np.sqrt(1 + OWN**2 + world.chance**2 + world.common**2 + sd**2)
    shifts = np.array([shift_of(p, world.easy, scale) if p else 0.0 for p, scale in zip(points, scales, strict=True)])
    latent = world.easy + difficulty + rng.normal(0, OWN, (k + 1, 1, n)) + (luck + shifts[:, None])[..., None]
    right = (latent + rng.normal(0, world.chance, (k + 1, s, n)) > 0).astype(float)
    return right, stats.norm.cdf((world.easy + shifts) / scales), classes, groups


# ---- the rules


Judged = tuple[tuple[float, float], ...]


def old_rule(right: Floats, classes: Floats, groups: Floats | None, rng: np.random.Generator) -> Floats:
    """[R, 1 + K] resampled balanced accuracies: images (or groups) and seeds drawn with replacement."""
    units = np.arange(right.shape[2]) if groups is None else groups
    num_units, num_seeds = int(units.max()) + 1, right.shape[1]
    weights = rng.multinomial(num_units, np.full(num_units, 1 / num_units), RESAMPLES)[:, units].astype(float)
    times = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), RESAMPLES) / num_seeds
    recalls = []
    for c in np.unique(classes):
        at = classes == c
        drawn = weights[:, at]
        of_seeds = (drawn @ right[:, :, at].reshape(-1, at.sum()).T).reshape(len(drawn), -1, num_seeds)
        total = drawn.sum(axis=1)
        recalls.append((of_seeds @ times[:, :, None])[:, :, 0] / np.where(total > 0, total, np.nan)[:, None])
    return np.nanmean(recalls, axis=0)


def judge(
    world: World, rng: np.random.Generator, points: Floats, rules: tuple[str, ...] = RULES
) -> dict[str, dict[str, list[float]]]:
    """Rule -> column -> values of one table."""
    right, truth, classes, groups = draw(world, rng, points)
    layout = intervals.Images.of(world.num_images, classes=classes, groups=groups)
    figures = [intervals.sample(each, layout) for each in right]
    chains = range(1, len(figures))
    # Neighbours, and for the power pairs that differ by as many points.
    pairs = [(a, a + 1) for a in chains[:-1]]
    apart = {p: [(a, b) for a in chains for b in chains if round(points[b] - points[a]) == p] for p in POINTS}
    found: dict[str, dict[str, list[float]]] = {}
    resampled = old_rule(right[: 1 + OLD], classes, groups, rng) if "old" in rules else np.zeros((0, 0))
    luck = intervals.luck_of(figures[1:], first_stages(world))
    if luck is not None:
        for_baseline = luck if luck.lends_to(figures[0]) else None

    def ends(rule: str, a: int, b: int | None = None) -> tuple[float, float]:
        if rule == "old":
            column = resampled[:, a] if b is None else resampled[:, b] - resampled[:, a]
            low, high = np.nanquantile(column, [0.025, 0.975])
            return float(low), float(high)
        figure = figures[a] if b is None else intervals.difference(figures[a], figures[b])
        assert figure is not None
        lent = None if rule == "plain" else for_baseline if a == 0 else luck
        return intervals.interval_of(figure, lent) or (np.nan, np.nan)

    def inside(ends: tuple[float, float], value: float) -> float:
        return float(ends[0] <= value <= ends[1])

    for rule in rules:
        shown = [a for a in chains if rule != "old" or a <= OLD]
        columns: dict[str, list[float]] = {name: [] for name in COLUMNS}
        columns["baseline"] = [inside(ends(rule, 0), truth[0])]
        for a in shown:
            columns["mean"].append(inside(ends(rule, a), truth[a]))
            columns["gain"].append(inside(ends(rule, 0, a), truth[a] - truth[0]))
        for a, b in pairs[: len(shown) - 1]:
            low, high = ends(rule, a, b)
            columns["difference"].append(inside((low, high), truth[b] - truth[a]))
            columns["half_width"].append(50 * (high - low))
            if points[a] == points[b]:
                columns["falsely"].append(1 - inside((low, high), 0.0))
        for p in POINTS:
            columns[f"power_{p}"] = [
                1 - inside(ends(rule, a, b), 0.0) for a, b in apart[p] if a in shown and b in shown
            ][:20]
        found[rule] = columns
    return found


def simulate(
    world: World, repeats: int, rules: tuple[str, ...] = RULES, seed: int = 0, *, power: bool = True
) -> dict[str, dict[str, tuple[float, float]]]:
    """Rule -> column -> (mean, standard error over the tables): of tables of equal chains, for the power of others."""
    rng = np.random.default_rng(seed)
    equal = np.zeros(1 + world.num_chains)
    better = np.concatenate([[0.0], np.resize([0.0, 1.0, 2.0, 4.0, 0.0], world.num_chains)])
    tables: dict[str, dict[str, list[float]]] = {rule: {name: [] for name in COLUMNS} for rule in rules}
    for _ in range(repeats):
        judged = [(judge(world, rng, equal, rules), COLUMNS[:-3])]
        if power:
            judged.append((judge(world, rng, better, rules), COLUMNS[-3:]))
        for found, names in judged:
            for rule, name in itertools.product(rules, names):
                if found[rule][name]:
                    tables[rule][name].append(float(np.mean(found[rule][name])))
    return {
        rule: {
            name: (float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values))))
            for name, values in columns.items()
            if values
        }
        for rule, columns in tables.items()
    }


KINDS = {
    "equal luck": {},
    "baseline with five times the luck": {"baseline_luck": 5.0},
    "luck of one to five times": {"unequal": 5.0},
    "ties": {"luck": 0.005, "chance": 0.05},
    "luck common to a seed": {"common": 0.025},
    "inherited luck": {"inherited": 0.5},
    "accuracy of 95 %": {"easy": 1.9},
    "groups of four": {"group": 4},
}


# Kinds in every size; the others in some.
WHOLE = ("equal luck", "baseline with five times the luck", "luck of one to five times", "ties")


def worlds() -> Iterator[tuple[str, World]]:
    """Every kind, with 126 to 5,000 images, 2, 3 and 5 seeds, 5 and 20 chains."""
    for kind, settings in KINDS.items():
        for num_images in (126, 265, 2000, 5000) if kind in WHOLE else (265, 2000):
            for num_seeds in (2, 3, 5):
                for num_chains in (5, 20):
                    yield kind, replace(World(num_images, num_seeds, num_chains), **settings)


def line_of(kind: str, world: World, rule: str, columns: dict[str, tuple[float, float]]) -> str:
    """A line of the table."""
    cells = []
    for name, (mean, error) in columns.items():
        cells.append(f"{mean:5.2f}" if name == "half_width" else f"{mean:5.3f} ± {2 * error:5.3f}")
    return f"{kind:34s} {world.num_images:5d} {world.num_seeds} {world.num_chains:3d} {rule:8s} " + "  ".join(cells)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200, help="tables of each kind and size")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS), help="which kinds")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    chosen = [(kind, world) for kind, world in worlds() if kind in args.kinds]
    rows = []
    print(f"{'kind':34s} images seeds chains rule; " + ", ".join(COLUMNS))
    with ProcessPoolExecutor(args.jobs) as pool:
        found = pool.map(simulate, [world for _, world in chosen], itertools.repeat(args.repeats))
        for (kind, world), by_rule in zip(chosen, found, strict=True):
            for rule, columns in by_rule.items():
                print(line_of(kind, world, rule, columns), flush=True)
                rows.append({"kind": kind, **vars(world), "rule": rule, "repeats": args.repeats, "figures": columns})
            if args.json:
                args.json.write_text(json.dumps(rows) + "\n")


if __name__ == "__main__":
    main()
