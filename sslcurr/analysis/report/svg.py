"""SVG inside an HTML page, and sparklines."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence

SVG = "{http://www.w3.org/2000/svg}"


LINK = "{http://www.w3.org/1999/xlink}href"


# Characters that no XML may hold, and a name of a class may.
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


# Every text of a figure names the same fonts, at length; once is enough.
FONTS = re.compile(r"font-family: [^;]*;? ?")


BLACK = re.compile(r"#000000\b|(?<=: )black\b")


def inline_svg(text: str, prefix: str, title: str) -> str:
    """An SVG file of matplotlib's as an element of a page: its ids begin with `prefix`, black is the text's colour.

    What may not be in a page (scripts, styles for everything, links elsewhere) is left out. Numbers on coloured cells
    are of a colour that is not quite black, so that they stay dark where the page is dark, too.
    """
    root = ElementTree.fromstring(FORBIDDEN.sub("", text))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.removeprefix(SVG) in ("metadata", "style", "script", "foreignObject", "title"):
                parent.remove(child)
    papers = {
        id(path)
        for group in root.iter(f"{SVG}g")
        if re.fullmatch(r"patch_\d+", group.get("id", ""))
        for path in group.findall(f"{SVG}path")
        if re.search(r"fill: #ffffff", path.get("style", "")) and "stroke: #" not in path.get("style", "")
    }
    # What nothing points at needs no id; several marks of a chart may have the same.
    pointed_at = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    for element in root.iter():
        name = element.tag.removeprefix(SVG)
        element.tag = name
        for key, value in list(element.attrib.items()):
            if key == LINK or key == "href":
                del element.attrib[key]
                if value.startswith("#"):
                    element.set("href", f"#{prefix}{value[1:]}")
                elif value.startswith("data:image/png;base64,"):
                    element.set("href", value)
                continue
            if key.startswith(("on", "{")):
                del element.attrib[key]
                continue
            if key == "id":
                if value not in pointed_at:
                    del element.attrib[key]
                    continue
                pointed_at.remove(value)
                value = prefix + value
            value = re.sub(r"url\(#", f"url(#{prefix}", value)
            if key in ("style", "fill", "stroke"):
                value = FONTS.sub("", BLACK.sub("currentColor", value))
                if id(element) in papers:
                    value = value.replace("fill: #ffffff", "fill: none")
                elif name != "text":
                    value = value.replace("#ffffff", "var(--paper)")
            element.set(key, value)
    _, _, width, height = (float(part) for part in root.get("viewBox", "0 0 400 300").split())
    for key in ("version", "width", "height"):
        root.attrib.pop(key, None)
    # Points to pixels; a page narrower than that shrinks it.
    root.attrib |= {"width": f"{width * 4 / 3:.0f}", "height": f"{height * 4 / 3:.0f}", "fill": "currentColor"}
    root.attrib |= {"font-family": "'DejaVu Sans', Verdana, sans-serif", "role": "img", "aria-label": title}
    return ElementTree.tostring(root, encoding="unicode")


def sparkline(points: Sequence[Sequence[float]]) -> str:
    """A small curve of the loss."""
    if len(points) < 2:
        return ""
    (first, last), losses = (points[0][0], points[-1][0]), [loss for _, loss in points]
    low, high = min(losses), max(losses)

    def places() -> Iterator[str]:
        for step, loss in points:
            x = 118 * (step - first) / ((last - first) or 1) + 1
            yield f"{x:.1f},{23 - 22 * (loss - low) / ((high - low) or 1):.1f}"

    label = f"from {losses[0]:.3g} to {losses[-1]:.3g}, lowest {low:.3g}"
    return (
        f'<svg class="spark" viewBox="0 0 120 24" role="img" aria-label="{label}">'
        f'<polyline points="{" ".join(places())}"/></svg>'
    )
