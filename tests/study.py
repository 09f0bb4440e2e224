"""The figures of the study that sslcurr turns into software: Tables 1, 2 and 3, accuracies in %.

From deliverable D3 of the project AISEEME, "Design of a curriculum-based multi-task self-supervised learning regime"
(Universidad Autónoma de Madrid, 2022), and its two papers: arXiv 2112.12086 (skin lesions, ISIC-2019) and
arXiv 2301.10687 (chest X-ray, SIIM-FISABIO-RSNA COVID-19). Every figure is of one run.
"""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """A row of Table 3.

    Attributes:
        curriculum: whether the table marks the ordering; None where it has no order (one task).
        tasks: pretext tasks, in order.
        accuracy: at the target task, on validation, in %.
        attention: how much of the class activation map lies inside the lung mask, in %.
    """

    curriculum: bool | None
    tasks: tuple[str, ...]
    accuracy: float
    attention: float


# ISIC-2019, relative-location then swav: (share of labels, share of images for pretraining) -> balanced accuracy
TABLE_1: dict[tuple[float, float], float] = {
    (1.0, 1.0): 71.00,
    (0.5, 1.0): 58.41,
    (0.5, 0.5): 59.11,
    (0.25, 1.0): 51.45,
    (0.25, 0.5): 51.67,
    (0.25, 0.25): 49.32,
    (0.125, 1.0): 43.65,
    (0.125, 0.5): 42.88,
    (0.125, 0.25): 43.01,
    (0.125, 0.125): 42.19,
}

# ISIC-2019; the second is the full curriculum of the three tasks
TABLE_2: dict[tuple[str, ...], float] = {
    ("odc", "mocov2"): 75.44,
    ("odc", "relative-location", "mocov2"): 73.36,
}

# SIIM-FISABIO-RSNA COVID-19, pneumonia recognition
TABLE_3: list[Row] = [
    Row(None, ("relative-location",), 83.62, 36.33),
    Row(None, ("mocov2",), 83.89, 37.40),
    Row(None, ("swav",), 83.97, 42.82),
    Row(None, ("rotation",), 84.72, 45.95),
    Row(True, ("mocov2", "rotation"), 84.77, 47.92),
    Row(False, ("mocov2", "relative-location"), 85.59, 39.57),
    Row(True, ("mocov2", "swav"), 83.67, 41.79),
    Row(False, ("rotation", "mocov2"), 76.08, 31.87),
    Row(False, ("rotation", "relative-location"), 84.33, 44.48),
    Row(False, ("rotation", "swav"), 84.81, 41.46),
    Row(True, ("relative-location", "rotation"), 84.54, 48.63),
    Row(True, ("relative-location", "mocov2"), 82.79, 39.41),
    Row(True, ("relative-location", "swav"), 85.27, 46.26),
    Row(True, ("swav", "rotation"), 83.89, 47.16),
    Row(False, ("swav", "relative-location"), 84.92, 43.05),
    Row(False, ("swav", "mocov2"), 82.37, 36.51),
    Row(False, ("mocov2", "rotation", "relative-location"), 85.28, 38.82),
    Row(False, ("mocov2", "rotation", "swav"), 84.80, 30.69),
    Row(False, ("mocov2", "relative-location", "rotation"), 84.19, 38.51),
    Row(False, ("mocov2", "relative-location", "swav"), 85.49, 46.30),
    Row(True, ("mocov2", "swav", "rotation"), 85.67, 40.19),
    Row(False, ("mocov2", "swav", "relative-location"), 83.74, 40.89),
]

# Table 3 without pretext tasks: name -> (accuracy, attention)
TABLE_3_BASELINES: dict[str, tuple[float, float]] = {"imagenet": (82.75, 38.16), "scratch": (83.69, 37.30)}
