"""Write a file whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ecgtransfer.errors import RunError


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, if missing; RunError where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{folder} could not be made ({error.strerror}); choose another folder"
        ) from None


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; its file replaces `path` at the end of the block.

    Raises:
        RunError: the disk is full or refuses to write; `path` is unchanged.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise RunError(
            f"{path} could not be written ({error}); make room and run the same command again"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
