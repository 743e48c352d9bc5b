"""The journal of an unfinished preparation, from which the same command resumes."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ecgtransfer.corpus.sets.preparation_report import Findings
from ecgtransfer.errors import CorpusError, StorageError
from ecgtransfer.storage import disk_errors, from_card, fsync, to_card

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Entry:
    """A chunk of records.

    Attributes:
        records: number of records in the chunk.
        appended: number of records in the set after it.
        findings: findings in the chunk.
    """

    records: int
    appended: int
    findings: Findings


class Journal:
    """JSON lines next to the unfinished set: a header with the run key, then one entry per chunk.

    Entries are written before the checkpoint of the set; on resuming, later ones are dropped.
    """

    def __init__(self, set_folder: Path, key: str) -> None:
        self._folder = set_folder.with_name(f".{set_folder.name}.partial")
        self._path = self._folder / JOURNAL
        self._key = key
        self._file: TextIO | None = None

    def is_of_this(self) -> bool:
        """Whether the unfinished set has the same corpus and settings."""
        try:
            with self._path.open(encoding="utf-8") as file:
                return bool(json.loads(file.readline()) == {"key": self._key})
        except (OSError, ValueError):
            return False

    def begin(self, appended: int) -> Iterator[Entry]:
        """Yield entries up to the checkpoint with `appended` records, then open for more.

        Raises:
            CorpusError: the journal ends before the checkpoint.
            StorageError: it cannot be written.
        """
        with disk_errors(self._path):
            length, last = 0, 0
            if appended:
                with self._path.open("rb") as lines:
                    length = len(lines.readline())
                    for line in lines:
                        entry = _entry(line, self._path)
                        if entry is None or entry.appended > appended:
                            break
                        length, last = length + len(line), entry.appended
                        yield entry
                if last != appended:
                    raise CorpusError(
                        f"the unfinished {self._folder} has lost a part of {JOURNAL}; "
                        "delete it and run the same command again"
                    )
                os.truncate(self._path, length)
            self._file = self._path.open("a" if appended else "w", encoding="utf-8")
            if not appended:
                self._write({"key": self._key})

    def add(self, entry: Entry) -> None:
        """Write an entry, which becomes valid at the next checkpoint.

        Raises:
            StorageError: the disk is full or refuses to write.
        """
        with disk_errors(self._path):
            self._write(to_card(entry))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            # Lines that a full disk rejects now are beyond the last checkpoint.
            with contextlib.suppress(OSError):
                self._file.close()

    def flush(self) -> None:
        """Flush all entries to disk.

        Raises:
            StorageError: the disk is full or refuses to write.
        """
        if self._file is not None:
            with disk_errors(self._path):
                self._file.flush()
                fsync(self._path)

    def _write(self, value: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(value) + "\n")


def _entry(line: bytes, file: Path) -> Entry | None:
    """Parse an entry; None for a truncated line."""
    try:
        return from_card(Entry, json.loads(line), file)
    except (ValueError, StorageError):
        return None
