"""Settings and results to JSON and back."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ecgtransfer.errors import StorageError
from ecgtransfer.storage import OMIT_AT_DEFAULT, fingerprint, read_json, to_card, write_json
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


def test_json_is_sorted_or_on_one_line(tmp_path):
    path = tmp_path / "card.json"
    write_json(path, {"b": 1, "a": 2})
    assert path.read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'
    write_json(path, {"b": 1, "a": 2}, one_line=True)
    assert path.read_text() == '{"b": 1, "a": 2}\n'
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
