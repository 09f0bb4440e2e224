"""The documentation: lines, links, command lines that parse; and the pages that the site makes of the code."""

from __future__ import annotations

import json
import re
import shlex
from itertools import takewhile
from pathlib import Path

import pytest
import typer
from typer.main import get_command

import sslcurr
from docs_site import api, commands, documents, links, markup, tasks
from sslcurr.analysis.results.kinds import KINDS, json_schema
from sslcurr.cli.app import program
from sslcurr.cli.program import USAGE
from tests import REPOSITORY

DOCS = sorted((REPOSITORY / "docs").glob("*.md"))
PAGES = [*DOCS, REPOSITORY / "docs" / "results" / "README.md", *(REPOSITORY / each for each in links.PAGES)]
README = REPOSITORY / "README.md"
WIDTH = 120


def texts_of(paths):
    return {path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8") for path in paths}


@pytest.fixture(scope="module")
def root():
    return get_command(program())


@pytest.fixture(scope="module")
def command_pages():
    return commands.pages()


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.stem)
def test_prose_stays_within_120_columns(path):
    prose = links.without_code(path.read_text(encoding="utf-8")).splitlines()
    is_prose = re.compile(r"(?!\||    |<)")  # tables, indented code and HTML may be longer, and lines of one word
    assert [line for line in prose if len(line) > WIDTH and is_prose.match(line) and " " in line.strip()] == []


def test_links_and_anchors_of_the_repository_are_there():
    texts = texts_of([*PAGES, README])
    wrong = []
    for page, text in texts.items():
        for target in links.targets(links.ON_SITE.sub("", text)):
            path = links.in_repository(page, target) if target.partition("#")[0] else page
            anchor = target.partition("#")[2]
            if not (REPOSITORY / path).exists():
                wrong.append(f"{page}: {target} is not there")
            elif anchor and anchor not in links.anchors((REPOSITORY / path).read_text(encoding="utf-8")):
                wrong.append(f"{page}: {target} has no such heading")
    assert wrong == []


def test_pages_that_the_code_names_are_there():
    named = re.compile(r"\bdocs/[\w/.-]+\.md(?:#[\w-]+)?")
    found = {name for path in (REPOSITORY / "sslcurr").rglob("*.py") for name in named.findall(path.read_text())}
    assert "docs/plugins.md" in found
    for path, _, anchor in (name.partition("#") for name in found):
        assert not anchor or anchor in links.anchors((REPOSITORY / path).read_text())
        assert (REPOSITORY / path).is_file()


def test_an_anchor_is_that_of_github():
    assert links.anchor("Does the order `depend` on the settings?") == "does-the-order-depend-on-the-settings"
    assert links.anchor("R² — [a *link*](x.md)") == "r²--a-link"
    assert links.anchors("# A b\n```\n# no heading\n```\n### C\n") == {"a-b", "c"}


def test_links_become_those_of_the_site():
    page = "[a](../benchmarks/README.md#x) [b](data.md) [c](../README.md) [d](https://a.b/c) [e](#f) [g](fashion)\n"
    expected = "[a](benchmarks/README.md#x) [b](data.md) [c](index.md) [d](https://a.b/c) [e](#f) g\n"
    assert links.rewritten(page, "docs/x.md") == expected
    assert links.rewritten("[a](../docs/data.md#b)", "benchmarks/README.md") == "[a](../data.md#b)"
    called_like_a_file = links.rewritten("[b.md](b.md#c) [b](b.md)", "docs/x.md", {"docs/b.md": "Title"})
    assert called_like_a_file == "[Title](b.md#c) [b](b.md)"
    assert links.rewritten("| `a\\|b` |", "docs/x.md") == "| <code>a&#124;b</code> |"
    assert links.rewritten("```\n[a](../b.md)\n```\n", "docs/x.md") == "```\n[a](../b.md)\n```\n"
    assert links.rewritten("<!-- site: [a](reference/b.md) -->", "docs/x.md") == "[a](reference/b.md)"


def called(text):
    """The command lines of a page's blocks of shell, without those that stand for others (`...`)."""
    blocks = [part for is_code, part in links.parts(text) if is_code and re.match(r" *```(sh|bash)?\n", part)]
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines if re.match("sslcurr ", line)]
    ended = ("|", ">", "&&", ";")
    return [list(takewhile(lambda word: word not in ended, words[1:])) for words in found if "..." not in words]


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda path: path.parent.name + path.stem)
def test_command_lines_of_the_documentation_parse(page, root):
    wrong = []
    for words in called(page.read_text(encoding="utf-8")):
        plain = [word for word in words if word not in ("$F", "$SMALL")]  # options that a page gives a name
        command, rest = root, plain
        while hasattr(command, "commands") and rest and rest[0] in command.commands:
            command, rest = command.commands[rest[0]], rest[1:]
        try:
            command.make_context("sslcurr", list(rest), resilient_parsing=False)
        except typer.Exit:
            pass  # --help, --version
        except USAGE as error:
            wrong.append(f"sslcurr {' '.join(words)}: {error.format_message()}")
    assert wrong == []


def test_a_page_for_every_command_and_a_row_for_every_option(root, command_pages):
    assert {Path(path).stem for path in command_pages} == {"index", *root.commands}
    for words, command in commands.leaves(root):
        page = command_pages[f"{commands.FOLDER}/{words[0]}.md"]
        for param in command.params:
            for name in param.opts if param.param_type_name == "option" and not param.hidden else ():
                assert f"<code>{name}</code>" in page


def test_a_row_has_choices_default_and_variable(command_pages):
    rank, chain = (command_pages[f"{commands.FOLDER}/{name}.md"] for name in ("rank", "chain"))
    assert "sslcurr rank [OPTIONS] [TASK]...\n" in rank
    assert "<code>finetune&#124;linear&#124;knn</code>" in rank
    assert re.search(r"<code>--seeds</code> <code>N</code> \| .* At least 1\. \| 3 \|\n", rank)
    assert "Also from the environment: <code>SSLCURR&#95;DATA</code>." in rank
    assert "| <code>--finetune</code> |\n" in chain


def test_examples_of_a_command_are_code():
    expected = ["Examples:", "", "```sh", "sslcurr rank", "sslcurr chain a b", "```", "", "Then look on.", ""]
    assert commands.text_of("Examples:\n\nsslcurr rank\n\n[bold]sslcurr[/bold] chain a b\n\nThen\nlook on.") == expected
    assert commands.text_of("Examples:\n\n\b\nsslcurr rank\n  sslcurr chain a b\n\nThen look on.") == expected
    assert commands.text_of(None) == []


def test_a_page_of_a_task():
    document = {
        "task": "t",
        "imagenet": {"lr": 0.1, "scale": [0.2, 1.0]},
        "resolved": {"lr": 0.03, "scale": [0.2, 1.0]},
    }
    plain = tasks.page(document, "learn", "https://arxiv.org/abs/1", "9 images")
    assert "| setting | ImageNet | 9 images |\n" in plain
    assert "| <code>lr</code> | 0.1 | **0.03** |\n| <code>scale</code> | 0.2 to 1 | 0.2 to 1 |" in plain
    grouped = tasks.page({**document, "groups": {"views": ["scale"], "task": []}}, "learn", "https://x.y", "9 images")
    assert '## Views\n\n<div class="settings" markdown>\n\n| setting | ImageNet | 9 images |\n' in grouped
    assert "| <code>scale</code> |" in grouped
    assert "<code>lr</code> |" not in grouped
    assert "## Task" not in grouped
    known = {**document, "meanings": {"lr": "of `SGD`"}, "ranges": {"lr": "above 0"}}
    assert "| 0.1 | **0.03** | of <code>SGD</code> | above 0 |" in tasks.page(known, "learn", "https://x.y", "9 images")


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_of_a_document_has_every_field_of_its_schema(kind):
    schema = json_schema(kind)
    page = documents.page(kind, schema)
    for name, part in schema["$defs"].items():
        section = page if schema["$ref"].endswith(f"/{name}") else page.partition(f"## {name}\n")[2]
        for field in part["properties"]:
            assert f"| {markup.code(field)} | " in section


def test_fields_of_a_document_have_types_and_meanings():
    pages = documents.pages()
    rank = pages[f"{documents.FOLDER}/rank.md"]
    assert "| list of [TaskRow](#taskrow) | each task alone, by rising mean;" in rank
    assert "| integer, optional | the version of the kind's layout;" in rank  # of the base class
    assert json.loads(pages[f"{documents.FOLDER}/rank.schema.json"]) == json_schema("rank")
    text, meanings = documents.described(
        {"description": "One.\n\nAttributes:\n    a, b: two\n        lines.\n\nRaises:\n    E: no."}
    )
    assert (text, meanings) == ("One.", {"a": "two lines.", "b": "two lines."})


def test_the_reference_has_every_public_name():
    shown = [name.removeprefix("sslcurr.") for _, _, names in api.PAGES.values() for name in names]
    assert set(sslcurr.__all__) - {"__version__"} <= set(shown)
    assert len(shown) == len(set(shown))
    assert api.pages().keys() == {f"{api.FOLDER}/{name}.md" for name in (*api.PAGES, "index")}


def test_texts_are_shown_as_they_are():
    assert markup.prose("a|b * `x_y|z`, --no-way <b>") == (
        "a&#124;b &#42; <code>x&#95;y&#124;z</code>, <code>--no-way</code> &lt;b&gt;"
    )
    assert [markup.value(each) for each in (None, True, 65536, 0.1, [0.2, 1.0], ["a", "b", "c"], [])] == [
        "none", "yes", "65,536", "0.1", "0.2 to 1", "a, b, c", "none",
    ]  # fmt: skip
    assert markup.table(["a", "b"], [("1", ""), ("2", "")]) == ["| a |", "| --- |", "| 1 |", "| 2 |"]


def test_epochs_on_the_page_of_the_study_are_those_of_the_recipes():
    from sslcurr.spec.facts import Facts
    from sslcurr.tasks import task_class

    page = (REPOSITORY / "docs" / "reproduce-the-study.md").read_text()
    assert "70 epochs for relative-location and rotation, 200 for odc, mocov2 and swav, and 100 at most" in " ".join(
        page.split()
    )
    epochs = {"relative-location": 70, "rotation": 70, "odc": 200, "mocov2": 200, "swav": 200, "classification": 100}
    for images, classes in ((25_331, 8), (6_334, 2)):
        trained = round(0.65 * images)
        facts = Facts(num_images=trained, class_counts=(trained // classes,) * classes, image_size=224)
        assert {name: task_class(name).recipe(facts).training.epochs for name in epochs} == epochs
    lesions, lungs = (round(0.65 * images) / 1e6 for images in (25_331, 6_334))
    rows = dict(re.findall(r"^\| (section 3\.1|Table \d) \| \d+ \| (\d+)", page, re.M))
    expected = {
        "section 3.1": 2 * (200 + 200 + 70 + 200) * lesions,
        "Table 1": (70 + 200) * (1 + 0.5 + 0.25 + 0.125) * lesions,
        "Table 2": 5 * (200 + 70 + 200) * lesions,
        "Table 3": 10 * (70 + 200 + 200 + 70) * lungs,
    }
    assert {name: int(passes) for name, passes in rows.items()} == {
        name: round(each) for name, each in expected.items()
    }
