"""What labels can be: one class an image, written in one way."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from sslcurr.data.sources.words import word_set
from sslcurr.errors import DataError
from sslcurr.wording import and_more, shortened

__all__ = ["raise_if_alike", "raise_if_not_given", "raise_if_numbers", "raise_if_several", "with_one_form"]

MOST_FRACTIONS = 10  # different values with a fraction that may still be names of classes
MOST_RARE_NUMBERS = 20  # different whole numbers, half of which have fewer images than there are splits
FEWEST = 3
NUMBER = re.compile(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?")
LIST = re.compile(r"\s*['\"].*|[\d.]+(?:[\s,]+[\d.]+)+[\s,]*")  # 'a', 'b' of a set; 0 1 of an array
YES_AND_NO = word_set("0 1 true false yes no y n t f")
NOT_GIVEN = word_set("-1 -9 -99 -999 -9999 99 999 9999")
UNLABELLED_HINT = "--label-column none pretrains without labels"


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


def raise_if_several(labels: Iterable[str | None], where: str) -> None:
    """Raises DataError if a label names several classes: `mel|nv`, `mel;nv`, `mel, nv` of classes that there are, or a
    list."""
    known = Counter(label for label in labels if label is not None)
    several = [label for label in known if _names_several(label, known)]
    if several:
        count = sum(known[label] for label in several)
        raise DataError(
            f"{where} has images of several classes, such as {shortened(several[0])!r}{and_more(count)}: "
            "classification has one class an image",
            f"keep one class a cell, or leave the cell empty; {UNLABELLED_HINT}",
        )


def _names_several(label: str, known: Counter[str]) -> bool:
    for separator in "|;":
        if sum(bool(part.strip()) for part in label.split(separator)) > 1:
            return True
    for separator in (",", "/", "+", "&", " "):
        parts = [part.strip() for part in label.split(separator)]
        if len(parts) > 1 and all(part in known for part in parts):
            return True
    return label[0] in "[{(" and label[-1] in "]})" and (LIST.fullmatch(label[1:-1]) is not None or _is_list(label))


def _is_list(label: str) -> bool:
    try:
        return isinstance(json.loads(label.replace("'", '"').replace("(", "[").replace(")", "]")), list | dict)
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


def raise_if_numbers(labels: Sequence[str | None], where: str) -> None:
    """Raises DataError if labels are measurements (numbers, most of them different) and no classes."""
    counts = Counter(label for label in labels if label is not None)
    if len(counts) <= MOST_FRACTIONS:
        return
    if max(counts.values()) == 1 and not all(NUMBER.fullmatch(label) for label in counts):
        raise DataError(
            f"{where} has a label of its own for each of {len(counts):,} images, such as "
            f"{shortened(next(iter(counts)))!r}: names or values of a measurement, and no classes",
            f"classification needs classes with several images; {UNLABELLED_HINT}",
        )
    if not all(NUMBER.fullmatch(label) for label in counts):
        return
    has_fractions = any(float(label.replace(",", ".")) % 1 != 0 for label in counts)
    rare = sum(count < FEWEST for count in counts.values())
    if has_fractions or rare == len(counts) or (len(counts) > MOST_RARE_NUMBERS and 2 * rare >= len(counts)):
        raise DataError(
            f"{where} has labels that are {len(counts):,} different numbers, such as {next(iter(counts))}: values of a "
            "measurement, and no classes",
            f"classification needs classes, such as ranges of the value; {UNLABELLED_HINT}",
        )
