"""Selection of trains whose ln RR has a Gaussian law, shifted or not."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ecgtransfer.errors import ConfigError, CorpusError, StorageError
from ecgtransfer.signals import BeatKind, Beats
from ecgtransfer.storage import from_card, to_card
from ecgtransfer.transfer import SELECTION_FEATURES, RhythmSelection, selection_features

#: ln RR under source and target: normal with these means and one standard deviation.
SOURCE, TARGET, SPREAD = math.log(0.9), math.log(0.75), 0.15
RECORDS, DRAWS = 100, 4


def train(log_rr, kind=BeatKind.ORDINARY):
    times = np.arange(0.1, 10, math.exp(log_rr))
    return Beats(times, np.full(len(times), kind, np.int8), 10.0)


def drawn(mean, n, rng):
    return [train(log_rr) for log_rr in rng.normal(mean, SPREAD, n)]


def log_rr(trains):
    return np.array([math.log(np.median(each.rr_s)) for each in trains])


def fitted(target_mean, seed=0):
    rng = np.random.default_rng(seed)
    target = drawn(target_mean, RECORDS, rng)
    source = [drawn(SOURCE, DRAWS, rng) for _ in range(RECORDS)]
    patients = [f"p{number // 2}" for number in range(RECORDS)]
    return RhythmSelection.fitted(target, source, patients, seed=seed)


@pytest.fixture(scope="module")
def shifted():
    return fitted(TARGET)


def exact():
    """Log N(TARGET) / N(SOURCE) as a function of ln rate = ln 60 - ln RR."""
    slope = (SOURCE - TARGET) / SPREAD**2
    middle = math.log(60) - (SOURCE + TARGET) / 2
    others = [0.0] * (len(SELECTION_FEATURES) - 1)
    return RhythmSelection(
        centre=(middle, *others),
        scale=(1.0,) * len(SELECTION_FEATURES),
        weights=(slope, *others),
        intercept=0.0,
        slope=1.0,
        offset=0.0,
        ridge=1.0,
        log_loss=0.5,
        standard_error=0.01,
    )


def test_the_exact_ratio_selects_the_target_from_many_candidates():
    rng = np.random.default_rng(1)
    selection = exact()
    trains = drawn(SOURCE, 50, rng)
    expected = stats.norm(TARGET, SPREAD).logpdf(log_rr(trains)) - stats.norm(
        SOURCE, SPREAD
    ).logpdf(log_rr(trains))
    assert np.allclose(selection.log_ratio(trains), expected)
    candidates = [drawn(SOURCE, 30, rng) for _ in range(120)]
    chosen = log_rr(selection.select(candidates, [np.random.default_rng(k) for k in range(120)]))
    assert chosen.mean() == pytest.approx(TARGET, abs=0.04)
    assert chosen.std() == pytest.approx(SPREAD, abs=0.04)


def test_a_shift_is_learned_from_a_hundred_records(shifted):
    assert not shifted.is_constant
    # Two normal laws one standard deviation apart: the best logistic loss there is.
    grid = np.linspace(SOURCE - 1, SOURCE + 1, 4001)
    p, q = (stats.norm(mean, SPREAD).pdf(grid) for mean in (SOURCE, TARGET))
    best = np.trapezoid(-(p * np.log(p / (p + q)) + q * np.log(q / (p + q))) / 2, grid)
    assert best - 3 * shifted.standard_error < shifted.log_loss < math.log(2) - 0.05
    rng = np.random.default_rng(2)
    candidates = [drawn(SOURCE, 8, rng) for _ in range(120)]
    generators = [np.random.default_rng(number) for number in range(120)]
    chosen = log_rr(shifted.select(candidates, generators))
    # Eight candidates do not reach all the way, and calibration shrinks the ratio.
    assert 0.5 < (chosen.mean() - SOURCE) / (TARGET - SOURCE) < 1.1
    # E_p[r] is 1.
    trains = [each for some in candidates for each in some]
    assert np.exp(shifted.log_ratio(trains)).mean() == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("seed", [0, 1])
def test_without_a_shift_nothing_is_selected(seed):
    selection = fitted(SOURCE, seed)
    assert selection.is_constant
    trains = drawn(SOURCE, 10, np.random.default_rng(seed))
    assert selection.log_ratio(trains).tolist() == [0.0] * 10


def test_a_record_depends_on_its_own_generator_and_candidates_alone(shifted):
    rng = np.random.default_rng(3)
    candidates = [drawn(SOURCE, 8, rng) for _ in range(6)]
    whole = shifted.select(candidates, [np.random.default_rng(k) for k in range(6)])
    alone = [
        shifted.select([candidates[k]], [np.random.default_rng(k)])[0] for k in reversed(range(6))
    ]
    assert [each is other for each, other in zip(whole, reversed(alone), strict=True)] == [True] * 6
    assert len({id(each) for each in whole}) == 6


def test_features_are_those_of_the_train():
    held = dict(zip(SELECTION_FEATURES, selection_features([train(math.log(0.8))])[0], strict=True))
    assert held["log_rate"] == pytest.approx(math.log(75))
    assert held["log_sdnn"] == held["log_rmssd"] == pytest.approx(math.log(5))
    assert held["irregularity"] == pytest.approx(0, abs=1e-9)
    assert held["early_share"] == held["ventricular_share"] == 0
    of_kind = selection_features([train(-0.2, BeatKind.VENTRICULAR)])[0]
    assert of_kind[SELECTION_FEATURES.index("ventricular_share")] == 1


def test_a_train_of_two_beats_counts_as_at_the_centre_of_what_it_lacks(shifted):
    two = Beats(np.array([1.0, 1.0 + math.exp(TARGET)]), np.full(2, 1, np.int8), 10.0)
    assert np.isnan(selection_features([two])).any()
    changed = replace(shifted, weights=(shifted.weights[0], *[0.0] * 6))
    likewise = changed.log_ratio([train(TARGET)])
    assert changed.log_ratio([two]) == pytest.approx(likewise)


def test_it_is_read_back_from_its_card(shifted):
    held = json.loads(json.dumps(to_card(shifted)))
    again = from_card(RhythmSelection, held, Path("rhythm.json"))
    assert again == shifted


def test_cards_of_other_selections_are_refused(shifted):
    held = to_card(shifted)
    less = {key: held[key] for key in held if key != "offset"}
    for card, sentence in (
        (held | {"features": ["rate"]}, "expected a rhythm selection by log_rate"),
        (less, "lacks the field offset"),
        (held | {"weights": held["weights"][:6]}, "each of 7 rhythm features, got 7, 7 and 6"),
    ):
        with pytest.raises(StorageError, match=rf"rhythm\.json .*{sentence}.*; use the version"):
            from_card(RhythmSelection, card, Path("rhythm.json"))
    with pytest.raises(ConfigError, match="at least 1 candidate per record, got 0"):
        replace(shifted, candidates=0)


def test_too_few_records_or_patients_are_refused():
    trains = drawn(SOURCE, 19, np.random.default_rng(0))
    with pytest.raises(CorpusError, match="expected at least 20 target records of 10 patients"):
        RhythmSelection.fitted(trains, [[each] for each in trains], [str(k) for k in range(19)])
    trains = drawn(SOURCE, 40, np.random.default_rng(0))
    with pytest.raises(CorpusError, match="got 40 of 9"):
        RhythmSelection.fitted(trains, [[each] for each in trains], [str(k % 9) for k in range(40)])


def test_records_without_candidates_are_refused(shifted):
    trains = drawn(SOURCE, 20, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="each of 20 records, got 19 and 20"):
        RhythmSelection.fitted(trains, [[each] for each in trains[1:]], ["a"] * 20)
    with pytest.raises(ConfigError, match="each of 2 records, got 1 records with candidates"):
        shifted.select([trains, []], [np.random.default_rng(0), np.random.default_rng(1)])
