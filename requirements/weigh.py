"""Weigh what sslcurr brings: the megabytes of `pip install .`, and what each extra adds to it.

python -m venv /tmp/weigh && /tmp/weigh/bin/pip install . && /tmp/weigh/bin/python requirements/weigh.py

It runs in an environment that has sslcurr without extras. What an extra would add is resolved there, installed into a
folder of its own and counted as `du` does, compiled files included. The environment stays as it is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PIP = (sys.executable, "-m", "pip", "install", "--quiet")


def megabytes(folder: Path) -> float:
    """What the files of a folder take on the disk, in units of 1,000,000 bytes."""
    return sum(path.lstat().st_blocks for path in folder.rglob("*")) * 512 / 1e6


def added_by(extra: str) -> list[str]:
    """`name==version` of what pip would add to this environment for an extra."""
    asked = f"{REPOSITORY}[{extra}]"
    command = [*PIP, "--dry-run", "--report", "-", asked]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    found = (each["metadata"] for each in report["install"])
    return [f"{each['name']}=={each['version']}" for each in found if each["name"] != "sslcurr"]


def main() -> None:
    """Print a line for the environment, and one for each extra."""
    site = Path(sysconfig.get_paths()["purelib"])
    print(f"without extras {megabytes(site):,.0f}", flush=True)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    for extra in project["optional-dependencies"]:
        packages = added_by(extra)
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([*PIP, "--no-deps", "--target", folder, *packages], check=True)
            print(f"{extra} {megabytes(Path(folder)):,.0f}: {len(packages)} packages", flush=True)


if __name__ == "__main__":
    main()
