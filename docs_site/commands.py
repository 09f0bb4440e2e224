"""Every command with its arguments and options, from the program itself."""

from __future__ import annotations

import enum
import re
import types
import typing
from collections.abc import Iterator
from typing import Any

from docs_site.markup import code, escaped, prose, table, value

FOLDER = "reference/commands"
KINDS = {int: "N", float: "NUMBER", str: "TEXT"}


def pages() -> dict[str, str]:
    """Path in the site -> Markdown: the list of all commands, and a page each; a group is on one page."""
    from typer.main import get_command

    from sslcurr.cli.app import program

    root: Any = get_command(program())
    rows = [
        (f"[{code(' '.join(('sslcurr', *words)))}]({words[0]}.md{_anchor(words)})", prose(_paragraphs(command.help)[0]))
        for words, command in leaves(root)
    ]
    index = [
        "# Every command and option",
        "",
        "This page and those below it are made of the program. `sslcurr COMMAND --help` prints the same.",
        "What no list of options can say is in [Commands](../../commands.md): JSON, exit codes, experiments as files,",
        "names of runs.",
        "",
        *table(["command", "does"], rows),
    ]
    found = {f"{FOLDER}/index.md": "\n".join(index) + "\n"}
    for name, command in root.commands.items():
        lines = [f"# sslcurr {name}", ""]
        if not hasattr(command, "commands"):
            lines += _described((name,), command, level=2)
        for words, each in leaves(command, (name,)) if hasattr(command, "commands") else ():
            lines += [f"## sslcurr {' '.join(words)}", "", *_described(words, each, level=3)]
        found[f"{FOLDER}/{name}.md"] = "\n".join(lines).rstrip() + "\n"
    return found


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands below one, with the words that call them; a group itself where it does something."""
    for name, each in getattr(command, "commands", {}).items():
        if hasattr(each, "commands"):
            yield from leaves(each, (*words, name))
        else:
            yield (*words, name), each
    if words and getattr(command, "invoke_without_command", False):
        yield words, command


def _anchor(words: tuple[str, ...]) -> str:
    return f"#sslcurr-{'-'.join(words)}" if len(words) > 1 else ""


def _described(words: tuple[str, ...], command: Any, level: int) -> list[str]:
    """What a command does, how it is called, and what it takes, options by the panels of its help."""
    arguments = [each for each in command.params if each.param_type_name == "argument" and not each.hidden]
    options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    usage = " ".join(["sslcurr", *words, "[OPTIONS]", *map(_usage, arguments)])
    lines = ["```", usage, "```", "", *text_of(command.help), *text_of(command.epilog)]
    if arguments:
        lines += [f"{'#' * level} Arguments", ""]
        lines += [
            *table(["argument", "meaning", "default"], [(code(_metavar(each)), *_says(each)) for each in arguments]),
            "",
        ]
    panels: dict[str, list[Any]] = {}
    for option in options:
        panels.setdefault(option.rich_help_panel or "Options", []).append(option)
    for panel, members in panels.items():
        rows = [(_spelled(each), *_says(each)) for each in members]
        lines += [f"{'#' * level} {escaped(panel)}", "", *table(["option", "meaning", "default"], rows), ""]
    return lines


def _plain(text: str | None) -> list[list[str]]:
    """Paragraphs of a help text, as lines, without the markup of rich."""
    from rich.text import Text

    plain = Text.from_markup(text or "").plain.replace("\f", "\n\n").replace("\b", "")
    paragraphs = [[line.strip() for line in part.splitlines()] for part in re.split(r"\n\s*\n", plain)]
    return [found for lines in paragraphs if (found := [line for line in lines if line])]


def _paragraphs(text: str | None) -> list[str]:
    return [" ".join(lines) for lines in _plain(text)]


def text_of(text: str | None) -> list[str]:
    """A help text or what stands below it: paragraphs of command lines as code, all else as prose."""
    found: list[str] = []
    for lines in _plain(text):
        calls = [line.removeprefix("$ ") for line in lines]
        if all(line.startswith(("sslcurr ", "#")) for line in calls):
            if found[-2:] == ["```", ""]:  # a line each is a paragraph each
                del found[-2:]
            else:
                found.append("```sh")
            found += [*calls, "```", ""]
        else:
            found += [prose(" ".join(lines)), ""]
    return found


def _annotation(param: Any) -> Any:
    """The type of a value: of a list that of its members, of `X | None` X."""
    found = param.type_descriptor.annotation
    while typing.get_origin(found) in (list, tuple, typing.Union, types.UnionType):
        found = next(each for each in typing.get_args(found) if each is not type(None))
    return found


def _choices(param: Any) -> list[str]:
    kind = _annotation(param)
    return [str(each.value) for each in kind] if isinstance(kind, type) and issubclass(kind, enum.Enum) else []


def _metavar(param: Any) -> str:
    """The word that stands for a value in a help text."""
    if param.metavar:
        return str(param.metavar)
    if _choices(param):
        return "|".join(_choices(param))
    if param.param_type_name == "argument":
        return str(param.name).upper()
    kind = _annotation(param)
    return KINDS.get(kind, "PATH")


def _usage(param: Any) -> str:
    word = _metavar(param)
    many = "..." if param.nargs == -1 and not word.endswith("...") else ""
    return f"{word if param.required or word.startswith('[') else f'[{word}]'}{many}"


def _spelled(param: Any) -> str:
    names = ", ".join(code(name) for name in [*param.opts, *param.secondary_opts])
    return names if param.is_flag else f"{names} {code(_metavar(param))}"


def _says(param: Any) -> tuple[str, str]:
    """What an option means, and its default."""
    sentences = [prose(text) for text in _paragraphs(param.help)]
    if param.required:
        sentences.append("Must be given.")
    if param.min is not None or param.max is not None:
        bounds = [f"at least {param.min}"] * (param.min is not None) + [f"at most {param.max}"] * (
            param.max is not None
        )
        sentences.append(f"{' and '.join(bounds).capitalize()}.")
    if param.envvar:
        names = [param.envvar] if isinstance(param.envvar, str) else param.envvar
        sentences.append(f"Also from the environment: {', '.join(map(code, names))}.")
    default = getattr(param.default, "value", param.default)
    if param.param_type_name == "option" and param.secondary_opts:
        return " ".join(sentences), code((param.opts if default else param.secondary_opts)[0])
    unsaid = default is None or default is False or default == [] or callable(default) or not param.show_default
    return " ".join(sentences), "" if unsaid else escaped(value(default))
