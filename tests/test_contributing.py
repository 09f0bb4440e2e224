"""CONTRIBUTING.md lists what README's test command leaves out, and README's command is one line that .ci/run finds."""

from __future__ import annotations

import ast
import re

from tests import REPOSITORY

CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text()


def marked_long() -> set[str]:
    """Tests that are marked, as a whole or in some of their cases."""
    functions = (
        node
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    )
    return {
        each.name for each in functions if any("pytest.mark.long" in ast.unparse(mark) for mark in each.decorator_list)
    }


def test_the_long_tests_are_those_that_the_page_lists():
    listed = re.findall(r"^\| `(test_\w+)` \|", CONTRIBUTING, re.M)
    assert set(listed) == marked_long()
    assert len(set(listed)) == len(listed)


def test_the_quick_tests_that_the_page_names_are_there():
    sources = "".join(path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", CONTRIBUTING)) - {"test_resnet"}
    assert [name for name in named if f"def {name}(" not in sources] == []


def test_the_quick_part_is_what_the_readme_runs():
    (line,) = [line for line in (REPOSITORY / "README.md").read_text().splitlines() if "[test]" in line]
    assert line.endswith("pytest -n auto")
    assert ".venv/bin/python -m pytest -n auto             #" in CONTRIBUTING
