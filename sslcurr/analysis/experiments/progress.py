"""How far many chains are: counts them, tells each as it is measured, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sslcurr.analysis.experiments.chains import Chain, Chains, MeasuredChain
from sslcurr.analysis.experiments.ranking import Results
from sslcurr.analysis.results.ranking.document import Ordering
from sslcurr.engine.plan import Parent
from sslcurr.progress import Reporter
from sslcurr.wording import arrow


class ChainsProgress:
    """Counts the chains of a ranking and tells each as it is measured.

    Args:
        report: is told a line for every chain.
        chains: trains and measures them.
        show: called with the results so far after every chain.
    """

    def __init__(self, report: Reporter, chains: Chains, show: Callable[[Results], None] | None = None) -> None:
        self.report = report
        self.chains = chains
        self.show = show
        self.done = 0
        self.total = 0
        self.missing = 0  # chains whose last stage was not there
        self.durations: list[float] = []  # of the chains that were trained
        self.num_trained = 0
        self.last = time.monotonic()

    def expect(
        self,
        orderings: Sequence[Ordering],
        seeds: Sequence[int],
        reference: Parent | None = None,
        chains: Chains | None = None,
    ) -> None:
        """These chains are to come; `chains` are those of another setting, which share their store."""
        specs = [(chains or self.chains).specs(ordering, seed) for seed in seeds for ordering in orderings]
        if reference is not None:
            specs += [self.chains.specs((), seed, reference) for seed in seeds]
        self.total += len(specs)
        self.missing += sum(self.chains.missing(each) for each in specs)
        self.num_trained = len(self.chains.trained)
        self.last = time.monotonic()

    def chain_done(self, chain: Chain, results: Results, setting: str = "") -> None:
        """A chain was measured, or failed; `setting` says under which one, where there are several."""
        self.done += 1
        if len(self.chains.trained) > self.num_trained:
            self.durations.append(time.monotonic() - self.last)
            self.missing -= 1
        self.num_trained, self.last = len(self.chains.trained), time.monotonic()
        name = f"{setting}: " * bool(setting) + (arrow(chain.ordering) or "no pretext task")
        result = f"{100 * chain.score:.1f} %" if isinstance(chain, MeasuredChain) else f"failed: {chain.reason}"
        minutes = self.missing * sum(self.durations) / max(1, len(self.durations)) / 60
        left = f" (about {minutes:.0f} min left)" if minutes >= 2 else ""
        self.report.say(f"[{self.done}/{self.total}] {name}, seed {chain.seed}: {result}{left}")
        if self.show is not None:
            self.show(results)
