from dataclasses import replace

import numpy as np
import pytest

from ecgtransfer.errors import SignalError
from ecgtransfer.signals import BeatKind, Beats, Recording, find_beats
from ecgtransfer.simulation import SOURCE_HOSPITAL, simulate

N, V, S, Q = BeatKind.ORDINARY, BeatKind.VENTRICULAR, BeatKind.SUPRAVENTRICULAR, BeatKind.UNKNOWN
TRUE_KINDS = {"N": N, "V": V, "A": S}

#: A beat nearer to an edge than this may be cut off.
EDGE_S = 0.15


def three(**changed):
    given = {"times_s": np.array([0.412, 1.203, 1.7]), "kinds": [N, N, V], "duration_s": 2.0}
    return Beats(**{**given, **changed})


def test_beats_know_their_intervals_and_rate():
    beats = three()
    assert len(beats) == 3
    np.testing.assert_allclose(beats.rr_s, [0.791, 0.497])
    assert beats.heart_rate_bpm == pytest.approx(60 / 0.644)
    assert beats.times_s.dtype == np.float64
    assert beats.kinds.dtype == np.int8


def test_beats_keep_no_hold_on_what_they_were_made_of():
    times = np.array([0.5, 1.5])
    beats = Beats(times, np.array([1, 1]), 2.0)
    times[0] = 0.7
    assert beats.times_s[0] == 0.5
    with pytest.raises(ValueError, match="read-only"):
        beats.times_s[0] = 0.7


def test_text_is_exact_to_a_millisecond():
    beats = three(kinds=[N, S, V])
    assert beats.to_text() == "0.412N 1.203S 1.700V"
    times = np.sort(np.random.default_rng(0).uniform(0, 10, 12))
    times = times[np.diff(times, prepend=-1) > 0.16]
    kinds = np.resize([Q, N, V, S], len(times))
    again = Beats.from_text(Beats(times, kinds, 10.0).to_text(), 10.0)
    np.testing.assert_allclose(again.times_s, times, atol=5.001e-4)
    assert again.kinds.tolist() == kinds.tolist()
    assert again.to_text() == Beats(times, kinds, 10.0).to_text()


def test_text_of_the_last_and_the_closest_beats_can_be_read():
    beats = three(times_s=[0.4996, 0.6496, 1.9998])
    assert beats.to_text() == "0.500N 0.650N 1.999V"
    assert Beats.from_text(beats.to_text(), 2.0).to_text() == beats.to_text()


def test_no_beats_are_an_empty_text():
    nothing = Beats([], [], 10.0)
    assert nothing.to_text() == ""
    assert len(Beats.from_text("", 10.0)) == 0
    assert nothing.rr_s.shape == (0,)
    with pytest.raises(SignalError, match="expected at least 2 beats for a heart rate, got 0"):
        _ = nothing.heart_rate_bpm


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"duration_s": 0.0}, "expected a duration above 0 s, got 0.0"),
        ({"duration_s": np.nan}, "expected a duration above 0 s, got nan"),
        (
            {"kinds": [N, N]},
            r"expected one time and one kind per beat, got shapes \(3,\) and \(2,\)",
        ),
        ({"kinds": [N, 4, N]}, "expected kinds from 0 to 3, got 4"),
        ({"kinds": [N, 1.5, N]}, "expected kinds from 0 to 3, got 1.5"),
        ({"duration_s": 1.7}, "expected times from 0 s to below 1.7 s, got 1.7 s"),
        ({"times_s": [-0.1, 1.0, 1.7]}, "expected times from 0 s to below 2 s, got -0.1 s"),
        ({"times_s": [0.1, np.nan, 1.7]}, "expected times from 0 s to below 2 s, got nan s"),
        ({"times_s": [0.1, 1.7, 1.0]}, "expected ascending times, got 1.7 s before 1 s"),
        ({"times_s": [0.1, 0.249, 1.0]}, "expected beats at least 150 ms apart, got 149 ms"),
    ],
)
def test_impossible_beats_are_refused(changed, message):
    with pytest.raises(SignalError, match=message):
        three(**changed)


@pytest.mark.parametrize("text", ["0.412", "0.4x2N", "0.412N 1.2B", "N"])
def test_other_text_is_refused(text):
    with pytest.raises(SignalError, match=r"expected beats such as 0\.412N with one of"):
        Beats.from_text(text, 10.0)


def hearts(label, bpm=70.0, n=12, noise=1.0, seed=5, seconds=10.0):
    """Beats found in simulated records, with the truth about each."""
    hospital = replace(
        SOURCE_HOSPITAL,
        heart_rate_bpm=bpm,
        heart_rate_sd_bpm=0.0,
        muscle_mv=noise * SOURCE_HOSPITAL.muscle_mv,
    )
    recordings, truths = simulate([label.split()] * n, hospital, seed, seconds=seconds)
    return [(find_beats(r), t) for r, t in zip(recordings, truths, strict=True)]


def confusion(pairs):
    """Beats (4, 5) by true kind and kind found (the last: not found), away from the edges."""
    counts = np.zeros((4, 5), dtype=int)
    for beats, truth in pairs:
        for time, kind in zip(truth.beat_times_s, truth.beat_types, strict=True):
            if EDGE_S < time < beats.duration_s - EDGE_S:
                k = int(np.abs(beats.times_s - time).argmin())
                found = abs(beats.times_s[k] - time) < 0.09
                counts[TRUE_KINDS[kind], beats.kinds[k] if found else -1] += 1
    return counts


@pytest.mark.parametrize("label", ["NORM", "CLBBB", "CRBBB", "1AVB", "STE_", "STD_"])
@pytest.mark.parametrize("noise", [1.0, 4.0])
def test_beats_without_ectopy_are_ordinary(label, noise):
    counts = confusion(hearts(label, noise=noise))
    assert counts[N, N] == counts.sum() > 100


@pytest.mark.parametrize("label", ["PVC", "PVC CRBBB", "PVC AFIB"])
@pytest.mark.parametrize("bpm", [58.0, 80.0])
def test_ventricular_beats_are_told_from_the_records_own(label, bpm):
    counts = confusion(hearts(label, bpm, n=24))
    assert counts[V, V] >= 0.9 * counts[V].sum() > 25
    assert counts[N, V] == 0


def test_ventricular_beats_are_told_from_left_bundle_branch_block():
    counts = confusion(hearts("PVC CLBBB", n=24))
    assert counts[V, V] >= 0.65 * counts[V].sum()
    assert counts[N, V] == 0


def test_atrial_premature_beats_are_supraventricular():
    counts = confusion(hearts("PAC", n=20))
    assert counts[S].sum() > 30
    assert counts[S, S] >= 0.95 * counts[S].sum()
    assert counts[N, N] == counts[N].sum()


def test_both_kinds_stand_in_one_record():
    counts = confusion(hearts("PAC PVC", n=20))
    assert counts[S, S] >= 0.9 * counts[S].sum() > 15
    assert counts[V, V] >= 0.85 * counts[V].sum() > 15


def test_early_beats_of_atrial_fibrillation_are_ordinary():
    counts = confusion(hearts("AFIB", bpm=62.0, n=30))
    assert counts[N, N] >= 0.97 * counts.sum() > 300


SHAPE = np.array([0.6, 0.9, 0.3, -0.75, 0.15, 0.6, -0.8, -1.2, -0.4, 1.1, 1.3, 1.0])


def drawn(times_s, wide=(), seconds=10.0, width_s=0.012):
    """A recording with one narrow shape, and beats `wide` of another, wide one."""
    time_s = np.arange(round(100 * seconds)) / 100
    signal = np.zeros((12, len(time_s)))
    for k, time in enumerate(times_s):
        if k in wide:
            signal += 1.4 * SHAPE[::-1, None] * np.exp(-0.5 * ((time_s - time) / 0.035) ** 2)
        else:
            signal += SHAPE[:, None] * np.exp(-0.5 * ((time_s - time) / width_s) ** 2)
    return Recording(signal, 100)


def kinds(recording):
    return find_beats(recording).to_text().translate({ord(c): None for c in "0123456789. "})


REGULAR_S = np.arange(0.5, 9.6, 0.9)


def moved(early_s):
    times = REGULAR_S.copy()
    for k, seconds in early_s.items():
        times[k] -= seconds
    return times


def test_a_ventricular_beat_may_be_early_interpolated_or_late():
    assert kinds(drawn(moved({4: 0.35}), wide=[4])) == "NNNNVNNNNNN"
    interpolated = np.sort(np.append(REGULAR_S, REGULAR_S[4] + 0.45))
    assert kinds(drawn(interpolated, wide=[5])) == "NNNNNVNNNNNN"
    escape = np.delete(REGULAR_S, 4)
    escape[4:] += 0.2
    assert kinds(drawn(escape[:-1], wide=[4])) == "NNNNVNNNN"


def test_couplets_and_bigeminy():
    assert kinds(drawn(moved({4: 0.35, 5: 0.6}), wide=[4, 5])) == "NNNNVVNNNNN"
    ventricular = moved({1: 0.3, 3: 0.3, 5: 0.3, 7: 0.3, 9: 0.3})
    assert kinds(drawn(ventricular, wide=[1, 3, 5, 7, 9])) == "NVNVNVNVNVN"
    assert kinds(drawn(moved({1: 0.3, 3: 0.3, 5: 0.3, 7: 0.3, 9: 0.3}))) == "NSNSNSNSNSN"


def test_wide_beats_of_every_kind_are_ordinary_where_all_are_wide():
    assert kinds(drawn(REGULAR_S, width_s=0.04)) == "N" * len(REGULAR_S)


def test_an_early_beat_after_which_the_rhythm_goes_on_is_supraventricular():
    assert kinds(drawn(moved({4: 0.3}))) == "NNNNSNNNNNN"
    assert kinds(drawn(moved({10: 0.3}))) == "NNNNNNNNNNS"
    # 0.85 of the usual interval is not early.
    assert kinds(drawn(moved({4: 0.13}))) == "N" * 11


def test_sinus_arrhythmia_has_no_early_beats():
    rr_s = 0.9 + 0.17 * np.sin(2 * np.pi * np.arange(10) / 4.7)
    times = 0.4 + np.cumsum(rr_s)
    assert set(kinds(drawn(times[times < 9.8]))) == {"N"}


def test_a_shape_cut_off_by_the_edge_is_unknown():
    times = np.array([0.06, 0.9, 1.8, 2.7, 3.6, 4.5, 4.94])
    found = kinds(drawn(times, wide=[0, 6], seconds=5.0))
    assert found.strip("Q") == "NNNNN"


def test_single_beats_are_of_unknown_kind():
    assert kinds(drawn([1.0], seconds=2.0)) == "Q"
    assert kinds(drawn([0.6, 1.4], seconds=2.0)) == "NN"
    assert kinds(drawn([0.6, 1.4], wide=[1], seconds=2.0)) == "QQ"


def test_silence_has_no_beats():
    assert len(find_beats(Recording(np.zeros((12, 500)), 100))) == 0


def test_a_short_recording_is_refused():
    with pytest.raises(SignalError, match=r"expected at least 2 s to detect beats, got 1\.5 s"):
        find_beats(Recording(np.zeros((12, 150)), 100))
