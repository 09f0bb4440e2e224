"""How many images and how many labels: the study's Table 1 (arXiv 2112.12086, section on the size of the data set)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sslcurr.analysis.experiments.chains import Chains, Failure, Run, accuracies_of, resampled_of
from sslcurr.analysis.experiments.ranking import summary
from sslcurr.analysis.measures import intervals
from sslcurr.analysis.measures.intervals import Floats
from sslcurr.errors import SpecError

# A cell: the share of the labels, and that of the images of pretraining (None: no pretraining).
Cell = tuple[float, float | None]


def check_fractions(name: str, fractions: Sequence[float]) -> None:
    """Raise SpecError unless all are in (0, 1], none twice."""
    if not fractions or any(not 0 < share <= 1 for share in fractions) or len(set(fractions)) < len(fractions):
        shown = ",".join(f"{share:g}" for share in fractions)
        raise SpecError(f"{name} must be different shares in (0, 1], got {shown!r}", f"give {name} 1,0.5,0.25,0.125")


def cells_of(label_fractions: Sequence[float], ssl_fractions: Sequence[float], *, baseline: bool) -> list[Cell]:
    """The cells of the table, column by column: pretraining never has fewer images than classification has labels.

    Raises:
        SpecError: a share of the labels would have no cell.
    """
    if not baseline and (lonely := [label for label in label_fractions if label > max(ssl_fractions)]):
        raise SpecError(
            f"no share of the images is as large as that of the labels, {lonely[0]:g}",
            f"give --ssl-fractions with {lonely[0]:g}, or --baseline scratch",
        )
    cells: list[Cell] = [(label, None) for label in label_fractions] if baseline else []
    return cells + [(label, ssl) for ssl in ssl_fractions for label in label_fractions if ssl >= label]


class Grid:
    """Trains a chain on nested stratified subsets; a pretraining serves all classifiers of its column.

    Args:
        chains: trains and measures.
        tasks: the chain's pretext tasks.
        seeds: each cell is trained with each.
        cells: see `cells_of`.
        heard: called after every measured or failed chain, with its cell.
    """

    def __init__(
        self,
        chains: Chains,
        tasks: Sequence[str],
        seeds: Sequence[int],
        cells: Sequence[Cell],
        *,
        heard: Callable[[Run | Failure, Cell], None] = lambda run, cell: None,
    ) -> None:
        self.chains = chains
        self.tasks = tuple(tasks)
        self.seeds = tuple(seeds)
        self.cells = list(cells)
        self.heard = heard
        self.runs: dict[Cell, list[Run | Failure]] = {}

    def wishes(self, cell: Cell) -> tuple[tuple[str, ...], dict[str, Any]]:
        """The ordering and the shares of a cell."""
        label, ssl = cell
        if ssl is None:
            return (), {"label_fraction": label}
        return self.tasks, {"label_fraction": label, "fraction": ssl}

    def measure(self) -> None:
        """Train and measure every cell, seed by seed."""
        for seed in self.seeds:
            for cell in self.cells:
                ordering, shares = self.wishes(cell)
                run = self.chains.run(ordering, seed, **shares)
                self.runs.setdefault(cell, []).append(run)
                self.heard(run, cell)

    def document(self) -> dict[str, Any]:
        """All that is known so far, as plain values; see docs/commands.md."""
        chains = self.chains
        resampled = resampled_of(self.runs, chains.labels, chains.groups)
        cells = []
        for (label, ssl), runs in self.runs.items():
            shares = {"label_fraction": label, "ssl_fraction": ssl}
            cells.append({**shares, **summary(runs, resampled.get((label, ssl)))})
        failures = [run for runs in self.runs.values() for run in runs if isinstance(run, Failure)]
        return {
            "tasks": list(self.tasks),
            "seeds": list(self.seeds),
            "cells": cells,
            "halving": self._halving(resampled),
            "failed": [failure.to_json() for failure in failures],
        }

    def _halving(self, resampled: dict[Cell, Floats]) -> dict[str, dict[str, Any] | None]:
        """What half the labels and half the images of pretraining cost: the slopes of a least-squares plane."""
        cells = [cell for cell in resampled if cell[1] is not None]
        shares = np.array([[np.log2(label), np.log2(ssl or 1.0)] for label, ssl in cells]).reshape(-1, 2)
        design = np.column_stack([np.ones(len(cells)), shares])
        if len(cells) < 3 or np.linalg.matrix_rank(design) < 3:
            return {"labels": None, "images": None}
        means = np.array([np.mean(accuracies_of(self.runs[cell])) for cell in cells])
        columns = np.stack([resampled[cell] for cell in cells], axis=1)
        inverse = np.linalg.pinv(design)
        found: dict[str, dict[str, Any] | None] = {}
        for place, name in ((1, "labels"), (2, "images")):
            interval = intervals.interval_of(-(columns @ inverse[place]))
            found[name] = {"mean": float(-(means @ inverse[place])), "interval": list(interval) if interval else None}
        return found
