"""Rankings of made-up chains, with their predictions, as `rank` would give them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import ndtri

from sslcurr.analysis.experiments.chains import Chain, FailedChain, MeasuredChain
from sslcurr.analysis.experiments.orderings import orderings_of
from sslcurr.analysis.experiments.ranking import Results, document_of
from sslcurr.analysis.measures.intervals import Images
from sslcurr.analysis.results.ranking.document import Ordering, RankDocument
from sslcurr.seeds import numpy_generator

TASKS = ("swav", "mocov2", "rotation")
CLASSES = ("tuna", "bass", "eel")  # not in the order of the alphabet
Worth = Callable[[Ordering], float]


def images_of(num_images: int) -> tuple[np.ndarray, np.ndarray]:
    """[N] class numbers and [N] group numbers; two images make a group."""
    return np.arange(num_images) * len(CLASSES) // num_images, np.arange(num_images)[::-1] // 2


def measured(
    ordering: Ordering, seed: int, folder: Path, *, name: str, worth: float, num_images: int, groups: bool = True
) -> MeasuredChain:
    """A chain whose predictions are written as a report has them; `worth` is its accuracy on many."""
    labels, units = images_of(num_images)
    generator = numpy_generator(seed, "images", name)
    shared = numpy_generator(0, "difficulty").normal(size=num_images)
    right = (shared + generator.normal(size=num_images)) / 2**0.5 < ndtri(worth)
    predictions = np.where(right, labels, (labels + 1) % len(CLASSES))
    place = folder / f"{name}-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(
        {
            "path": [f"image-{number:03d}" for number in range(num_images)],
            **({"group": [str(unit) for unit in units]} if groups else {}),
            "label": [CLASSES[label] for label in labels],
            "prediction": [CLASSES[label] for label in predictions],
            **{f"probability_{each}": 0.5 for each in CLASSES},
        }
    )
    table.to_csv(place / "predictions.csv", index=False)
    accuracy = float(np.mean([right[labels == label].mean() for label in range(len(CLASSES))]))
    return MeasuredChain(ordering, seed, accuracy, accuracy - 0.01, right.astype(float), f"{name}-{seed}", place)


def ranking_of(
    folder: Path,
    seeds: Sequence[int],
    *,
    tasks: Sequence[str] = TASKS,
    lengths: Sequence[int] = (2, 3),
    worth: Worth = lambda ordering: 0.5,
    num_images: int = 90,
    failing: Sequence[tuple[Ordering, int]] = (),
    groups: bool = True,
) -> RankDocument:
    """A ranking of all orderings of some lengths; a chain of `failing` could not be trained at that seed."""

    def chain(ordering: Ordering, seed: int, name: str) -> Chain:
        if (ordering, seed) in failing:
            return FailedChain(ordering, seed, "the loss is not finite")
        return measured(ordering, seed, folder, name=name, worth=worth(ordering), num_images=num_images, groups=groups)

    results = Results(list(seeds))
    results.baselines["scratch"] = [chain((), seed, "scratch") for seed in seeds]
    for ordering in [(task,) for task in tasks] + orderings_of(tasks, lengths):
        results.chains[ordering] = [chain(ordering, seed, "+".join(ordering)) for seed in seeds]
    labels, units = images_of(num_images)
    command = f"sslcurr chain {' '.join(tasks)} --epochs 2 --seed {seeds[0]}"
    images = Images.of(len(labels), classes=labels, groups=units if groups else None)
    return document_of(results, images, dataset="fish", measure="finetune", command=command).made_by(
        ["sslcurr", "rank", *tasks]
    )
