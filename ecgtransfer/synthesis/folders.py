"""What writing a folder whole or not at all needs: one writer, enough disk, one sentence."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
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


def require_space(folder: Path, needed: int) -> None:
    """Raise `RunError` when the disk that `folder` is to lie on has fewer than `needed` bytes."""
    near = next(path for path in folder.absolute().parents if path.exists())
    free = shutil.disk_usage(near).free
    if free < needed:
        raise RunError(
            f"{folder} needs {needed / 1e6:,.1f} MB more and the disk has {free / 1e6:,.1f} MB "
            "free; make room or choose a folder on another disk"
        )


def claim(folder: Path, plan: Mapping[str, object]) -> None:
    """Make `folder` the place of unfinished work on `plan` (JSON values), or check that it is.

    Raises `RunError` when it holds something else, and names what differs when it holds unfinished
    work on another plan.
    """
    path = folder / "plan.json"
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
        if not path.exists():
            if any(found.name != "plan.json.partial" for found in folder.iterdir()):
                raise RunError(
                    f"{folder} is in the way and is no unfinished work of this package; move it "
                    "or choose another folder"
                )
            write_json(path, plan)
        found = json.loads(path.read_text(encoding="utf-8"))
    differing = [key for key in sorted({*found, *plan}) if found.get(key) != plan.get(key)]
    if differing:
        raise RunError(
            f"{folder} holds unfinished work with another {', '.join(differing)}; finish it with "
            "its own settings, choose another folder, or remove it"
        )


def write_json(path: Path, value: object) -> None:
    """Write sorted JSON so that `path` holds all of it or does not exist."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(json.dumps(value, indent=2, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
