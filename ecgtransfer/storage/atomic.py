"""Atomic writes: a file or folder appears complete, or not at all.

New content is written next to its destination as `.NAME.partial`, flushed to disk and renamed.
After a crash, a kill or a full disk the destination holds the old content or the new content, never
a mixture.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from ecgtransfer.errors import StorageError

#: Up to this many files are flushed one by one; more are flushed by one `sync` of all disks.
FLUSHED_ONE_BY_ONE = 256


@contextlib.contextmanager
def atomic_file(path: Path, *, shared: bool = False, keep: bool = False) -> Iterator[Path]:
    """Yield a path to write to; that file replaces `path` at the end of the block.

    Args:
        path: destination, in an existing folder. An exception in the block leaves it unchanged.
        shared: allow several processes, on any machine, to write the file at once; the last wins.
        keep: as `shared`, but the first process wins: an existing file is not replaced. (On a file
            system without hard links the last process wins.)

    Raises:
        StorageError: the disk is full or refuses to write.
    """
    token = f".{secrets.token_hex(4)}" if shared or keep else ""
    partial = path.with_name(f".{path.name}{token}.partial")
    with disk_errors(path):
        try:
            partial.touch()
            mode = partial.stat().st_mode
            yield partial
            if partial.stat().st_mode != mode:
                partial.chmod(mode)  # some writers create files that only their owner can read
            if keep and _linked(partial, path):
                return
            publish(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def _linked(partial: Path, path: Path) -> bool:
    """Rename a file unless the new name exists; return False if there are no hard links."""
    fsync(partial)
    try:
        os.link(partial, path)
    except FileExistsError:
        return True
    except OSError:
        return False
    fsync(path.parent)
    return True


@contextlib.contextmanager
def atomic_files(*paths: Path) -> Iterator[Path]:
    """Yield a scratch folder; its files of these names replace `paths`, in order, at the end.

    Pass the file that describes the others last: an older version of it is removed first, so that
    it never describes the new files. The files are not flushed to disk individually, because there
    may be thousands of records; flush their folder with `publish`.

    Raises:
        StorageError: the disk is full or refuses to write.
    """
    *others, last = paths
    scratch = last.with_name(f".{last.name}.{secrets.token_hex(4)}.partial")
    with disk_errors(last):
        try:
            scratch.mkdir()
            yield scratch
            last.unlink(missing_ok=True)
            for path in (*others, last):
                os.replace(scratch / path.name, path)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder to fill; it is renamed to `folder` at the end of the block.

    Missing parent folders are created. An exception in the block removes what was written.

    Raises:
        StorageError: `folder` exists, or the disk is full or refuses to write.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    if folder.exists():
        raise StorageError(f"{folder} exists already; choose another folder")
    with disk_errors(folder):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            publish(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def publish(written: Path, path: Path) -> None:
    """Flush a finished file or folder to disk and rename it to `path`, on the same disk.

    Raises:
        OSError: the disk is full or refuses to write; `disk_errors` turns it into a sentence.
    """
    if written.is_dir():
        found = list(written.rglob("*"))
        if len(found) > FLUSHED_ONE_BY_ONE and hasattr(os, "sync"):
            os.sync()
        else:
            for each in found:
                fsync(each)
    fsync(written)
    written.replace(path)
    fsync(path.parent)


def fsync(path: Path) -> None:
    """Flush a file to disk, or a folder where the operating system supports that."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows cannot open folders
        if path.is_dir():
            return
        raise
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents if they are missing.

    Raises:
        StorageError: the folder cannot be created.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` while writing `path` into a one-sentence `StorageError`."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path} could not be written ({error.strerror or error}); make room, check its "
            "permissions or choose another place, then run the same command again"
        ) from error
