"""Random commands on one store by several processes that are killed at random, while files are flipped and disks fill.

    python benchmarks/soak.py --minutes 60 --json benchmarks/results/soak.json

Every process runs one command after the other on one store: trainings, rankings, analyses, reports, removals. Some are
killed (SIGKILL or SIGTERM) after a random time. Between commands a byte of a file of the store is turned over, or the
room on its disk is used up for a while. At the end `runs check --repair` is run until it is clean, every command is run
once more, undisturbed, and its result and weights are held against those of a fresh store. A command may end with one
of the documented exit codes and an error line; a traceback, a hang or another result is a fault.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from trials import CODES, QUICK, SAVED, make_images, plain

PATIENCE = 300.0
DISK = "700m"


def commands_on(data: Path) -> list[tuple[str, ...]]:
    """The commands whose results are compared at the end."""
    common = ("--dataset", str(data), *QUICK)
    return [
        ("chain", "rotation", "simsiam", *common, "--epochs", "3", *SAVED),
        ("chain", "simsiam", "rotation", *common, "--epochs", "3", *SAVED, "--baseline", "scratch"),
        ("pretrain", "byol", *common, "--epochs", "2", *SAVED),
        ("rank", "rotation", "simsiam", *common, "--epochs", "2", "--seeds", "1", *SAVED),
        ("finetune", *common, "--epochs", "4", *SAVED, "--seed", "1"),
        ("pretrain", "rotation", *common, "--epochs", "2", "--lr", "search", "--set", "search.trials=2", *SAVED),
        ("probe", "random:test_resnet", "--dataset", str(data), "--image-size", "16", "--threads", "1"),
        (
            "cka",
            "random:test_resnet",
            "random:test_vit",
            "--dataset",
            str(data),
            "--image-size",
            "32",
            "--threads",
            "1",
        ),
    ]


READERS = (("runs",), ("runs", "--stages"), ("report", "--out", "{home}/page.html"), ("runs", "remove", "--yes"))


class Soak:
    """The processes on one store, and what came of their commands."""

    def __init__(self, home: Path, data: Path, seed: int, *, has_disk: bool) -> None:
        self.home = home
        self.has_disk = has_disk
        self.runs = home / "runs"
        self.commands = commands_on(data)
        self.rng = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.lock = threading.Lock()

    def draw(self) -> tuple[tuple[str, ...], float | None, int]:
        """A command, after how many seconds it is killed (None: not), and by which signal."""
        with self.lock:
            read = self.rng.random() < 0.3
            command = self.rng.choice(READERS) if read else self.rng.choice(self.commands)
            killed = self.rng.uniform(3, 25) if self.rng.random() < 0.4 else None
            number = self.rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
        return tuple(each.format(home=self.home) for each in command), killed, number

    def run(
        self, command: tuple[str, ...], runs: Path, killed: float | None = None, number: int = 0
    ) -> tuple[int, str]:
        """Exit code and standard output of a command; a traceback, a hang or an odd exit code is noted as a fault."""
        words = [sys.executable, "-m", "sslcurr", *command, "--runs", str(runs)]
        words += ["--json"] if command[0] not in ("report",) else []
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        try:
            out, err = process.communicate(timeout=killed)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            try:
                out, err = process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                self.fault(command, f"it did not end within {PATIENCE:g} s of signal {number}")
        with self.lock:
            self.counts["commands"] += 1
            self.counts["killed"] += killed is not None and process.returncode != 0
            self.counts[f"exit code {process.returncode}"] += 1
        if "Traceback" in err and number != signal.SIGINT:
            self.fault(command, err[-1500:])
        elif process.returncode not in CODES or (process.returncode == 1 and "error:" not in err):
            self.fault(command, f"exit code {process.returncode}: {err[-500:]}")
        return process.returncode, out

    def fault(self, command: tuple[str, ...], what: str) -> None:
        """Note what must not happen."""
        with self.lock:
            self.faults.append(f"{' '.join(command)}: {what}")

    def work(self, until: float) -> None:
        """One command after the other."""
        while time.monotonic() < until:
            command, killed, number = self.draw()
            self.run(command, self.runs, killed, number)
            self.disturb()

    def fill(self) -> None:
        """Use up the room of the disk for a few seconds, where the store has a small disk of its own."""
        filler = self.home / "filler"
        try:
            with open(filler, "xb", buffering=0) as file:
                while file.write(bytes(2**20)):
                    pass
        except OSError:  # it is full, or another process fills it
            time.sleep(4)
        filler.unlink(missing_ok=True)

    def disturb(self) -> None:
        """Turn over some bytes of a file of the store, or fill its disk, now and then."""
        with self.lock:
            draw = self.rng.random()
            fills = self.has_disk and draw > 0.93
            self.counts["disks filled"] += fills
        if fills:
            self.fill()
        if draw > 0.15:
            return
        with self.lock:
            files = [path for path in self.runs.rglob("*") if path.is_file() and is_worth_damaging(path)]
            if not files:
                return
            path, place = self.rng.choice(files), self.rng.random()
            self.counts["files damaged"] += 1
        try:
            size = path.stat().st_size
            with open(path, "r+b") as file:
                file.seek(int(place * size))
                old = file.read(1)
                file.seek(int(place * size))
                file.write(bytes([old[0] ^ 0xA5]) if old else b"")
        except OSError:  # it was removed meanwhile
            return

    def end(self) -> None:
        """Repair, run everything once more, and compare it with a fresh store."""
        for _ in range(3):
            if self.run(("runs", "check", "--repair"), self.runs)[0] == 0:
                break
        fresh = self.home / "fresh"
        for command in self.commands:
            code, out = self.run(command, self.runs)
            expected_code, expected = self.run(command, fresh)
            if (code, expected_code) != (0, 0):
                self.fault(command, f"exit codes {code} here and {expected_code} in a fresh store")
            elif plain(json.loads(out)) != plain(json.loads(expected)):
                self.fault(command, "another result than in a fresh store")
            self.counts["results compared"] += 1
        for path in fresh.glob("stages/*/backbone.safetensors"):
            here = self.runs / path.relative_to(fresh)
            self.counts["weights compared"] += 1
            if not here.is_file() or here.read_bytes() != path.read_bytes():
                self.faults.append(f"{path.parent.name}: other weights than in a fresh store")
        code, out = self.run(("runs", "check"), self.runs)
        if code:
            self.faults.append(f"runs check is not clean at the end: {out[-1500:]}")


def is_worth_damaging(path: Path) -> bool:
    """Whether a file holds something: locks, owners and notes of processes do not."""
    return path.suffix not in (".lock", ".tmp") and ".owner" not in path.name and "using" not in path.parts


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--images", type=int, default=40, help="of each of two classes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="soak-"))
    # A small disk of its own, which can be filled; only root may have one.
    disk = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(home)]
    has_disk = subprocess.run(disk, capture_output=True, check=False).returncode == 0
    if not has_disk:
        print("no disk of its own can be mounted: none is filled", file=sys.stderr)
    make_images(home / "data", asked.images, asked.seed)
    soak = Soak(home, home / "data", asked.seed, has_disk=has_disk)
    soak.runs.mkdir()
    until = time.monotonic() + 60 * asked.minutes
    threads = [threading.Thread(target=soak.work, args=(until,)) for _ in range(asked.processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    soak.end()
    result = {
        "minutes": asked.minutes,
        "processes": asked.processes,
        "seed": asked.seed,
        **soak.counts,
        "faults": soak.faults,
    }
    print(json.dumps(result, indent=1))
    if asked.json is not None:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")
    if not soak.faults:
        if has_disk:
            subprocess.run(["umount", str(home)], check=False)
        shutil.rmtree(home, ignore_errors=True)
    sys.exit(1 if soak.faults else 0)


if __name__ == "__main__":
    main()
