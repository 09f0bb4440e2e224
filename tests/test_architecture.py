"""What is written about the code is checked like the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sslcurr
from sslcurr.tasks import TASKS, task_class

REPOSITORY = Path(sslcurr.__file__).parents[1]
PACKAGE = REPOSITORY / "sslcurr"
FILES = sorted(PACKAGE.rglob("*.py"))

# Imports point one way: a module may import its own rank and those below.
RANKS = {
    "errors": 0,
    "seeds": 0,
    "engine.spec": 1,
    "engine.settings": 1,
    "backbones": 2,
    "data": 2,
    "tasks": 3,
    "engine": 4,
    "analysis": 5,
    "cli": 6,
}


def rank(module: str) -> int:
    name = module.removeprefix("sslcurr.")
    for known in sorted(RANKS, key=len, reverse=True):
        if name == known or name.startswith(f"{known}."):
            return RANKS[known]
    return 0 if name == "sslcurr" else 6  # sslcurr itself has only its version; __main__ is the command line


def imported(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sslcurr"):
            found.append(node.module)
            found += [f"{node.module}.{alias.name}" for alias in node.names if f"{node.module}.{alias.name}" in MODULES]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("sslcurr")]
    return found


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_one_way(path):
    assert [name for name in imported(path) if rank(name) > rank(module_of(path))] == []


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_no_mistake_is_swallowed_and_click_is_not_imported(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            names = {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)} if node.type else {"everything"}
            bare = node.type is None or "Exception" in names
            assert not bare, f"line {node.lineno}"
        if isinstance(node, ast.Import):
            assert all(alias.name.split(".")[0] != "click" for alias in node.names)


def test_version_is_one_number_and_has_its_changelog_entry():
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert sslcurr.__version__ == version
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.M)


def test_help_does_not_import_torch():
    code = "import sys, sslcurr.cli.app; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'pandas', 'rich')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("task", sorted(TASKS))
def test_a_task_is_one_file_and_says_what_it_is(task):
    kind = task_class(task)
    assert kind.name == task
    assert kind.version >= 1
    assert kind.paper.startswith("https://")
    assert len(kind.summary) < 70
    golden = REPOSITORY / "tests" / "golden" / f"{task}-v{kind.version}.json"
    assert golden.exists()
    assert task in (REPOSITORY / "docs" / "tasks.md").read_text()
