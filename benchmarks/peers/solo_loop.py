"""Training with the settings of solo-learn in plain PyTorch, written by us: what `train.py` times ours beside.

    python benchmarks/peers/solo_loop.py mocov2 FOLDER --size 64 --batch-size 64 --steps 20 --workers 4

The settings are those of scripts/pretrain/imagenet-100/*.yaml and of solo/methods in
https://github.com/vturrisi/solo-learn: 4 workers, torchvision's transforms on PIL images, one pass a view,
channels_last on every device, 16-mixed on a GPU (float16 with a gradient scaler), SGD or LARS with a warm-up and a
cosine for every step.

Where this differs from theirs, it does less work: no Lightning, no online classifier and no log; workers stay between
epochs; LARS clips its rate without waiting for the GPU; DALI, which most of their ImageNet files name, is not used, but
their `format: image_folder`. On a CPU it is float32 (Lightning would make bfloat16 of 16-mixed there).

Work of an image (a pass is 1, a pass with its gradient 3) is not that of ours; see `WORK`. MoCo v2+ is symmetric: both
views are queries and keys. Their SwAV has two large crops and no small ones, and keeps a queue that it uses from epoch
50 only, so never here. Prototypes get no gradient in the first two epochs.
"""

from __future__ import annotations

import copy
import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

WARM_UP_EPOCHS = 10  # of the learning rate
FROZEN_EPOCHS = 2  # of SwAV's prototypes
IMAGE_ENDINGS = {".jpg", ".jpeg", ".png"}

# Work of one image here over work of one image in our step, in passes of a full-size view through the backbone.
# Ours: MoCo v2 has one query (3) and one key (1); SwAV two large crops and six small ones of 96/224 of the size.
WORK: dict[str, float] = {
    "mocov2": (2 * 3 + 2 * 1) / (3 + 1),
    "swav": (2 * 3) / (2 * 3 + 6 * 3 * (96 / 224) ** 2),
    "simclr": 1.0,
    "byol": 1.0,
    "barlow-twins": 1.0,
}


@dataclass(frozen=True)
class Law:
    """The augmentations of a view, a block of augmentations/*.yaml."""

    jitter: tuple[float, float, float, float]
    blur: float = 0.5
    solarize: float = 0.0


STRONG = Law((0.8, 0.8, 0.8, 0.2))  # symmetric.yaml
WEAK = Law((0.4, 0.4, 0.4, 0.1))  # symmetric_weak.yaml
FIRST = Law((0.4, 0.4, 0.2, 0.1), blur=1.0)  # asymmetric.yaml
SECOND = Law((0.4, 0.4, 0.2, 0.1), blur=0.1, solarize=0.2)
LAWS = {
    "mocov2": (WEAK, WEAK),
    "swav": (STRONG, STRONG),
    "simclr": (STRONG, STRONG),
    "byol": (FIRST, SECOND),
    "barlow-twins": (FIRST, SECOND),
}


def blurred(image: Image.Image) -> Image.Image:
    """Gaussian blur of a random radius."""
    return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(0.1, 2.0)))


def transform_of(law: Law, size: int) -> Callable[[Image.Image], Tensor]:
    """A view of a PIL image."""
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(size, scale=(0.08, 1.0), interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.RandomApply([transforms.ColorJitter(*law.jitter)], p=0.8),
            transforms.RandomGrayscale(p=0.2),
            transforms.RandomApply([transforms.Lambda(blurred)], p=law.blur),
            transforms.RandomApply([transforms.Lambda(ImageOps.solarize)], p=law.solarize),
            transforms.RandomHorizontalFlip(p=0.5),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )


class Views(Dataset[list[Tensor]]):
    """Two views of each image under a folder."""

    def __init__(self, folder: Path, laws: tuple[Law, Law], size: int) -> None:
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_ENDINGS)
        self.transforms = [transform_of(law, size) for law in laws]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> list[Tensor]:
        with Image.open(self.paths[index]) as file:
            image = file.convert("RGB")
        return [transform(image) for transform in self.transforms]


class Lars(torch.optim.Optimizer):
    """SGD; a weight has a rate in proportion to its norm, at most the common one, and a vector the common one."""

    def __init__(
        self, parameters: Any, lr: float, weight_decay: float, momentum: float = 0.9, eta: float = 0.02
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "eta": eta})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                gradient = weight.grad
                if weight.ndim != 1:
                    norm, gradient_norm = weight.norm(), gradient.norm()
                    rate = group["eta"] * norm / (gradient_norm + norm * group["weight_decay"] + 1e-8)
                    rate = torch.where((norm > 0) & (gradient_norm > 0), (rate / group["lr"]).clamp(max=1.0), 1.0)
                    gradient = gradient.add(weight, alpha=group["weight_decay"]) * rate
                state = self.state[weight]
                if "velocity" not in state:
                    state["velocity"] = gradient.clone()
                else:
                    state["velocity"].mul_(group["momentum"]).add_(gradient)
                weight.add_(state["velocity"], alpha=-group["lr"])


class Method(nn.Module):
    """A task: backbone, heads, and a loss of two views. `slow` pairs name a network and its slow copy."""

    lr = 0.3
    weight_decay = 1e-4
    momenta: tuple[float, float] = (1.0, 1.0)
    optimizer: Callable[..., torch.optim.Optimizer] = Lars

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def slow_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Networks, each with the copy that follows it."""
        return []

    def loss(self, views: list[Tensor]) -> Tensor:
        """The loss of a batch."""
        raise NotImplementedError

    def after_backward(self, epoch: int) -> None:
        """What is done to gradients."""


def mlp(*widths: int, norm: bool = True) -> nn.Sequential:
    """Linear layers, with ReLU, and batch norm if asked, between them."""
    layers: list[nn.Module] = []
    for i, (width, following) in enumerate(itertools.pairwise(widths)):
        layers.append(nn.Linear(width, following))
        if i < len(widths) - 2:
            layers += [nn.BatchNorm1d(following), nn.ReLU()] if norm else [nn.ReLU()]
    return nn.Sequential(*layers)


def slow_copy(module: nn.Module) -> nn.Module:
    """A copy without gradients."""
    return copy.deepcopy(module).requires_grad_(False)


class MoCoV2Plus(Method):
    """MoCo v2+, symmetric, a queue for each view."""

    momenta = (0.99, 0.999)
    optimizer = torch.optim.SGD

    def __init__(self, backbone: nn.Module, width: int, queue_length: int, num_prototypes: int) -> None:
        super().__init__(backbone)
        self.head = mlp(width, 2048, 256, norm=False)
        self.slow_backbone, self.slow_head = slow_copy(backbone), slow_copy(self.head)
        self.queue: Tensor
        self.register_buffer("queue", F.normalize(torch.randn(2, 256, queue_length), dim=1))
        self.position = 0

    def slow_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Backbone and head."""
        return [(self.backbone, self.slow_backbone), (self.head, self.slow_head)]

    def loss(self, views: list[Tensor]) -> Tensor:
        """InfoNCE in both directions; then keys enter the queues."""
        queries = [F.normalize(self.head(self.backbone(view)), dim=-1) for view in views]
        with torch.no_grad():
            keys = [F.normalize(self.slow_head(self.slow_backbone(view)), dim=-1) for view in views]
        queue = self.queue.clone()
        value = (info_nce(queries[0], keys[1], queue[1]) + info_nce(queries[1], keys[0], queue[0])) / 2
        count, length = len(keys[0]), self.queue.shape[2]
        places = (torch.arange(count, device=queue.device) + self.position) % length
        self.queue[:, :, places] = torch.stack(keys).permute(0, 2, 1).to(self.queue.dtype)
        self.position = (self.position + count) % length
        return value


def info_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float = 0.2) -> Tensor:
    """Cross-entropy of the key among the queue, a column a key."""
    positive = (query * key).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, query @ queue], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


class SimCLR(Method):
    """SimCLR."""

    def __init__(self, backbone: nn.Module, width: int, queue_length: int, num_prototypes: int) -> None:
        super().__init__(backbone)
        self.head = mlp(width, 4096, 512, norm=False)

    def loss(self, views: list[Tensor]) -> Tensor:
        """Each view's other one among all views of the batch."""
        z = F.normalize(torch.cat([self.head(self.backbone(view)) for view in views]), dim=-1)
        logits = (z @ z.T / 0.2).float().fill_diagonal_(-math.inf)
        return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(z) // 2))


class BYOL(Method):
    """BYOL."""

    lr = 0.5
    weight_decay = 1e-6
    momenta = (0.99, 1.0)

    def __init__(self, backbone: nn.Module, width: int, queue_length: int, num_prototypes: int) -> None:
        super().__init__(backbone)
        self.head, self.predictor = mlp(width, 4096, 256), mlp(256, 8192, 256)
        self.slow_backbone, self.slow_head = slow_copy(backbone), slow_copy(self.head)

    def slow_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Backbone and head."""
        return [(self.backbone, self.slow_backbone), (self.head, self.slow_head)]

    def loss(self, views: list[Tensor]) -> Tensor:
        """2 - 2 cosine of prediction and target, in both directions."""
        predictions = [self.predictor(self.head(self.backbone(view))) for view in views]
        with torch.no_grad():
            targets = [self.slow_head(self.slow_backbone(view)) for view in views]
        first = F.cosine_similarity(predictions[0], targets[1], dim=-1).mean()
        second = F.cosine_similarity(predictions[1], targets[0], dim=-1).mean()
        return 4 - 2 * (first + second)


class BarlowTwins(Method):
    """Barlow Twins."""

    def __init__(self, backbone: nn.Module, width: int, queue_length: int, num_prototypes: int) -> None:
        super().__init__(backbone)
        self.head = mlp(width, 2048, 2048, 2048)
        self.norm = nn.BatchNorm1d(2048, affine=False)

    def loss(self, views: list[Tensor]) -> Tensor:
        """Squared distance of the correlations from the unit matrix."""
        first, second = (self.norm(self.head(self.backbone(view))) for view in views)
        unit = torch.eye(first.shape[1], device=first.device)
        squares = (first.T @ second / len(first) - unit).pow(2)
        return 0.1 * (squares * (unit + 0.0051 * (1 - unit))).sum()


class SwAV(Method):
    """SwAV of two crops."""

    lr = 0.6
    weight_decay = 1e-6

    def __init__(self, backbone: nn.Module, width: int, queue_length: int, num_prototypes: int) -> None:
        super().__init__(backbone)
        self.head = mlp(width, 2048, 128)
        self.prototypes = nn.Parameter(nn.Linear(128, num_prototypes, bias=False).weight.detach().clone())
        self.queue: Tensor
        self.register_buffer("queue", torch.zeros(2, 3840, 128))

    def loss(self, views: list[Tensor]) -> Tensor:
        """Cross-entropy of each view's scores with the other's assignment."""
        z = [F.normalize(self.head(self.backbone(view)), dim=-1) for view in views]
        scores = [F.linear(one, F.normalize(self.prototypes, dim=1)) for one in z]
        first, second = (assignments(one) for one in scores)
        pairs = ((first, scores[1]), (second, scores[0]))
        values = [-(target * F.log_softmax(score / 0.1, dim=1)).sum(dim=1).mean() for target, score in pairs]
        new = torch.stack(z).detach().to(self.queue.dtype)
        self.queue.copy_(torch.cat([new, self.queue], dim=1)[:, : self.queue.shape[1]])
        return (values[0] + values[1]) / 2

    def after_backward(self, epoch: int) -> None:
        """Prototypes wait."""
        if epoch < FROZEN_EPOCHS:
            self.prototypes.grad = None


@torch.no_grad()
def assignments(scores: Tensor) -> Tensor:
    """Sinkhorn-Knopp: rows (images) sum to 1, prototypes get about equal shares."""
    q = torch.exp(scores.float() / 0.05)
    q = q / q.sum()
    for _ in range(3):
        q = q / q.sum(dim=0, keepdim=True) / q.shape[1]
        q = q / q.sum(dim=1, keepdim=True) / q.shape[0]
    return q * q.shape[0]


METHODS: dict[str, Callable[[nn.Module, int, int, int], Method]] = {
    "mocov2": MoCoV2Plus,
    "swav": SwAV,
    "simclr": SimCLR,
    "byol": BYOL,
    "barlow-twins": BarlowTwins,
}
TASKS: tuple[str, ...] = tuple(METHODS)


def lr_at(base: float, step: int, total: int, warm_up: int) -> float:
    """From 3e-5 up in a line, then down in a cosine."""
    if step < warm_up:
        return 3e-5 + (base - 3e-5) * step / max(1, warm_up - 1)
    return base * (1 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up))) / 2


@torch.no_grad()
def follow(method: Method, share: float) -> None:
    """Slow networks move towards theirs, from the first momentum to the last in a cosine."""
    first, last = method.momenta
    momentum = last - (last - first) * (math.cos(math.pi * share) + 1) / 2
    for network, slow in method.slow_pairs():
        for parameter, slow_parameter in zip(network.parameters(), slow.parameters(), strict=True):
            slow_parameter.mul_(momentum).add_(parameter, alpha=1 - momentum)


def loop(
    task: str,
    folder: Path,
    *,
    size: int,
    batch_size: int,
    device: str,
    backbone: str = "resnet18",
    workers: int,
    num_prototypes: int = 3000,
    queue_length: int = 65536,
    epochs: int = 1,
) -> Iterator[int]:
    """Train, and yield after each optimizer step how many images it took; the caller keeps time and synchronises.

    Prototypes and MoCo's queue are as many as solo-learn's unless told: tell ours to compare equal work.
    """
    on_gpu = device.startswith("cuda")
    loader = DataLoader(
        Views(folder, LAWS[task], size),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=on_gpu,
        persistent_workers=workers > 0,
    )
    network = getattr(torchvision.models, backbone)()
    width, network.fc = network.fc.in_features, nn.Identity()
    method = METHODS[task](network, width, queue_length, num_prototypes).to(device)
    method = method.to(memory_format=torch.channels_last)
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    base = method.lr * batch_size / 256
    optimizer = type(method).optimizer(trained, lr=base, weight_decay=method.weight_decay, momentum=0.9)
    scaler = torch.amp.GradScaler("cuda", enabled=on_gpu)
    total, step = len(loader) * epochs, 0
    for epoch in range(epochs):
        for views in loader:
            for group in optimizer.param_groups:
                group["lr"] = lr_at(base, step, total, min(WARM_UP_EPOCHS, epochs) * len(loader))
            views = [view.to(device, non_blocking=True) for view in views]
            views = [view.to(memory_format=torch.channels_last) for view in views]
            with torch.autocast("cuda", dtype=torch.float16, enabled=on_gpu):
                loss = method.loss(views)
            scaler.scale(loss).backward()
            method.after_backward(epoch)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            follow(method, step / total)
            step += 1
            yield len(views[0])


if __name__ == "__main__":
    from command import run

    run(loop, TASKS, __doc__, workers=4)
