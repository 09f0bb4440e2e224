"""The application: its commands, and the one place where a mistake becomes a line, a hint and an exit code."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sslcurr.cli.program import RUN, Program
from sslcurr.errors import Interrupted, SslcurrError, is_out_of_memory
from sslcurr.version import __version__
from sslcurr.wording import visible


def say(kind: str, text: str, hint: str) -> None:
    """One line that says what happened and one that says what to do, on stderr."""
    for word, line in ((kind, text), ("hint", hint)):
        if line:
            print(f"{word}: {visible(line)}", file=sys.stderr)  # names of files may hold anything


class App(TyperGroup):
    """Turns the user's mistakes into two lines; a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        Exit codes: 1 a mistake, 2 wrong usage, 3 a part of the work failed, 130 Ctrl-C, 143 SIGTERM; where a command
        runs another one, that of the other.
        """
        from sslcurr.api.ranks import take_place

        try:
            take_place()
            return super().invoke(ctx)
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
            # The reader of our output has gone (`| head`): nothing to say, and nowhere to say it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from error
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
    """Pretrain an image backbone by a sequence of self-supervised tasks, then fine-tune it on few labels.

    Start with: sslcurr chain mocov2 swav rotation
    """


# In the order of the help: each command's module and function, and what else typer is told of it.
COMMANDS = {
    "pretrain": "pretrain:pretrain",
    "chain": "chain:chain",
    "finetune": "finetune:finetune",
    "continue": "go_on:go_on",
    "run": "experiment:run",
    "rank": "rank:rank",
    "join": "join:join",
    "explain": "explain:explain",
    "grid": "grid:grid",
    "slurm": "slurm:slurm",
    "cka": "cka:cka",
    "fid": "fid:fid",
    "probe": "probe:probe",
    "attend": "attend:attend",
    "predict": "predict:predict",
    "embed": "predict:embed",
    "work": "work:work",
    "report": "report:report",
    "schema": "schema:schema",
    "import": "weights:import_weights",
    "export": "weights:export",
}
TOLD = {"slurm": ("context_settings", "slurm:CONTEXT"), "fid": ("cls", "fid:ManyValues")}
GROUPS = {"tasks": "tasks:app", "data": "data:app", "runs": "runs:app"}
# They look at other commands.
OF_COMMANDS = (RUN, "slurm")


def program(words: Sequence[str] = ()) -> Program:
    """The commands for a command line: the one that it begins with, where it begins with one.

    Importing and building all of them takes longer than most of what computes nothing.
    """
    first = words[0] if words else ""
    is_one = (first in COMMANDS or first in GROUPS) and first not in OF_COMMANDS
    found = Program(
        name="sslcurr",
        cls=App,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    found.callback()(sslcurr)
    for name, place in COMMANDS.items():
        if name == first or not is_one:
            option, value = TOLD.get(name, ("", ""))
            found.command(name, **({option: _imported(value)} if option else {}))(_imported(place))
    for name, place in GROUPS.items():
        if name == first or not is_one:
            found.add_typer(_imported(place), name=name)
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
