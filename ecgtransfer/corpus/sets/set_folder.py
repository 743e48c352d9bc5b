"""The folder of a set, and the temporary folders next to it while it is written."""

import shutil
from pathlib import Path

from ecgtransfer.corpus.sets.ecgset import is_ecgset
from ecgtransfer.errors import CorpusError


def remove_leftovers(folder: Path) -> None:
    """Remove temporary folders that a kill at the end of writing left next to a finished set.

    An unfinished set is not removed. Only the writer of the folder may call this.
    """
    partial, replaced = folders_beside(folder)
    if is_ecgset(folder) and not (partial / "set").exists():
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def folders_beside(folder: Path) -> tuple[Path, Path]:
    """Temporary folders of a set: of the new set, and of the old one while it is replaced."""
    return folder.with_name(f".{folder.name}.partial"), folder.with_name(f".{folder.name}.replaced")


def refuse_folder(folder: Path, overwrite: bool) -> None:
    """Check that a folder does not exist, or is an ECG set to overwrite.

    Raises:
        CorpusError: the folder exists.
    """
    if not folder.exists():
        return
    if not overwrite:
        raise CorpusError(f"{folder} exists already; choose another folder, or ask to overwrite it")
    if not is_ecgset(folder):
        raise CorpusError(
            f"{folder} exists and is not an ECG set, so it is not overwritten; "
            "choose another folder"
        )
