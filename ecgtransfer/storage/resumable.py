"""Write a large folder in several calls; an interrupted call is resumed by the next one."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ecgtransfer.errors import StorageError
from ecgtransfer.storage.atomic import disk_errors, publish
from ecgtransfer.storage.cards import read_json, write_json
from ecgtransfer.storage.lock import exclusive_lock


@dataclass(frozen=True)
class DiskSpace:
    """Disk space in bytes.

    Attributes:
        needed: bytes that the work will write.
        free: bytes that are free on the disk.
    """

    needed: int
    free: int

    def to_dict(self) -> dict[str, float]:
        """Return both in megabytes: `needed_mb`, `free_mb`."""
        return {"needed_mb": round(self.needed / 1e6, 1), "free_mb": round(self.free / 1e6, 1)}

    def __str__(self) -> str:
        return f"needs {self.needed / 1e6:,.1f} MB of disk, {self.free / 1e6:,.1f} MB are free"


def require_space(folder: Path, needed: int) -> DiskSpace:
    """Check that the disk of `folder` has `needed` bytes free, and return both numbers.

    A negative `needed` counts as 0.

    Raises:
        StorageError: fewer bytes are free.
    """
    needed = max(needed, 0)
    near = next(path for path in folder.absolute().parents if path.exists())
    free = shutil.disk_usage(near).free
    if free < needed:
        raise StorageError(
            f"{folder} needs {needed / 1e6:,.1f} MB more and the disk has {free / 1e6:,.1f} MB "
            "free; make room or choose a folder on another disk"
        )
    return DiskSpace(needed, free)


def bytes_below(folder: Path) -> int:
    """Total size of all files below a folder in bytes; 0 if the folder does not exist."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write_resumable(
    folder: Path,
    plan: Mapping[str, object],
    card: Mapping[str, object],
    write: Callable[[Path], None],
) -> None:
    """Write a folder atomically over several calls; return at once if it is finished.

    Unfinished files stay in `.NAME.partial/files` next to the folder for the next call. The
    finished folder holds `export.json`: the plan, and `card` under that key.

    Args:
        folder: destination folder.
        plan: JSON values that identify the work.
        card: card of the set that is written.
        write: completes the files in a given folder, which may not exist yet.

    Raises:
        StorageError: another process is writing the folder; the disk is full or refuses to write;
            or the folder holds other files, or unfinished work with another plan.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    with exclusive_lock(folder):
        if folder.exists():
            _check_finished(folder, plan)
        else:
            _claim(partial, plan)
            files = partial / "files"
            write(files)
            with disk_errors(folder):
                write_json(files / "export.json", {**plan, "card": card})
                publish(files, folder)
        shutil.rmtree(partial, ignore_errors=True)


def _check_finished(folder: Path, plan: Mapping[str, object]) -> None:
    """Check that `folder` is the export that the plan describes.

    Raises:
        StorageError: it is not.
    """
    try:
        found = read_json(folder / "export.json")
    except StorageError:
        found = {}
    if any(found.get(key) != plan[key] for key in plan):
        raise StorageError(
            f"{folder} exists and is not an export of this set; choose another folder or remove it"
        )


def _claim(folder: Path, plan: Mapping[str, object]) -> None:
    """Mark `folder` as unfinished work on `plan`, or check an existing mark.

    Raises:
        StorageError: the folder holds other files, or work with another plan.
    """
    path = folder / "plan.json"
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
        if not path.exists():
            if any(not found.name.startswith(".plan.json.") for found in folder.iterdir()):
                raise StorageError(
                    f"{folder} was not written by this command, so its work cannot be resumed; "
                    "move it or choose another folder"
                )
            write_json(path, plan)
    found = read_json(path)
    differing = [key for key in sorted({*found, *plan}) if found.get(key) != plan.get(key)]
    if differing:
        raise StorageError(
            f"{folder} holds unfinished work with another {', '.join(differing)}; finish it with "
            "its original settings, choose another folder, or remove it"
        )
