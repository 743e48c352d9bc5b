"""Frozen dataclasses to JSON cards and back.

A card is the JSON form of settings or results. Writing is lossless for what JSON can hold; reading
checks every field, so that a card of another version is refused in one sentence.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from ecgtransfer.errors import StorageError
from ecgtransfer.storage.atomic import atomic_file

#: Metadata of a dataclass field that cards omit at its default. Give it to every field that is
#: added to settings: older cards then keep their fingerprint, and mean the default.
OMIT_AT_DEFAULT: Mapping[str, bool] = {"omit_at_default": True}


def to_card(value: object) -> Any:
    """JSON values for dataclasses, mappings, sequences and paths; null for numbers not finite.

    Fields marked `OMIT_AT_DEFAULT` are omitted where they are at their default.
    """
    if is_dataclass(value) and not isinstance(value, type):
        held = {each: getattr(value, each.name) for each in fields(value)}
        return {each.name: to_card(v) for each, v in held.items() if not _omitted(each, v)}
    if isinstance(value, Mapping):
        return {str(key): to_card(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_card(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _omitted(field: Field[Any], value: object) -> bool:
    if "omit_at_default" not in field.metadata:
        return False
    factory = field.default_factory
    return bool(value == (field.default if factory is MISSING else factory()))


def fingerprint(value: object) -> str:
    """Twelve hex digits of the SHA-256 of the card of some settings."""
    text = json.dumps(to_card(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_json(
    path: Path,
    value: object,
    *,
    one_line: bool = False,
    shared: bool = False,
    keep: bool = False,
) -> None:
    """Write JSON values whole or not at all.

    Args:
        path: of the file.
        value: JSON values; ValueError for numbers that are not finite.
        one_line: in the order given, instead of sorted and indented.
        shared: see `atomic_file`.
        keep: see `atomic_file`.

    Raises:
        StorageError: the disk is full or refuses to write.
    """
    layout: dict[str, Any] = {} if one_line else {"indent": 2, "sort_keys": True}
    text = json.dumps(value, allow_nan=False, **layout) + "\n"
    with atomic_file(path, shared=shared, keep=keep) as partial:
        partial.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        StorageError: the file is missing, cannot be read, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StorageError(f"expected {path}, found no such file; is this a run folder?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StorageError(
            f"{path} is not readable as JSON ({error}); restore or remove it"
        ) from None
    except OSError as error:
        raise StorageError(
            f"{path} could not be read ({error.strerror}); check its permissions"
        ) from None
    if not isinstance(value, dict):
        raise StorageError(f"expected a JSON object in {path}, got {type(value).__name__}")
    return value
