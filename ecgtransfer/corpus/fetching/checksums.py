"""Published lists of SHA-256 checksums, and the hashes of files on disk."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ecgtransfer.corpus.manifest import Part
from ecgtransfer.errors import CorpusError

#: `<SHA-256> <path>` as sha256sum writes it, separated by one or two spaces or a space and a star.
_LINE = re.compile(r"(?P<sha256>[0-9a-fA-F]{64}) [ *]?(?P<path>\S.*)", re.ASCII)

#: Files that a thread hashes in one task, between two reports of progress.
_CHUNK_FILES = 64


@dataclass(frozen=True)
class PublishedFile:
    """A file of a data set.

    Attributes:
        path: path below the data set's root.
        sha256: its SHA-256 in hex.
        about_bytes: its approximate size.
    """

    path: str
    sha256: str
    about_bytes: int


def parse_checksums(content: bytes, where: object) -> dict[str, str]:
    """Parse a SHA256SUMS.txt: published path -> SHA-256 in hex.

    Args:
        content: bytes of the list.
        where: name of the list in error messages.

    Raises:
        CorpusError: the content is not a list of checksums, or a path leads out of the folder.
    """
    checksums: dict[str, str] = {}
    lines = content.decode("utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.rstrip())
        if match is None:
            raise CorpusError(
                f"{where}, line {number}: expected a SHA-256 of 64 hex digits and a path, "
                f"got {line[:60]!r}; this is not a list of checksums"
            )
        path = match["path"].removeprefix("./")
        if not _stays_inside(path):
            raise CorpusError(
                f"{where}, line {number}: expected a path inside the data set, got {path!r}; "
                "the list cannot be trusted"
            )
        sha256 = match["sha256"].lower()
        if checksums.setdefault(path, sha256) != sha256:
            raise CorpusError(
                f"{where}, line {number}: expected one checksum of {path}, got a second one; "
                "the list is damaged"
            )
    if not checksums:
        raise CorpusError(f"{where}: expected a list of checksums, got an empty file")
    return checksums


def needed_files(
    parts: Iterable[Part], checksums: Mapping[str, str], where: object
) -> tuple[PublishedFile, ...]:
    """Files of a list that belong to some parts, in the order of the list.

    Raises:
        CorpusError: the manifest states another number of files.
    """
    kinds = [kind for part in parts for kind in part.files]
    found = [0] * len(kinds)
    needed = []
    for path, sha256 in checksums.items():
        for number, kind in enumerate(kinds):
            if kind.matches(path):
                found[number] += 1
                needed.append(PublishedFile(path, sha256, kind.bytes_each))
                break
    for kind, count in zip(kinds, found, strict=True):
        if count != kind.count and not (kind.optional and not count):
            raise CorpusError(
                f"{where} lists {count:,} files of {kind.paths}, expected {kind.count:,}; "
                "it belongs to another version of the data set"
            )
    return tuple(needed)


def sha256_of(path: Path) -> str | None:
    """SHA-256 of a file in hex; None if it does not exist or cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def hash_files(
    folder: Path,
    paths: Sequence[str],
    workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, str | None]:
    """`sha256_of` for paths below a folder, in threads.

    Args:
        folder: base of the paths.
        paths: paths of the files.
        workers: number of threads.
        progress: called with (files done, files in total).
    """
    hashes: dict[str, str | None] = {}
    chunks = [paths[start : start + _CHUNK_FILES] for start in range(0, len(paths), _CHUNK_FILES)]
    pool = ThreadPoolExecutor(workers)
    try:
        for done in pool.map(lambda chunk: [sha256_of(folder / path) for path in chunk], chunks):
            hashes.update(zip(paths[len(hashes) : len(hashes) + len(done)], done, strict=True))
            if progress is not None:
                progress(len(hashes), len(paths))
    finally:
        pool.shutdown(cancel_futures=True)
    return hashes


def _stays_inside(path: str) -> bool:
    """Whether a path stays below its base folder, on every operating system."""
    parts = PurePosixPath(path).parts
    return (
        path == "/".join(parts)
        and not path.startswith("/")
        and ".." not in parts
        and not re.search(r"[\\:\0]", path)
    )
