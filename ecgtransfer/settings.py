"""How a setting that is newer than the files which state settings leaves them true."""

from collections.abc import Mapping
from dataclasses import Field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

#: Metadata of a field that cards and checkpoints state only where it is not at its default: those
#: written before there was such a field mean the default, and still mean the same.
UNSTATED_AT_DEFAULT: Mapping[str, bool] = {"unstated_at_default": True}


def stated(settings: "DataclassInstance") -> dict[str, Any]:
    """Names and values of a dataclass as a card or checkpoint states them."""
    values = {each: getattr(settings, each.name) for each in fields(settings)}
    return {each.name: value for each, value in values.items() if not _unstated(each, value)}


def _unstated(each: Field[Any], value: object) -> bool:
    return "unstated_at_default" in each.metadata and bool(value == each.default)
