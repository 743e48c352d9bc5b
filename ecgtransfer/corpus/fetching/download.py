"""One published file from the first mirror that has it; interrupted at any point, it goes on there.

Bytes gather in `NAME.part`; only what has the published SHA-256 gets the name. `requests` and
urllib3 speak HTTP: redirects, retries, back-off and `Retry-After` are theirs.
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

#: What a file is called until all of it is there and right.
PART = ".part"

#: Seconds until a mirror must have taken the connection, and between two pieces of its answer.
CONNECT_S, STALL_S = 10.0, 30.0

#: How often a request is sent again, and how often after a silence of `STALL_S`.
RETRIES, STALL_RETRIES = 5, 2

#: The pauses before that double, 0, 1, 2, 4 and 8 s: half the second, and the longest that a
#: mirror may ask for (`Retry-After`).
BACKOFF_S, LONGEST_PAUSE_S = 0.5, 60.0

#: Answers after which a request is sent again.
_PASSING = (429, 500, 502, 503, 504)

#: How often in a row an answer may break off without bringing the file further.
BROKEN_OFF = 4

#: How often in a row a mirror may give no answer until it is left alone.
SILENT = 2

#: Bytes taken from a connection at a time, at most.
_PIECE_BYTES = 1 << 16

#: `bytes 1000-23999/24000`
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


class Stopped(Exception):
    """The run ends: files stay as they are, to be taken up again."""


class DownloadFailed(Exception):
    """No mirror gave a file; the message says of each why. `other_bytes`: some gave a wrong one."""

    def __init__(self, message: str, other_bytes: bool) -> None:
        super().__init__(message)
        self.other_bytes = other_bytes


class _Unavailable(Exception):
    """A mirror does not give a file."""


class _BrokenOff(Exception):
    """An answer that ended early."""


@dataclass(eq=False)
class Mirror:
    """A base address; counts how often in a row it gave no answer."""

    url: str
    silent: int = 0

    def __post_init__(self) -> None:
        self.url = self.url.rstrip("/") + "/"

    @property
    def host(self) -> str:
        """The name of the machine, for people."""
        return urlsplit(self.url).netloc

    @property
    def is_down(self) -> bool:
        """Whether it is left alone."""
        return self.silent >= SILENT

    def address(self, path: str) -> str:
        """Of a published file."""
        return self.url + quote(path)


@dataclass(eq=False)
class Traffic:
    """What the threads of a run share: the bytes received so far, and the sign to stop."""

    stop: threading.Event = field(default_factory=threading.Event)
    received_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def receive(self, count: int) -> None:
        """Count bytes."""
        with self._lock:
            self.received_bytes += count

    def check(self) -> None:
        """Raise Stopped once the run ends."""
        if self.stop.is_set():
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Sleep, and raise Stopped as soon as the run ends."""
        if self.stop.wait(seconds):
            raise Stopped


class Downloader:
    """Fetches files from mirrors, in their order of preference; every thread has one of its own."""

    def __init__(self, mirrors: tuple[Mirror, ...], traffic: Traffic) -> None:
        self.mirrors = mirrors
        self.traffic = traffic
        self._session = _session(traffic)

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()

    def fetch(self, file: PublishedFile, folder: Path) -> None:
        """Bring a file to its path below `folder`; what is there is replaced by a right one only.

        Raises:
            DownloadFailed: no mirror gives it.
            Stopped: the run ends.
            OSError: the disk does not take it.
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
        """A file of which no checksum is known, as bytes; `part` is where they gather.

        Raises:
            DownloadFailed: the mirror does not give it.
            Stopped: the run ends.
            OSError: the disk does not take it.
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
        """Whether the mirror has the right bytes: in `part`, then; wrong ones are thrown away."""
        for _ in range(2):  # what went on from older bytes may be right when begun from zero
            self._complete(mirror, path, part, sha256)
            if sha256_of(part) == sha256:
                return True
            part.unlink(missing_ok=True)
        return False

    def _complete(self, mirror: Mirror, path: str, part: Path, sha256: str | None) -> None:
        """Bring `part` to its end, however often the answer breaks off on the way."""
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
        """One request: append what is missing of `part`, or write it anew."""
        from urllib3.exceptions import HTTPError

        start = _size(part)
        with self._answer(mirror, path, start) as response:
            if response.status_code == 416 and start:
                return  # nothing beyond what is here; the checksum decides
            if response.status_code == 206:
                stated = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
                if stated is None or int(stated[1]) != start:
                    part.unlink(missing_ok=True)
                    raise _BrokenOff("another range than asked for")
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
        """The answer to a request for a file from byte `start` on."""
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
    """A session that sends requests again after a while, and wakes up when the run ends."""
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
    """Why there was no answer, without the address again."""
    import requests

    kinds: tuple[tuple[type[Exception], str], ...] = (
        (requests.exceptions.SSLError, "its certificate is not accepted"),
        (requests.exceptions.ProxyError, "the proxy does not answer"),
        (requests.exceptions.Timeout, "no answer in time"),
        (requests.exceptions.TooManyRedirects, "redirected too often"),
        (requests.exceptions.ConnectionError, "no connection"),
    )
    return next((words for kind, words in kinds if isinstance(error, kind)), type(error).__name__)
