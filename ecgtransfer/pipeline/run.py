"""The run folder: stages that explain themselves, are skipped when done, and never mix.

RUN/config.json                what the run is: format and the versions that began it
RUN/<stage>/request.json       what the stage was asked for, written before it starts
RUN/<stage>/card.json          the same with its results, written last: the stage is done
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

#: Version of the layout of a run folder; a folder of another one is refused.
RUN_FORMAT = 1
CONFIG, REQUEST, CARD = "config.json", "request.json", "card.json"

#: Locks of the stages that this process is at work on, by folder; who dies leaves them to others.
_AT_WORK: dict[Path, ExitStack] = {}


def software() -> dict[str, str]:
    """The versions that a result depends on."""
    names = ("ecgtransfer", "torch", "numpy", "scipy")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def begin_run(folder: Path) -> None:
    """Make a folder a run folder, if it is none yet; any number of processes may do so at once."""
    make_folder(folder)
    if not (folder / CONFIG).exists():
        write_json(folder / CONFIG, {"format": RUN_FORMAT, "software": software()}, keep=True)


class Stage:
    """One folder of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def name(self) -> str:
        """Of the stage and its folder."""
        return self.folder.name

    @property
    def is_done(self) -> bool:
        """Whether its card is written."""
        return (self.folder / CARD).exists()

    @property
    def card(self) -> dict[str, Any]:
        """Settings and results; RunError while the stage is not done."""
        if not self.is_done:
            raise RunError(
                f"expected a finished stage {self.name!r} in {self.folder.parent}, found none; "
                f"run it first"
            )
        return read_json(self.folder / CARD)

    def read(self, kind: type[T], part: str) -> T:
        """A part of the card, such as "settings.model", as `storage.from_card` reads it.

        Raises:
            RunError: the stage is not done, or its card is of another version.
        """
        return from_card(kind, self.card, self.folder / CARD, part)

    def begin(self, settings: object, *, alone: bool = True) -> bool:
        """State what is asked for; True when just that is done already.

        Args:
            settings: what is asked for.
            alone: keep other processes out until the stage is finished or this process is gone.
                Without it any number, on whatever machines, may be at the same work at once.

        Raises:
            RunError: the folder holds work on this stage with other settings, or other files, or
                another process is at work there; nothing is touched.
        """
        with training.main_process_first():
            done = self._begin(to_card(settings))
            if done and training.is_main_process():
                training.remove_checkpoints(
                    self.folder
                )  # which a kill after the card was written left
            if alone and not done and training.is_main_process():
                self._keep_others_out()
                done = self.is_done
            return done

    def set_aside(self, name: str) -> None:
        """Rename the card of a stage, which then is not done; RunError where that cannot be."""
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

    def _begin(self, asked: Any) -> bool:
        path = self.folder / REQUEST
        request = {"settings": asked, "fingerprint": fingerprint(asked)}
        found = _names(self.folder, but=REQUEST) if self.folder.is_dir() else set()
        if not path.exists():
            if found:
                raise RunError(
                    f"expected {self.folder} to be empty or a stage of this run, found other files "
                    f"there; choose another run folder"
                )
            begin_run(self.folder.parent)
            make_folder(self.folder)
            write_json(path, request, keep=True)
        held = read_json(path)
        if held.get("fingerprint") == request["fingerprint"]:
            return self.is_done
        # Only a request file: nothing was computed, so it may be replaced.
        if found:
            differences = "; ".join(_differences(held.get("settings", {}), asked)) or "inputs"
            raise RunError(
                f"{self.folder} holds the stage {self.name!r} with other settings "
                f"({differences}); use another run folder, or remove {self.folder} to redo it"
            )
        write_json(path, request, shared=True)
        return False

    def finish(self, results: object) -> dict[str, Any]:
        """Write the card: from now on the stage is done."""
        if training.is_main_process():
            card = read_json(self.folder / REQUEST) | {
                "results": to_card(results),
                "software": software(),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            # Results keep their order, such as that of methods and measures in a table.
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
        """Open `folder` as a run, or take it for one if it is new or empty.

        Nothing is written before the first stage begins.
        """
        if (folder / CONFIG).exists():
            return cls.open(folder)
        strange = folder.exists() and (not folder.is_dir() or _names(folder, but=CONFIG))
        # Another process may have begun the run since.
        if strange and not (folder / CONFIG).exists():
            raise RunError(
                f"expected a new or empty folder or a run folder, found other files in {folder}; "
                f"choose another place for the run"
            )
        return cls(folder)

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Open an existing run; RunError where it is none, or one of another version."""
        if not folder.is_dir():
            raise RunError(
                f"expected a run folder at {folder}, found none; begin one with 'ecgtransfer train'"
            )
        held = read_json(folder / CONFIG).get("format")
        if held != RUN_FORMAT:
            raise RunError(
                f"expected a run folder of format {RUN_FORMAT}, got format {held} in {folder}; "
                f"use the version of ecgtransfer that wrote it, or begin a new run"
            )
        return cls(folder)

    def stage(self, name: str) -> Stage:
        """The stage of that name, done or not."""
        return Stage(self.folder / name)

    def stages(self, prefix: str) -> list[Stage]:
        """All finished stages whose name begins with `prefix`, by name."""
        found = (Stage(path) for path in sorted(self.folder.glob(f"{prefix}*")) if path.is_dir())
        return [stage for stage in found if stage.is_done]


def _names(folder: Path, but: str) -> set[str]:
    """What a folder holds, apart from a file `but` and what a kill left of it half written."""
    names = {path.name for path in folder.iterdir()} - {but}
    return {name for name in names if not name.startswith(f".{but}.")}


def _differences(held: object, asked: object, name: str = "") -> list[str]:
    """`setting: held, not asked` for every leaf that differs."""
    if isinstance(held, dict) and isinstance(asked, dict):
        return [
            line
            for key in sorted(held.keys() | asked.keys())
            for line in _differences(held.get(key), asked.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [] if held == asked else [f"{name} {held}, asked for {asked}"]
