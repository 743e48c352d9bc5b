from dataclasses import replace

import numpy as np
import pytest

from ecgtransfer.errors import SignalError
from ecgtransfer.signals import LEADS, Recording, expand_leads, r_peaks, resample
from ecgtransfer.signals.qrs import early_beats, find_complexes
from ecgtransfer.simulation import SOURCE_HOSPITAL, rhythm, simulate, vectorcardiogram

#: R peaks nearer to an edge than this are not asked for.
EDGE_S = 0.08


@pytest.fixture
def hearts(monkeypatch):
    """Simulated records of one kind, at any rate, with T waves of any height."""

    def make(label, bpm, n=6, rate=100, tall_t=1.0, noise=1.0, wander=1.0):
        monkeypatch.setattr(rhythm, "RATE_LIMITS_ANY_BPM", (20.0, 260.0))
        monkeypatch.setattr(rhythm, "RATE_LIMITS_BPM", {})
        waves = [
            wave._replace(x=wave.x * tall_t, y=wave.y * tall_t, z=wave.z * tall_t)
            for wave in vectorcardiogram.T_NORMAL
        ]
        monkeypatch.setattr(vectorcardiogram, "T_NORMAL", tuple(waves))
        hospital = replace(
            SOURCE_HOSPITAL,
            heart_rate_bpm=float(bpm),
            heart_rate_sd_bpm=0.0,
            muscle_mv=noise * SOURCE_HOSPITAL.muscle_mv,
            wander_mv=wander * SOURCE_HOSPITAL.wander_mv,
        )
        recordings, truths = simulate([label.split()] * n, hospital, 3, sampling_rate_hz=rate)
        return [(r, t.beat_times_s) for r, t in zip(recordings, truths, strict=True)]

    return make


def assert_found(recording, beats_s, within_s=0.02):
    """Each beat is found once, and nothing else, away from the edges."""
    last = recording.duration_s - EDGE_S
    found = find_complexes(recording).times_s
    inside = beats_s[(beats_s > EDGE_S) & (beats_s < last)]
    near = found[(found > EDGE_S - within_s) & (found < last + within_s)]
    nearest = np.abs(near[:, None] - inside).min(axis=0)
    assert nearest.max() <= within_s
    assert len(near) - len(inside) <= sum(
        (beats_s > EDGE_S - 2 * within_s) & (beats_s < last + 2 * within_s)
    ) - len(inside)


@pytest.mark.parametrize("bpm", [25, 40, 60, 90, 130, 170, 200, 220, 250])
def test_every_beat_is_found_at_any_rate(hearts, bpm):
    for recording, beats_s in hearts("NORM", bpm):
        assert_found(recording, beats_s)


@pytest.mark.parametrize("rate", [250, 360, 500, 1000])
@pytest.mark.parametrize("bpm", [60, 220])
def test_every_beat_is_found_at_any_sampling_rate(hearts, bpm, rate):
    for recording, beats_s in hearts("NORM", bpm, n=2, rate=rate):
        assert_found(recording, beats_s)


@pytest.mark.parametrize("bpm", [25, 30, 60, 100])
def test_tall_t_waves_are_no_beats(hearts, bpm):
    for recording, beats_s in hearts("NORM", bpm, tall_t=3.0):
        assert_found(recording, beats_s)


@pytest.mark.parametrize("label", ["CLBBB", "CRBBB"])
@pytest.mark.parametrize("bpm", [40, 75, 160])
def test_a_wide_notched_qrs_is_one_beat(hearts, label, bpm):
    for recording, beats_s in hearts(label, bpm):
        # R is the first of two humps, where the simulation calls the larger one R.
        assert_found(recording, beats_s, within_s=0.06)


@pytest.mark.parametrize("label", ["AFIB", "PAC", "PVC", "PVC CLBBB"])
def test_irregular_and_premature_beats_are_found(hearts, label):
    for recording, beats_s in hearts(label, 75):
        assert_found(recording, beats_s, within_s=0.04)


@pytest.mark.parametrize("label", ["NORM", "AFIB"])
def test_noise_and_wander_hide_and_add_no_beat(hearts, label):
    for recording, beats_s in hearts(label, 75, noise=6.0, wander=6.0):
        assert_found(recording, beats_s)


def beats(times_s, height_mv=1.0, width_s=0.012, rate_hz=100, seconds=10.0):
    """Eight leads of Gaussian QRS complexes, as twelve."""
    time_s = np.arange(round(rate_hz * seconds)) / rate_hz
    leads = np.array([0.6, 0.9, -0.8, -1.2, -0.4, 1.1, 1.3, 1.0])
    bells = np.exp(-0.5 * np.square((time_s[:, None] - times_s) / width_s)) @ np.broadcast_to(
        height_mv, len(times_s)
    )
    return Recording(expand_leads(leads[:, None] * bells), rate_hz)


def test_times_are_finer_than_samples():
    times = np.arange(0.5, 9.6, 0.7531)
    found = find_complexes(beats(times)).times_s
    assert np.abs(found - times).max() < 5e-4


@pytest.mark.parametrize("label", ["NORM", "CLBBB", "PVC"])
def test_times_do_not_depend_on_the_sampling_rate(hearts, label):
    for recording, _ in hearts(label, 70, n=3, rate=500):
        fine = find_complexes(recording).times_s
        coarse = find_complexes(resample(recording, 100)).times_s
        assert len(fine) == len(coarse)
        assert np.median(np.abs(fine - coarse)) < 5e-4
        assert np.abs(fine - coarse).max() < 5e-3


def test_beats_of_one_shape_have_their_r_at_one_place(hearts):
    # A notched QRS, whose largest deflection alone jumps between the humps.
    for recording, beats_s in hearts("CLBBB", 70, noise=3.0):
        found = find_complexes(recording).times_s
        inside = beats_s[(beats_s > EDGE_S) & (beats_s < 10 - EDGE_S)]
        offset = np.array([found[np.abs(found - beat).argmin()] - beat for beat in inside])
        assert np.ptp(offset) < 0.008


def test_a_beat_at_the_edge_is_found_where_its_qrs_is_complete():
    times = np.array([0.06, 1.0, 2.0, 3.0, 4.0, 4.93])
    found = find_complexes(beats(times, seconds=5.0)).times_s
    np.testing.assert_allclose(found, times, atol=0.005)


def test_a_beat_that_is_cut_off_is_left_out():
    times = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 4.99])
    found = find_complexes(beats(times, seconds=5.0)).times_s
    np.testing.assert_allclose(found, times[1:-1], atol=0.005)


def test_an_artefact_in_two_leads_is_no_beat():
    times = np.arange(0.5, 9.6, 0.8)
    recording = beats(times)
    signal = recording.signal_mv.copy()
    bump = beats(np.array([4.1, 6.6]), width_s=0.02).lead_mv("I")
    for lead in ("V1", "V2"):
        signal[LEADS.index(lead)] += 5 * bump
    found = find_complexes(Recording(signal, 100)).times_s
    np.testing.assert_allclose(found, times, atol=0.01)


def test_p_waves_of_complete_heart_block_are_no_beats():
    times, p_times = np.arange(0.7, 9.6, 1.6), np.arange(0.3, 9.8, 0.71)
    signal = beats(times).signal_mv + beats(p_times, 0.15, 0.02).signal_mv
    found = find_complexes(Recording(signal, 100)).times_s
    np.testing.assert_allclose(found, times, atol=0.01)


def test_a_small_beat_among_large_ones_is_found():
    times = np.arange(0.5, 9.6, 0.8)
    height = np.ones(len(times))
    height[[3, 7]] = 0.4
    np.testing.assert_allclose(find_complexes(beats(times, height)).times_s, times, atol=0.005)


def test_beats_in_a_recording_of_two_seconds():
    times = np.array([0.4, 1.1, 1.8])
    np.testing.assert_allclose(find_complexes(beats(times, seconds=2.0)).times_s, times, atol=0.005)


def test_the_shape_of_bigeminy_is_that_of_the_beats_that_are_not_early():
    # Seven wide beats that come early against six: the record begins with one of them.
    early, own = np.arange(0.4, 9.9, 1.5), np.arange(1.4, 9.9, 1.5)
    turned = beats(early, 1.5, 0.03).signal_mv[[1, 0, 2, 3, 4, 5, 9, 10, 11, 6, 7, 8]]
    recording = Recording(turned + beats(own).signal_mv, 100)
    complexes = find_complexes(recording)
    np.testing.assert_allclose(complexes.times_s[complexes.groups == 0], own, atol=0.01)
    assert (complexes.likeness[complexes.groups == 0] > 0.98).all()
    assert (complexes.likeness[complexes.groups != 0] < 0.8).all()


def test_early_beats_end_short_intervals_that_a_pause_follows():
    rr_s = np.array([1.0, 1.0, 0.6, 1.4, 1.0, 1.0, 0.7])
    assert early_beats(rr_s).tolist() == [3, 7]
    # The first beat of a faster rhythm is not premature, and neither is any in a steady one.
    assert early_beats(np.array([1.0, 1.0, 0.5, 0.5, 0.5, 0.5])).tolist() == []
    assert early_beats(np.full(5, 0.8)).tolist() == []
    assert early_beats(np.array([0.8])).tolist() == []


def test_no_complexes_are_found_in_silence_or_under_dead_leads():
    for offset_mv in (0.0, 1.7):
        silence = Recording(np.full((12, 1000), offset_mv), 100)
        assert len(find_complexes(silence).times_s) == 0
    times = np.arange(0.5, 9.6, 0.8)
    signal = beats(times).signal_mv.copy()
    signal[6:] = 0.0
    np.testing.assert_allclose(find_complexes(Recording(signal, 100)).times_s, times, atol=0.005)


def test_r_peaks_are_the_nearest_samples():
    times = np.arange(0.5, 9.6, 0.7531)
    recording = beats(times, rate_hz=250)
    assert r_peaks(recording).dtype == np.int64
    assert r_peaks(recording).tolist() == np.rint(250 * times).astype(int).tolist()


def test_too_slow_a_recording_is_refused():
    with pytest.raises(SignalError, match="expected more than 50 Hz to detect beats, got 50 Hz"):
        find_complexes(Recording(np.zeros((12, 400)), 50))
