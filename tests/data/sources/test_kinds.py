"""Random folders and tables of the kinds that people have, each made together with what it means.

The rule: a data set is read as the person meant who made it, or the command stops with one line and a hint.
"""

from __future__ import annotations

import csv
import io
import json
import random
import unicodedata
from dataclasses import dataclass, field

import pytest

from sslcurr.data.sources.catalog import find_source
from sslcurr.data.sources.columns import Columns
from sslcurr.errors import DataError

OUR_PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 30 + b"tEXtSoftware\0sslcurr"
POOL = ("cat", "dog", "bénin", "malin", "no finding", "normal", "COVID-19", "3", "12", "Bird", "opacity", "bus")
EXTENSIONS = (".png", ".jpg", ".JPG", ".tif", ".bmp")
SPLIT_WORDS = {
    "train": ("train", "Train", "TRAIN", "training", "Training", "train_images", "train2017", "trainset"),
    "val": ("val", "valid", "validation", "Validation", "dev", "val_images", "VAL"),
    "test": ("test", "Test", "testing", "TESTING", "test-images", "test_set", "holdout"),
}
MISSING = ("", "nan", "NaN", "NA", "N/A", "n/a", "None", "null", "NULL", "-", "?", "#N/A", "<NA>", "  ")


@dataclass
class Case:
    """Files below a folder, what is given as data set, and what it means: by name the label, the split and the group.

    `wrong` is for a case that must stop: words of the message. `said` are words that the notes must have.
    """

    kind: str = "table"
    words: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    dataset: str = ""
    columns: Columns = field(default_factory=Columns)
    meaning: dict[str, tuple[str | None, str, str]] = field(default_factory=dict)
    wrong: str = ""
    said: list[str] = field(default_factory=list)


def names_of_images(draw, count, start=0):
    return [f"{draw.choice(['', 'img_', 'Scan '])}{start + i:03d}{draw.choice(EXTENSIONS)}" for i in range(count)]


def freed(given, has):
    """What becomes of a given split: training images are divided where a part is not given."""
    if given == "train" and not {"val", "test"} <= has:
        return ""
    return given


# --- folders


def folder_case(draw):
    classes = draw.sample(POOL, draw.choice([2, 2, 3]))
    layout = draw.choice(["plain", "masks", "splits", "splits", "splits", "splits in classes", "flat splits"])
    case = Case(kind=layout)
    around = "".join(f"{name}/" for name in draw.choice([(), (), ("DATA",), ("archive", "Data Set")]))
    {
        "plain": plain,
        "masks": with_masks,
        "splits": splits,
        "splits in classes": splits_in_classes,
        "flat splits": flat_splits,
    }[layout](draw, case, around, classes)
    images = list(case.meaning)
    for clutter in draw.sample(NO_MASKS if layout == "masks" else CLUTTER, draw.choice([0, 1, 1, 2])):
        clutter(draw, case, images)
    if draw.random() < 0.35:
        draw.choice(FOLDER_MISTAKES[layout])(draw, case, around, classes)
    return case


def fill(draw, case, folder, label, split, count=2, group=""):
    for name in names_of_images(draw, count, len(case.files)):
        path = f"{folder}{draw.choice(['', '', 'deep/'])}{name}" if label is not None else f"{folder}{name}"
        case.files[path] = b""
        case.meaning[path] = (label, split, group)


def plain(draw, case, around, classes):
    for label in classes:
        fill(draw, case, f"{around}{label}/", label, "")
    if draw.random() < 0.3:
        fill(draw, case, f"{around}{draw.choice(['unlabeled', 'Unlabelled', 'no_label'])}/", None, "", 1)
        case.said.append("used without a label")


def with_masks(draw, case, around, classes):
    """Class folders in a folder of images, the same folders in one of masks beside it; or both in every class."""
    images = draw.choice(["images", "Image", "imgs"])
    masks = draw.choice(["masks", "Masks", "annotations", "lung masks", "segmentation"])
    inside = draw.random() < 0.5
    for label in classes:
        folders = [f"{around}{label}/{each}/" if inside else f"{around}{each}/{label}/" for each in (images, masks)]
        for name in names_of_images(draw, 3, len(case.files)):
            case.files[folders[0] + name] = b""
            case.files[f"{folders[1]}{name.rpartition('.')[0]}{draw.choice(['', '_mask', '_mask'])}.png"] = b""
            case.meaning[folders[0] + name] = (label, "", "")
    case.said.append(f"{3 * len(classes)} masks left out")


def splits(draw, case, around, classes):
    """Splits with class folders; sometimes without a part, with an unlabelled part, or with a test without classes."""
    parts = draw.choice([("train",), ("train", "test"), ("train", "val"), ("train", "val", "test")])
    inside = draw.choice(["", "", "images/"])
    flat = draw.choice([None, None, *parts[1:]])
    has = set(parts) - {flat}
    of_set = draw.choice(["{}", "{}", "ISIC_2019_{}_Input", "Set-{}"]) if len(parts) > 1 else "{}"
    for part in parts:
        word = draw.choice(SPLIT_WORDS[part])
        case.words[part] = word if of_set == "{}" else ""
        folder = f"{around}{of_set.format(word)}/{inside}"
        if part == flat:
            for name in names_of_images(draw, 2, 50):
                case.files[folder + name] = b""
            case.said.append(f"2 images given as {part} left out")
            continue
        for label in classes:
            fill(draw, case, f"{folder}{label}/", label, freed(part, has))
    if draw.random() < 0.3:
        fill(
            draw,
            case,
            f"{around}{draw.choice(['unlabeled', 'extra', 'unlabelled_images'])}/",
            None,
            freed("train", has),
        )
        case.said.append("used without a label")


def splits_in_classes(draw, case, around, classes):
    parts = draw.choice([("train", "test"), ("train", "val", "test")])
    for label in classes:
        for part in parts:
            folder = f"{around}{label}/{draw.choice(SPLIT_WORDS[part])}/"
            for name in names_of_images(draw, 2, len(case.files)):
                case.files[folder + name] = b""
                case.meaning[folder + name] = (label, freed(part, set(parts)), "")


def flat_splits(draw, case, around, classes):
    """Splits without classes: images for pretraining, some of them held out."""
    parts = draw.choice([("train", "test"), ("train", "val", "test")])
    for part in parts:
        fill(draw, case, f"{around}{draw.choice(SPLIT_WORDS[part])}/", None, freed(part, set(parts)))


def thumbnails(draw, case, images):
    for path in draw.sample(images, min(3, len(images))):
        folder, _, name = path.rpartition("/")
        stem, _, extension = name.rpartition(".")
        thumb = draw.choice([f"{stem}_thumb.jpg", f"{stem}-150x150.{extension}", f"{stem}_thumbnail.png"])
        case.files[f"{folder}/{thumb}"] = b""
    case.said.append("thumbnail")


def rubbish(draw, case, images):
    kind = draw.choice(["@eaDir", "lost+found", "$RECYCLE.BIN", "#recycle", "@Recycle", ".thumbnails", "__MACOSX"])
    for path in images[:3]:
        folder, _, name = path.rpartition("/")
        case.files[f"{folder}/{kind}/{name}"] = b""
        case.files[f"{folder}/._{name}"] = b""
    if not kind.startswith((".", "_")):
        case.said.append(f"{min(3, len(images))} images left out")


def masks_beside(draw, case, images):
    ending = draw.choice(
        ["_mask", "_mask_1", "_seg", "_segmentation", "_Segmentation", " mask", "-mask", "_GT", "_label"]
    )
    for path in draw.sample(images, max(1, len(images) // 2)):
        case.files[f"{path.rpartition('.')[0]}{ending}.png"] = b""
    case.said.append("left out, of images that are there")


def masks_folder(draw, case, images):
    kind = draw.choice(["masks", "mask", "Masks", "segmentations", "annotations", "GT", "ground_truth"])
    for path in images:
        folder, _, name = path.rpartition("/")
        case.files[f"{folder}/{kind}/{name.rpartition('.')[0]}{draw.choice(['', '_mask'])}.png"] = b""
    case.said.append("left out, of images that are there")


def store(draw, case, images):
    root = draw.choice(["runs", "my store"])
    case.files[f"{root}/packs/set-0123/pack.json"] = b"{}"
    case.files[f"{root}/stages/0123456789abcdef/done.json"] = b"{}"
    case.files[f"{root}/analyses/attend-01/sheet.png"] = b""
    case.said.append("a store of sslcurr")


def charts(draw, case, images):
    folder = images[0].rpartition("/")[0] if draw.random() < 0.5 else images[0].partition("/")[0]
    folder = draw.choice(["", f"{folder}/"])
    case.files[f"{folder}{draw.choice(['sheet', 'views-01'])}.png"] = OUR_PNG
    case.said.append("1 picture left out that sslcurr drew")


def other_files(draw, case, images):
    case.files["Thumbs.db"] = b""
    case.files["README.md"] = b""
    case.said.append("ignored that are not images")


CLUTTER = [thumbnails, rubbish, masks_beside, masks_folder, store, charts, other_files]
NO_MASKS = [thumbnails, rubbish, store, charts, other_files]


def an_empty_class(draw, case, around, classes):
    case.folders.append(f"{around}zebra")
    case.wrong = "zebra has no images"


def an_empty_split(draw, case, around, classes):
    used = [word for word in SPLIT_WORDS["val"] if any(f"{word}/" in path for path in case.files)]
    if not used and case.words.get("train", "train"):
        case.folders.append(f"{around}val")
        case.wrong = "val has no images"


def a_case_of_letters(draw, case, around, classes):
    label = classes[0]
    twin = label.upper() if label.upper() != label else label.lower()
    if twin == label or len(label) == 1:
        return
    inside = next(path for path, meaning in case.meaning.items() if meaning[0] == label)
    case.files[inside.replace(f"/{label}/", f"/{twin}/") if f"/{label}/" in inside else f"{twin}/x.png"] = b""
    case.wrong = "differ in case or blanks only"


def a_split_twice(draw, case, around, classes):
    used = case.words["train"]
    if not used:
        return
    case.files[f"{around}{'training' if used.lower() != 'training' else 'train'}/{classes[0]}/x.png"] = b""
    case.wrong = "are both named like the split train"


def a_class_beside(draw, case, around, classes):
    case.files[f"{around}{classes[0]}/x.png"] = b""
    case.wrong = "is it a class, a split or another data set?"


def charts_of_others(draw, case, around, classes):
    case.files[f"{around}figures/a.png"] = b""
    case.wrong = "named like one of charts"


def a_split_beside_classes(draw, case, around, classes):
    case.files[f"{around}test/x.png"] = b""
    case.wrong = "is it a class, a split or another data set?"


def splits_in_some(draw, case, around, classes):
    case.files[f"{around}zebra/x.png"] = b""
    case.wrong = "are named like splits, and others are not"


def another_set(draw, case, around, classes):
    case.files[f"{around}other/train/zebra/x.png"] = b""
    case.wrong = (
        "named like splits, and others are not"
        if case.kind == "plain"
        else "is it a class, a split or another data set?"
    )


FOLDER_MISTAKES = {
    "plain": [an_empty_class, a_case_of_letters, charts_of_others, a_split_beside_classes, another_set],
    "masks": [an_empty_class],
    "splits": [an_empty_split, a_split_twice, a_class_beside, another_set],
    "splits in classes": [an_empty_class, splits_in_some],
    "flat splits": [an_empty_split],
}


# --- tables

NAMES_OF_GROUPS = (
    "patient_id",
    "PatientID",
    "Patient ID",
    "subject",
    "lesion_id",
    "caseid",
    "StudyInstanceUID",
    "gruop",
)
NAMES_OF_LABELS = ("class", "diagnosis", "dx", "Target", "labels", "lable")
NAMES_OF_SPLITS = ("set", "fold", "partition", "Subset", "spilt", "anything")
WRITTEN = {"path": ("path", "Path", "PATH", "file_name", " path "), "label": ("label", "Label", " LABEL ")}
WRITTEN |= {"group": ("group", "Group"), "split": ("split", "Split", "SPLIT")}


def table_case(draw):
    case = Case()
    count = draw.choice([8, 10, 12])
    classes = draw.sample(POOL, draw.choice([2, 3]))
    folder = draw.choice(["", "img/", "Bilder (é)/"])
    names = [f"{folder}{name}" for name in names_of_images(draw, count)]
    has = draw.choice([set(), set(), {"test"}, {"val", "test"}])
    rows, options = [], {}
    for i, name in enumerate(names):
        form = draw.choice(["NFC", "NFD"]) if "é" in name else "NFC"
        path = unicodedata.normalize(form, name)
        case.files[path] = b""
        part = "train" if not has or i % 4 else ("test", "val")[(i // 4) % len(has)]
        label = classes[i % len(classes)] if draw.random() < 0.9 else None
        group = f"p{i // 2}" if draw.random() < 0.8 else ""
        rows.append({"path": name, "label": label, "group": group, "split": part if has else ""})
        case.meaning[path] = (label, part, group)
    with_groups, with_splits = draw.random() < 0.5, bool(has)
    if not with_groups or not any(row["group"] for row in rows):
        with_groups = False
    if with_splits:  # no group on two sides
        for row in rows:
            row["group"] = f"{row['group']}{row['split']}" if row["group"] else ""
    given = {row["split"] for row in rows} - {""}
    case.meaning = {
        path: (row["label"], freed(row["split"], given) if with_splits else "", row["group"] if with_groups else "")
        for path, row in zip(case.files, rows, strict=True)
    }
    columns = ["path", "label", *(["group"] if with_groups else []), *(["split"] if with_splits else [])]
    header = {role: draw.choice(WRITTEN[role]) for role in columns}
    asked = draw.random()
    for role, others in (("label", NAMES_OF_LABELS), ("group", NAMES_OF_GROUPS), ("split", NAMES_OF_SPLITS)):
        if role not in columns or draw.random() > 0.25:
            continue
        header[role] = draw.choice(others)
        if asked < 0.4:
            case.wrong = case.wrong or f"has no column {role}, but {header[role]}"
        elif asked < 0.8:
            options[role] = header[role]
        else:
            options[role] = "none"
    if any(role not in options and header.get(role) in others for role, others in (("group", NAMES_OF_GROUPS),)):
        values = [row["group"] for row in rows if row["group"]]
        if not 1 < len(set(values)) < len(values):
            case.wrong = ""  # a number an image, or one for all, changes nothing
            return table_case(draw)
    ignored = {role for role, name in options.items() if name == "none"}
    if "split" in ignored or "split" not in columns:
        case.meaning = {path: (label, "", group) for path, (label, _, group) in case.meaning.items()}
    if "group" in ignored:
        case.meaning = {path: (label, split, "") for path, (label, split, _) in case.meaning.items()}
    if "label" in ignored:
        case.meaning = {path: (None, split, group) for path, (_, split, group) in case.meaning.items()}
    case.columns = Columns(**options)
    cells = [{header[role]: written(draw, role, row[role], rows) for role in columns} for row in rows]
    if draw.random() < 0.4:
        extra = draw.choice(["age", "Sex", "remarks", "width"])
        for row in cells:
            row[extra] = draw.choice(["", "f", "61", "x y"])
        case.said.append(extra)
    if draw.random() < 0.3 and not case.wrong and not ignored:
        draw.choice(TABLE_MISTAKES)(draw, case, cells, header)
    write_table(draw, case, cells)
    return case


def written(draw, role, value, rows):
    """A cell as somebody writes it."""
    if role == "path":
        value = unicodedata.normalize(draw.choice(["NFC", "NFD"]), value)
        return draw.choice([value, value, f"./{value}", value.replace("/", "\\"), f".\\{value}".replace("/", "\\")])
    if role == "split" and value:
        words = [word for word in SPLIT_WORDS[value] if word.isalpha() and word.lower() != "trainset"]
        return draw.choice(words)
    return value or draw.choice(MISSING)


def twice(draw, case, cells, header):
    again = dict(cells[0])
    again[header["path"]] = draw.choice(["./", "./././"]) + again[header["path"]].removeprefix("./")
    if "\\" in again[header["path"]]:
        again = dict(cells[0])
    cells.append(again)
    case.wrong = "2 times"


def several_classes(draw, case, cells, header):
    separator = draw.choice(["|", ";", "|"])
    cells[0][header["label"]] = f"cat{separator}dog"
    case.wrong = "with several labels, such as"  # one image is a slip, and no data set of several labels


def measurements(draw, case, cells, header):
    for i, row in enumerate(cells):
        row[header["label"]] = f"{0.37 + i * 1.21:.2f}"
    case.meaning = {
        path: (row[header["label"]], *rest) for (path, (_, *rest)), row in zip(case.meaning.items(), cells, strict=True)
    }
    if len(cells) > 10:
        case.meaning = {path: (repr(float(label)), *rest) for path, (label, *rest) in case.meaning.items()}


def an_unknown_split(draw, case, cells, header):
    if "split" in header:
        cells[0][header["split"]] = draw.choice(["tset", "fold 1", "3", "eval"])
        case.wrong = "split"


def letters_of_classes(draw, case, cells, header):
    cells[0][header["label"]] = "Nevus"
    cells[1][header["label"]] = draw.choice(["nevus", "NEVUS"])
    case.wrong = "differ in case or blanks only"


def no_path(draw, case, cells, header):
    for row in cells:
        row["Image Index"] = row.pop(header["path"])
    case.wrong = "has no column path"


TABLE_MISTAKES = [twice, several_classes, measurements, an_unknown_split, letters_of_classes, no_path]


def write_table(draw, case, cells):
    names = list(dict.fromkeys(name for row in cells for name in row))
    draw.shuffle(names)
    kind = draw.choice(["csv", "csv", ";", "\t", "|", "sep=", "utf-16", "bom", "tsv", "jsonl", "parquet"])
    case.dataset = {"jsonl": "t.jsonl", "parquet": "t.parquet", "tsv": "t.tsv"}.get(kind, "t.csv")
    if kind == "jsonl":
        lines = [json.dumps({name: row[name] or None for name in names}) for row in cells]
        case.files[case.dataset] = "\n".join(lines).encode()
        return
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        out = io.BytesIO()
        pq.write_table(pa.table({name: [row[name] or None for row in cells] for name in names}), out)
        case.files[case.dataset] = out.getvalue()
        return
    separator = {"tsv": "\t", "sep=": draw.choice(";,\t")}.get(kind, kind if len(kind) == 1 else ",")
    text = io.StringIO()
    writer = csv.DictWriter(text, names, delimiter=separator, lineterminator=draw.choice(["\n", "\r\n"]))
    writer.writeheader()
    writer.writerows(cells)
    content = (f"sep={separator}\n" if kind == "sep=" else "") + text.getvalue()
    encoding = {"utf-16": "utf-16", "bom": "utf-8-sig"}.get(kind, "utf-8")
    case.files[case.dataset] = content.encode(encoding)


# --- the rule


def check(case, root):
    for name, content in case.files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for name in case.folders:
        (root / name).mkdir(parents=True)
    if case.wrong:
        with pytest.raises(DataError) as caught:
            find_source(str(root / case.dataset), columns=case.columns)
        assert case.wrong in str(caught.value)
        assert caught.value.hint
        assert "\n" not in str(caught.value) + caught.value.hint
        return
    source = find_source(str(root / case.dataset), columns=case.columns)
    splits = source.splits or [""] * len(source.names)
    groups = source.groups or [""] * len(source.names)
    read = dict(zip(source.names, zip(source.labels, splits, groups, strict=True), strict=True))
    assert read == case.meaning
    classes = tuple(sorted({label for label, _, _ in read.values() if label is not None}))
    assert source.classes == (classes if source.target == "classes" else ("label",))
    assert source.faults == ()
    notes = " / ".join(source.notes)
    assert [words for words in case.said if words not in notes] == []


@pytest.mark.parametrize("kind", [folder_case, table_case])
@pytest.mark.parametrize("block", range(4))
def test_a_data_set_is_read_as_it_was_meant_or_refused(kind, block, tmp_path):
    for seed in range(40 * block, 40 * (block + 1)):
        case = kind(random.Random(f"{kind.__name__} {seed}"))
        try:
            check(case, tmp_path / str(seed))
        except BaseException:
            print(f"the case of seed {seed}: {case.dataset or 'folder'}, {case.columns}, wrong {case.wrong!r}")
            print("\n".join(sorted(case.files)), *case.folders, sep="\n")
            raise
