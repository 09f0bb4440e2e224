"""Puts the results of this folder into a store, so that `sslcurr report` shows them on a page.

    python docs/results/report_store.py STORE
    sslcurr report --runs STORE --out docs/results/report.html

Rankings of five seeds are joined, and explained, as docs/results/README.md says; the other results are kept as the
commands printed them. Their stages are not in the repository, so the page has neither curves nor hours of training.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sslcurr import Lab
from sslcurr.analysis.results.kinds import decode
from sslcurr.engine.store import Store
from sslcurr.files import read_json
from sslcurr.spec.record import RunRecord

REPOSITORY = Path(__file__).parents[2]
RESULTS = Path("docs/results")  # as commands name it, which run in the repository
MEASURED = "2026-11-29T{hour:02d}:00:00+00:00"
# Data set -> the results that are kept as they are, the oldest first, with their kinds.
KEPT = {
    "ham": {"attend": "attend", "cka-0": "cka", "fid-0": "fid"},
    "fashion": {"long": "rank", "lr": "variants", "over": "variants", "grid": "grid", "cka-0": "cka", "fid-0": "fid"},
}


def main(root: str) -> None:
    """Fill a store."""
    root = os.path.abspath(root)
    os.chdir(REPOSITORY)
    store = Store(Path(root))
    for hour, (dataset, names) in enumerate(KEPT.items()):
        for name, kind in names.items():
            keep(store, RESULTS / dataset / f"{name}.json", kind, hour)
        rank_and_explain(root, dataset)


def keep(store: Store, path: Path, kind: str, hour: int) -> None:
    """Keep a result as the command found it, with the command line that is in it."""
    document = decode(kind, read_json(path))
    command = list(document.invocation)
    options = next((place for place, word in enumerate(command) if word.startswith("--")), len(command))
    record = RunRecord(
        asked={"result": f"{path.parent.name}/{path.stem}"},
        title=" ".join(command[1:options]) if kind in ("rank", "variants", "grid") else f"{kind} {path.parent.name}",
        dataset=document.dataset,
        created=MEASURED.format(hour=hour),
        command=command,
    )
    store.note_run(record)
    store.keep_result(record, kind, document.to_json())


def rank_and_explain(root: str, dataset: str) -> None:
    """The ranking over all five seeds, and what lies behind it."""

    def five(name: str) -> list[str]:
        return [str(RESULTS / dataset / f"{name}-{seed}.json") for seed in range(5)]

    def lab(*command: str) -> Lab:
        return Lab(root, invocation=["sslcurr", *command])

    before = set(Store(Path(root)).all_runs())
    lab("join", *five("seed")).join(five("seed"))
    (joined,) = set(Store(Path(root)).all_runs()) - before
    known = [["--similarity", a, "--distances", b] for a, b in zip(five("cka"), five("fid"), strict=True)]
    command = ["explain", joined, *(word for words in known for word in words)]
    lab(*command).explain(joined, similarity=five("cka"), distances=five("fid"))


if __name__ == "__main__":
    main(sys.argv[1])
