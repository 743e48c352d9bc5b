"""Lists of SHA-256 as data sets publish them, and files held against them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ecgtransfer.corpus.manifest import Part
from ecgtransfer.errors import CorpusError

#: `<SHA-256> <path>`, as sha256sum writes it: one or two blanks, or a blank and a star.
_LINE = re.compile(r"(?P<sha256>[0-9a-fA-F]{64}) [ *]?(?P<path>\S.*)", re.ASCII)

#: Files that one task of a thread hashes; it looks after them between two reports of progress.
_CHUNK_FILES = 64


@dataclass(frozen=True)
class PublishedFile:
    """A file of a data set: its path below the data set's root, its SHA-256, about its size."""

    path: str
    sha256: str
    about_bytes: int


def parse_checksums(content: bytes, where: object) -> dict[str, str]:
    """Published path -> SHA-256 in hex, from the bytes of a SHA256SUMS.txt.

    Args:
        content: of the list.
        where: what an error calls it.

    Raises:
        CorpusError: no such list, or one with a path that leads out of the data set's folder.
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
                f"got {line[:60]!r}; this is no list of checksums"
            )
        path = match["path"].removeprefix("./")
        if not _stays_inside(path):
            raise CorpusError(
                f"{where}, line {number}: expected a path inside the data set, got {path!r}; "
                "the list is not to be trusted"
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
    """What a list holds of some parts, in its order.

    Raises:
        CorpusError: another number of files than the manifest states.
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
    """SHA-256 of a file in hex; None where there is no such file, or none that can be read."""
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
    """`sha256_of` for paths below a folder, by threads; `progress` gets (files done, in all)."""
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
    """Whether a path stays below the folder that it is joined to, on every system."""
    parts = PurePosixPath(path).parts
    return (
        path == "/".join(parts)
        and not path.startswith("/")
        and ".." not in parts
        and not re.search(r"[\\:\0]", path)
    )
