"""A matplotlib figure as SVG inside a page: its text and colours are those of the page."""

import io
import re
import xml.etree.ElementTree as ET

import matplotlib

from adprune_keras.report import figures, panels

# The page's style sheet gives each of these a value for a light and one for a dark page.
_COLOURS = {
    **{colour.lower(): f"var(--net{n})" for n, colour in enumerate(figures.COLOURS)},
    **{
        "#000000": "currentColor",
        "#ffffff": "var(--card)",
        panels.GREY: "var(--muted)",
        panels.GRID: "var(--line)",
    },
}
_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"


def inline(figure, name, label, titles=None):
    """Return a figure as an `<svg>` element for an HTML page.

    No id in it is that of another figure, no style reaches beyond it, and it scales with its place.

    Args:
        figure: `matplotlib.figure.Figure`.
        name: str, a word that no other figure of the page has.
        label: str, what the figure shows, for those who do not see it.
        titles: `{gid of an artist: text}` to show where the pointer is on the artist.
    """
    file = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True)
    root = ET.fromstring(file.getvalue())
    _drop(root, "metadata", "style")
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib |= {
        "role": "img",
        "aria-label": label,
        "fill": "currentColor",
        "stroke-linejoin": "round",
    }
    for element in list(root.iter()):
        element.tag = element.tag.removeprefix(_SVG)
        gid = element.get("id")
        if gid in (titles or {}):
            title = ET.Element("title")
            title.text = titles[gid]
            element.insert(0, title)
        _tidy(element, name)
    used = {f"{name}-{id}" for element in root.iter() for id in _links(element, name)}
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)
    return ET.tostring(root, encoding="unicode")


def _drop(root, *names):
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.split("}")[-1] in names:
                parent.remove(child)


def _links(element, name):
    """The ids that an element refers to, without the name that stands before them."""
    return re.findall(
        rf"#{name}-([\w.-]+)", f"{element.get('href', '')[:99]} {element.get('clip-path', '')}"
    )


def _tidy(element, name):
    """Name an element's ids after the figure, its colours after the page's; drop fonts and digits."""
    element.text = element.text and element.text.strip()
    element.tail = None
    for key, value in list(element.attrib.items()):
        if key == "id":
            value = f"{name}-{value}"
        elif key == _LINK:
            del element.attrib[key]
            key, value = "href", re.sub("^#", f"#{name}-", value)
        elif key == "clip-path":
            value = value.replace("url(#", f"url(#{name}-")
        elif key in ("d", "x", "y"):
            value = re.sub(
                r"\d+\.\d+", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), value
            )
            value = value.replace(" \n", " ").replace("\n", " ").strip()
        elif key == "style":
            parts = [part for part in value.split("; ") if not part.startswith("font-family")]
            value = ";".join(parts)
            for colour, variable in _COLOURS.items():
                value = value.replace(f": {colour}", f": {variable}")
        element.set(key, value)
