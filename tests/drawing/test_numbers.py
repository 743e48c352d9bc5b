"""Numbers in print: decimals, signs, powers of ten, intervals."""

import pytest

from ecgtransfer.drawing.numbers import decimals_for, estimate_text, number_text
from ecgtransfer.statistics import Estimate


@pytest.mark.parametrize(
    ("values", "decimals"),
    [([0.5], 3), ([], 3), ([0.0], 3), ([9.99], 3), ([10.0], 2), ([1e6], 0), ([0.004], 5)],
)
def test_decimals_follow_the_largest_number(values, decimals):
    assert decimals_for([*values, float("nan"), float("-inf")]) == decimals


def test_signed_numbers_have_a_sign_and_a_true_minus():
    assert number_text(0.01, 3, signed=True) == "+0.010"
    assert number_text(-0.01, 3, signed=True) == "−0.010"
    assert number_text(-1234.56, 1) == "−1,234.6"
    assert number_text(0.0, None) == "0"


def test_an_estimate_is_printed_with_its_interval():
    assert estimate_text(Estimate(0.9, -0.1, 0.95), 2) == "0.90 [−0.10, 0.95]"
    assert estimate_text(Estimate(0.9, 0.8, 0.95), 1, signed=True) == "+0.9 [+0.8, +0.9]"
    assert estimate_text(None, 2) == "no value"
