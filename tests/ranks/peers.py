"""A rank of two that compares lightly's losses under gather with ours: see test_lightly.py.

python -m tests.ranks.peers RANK PORT FILE    (the first rank writes FILE)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightly.loss import BarlowTwinsLoss, NegativeCosineSimilarity, NTXentLoss, VICRegLoss
from lightly.models.modules.center import Center
from torch import Tensor
from torch.distributed import TCPStore

from sslcurr.engine import ranks
from sslcurr.tasks.barlow_twins import redundancy
from sslcurr.tasks.embedding import negative_cosine
from sslcurr.tasks.simclr import nt_xent
from sslcurr.tasks.vicreg import terms

Pair = Callable[[Tensor, Tensor], Tensor]
ROWS, DIM = 6, 5


def ours(world: Any) -> dict[str, Pair]:
    """The losses of the tasks, as these compute them."""

    def simclr(a: Tensor, b: Tensor) -> Tensor:
        rows = torch.cat([F.normalize(a, dim=1), F.normalize(b, dim=1)])
        return nt_xent(world.gather(rows), 0.2)[0]

    def vicreg(a: Tensor, b: Tensor) -> Tensor:
        invariance, variance, covariance = terms(world.gather(a), world.gather(b))
        return 25 * invariance + 25 * variance + covariance

    return {
        "NT-Xent": simclr,
        "Barlow Twins": lambda a, b: redundancy(world.gather(a), world.gather(b), 0.01),
        "VICReg": vicreg,
        "negative cosine": negative_cosine,
    }


def theirs(*, gather: bool) -> dict[str, Pair]:
    """Those of lightly."""
    return {
        "NT-Xent": NTXentLoss(temperature=0.2, gather_distributed=gather),
        "Barlow Twins": BarlowTwinsLoss(lambda_param=0.01, gather_distributed=gather),
        "VICReg": VICRegLoss(nu_param=1.0, gather_distributed=gather),
        "negative cosine": lambda a, b: NegativeCosineSimilarity()(a, b.detach()),
    }


def differences(loss: Pair, whole: Pair, pairs: tuple[Tensor, Tensor], share: float, world: Any) -> dict[str, float]:
    """How far the loss and the gradients of both ranks are from those of one process, relative to these."""
    every = [x.clone().requires_grad_() for x in pairs]
    expected = whole(every[0], every[1])
    expected.backward()
    mine = [world.rows(x).clone().requires_grad_() for x in pairs]
    value = loss(mine[0], mine[1])
    (share * value).backward()
    total = world.sum(share * value.detach())
    learnt = [(x, y) for x, y in zip(mine, every, strict=True) if y.grad is not None]
    off = [float((world.gather(x.grad) - y.grad).norm() / y.grad.norm()) for x, y in learnt]
    return {"loss": float((total - expected).detach().abs() / expected.detach().abs()), "gradient": max(off)}


def main() -> None:
    """Compare."""
    rank, port, path = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]  # losses are in float32 by themselves
    patience = timedelta(seconds=60)
    ranks.join(rank, 2, TCPStore("127.0.0.1", port, 2, not rank, patience), "gloo", patience)
    world = ranks.Ranks(2 * ROWS)
    generator = torch.Generator().manual_seed(0)
    pairs = (torch.randn(2 * ROWS, DIM, generator=generator), torch.randn(2 * ROWS, DIM, generator=generator))
    found: dict[str, Any] = {}
    alone = {}
    for name, loss in theirs(gather=False).items():
        alone[name] = loss
        # Under DDP gradients of ranks are averaged: each counts by its share.
        found[f"lightly {name}"] = differences(theirs(gather=True)[name], loss, pairs, 0.5, world)
        found[f"sslcurr {name}"] = differences(ours(world)[name], loss, pairs, 0.5, world)
    uneven = world.of(7)
    some = (pairs[0][:7], pairs[1][:7])
    for name in ("NT-Xent", "Barlow Twins", "VICReg"):
        share = uneven.num_own / 7
        found[f"sslcurr {name} uneven"] = differences(ours(uneven)[name], alone[name], some, share, uneven)
    center = Center((1, DIM), momentum=0.0)
    center.update(world.rows(pairs[0]))
    found["lightly center"] = float((center.value - pairs[0].mean(0)).abs().max())
    center.update(some[0][uneven.own])
    found["lightly center uneven"] = float((center.value - some[0].mean(0)).abs().max())
    if rank == 0:
        path.write_text(json.dumps(found))
    ranks.leave()


if __name__ == "__main__":
    main()
