"""Kills spread over every command that writes: how many lose or change a result.

    python benchmarks/kills.py --kills 300 --json benchmarks/results/kills.json

Every command is run twice undisturbed, in two stores that begin alike: files and values that are the same in both must
be the same after kills, too. Then the command is killed, one to three times in a row, at random times between its
beginning and its end (SIGKILL, SIGTERM or SIGINT), and run to its end. A trial is wrong where that end has another exit
code, document, file or weight, where a file of the reference is not there, where `runs check` finds damage, where its
`--repair` leaves a file that the reference has not, or where any process ended by a traceback or not at all.

Commands run in forks of one process that has imported everything, so a kill hits the command and not its imports.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from records import write
from trials import CODES, QUICK, SAVED, make_images, make_masks, plain

PATIENCE = 300.0
# Of a process, not of a result.
PASSING = re.compile(r"(^|/)(log|using|\.?locks?)(/|$)|\.lock$|\.owner|\.tmp$|times\.json$|speeds|tfevents")
CLIP_PATH = re.compile(rb"(?<=[#\"])p[0-9a-f]{10}")
SIGNALS = (*(signal.SIGKILL,) * 6, signal.SIGTERM, signal.SIGINT)
EXPERIMENT = """\
[[run]]
command = "pretrain"
task = "byol"
dataset = "{data}"
epochs = 1
backbone = "test_resnet"
stem = "imagenet"
image-size = 16
batch-size = 8
threads = 1
"""


@dataclass(frozen=True)
class Subject:
    """A command line; `{data}`, `{out}` and so on are filled in.

    Attributes:
        name: of it.
        words: of it, without the store.
        prepared: it begins with the store of the base, which holds finished runs; else with an empty one.
        has_document: it prints a document that must be the same. What removes says only what is left to remove.
        done: what it says as an error where it was carried out already.
    """

    name: str
    words: tuple[str, ...]
    prepared: bool = False
    has_document: bool = True
    done: str = ""


def base_commands(home: Path) -> list[tuple[str, ...]]:
    """The commands that fill the store that analyses, exports and removals begin with."""
    common = ("--dataset", str(home / "data"), *QUICK, "--epochs", "2")
    ranked = ("rank", "rotation", "simsiam", *common)
    return [
        ("chain", "rotation", "simsiam", *common, "--name", "first"),
        *((*ranked, "--seeds", "1", "--seed", seed, "--plot", str(home / f"seed-{seed}")) for seed in ("0", "1")),
        ("pretrain", "byol", *common, "--name", "old"),
        ("runs", "export", "first", "--out", str(home / "first.zip")),
    ]


def subjects(home: Path) -> list[Subject]:
    """Every command that writes."""
    data, out = str(home / "data"), "{out}"
    common = ("--dataset", data, *QUICK, *SAVED)
    measured = ("--dataset", data, "--image-size", "16", "--threads", "1")
    chain = ("rotation", "simsiam", *common)
    ranked = ("rank", *chain, "--epochs", "1", "--seeds", "1")
    key = (home / "key").read_text() if (home / "key").is_file() else ""
    return [
        Subject("pretrain", ("pretrain", "byol", *common, "--epochs", "3")),
        Subject(
            "pretrain --lr search", ("pretrain", "rotation", *common, "--lr", "search", "--set", "search.trials=2")
        ),
        Subject("chain", ("chain", *chain, "--epochs", "2", "--baseline", "scratch", "--plot", out)),
        Subject("chain --folds", ("chain", "rotation", *common, "--epochs", "1", "--folds", "3")),
        Subject("chain --jobs", ("chain", *chain, "--epochs", "2", "--jobs", "2")),
        Subject("chain --tracker", ("chain", *chain, "--epochs", "1", "--tracker", "tensorboard")),
        Subject("finetune", ("finetune", *common, "--epochs", "4", "--plot", out)),
        Subject("continue", ("continue", key, "--epochs", "2", "--threads", "1", *SAVED), prepared=True),
        Subject("run", ("run", str(home / "experiment.toml")), has_document=False),
        Subject("rank", (*ranked, "--plot", out)),
        Subject("rank --search", (*ranked, "--search", "--budget", "1")),
        Subject("rank --over", (*ranked[:-4], *ranked[-2:], "--over", "epochs=1,2")),
        Subject(
            "grid",
            ("grid", *chain, "--epochs", "1", "--seeds", "1", "--ssl-fractions", "1", "--label-fractions", "1,0.5"),
        ),
        Subject(
            "join",
            ("join", str(home / "seed-0/rank.json"), str(home / "seed-1/rank.json"), "--plot", out),
            prepared=True,
        ),
        Subject("explain", ("explain", str(home / "seed-0/rank.json"), "--plot", out), prepared=True),
        Subject("cka", ("cka", key, "random:test_resnet", *measured, "--plot", out), prepared=True),
        Subject("fid", ("fid", data, f"{home / 'data'}", "--models", key, *measured[2:], "--plot", out), prepared=True),
        Subject("probe", ("probe", key, *measured, "--plot", out), prepared=True),
        Subject(
            "attend",
            ("attend", "first", "--masks", str(home / "masks"), "--threads", "1", "--plot", out),
            prepared=True,
        ),
        Subject("predict", ("predict", "first", data, "--out", f"{out}/p.csv", "--threads", "1"), prepared=True),
        Subject("embed", ("embed", key, data, "--out", f"{out}/f.npz", "--threads", "1"), prepared=True),
        Subject("work", ("work", "--until-idle", "--threads", "1", *SAVED), has_document=False),
        Subject("report", ("report", "--out", f"{out}/page.html"), prepared=True, has_document=False),
        Subject("export", ("export", key, "--out", f"{out}/w.safetensors"), prepared=True),
        Subject("export onnx", ("export", "first", "--format", "onnx", "--out", f"{out}/w.onnx"), prepared=True),
        Subject(
            "import", ("import", str(home / "w.pth"), "--backbone", "test_resnet", "--out", f"{out}/w.safetensors")
        ),
        Subject("data prepare", ("data", "prepare", data, "--image-size", "16")),
        Subject("data sample", ("data", "sample", data, "--out", f"{out}/s.png"), has_document=False),
        Subject("runs export", ("runs", "export", "first", "--out", f"{out}/run.zip"), prepared=True),
        Subject("runs import", ("runs", "import", str(home / "first.zip")), has_document=False, done="has the run"),
        Subject("runs check", ("runs", "check", "--repair"), prepared=True, has_document=False),
        Subject("runs remove", ("runs", "remove", "old", "--yes"), prepared=True, has_document=False, done="no run"),
    ]


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (below 0: its signal), and what it printed."""

    code: int
    out: str
    err: str
    was_killed: bool
    seconds: float


class Trials:
    """The folders of all trials, and what came of them."""

    def __init__(self, home: Path, seed: int) -> None:
        self.home = home
        self.rng = random.Random(seed)
        self.faults: list[str] = []
        self.kills: Counter[str] = Counter()
        self.trials: Counter[str] = Counter()
        self.exits: Counter[str] = Counter()
        self.compared: Counter[str] = Counter()

    def run(
        self,
        words: Sequence[str],
        runs: Path,
        out: Path,
        killed: tuple[float, int] | None = None,
        *,
        asks_json: bool = True,
    ) -> Ended:
        """Run a command in a fork; kill it after so many seconds by such a signal."""
        out.mkdir(parents=True, exist_ok=True)
        filled = [word.replace("{out}", str(out)) for word in words]
        takes_store = words[0] not in ("import", "run") and words[:2] != ("data", "sample")
        filled += ["--runs", str(runs)] if takes_store else []
        filled += ["--json"] if asks_json else []
        os.environ["SSLCURR_RUNS"] = str(runs)
        outputs = [self.home / "stdout", self.home / "stderr"]
        begin = time.monotonic()
        pid = os.fork()
        if pid == 0:
            run_here(filled, *outputs)
        was_killed, until = False, begin + (killed[0] if killed else PATIENCE)
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                break
            if time.monotonic() > until:
                if was_killed or not killed:
                    self.faults.append(f"{' '.join(words)}: it did not end within {PATIENCE:g} s")
                    os.killpg(pid, signal.SIGKILL)
                else:
                    os.kill(pid, killed[1])
                was_killed, until = True, time.monotonic() + PATIENCE
            time.sleep(0.002)
        code = os.waitstatus_to_exitcode(status)
        if was_killed:  # the workers of a killed command end by themselves; what is left of them must not
            stray(pid)
        texts = [path.read_text(errors="replace") for path in outputs]
        return Ended(code, *texts, was_killed and code != 0, time.monotonic() - begin)

    def try_out(self, subject: Subject, wanted: int) -> None:
        """Kill a command until so many kills hit it, and hold what is left against two undisturbed runs."""
        name, asks = subject.name, subject.has_document
        references = []
        for number in (0, 1):
            runs, out = self.place(subject, f"reference-{number}")
            if name == "work":
                planned = ("chain", "rotation", *self.common(), "--plan-only")
                self.run(planned, runs, out, asks_json=False)
            ended = self.run(subject.words, runs, out, asks_json=asks)
            if ended.code:
                self.faults.append(f"{name}: undisturbed, exit code {ended.code}: {ended.err[-600:]}")
                return
            references.append((ended, contents(runs, out)))
        (first, held), (_, again) = references
        exact = {path for path in held if held[path] == again.get(path)}
        self.compared[name] = len(exact)
        trial = 0
        while self.kills[name] < wanted and trial < 4 * wanted:
            trial += 1
            runs, out = self.place(subject, f"trial-{trial}")
            if name == "work":
                self.run(planned, runs, out, asks_json=False)
            story = []
            for _ in range(self.rng.choice((1, 2, 2, 3))):
                number = self.rng.choice(SIGNALS)
                after = self.rng.uniform(0.0, 1.05) * first.seconds
                ended = self.run(subject.words, runs, out, (after, number), asks_json=asks)
                self.kills[name] += ended.was_killed
                self.exits[str(ended.code)] += 1
                story.append(f"{signal.Signals(number).name} at {after:.2f} s: {ended.code}")
                if "Traceback" in ended.err or ended.code not in CODES or is_mistake(ended, subject):
                    self.faults.append(f"{name}: {story}: {ended.err[-1500:]}")
            ended = self.run(subject.words, runs, out, asks_json=asks)
            self.trials[name] += 1
            if subject.done and subject.done in ended.err:
                ended = replace(ended, code=0)
            wrong = self.differences(ended, first, contents(runs, out), exact, held, asks)
            if runs.is_dir():
                # First it finds no damage; then it removes what killed processes left.
                for words in (("runs", "check"), ("runs", "check", "--repair")):
                    checked = self.run(words, runs, out)
                    wrong += [f"runs check: {checked.out[-1500:]}{checked.err[-500:]}"] if checked.code else []
            wrong += [f"{path} is left over" for path in contents(runs, out) if path not in held]
            self.faults += [f"{name}: {story}: {what}" for what in wrong]
            shutil.rmtree(runs.parent)

    def common(self) -> tuple[str, ...]:
        """The options of trainings."""
        return ("--dataset", str(self.home / "data"), *QUICK, "--epochs", "1")

    def place(self, subject: Subject, name: str) -> tuple[Path, Path]:
        """A store and a folder for what is written beside it. Both are called alike in every trial."""
        folder = self.home / "trials" / "now"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if subject.prepared:
            shutil.copytree(self.home / "base", folder / "runs", symlinks=True)
        return folder / "runs", folder / "out"

    @staticmethod
    def differences(
        ended: Ended, first: Ended, there: dict[str, bytes], exact: set[str], held: dict[str, bytes], asks: bool
    ) -> list[str]:
        """What is not as it was undisturbed."""
        if ended.code != first.code or "Traceback" in ended.err:
            return [f"at last exit code {ended.code}: {ended.err[-1500:]}"]
        found = [f"{path} is not there" for path in held if path not in there]
        for path in sorted(path for path in exact if path in there and there[path] != held[path]):
            found.append(f"{path} is another: {first_difference(held[path], there[path])}")
        if asks and plain(json.loads(ended.out)) != plain(json.loads(first.out)):
            found.append(f"another document: {ended.out[:2000]}")
        return found


def is_mistake(ended: Ended, subject: Subject) -> bool:
    """Whether a killed command said that its user made a mistake."""
    return ended.code == 1 and not (subject.done and subject.done in ended.err)


def run_here(words: list[str], out: Path, err: Path) -> None:
    """Be the command, in a fork; does not return."""
    os.setsid()
    for stream, path in ((1, out), (2, err)):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(handle, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    sys.argv = ["sslcurr", *words]
    code: Any = 0
    try:
        from sslcurr.cli import main

        main()
    except SystemExit as error:
        code = error.code or 0
    finally:  # a fork must not go on as its parent
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
            code = 70
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def stray(group: int) -> None:
    """Wait for what a killed command left running, such as its workers, and end it where it stays."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    os.killpg(group, signal.SIGKILL)


def contents(runs: Path, out: Path) -> dict[str, bytes]:
    """Every file of a store and of what was written beside it, but for what is of a process only."""
    found = {}
    for root in (runs, out):
        for path in sorted(root.rglob("*")):
            name = f"{root.name}/{path.relative_to(root)}"
            if path.is_file() and not PASSING.search(name):
                found[name] = timeless(path)
    return found


def timeless(path: Path) -> bytes:
    """The content of a file without what a time or a place in memory gave it."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return json.dumps([(each.filename, each.CRC) for each in archive.infolist()]).encode()
    content = path.read_bytes()
    if path.suffix == ".json":
        return json.dumps(plain(json.loads(content))).encode()
    # matplotlib names clip paths by where they lie in memory.
    return CLIP_PATH.sub(b"p", content) if path.suffix == ".svg" else content


def first_difference(wanted: bytes, found: bytes) -> str:
    """Where two contents begin to differ, and what stands there."""
    pairs = enumerate(zip(wanted, found, strict=False))
    place = next((number for number, (a, b) in pairs if a != b), min(len(wanted), len(found)))
    around = slice(max(place - 60, 0), place + 60)
    return f"at byte {place}: {wanted[around]!r} and {found[around]!r}"


def prepare(trials: Trials) -> None:
    """Make images, an experiment file, a file of another project, and the store that analyses begin with."""
    import timm
    import torch

    home = trials.home
    make_images(home / "data", 12, 0)
    make_masks(home / "data", home / "masks")
    (home / "experiment.toml").write_text(EXPERIMENT.format(data=home / "data"))
    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet").state_dict(), home / "w.pth")
    for words in base_commands(home):
        ended = trials.run(words, home / "base", home / "out")
        if ended.code:
            raise SystemExit(f"{' '.join(words)}: {ended.err}")
    [old] = [path.parent for path in home.glob("base/stages/*/stage.json") if '"byol"' in path.read_text()]
    (home / "key").write_text(old.name)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300, help="of all commands together, at least")
    parser.add_argument("--only", nargs="+", help="these commands")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    import matplotlib.pyplot  # noqa: F401
    import pandas  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import timm  # noqa: F401
    import torch
    import torchvision  # noqa: F401

    import sslcurr.cli.app  # noqa: F401

    torch.set_num_threads(1)
    home = Path(tempfile.mkdtemp(prefix="kills-"))
    trials = Trials(home, asked.seed)
    prepare(trials)
    chosen = [each for each in subjects(home) if not asked.only or each.name in asked.only]
    wanted = -(-asked.kills // len(chosen))
    for subject in chosen:
        begin = time.monotonic()
        before = len(trials.faults)
        trials.try_out(subject, wanted)
        print(
            f"{subject.name}: {trials.trials[subject.name]} trials, {trials.kills[subject.name]} kills, "
            f"{trials.compared[subject.name]} files compared, {len(trials.faults) - before} faults, "
            f"{time.monotonic() - begin:.0f} s",
            file=sys.stderr,
            flush=True,
        )
        for fault in trials.faults[before:]:
            print(f"  {fault}", file=sys.stderr, flush=True)
    result = {
        "kills": sum(trials.kills.values()),
        "trials": sum(trials.trials.values()),
        "seed": asked.seed,
        "by_command": {name: {"kills": trials.kills[name], "trials": trials.trials[name]} for name in trials.trials},
        "exit_codes": dict(trials.exits),
        "faults": trials.faults,
    }
    print(json.dumps(result, indent=1))
    if asked.json is not None:
        write(asked.json, "kills of commands that write", result, packages=["sslcurr", "torch"])
    if not trials.faults:
        shutil.rmtree(home, ignore_errors=True)
    sys.exit(1 if trials.faults else 0)


if __name__ == "__main__":
    main()
