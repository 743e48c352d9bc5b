"""Download a published file from the first mirror that has it, resuming partial downloads.

Bytes are collected in `NAME.part`; the file is renamed once it has the published SHA-256.
`requests` and urllib3 handle HTTP, including redirects, retries, back-off and `Retry-After`.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from ecgtransfer.corpus.fetching.checksums import PublishedFile, sha256_of
from ecgtransfer.storage import publish

if TYPE_CHECKING:
    import requests

#: Suffix of a file until it is complete and verified.
PART = ".part"

#: Timeouts in seconds: for connecting to a mirror, and between two pieces of a response.
CONNECT_S, STALL_S = 10.0, 30.0

#: How often a request is repeated, and how often after a timeout of `STALL_S`.
RETRIES, STALL_RETRIES = 5, 2

#: Back-off: pauses of 0, 1, 2, 4 and 8 s (urllib3 doubles this factor), and the longest pause that
#: a mirror may request (`Retry-After`).
BACKOFF_S, LONGEST_PAUSE_S = 0.5, 60.0

#: HTTP status codes after which a request is repeated.
_PASSING = (429, 500, 502, 503, 504)

#: How many responses in a row may end early without adding bytes to the file.
BROKEN_OFF = 4

#: After this many requests in a row without a response, a mirror is no longer used.
SILENT = 2

#: Largest number of bytes read from a connection at a time.
_PIECE_BYTES = 1 << 16

#: Example: `bytes 1000-23999/24000`
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


class Stopped(Exception):
    """The run was stopped; partial files stay on disk and can be resumed."""


class DownloadFailed(Exception):
    """No mirror delivered a file; the message gives the reason for each mirror.

    Attributes:
        other_bytes: whether a mirror delivered other bytes than published.
    """

    def __init__(self, message: str, other_bytes: bool) -> None:
        super().__init__(message)
        self.other_bytes = other_bytes


class _Unavailable(Exception):
    """A mirror does not deliver a file."""


class _BrokenOff(Exception):
    """A response ended early."""


@dataclass(eq=False)
class Mirror:
    """A mirror of the data set.

    Attributes:
        url: base address.
        silent: number of requests in a row without a response.
    """

    url: str
    silent: int = 0

    def __post_init__(self) -> None:
        self.url = self.url.rstrip("/") + "/"

    @property
    def host(self) -> str:
        """Host name, for messages."""
        return urlsplit(self.url).netloc

    @property
    def is_down(self) -> bool:
        """Whether the mirror is no longer used."""
        return self.silent >= SILENT

    def address(self, path: str) -> str:
        """Address of a published file."""
        return self.url + quote(path)


@dataclass(eq=False)
class Traffic:
    """State shared by the threads of a run: bytes received so far, and the stop event."""

    stop: threading.Event = field(default_factory=threading.Event)
    received_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def receive(self, count: int) -> None:
        """Add to the received bytes."""
        with self._lock:
            self.received_bytes += count

    def check(self) -> None:
        """Raise `Stopped` if the run was stopped."""
        if self.stop.is_set():
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Sleep; raise `Stopped` as soon as the run is stopped."""
        if self.stop.wait(seconds):
            raise Stopped


class Downloader:
    """Downloads files from mirrors in order of preference; each thread needs its own."""

    def __init__(self, mirrors: tuple[Mirror, ...], traffic: Traffic) -> None:
        self.mirrors = mirrors
        self.traffic = traffic
        self._session = _session(traffic)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def fetch(self, file: PublishedFile, folder: Path) -> None:
        """Download a file to its path below `folder`; only a verified file replaces an old one.

        Raises:
            DownloadFailed: no mirror delivers it.
            Stopped: the run was stopped.
            OSError: the disk refuses to write.
        """
        target = folder / file.path
        part = target.with_name(target.name + PART)
        target.parent.mkdir(parents=True, exist_ok=True)
        reasons, other_bytes = [], False
        for mirror in self.mirrors:
            try:
                if self._bring(mirror, file.path, part, file.sha256):
                    self.traffic.check()
                    publish(part, target)
                    return
                other_bytes = True
                reasons.append(f"{mirror.host}: other bytes than published")
            except _Unavailable as error:
                reasons.append(f"{mirror.host}: {error}")
        raise DownloadFailed("; ".join(reasons), other_bytes)

    def read(self, mirror: Mirror, path: str, part: Path) -> bytes:
        """Download a file without a known checksum and return its bytes.

        Args:
            mirror: mirror to use.
            path: path of the published file.
            part: file in which the bytes are collected.

        Raises:
            DownloadFailed: the mirror does not deliver it.
            Stopped: the run was stopped.
            OSError: the disk refuses to write.
        """
        part.unlink(missing_ok=True)
        try:
            self._complete(mirror, path, part, None)
            return part.read_bytes()
        except _Unavailable as error:
            raise DownloadFailed(f"{mirror.host}: {error}", other_bytes=False) from None
        finally:
            part.unlink(missing_ok=True)

    def _bring(self, mirror: Mirror, path: str, part: Path, sha256: str) -> bool:
        """Download to `part`; return whether the checksum matches, else delete `part`."""
        for _ in range(2):  # a file resumed from outdated bytes may be right when started over
            self._complete(mirror, path, part, sha256)
            if sha256_of(part) == sha256:
                return True
            part.unlink(missing_ok=True)
        return False

    def _complete(self, mirror: Mirror, path: str, part: Path, sha256: str | None) -> None:
        """Download `part` to its end, with as many requests as needed."""
        furthest, idle = _size(part), 0
        while not (sha256 and furthest and sha256_of(part) == sha256):
            self.traffic.check()
            if mirror.is_down:
                raise _Unavailable("no answer")
            try:
                return self._stream(mirror, path, part)
            except _BrokenOff as error:
                reached = _size(part)
                idle = 0 if reached > furthest else idle + 1
                furthest = max(furthest, reached)
                if idle >= BROKEN_OFF:
                    raise _Unavailable(f"the answer broke off {idle + 1} times ({error})") from None
                self.traffic.pause(BACKOFF_S * idle)

    def _stream(self, mirror: Mirror, path: str, part: Path) -> None:
        """Make one request: append the missing bytes of `part`, or write it from the start."""
        from urllib3.exceptions import HTTPError

        start = _size(part)
        with self._answer(mirror, path, start) as response:
            if response.status_code == 416 and start:
                return  # the file has no further bytes; the checksum decides
            if response.status_code == 206:
                stated = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
                if stated is None or int(stated[1]) != start:
                    part.unlink(missing_ok=True)
                    raise _BrokenOff("another range than requested")
            elif response.status_code != 200:
                raise _Unavailable(f"{response.status_code} {response.reason}".strip())
            with part.open("ab" if response.status_code == 206 else "wb") as file:
                try:
                    while piece := response.raw.read1(_PIECE_BYTES, decode_content=False):
                        self.traffic.check()
                        file.write(piece)
                        self.traffic.receive(len(piece))
                except HTTPError as error:
                    raise _BrokenOff(type(error).__name__) from None

    def _answer(self, mirror: Mirror, path: str, start: int) -> requests.Response:
        """Response to a request for a file from byte `start` on."""
        import requests

        headers = {"Range": f"bytes={start}-"} if start else {}
        try:
            response = self._session.get(
                mirror.address(path), headers=headers, stream=True, timeout=(CONNECT_S, STALL_S)
            )
        except requests.RequestException as error:
            mirror.silent += 1
            raise _Unavailable(_in_words(error)) from None
        mirror.silent = mirror.silent + 1 if response.status_code in _PASSING else 0
        return response


def _session(traffic: Traffic) -> requests.Session:
    """Session that repeats failed requests after a pause, which ends if the run is stopped."""
    import requests
    from urllib3.util import Retry

    class Patience(Retry):
        def sleep(self, response: Any = None) -> None:
            asked = self.get_retry_after(response) if response else None
            traffic.pause(min(asked or self.get_backoff_time(), LONGEST_PAUSE_S))

    patience = Patience(
        total=RETRIES,
        read=STALL_RETRIES,
        backoff_factor=BACKOFF_S,
        status_forcelist=_PASSING,
        allowed_methods={"GET"},
        raise_on_status=False,
    )
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, requests.adapters.HTTPAdapter(max_retries=patience))
    session.headers["User-Agent"] = f"ecgtransfer/{version('ecgtransfer')}"
    session.headers["Accept-Encoding"] = "identity"
    return session


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _in_words(error: requests.RequestException) -> str:
    """Reason for a missing response, without the address."""
    import requests

    kinds: tuple[tuple[type[Exception], str], ...] = (
        (requests.exceptions.SSLError, "its certificate is not accepted"),
        (requests.exceptions.ProxyError, "the proxy does not answer"),
        (requests.exceptions.Timeout, "no answer in time"),
        (requests.exceptions.TooManyRedirects, "redirected too often"),
        (requests.exceptions.ConnectionError, "no connection"),
    )
    return next((words for kind, words in kinds if isinstance(error, kind)), type(error).__name__)
