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
from sslcurr.tasks import BUILTIN_TASKS, described, task_class
from tests import REPOSITORY

PACKAGE = REPOSITORY / "sslcurr"
FILES = sorted(PACKAGE.rglob("*.py"))

# Imports point one way, by folder: a module may import its own rank and those below.
RANKS = {
    "errors": 0,
    "seeds": 0,
    "wording": 0,
    "version": 0,
    "files": 1,
    "claims": 1,
    "integrity": 1,
    "plugins": 1,
    "spec": 1,
    "analysis.measures": 2,
    "progress": 2,
    "world": 2,
    "data": 3,
    "backbones": 3,
    "tasks": 4,
    "engine": 5,
    "analysis.results": 6,
    "analysis.sheets": 6,
    "analysis.evaluation": 7,
    "analysis.report": 7,
    "analysis.experiments": 8,
    "api": 9,
    "testing": 9,
    "cli": 10,
    "__main__": 10,
}
# Commands share these, and may not import each other.
SHARED_BY_COMMANDS = {
    "app",
    "choices",
    "completion",
    "help",
    "options",
    "output",
    "program",
    "progress",
    "terminal",
    "__init__",
}
# All that a command may import of the package; what it does is done by `api`.
OPEN_TO_COMMANDS = ("api", "analysis.results", "spec", "progress", "errors", "files", "wording", "version", "cli")


def rank(module: str) -> int:
    name = module.removeprefix("sslcurr").removeprefix(".")
    folders = [known for known in RANKS if name == known or name.startswith(f"{known}.")]
    if folders:
        return RANKS[max(folders, key=len)]
    assert name in ("", "analysis"), f"{module} is in no room of the house"
    return 0  # they import nothing


def imported(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sslcurr"):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if name in MODULES else node.module for name in modules]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("sslcurr")]
    return found


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_one_way(path):
    if path == PACKAGE / "__init__.py":
        return  # it names what is public, and imports it when it is used: tests/test_library.py
    assert [name for name in imported(path) if rank(name) > rank(module_of(path))] == []


def test_no_imports_go_in_a_circle():
    files = [path for path in FILES if path != PACKAGE / "__init__.py"]
    graph = {module_of(path): {name for name in imported(path) if name in MODULES} for path in files}
    left = {name: needs - {name} for name, needs in graph.items()}
    while ready := {name for name, needs in left.items() if not needs & left.keys()}:
        left = {name: needs for name, needs in left.items() if name not in ready}
    assert {name: sorted(needs & left.keys()) for name, needs in left.items()} == {}


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=module_of)
def test_a_command_parses_calls_the_library_and_shows(path):
    names = [name.removeprefix("sslcurr.") for name in imported(path)]
    assert [name for name in names if not name.startswith(OPEN_TO_COMMANDS)] == []


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=module_of)
def test_no_command_imports_another(path):
    commands = {p.stem for p in (PACKAGE / "cli").glob("*.py")} - SHARED_BY_COMMANDS
    others = {f"sslcurr.cli.{name}" for name in commands - {path.stem}}
    assert path.stem == "app" or not others & set(imported(path))


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_no_mistake_is_swallowed_and_click_is_not_imported(path):
    tree = ast.parse(path.read_text())
    wide = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            names = {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)} if node.type else {"everything"}
            wide += node.type is None or "Exception" in names
        if isinstance(node, ast.Import):
            assert all(alias.name.split(".")[0] != "click" for alias in node.names)
    # Clients of trackers raise anything, and a training is worth more than its curves elsewhere.
    assert wide == (path.name == "trackers.py")


def test_version_is_one_number_and_has_its_changelog_entry():
    pyproject = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert "version" not in pyproject["project"]
    assert pyproject["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "sslcurr.version.__version__"}
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[{re.escape(sslcurr.__version__)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.M)


def imported_by(*words: str) -> set[str]:
    """The packages that a command has imported at its end."""
    code = (
        "import sys, sslcurr.cli\n"
        "try:\n    sslcurr.cli.main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("tasks",), ("data", "list"), ("runs",)], ids=" ".join)
def test_what_computes_nothing_imports_nothing_that_does(words, tmp_path):
    if words == ("runs",):
        words = ("runs", "--runs", str(tmp_path))
    packages = imported_by(*words)
    assert not packages & {"torch", "numpy", "pandas", "scipy", "sklearn", "timm", "PIL", "matplotlib"}


@pytest.mark.parametrize("name", sorted(BUILTIN_TASKS))
def test_what_a_task_says_of_itself_is_read_without_its_import(name):
    kind = task_class(name)
    assert described(name) == (kind.name, kind.version, kind.summary, kind.paper)


@pytest.mark.parametrize("task", sorted(BUILTIN_TASKS))
def test_a_task_is_one_file_and_says_what_it_is(task):
    kind = task_class(task)
    assert kind.name == task
    assert kind.version >= 1
    assert kind.paper.startswith("https://")
    assert len(kind.summary) < 70
    golden = REPOSITORY / "tests" / "golden" / f"{task}-v{kind.version}.json"
    assert golden.exists()
    assert task in (REPOSITORY / "docs" / "tasks.md").read_text()
