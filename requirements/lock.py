"""Write requirements/locked.txt: the versions of all packages that `pip install -e '.[test]'` brought here.

python -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/python -m pytest -n auto
.venv/bin/python requirements/lock.py

It follows the requirements in pyproject.toml through the metadata of what is installed, so that other packages in the
environment are left out, and writes no address and no path.
"""

from __future__ import annotations

import datetime
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[1]
LOCKED = REPOSITORY / "requirements" / "locked.txt"
# One build of torch fits a GPU, another a CPU or an older driver; the rest of these come with the build of torch.
LEFT_TO_PIP = ("torch", "torchvision", "triton", "setuptools", "pip")
LEFT_TO_PIP_BY_PREFIX = ("nvidia-", "cuda-")
HEADER = """\
# The versions that the tests passed with. A constraints file: it installs nothing by itself, and says which version
# is taken of what is installed.
#
#     pip install -c requirements/locked.txt -e '.[test]'
#
# Made on Linux with Python 3.11 by: python requirements/lock.py (its first lines say how). Locked on {date}.
# Not here: torch, torchvision, triton, cuda-* and nvidia-*. Which build of torch is right depends on the machine (its
# GPU and driver, or none), and no single version is to be had everywhere; pip takes one within the range in
# pyproject.toml, and the others come with it.
"""


def left_to_pip(name: str) -> bool:
    """Whether a package belongs to the build of torch, or to pip itself."""
    return name in LEFT_TO_PIP or name.startswith(LEFT_TO_PIP_BY_PREFIX)


def direct_requirements() -> list[Requirement]:
    """What pyproject.toml asks for, with its extra `test`, which names the other extras."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requirements, names = list(project["dependencies"]), ["test"]
    for name in names:
        for text in extras[name]:
            if (requirement := Requirement(text)).name == project["name"]:
                names += sorted(requirement.extras)
            else:
                requirements.append(text)
    return [Requirement(text) for text in requirements]


def installed_versions(requirements: list[Requirement]) -> dict[str, str]:
    """Package -> version of the requirements and of all that they need in this environment."""
    versions: dict[str, str] = {}
    visited: set[tuple[str, str]] = set()
    left = [(requirement, "") for requirement in requirements]
    while left:
        requirement, extra_of_parent = left.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra_of_parent}):
            continue
        package = distribution(name)
        versions[name] = package.version
        for extra in ("", *requirement.extras):
            if (name, extra) not in visited:
                visited.add((name, extra))
                left += [(Requirement(text), extra) for text in package.requires or ()]
    return versions


def main() -> None:
    """Write the file."""
    versions = installed_versions(direct_requirements())
    lines = [f"{name}=={version}" for name, version in sorted(versions.items()) if not left_to_pip(name)]
    LOCKED.write_text(HEADER.format(date=datetime.date.today()) + "\n".join(lines) + "\n")
    print(f"{len(lines)} packages in {LOCKED.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
