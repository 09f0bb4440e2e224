"""Several jobs at once: how much quicker, what a job costs beside its training, and how well the order of jobs is.

    python benchmarks/jobs.py measure --json FILE      # trains: some ten minutes, on a quiet machine
    python benchmarks/jobs.py schedule --json FILE     # nothing is trained
    python benchmarks/jobs.py many --workers 20        # so many `sslcurr work` on one store: some minutes

`measure`: the stages of a rank of 40 (test_resnet, 28 px) in one process with one thread, in one with all cores, and by
`--jobs 2 --threads 1`, in turns, each in a store of its own with the images packed already. Times are from the first
training to the last, so that no imports count, and as a command takes in all. Overhead: what a worker does between the
end of one stage and that of the next, beside training.

`schedule`: the real jobs of all 1,956 orderings of six tasks at one and at three seeds, handed out in the order of the
program to simulated workers, each job taking as long as it has image passes. The makespan is set against two bounds
below which no order can be. The first is the larger of the longest chain and of all work through all workers. The
second also counts how many jobs are ready: at any time no more run than could have begun by then (the leaves of the
tree of those jobs), and jobs that cannot begin before some time and have so much after them fit in between, in rounds.

`many`: workers that were forked from one process carry out one plan on one store. From their event logs: how often each
stage was trained, and how long a worker had nothing to do while a job was ready that no worker had begun.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import records

TASKS = ("rotation", "relative-location", "simclr", "mocov2", "swav", "byol")
SLOTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
ROUNDS = 3
# 40 stages: of each of two seeds a baseline, three tasks and six pairs, each with its classification, on 10 prefixes.
RANK = (
    *("rank", "mocov2", "simclr", "rotation", "--length", "2", "--seeds", "2", "--dataset", "fashion"),
    *(
        "--backbone",
        "test_resnet",
        "--stem",
        "imagenet",
        "--image-size",
        "28",
        "--epochs",
        "1",
        "--measure",
        "finetune",
    ),
)


# ---- the order of jobs


def jobs_of(seeds: int) -> list:  # of Job
    """The jobs of a rank of all orderings of six tasks."""
    from sslcurr.analysis.experiments.chains import Chains
    from sslcurr.analysis.experiments.orderings import orderings_of
    from sslcurr.engine.plan import Planner
    from sslcurr.engine.plans import Plan
    from sslcurr.engine.store import Store
    from sslcurr.progress import Reporter
    from sslcurr.spec.request import Request

    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        planner = Planner(Request(dataset="fashion"), store, [*TASKS, "classification"])
        chains = Chains(planner, store, lambda: None, Reporter())
        chains.filling = plan = Plan("simulated", [], store)
        orderings = [(), *orderings_of(TASKS, range(1, len(TASKS) + 1))]
        chains.fill([(ordering, seed) for seed in range(seeds) for ordering in orderings])
        return list(plan.jobs.values())


def makespan(jobs: Sequence, slots: int) -> float:
    """When the last job ends, with so many workers."""
    from sslcurr.engine.graph import Graph

    graph, now, running = Graph(jobs), 0.0, []
    while not graph.is_over:
        while len(running) < slots and (job := graph.begin()) is not None:
            heapq.heappush(running, (now + job.cost, job.name))
        now, name = heapq.heappop(running)
        graph.end(name)
    return now


def bounds(jobs: Sequence, slots: int) -> tuple[float, float]:
    """Two times before which no order of jobs can end: see above."""
    by_name = {job.name: job for job in jobs}
    needs = {job.name: [name for name in job.needs if name in by_name] for job in jobs}
    earliest: dict[str, float] = {}
    after = dict.fromkeys(by_name, 0.0)  # what has to follow a job
    for job in jobs:  # each after what it needs
        earliest[job.name] = max((earliest[name] + by_name[name].cost for name in needs[job.name]), default=0.0)
    for job in reversed(jobs):
        for name in needs[job.name]:
            after[name] = max(after[name], job.cost + after[job.name])
    costs = np.array([job.cost for job in jobs])
    begins, ends = np.array([earliest[job.name] for job in jobs]), np.array([after[job.name] for job in jobs])
    work, longest = costs.sum(), (begins + costs + ends).max()
    plain = max(longest, work / slots)
    ready = max(plain, filled(jobs, needs, earliest, work, slots))
    # All jobs that cannot begin before some time, and have so much after them, fit in between, in whole rounds.
    for begin in np.unique(begins):
        for end in np.unique(ends):
            inside = costs[(begins >= begin) & (ends >= end)]
            if len(inside):
                rounds = max(-(-(inside >= cost).sum() // slots) * cost for cost in np.unique(inside))
                ready = max(ready, begin + max(inside.sum() / slots, rounds) + end)
    return plain, ready


def filled(jobs: Sequence, needs: dict, earliest: dict[str, float], work: float, slots: int) -> float:
    """When all work can be done, if at any time as many jobs run as could have begun by then."""
    leaves, has_child, done, now = 0, set(), 0.0, 0.0
    for job in sorted(jobs, key=lambda job: earliest[job.name]):
        begin = earliest[job.name]
        if done + min(leaves, slots) * (begin - now) >= work:
            break
        done, now = done + min(leaves, slots) * (begin - now), begin
        replaces = bool(needs[job.name]) and needs[job.name][0] not in has_child
        has_child.update(needs[job.name])
        leaves += 0 if replaces else 1  # a job takes the place of the one before it, its siblings come on top
    return now + (work - done) / min(leaves, slots)


def overhead_of_scheduling(jobs: Sequence) -> float:
    """Seconds of handing out all jobs, done at once, by the program's own loop on an empty store."""
    from sslcurr.engine.fill import Filling
    from sslcurr.engine.jobs import Event
    from sslcurr.engine.store import Store
    from sslcurr.progress import Reporter

    class AtOnce:
        names = ("simulated",)

        def __init__(self) -> None:
            self.job = None

        def free(self) -> bool:
            return self.job is None

        def submit(self, job: object) -> int:
            self.job = job
            return 0

        def events(self, timeout: float) -> list[Event]:
            job, self.job = self.job, None
            return [] if job is None else [Event(what="ended", job=job.name, done_here=True)]

        def cancel(self) -> list[Event]:
            return []

        def close(self) -> None:
            return None

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with Filling(AtOnce, Store(Path(folder)), Reporter()) as filling:
            filling.add(jobs)
            filling.wait([job.name for job in jobs])
        return time.perf_counter() - began


def schedule() -> dict:
    """Makespans against bounds, and the seconds of scheduling."""
    rows = []
    for seeds in (1, 3):
        began = time.perf_counter()
        jobs = jobs_of(seeds)
        planned = time.perf_counter() - began
        stages = [job for job in jobs if job.kind == "stage"]
        print(f"{seeds} seeds: {len(stages)} stages, {len(jobs)} jobs, planned in {planned:.1f} s")
        for slots in SLOTS:
            took, (plain, ready) = makespan(jobs, slots), bounds(jobs, slots)
            rows.append({"seeds": seeds, "slots": slots, "makespan": took, "bound": plain, "ready_bound": ready})
            print(f"  {slots:4d} workers: {took / plain:.3f} times the bound, {took / ready:.3f} of what is ready")
        few = stages[:2000] if seeds == 1 else stages
        seconds = overhead_of_scheduling(few)
        print(f"  {len(few)} stages handed out in {seconds:.2f} s")
        rows.append({"seeds": seeds, "stages": len(few), "scheduling_seconds": seconds, "planning_seconds": planned})
    return {"rows": rows}


# ---- the speed


def run(store: Path, packs: Path, *options: str) -> tuple[float, float]:
    """Seconds of a rank in a fresh store: from its first training to the end of its last, and in all."""
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(packs, store / "packs")
    began = time.perf_counter()
    command = [sys.executable, "-m", "sslcurr", *RANK, "--runs", str(store), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    whole = time.perf_counter() - began
    begun = min(path.stat().st_mtime for path in store.glob("stages/*/stage.json"))
    return max(path.stat().st_mtime for path in store.glob("analyses/*/done.json")) - begun, whole


def overheads(store: Path) -> list[float]:
    """Seconds of each stage after a worker's first beside its training."""
    seconds = {path.parent.name: json.loads(path.read_text())["seconds"] for path in store.glob("stages/*/done.json")}
    lines = [json.loads(line) for path in store.glob("log/*.jsonl") for line in path.read_text().splitlines()]
    begun: dict[tuple[str, str], float] = {}
    first, found = set(), []
    for line in sorted(lines, key=lambda line: line["time"]):
        place = (line["worker"], line["job"])
        if line["event"] == "begun":
            begun[place] = line["time"]
        elif line["event"] == "ended" and line["job"] in seconds:
            if line["worker"] in first:
                found.append(line["time"] - begun[place] - seconds[line["job"]])
            first.add(line["worker"])
    return found


def measure() -> dict:
    """One worker with one thread, one with all cores, two with one thread each, in turns."""
    cores = len(os.sched_getaffinity(0))
    ways = {
        "one process, one thread": ("--threads", "1"),
        "one process, all cores": ("--threads", str(cores)),
        "--jobs 2 --threads 1": ("--jobs", "2", "--threads", "1"),
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        planned = [sys.executable, "-m", "sslcurr", *RANK, "--runs", str(root / "first"), "--plan-only"]
        subprocess.run(planned, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        beside: list[float] = []
        for number in range(ROUNDS):
            for name, options in ways.items():
                times[name].append(run(root / "run", root / "first" / "packs", *options))
                print(
                    f"round {number + 1}: {name}: {times[name][-1][0]:.1f} s, {times[name][-1][1]:.1f} s in all",
                    flush=True,
                )
                if "--jobs" in options:
                    beside += overheads(root / "run")
                num_stages = len(list((root / "run" / "stages").glob("*/done.json")))
    several = times["--jobs 2 --threads 1"]
    rows = []
    for name in list(ways)[:2]:
        ratios = [a[0] / b[0] for a, b in zip(times[name], several, strict=True)]
        in_all = [a[1] / b[1] for a, b in zip(times[name], several, strict=True)]
        rows.append({"against": name, "times_as_quick": ratios, "in_all": in_all})
        quick, whole = statistics.median(ratios), statistics.median(in_all)
        print(f"--jobs 2 is {quick:.2f} times as quick as {name} (in all {whole:.2f})")
    print(f"overhead a stage: median {statistics.median(beside):.3f} s of {len(beside)}, of {num_stages} stages a rank")
    return {"seconds": times, "ratios": rows, "overhead_seconds": beside, "stages": num_stages, "command": list(RANK)}


# ---- many workers on one store


def many(num_workers: int) -> dict:
    """So many workers on one plan of `RANK`."""
    from sslcurr import Lab

    options = {"dataset": "fashion", "backbone": "test_resnet", "stem": "imagenet", "image_size": 28, "epochs": 1}
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(folder, threads=1, **options)
        tasks = ("mocov2", "simclr", "rotation")
        plan = lab.queue_rank(tasks, length=2, seeds=2)
        began = time.time()
        children = []
        for _ in range(num_workers):
            child = os.fork()
            if not child:
                Lab(folder, threads=1).work(until_idle=True)
                os._exit(0)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        seconds = time.time() - began
        jobs = json.loads(Path(plan.plan).read_text())["jobs"]
        needs = {job["name"]: job.get("needs", []) for job in jobs}
        logs = [[json.loads(line) for line in path.open()] for path in Path(folder, "log").glob("*.jsonl")]
        failed = [code for code in codes if code]
    done = [line["job"] for log in logs for line in log if line["event"] == "ended"]
    times = idle_while_ready(logs, needs, began)
    result = {
        "workers": num_workers,
        "workers_with_work": len(logs),
        "failed_workers": len(failed),
        "seconds": seconds,
        "jobs": len(needs),
        "done_once": sum(done.count(name) == 1 for name in needs),
        "worker_seconds": sum(log[-1]["time"] - log[0]["time"] for log in logs),
        "idle_while_ready_seconds": sum(times),
        "longest_idle_while_ready_seconds": max(times, default=0.0),
    }
    print(json.dumps(result, indent=1))
    return result


def idle_while_ready(logs: list, needs: dict[str, list[str]], began: float) -> list[float]:
    """For each job the seconds in which it was ready, nobody had begun it, and some worker had nothing to do."""
    ended = {line["job"]: line["time"] for log in logs for line in log if line["event"] == "ended"}
    begun: dict[str, float] = {}
    busy = []  # of each worker: when it was at something
    for log in logs:
        spans, begin, job = [], 0.0, ""
        for line in log:
            if line["event"] == "begun":
                begin, job = line["time"], line["job"]
            elif line["event"] in ("ended", "found", "taken", "failed"):
                spans.append((begin, line["time"]))
                if line["event"] == "ended":
                    begun[job] = begin
        busy.append(spans)
    times = []
    for name, parents in needs.items():
        ready = max((ended[parent] for parent in parents if parent in ended), default=None)
        if ready is None:  # from the beginning, when workers only start
            continue
        waits = begun[name] - ready
        covered = [sum(max(0.0, min(b, ready + waits) - max(a, ready)) for a, b in spans) for spans in busy]
        times.append(max(0.0, waits - min(covered, default=0.0)))
    return times


def main() -> None:
    """Parse the command line, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "schedule", "many"))
    parser.add_argument("--workers", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    ways = {"measure": measure, "schedule": schedule, "many": lambda: many(arguments.workers)}
    found = ways[arguments.what]()
    records.write(arguments.json, f"jobs: {arguments.what}", found, packages=("torch", "timm"))


if __name__ == "__main__":
    main()
