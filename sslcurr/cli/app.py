"""The application: its commands, and the one place where a mistake becomes a line, a hint and an exit code."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sslcurr.cli.help import Group, drop_output, examples_of
from sslcurr.cli.program import RUN, USAGE, Program
from sslcurr.errors import Interrupted, SslcurrError, is_out_of_memory
from sslcurr.version import __version__
from sslcurr.wording import visible


def say(kind: str, text: str, hint: str) -> None:
    """One line that says what happened and one that says what to do, on stderr."""
    for word, line in ((kind, text), ("hint", hint)):
        if line:
            print(f"{word}: {visible(line)}", file=sys.stderr)  # names of files may hold anything


def say_usage(error: Any) -> int:
    """Say what is wrong with a command line and what to do, or print the help where there is no more than a command.

    Args:
        error: a usage error of typer.

    Returns:
        The exit code.
    """
    code: int = error.exit_code
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.message)
        return code
    text = " ".join(error.format_message().split()).replace("Value error, ", "")
    path = "sslcurr" if error.ctx is None else error.ctx.command_path
    hint = f"{path} --help says what there is"
    nearest = next(iter(getattr(error, "possibilities", None) or ()), None)
    examples = [] if error.ctx is None else examples_of(error.ctx.command)
    if nearest is not None:
        text, hint = error.message, f"did you mean {nearest}? {hint}"
    elif "Did you mean " in text:
        text, _, names = text.replace("?", "").partition(" Did you mean ")
        hint = "did you mean {}? {}".format(names.replace("'", ""), hint)
    elif text.startswith("Missing ") and examples:
        hint = f"for example: {examples[0]}"
    elif text.endswith(" requires an argument."):
        hint = f"give a value after {error.option_name}"
    say("error", text, hint)
    return code


class App(Group):
    """Turns the user's mistakes into two lines; a bug keeps its traceback."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the commands, in the order of the help."""
        return [name for commands in COMMANDS.values() for name in commands if name in self.commands]

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Read the options before the command."""
        try:
            return super().make_context(*arguments, **options)
        except USAGE as error:
            raise typer.Exit(say_usage(error)) from error

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        Exit codes: 1 a mistake, 2 wrong usage, 3 a part of the work failed, 130 Ctrl-C, 141 the reader of the output
        has gone, 143 SIGTERM; where a command runs another one, that of the other.
        """
        from sslcurr.api.ranks import take_place

        try:
            take_place()
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, where it may fail
            return result
        except USAGE as error:
            raise typer.Exit(say_usage(error)) from error
        except Interrupted as stop:
            say("stopped", str(stop), stop.hint)
            raise typer.Exit(128 + stop.signal) from stop
        except SslcurrError as error:
            say("error", str(error), error.hint)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as stop:
            say("stopped", "interrupted; what was finished or saved is kept", "run the same command again to go on")
            raise typer.Exit(128 + signal.SIGINT) from stop
        except BrokenPipeError as error:
            drop_output()  # nothing to say, and nowhere to say it
            raise typer.Exit(128 + signal.SIGPIPE) from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            say("error", "there is not enough memory", "give a smaller --image-size or --batch-size, or fewer --jobs")
            raise typer.Exit(1) from error
        except OSError as error:
            from sslcurr.files import mistake_of

            mistake = mistake_of(error)
            if mistake is None:
                raise
            say("error", str(mistake), mistake.hint)
            raise typer.Exit(1) from error


def show_version(value: bool) -> None:
    """Print the version and exit."""
    if value:
        print(f"sslcurr {__version__}")
        raise typer.Exit


def sslcurr(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Pretrain an image backbone by self-supervised tasks, one after the other, then fine-tune it on few labels.

    sslcurr COMMAND --help says more about a command.
    The first example takes one to two minutes, on images that come with sslcurr.

    Examples:

        sslcurr chain mocov2 swav rotation
        sslcurr chain mocov2 swav rotation --dataset ~/images --baseline scratch
        sslcurr runs
    """


# In the order of the help: headings, and below each the module and function (or group) of a command.
COMMANDS = {
    "Train": {
        "chain": "chain:chain",
        "pretrain": "pretrain:pretrain",
        "finetune": "finetune:finetune",
        "continue": "go_on:go_on",
    },
    "Find an order": {
        "rank": "rank:rank",
        "explain": "explain:explain",
        "join": "join:join",
        "grid": "grid:grid",
    },
    "Compare models and data": {
        "probe": "probe:probe",
        "cka": "cka:cka",
        "fid": "fid:fid",
        "attend": "attend:attend",
    },
    "Use a model": {
        "predict": "predict:predict",
        "embed": "predict:embed",
        "export": "weights:export",
        "import": "weights:import_weights",
    },
    "Look at results": {
        "runs": "runs:app",
        "report": "report:report",
    },
    "Data and tasks": {
        "data": "data:app",
        "tasks": "tasks:app",
    },
    "Scripts and many machines": {
        "run": "experiment:run",
        "work": "work:work",
        "slurm": "slurm:slurm",
        "schema": "schema:schema",
    },
}
# What else typer is told of some.
TOLD = {"slurm": ("context_settings", "slurm:CONTEXT"), "fid": ("cls", "fid:ManyValues")}
# They look at other commands.
OF_COMMANDS = (RUN, "slurm")


def program(words: Sequence[str] = ()) -> Program:
    """The commands for a command line: the one that it begins with, where it begins with one.

    Importing and building all of them takes longer than most of what computes nothing.
    """
    first = words[0] if words else ""
    is_one = first not in OF_COMMANDS and any(first in commands for commands in COMMANDS.values())
    found = Program(
        name="sslcurr",
        cls=App,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    found.callback()(sslcurr)
    for heading, commands in COMMANDS.items():
        for name, place in commands.items():
            if name == first or not is_one:
                part = _imported(place)
                if isinstance(part, Program):
                    found.add_typer(part, name=name, rich_help_panel=heading)
                else:
                    option, value = TOLD.get(name, ("", ""))
                    told = {option: _imported(value)} if option else {}
                    found.command(name, rich_help_panel=heading, **told)(part)
    return found


def _imported(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(f"sslcurr.cli.{module}"), attribute)


def __getattr__(name: str) -> Program:
    """`app`, all commands, made when it is asked for."""
    if name == "app":
        globals()["app"] = program()
        return globals()["app"]
    raise AttributeError(name)
