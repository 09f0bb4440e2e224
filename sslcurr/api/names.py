"""Names that a person may give: tasks, data sets, settings, and what a store holds. Found at once, and without torch.

What cannot be read has no names: these are for completion on the command line, which has no place for a message.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import msgspec

# Runs that are named by their distance from the last one.
NUM_LATEST = 5
# Characters of a key that are offered: of so many keys, two begin alike once in thousands of stores.
KEY_CHARACTERS = 8
# Settings that are of no task, and the class that has them.
SECTIONS = {"data": "sslcurr.engine.dataset:DataSettings", "search": "sslcurr.engine.plan:LrSearchSettings"}


class Noted(msgspec.Struct):
    """What names a run in its record."""

    created: str
    title: str = ""
    name: str | None = None


def tasks() -> list[str]:
    """The pretext tasks, those of plug-ins too."""
    from sslcurr.spec.target import TARGET_TASKS
    from sslcurr.tasks import TASKS

    return [name for name in TASKS if name not in TARGET_TASKS]


def all_tasks() -> list[str]:
    """The tasks, those of plug-ins and those with labels too."""
    from sslcurr.tasks import TASKS

    return list(TASKS)


def datasets() -> list[str]:
    """The data sets that have a name."""
    from sslcurr.data.sources.catalog import CATALOG

    return list(CATALOG)


def document_kinds() -> list[str]:
    """The kinds of documents."""
    from sslcurr.analysis.results.kinds import KINDS

    return sorted(KINDS)


def runs(root: Path) -> list[tuple[str, str]]:
    """Names of the runs of a store, and what each is about: `last`, `last~1`, those that people gave, numbers.

    Args:
        root: the store.
    """
    noted = []
    for name in _entries(root / "runs"):
        if name.endswith(".json"):
            try:
                run = msgspec.json.decode((root / "runs" / name).read_bytes(), type=Noted)
                noted.append((datetime.fromisoformat(run.created).astimezone(), name.removesuffix(".json"), run))
            except (OSError, ValueError, msgspec.MsgspecError):
                continue
    noted.sort(key=lambda each: each[0], reverse=True)
    latest = [("last" if not place else f"last~{place}", run.title) for place, (_, _, run) in enumerate(noted)]
    given = [(run.name, run.title) for _, _, run in noted if run.name]
    return [*latest[:NUM_LATEST], *given, *((number, run.title) for _, number, run in noted)]


def stages(root: Path) -> list[str]:
    """Beginnings of the keys of the stages of a store.

    Args:
        root: the store.
    """
    return sorted(name[:KEY_CHARACTERS] for name in _entries(root / "stages") if "." not in name)


def _entries(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def settings(section: str) -> list[str]:
    """What `--set SECTION.NAME=VALUE` can change: read from the source, for importing a task takes seconds.

    Args:
        section: a task of ours, `data` or `search`; there are none of others.
    """
    from sslcurr.tasks import BUILTIN_TASKS

    if section in BUILTIN_TASKS:
        module, _, kind = BUILTIN_TASKS[section].partition(":")
        from sslcurr.spec.stage import Training

        return list(dict.fromkeys([*_fields(module, [kind, "Config"]), *Training.__annotations__]))
    module, _, kind = SECTIONS.get(section, "").partition(":")
    return list(_fields(module, [kind])) if module else []


def _fields(module: str, path: Sequence[str]) -> Iterator[str]:
    """The fields of a dataclass of a module, those of its bases first; `path` is its name, and of what it lies in."""
    found = find_spec(module)
    if found is None or found.origin is None:
        return
    tree = ast.parse(Path(found.origin).read_text(encoding="utf-8"))
    body = tree.body
    for name in path:
        kinds = [each for each in body if isinstance(each, ast.ClassDef) and each.name == name]
        if not kinds:  # it is imported there
            for statement in tree.body:
                if isinstance(statement, ast.ImportFrom) and path[0] in [alias.name for alias in statement.names]:
                    yield from _fields(statement.module or "", path)
            return
        body = kinds[0].body
    for base in kinds[0].bases:
        yield from _fields(module, ast.unparse(base).split("."))
    yield from (
        each.target.id
        for each in body
        if isinstance(each, ast.AnnAssign)
        and isinstance(each.target, ast.Name)
        and not ast.unparse(each.annotation).startswith("ClassVar")
    )
