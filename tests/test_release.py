"""What a release says of itself in several files is the same in all of them."""

from __future__ import annotations

import re
import shlex
import tomllib

import pytest
import yaml
from typer.main import get_command

import sslcurr
from sslcurr.cli.app import app
from tests import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
INSTALL = (REPOSITORY / "docs" / "install.md").read_text()
PACKAGE = (REPOSITORY / PROJECT["readme"]).read_text()
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


def test_the_citation_is_of_this_version_and_its_day():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    dated = re.search(rf"^## \[{re.escape(sslcurr.__version__)}\] - (\S+)$", changelog, re.M)
    assert dated is not None
    assert (citation["version"], str(citation["date-released"])) == (sslcurr.__version__, dated[1])
    assert citation["license"] == PROJECT["license"]
    assert [each["name"] for each in citation["authors"]] == [each["name"] for each in PROJECT["authors"]]
    assert [each["url"].rpartition("/")[2] for each in citation["references"]] == ["2112.12086", "2301.10687"]


def test_every_extra_is_weighed_on_the_page_and_no_other():
    rows = re.findall(r"^\| `([a-z]+)` \| ([\d,]+) \|", INSTALL, re.M)
    assert [name for name, _ in rows] == list(PROJECT["optional-dependencies"])
    assert all(int(weight.replace(",", "")) > 0 for _, weight in rows)


def test_the_versions_of_python_are_those_of_the_page():
    versions = re.findall(r"Python :: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), re.M)
    assert PROJECT["requires-python"] == f">={versions[0]}"
    assert f"Python {versions[0]} or later" in INSTALL
    assert f"Python {versions[0]} or later" in PACKAGE
    assert all(version in INSTALL for version in versions)
    assert f"ARG PYTHON={versions[0]}\n" in DOCKERFILE


def test_the_page_of_an_index_leads_nowhere_but_to_the_web():
    targets = re.findall(r"\]\(([^)]+)\)", PACKAGE)
    assert targets
    assert [target for target in targets if not target.startswith("https://")] == []
    assert "<img" not in PACKAGE


@pytest.mark.parametrize("page", [PACKAGE, INSTALL], ids=["package", "install"])
def test_the_commands_of_the_page_are_there(page):
    lines = [line for block in re.findall(r"```sh\n(.*?)```", page, re.S) for line in block.splitlines()]
    commands = [words[1:] for words in (shlex.split(line, comments=True) for line in lines) if words[:1] == ["sslcurr"]]
    assert len(commands) >= 3
    known = get_command(app)
    for words in commands:
        command = known
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert words == ["--version"] or command is not known, words
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, words


def test_the_container_keeps_what_the_program_keeps():
    copied = {name.rstrip("/") for line in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.M) for name in line.split()}
    let_in = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == let_in
    assert all((REPOSITORY / name).exists() for name in copied)
    volumes = re.findall(r"SSLCURR_(?:RUNS|DATA)=(\S+)", DOCKERFILE)
    assert re.search(r"^VOLUME (.*)$", DOCKERFILE, re.M)[1] == str(volumes).replace("'", '"')
    assert all(f"`{volume}`" in INSTALL for volume in volumes)
