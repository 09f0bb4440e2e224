"""python -m tests.fuzz --cases 100000"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.run import child, run_cases


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        seed, first, step, end, *only = sys.argv[2:]
        child(int(seed), int(first), int(step), int(end), only[0] if only else None)
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", help="one kind of case")
    parser.add_argument("--number", type=int, help="run this case here, and show what it raises")
    asked = parser.parse_args()
    if asked.number is not None:
        from tests.fuzz.kinds import carry_out

        with tempfile.TemporaryDirectory() as name:
            print(carry_out(asked.seed, asked.number, Path(name) / "case", asked.only))
        return 0
    outcome = run_cases(asked.cases, asked.seed, processes=asked.processes, first=asked.first, only=asked.only)
    for kind, number, what in outcome.failures[:50]:
        print(f"{kind} {number}: {what}\n")
    print(outcome.table())
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
