"""What one result says of a scientist's questions, in sentences that are made of its document alone.

A chain "beats" another only where the 95 % interval of their paired difference excludes 0 and the luck of seeds is
known (docs/statistics.md); else the two "cannot be told apart".
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

import msgspec

from sslcurr.analysis.report.asked import command_with, option_of
from sslcurr.analysis.results.attention.document import AttentionDocument
from sslcurr.analysis.results.columns import too_good
from sslcurr.analysis.results.distances.document import DistancesDocument
from sslcurr.analysis.results.document import OLD_INTERVALS, Document, is_set
from sslcurr.analysis.results.estimate import Difference, Estimate, Interval, in_points, measure_of, share, signed
from sslcurr.analysis.results.explanation.document import ExplanationDocument
from sslcurr.analysis.results.grid.document import Cell, GridDocument
from sslcurr.analysis.results.overlap import Overlap, overlap_lines
from sslcurr.analysis.results.probing.document import ProbeDocument
from sslcurr.analysis.results.ranking.document import Choice, OrderingRow, PermutationTest, RankDocument, TaskRow
from sslcurr.analysis.results.search.document import SearchDocument
from sslcurr.analysis.results.similarity.document import SimilarityDocument
from sslcurr.analysis.results.training.document import TargetReport, TrainDocument
from sslcurr.analysis.results.variants.document import VariantsDocument
from sslcurr.spec.target import TARGET_TASKS
from sslcurr.wording import arrow, counted

# Gaps: questions that a result leaves open, and others of its data set may answer.
SEEDS, BASELINE, ORDERS, AS_LONG, NETWORK, TEST = "seeds", "baseline", "orders", "as long", "network", "test"
CHAIN = "chain"
SURE_BELOW = 0.05


class Gap(msgspec.Struct, frozen=True):
    """What was not shown: a question, what is lacking in a sentence, and the command that would show it."""

    name: str
    text: str
    command: str = ""


class Baseline(msgspec.Struct, frozen=True):
    """A chain without pretext tasks: its name, main measure, interval and seeds."""

    name: str
    mean: float | None
    interval: Interval | None
    num_seeds: int


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What a result says; a sentence that it cannot say is empty.

    Attributes:
        dataset: the name of its data set.
        heading: the question of its card.
        weight: how much it says of the main questions: the higher, the rather it speaks for its data set.
        pretraining: does pretraining beat training from scratch?
        order: which order of tasks?
        matters: how much of what chains differ by is real?
        sure: seeds, images, ties, what failed.
        also: what an analysis adds.
        gaps: what it leaves open.
        closes: names of gaps of others that it closes.
        figure: the name of its main chart; empty where it has none.
        tasks: its pretext tasks.
        epochs: of its pretraining, where its command says it.
        alone: what its best task reaches alone, where it ranks nothing else.
        longest: tasks of its longest chain.
        baselines: what it is compared with.
        num_seeds: of every chain; 0 where it trains none.
        leaks: whether reported images were trained on before: 1 where some were, 0 where none, -1 where nobody looked.
    """

    dataset: str = ""
    heading: str = ""
    weight: tuple[int, int, int] = (0, 0, 0)
    pretraining: str = ""
    order: str = ""
    matters: str = ""
    sure: str = ""
    also: str = ""
    gaps: list[Gap] = []
    closes: list[str] = []
    figure: str = ""
    tasks: list[str] = []
    epochs: str = ""
    alone: str = ""
    longest: int = 0
    baselines: list[Baseline] = []
    num_seeds: int = 0
    leaks: int = -1


def answers_of(document: Document, command: Sequence[str] = ()) -> Answers:
    """What a document says; `command` is the line that made it, where that is known."""
    said = _said(document, command)
    overlap, seeds = getattr(document, "overlap", None), getattr(document, "seeds", None)
    leaks = -1 if not isinstance(overlap, Overlap) else int(overlap.images > 0 or overlap.copies > 0)
    trains = isinstance(document, RankDocument | TrainDocument | VariantsDocument | SearchDocument | GridDocument)
    return msgspec.structs.replace(
        said,
        leaks=leaks,
        num_seeds=len(seeds) if trains and isinstance(seeds, list) else 0,
        baselines=list(_baselines(document)),
    )


def _baselines(document: Document) -> Iterator[Baseline]:
    """What the chains of a document are compared with."""
    match document:
        case RankDocument():
            for name, chain in document.baselines.items():
                yield Baseline(name, chain.mean, chain.interval, len(chain.runs))
        case VariantsDocument():
            for variant in document.variants:
                for row in variant.chains:
                    if not row.ordering:
                        yield Baseline(f"{document.baseline}, {variant.title}", row.mean, row.interval, len(row.runs))
        case TrainDocument():
            if isinstance(document.baseline, TargetReport):
                yield Baseline("scratch", document.baseline.score, document.baseline.interval, 1)
        case GridDocument():
            for cell in document.cells:
                if cell.ssl_fraction is None:
                    name = f"{document.baseline}, {share(cell.label_fraction)} % of the labels"
                    yield Baseline(name, cell.mean, cell.interval, len(cell.runs))


def _said(document: Document, command: Sequence[str]) -> Answers:
    match document:
        case RankDocument():
            return of_ranking(document, command)
        case TrainDocument():
            return of_training(document, command)
        case VariantsDocument():
            return of_variants(document)
        case SearchDocument():
            return of_search(document, command)
        case GridDocument():
            return of_grid(document)
        case ExplanationDocument():
            return of_explanation(document)
        case AttentionDocument():
            return of_attention(document)
        case ProbeDocument():
            return of_probe(document)
        case SimilarityDocument():
            heading = f"How alike are the models? {_about(document.dataset)}"
            return Answers(dataset=document.dataset, heading=heading)
        case DistancesDocument():
            heading = f"How far are data sets from each other? {_about(document.reference)}"
            return Answers(dataset=document.reference, heading=heading)
        case _:
            return Answers()


# ---- words


def _about(dataset: str, seeds: Sequence[int] = ()) -> str:
    return f"{dataset}, {counted(len(seeds), 'seed')}" if seeds else dataset


def _named(names: Sequence[str]) -> str:
    """Names in a sentence: `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _figure(mean: float | None, interval: Interval | None = None) -> str:
    """A main measure with its interval."""
    ends = "" if interval is None else f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"
    return f"{share(mean)} %{ends}"


def _points(difference: Difference | PermutationTest) -> str:
    """A difference in points with its interval: `+8.2 points (+2.2 to +14.2)`."""
    mean = difference.mean if isinstance(difference, Difference) else difference.effect
    assert mean is not None
    number = signed(100 * mean)
    ends = difference.interval
    text = f"{number} point{'' if number in ('+1.0', '-1.0') else 's'}"
    return text if ends is None else f"{text} ({signed(100 * ends[0])} to {signed(100 * ends[1])})"


def _from(baseline: str) -> str:
    """What a baseline is called in a sentence."""
    return "scratch" if baseline == "scratch" else "the weights that the chains start from"


def _failed(number: int) -> str:
    return "" if not number else f" {counted(number, 'chain')} failed and {'is' if number == 1 else 'are'} left out."


def _trust(document: Document, split: str, overlap: Overlap | object, dataset: str) -> str:
    """What makes figures too good, or intervals too narrow."""
    lines = too_good(split)
    if isinstance(overlap, Overlap):
        lines += [f"{line[0].upper()}{line[1:]}." for line in overlap_lines(overlap, dataset)]
    if document.has_old_intervals:
        lines.append(OLD_INTERVALS)
    return "".join(f" {line}" for line in lines)


def _measured_on(num_images: int, split: str, seeds: Sequence[int]) -> str:
    images = counted(num_images, f"{split} image")
    if len(seeds) == 1:
        return f"One seed and {images}: intervals are over images only, so nothing can be told apart."
    few = " Two seeds hardly show the luck of seeds." if len(seeds) == 2 else ""
    return f"{len(seeds)} seeds and {images}; intervals are 95 %, over both.{few}"


def _seeds_gap(tasks: Sequence[str], length: int, command: Sequence[str], dataset: str) -> Gap:
    options = f"--length {length} --seeds 3" if length > 1 else "--seeds 3"
    text = "Whether another seed gives the same answer: one seed tells nothing apart."
    return Gap(SEEDS, text, command_with("rank", tasks, command, dataset, options))


# ---- rankings


def of_ranking(document: RankDocument, command: Sequence[str] = ()) -> Answers:
    """What a ranking of single tasks, with orderings or without, says."""
    orderings = document.orderings if is_set(document.orderings) else []
    tasks = document.curriculum or [row.task for row in document.tasks]
    longest = max([len(row.ordering) for row in orderings] or [1])
    gaps = []
    if document.baseline is None:
        gaps.append(
            Gap(BASELINE, "Whether pretraining helps at all: nothing was trained from scratch to compare with.")
        )
    if len(document.seeds) == 1:
        gaps.append(_seeds_gap(tasks, longest, command, document.dataset))
    if not orderings and len(tasks) > 1:
        options = f"--length {len(tasks)} --seeds {max(3, len(document.seeds))}"
        again = command_with("rank", tasks, command, document.dataset, options)
        gaps.append(Gap(ORDERS, "Which order is best: each task was trained alone.", again))
    chosen = _chosen_chain(document)
    if chosen is not None and document.baseline is not None and not isinstance(chosen.gain, Difference):
        lacking = "Whether the chosen chain beats it: an older sslcurr kept no interval of that difference."
        gaps.append(Gap(CHAIN, lacking, shlex.join(command)))
    if orderings:
        gaps.append(_as_long(tasks, longest, command, document.dataset))
    if document.split != "test":
        gaps.append(
            Gap(TEST, f"How good it is on images that chose nothing: the {document.split} images are reported.")
        )
    network = option_of(command, "backbone") or "resnet18"
    other = "resnet18" if network != "resnet18" else "resnet50"
    again = command_with("rank", tasks, command, document.dataset, f"--over backbone={network},{other} --seeds 3")
    gaps.append(Gap(NETWORK, "Whether another network agrees.", again))
    measured = [row for row in document.tasks if row.mean is not None]
    best = max(measured, key=lambda row: row.mean or 0.0, default=None)
    heading = "Which task order is best?" if orderings else "Which task is best?"
    level = (8 if orderings else 7) - 2 * (len(document.seeds) == 1)
    return Answers(
        dataset=document.dataset,
        heading=f"{heading} {_about(document.dataset, document.seeds)}",
        weight=(level, len(document.seeds), len(document.tasks) + len(orderings)),
        pretraining=_pretraining(document, measured),
        order=_order(document, orderings),
        sure=_sure(document),
        gaps=gaps,
        closes=[ORDERS] if orderings else [],
        figure=("orderings" if orderings else "singles") if measured else "",
        tasks=list(tasks),
        epochs=option_of(command, "epochs") or "",
        alone="" if orderings or best is None else f"{best.task} alone has {_figure(best.mean, best.interval)}",
        longest=longest,
    )


def _as_long(tasks: Sequence[str], length: int, command: Sequence[str], dataset: str) -> Gap:
    epochs = option_of(command, "epochs")
    options = f"--epochs {length * int(epochs)} --seeds 3" if epochs and epochs.isdigit() else "--seeds 3"
    text = f"Whether it is the sequence or the longer training: a chain of {length} is trained {length} times as long."
    return Gap(AS_LONG, text, command_with("rank", tasks, command, dataset, options) if epochs else "")


def _pretraining(document: RankDocument, rows: Sequence[TaskRow]) -> str:
    """Whether the tasks, and the chain that was chosen, beat the baseline."""
    baseline = document.baseline
    gains = {row.task: row.gain for row in rows if isinstance(row.gain, Difference) and row.gain.mean is not None}
    if baseline is None or not gains:
        return ""
    start, summary = _from(baseline), document.baselines[baseline]
    signs = {task: gain.sign for task, gain in gains.items()}
    chosen = _chosen_chain(document)
    verdict = _verdict(signs, start, len(document.seeds), chosen)
    text = verdict.replace(start, f"{start} ({_figure(summary.mean)})", 1)
    best = max(rows, key=lambda row: row.mean if row.task in gains and row.mean is not None else -1.0)
    gain = gains[best.task]
    over = f"paired over {counted(len(document.seeds), 'seed')}" if len(document.seeds) > 1 else "over images"
    text += f" {'The best task' if len(rows) > 1 else best.task}{f', {best.task},' if len(rows) > 1 else ''} has "
    text += f"{_figure(best.mean)}: {_points(gain)}, {over}."
    return text + _chain_sentence(document, chosen, start)


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def _verdict(signs: dict[str, int], start: str, num_seeds: int, chosen: OrderingRow | None) -> str:
    """The answer in a clause."""
    better = [task for task, sign in signs.items() if sign > 0]
    worse = [task for task, sign in signs.items() if sign < 0]
    others = len(signs) - len(better) - len(worse)
    rest = ""
    if worse:
        rest = f" {_named(worse)} {'is' if len(worse) == 1 else 'are'} worse."
    if others and (better or worse):
        rest += f" {_capital(_number(others))} cannot be told apart from {start.partition(' (')[0]}."
    if num_seeds == 1:
        return f"Not shown, since one seed tells nothing apart from {start}."
    if better:
        every = f"Yes: each of the {len(signs)} tasks alone beats {start}." if len(signs) > 1 else ""
        if len(better) == len(signs):
            return every or f"Yes: {better[0]} beats {start}."
        return f"In part: of {len(signs)} tasks alone {_named(better)} beat{'s' * (len(better) == 1)} {start}.{rest}"
    if chosen is not None and isinstance(chosen.gain, Difference) and chosen.gain.sign > 0:
        return f"By a chain: no task alone beats {start}, a chain does.{rest}"
    if len(worse) == len(signs):
        return f"No: {'every task alone' if len(worse) > 1 else worse[0]} is worse than {start}."
    if worse:
        return f"No: no task alone beats {start}.{rest}"
    if len(signs) == 1:
        return f"Not shown: {next(iter(signs))} cannot be told apart from {start}."
    return f"Not shown: no task alone can be told apart from {start}."


def _number(count: int) -> str:
    return "one task" if count == 1 else f"{count} tasks"


def _chosen_chain(document: RankDocument) -> OrderingRow | None:
    """The row of the ordering that the validation images choose, or else of the best by the reported images."""
    best = document.best
    if not is_set(best) or best is None or not is_set(document.orderings):
        return None
    choice = best.on_validation if isinstance(best.on_validation, Choice) else best.on_reported
    if not isinstance(choice, Choice):
        return None
    return next((row for row in document.orderings if row.ordering == choice.ordering), None)


def _chain_sentence(document: RankDocument, chosen: OrderingRow | None, start: str) -> str:
    if chosen is None or chosen.mean is None:
        return ""
    best = document.best
    by = (
        "validation" if is_set(best) and best is not None and isinstance(best.on_validation, Choice) else document.split
    )
    text = (
        f" The chain that the {by} images choose, {arrow(chosen.ordering)}, has {_figure(chosen.mean, chosen.interval)}"
    )
    if isinstance(chosen.gain, Difference) and chosen.gain.mean is not None:
        told = "" if chosen.gain.sign > 0 else f", not told apart from {start}" if chosen.gain.sign == 0 else ", worse"
        return f"{text}: {_points(chosen.gain)}{told}."
    return f"{text}."


def _order(document: RankDocument, orderings: Sequence[OrderingRow]) -> str:
    """Which order, and whether curricula are better."""
    if not orderings:
        if len(document.curriculum) < 2:
            return ""
        return f"Not tested. By rising accuracy alone the curriculum would be {arrow(document.curriculum)}."
    text = ""
    best = document.best
    if is_set(best) and best is not None:
        reported, chosen = best.on_reported, best.on_validation
        if isinstance(reported, Choice) and isinstance(chosen, Choice) and reported.ordering == chosen.ordering:
            text = (
                f"{arrow(chosen.ordering)}: best of {best.num_chains} chains on the {document.split} images, and the "
            )
            text += f"one that the validation images choose, with {_figure(chosen.mean, chosen.interval)}."
        elif isinstance(chosen, Choice):
            text = (
                f"The validation images choose {arrow(chosen.ordering)}, with {_figure(chosen.mean, chosen.interval)}."
            )
        if isinstance(reported, Choice) and not (isinstance(chosen, Choice) and reported.ordering == chosen.ordering):
            text += (
                f" Best on the {document.split} images is {arrow(reported.ordering)}, {_figure(reported.mean)}: the "
            )
            text += f"best of {best.num_chains}, so its figure is too good."
    tested = document.hypothesis.permutation if is_set(document.hypothesis) else []
    test = next((each for each in tested if each.strata == "set"), next(iter(tested), None))
    return f"{text}{_curricula(test)}".strip()


def _curricula(test: PermutationTest | None) -> str:
    """Whether curricula are better than other orderings."""
    if test is None or test.effect is None:
        return ""
    against = "other orders of the same tasks" if test.strata == "set" else "other orders as long"
    text = _points(test)
    p = "" if test.p_value is None else f", p = {test.p_value:.2g}"
    if test.p_value is None or test.interval is None:
        return f" Curricula against {against}: {text}, not tested."
    if test.interval[0] > 0 and test.p_value < SURE_BELOW:
        return f" Curricula (tasks by rising accuracy) beat {against}: {text}{p}."
    if test.interval[1] < 0:
        return f" Curricula (tasks by rising accuracy) are worse than {against}: {text}."
    return f" That curricula (tasks by rising accuracy) beat {against} is not shown: {text}{p}."


def _chosen_sign(document: RankDocument) -> bool:
    """Whether any task beats the baseline, so that the best of them is quoted as better."""
    return any(isinstance(row.gain, Difference) and row.gain.sign > 0 for row in document.tasks)


def _sure(document: RankDocument) -> str:
    text = _measured_on(document.num_images, document.split, document.seeds)
    if document.ties and len(document.seeds) > 1:
        groups = "; ".join(map(arrow, document.ties))
        text += f" Neighbours in the ranking that cannot be told apart: {groups}."
    if len(document.tasks) > 1 and _chosen_sign(document):
        text += " The best task is the best by the images that it is quoted on, so it is a little too good."
    trust = _trust(document, document.split, document.overlap, document.dataset)
    return text + _failed(len(document.failed)) + trust


# ---- chains


def of_training(document: TrainDocument, command: Sequence[str] = ()) -> Answers:
    """What a trained chain says, beside its baseline or alone."""
    tasks = [stage.task for stage in document.stages if stage.task not in TARGET_TASKS]
    dataset = document.dataset if is_set(document.dataset) else ""
    seeds = document.seeds if is_set(document.seeds) else [0]
    name = arrow(tasks) or "the network without pretraining"
    report, baseline = document.downstream, document.baseline
    if not isinstance(report, TargetReport):
        options = "--seeds 3" if len(tasks) < 2 else f"--length {len(tasks)} --seeds 3"
        gap = Gap(
            BASELINE,
            "Whether this pretraining is good for anything: nothing was fine-tuned on labels.",
            command_with("rank", tasks, command, dataset, options),
        )
        heading = f"Pretraining by {name}. {_about(dataset, seeds)}"
        return Answers(dataset=dataset, heading=heading, weight=(2, 1, len(tasks)), gaps=[gap], tasks=tasks)
    sure = _measured_on(report.num_images, report.split, seeds)
    sure += _trust(document, report.split, document.overlap, dataset)
    gaps = [_seeds_gap(tasks, len(tasks), command, dataset)] if tasks else []
    pretraining = ""
    if isinstance(baseline, TargetReport) and tasks:
        pretraining = _against_scratch(name, report, baseline, document.gain)
        heading = f"Does {name} beat scratch?"
    else:
        heading = f"How good is {name}?" if tasks else "How good is training from scratch?"
        lacking = "Whether pretraining helps: the same training from scratch is missing."
        again = command_with("chain", tasks, command, dataset, "--baseline scratch") if tasks else ""
        gaps.insert(0, Gap(BASELINE, lacking, again))
        sure = f"{_capital(name)} has {_figure(report.score, report.interval)} {report.kind.measure}. {sure}"
    return Answers(
        dataset=dataset,
        heading=f"{heading} {_about(dataset, seeds)}",
        weight=(4 if pretraining else 3, len(seeds), len(tasks)),
        pretraining=pretraining,
        order=f"One order was trained: {arrow(tasks)}." if len(tasks) > 1 else "",
        sure=sure,
        gaps=gaps,
        figure="confusion",
        tasks=tasks,
        longest=len(tasks),
    )


def _against_scratch(name: str, report: TargetReport, baseline: TargetReport, gain: Difference | object) -> str:
    """A chain against its baseline at one seed."""
    figures = f"{name} has {_figure(report.score)} {report.kind.measure}, scratch {_figure(baseline.score)}"
    if not isinstance(gain, Difference) or gain.mean is None or gain.interval is None:
        return f"Not shown: {figures}; their difference has no interval."
    text = f"{figures}: {_points(gain)} over the same images."
    low, high = gain.interval
    if gain.sign > 0:
        return f"Yes: {text}"
    if gain.sign < 0:
        return f"No: {text}"
    if low > 0 or high < 0:
        sign = "More" if low > 0 else "Less"
        return f"Not shown with one seed: {text} {sign} than the luck of images explains, but another seed may differ."
    return f"Not shown: the two cannot be told apart. {_capital(text)}"


# ---- other tables of chains


def of_variants(document: VariantsDocument) -> Answers:
    """What a ranking over settings says: in how many of them pretraining wins, and whether they agree."""
    names = [axis.name for axis in document.axes]
    wins, chains = 0, 0
    for variant in document.variants:
        gains = [row.gain for row in variant.chains if row.ordering and isinstance(row.gain, Difference)]
        chains += len(gains)
        wins += sum(gain.sign > 0 for gain in gains)
    pretraining = ""
    if chains:
        pretraining = (
            f"Over {counted(len(document.variants), 'setting')} of {_named(names)}, {wins} of "
            f"{counted(chains, 'chain')} beat {_from(document.baseline)}"
            f"{'' if wins == chains else '; the others do not, by more than luck'}."
        )
    changes = [each.mean_change for each in document.variants if isinstance(each.mean_change, Difference)]
    apart = sum(change.sign != 0 for change in changes)
    also = ""
    if changes:
        others = "the other setting" if len(changes) == 1 else f"{len(changes)} other settings"
        verb = (
            f"{apart} of {others} change"
            if len(changes) > 1
            else others + (" changes" if apart else " does not change")
        )
        also = f"Over {_named(names)}, {verb} the mean of the chains by more than luck."
    sure = _measured_on(document.num_images, document.split, document.seeds)
    return Answers(
        dataset=document.dataset,
        heading=f"Does the ranking hold for other settings ({', '.join(names)})? "
        + _about(document.dataset, document.seeds),
        weight=(6 - 2 * (len(document.seeds) == 1), len(document.seeds), chains),
        pretraining=pretraining,
        sure=sure
        + _failed(len(document.failed))
        + _trust(document, document.split, document.overlap, document.dataset),
        also=also,
        closes=[NETWORK] if "backbone" in names else [],
        figure="variants",
        tasks=document.tasks,
    )


def of_search(document: SearchDocument, command: Sequence[str] = ()) -> Answers:
    """What an automatic curriculum says."""
    row = next((each for each in document.finalists if each.ordering == document.ordering), None)
    order = ""
    if row is not None and document.ordering:
        interval = row.interval if is_set(row.interval) else None
        order = (
            f"A search chooses {arrow(document.ordering)}, {_figure(row.mean, interval)} on the {document.split} images"
        )
        if is_set(document.posterior):
            post = document.posterior
            order += (
                f"; with a probability of {post.probability:.2f} it is within {in_points(post.tolerance)} of the best "
                "on validation images"
            )
        order += f". It cost {share(document.cost.share)} % of training all orderings."
    gaps = []
    if document.ordering:
        again = command_with("chain", document.ordering, command, document.dataset, "--baseline scratch")
        gaps.append(Gap(BASELINE, "Whether it beats scratch: a search trains nothing from scratch.", again))
    seeds = counted(len(document.seeds), "seed")
    return Answers(
        dataset=document.dataset,
        heading=f"Which order does a search find? {_about(document.dataset, document.seeds)}",
        weight=(5, len(document.seeds), len(document.finalists)),
        order=order,
        sure=f"At most {seeds} each.{_failed(len(document.failed))}"
        + _trust(document, document.split, document.overlap, document.dataset),
        gaps=gaps,
        closes=[ORDERS] if order else [],
        figure="search",
        tasks=sorted(document.ordering),
    )


def of_grid(document: GridDocument) -> Answers:
    """What shares of images and labels say: where pretraining wins."""
    cells = [cell for cell in document.cells if isinstance(cell.gain, Difference) and cell.gain.mean is not None]
    pretraining = ""
    if cells:
        wins = sum(_gain(cell).sign > 0 for cell in cells)
        most = max(cell.ssl_fraction or 0.0 for cell in cells)
        ends = sorted(
            (cell for cell in cells if (cell.ssl_fraction or 0.0) == most), key=lambda cell: cell.label_fraction
        )
        few, many = ends[0], ends[-1]
        text = f"With {share(few.label_fraction)} % of the labels: {_points(_gain(few))}"
        if many is not few:
            text += f"; with {share(many.label_fraction)} %: {_points(_gain(many))}"
        where = f"in {wins} of {counted(len(cells), 'pair')} of shares"
        if wins == len(cells):
            where = "for every share of images and labels"
        whole = f"{arrow(document.tasks)} beats scratch {where}"
        pretraining = f"{whole}. {text}."
    return Answers(
        dataset=document.dataset,
        heading=f"How many labels and images does it take? {_about(document.dataset, document.seeds)}",
        weight=(5 if cells else 1, len(document.seeds), len(document.cells)),
        pretraining=pretraining,
        sure=f"{counted(len(document.seeds), 'seed')}.{_failed(len(document.failed))}"
        + _trust(document, document.split, document.overlap, document.dataset),
        figure="grid",
        tasks=document.tasks,
    )


def _gain(cell: Cell) -> Difference:
    assert isinstance(cell.gain, Difference)
    return cell.gain


def of_explanation(document: ExplanationDocument) -> Answers:
    """How much of what chains differ by is real; of the longest chains, which are trained equally long."""
    blocks = [block for block in document.blocks if block.length and block.length > 1 and block.shares is not None]
    matters = ""
    if blocks:
        block = max(blocks, key=lambda each: each.length or 0)
        shares = block.shares
        assert shares is not None
        p = "" if block.p_value is None else f", p {'< 0.001' if block.p_value < 0.001 else f'= {block.p_value:.2g}'}"
        known = block.p_value is not None and block.p_value < SURE_BELOW and shares.interval[0] > 0
        real = f"{100 * shares.real:.0f} % ({100 * shares.interval[0]:.0f} to {100 * shares.interval[1]:.0f})"
        which = f"the {block.num_chains} chains of {block.length} tasks"
        matters = (
            f"The order and choice of tasks matter: {real} of what {which} differ by is real{p}."
            if known
            else f"That the order matters is not shown: {real} of what {which} differ by is real{p}."
        )
    return Answers(
        dataset=document.dataset,
        heading=f"How much of the differences is real? {_about(document.dataset, document.seeds)}",
        weight=(1, len(document.seeds), 0),
        matters=matters,
        tasks=document.tasks,
    )


# ---- analyses


def of_attention(document: AttentionDocument) -> Answers:
    """Where the best of the chains looks."""
    chains = [chain for chain in document.chains if chain.attention.mean is not None]
    also = ""
    if chains:
        best = max(chains, key=lambda chain: chain.attention.mean or 0.0)
        told = _inside(best.attention, best.coverage)
        figure = _figure(best.attention.mean, best.attention.interval)
        covered = f"which cover {share(best.coverage)} %{told}"
        also = f"Attention: of {best.chain} {figure} lies inside the masks, {covered}."
        if len(chains) > 1:
            also += f" It is the highest of {counted(len(chains), 'chain')}."
    seeds = document.seeds if is_set(document.seeds) else []
    return Answers(
        dataset=document.dataset,
        heading=f"Where do the models look? {_about(document.dataset, seeds)}",
        weight=(1, len(seeds), len(chains)),
        also=also,
    )


def _inside(attention: Estimate, coverage: float) -> str:
    if attention.interval is None:
        return ""
    low, high = attention.interval
    if low <= coverage <= high:
        return "; that it prefers them is not shown"
    return ": more than without preference" if low > coverage else ": less than without preference"


def of_probe(document: ProbeDocument) -> Answers:
    """The best frozen features, by the layer that is last."""
    found = []
    for model in document.models:
        layers = [layer.linear or layer.knn for layer in model.layers.values()]
        values = [probe for probe in layers if probe is not None and probe.value is not None]
        if values:
            found.append((model.model, values[-1]))
    also = ""
    if found:
        measure = measure_of(document.target)
        texts = [f"{name} {_figure(probe.value, probe.interval)}" for name, probe in found[:3]]
        also = f"Frozen features of the last layer ({measure}): {'; '.join(texts)}."
    return Answers(
        dataset=document.dataset,
        heading=f"What are frozen features worth? {_about(document.dataset)}",
        weight=(1, 1, len(document.models)),
        also=also,
    )
