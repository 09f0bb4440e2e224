"""What folders mean: splits, classes, and what lies beside them and is no data."""

from __future__ import annotations

import unicodedata

import pytest

from sslcurr.data.sources.catalog import find_source
from sslcurr.data.sources.words import split_of_folder
from sslcurr.errors import DataError


def tree(root, *names):
    """Files that look like images by name, and empty folders (names that end in a slash)."""
    for name in names:
        if name.endswith("/"):
            (root / name).mkdir(parents=True, exist_ok=True)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"x")
    return root


def reading(root):
    """By name: the label and the split."""
    source = find_source(str(root))
    splits = source.splits or [""] * len(source.names)
    return dict(zip(source.names, zip(source.labels, splits, strict=True), strict=True))


def notes(root):
    return find_source(str(root)).notes


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("TRAIN_images", "train"),
        ("train2017", "train"),
        ("trainset", "train"),
        ("ISIC Training Input", ""),
        ("val-images", "val"),
        ("Validation", "val"),
        ("dev", "val"),
        ("testing", "test"),
        ("TestSet", "test"),
        ("evaluation", "eval"),
        ("trainval", "train"),
        ("contest", ""),
        ("images", ""),
        ("trainer", ""),
    ],
)
def test_names_that_mean_splits(name, split):
    assert split_of_folder(name) == split


# ---- splits


def test_a_flat_test_beside_train_with_classes_is_neither_trained_on_nor_a_class(tmp_path):
    tree(tmp_path, "train/cat/a.png", "train/dog/b.png", "test/c.png", "test/d.png")
    assert reading(tmp_path) == {"train/cat/a.png": ("cat", ""), "train/dog/b.png": ("dog", "")}
    assert notes(tmp_path)[0] == "2 images given as test left out: no class folders, so they cannot test"


def test_a_lone_train_has_the_classes_in_it(tmp_path):
    tree(tmp_path, "train/cat/a.png", "train/dog/b.png")
    assert reading(tmp_path) == {"train/cat/a.png": ("cat", ""), "train/dog/b.png": ("dog", "")}
    assert notes(tmp_path) == ("no images were given as val or test: taken from the training images",)


def test_a_flat_train_beside_val_with_classes_has_no_labels(tmp_path):
    tree(tmp_path, "train/a.png", "val/cat/b.png", "val/dog/c.png")
    assert reading(tmp_path) == {
        "train/a.png": (None, ""),
        "val/cat/b.png": ("cat", "val"),
        "val/dog/c.png": ("dog", "val"),
    }


def test_splits_without_classes(tmp_path):
    tree(tmp_path, "train/a.png", "val/b.png", "test/c.png")
    assert reading(tmp_path) == {
        "train/a.png": (None, "train"),
        "val/b.png": (None, "val"),
        "test/c.png": (None, "test"),
    }


def test_a_lone_test_is_a_test(tmp_path):
    tree(tmp_path, "test/cat/a.png", "test/dog/b.png")
    assert reading(tmp_path) == {"test/cat/a.png": ("cat", "test"), "test/dog/b.png": ("dog", "test")}


@pytest.mark.parametrize("around", ["DATA/", "archive/Data Set/", "images/"])
def test_what_is_wrapped_is_unwrapped(around, tmp_path):
    tree(tmp_path, *(f"{around}{name}" for name in ("train/cat/a.png", "train/dog/b.png", "test/cat/c.png")))
    assert reading(tmp_path) == {
        f"{around}train/cat/a.png": ("cat", ""),
        f"{around}train/dog/b.png": ("dog", ""),
        f"{around}test/cat/c.png": ("cat", "test"),
    }
    assert notes(tmp_path)[0] == f"the data set is what lies in {around[:-1]}"


def test_splits_with_the_name_of_the_set(tmp_path):
    tree(tmp_path, "ISIC_Training_Input/mel/a.png", "ISIC_Training_Input/nv/b.png", "ISIC_Test_Input/mel/c.png")
    assert reading(tmp_path) == {
        "ISIC_Training_Input/mel/a.png": ("mel", ""),
        "ISIC_Training_Input/nv/b.png": ("nv", ""),
        "ISIC_Test_Input/mel/c.png": ("mel", "test"),
    }
    tree(tmp_path / "flat", "mnist_train/a.png", "mnist_test/b.png")
    assert reading(tmp_path / "flat") == {"mnist_train/a.png": (None, ""), "mnist_test/b.png": (None, "test")}
    tree(tmp_path / "stations", "train station/a.png", "bus station/b.png")
    assert find_source(str(tmp_path / "stations")).classes == ("bus station", "train station")


def test_classes_in_a_wrapper(tmp_path):
    tree(tmp_path, "set/cat/a.png", "set/dog/b.png", "preview.png")
    assert reading(tmp_path) == {"set/cat/a.png": ("cat", ""), "set/dog/b.png": ("dog", ""), "preview.png": (None, "")}


def test_a_lone_folder_of_images_says_nothing_of_classes(tmp_path):
    tree(tmp_path / "one", "images/a.png", "images/b.png")
    assert reading(tmp_path / "one") == {"images/a.png": (None, ""), "images/b.png": (None, "")}
    tree(tmp_path / "two", "cat/a.png", "cat/deep/b.png")
    assert reading(tmp_path / "two") == {"cat/a.png": ("cat", ""), "cat/deep/b.png": ("cat", "")}
    tree(tmp_path / "three", "cat/session1/a.png", "cat/session2/b.png")
    assert find_source(str(tmp_path / "three")).classes == ("cat",)


def test_splits_in_class_folders(tmp_path):
    tree(tmp_path, "cat/train/a.png", "cat/test/b.png", "dog/train/c.png", "dog/test/d.png")
    assert reading(tmp_path) == {
        "cat/train/a.png": ("cat", ""),
        "cat/test/b.png": ("cat", "test"),
        "dog/train/c.png": ("dog", ""),
        "dog/test/d.png": ("dog", "test"),
    }


def test_images_without_a_label_by_their_folder(tmp_path):
    tree(tmp_path, "train/cat/a.png", "train/dog/b.png", "test/cat/c.png", "unlabeled/d.png", "unlabeled/deep/e.png")
    assert reading(tmp_path)["unlabeled/d.png"] == (None, "")
    assert "2 images beside the class folders (unlabeled): used without a label" in notes(tmp_path)
    tree(tmp_path / "plain", "cat/a.png", "dog/b.png", "Unlabelled/c.png")
    assert find_source(str(tmp_path / "plain")).classes == ("cat", "dog")


def test_eval_is_the_test_where_there_is_no_other(tmp_path):
    tree(tmp_path, "train/cat/a.png", "train/dog/b.png", "eval/cat/c.png")
    assert reading(tmp_path)["eval/cat/c.png"] == ("cat", "test")
    assert notes(tmp_path)[0] == "eval is taken for the test images: name it val if it is for validation"


def test_one_class_in_two_unicode_forms_is_one(tmp_path):
    composed, apart = (unicodedata.normalize(form, "bénin") for form in ("NFC", "NFD"))
    tree(tmp_path, f"train/{composed}/a.png", "train/x/b.png", f"test/{apart}/c.png", "test/x/d.png")
    assert find_source(str(tmp_path)).classes == (composed, "x")
    tree(tmp_path / "one", f"{apart}/a.png", "x/b.png")
    assert find_source(str(tmp_path / "one")).classes == (apart, "x")  # as it was: names are not changed without need


@pytest.mark.parametrize(
    ("names", "message", "hint"),
    [
        (["cat/a.png", "dog/b.png", "test/c.png"], "cat lies beside test: is it a class, a split", "put class folders"),
        (["cat/a.png", "dog/b.png", "train/c.png"], "cat lies beside train: is it a class, a split", "unlabeled"),
        (["c_train/a.png", "c_test/b.png", "d_train/c.png", "d_test/d.png"], "a split and something else", "train/cat"),
        (["train/cat/a.png", "train/dog/b.png", "my_test/c.png"], "my_test lies beside train", "unlabeled"),
        (["valid/a.png", "invalid/b.png"], "invalid lies beside valid", "needs another name"),
        (["train/cat/a.png", "train/dog/b.png", "cat/c.png"], "cat lies beside train", "put class folders"),
        (["train/cat/a.png", "test/cat/b.png", "x/cat/c.png"], "x lies beside test and train", "another"),
        (["train/cat/a.png", "train/dog/b.png", "val/"], "the split folder val has no images", "remove it"),
        (["train/cat/a.png", "train/dog/b.png", "test/cat/"], "the split folder test has no images", "remove it"),
        (
            ["train/c/a.png", "training/c/b.png"],
            "train and training are both named like the split train",
            "another name",
        ),
        (["train/c/a.png", "test/c/b.png", "eval/c/d.png"], "test and eval both look like the test", "rename eval"),
        (["train/Cat/a.png", "train/d/b.png", "test/cat/c.png"], "the classes 'Cat' and 'cat'", "in one way"),
        (
            ["cat/train/a.png", "cat/test/b.png", "dog/c.png"],
            "are named like splits, and others are not",
            "every class",
        ),
        (["p/train/c/a.png", "p/test/c/b.png", "q/train/d/c.png"], "2 data sets?", "--dataset .../p"),
        (["p/cat/a.png", "p/dog/b.png", "q/cat/c.png", "q/dog/d.png"], "two data sets, or two classes?", ".../p"),
        (["p/c/a.png", "p/d/b.png", "q/c/c.png", "q/d/d.png", "r/x.png"], "two data sets, or two classes?", ".../p"),
        (["train/train/c/a.png", "train/val/c/b.png"], "is named like a split, and lies inside of one", "directly"),
        (["a/1.png", "b/deep/train/2.png"], "lies inside of the class folder b", "outside of the classes"),
        (["a/1.png", "b/2.png", "figures/x.png"], "named like one of charts", "another name"),
        (["images/1.png", "annotations/x.png"], "which are no two classes", "--dataset .../images"),
        (
            ["images/1.png", "images/2.png", "x/1_m.png", "x/2_m.png"],
            "which are no two classes",
            "--dataset .../images",
        ),
        (["train/images/1.png", "train/1st_manual/1_m.png", "test/images/2.png"], "are no two classes", "train/images"),
        (["labeled-images/a/1.png", "segmented/2.png"], "which are no two classes", ".../labeled-images"),
        (["HAM_images_part_1/a.png", "HAM_images_part_2/b.png"], "are named like parts of one data set", "a table"),
        (["fold1/a/1.png", "fold2/a/2.png"], "are named like parts of one data set", "a table"),
        (["S_Training_Data/1.png", "S_Test_v2_Data/2.png"], "are named like splits and something else", "call them"),
        (["10/0/1.png", "10/1/2.png", "11/0/3.png", "11/1/4.png"], "10 and 11 each hold folders 0 and 1", ".../10"),
        (
            [f"train/{view}/{label}/{view}.png" for view in ("AP", "PA") for label in ("pos", "neg")],
            "train/AP and train/PA each hold folders pos and neg: which are the classes?",
            "a table",
        ),
        (["dog/1.png", "cat/2.png", "dog - Copy/1.png"], "dog - Copy is named like a copy of dog", "move it out"),
        (["yes/1.png", "no/2.png", "data/yes/1.png"], "data/yes is named like yes: a copy", "move data out"),
        (["a/1.png", "b/2.png", "outputs/x.png"], "named like one of other files", "another name"),
    ],
)
def test_what_is_not_clear_is_asked(names, message, hint, tmp_path):
    tree(tmp_path, *names)
    with pytest.raises(DataError) as caught:
        find_source(str(tmp_path))
    assert message in str(caught.value)
    assert hint in caught.value.hint or hint in str(caught.value)
    assert caught.value.hint
    assert "\n" not in str(caught.value) + caught.value.hint


def test_parts_of_classes_may_be_called_alike(tmp_path):
    names = [f"{label}/{part}/1.png" for label in ("benign", "malignant") for part in ("40X", "100X", "AP")]
    assert find_source(str(tree(tmp_path, *names))).classes == ("benign", "malignant")


def test_a_folder_in_itself_and_an_enumeration_are_splits(tmp_path):
    names = [f"seg_{split}/seg_{split}/{label}/{split}.png" for split in ("train", "test") for label in "ab"]
    tree(tmp_path / "one", *names)
    assert {found[0] for found in reading(tmp_path / "one").values()} == {"a", "b"}
    tree(tmp_path / "two", "a. Training Set/1.png", "b. Testing Set/2.png")
    assert reading(tmp_path / "two") == {"a. Training Set/1.png": (None, ""), "b. Testing Set/2.png": (None, "test")}
    tree(tmp_path / "three", *[f"{s}/{c}/{s}.png" for s in ("train", "test") for c in ("bus", "train")])
    assert find_source(str(tmp_path / "three")).classes == ("bus", "train")


def test_patients_by_their_folders_stay_together(tmp_path):
    tree(
        tmp_path, *[f"{c}/patient_{p}/{c}{i}.png" for c in ("benign", "malignant") for p in range(3) for i in range(2)]
    )
    source = find_source(str(tmp_path))
    assert source.groups == [f"patient_{p}" for _ in range(2) for p in range(3) for _ in range(2)]
    assert source.notes == ("3 folders named like those of patients or cases: the images of each stay together",)
    tree(tmp_path / "classes", "case_1/1.png", "case_1/2.png", "case_2/3.png", "other/4.png")
    assert find_source(str(tmp_path / "classes")).groups is None


def test_classes_of_letters_differ_in_case(tmp_path):
    assert find_source(str(tree(tmp_path, "A/1.png", "a/2.png", "b/3.png"))).classes == ("A", "a", "b")


# ---- what is no data


def test_a_data_set_that_is_named_like_masks_has_images_and_masks(tmp_path):
    tree(
        tmp_path,
        "Kvasir-SEG/images/1.png",
        "Kvasir-SEG/images/2.png",
        "Kvasir-SEG/masks/1.png",
        "Kvasir-SEG/masks/2.png",
    )
    assert find_source(str(tmp_path)).names == ["Kvasir-SEG/images/1.png", "Kvasir-SEG/images/2.png"]


def test_folders_of_systems(tmp_path):
    tree(tmp_path, "cat/a.png", "dog/b.png", "cat/@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "lost+found/x.png")
    tree(tmp_path, "dog/._b.png", "$RECYCLE.BIN/y.png", "#recycle/z.png", ".Trash-1000/files/u.png")
    assert reading(tmp_path) == {"cat/a.png": ("cat", ""), "dog/b.png": ("dog", "")}
    assert notes(tmp_path) == ("4 images left out, thumbnails or rubbish of a system, such as #recycle/z.png",)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("benign (1).png", "benign (1)_mask.png"),
        ("benign (1).png", "benign (1)_mask_1.png"),
        ("ISIC_1.jpg", "ISIC_1_segmentation.png"),
        ("ISIC_1.jpg", "ISIC_1_Segmentation.png"),
        ("x.tif", "x_seg.png"),
        ("x.tif", "x-GT.png"),
        ("x.tif", "masks/x.png"),
        ("x.tif", "Mask/x_mask.png"),
        ("images/x.tif", "masks/x.png"),
        ("images/x.tif", "lung masks/x.png"),
        ("images/x.tif", "annotations/trimaps/x.png"),
    ],
)
def test_masks_of_images_are_left_out(image, mask, tmp_path):
    tree(tmp_path, f"a/{image}", f"a/{mask}", f"b/{image}", f"b/{mask}")
    assert reading(tmp_path) == {f"a/{image}": ("a", ""), f"b/{image}": ("b", "")}
    assert notes(tmp_path) == (f"2 masks left out, of images that are there, such as a/{mask} (--masks takes them)",)


def test_masks_beside_the_images_of_all_classes(tmp_path):
    for label in ("good", "broken"):
        tree(tmp_path, f"test/{label}/000.png", f"ground_truth/{label}/000_mask.png")
    tree(tmp_path, "train/good/000.png")
    assert set(reading(tmp_path)) == {"train/good/000.png", "test/good/000.png", "test/broken/000.png"}


@pytest.mark.parametrize("thumbnail", ["a_thumb.jpg", "a-150x150.png", "thumbs/a.jpg", "Thumbnails/a_thumbnail.png"])
def test_thumbnails_are_left_out(thumbnail, tmp_path):
    tree(tmp_path, "cat/a.png", f"cat/{thumbnail}", "dog/b.png")
    assert set(reading(tmp_path)) == {"cat/a.png", "dog/b.png"}


def test_data_that_is_only_named_like_masks_is_data(tmp_path):
    tree(tmp_path / "faces", "mask/1.png", "mask/2.png", "no_mask/1.png", "no_mask/2.png")
    assert find_source(str(tmp_path / "faces")).classes == ("mask", "no_mask")
    tree(tmp_path / "alone", "a/1_mask.png", "a/2_mask.png", "b/3_mask.png")
    assert len(reading(tmp_path / "alone")) == 3
    tree(tmp_path / "others", "mask/1.png", "glasses/2.png")
    assert find_source(str(tmp_path / "others")).classes == ("glasses", "mask")
    tree(tmp_path / "cells", "segmented_neutrophils/1.png", "neutrophils_segmented/1.png", "lymphocytes/1.png")
    assert len(find_source(str(tmp_path / "cells")).classes) == 3
    tree(tmp_path / "unclear", "mask/1.png", "glasses/1.png")
    with pytest.raises(DataError, match="are they masks of them, or a class"):
        find_source(str(tmp_path / "unclear"))


def test_a_store_is_no_class(tmp_path):
    tree(tmp_path, "a/1.png", "b/2.png", "runs/analyses/attend-1/sheet.png", "keep/packs/set-1/pack.json")
    assert find_source(str(tmp_path)).classes == ("a", "b")
    assert notes(tmp_path) == ("keep left out, and 1 more: a store of sslcurr, and no images",)
    with pytest.raises(DataError, match="is a store of sslcurr"):
        find_source(str(tmp_path / "runs"))


def test_classes_may_be_called_like_the_folders_of_a_store(tmp_path):
    tree(tmp_path, "runs/1.png", "stages/2.png", "results/sub/3.png")
    assert find_source(str(tmp_path)).classes == ("results", "runs", "stages")
