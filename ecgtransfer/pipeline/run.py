"""The run folder: stages that state their settings and are skipped when they are done.

RUN/config.json                format of the run, and the software versions that created it
RUN/<stage>/request.json       settings of the stage, written before it starts
RUN/<stage>/card.json          settings and results, written last: the stage is done
"""

import platform
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from ecgtransfer import training
from ecgtransfer.errors import RunError
from ecgtransfer.storage import (
    disk_errors,
    exclusive_lock,
    fingerprint,
    from_card,
    make_folder,
    publish,
    read_json,
    to_card,
    write_json,
)

T = TypeVar("T")

#: Version of the layout of a run folder; other versions are refused.
RUN_FORMAT = 1
CONFIG, REQUEST, CARD = "config.json", "request.json", "card.json"

#: Locks of the stages on which this process works, by folder; they are released when it ends.
_AT_WORK: dict[Path, ExitStack] = {}


def software() -> dict[str, str]:
    """Return the versions of the software that a result depends on."""
    names = ("ecgtransfer", "torch", "numpy", "scipy")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def begin_run(folder: Path) -> None:
    """Make a folder a run folder, unless it is one; several processes may call this at once."""
    make_folder(folder)
    if not (folder / CONFIG).exists():
        write_json(folder / CONFIG, {"format": RUN_FORMAT, "software": software()}, keep=True)


class Stage:
    """One step of a run, in its own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def name(self) -> str:
        """Name of the stage and its folder."""
        return self.folder.name

    @property
    def is_done(self) -> bool:
        """Whether the stage is finished: its card is written."""
        return (self.folder / CARD).exists()

    @property
    def card(self) -> dict[str, Any]:
        """Settings and results of the finished stage.

        Raises:
            RunError: the stage is not done.
        """
        if not self.is_done:
            raise RunError(
                f"expected a finished stage {self.name!r} in {self.folder.parent}, found none; "
                "run it first"
            )
        return read_json(self.folder / CARD)

    def read(self, kind: type[T], part: str) -> T:
        """Read a part of the card, such as "settings.model", with `storage.from_card`.

        Raises:
            RunError: the stage is not done, or its card is of another version.
        """
        return from_card(kind, self.card, self.folder / CARD, part)

    def begin(self, settings: object, *, alone: bool = True) -> bool:
        """Start or resume the stage with these settings; return whether it is already done.

        Args:
            settings: settings and inputs of the stage.
            alone: lock the stage until it is finished or this process ends. Without it, several
                processes, on any machines, may work on the stage at once.

        Raises:
            RunError: the folder has results with other settings, or other files, or another process
                works there. The folder is not changed.
        """
        with training.main_process_first():
            done = self._begin(to_card(settings))
            if done and training.is_main_process():
                # A process that was killed after it wrote the card left them.
                training.remove_checkpoints(self.folder)
            if alone and not done and training.is_main_process():
                self._keep_others_out()
                done = self.is_done
            return done

    def set_aside(self, name: str) -> None:
        """Rename the card, so that the stage is no longer done.

        Raises:
            RunError: the card cannot be renamed.
        """
        if training.is_main_process():
            path = self.folder / CARD
            with disk_errors(path):
                publish(path, self.folder / name)
        training.wait_for_everyone()

    def _keep_others_out(self) -> None:
        folder = self.folder.resolve()
        if folder not in _AT_WORK:
            with ExitStack() as lock:
                lock.enter_context(exclusive_lock(folder))
                _AT_WORK[folder] = lock.pop_all()

    def _begin(self, requested: Any) -> bool:
        path = self.folder / REQUEST
        request = {"settings": requested, "fingerprint": fingerprint(requested)}
        found = _names(self.folder, but=REQUEST) if self.folder.is_dir() else set()
        if not path.exists():
            if found:
                raise RunError(
                    f"expected {self.folder} to be empty or a stage of this run, found other files "
                    "there; choose another run folder"
                )
            begin_run(self.folder.parent)
            make_folder(self.folder)
            write_json(path, request, keep=True)
        stored = read_json(path)
        if stored.get("fingerprint") == request["fingerprint"]:
            return self.is_done
        # Only a request file: nothing was computed, so it may be replaced.
        if found:
            changed = _differences(stored.get("settings", {}), requested)
            raise RunError(
                f"{self.folder} holds the stage {self.name!r} with other settings "
                f"({'; '.join(changed) or 'inputs'}); use another run folder, or remove "
                f"{self.folder} to redo it"
            )
        write_json(path, request, shared=True)
        return False

    def finish(self, results: object) -> dict[str, Any]:
        """Write the card with settings and results, which marks the stage as done."""
        if training.is_main_process():
            card = read_json(self.folder / REQUEST) | {
                "results": to_card(results),
                "software": software(),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            # Keep the order of results, such as methods and measures in a table.
            write_json(self.folder / CARD, card, ordered=True)
            training.remove_checkpoints(self.folder)
            _AT_WORK.pop(self.folder.resolve(), ExitStack()).close()
        training.wait_for_everyone()
        return self.card


class Run:
    """A run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path) -> "Run":
        """Open a run folder, or use a new or empty folder for a run.

        Nothing is written before the first stage begins.

        Raises:
            RunError: the folder has other files, or is a run of another format.
        """
        if (folder / CONFIG).exists():
            return cls.open(folder)
        occupied = folder.exists() and (not folder.is_dir() or _names(folder, but=CONFIG))
        # Another process may have created the run in the meantime.
        if occupied and not (folder / CONFIG).exists():
            raise RunError(
                f"expected a new or empty folder or a run folder, found other files in {folder}; "
                "choose another place for the run"
            )
        return cls(folder)

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Open an existing run.

        Raises:
            RunError: the folder is not a run, or a run of another format.
        """
        if not folder.is_dir():
            raise RunError(
                f"expected a run folder at {folder}, found none; begin one with 'ecgtransfer train'"
            )
        found = read_json(folder / CONFIG).get("format")
        if found != RUN_FORMAT:
            raise RunError(
                f"expected a run folder of format {RUN_FORMAT}, got format {found} in {folder}; "
                "use the version of ecgtransfer that wrote it, or begin a new run"
            )
        return cls(folder)

    def stage(self, name: str) -> Stage:
        """Return the stage with this name, whether it is done or not."""
        return Stage(self.folder / name)

    def stages(self, prefix: str) -> list[Stage]:
        """Return all finished stages whose name starts with `prefix`, sorted by name."""
        found = (Stage(path) for path in sorted(self.folder.glob(f"{prefix}*")) if path.is_dir())
        return [stage for stage in found if stage.is_done]


def _names(folder: Path, but: str) -> set[str]:
    """Names in a folder, without the file `but` and unfinished temporary versions of it."""
    names = {path.name for path in folder.iterdir()} - {but}
    return {name for name in names if not name.startswith(f".{but}.")}


def _differences(stored: object, requested: object, name: str = "") -> list[str]:
    """Return "setting stored, asked for requested" for each setting that differs."""
    if isinstance(stored, dict) and isinstance(requested, dict):
        return [
            line
            for key in sorted(stored.keys() | requested.keys())
            for line in _differences(
                stored.get(key), requested.get(key), f"{name}.{key}".lstrip(".")
            )
        ]
    return [] if stored == requested else [f"{name} {stored}, asked for {requested}"]
