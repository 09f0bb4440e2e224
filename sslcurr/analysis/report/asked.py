"""What a command line asked for: its options, and those that decide about results."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

# Options by which a command trains otherwise than the recipes say.
SETTINGS = (
    *("backbone", "stem", "image-size", "epochs", "batch-size", "lr", "lr-range", "lr-pruner", "set", "fraction"),
    *("label-fraction", "ssl-fractions", "label-fractions", "folds", "unlabelled", "freeze", "layer-decay", "probe"),
    *("layers", "from", "imagenet", "target", "over", "against", "precision"),
)
# Commands that train, whose options say how.
TRAINING = ("pretrain", "chain", "finetune", "rank", "grid")


def trains(command: Sequence[str]) -> bool:
    """Whether a command line says how it trained: not that of a script, of a file of commands, or of `join`."""
    return len(command) > 1 and command[0].rpartition("/")[2] == "sslcurr" and command[1] in TRAINING


def options_of(command: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The options of a command line with their values, in their order; a flag has none."""
    place = 0
    while place < len(command):
        word = command[place]
        place += 1
        if not word.startswith("--") or len(word) == 2:
            continue
        name, equals, value = word[2:].partition("=")
        if not equals and place < len(command) and not command[place].startswith("--"):
            value = command[place]
            place += 1
        yield name, value


def option_of(command: Sequence[str], name: str) -> str | None:
    """The last value of an option; None where it is not given."""
    values = [value for given, value in options_of(command) if given == name]
    return values[-1] if values else None


def settings_in(command: Sequence[str]) -> list[str]:
    """What a command sets that the recipes may set otherwise, as it is written: `--epochs 20`."""
    return [f"--{name} {value}".strip() for name, value in options_of(command) if name in SETTINGS]


def names_in(command: Sequence[str], default: str) -> set[str]:
    """All words and values of a command line, and the data set that it takes where it names none."""
    words = {*command, *(value for _, value in options_of(command))}
    return words if option_of(command, "dataset") is not None else {*words, default}


def command_with(word: str, tasks: Sequence[str], like: Sequence[str], dataset: str, options: str) -> str:
    """A command line on the data of another, with its settings; empty where that does not say them.

    Args:
        word: the command, such as `rank`.
        tasks: what follows it.
        like: the command line whose data and settings it has; empty where that is not known.
        dataset: the name of the data set, where that line does not say it.
        options: what it has of its own, such as `--seeds 3`.
    """
    if like and not trains(like):
        return ""
    own = {name for name, _ in options_of(options.split())}
    own |= {value.partition("=")[0] for name, value in options_of(options.split()) if name == "over"}
    kept = [
        (name, value)
        for name, value in options_of(like)
        if (name in SETTINGS or name in ("dataset", "data-root", "runs")) and name not in own
    ]
    if not any(name == "dataset" for name, _ in kept):
        kept.insert(0, ("dataset", dataset))
    words = [text for name, value in kept for text in (f"--{name}", value) if text]
    return shlex.join(["sslcurr", word, *tasks, *words, *options.split()])
