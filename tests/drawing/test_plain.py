"""Values for JSON: what it has no word for becomes None, and what it cannot hold is refused."""

from pathlib import Path

import numpy as np
import pytest

from ecgtransfer.drawing.plain import plain
from ecgtransfer.errors import ConfigError


class Result:
    def to_dict(self):
        return {"share": np.float32(0.5)}


def test_results_become_plain_values_however_deep_they_lie():
    held = {1: (Result(), np.arange(2)), "nan": [np.nan, -np.inf], "path": Path("a/b")}
    assert plain(held) == {
        "1": [{"share": 0.5}, [0, 1]],
        "nan": [None, None],
        "path": "a/b",
    }


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(ConfigError, match=r"expected numbers, text .* got object"):
        plain({"a": [object()]})
