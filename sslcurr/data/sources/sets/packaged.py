"""Data sets that come with a Python package: nothing to fetch, for first steps and for tests."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

from sslcurr.data.sources.sets.entry import GREY_NORMALISATION, Entry
from sslcurr.data.sources.source import Source

FASHION_CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
# A whole chain of three pretext tasks and fine-tuning in under four minutes on two CPU cores.
FASHION_EPOCHS = {"mocov2": 4, "swav": 2, "rotation": 1, "classification": 6}
CELL_CLASSES = ("functional", "defective")


def load_fashion(_: Path | None = None) -> Source:
    """The embedded part of Fashion-MNIST: 2,000 images for training and validation, 500 for testing, 28 x 28 grey."""
    import numpy as np

    with (
        resources.files("sslcurr.data").joinpath("embedded/fashion_mini.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        x_train, y_train, x_test, y_test = (arrays[k] for k in ("x_train", "y_train", "x_test", "y_test"))
    return Source(
        name="fashion",
        root=None,
        names=[f"train/{i:05d}" for i in range(len(x_train))] + [f"test/{i:05d}" for i in range(len(x_test))],
        labels=[FASHION_CLASSES[y] for y in (*y_train, *y_test)],
        groups=None,
        splits=[""] * len(x_train) + ["test"] * len(x_test),
        arrays=np.concatenate([x_train, x_test]),
        image_size=28,
        classes=FASHION_CLASSES,
        epochs=FASHION_EPOCHS,
    )


def load_digits(_: Path | None = None) -> Source:
    """scikit-learn's handwritten digits: 1,797 images of 8 x 8 pixels, whose 17 grey levels are scaled to 0 to 255."""
    import numpy as np
    from sklearn.datasets import load_digits as load

    digits = load()
    return Source(
        name="digits",
        root=None,
        names=[f"{i:04d}" for i in range(len(digits.images))],
        labels=[str(target) for target in digits.target],
        groups=None,
        splits=None,
        arrays=np.rint(digits.images * (255 / 16)).astype(np.uint8),
        image_size=32,
        classes=tuple(map(str, range(10))),
    )


def load_elpv(_: Path | None = None) -> Source:
    """Solar cells of the package elpv-dataset: defective where the experts' probability of that is a half or more."""
    root = Path(str(resources.files("elpv_dataset"))) / "data"
    # Columns are set apart by spaces: path, probability, kind of module.
    rows = [line.split() for line in (root / "labels.csv").read_text(encoding="utf-8").splitlines() if line.strip()]
    return Source(
        name="elpv",
        root=root,
        names=[row[0] for row in rows],
        labels=[CELL_CLASSES[float(row[1]) >= 0.5] for row in rows],
        groups=None,
        splits=None,
        arrays=None,
        image_size=224,
        classes=CELL_CLASSES,
    )


FASHION = Entry(
    title="Fashion-MNIST, 2,500 images of it, embedded (the default)",
    modality="product photographs, 28 x 28 grey",
    num_images=2_500,
    num_classes=10,
    target="the kind of clothing",
    split="500 images test, as given; the rest is divided into training and validation",
    licence="MIT",
    citation="Xiao, Rasul, Vollgraf: Fashion-MNIST, 2017, https://arxiv.org/abs/1708.07747",
    page="comes with sslcurr",
    package="sslcurr",
    image_size=28,
    augmentations="crops, horizontal flip, brightness and contrast; no colour",
    normalisation=GREY_NORMALISATION,
    loader=load_fashion,
)

DIGITS = replace(
    FASHION,
    title="Handwritten digits of scikit-learn",
    modality="scans, 8 x 8 grey",
    num_images=1_797,
    target="the digit",
    split="none: 15 % validation, 20 % test, stratified (the writers are not told apart)",
    licence="CC BY 4.0 (UCI Machine Learning Repository)",
    citation="Alpaydin, Kaynak 1998, Optical Recognition of Handwritten Digits, https://doi.org/10.24432/C50P49",
    page="comes with scikit-learn",
    package="sklearn",
    image_size=32,
    augmentations="crops of most of the image, brightness; no flips (--set TASK.horizontal_flip=0), no rotation",
    loader=load_digits,
)

ELPV = replace(
    FASHION,
    title="ELPV: electroluminescence images of solar cells",
    modality="electroluminescence, 300 x 300 grey",
    num_images=2_624,
    num_classes=2,
    target="defective where the experts' probability of a defect is 0.5 or more, else functional",
    split="none: 15 % validation, 20 % test, stratified (the 44 modules are not told apart)",
    licence="CC BY-NC-SA 4.0",
    citation="Deitsch et al. 2019, https://doi.org/10.1016/j.solener.2019.02.067",
    page="comes with the package elpv-dataset: pip install 'sslcurr[elpv]'",
    package="elpv_dataset",
    extra="elpv",
    image_size=224,
    augmentations="crops, both flips, brightness, contrast; no colour",
    loader=load_elpv,
)
