"""Pictures for people: the right pixels in the right places."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sslcurr.analysis.sheets.drawing import in_bytes
from sslcurr.analysis.sheets.samples import CELL, GAP, TITLE
from sslcurr.analysis.sheets.views import draw_grid, draw_views
from sslcurr.spec.stage import BackboneSpec
from sslcurr.tasks import PRETEXT


def cell(sheet, row, column):
    """The picture at a place of a sheet, as [CELL, CELL, 3]."""
    left, top = GAP + column * (CELL + GAP), TITLE + row * (CELL + GAP)
    return np.asarray(sheet.convert("RGB"))[top : top + CELL, left : left + CELL]


def test_bytes_are_the_pixels_before_normalisation():
    backbone = BackboneSpec(name="resnet18")
    pixels = torch.rand(2, 3, 4, 4)
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (backbone.mean, backbone.std))
    shown = in_bytes((pixels - mean) / std, backbone)
    np.testing.assert_allclose(shown, pixels.permute(0, 2, 3, 1).numpy() * 255, atol=0.51)
    grey = BackboneSpec(name="resnet18", channels=1, mean=(0.449,), std=(0.226,))
    assert in_bytes(torch.zeros(1, 1, 4, 4), grey).shape == (1, 4, 4, 3)


def test_pictures_stand_in_rows_of_images_and_columns_of_views():
    columns = {"a": np.full((2, 8, 8, 3), 10, np.uint8), "b": np.full((2, 200, 200, 3), 90, np.uint8)}
    columns["b"][1] = 200
    sheet = draw_grid(columns)
    assert [int(cell(sheet, r, c).mean()) for r in range(2) for c in range(2)] == [10, 90, 10, 200]


@pytest.mark.parametrize("task", PRETEXT)
def test_every_task_can_be_drawn(task, small_stage, tmp_path):
    spec, path = small_stage(task, image_size=24), tmp_path / "views.png"
    draw_views(spec, path, num_images=3)
    with Image.open(path) as sheet:
        assert sheet.height == TITLE + 3 * (CELL + GAP)
        num_columns = (sheet.width - GAP) // (CELL + GAP)
        assert num_columns >= 2
        for column in range(num_columns):
            # Pictures, not blanks; a single patch of clothing may be all black.
            assert any(cell(sheet, row, column).std() > 0 for row in range(3))


def test_drawn_rotations_are_turned(small_stage, tmp_path):
    path = tmp_path / "views.png"
    draw_views(small_stage("rotation", image_size=24), path, num_images=2)
    with Image.open(path) as sheet:
        upright = cell(sheet, 1, 1)
        for quarter in range(4):
            np.testing.assert_array_equal(cell(sheet, 1, 1 + quarter), np.rot90(upright, quarter))
