"""A rank of several that train the cases of a test, in float64: rounding neither hides nor makes a difference there.

python -m tests.ranks.rank RANK SIZE PORT FOLDER    (FOLDER has `cases.json`; writes `SIZE-RANK.pt` there)
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.distributed import TCPStore

from sslcurr.engine import batches, ranks, train
from sslcurr.engine.plan import Planner
from sslcurr.engine.store import RESUME, Store
from sslcurr.errors import Interrupted
from sslcurr.progress import Reporter
from sslcurr.spec.request import Request
from sslcurr.spec.runtime import Runtime
from sslcurr.tasks.base import Task
from sslcurr.testing.subject import dataset_for
from sslcurr.world import ALONE
from tests.conftest import SMALL

EPOCHS = 2


class Curve(Reporter):
    """Keeps the losses of a training, and stops it in the step after so many, of which the last one was saved."""

    def __init__(self, most: int) -> None:
        self.losses: list[float] = []
        self.most = most

    def step_done(self, step: int, loss: float | None, images_per_second: float) -> None:
        assert loss is not None
        self.losses.append(loss)
        if self.most and step == self.most + 1:
            raise Interrupted("stopped", "", 15)


def in_float64(stack: ExitStack) -> list[Task]:
    """Let all that is computed be in float64; the tasks that are built are in the list."""
    built: list[Task] = []
    build, views_of = train.build_task, batches.Feed._views_of

    def built_task(*arguments: Any) -> Task:
        built.append(build(*arguments).double())
        return built[-1]

    def views(self: batches.Feed, *arguments: Any) -> tuple[torch.Tensor, ...]:
        return tuple(view.double() for view in views_of(self, *arguments))

    torch.set_default_dtype(torch.float64)
    stack.callback(torch.set_default_dtype, torch.float32)
    stack.enter_context(mock.patch.object(torch.Tensor, "float", torch.Tensor.double))
    stack.enter_context(mock.patch.object(train, "build_task", built_task))
    stack.enter_context(mock.patch.object(batches.Feed, "_views_of", views))
    return built


def spoiled(stack: ExitStack, how: str) -> None:
    """What is often done wrong, as a control: the tests must see it."""
    if how == "slice":  # a gather whose gradient is that of the own rows only

        def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
            start = sum(ctx.counts[: ctx.rank])
            return gradient[start : start + ctx.counts[ctx.rank]], None, None

        stack.enter_context(mock.patch.object(ranks._Gather, "backward", staticmethod(backward)))
    elif how == "norms":  # each rank normalises by its own statistics
        stack.enter_context(
            mock.patch.object(ranks, "batch_norm", lambda _, *a, **k: torch.nn.functional.batch_norm(*a, **k))
        )


def trained(case: dict[str, Any], folder: Path, world: Any) -> dict[str, Any]:
    """The losses and the state of a training."""
    name = case["task"]
    settings = (*SMALL[name], *case.get("settings", ()))
    request = Request(
        **dataset_for(name, folder / "clothes"),
        backbone="test_resnet",
        stem="imagenet",
        image_size=16,
        epochs=EPOCHS,
        batch_size=case.get("batch_size", 8),
        settings=settings,
    )
    spec = Planner(request, Store(folder / "packs"), [name]).chain([name])[0]
    with ExitStack() as stack:
        built = in_float64(stack)
        spoiled(stack, case.get("spoiled", ""))
        part = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if case.get("resume") and not world.rank:
            (part / RESUME).write_bytes((folder / case["resume"]).read_bytes())
            # The rows of the steps before are those of the saved training.
            for log in ("metrics.csv", "epochs.csv"):
                saved = folder / f"{case['resume']}.{log}"
                if saved.exists():
                    (part / log).write_bytes(saved.read_bytes())
        curve = Curve(case.get("most", 0))
        runtime = Runtime(device="cpu", log_steps=1, save_steps=case.get("most", 10**6))
        try:
            train.train(spec, "0" * 16, part, None, runtime, curve, world)
        except Interrupted:
            if case.get("save") and not world.rank:
                (folder / case["save"]).write_bytes((part / RESUME).read_bytes())
                for log in ("metrics.csv", "epochs.csv"):
                    if (part / log).exists():
                        (folder / f"{case['save']}.{log}").write_bytes((part / log).read_bytes())
        return {"losses": curve.losses, "state": {key: value.clone() for key, value in built[0].state_dict().items()}}


def checked_gradients(world: Any) -> bool:
    """Whether the gradients of what crosses ranks are those of the whole batch, by finite differences."""
    whole = world.of(7)
    every = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mix = torch.randn(7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def loss_of(rows: torch.Tensor, these: Any) -> torch.Tensor:
        gathered = these.gather(rows)
        total = these.sum((rows**3).sum(dim=0))
        return ((mix @ gathered).tanh().sum() + (total**2).sum()) / 7

    mine = every[whole.own].clone().requires_grad_()
    # Each rank's share of an objective that all have: the sum over ranks is the objective.
    (loss_of(mine, whole) * whole.num_own / 7).backward()
    plain = every.clone().requires_grad_()
    alone = ((mix @ plain).tanh().sum() + ((plain**3).sum(dim=0) ** 2).sum()) / 7
    alone.backward()
    return bool(torch.allclose(mine.grad, plain.grad[whole.own], rtol=1e-10, atol=1e-12))


def main() -> None:
    """Train the cases."""
    rank, size, port, folder = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    torch.set_num_threads(1)
    if size > 1:
        patience = timedelta(seconds=120)
        ranks.join(rank, size, TCPStore("127.0.0.1", port, size, not rank, patience), "gloo", patience)
    world = ranks.Ranks() if size > 1 else ALONE
    found: dict[str, Any] = {"gradients": checked_gradients(world) if size > 1 else True}
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        found[name] = trained(case, folder, world)
    torch.save(found, folder / f"{size}-{rank}.pt")
    ranks.leave()


if __name__ == "__main__":
    main()
