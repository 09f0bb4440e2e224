"""Images a second of training, three ways in one run: our whole loop, the same steps on ready tensors, lightly's loop.

    python benchmarks/train.py --json benchmarks/results/train-cpu.json

- loop: `sslcurr.engine.train.train`, from the pack to the optimizer, with log and saves.
- bound: the same, but every step gets one batch of views that is ready on the device.
- lightly: the task as lightly's documentation writes it (PIL transforms, a DataLoader with one worker a core).

The three take turns, so that what else the machine does meets all of them; each number is a median over rounds.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import records
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from sslcurr.engine import train as engine
from sslcurr.engine.feed import Feed
from sslcurr.engine.plan import Planner, Wishes
from sslcurr.engine.report import Reporter
from sslcurr.engine.spec import key_of
from sslcurr.engine.store import Store

WARM_UP = 3  # steps of each run that are not timed
PACK_SIZES = {32: 40, 64: 80, 224: 256}


def make_images(folder: Path, num_images: int, size: int) -> None:
    """JPEG files of `size` pixels, crops of two photographs."""
    photographs = [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    folder.mkdir(parents=True)
    for i in range(num_images):
        left, top = (i * 7919) % 320, (i * 104729) % 110
        crop = photographs[i % 2].crop((left, top, left + 300, top + 300)).resize((size, size), Image.BILINEAR)
        crop.save(folder / f"{i:05d}.jpg", quality=92)


class Clock(Reporter):
    """The seconds at which steps ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def step_done(self, step: int, loss: float | None, images_per_second: float) -> None:
        """Note the time; on a GPU, when the step really ended."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())


def ours(spec: Any, device: str, ready: bool) -> float:
    """Images a second of our loop, or of its bound."""
    clock, real = Clock(), Feed.batch
    if ready:
        kept: dict[int, Any] = {}

        def batch(self: Feed, places: Any, *rest: Any) -> Any:
            if len(places) not in kept:
                kept[len(places)] = real(self, places, *rest)
            return kept[len(places)]

        Feed.batch = batch  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as part:
            engine.train(spec, key_of(spec), Path(part), None, engine.Runtime(device=device), clock)
    finally:
        Feed.batch = real  # type: ignore[method-assign]
    steps = len(clock.times) - WARM_UP
    return steps * spec.training.batch_size / (clock.times[-1] - clock.times[WARM_UP - 1])


def lightly_loop(task: str, folder: Path, size: int, batch_size: int, num_prototypes: int, device: str) -> float:
    """Images a second of the task as lightly's documentation writes it, on torchvision's ResNet-18."""
    from lightly.data import LightlyDataset
    from torchvision.models import resnet18

    dataset = LightlyDataset(str(folder), transform=transform_of(task, size))
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=batch_size, shuffle=True, drop_last=True, num_workers=os.cpu_count() or 1
    )
    backbone = torch.nn.Sequential(*list(resnet18().children())[:-1])
    step = (moco_step if task == "mocov2" else swav_step)(backbone, num_prototypes, device)
    times = []
    for views, _, _ in loader:
        step([view.to(device) for view in views])
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter())
    return (len(times) - WARM_UP) * batch_size / (times[-1] - times[WARM_UP - 1])


def transform_of(task: str, size: int) -> Any:
    """lightly's transform at a view size; the small crops of SwAV keep their share of 96 to 224."""
    from lightly.transforms import MoCoV2Transform, SwaVTransform

    if task == "mocov2":
        return MoCoV2Transform(input_size=size)
    return SwaVTransform(crop_sizes=(size, max(8, 4 * round(size * 96 / 224 / 4))))


def moco_step(backbone: torch.nn.Module, num_prototypes: int, device: str) -> Callable[[list[torch.Tensor]], None]:
    """One optimizer step of MoCo."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import MoCoProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum

    head = MoCoProjectionHead(512, 512, 128)
    parts = [backbone, head]
    slow = [frozen(part).to(device) for part in parts]
    parts = [part.to(device) for part in parts]
    for part in slow:
        deactivate_requires_grad(part)
    criterion = NTXentLoss(temperature=0.2, memory_bank_size=(4096, 128)).to(device)
    optimizer = torch.optim.SGD([p for part in parts for p in part.parameters()], lr=0.06, momentum=0.9)

    def step(views: list[torch.Tensor]) -> None:
        for part, copy in zip(parts, slow, strict=True):
            update_momentum(part, copy, m=0.99)
        query = parts[1](parts[0](views[0]).flatten(start_dim=1))
        with torch.no_grad():
            key = slow[1](slow[0](views[1]).flatten(start_dim=1))
        loss = criterion(query, key)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def swav_step(backbone: torch.nn.Module, num_prototypes: int, device: str) -> Callable[[list[torch.Tensor]], None]:
    """One optimizer step of SwAV."""
    from lightly.loss import SwaVLoss
    from lightly.models.modules import SwaVProjectionHead, SwaVPrototypes

    head, prototypes = SwaVProjectionHead(512, 512, 128), SwaVPrototypes(128, n_prototypes=num_prototypes)
    model = torch.nn.ModuleList([backbone, head, prototypes]).to(device)
    criterion = SwaVLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)

    def step(views: list[torch.Tensor]) -> None:
        prototypes.normalize()
        scores = []
        for view in views:
            embedding = torch.nn.functional.normalize(head(backbone(view).flatten(start_dim=1)), dim=1, p=2)
            scores.append(prototypes(embedding))
        loss = criterion(scores[:2], scores[2:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def frozen(module: torch.nn.Module) -> torch.nn.Module:
    """A copy."""
    import copy

    return copy.deepcopy(module)


def plan(task: str, folder: Path, size: int, arguments: argparse.Namespace, store: Store) -> Any:
    """A stage of one epoch on the images, the plan's choices left as they are but for the stem."""
    wishes = Wishes(
        dataset=str(folder),
        backbone="resnet18",
        stem="imagenet",
        image_size=size,
        epochs=1,
        batch_size=arguments.batch_size,
        precision=arguments.precision,
        settings=(f"data.pack_size={PACK_SIZES.get(size, size)}",),
    )
    spec = Planner(wishes, store, [task]).chain([task])[0]
    if task == "swav":
        # The paper's crops, as lightly makes them, and prototypes that learn from the first step: equal work.
        crops = {"num_small": 6, "scale": (0.14, 1.0), "small_scale": (0.05, 0.14), "frozen_epochs": 0.0}
        spec = dataclasses.replace(spec, config={**spec.config, **crops})
    return spec


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["mocov2", "swav"], choices=["mocov2", "swav"])
    parser.add_argument("--sizes", nargs="+", type=int, default=None)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12, help="timed steps of a run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    sizes = arguments.sizes or ([32, 64, 224] if arguments.device == "cuda" else [32, 64])
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root) / "images"
            make_images(folder, arguments.batch_size * (arguments.steps + WARM_UP), PACK_SIZES.get(size, size))
            for task in arguments.tasks:
                spec = plan(task, folder, size, arguments, Store(Path(root)))
                prototypes = spec.config.get("num_prototypes", 0)
                found: dict[str, list[float]] = {"loop": [], "bound": [], "lightly": []}
                for _ in range(arguments.rounds):
                    found["loop"].append(ours(spec, arguments.device, ready=False))
                    found["bound"].append(ours(spec, arguments.device, ready=True))
                    found["lightly"].append(
                        lightly_loop(task, folder, size, arguments.batch_size, prototypes, arguments.device)
                    )
                shares = {
                    other: [a / b for a, b in zip(found["loop"], found[other], strict=True)]
                    for other in ("bound", "lightly")
                }
                row = {
                    "task": task,
                    "size": size,
                    "images_per_second": {name: round(statistics.median(v), 1) for name, v in found.items()},
                    "of_bound": records.ratio(shares["bound"]),
                    "times_lightly": records.ratio(shares["lightly"]),
                }
                rows.append(row)
                print(
                    f"{task:8} {size:4} px  "
                    + "  ".join(f"{name} {value:8.1f}/s" for name, value in row["images_per_second"].items())
                    + f"  of bound {records.shown(row['of_bound'])}"
                    + f"  times lightly {records.shown(row['times_lightly'])}",
                    flush=True,
                )
    records.write(
        arguments.json,
        "images/s of training, ResNet-18, ImageNet stem",
        rows,
        packages=("torch", "torchvision", "lightly", "timm"),
        device=arguments.device,
        threads=torch.get_num_threads(),
        batch_size=arguments.batch_size,
        steps=arguments.steps,
        rounds=arguments.rounds,
        precision=arguments.precision,
    )


if __name__ == "__main__":
    main()
