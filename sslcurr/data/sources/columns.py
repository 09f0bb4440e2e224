"""Which columns of a table are the path, the label, the group and the split of an image."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sslcurr.data.decode.image import EXTENSIONS
from sslcurr.data.sources.words import is_missing, same_name, split_of_folder, tokens, word_set
from sslcurr.errors import DataError, did_you_mean
from sslcurr.spec.request import Request
from sslcurr.wording import counted

__all__ = ["NO_COLUMNS", "Columns", "columns_of"]

NONE = "none"
MASK_COLUMNS = ("mask", "boxes")
NAMES = {"path": ("path", "file_name"), "label": ("label",), "group": ("group",), "split": ("split",)}
NEAR = 0.8  # of difflib: a letter or two
SHOWN = 5
MOST_SPLITS = 6

PATH_LIKE = word_set(
    "filename filenames filepath filepaths imagepath imagename imagefile imageid imgid imgpath imgname "
    "imgfile image images img file files filenameimage fname picture photo imageindex relativepath relpath"
)
LABEL_LIKE = word_set(
    "label labels class classes target targets diagnosis diagnoses dx category categories classname "
    "classlabel classid labelname labelid categoryid finding findings findinglabels groundtruth gt disease "
    "outcome annotation classification benignmalignant lables lbl cls diag y ytrue grade level severity stage "
    "malignant malignancy cancer cancertype tumor tumour pathology histology birads breed species condition emotion "
    "grading positive abnormal hastumor hascancer iscancer ismalignant diagnose diagnosen klasse klassen kategorie"
)
LABEL_ENDS = word_set("label labels class diagnosis dx grade level severity malignancy category")
SPLIT_LIKE = word_set(
    "split splits set sets subset fold folds kfold cvfold partition partitions phase datasplit traintest "
    "trainvaltest trainvalidtest istrain isvalid isval isvalidation istest train test val valid usage "
    "datasettype settype"
)
SPLIT_PARTS = word_set("train training test testing val valid validation holdout split fold")
BESIDE_SPLIT = SPLIT_PARTS | word_set("is in or for set data dataset official random cv k image my type")
# What a group is made of; the second ones only together with a word for a number: `dog id`, but not `dog`.
GROUP_WORDS = word_set(
    "patient patients subject subjects lesion lesions case cases study studies person persons individual "
    "individuals participant participants donor donors specimen specimens volunteer volunteers pid mrn group "
    "groups grp subj pat slide slides wsi video videos clip clips sequence exam exams accession owner identity "
    "proband patienten fall fallnummer paciente sourceimage parentimage imagegroup "
    "\u60a3\u8005 \u75c5\u4eba"  # patient in Chinese and Japanese
)
NUMBERED_WORDS = GROUP_WORDS | word_set(
    "slide slides mouse animal animals dog cat horse plant leaf tree family examination exam series video "
    "videos sequence client sample wsi eye biopsy block core nodule tumor tumour scan"
)
NUMBER_WORDS = word_set("id ids uid no nr num number index code key name identifier instance hash pseudonym")
RUN_TOGETHER = re.compile(r"(.+?)(?:id|uid|no|nr|number|code|key|name|identifier)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """What a person says of a table's columns; None leaves it to their names, `none` says that there is no such column.

    `label` may name several columns of 0 and 1, `a,b,c`, labels that may hold together. `target` is the kind of what
    the labels say, of `sslcurr.spec.target`; None leaves it to them.

    Raises DataError for a table without a column of paths.
    """

    path: str | None = None
    label: str | None = None
    group: str | None = None
    split: str | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        if self.path == NONE:
            raise DataError("a table needs a column of paths", "give --path-column COLUMN")

    @classmethod
    def of(cls, request: Request) -> Columns:
        """What a person asked for."""
        return cls(
            path=request.path_column,
            label=request.label_column,
            group=request.group_column,
            split=request.split_column,
            target=request.target_kind,
        )

    def unused_notes(self, place: Path | str) -> list[str]:
        """The remark that they are not used, of a data set that is no table."""
        options = [f"--{role}-column" for role in NAMES if getattr(self, role) not in (None, NONE)]
        return [f"{place} is no table: {', '.join(options)} not used"] if options else []


NO_COLUMNS = Columns()


def columns_of(
    names: Sequence[str],
    asked: Columns,
    table: Path,
    cells_of: Callable[[str], Sequence[str]],
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The column of each role, of those that there are, and remarks on columns that are not used.

    A column is known by its name (`path` or `file_name`, `label`, `group`, `split`, in any case), or by what was
    `asked`. There may be several of labels only. `cells_of` gives the cells of a column.

    Raises DataError if a column that was asked for is not there, if there is none of paths, and if a column that is not
    used looks like one of a label, a group or a split that the table lacks.
    """
    names = list(dict.fromkeys(names))
    chosen: dict[str, tuple[str, ...]] = {}
    for role in NAMES:
        option = getattr(asked, role)
        several = option.split(",") if role == "label" and option is not None and option not in names else []
        if len(several) > 1:
            chosen[role] = _several([part.strip() for part in several], names, table)
            continue
        name = _asked(option, role, names, table) if option is not None else _named(role, names, table)
        if name is not None:
            chosen[role] = (name,)
    if "path" not in chosen:
        raise _no_path(names, table)
    used = {name for several in chosen.values() for name in several}
    unused = [name for name in names if name and name not in used and same_name(name) not in MASK_COLUMNS]
    for role in ("label", "group", "split"):
        if role not in chosen and getattr(asked, role) is None:
            _raise_if_like(role, unused, table, cells_of)
            if role == "label":
                _raise_if_one_hot(unused, table, cells_of)
    return chosen, _notes(chosen, unused, asked, table)


def _several(parts: Sequence[str], names: Sequence[str], table: Path) -> tuple[str, ...]:
    """The columns that an option names, one for each label.

    Raises DataError for one that is not there, for one that is named twice, and for `none` or nothing among them.
    """
    option = ",".join(parts)
    for part in parts:
        if part in ("", NONE) and part not in names:
            what = "none beside others" if part else "nothing between two commas"
            raise DataError(f"--label-column {option} names {what}", "name the columns, such as effusion,mass")
    found = [name for part in parts if (name := _asked(part, "label", names, table)) is not None]
    twice = next((name for name in found if found.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"--label-column {option} names {twice} twice", "name each column once")
    return tuple(found)


def _asked(option: str, role: str, names: Sequence[str], table: Path) -> str | None:
    """The column that an option names."""
    if option in names:
        return option
    if option == NONE:
        return None
    alike = [name for name in names if same_name(name) == same_name(option)]
    if len(alike) == 1:
        return alike[0]
    raise DataError(f"{table} has no column {option}, which --{role}-column names", did_you_mean(option, names))


def _named(role: str, names: Sequence[str], table: Path) -> str | None:
    """The column whose name says that it is the one: the exact name, or it in another case."""
    for exact in NAMES[role]:
        alike = [name for name in names if same_name(name) == same_name(exact)]
        if len(alike) > 1:
            raise DataError(
                f"{table} has the columns {alike[0]} and {alike[1]}: which is the {role}?",
                f"give --{role}-column {alike[0]} or --{role}-column {alike[1]}",
            )
        if alike:
            return alike[0]
    return None


def _no_path(names: Sequence[str], table: Path) -> DataError:
    likely = [name for name in names if _looks_like("path", name)] or [
        name for name in names if difflib.get_close_matches(same_name(name), ("path", "file name"), 1, 0.6)
    ]
    if any(os.path.splitext(name)[1].lower() in EXTENSIONS for name in names):
        return DataError(f"{table} has an image in its first row", "write a header above it, such as path,label")
    hint = f"--path-column {likely[0]}; " if likely else ""
    return DataError(
        f"{table} has no column path (or file_name)",
        f"{hint}{did_you_mean('path', names)}; the column must be called path, or be named by --path-column",
    )


def _looks_like(role: str, name: str) -> bool:
    """Whether a column's name is another word for a role, or a misspelt one."""
    words = tokens(name)
    joined = "".join(words)
    if role == "group" and _is_group(words):
        return True
    others = {"path": PATH_LIKE, "label": LABEL_LIKE, "split": SPLIT_LIKE, "group": frozenset[str]()}[role]
    if joined in others or (role == "label" and words and words[-1] in LABEL_ENDS):
        return True
    if role == "split" and SPLIT_PARTS & set(words) and set(words) <= BESIDE_SPLIT:
        return True
    return any(difflib.SequenceMatcher(None, joined, exact).ratio() >= NEAR for exact in NAMES[role])


def _is_group(words: Sequence[str]) -> bool:
    joined = "".join(words)
    parts = RUN_TOGETHER.fullmatch(joined)
    if joined in GROUP_WORDS or (parts is not None and parts[1] in NUMBERED_WORDS):
        return True
    return (
        bool(NUMBERED_WORDS & set(words))
        and bool(NUMBER_WORDS & set(words))
        and (set(words) <= NUMBERED_WORDS | NUMBER_WORDS)
    )


def _raise_if_like(role: str, unused: Sequence[str], table: Path, cells_of: Callable[[str], Sequence[str]]) -> None:
    """Raises DataError if a column is likely of a role that no column has; one that changes nothing is not."""
    likely = [name for name in unused if _looks_like(role, name) and _matters(role, cells_of(name))]
    if role == "split":
        likely += [name for name in unused if name not in likely and _has_splits(cells_of(name))]
    if likely:
        flags = list(_flags(unused, cells_of)) if role == "label" else []
        together = f" (or {','.join(flags[:SHOWN])}, labels that may hold together)" if len(flags) > 1 else ""
        raise DataError(
            f"{table} has no column {role}, but {', '.join(likely[:SHOWN])}, which may be one",
            f"give --{role}-column {likely[0]}{together}, or --{role}-column none if there is none",
        )


def _raise_if_one_hot(unused: Sequence[str], table: Path, cells_of: Callable[[str], Sequence[str]]) -> None:
    """Raises DataError if columns of 0 and 1 say together which one class an image has."""
    flags = _flags(unused, cells_of)
    if len(flags) > 1 and all(sum(row) == 1 for row in zip(*flags.values(), strict=True)):
        raise DataError(
            f"{table} has no column label, but a column for each class: {', '.join(list(flags)[:SHOWN])}",
            f"give --label-column {','.join(list(flags)[:2])},... for labels that may hold together, write the class "
            "of each image into one column label, or give --label-column none",
        )


def _flags(names: Sequence[str], cells_of: Callable[[str], Sequence[str]]) -> dict[str, list[float]]:
    """The columns of 0 and 1, with their cells."""
    flags: dict[str, list[float]] = {}
    for name in names:
        cells = cells_of(name)
        if cells and set(cells) <= {"0", "1", "0.0", "1.0"} and len(set(map(float, cells))) > 1:
            flags[name] = list(map(float, cells))
    return flags


def _matters(role: str, cells: Sequence[str]) -> bool:
    """Whether a column would change something: groups of one image each, and one for all images, do not."""
    values = [cell for cell in cells if not is_missing(cell)]
    different = len(set(values))
    return 1 < different < len(values) if role == "group" else different > (role == "split")


def _has_splits(cells: Sequence[str]) -> bool:
    values = {cell for cell in cells if not is_missing(cell)}
    if len(values) > MOST_SPLITS:
        return False
    meant = [next(filter(None, map(split_of_folder, [value, *tokens(value)])), "") for value in values]
    development = (
        "development" in map(str.casefold, values) and len(set(meant)) > 1
    )  # that of a model, beside its validation
    return len(values) > 1 and (development or (all(meant) and len(set(meant)) > 1))


def _notes(chosen: Mapping[str, Sequence[str]], unused: Sequence[str], asked: Columns, table: Path) -> list[str]:
    notes = [
        f"the column {name} of {table.name} is taken for the {role}"
        for role, (name, *_) in chosen.items()
        if name not in NAMES[role] and getattr(asked, role) is None
    ]
    unused = [name for name in unused if not name.startswith("Unnamed: ")]  # pandas's number of the row
    if unused:
        more = f" and {len(unused) - SHOWN} more" if len(unused) > SHOWN else ""
        notes.append(f"{counted(len(unused), 'column')} of {table.name} not used: {', '.join(unused[:SHOWN])}{more}")
    return notes
