"""Tables in print: decimals in common, numeric columns, sort keys, missing values."""

import numpy as np
import pytest

from ecgtransfer.drawing.table import Formatted, Table, table_view
from ecgtransfer.errors import ConfigError
from ecgtransfer.statistics import Estimate


def column(*cells):
    """Texts with intervals, and keys, of one column of a table."""
    view = table_view(Table("t", ("name", "x"), tuple(("", cell) for cell in cells)))
    views = [row[1] for row in view.rows]
    texts = [f"{each.text} {each.interval}".strip() for each in views]
    return texts, [each.key for each in views], view.numeric[1]


def test_numbers_of_a_column_have_the_decimals_that_its_largest_needs():
    assert column(0.5, 0.12345)[0] == ["0.500", "0.123"]
    assert column(99.96, 3.14159)[0] == ["99.96", "3.14"]
    assert column(1234.5, 200.25)[0] == ["1,234", "200"]
    assert column(0.00123, 0.0002)[0] == ["0.00123", "0.00020"]
    assert column(3.2e-7)[0] == ["3.2\u00a0×\u00a010⁻⁷"]
    assert column(-0.0004, 0.03)[0] == ["0.000", "0.030"]
    assert column(0.0, 0.0)[0] == ["0.000", "0.000"]
    assert column(np.float32(0.25), np.int64(1200))[0] == ["0.250", "1,200"]


def test_numbers_that_lie_far_apart_have_their_own_decimals():
    texts, _, _ = column(Estimate(18.4, 17.44, 19.38), Estimate(0.0131, 0.0124, 0.0138), 0.0)
    assert texts == ["18.40 [17.44, 19.38]", "0.013 [0.012, 0.014]", "0.000"]


def test_an_estimate_is_sorted_by_its_value():
    texts, keys, numeric = column(Estimate(0.9, -0.1, 0.95), 3)
    assert texts == ["0.900 [−0.100, 0.950]", "3"]
    assert keys == [0.9, 3.0]
    assert numeric


def test_what_has_no_value_is_shown_as_such_and_has_no_key():
    texts, keys, numeric = column(None, float("nan"), "", 0.5)
    assert texts == ["–", "–", "–", "0.500"]
    assert keys == [None, None, None, 0.5]
    assert numeric
    assert not column(None, None)[2]


def test_an_infinite_number_is_shown_and_sorted():
    assert column(float("inf"), -float("inf"), 0.5) == (
        ["∞", "−∞", "0.500"],
        [float("inf"), -float("inf"), 0.5],
        True,
    )


def test_a_formatted_number_is_printed_as_it_is_and_sorted_by_its_value():
    cells = (
        Formatted.of(Estimate(0.905, 0.9, 0.91)),
        Formatted(78.4, "78 %"),
        Formatted(-3.0, "-3 points", "[-4, -2], adjusted [-5, -1]"),
        Formatted.of(Estimate(0.0123, 0.01, 0.02), "+.2f", "(spread)"),
        None,
    )
    texts, keys, numeric = column(*cells)
    assert texts == [
        "0.905 [0.900, 0.910]",
        "78 %",
        "-3 points [-4, -2], adjusted [-5, -1]",
        "+0.01 [+0.01, +0.02] (spread)",
        "–",
    ]
    assert keys == [0.905, 78.4, -3.0, 0.0123, None]
    assert numeric
    assert texts[:4] == [str(cell) for cell in cells[:4]]
    assert str(Formatted.of(Estimate(0.5, 0.25, 1.0))) == str(Estimate(0.5, 0.25, 1.0))


def test_text_is_sorted_as_text_even_where_it_begins_with_a_number():
    assert column("0.905 [0.900, 0.910]", "78 %")[1:] == ([None, None], False)
    assert column("0.9", Formatted(78.4, "78 %"))[1:] == ([None, None], False)


def test_a_table_is_told_as_text_for_a_terminal_and_for_json():
    cells = ("F2", Formatted.of(Estimate(0.5, 0.25, 1.0)), 3, None, Estimate(0.5, 0.25, 1.0))
    table = Table("t", ("measure", "score", "n", "none", "estimate"), (cells,), "note")
    estimate = "0.500 [0.250, 1.000]"
    assert table.texts() == (table.header, ("F2", estimate, "3", "", estimate))
    assert table.to_dict()["rows"][0][:4] == ["F2", estimate, 3, None]


@pytest.mark.parametrize("word", ["1AVB", "25-35 Hz", "1.2.3", "3x", "2027-03-14", "n = 5"])
def test_a_column_with_other_text_is_sorted_as_text(word):
    assert column(0.9, word)[1] == [0.9, None]
    assert not column(0.9, word)[2]


def test_truth_values_are_words():
    assert column(True, np.bool_(False)) == (["yes", "no"], [None, None], False)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Table("t", (), ()), "expected columns in table 't', got none"),
        (lambda: Table("t", ("a", "b"), (("x",),)), "expected 2 cells in row 0 .* got 1"),
        (lambda: Table("t", ("a",), (([1],),)), "expected text, a number or an estimate .* list"),
    ],
)
def test_what_cannot_be_in_a_table_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
