"""Every task with its settings: the paper's, those for a thousand images, what each may be and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docs_site.markup import code, escaped, prose, table, value

FOLDER = "reference/tasks"


def pages() -> dict[str, str]:
    """Path in the site -> Markdown: the list of tasks, and a page each."""
    import sslcurr

    lab = sslcurr.Lab()
    listed = lab.tasks().tasks
    found = {f"{FOLDER}/index.md": index([(each.task, each.summary, each.paper) for each in listed])}
    for each in listed:
        document = lab.task(each.task)
        found[f"{FOLDER}/{each.task}.md"] = page(
            document.to_json(), each.summary, each.paper, str(document.resolved_for)
        )
    return found


def index(tasks: list[tuple[str, str, str]]) -> str:
    """The list of tasks, from their names, summaries and papers."""
    rows = [(f"[{code(name)}]({name}.md)", prose(summary), _paper(paper)) for name, summary, paper in tasks]
    lines = [
        "# Settings of every task",
        "",
        "This page and those below it are made of the program. `sslcurr tasks show TASK` prints the same, and with",
        "`--dataset` what a recipe gives for your images. `--set TASK.NAME=VALUE` changes a setting.",
        "Where recipes come from, and what each task draws, is in [Tasks](../../tasks.md).",
        "",
        *table(["task", "learns to", "paper"], rows),
    ]
    return "\n".join(lines) + "\n"


def page(document: Mapping[str, Any], summary: str, paper: str, resolved_for: str) -> str:
    """The settings of a task.

    Args:
        document: of `Lab.task`, as JSON; `meanings`, `ranges` and `groups` may be missing.
        summary, paper: what it learns in a line, and where it was published.
        resolved_for: what the settings under `resolved` are for.
    """
    name, meanings, ranges = document["task"], document.get("meanings", {}), document.get("ranges", {})
    rows = {}
    for setting, small in document["resolved"].items():
        large = document["imagenet"].get(setting)
        rows[setting] = (
            code(setting),
            escaped(value(large)),
            escaped(value(small)) if small == large else f"**{escaped(value(small))}**",
            prose(meanings.get(setting, "")),
            prose(ranges.get(setting, "")),
        )
    groups = {title: names for title, names in document.get("groups", {}).items() if names} or {"settings": list(rows)}
    heads = ("setting", "ImageNet", escaped(resolved_for), "what it is", "can be")
    lines = [
        f"# {name}",
        "",
        f"{prose(summary[:1].upper() + summary[1:])}. Paper: {_paper(paper)}.",
        f"What it draws, and where the recipe comes from: [Tasks](../../tasks.md#{name}).",
        "",
        f"A setting is changed by {code(f'--set {name}.NAME=VALUE')}. Values for {escaped(resolved_for)} are those of",
        "two classes at 224 px; bold ones differ from those for ImageNet.",
        "",
    ]
    for title, names in groups.items():
        found = table(heads, [rows[name] for name in names if name in rows])
        lines += [f"## {title.capitalize()}", "", '<div class="settings" markdown>', "", *found, "", "</div>", ""]
    return "\n".join(lines).rstrip() + "\n"


def _paper(url: str) -> str:
    return f"[{escaped(url.removeprefix('https://').replace('arxiv.org/abs/', 'arXiv '))}]({url})"
