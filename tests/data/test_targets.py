"""Labels that may hold together and numbers, as values and as strata."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sslcurr.data.split import SplitSettings, assign, lacking_classes
from sslcurr.data.targets import FEWEST_GROUPS, encoded, values_of
from sslcurr.seeds import numpy_generator
from sslcurr.spec.target import labels_text


class Rows:
    """What `assign` looks at."""

    def __init__(self, kind, names, labels, groups=None):
        found = encoded(kind, names, labels, groups)
        self.num_images, self.splits, self.target, self.classes = len(labels), None, kind, names
        self.labels, self.label_names, self.values = found.labels, found.names, found.values
        self.groups = None if groups is None else np.unique(groups, return_inverse=True)[1]


def test_labels_as_numbers():
    labels = ["a|b", "", None, "?a|b", "c"]
    nan = np.nan
    expected = [[1, 1, 0], [0, 0, 0], [nan] * 3, [nan, 1, 0], [0, 0, 1]]
    np.testing.assert_array_equal(values_of("multilabel", ("a", "b", "c"), labels), expected)
    np.testing.assert_array_equal(values_of("regression", ("age",), ["1.5", None]), [[1.5], [nan]])
    assert values_of("classes", ("a",), ["a"]) is None
    assert labels_text(["b", "a"], ["0"]) == "?0|a|b"


def test_classes_keep_their_numbers():
    found = encoded("classes", ("x", "y"), ["y", None, "x"])
    assert found.labels.tolist() == [1, -1, 0]
    assert found.names == ("x", "y")


def test_images_stand_with_their_rarest_label():
    labels = ["common|rare"] * 8 + ["common"] * 20 + [""] * 12 + [None] * 2
    found = encoded("multilabel", ("common", "rare"), labels)
    assert found.labels.tolist() == [0] * 8 + [1] * 20 + [2] * 12 + [-1] * 2
    assert found.names[:2] == ("common|rare", "common")


def test_numbers_stand_with_their_fifth():
    numbers = np.arange(100.0)
    found = encoded("regression", ("age",), [repr(float(number)) for number in numbers])
    assert np.bincount(found.labels).tolist() == [20] * 5 or np.bincount(found.labels).tolist() == [21, 20, 20, 20, 19]
    assert (np.diff(found.labels) >= 0).all()
    assert found.names[0].startswith("from 0 to ")


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_strata_are_never_too_small_and_parts_are_alike(data):
    kind = data.draw(st.sampled_from(["multilabel", "regression"]))
    num_images = data.draw(st.integers(30, 120))
    rng = numpy_generator(data.draw(st.integers(0, 9)), "strata")
    if kind == "multilabel":
        names = ("a", "b", "c", "d")
        shares = rng.random(4) ** 2
        labels = [
            labels_text(n for n, p in zip(names, shares, strict=True) if rng.random() < p) for _ in range(num_images)
        ]
    else:
        names = ("age",)
        labels = [repr(round(float(each), data.draw(st.integers(0, 2)))) for each in rng.normal(size=num_images)]
    labels = [None if rng.random() < 0.1 else label for label in labels]
    groups = data.draw(st.sampled_from([None, [f"p{i // 2}" for i in range(num_images)]]))
    rows = Rows(kind, names, labels, groups)
    units = np.arange(num_images) if rows.groups is None else rows.groups
    for number in range(rows.labels.max() + 1):
        assert len(np.unique(units[rows.labels == number])) >= FEWEST_GROUPS
    assert ((rows.labels >= 0) == np.array([label is not None for label in labels])).all()
    parts = assign(rows, SplitSettings())
    assert {"train", "val", "test"} <= set(parts.tolist())
    for part, share in (("val", 0.15), ("test", 0.2)):
        known = rows.labels >= 0
        assert abs((parts[known] == part).mean() - share) < 0.15
    if rows.groups is not None:
        assert all(len(set(parts[rows.groups == group].tolist()) - {""}) == 1 for group in np.unique(rows.groups))


def test_labels_that_a_part_lacks():
    rows = Rows("multilabel", ("a", "b"), ["a", "a|b", "b", ""])
    assert lacking_classes(rows, np.array(["train", "test", "val", "train"])) == {"train": ["b"], "val": ["a"]}
    numbers = Rows("regression", ("age",), ["1.0", "2.0"])
    assert lacking_classes(numbers, np.array(["train", "test"])) == {}


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_a_set_without_any_label_has_no_strata(kind):
    found = encoded(kind, ("a",), [None, None])
    assert found.labels.tolist() == [-1, -1]
    assert found.names == ()
