"""Photographs: the data sets whose distance from the target the study measures. Labels where an image has one class."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from pickle import UnpicklingError

from sslcurr.data.sources.folders import from_folder
from sslcurr.data.sources.sets.entry import PHOTO_VIEWS, Entry, Needed
from sslcurr.data.sources.source import ImageFault, Source, with_free_parts
from sslcurr.data.sources.walk import images_below
from sslcurr.errors import DataError
from sslcurr.wording import counted, reason_of

CIFAR10_FOLDER = "cifar-10-batches-py"
IMAGENET_DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
VOC_FOLDER = "VOCdevkit/VOC2007"
PLACES_FOLDERS = {True: ("data_256_standard", "val_256"), False: ("data_large_standard", "val_large")}
COCO_FOLDERS = {"train2017": "", "val2017": "test"}
PLANT_FOLDERS = ("raw/color", "color", "plantvillage dataset/color", "PlantVillage", ".")
LEAF_MAP = "leaf-map.json"


def load_cifar10(home: Path | None) -> Source:
    """CIFAR-10 by torchvision: 50,000 images, and the 10,000 test images as given."""
    import numpy as np
    from torchvision.datasets import CIFAR10

    assert home is not None
    try:
        parts = [CIFAR10(str(home), train=train) for train in (True, False)]
    except (RuntimeError, OSError) as error:
        raise _unusable("cifar10", home, error) from error
    num_train, num_test = (len(part.data) for part in parts)
    return Source(
        name="cifar10",
        root=None,
        names=[f"train/{i:05d}" for i in range(num_train)] + [f"test/{i:05d}" for i in range(num_test)],
        labels=[part.classes[target] for part in parts for target in part.targets],
        groups=None,
        splits=[""] * num_train + ["test"] * num_test,
        arrays=np.concatenate([part.data for part in parts]),
        image_size=32,
        classes=tuple(parts[0].classes),
    )


def load_imagenet(home: Path | None) -> Source:
    """ILSVRC 2012 by torchvision; its validation images test, as everybody reports."""
    from torchvision.datasets import ImageNet

    assert home is not None
    try:
        parts = {split: ImageNet(str(home), split=split) for split in ("train", "val")}
    except (RuntimeError, OSError, LookupError, EOFError, UnpicklingError) as error:
        raise _unusable("imagenet", home, error) from error
    # Two pairs of classes share their English name, so the identifier of the noun comes first.
    class_of = {
        wnid: f"{wnid} {names[0]}" for p in parts.values() for wnid, names in zip(p.wnids, p.classes, strict=True)
    }
    names, labels, splits = [], [], []
    for split, part in parts.items():
        for path, target in part.samples:
            names.append(Path(path).relative_to(home).as_posix())
            labels.append(class_of[part.wnids[target]])  # each part counts the folders it has
            splits.append("test" if split == "val" else "")
    return _photographs("imagenet", home, names, labels, splits, tuple(class_of[wnid] for wnid in sorted(class_of)))


def load_places365(home: Path | None) -> Source:
    """Places365-Standard by torchvision: its small images (256 px) if they are there, else the large ones."""
    from torchvision.datasets import Places365

    assert home is not None
    small = (home / PLACES_FOLDERS[True][0]).is_dir()
    try:
        parts = {split: Places365(str(home), split=split, small=small) for split in ("train-standard", "val")}
    except (RuntimeError, OSError) as error:
        raise _unusable("places365", home, error) from error
    name_of = {code: name.strip("/") for name, code in parts["val"].class_to_idx.items()}
    names, labels, splits = [], [], []
    for split, part in parts.items():
        for path, target in part.imgs:
            names.append(PurePosixPath(path).relative_to(str(home)).as_posix())
            labels.append(name_of[target])
            splits.append("test" if split == "val" else "")
    return _photographs("places365", home, names, labels, splits, tuple(name_of[code] for code in sorted(name_of)))


def load_voc2007(home: Path | None) -> Source:
    """PASCAL VOC 2007 by torchvision: images only, for most show several classes; its test images where they are."""
    from torchvision.datasets import VOCDetection

    assert home is not None
    names, splits = [], []
    for image_set in ("trainval", "test"):
        if not (home / VOC_FOLDER / f"ImageSets/Main/{image_set}.txt").is_file():
            continue
        try:
            part = VOCDetection(str(home), year="2007", image_set=image_set)
        except (RuntimeError, OSError) as error:
            raise _unusable("voc2007", home, error) from error
        names += [Path(path).relative_to(home).as_posix() for path in part.images]
        splits += ["test" if image_set == "test" else ""] * len(part.images)
    return _photographs("voc2007", home, names, [None] * len(names), splits, ())


def load_coco(home: Path | None) -> Source:
    """COCO 2017: images only, for most show several classes; so its annotations are not needed."""
    assert home is not None
    names, splits = [], []
    for folder, split in COCO_FOLDERS.items():
        images = images_below(home, folder)
        names += images
        splits += [split] * len(images)
    return _photographs("coco", home, names, [None] * len(names), splits, ())


def load_plantvillage(home: Path | None) -> Source:
    """PlantVillage, colour images, one class a folder; the authors' list of leaves makes the groups if it is there."""
    assert home is not None
    root = next(home / folder for folder in PLANT_FOLDERS if any((home / folder).glob("Apple___*")))
    source = from_folder(root)
    map_file = next((place / LEAF_MAP for place in (home, root) if (place / LEAF_MAP).is_file()), None)
    groups, notes = None, source.notes
    if map_file is not None:
        try:
            leaves: dict[str, list[str]] = json.loads(map_file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{map_file} cannot be read: {error}", "take the file as it was published") from error
        groups = [_leaf(name, leaves) for name in source.names]
        num_alone = groups.count("")
        if num_alone:
            notes += (f"{counted(num_alone, 'image')} not in {LEAF_MAP}: each a group of its own",)
    return replace(
        source,
        name="plantvillage",
        groups=groups if groups and any(groups) else None,
        splits=None,
        image_size=224,
        notes=notes,
    )


def _leaf(name: str, leaves: dict[str, list[str]]) -> str:
    """The leaf of an image, "" if the list has none: its keys are lower-case file names, its values `class:::leaf`."""
    path = PurePosixPath(name)
    key = path.stem.split("___")[-1].split("copy")[0].replace("_final_masked", "").strip().lower()
    leaves_of_key = leaves.get(key, [])
    of_class = [leaf for leaf in leaves_of_key if leaf.split(":::")[0] == path.parts[0]]
    if of_class:
        return of_class[0]
    return leaves_of_key[0] if len(leaves_of_key) == 1 else ""


def _photographs(
    name: str, home: Path, names: list[str], labels: Sequence[str | None], splits: list[str], classes: tuple[str, ...]
) -> Source:
    notes = [] if classes else [f"{name} has several classes an image: its images are used, without labels"]
    on_disk = {image for folder in {name.rpartition("/")[0] for name in names} for image in images_below(home, folder)}
    there = [i for i, image in enumerate(names) if image in on_disk]
    if not there:
        raise DataError(f"the images of {name} are not in {home}", f"see sslcurr data show {name}")
    return Source(
        name=name,
        root=home,
        names=[names[i] for i in there],
        labels=[labels[i] for i in there],
        groups=None,
        splits=with_free_parts([splits[i] for i in there], notes),
        arrays=None,
        image_size=224,
        classes=classes,
        faults=tuple(ImageFault(image, "is not there") for image in names if image not in on_disk),
        notes=tuple(notes),
    )


def _unusable(name: str, home: Path, error: Exception) -> DataError:
    reason = reason_of(error)
    return DataError(
        f"torchvision cannot use the files of {name} in {home}: {reason}", f"sslcurr data show {name} shows the tree"
    )


def download_cifar10(home: Path) -> None:
    """Fetches CIFAR-10 (163 MB) with torchvision."""
    from torchvision.datasets import CIFAR10

    CIFAR10(str(home), download=True)


def download_voc2007(home: Path) -> None:
    """Fetches VOC 2007 (460 and 451 MB) with torchvision."""
    from torchvision.datasets import VOCDetection

    for image_set in ("trainval", "test"):
        VOCDetection(str(home), year="2007", image_set=image_set, download=True)


def download_places365(home: Path) -> None:
    """Fetches Places365-Standard with small images (24 GB and 0.5 GB) with torchvision."""
    from torchvision.datasets import Places365

    for split in ("train-standard", "val"):
        Places365(str(home), split=split, small=True, download=True)


CIFAR10_ENTRY = Entry(
    title="CIFAR-10: small photographs of ten classes",
    modality="photographs, 32 x 32 RGB",
    num_images=60_000,
    num_classes=10,
    target="the class of the batch files",
    split="its 10,000 test images test; the rest is divided into training and validation",
    licence="none stated; free for research",
    citation="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images, https://www.cs.toronto.edu/~kriz/cifar.html",
    page="https://www.cs.toronto.edu/~kriz/cifar.html (or --download)",
    tree=f"{CIFAR10_FOLDER}/data_batch_1 ... data_batch_5, test_batch, batches.meta",
    needs=(Needed((CIFAR10_FOLDER,), "cifar-10-python.tar.gz, unpacked"),),
    image_size=32,
    augmentations=PHOTO_VIEWS + "; no blur at this size",
    loader=load_cifar10,
    downloader=download_cifar10,
)

IMAGENET_ENTRY = Entry(
    title="ImageNet (ILSVRC 2012): photographs of 1,000 classes",
    modality="photographs, RGB JPEG of all sizes",
    num_images=1_331_167,
    num_classes=1000,
    target="the folder of an image, a WordNet identifier, with its first English name",
    split="its 50,000 validation images test; training images are divided into training and validation",
    licence="non-commercial research, by agreement with image-net.org",
    citation="Russakovsky et al. 2015, https://arxiv.org/abs/1409.0575",
    page="https://image-net.org/download.php (an account is needed)",
    tree="train/n01440764/n01440764_10026.JPEG ...\nval/n01440764/ILSVRC2012_val_00000293.JPEG ...\n"
    f"meta.bin, or {IMAGENET_DEVKIT}\n"
    "(python -c \"from torchvision.datasets import ImageNet as I; I('FOLDER', 'train'); I('FOLDER', 'val')\"\n"
    "makes this tree of the three archives)",
    needs=(
        Needed(("train",), "ILSVRC2012_img_train.tar, unpacked as the tree shows"),
        Needed(("val",), "ILSVRC2012_img_val.tar, unpacked as the tree shows"),
        Needed(("meta.bin", IMAGENET_DEVKIT), IMAGENET_DEVKIT),
    ),
    image_size=224,
    augmentations=PHOTO_VIEWS,
    loader=load_imagenet,
)

PLACES365_ENTRY = Entry(
    title="Places365-Standard: photographs of 365 kinds of places",
    modality="photographs, RGB JPEG of 256 px or larger",
    num_images=1_839_960,
    num_classes=365,
    target="the category of the file lists",
    split="its 36,500 validation images test; training images are divided into training and validation",
    licence="CC BY for the data set's terms; images for non-commercial research",
    citation="Zhou et al. 2017, Places, https://doi.org/10.1109/TPAMI.2017.2723009",
    page="http://places2.csail.mit.edu/download.html (or --download, about 25 GB)",
    tree="categories_places365.txt\nplaces365_train_standard.txt\nplaces365_val.txt\n"
    "data_256_standard/a/airfield/00000001.jpg ...\nval_256/Places365_val_00000001.jpg ...",
    needs=(
        Needed(("categories_places365.txt",), "filelist_places365-standard.tar, unpacked"),
        Needed(("places365_train_standard.txt",), "filelist_places365-standard.tar, unpacked"),
        Needed(("places365_val.txt",), "filelist_places365-standard.tar, unpacked"),
        Needed(tuple(f[0] for f in PLACES_FOLDERS.values()), "train_256_places365standard.tar, unpacked"),
        Needed(tuple(f[1] for f in PLACES_FOLDERS.values()), "val_256.tar, unpacked"),
    ),
    image_size=224,
    augmentations=PHOTO_VIEWS,
    loader=load_places365,
    downloader=download_places365,
)

VOC2007_ENTRY = Entry(
    title="PASCAL VOC 2007: photographs of everyday scenes",
    modality="photographs, RGB JPEG of about 500 px",
    num_images=9_963,
    num_classes=0,
    target="none: most images show several of the 20 classes",
    split="its test images test where they are; the rest is divided into training and validation",
    licence="flickr's terms of use",
    citation="Everingham et al. 2010, https://doi.org/10.1007/s11263-009-0275-4",
    page="http://host.robots.ox.ac.uk/pascal/VOC/voc2007/ (or --download, about 0.9 GB)",
    tree=f"{VOC_FOLDER}/JPEGImages/000001.jpg ...\n{VOC_FOLDER}/Annotations/000001.xml ...\n"
    f"{VOC_FOLDER}/ImageSets/Main/trainval.txt, test.txt",
    needs=(
        Needed((f"{VOC_FOLDER}/JPEGImages",), "VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar, unpacked"),
        Needed((f"{VOC_FOLDER}/ImageSets/Main/trainval.txt",), "VOCtrainval_06-Nov-2007.tar, unpacked"),
    ),
    image_size=224,
    augmentations=PHOTO_VIEWS,
    loader=load_voc2007,
    downloader=download_voc2007,
)

COCO_ENTRY = Entry(
    title="COCO 2017: photographs of objects in context",
    modality="photographs, RGB JPEG of about 640 px",
    num_images=123_287,
    num_classes=0,
    target="none: most images show several of the 80 classes",
    split="val2017 tests; train2017 is divided into training and validation",
    licence="annotations CC BY 4.0; images under flickr's terms of use",
    citation="Lin et al. 2014, https://arxiv.org/abs/1405.0312",
    page="https://cocodataset.org/#download (2017 Train images, 2017 Val images; no annotations needed)",
    tree="train2017/000000000009.jpg ...\nval2017/000000000139.jpg ...",
    needs=(
        Needed(("train2017",), "train2017.zip, unpacked"),
        Needed(("val2017",), "val2017.zip, unpacked"),
    ),
    image_size=224,
    augmentations=PHOTO_VIEWS,
    loader=load_coco,
)

PLANTVILLAGE_ENTRY = Entry(
    title="PlantVillage: leaves, healthy and with 26 diseases, of 14 crops",
    modality="photographs of single leaves, 256 x 256 RGB JPEG",
    num_images=54_305,
    num_classes=38,
    target="the folder of an image: crop and disease",
    group=f"the leaf, by the authors' {LEAF_MAP} if it is there: most leaves were photographed several times",
    licence="CC BY-SA 3.0",
    citation="Mohanty, Hughes, Salathé 2016, https://doi.org/10.3389/fpls.2016.01419; Hughes, Salathé 2015, https://arxiv.org/abs/1511.08060",
    page="https://github.com/spMohanty/PlantVillage-Dataset (git clone)",
    tree=f"raw/color/Apple___Apple_scab/....JPG ...\n{LEAF_MAP}",
    needs=(Needed(tuple(f"{folder}/Apple___*" for folder in PLANT_FOLDERS), "the folder raw/color of the repository"),),
    folders=("plantvillage", "PlantVillage-Dataset"),
    image_size=224,
    augmentations=PHOTO_VIEWS + "; vertical flips do no harm to leaves",
    loader=load_plantvillage,
)
