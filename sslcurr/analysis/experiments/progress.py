"""How far many chains are: counts them, and tells each as it is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sslcurr.analysis.experiments.chains import Chain, Chains, FailedChain, MeasuredChain
from sslcurr.analysis.experiments.ranking import Results
from sslcurr.analysis.results.ranking.document import Ordering
from sslcurr.engine.plan import Parent
from sslcurr.progress import Reporter
from sslcurr.spec.stage import key_of
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

    def expect(
        self,
        orderings: Sequence[Ordering],
        seeds: Sequence[int],
        reference: Parent | None = None,
    ) -> None:
        """These chains are to come, at each seed; `reference` is fine-tuned too."""
        self.total += len(seeds) * (len(orderings) + (reference is not None))

    def chain_done(self, chain: Chain, results: Results, setting: str = "", chains: Chains | None = None) -> None:
        """A chain was measured, or failed; `setting` says under which one, where there are several, and `chains` are
        those of it, which share their store."""
        self.done += 1
        if isinstance(chain, FailedChain):
            specs = (chains or self.chains).specs(chain.ordering, chain.seed)
            self.report.leaves([key for key in map(key_of, specs) if self.chains.store.find(key) is None])
        name = f"{setting}: " * bool(setting) + (arrow(chain.ordering) or "no pretext task")
        result = f"{100 * chain.score:.1f} %" if isinstance(chain, MeasuredChain) else f"failed: {chain.reason}"
        self.report.say(f"[{self.done}/{self.total}] {name}, seed {chain.seed}: {result}")
        if self.show is not None:
            self.show(results)
