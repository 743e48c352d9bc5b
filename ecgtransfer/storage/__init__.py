"""Atomic files and folders, locks, and JSON cards that are checked when they are read.

Every writer of the package goes through `atomic`; no other module renames or flushes a file.
"""

from typing import TYPE_CHECKING

from ecgtransfer.lazy import lazy_names

if TYPE_CHECKING:
    from ecgtransfer.storage.atomic import (
        atomic_file,
        atomic_files,
        atomic_folder,
        disk_errors,
        fsync,
        make_folder,
        publish,
    )
    from ecgtransfer.storage.cards import (
        OMIT_AT_DEFAULT,
        fingerprint,
        from_card,
        read_card,
        read_json,
        to_card,
        write_json,
    )
    from ecgtransfer.storage.lock import exclusive_lock
    from ecgtransfer.storage.resumable import DiskSpace, bytes_below, require_space, write_resumable
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "OMIT_AT_DEFAULT",
    "DiskSpace",
    "atomic_file",
    "atomic_files",
    "atomic_folder",
    "bytes_below",
    "disk_errors",
    "exclusive_lock",
    "fingerprint",
    "from_card",
    "fsync",
    "make_folder",
    "publish",
    "read_card",
    "read_json",
    "require_space",
    "to_card",
    "write_json",
    "write_resumable",
]
