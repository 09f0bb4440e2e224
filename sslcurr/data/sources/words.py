"""The words by which people name splits, missing values and folders of images."""

from __future__ import annotations

import re
import unicodedata

__all__ = [
    "EVALUATION",
    "SPLIT_NAMES",
    "is_missing",
    "is_unlabelled",
    "same_name",
    "split_of_folder",
    "tokens",
    "word_set",
]


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


SPLIT_NAMES = {
    "": "",
    "train": "train",
    "training": "train",
    "trainval": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "holdout": "test",
}
"""What a cell of a column split may say, in any case: a name of a split, or nothing."""

EVALUATION = ("eval", "evaluation")
"""Validation to some, the test to others."""

FILLERS = word_set(
    "image images img imgs picture pictures photo photos set sets data dataset input inputs split folder dir "
    "directory samples jpg png"
)
GENERIC = word_set("image images img imgs jpegimages original originals raw input inputs")
# As STL-10 calls its images without a label.
UNLABELLED = word_set("unlabeled unlabelled nolabel nolabels withoutlabel withoutlabels unsup unsupervised")

# Those of pandas.read_csv, of spreadsheets and of statistics packages.
MISSING = word_set(
    "#n/a #na -1.#ind -1.#qnan -nan 1.#ind 1.#qnan <na> n/a n.a. n.a na null (null) #null! nan none nat nil "
    "#value! #ref! #div/0! #num! - -- --- \u2013 \u2014 ? ?? . \\n"
)


def tokens(name: str) -> list[str]:
    """The words of a name in lower case, without digits: `PatientID`, `patient_id` and `Patient ID` have the same."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", unicodedata.normalize("NFC", name))
    return re.findall(r"[^\W\d_]+", apart.casefold())


def same_name(name: str) -> str:
    """Equal for names that differ in case, blanks and the Unicode form only."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name)).strip().casefold()


def split_of_folder(name: str) -> str:
    """The split that a folder's name means (`train_images`, `Testing`, `val2017`): train, val or test; `eval` where it
    is one of `EVALUATION`; "" for other names."""
    name = re.sub(r"^\w{1,2}[.)]\s+", "", name)  # `a. Training Set`
    for words in (tokens(name), re.findall(r"[^\W\d_]+", name.casefold())):
        word = "".join(each for each in words if each not in FILLERS)
        for filler in ("set", "data", "images", "imgs", "img"):
            word = word.removesuffix(filler)
        if word in EVALUATION:
            return "eval"
        if word and word in SPLIT_NAMES:
            return SPLIT_NAMES[word]
    return ""


def is_unlabelled(name: str) -> bool:
    """Whether a folder's name says that its images have no label."""
    return "".join(each for each in tokens(name) if each not in FILLERS) in UNLABELLED


def is_generic(name: str) -> bool:
    """Whether a folder's name says no more than that there are images in it."""
    words = tokens(name)
    return bool(words) and all(word in GENERIC for word in words)


def is_missing(text: str) -> bool:
    """Whether a cell says that there is no value: it is empty, or spelled as `nan`, `N/A`, `None`, `-` and the like."""
    return not text or text.casefold() in MISSING or text.casefold() == "#n/a n/a"
