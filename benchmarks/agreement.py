"""What the intervals of `rank --over` cover: changes between two settings, and how far these order the chains alike.

    python benchmarks/agreement.py --repeats 60 --json FILE

A world has a true accuracy for every chain under both settings. In each repeat images and seeds are drawn. An image has
a difficulty that all chains share. A seed brings luck of its own under each setting and, as with one pretraining for
both settings, luck in common. It may do something to all chains under a setting. The true change is that of the
accuracies. The true tau is the mean over the repeats.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import records
from numpy.typing import NDArray
from scipy.stats import norm

from sslcurr.analysis.experiments.chains import MeasuredChain
from sslcurr.analysis.experiments.ranking import Results
from sslcurr.analysis.experiments.variants import RankedVariant, agreements, changes_between, mean_change
from sslcurr.analysis.results.estimate import Difference

WORLDS = 4  # of each row
COLUMNS = ("change", "mean change", "tau", "width of tau", "no interval of tau")


class Setup(NamedTuple):
    """Chains, seeds, images, the luck (in shares of 1) of a seed under each setting, under both, and of all chains."""

    chains: int
    seeds: int
    images: int
    luck: tuple[float, float]
    common: float
    shared: float = 0.0


SETUPS = (
    Setup(4, 3, 400, (0.02, 0.02), 0.0),
    Setup(4, 3, 400, (0.02, 0.04), 0.02),
    Setup(8, 3, 400, (0.02, 0.02), 0.02),
    Setup(8, 5, 1000, (0.02, 0.03), 0.0),
    Setup(8, 2, 1000, (0.02, 0.03), 0.02),
    Setup(20, 3, 1000, (0.02, 0.02), 0.01),
    Setup(8, 3, 1000, (0.01, 0.01), 0.0, 0.02),
)


def drawn(levels: NDArray[np.float64], setup: Setup, rng: np.random.Generator) -> list[Results]:
    """[2, K + 1] true accuracies, the baseline first -> what is measured under both settings."""
    shape = (levels.shape[1], setup.seeds)
    common, difficulty = setup.common * rng.normal(size=shape), rng.normal(size=setup.images)
    labels = np.arange(setup.images) % 2
    measured = []
    for level, luck in zip(levels, setup.luck, strict=True):
        own = luck * rng.normal(size=shape) + setup.shared * rng.normal(size=setup.seeds)
        shares = np.clip(level[:, None] + common + own, 0.02, 0.98)
        apart = norm.ppf(shares)[:, :, None] * np.sqrt(2) + difficulty + rng.normal(size=(*shape, setup.images))
        results = Results(range(setup.seeds))
        for place, correct in enumerate((apart > 0).astype(float)):
            name = (f"task {place}",) if place else ()
            accuracies = [float(np.mean([row[labels == c].mean() for c in (0, 1)])) for row in correct]
            runs = [
                MeasuredChain(name, seed, accuracy, None, row, None, Path())
                for seed, (accuracy, row) in enumerate(zip(accuracies, correct, strict=True))
            ]
            results.chains |= {name: runs} if place else {}
            results.baselines |= {} if place else {"scratch": runs}
        measured.append(results)
    return measured


def judged(setup: Setup, repeats: int, rng: np.random.Generator) -> dict[str, float]:
    """How often the true values lie inside the intervals."""
    chains: Any = SimpleNamespace(labels=np.arange(setup.images) % 2, groups=None)
    counts: Counter[str] = Counter()
    widths: list[float] = []
    for _ in range(WORLDS):
        first = 0.6 + 0.06 * rng.normal(size=setup.chains + 1)
        levels = np.stack([first, first + 0.03 + 0.03 * rng.normal(size=setup.chains + 1)])
        change, entries = levels[1] - levels[0], []
        for _ in range(repeats):
            measured = drawn(levels, setup, rng)
            changes = changes_between(measured[0], measured[1], chains)
            for place in range(1, setup.chains + 1):
                paired = changes.weighted({(f"task {place}",): 1.0}, ends=(-1.0, 1.0))
                counts["change"] += holds(None if paired is None else paired.interval, change[place])
            mean = mean_change(changes)
            counts["mean change"] += holds(mean.interval if isinstance(mean, Difference) else None, change[1:].mean())
            entries += agreements([variant(name, chains, each) for name, each in zip("ab", measured, strict=True)])
        truth = float(np.mean([entry.tau for entry in entries if entry.tau is not None]))
        known = [entry.interval for entry in entries if entry.interval is not None]
        counts["tau"] += sum(holds(interval, truth) for interval in known)
        counts["known"] += len(known)
        widths += [high - low for low, high in known]
    tables = WORLDS * repeats
    return {
        "change": counts["change"] / tables / setup.chains,
        "mean change": counts["mean change"] / tables,
        "tau": counts["tau"] / counts["known"],
        "width of tau": float(np.mean(widths)),
        "no interval of tau": 1 - counts["known"] / tables,
    }


def variant(name: str, chains: Any, results: Results) -> RankedVariant:
    """What is measured under a setting, without anything that trains."""
    ranking: Any = SimpleNamespace(chains=chains, results=results, seeds=results.seeds)
    return RankedVariant({"setting": name}, ranking)


def holds(interval: Sequence[float] | None, value: float) -> bool:
    """Whether a value lies in an interval."""
    return interval is not None and interval[0] - 1e-9 <= value <= interval[1] + 1e-9


def main() -> None:
    """Simulate, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    print("| chains, seeds, images, luck, common, shared |", " | ".join(COLUMNS), "|")
    print("|", " | ".join(["---"] * (len(COLUMNS) + 1)), "|")
    for number, setup in enumerate(SETUPS):
        found = judged(setup, arguments.repeats, np.random.default_rng([0, number]))
        rows.append({**setup._asdict(), **{name: round(value, 3) for name, value in found.items()}})
        print("|", ", ".join(map(str, setup)), "|", " | ".join(f"{found[name]:.3f}" for name in COLUMNS), "|")
    records.write(arguments.json, "intervals of rank --over", rows, packages=["numpy", "scipy"], worlds=WORLDS)


if __name__ == "__main__":
    main()
