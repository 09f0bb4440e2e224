"""Identity of stages, and settings from the command line."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Literal

import pytest

from sslcurr.errors import SpecError
from sslcurr.spec import settings
from sslcurr.spec.stage import (
    BackboneSpec,
    DataSpec,
    StageSpec,
    Training,
    hash_of,
    key_of,
    later,
    stage_from_dict,
    to_dict,
)

SPEC = StageSpec(
    task="rotation",
    version=1,
    config={"image_size": 64, "scale": (0.2, 1.0)},
    backbone=BackboneSpec(name="resnet18"),
    data=DataSpec(fingerprint="ab" * 32, pack_size=80, name="ham", pack="/somewhere"),
    training=Training(),
    seed=3,
    parent="0123456789abcdef",
    lineage=("mocov2",),
)


def test_key_is_pinned():
    """A changed key loses every finished stage: do it knowingly, and raise KEY_FORMAT."""
    assert key_of(SPEC) == PINNED


PINNED = "0728c850a0f2f20b"


def test_key_is_of_what_was_asked_not_of_where():
    elsewhere = replace(SPEC, data=replace(SPEC.data, name="copy", pack="/other"), lineage=(), source="/x")
    assert key_of(elsewhere) == key_of(SPEC)


@pytest.mark.parametrize("path", ["training", "data", "backbone"])
def test_every_hashed_field_changes_the_key(path):
    part = getattr(SPEC, path)
    changed = {
        "optimizer": "lars",
        "schedule": "step",
        "precision": "bf16",
        "stem": "small",
        "milestones": (0.5,),
        "mean": (0.1, 0.2, 0.3),
        "std": (0.1, 0.2, 0.3),
        "name": "resnet50" if path == "backbone" else None,
        "fraction": 0.5,
        "fingerprint": "cd" * 32,
        "unlabelled": ("ab" * 32,),
        "batch_size": 512,
        "accumulate": 2,
        "freeze": "stem",
        "layer_decay": 0.7,
    }
    for item in fields(part):
        if not item.metadata.get("hashed", True) or item.name == "channels":
            continue
        value = getattr(part, item.name)
        new = changed.get(item.name) or (not value if isinstance(value, bool) else value + 1)
        if item.name in ("momentum", "val", "test"):
            new = 0.5
        assert key_of(replace(SPEC, **{path: replace(part, **{item.name: new})})) != key_of(SPEC), item.name


def test_a_later_field_at_its_old_meaning_leaves_the_key_alone():
    @dataclass(frozen=True)
    class Before:
        lr: float = 0.1

    @dataclass(frozen=True)
    class After:
        lr: float = 0.1
        ema: float = later(0.0)

    assert hash_of(Before()) == hash_of(After())
    assert hash_of(Before()) != hash_of(After(ema=0.9))


def test_corrections_are_part_of_the_key_where_there_are_some():
    corrected = replace(SPEC, corrections=("a", "b"))
    assert key_of(replace(SPEC, corrections=())) == PINNED
    assert len({PINNED, key_of(corrected), key_of(replace(SPEC, corrections=("a",)))}) == 3
    assert stage_from_dict(to_dict(corrected)).corrections == ("a", "b")
    before = {name: value for name, value in to_dict(SPEC).items() if name != "corrections"}
    assert stage_from_dict(before).corrections == ()


def test_a_stage_survives_json():
    import json

    back = stage_from_dict(json.loads(json.dumps(to_dict(SPEC))))
    assert key_of(back) == key_of(SPEC)
    assert back.backbone == SPEC.backbone
    assert back.training == SPEC.training
    assert back.tasks == ("mocov2", "rotation")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.0}, "lr must be above 0, got 0"),
        ({"lr": math.nan}, "lr must be a finite number, got nan"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 2}, "batch_size must be at least 4, got 2"),
        ({"accumulate": 100}, "accumulate must be at least 1 and at most 64, got 100"),
        ({"optimizer": "sdg"}, "unknown optimizer 'sdg'"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
    ],
)
def test_impossible_training_is_refused_with_a_hint(changes, message):
    with pytest.raises(SpecError) as error:
        Training(**changes)
    assert str(error.value) == message
    assert error.value.hint


@dataclass(frozen=True)
class Example:
    number: int = 1
    rate: float = 0.1
    flag: bool = False
    word: str = "a"
    choice: Literal["x", "y"] = "x"
    pair: tuple[float, float] = (0.0, 1.0)
    many: tuple[float, ...] = ()
    maybe: int | None = None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("number=7", 7),
        ("rate=1e-3", 1e-3),
        ("flag=yes", True),
        ("flag=0", False),
        ("word=b=c", "b=c"),
        ("choice=y", "y"),
        ("pair=0.2,0.8", (0.2, 0.8)),
        ("pair=(0.2, 0.8)", (0.2, 0.8)),
        ("many=0.1,0.2,0.3", (0.1, 0.2, 0.3)),
        ("maybe=4", 4),
        ("maybe=none", None),
    ],
)
def test_settings_are_typed_by_their_field(text, value):
    parsed = settings.parse([f"task.{text}"], ["task"])
    (result,) = settings.apply(parsed["task"], Example(), section="task")
    assert getattr(result, text.partition("=")[0]) == value


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("number", "is not TASK.NAME=VALUE", "for example --set rotation.lr=0.1"),
        ("tusk.number=1", "'tusk' is no part of this command", "did you mean task?"),
        ("task.numbr=1", "task has no setting 'numbr'", "did you mean number?"),
        ("task.number=1.5", "task.number takes a whole number, got '1.5'", "for example"),
        ("task.rate=fast", "task.rate takes a number, got 'fast'", "for example"),
        ("task.flag=maybe", "task.flag takes true or false", "for example"),
        ("task.choice=z", "task.choice cannot be 'z'", "known: x, y"),
        ("task.pair=1", "task.pair takes 2 values", "for example"),
    ],
)
def test_wrong_settings_say_what_would_be_right(text, message, hint):
    with pytest.raises(SpecError) as error:
        settings.apply(settings.parse([text], ["task"])["task"], Example(), section="task")
    assert message in str(error.value)
    assert hint in error.value.hint
