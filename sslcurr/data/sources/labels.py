"""What labels can be: one class an image, written in one way; several labels that may hold together; or a number."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sslcurr.data.sources.source import sorted_classes
from sslcurr.data.sources.words import is_missing, word_set
from sslcurr.errors import DataError
from sslcurr.spec.target import BETWEEN, CLASSES, MULTILABEL, REGRESSION, TARGETS, UNKNOWN, labels_text
from sslcurr.wording import and_more, counted, shortened

__all__ = ["ReadLabels", "check_kind", "is_of_one_label", "read_labels", "together", "with_one_form"]

MOST_FRACTIONS = 10  # different values with a fraction that may still be names of classes
FEWEST_OF_SEVERAL = 0.01  # share of the images that have several labels where that is no slip
MOST_RARE_NUMBERS = 20  # different whole numbers, half of which have fewer images than there are splits
FEWEST = 3
NUMBER = re.compile(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?")
LIST = re.compile(r"\s*['\"].*|[\d.]+(?:[\s,]+[\d.]+)+[\s,]*")  # 'a', 'b' of a set; 0 1 of an array
YES_AND_NO = word_set("0 1 true false yes no y n t f")
NOT_GIVEN = word_set("-1 -9 -99 -999 -9999 99 999 9999")
UNLABELLED_HINT = "--label-column none pretrains without labels"
SIGNS_HINT = f"take the {BETWEEN} or {UNKNOWN} out of its name"
SEPARATORS = ("|", ";", ",")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
LARGEST = 3.4e38  # of float32
MOST_ODD = 0.05  # share of the different labels that may be no numbers where the others are
NO_FINDING = word_set("nofinding nofindings")
YES, NO = word_set("1 1.0 true yes y t"), word_set("0 0.0 false no n f")


def with_one_form(labels: Sequence[str | None]) -> list[str | None]:
    """Labels that are the same letters in two Unicode forms (é as one character, or as two) in the composed one."""
    forms: dict[str, set[str]] = {}
    for label in set(labels):
        if label is not None:
            forms.setdefault(unicodedata.normalize("NFC", label), set()).add(label)
    one_form = {each: form for form, written in forms.items() if len(written) > 1 for each in written}
    return [one_form.get(label, label) if label is not None else None for label in labels]


def raise_if_alike(labels: Iterable[str | None], where: str) -> None:
    """Raises DataError if two labels differ in case, blanks or hyphens only; single letters may."""
    labels = set(labels)
    written: dict[str, str] = {}
    for label in sorted({label for label in labels if label is not None}):
        other = written.setdefault(_plain(label), label)
        if other != label and len(label) > 1:
            raise DataError(
                f"{where} has the classes {other!r} and {label!r}, which differ in case or blanks only",
                "write the class in one way",
            )
    _raise_if_yes_and_no({label for label in labels if label is not None}, where)


def _plain(label: str) -> str:
    """Equal for labels that differ in case, blanks, hyphens between words and what cannot be seen."""
    seen = "".join(each for each in unicodedata.normalize("NFC", label) if unicodedata.category(each) != "Cf")
    return re.sub(r"[\s_]+|(?<=\w)-(?=\w)", " ", seen).strip().casefold()


def _raise_if_yes_and_no(labels: set[str], where: str) -> None:
    """Raises DataError if yes and no are written in several ways: `1`, `True` and `False`."""
    if len(labels) > 2 and {label.casefold() for label in labels} <= YES_AND_NO:
        raise DataError(
            f"{where} has the classes {', '.join(sorted(labels))}, several ways to write yes and no",
            "write the class in one way",
        )


@dataclass(frozen=True)
class ReadLabels:
    """What the labels of a data set are.

    Attributes:
        kind: of the target.
        labels: one an image, None for none: classes, or texts of `sslcurr.data.targets`.
        names: of the classes, of the labels that may hold together, or of the number.
        notes: what was understood that is not said by a person.
    """

    kind: str
    labels: list[str | None]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_labels(
    labels: Sequence[str | None], asked: str | None, where: str, *, name: str = "label", names: Sequence[str] = ()
) -> ReadLabels:
    """Labels as what they are: classes, several that may hold together, or numbers.

    Args:
        labels: one an image, None for none.
        asked: the kind of target, as a person says it; None leaves it to the labels.
        where: what messages speak of.
        name: what a number is called.
        names: of labels that may hold together, where each had a column; `labels` are texts of `sslcurr.data.targets`
            then, with `|` where none holds.

    Raises:
        DataError: they cannot be that, or it is not clear what they are.
    """
    if names:
        return _from_columns_of_labels(labels, names, where)
    notes: list[str] = []
    kind = asked
    if kind is None:
        kind, notes = _kind_of(labels, where)
    if kind == MULTILABEL.name:
        return _several(labels, where, notes)
    if kind == REGRESSION.name:
        return _numbers(labels, where, name, notes)
    if asked is None:
        raise_if_not_given(labels, where)
    raise_if_alike(labels, where)
    return ReadLabels(CLASSES.name, list(labels), sorted_classes(labels))


def _kind_of(labels: Sequence[str | None], where: str) -> tuple[str, list[str]]:
    """The kind of target that labels are, and a remark where they are no classes.

    Raises DataError for lists of labels that no separator takes apart, for those of so few images that they may be a
    slip, and for names that every image has for itself.
    """
    known = Counter(label for label in labels if label is not None)
    several = [label for label in known if _names_several(label, known)]
    if several:
        count = sum(known[label] for label in several)
        is_clear = _separator_of(several, known) is not None or all(map(_is_list_of_texts, several))
        if not is_clear or count < max(2, FEWEST_OF_SEVERAL * known.total()):
            such = f"such as {shortened(several[0])!r}{and_more(count)}"
            raise DataError(
                f"{where} has {counted(count, 'image')} with several labels, {such}",
                "keep one class a cell; or give --target multilabel where labels, with | between them, may hold "
                f"together, or --target classes; {UNLABELLED_HINT}",
            )
        return MULTILABEL.name, [
            f"{counted(count, 'image')} of {known.total():,} have several labels, such as {shortened(several[0])}: "
            "labels may hold together (multilabel); --target classes takes such a text as one class"
        ]
    _raise_if_commas(known, where)
    if _are_numbers(labels, where):
        return REGRESSION.name, [
            f"labels are {len(known):,} different numbers, such as {next(iter(known))}: they are learnt as numbers "
            "(regression); --target classes takes each for a class"
        ]
    return CLASSES.name, []


def _raise_if_commas(known: Mapping[str, int], where: str) -> None:
    """Raises DataError where a comma may stand between labels or be a part of a class's name."""
    for label in known:
        parts = [part.strip() for part in label.split(",")]
        if len(parts) > 1 and not NUMBER.fullmatch(label) and any(part in known for part in parts):
            raise DataError(
                f"{where} has the label {shortened(label)!r} beside {next(part for part in parts if part in known)!r}: "
                "one class, or several labels?",
                f"give --target multilabel where labels may hold together, or --target classes; {UNLABELLED_HINT}",
            )


def is_of_one_label(cells: Sequence[str]) -> bool:
    """Whether the cells of a column say yes and no of the label that it is called by."""
    words = {cell.casefold() for cell in cells if not is_missing(cell)}
    return bool(words) and words <= YES | NO


def together(columns: Mapping[str, Sequence[str]], table: Path) -> list[str]:
    """Columns of 0 and 1, one for each label, as texts of `sslcurr.data.targets`: `|` where no label holds, nothing
    where nothing is known. Empty cells are not known.

    Raises DataError for other cells.
    """
    for name in columns:
        if BETWEEN in name or name.startswith(UNKNOWN):
            raise DataError(
                f"{table} has the column {name!r} of labels", f"take the {BETWEEN} or {UNKNOWN} out of its name"
            )
    texts = []
    for row, cells in enumerate(zip(*columns.values(), strict=True), start=1):
        holding, unknown = [], []
        for name, cell in zip(columns, cells, strict=True):
            text = cell.casefold()
            if not text or is_missing(cell):
                unknown.append(name)
            elif text in YES:
                holding.append(name)
            elif text not in NO:
                raise DataError(
                    f"{table} has {shortened(cell)!r} under {name} in row {row}, neither 0 nor 1",
                    "write 1 where the label holds, 0 where it does not, and nothing where it is not known",
                )
        texts.append("" if len(unknown) == len(columns) else labels_text(holding, unknown) or BETWEEN)
    return texts


def _from_columns_of_labels(labels: Sequence[str | None], names: Sequence[str], where: str) -> ReadLabels:
    raise_if_alike(names, where)
    texts = [None if label is None else label.removeprefix(BETWEEN) for label in labels]
    return ReadLabels(MULTILABEL.name, texts, tuple(names))


def _several(labels: Sequence[str | None], where: str, notes: Sequence[str]) -> ReadLabels:
    """Labels that may hold together, taken apart."""
    known = Counter(label for label in labels if label is not None)
    separators = _separators_of(known, where)
    texts: list[str | None] = []
    for label in labels:
        if label is None:
            texts.append(None)
            continue
        parts = _list_in(label) if _is_list_of_texts(label) else re.split(separators, label)
        parts = [part.strip() for part in parts if part.strip()]
        none = [part for part in parts if "".join(part.casefold().split()) in NO_FINDING]
        if none and len(none) < len(parts):
            raise DataError(f"{where} has {none[0]} beside other labels: {shortened(label)}", "take one of them out")
        odd = next((part for part in parts if BETWEEN in part or part.startswith(UNKNOWN)), None)
        if odd is not None:
            raise DataError(
                f"{where} has the label {shortened(odd)!r}", f"take the {BETWEEN} or {UNKNOWN} out of its name"
            )
        texts.append(labels_text([] if none else parts))
    names = sorted_classes(part for text in texts if text for part in text.split(BETWEEN))
    if not names:
        raise DataError(f"{where} has no label that holds for any image", UNLABELLED_HINT)
    raise_if_alike(names, where)
    return ReadLabels(MULTILABEL.name, texts, names, tuple(notes))


def _numbers(labels: Sequence[str | None], where: str, name: str, notes: Sequence[str]) -> ReadLabels:
    """Numbers, with a point for a decimal comma."""
    texts: list[str | None] = []
    _raise_if_unclear_commas([label for label in labels if label is not None], where)
    for label in labels:
        if label is not None and not NUMBER.fullmatch(label):
            raise DataError(
                f"{where} has the label {shortened(label)!r}, which is no number",
                "leave the cells of images without a number empty; --target classes takes labels as classes",
            )
        value = None if label is None else float(label.replace(",", "."))
        if value is not None and abs(value) > LARGEST:
            raise DataError(f"{where} has the number {label}, which is too large", "give it in a larger unit")
        texts.append(None if value is None else repr(value))
    values = {float(text) for text in texts if text is not None}
    odd = [value for value in values if f"{value:g}" in NOT_GIVEN and value < 0]
    if len(odd) == 1 and len(values) > 2 and min(values - set(odd)) >= 0:
        raise DataError(
            f"{where} has the number {odd[0]:g} beside others that are all 0 or more: a missing value?",
            "leave the cells of images without a number empty",
        )
    if 0 < len(values) < 2:
        raise DataError(f"{where} has one number only, {next(iter(values)):g}", "there is nothing to learn of it")
    return ReadLabels(REGRESSION.name, texts, (name,) if values else (), tuple(notes))


def check_kind(kind: str, asked: str | None, where: str) -> None:
    """Raises DataError where the labels of a data set that says itself what they are were asked for as others."""
    if asked not in (None, kind):
        raise DataError(f"the labels of {where} are {TARGETS[kind].outputs}", f"leave out --target {asked}")


def _raise_if_unclear_commas(labels: Sequence[str], where: str) -> None:
    """Raises DataError where a comma in numbers may stand before decimals or between thousands."""
    with_comma = [label for label in labels if "," in label]
    if not with_comma:
        return
    with_point = next((label for label in labels if "." in label and NUMBER.fullmatch(label)), None)
    if with_point is not None or all(THOUSANDS.fullmatch(label) for label in with_comma):
        beside = "" if with_point is None else f" beside {with_point}"
        raise DataError(
            f"{where} has the number {with_comma[0]}{beside}: a comma before decimals, or between thousands?",
            "write a point before decimals, and nothing between thousands",
        )


def _separators_of(known: Mapping[str, int], where: str) -> str:
    """What stands between labels, as a pattern: bars and semicolons; commas, where there are no such.

    Raises DataError where commas stand between labels, too.
    """
    if not any(sign in label for label in known for sign in "|;"):
        return "[|;,]"
    parts = {part.strip() for label in known for part in re.split("[|;]", label)}
    for part in sorted(parts):
        names = [name.strip() for name in part.split(",")]
        if len(names) > 1 and all(name in parts for name in names):
            raise DataError(
                f"{where} has labels with a comma between them, {shortened(part)!r}, beside others with {BETWEEN} or ;",
                f"write {BETWEEN} between labels",
            )
    return "[|;]"


def _separator_of(several: Sequence[str], known: Counter[str]) -> str | None:
    """What stands between the labels of texts that name several."""
    for separator in SEPARATORS:
        for label in several:
            parts = [part.strip() for part in label.split(separator) if part.strip()]
            if len(parts) > 1 and (separator != "," or all(part in known for part in parts)):
                return separator
    return None


def _names_several(label: str, known: Counter[str]) -> bool:
    for separator in "|;":
        if sum(bool(part.strip()) for part in label.split(separator)) > 1:
            return True
    for separator in (",", "/", "+", "&", " "):
        parts = [part.strip() for part in label.split(separator)]
        if len(parts) > 1 and all(part in known for part in parts):
            return True
    return label[0] in "[{(" and label[-1] in "]})" and (LIST.fullmatch(label[1:-1]) is not None or _is_list(label))


def _is_list_of_texts(label: str) -> bool:
    return (
        bool(label) and label[0] in "[(" and _is_list(label) and all(isinstance(part, str) for part in _list_in(label))
    )


def _list_in(label: str) -> list[str]:
    """The texts of a list, as Python or JSON writes it."""
    return list(json.loads(_as_json(label)))


def _as_json(label: str) -> str:
    return label.replace("'", '"').replace("(", "[").replace(")", "]")


def _is_list(label: str) -> bool:
    try:
        return isinstance(json.loads(_as_json(label)), list | dict)
    except (ValueError, RecursionError):
        return False


def raise_if_not_given(labels: Iterable[str | None], where: str) -> None:
    """Raises DataError if numbers of classes have one beside them that may stand for a missing value: -1, 999."""
    written = {label for label in labels if label is not None}
    if len(written) < 3 or not all(re.fullmatch(r"-?\d+", label) for label in written):
        return
    odd = [label for label in written if label in NOT_GIVEN]
    others = [int(label) for label in written if label not in NOT_GIVEN]
    if len(odd) == 1 and len(others) > 1 and min(others) >= 0 and (odd[0][0] == "-" or max(others) < 10):
        raise DataError(
            f"{where} has the label {odd[0]} beside {', '.join(map(str, sorted(others)[:3]))}: a missing value, or a "
            "class?",
            "leave the cells of images without a label empty; a class needs another name",
        )


def _are_numbers(labels: Sequence[str | None], where: str) -> bool:
    """Whether labels are measurements: numbers, most of them different.

    Raises DataError where they are a name of its own for each image.
    """
    counts = Counter(label for label in labels if label is not None)
    if len(counts) <= MOST_FRACTIONS:
        return False
    odd = [label for label in counts if not NUMBER.fullmatch(label)]
    if 0 < len(odd) <= max(1, MOST_ODD * len(counts)):
        others = [label for label in labels if label is None or NUMBER.fullmatch(label)]
        if _are_numbers(others, where):
            raise DataError(
                f"{where} has {shortened(odd[0])!r} beside {len(counts) - len(odd):,} numbers: a missing value?",
                "leave the cells of images without a number empty; --target classes takes labels as classes",
            )
    if max(counts.values()) == 1 and not all(NUMBER.fullmatch(label) for label in counts):
        raise DataError(
            f"{where} has a label of its own for each of {len(counts):,} images, such as "
            f"{shortened(next(iter(counts)))!r}: names or values of a measurement, and no classes",
            f"classification needs classes with several images; {UNLABELLED_HINT}",
        )
    if not all(NUMBER.fullmatch(label) for label in counts):
        return False
    has_fractions = any(float(label.replace(",", ".")) % 1 != 0 for label in counts)
    rare = sum(count < FEWEST for count in counts.values())
    return has_fractions or rare == len(counts) or (len(counts) > MOST_RARE_NUMBERS and 2 * rare >= len(counts))
