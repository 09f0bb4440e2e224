"""What README's first command costs and finds: CPU seconds, and its chain against scratch over several seeds.

    python benchmarks/first.py --json benchmarks/results/first-cpu.json

The command is run as a user runs it, in an empty folder. The first seed is also run without `--baseline`, as README has
it: its CPU seconds (user and system, of all its processes) are those that count. The difference to scratch is paired:
the same seed, the same labels, the same test images. Its interval is Student's over seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import records
from scipy import stats

COMMAND = ("chain", "mocov2", "swav", "rotation")
GOAL_CPU_SECONDS = 180.0


def run(folder: Path, *options: str) -> tuple[dict[str, Any], float, float]:
    """The document of the command, its CPU seconds, and the seconds it took."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-m", "sslcurr", *COMMAND, *options, "--json"]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(done.stdout), cpu, time.monotonic() - began


def main() -> None:
    """Run the command over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _, cpu, wall = run(Path(folder))
        print(f"CPU seconds {cpu:.0f} (goal {GOAL_CPU_SECONDS:.0f}), {wall:.0f} s on {os.cpu_count()} cores")
        chain, scratch = [], []
        for seed in range(asked.seeds):
            document, _, _ = run(Path(folder), "--baseline", "scratch", "--seed", str(seed))
            chain.append(document["downstream"]["balanced_accuracy"])
            scratch.append(document["baseline"]["balanced_accuracy"])
            print(f"seed {seed}: {chain[-1]:.3f}, scratch {scratch[-1]:.3f}", flush=True)
    gains = np.subtract(chain, scratch)
    low, high = stats.t.interval(0.95, len(gains) - 1, loc=gains.mean(), scale=stats.sem(gains))
    print(f"gain {gains.mean():+.3f} ({low:+.3f} to {high:+.3f}), {len(gains)} seeds")
    results = {
        "cpu_seconds": round(cpu, 1),
        "seconds": round(wall, 1),
        "chain": chain,
        "scratch": scratch,
        "gain": {"mean": float(gains.mean()), "interval": [float(low), float(high)], "seeds": len(gains)},
    }
    records.write(asked.json, "README's first command", results, packages=("sslcurr", "torch"))


if __name__ == "__main__":
    main()
