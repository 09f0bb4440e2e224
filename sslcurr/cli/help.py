"""The help of a command as text: usage, examples, and options under headings, for terminals of 80 columns and more."""

from __future__ import annotations

import inspect
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import OptionInfo

# Columns: where texts of options begin, and the longest line.
TEXT, LONGEST = 26, 100
OPTIONS, ARGUMENTS, COMMANDS = "Options", "Arguments", "Commands"
DATA, TRAINING, MODEL, SEVERAL, MACHINE = "Data", "Training", "Model", "Several at once", "Machine and output"
ADVANCED = "Advanced"
# Below what a command is about, in this order.
COMMON = (TRAINING, MODEL, SEVERAL, MACHINE, ADVANCED)
# Parameters below one heading: these first, in this order.
FIRST = (
    *("dataset", "reference", "datasets", "data_root", "unlabelled", "masks", "split", "num_images", "label_fraction"),
    *("fraction", "folds", "image_size", "target_kind", "label_column", "path_column", "group_column", "split_column"),
    *("epochs", "batch_size", "lr", "seed", "backbone", "stem", "settings", "jobs", "per_gpu", "devices"),
    *("run_name", "run_note", "dry_run", "plot", "json", "runs", "device", "precision", "threads", "workers"),
    *("freeze", "layer_decay", "lr_range", "lr_pruner", "allow_overlap", "save_minutes", "recompute", "gpu", "profile"),
)


class Helped:
    """What has a `page`; a reader of it who goes early (`| head`) is no mistake."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        formatter.write(page(self, ctx))

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Read the command line; `--help` prints the help and raises typer.Exit."""
        try:
            return super().make_context(*arguments, **options)  # type: ignore[misc]
        except BrokenPipeError as error:
            drop_output()
            raise typer.Exit from error


class Command(Helped, TyperCommand):
    """A command with its help."""


class Group(Helped, TyperGroup):
    """Commands below a command, with their help."""


def drop_output() -> None:
    """Let nobody have what is still to be printed: the reader has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def in_order(parameters: Iterable[inspect.Parameter]) -> list[inspect.Parameter]:
    """The parameters of a command as its help has them: arguments, data, what it is about, what others have too."""

    def place(parameter: inspect.Parameter) -> tuple[int, int]:
        about = next(iter(getattr(parameter.annotation, "__metadata__", ())), None)
        heading = getattr(about, "rich_help_panel", None)
        if not isinstance(about, OptionInfo):
            return (0, 0)
        common = heading == DATA or heading in COMMON
        within = FIRST.index(parameter.name) if common and parameter.name in FIRST else len(FIRST)
        return (1 if heading == DATA else 3 + COMMON.index(heading) if heading in COMMON else 2), within

    return sorted(parameters, key=place)


def page(command: Any, ctx: Any) -> str:
    """The help of a command.

    The docstring of the command is wrapped by paragraphs; lines that are indented in it, such as examples, stay as they
    are. Options come in their order, those of one heading (`rich_help_panel`) together.

    Args:
        command: of typer, with its parameters, or a group.
        ctx: its context.
    """
    width = min(shutil.get_terminal_size().columns, LONGEST)
    first, *others = textwrap.wrap(f"Usage: {usage(command, ctx)}", max(width, 24), subsequent_indent=" " * 9)
    lines = [_heading("Usage") + first.removeprefix("Usage"), *others, "", *_prose(command.help or "", width)]
    for heading, left, entries in _sections(command, ctx):
        lines += ["", _heading(heading)]
        for name, text in entries:
            lines += _entry(name, text, left, width)
    return "\n".join(lines) + "\n"


def usage(command: Any, ctx: Any) -> str:
    """How a command is called."""
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    pieces = [_argument(each) for each in arguments]
    pieces = [n if n.startswith("[") or each.required else f"[{n}]" for n, each in zip(pieces, arguments, strict=True)]
    needed = [
        f"{_longest(each.opts)} {metavar(each)}"
        for each in command.params
        if each.param_type_name == "option" and each.required
    ]
    below = ["[COMMAND]" if command.invoke_without_command else "COMMAND"] if is_group(command) else []
    return " ".join([ctx.command_path, *pieces, *below, *needed, "[OPTIONS]"])


def metavar(param: Any) -> str:
    """What stands for the value of an option; nothing for one without a value."""
    if param.is_flag:
        return ""
    if param.metavar is not None:
        return str(param.metavar)
    choices = param.type_descriptor.choices or ()
    return "|".join(str(getattr(each, "value", each)) for each in choices)


def _sections(command: Any, ctx: Any) -> Iterator[tuple[str, int, list[tuple[str, str]]]]:
    """Headings, and what stands below each: the column where texts begin, names and texts."""
    params = [each for each in command.get_params(ctx) if not each.hidden]
    arguments = [(_argument(each), each.help or "") for each in params if each.param_type_name == "argument"]
    if arguments:
        yield ARGUMENTS, TEXT, arguments
    below = {name: command.commands[name] for name in command.list_commands(ctx)} if is_group(command) else {}
    for heading, names in _together((each.rich_help_panel or COMMANDS, name) for name, each in below.items()):
        yield heading, 4 + max(map(len, below)), [(name, summary(below[name])) for name in names]
    options = [each for each in params if each.param_type_name == "option"]
    last = options[-2].rich_help_panel if len(options) > 1 else None  # --help is the last one, and has none
    headed = (((last if "--help" in each.opts else each.rich_help_panel) or OPTIONS, each) for each in options)
    for heading, parts in _together(headed):
        yield heading, TEXT, [(_option(each), described(each)) for each in parts]


def is_group(command: Any) -> bool:
    """Whether there are commands below a command."""
    return isinstance(command, TyperGroup)


def _together(items: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, list[Any]]]:
    """What has one heading together, in the order of the first."""
    groups: dict[str, list[Any]] = {}
    for heading, item in items:
        groups.setdefault(heading, []).append(item)
    yield from groups.items()


def examples_of(command: Any) -> list[str]:
    """The command lines in the help of a command."""
    lines = inspect.cleandoc(command.help or "").splitlines()
    return [line.strip() for line in lines if line.startswith(" ") and line.strip().startswith("sslcurr ")]


def summary(command: Any) -> str:
    """What a command does: the first paragraph of its help."""
    return " ".join(inspect.cleandoc(command.help or "").split("\n\n")[0].split())


def _argument(param: Any) -> str:
    """The name of an argument, with dots where it may be repeated."""
    name = str(param.metavar)
    return name if param.nargs == 1 or name.endswith("...") else f"{name}..."


def _option(param: Any) -> str:
    names = ", ".join(sorted(param.opts, key=len))
    if param.secondary_opts:
        names += f" / {', '.join(param.secondary_opts)}"
    return f"{names} {metavar(param)}".rstrip()


def _longest(names: Sequence[str]) -> str:
    return max(names, key=len)


def described(param: Any) -> str:
    """What an option does, with its default and the variable that sets it."""
    parts = [param.help or ""]
    if param.required:
        parts.append("Required.")
    default = _default(param)
    if default and "Default:" not in parts[0]:
        parts.append(f"Default: {default}.")
    if param.envvar:
        parts.append(f"Environment variable: {param.envvar}.")
    return " ".join(parts)


def _default(param: Any) -> str:
    """The default of an option in words; nothing where it needs no mention."""
    value = param.default
    if isinstance(param.show_default, str):
        return str(param.show_default)
    if not param.show_default or value is None or value is False or value in ("", (), []):
        return ""
    if value is True:
        return _longest(param.opts)
    return f"{value:g}" if isinstance(value, float) else str(value.value if isinstance(value, Enum) else value)


def _prose(text: str, width: int) -> Iterator[str]:
    """Paragraphs, wrapped; one whose lines are indented stays as it is."""
    for number, paragraph in enumerate(inspect.cleandoc(text).split("\n\n")):
        if number and not paragraph.startswith(" "):
            yield ""
        if paragraph.startswith(" "):
            yield from textwrap.indent(textwrap.dedent(paragraph), "  ").splitlines()
        elif paragraph.endswith(":") and "\n" not in paragraph:
            yield _heading(paragraph.removesuffix(":"))
        else:
            yield from _wrapped(paragraph, width)


def _entry(name: str, text: str, left: int, width: int) -> Iterator[str]:
    """A name and its text beside it, or below a long one."""
    lines = _wrapped(text, width - left)
    head = f"  {name}"
    if len(head) + 2 <= left:
        yield _named(head) + " " * (left - len(head)) + (lines.pop(0) if lines else "")
    else:
        yield _named(head)
    yield from (" " * left + line for line in lines)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), max(width, 24), break_long_words=False, break_on_hyphens=False)


def _heading(text: str) -> str:
    return _styled(text, bold=True)


def _named(text: str) -> str:
    return _styled(text, fg="cyan")


def _styled(text: str, **style: Any) -> str:
    """Text in a style, which a terminal shows and a pipe or a file does not get."""
    return text if "NO_COLOR" in os.environ else typer.style(text, **style)
