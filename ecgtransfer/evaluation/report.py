"""What an evaluation report says, and its one self-contained HTML page beside its numbers in JSON.

The model of a report knows no measure: verdicts, tables, figures (`report_figures`) and words, in
sections. The page loads nothing, needs JavaScript for the sorting of tables alone, and takes light
or dark from the reader's system; printing is always light.
"""

import base64
import hashlib
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.resources import files
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np

from ecgtransfer.errors import ConfigError
from ecgtransfer.statistics import (
    Outcome,
    Verdict,
)
from ecgtransfer.storage import atomic_file, make_folder

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

#: Colours by name, (light, dark). Text colours have a contrast of at least 4.5 against `page`,
#: `well` and their own `-back` (WCAG 2.2, 1.4.3). The series are the hues of Okabe and Ito (2008),
#: which colour-blind readers tell apart, darkened for light paper and lightened for dark.
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

#: Files of a report in its folder.
PAGE_NAME, NUMBERS_NAME = "report.html", "report.json"

#: Ids that the page gives to its own parts.
OWN_IDS = frozenset({"main", "verdicts", "methods", "settings", "licences", "limits"})

#: Letters that stand side by side on a sheet of A4: in a table of normal size; in a smaller one
#: with intervals below their numbers; in the smallest, which breaks intervals too. A table of still
#: more is crowded: it breaks words. A screen of 1,400 pixels holds about as much.
SHEET_LETTERS = {"": 94.0, "wide": 106.0, "widest": 124.0}
#: Letters of room beside a column; the letters that words keep before they break.
COLUMN_GAP, KEPT_LETTERS = 1.5, 22

#: On a screen the names of rows have room for so many letters before they break.
LONG_NAME = 18

#: Decimals of a column follow its largest number: four digits in front and behind the point, at
#: most three behind it (a score, a share), and three that count where all are small. Where one
#: cell is so many times larger than another, each has its own.
SMALL_NUMBER, TINY_NUMBER, LARGEST_RATIO = 1e-2, 1e-4, 100.0

_ID = re.compile(r"[a-z][a-z0-9-]*")
_URL = re.compile(r"https?://[^\s<>\"]*[^\s<>\".,;:!?)\]]")
#: A number at the start of a string, alone or before its interval, a per cent sign or a word.
_LEADING_NUMBER = re.compile(
    r"(?P<number>[+\-−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?)"
    r"(?P<rest>\s*%?(?:\s+\[[^\]]*\])?(?:\s+[^\d\s].*)?)"
)
#: What a drawing is made of: nothing here runs, loads or styles the page around it.
_SVG_TAGS = frozenset(
    {"svg", "g", "path", "line", "polyline", "polygon", "rect", "circle", "ellipse", "text"}
)
#: A link, a style that the page's policy would block, a name that two drawings could share.
_SVG_FORBIDDEN = frozenset({"href", "style", "id"})


@runtime_checkable
class Interval(Protocol):
    """A number with its interval, such as an `Estimate`."""

    @property
    def value(self) -> float:
        """The number itself."""

    @property
    def low(self) -> float:
        """Lower end of the interval."""

    @property
    def high(self) -> float:
        """Upper end of the interval."""


#: What a cell of a table may hold; None, and a number that is not finite, is "no value".
Cell = str | int | float | None | Interval

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

OUTCOME_WORDS: Mapping[Outcome, str] = {
    "pass": "Pass",
    "partial": "Pass in part",
    "fail": "Fail",
    "open": "Undecided",
}


@dataclass(frozen=True)
class Table:
    """Rows of cells below a header; the first column names its row.

    Numbers of one column get the same number of decimals. Strings that begin with a number, such
    as `str(Estimate)`, "78 %" or "1,204 records", are sorted by it where all of a column do.

    Raises ConfigError, at birth, for no column, a row of another length, or a cell that is none.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    sortable: bool = True

    def __post_init__(self) -> None:
        if not self.header:
            raise ConfigError(f"expected columns in table {self.title!r}, got none; name them")
        for number, row in enumerate(self.rows):
            if len(row) != len(self.header):
                raise ConfigError(
                    f"expected {len(self.header)} cells in row {number} of table {self.title!r}, "
                    f"got {len(row)}; give None where there is no value"
                )
            for cell in row:
                if cell is not None and not isinstance(cell, str | Real | np.bool_ | Interval):
                    raise ConfigError(
                        f"expected text, a number or an estimate in table {self.title!r}, got "
                        f"{type(cell).__name__}; write it as one of them"
                    )

    @classmethod
    def from_rows(
        cls, title: str, rows: Sequence[Sequence[Cell]], note: str = "", sortable: bool = True
    ) -> "Table":
        """From the `rows()` of a result, header first."""
        if not rows:
            raise ConfigError(f"expected a header in table {title!r}, got no row; pass it first")
        header, *cells = rows
        return cls(title, tuple(map(str, header)), tuple(map(tuple, cells)), note, sortable)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "title": self.title,
            "header": list(self.header),
            "rows": plain(self.rows),
            "note": self.note,
        }


@dataclass(frozen=True)
class Figure:
    """A drawing, and in words what it shows for those who do not see it.

    svg: one `<svg>` element with a viewBox, which may use the colours of `PALETTE` as `var(--ink)`.
    narrow: the same for a phone, where the other would have to be scrolled sideways.

    Raises ConfigError, at birth, where the words are missing, or the drawing is no SVG or holds
    what could run or load something.
    """

    title: str
    svg: str = field(repr=False)
    alt: str
    caption: str = ""
    narrow: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise ConfigError(
                f"expected words for those who do not see figure {self.title!r}, got none; state "
                "its message and numbers in alt"
            )
        for svg in (self.svg, self.narrow) if self.narrow else (self.svg,):
            _check_svg(svg, self.title)

    def to_dict(self) -> dict[str, object]:
        """Title and words, for JSON; without the drawing."""
        return {"title": self.title, "alt": self.alt, "caption": self.caption}


#: What a section holds, in order; a string is a paragraph, in which addresses become links.
Content = tuple[Table | Figure | str, ...]


@dataclass(frozen=True)
class Section:
    """One part of the report: its question, the verdicts on it, and what they rest on.

    A section with verdicts has a card at the top of the page. A remark that is no verdict belongs
    into the body: a verdict that is None makes "Pass in part" of a pass.

    Raises ConfigError, at birth, for an id that is no lower-case word or one of the page's own.
    """

    id: str
    title: str
    question: str = ""
    verdicts: tuple[Verdict, ...] = ()
    body: Content = ()

    def __post_init__(self) -> None:
        taken = self.id in OWN_IDS or self.id.endswith("-title")
        if taken or not _ID.fullmatch(self.id):
            raise ConfigError(
                f"expected a section id of lower-case letters, digits and hyphens that does not "
                f"end in -title and is none of {', '.join(sorted(OWN_IDS))}, got {self.id!r}; "
                "choose another"
            )

    @property
    def outcome(self) -> Outcome:
        """Fail if one verdict fails; pass if all pass, in part if others are open."""
        found = {verdict.passed for verdict in self.verdicts}
        if False in found:
            return "fail"
        if True in found:
            return "partial" if None in found else "pass"
        return "open"

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "id": self.id,
            "title": self.title,
            "question": self.question,
            "outcome": self.outcome if self.verdicts else None,
            "verdicts": [
                {"passed": verdict.passed, "sentence": verdict.sentence}
                for verdict in self.verdicts
            ],
            "tables": [part.to_dict() for part in self.body if isinstance(part, Table)],
            "figures": [part.to_dict() for part in self.body if isinstance(part, Figure)],
        }


@dataclass(frozen=True)
class Report:
    """All that a page says, in its order: verdicts, sections, methods, settings, licences, limits.

    made_on: the date, as it is to be read. settings: names and values, nested as they are.

    Raises ConfigError, at birth, for no title or two sections of one id.
    """

    title: str
    subtitle: str
    made_on: str
    sections: tuple[Section, ...]
    methods: Content = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    licences: Content = ()
    limits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ids = [section.id for section in self.sections]
        twice = sorted({each for each in ids if ids.count(each) > 1})
        if not self.title.strip() or twice:
            raise ConfigError(
                "expected a title and one id a section, got "
                + (f"the id {twice[0]!r} twice" if twice else "no title")
                + "; name each part"
            )

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON: verdicts, tables, settings; of figures the words."""
        return {
            "title": self.title,
            "subtitle": self.subtitle,
            "made_on": self.made_on,
            "sections": [section.to_dict() for section in self.sections],
            "settings": plain(self.settings),
        }


def write_report(report: Report, numbers: Mapping[str, object], folder: Path) -> Path:
    """Write `report.html` and `report.json` into a folder; returns the path of the page.

    numbers: every number behind the report, as `report_json` takes them. Both files are rendered
    before the first is written, and take the place of older ones when both are on the disk.

    Raises RunError where the disk does not take them, ConfigError as `report_json` does.
    """
    written = {
        PAGE_NAME: render_report(report),
        NUMBERS_NAME: report_json(report, numbers),
    }
    make_folder(folder)
    with ExitStack() as files_of_report:
        for name, text in written.items():
            partial = files_of_report.enter_context(atomic_file(folder / name))
            partial.write_text(text, encoding="utf-8", newline="\n")
    return folder / PAGE_NAME


def report_json(report: Report, numbers: Mapping[str, object]) -> str:
    """The report and the numbers behind it as sorted JSON; a number that is not finite is null.

    numbers may hold mappings, sequences, arrays, dates and paths, and whatever has a `to_dict()`.

    Raises ConfigError for anything else.
    """
    whole = {"report": report.to_dict(), "numbers": plain(numbers)}
    return json.dumps(whole, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def plain(value: object) -> object:
    """`value` as JSON has it: numbers that are not finite become None, an estimate its parts.

    Raises ConfigError for what is none of the kinds that `report_json` names.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    if callable(to_dict := getattr(value, "to_dict", None)):
        return plain(to_dict())
    if isinstance(value, Interval):
        return plain({"value": value.value, "low": value.low, "high": value.high})
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, Iterable):
        return [plain(each) for each in value]
    if isinstance(value, Path) or hasattr(value, "isoformat"):
        return str(value)
    raise ConfigError(
        f"expected numbers, text and what holds them in a report, got {type(value).__name__}; "
        "give it a to_dict()"
    )


def render_report(report: Report) -> str:
    """The page: one HTML document that loads nothing and runs no script but its own."""
    template = files("ecgtransfer.evaluation").joinpath("report.html.j2")
    rendered = _environment().from_string(template.read_text(encoding="utf-8"))
    return rendered.render(
        report=report,
        judged=[section for section in report.sections if section.verdicts],
        words=OUTCOME_WORDS,
        palette=PALETTE,
        settings=list(_flattened(report.settings)),
        numbers_name=NUMBERS_NAME,
    )


def decimals_for(values: Iterable[float]) -> int | None:
    """Decimals that numbers side by side should have; None where powers of ten read better."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest == 0 or SMALL_NUMBER <= largest < 1:
        return 3
    exponent = math.floor(math.log10(largest))
    if largest < SMALL_NUMBER:
        return 2 - exponent if largest >= TINY_NUMBER else None
    return max(3 - exponent, 0)


def number_text(value: float, decimals: int | None, *, signed: bool = False) -> str:
    """A number as it is printed: 1,204.5, −0.012, +0.3, 1.2 × 10⁻⁵, ∞."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    sign = "+" if signed else ""
    if decimals is not None:
        rounded = round(value, decimals) + 0.0  # never −0
        return f"{rounded:{sign},.{decimals}f}".replace("-", "−")
    mantissa, _, exponent = f"{value:{sign}.1e}".partition("e")
    power = str(int(exponent)).translate(SUPERSCRIPT)
    return "0" if value == 0 else f"{mantissa} × 10{power}".replace("-", "−")


class CellView(NamedTuple):
    """A cell on the page: its words, the interval behind them, and the number it is sorted by."""

    text: str
    interval: str = ""
    key: float | None = None
    missing: bool = False


class TableView(NamedTuple):
    """A table on the page: which columns are numeric, its cells, the classes of its shape."""

    numeric: tuple[bool, ...]
    rows: tuple[tuple[CellView, ...], ...]
    shape: str


def table_view(table: Table) -> TableView:
    """How a table is printed; a column is numeric when every value that it has begins with one."""
    columns = [_column([row[number] for row in table.rows]) for number in range(len(table.header))]
    numeric = tuple(
        any(cell.key is not None for cell in column)
        and all(cell.key is not None or cell.missing for cell in column)
        for column in columns
    )
    named = max((len(cell.text) for cell in columns[0]), default=0)
    shape = [_breadth(table.header, columns, numeric), "long-names" if named > LONG_NAME else ""]
    return TableView(numeric, tuple(zip(*columns, strict=True)), " ".join(filter(None, shape)))


def _breadth(
    header: Sequence[str], columns: Sequence[Sequence[CellView]], numeric: Sequence[bool]
) -> str:
    """How small a table has to be set so that a sheet of paper holds it: a class of the page."""
    needed = dict.fromkeys(SHEET_LETTERS, COLUMN_GAP * len(header))
    for name, column, is_numeric in zip(header, columns, numeric, strict=True):
        word = _longest_word(name)
        if is_numeric:
            pairs = [(len(cell.text), len(cell.interval)) for cell in column]
            abreast = max(text + interval + (interval > 0) for text, interval in pairs)
            below = max(max(pair) for pair in pairs)
            broken = max(max(text, (interval + 1) // 2) for text, interval in pairs)
        else:
            abreast = min(max((len(cell.text) for cell in column), default=0), KEPT_LETTERS)
            below = broken = max((_longest_word(cell.text) for cell in column), default=0)
        for breadth, letters in zip(SHEET_LETTERS, (abreast, below, broken), strict=True):
            needed[breadth] += max(word, letters)
    fitting = (breadth for breadth, most in SHEET_LETTERS.items() if needed[breadth] <= most)
    return next(fitting, "widest crowded")


def _longest_word(text: str) -> int:
    return min(max(map(len, text.split()), default=0), KEPT_LETTERS)


def _column(cells: Sequence[Cell]) -> list[CellView]:
    """The cells of a column, with decimals in common unless their sizes are too far apart."""
    numbers = [_fractions(cell) for cell in cells]
    sizes = [size for each in numbers if (size := max(map(abs, each), default=0.0))]
    shared = decimals_for(sizes)
    if sizes and max(sizes) > LARGEST_RATIO * min(sizes):
        decimals = [decimals_for(each) for each in numbers]
    else:
        decimals = [shared] * len(cells)
    views = [_cell(cell, digits) for cell, digits in zip(cells, decimals, strict=True)]
    if all(view.key is not None or view.missing for view in views):
        return views
    texts = [isinstance(cell, str) for cell in cells]
    return [
        view._replace(key=None) if text else view for view, text in zip(views, texts, strict=True)
    ]


def _fractions(cell: Cell) -> list[float]:
    """The numbers of a cell that decimals are chosen for: not counts, and not text."""
    if isinstance(cell, Interval):
        numbers = [float(cell.value), float(cell.low), float(cell.high)]
    else:
        fraction = isinstance(cell, Real) and not isinstance(cell, Integral)
        numbers = [float(cell)] if fraction and not isinstance(cell, str) and cell else []
    return [number for number in numbers if math.isfinite(number)]


def _cell(cell: Cell, decimals: int | None) -> CellView:
    if isinstance(cell, Interval):
        whole = _cell(float(cell.value), decimals)
        ends = ", ".join(number_text(float(end), decimals) for end in (cell.low, cell.high))
        return whole if whole.missing else whole._replace(interval=f"[{ends}]")
    if isinstance(cell, bool | np.bool_):
        return CellView("yes" if cell else "no")
    if cell is None or cell == "" or (isinstance(cell, Real) and math.isnan(cell)):
        return CellView("–", missing=True)
    if isinstance(cell, str):
        if not (found := _LEADING_NUMBER.fullmatch(cell.strip())):
            return CellView(cell)
        text, bracket, interval = cell.strip().partition(" [")
        value = float(found["number"].replace(",", "").replace("−", "-"))
        return CellView(text, (bracket + interval).strip(), value)
    digits = 0 if isinstance(cell, Integral) else decimals
    return CellView(number_text(cell, digits), key=float(cell))


def _flattened(settings: Mapping[str, object], above: str = "") -> Iterator[tuple[str, str]]:
    """Names with dots, and values as they are read."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flattened(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", _setting(value)


def _setting(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(_setting(each) for each in value) or "–"
    return "–" if value is None else str(value) or "–"


def _environment() -> "Environment":
    """Jinja, escaping all that is not known to be markup, with the filters of the template."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["drawing"] = Markup  # each was checked at the birth of its figure
    environment.filters["view"] = table_view
    environment.filters["linked"] = _linked
    environment.filters["csp_hash"] = _csp_hash
    environment.tests["table"] = lambda part: isinstance(part, Table)
    environment.tests["figure"] = lambda part: isinstance(part, Figure)
    return environment


def _linked(text: str) -> "Markup":
    """Escaped text in which each http(s) address is a link."""
    from markupsafe import Markup, escape

    pieces = []
    end = 0
    for found in _URL.finditer(text):
        pieces += [
            escape(text[end : found.start()]),
            Markup('<a href="{0}" rel="noopener noreferrer">{0}</a>').format(found[0]),
        ]
        end = found.end()
    return Markup("").join([*pieces, escape(text[end:])])


def _csp_hash(text: str) -> str:
    """The source of a Content-Security-Policy that lets exactly this script, or style, in."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _check_svg(svg: str, title: str) -> None:
    """ConfigError unless `svg` is one well-formed drawing that runs and loads nothing."""
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
