"""How the attention of a model is measured, and what the store keeps of it beside its arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sslcurr.analysis.measures.attention import CAM_METHODS
from sslcurr.analysis.results.document import Part
from sslcurr.errors import SpecError, did_you_mean

TARGETS = ("predicted", "label")
# Coarser maps say little of where; small images have none finer in the last stage.
FEWEST_CELLS = 4

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class AttentionSettings:
    """How attention is measured.

    Attributes:
        method: one of `measures.attention.CAM_METHODS`.
        target: the class whose map is taken: the one that is `predicted`, or the image's `label`.
        layer: the layer whose maps are weighted; empty is the last stage with maps of `FEWEST_CELLS` a side.
        image_size: side of the views, in pixels; 0 is that of the training.

    Raises SpecError for a method or a target that cannot be.
    """

    method: str = "gradcam"
    target: str = "predicted"
    layer: str = ""
    image_size: int = 0

    def __post_init__(self) -> None:
        for name, value, names in (("method", self.method, CAM_METHODS), ("target", self.target, TARGETS)):
            if value not in names:
                raise SpecError(f"--{name} cannot be {value!r}", did_you_mean(value, names))


class KeptAttention(Part, frozen=True, kw_only=True):
    """What the store keeps of the attention of a model beside its arrays.

    Attributes:
        layer: whose maps they are.
        map_size: their height and width, in cells.
        num_images: with a mask.
        view_size: side of the views, in pixels.
    """

    layer: str
    map_size: tuple[int, int]
    num_images: int
    view_size: int
