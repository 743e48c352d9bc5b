"""A report as one self-contained HTML page, and its numbers as JSON.

A report consists of sections with verdicts, tables, figures and paragraphs; it does not depend on
what they measure. The page loads nothing, needs JavaScript only to sort tables, and follows the
reader's light or dark scheme; a print is always light.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from ecgtransfer.drawing.figure import PALETTE, Figure
from ecgtransfer.drawing.plain import plain
from ecgtransfer.drawing.table import Table, table_view
from ecgtransfer.errors import ConfigError
from ecgtransfer.statistics import Outcome, Verdict
from ecgtransfer.storage import atomic_file, make_folder

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

#: File names of a report in its folder.
PAGE_NAME, NUMBERS_NAME = "report.html", "report.json"

#: Ids that the page uses itself.
OWN_IDS = frozenset({"main", "verdicts", "methods", "settings", "licences", "limits"})

_ID = re.compile(r"[a-z][a-z0-9-]*")
_URL = re.compile(r"https?://[^\s<>\"]*[^\s<>\".,;:!?)\]]")

OUTCOME_WORDS: Mapping[Outcome, str] = {
    "pass": "Pass",
    "partial": "Pass in part",
    "fail": "Fail",
    "open": "Undecided",
}


#: Parts of a section, in order; a string is a paragraph, in which URLs become links.
Content = tuple[Table | Figure | str, ...]


@dataclass(frozen=True)
class Section:
    """A section of a report: a question, verdicts on it, and the evidence.

    A section with verdicts has a card at the top of the page. Put a remark into the body, not among
    the verdicts: an undecided verdict turns "Pass" into "Pass in part".

    Attributes:
        id: HTML id.
        title: heading.
        question: the question that the section answers.
        verdicts: conclusions.
        body: tables, figures and paragraphs.

    Raises:
        ConfigError: the id is not a lower-case word, or is used by the page itself.
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
        """Fail if a verdict fails; pass if all pass; partial if some pass and others are open."""
        found = {verdict.passed for verdict in self.verdicts}
        if False in found:
            return "fail"
        if True in found:
            return "partial" if None in found else "pass"
        return "open"

    def to_dict(self) -> dict[str, object]:
        """Convert to plain values for JSON."""
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
    """Content of a page, in order.

    Attributes:
        title: title of the page.
        subtitle: shown below it.
        made_on: the date, as printed.
        sections: each with verdicts, figures, tables and paragraphs.
        methods: how the records were generated.
        settings: names and values, possibly nested.
        licences: licences of the data, with citations.
        limits: what the report cannot show.

    Raises:
        ConfigError: there is no title, or two sections have the same id.
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
                "expected a title and one id for each section, got "
                + (f"the id {twice[0]!r} twice" if twice else "no title")
                + "; name each part"
            )

    def to_dict(self) -> dict[str, object]:
        """Convert to plain values for JSON: verdicts, tables, settings, texts of figures."""
        return {
            "title": self.title,
            "subtitle": self.subtitle,
            "made_on": self.made_on,
            "sections": [section.to_dict() for section in self.sections],
            "settings": plain(self.settings),
        }


def write_report(report: Report, numbers: Mapping[str, object], folder: Path) -> Path:
    """Write `report.html` and `report.json` into a folder; return the path of the page.

    Both files are complete on disk before either replaces an older one.

    Args:
        report: content of the page.
        numbers: every number behind the report, as in `report_json`.
        folder: created if missing.

    Raises:
        StorageError: the files cannot be written.
        ConfigError: as in `report_json`.
    """
    written = {
        PAGE_NAME: render_report(report),
        NUMBERS_NAME: report_json(report, numbers),
    }
    make_folder(folder)
    with ExitStack() as both:
        for name, text in written.items():
            partial = both.enter_context(atomic_file(folder / name))
            partial.write_text(text, encoding="utf-8", newline="\n")
    return folder / PAGE_NAME


def report_json(report: Report, numbers: Mapping[str, object]) -> str:
    """Format the report and the numbers behind it as sorted JSON; NaN and infinity become null.

    Raises:
        ConfigError: `plain` cannot convert a value.
    """
    content = {"report": report.to_dict(), "numbers": plain(numbers)}
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def render_report(report: Report) -> str:
    """Render the page as one HTML document that loads nothing and runs only its own script."""
    template = files("ecgtransfer.drawing").joinpath("report.html.j2")
    rendered = _environment().from_string(template.read_text(encoding="utf-8"))
    return rendered.render(
        report=report,
        judged=[section for section in report.sections if section.verdicts],
        words=OUTCOME_WORDS,
        palette=PALETTE,
        settings=list(_flattened(report.settings)),
        numbers_name=NUMBERS_NAME,
    )


def _flattened(settings: Mapping[str, object], above: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names with their values as text."""
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
    """Jinja with autoescape and the filters of the template."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["drawing"] = Markup  # checked by Figure on construction
    environment.filters["view"] = table_view
    environment.filters["linked"] = _linked
    environment.filters["csp_hash"] = _csp_hash
    environment.tests["table"] = lambda part: isinstance(part, Table)
    environment.tests["figure"] = lambda part: isinstance(part, Figure)
    return environment


def _linked(text: str) -> "Markup":
    """Escape text and turn each http(s) URL into a link."""
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
    """The Content-Security-Policy source that allows exactly this script or style."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
