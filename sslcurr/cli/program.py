"""Experiments as files: commands with their options in TOML, and any command line as a part of such a file."""

from __future__ import annotations

import functools
import inspect
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from sslcurr.cli.help import MACHINE, Command, Group, in_order
from sslcurr.errors import Changed, SpecError, did_you_mean
from sslcurr.wording import visible

# What typer raises for a wrong command line; it names the subclasses only.
USAGE: Any = typer.BadParameter.__bases__[0]
COMMAND, CONTEXT = "command", "context_of_command"
RUN = "run"  # no experiment file holds it
PrintToml = Annotated[
    bool,
    typer.Option(
        "--print-toml",
        help="Print the command as a part of an experiment file, see sslcurr run, and do nothing else.",
        rich_help_panel=MACHINE,
    ),
]


class Program(typer.Typer):
    """Commands, each of which can print itself as a part of an experiment file."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"cls": Group, "rich_markup_mode": None, **options})

    def command(  # type: ignore[override]
        self, *arguments: Any, **options: Any
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Add a command, with the option `--print-toml`."""
        declare = super().command(*arguments, **{"cls": Command, **options})

        def added(command: Callable[..., Any]) -> Callable[..., Any]:
            declare(command if arguments[:1] == (RUN,) else _printing(command))
            return command

        return added


def _printing(command: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(command, eval_str=True)
    own = next((name for name, each in signature.parameters.items() if each.annotation is typer.Context), None)

    @functools.wraps(command)
    def wrapped(**values: Any) -> None:
        context = values[own] if own is not None else values.pop(CONTEXT)
        if values.pop("print_toml"):
            print(to_toml(context), end="")
            return
        try:
            command(**values)
        except Changed as change:  # found out beside the work, before anything was told
            print(f"note: {visible(str(change))}: they are packed anew", file=sys.stderr)
            command(**values)

    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [each.replace(kind=kind) for each in signature.parameters.values()]
    if own is None:
        parameters.append(inspect.Parameter(CONTEXT, kind, annotation=typer.Context))
    parameters = in_order([*parameters, inspect.Parameter("print_toml", kind, annotation=PrintToml, default=False)])
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {each.name: each.annotation for each in parameters}
    return wrapped


def to_toml(ctx: Any) -> str:
    """What was said on the command line of a context, as a part of an experiment file."""
    words = ctx.command_path.split()[1:]
    lines = ["[[run]]", f"{COMMAND} = {json.dumps(' '.join(words))}"]
    for param in ctx.command.params:
        source = ctx.get_parameter_source(param.name)
        if (
            param.name != "print_toml"
            and param.name in ctx.params
            and source is not None
            and source.name == "COMMANDLINE"
        ):
            lines.append(f"{_name(param)} = {_literal(ctx.params[param.name])}")
    return "\n".join(lines) + "\n"


def _name(param: Any) -> str:
    """What a parameter is called in a file: an option by its own name, an argument by that of its values."""
    if param.param_type_name == "argument":
        return str(param.name)
    longest = max((each for each in param.opts if each.startswith("--")), key=len)
    return _plain(str(longest))


def _literal(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(str(getattr(value, "value", value)), ensure_ascii=False)


# ---- files


@dataclass(frozen=True)
class Planned:
    """A command of an experiment file.

    Attributes:
        arguments: of its command line, without the name of the program.
        line: where it begins in the file.
    """

    arguments: list[str]
    line: int


def read(path: Path, root: Any) -> list[Planned]:
    """The commands of an experiment file, each checked as its command line would be.

    Args:
        path: the file.
        root: the group of all commands.

    Raises:
        SpecError: it cannot be read, or says something that no command takes; with the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path} is no TOML: {error}", "see docs/commands.md for an example") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot read {path} ({error})", "give an experiment file") from error
    places = _Places(path, text)
    odd = next((name for name in content if name not in ("defaults", "run")), None)
    if odd is not None:
        raise places.mistake(None, odd, f"there is no part {odd!r}", "a file has [defaults] and [[run]]")
    defaults, runs = content.get("defaults", {}), content.get("run", [])
    if not isinstance(defaults, dict) or not isinstance(runs, list) or not runs:
        raise SpecError(f"{path} has no commands", 'write [[run]] and command = "chain" below it')
    unused = set(defaults)
    planned = []
    for number, run in enumerate(runs):
        arguments, taken = _arguments(run, defaults, number, places, root)
        unused -= taken
        planned.append(Planned(arguments, places.line_of(number, None)))
    if unused:
        name = sorted(unused)[0]
        raise places.mistake(None, name, f"no command of the file has an option {name!r}", "take it out of [defaults]")
    return planned


class _Places:
    """The lines of a file in which things stand."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines = text.splitlines()
        self.runs = [number for number, line in enumerate(self.lines) if re.match(r"\s*\[\[\s*run\s*\]\]", line)]

    def line_of(self, run: int | None, name: str | None) -> int:
        """The line, from 1, of a name within a run, or before all of them; of the run itself where it is not there."""
        begin = 0 if run is None else self.runs[run]
        ends = [each for each in self.runs if run is None or each > begin]
        end = min(ends, default=len(self.lines)) if run is not None or name is not None else len(self.lines)
        pattern = re.compile(rf"\s*\[?\s*[\"']?{re.escape(name or '')}[\"']?\s*[=.\]]")
        found = (number for number in range(begin, end) if name is not None and pattern.match(self.lines[number]))
        return next(found, begin) + 1

    def mistake(self, run: int | None, name: str | None, what: str, hint: str) -> SpecError:
        """An error that says where it is."""
        return SpecError(f"{self.path}, line {self.line_of(run, name)}: {what}", hint)


def _arguments(
    run: Any, defaults: Mapping[str, Any], number: int, places: _Places, root: Any
) -> tuple[list[str], set[str]]:
    """The command line of a run, and the defaults that it takes."""
    if not isinstance(run, dict) or not isinstance(run.get(COMMAND), str):
        raise places.mistake(number, COMMAND, "a run without a command", 'write command = "chain"')
    words = run[COMMAND].split()
    command, context = root, root.make_context("sslcurr", [], resilient_parsing=True)
    for word in words:
        names = command.list_commands(context) if hasattr(command, "commands") else []
        if command is root:
            names = [name for name in names if name != RUN]
            if word == RUN:
                raise places.mistake(number, COMMAND, "a file cannot hold sslcurr run", "name other commands")
        if word not in names:
            raise places.mistake(number, COMMAND, f"there is no command {run[COMMAND]!r}", did_you_mean(word, names))
        command = command.get_command(context, word)
    own = [param for param in command.params if param.name not in ("print_toml", "help")]
    params = {_name(param): param for param in own}
    params |= {_plain(off): param for param in own for off in param.secondary_opts}  # such as no-finetune
    params |= {name.replace("-", "_"): param for name, param in params.items()}
    taken = [name for name in defaults if name in params]
    values = {**{name: defaults[name] for name in taken}, **run}  # in the order of the file
    options: list[str] = []
    positional: list[str] = []
    for name, value in values.items():
        if name == COMMAND:
            continue
        if name not in params:
            hint = did_you_mean(name, sorted({_name(param) for param in params.values()}))
            raise places.mistake(number, name, f"{run[COMMAND]} has no option {name!r}", hint)
        if not _is_plain(value):
            raise places.mistake(number, name, f"{name} cannot be {value!r}", "give a text, a number, true, or a list")
        param = params[name]
        if param.param_type_name == "argument" and param.name in ("task", "tasks"):
            _check_tasks(value, number, name, places)
        if param.param_type_name == "argument":
            positional += [str(each) for each in _listed(value)]
        elif isinstance(value, bool) and not param.is_flag:
            raise places.mistake(number, name, f"{name} cannot be {str(value).lower()}", "give its value")
        else:
            options += _option(param, value, name)
    arguments = [*words, *positional, *options]
    try:
        command.make_context(" ".join(words), [*positional, *options], parent=context)
    except USAGE as error:
        wrong = getattr(error, "param", None)
        place = next((name for name in values if params.get(name) is wrong), None) if wrong is not None else None
        within = number if place is None or place in run else None  # one of the defaults
        raise places.mistake(
            within, place, error.format_message(), f"sslcurr {' '.join(words)} --help says what there is"
        ) from error
    return arguments, set(taken)


def _check_tasks(value: Any, number: int, name: str, places: _Places) -> None:
    from sslcurr.api.tasks import check_names

    try:
        check_names([str(each) for each in _listed(value)])
    except SpecError as error:
        raise places.mistake(number, name, str(error), error.hint) from error


def _is_plain(value: Any) -> bool:
    return all(isinstance(each, str | int | float | bool) for each in _listed(value))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _plain(option: str) -> str:
    return option.removeprefix("--")


def _option(param: Any, value: Any, name: str) -> Iterator[str]:
    flag = max((each for each in param.opts if each.startswith("--")), key=len)
    turned = name.replace("_", "-") in map(_plain, param.secondary_opts)
    for said in _listed(value):
        each = not said if turned and isinstance(said, bool) else said
        if isinstance(each, bool):
            off = next((each for each in param.secondary_opts), None)
            if each or off is not None:
                yield flag if each else off  # type: ignore[misc]
        else:
            yield from (flag, str(each))
