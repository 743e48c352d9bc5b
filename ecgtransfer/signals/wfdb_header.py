"""Read WFDB headers: strictly where samples depend on them, tolerant of flaws in form.

A missing sampling rate, gain, unit or lead is an error and is never guessed. Flaws that do not
affect the samples are repaired in memory and reported: a record name with its extension or of
another file, an invalid date, spaces around the gain, a signal file renamed with its header.
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

#: Plausible sampling rates of a 12-lead ECG. Below 50 Hz a QRS complex of 80 ms is four samples; no
#: recorder samples above 32 kHz.
SLOWEST_HZ, FASTEST_HZ = 50, 32_000

#: Largest header that is read; real ones have a few kilobytes, also with many segments.
LARGEST_HEADER_BYTES = 16_000_000

#: Longest file name on common file systems, in bytes.
LONGEST_NAME_BYTES = 255

#: Extensions of signal files.
SIGNAL_SUFFIXES = frozenset({".dat", ".mat"})

#: `record/segments leads rate samples time date`, without the name.
_COUNTS = r"(?:/(?P<segments>\d{1,9}))?[ \t]+(?P<leads>\d{1,9})(?:[ \t]+(?P<rest>\S.*))?"
_RECORD = re.compile(r"(?P<name>[-\w]+)" + _COUNTS)
_ODD_RECORD = re.compile(r"(?P<name>\S+?)" + _COUNTS)
_AFTER_NAME = re.compile(r"(?P<extension>\.\w+)?" + _COUNTS)
_RATE = re.compile(r"(?P<rate>\d{1,9}\.?\d{0,9}|\.\d{1,9})(?:/\S*|\(\S*)?")
_SAMPLES = re.compile(r"\d{1,15}")

#: `05-Feb-2020`, `11:39:16.5`, `11:39`: may follow the rate if the number of samples is missing.
_DATE_OR_TIME = re.compile(
    r"\d{1,4}(?:[-/.:](?:\d{1,6}|[A-Za-z]{3,9})){2,3}|\d{1,2}:\d{1,2}", re.ASCII
)

#: What `wfdb` accepts as time and date, however incomplete; it rejects anything else.
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

#: Spaces that should not be there: around the parts of a format and of a gain.
_LOOSE_FORMAT = re.compile(r"^(\d+)[ \t]*([x:+])[ \t]*(\d+)(?=[ \t]|$)")
_LOOSE_GAIN = re.compile(
    r"^(?P<gain>-?[\d.]+)[ \t]*(?P<baseline>\([ \t]*-?\d+[ \t]*\))?[ \t]*/[ \t]*(?=\S)"
)


@dataclass(frozen=True)
class SignalLine:
    """Content of the header line of one lead; `storage` is the format of its samples."""

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
    """Content of the header of a recording.

    Attributes:
        path: path of the header file.
        sampling_rate_hz: samples per second.
        n_samples: samples per lead; None if the header does not state it.
        signals: one line for each of the twelve leads; empty for a record of several segments.
        segments: name and samples of each segment; empty for a record of one segment.
        comments: comment lines without `#` and surrounding spaces.
        repairs: flaws that were repaired or ignored, in words.
    """

    path: Path
    sampling_rate_hz: float
    n_samples: int | None
    signals: tuple[SignalLine, ...]
    segments: tuple[tuple[str, int], ...]
    comments: tuple[str, ...]
    repairs: tuple[str, ...]


def read_header(path: str | os.PathLike[str]) -> WfdbHeader:
    """Read the header of a WFDB record.

    Args:
        path: path of the record without extension.

    Raises:
        SignalError: the header is missing or malformed; the sampling rate is missing or
            impossible; there are no samples, or other numbers of leads or segments than the first
            line states; or a lead has no gain and unit, several samples per frame, or skew. The
            message names the path.
    """
    record = Path(path)
    repairs: list[str] = []
    lines, comments = _lines(record, repairs)
    header = beside(record, ".hea")
    counts = _first_line(record.name, lines[0], repairs) if lines else None
    if counts is None:
        raise SignalError(
            f"{header}: expected a WFDB header that begins with 'name leads rate samples', got "
            f"{lines[0][:60] if lines else 'an empty file'!r}; fetch or export the record again"
        )
    rate, n_samples = _rate_and_samples(header, lines[0], counts["rest"] or "", repairs)
    signals: tuple[SignalLine, ...] = ()
    segments: tuple[tuple[str, int], ...] = ()
    if counts["segments"]:
        segments = _segments(header, lines[1:], int(counts["segments"]))
    else:
        stated = [_signal_line(header, record, line, repairs) for line in lines[1:]]
        if len(stated) != int(counts["leads"]):
            raise SignalError(
                f"{header}: expected one line for each of the {counts['leads']} leads that the "
                f"first line states, got {len(stated)} lines; fetch or export the record again"
            )
        signals = _found_files(record, stated, repairs)
    if n_samples == 0 and not all(signal.file_name == "~" for signal in signals):
        raise SignalError(f"{header}: expected samples, got a record of length 0; exclude it")
    unique = tuple(dict.fromkeys(repairs))
    return WfdbHeader(header, rate, n_samples, signals, segments, comments, unique)


def read_comments(path: str | os.PathLike[str]) -> list[str]:
    """Read the comment lines of a WFDB header: ["Age: 74", "Dx: RBBB"].

    `#` and surrounding spaces are removed.

    Args:
        path: path of the record without extension.

    Raises:
        SignalError: the header is missing or unreadable.
    """
    return list(_lines(Path(path), [])[1])


def beside(record: Path, suffix: str) -> Path:
    """Path of a file of a record; unlike `with_suffix`, it keeps dots in the record's name."""
    return record.with_name(record.name + suffix)


def check_rate(path: Path, rate: float) -> None:
    """Raise for a sampling rate that no 12-lead ECG has."""
    if not SLOWEST_HZ <= rate <= FASTEST_HZ:
        raise SignalError(
            f"{path}: expected a sampling rate from {SLOWEST_HZ} to {FASTEST_HZ} Hz, got {rate:g} "
            "Hz; write the recorder's rate into the header"
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
    """Prefix a SignalError raised inside the block with the path of the file."""
    try:
        yield
    except SignalError as error:
        raise SignalError(f"{path}: {error}") from error


def _lines(record: Path, repairs: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Non-empty lines of a header, stripped, and its comments."""
    text = _text(record)
    clean = text.removeprefix("\ufeff").replace("\0", "")
    if clean != text:
        repairs.append("a byte order mark or null bytes")
    stripped = [line.strip() for line in re.split(r"[\r\n]+", clean)]
    lines = [line for line in stripped if line and not line.startswith("#")]
    comments = tuple(line.strip("# \t") for line in stripped if line.startswith("#"))
    return lines, comments


def _text(record: Path) -> str:
    """Text of a record's header; invalid UTF-8 in comments is replaced."""
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


def _first_line(stem: str, line: str, repairs: list[str]) -> "re.Match[str] | None":
    """Parse counts and rate in the first line, whatever the record name in it."""
    match = _RECORD.fullmatch(line)
    if match is not None:
        if match["name"] != stem:
            repairs.append(f"the record name {match['name']!r}, which is not the file's")
        return match
    if line.startswith(stem):
        match = _AFTER_NAME.fullmatch(line, len(stem))
        if match is not None:
            what = "with its extension" if match["extension"] else "with odd characters"
            repairs.append(f"the record name {line[: match.start('leads')].strip()!r} {what}")
            return match
    match = _ODD_RECORD.fullmatch(line)
    if match is not None:
        repairs.append(f"the record name {match['name'][:60]!r}")
    return match


def _rate_and_samples(
    header: Path, line: str, rest: str, repairs: list[str]
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
        repairs.append(f"the date or time {' '.join(words)[:40]!r}")
    return float(rate["rate"]), n_samples


def _is_date(text: str) -> bool:
    """Whether `wfdb` accepts a text as time and date, or ignores it."""
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


def _signal_line(header: Path, record: Path, line: str, repairs: list[str]) -> SignalLine:
    """Parse the header line of one lead."""
    name, rest = _file_name(header, record, line)
    tight = _LOOSE_FORMAT.sub(r"\1\2\3", rest)
    match = _SIGNAL.fullmatch(tight)
    calibration = None
    if match is not None:
        loose = match["rest"] or ""
        close = _LOOSE_GAIN.sub(_closed, loose)
        calibration = _CALIBRATION.fullmatch(close)
        if tight != rest or close != loose:
            repairs.append("blanks within a format or a gain")
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
    # Averaging the samples of a frame would silently change rate and band.
    if match["frame"] not in {None, "1"}:
        raise SignalError(
            f"{header}: expected one sample per frame, got {match['frame']} for lead {lead}; "
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
    """A gain without spaces between its parts."""
    return f"{match['gain']}{''.join((match['baseline'] or '').split())}/"


def _file_name(header: Path, record: Path, line: str) -> tuple[str, str]:
    """Name of the signal file in a line, and the rest of the line."""
    own = _EXTENSION.match(line, len(record.name)) if line.startswith(record.name) else None
    end = own.end() if own is not None else _WORD_END.search(line).start()  # type: ignore[union-attr]
    name, rest = line[:end], line[end:].strip()
    odd = name != "~" and (name.startswith(".") or re.search(r'[\\/:*?"<>|]', name))
    if odd or len(name.encode()) > LONGEST_NAME_BYTES:
        raise SignalError(
            f"{header}: expected the name of a signal file next to the header, got {name[:60]!r}; "
            "put the file next to its header and use its plain name"
        )
    return name, rest


def _found_files(
    record: Path, signals: list[SignalLine], repairs: list[str]
) -> tuple[SignalLine, ...]:
    """Replace file names by those of existing files, because a record may have been renamed."""
    existing: dict[str, str] = {}
    for name in dict.fromkeys(signal.file_name for signal in signals):
        own = beside(record, Path(name).suffix)
        renamed = name not in {"~", own.name} and not record.with_name(name).exists()
        if renamed and own.suffix in SIGNAL_SUFFIXES and own.is_file():
            existing[name] = own.name
            repairs.append(f"the signal file {name!r}, which is {own.name!r} here")
    return (
        tuple(
            replace(signal, file_name=existing.get(signal.file_name, signal.file_name))
            for signal in signals
        )
        if existing
        else tuple(signals)
    )
