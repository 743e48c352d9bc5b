import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgtransfer.errors import ConfigError
from ecgtransfer.synthesis import check_amounts, records_to_add, records_to_generate
from ecgtransfer.synthesis.amounts import distributed

CLINIC = {("NORM",): 40, ("AFIB",): 12, ("AFIB", "CRBBB"): 4, ("CRBBB",): 10, (): 5}


def totals(counts):
    names = {name for combination in counts for name in combination}
    return {name: sum(n for combo, n in counts.items() if name in combo) for name in names}


def together(recorded, added):
    return totals({combo: recorded[combo] + added.get(combo, 0) for combo in recorded})


def test_a_ratio_adds_the_mix_of_the_recorded_records():
    assert records_to_add(CLINIC, ratio=2) == {
        ("NORM",): 80, ("AFIB",): 24, ("AFIB", "CRBBB"): 8, ("CRBBB",): 20
    }  # fmt: skip


def test_a_ratio_is_rounded_up_so_that_every_combination_comes():
    assert records_to_add(CLINIC, ratio=0.1) == {
        ("NORM",): 4, ("AFIB",): 2, ("AFIB", "CRBBB"): 1, ("CRBBB",): 1
    }  # fmt: skip


def test_classes_are_filled_up_in_proportion_to_their_combinations():
    # CRBBB has 14 and needs 16 more: 16 * 4 / 14 = 4.57 and 16 * 10 / 14 = 11.43 of its two
    # combinations; then AFIB has 16 + 5 and needs 9: 9 * 12 / 16 = 6.75 and 9 * 4 / 16 = 2.25.
    assert records_to_add(CLINIC, at_least=30) == {
        ("AFIB",): 7, ("AFIB", "CRBBB"): 5 + 2, ("CRBBB",): 11
    }  # fmt: skip


def test_balanced_classes_have_the_number_of_the_most_frequent_one():
    single = {("A",): 7, ("B",): 3, ("C",): 1}
    assert records_to_add(single, balance=True) == {("B",): 4, ("C",): 6}
    assert records_to_add(single, balance=True, ratio=1) == {("A",): 7, ("B",): 11, ("C",): 13}
    assert records_to_add(single, balance=True, at_least=8) == {("A",): 1, ("B",): 5, ("C",): 7}


def test_combinations_that_the_model_does_not_know_get_no_record():
    assert records_to_add(CLINIC, ratio=1, known=("NORM", "AFIB")) == {("NORM",): 40, ("AFIB",): 12}
    added = records_to_add(CLINIC, at_least=50, known=("NORM", "AFIB"))
    # The recorded AFIB with CRBBB count for AFIB, but no other is added.
    assert added == {("NORM",): 10, ("AFIB",): 34}


@given(
    st.dictionaries(
        st.frozensets(st.sampled_from("ABCDE"), max_size=3).map(lambda s: tuple(sorted(s))),
        st.integers(1, 60),
        min_size=1,
    ),
    st.integers(1, 100),
)
def test_every_class_has_at_least_what_was_asked_for(recorded, at_least):
    lacking = [name for name, count in totals(recorded).items() if count < at_least]
    if not lacking:
        with pytest.raises(ConfigError, match="expected records to add"):
            records_to_add(recorded, at_least=at_least)
        return
    added = records_to_add(recorded, at_least=at_least)
    assert min(together(recorded, added).values()) >= at_least
    assert set(added) <= set(recorded)
    # Nothing is added to a combination without a class that lacked records.
    assert all(set(combination) & set(lacking) for combination in added)


@given(st.integers(0, 500), st.lists(st.integers(1, 50), min_size=1, max_size=6))
def test_a_number_is_distributed_whole(number, counts):
    like = {(str(k),): count for k, count in enumerate(counts)}
    shares = distributed(number, like)
    assert sum(shares.values()) == number
    exact = {names: number * count / sum(counts) for names, count in like.items()}
    assert all(abs(shares[names] - exact[names]) < 1 for names in like)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "expected a ratio, a number of records per class or balanced classes"),
        ({"ratio": 0.0}, "expected a ratio above 0, got 0.0"),
        ({"ratio": float("inf")}, "expected a ratio above 0, got inf"),
        ({"at_least": 0}, "expected at least 1 record per class, got 0"),
        ({"at_least": 4}, "every class has 4 records already"),
        ({"ratio": 1.0, "known": ()}, "no recorded combination of labels is known"),
    ],
)
def test_amounts_that_cannot_be_are_refused(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        records_to_add(CLINIC, **options)


def test_options_are_checked_without_records():
    check_amounts(1.0, None, False)
    with pytest.raises(ConfigError, match="state how many records to add"):
        check_amounts(None, None, False)


def test_a_later_round_makes_up_for_the_share_that_is_dropped():
    lacking, kept, generated = {("A",): 6, ("B",): 9, ("C",): 0}, {("A",): 5}, {("A",): 10}
    # A: (5 + 1) / (10 + 2) = 1 / 2 pass, so that 12 are generated; of B nothing is known yet.
    assert records_to_generate(lacking, kept, generated, 0.25) == {("A",): 12, ("B",): 9}
    assert records_to_generate({("A",): 6}, {}, {("A",): 98}, 0.25) == {("A",): 24}
