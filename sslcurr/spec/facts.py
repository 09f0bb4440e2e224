"""What a recipe needs to know of the data and of the request."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known of the data and of the request when a recipe is resolved.

    Attributes:
        num_images: training images of the stage.
        class_counts: labelled training images a class; empty for an unlabelled set, and where labels are no classes.
        outputs: of a target task that does not name classes: how many labels or numbers there are.
        image_size: side of the training views, in pixels.
        channels: channels of the network's input.
        batch_size, epochs: as requested; None leaves them to the recipe.
        pretrained: whether the stage starts from trained weights.
    """

    num_images: int
    class_counts: tuple[int, ...] = ()
    outputs: int = 0
    image_size: int = 224
    channels: int = 3
    batch_size: int | None = None
    epochs: int | None = None
    pretrained: bool = False

    @property
    def num_classes(self) -> int:
        """Classes known; 0 for an unlabelled set."""
        return len(self.class_counts)

    @property
    def num_outputs(self) -> int:
        """Outputs of a target task."""
        return self.outputs or self.num_classes

    @property
    def small(self) -> bool:
        """Whether the set is far from ImageNet's size, so that the papers' settings must be scaled."""
        return self.num_images < 100_000

    def batch(self, most: int, steps: int = 8) -> int:
        """The requested batch size, else a power of two up to `most` that gives an epoch `steps` steps or more."""
        return self.batch_size or max(4, min(most, 2 ** int(math.log2(max(4, self.num_images / steps)))))
