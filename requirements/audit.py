"""Hold the locked versions, and the build of torch that is installed, against known vulnerabilities.

pip install pip-audit && python requirements/audit.py

pip-audit asks the registry. Where that has no advisories, as mirrors often have not, nothing is audited, and the date
of the list says how old its versions are. The exit code is 1 where a vulnerability is known.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LOCKED = Path(__file__).parent / "locked.txt"
BUILDS = ("torch", "torchvision")


def versions() -> list[str]:
    """`name==version` of what is locked, and of torch, whose builds have a suffix that no advisory knows."""
    lines = [line for line in LOCKED.read_text().splitlines() if line and not line.startswith("#")]
    for name in BUILDS:
        try:
            lines.append(f"{name}=={importlib.metadata.version(name).partition('+')[0]}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return lines


def audited(lines: list[str]) -> list[dict[str, Any]]:
    """What pip-audit says of each; empty where it does not run, or its service does not answer."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(lines))
        file.flush()
        command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "-f", "json", "-r", file.name]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found: list[dict[str, Any]] = json.loads(ended.stdout)["dependencies"]
    except (ValueError, KeyError):
        return []
    return found


def verdict(found: list[dict[str, Any]], asked: int, locked_on: str) -> tuple[list[str], int]:
    """Lines to print, and the exit code."""
    answered = [each for each in found if "vulns" in each]
    lines = [
        f"{each['name']} {each['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version'}"
        for each in answered
        for flaw in each["vulns"]
    ]
    if not answered:
        return [f"not audited: no advisories are to be had here; {asked} versions, locked on {locked_on}"], 0
    return [*lines, f"{len(answered)} of {asked} versions audited, {len(lines)} known vulnerabilities"], int(
        bool(lines)
    )


def main() -> int:
    """Print the verdict."""
    dated = re.search(r"Locked on (\S+)\.", LOCKED.read_text())
    asked = versions()
    lines, code = verdict(audited(asked), len(asked), dated[1] if dated else "an unknown day")
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
