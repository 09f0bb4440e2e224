"""The public Python API: which names a page has. Their text is of the docstrings, read by mkdocstrings."""

from __future__ import annotations

FOLDER = "reference/python"
# Page -> title, a sentence, and the objects that it shows.
PAGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "lab": (
        "Lab",
        "Every command is one call. [From Python](../../library.md) shows how they are used.",
        ("sslcurr.Lab",),
    ),
    "options": (
        "Options of the calls",
        "What the calls of [`Lab`](lab.md) take: the options of the commands, under the same names.",
        ("sslcurr.api.options",),
    ),
    "results": (
        "Results, weights, progress",
        "What the calls of [`Lab`](lab.md) return and tell. The fields of each kind of document are in"
        " [JSON documents](../documents/index.md).",
        ("sslcurr.Document", "sslcurr.load_result", "sslcurr.load_backbone", "sslcurr.Reporter"),
    ),
    "errors": (
        "Errors",
        "A mistake is one line, and what to do about it is in `hint`.",
        (
            "sslcurr.SslcurrError",
            "sslcurr.SpecError",
            "sslcurr.DataError",
            "sslcurr.StoreError",
            "sslcurr.CheckpointError",
            "sslcurr.TrainingError",
            "sslcurr.Interrupted",
        ),
    ),
    "extending": (
        "Tasks and data sets of your own",
        "What a plug-in defines, and the checks that it must pass: see [Plug-ins](../../plugins.md).",
        ("sslcurr.Task", "sslcurr.Source", "sslcurr.testing.check_task"),
    ),
}


def pages() -> dict[str, str]:
    """Path in the site -> Markdown with the directives of mkdocstrings."""
    rows = [
        f"- [{title}]({name}.md): {', '.join(f'`{each}`' for each in names)}"
        for name, (title, _, names) in PAGES.items()
    ]
    found = {
        f"{FOLDER}/index.md": "\n".join(["# Python API", "", "Made of the docstrings of the package.", "", *rows, ""])
    }
    for name, (title, sentence, objects) in PAGES.items():
        blocks = [f"::: {each}\n" for each in objects]
        found[f"{FOLDER}/{name}.md"] = "\n".join([f"# {title}\n", f"{sentence}\n", *blocks])
    return found
