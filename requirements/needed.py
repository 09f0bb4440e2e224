"""Print the requirements that pyproject.toml has without extras, a line each; with names, those of these packages only.

It needs Python alone, so that they can be installed in a layer of a container before sslcurr is there.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path


def needed(names: list[str]) -> list[str]:
    """The requirements of the packages `names`, or all."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    lines: list[str] = project["dependencies"]
    return [line for line in lines if not names or re.split(r"[^\w.-]", line)[0] in names]


if __name__ == "__main__":
    print("\n".join(needed(sys.argv[1:])))
