"""What MkDocs calls while it builds the site (`hooks` in mkdocs.yml)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:  # MkDocs loads this file by its path; the reference is of this checkout
    sys.path.insert(0, str(ROOT))

from docs_site import api, commands, documents, links, tasks  # noqa: E402

SECTIONS = {f"{part.FOLDER}/": part for part in (commands, tasks, documents, api)}


def on_config(config: Any) -> Any:
    """Fill in the generated pages where the navigation names their folder."""
    generated = {folder: part.pages() for folder, part in SECTIONS.items()}
    config.extra["generated"] = {path: text for pages in generated.values() for path, text in pages.items()}
    config.nav = [_filled(item, generated) for item in config.nav]
    return config


def _filled(item: Any, generated: dict[str, dict[str, str]]) -> Any:
    """An entry of the navigation, with lists of pages for the names of generated folders."""
    if isinstance(item, dict):
        return {title: _filled(inner, generated) for title, inner in item.items()}
    if isinstance(item, list):
        return [_filled(inner, generated) for inner in item]
    return [path for path in generated[item] if path.endswith(".md")] if item in generated else item


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages, and files of the repository outside of `docs/`."""
    from mkdocs.structure.files import File

    for path, text in config.extra.pop("generated").items():
        files.append(File.generated(config, path, content=text))
    pages = [
        f"{links.DOCS}{each.src_uri}" for each in files if each.generated_by is None and each.is_documentation_page()
    ]
    config.extra["titles"] = links.titles(ROOT, [*pages, *links.PAGES])
    for path in [*links.PAGES, *links.files_beside(ROOT, [*pages, *links.PAGES])]:
        files.append(File.generated(config, links.in_site(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Make a page's links those of the site."""
    source = page.file.src_uri
    if source.startswith(tuple(SECTIONS)):
        return markdown
    return links.rewritten(
        markdown, source if source in links.PAGES else f"{links.DOCS}{source}", config.extra["titles"]
    )
