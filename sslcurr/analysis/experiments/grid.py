"""How many images and how many labels: the study's Table 1 (arXiv 2112.12086, section on the size of the data set)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict

from sslcurr.analysis.experiments.chains import Chain, Chains, FailedChain, Shares, figures_of
from sslcurr.analysis.experiments.ranking import SCRATCH, summary
from sslcurr.analysis.measures.comparisons import Comparisons
from sslcurr.analysis.results.estimate import Difference, target_name
from sslcurr.analysis.results.grid.document import Cell, GridDocument, Halving
from sslcurr.analysis.results.ranking.document import Ordering
from sslcurr.errors import SpecError
from sslcurr.spec.stage import StageSpec


def check_fractions(name: str, fractions: Sequence[float]) -> None:
    """Raise SpecError unless all are in (0, 1], none twice."""
    if not fractions or any(not 0 < share <= 1 for share in fractions) or len(set(fractions)) < len(fractions):
        shown = ",".join(f"{share:g}" for share in fractions)
        raise SpecError(f"{name} must be different shares in (0, 1], got {shown!r}", f"give {name} 1,0.5,0.25,0.125")


def cells_of(label_fractions: Sequence[float], ssl_fractions: Sequence[float], *, baseline: bool) -> list[Shares]:
    """The cells of the table, column by column: pretraining never has fewer images than classification has labels.

    Raises:
        SpecError: a share of the labels would have no cell.
    """
    if not baseline and (lonely := [label for label in label_fractions if label > max(ssl_fractions)]):
        raise SpecError(
            f"no share of the images is as large as that of the labels, {lonely[0]:g}",
            f"give --ssl-fractions with {lonely[0]:g}, or --baseline scratch",
        )
    cells = [Shares(label, None) for label in label_fractions] if baseline else []
    return cells + [Shares(label, ssl) for ssl in ssl_fractions for label in label_fractions if ssl >= label]


class Grid:
    """Trains a chain on nested stratified subsets; a pretraining serves all classifiers of its column.

    Args:
        chains: trains and measures.
        tasks: the chain's pretext tasks.
        seeds: each cell is trained with each.
        label_fractions: shares of the labels.
        ssl_fractions: shares of the images of pretraining.
        baseline: whether each share of the labels is trained from scratch, too.
        chain_done: called after every measured or failed chain, with its cell.

    Raises:
        SpecError: a share is not in (0, 1], is there twice, or would have no cell.
    """

    def __init__(
        self,
        chains: Chains,
        tasks: Sequence[str],
        seeds: Sequence[int],
        label_fractions: Sequence[float],
        ssl_fractions: Sequence[float],
        *,
        baseline: bool = False,
        chain_done: Callable[[Chain, Shares], None] = lambda chain, cell: None,
    ) -> None:
        check_fractions("--ssl-fractions", ssl_fractions)
        check_fractions("--label-fractions", label_fractions)
        self.chains = chains
        self.tasks = tuple(tasks)
        self.seeds = tuple(seeds)
        self.label_fractions = tuple(label_fractions)
        self.ssl_fractions = tuple(ssl_fractions)
        self.baseline = baseline
        self.cells = cells_of(label_fractions, ssl_fractions, baseline=baseline)
        self.chain_done = chain_done
        self.measured: dict[Shares, list[Chain]] = {}

    def _ordering(self, cell: Shares) -> Ordering:
        return () if cell.ssl_fraction is None else self.tasks

    def specs(self) -> list[list[StageSpec]]:
        """The stages of every chain, seed by seed."""
        return [
            self.chains.specs(self._ordering(cell), seed, shares=cell) for seed in self.seeds for cell in self.cells
        ]

    def fill(self) -> None:
        """Let every cell be trained in other processes, where several are asked for."""
        for cell in self.cells:
            self.chains.fill([(self._ordering(cell), seed) for seed in self.seeds], shares=cell)

    def measure(self) -> None:
        """Train and measure every cell, seed by seed."""
        for seed in self.seeds:
            for cell in self.cells:
                chain = self.chains.run(self._ordering(cell), seed, shares=cell)
                self.measured.setdefault(cell, []).append(chain)
                self.chain_done(chain, cell)

    def document(self) -> GridDocument:
        """All that is measured so far."""
        figures = figures_of(self.measured, self.chains.images)
        compared = Comparisons(
            figures,
            baselines={cell for cell in figures if cell.ssl_fraction is None},
            lineages={cell: cell.ssl_fraction for cell in figures},
        )
        return GridDocument(
            dataset=self.chains.dataset,
            split=self.chains.split,
            ssl_fractions=list(self.ssl_fractions),
            label_fractions=list(self.label_fractions),
            baseline=SCRATCH if self.baseline else None,
            tasks=list(self.tasks),
            seeds=list(self.seeds),
            cells=[
                Cell(
                    label_fraction=cell.label_fraction,
                    ssl_fraction=cell.ssl_fraction,
                    **asdict(summary(chains, compared, None, cell)),
                    gain=self._gain(cell, compared),
                )
                for cell, chains in self.measured.items()
            ],
            halving=_halving(compared),
            failed=[
                chain.failure()
                for chains in self.measured.values()
                for chain in chains
                if isinstance(chain, FailedChain)
            ],
            target=target_name(self.chains.target),
        )

    def _gain(self, cell: Shares, compared: Comparisons[Shares]) -> Difference | UnsetType:
        """Over training from scratch with the same labels; unset for that itself, and without a baseline."""
        if not self.baseline or cell.ssl_fraction is None:
            return UNSET
        return Difference.of(compared.difference(Shares(cell.label_fraction, None), cell))


def _halving(compared: Comparisons[Shares]) -> Halving:
    """What half the labels and half the images of pretraining cost: the slopes of a least-squares plane."""
    cells = [cell for cell in compared.samples if cell.ssl_fraction is not None]
    shares = np.array([[np.log2(label), np.log2(ssl or 1.0)] for label, ssl in cells]).reshape(-1, 2)
    design = np.column_stack([np.ones(len(cells)), shares])
    if len(cells) < 3 or np.linalg.matrix_rank(design) < 3:
        return Halving(labels=None, images=None)
    slopes = np.linalg.pinv(design)[1:3]
    labels, images = (
        Difference.of(compared.weighted(dict(zip(cells, -slope, strict=True)), ends=(-np.inf, np.inf)))
        for slope in slopes
    )
    return Halving(labels=labels, images=images)
