"""Finished models on images: what `predict` and `embed` do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from sslcurr.analysis.results.prediction.document import EmbedDocument, PredictDocument, PredictedImage
from sslcurr.api.session import Session
from sslcurr.errors import DataError, SpecError, did_you_mean
from sslcurr.files import check_writable, write_whole
from sslcurr.spec.ranges import in_range
from sslcurr.spec.target import CLASSES, MULTILABEL, REGRESSION
from sslcurr.wording import counted

if TYPE_CHECKING:
    from sslcurr.analysis.evaluation.inference import Predictor
    from sslcurr.analysis.evaluation.row_files import RowFile
    from sslcurr.analysis.results.training.document import TargetReport
    from sslcurr.data.sources.inputs import Input
    from sslcurr.data.stream import Block
    from sslcurr.engine.store import Store

# Without a file the predictions of as many images are in the document.
MOST_WITHOUT_FILE = 1000
SHOWN = 5  # labels in a note
NOT_KNOWN = "?"  # in the column of the label: of which nothing is known, where no label is a label too


@dataclass
class Images:
    """The images of a call, in their order, with what is known of them.

    Attributes:
        titles: [N] what tables call them.
        labels: [N] as texts, None for none; None where nothing is known of any.
        groups: [N] numbers; None without groups.
        inputs: where they are.
        own: rows of a stage's own pack, where its images are meant; None for others.
        split: what reports call them.
    """

    titles: list[str]
    labels: list[str | None] | None
    groups: NDArray[np.integer] | None
    inputs: list[Input] = field(default_factory=list)
    own: tuple[Any, NDArray[np.integer]] | None = None
    split: str = "given"

    def blocks(self, size: int, channels: int, workers: int) -> Iterator[Block]:
        """Blocks of all images, whose `places` are numbers among all of them."""
        from dataclasses import replace

        from sslcurr.data.contents import contents_of
        from sslcurr.data.stream import blocks_of, blocks_of_pack

        if self.own is not None:
            pack, rows = self.own
            yield from blocks_of_pack(pack, rows, contents_of(pack.folder))
            return
        first = 0
        for each in self.inputs:
            for block in blocks_of(each.source, size, channels=channels, workers=workers):
                broken = {first + place: reason for place, reason in block.broken.items()}
                yield replace(block, places=block.places + first, broken=broken)
            first += len(each.titles)


def predict(
    session: Session,
    model: str,
    inputs: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    top: int | None = None,
    ensemble: Sequence[str] = (),
    flips: bool = False,
    calibrated: bool = False,
    split: str = "test",
) -> PredictDocument:
    """What a fine-tuned model says of images; see `PredictOptions`.

    Raises:
        SpecError, StoreError, CheckpointError: there is no such model, or models do not go together.
        DataError: there are no such images.
    """
    from sslcurr.analysis.evaluation import inference

    path = None if out is None else Path(out).expanduser()
    if path is not None:
        from sslcurr.analysis.evaluation.row_files import TABLES, check_form

        check_form(path, TABLES)
        check_writable(path)
    if top is not None:
        in_range("--top", top, 1)
    if inputs and split != "test":
        raise SpecError(
            f"--split {split} is of the images that a stage was trained on, and others are named",
            "leave out --split, or the images",
        )
    store = session.store() if not session.runs.is_dir() else session.existing_store()
    models = inference.predictors_of([model, *ensemble], store, session.device, calibrated=calibrated)
    first = models[0]
    if flips and not any(each.flips for each in models):
        raise SpecError("the model was trained without mirror images", "leave out --flips")
    images = _images_of(session, inputs, first, split)
    if path is None and len(images.titles) > MOST_WITHOUT_FILE:
        raise SpecError(f"there are {counted(len(images.titles), 'image')}", "give --out predictions.csv for so many")
    found = Found(first, images, top)
    blocks = inference.predicted(
        models,
        lambda size, channels: images.blocks(size, channels, session.request.workers),
        calibrated=calibrated,
        flipped=flips,
    )
    with session.reporter.counting("predicting") as progress:

        def work(rows: RowFile | None) -> None:
            for block, predictions in blocks:
                found.add(block, predictions, rows)
                if progress is not None:
                    progress(found.num_done, len(images.titles))

        _written(path, work)
    reported = found.report(models, store, allow_overlap=session.request.allow_overlap)
    document = session.finished(
        PredictDocument(
            models=[each.title for each in models],
            target=first.target.name,
            classes=list(first.classes),
            inputs=list(inputs),
            split=UNSET if inputs else images.split,
            num_images=len(images.titles),
            num_broken=found.num_broken,
            calibrated=calibrated,
            flips=sorted({name for each in models for name in each.flips}) if flips else [],
            out=None if path is None else str(path),
            images=UNSET if path is not None else found.images,
            report=reported.report,
            num_trained=reported.num_trained,
            num_unknown=reported.num_unknown,
            unknown=reported.unknown,
        )
    )
    session.draw(document)
    return document


def _written(path: Path | None, work: Any) -> None:
    """Do work with a file of rows, which is there whole afterwards; or with none."""
    from sslcurr.analysis.evaluation.row_files import row_file

    if path is None:
        work(None)
        return
    suffix = path.suffix.lower()

    def write(temporary: Path) -> None:
        with row_file(temporary, suffix) as rows:
            work(rows)

    write_whole(path, write)


def _images_of(session: Session, texts: Sequence[str], model: Predictor, split: str) -> Images:
    """The images that a call names; a stage's own ones where it names none.

    Raises:
        DataError: there are none.
    """
    if not texts:
        return _own_images(model, split)
    from dataclasses import replace
    from functools import partial

    from sslcurr.data.sources.columns import Columns
    from sslcurr.data.sources.inputs import inputs_of

    request = session.request
    columns = Columns.of(request)
    if columns.target not in (None, model.target.name):
        raise SpecError(
            f"{model.title} predicts {model.target.outputs}, and --target says {columns.target}", "leave out --target"
        )
    read = partial(inputs_of, list(texts), request.data_root, request.frames)
    try:
        given = read(replace(columns, target=model.target.name))
    except DataError:
        if model.target is CLASSES:
            raise
        given = read(columns)  # labels of another kind, which is said
    for each in given:
        for note in each.source.notes:
            session.reporter.note(note)
        for fault in each.source.faults:
            session.reporter.note(f"{fault.name} {fault.reason}")
    labels = [label for each in given for label in _labels_of(session, each, model)]
    groups = [group for each in given for group in each.source.groups or [""] * len(each.titles)]
    return Images(
        titles=[title for each in given for title in each.titles],
        labels=labels if any(label is not None for label in labels) else None,
        groups=_numbered(groups) if any(groups) else None,
        inputs=given,
    )


def _labels_of(session: Session, given: Input, model: Predictor) -> list[str | None]:
    """What is known of images, as far as it is of the model's kind.

    Of a label that the images' table has no column for, nothing is known; nor of any where it has none of the model's.
    """
    from sslcurr.spec.target import BETWEEN, UNKNOWN

    source, target = given.source, model.target
    if not any(label is not None for label in source.labels):
        return list(source.labels)
    if source.target != target.name:
        session.reporter.note(
            f"the labels of {source.name} are no {target.outputs}: they are not compared with predictions"
        )
        return [None] * len(source.names)
    foreign = sorted(set(source.classes) - set(model.classes)) if target is not REGRESSION else []
    if foreign:
        known = did_you_mean(foreign[0], model.classes)
        session.reporter.note(
            f"{source.name} has labels that the model does not know: {', '.join(foreign[:SHOWN])}"
            f"{'' if len(foreign) <= SHOWN else ', ...'}; {known}"
        )
    if target is not MULTILABEL:
        return list(source.labels)
    told = set(source.label_columns) or (set(model.classes) if len(foreign) < len(source.classes) else set())
    unknown = [f"{UNKNOWN}{name}" for name in model.classes if name not in told]
    texts = [None if label is None else [part for part in label.split(BETWEEN) if part] for label in source.labels]
    return [None if parts is None else BETWEEN.join([*parts, *unknown]) for parts in texts]


def _numbered(groups: Sequence[str]) -> NDArray[np.integer]:
    alone = [group or f"\0{number}" for number, group in enumerate(groups)]
    return np.asarray(np.unique(alone, return_inverse=True)[1])


def _own_images(model: Predictor, split: str) -> Images:
    """The images of a split of the data set that a stage was fine-tuned on.

    Raises:
        SpecError: it is no stage. DataError: its images are gone, or there are none of that split.
    """
    from sslcurr.analysis.evaluation.classifier import label_texts, report_split
    from sslcurr.analysis.evaluation.inference import own_pack
    from sslcurr.engine.selection import select

    if model.stage is None:
        raise SpecError(f"{model.title} has no images of its own", "name a folder, a table or files after it")
    spec = model.stage.spec
    pack = own_pack(spec)
    if pack is None:
        raise DataError(f"the images that {model.title} was trained on are gone", "name a folder, a table or files")
    selection = select(spec.data, labelled=True, pack=pack)
    name = report_split(selection) if split == "test" else split
    rows = np.sort(np.concatenate(list(selection.rows.values()))) if name == "all" else selection.rows[name]
    if not len(rows):
        raise DataError(f"{pack.name} has no {split} images", "give --split all, or another")
    if pack.values is None:
        labels: list[str] = [pack.classes[label] for label in pack.labels[rows]]
    elif pack.target == "multilabel":
        labels = label_texts(pack.values[rows], pack.classes)
    else:
        labels = [f"{number:.9g}" for number in pack.values[rows, 0]]
    groups = None if pack.groups is None else pack.groups[rows]
    return Images([pack.names[row] for row in rows], list(labels), groups, own=(pack, rows), split=name)


class Found:
    """The predictions of a call as they come: rows of a file, or of the document, and what a report needs.

    Args:
        model: the first of the models.
        images: of the call.
        top: so many of the likeliest classes only; None gives the probabilities of all.
    """

    def __init__(self, model: Predictor, images: Images, top: int | None) -> None:
        self.model = model
        self.known = images
        self.top = None if top is None else min(top, len(model.classes))
        self.images: list[PredictedImage] = []
        self.num_done = 0
        self.num_broken = 0
        self.places: list[NDArray[np.integer]] = []
        self.predictions: list[NDArray[np.float64]] = []
        self.contents: list[NDArray[np.uint64]] = []

    def add(self, block: Block, predictions: NDArray[np.float64], rows: RowFile | None) -> None:
        """Take a block: [n, T] predictions of its images."""
        self.num_done += len(block.places) + len(block.broken)
        self.num_broken += len(block.broken)
        if self.known.labels is not None:
            self.places.append(block.places)
            self.predictions.append(predictions)
            self.contents.append(block.contents)
        columns = self._columns(block, predictions)
        if rows is not None:
            rows.write(columns)
        else:
            self.images += self._shown(block, predictions)

    def _order(self, block: Block) -> tuple[list[int], dict[int, int]]:
        """The numbers of all images of a block in order, and the rows of the predictions of those that were read."""
        rows = {int(place): row for row, place in enumerate(block.places)}
        return sorted([*rows, *block.broken]), rows

    def _columns(self, block: Block, predictions: NDArray[np.float64]) -> dict[str, Any]:
        from sslcurr.analysis.evaluation.classifier import predicted_columns

        places, rows = self._order(block)
        columns: dict[str, Any] = {"path": [self.known.titles[place] for place in places]}
        if self.known.labels is not None:
            columns["label"] = [self._label(place) for place in places]
        values = predicted_columns(predictions, self.model.target, self.model.classes)
        if self.top is not None and self.model.target.name != "regression":
            values = self._highest(predictions, values["prediction"])
        for name, column in values.items():
            plain = column.tolist() if isinstance(column, np.ndarray) else column
            columns[name] = [plain[rows[place]] if place in rows else None for place in places]
        columns["reason"] = [block.broken.get(place, "") for place in places]
        return columns

    def _label(self, place: int) -> str:
        """The label of an image as text."""
        label = None if self.known.labels is None else self.known.labels[place]
        if label is None:
            return NOT_KNOWN if self.model.target is MULTILABEL else ""
        return label

    def _highest(self, predictions: NDArray[np.float64], named: list[str]) -> dict[str, Any]:
        """The likeliest classes or labels, each with its probability."""
        assert self.top is not None
        order = np.argsort(-predictions, axis=1, kind="stable")[:, : self.top]
        columns: dict[str, Any] = {} if self.model.target is CLASSES else {"prediction": named}
        for place in range(self.top):
            columns[f"prediction_{place + 1}"] = [self.model.classes[number] for number in order[:, place]]
            columns[f"probability_{place + 1}"] = np.take_along_axis(predictions, order[:, [place]], axis=1)[:, 0]
        return columns

    def _shown(self, block: Block, predictions: NDArray[np.float64]) -> Iterator[PredictedImage]:
        from sslcurr.analysis.evaluation.classifier import predicted_columns

        places, rows = self._order(block)
        values = predicted_columns(predictions, self.model.target, self.model.classes)["prediction"]
        for place in places:
            label = UNSET if self.known.labels is None else self._label(place)
            title, reason = self.known.titles[place], block.broken.get(place, "")
            if place not in rows:
                yield PredictedImage(path=title, label=label, prediction=None, reason=reason)
                continue
            value, line = values[rows[place]], predictions[rows[place]]
            probabilities: dict[str, float] | UnsetType = UNSET
            if self.model.target.name != "regression":
                order = np.argsort(-line, kind="stable")[: self.top]
                probabilities = {self.model.classes[number]: float(line[number]) for number in order}
            shown = value if isinstance(value, str) else float(value)
            yield PredictedImage(path=title, label=label, prediction=shown, probabilities=probabilities, reason=reason)

    # ---- how good they are

    def report(self, models: Sequence[Predictor], store: Store, *, allow_overlap: bool) -> Reported:
        """How good the predictions are where labels are known.

        Images that models were trained on are left out, but not a stage's own: their split says what they are.
        """
        from sslcurr.analysis.evaluation.classifier import judged

        if self.known.labels is None or not self.places:
            return Reported()
        places, predictions = np.concatenate(self.places), np.concatenate(self.predictions)
        texts = [self.known.labels[place] for place in places]
        labelled = np.array([text is not None for text in texts])
        targets, known = _targets_of(texts, self.model)
        trained = np.zeros(len(places), dtype=bool)
        unknown: list[str] = []
        if not allow_overlap and self.known.own is None:
            seen, unknown = trained_among(np.concatenate(self.contents), models, store)
            trained = seen & labelled & known
        kept = known & ~trained
        report: TargetReport | UnsetType = UNSET
        if kept.any():
            groups = None if self.known.groups is None else self.known.groups[places[kept]]
            target, classes = self.model.target, self.model.classes
            _, report = judged(targets[kept], predictions[kept], target, classes, groups, self.known.split)
        return Reported(report, int(trained.sum()), int((labelled & ~known).sum()), unknown)


@dataclass(frozen=True)
class Reported:
    """How good predictions are, and which images say nothing of it.

    Attributes:
        report: unset where nothing is known of any image that counts.
        num_trained: labelled images that models were trained on.
        num_unknown: labelled images of which the models know no label.
        unknown: what is not known of the others, each completes "not known: ".
    """

    report: TargetReport | UnsetType = UNSET
    num_trained: int = 0
    num_unknown: int = 0
    unknown: list[str] = field(default_factory=list)


def _targets_of(texts: Sequence[str | None], model: Predictor) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Labels as numbers of a model's classes, or values of its labels; and which of them it knows."""
    from sslcurr.data.targets import values_of
    from sslcurr.spec.target import BETWEEN, UNKNOWN

    if model.target is CLASSES:
        number = {name: place for place, name in enumerate(model.classes)}
        codes = np.array([-1 if text is None else number.get(text, -1) for text in texts])
        return codes, codes >= 0
    if model.target.name == "multilabel":
        known_names = set(model.classes)
        names = {part.removeprefix(UNKNOWN) for text in texts if text for part in text.split(BETWEEN)}
        every = [*model.classes, *sorted(names - known_names)]
        values = values_of(model.target.name, every, texts)
        assert values is not None
        values = values[:, : len(model.classes)]
        return values, np.asarray(~np.isnan(values).all(axis=1))
    numbers = values_of(model.target.name, model.classes, texts)
    assert numbers is not None
    return numbers, np.asarray(~np.isnan(numbers[:, 0]))


def trained_among(
    contents: NDArray[np.uint64], models: Sequence[Predictor], store: Store
) -> tuple[NDArray[np.bool_], list[str]]:
    """Which images, [N, 2] contents, any of the stages that models went through was trained on; and what is not known,
    each completes "not known: "."""
    from sslcurr.data.contents import known_among
    from sslcurr.engine.ancestry import Weights, ancestry, title_of
    from sslcurr.engine.overlap import trained_images
    from sslcurr.engine.store import Store as StoreOf

    seen, unknown = np.zeros(len(contents), dtype=bool), []
    for model in models:
        if model.stage is None:
            unknown.append(f"whether {model.title} was trained on some of these images")
            continue
        home = StoreOf(model.stage.folder.parent.parent)
        found = ancestry(Weights(model.stage.key), home)
        if found.unknown:
            unknown.append(f"whether {found.unknown} was trained on some of these images")
        for stage in found.stages:
            trained = trained_images(stage, stage.spec, home)
            if trained is None:
                unknown.append(f"whether {title_of(stage.key, stage.spec)} was trained on some of these images")
            else:
                seen |= known_among(contents, trained)
    return seen, list(dict.fromkeys(unknown))


# ---- features


def embed(
    session: Session, model: str, inputs: Sequence[str], *, out: str | Path, layer: str = "pooled"
) -> EmbedDocument:
    """Features of images by any checkpoint, into a file; see `EmbedOptions`.

    Raises:
        SpecError, StoreError, CheckpointError: there is no such checkpoint or layer.
        DataError: there are no such images.
    """
    from sslcurr.analysis.evaluation import inference, row_files

    path = Path(out).expanduser()
    row_files.check_form(path, row_files.FEATURES)
    check_writable(path)
    if not inputs:
        raise SpecError("there are no images to embed", "name a folder, a table or files after the checkpoint")
    store, request = session.store(), session.request
    embedder = inference.embedder_of(session.models([model], store)[0], layer, session.device, request.image_size)
    given = _inputs_to_embed(session, inputs)
    for each in given:
        for note in each.source.notes:
            session.reporter.note(note)
    labels = [
        (NOT_KNOWN if each.source.target == MULTILABEL.name else "") if label is None else label
        for each in given
        for label in each.source.labels
    ]
    images = Images([title for each in given for title in each.titles], None, None, given)
    has_labels = any(label is not None for each in given for label in each.source.labels)
    num_broken = done = 0

    def write(temporary: Path) -> None:
        nonlocal num_broken, done
        is_zip = path.suffix.lower() == ".npz"
        opened = (
            row_files.feature_zip(temporary, len(images.titles))
            if is_zip
            else row_files.row_file(temporary, ".parquet")
        )
        with session.reporter.counting("features") as progress, opened as rows:
            for block in images.blocks(embedder.pack_size, embedder.channels, request.workers):
                places = sorted([*map(int, block.places), *block.broken])
                features = np.full((len(places), embedder.num_features), np.nan, dtype=np.float32)
                if len(block.places):
                    features[np.searchsorted(places, block.places)] = embedder.features(block)
                texts = {"path": [images.titles[place] for place in places]}
                texts |= {"label": [labels[place] for place in places]} if has_labels else {}
                texts["reason"] = [block.broken.get(place, "") for place in places]
                if isinstance(rows, row_files.FeatureZip):
                    rows.write(features, texts)
                else:
                    rows.write({**texts, **{f"feature_{d}": features[:, d] for d in range(embedder.num_features)}})
                num_broken += len(block.broken)
                done += len(places)
                if progress is not None:
                    progress(done, len(images.titles))

    write_whole(path, write)
    return session.finished(
        EmbedDocument(
            model=embedder.model.title,
            layer=layer,
            image_size=embedder.image_size,
            inputs=list(inputs),
            num_images=len(images.titles),
            num_broken=num_broken,
            num_features=embedder.num_features,
            out=str(path),
        )
    )


def _inputs_to_embed(session: Session, inputs: Sequence[str]) -> list[Input]:
    """The images that are embedded, with their labels where it is clear what these are: features need none."""
    from dataclasses import replace

    from sslcurr.data.sources.columns import NONE, Columns
    from sslcurr.data.sources.inputs import inputs_of

    request = session.request
    columns = Columns.of(request)
    try:
        return inputs_of(list(inputs), request.data_root, request.frames, columns)
    except DataError as error:
        if columns.label is not None:
            raise
        alone = replace(columns, label=NONE, group=columns.group or NONE, split=columns.split or NONE)
        given = inputs_of(list(inputs), request.data_root, request.frames, alone)
        session.reporter.note(f"features without labels: {error}")
        return given
