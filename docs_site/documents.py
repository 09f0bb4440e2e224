"""The JSON documents of commands: a table of fields for every part, and the JSON Schema as a file."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from docs_site.markup import code, escaped, prose, table

FOLDER = "reference/documents"
FIELDS = re.compile(r"^    ([a-z_]\w*(?:, [a-z_]\w*)*): ")
# Pages of prose come first in the search: fields of documents repeat their words.
SEARCH = ["---", "search:", "  boost: 0.2", "---", ""]
SECTION = re.compile(r"^(Attributes|Args|Raises|Returns):$")


def pages() -> dict[str, str]:
    """Path in the site -> content: the list of kinds, a page each, and the schema of each."""
    from sslcurr.analysis.results.kinds import KINDS, document_class, json_schema

    schemas = {kind: json_schema(kind) for kind in KINDS}
    found = {f"{FOLDER}/index.md": index(schemas)}
    for kind, schema in schemas.items():
        found[f"{FOLDER}/{kind}.md"] = page(kind, schema, inherited(document_class(kind), schema["$defs"]))
        found[f"{FOLDER}/{kind}.schema.json"] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    return found


def index(schemas: Mapping[str, Mapping[str, Any]]) -> str:
    """The list of kinds."""
    rows = [(f"[{code(kind)}]({kind}.md)", prose(described(_top(schema)[1])[0])) for kind, schema in schemas.items()]
    lines = [
        "# JSON documents",
        "",
        "`--json` prints one document. Its kind says which fields it has. This page and those below it are made of the",
        "classes that write them; `sslcurr schema KIND` prints the same as [JSON Schema](https://json-schema.org).",
        "What concerns several kinds is in [Commands](../../commands.md#json).",
        "",
        *table(["kind", "says"], rows),
    ]
    return "\n".join(lines) + "\n"


def inherited(document: type, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """What the docstrings of a part's base classes say of its fields: part -> field -> meaning."""
    module = vars(sys.modules[document.__module__])
    found: dict[str, dict[str, str]] = {}
    for name in names:
        bases = getattr(module.get(name), "__mro__", ())[:0:-1]
        found[name] = {
            field: text for base in bases for field, text in described({"description": base.__doc__})[1].items()
        }
    return found


def page(kind: str, schema: Mapping[str, Any], inherited: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """The fields of a kind of document, and of every part of it; `inherited` are meanings of fields of base classes."""
    top, _ = _top(schema)
    lines = [*SEARCH, f"# {kind}", ""]
    for name, part in schema["$defs"].items():
        if "properties" not in part:
            continue
        text, own = described(part)
        meanings = {**(inherited or {}).get(name, {}), **own}
        if name == top:
            lines += [
                prose(text),
                "",
                f"As [JSON Schema]({kind}.schema.json); {code(f'sslcurr schema {kind}')} prints it.",
            ]
        else:
            lines += [f"## {name}", "", prose(text)]
        required = part.get("required", ())
        rows = [
            (
                code(field),
                type_of(each) + ("" if field in required else ", optional"),
                prose(re.sub(r"\bNone\b", "null", meanings.get(field, ""))),
            )
            for field, each in part["properties"].items()
        ]
        lines += ["", *table(["field", "type", "meaning"], rows), ""]
    return "\n".join(lines).rstrip() + "\n"


def _top(schema: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    name = str(schema["$ref"]).rpartition("/")[2]
    return name, schema["$defs"][name]


def described(part: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """The text of a class's docstring, and what it says of each field under `Attributes:`."""
    text: list[str] = []
    meanings: dict[str, str] = {}
    section, names = "", [""]
    for line in inspect.cleandoc(part.get("description") or "").splitlines():
        if match := SECTION.match(line):
            section = match[1]
        elif not section:
            text.append(line)
        elif section == "Attributes" and (match := FIELDS.match(line)):
            names = match[1].split(", ")
            meanings |= dict.fromkeys(names, line[match.end() :].strip())
        elif section == "Attributes" and line.strip():
            meanings |= {name: f"{meanings[name]} {line.strip()}" for name in names if name in meanings}
    return " ".join(" ".join(text).split()), meanings


def type_of(field: Mapping[str, Any]) -> str:
    """The type of a field, as markup; a part of the document is a link to its table."""
    if "$ref" in field:
        name = str(field["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(type_of(each) for each in field["anyOf"])
    if "enum" in field:
        return " or ".join(code(json.dumps(each)) for each in field["enum"])
    kind = field.get("type")
    if kind == "array":
        parts = field.get("prefixItems")
        if parts:
            return f"[{', '.join(type_of(each) for each in parts)}]".replace("[", "&#91;", 1)
        return f"list of {type_of(field['items'])}" if field.get("items") else "list"
    if kind == "object":
        inner = field.get("additionalProperties")
        return f"object of {type_of(inner)}" if isinstance(inner, dict) and inner else "object"
    return escaped({"null": "null", "boolean": "true or false"}.get(str(kind), str(kind))) if kind else "any"
