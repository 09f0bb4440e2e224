"""Skin lesions: the ISIC challenges of 2019 (eight classes) and 2020 (melanoma or not)."""

from __future__ import annotations

from pathlib import Path

from sslcurr.data.sources.sets.entry import SKIN_VIEWS, Entry, Needed
from sslcurr.data.sources.sets.listing import ListedImage, images_by_stem, marked, source_of, table_rows
from sslcurr.data.sources.source import Fault, Source
from sslcurr.wording import counted

INPUT_2019 = "ISIC_2019_Training_Input"
TRUTH_2019 = "ISIC_2019_Training_GroundTruth.csv"
METADATA_2019 = "ISIC_2019_Training_Metadata.csv"
# In the order of the table's columns; UNK has no training images and stands for none of the others.
CLASSES_2019 = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")

# JPEG before DICOM, which is what Kaggle has in train.
IMAGES_2020 = ("ISIC_2020_Training_JPEG", "jpeg/train", "train", "ISIC_2020_Training_Dicom")
TABLES_2020 = ("ISIC_2020_Training_GroundTruth_v2.csv", "ISIC_2020_Training_GroundTruth.csv", "train.csv")
CLASSES_2020 = ("benign", "malignant")


def load_isic2019(home: Path | None) -> Source:
    """The 25,331 training images of ISIC 2019, with lesion_id as group."""
    assert home is not None
    columns = (*CLASSES_2019, "UNK")
    rows, faults = [], []
    lesion_of: dict[str, str] = {}
    for row in table_rows(home / METADATA_2019, "image", "lesion_id"):
        if lesion_of.setdefault(row["image"], row["lesion_id"]) != row["lesion_id"]:
            faults.append(Fault(row["image"], f"is listed twice in {METADATA_2019}, and differently"))
    for row in table_rows(home / TRUTH_2019, "image", *CLASSES_2019):
        try:
            label = marked(row, [column for column in columns if column in row])
        except ValueError as error:
            faults.append(Fault(row["image"], str(error)))
            continue
        rows.append(ListedImage(row["image"], None if label == "UNK" else label, lesion_of.get(row["image"], "")))
    num_without = sum(row.key not in lesion_of for row in rows)
    notes = [f"{counted(num_without, 'image')} not in {METADATA_2019}: each a group of its own"] if num_without else []
    return source_of(
        "isic2019",
        home,
        rows,
        images_by_stem(home, INPUT_2019),
        table=home / TRUTH_2019,
        classes=CLASSES_2019,
        image_size=224,
        faults=faults,
        notes=notes,
    )


def load_isic2020(home: Path | None) -> Source:
    """The 33,126 training images of ISIC 2020, with patient_id as group, without its listed duplicates."""
    assert home is not None
    table = next(home / name for name in TABLES_2020 if (home / name).is_file())
    rows, faults = [], []
    for row in table_rows(table, "image_name", "patient_id", "benign_malignant"):
        label = row["benign_malignant"] or None
        if label is not None and label not in CLASSES_2020:
            faults.append(Fault(row["image_name"], f"has {label!r} under benign_malignant"))
        else:
            rows.append(ListedImage(row["image_name"], label, row["patient_id"]))
    return source_of(
        "isic2020",
        home,
        rows,
        images_by_stem(home, *IMAGES_2020),
        table=table,
        classes=CLASSES_2020,
        image_size=224,
        faults=faults,
    )


ISIC2019 = Entry(
    title="ISIC 2019: dermatoscopic images of skin lesions (the study's)",
    modality="dermatoscopy, RGB JPEG of several sizes",
    num_images=25_331,
    num_classes=8,
    target=f"the column of {TRUTH_2019} that holds 1: melanoma, nevus, basal cell carcinoma, actinic keratosis, benign "
    "keratosis, dermatofibroma, vascular lesion, squamous cell carcinoma",
    group=f"lesion_id of {METADATA_2019}; 2,084 images have none and stand alone",
    licence="CC BY-NC 4.0",
    citation="Tschandl et al. 2018, https://arxiv.org/abs/1803.10417; Codella et al. 2017, "
    "https://arxiv.org/abs/1710.05006; Combalia et al. 2019 (BCN20000), https://arxiv.org/abs/1908.02288",
    page="ISIC Challenge Datasets, 2019, training data: https://challenge.isic-archive.com/data/#2019",
    tree=f"{INPUT_2019}/ISIC_0000000.jpg ...\n{TRUTH_2019}\n{METADATA_2019}",
    needs=(
        Needed((INPUT_2019,), f"{INPUT_2019}.zip, unpacked"),
        Needed((TRUTH_2019,), TRUTH_2019),
        Needed((METADATA_2019,), METADATA_2019),
    ),
    image_size=224,
    augmentations=SKIN_VIEWS,
    loader=load_isic2019,
)

ISIC2020 = Entry(
    title="ISIC 2020 (SIIM-ISIC): dermatoscopic images, melanoma against benign",
    modality="dermatoscopy, RGB JPEG of several sizes",
    num_images=33_126,
    num_classes=2,
    target="benign_malignant; 584 images are malignant",
    group="patient_id",
    licence="CC BY-NC 4.0",
    citation="Rotemberg et al. 2021, A patient-centric dataset, https://arxiv.org/abs/2008.07360",
    page="ISIC Challenge Datasets, 2020, training data: https://challenge.isic-archive.com/data/#2020 (or Kaggle: "
    "siim-isic-melanoma-classification)",
    tree="ISIC_2020_Training_JPEG/train/ISIC_0015719.jpg ... (or train/, or Kaggle's jpeg/train/)\n"
    f"{TABLES_2020[0]} (or train.csv)\n"
    "ISIC_2020_Training_Duplicates.csv (if it is there, 425 copies are left out)",
    needs=(
        Needed(IMAGES_2020, "ISIC_2020_Training_JPEG.zip, unpacked"),
        Needed(TABLES_2020, TABLES_2020[0]),
    ),
    image_size=224,
    augmentations=SKIN_VIEWS,
    loader=load_isic2020,
)
