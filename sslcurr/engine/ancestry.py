"""The stages behind weights: which one they are of, and which came before it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sslcurr.engine.store import Stage, Store
from sslcurr.errors import StoreError
from sslcurr.files import read_json
from sslcurr.spec.stage import KEY_SHOWN, StageSpec
from sslcurr.wording import arrow

FILE_KEY = "sha256:"


class Weights(NamedTuple):
    """Weights that a command names.

    Attributes:
        key: of a stage, or `sha256:...` of a checkpoint file.
        source: the checkpoint file, where it is one.
    """

    key: str
    source: str = ""


class Ancestry(NamedTuple):
    """The stages that weights went through, as far as they are known.

    Attributes:
        stages: the last first.
        unknown: what stands before them and is not known, such as a file of another project; empty where all are known.
    """

    stages: list[Stage]
    unknown: str


def stage_of(weights: Weights, store: Store) -> Stage | None:
    """The stage that weights are of, found by their bytes where they are a copy; None where nobody knows it.

    A file in the folder of a stage of another store is known by the records beside it.
    """
    if not weights.key.startswith(FILE_KEY):
        return store.find(weights.key)
    digest = weights.key.removeprefix(FILE_KEY)
    beside = Path(weights.source).parent
    candidates = [Stage(beside.name, beside)] if (beside / "stage.json").is_file() else []
    for stage in [*candidates, *store.all()]:
        try:
            if stage.record.weights_sha256 == digest:
                return stage
        except StoreError:
            continue  # a damaged stage is not the one that is looked for
    return None


def ancestry(weights: Weights, store: Store) -> Ancestry:
    """The stages that weights went through."""
    stages: list[Stage] = []
    while True:
        stage = stage_of(weights, store)
        if stage is None:
            return Ancestry(stages, _named(weights, store))
        stages.append(stage)
        spec = stage.spec
        if spec.parent is None:
            return Ancestry(stages, "")
        store = store if stage.folder.parent == store.stages else Store(stage.folder.parent.parent)
        weights = Weights(spec.parent, spec.source)


def title_of(key: str, spec: StageSpec) -> str:
    """A stage in a message: its tasks and the beginning of its key."""
    return f"{arrow(spec.tasks)} ({key[:KEY_SHOWN]})"


def _named(weights: Weights, store: Store) -> str:
    """What a person calls weights of which no stage is known."""
    if not weights.source:
        return f"the stage {weights.key[:KEY_SHOWN]} (not in {store.root})"
    path = Path(weights.source)
    if path.parent.parent == store.imports.resolve():
        title = read_json(path.parent / "inputs.json").get("title")
        return str(title or read_json(path.parent / "done.json")["from"])
    return str(path)
