"""MoCo v2, SwAV, SimCLR and BYOL from lightly's heads, losses and transforms: what `learning.py` compares ours with.

The loop, the optimizer and the order of the images are ours; views (one PIL image after the other), heads, queues,
losses and slow encoders are lightly's, put together as its documentation does, with the values of our stage.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from sslcurr.backbones import build, checkpoint
from sslcurr.data.order import batches, num_steps
from sslcurr.engine.optim import build_optimizer, lr_at, set_lr
from sslcurr.engine.selection import Selection, select
from sslcurr.files import write_whole
from sslcurr.seeds import seed_for
from sslcurr.spec.stage import StageSpec

Parts = tuple[nn.Module, Callable[[list[Tensor], int], Tensor]]


def train_with_lightly(spec: StageSpec, path: Path) -> None:
    """Train the task of `spec` with lightly's parts, on the CPU, from the weights that ours starts from."""
    selection = select(spec.data, labelled=False)
    rows = selection.rows["train"]
    images = pictures(selection, rows, spec.backbone.channels)
    torch.manual_seed(seed_for(spec.seed, "init", "backbone"))
    backbone = build.build(spec.backbone)
    torch.manual_seed(seed_for(spec.seed, "lightly"))
    np.random.seed(spec.seed)
    config, training = spec.config, spec.training
    per_epoch = num_steps(len(rows), training.batch_size)
    total = per_epoch * training.epochs
    parts, loss_of = PARTS[spec.task](backbone, build.num_features(backbone), config, total, training.epochs)
    optimizer = build_optimizer(parts.train(), training)
    transform = transform_of(spec)
    step = 0
    for epoch in range(training.epochs):
        for places in batches(np.arange(len(rows)), training.batch_size, spec.seed, None, "order", epoch):
            views = [transform(images[place]) for place in places]
            crops = [torch.stack(crop)[:, : spec.backbone.channels] for crop in zip(*views, strict=True)]
            set_lr(optimizer, training, lr_at(training, step, total, per_epoch))
            loss = loss_of(crops, step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    header = checkpoint.Header(backbone=spec.backbone, image_size=config["image_size"], tasks=spec.tasks)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda temporary: checkpoint.save_backbone(backbone, header, temporary))


def pictures(selection: Selection, rows: np.ndarray, channels: int) -> list[Image.Image]:
    """The packed images in their true shapes, RGB, without colour where the network has one channel."""
    pack, found = selection.pack, []
    for row in rows:
        array = np.moveaxis(np.asarray(pack.images[row]), 0, -1)
        image = Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array)
        shorter = min(pack.heights[row], pack.widths[row])
        size = (round(pack.size * pack.widths[row] / shorter), round(pack.size * pack.heights[row] / shorter))
        found.append(image.convert("L" if channels == 1 else "RGB").convert("RGB").resize(size))
    return found


def transform_of(spec: StageSpec) -> Callable[[Image.Image], list[Tensor]]:
    """lightly's transform of the task, with the values of our views."""
    from lightly.transforms import (
        BYOLTransform,
        BYOLView1Transform,
        BYOLView2Transform,
        MoCoV2Transform,
        SimCLRTransform,
        SwaVTransform,
    )

    config = spec.config
    shared: dict[str, Any] = {
        "cj_prob": config["jitter"],
        "cj_strength": 1.0,
        "cj_bright": config["brightness"],
        "cj_contrast": config["contrast"],
        "cj_sat": config["saturation"],
        "cj_hue": config["hue"],
        "random_gray_scale": config["gray"],
        "gaussian_blur": config["blur"],
        "sigmas": tuple(config["blur_sigma"]),
        "hf_prob": config["horizontal_flip"],
        "normalize": {
            "mean": list(spec.backbone.mean) * (3 // spec.backbone.channels),
            "std": list(spec.backbone.std) * (3 // spec.backbone.channels),
        },
    }
    if spec.task == "swav":
        scales = (config["scale"], config["small_scale"])
        return SwaVTransform(
            crop_sizes=(config["image_size"], config["small_size"]),
            crop_counts=(2, config["num_small"]),
            crop_min_scales=tuple(scale[0] for scale in scales),
            crop_max_scales=tuple(scale[1] for scale in scales),
            **shared,
        )
    shared |= {"input_size": config["image_size"], "min_scale": config["scale"][0]}
    if spec.task == "byol":
        second = {"gaussian_blur": config["second_blur"], "solarization_prob": config["second_solarize"]}
        return BYOLTransform(BYOLView1Transform(**shared), BYOLView2Transform(**{**shared, **second}))
    return {"mocov2": MoCoV2Transform, "simclr": SimCLRTransform}[spec.task](**shared)


def mocov2(backbone: nn.Module, dim: int, config: dict[str, Any], total: int, epochs: int) -> Parts:
    """MoCo v2."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import MoCoProjectionHead
    from lightly.models.utils import update_momentum

    head = MoCoProjectionHead(dim, dim, config["dim"])
    slow_backbone, slow_head = copy.deepcopy(backbone), copy.deepcopy(head)
    criterion = NTXentLoss(temperature=config["temperature"], memory_bank_size=(config["queue_length"], config["dim"]))

    def loss(views: list[Tensor], step: int) -> Tensor:
        update_momentum(backbone, slow_backbone, m=config["momentum"])
        update_momentum(head, slow_head, m=config["momentum"])
        query = head(backbone(views[0]))
        with torch.no_grad():
            key = slow_head(slow_backbone(views[1]))
        return criterion(query, key)

    return nn.ModuleList([backbone, head]), loss


def simclr(backbone: nn.Module, dim: int, config: dict[str, Any], total: int, epochs: int) -> Parts:
    """SimCLR."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead

    head = SimCLRProjectionHead(dim, config["hidden"], config["dim"])
    criterion = NTXentLoss(temperature=config["temperature"], memory_bank_size=0)

    def loss(views: list[Tensor], step: int) -> Tensor:
        return criterion(head(backbone(views[0])), head(backbone(views[1])))

    return nn.ModuleList([backbone, head]), loss


def byol(backbone: nn.Module, dim: int, config: dict[str, Any], total: int, epochs: int) -> Parts:
    """BYOL. lightly's examples take half of the two cosines; four times that is the paper's 2 - 2 cosine, as ours."""
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
    from lightly.models.utils import update_momentum
    from lightly.utils.scheduler import cosine_schedule

    head = BYOLProjectionHead(dim, config["hidden"], config["dim"])
    predictor = BYOLPredictionHead(config["dim"], config["hidden"], config["dim"])
    slow_backbone, slow_head = copy.deepcopy(backbone), copy.deepcopy(head)
    criterion = NegativeCosineSimilarity()

    def loss(views: list[Tensor], step: int) -> Tensor:
        momentum = cosine_schedule(step=step, max_steps=total, start_value=config["momentum"], end_value=1.0)
        update_momentum(backbone, slow_backbone, m=momentum)
        update_momentum(head, slow_head, m=momentum)
        predictions = [predictor(head(backbone(view))) for view in views]
        with torch.no_grad():
            targets = [slow_head(slow_backbone(view)) for view in views]
        return 2.0 * (criterion(predictions[0], targets[1]) + criterion(predictions[1], targets[0]))

    return nn.ModuleList([backbone, head, predictor]), loss


def swav(backbone: nn.Module, dim: int, config: dict[str, Any], total: int, epochs: int) -> Parts:
    """SwAV without a queue. Scores are float64: lightly's exp(score / epsilon) would overflow at our epsilon."""
    from lightly.loss import SwaVLoss
    from lightly.models.modules import SwaVProjectionHead, SwaVPrototypes

    head = SwaVProjectionHead(dim, config["hidden"], config["dim"])
    frozen = round(config["frozen_epochs"] * total / epochs)
    prototypes = SwaVPrototypes(config["dim"], n_prototypes=config["num_prototypes"], n_steps_frozen_prototypes=frozen)
    criterion = SwaVLoss(
        temperature=config["temperature"],
        sinkhorn_iterations=config["num_iterations"],
        sinkhorn_epsilon=config["epsilon"],
    )

    def loss(views: list[Tensor], step: int) -> Tensor:
        prototypes.normalize()
        scores = [prototypes(F.normalize(head(backbone(view)), dim=1), step).double() for view in views]
        return criterion(scores[:2], scores[2:])

    return nn.ModuleList([backbone, head, prototypes]), loss


PARTS = {"mocov2": mocov2, "simclr": simclr, "byol": byol, "swav": swav}
