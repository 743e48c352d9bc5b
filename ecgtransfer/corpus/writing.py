"""What writing a folder needs wherever it is done: one writer, and one sentence on failure."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ecgtransfer.errors import RunError


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Keep other processes from writing `folder` meanwhile, by a lock on `.NAME.lock` beside it.

    The system lifts the lock of a process that dies. Where a file system or Windows has no such
    locks, two writers into one folder stay the user's own care. Makes the parent folder.

    Raises `RunError` when another process is at work there, or the parent cannot be written.
    """
    path = folder.with_name(f".{folder.name}.lock")
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("ab")
    with lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A file that its last holder has just removed keeps nobody else out.
            free = path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat())
        except BlockingIOError:
            free = False
        except (ImportError, OSError):
            free = True
        if not free:
            raise RunError(
                f"another process is writing {folder}; wait for it or choose another folder"
            )
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn an `OSError` while writing `folder` into one sentence (`RunError`)."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write {folder}: {error.strerror or error}; what is finished is kept, so mend "
            "that and run the same command again"
        ) from error
