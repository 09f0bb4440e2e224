"""What sheets of images share: lettering, pixels as bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sslcurr.files import write_whole
from sslcurr.spec.stage import BackboneSpec
from sslcurr.version import PROGRAM


def lettering(size: int) -> Any:
    """A font of so many pixels with the letters of most languages: DejaVu, which comes with matplotlib."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def write_sheet(sheet: Any, path: Path) -> None:
    """Write a PIL image as PNG, with the mark of this program: a sheet that lies among images is none of them."""
    from PIL.PngImagePlugin import PngInfo

    about = PngInfo()
    about.add_text("Software", PROGRAM)
    write_whole(path, lambda temporary: sheet.save(temporary, format="PNG", pnginfo=about))


def in_bytes(images: Tensor, backbone: BackboneSpec) -> NDArray[np.uint8]:
    """[N, C, S, S] normalised images as [N, S, S, 3] bytes."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (backbone.mean, backbone.std))
    colours = (images * std + mean).clamp(0, 1).expand(-1, 3, -1, -1)
    return (colours.permute(0, 2, 3, 1) * 255).round().byte().numpy()
