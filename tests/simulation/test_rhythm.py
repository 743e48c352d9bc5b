import numpy as np
import pytest

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.simulation.rhythm import (
    MARGIN_S,
    check_diagnoses,
    draw_rhythm,
    possible_rate_bpm,
)


def rhythms(*names, count=60, rate=72.0, seconds=10.0):
    return [
        draw_rhythm(frozenset(names), rate, seconds, np.random.default_rng([seed, 17]))
        for seed in range(count)
    ]


def lag_one(intervals):
    return np.corrcoef(intervals[:-1], intervals[1:])[0, 1]


def test_beats_reach_beyond_both_ends_of_the_record():
    for rhythm in rhythms("NORM") + rhythms("AFIB"):
        assert rhythm.times_s[0] < -MARGIN_S / 4
        assert rhythm.times_s[-1] > 10 + MARGIN_S / 4
        assert np.all(np.diff(rhythm.times_s) > 0.3)


def test_intervals_are_those_between_the_beats():
    for rhythm in rhythms("PAC", "PVC"):
        np.testing.assert_allclose(np.diff(rhythm.times_s), rhythm.preceding_s[1:], atol=1e-9)


def test_sinus_rhythm_varies_a_little_and_each_interval_resembles_the_one_before():
    drawn = rhythms("NORM", seconds=60)
    variation = [r.preceding_s.std() / r.preceding_s.mean() for r in drawn]
    assert 0.01 < np.median(variation) < 0.06
    assert 0.3 < np.median([lag_one(r.preceding_s) for r in drawn]) < 0.95


def test_fibrillation_is_irregularly_irregular_and_has_no_pr_interval():
    drawn = rhythms("AFIB", seconds=60)
    variation = [r.preceding_s.std() / r.preceding_s.mean() for r in drawn]
    assert min(variation) > 0.1
    assert abs(np.mean([lag_one(r.preceding_s) for r in drawn])) < 0.05
    assert all(np.isnan(r.pr_ms).all() for r in drawn)


def test_pr_interval_tells_first_degree_block_from_normal_conduction():
    assert all(r.pr_ms.min() > 200 and r.pr_ms.max() < 345 for r in rhythms("1AVB"))
    assert all(r.pr_ms.min() > 110 and r.pr_ms.max() < 200 for r in rhythms("NORM"))


def test_atrial_premature_beats_reset_the_sinus_node():
    for rhythm in rhythms("PAC", rate=65.0):
        usual = np.median(rhythm.preceding_s)
        early = np.flatnonzero(rhythm.types == "A")
        assert len(early) >= 1
        for k in early[early < len(rhythm.times_s) - 1]:
            assert rhythm.preceding_s[k] < 0.85 * usual
            assert rhythm.times_s[k + 1] - rhythm.times_s[k - 1] < 1.97 * usual
            assert np.isfinite(rhythm.pr_ms[k])


def test_ventricular_premature_beats_leave_the_sinus_node_alone():
    sums = []
    for rhythm in rhythms("PVC", rate=65.0):
        usual = np.median(rhythm.preceding_s[rhythm.types == "N"])
        early = np.flatnonzero(rhythm.types == "V")
        assert len(early) >= 1
        assert np.isnan(rhythm.pr_ms[early]).all()
        for k in early[early < len(rhythm.times_s) - 1]:
            assert rhythm.preceding_s[k] < 0.85 * usual
            sums.append((rhythm.times_s[k + 1] - rhythm.times_s[k - 1]) / usual)
    assert np.median(sums) == pytest.approx(2.0, abs=0.05)


def test_the_sinus_beat_that_a_ventricular_one_hides_comes_when_it_was_due():
    for rhythm in rhythms("PVC", rate=65.0):
        for due in rhythm.concealed_s:
            before = rhythm.times_s[rhythm.times_s < due]
            early = before[-1]
            assert rhythm.types[len(before) - 1] == "V"
            pr = np.nanmean(rhythm.pr_ms) / 1000
            assert due - pr > early - 0.05  # its P wave is inside or after the premature complex


@pytest.mark.parametrize("seconds", [6.0, 10.0, 30.0])
def test_every_premature_beat_asked_for_lies_inside_the_record(seconds):
    for names in (["PAC"], ["PVC"], ["PAC", "PVC"], ["AFIB", "PVC"]):
        for rhythm in rhythms(*names, seconds=seconds):
            inside = (rhythm.times_s > 0) & (rhythm.times_s < seconds)
            kinds = set(rhythm.types[inside])
            assert kinds >= {"A"} & set("A" if "PAC" in names else "")
            assert kinds >= {"V"} & set("V" if "PVC" in names else "")


def test_rate_is_held_where_a_diagnosis_can_be_seen():
    assert possible_rate_bpm(frozenset({"1AVB"}), 120) == 90
    assert possible_rate_bpm(frozenset({"PVC", "1AVB"}), 40) == 55
    assert possible_rate_bpm(frozenset({"AFIB"}), 80) == 98
    assert possible_rate_bpm(frozenset(), 300) == 130


def test_an_unknown_diagnosis_is_refused_with_those_that_exist():
    with pytest.raises(CorpusError, match="no diagnosis WPW; it knows NORM, AFIB, 1AVB"):
        check_diagnoses(["NORM", "WPW"])


def test_a_normal_heart_has_no_diagnosis():
    with pytest.raises(ConfigError, match="NORM cannot stand beside CLBBB, PVC"):
        check_diagnoses(["PVC", "NORM", "CLBBB"])


@pytest.mark.parametrize(
    "pair", [("AFIB", "1AVB"), ("AFIB", "PAC"), ("CLBBB", "CRBBB")], ids="+".join
)
def test_diagnoses_that_exclude_each_other_are_refused(pair):
    with pytest.raises(ConfigError, match=f"{pair[0]} and {pair[1]} exclude each other"):
        check_diagnoses([*pair, "STD_"])
