"""What a WFDB header states, read strictly where it matters and mended where only its form is bad.

A rate, a gain, a unit or a lead that is not stated is refused and never guessed. What says nothing
about the samples is mended in memory and told: a record name with its extension or other than the
file's, a date that is none, blanks around the gain, a signal file that was renamed with its header.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ecgtransfer.errors import SignalError
from ecgtransfer.signals.leads import canonical_lead

#: Rates that a 12-lead ECG can have. Below 50 Hz a QRS complex of 80 ms is four samples; no
#: recorder samples above 32 kHz.
SLOWEST_HZ, FASTEST_HZ = 50, 32_000

#: A header is a few kilobytes; the longest of many segments stay far below this.
LARGEST_HEADER_BYTES = 16_000_000

#: Longest file name of the usual file systems.
LONGEST_NAME_BYTES = 255

#: Endings of signal files.
SIGNAL_SUFFIXES = frozenset({".dat", ".mat"})

#: `record/segments leads rate samples time date`, without the name.
_COUNTS = r"(?:/(?P<segments>\d{1,9}))?[ \t]+(?P<leads>\d{1,9})(?:[ \t]+(?P<rest>\S.*))?"
_RECORD = re.compile(r"(?P<name>[-\w]+)" + _COUNTS)
_ODD_RECORD = re.compile(r"(?P<name>\S+?)" + _COUNTS)
_AFTER_NAME = re.compile(r"(?P<extension>\.\w+)?" + _COUNTS)
_RATE = re.compile(r"(?P<rate>\d{1,9}\.?\d{0,9}|\.\d{1,9})(?:/\S*|\(\S*)?")
_SAMPLES = re.compile(r"\d{1,15}")

#: `05-Feb-2020`, `11:39:16.5`, `11:39`: what may follow the rate where the samples are not counted.
_DATE_OR_TIME = re.compile(
    r"\d{1,4}(?:[-/.:](?:\d{1,6}|[A-Za-z]{3,9})){2,3}|\d{1,2}:\d{1,2}", re.ASCII
)

#: What `wfdb` takes for time and date, however little they are; it refuses those that are none.
_TIME_AND_DATE = re.compile(
    r"(?P<time>\d{0,2}:?\d{0,2}:?\d{0,2}\.?\d{0,6})[ \t]*(?P<date>\d{0,2}/?\d{0,2}/?\d{0,4})"
)

#: `file format gain(baseline)/unit resolution zero first checksum block lead`.
_SIGNAL = re.compile(
    r"(?P<storage>\d{1,9})(?:x(?P<frame>\d{1,9}))?(?::(?P<skew>\d{1,9}))?"
    r"(?:\+(?P<offset>\d{1,9}))?(?:[ \t]+(?P<rest>\S.*))?"
)
_CALIBRATION = re.compile(
    r"(?P<gain>-?(?:\d{1,18}\.?\d{0,18}|\.\d{1,18})(?:[eE][-+]?\d{1,2})?)?"
    r"(?:\((?P<baseline>-?\d{1,18})\))?(?P<unit>/\S*)?(?=[ \t]|$)"
    r"(?:[ \t]+\d{1,18}(?=[ \t]|$))?"
    + "".join(
        rf"(?:[ \t]+(?P<{field}>-?\d{{1,18}})(?=[ \t]|$))?"
        for field in ("zero", "first", "checksum", "block")
    )
    + r"(?:[ \t]+(?P<lead>\S.*))?"
)
_SEGMENT = re.compile(r"(?P<name>[-.\w]+|~)[ \t]+(?P<samples>\d{1,15})(?:[ \t].*)?")

_EXTENSION, _WORD_END = re.compile(r"\.\w+(?=[ \t])"), re.compile(r"[ \t]|$")

#: Blanks that belong to no header: around the parts of a format and of a gain.
_LOOSE_FORMAT = re.compile(r"^(\d+)[ \t]*([x:+])[ \t]*(\d+)(?=[ \t]|$)")
_LOOSE_GAIN = re.compile(
    r"^(?P<gain>-?[\d.]+)[ \t]*(?P<baseline>\([ \t]*-?\d+[ \t]*\))?[ \t]*/[ \t]*(?=\S)"
)


@dataclass(frozen=True)
class SignalLine:
    """What the line of one lead states; `storage` is the format of its samples."""

    file_name: str
    storage: str
    offset_bytes: int
    gain: float
    baseline: int
    unit: str
    checksum: int | None
    lead: str


@dataclass(frozen=True)
class WfdbHeader:
    """What the header of a recording states.

    `signals` has a line for each of the twelve leads; a record of several segments has none, and
    `segments` with the name and the samples of each instead. `comments` are without `#` and blanks
    around. `mended` says, in words, what had to be mended or left aside.
    """

    path: Path
    sampling_rate_hz: float
    n_samples: int | None
    signals: tuple[SignalLine, ...]
    segments: tuple[tuple[str, int], ...]
    comments: tuple[str, ...]
    mended: tuple[str, ...]


def read_header(path: str | os.PathLike[str]) -> WfdbHeader:
    """Read the header of a WFDB record; `path` is the record without extension.

    Raises SignalError, in a sentence with the path, for: a missing header or one that is none; no
    or an impossible sampling rate; no samples; another number of leads or segments than the first
    line states; a lead without gain and unit, with several samples a frame or with skew.
    """
    record = Path(path)
    mended: list[str] = []
    lines, comments = _lines(record, mended)
    header = beside(record, ".hea")
    counts = _first_line(record.name, lines[0], mended) if lines else None
    if counts is None:
        raise SignalError(
            f"{header}: expected a WFDB header that begins with 'name leads rate samples', got "
            f"{lines[0][:60] if lines else 'an empty file'!r}; fetch or export the record again"
        )
    rate, n_samples = _rate_and_samples(header, lines[0], counts["rest"] or "", mended)
    signals: tuple[SignalLine, ...] = ()
    segments: tuple[tuple[str, int], ...] = ()
    if counts["segments"]:
        segments = _segments(header, lines[1:], int(counts["segments"]))
    else:
        stated = [_signal_line(header, record, line, mended) for line in lines[1:]]
        if len(stated) != int(counts["leads"]):
            raise SignalError(
                f"{header}: expected one line for each of the {counts['leads']} leads that the "
                f"first line states, got {len(stated)} lines; fetch or export the record again"
            )
        signals = _found_files(record, stated, mended)
    if n_samples == 0 and not all(signal.file_name == "~" for signal in signals):
        raise SignalError(f"{header}: expected samples, got a record of length 0; leave it out")
    unique = tuple(dict.fromkeys(mended))
    return WfdbHeader(header, rate, n_samples, signals, segments, comments, unique)


def read_comments(path: str | os.PathLike[str]) -> list[str]:
    """The comment lines of a WFDB header, without `#` and blanks around: ["Age: 74", "Dx: RBBB"].

    path: the record without extension. Raises SignalError for a missing or unreadable header.
    """
    return list(_lines(Path(path), [])[1])


def beside(record: Path, suffix: str) -> Path:
    """The file of a record; a record's name may hold dots, so that `with_suffix` would cut it."""
    return record.with_name(record.name + suffix)


def check_rate(path: Path, rate: float) -> None:
    """Refuse a rate that no 12-lead ECG has."""
    if not SLOWEST_HZ <= rate <= FASTEST_HZ:
        raise SignalError(
            f"{path}: expected a sampling rate from {SLOWEST_HZ} to {FASTEST_HZ} Hz, got {rate:g} "
            "Hz; state the recorder's rate"
        )


def is_lead(name: str) -> bool:
    """Whether a name is one of the twelve leads, in any spelling."""
    try:
        canonical_lead(name)
    except SignalError:
        return False
    return True


@contextmanager
def about(path: Path) -> Iterator[None]:
    """A SignalError raised inside says which file it is about."""
    try:
        yield
    except SignalError as error:
        raise SignalError(f"{path}: {error}") from error


def _lines(record: Path, mended: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Lines of a header without blanks around and without empty ones, and its comments."""
    text = _text(record)
    clean = text.removeprefix("\ufeff").replace("\0", "")
    if clean != text:
        mended.append("a byte order mark or null bytes")
    stripped = [line.strip() for line in re.split(r"[\r\n]+", clean)]
    lines = [line for line in stripped if line and not line.startswith("#")]
    comments = tuple(line.strip("# \t") for line in stripped if line.startswith("#"))
    return lines, comments


def _text(record: Path) -> str:
    """The text of a record's header; letters beyond UTF-8 in comments are replaced."""
    path = beside(record, ".hea")
    try:
        size = path.stat().st_size
        if size > LARGEST_HEADER_BYTES:
            raise SignalError(
                f"{path}: expected a WFDB header of a few kilobytes, got {size} bytes; "
                "fetch or export the record again"
            )
        return path.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        hint = "check the path"
        if record.suffix in {".hea", ".dat", ".mat"} and record.exists():
            hint = f"give the record without extension, {record.with_suffix('')}"
        raise SignalError(f"expected a WFDB header {path}, got no such file; {hint}") from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise SignalError(
            f"expected a readable WFDB header {path}, got {reason}; "
            "check the path and its permissions"
        ) from error


def _first_line(stem: str, line: str, mended: list[str]) -> "re.Match[str] | None":
    """Counts and rate of the first line, whatever it calls the record."""
    match = _RECORD.fullmatch(line)
    if match is not None:
        if match["name"] != stem:
            mended.append(f"the record name {match['name']!r}, which is not the file's")
        return match
    if line.startswith(stem):
        match = _AFTER_NAME.fullmatch(line, len(stem))
        if match is not None:
            what = "with its extension" if match["extension"] else "with odd characters"
            mended.append(f"the record name {line[: match.start('leads')].strip()!r} {what}")
            return match
    match = _ODD_RECORD.fullmatch(line)
    if match is not None:
        mended.append(f"the record name {match['name'][:60]!r}")
    return match


def _rate_and_samples(
    header: Path, line: str, rest: str, mended: list[str]
) -> tuple[float, int | None]:
    words = rest.split()
    rate = _RATE.fullmatch(words[0]) if words else None
    if rate is None:
        raise SignalError(
            f"{header}: expected a sampling rate after the number of leads, got {line[:60]!r}; "
            "write the recorder's rate into the header"
        )
    check_rate(header, float(rate["rate"]))
    n_samples = None
    if len(words) > 1 and _SAMPLES.fullmatch(words[1]):
        n_samples = int(words[1])
        words = words[2:]
    elif len(words) > 1 and not _DATE_OR_TIME.fullmatch(words[1]):
        raise SignalError(
            f"{header}: expected the number of samples after the sampling rate, got {line[:60]!r}; "
            "fetch or export the record again"
        )
    else:
        words = words[1:]
    if words and not _is_date(" ".join(words)):
        mended.append(f"the date or time {' '.join(words)[:40]!r}")
    return float(rate["rate"]), n_samples


def _is_date(text: str) -> bool:
    """Whether `wfdb` would take a text for time and date, or pass over it."""
    match = _TIME_AND_DATE.match(text)
    if match is None:
        return True
    time = match["time"]
    forms = ("%S", "%M:%S", "%H:%M:%S")
    form = forms[time.count(":")] + (".%f" if "." in time else "")
    try:
        if time:
            datetime.strptime(time, form)
        if match["date"]:
            datetime.strptime(match["date"], "%d/%m/%Y")
    except ValueError:
        return False
    return True


def _segments(header: Path, lines: list[str], stated: int) -> tuple[tuple[str, int], ...]:
    matches = [match for line in lines if (match := _SEGMENT.fullmatch(line)) is not None]
    if len(matches) != len(lines) or len(lines) != stated or not lines:
        raise SignalError(
            f"{header}: expected a line 'segment samples' for each of its {stated} segments, got "
            f"{len(matches)} such lines of {len(lines)}; fetch or export the record again"
        )
    return tuple((match["name"], int(match["samples"])) for match in matches)


def _signal_line(header: Path, record: Path, line: str, mended: list[str]) -> SignalLine:
    """One lead's line of a header."""
    name, rest = _file_name(header, record, line)
    tight = _LOOSE_FORMAT.sub(r"\1\2\3", rest)
    match = _SIGNAL.fullmatch(tight)
    calibration = None
    if match is not None:
        loose = match["rest"] or ""
        close = _LOOSE_GAIN.sub(_closed, loose)
        calibration = _CALIBRATION.fullmatch(close)
        if tight != rest or close != loose:
            mended.append("blanks within a format or a gain")
    if match is None or calibration is None:
        raise SignalError(
            f"{header}: expected a line 'file format gain(baseline)/unit ... lead', got "
            f"{line[:60]!r}; fetch or export the record again"
        )
    lead = (calibration["lead"] or "").strip()
    gain, unit = float(calibration["gain"] or 0), calibration["unit"]
    if name != "~" and (gain == 0 or unit is None):
        raise SignalError(
            f"{header}: expected a gain and a unit, such as 1000/mV, for lead "
            f"{lead or '(no name)'}, got {line[:60]!r}, which is not calibrated; "
            "write the recorder's gain into the header"
        )
    # Averaging the samples of a frame would change rate and band in silence.
    if match["frame"] not in {None, "1"}:
        raise SignalError(
            f"{header}: expected one sample a frame, got {match['frame']} for lead {lead}; "
            "export the record at one rate for all leads"
        )
    if int(match["skew"] or 0):
        raise SignalError(
            f"{header}: expected leads without skew, got {match['skew']} samples for lead {lead}; "
            "export the record with its leads at the same time"
        )
    return SignalLine(
        file_name=name,
        storage=match["storage"],
        offset_bytes=int(match["offset"] or 0),
        gain=gain,
        baseline=int(calibration["baseline"] or calibration["zero"] or 0),
        unit=(unit or "")[1:],
        checksum=int(calibration["checksum"]) & 0xFFFF if calibration["checksum"] else None,
        lead=lead,
    )


def _closed(match: "re.Match[str]") -> str:
    """A gain without blanks between its parts."""
    return f"{match['gain']}{''.join((match['baseline'] or '').split())}/"


def _file_name(header: Path, record: Path, line: str) -> tuple[str, str]:
    """Name of the signal file of a line, and the rest of the line."""
    own = _EXTENSION.match(line, len(record.name)) if line.startswith(record.name) else None
    end = own.end() if own is not None else _WORD_END.search(line).start()  # type: ignore[union-attr]
    name, rest = line[:end], line[end:].strip()
    odd = name != "~" and (name.startswith(".") or re.search(r'[\\/:*?"<>|]', name))
    if odd or len(name.encode()) > LONGEST_NAME_BYTES:
        raise SignalError(
            f"{header}: expected the name of a signal file beside the header, got {name[:60]!r}; "
            "put the file beside its header, and its plain name into it"
        )
    return name, rest


def _found_files(
    record: Path, signals: list[SignalLine], mended: list[str]
) -> tuple[SignalLine, ...]:
    """The lines with the names that their files have here; a record may be renamed."""
    here: dict[str, str] = {}
    for name in dict.fromkeys(signal.file_name for signal in signals):
        own = beside(record, Path(name).suffix)
        renamed = name not in {"~", own.name} and not record.with_name(name).exists()
        if renamed and own.suffix in SIGNAL_SUFFIXES and own.is_file():
            here[name] = own.name
            mended.append(f"the signal file {name!r}, which is {own.name!r} here")
    return (
        tuple(
            replace(signal, file_name=here.get(signal.file_name, signal.file_name))
            for signal in signals
        )
        if here
        else tuple(signals)
    )
