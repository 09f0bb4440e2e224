"""What `cka`, `fid` and `probe` have in common: models, images, and a record of what they need."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslcurr.cli.options import Looking, Seeing

if TYPE_CHECKING:
    from sslcurr.cli.progress import Lines
    from sslcurr.engine.dataset import Data
    from sslcurr.engine.models import Model
    from sslcurr.engine.store import Stage, Store


def opened_data(
    shared: Seeing,
    dataset: str | None,
    store: Store,
    report: Lines,
    size: int | None,
    *,
    exact: bool = False,
    masks: Path | None = None,
) -> Data:
    """A data set, packed for views of `size` pixels (None: the data set's own), or to just that size."""
    from sslcurr.engine.dataset import open_data, split_of
    from sslcurr.spec import settings

    split = split_of(settings.parse(tuple(shared.settings or ()), ["data"]))
    wishes = shared.wishes(dataset, masks)
    if exact:
        split, wishes = replace(split, pack_size=size or 0), replace(wishes, image_size=size)
    with report.packing() as progress:
        data = open_data(wishes, split, store, size, progress)
    for text in data.notes:
        report.note(text)
    return data


def largest(models: Sequence[Model]) -> int | None:
    """The largest views that models were trained with, in pixels, if any of them says so."""
    return max((model.image_size for model in models if model.image_size is not None), default=None)


def note_sizes(shared: Looking, models: Sequence[Model], report: Lines) -> None:
    """Say so where models are shown images of different sizes: their features differ for that alone."""
    sizes = {model.title: shared.image_size or model.image_size for model in models}
    if len({size for size in sizes.values() if size is not None}) > 1:
        shown = ", ".join(f"{title} {size}" for title, size in sizes.items() if size is not None)
        report.note(f"models see images of different sizes, in pixels: {shown}; --image-size makes them equal")


def looked(
    store: Store,
    kind: str,
    document: dict[str, Any],
    models: Sequence[Model | Stage],
    data: Sequence[Data],
    folders: Sequence[Path],
    *,
    of: str = "",
) -> None:
    """Write down what a command found, and which stages, packs and analyses it needs, so that they are kept.

    `of` is what it was about; the titles of the models where nothing is given.
    """
    from sslcurr.cli.job import ancestors
    from sslcurr.engine.store import Stage, now

    own = [model if isinstance(model, Stage) else model.stage for model in models]
    stages = [key for stage in own if stage is not None for key in ancestors(stage.key, store)]
    names = list(dict.fromkeys(folder.name for folder in folders))
    titles = ", ".join(model.title for model in models if not isinstance(model, Stage))
    title = f"{kind} {of or titles}"
    record = {
        "asked": {"look": title, "analyses": names},
        "title": title,
        "dataset": ", ".join(dict.fromkeys(each.pack.name for each in data)),
        "seed": 0,
        "stages": list(dict.fromkeys(stages)),
        "analyses": names,
        "packs": list(dict.fromkeys(each.pack.folder.name for each in data)),
        "balanced_accuracy": None,
        "finished": True,
        "command": ["sslcurr", *sys.argv[1:]],
        "created": now(),
    }
    store.note_run(record)
    store.keep_result(record, kind, document)
