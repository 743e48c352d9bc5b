"""Frozen dataclasses to JSON cards and back.

A card is the JSON form of settings or results. Reading checks every field: a card of another
version is rejected in one sentence that names the file and the field.
"""

import hashlib
import json
import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from cattrs import (
    ClassValidationError,
    Converter,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
    StructureHandlerNotFoundError,
)
from cattrs.gen import make_dict_structure_fn

from ecgtransfer.errors import EcgTransferError, StorageError
from ecgtransfer.storage.atomic import atomic_file

T = TypeVar("T")

#: Metadata of a dataclass field that cards omit at its default. Give it to every field that is
#: added to existing settings: older cards then keep their fingerprint and imply the default.
OMIT_AT_DEFAULT: Mapping[str, bool] = {"omit_at_default": True}


def to_card(value: object) -> Any:
    """Convert dataclasses, mappings, sequences and paths to JSON values.

    Numbers that are not finite become null. Fields marked `OMIT_AT_DEFAULT` are omitted if they
    have their default value.
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


def from_card(kind: type[T], card: object, file: Path, part: str = "") -> T:
    """Read a dataclass, or any other type that `to_card` writes, from the JSON values of a card.

    Fields marked `OMIT_AT_DEFAULT` may be missing and then take their default; every other field is
    required. A number may be null and is then NaN.

    Args:
        kind: type to read, such as a dataclass or `tuple[float, ...]`.
        card: JSON values.
        file: file that holds the card, named in error messages.
        part: dotted name of the part to read, such as "settings.model"; empty for the whole card.

    Raises:
        StorageError: a field is missing, unknown or of the wrong type.
    """
    names: list[str | int] = []
    expected, found = kind, card
    try:
        for name in part.split(".") if part else ():
            _require(found, {name})
            found = found[name]  # type: ignore[index]
            names.append(name)
        return _CONVERTER.structure(found, kind)
    except (NameError, StructureHandlerNotFoundError):
        raise  # `kind` is not a type that cards support
    except Exception as error:
        cause: BaseException = error
    while isinstance(cause, ClassValidationError | IterableValidationError):
        noted, others = cause.group_exceptions()
        if not noted:
            cause = others[0]
            continue
        cause, note = noted[0]
        place: Any = note.index if isinstance(note, IterableValidationNote) else note.name
        names.append(place)
        found, expected = found[place], note.type  # type: ignore[index]
    raise StorageError(f"{_refusal(file, names, cause, expected, found)}; {_REMEDY}") from None


_REMEDY = "use the version of ecgtransfer that wrote it, or create it again"


class _MissingField(Exception):
    """A field is missing from a card; the only argument is the field's name."""


def _refusal(
    file: Path, names: list[str | int], cause: BaseException, expected: Any, found: Any
) -> str:
    """Describe what is wrong with the field at this position."""
    if isinstance(cause, _MissingField):
        return f"{file} lacks the field {_dotted([*names, cause.args[0]])}"
    if isinstance(cause, ForbiddenExtraKeysError):
        return f"{file} has the unknown field {_dotted([*names, min(cause.extra_fields)])}"
    where = f"the field {_dotted(names)} of {file}" if names else str(file)
    if isinstance(cause, EcgTransferError):
        return f"{where} is not valid ({cause})"
    return f"expected {_described(expected)} as {where}, found {reprlib.repr(found)}"


def _dotted(names: list[str | int]) -> str:
    return "".join(f"[{n}]" if isinstance(n, int) else f".{n}" for n in names).lstrip(".")


def _described(kind: Any) -> str:
    """Describe a type by its JSON form."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if origin in (Union, UnionType):
        return " or ".join(_described(each) for each in inner)
    if origin in (tuple, list) and Ellipsis not in inner:
        return f"a list of {len(inner)}" if origin is tuple else "a list"
    plain = {bool: "true or false", int: "a whole number", float: "a number", NoneType: "null"}
    text = {str: "a text", Path: "a path", tuple: "a list"}
    return (plain | text).get(origin or kind, "an object")


def _require(found: object, required: set[str]) -> None:
    """Raise unless `found` is a JSON object with the required fields."""
    if not isinstance(found, dict):
        raise TypeError
    if missing := sorted(required - found.keys()):
        raise _MissingField(missing[0])


def _plain(*kinds: type) -> Callable[[Any, Any], Any]:
    """Make a hook that accepts only values of exactly these types, without conversion."""

    def hook(value: Any, kind: Any) -> Any:
        if type(value) not in kinds:
            raise TypeError
        return value

    return hook


def _number(value: Any, kind: Any) -> Any:
    return math.nan if value is None else _plain(float, int)(value, kind)


def _dataclass_hook(kind: type) -> Callable[[Any, Any], Any]:
    read: Callable[[Any, Any], Any] = make_dict_structure_fn(kind, _CONVERTER)
    required = {each.name for each in fields(kind) if "omit_at_default" not in each.metadata}

    def hook(value: Any, kind: Any) -> Any:
        _require(value, required)
        return read(value, kind)

    return hook


def _is_sequence(kind: Any) -> bool:
    return get_origin(kind) is tuple or get_origin(kind) is list


def _sequence(value: Any, kind: Any) -> Any:
    """Structure a JSON list as a tuple or list; reject strings and objects, which also iterate."""
    make, inner = get_origin(kind), get_args(kind)
    if not isinstance(value, list | tuple):
        raise TypeError
    kinds = [inner[0]] * len(value) if make is list or Ellipsis in inner else inner
    if len(kinds) != len(value):
        raise TypeError
    read = []
    for index, (each, its) in enumerate(zip(value, kinds, strict=True)):
        try:
            read.append(_CONVERTER.structure(each, its))
        except Exception as error:
            error.add_note(IterableValidationNote("", index, its))
            raise IterableValidationError("", [error], kind) from None
    return make(read)


_CONVERTER = Converter(forbid_extra_keys=True)
for _kind in (bool, int, str):
    _CONVERTER.register_structure_hook(_kind, _plain(_kind))
_CONVERTER.register_structure_hook(float, _number)
_CONVERTER.register_structure_hook(Path, lambda value, _: Path(_plain(str)(value, Path)))
_CONVERTER.register_structure_hook_func(_is_sequence, _sequence)
_CONVERTER.register_structure_hook_factory(is_dataclass, _dataclass_hook)


def fingerprint(value: object) -> str:
    """First twelve hexadecimal digits of the SHA-256 of the card of some settings."""
    text = json.dumps(to_card(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_json(
    path: Path,
    value: object,
    *,
    one_line: bool = False,
    ordered: bool = False,
    shared: bool = False,
    keep: bool = False,
) -> None:
    """Write JSON values atomically.

    Args:
        path: destination file.
        value: JSON values.
        one_line: write on one line in the given order, instead of sorted and indented.
        ordered: write in the given order, and indented.
        shared: see `atomic_file`.
        keep: see `atomic_file`.

    Raises:
        StorageError: the disk is full or refuses to write.
        ValueError: a number is not finite.
    """
    layout: dict[str, Any] = {} if one_line else {"indent": 2, "sort_keys": not ordered}
    text = json.dumps(value, allow_nan=False, **layout) + "\n"
    with atomic_file(path, shared=shared, keep=keep) as partial:
        partial.write_text(text, encoding="utf-8")


def read_card(kind: type[T], path: Path) -> T:
    """Read a file that holds a card.

    Raises:
        StorageError: as in `read_json` and `from_card`.
    """
    return from_card(kind, read_json(path), path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        StorageError: the file is missing, unreadable, or not a JSON object.
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
