"""Splits, subsets and orders: nothing leaks, every class is everywhere, and the seed alone decides."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sslcurr.data import split
from sslcurr.data.order import batches, num_steps
from sslcurr.data.pack import Pack
from sslcurr.data.split import SplitSettings, assign, lacking_classes, lacking_sentence, subset
from sslcurr.errors import DataError, SpecError
from tests import REPOSITORY

PARTS = ("train", "val", "test")
PINNED_IMAGES = "rtvrrrrtvrrrvtr"
PINNED_GROUPS = "rrttvvrrrrrrttv"


def make_pack(labels, groups=None, splits=None) -> Pack:
    """A pack of which only labels, groups and splits matter."""
    labels = np.asarray(labels, dtype=np.int64)
    num_images = len(labels)
    return Pack(
        folder=Path(),
        name="made",
        images=np.zeros((num_images, 1, 1, 1), np.uint8),
        heights=np.ones(num_images, np.int32),
        widths=np.ones(num_images, np.int32),
        labels=labels,
        classes=tuple(f"class{i}" for i in range(int(labels.max(initial=-1)) + 1)),
        groups=None if groups is None else np.asarray(groups, dtype=np.int64),
        splits=None if splits is None else np.asarray(splits, dtype="<U5"),
        names=[str(i) for i in range(num_images)],
        fingerprint="",
        size=1,
        channels=1,
    )


def counts(splits, labels) -> dict[str, list[int]]:
    return {part: np.bincount(labels[splits == part], minlength=labels.max() + 1).tolist() for part in PARTS}


def test_stratified_by_hand():
    labels = np.repeat([0, 1, 2], [100, 20, 3])
    splits = assign(make_pack(labels), SplitSettings())
    assert counts(splits, labels) == {"train": [65, 13, 1], "val": [15, 3, 1], "test": [20, 4, 1]}


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_shares(share):
    labels = np.repeat([0, 1], [200, 40])
    splits = assign(make_pack(labels), SplitSettings(val=share, test=0.4))
    assert counts(splits, labels) == {
        "train": [round(200 * (0.6 - share)), round(40 * (0.6 - share))],
        "val": [round(200 * share), round(40 * share)],
        "test": [80, 16],
    }


def test_the_seed_alone_decides():
    labels = np.repeat([0, 1], 30)
    first = assign(make_pack(labels), SplitSettings(seed=3))
    assert np.array_equal(assign(make_pack(labels), SplitSettings(seed=3)), first)
    assert not np.array_equal(assign(make_pack(labels), SplitSettings(seed=4)), first)


def test_a_split_is_the_same_everywhere():
    """Pinned: a split that changes with a release or a platform mixes test images into training."""
    labels = np.repeat([0, 1, 2], [6, 5, 4])
    code = {"train": "r", "val": "v", "test": "t"}
    assert "".join(code[s] for s in assign(make_pack(labels), SplitSettings(seed=1))) == PINNED_IMAGES
    groups = np.arange(15) // 2 * 7 % 5
    by_group = assign(make_pack(np.zeros(15), groups), SplitSettings(seed=1))
    assert "".join(code[s] for s in by_group) == PINNED_GROUPS


def test_given_splits_are_kept():
    given = ["test", "val", "train", "test"]
    assert assign(make_pack([0, 0, 1, 1], splits=given), SplitSettings()).tolist() == given


def test_given_test_leaves_training_and_validation():
    labels = np.tile([0, 1], 60)
    given = np.array([""] * 100 + ["test"] * 20)
    splits = assign(make_pack(labels, splits=given), SplitSettings(val=0.2, test=0.4))
    assert (splits[100:] == "test").all()
    assert counts(splits[:100], labels[:100]) == {"train": [40, 40], "val": [10, 10], "test": [0, 0]}


def test_given_validation_leaves_training_and_test():
    labels = np.tile([0, 1], 60)
    given = np.array([""] * 100 + ["val"] * 20)
    splits = assign(make_pack(labels, splits=given), SplitSettings(val=0.4, test=0.2))
    assert counts(splits[:100], labels[:100]) == {"train": [40, 40], "val": [0, 0], "test": [10, 10]}


def test_given_validation_and_test_leave_training():
    splits = assign(make_pack([0] * 6, splits=["val", "test", "", "", "train", ""]), SplitSettings())
    assert splits.tolist() == ["val", "test", "train", "train", "train", "train"]


def test_images_without_labels_train():
    labels = np.array([0, 1] * 10 + [-1] * 5)
    splits = assign(make_pack(labels), SplitSettings())
    assert (splits[20:] == "train").all()
    assert set(splits[:20]) == set(PARTS)
    assert (assign(make_pack([-1] * 7), SplitSettings()) == "train").all()
    given = ["", "test", "", "val"]
    assert assign(make_pack([-1] * 4, splits=given), SplitSettings()).tolist() == ["train", "test", "train", "val"]


def test_images_whose_group_is_held_out_do_not_train():
    # Patient 0 is in the given test set; another image of hers has no label, and one has no split.
    splits = assign(make_pack([0, -1, 1, -1], groups=[0, 0, 0, 1], splits=["test", "", "", ""]), SplitSettings())
    assert splits.tolist() == ["test", "", "", "train"]


def test_images_whose_group_trains_train():
    labels, groups = [0] * 20, [0] * 4 + list(range(1, 17))
    for seed in range(5):
        splits = assign(make_pack(labels, groups, ["train"] + [""] * 19), SplitSettings(seed=seed))
        assert (splits[:4] == "train").all()
        assert set(splits[4:]) == set(PARTS)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_group_is_on_two_sides_and_every_class_is_on_all(data):
    num_classes = data.draw(st.integers(1, 4))
    # Each class has groups of its own, at least one a part, and others are shared among classes.
    own = [list(range(10 * c, 10 * c + data.draw(st.integers(3, 8)))) for c in range(num_classes)]
    labels, groups = [], []
    for label, names in enumerate(own):
        for group in names:
            size = data.draw(st.integers(1, 6))
            labels += [label] * size
            groups += [group] * size
    for _ in range(data.draw(st.integers(0, 20))):
        labels.append(data.draw(st.integers(-1, num_classes - 1)))
        groups.append(100 + data.draw(st.integers(0, 5)))
    order = data.draw(st.permutations(range(len(labels))))
    labels, groups = np.array(labels)[order], np.array(groups)[order]
    splits = assign(make_pack(labels, groups), SplitSettings(seed=data.draw(st.integers(0, 5))))
    for group in np.unique(groups):
        used = set(splits[groups == group]) - {""}
        assert len(used) <= 1
        if "" in splits[groups == group]:
            assert used <= {"val", "test"}
            assert (labels[(groups == group) & (splits == "")] == -1).all()
    for label in range(num_classes):
        assert set(splits[labels == label]) == set(PARTS)


def shares_of(splits, labels, groups, label) -> list[tuple[float, int]]:
    """By part: images of a class beyond its share, and the images of that class in its largest group."""
    mine = labels == label
    largest = np.bincount(groups[mine]).max()
    wanted = (("train", 0.65), ("val", 0.15), ("test", 0.2))
    return [((splits[mine] == part).sum() - share * mine.sum(), largest) for part, share in wanted]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 3))
def test_shares_are_kept_within_one_group(seed, most, num_classes):
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, most + 1, 90)
    labels = np.repeat(generator.integers(0, num_classes, 90), sizes)
    groups = np.repeat(generator.permutation(90), sizes)
    splits = assign(make_pack(labels, groups), SplitSettings(seed=seed % 7))
    for label in np.unique(labels):
        assert all(abs(beyond) <= largest for beyond, largest in shares_of(splits, labels, groups, label))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_rows_appended_change_no_split(data):
    generator = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    grouped, num_classes = data.draw(st.booleans()), data.draw(st.integers(1, 3))
    num_before, num_after = 80, data.draw(st.integers(1, 60))
    # The appended rows may bring classes of their own, and have groups of their own.
    before = generator.integers(-1 if num_classes > 1 else 0, num_classes, num_before)
    after = generator.integers(-1, num_classes + 1, num_after)
    after[after == num_classes] = num_classes if (after == num_classes).sum() > 2 else -1
    groups = np.concatenate([generator.integers(0, 40, num_before), 100 + generator.integers(0, 30, num_after)])
    labels = np.concatenate([before, after])
    if (after == num_classes).any() and len(set(groups[labels == num_classes])) < 3:
        labels[labels == num_classes] = -1
    settings = SplitSettings(seed=data.draw(st.integers(0, 9)))
    small = assign(make_pack(before, groups[:num_before] if grouped else None), settings)
    large = assign(make_pack(labels, groups if grouped else None), settings)
    assert large[:num_before].tolist() == small.tolist()


def test_seeds_give_different_splits_of_groups_and_images():
    labels, groups = np.zeros(60, dtype=int), np.arange(60) // 2
    for own in (None, groups):
        splits = {tuple(assign(make_pack(labels, own), SplitSettings(seed=seed))) for seed in range(10)}
        assert len(splits) == 10
    # Everybody comes to the test images about as often as the others.
    often = np.mean([assign(make_pack(labels), SplitSettings(seed=seed)) == "test" for seed in range(400)], axis=0)
    assert often.mean() == pytest.approx(0.2, abs=0.005)
    assert often[20:].min() > 0.03
    assert often[20:].max() < 0.5


def test_a_huge_group_trains():
    labels, groups = [0] * 130, [0] * 100 + list(range(1, 31))
    for seed in range(5):
        splits = assign(make_pack(labels, groups), SplitSettings(seed=seed))
        assert splits[0] == "train"


def test_classes_that_share_groups_find_their_way():
    # Class 2 lies in groups of the others only, and only one assignment in some serves it.
    labels = np.array([0, 2, 0, 0, 1, 2, 1, 1, 2, 2])
    groups = np.array([0, 0, 1, 2, 3, 3, 4, 5, 6, 6])
    for seed in range(20):
        splits = assign(make_pack(labels, groups), SplitSettings(seed=seed))
        for label in range(3):
            assert set(splits[labels == label]) == set(PARTS)


@pytest.mark.parametrize(
    ("labels", "groups", "message"),
    [
        ([0] * 9 + [1] * 2, None, "class class1 has 2 images"),
        ([0] * 9 + [1] * 6, [*range(9), 20, 20, 20, 21, 21, 21], "class class1 has 2 groups"),
    ],
)
def test_classes_too_small_to_divide(labels, groups, message):
    with pytest.raises(DataError, match=message) as caught:
        assign(make_pack(labels, groups), SplitSettings())
    assert caught.value.hint


def test_two_images_are_enough_for_two_parts():
    labels = np.repeat([0, 1], [10, 2])
    splits = assign(make_pack(labels), SplitSettings(val=0.0))
    assert counts(splits, labels)["test"] == [2, 1]


def test_groups_that_cannot_be_divided():
    with pytest.raises(DataError, match="without dividing a group"):
        assign(make_pack([0, 1, 2, 0, 1, 0, 2, 1, 2], [0, 0, 0, 1, 1, 2, 2, 3, 3]), SplitSettings(test=0.3))


@pytest.mark.parametrize("wrong", [{"val": -0.1}, {"test": 1.0}, {"val": 0.6, "test": 0.4}])
def test_wrong_settings(wrong):
    with pytest.raises(SpecError) as caught:
        SplitSettings(**wrong)
    assert caught.value.hint


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-1, 3), max_size=60), st.integers(0, 3), st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_subsets_are_nested_and_hold_every_class(labels, seed, one, other):
    labels = np.array(labels, dtype=np.int64)
    indices = np.arange(len(labels)) * 3 + 1
    small, large = (subset(indices, labels, fraction, seed) for fraction in sorted((one, other)))
    assert set(small) <= set(large) <= set(indices)
    assert (np.diff(small) > 0).all()
    for label in np.unique(labels):
        chosen, num = np.isin(indices, small) & (labels == label), (labels == label).sum()
        assert max(1, min(one, other) * num - 0.51) <= chosen.sum() <= max(1, min(one, other) * num + 0.51)
    assert np.array_equal(subset(indices, labels, 1.0, seed), indices)


def test_subsets_do_not_depend_on_the_order_of_the_indices():
    labels = np.tile([0, 1], 20)
    indices = np.arange(40)
    turned = np.random.default_rng(0).permutation(40)
    assert np.array_equal(subset(indices, labels, 0.3, 0), subset(indices[turned], labels[turned], 0.3, 0))
    assert not np.array_equal(subset(indices, labels, 0.3, 0), subset(indices, labels, 0.3, 1))


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.01])
def test_wrong_fractions(fraction):
    with pytest.raises(SpecError, match="fraction must be in"):
        subset(np.arange(3), np.zeros(3), fraction, 0)


@pytest.mark.parametrize(("num_images", "batch_size", "expected"), [(257, 64, 5), (256, 64, 4), (3, 64, 1), (0, 8, 1)])
def test_num_steps(num_images, batch_size, expected):
    assert num_steps(num_images, batch_size) == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 100), st.integers(0, 3))
def test_batches_hold_every_index_once_in_nearly_equal_parts(num_images, batch_size, epoch):
    indices = np.arange(num_images) * 2
    parts = batches(indices, batch_size, 0, "order", epoch)
    sizes = [len(part) for part in parts]
    assert len(parts) == num_steps(num_images, batch_size)
    assert sorted(np.concatenate(parts).tolist()) == indices.tolist()
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_orders_are_keyed():
    indices = np.arange(100)
    first = np.concatenate(batches(indices, 32, 0, "order", 0))
    assert np.array_equal(np.concatenate(batches(indices, 32, 0, "order", 0)), first)
    assert not np.array_equal(np.concatenate(batches(indices, 32, 0, "order", 1)), first)
    with pytest.raises(SpecError):
        batches(indices, 0, 0)


def test_data_modules_do_not_import_torch():
    names = ("sources.catalog", "decode.read", "pack", "packing", "split", "order")
    modules = ", ".join(f"sslcurr.data.{name}" for name in names)
    code = f"import sys, {modules}; sys.exit(any(name in sys.modules for name in ('torch', 'pandas', 'pyarrow')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0


def test_a_remembered_split_is_that_of_its_rows_and_settings():
    labels = np.arange(60) % 3
    first = assign(make_pack(labels), SplitSettings())
    kept = first.copy()
    first[:] = "val"  # what a caller does with it stays with the caller
    assert np.array_equal(assign(make_pack(labels), SplitSettings()), kept)
    others = [
        assign(make_pack(labels), SplitSettings(seed=1)),
        assign(make_pack(labels), SplitSettings(test=0.4)),
        assign(make_pack(np.arange(60) // 20), SplitSettings()),
        assign(make_pack(labels, np.arange(60) // 4), SplitSettings()),
        assign(make_pack(labels, splits=["test"] * 6 + [""] * 54), SplitSettings()),
    ]
    assert len({tuple(splits) for splits in (kept, *others)}) == 6


def test_names_that_are_python_objects_are_compared_by_what_they_say():
    rows = SimpleNamespace(num_images=4, labels=np.full(4, -1), groups=None, classes=())
    for said in (["train", "val", "", "test"], ["test", "", "train", "val"]):
        rows.splits = np.array(said, dtype=object)
        assert [part for part in assign(rows, SplitSettings()) if part] == [part or "train" for part in said]


def test_few_splits_are_remembered():
    for seed in range(3 * split.NUM_REMEMBERED):
        assign(make_pack([0] * 10), SplitSettings(seed=seed))
    assert len(split.remembered) == split.NUM_REMEMBERED


def test_classes_that_a_part_lacks():
    pack = SimpleNamespace(labels=np.array([0, 0, 1, 2, -1, 1]), classes=("a", "b", "c"), target="classes")
    splits = np.array(["train", "test", "train", "test", "val", "test"])
    # The validation image has no label, so nothing is chosen by any class; c cannot be learnt.
    assert lacking_classes(pack, splits) == {"train": ["c"], "val": ["a", "b", "c"]}
    assert lacking_classes(pack, np.array(["train"] * 6)) == {}
    assert lacking_classes(pack, np.array(["test"] * 6)) == {"train": ["a", "b", "c"]}
    assert lacking_sentence("test", ["a"]) == "class a has no test image: not measured"
    assert lacking_sentence("val", list("abcde")) == (
        "classes a, b, c and 2 more have no validation image: not looked at when the best epoch is chosen"
    )


# ---- folds


def folds_of(pack, number, **how):
    return [assign(pack, SplitSettings(folds=number, fold=fold, **how)) for fold in range(number)]


def test_folds_test_each_labelled_image_once_and_keep_its_class_shares():
    labels = np.concatenate([np.repeat([0, 1, 2], [50, 20, 5]), np.full(10, -1)])
    parts = folds_of(make_pack(labels), 5)
    tested = np.stack([part == "test" for part in parts])
    assert (tested[:, labels >= 0].sum(axis=0) == 1).all()
    for part in parts:
        assert counts(part[labels >= 0], labels[labels >= 0])["test"] == [10, 4, 1]
        assert (part[labels < 0] == "train").all()
        assert (part == "val").sum() == round(0.15 * 60)
    assert (folds_of(make_pack(labels), 5, seed=1)[0] != parts[0]).any()


def test_images_of_one_group_are_in_one_fold():
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 3, 200), np.concatenate([rng.integers(0, 40, 190), np.full(10, 41)])
    labels[150:] = -1
    for part in folds_of(make_pack(labels, groups), 4):
        for group in np.unique(groups):
            assert len(set(part[groups == group]) - {""}) <= 1
    tested = [set(groups[part == "test"]) for part in folds_of(make_pack(labels, groups), 4)]
    assert sum(map(len, tested)) == len(set.union(*tested))


@settings(max_examples=50, deadline=None)
@given(labels=st.lists(st.integers(0, 2), min_size=40, max_size=80), number=st.integers(3, 6), seed=st.integers(0, 5))
def test_folds_are_alike_in_size(labels, number, seed):
    pack = make_pack([*labels, *[0, 1, 2] * 6])
    sizes = [int((part == "test").sum()) for part in folds_of(pack, number, seed=seed, val=0.0)]
    assert sum(sizes) == len(labels) + 18
    assert max(sizes) - min(sizes) <= 3  # one for each class


def test_folds_that_cannot_be():
    with pytest.raises(SpecError, match="folds are 3 to 20, got 30"):
        SplitSettings(folds=30)
    with pytest.raises(SpecError, match="there is no fold 3 of 3"):
        SplitSettings(folds=3, fold=3)
    with pytest.raises(DataError, match="class class1 has 2 images, too few to be in each of fold 0, fold 1, fold 2"):
        assign(make_pack([0] * 10 + [1] * 2), SplitSettings(folds=3))
    pack = make_pack([0, 1] * 10, splits=["test"] * 5 + [""] * 15)
    with pytest.raises(DataError, match="given as test, and folds divide all images"):
        assign(pack, SplitSettings(folds=3))


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=60),
    st.sampled_from(
        [(0.2, 0.15, 0.65), (0.5, 0.5), (0.05, 0.95), (1 / 3, 1 / 3, 1 / 3), (0.2,) * 5, (0.98, 0.01, 0.01)]
    ),
    st.integers(0, 1000),
    st.booleans(),
)
def test_images_without_groups_are_dealt_like_groups_of_one(labels, shares, seed, blind):
    draws = np.random.default_rng(seed).random(len(labels)).tolist()
    of_groups = split._deal([[(label, 1)] for label in labels], shares, draws, blind=blind)
    assert split._deal_alone(labels, shares, draws, blind=blind) == of_groups
