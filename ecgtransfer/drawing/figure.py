"""A figure: an SVG drawing, its description in words, and the colours of the page."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

from ecgtransfer.errors import ConfigError

#: Colours by name, (light, dark). Text colours have a contrast of at least 4.5 against `page`,
#: `well` and their own `-back` (WCAG 2.2, 1.4.3). The series use the hues of Okabe and Ito (2008),
#: which colour-blind readers can distinguish, darkened for light and lightened for dark pages.
PALETTE: Mapping[str, tuple[str, str]] = {
    "page": ("#fdfdfb", "#15191c"),
    "well": ("#f3f4f1", "#1d2327"),
    "ink": ("#1b2227", "#e7eaeb"),
    "muted": ("#525d66", "#a7b1b8"),
    "rule": ("#d5dadc", "#384147"),
    "strong-rule": ("#7b868d", "#7d888f"),
    "accent": ("#0a5678", "#7fc3e6"),
    "pass": ("#00614a", "#5fd0ab"),
    "pass-back": ("#e7f3ee", "#14302a"),
    "fail": ("#9a3200", "#ff9c6b"),
    "fail-back": ("#fbece5", "#3b2116"),
    "open": ("#4a555e", "#b4bec5"),
    "open-back": ("#eef0f0", "#252c31"),
    "series-1": ("#0068a3", "#58b6ea"),
    "series-2": ("#b84a00", "#f28d45"),
    "series-3": ("#00523e", "#7be6c4"),
    "series-4": ("#9c3f77", "#df9fc5"),
    "series-5": ("#7a5b00", "#e3ba52"),
    "series-6": ("#4d4d4d", "#c4c4c4"),
    "paper": ("#fffafa", "#1c1718"),
    "paper-1-mm": ("#f7d6d6", "#3a2729"),
    "paper-5-mm": ("#ea9c9c", "#724548"),
    "paper-ink": ("#16161d", "#f3eeeb"),
    "paper-mark": ("#a6001c", "#ff8a8f"),
}

#: Allowed SVG elements; none of them can run or load anything or style the page around it.
_SVG_TAGS = frozenset(
    {"svg", "g", "path", "line", "polyline", "polygon", "rect", "circle", "ellipse", "text"}
)
#: Forbidden attributes: links, styles (which the page's policy would block), and ids (which two
#: drawings could share).
_SVG_FORBIDDEN = frozenset({"href", "style", "id"})


@dataclass(frozen=True)
class Figure:
    """A drawing and its description in words.

    Attributes:
        title: shown above the drawing.
        svg: one `<svg>` element with a viewBox, with colours of `PALETTE` as `var(--ink)`.
        alt: message and numbers of the drawing, for readers who cannot see it.
        caption: shown below the drawing.
        narrow: a second drawing for phones, for which the first would be too wide.

    Raises:
        ConfigError: `alt` is empty, or an SVG is malformed or could run or load something.
    """

    title: str
    svg: str = field(repr=False)
    alt: str
    caption: str = ""
    narrow: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise ConfigError(
                f"expected a description of figure {self.title!r}, got none; state its message and "
                "numbers in alt"
            )
        for svg in (self.svg, self.narrow) if self.narrow else (self.svg,):
            _check_svg(svg, self.title)

    def to_dict(self) -> dict[str, object]:
        """Title, alternative text and caption for JSON; without the drawing."""
        return {"title": self.title, "alt": self.alt, "caption": self.caption}


def css_colour(name: str) -> str:
    """A colour of the page for SVG, with its light value as fallback outside a page."""
    return name if name == "none" else f"var(--{name},{PALETTE[name][0]})"


def escaped(text: str) -> str:
    """Escape text for XML, and drop control characters that XML does not allow."""
    return escape("".join(letter for letter in text if letter.isprintable()))


def _check_svg(svg: str, title: str) -> None:
    """Check that `svg` is one well-formed drawing that cannot run or load anything.

    Raises:
        ConfigError: it is not.
    """
    try:
        if "<!" in svg or "<?" in svg:
            raise ElementTree.ParseError("it declares something or has comments")
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as error:
        raise ConfigError(
            f"expected one <svg> element in figure {title!r}, got other text ({error}); pass the "
            "element alone"
        ) from None
    for element in root.iter():
        tag = element.tag.rpartition("}")[2]
        names = {name.rpartition("}")[2].casefold() for name in element.attrib}
        unsafe = {name for name in names if name.startswith("on") or name in _SVG_FORBIDDEN}
        if tag not in _SVG_TAGS or unsafe or any("url(" in v for v in element.attrib.values()):
            raise ConfigError(
                f"expected a drawing that runs and loads nothing in figure {title!r}, got "
                f"<{tag}> with {', '.join(sorted(names)) or 'no attributes'}; draw it with "
                f"{', '.join(sorted(_SVG_TAGS))}, without {' or '.join(sorted(_SVG_FORBIDDEN))}"
            )
    if root.tag.rpartition("}")[2] != "svg" or not root.get("viewBox"):
        raise ConfigError(
            f"expected an <svg> element with a viewBox in figure {title!r}, got <{root.tag}>; "
            "pass the drawing itself"
        )
