"""The application: its commands, and the one place where a mistake becomes a line, a hint and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sslcurr.cli import (
    attend,
    chain,
    cka,
    data,
    experiment,
    explain,
    fid,
    finetune,
    go_on,
    grid,
    join,
    predict,
    pretrain,
    probe,
    rank,
    report,
    runs,
    schema,
    slurm,
    tasks,
    weights,
    work,
)
from sslcurr.cli.program import Program
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


app = Program(
    name="sslcurr",
    cls=App,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def sslcurr(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Pretrain an image backbone by a sequence of self-supervised tasks, then fine-tune it on few labels.

    Start with: sslcurr chain mocov2 swav rotation
    """


app.command("pretrain")(pretrain.pretrain)
app.command("chain")(chain.chain)
app.command("finetune")(finetune.finetune)
app.command("continue")(go_on.go_on)
app.command("run")(experiment.run)
app.command("rank")(rank.rank)
app.command("join")(join.join)
app.command("explain")(explain.explain)
app.command("grid")(grid.grid)
app.command("slurm", context_settings=slurm.CONTEXT)(slurm.slurm)
app.command("cka")(cka.cka)
app.command("fid", cls=fid.ManyValues)(fid.fid)
app.command("probe")(probe.probe)
app.command("attend")(attend.attend)
app.command("predict")(predict.predict)
app.command("embed")(predict.embed)
app.command("work")(work.work)
app.command("report")(report.report)
app.command("schema")(schema.schema)
app.command("import")(weights.import_weights)
app.command("export")(weights.export)
app.add_typer(tasks.app, name="tasks")
app.add_typer(data.app, name="data")
app.add_typer(runs.app, name="runs")
