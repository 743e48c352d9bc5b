"""Settings and results to JSON and back."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest
from cattrs import StructureHandlerNotFoundError

from ecgtransfer.errors import ConfigError, StorageError
from ecgtransfer.storage import (
    OMIT_AT_DEFAULT,
    fingerprint,
    from_card,
    read_card,
    read_json,
    to_card,
    write_json,
)
from ecgtransfer.training import TrainConfig


@dataclass(frozen=True)
class Inner:
    widths: tuple[int, ...] = (1, 2)
    folder: Path = Path("sets/a")


@dataclass(frozen=True)
class Settings:
    old: int = 1
    inner: Inner = Inner()
    new: int = field(default=2, metadata=OMIT_AT_DEFAULT)
    stages: dict[str, int] = field(default_factory=dict, metadata=OMIT_AT_DEFAULT)


INNER = {"widths": [1, 2], "folder": "sets/a"}


def test_a_newer_field_is_omitted_at_its_default():
    assert to_card(Settings()) == {"old": 1, "inner": INNER}
    assert to_card(Settings(old=3, new=2)) == {"old": 3, "inner": INNER}
    assert to_card(Settings(new=3)) == {"old": 1, "inner": INNER, "new": 3}
    assert to_card(Settings(stages={"a": 1})) == {"old": 1, "inner": INNER, "stages": {"a": 1}}


def test_a_training_binds_as_before_there_was_accumulation():
    assert "accumulate" not in TrainConfig(steps=3).binding
    assert TrainConfig(steps=3, accumulate=2).binding["accumulate"] == 2


def test_numbers_that_are_not_finite_become_null():
    held = to_card({"a": math.nan, "b": (math.inf, 1.0), "c": Path("x"), 1: None})
    assert json.dumps(held, allow_nan=False) == '{"a": null, "b": [null, 1.0], "c": "x", "1": null}'


def test_a_fingerprint_stands_for_the_settings():
    assert fingerprint(Settings()) == fingerprint(to_card(Settings()))
    assert fingerprint(Settings()) != fingerprint(Settings(old=6))
    assert fingerprint({}) == "44136fa355b3"  # printf '{}' | sha256sum


def test_json_is_sorted_or_on_one_line_or_in_the_order_given(tmp_path):
    path = tmp_path / "card.json"
    write_json(path, {"b": 1, "a": 2})
    assert path.read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'
    write_json(path, {"b": 1, "a": 2}, one_line=True)
    assert path.read_text() == '{"b": 1, "a": 2}\n'
    write_json(path, {"b": 1, "a": 2}, ordered=True)
    assert path.read_text() == '{\n  "b": 1,\n  "a": 2\n}\n'
    assert read_json(path) == {"a": 2, "b": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": math.nan})
    assert read_json(path) == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"expected .*card\.json, found no such file"),
        (b"{", r"card\.json is not readable as JSON \(.*\); restore or remove it"),
        (b"\xff", r"card\.json is not readable as JSON"),
        (b"[1]", r"expected a JSON object in .*card\.json, got list"),
    ],
)
def test_a_file_that_is_no_card_is_refused(tmp_path, content, sentence):
    if content is not None:
        (tmp_path / "card.json").write_bytes(content)
    with pytest.raises(StorageError, match=sentence):
        read_json(tmp_path / "card.json")


def test_a_card_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(StorageError, match=r"could not be read \(Is a directory\); check its perm"):
        read_json(tmp_path)


@dataclass(frozen=True)
class Even:
    number: int

    def __post_init__(self):
        if self.number % 2:
            raise ConfigError(f"expected an even number, got {self.number}")


@dataclass(frozen=True)
class Everything:
    names: tuple[str, ...]
    pair: tuple[int, int] | None
    inner: Inner
    each: Mapping[str, Inner]
    several: tuple[Even, ...]
    lists: dict[str, list[float]]
    way: Literal["up", "down"]
    value: float
    flag: bool
    rest: dict[str, Any]
    optional: int | None = None
    new: int = field(default=2, metadata=OMIT_AT_DEFAULT)


WHOLE = Everything(
    names=("a", "b"),
    pair=(1, 2),
    inner=Inner((3,), Path("x/y")),
    each={"first": Inner()},
    several=(Even(2), Even(4)),
    lists={"a": [1.0, 2]},
    way="down",
    value=0.1,
    flag=True,
    rest={"any": [1, None, {"x": "y"}]},
)
WHOLE_CARD = to_card(WHOLE)
REMEDY = "; use the version of ecgtransfer that wrote it, or create it again"


@pytest.mark.parametrize("held", [WHOLE, replace(WHOLE, pair=None, optional=3, new=5, value=1)])
def test_a_card_comes_back_as_it_was(tmp_path, held):
    write_json(tmp_path / "card.json", to_card(held))
    found = read_card(Everything, tmp_path / "card.json")
    assert found == held
    assert to_card(found) == to_card(held)


def test_a_part_of_a_card_is_read():
    card = {"settings": {"inner": INNER}, "weights": [1.0, 2.0], "name": "x"}
    assert from_card(Inner, card, Path("c"), "settings.inner") == Inner()
    assert from_card(tuple[float, ...], card, Path("c"), "weights") == (1.0, 2.0)
    assert from_card(str, card, Path("c"), "name") == "x"


def test_a_number_that_was_not_finite_is_not_a_number():
    held = from_card(Everything, to_card(replace(WHOLE, value=math.inf)), Path("card.json"))
    assert math.isnan(held.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"names": "abc"}, "expected a list as the field names of card.json, found 'abc'"),
        ({"names": {"a": 1}}, "expected a list as the field names of card.json, found {'a': 1}"),
        ({"names": ["a", 1]}, "expected a text as the field names[1] of card.json, found 1"),
        ({"pair": [1]}, "expected a list of 2 or null as the field pair of card.json, found [1]"),
        (
            {"pair": [1, 2.5]},
            "expected a whole number as the field pair[1] of card.json, found 2.5",
        ),
        ({"inner": 3}, "expected an object as the field inner of card.json, found 3"),
        (
            {"inner": {**INNER, "widths": None}},
            "expected a list as the field inner.widths of card.json, found None",
        ),
        ({"inner": {"widths": [1]}}, "card.json lacks the field inner.folder"),
        ({"inner": {**INNER, "x": 1}}, "card.json has the unknown field inner.x"),
        (
            {"inner": {**INNER, "folder": 1}},
            "expected a path as the field inner.folder of card.json, found 1",
        ),
        ({"each": [1]}, "expected an object as the field each of card.json, found [1]"),
        ({"each": {"q": {}}}, "card.json lacks the field each.q.folder"),
        (
            {"several": [{"number": 2}, {"number": 3}]},
            "the field several[1] of card.json is not valid (expected an even number, got 3)",
        ),
        ({"lists": {"a": 1}}, "expected a list as the field lists.a of card.json, found 1"),
        (
            {"lists": {"a": [True]}},
            "expected a number as the field lists.a[0] of card.json, found True",
        ),
        (
            {"way": "left"},
            "expected one of 'up', 'down' as the field way of card.json, found 'left'",
        ),
        ({"value": "1"}, "expected a number as the field value of card.json, found '1'"),
        ({"flag": 1}, "expected true or false as the field flag of card.json, found 1"),
        (
            {"optional": "1"},
            "expected a whole number or null as the field optional of card.json, found '1'",
        ),
        ({"rest": 1}, "expected an object as the field rest of card.json, found 1"),
        ({"later": 1}, "card.json has the unknown field later"),
    ],
)
def test_a_wrong_card_is_refused_in_one_sentence_that_names_the_field(change, sentence):
    with pytest.raises(StorageError) as caught:
        from_card(Everything, WHOLE_CARD | change, Path("card.json"))
    assert str(caught.value) == sentence + REMEDY


@pytest.mark.parametrize("name", list(WHOLE_CARD))
def test_a_missing_field_is_refused_by_its_name(name):
    less = {key: value for key, value in WHOLE_CARD.items() if key != name}
    with pytest.raises(StorageError, match=rf"^card\.json lacks the field {name}; use the version"):
        from_card(Everything, less, Path("card.json"))


@pytest.mark.parametrize(
    ("card", "part", "sentence"),
    [
        ([], "", "expected an object as card.json, found []"),
        ({}, "settings.inner", "card.json lacks the field settings"),
        ({"settings": {}}, "settings.inner", "card.json lacks the field settings.inner"),
        (
            {"settings": 1},
            "settings.inner",
            "expected an object as the field settings of card.json, found 1",
        ),
        (
            {"settings": {"inner": {"x": 1}}},
            "settings.inner",
            "card.json lacks the field settings.inner.folder",
        ),
        (
            {"settings": {"inner": 1}},
            "settings.inner",
            "expected an object as the field settings.inner of card.json, found 1",
        ),
    ],
)
def test_a_missing_part_is_refused(card, part, sentence):
    with pytest.raises(StorageError) as caught:
        from_card(Inner, card, Path("card.json"), part)
    assert str(caught.value) == sentence + REMEDY


def test_a_type_that_no_card_can_hold_is_our_own_bug():
    with pytest.raises(StructureHandlerNotFoundError):
        from_card(complex, 1, Path("card.json"))
