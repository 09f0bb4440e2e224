"""What must be in a wheel and a source distribution, and nothing else: `contents.py WHEEL SDIST`."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import PurePosixPath

TOP = {"CHANGELOG.md", "CITATION.cff", "LICENSE", "MANIFEST.in", "PKG-INFO", "README-package.md", "pyproject.toml"}
TOP |= {"setup.cfg"}


def main(wheel: str, sdist: str) -> None:
    """Compare both with the committed files of the package.

    Raises:
        SystemExit: a file is missing, or one is there that should not be.
    """
    listed = subprocess.run(["git", "ls-files", "sslcurr"], check=True, capture_output=True, text=True).stdout
    package = set(listed.splitlines())
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {name for name in archive.namelist() if ".dist-info/" not in name}
    with tarfile.open(sdist) as archive:
        files = (PurePosixPath(member.name) for member in archive.getmembers() if member.isfile())
        in_sdist = {str(path.relative_to(path.parts[0])) for path in files}
    in_sdist = {name for name in in_sdist if not name.startswith("sslcurr.egg-info/")}
    wrong = {
        "not in the wheel": package - in_wheel,
        "in the wheel by mistake": in_wheel - package,
        "not in the source distribution": (package | TOP) - in_sdist,
        "in the source distribution by mistake": in_sdist - package - TOP,
    }
    for what, names in wrong.items():
        for name in sorted(names):
            print(f"{what}: {name}")
    if any(wrong.values()):
        sys.exit(1)
    print(f"{len(in_wheel)} files in the wheel, {len(in_sdist)} in the source distribution")


if __name__ == "__main__":
    main(*sys.argv[1:])
