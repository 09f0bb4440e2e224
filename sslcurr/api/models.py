"""What trained models have learnt: CKA, Fréchet distances, probes, attention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType, structs

from sslcurr.analysis.results.distances.document import INCEPTION
from sslcurr.analysis.results.estimate import target_name
from sslcurr.analysis.results.overlap import Overlap
from sslcurr.api.overlap import checked_overlap, joined
from sslcurr.api.session import Session
from sslcurr.errors import SpecError
from sslcurr.spec.target import TARGETS

if TYPE_CHECKING:
    from sslcurr.analysis.evaluation.features import FeatureExtractor
    from sslcurr.analysis.results.attention.document import AttentionDocument, ChainAttention
    from sslcurr.analysis.results.distances.document import DistancesDocument
    from sslcurr.analysis.results.probing.document import ProbeDocument
    from sslcurr.analysis.results.similarity.document import SimilarityDocument
    from sslcurr.engine.dataset import Data
    from sslcurr.engine.graph import Job
    from sslcurr.engine.models import Model
    from sslcurr.engine.origin import Origin
    from sslcurr.engine.store import Stage, Store
    from sslcurr.spec.stage import DataSpec, StageSpec


def cka(
    session: Session,
    checkpoints: Sequence[str],
    *,
    split: str = "test",
    num_images: int | None = None,
    layers: str = "stages",
    estimator: str = "unbiased",
    kernel: str = "linear",
    pool: str = "none",
) -> SimilarityDocument:
    """How alike models are, layer by layer; see `CkaOptions`.

    Raises:
        SpecError: there is one checkpoint only, or a layer is unknown.
    """
    from sslcurr.analysis.evaluation.similarity import CkaSettings, compare, document_of, similarity_jobs
    from sslcurr.engine.runs import record_analysis

    if len(checkpoints) < 2:
        raise SpecError("there is one checkpoint, and CKA compares two at least", "give another, such as random")
    request = session.request
    settings = CkaSettings(
        layers=layers,
        split=split,
        num_images=num_images,
        estimator=estimator,
        kernel=kernel,
        pool=pool,
        batch_size=request.batch_size or 0,
        seed=request.seed,
    )
    store = session.store()
    session.plots()
    models = session.models(checkpoints, store)
    # Packed for the largest views that models were trained with, if any of them says so.
    size = max((model.image_size for model in models if model.image_size is not None), default=None)
    data = session.open_data(request.dataset, store, size, origin=_origin(session, models, checkpoints, store))
    session.carry_out(store, lambda: similarity_jobs(models, data, settings, store, image_size=request.image_size))
    with session.reporter.counting("comparing") as progress:
        similarity = compare(
            models, data, settings, store, session.device, image_size=request.image_size, progress=progress
        )
    for remark in similarity.remarks():
        session.reporter.note(remark)
    document = session.finished(document_of(similarity, settings, data))
    record_analysis(store, document, models, [data], [similarity.folder], invocation=session.invocation)
    session.draw(document)
    return document


def fid(
    session: Session,
    reference: str,
    datasets: Sequence[str],
    *,
    models: Sequence[str] = (INCEPTION,),
    layer: str = "pooled",
    split: str = "all",
    num_images: int | None = None,
    halves: int = 5,
    extrapolate: bool = False,
    accuracy: str | Path | None = None,
    inception_weights: str | Path | None = None,
    download: bool = False,
) -> DistancesDocument:
    """How far data sets are from a reference in the features of models; see `FidOptions`.

    Raises:
        SpecError, DataError: a layer is unknown, a table cannot be read, there are too few images.
    """
    from sslcurr.analysis.evaluation import distances
    from sslcurr.analysis.evaluation.features import extractors_of
    from sslcurr.engine.runs import record_analysis

    settings = distances.FidSettings(
        split=split, num_images=num_images, halves=halves, extrapolate=extrapolate, seed=session.request.seed
    )
    store = session.store()
    session.plots()
    backbones = session.models([text for text in models if text != INCEPTION], store)
    weights = None if inception_weights is None else Path(inception_weights)
    extractors = extractors_of(models, backbones, layer, weights, download=download)
    titles_of_models = [extractor.title for extractor in extractors]
    accuracies = None if accuracy is None else distances.read_accuracies(Path(accuracy), titles_of_models)
    names = [reference, *datasets]
    packs = Packs(session, names[0])
    opened = [packs.of(name, extractors[0]) for name in names]
    num = distances.common_number(opened[0], opened[1:], settings)
    title, *titles = distances.titles_of(names, opened)
    rows, used = [], []

    def jobs() -> Iterator[Job]:
        for extractor in extractors:
            base, *compared = [packs.of(name, extractor) for name in names]
            yield from distances.distances_jobs(extractor, base, compared, num, settings, store)

    session.carry_out(store, jobs)
    for extractor in extractors:
        base, *compared = [packs.of(name, extractor) for name in names]
        with session.reporter.counting(f"features of {extractor.title}") as progress:
            row, analyses = distances.measure(
                extractor, base, compared, num, settings, store, session.device, progress, titles=titles
            )
        rows.append(row)
        used += analyses
        for remark in distances.remarks_of(row, num, extrapolate=extrapolate):
            session.reporter.note(remark)
    if accuracies is None:
        stages = {model.title: model.stage for model in backbones if model.stage is not None}
        accuracies = distances.accuracies_in(store, stages)
    document = session.finished(distances.document_of(title, rows, accuracies, num, settings))
    about = f"{title}: {', '.join(titles)}"
    record_analysis(store, document, backbones, packs.all(), used, of=about, invocation=session.invocation)
    session.draw(document)
    return document


class Packs:
    """Data sets packed for what models are shown, each once.

    Args:
        session: the call.
        reference: the data set whose size counts where nobody knows what a model was trained on.
    """

    def __init__(self, session: Session, reference: str) -> None:
        self.session = session
        self.reference = reference
        self._packs: dict[tuple[str, int | None, bool], Data] = {}

    def of(self, name: str, extractor: FeatureExtractor) -> Data:
        """A data set for a model."""
        from sslcurr.analysis.evaluation.features import InceptionExtractor
        from sslcurr.analysis.evaluation.inception import IMAGE_SIZE

        if isinstance(extractor, InceptionExtractor):
            return self._open(name, IMAGE_SIZE, exact=True)
        size = self.session.request.image_size or extractor.image_size
        return self._open(name, size or self._open(self.reference, None).image_size)

    def _open(self, name: str, size: int | None, *, exact: bool = False) -> Data:
        key = (name, size, exact)
        if key not in self._packs:
            self._packs[key] = self.session.open_data(name, self.session.store(), size, exact=exact)
        return self._packs[key]

    def all(self) -> list[Data]:
        """All that were opened."""
        return list(self._packs.values())


def probe(
    session: Session, checkpoints: Sequence[str], *, layers: str = "*", projection: str | None = None
) -> ProbeDocument:
    """What frozen features are worth, layer by layer; see `ProbeOptions`.

    Raises:
        SpecError, DataError: a layer is unknown, or there are too few images.
    """
    from sslcurr.analysis.evaluation.embedding import embedding_jobs, embedding_of
    from sslcurr.analysis.evaluation.scores import document_of, remarks_of, score, score_job
    from sslcurr.engine.runs import record_analysis
    from sslcurr.spec.ranges import in_range

    request = session.request
    in_range("--label-fraction", request.label_fraction, 0, 1, above=True)
    store = session.store()
    plane = projection or ("pca" if session.plots() is not None else None)
    models = session.models(checkpoints, store)
    origin = _origin(session, models, checkpoints, store)
    rows, folders, planes = [], [], []
    packs: list[Data] = []
    overlap: Overlap | UnsetType = UNSET
    for model in models:
        packs.append(session.open_data(request.dataset, store, model.image_size, origin=origin))
        if len(packs) == 1:
            overlap = _overlap_of_probes(session, models, packs[0], store)
    fraction, size = request.label_fraction, request.image_size

    def jobs() -> Iterator[Job]:
        for model, data in zip(models, packs, strict=True):
            yield score_job(model, data, fraction, layers, store, image_size=size)
            yield from [] if plane is None else embedding_jobs(model, data, plane, store, seed=request.seed)

    session.carry_out(store, jobs)
    for model, data in zip(models, packs, strict=True):
        scores, folder = score(model, data, fraction, layers, store, session.device, image_size=size)
        rows.append(scores)
        folders.append(folder)
        if plane is not None:
            with session.reporter.counting(f"features of {model.title}") as progress:
                embedding, needed = embedding_of(
                    model, data, plane, store, device=session.device, seed=request.seed, progress=progress
                )
            planes.append(embedding)
            folders += needed
    for remark in remarks_of(packs[0]):
        session.reporter.note(remark)
    document = session.finished(
        structs.replace(
            document_of(rows, planes, dataset=packs[0].pack.name, label_fraction=fraction, seed=request.seed),
            overlap=overlap,
            target=target_name(TARGETS[packs[0].pack.target]),
        )
    )
    record_analysis(store, document, models, packs, folders, invocation=session.invocation)
    session.draw(document)
    return document


def _origin(session: Session, models: Sequence[Model], names: Sequence[str], store: Store) -> Origin | None:
    """The data set of the stages that models are; None where the call names one."""
    return session.origin(list(zip(names, (model.named_weights for model in models), strict=True)), store)


def _overlap_of_probes(session: Session, models: Sequence[Model], data: Data, store: Store) -> Overlap | UnsetType:
    """The reported images that models were trained on; unset where no labels are, and nothing is classified.

    Raises:
        DataError: there are some, and that is not allowed.
    """
    from sslcurr.analysis.evaluation.classifier import report_split
    from sslcurr.engine.selection import select

    if not data.pack.is_labelled:
        return UNSET
    target = data.spec(1.0)
    selection = select(target, labelled=True, pack=data.pack)
    weights = [model.named_weights for model in models]
    return checked_overlap(session, weights, target, selection, store, report_split(selection))


def attend(
    session: Session,
    names: Sequence[str],
    *,
    split: str = "test",
    method: str = "gradcam",
    target: str = "predicted",
    layer: str = "",
) -> AttentionDocument:
    """How much of the attention of fine-tuned models lies inside masks; see `AttendOptions`.

    Raises:
        SpecError, DataError: a name has no classes, a layer is unknown, no mask is known.
    """
    from sslcurr.analysis.evaluation import groups
    from sslcurr.analysis.evaluation.attention import AttentionSettings, attention_job, measure_attention
    from sslcurr.engine.ancestry import Weights
    from sslcurr.engine.runs import record_analysis

    settings = AttentionSettings(method, target, layer, session.request.image_size or 0)
    store = session.store()
    session.plots()
    chains = groups.chains_of(names, store, session.reporter.note)
    stages_of_all = [stage for stages in chains.values() for stage in stages]
    named = [(stage.key, Weights(stage.key)) for stage in stages_of_all]
    packs = MaskedPacks(session, session.origin(named, store))
    overlap = _overlap_of_chains(session, chains, packs, store, split)
    masks_of = {
        title: groups.masks_of_split(stages[0].spec, packs.of(title, stages[0].spec), split, store, session.reporter)
        for title, stages in chains.items()
    }

    def jobs() -> Iterator[Job]:
        for title, stages in chains.items():
            made = [attention_job(stage.spec, masks_of[title], settings) for stage in stages]
            yield from [job for job in made if job is not None]

    session.carry_out(store, jobs)
    rows, folders, every, shown = [], [], [], []
    for title, stages in chains.items():
        masks = masks_of[title]
        with session.reporter.counting(f"maps of {title}") as progress:
            measured = [
                measure_attention(stage, stage.spec, masks, settings, store, session.device, progress)
                for stage in stages
            ]
        rows.append(groups.chain_attention(title, stages, measured, masks))
        every.append(measured)
        shown.append(masks.rows)
        folders += [masks.folder, *(each.folder for each in measured)]
    rows = groups.compared(rows, every, shown)
    for remark in groups.remarks_of(rows):
        session.reporter.note(remark)
    dataset = packs.all()[0].pack.name
    document = groups.document_of(rows, settings, dataset=dataset, split=split, masks=session.request.masks)
    document = session.finished(structs.replace(document, overlap=overlap))
    about = groups.subject_of(list(chains), names)
    record_analysis(store, document, stages_of_all, packs.all(), folders, of=about, invocation=session.invocation)
    session.draw(document)
    _copy_sheets(session, rows)
    return document


def _overlap_of_chains(
    session: Session, chains: Mapping[str, Sequence[Stage]], packs: MaskedPacks, store: Store, split: str
) -> Overlap | UnsetType:
    """The reported images that chains were trained on, each chain's own where a data set is divided in several ways.

    Raises:
        DataError: there are some, and that is not allowed.
    """
    from sslcurr.analysis.evaluation import groups
    from sslcurr.engine.ancestry import Weights
    from sslcurr.engine.selection import select

    by_images: dict[DataSpec, list[Weights]] = {}
    packed: dict[DataSpec, Data] = {}
    for title, stages in chains.items():
        data = packs.of(title, stages[0].spec)
        images = groups.images_of_split(stages[0].spec, data)
        same = next((each for each in by_images if replace(each, pack_size=images.pack_size) == images), images)
        by_images.setdefault(same, []).extend(Weights(stage.key) for stage in stages)
        packed.setdefault(same, data)
    parts = []
    for images, weights in by_images.items():
        pack = packed[images].pack
        selection = select(images, labelled=len(pack.classes) > 0, pack=pack)
        parts.append(checked_overlap(session, weights, images, selection, store, split))
    return joined([part for part in parts if isinstance(part, Overlap)])


class MaskedPacks:
    """The data set whose masks count, packed for the views of each model, each size once.

    Args:
        session: the call.
        origin: the data set of the models, where the call names none.
    """

    def __init__(self, session: Session, origin: Origin | None) -> None:
        self.session = session
        self.origin = origin
        self._packs: dict[int, Data] = {}
        self._foreign: set[str] = set()

    def of(self, title: str, spec: StageSpec) -> Data:
        """The data set for a chain; it is said where the chain was fine-tuned on another."""
        session = self.session
        request, name = session.request, spec.data.name
        size = request.image_size or spec.config["image_size"]
        if size not in self._packs:
            self._packs[size] = session.open_data(
                request.dataset, session.store(), size, masks=request.masks, origin=self.origin
            )
        data = self._packs[size]
        if spec.data.fingerprint != data.pack.fingerprint and name not in self._foreign:
            self._foreign.add(name)
            session.reporter.note(f"{title} was fine-tuned on {name}; these are images of {data.pack.name}")
        return data

    def all(self) -> list[Data]:
        """All that were opened."""
        return list(self._packs.values())


def _copy_sheets(session: Session, chains: Sequence[ChainAttention]) -> None:
    """Copy the sheet of each chain into the folder for charts, if there is one."""
    from sslcurr.files import write_whole

    folder = session.plots()
    if folder is None:
        return
    for number, chain in enumerate(chains, start=1):
        path = folder / (f"sheet-{number}.png" if len(chains) > 1 else "sheet.png")
        write_whole(path, Path(chain.sheet).read_bytes())
        session.reporter.wrote(path)
