"""What the Tab key offers for the word at the cursor: quickly, without torch, and without a word of what is wrong.

Where nothing is offered, shells offer files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import typer

from sslcurr.spec.target import TARGET_TASKS

INSTRUCTION = "_SSLCURR_COMPLETE"
# bash divides words there.
BREAKS = ("=", ":")
TABLES = (".csv", ".parquet")
WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt", ".tar")

Offer = str | tuple[str, str]
Completer = Callable[[typer.Context, str], list[Any]]

_before: list[str] = []


def completed_words(environment: MutableMapping[str, str]) -> list[str] | None:
    """The words before the one that is completed, without the program's; None where nothing is completed.

    What bash has divided is put together again, in `environment` too, where typer reads it.
    """
    instruction = environment.get(INSTRUCTION, "")
    if not instruction.startswith("complete_"):
        return None
    if instruction == "complete_bash":
        words = environment.get("COMP_WORDS", "").split("\n")
        words, cursor = _joined(words, int(environment.get("COMP_CWORD", "0")))
        environment.update(COMP_WORDS="\n".join(words), COMP_CWORD=str(cursor))
        _before[:] = words[1:cursor]
    else:
        line = environment.get("_TYPER_COMPLETE_ARGS", "")
        _before[:] = line.split()[1 : None if line.endswith(" ") else -1]
    return list(_before)


def _joined(words: Sequence[str], cursor: int) -> tuple[list[str], int]:
    """Words with what stood at `=` and `:` put together, and which of them has the cursor."""
    joined: list[str] = []
    place = 0
    for number, word in enumerate(words):
        if joined and (word in BREAKS or joined[-1].endswith(BREAKS)) and number > 1:
            joined[-1] += word
        else:
            joined.append(word)
        if number <= cursor:
            place = len(joined) - 1
    return joined, place


def choices(*values: str) -> Completer:
    """These values."""

    def offered(ctx: typer.Context, incomplete: str) -> list[Any]:
        return list(values)

    return offered


def tasks(ctx: typer.Context, incomplete: str) -> list[Any]:
    """Pretext tasks."""
    from sslcurr.api import names

    return names.tasks()


def all_tasks(ctx: typer.Context, incomplete: str) -> list[Any]:
    """Tasks, those with labels too."""
    from sslcurr.api import names

    return names.all_tasks()


def orderings(ctx: typer.Context, incomplete: str) -> list[Any]:
    """Words for orderings, or tasks with commas between them."""
    begun = incomplete.split(",")[:-1]
    words = [] if begun else ["curriculum", "anti", "full", "pairs", "triples", "all"]
    left = [task for task in _given_tasks() or tasks(ctx, "") if task not in begun]
    return [*words, *(",".join([*begun, task]) for task in left)]


def kinds(ctx: typer.Context, incomplete: str) -> list[Any]:
    """Kinds of documents."""
    from sslcurr.api import names

    return names.document_kinds()


def dataset_names(ctx: typer.Context, incomplete: str) -> list[Any]:
    """Data sets that have a name."""
    from sslcurr.api import names

    return names.datasets()


def datasets(ctx: typer.Context, incomplete: str) -> list[Any]:
    """Data sets that have a name, and folders and tables here."""
    return _with_files(dataset_names(ctx, incomplete), incomplete, TABLES)


def runs(ctx: typer.Context, incomplete: str) -> list[Any]:
    """Runs of the store: the last ones and those with names, and numbers once one is begun."""
    from sslcurr.api import names

    found = names.runs(_store(ctx))
    return found if incomplete else [each for each in found if not _is_number(each[0])]


def checkpoints(ctx: typer.Context, incomplete: str) -> list[Any]:
    """Runs and stages of the store, an untrained network, and files of weights here."""
    from sslcurr.api import names

    keys = names.stages(_store(ctx)) if incomplete else []
    return _with_files([*runs(ctx, incomplete), *keys, "random"], incomplete, WEIGHTS)


def models(ctx: typer.Context, incomplete: str) -> list[Any]:
    """Runs and stages of the store, and exported networks here."""
    from sslcurr.api import names

    keys = names.stages(_store(ctx)) if incomplete else []
    return _with_files([*runs(ctx, incomplete), *keys], incomplete, (".onnx",))


def stages(ctx: typer.Context, incomplete: str) -> list[Any]:
    """Runs and stages of the store."""
    from sslcurr.api import names

    return [*runs(ctx, incomplete), *(names.stages(_store(ctx)) if incomplete else [])]


def ensemble(ctx: typer.Context, incomplete: str) -> list[Any]:
    """Models, or all seeds of one."""
    return ["seeds", *models(ctx, incomplete)]


def datasets_or_models(ctx: typer.Context, incomplete: str) -> list[Any]:
    """What the last option of the line takes: checkpoints after `--models`, else data sets."""
    options = [word for word in _before if word.startswith("-")]
    return (checkpoints if options[-1:] == ["--models"] else datasets)(ctx, incomplete)


def settings(ctx: typer.Context, incomplete: str) -> list[Any]:
    """TASK.NAME= for the tasks of the line, or for all where there are none, and for what is of no task."""
    from sslcurr.api import names

    given = _given_tasks()
    sections = [*given, *TARGET_TASKS] if given else names.all_tasks()
    return _settings([*dict.fromkeys(sections), "data", "search"], incomplete)


def data_settings(ctx: typer.Context, incomplete: str) -> list[Any]:
    """data.NAME=."""
    return _settings(["data"], incomplete)


def _settings(sections: Iterable[str], incomplete: str) -> list[Any]:
    from sslcurr.api import names

    if "=" in incomplete:
        return []
    found = [section for section in sections if section.startswith(incomplete.partition(".")[0])]
    if len(found) > 1 and "." not in incomplete:
        return [f"{section}." for section in found]
    found = [f"{section}.{name}=" for section in found for name in names.settings(section)]
    matching = [each for each in found if each.startswith(incomplete)]
    # Of one alone a shell would take the word to be complete, and put a space behind it.
    return [*matching, f"{matching[0]}VALUE"] if len(matching) == 1 else matching


def _given_tasks() -> list[str]:
    """The tasks of the line; typer does not know them where the last word is an option that wants a value."""
    from sslcurr.api import names

    known = names.all_tasks()
    return [word for word in _before if word in known]


def _store(ctx: typer.Context) -> Path:
    return Path(ctx.params.get("runs") or "runs").expanduser()


def _is_number(name: str) -> bool:
    return len(name) == 8 and all(letter in "0123456789abcdef" for letter in name)


def _with_files(offers: Sequence[Offer], incomplete: str, suffixes: Sequence[str]) -> list[Any]:
    """What of `offers` begins so, with the folders and files here that do; nothing where no offer does, for then the
    shell completes paths."""
    matching = [each for each in offers if (each if isinstance(each, str) else each[0]).startswith(incomplete)]
    if not matching:
        return []
    try:
        entries = sorted(os.scandir("."), key=lambda each: each.name)
    except OSError:
        entries = []
    for entry in entries:
        is_offered = entry.name.endswith(tuple(suffixes)) or entry.is_dir()
        if is_offered and entry.name.startswith(incomplete) and not entry.name.startswith("."):
            matching.append(entry.name)
    return matching
