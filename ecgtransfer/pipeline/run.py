"""The run folder: stages that explain themselves, are skipped when done, and never mix.

RUN/config.json                what the run is: format and the versions that began it
RUN/<stage>/request.json       what the stage was asked for, written before it starts
RUN/<stage>/card.json          the same with its results, written last: the stage is done
"""

import hashlib
import json
import math
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import is_dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ecgtransfer.corpus.writing import sole_writer
from ecgtransfer.errors import RunError
from ecgtransfer.settings import stated
from ecgtransfer.synthesis.folders import write_once
from ecgtransfer.training import (
    is_main_process,
    main_process_first,
    remove_checkpoints,
    wait_for_everyone,
)

#: Version of the layout of a run folder; a folder of another one is refused.
RUN_FORMAT = 1
CONFIG, REQUEST, CARD = "config.json", "request.json", "card.json"

#: Locks of the stages that this process is at work on, by folder; who dies leaves them to others.
_AT_WORK: dict[Path, ExitStack] = {}


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place once all of it is on the disk.

    Raises:
        RunError: the disk is full or closed to us; then `path` is as it was.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise _not_written(path, error) from None
    finally:
        partial.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; RunError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_written(folder, error) from None


def write_json(path: Path, value: object) -> None:
    """Sorted, indented JSON, whole or not at all; RunError where the disk does not take it."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from disk; RunError where it is missing or broken."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise RunError(f"expected {path}, found no such file; is this a run folder?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is not readable as JSON ({error}); restore or remove it") from None
    except OSError as error:
        raise RunError(
            f"{path} could not be read ({error.strerror}); see to its permissions"
        ) from None
    if not isinstance(value, dict):
        raise RunError(f"expected a JSON object in {path}, got {type(value).__name__}")
    return value


def as_json(settings: object) -> Any:
    """Dataclasses, tuples and paths as what JSON has for them; numbers that are none as null."""
    if is_dataclass(settings) and not isinstance(settings, type):
        return as_json(stated(settings))
    if isinstance(settings, Mapping):
        return {str(key): as_json(value) for key, value in settings.items()}
    if isinstance(settings, list | tuple):
        return [as_json(value) for value in settings]
    if isinstance(settings, Path):
        return str(settings)
    if isinstance(settings, float) and not math.isfinite(settings):
        return None
    return settings


def fingerprint(settings: object) -> str:
    """Twelve hex digits that stand for settings and the fingerprints of their inputs."""
    text = json.dumps(as_json(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def software() -> dict[str, str]:
    """The versions that a result depends on."""
    names = ("ecgtransfer", "torch", "numpy", "scipy")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def begin_run(folder: Path) -> None:
    """Make a folder a run folder, if it is none yet; any number of processes may do so at once."""
    make_folder(folder)
    _state(folder / CONFIG, {"format": RUN_FORMAT, "software": software()})


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
        with main_process_first():
            done = self._begin(as_json(settings))
            if done and is_main_process():
                remove_checkpoints(self.folder)  # which a kill after the card was written left
            if alone and not done and is_main_process():
                self._keep_others_out()
                done = self.is_done
            return done

    def set_aside(self, name: str) -> None:
        """Rename the card of a stage, which then is not done; RunError where that cannot be."""
        if is_main_process():
            path = self.folder / CARD
            try:
                path.replace(self.folder / name)
            except OSError as error:
                raise _not_written(path, error) from None
        wait_for_everyone()

    def _keep_others_out(self) -> None:
        folder = self.folder.resolve()
        if folder not in _AT_WORK:
            with ExitStack() as lock:
                lock.enter_context(sole_writer(folder))
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
            _state(path, request)
        held = read_json(path)
        if held.get("fingerprint") == request["fingerprint"]:
            return self.is_done
        # A request alone binds nobody: what was asked for was refused before any work.
        if found:
            differences = "; ".join(_differences(held.get("settings", {}), asked)) or "inputs"
            raise RunError(
                f"{self.folder} holds the stage {self.name!r} with other settings "
                f"({differences}); use another run folder, or remove {self.folder} to redo it"
            )
        _state(path, request, anew=True)
        return False

    def finish(self, results: object) -> dict[str, Any]:
        """Write the card: from now on the stage is done."""
        if is_main_process():
            card = read_json(self.folder / REQUEST) | {
                "results": as_json(results),
                "software": software(),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            write_json(self.folder / CARD, card)
            remove_checkpoints(self.folder)
            _AT_WORK.pop(self.folder.resolve(), ExitStack()).close()
        wait_for_everyone()
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


def _state(path: Path, value: object, *, anew: bool = False) -> None:
    """`write_once`; RunError where the disk does not take it."""
    try:
        write_once(path, value, anew=anew)
    except OSError as error:
        raise _not_written(path, error) from None


def _differences(held: object, asked: object, name: str = "") -> list[str]:
    """`setting: held, not asked` for every leaf that differs."""
    if isinstance(held, dict) and isinstance(asked, dict):
        return [
            line
            for key in sorted(held.keys() | asked.keys())
            for line in _differences(held.get(key), asked.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [] if held == asked else [f"{name} {held}, asked for {asked}"]


def _not_written(path: Path, error: OSError) -> RunError:
    return RunError(
        f"{path} could not be written ({error.strerror}); make room, or choose another place, and "
        f"run the same command again"
    )
