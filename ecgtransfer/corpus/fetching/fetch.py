"""Download the missing or damaged files of a published data set, in parallel, with verification.

A file gets its final name only when it has the published SHA-256, so that a run can stop at any
point and the next one resumes.
"""

from __future__ import annotations

import errno
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ecgtransfer.corpus.fetching.checksums import (
    PublishedFile,
    hash_files,
    needed_files,
    parse_checksums,
)
from ecgtransfer.corpus.fetching.download import (
    PART,
    Downloader,
    DownloadFailed,
    Mirror,
    Stopped,
    Traffic,
)
from ecgtransfer.corpus.manifest import Manifest, Part
from ecgtransfer.errors import CorpusError
from ecgtransfer.storage import atomic_file, disk_errors, exclusive_lock

#: Name of the lock file in the folder of a fetch.
LOCK = ".fetch.lock"

#: Typical block size of a disk, and space that is left free for the file system.
BLOCK_BYTES, SPARE_BYTES = 4096, 50_000_000

#: Threads that hash files on disk; for many small files, few threads are fastest.
HASHING = 2

#: Files that are downloaded to test a list of checksums that no file on disk confirms.
PROBES = 2

#: Seconds between progress reports while no file is finished.
LOOK_EVERY_S = 0.2

#: Seconds that threads have to finish; their partial files are safe at any time.
END_WITHIN_S = 5.0

#: Error numbers of a disk that cannot store more.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


@dataclass(frozen=True)
class FetchProgress:
    """Progress of a fetch.

    Attributes:
        doing: current activity.
        files_done: finished files.
        files: files in total; 0 until a mirror has sent the list of checksums.
        bytes_done: finished bytes; 0 while files on disk are checked.
        bytes_in_all: bytes in total, first an estimate; 0 while files on disk are checked.
    """

    doing: Literal["asking", "checking", "fetching"]
    files_done: int = 0
    files: int = 0
    bytes_done: int = 0
    bytes_in_all: int = 0


@dataclass(frozen=True)
class NotFetched:
    """A file that no mirror delivered, with the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class FetchReport:
    """Result of `fetch`.

    Attributes:
        corpus: name of the data set.
        version: its version.
        folder: folder of the files.
        checksums_from: source of the checksums: address of a mirror, or the file next to the data.
        files: number of files needed.
        already_there: number of files that were complete before.
        fetched: number of files downloaded.
        received_bytes: bytes downloaded.
        seconds: duration.
        failed: files that could not be downloaded.
    """

    corpus: str
    version: str
    folder: Path
    checksums_from: str
    files: int
    already_there: int
    fetched: int
    received_bytes: int
    seconds: float
    failed: tuple[NotFetched, ...]


def fetch(
    manifest: Manifest,
    folder: str | Path,
    *,
    sampling_rates_hz: Sequence[int] = (),
    mirrors: Sequence[str] = (),
    workers: int = 8,
    progress: Callable[[FetchProgress], None] | None = None,
) -> FetchReport:
    """Download the files of a data set to `folder`, under their published paths.

    Complete files are kept; damaged ones are replaced only by verified files. Files that no mirror
    delivers are reported and do not stop the run. The published list of checksums is stored next to
    the data. A run that is stopped or killed leaves `NAME.part`, which the next run resumes.

    Args:
        manifest: the data set.
        folder: destination; created if missing.
        sampling_rates_hz: published rates to fetch; empty for the first one in the manifest.
        mirrors: base addresses to use instead of those in the manifest.
        workers: threads, each with its own connection.
        progress: called in this thread, several times per second.

    Raises:
        CorpusError: the rate is not published, an address is invalid, no list of checksums is
            available, or the disk is too small.
        StorageError: the folder cannot be written, or another process is writing it.
    """
    began = time.monotonic()
    if workers < 1:
        raise CorpusError(f"expected at least one worker, got {workers}")
    parts = manifest.parts(sampling_rates_hz)
    addresses = mirrors or manifest.mirrors
    for address in addresses:
        if not address.startswith(("https://", "http://")):
            raise CorpusError(f"expected a mirror such as {manifest.mirrors[0]}, got {address!r}")
    run = _Run(
        manifest,
        parts,
        Path(folder),
        tuple(Mirror(address) for address in addresses),
        workers,
        progress or (lambda now: None),
    )
    with exclusive_lock(run.folder, inside=LOCK), disk_errors(run.folder):
        return run.report(began)


@dataclass(frozen=True)
class _Plan:
    """A list of checksums, the files it demands, and those that are missing on disk."""

    source: str
    content: bytes
    needed: tuple[PublishedFile, ...]
    missing: tuple[PublishedFile, ...]


class _Run:
    """State of one fetch."""

    def __init__(
        self,
        manifest: Manifest,
        parts: tuple[Part, ...],
        folder: Path,
        mirrors: tuple[Mirror, ...],
        workers: int,
        progress: Callable[[FetchProgress], None],
    ) -> None:
        self.manifest = manifest
        self.parts = parts
        self.folder = folder
        self.mirrors = mirrors
        self.workers = workers
        self.progress = progress
        self.traffic = Traffic()
        self.hashes: dict[str, str | None] = {}

    @property
    def list_path(self) -> Path:
        """Path at which the list of checksums is stored."""
        return self.folder / Path(self.manifest.checksums_file).name

    def report(self, began: float) -> FetchReport:
        """Fetch what is missing and report the result."""
        plan = self._believed_plan()
        if not self.list_path.is_file() or self.list_path.read_bytes() != plan.content:
            with atomic_file(self.list_path) as partial:
                partial.write_bytes(plan.content)
        failed = self._fetch(
            [file for file in plan.missing if self.hashes[file.path] != file.sha256]
        )
        return FetchReport(
            corpus=self.manifest.name,
            version=self.manifest.version,
            folder=self.folder,
            checksums_from=plan.source,
            files=len(plan.needed),
            already_there=len(plan.needed) - len(plan.missing),
            fetched=len(plan.missing) - len(failed),
            received_bytes=self.traffic.received_bytes,
            seconds=time.monotonic() - began,
            failed=tuple(failed),
        )

    # --- the list of checksums -------------------------------------------------------------------

    def _believed_plan(self) -> _Plan:
        """First list that a file on disk or a test download confirms; else the first list."""
        refused: list[str] = []
        doubted: list[_Plan] = []
        for source, content in self._lists(refused):
            if any(content == plan.content for plan in doubted):
                continue
            try:
                plan = self._plan(source, content)
            except CorpusError as error:
                refused.append(str(error))
                continue
            self._check_room(plan.missing)
            if len(plan.missing) < len(plan.needed) or self._speaks_for(plan):
                return plan
            doubted.append(plan)
        if doubted:
            return doubted[0]
        raise CorpusError(
            f"expected the checksums of {self.manifest.name} from one of its mirrors, got none "
            f"({'; '.join(refused)}); check the network, or name another mirror"
        )

    def _lists(self, refused: list[str]) -> Iterator[tuple[str, bytes]]:
        """Lists of checksums with their source: the one next to the data, then each mirror's."""
        if self.list_path.is_file():
            yield str(self.list_path), self.list_path.read_bytes()
        downloader = Downloader((), self.traffic)
        part = self.list_path.with_name(self.list_path.name + PART)
        try:
            for mirror in self.mirrors:
                self.progress(FetchProgress("asking"))
                try:
                    content = downloader.read(mirror, self.manifest.checksums_file, part)
                except DownloadFailed as error:
                    refused.append(str(error))
                else:
                    yield mirror.address(self.manifest.checksums_file), content
        finally:
            downloader.close()

    def _plan(self, source: str, content: bytes) -> _Plan:
        """Files that a list demands, and those that are missing or damaged on disk."""
        needed = needed_files(self.parts, parse_checksums(content, source), source)
        unknown = [file.path for file in needed if file.path not in self.hashes]
        self.hashes |= hash_files(
            self.folder,
            unknown,
            HASHING,
            lambda done, files: self.progress(FetchProgress("checking", done, files)),
        )
        missing = tuple(file for file in needed if self.hashes[file.path] != file.sha256)
        return _Plan(source, content, needed, missing)

    def _check_room(self, missing: Sequence[PublishedFile]) -> None:
        needed = sum(-(-file.about_bytes // BLOCK_BYTES) * BLOCK_BYTES for file in missing)
        free = shutil.disk_usage(self.folder).free
        if missing and needed + SPARE_BYTES > free:
            raise CorpusError(
                f"{self.manifest.name} needs about {needed / 1e9:.2f} GB more in {self.folder}, "
                f"the disk has {free / 1e9:.2f} GB free; make room, or choose another folder"
            )

    def _speaks_for(self, plan: _Plan) -> bool:
        """Whether one of the first files matches the list, or none has other bytes."""
        downloader = Downloader(self.mirrors, self.traffic)
        wrong = 0
        try:
            for file in plan.missing[:PROBES]:
                try:
                    downloader.fetch(file, self.folder)
                except DownloadFailed as error:
                    wrong += error.other_bytes
                else:
                    self.hashes[file.path] = file.sha256
                    return True
        finally:
            downloader.close()
        return not wrong

    # --- the files -------------------------------------------------------------------------------

    def _fetch(self, missing: Sequence[PublishedFile]) -> list[NotFetched]:
        """Download in threads; this thread waits, reports progress and receives Ctrl-C."""
        waiting: queue.SimpleQueue[PublishedFile] = queue.SimpleQueue()
        for file in missing:
            waiting.put(file)
        finished: queue.SimpleQueue[tuple[PublishedFile, BaseException | None]]
        finished = queue.SimpleQueue()
        threads = [
            # A thread that waits for a silent connection must not delay the end of the program.
            threading.Thread(target=self._work, args=(waiting, finished), daemon=True)
            for _ in range(min(self.workers, len(missing)))
        ]
        failed: list[NotFetched] = []
        left_bytes = sum(file.about_bytes for file in missing)
        done = 0
        try:
            for thread in threads:
                thread.start()
            while done < len(missing):
                try:
                    file, error = finished.get(timeout=LOOK_EVERY_S)
                except queue.Empty:
                    pass
                else:
                    done += 1
                    left_bytes -= file.about_bytes
                    if error is not None:
                        failed.append(NotFetched(file.path, _reason(error)))
                received = self.traffic.received_bytes
                self.progress(
                    FetchProgress("fetching", done, len(missing), received, received + left_bytes)
                )
        finally:
            self.traffic.stop.set()
            until = time.monotonic() + END_WITHIN_S
            for thread in threads:
                if thread.ident is not None:
                    thread.join(max(0.0, until - time.monotonic()))
        return sorted(failed, key=lambda entry: entry.path)

    def _work(
        self,
        waiting: queue.SimpleQueue[PublishedFile],
        finished: queue.SimpleQueue[tuple[PublishedFile, BaseException | None]],
    ) -> None:
        """Thread function: download until the queue is empty, and report each result."""
        downloader = Downloader(self.mirrors, self.traffic)
        try:
            while not self.traffic.stop.is_set():
                file = waiting.get_nowait()
                try:
                    downloader.fetch(file, self.folder)
                except Stopped:
                    return
                except BaseException as error:
                    finished.put((file, error))
                else:
                    finished.put((file, None))
        except queue.Empty:
            return
        finally:
            downloader.close()


def _reason(error: BaseException) -> str:
    """Reason for a failed file; re-raises errors that would affect every other file too."""
    if isinstance(error, DownloadFailed):
        return str(error)
    if isinstance(error, OSError) and error.errno not in _FULL:
        return f"could not be written ({error.strerror or error})"
    raise error
