"""`--over NAME=A,B`: the settings that a ranking is repeated over, and the request of every combination."""

from __future__ import annotations

import itertools
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sslcurr.errors import SpecError, did_you_mean
from sslcurr.spec import settings
from sslcurr.spec.request import Request
from sslcurr.spec.stage import Training
from sslcurr.spec.target import TARGET_TASKS

Over = Mapping[str, Sequence[object]] | Sequence[str]

DEFAULT, SEARCH = "default", "search"
EXAMPLE = "such as --over epochs=5,10"
# The options that can be varied, as a person types them.
OPTIONS = (
    *("backbone", "stem", "image-size", "epochs", "batch-size", "lr", "fraction", "label-fraction", "precision"),
)
# What is no setting of this kind, and what to do instead.
ELSEWHERE = {
    "seed": "--seeds 5 repeats every chain with five seeds",
    "seeds": "--seeds 5 repeats every chain with five seeds",
    "dataset": "settings are compared on the same images: run rank for each data set",
    "measure": "run rank for each measure: what is trained is shared",
}
# Settings of the data that leave the tested images alone.
OF_DATA = ("pack_size", "channels")


@dataclass(frozen=True)
class Axis:
    """A setting that is varied.

    Attributes:
        name: as a person types it: an option without its dashes, or TASK.NAME.
        words: its values, as they were given.
        values: the same, typed; None is the recipe's. Those of TASK.NAME stay words.
    """

    name: str
    words: tuple[str, ...]
    values: tuple[Any, ...]

    @property
    def field(self) -> str | None:
        """The field of a request; None for TASK.NAME."""
        return None if "." in self.name else self.name.replace("-", "_")


def axes_of(over: Over, against: str | float | None, request: Request, tasks: Sequence[str]) -> list[Axis]:
    """The settings that are varied, checked.

    Args:
        over: `["epochs=5,10"]`, or `{"epochs": [5, 10]}`.
        against: a rate to compare that of the request with: short for an axis `lr`.
        request: what is asked for beside them.
        tasks: the pretext tasks.

    Raises:
        SpecError: a setting or a value that cannot be, one value only, or one that is given twice.
    """
    given: list[tuple[str, Sequence[object]]]
    if isinstance(over, Mapping):  # {"epochs": "5,10"} is meant as it is typed, and not as its letters
        given = [_parted(f"{name}={each}") if isinstance(each, str) else (name, each) for name, each in over.items()]
    else:
        given = [_parted(text) for text in _listed(over)]
    if against is not None:
        if request.lr is None:
            raise SpecError("--against compares with --lr, and none is given", "add --lr search, or --lr RATE")
        if any(name.strip() == "lr" for name, _ in given):
            raise SpecError("--over lr is given, and --against, which compares two of it", "leave out one of the two")
        if against not in (DEFAULT, SEARCH):
            settings.convert_text(str(against), float, "--against")
        given.append(("lr", [against, request.lr]))
        request = replace(request, lr=None)
    axes: list[Axis] = []
    for name, values in given:
        axis = _axis(name, ["default" if value is None else str(value).strip() for value in values], tasks)
        if axis.name in [other.name for other in axes]:
            raise SpecError(f"--over gives {axis.name} twice", f"give all values at once, {EXAMPLE}")
        _check_given_once(axis, request)
        axes.append(axis)
    if not axes:
        raise SpecError("no setting to rank over is given", f"give one, {EXAMPLE}")
    return axes


def _listed(over: Sequence[str]) -> Sequence[str]:
    return [over] if isinstance(over, str) else over


def _parted(text: str) -> tuple[str, list[str]]:
    """NAME=A,B as its name and values; commas in brackets part nothing."""
    name, equals, values = text.partition("=")
    if not equals or not name.strip():
        raise SpecError(f"--over {text!r} is not NAME=VALUE,VALUE", "for example --over epochs=5,10")
    return name, re.split(r",(?![^(\[]*[)\]])", values)


def _axis(name: str, words: Sequence[str], tasks: Sequence[str]) -> Axis:
    """A setting with its values, typed and different.

    Raises:
        SpecError: it cannot be varied, or a value cannot be.
    """
    name = name.strip() if "." in name else name.strip().replace("_", "-")
    if "." in name:
        _check_section(name, tasks)
    elif name not in OPTIONS:
        known = [*OPTIONS, *(f"{task}.NAME" for task in (*tasks, *TARGET_TASKS))]
        raise SpecError(
            f"--over {name}: there is no setting {name!r} to rank over",
            ELSEWHERE.get(name) or did_you_mean(name, known),
        )
    if "" in words or len(words) < 2:
        what = "an empty value" if len(words) > 1 else "one value"
        raise SpecError(f"--over {name}={','.join(words)} has {what}", f"give two or more, {EXAMPLE}")
    values = tuple(_typed(name, word) for word in words)
    for place, value in enumerate(values):
        if value in values[:place]:
            raise SpecError(f"--over {name} has the value {words[place]} twice", "give each value once")
    return Axis(name, tuple(words), values)


def _check_section(name: str, tasks: Sequence[str]) -> None:
    section, _, setting = name.partition(".")
    sections = [*tasks, *TARGET_TASKS, SEARCH, "data"]
    if section not in sections:
        raise SpecError(f"--over {name}: {section!r} is no task of this ranking", did_you_mean(section, sections))
    if section == "data" and setting not in OF_DATA:
        raise SpecError(
            f"--over {name}: settings are compared on the same images, divided in the same way",
            "run rank for each, with --set",
        )


def _typed(name: str, word: str) -> Any:
    """A value of a setting, as a request has it; None is the recipe's.

    Raises:
        SpecError: it cannot be.
    """
    if "." in name:
        return _checked_setting(name, word)
    field = name.replace("-", "_")
    (item,) = (item for item in fields(Request) if item.name == field)
    if word == DEFAULT and item.default is None:
        return None
    if name == "lr":
        if word == SEARCH:
            return SEARCH
        kind: Any = float
    else:
        kind = typing.get_type_hints(Request)[field]
    value = settings.convert_text(word, kind, f"--over {name}")
    if field in {item.name for item in fields(Training)}:
        Training(**{field: value})
    if name in ("fraction", "label-fraction") and not 0 < value <= 1:
        raise SpecError(f"--over {name} takes shares in (0, 1], got {word}", f"for example --over {name}=1,0.5")
    return value


def _checked_setting(name: str, word: str) -> str:
    """A value of TASK.NAME, a word.

    Raises:
        SpecError: the task has no such setting, or not of that value.
    """
    from sslcurr.engine.answers import Answers
    from sslcurr.tasks import TASKS

    section, _, setting = name.partition(".")
    if section in TASKS and word != DEFAULT and (setting, word) != ("lr", SEARCH):
        Answers().check_settings(section, {setting: word})
    return word


def _check_given_once(axis: Axis, request: Request) -> None:
    """Raise SpecError where a setting that is varied is also given by itself."""
    defaults = {item.name: item.default for item in fields(Request)}
    if axis.field is not None and getattr(request, axis.field) != defaults[axis.field]:
        raise SpecError(f"--{axis.name} is given, and --over {axis.name} too", f"leave out --{axis.name}")
    if any(text.partition("=")[0].strip() == axis.name for text in request.settings):
        raise SpecError(f"--set {axis.name} is given, and --over {axis.name} too", f"leave out --set {axis.name}")


def combinations(axes: Sequence[Axis], request: Request) -> list[tuple[dict[str, str], Request]]:
    """All combinations of the settings, the first values first: the words by name, and the request with them."""
    requests: list[tuple[dict[str, str], Request]] = []
    for places in itertools.product(*(range(len(axis.values)) for axis in axes)):
        each = request
        for axis, place in zip(axes, places, strict=True):
            value = axis.values[place]
            if axis.field is not None:
                each = replace(each, **{axis.field: value})
            elif value != DEFAULT:
                each = replace(each, settings=(*each.settings, f"{axis.name}={value}"))
        words = {axis.name: axis.words[place] for axis, place in zip(axes, places, strict=True)}
        requests.append((words, each))
    if any(_searches(each) for _, each in requests):
        # How rates are searched is no setting of the combinations without a search.
        requests = [(words, each if _searches(each) else _without_search(each)) for words, each in requests]
    return requests


def _searches(request: Request) -> bool:
    parts = (text.partition("=") for text in request.settings)
    return request.lr == SEARCH or any(
        name.strip().endswith(".lr") and value.strip() == SEARCH for name, _, value in parts
    )


def _without_search(request: Request) -> Request:
    kept = tuple(text for text in request.settings if text.strip().partition(".")[0] != SEARCH)
    return replace(request, lr_range=None, lr_pruner=None, settings=kept)
