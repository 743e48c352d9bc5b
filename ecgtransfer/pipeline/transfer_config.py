"""Research settings of a transfer from a TOML file; `docs/transfer-config.md` lists the keys."""

import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from ecgtransfer.errors import ConfigError, StorageError
from ecgtransfer.pipeline.methods import TransferSettings
from ecgtransfer.storage import from_card

T = TypeVar("T")

#: Settings with an option of the command line.
OPTIONS = ("method", "source_records", "seed")


def read_transfer_config(path: Path, settings: TransferSettings) -> TransferSettings:
    """Replace settings by those of a TOML file; settings without a key are unchanged.

    Args:
        path: path of the file. Its keys are the fields of `TransferSettings`, except `OPTIONS`;
            nested settings are tables.
        settings: settings to start from.

    Raises:
        ConfigError: the file cannot be read, or a key or value is not valid.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"expected a TOML file at {path}, got: {error.strerror}; check the path"
        ) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"expected a TOML file at {path}, got an error ({error}); correct the file"
        ) from None
    for name in OPTIONS:
        if name in table:
            option = name.replace("_", "-")
            raise ConfigError(f"{path} has the key {name}; use the option --{option} instead")
    return _replaced(settings, table, path, "", OPTIONS)


def _replaced(
    settings: T, table: Mapping[str, Any], path: Path, prefix: str, hidden: tuple[str, ...] = ()
) -> T:
    """Replace the values of a dataclass by those of a table."""
    assert is_dataclass(settings)
    types = get_type_hints(type(settings))
    known = [each.name for each in fields(settings) if each.name not in hidden]
    changes: dict[str, Any] = {}
    for key, value in table.items():
        name = prefix + key
        if key not in known:
            raise ConfigError(f"{path} has the unknown key {name}; use one of {', '.join(known)}")
        current = getattr(settings, key)
        if is_dataclass(current):
            if not isinstance(value, dict):
                raise ConfigError(
                    f"expected a table [{name}] in {path}, got {value!r}; correct the file"
                )
            changes[key] = _replaced(current, value, path, f"{name}.")
        else:
            changes[key] = _read(types[key], value, path, name)
    try:
        changed: T = replace(settings, **changes)  # type: ignore[type-var]
    except ConfigError as error:
        where = f"[{prefix[:-1]}] of {path}" if prefix else str(path)
        raise ConfigError(f"{where} is not valid: {error}") from None
    return changed


def _read(kind: Any, value: Any, path: Path, name: str) -> Any:
    """Convert a value to the type of its field."""
    nested = value
    for part in reversed(name.split(".")):
        nested = {part: nested}
    try:
        return from_card(kind, nested, path, name)
    except StorageError as error:
        sentence, _, _ = str(error).rpartition("; ")
        raise ConfigError(f"{sentence}; correct the file") from None
