"""The settings that a ranking is repeated over: how they are read, and the request of each combination."""

from __future__ import annotations

import pytest

from sslcurr.api.axes import axes_of, combinations
from sslcurr.errors import SpecError
from sslcurr.spec.request import Request

TASKS = ("rotation", "mocov2")


def requests(*over, against=None, **request):
    asked = Request(**request)
    return combinations(axes_of(over, against, asked, TASKS), asked)


def test_all_combinations_the_first_values_first():
    found = requests("backbone=resnet18,default", "batch_size=16, 32", "mocov2.temperature=0.1,0.2", "fraction=1,0.5")
    assert len(found) == 16
    words, first = found[0]
    assert words == {"backbone": "resnet18", "batch-size": "16", "mocov2.temperature": "0.1", "fraction": "1"}
    assert (first.backbone, first.batch_size, first.fraction) == ("resnet18", 16, 1.0)
    assert first.settings == ("mocov2.temperature=0.1",)
    assert [each.fraction for _, each in found[:2]] == [1.0, 0.5]
    assert found[-1][1].backbone is None


def test_a_library_gives_values():
    over = {"image_size": [16, 24], "lr": [None, 0.1, "search"], "rotation.lr": ["default", 0.3]}
    found = combinations(axes_of(over, None, Request(), TASKS), Request())
    assert [each.lr for _, each in found[::2]] == [None, 0.1, "search"] * 2
    assert found[0][0] == {"image-size": "16", "lr": "default", "rotation.lr": "default"}
    assert [each.settings for _, each in found[:2]] == [(), ("rotation.lr=0.3",)]
    assert axes_of({"epochs": "5,10"}, None, Request(), TASKS) == axes_of("epochs=5,10", None, Request(), TASKS)


def test_brackets_hold_a_value_together():
    ((words, _), _) = requests("classification.milestones=(0.5,0.8),(0.6,0.9)")
    assert words == {"classification.milestones": "(0.5,0.8)"}


def test_against_is_an_axis_of_learning_rates_whose_reference_comes_first():
    found = requests(against="default", lr="search", lr_range=(0.1, 0.2), lr_pruner="asha",
                     settings=("search.trials=3", "data.val=0.2"))  # fmt: skip
    assert [words for words, _ in found] == [{"lr": "default"}, {"lr": "search"}]
    # How rates are searched is no setting where none are.
    assert (found[0][1].lr_range, found[0][1].lr_pruner, found[0][1].settings) == (None, None, ("data.val=0.2",))
    assert (found[1][1].lr_range, found[1][1].lr_pruner) == ((0.1, 0.2), "asha")
    assert found[1][1].settings == ("search.trials=3", "data.val=0.2")
    assert [each.lr for _, each in requests(against="0.1", lr=0.2)] == [0.1, 0.2]


@pytest.mark.parametrize(
    ("over", "request_", "message", "hint"),
    [
        (("epoch=5,10",), {}, "there is no setting 'epoch'", "did you mean epochs?"),
        (("seed=0,1",), {}, "there is no setting 'seed'", "--seeds 5 repeats"),
        (("swav.lr=1,2",), {}, "'swav' is no task of this ranking", "known: "),
        (("rotation.lrr=1,2",), {}, "rotation has no setting 'lrr'", "did you mean lr?"),
        (("rotation.lr=0.1,high",), {}, "rotation.lr takes a number", "for example"),
        (("data.test=0.1,0.2",), {}, "compared on the same images", "run rank for each"),
        (("epochs",), {}, "'epochs' is not NAME=VALUE,VALUE", "for example --over epochs=5,10"),
        (("epochs=5",), {}, "--over epochs=5 has one value", "give two or more"),
        (("epochs=5,",), {}, "--over epochs=5, has an empty value", "give two or more"),
        (("epochs=5,ten",), {}, "--over epochs takes a whole number, got 'ten'", "for example"),
        (("epochs=5,0",), {}, "epochs must be", ""),
        (("lr=default,much",), {}, "--over lr takes a number, got 'much'", "for example"),
        (("fraction=1,2",), {}, "--over fraction takes shares in (0, 1], got 2", "for example"),
        (("precision=32,8",), {}, "precision", ""),
        (("epochs=5,5",), {}, "--over epochs has the value 5 twice", "give each value once"),
        (("lr=0.1,0.10",), {}, "--over lr has the value 0.10 twice", "give each value once"),
        (("epochs=5,10", "epochs=20,30"), {}, "--over gives epochs twice", "give all values at once"),
        (("epochs=5,10",), {"epochs": 5}, "--epochs is given, and --over epochs too", "leave out --epochs"),
        (("label-fraction=1,0.5",), {"label_fraction": 0.5}, "--label-fraction is given", "leave out"),
        (("rotation.lr=1,2",), {"settings": ("rotation.lr=3",)}, "--set rotation.lr is given", "leave out --set"),
        ((), {}, "no setting to rank over", "give one"),
    ],
)
def test_mistakes(over, request_, message, hint):
    with pytest.raises(SpecError) as caught:
        requests(*over, **request_)
    assert message in str(caught.value)
    assert hint in caught.value.hint
    assert "\n" not in f"{caught.value}{caught.value.hint}"


def test_mistakes_of_against():
    with pytest.raises(SpecError, match="--against compares with --lr, and none is given"):
        requests(against="default")
    with pytest.raises(SpecError, match="--over lr is given, and --against"):
        requests("lr=0.1,0.2", against="default", lr="search")
    with pytest.raises(SpecError, match="--against takes a number, got 'abc'"):
        requests(against="abc", lr="search")
    with pytest.raises(SpecError, match="has the value search twice"):
        requests(against="search", lr="search")
