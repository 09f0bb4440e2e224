"""`--set TASK.NAME=VALUE`: typed by the dataclasses it changes, checked, with "did you mean"."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from sslcurr.errors import SpecError, did_you_mean

T = TypeVar("T")


def parse(assignments: Iterable[str], sections: Iterable[str]) -> dict[str, dict[str, str]]:
    """`["rotation.lr=0.1"]` as `{"rotation": {"lr": "0.1"}}`.

    Raises:
        SpecError: an assignment that is not TASK.NAME=VALUE, or a section that is not in `sections`.
    """
    section_names = sorted(set(sections))
    result: dict[str, dict[str, str]] = {}
    for assignment in assignments:
        target, equals, value = assignment.partition("=")
        section, dot, name = target.strip().partition(".")
        if not (equals and dot and section and name):
            raise SpecError(f"--set {assignment!r} is not TASK.NAME=VALUE", "for example --set rotation.lr=0.1")
        if section not in section_names:
            raise SpecError(
                f"--set {assignment!r}: {section!r} is no part of this command", did_you_mean(section, section_names)
            )
        result.setdefault(section, {})[name] = value.strip()
    return result


def apply(values: Mapping[str, str], *targets: Any, section: str) -> tuple[Any, ...]:
    """The dataclass instances `targets` with the settings in `values`, each typed by the field of that name.

    Raises:
        SpecError: a name that no target has, or a value that is not of the field's type.
    """
    changes: list[dict[str, object]] = [{} for _ in targets]
    for name, text in values.items():
        for target, change in zip(targets, changes, strict=True):
            if name in {item.name for item in fields(target)}:
                change[name] = convert(text, typing.get_type_hints(type(target))[name], f"{section}.{name}")
                break
        else:
            setting_names = [item.name for target in targets for item in fields(target)]
            raise SpecError(f"{section} has no setting {name!r}", did_you_mean(name, setting_names))
    # All at once: settings that only fit together may come in any order.
    return tuple(replace(target, **change) for target, change in zip(targets, changes, strict=True))


def convert(text: str, kind: Any, what: str) -> Any:
    """`text` as a value of the annotated type `kind`: bool, int, float, str, X | None, Literal, tuple of these."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if text.lower() == "none" and type(None) in arguments:
            return None
        (kind,) = (a for a in arguments if a is not type(None))
        return convert(text, kind, what)
    if origin is typing.Literal:
        if text not in arguments:
            raise SpecError(f"{what} cannot be {text!r}", did_you_mean(text, arguments))
        return text
    if origin is tuple:
        parts = [part for part in text.strip("()[]").split(",") if part.strip()]
        if arguments[-1] is not Ellipsis and len(parts) != len(arguments):
            raise SpecError(f"{what} takes {len(arguments)} values, got {text!r}", f"for example {what}=0.1,0.2")
        return tuple(convert(part.strip(), arguments[0], what) for part in parts)
    if kind is bool:
        if text.lower() not in ("true", "false", "yes", "no", "1", "0"):
            raise SpecError(f"{what} takes true or false, got {text!r}", f"for example {what}=true")
        return text.lower() in ("true", "yes", "1")
    if kind is str:
        return text
    try:
        return kind(text)
    except ValueError:
        words = {int: "a whole number", float: "a number"}
        raise SpecError(f"{what} takes {words[kind]}, got {text!r}", f"for example {what}={kind(1)}") from None
