import json
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ecgtransfer.errors import ConfigError, CorpusError, SignalError
from ecgtransfer.evaluation.delineation import delineate, measure_intervals
from ecgtransfer.signals import LEADS, Recording, expand_leads, independent_leads, resample
from ecgtransfer.simulation import DIAGNOSES, SOURCE_HOSPITAL, TARGET_HOSPITAL, simulate

A_CLASS = 4


@pytest.fixture(scope="module")
def simulated():
    """(intervals, truth, gain of the hospital) of each class, of both hospitals."""
    found = {label: [] for label in DIAGNOSES}
    for hospital in (SOURCE_HOSPITAL, TARGET_HOSPITAL):
        recordings, truths = simulate([(d,) for d in DIAGNOSES] * A_CLASS, hospital, seed=31)
        for recording, truth in zip(recordings, truths, strict=True):
            (label,) = truth.label_names
            found[label].append((delineate(recording), truth, hospital.gain))
    return found


@pytest.fixture(scope="module")
def normal():
    (recording,), (truth,) = simulate([("NORM",)], SOURCE_HOSPITAL, seed=5)
    return recording, truth


def everyone(simulated):
    return [entry for entries in simulated.values() for entry in entries]


def usual(truth, name):
    """Median over the beats that were conducted in the usual way."""
    conducted = np.array([kind == "N" for kind in truth.beat_types])
    return float(np.median(getattr(truth, name)[conducted]))


NARROW = ((0, 0.012, 1.2), (0.28, 0.04, 0.3))
WIDE = ((0, 0.03, -1.5), (0.3, 0.05, 0.4))


def beat_train(rr_s, wide=(), seconds=10.0, rate=500.0, p_mv=(0.15,)):
    """A recording of Gaussian waves: beats at 0.6 s and after these intervals, some wide.

    p_mv: height of the P waves, in turn.
    """
    time = np.arange(round(seconds * rate)) / rate
    eight = np.zeros((8, len(time)))
    for number, beat in enumerate(0.6 + np.concatenate([[0], np.cumsum(rr_s)])):
        strength = np.array([0.7, 1.0, -0.4, 0.5, 0.9, 1.1, 1.0, 0.8])
        if number in wide:
            strength = np.array([0.2, 1.1, 0.9, 0.9, 0.4, -0.3, -0.6, -0.8])
        narrow = ((-0.16, 0.02, p_mv[number % len(p_mv)]), *NARROW)
        for centre, width, height in WIDE if number in wide else narrow:
            wave = np.exp(-0.5 * ((time - beat - centre) / width) ** 2)
            eight += height * strength[:, None] * wave
    return Recording(expand_leads(eight.astype(np.float32)), rate)


@pytest.mark.parametrize(("name", "bound_ms"), [("pr_ms", 5.0), ("qrs_ms", 13.0), ("qt_ms", 10.0)])
def test_intervals_are_those_of_the_simulated_heart(simulated, name, bound_ms):
    errors = [
        getattr(found, name) - usual(truth, name)
        for found, truth, _ in everyone(simulated)
        if getattr(found, name) is not None and np.isfinite(usual(truth, name))
    ]
    expected = sum(np.isfinite(usual(truth, name)) for _, truth, _ in everyone(simulated))
    assert len(errors) > 0.93 * expected
    assert np.median(np.abs(errors)) < bound_ms
    assert np.percentile(np.abs(errors), 90) < 2 * bound_ms


def test_heart_rate_is_that_of_the_simulated_heart(simulated):
    errors = [
        found.heart_rate_bpm - truth.heart_rate_bpm for found, truth, _ in everyone(simulated)
    ]
    assert np.median(np.abs(errors)) < 0.5
    assert np.percentile(np.abs(errors), 90) < 2


def test_corrected_qt_is_fridericias(simulated):
    for found, _, _ in everyone(simulated):
        if found.qt_ms is not None:
            rr_s = 60 / found.heart_rate_bpm
            assert found.qtc_ms == pytest.approx(found.qt_ms / rr_s ** (1 / 3))


def test_p_waves_are_missed_in_fibrillation_alone(simulated):
    fibrillating = [found for found, _, _ in simulated["AFIB"]]
    others = [found for label in DIAGNOSES if label != "AFIB" for found, _, _ in simulated[label]]
    assert np.mean([found.p_wave_share < 0.5 for found in fibrillating]) > 0.8
    assert np.mean([found.p_wave_share >= 0.5 for found in others]) > 0.9
    assert all((found.pr_ms is None) == (found.p_wave_share < 0.5) for found in fibrillating)


def test_rr_is_irregular_in_fibrillation(simulated):
    assert all(found.rr_irregularity > 0.1 for found, _, _ in simulated["AFIB"])
    assert all(found.rr_irregularity < 0.1 for found, _, _ in simulated["NORM"])


def test_st_levels_are_those_of_the_simulated_heart(simulated):
    errors = {
        label: [
            np.abs(np.array(found.st_level_mv) - gain * truth.st_mv)
            for found, truth, gain in entries
        ]
        for label, entries in simulated.items()
    }
    assert np.median(list(errors.values())) < 0.01
    for label in ("STD_", "STE_", "NORM"):
        assert np.percentile(errors[label], 90) < 0.05


def test_the_j_point_is_read_where_qrs_ends():
    """A beat whose ST segment climbs from 0 at the J point: elevated 60 ms later, not at J."""
    rr_s = [0.8] * 11
    plain = beat_train(rr_s)
    time = np.arange(plain.signal_mv.shape[1]) / plain.sampling_rate_hz
    climbing = plain.signal_mv.copy()
    for beat in 0.6 + np.concatenate([[0], np.cumsum(rr_s)]):
        after = time - beat - 0.04
        climbing += np.where((after > 0) & (after < 0.14), 0.2 * after / 0.06, 0).astype(np.float32)
    found = delineate(Recording(climbing, plain.sampling_rate_hz))
    before = delineate(plain)
    gain = np.array(found.st_level_mv) - np.array(before.st_level_mv)
    at_j = np.array(found.st_j_mv) - np.array(before.st_j_mv)
    assert np.median(gain) > 0.15
    assert np.median(at_j) < 0.05


def test_what_resembles_a_p_wave_in_most_beats_alone_is_none():
    """Fibrillatory waves: before most beats one way up by chance, before the others the other."""
    signs = (1, 1, -1, 1, -1, 1, 1, -1, 1, -1, 1, 1, -1, 1, -1)
    rng = np.random.default_rng(3)
    rr_s = rng.uniform(0.55, 0.85, 14)
    for changing in (False, True):
        p_mv = [0.15 * sign if changing else 0.15 for sign in signs]
        found = delineate(beat_train(rr_s, p_mv=p_mv))
        assert (found.pr_ms is None) is changing
        assert found.p_wave_share == (0 if changing else 1)


def test_premature_beats_are_found_and_told_apart(simulated):
    for label, kind in (("PAC", "A"), ("PVC", "V")):
        for found, truth, _ in simulated[label]:
            premature = truth.beat_types.count(kind)
            wide = found.wide_early_beats
            assert found.early_beats > 0
            assert abs(found.early_beats - premature) <= max(1, premature // 3)
            assert wide == 0 if kind == "A" else wide > 0
    for label in ("NORM", "1AVB", "CLBBB", "CRBBB", "STD_"):
        assert [found.early_beats for found, _, _ in simulated[label]] == [0] * 2 * A_CLASS


def test_late_forces_tell_the_bundle_branches_apart(simulated):
    for found, _, _ in simulated["CLBBB"]:
        assert found.late_qrs_v1_mv < 0 < max(found.late_qrs_i_mv, found.late_qrs_v6_mv)
    for found, _, _ in simulated["CRBBB"]:
        assert min(found.late_qrs_i_mv, found.late_qrs_v6_mv) < 0 < found.late_qrs_v1_mv


def test_rhythm_is_that_of_a_train_of_known_beats():
    rr_s = np.array([0.8, 0.8, 0.5, 1.1, 0.8, 0.8, 0.8, 0.55, 1.05, 0.8, 0.8])
    found = delineate(beat_train(rr_s))
    assert found.failed is None
    assert found.beats == 12
    assert found.heart_rate_bpm == pytest.approx(60 / rr_s.mean(), rel=2e-3)
    irregularity = np.sqrt(np.mean(np.diff(rr_s) ** 2)) / rr_s.mean()
    assert found.rr_irregularity == pytest.approx(irregularity, abs=0.01)
    assert (found.early_beats, found.wide_early_beats) == (2, 0)


def test_a_last_beat_counts_as_early_and_a_faster_rhythm_does_not():
    last_early = np.array([0.8] * 9 + [0.5])
    found = delineate(beat_train(last_early))
    assert found.early_beats == 1
    faster = np.array([0.9] * 5 + [0.6] * 6)
    found = delineate(beat_train(faster))
    assert found.early_beats == 0


def test_a_wide_beat_after_every_other_one_leaves_the_narrow_ones_to_be_measured():
    rr_s = np.array([0.55, 1.05] * 5)
    bigeminy = delineate(beat_train(rr_s, wide=range(1, 11, 2)))
    alone = delineate(beat_train([0.8] * 11))
    assert (bigeminy.early_beats, bigeminy.wide_early_beats) == (5, 5)
    assert bigeminy.qrs_ms == pytest.approx(alone.qrs_ms, abs=4)
    assert bigeminy.pr_ms == pytest.approx(alone.pr_ms, abs=6)


def test_an_axis_turns_with_the_frontal_plane(normal):
    recording, _ = normal
    eight = independent_leads(recording.signal_mv.astype(np.float64))
    x, y = eight[0], (eight[1] - eight[0] / 2) * 2 / np.sqrt(3)
    straight = delineate(recording)
    for turn in (30.0, -70.0):
        cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        turned = eight.copy()
        turned[0] = cosine * x - sine * y
        turned[1] = (sine * x + cosine * y) * np.sqrt(3) / 2 + turned[0] / 2
        found = delineate(Recording(expand_leads(turned), recording.sampling_rate_hz))
        difference = found.qrs_axis_deg - straight.qrs_axis_deg - turn
        assert abs((difference + 180) % 360 - 180) < 3


def test_gain_scales_levels_and_leaves_times(normal):
    recording, _ = normal
    once = delineate(recording)
    twice = delineate(Recording(2 * recording.signal_mv, recording.sampling_rate_hz))
    for name in ("pr_ms", "qrs_ms", "qt_ms", "heart_rate_bpm", "rr_irregularity", "qrs_axis_deg"):
        assert getattr(twice, name) == pytest.approx(getattr(once, name), abs=4.1)
    assert_allclose(twice.st_level_mv, 2 * np.array(once.st_level_mv), atol=1e-3)
    assert twice.late_qrs_v1_mv == pytest.approx(2 * once.late_qrs_v1_mv, rel=0.05)


def test_the_sampling_rate_does_not_matter(normal):
    recording, _ = normal
    once = delineate(recording)
    for rate in (250, 1000):
        again = delineate(resample(recording, rate))
        for name in ("pr_ms", "qrs_ms", "qt_ms"):
            assert getattr(again, name) == pytest.approx(getattr(once, name), abs=10)


def noise(slope):
    """Noise of 0.2 mV in all leads, whose power falls as frequency to this power."""
    rng = np.random.default_rng(3)
    frequency = np.fft.rfftfreq(1000, 0.01)
    frequency[0] = frequency[1]
    spectrum = np.fft.rfft(rng.normal(size=(12, 8, 1000))) * frequency ** (slope / 2)
    signals = np.fft.irfft(spectrum, 1000)
    return 0.2 * signals / signals.std()


def spoiled(value):
    signals = noise(0)[:1]
    signals[0, 3, 500] = value
    return signals


@pytest.mark.parametrize(
    "signals_mv",
    [
        noise(0),
        noise(-1),
        noise(-2),
        np.zeros((1, 12, 1000)),
        np.ones((1, 8, 1000)),
        np.eye(1000)[None, [500] * 12],
        spoiled(np.nan),
        spoiled(np.inf),
        spoiled(1e300),
        noise(0)[:, :, :150],
        noise(0)[:, :, :1],
        1e-30 * noise(0)[:2],
    ],
    ids=["white", "pink", "brown", "flat", "offset", "one spike", "missing", "infinite", "huge",
         "1.5 s", "one sample", "tiny"],
)  # fmt: skip
def test_what_is_no_ecg_is_counted_and_not_raised(signals_mv):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measure_intervals(signals_mv, 100)
    assert len(found) == len(signals_mv)
    for intervals in found:
        assert intervals.failed
        assert intervals.heart_rate_bpm is intervals.qrs_ms is intervals.st_level_mv is None


def test_a_signal_sampled_too_slowly_is_counted_and_not_raised(normal):
    recording, _ = normal
    slow = Recording(recording.signal_mv[:, ::3], recording.sampling_rate_hz / 3)
    assert "sampling rate too low" in delineate(slow).failed


def test_noise_over_an_ecg_fails_it_only_where_it_drowns_it(normal):
    recording, _ = normal
    eight = independent_leads(recording.signal_mv.astype(np.float64))
    found = measure_intervals(np.stack([eight + k * noise(0)[0] for k in (0, 0.1, 20)]), 100)
    assert [intervals.failed is None for intervals in found] == [True, True, False]


def test_eight_leads_say_the_same_as_twelve(normal):
    recording, _ = normal
    twelve = recording.signal_mv[None]
    (of_twelve,) = measure_intervals(twelve, 100)
    (of_eight,) = measure_intervals(independent_leads(twelve), 100)
    assert of_twelve.limb_lead_disagreement_mv == pytest.approx(0, abs=1e-6)
    assert of_eight.limb_lead_disagreement_mv is None
    for name in ("pr_ms", "qrs_ms", "qt_ms", "qrs_axis_deg", "beats"):
        assert getattr(of_eight, name) == pytest.approx(getattr(of_twelve, name))


def test_limb_leads_that_disagree_are_measured_also_where_delineation_fails(normal):
    recording, _ = normal
    broken = np.stack([recording.signal_mv, np.zeros_like(recording.signal_mv)])
    broken[:, LEADS.index("III")] += 0.1
    for intervals in measure_intervals(broken, 100):
        assert intervals.limb_lead_disagreement_mv == pytest.approx(0.1, abs=1e-6)


def test_workers_do_not_matter(monkeypatch):
    recordings, _ = simulate([("NORM",), ("AFIB",), ("PVC",)], TARGET_HOSPITAL, seed=2)
    signals = np.stack([recording.signal_mv for recording in recordings])
    monkeypatch.setattr("ecgtransfer.evaluation.delineation.CHUNK_RECORDS", 1)
    seen = {1: [], 2: []}
    alone, together = (
        measure_intervals(
            signals, 100, workers=k, progress=lambda done, of, k=k: seen[k].append((done, of))
        )
        for k in seen
    )
    assert alone == together
    assert seen[1] == seen[2] == [(1, 3), (2, 3), (3, 3)]


def test_intervals_become_json(normal):
    recording, _ = normal
    found = delineate(recording)
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert list(told["st_level_mv"]) == list(told["st_j_mv"]) == list(LEADS)
    assert told["qrs_ms"] == found.qrs_ms
    (failed,) = measure_intervals(np.zeros((1, 8, 1000)), 100)
    assert json.loads(json.dumps(failed.to_dict()))["failed"] == failed.failed


def test_no_record_gives_no_intervals():
    assert measure_intervals(np.zeros((0, 8, 1000)), 100) == []


def test_other_shapes_rates_and_workers_are_refused():
    with pytest.raises(CorpusError, match="12 or 8 leads"):
        measure_intervals(np.zeros((2, 9, 1000)), 100)
    with pytest.raises(CorpusError, match="12 or 8 leads"):
        measure_intervals(np.zeros((12, 1000)), 100)
    with pytest.raises(ConfigError, match="at least 1 worker"):
        measure_intervals(np.zeros((1, 8, 1000)), 100, workers=0)
    with pytest.raises(SignalError, match="above 0 Hz"):
        measure_intervals(np.zeros((1, 8, 1000)), 0)


def test_equal_beats_are_alike_and_their_p_waves_do_not_jitter():
    recording = _repeated(np.random.default_rng(0), p_shift_ms=0.0)
    found = delineate(recording)
    assert found.beat_correlation > 0.99
    assert found.r_spread < 0.02
    assert found.pr_jitter_ms < 2


def test_p_waves_that_move_from_beat_to_beat_are_told():
    found = delineate(_repeated(np.random.default_rng(0), p_shift_ms=12.0))
    assert found.pr_jitter_ms == pytest.approx(12, abs=5)
    assert found.beat_correlation > 0.9


def _repeated(rng, p_shift_ms):
    """A record of equal QRS and T waves whose P waves are shifted at random."""
    rate, samples = 500, 5000
    t = np.arange(samples) / rate
    one = np.zeros(samples)
    for beat in np.arange(0.7, 9.5, 0.8):
        p = beat - 0.17 + p_shift_ms * rng.normal() / 1000
        for at, height, width in ((p, 0.15, 0.02), (beat, 1.2, 0.012), (beat + 0.28, 0.3, 0.05)):
            one += height * np.exp(-0.5 * ((t - at) / width) ** 2)
    eight = np.outer(np.linspace(0.6, 1.2, 8), one) + 0.002 * rng.normal(size=(8, samples))
    return Recording(expand_leads(eight).astype(np.float32), rate)
