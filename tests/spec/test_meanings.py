"""Every setting of every task has a meaning, written where it is declared."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

import pytest

from sslcurr.api.lab import Lab
from sslcurr.data.views.view import View
from sslcurr.spec.meanings import entries, meanings
from sslcurr.spec.stage import Training
from sslcurr.tasks import BUILTIN_TASKS, task_class

LONGEST = 140


@dataclass
class Base:
    """Settings.

    What follows the section is none of it.

    Attributes:
        side: Side of the view,
            in pixels.
        low, high (float): Ends of the range: both count.

    width: no attribute.
    """

    side: int = 1


@dataclass
class Derived(Base):
    """Attributes:
    side: Side of the large view, in pixels.
    own: A word: `a` or `b`.
    """

    own: str = "a"


class Silent(Derived):
    pass


def test_meanings_are_read_from_a_class_and_its_bases():
    ends = "Ends of the range: both count."
    assert meanings(Base) == {"side": "Side of the view, in pixels.", "low": ends, "high": ends}
    expected = {**meanings(Base), "side": "Side of the large view, in pixels.", "own": "A word: `a` or `b`."}
    assert meanings(Derived) == meanings(Silent) == expected
    assert meanings(Derived, Base)["side"] == "Side of the view, in pixels."  # the later one's
    assert meanings(int) == entries("") == entries("Attributes:") == {}
    assert entries("Attributes:\n    no entry\n    side: Not reached.") == {}


@pytest.mark.parametrize("kind", [View, Training, *BUILTIN_TASKS])
def test_what_is_explained_are_fields(kind):
    kind = task_class(kind).Config if isinstance(kind, str) else kind
    names = {item.name for item in fields(kind)}
    for each in kind.__mro__:
        assert entries(each.__doc__ or "").keys() <= names, f"{each.__qualname__} explains what it has not"
    if kind in (View, Training):
        assert meanings(kind).keys() == names


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("task", BUILTIN_TASKS)
def test_every_setting_of_every_task_has_a_meaning(task, lab):
    document = lab.task(task)
    assert document.meanings.keys() == document.ranges.keys() == document.resolved.keys() == document.imagenet.keys()
    assert sorted(name for names in document.groups.values() for name in names) == sorted(document.resolved)
    choices = {word for text in document.ranges.values() for word in text.split(" | ")}
    for name, meaning in document.meanings.items():
        assert 0 < len(meaning) < LONGEST, f"{task}.{name}: {len(meaning)} characters"
        assert meaning[0] in "`ABCDEFGHIJKLMNOPQRSTUVWXYZ", f"{task}.{name}: {meaning}"
        assert meaning.endswith("."), f"{task}.{name}: {meaning}"
        assert len(re.findall(r"\.(?= |$)", meaning)) <= 2, f"{task}.{name}: more than two sentences"
        for word in re.findall("`(.*?)`", meaning):
            setting, _, value = word.partition("=")
            assert setting in document.resolved or word in choices, f"{task}.{name} names {word!r}, which is not there"
            assert not value or value in document.ranges[setting]


def test_the_meaning_of_a_setting_is_that_of_the_task_that_declares_it(lab):
    documents = {task: lab.task(task) for task in ("byol", "npid", "rotation", "simclr", "dino", "jigsaw")}
    # `momentum` of a task comes before that of its training, as its value does.
    assert "momentum encoder" in documents["byol"].meanings["momentum"]
    assert "memory" in documents["npid"].meanings["momentum"]
    assert "SGD" in documents["rotation"].meanings["momentum"]
    assert "momentum" in documents["byol"].groups["task"]
    assert "momentum" in documents["rotation"].groups["training"]
    assert documents["rotation"].groups["task"] == []
    assert [table.name for table in documents["rotation"].tables()] == ["views", "training"]
    # A class explains an inherited setting anew where it is about something else.
    assert documents["simclr"].meanings["blur"] != documents["dino"].meanings["blur"]
    assert {"grid_size", "patch_size", "color_dropping"} < set(documents["jigsaw"].groups["views"])
    assert {"small_size", "num_small", "second_blur"} < set(documents["dino"].groups["views"])
