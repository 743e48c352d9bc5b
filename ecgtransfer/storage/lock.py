"""Exclusive locks: one process at a time writes a folder."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ecgtransfer.errors import StorageError
from ecgtransfer.storage.atomic import disk_errors

#: Error numbers of file systems that do not support locks.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextlib.contextmanager
def exclusive_lock(folder: Path, inside: str | None = None) -> Iterator[None]:
    """Keep other processes from writing `folder` during the block.

    The lock file is `.NAME.lock` next to the folder; a missing parent folder is created. The
    operating system releases the lock when its process ends. On a file system without locks, the
    block runs unprotected.

    Args:
        folder: folder to lock; it need not exist.
        inside: name of a lock file to use inside the folder instead; the folder is then created.

    Raises:
        StorageError: another process holds the lock, or the lock file cannot be written.
    """
    path = folder / inside if inside else folder.with_name(f".{folder.name}.lock")
    lock = FileLock(path, thread_local=False)
    with disk_errors(folder):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
            # A lock on a file that its previous holder has just removed protects nothing.
            free = path.exists()
        except Timeout:
            free = False
        except NotImplementedError:
            free = True
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            free = True
    try:
        if not free:
            raise StorageError(
                f"another process is writing {folder}; wait for it or choose another folder"
            )
        yield
    finally:
        if lock.is_locked:
            with contextlib.suppress(OSError):
                path.unlink()
        lock.release()
