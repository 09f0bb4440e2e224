"""Links of pages to files of the repository that lie outside of `docs/`: these become pages and files of the site."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from docs_site.markup import code

DOCS = "docs/"
# Pages of the repository that are in the site too.
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md")
# What a page says in the site only, such as a link to a page that is generated: `<!-- site: TEXT -->`.
ON_SITE = re.compile(r"<!-- site: (.*?) -->", re.S)
LINK = re.compile(r"(?P<head>!?\[(?:[^\[\]]|\[[^\[\]]*\])*\]\()(?P<target>[^()\s]+)(?P<tail>\))")
# Code in a cell of a table whose `|` GitHub wants escaped; Python's Markdown shows the backslash.
BAR = re.compile(r"`([^`\n]*\\\|[^`\n]*)`")
FENCE = re.compile(r"^ *(```|~~~)", re.M)


def parts(text: str) -> list[tuple[bool, str]]:
    """A page in parts that are fenced code, or are not."""
    found: list[tuple[bool, str]] = []
    fenced = False
    for line in text.splitlines(keepends=True):
        is_fence = FENCE.match(line) is not None
        is_code = fenced or is_fence
        if found and found[-1][0] == is_code:
            found[-1] = (is_code, found[-1][1] + line)
        else:
            found.append((is_code, line))
        fenced ^= is_fence
    return found


def without_code(text: str) -> str:
    """What of a page is no fenced code."""
    return "".join(part for is_code, part in parts(text) if not is_code)


def targets(text: str) -> list[str]:
    """The targets of a page's links and images, without addresses of the web."""
    found = [match["target"] for match in LINK.finditer(without_code(text))]
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def in_repository(page: str, target: str) -> str:
    """The path that a link of a page (path in the repository) has there, without its anchor."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), target.partition("#")[0]))


def in_site(path: str) -> str:
    """Where a file of the repository is in the site: `docs/` is its root, README.md its first page."""
    return {"README.md": "index.md"}.get(path, path.removeprefix(DOCS))


def titles(root: Path, pages: Iterable[str]) -> dict[str, str]:
    """Path in the repository -> the first heading of the page."""
    texts = {page: (root / page).read_text(encoding="utf-8") for page in pages}
    return {page: match[1] for page, text in texts.items() if (match := re.match(r"# (.*)", text))}


def rewritten(text: str, page: str, titles: Mapping[str, str] | None = None) -> str:
    """A page with its links as the site has them.

    Args:
        text: its Markdown.
        page: its path in the repository, such as `docs/data.md`.
        titles: of other pages. A link that is called like a file, `[data.md](data.md)`, gets the title of its page.
    """

    def moved(match: re.Match[str]) -> str:
        target = match["target"]
        path, mark, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", target):
            return match[0]
        if "." not in posixpath.basename(path.rstrip("/")):  # a folder, which has no page
            return match["head"].removesuffix("](").lstrip("![")
        file = in_repository(page, path)
        head = match["head"]
        if head == f"[{posixpath.basename(path)}](":
            head = f"[{(titles or {}).get(file, head[1:-2])}]("
        place = posixpath.relpath(in_site(file), posixpath.dirname(in_site(page)) or ".")
        return f"{head}{place}{mark}{anchor}{match['tail']}"

    shown = ON_SITE.sub(lambda match: match[1], text)
    return "".join(part if is_code else BAR.sub(_as_html, LINK.sub(moved, part)) for is_code, part in parts(shown))


def _as_html(match: re.Match[str]) -> str:
    return code(match[1].replace("\\|", "|"))


def files_beside(root: Path, pages: Iterable[str]) -> list[str]:
    """Files of the repository outside of `docs/` that pages link to, and that are no pages of the site."""
    found = set()
    for page in pages:
        for target in targets((root / page).read_text(encoding="utf-8")):
            path = in_repository(page, target)
            if not path.startswith((DOCS, "..")) and path not in (*PAGES, "README.md") and (root / path).is_file():
                found.add(path)
    return sorted(found)


def anchor(heading: str) -> str:
    """The anchor of a heading, as GitHub and the site make it."""
    plain = re.sub(r"[`*]", "", LINK.sub(lambda match: match["head"].strip("![]("), heading))
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")


def anchors(text: str) -> set[str]:
    """The anchors of all headings of a page."""
    headings = re.findall(r"^#{1,6} (.*)$", without_code(text), re.M)
    return {anchor(heading) for heading in headings}
