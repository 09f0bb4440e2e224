"""Chest X-rays: the COVID-19 challenge of SIIM, FISABIO and RSNA, and the NIH's ChestX-ray14."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from sslcurr.data.sources.boxes import OPACITY, Box, Boxes
from sslcurr.data.sources.sets.entry import GREY_NORMALISATION, XRAY_VIEWS, Entry, Needed
from sslcurr.data.sources.sets.listing import ListedImage, images_by_stem, marked, source_of, table_rows
from sslcurr.data.sources.source import ImageFault, Source
from sslcurr.spec.target import CLASSES, MULTILABEL, labels_text
from sslcurr.wording import counted

STUDIES, IMAGES = "train_study_level.csv", "train_image_level.csv"
# The columns of the study table, and the classes of `covid-4` and `covid` that they are.
APPEARANCES = {
    "Negative for Pneumonia": ("negative", "negative"),
    "Typical Appearance": ("typical", "pneumonia"),
    "Indeterminate Appearance": ("indeterminate", "pneumonia"),
    "Atypical Appearance": ("atypical", "pneumonia"),
}

ENTRIES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
NO_FINDING = "No Finding"
FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia"),
    *("Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax"),
)
LISTS = {"train_val_list.txt": "", "test_list.txt": "test"}


def load_covid(home: Path | None, *, four: bool = False) -> Source:
    """The challenge's training images with the label of their study: two classes, or all four of them.

    An image whose study has no label has none. Of a positive study with several images, those without a box while
    another one has some are copies or other views that the radiologists did not mark: they have no label either. The
    radiologists' boxes are masks.
    """
    assert home is not None
    appearances: dict[str, str | None] = {}
    faulty: dict[str, str] = {}
    for row in table_rows(home / STUDIES, "id", *APPEARANCES):
        study = row["id"].removesuffix("_study")
        try:
            appearance = marked(row, APPEARANCES)
        except ValueError as error:
            faulty[study] = str(error)
            continue
        if appearances.setdefault(study, appearance) != appearance:
            faulty[study] = f"is listed twice in {STUDIES}, and differently"
    images = table_rows(home / IMAGES, "id", "label", "StudyInstanceUID")
    with_box: dict[str, bool] = defaultdict(bool)
    for row in images:
        with_box[row["StudyInstanceUID"]] |= _has_box(row)
    rows, faults, unmarked, unknown = [], [], set(), set()
    for row in images:
        key, study = row["id"].removesuffix("_image"), row["StudyInstanceUID"]
        if study in faulty:
            faults.append(ImageFault(key, f"belongs to a study that {faulty[study]}"))
            continue
        appearance = appearances.get(study)
        label = APPEARANCES[appearance][0 if four else 1] if appearance else None
        if label is None:
            unknown.add(key)
        elif label != "negative" and with_box[study] and not _has_box(row):
            unmarked.add(key)
            label = None
        rows.append(ListedImage(key, label, study))
    notes = []
    if unknown:
        notes.append(f"{counted(len(unknown), 'image')} of studies without a label in {STUDIES}")
    if unmarked:
        notes.append(f"{counted(len(unmarked), 'image')} without a box in positive studies where another image has one")
    return source_of(
        "covid-4" if four else "covid",
        home,
        rows,
        images_by_stem(home, "train"),
        table=home / IMAGES,
        classes=list(dict.fromkeys(names[0 if four else 1] for names in APPEARANCES.values())),
        image_size=224,
        faults=faults,
        notes=notes,
        masks=_boxes_of(images, home / IMAGES),
    )


def _boxes_of(images: Iterable[dict[str, str]], table: Path) -> dict[str, Boxes]:
    """The radiologists' boxes by image, of the column boxes or, where that has nothing, of the label."""
    boxes: dict[str, dict[Box, None]] = defaultdict(dict)  # a row may be repeated
    for row in images:
        key, text = row["id"].removesuffix("_image"), row.get("boxes", "")
        origin = f"{key} in {table}"
        row_boxes = Boxes.from_text(text, origin) if text else None
        if not text and _has_box(row):
            row_boxes = Boxes.from_label(row["label"], origin)
        boxes[key] |= dict.fromkeys(row_boxes.boxes if row_boxes else ())
    return {key: Boxes(tuple(each), f"{key} in {table}") for key, each in boxes.items() if each}


def _has_box(row: dict[str, str]) -> bool:
    """Whether the radiologists marked an opacity: `opacity 1 x y x y ...`, where `none 1 0 0 1 1` is nothing."""
    return row["label"].startswith(OPACITY)


def load_chestxray14(home: Path | None, *, by_name: bool = False) -> Source:
    """The NIH's chest X-rays: `no finding` against `finding`, with the patient as group and the official test list.

    `by_name` takes the findings as labels that may hold together. An image that is in neither list is divided with the
    others that do not test.
    """
    assert home is not None
    table = next(home / name for name in ENTRIES if (home / name).is_file())
    split_of: dict[str, str] = {}
    faults: dict[str, ImageFault] = {}
    for name, split in LISTS.items():
        if (home / name).is_file():
            for line in (home / name).read_text(encoding="utf-8-sig", errors="replace").split():
                key = PurePosixPath(line).stem
                if split_of.setdefault(key, split) != split:
                    faults[key] = ImageFault(key, f"is in both {' and '.join(LISTS)}")
    rows = []
    for row in table_rows(table, "Image Index", "Finding Labels", "Patient ID"):
        key, findings = PurePosixPath(row["Image Index"]).stem, row["Finding Labels"].split("|")
        if NO_FINDING in findings and len(findings) > 1:
            faults[key] = ImageFault(
                key, f"has {NO_FINDING} beside {', '.join(f for f in findings if f != NO_FINDING)}"
            )
        if key in faults:
            continue
        found = [] if NO_FINDING in findings else findings
        odd = [each for each in found if by_name and each not in FINDINGS and each]
        if odd:
            faults[key] = ImageFault(key, f"has the finding {odd[0]!r}, which is none of the fourteen")
            continue
        label = None if findings == [""] else "finding" if found else "no finding"
        if by_name and label is not None:
            label = labels_text(found)
        rows.append(ListedImage(key, label, row["Patient ID"], split_of.get(key, "")))
    return source_of(
        "chestxray14-findings" if by_name else "chestxray14",
        home,
        rows,
        _files_of_chestxray14(home),
        table=table,
        classes=FINDINGS if by_name else ("no finding", "finding"),
        target=MULTILABEL.name if by_name else CLASSES.name,
        image_size=224,
        faults=list(faults.values()),
    )


def _files_of_chestxray14(home: Path) -> dict[str, str]:
    """The twelve archives unpack to images/, or each to a folder of its own."""
    folders = ["images", *sorted(path.name for path in home.glob("images_*") if path.is_dir())]
    files: dict[str, str] = {}
    for folder in folders:
        files = images_by_stem(home, folder) | files
    return files


COVID = Entry(
    title="SIIM-FISABIO-RSNA COVID-19: chest X-rays, pneumonia against negative (the study's)",
    modality="chest radiography, DICOM, 8 to 16 bits",
    num_images=6_334,
    num_classes=2,
    target=f"{STUDIES}: negative where Negative for Pneumonia is 1, else pneumonia. Images of positive studies that "
    "have no box while another image of the study has one are used without a label",
    group="StudyInstanceUID (6,054 studies)",
    licence="CC BY-NC 4.0 (RICORD, BIMCV: see the challenge's page)",
    citation="Lakhani et al. 2021, The 2021 SIIM-FISABIO-RSNA Machine Learning COVID-19 Challenge, "
    "https://doi.org/10.31219/osf.io/532ek",
    page="Kaggle: https://www.kaggle.com/competitions/siim-covid19-detection/data (accept the rules, then "
    "kaggle competitions download -c siim-covid19-detection)",
    tree=f"train/<study>/<series>/<image>.dcm (or train/<image>.png)\n{STUDIES}\n{IMAGES}\n"
    "duplicates.csv (if you have a list of copies: the first of each row is used)",
    needs=(
        Needed(("train",), "train, of siim-covid19-detection.zip"),
        Needed((STUDIES,), STUDIES),
        Needed((IMAGES,), IMAGES),
    ),
    folders=("covid", "siim-covid19-detection"),
    image_size=224,
    augmentations=XRAY_VIEWS,
    normalisation=GREY_NORMALISATION,
    loader=load_covid,
)

COVID_4 = replace(
    COVID,
    title="SIIM-FISABIO-RSNA COVID-19: chest X-rays, the four classes of its studies",
    num_classes=4,
    target=f"{STUDIES}: negative, typical, indeterminate or atypical appearance; unmarked images as for covid",
    loader=partial(load_covid, four=True),
)

CHESTXRAY14 = Entry(
    title="NIH ChestX-ray14: the images of ChestX-ray8 and more",
    modality="chest radiography, 8-bit PNG of 1024 px",
    num_images=112_120,
    num_classes=2,
    target="Finding Labels: no finding against finding (14 findings, several an image); pretraining needs no label",
    group="Patient ID (30,805 patients)",
    split="test_list.txt tests; the rest is divided into training and validation by patient",
    licence="free use, with a link to the NIH's page and the citation",
    citation="Wang et al. 2017, ChestX-ray8, https://arxiv.org/abs/1705.02315",
    page="NIH Clinical Center: https://nihcc.app.box.com/v/ChestXray-NIHCC",
    tree="images/00000001_000.png ... (or images_001/images/ ... images_012/images/)\nData_Entry_2017_v2020.csv\n"
    "train_val_list.txt\ntest_list.txt",
    needs=(
        Needed(("images", "images_*/"), "images_01.tar.gz to images_12.tar.gz, unpacked"),
        Needed(ENTRIES, ENTRIES[0]),
        Needed(("test_list.txt",), "train_val_list.txt and test_list.txt"),
    ),
    image_size=224,
    augmentations=XRAY_VIEWS,
    normalisation=GREY_NORMALISATION,
    loader=load_chestxray14,
)

CHESTXRAY14_FINDINGS = replace(
    CHESTXRAY14,
    title="NIH ChestX-ray14 by its fourteen findings",
    num_classes=14,
    target="Finding Labels: fourteen findings that may hold together; none of them for No Finding",
    loader=partial(load_chestxray14, by_name=True),
    folders=("chestxray14",),
)
