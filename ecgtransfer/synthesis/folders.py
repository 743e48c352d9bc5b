"""What writing a folder whole or not at all needs: one writer, enough disk, one place."""

import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ecgtransfer.corpus.writing import disk_errors, sole_writer
from ecgtransfer.errors import RunError


@dataclass(frozen=True)
class DiskSpace:
    """What the disk is to take, and what it has free, in bytes."""

    needed: int
    free: int

    def to_dict(self) -> dict[str, float]:
        """Both in megabytes: `needed_mb`, `free_mb`."""
        return {"needed_mb": round(self.needed / 1e6, 1), "free_mb": round(self.free / 1e6, 1)}

    def __str__(self) -> str:
        return f"needs {self.needed / 1e6:,.1f} MB of disk, {self.free / 1e6:,.1f} MB are free"


def require_space(folder: Path, needed: int) -> DiskSpace:
    """What is free on the disk that `folder` is to lie on; RunError when less than `needed` bytes.

    A need below zero is none.
    """
    needed = max(needed, 0)
    near = next(path for path in folder.absolute().parents if path.exists())
    free = shutil.disk_usage(near).free
    if free < needed:
        raise RunError(
            f"{folder} needs {needed / 1e6:,.1f} MB more and the disk has {free / 1e6:,.1f} MB "
            "free; make room or choose a folder on another disk"
        )
    return DiskSpace(needed, free)


def bytes_below(folder: Path) -> int:
    """Bytes of all files below a folder, which need not be there."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write_whole(
    folder: Path,
    plan: Mapping[str, object],
    card: Mapping[str, object],
    write: Callable[[Path], None],
) -> None:
    """Write a folder whole or not at all, or find it finished; `export.json` says what it is.

    Until it is finished its files lie in `.NAME.partial/files` beside it, which stays when the work
    is interrupted. `export.json` states the plan, and the card under `card`.

    Args:
        folder: where it goes.
        plan: JSON values that tell this work from any other.
        card: of the set that is written.
        write: makes what is missing of the files in a folder, which may not be there yet.

    Raises:
        RunError: another process at work there, a disk that refuses, unfinished work on another
            plan, or a folder that holds something else.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    with sole_writer(folder):
        if folder.exists():
            _check_finished(folder, plan)
        else:
            claim(partial, plan)
            files = partial / "files"
            write(files)
            with disk_errors(folder):
                write_json(files / "export.json", {**plan, "card": card})
                files.rename(folder)
        shutil.rmtree(partial, ignore_errors=True)


def _check_finished(folder: Path, plan: Mapping[str, object]) -> None:
    """Raise `RunError` unless `folder` is the export that the plan describes."""
    try:
        found = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    if not isinstance(found, dict) or any(found.get(key) != plan[key] for key in plan):
        raise RunError(
            f"{folder} exists and is no export of this set; choose another folder or remove it"
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
    _write_text(partial, value)
    partial.replace(path)


def write_once(path: Path, value: object, *, anew: bool = False) -> None:
    """Write sorted JSON to a `path` that is not there; do nothing where it is.

    However many processes on however many machines try at once, one of them writes all of it. (A
    file system without hard links cannot settle that: there the last one wins.)

    anew: replace what is there; the last one wins.
    """
    if path.exists() and not anew:
        return
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        _write_text(partial, value)
        try:
            if anew:
                partial.replace(path)
            else:
                os.link(partial, path)
        except FileExistsError:
            return
        except OSError:
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write_text(path: Path, value: object) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(value, indent=2, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
