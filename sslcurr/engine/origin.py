"""The data set of the stages that a command names, for a command that names no data set itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from sslcurr.data.pack import Pack
from sslcurr.data.sources.catalog import CATALOG, DEFAULT
from sslcurr.data.sources.sets.entry import locate
from sslcurr.engine.ancestry import Weights, stage_of, title_of
from sslcurr.engine.store import Store
from sslcurr.errors import DataError, SpecError
from sslcurr.spec.request import OF_IMAGES, Request
from sslcurr.spec.stage import DataSpec, Json
from sslcurr.wording import and_more

QUESTION = "say with --dataset which images to use"
DEFAULTS: dict[str, Any] = {item.name: item.default for item in fields(Request) if item.name in OF_IMAGES}


@dataclass(frozen=True)
class Origin:
    """A data set that stages were trained on.

    Attributes:
        title: of one of the stages, for messages.
        data: its images, with their split.
    """

    title: str
    data: DataSpec

    def request(self, request: Request) -> Request:
        """A request for these images, divided as they were; what the request itself says of the split comes first.

        Raises:
            DataError: they are not where they were.
            SpecError: it is not known how they were named.
        """
        values = dict(self.data.request)
        if not values:  # a stage of a version that did not write it down
            if self.data.name not in CATALOG:
                raise SpecError(
                    f"{self.title} was trained on {self.data.name}, and where these images are is not known", QUESTION
                )
            values = {"dataset": self.data.name}
        dataset, root = str(values.pop("dataset")), values.pop("data_root", None)
        split = self.data
        settings = [f"data.val={split.val!r}", f"data.test={split.test!r}", f"data.seed={split.split_seed}"]
        settings += [f"data.folds={split.folds}", f"data.fold={split.fold}"] if split.folds else []
        others: dict[str, Any] = {  # JSON has lists for tuples
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
            if getattr(request, name) == DEFAULTS[name]
        }
        return replace(
            request,
            dataset=dataset,
            data_root=self._root(dataset, [None if root is None else Path(root), request.data_root]),
            settings=(*settings, *request.settings),
            **others,
        )

    def _root(self, dataset: str, roots: Sequence[Path | None]) -> Path | None:
        """The folder, of some, that holds the data set, which is a path or has a name."""
        if dataset not in CATALOG:
            if Path(dataset).exists():
                return None
            raise DataError(f"{self.title} was trained on {dataset}, which is not there any more", QUESTION)
        errors = []
        for root in roots:
            try:
                locate(dataset, CATALOG[dataset], root)
                return root
            except DataError as error:
                errors.append(error)
        raise DataError(f"{self.title} was trained on {dataset}: {errors[0]}", errors[0].hint) from errors[0]

    def check(self, pack: Pack) -> None:
        """Raise DataError where these images are others than those of the training."""
        if pack.fingerprint != self.data.fingerprint:
            raise DataError(
                f"{self.title} was trained on {self.data.name}, whose images, labels or splits have changed since",
                f"give --dataset {shown(self.data)} to use them as they are now",
            )


def shown(data: DataSpec) -> str:
    """The data set of a stage as a person names it."""
    return str(data.request.get("dataset", data.name))


def named_images(request: Request) -> Json:
    """How the images of a request are found again, also from another working directory."""
    dataset, root = request.dataset or DEFAULT, request.data_root
    values: dict[str, Any] = {name: getattr(request, name) for name in OF_IMAGES}
    names = [dataset, *request.unlabelled]
    needs_root = any(name in CATALOG and CATALOG[name].needs for name in names)
    values |= {
        "dataset": _lasting(dataset, root),
        "data_root": str((root or Path()).expanduser().absolute()) if needs_root else None,
        "unlabelled": [_lasting(name, root) for name in request.unlabelled] or (),
    }
    return {name: value for name, value in values.items() if value != DEFAULTS[name]}


def _lasting(dataset: str, root: Path | None) -> str:
    """A data set by its name, or by its whole path."""
    if dataset in CATALOG:
        return dataset
    path = Path(dataset).expanduser()
    places = [path] if root is None else [path, root.expanduser() / path]
    return str(next((each for each in places if each.exists()), path).resolve())


def origin_of(named: Sequence[tuple[str, Weights | None]], store: Store) -> Origin:
    """The one data set that all the stages which a command names were trained on.

    Args:
        named: what a person calls weights, and the weights; None is an untrained network, which has no data.
        store: where the stages are.

    Raises:
        SpecError: the stages were trained on different images, or for some it is not known on which.
    """
    origins: list[Origin] = []
    strangers: list[str] = []
    for text, weights in named:
        if weights is None:
            continue
        stage = stage_of(weights, store)
        if stage is None:
            strangers.append(text)
        else:
            origins.append(Origin(title_of(stage.key, stage.spec), stage.spec.data))
    if strangers:
        raise SpecError(f"on which images {strangers[0]} was trained is not known{and_more(len(strangers))}", QUESTION)
    if not origins:
        raise SpecError("an untrained network has no images of its own", QUESTION)
    first = origins[0]
    for other in origins[1:]:
        if other.data.fingerprint != first.data.fingerprint:
            names = f"{first.title} on {first.data.name}, {other.title} on {other.data.name}"
            raise SpecError(f"the stages were trained on different images: {names}", QUESTION)
        if split_options(other.data, first.data):
            raise SpecError(
                f"{first.title} and {other.title} were trained on {first.data.name}, divided in different ways",
                f"say which, such as --dataset {shown(first.data)} {split_options(first.data, other.data)}",
            )
    return first


def split_options(data: DataSpec, other: DataSpec) -> str:
    """The options that divide images as `data` does, as far as `other` divides them in another way."""
    names = ("val", "test", "split_seed", "folds", "fold")
    pairs = [(name.removeprefix("split_"), getattr(data, name), getattr(other, name)) for name in names]
    return " ".join(f"--set data.{name}={value}" for name, value, others in pairs if value != others)
