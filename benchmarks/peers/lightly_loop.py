"""Training as lightly's documentation writes it in plain PyTorch: what `train.py` times ours beside.

    python benchmarks/peers/lightly_loop.py simclr FOLDER --size 64 --batch-size 64 --steps 20 --workers 2

The form is that of the "PyTorch" tab of https://docs.lightly.ai/self-supervised-learning/examples/ (moco, swav, simclr,
byol, simsiam, barlowtwins, vicreg, dino, each PAGE.html): a LightlyDataset, lightly's transform (PIL, one image after
the other), torchvision's ResNet without fc, one pass a view, float32, no channels_last, a fixed learning rate, and
momentum that `cosine_schedule` moves once an epoch. With `epochs=1` that schedule gives 1: a slow network stands still,
at the same cost. Transforms are lightly's defaults at the size (BYOL's
example on CIFAR-10 turns the blur off). MoCo has temperature 0.2 and SGD momentum 0.9, which its example has not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader


@dataclass(frozen=True)
class Parts:
    """What a task brings to the loop: modules, the loss of views at (momentum, epoch), and how it is optimised."""

    modules: list[nn.Module]
    loss: Callable[[list[Tensor], float, int], Tensor]
    optimizer: Callable[..., torch.optim.Optimizer]
    after_backward: Callable[[int], None] = lambda epoch: None


def sgd(parameters: Any, momentum: float = 0.0) -> torch.optim.Optimizer:
    """The optimizer of most examples."""
    return torch.optim.SGD(parameters, lr=0.06, momentum=momentum)


def adam(parameters: Any) -> torch.optim.Optimizer:
    """The optimizer of SwAV and DINO."""
    return torch.optim.Adam(parameters, lr=0.001)


def slow_copy(module: nn.Module) -> nn.Module:
    """A copy without gradients."""
    from lightly.models.utils import deactivate_requires_grad

    copied = copy.deepcopy(module)
    deactivate_requires_grad(copied)
    return copied


def mocov2(backbone: nn.Module, width: int, num_prototypes: int, queue_length: int) -> Parts:
    """MoCo v2: one query pass, one key pass."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import MoCoProjectionHead
    from lightly.models.utils import update_momentum

    head = MoCoProjectionHead(width, 512, 128)
    slow_backbone, slow_head = slow_copy(backbone), slow_copy(head)
    criterion = NTXentLoss(temperature=0.2, memory_bank_size=(queue_length, 128))

    def loss(views: list[Tensor], momentum: float, epoch: int) -> Tensor:
        update_momentum(backbone, slow_backbone, m=momentum)
        update_momentum(head, slow_head, m=momentum)
        query = head(backbone(views[0]).flatten(start_dim=1))
        key = slow_head(slow_backbone(views[1]).flatten(start_dim=1)).detach()
        return criterion(query, key)

    modules = [backbone, head, slow_backbone, slow_head, criterion]
    return Parts(modules, loss, lambda parameters: sgd(parameters, momentum=0.9))


def swav(backbone: nn.Module, width: int, num_prototypes: int, queue_length: int) -> Parts:
    """SwAV without a queue: two large crops, six small ones."""
    from lightly.loss import SwaVLoss
    from lightly.models.modules import SwaVProjectionHead, SwaVPrototypes

    head, prototypes = SwaVProjectionHead(width, 512, 128), SwaVPrototypes(128, n_prototypes=num_prototypes)
    criterion = SwaVLoss()

    def scores(view: Tensor) -> Tensor:
        return prototypes(nn.functional.normalize(head(backbone(view).flatten(start_dim=1)), dim=1, p=2))

    def loss(views: list[Tensor], momentum: float, epoch: int) -> Tensor:
        prototypes.normalize()
        found = [scores(view) for view in views]
        return criterion(found[:2], found[2:])

    return Parts([backbone, head, prototypes, criterion], loss, adam)


def two_views(backbone: nn.Module, head: nn.Module, criterion: nn.Module) -> Parts:
    """A loss of the projections of two views."""

    def loss(views: list[Tensor], momentum: float, epoch: int) -> Tensor:
        first, second = (head(backbone(view).flatten(start_dim=1)) for view in views)
        return criterion(first, second)

    return Parts([backbone, head, criterion], loss, sgd)


def simclr(backbone: nn.Module, width: int, num_prototypes: int, queue_length: int) -> Parts:
    """SimCLR."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead

    return two_views(backbone, SimCLRProjectionHead(width, 512, 128), NTXentLoss())


def barlow_twins(backbone: nn.Module, width: int, num_prototypes: int, queue_length: int) -> Parts:
    """Barlow Twins."""
    from lightly.loss import BarlowTwinsLoss
    from lightly.models.modules import BarlowTwinsProjectionHead

    return two_views(backbone, BarlowTwinsProjectionHead(width, 2048, 2048), BarlowTwinsLoss())


def vicreg(backbone: nn.Module, width: int, num_prototypes: int, queue_length: int) -> Parts:
    """VICReg."""
    from lightly.loss import VICRegLoss
    from lightly.models.modules.heads import VICRegProjectionHead

    return two_views(backbone, VICRegProjectionHead(width, 2048, 2048, num_layers=2), VICRegLoss())


def byol(backbone: nn.Module, width: int, num_prototypes: int, queue_length: int) -> Parts:
    """BYOL: both views through both networks."""
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
    from lightly.models.utils import update_momentum

    head, predictor = BYOLProjectionHead(width, 1024, 256), BYOLPredictionHead(256, 1024, 256)
    slow_backbone, slow_head = slow_copy(backbone), slow_copy(head)
    criterion = NegativeCosineSimilarity()

    def loss(views: list[Tensor], momentum: float, epoch: int) -> Tensor:
        update_momentum(backbone, slow_backbone, m=momentum)
        update_momentum(head, slow_head, m=momentum)
        predictions = [predictor(head(backbone(view).flatten(start_dim=1))) for view in views]
        targets = [slow_head(slow_backbone(view).flatten(start_dim=1)).detach() for view in views]
        return 0.5 * (criterion(predictions[0], targets[1]) + criterion(predictions[1], targets[0]))

    return Parts([backbone, head, predictor, slow_backbone, slow_head, criterion], loss, sgd)


def simsiam(backbone: nn.Module, width: int, num_prototypes: int, queue_length: int) -> Parts:
    """SimSiam."""
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import SimSiamPredictionHead, SimSiamProjectionHead

    head, predictor = SimSiamProjectionHead(width, 512, 128), SimSiamPredictionHead(128, 64, 128)
    criterion = NegativeCosineSimilarity()

    def loss(views: list[Tensor], momentum: float, epoch: int) -> Tensor:
        first, second = (head(backbone(view).flatten(start_dim=1)) for view in views)
        return 0.5 * (criterion(first.detach(), predictor(second)) + criterion(second.detach(), predictor(first)))

    return Parts([backbone, head, predictor, criterion], loss, sgd)


def dino(backbone: nn.Module, width: int, num_prototypes: int, queue_length: int) -> Parts:
    """DINO: two large crops, six small ones; the student's last layer waits for an epoch."""
    from lightly.loss import DINOLoss
    from lightly.models.modules import DINOProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum

    head = DINOProjectionHead(width, 512, 64, 2048, freeze_last_layer=1)
    slow_backbone, slow_head = slow_copy(backbone), DINOProjectionHead(width, 512, 64, 2048)
    deactivate_requires_grad(slow_head)
    criterion = DINOLoss(output_dim=2048, warmup_teacher_temp_epochs=5)

    def loss(views: list[Tensor], momentum: float, epoch: int) -> Tensor:
        update_momentum(backbone, slow_backbone, m=momentum)
        update_momentum(head, slow_head, m=momentum)
        teacher = [slow_head(slow_backbone(view).flatten(start_dim=1)) for view in views[:2]]
        student = [head(backbone(view).flatten(start_dim=1)) for view in views]
        return criterion(teacher, student, epoch=epoch)

    modules = [backbone, head, slow_backbone, slow_head, criterion]
    return Parts(modules, loss, adam, head.cancel_last_layer_gradients)


PARTS: dict[str, Callable[[nn.Module, int, int, int], Parts]] = {
    "mocov2": mocov2,
    "swav": swav,
    "simclr": simclr,
    "byol": byol,
    "simsiam": simsiam,
    "barlow-twins": barlow_twins,
    "vicreg": vicreg,
    "dino": dino,
}
TASKS: tuple[str, ...] = tuple(PARTS)


def transform_of(task: str, size: int) -> Any:
    """lightly's transform at a view size; small crops keep their share of 96 to 224."""
    from lightly import transforms

    small = max(8, 4 * round(size * 96 / 224 / 4))
    if task == "swav":
        return transforms.SwaVTransform(crop_sizes=(size, small))
    if task == "dino":
        return transforms.DINOTransform(global_crop_size=size, local_crop_size=small)
    if task == "byol":
        first, second = transforms.BYOLView1Transform, transforms.BYOLView2Transform
        return transforms.BYOLTransform(first(input_size=size), second(input_size=size))
    if task == "mocov2":
        return transforms.MoCoV2Transform(input_size=size)
    if task == "simsiam":
        return transforms.SimSiamTransform(input_size=size)
    if task == "vicreg":
        return transforms.VICRegTransform(input_size=size)
    return transforms.SimCLRTransform(input_size=size)  # also that of the Barlow Twins example


def loop(
    task: str,
    folder: Path,
    *,
    size: int,
    batch_size: int,
    device: str,
    backbone: str = "resnet18",
    workers: int,
    num_prototypes: int = 300,
    queue_length: int = 4096,
    epochs: int = 1,
) -> Iterator[int]:
    """Train, and yield after each optimizer step how many images it took; the caller keeps time and synchronises."""
    from lightly.data import LightlyDataset
    from lightly.utils.scheduler import cosine_schedule

    dataset = LightlyDataset(str(folder), transform=transform_of(task, size))
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True, drop_last=True, num_workers=workers)
    network = getattr(torchvision.models, backbone)()
    body = nn.Sequential(*list(network.children())[:-1])
    parts = PARTS[task](body, network.fc.in_features, num_prototypes, queue_length)
    model = nn.ModuleList(parts.modules).to(device)
    optimizer = parts.optimizer(model.parameters())
    for epoch in range(epochs):
        momentum = cosine_schedule(epoch, epochs, 0.996, 1)
        for views, _, _ in loader:
            loss = parts.loss([view.to(device) for view in views], momentum, epoch)
            loss.backward()
            parts.after_backward(epoch)
            optimizer.step()
            optimizer.zero_grad()
            yield len(views[0])


if __name__ == "__main__":
    from command import run

    run(loop, TASKS, __doc__, workers=2)
