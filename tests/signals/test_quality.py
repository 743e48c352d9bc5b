import numpy as np
import pytest

from ecgtransfer.errors import SignalError
from ecgtransfer.signals import (
    LEADS,
    Recording,
    flat_leads,
    heart_rate_bpm,
    limb_lead_disagreement_mv,
    r_peaks,
    read_recording,
    saturated_leads,
)


def changed(recording, lead, values):
    """The recording with one lead replaced."""
    signal = recording.signal_mv.copy()
    signal[LEADS.index(lead)] = values
    return Recording(signal, recording.sampling_rate_hz)


def test_consistent_limb_leads_have_no_disagreement(ecg):
    assert limb_lead_disagreement_mv(ecg()[0].signal_mv) < 1e-6


@pytest.mark.parametrize("lead", ["III", "aVR", "aVL", "aVF"])
def test_the_disagreement_is_the_largest_residual(ecg, lead):
    signal = ecg()[0].signal_mv.copy()
    signal[LEADS.index(lead), 123] -= 0.25
    assert limb_lead_disagreement_mv(signal) == pytest.approx(0.25, abs=1e-6)
    assert limb_lead_disagreement_mv(np.stack([signal, signal * 0])) == pytest.approx(0.25)


def test_whole_microvolts_are_compared_without_rounding():
    signal = np.zeros((12, 4), dtype=np.int16)
    signal[0] = 1
    assert limb_lead_disagreement_mv(signal) == 1.0


def test_other_than_twelve_leads_have_no_limb_leads():
    with pytest.raises(SignalError, match=r"expected an array of shape \(\.\.\., 12, T\)"):
        limb_lead_disagreement_mv(np.zeros((8, 10)))


def test_a_flat_lead_is_named(ecg):
    recording = ecg()[0]
    assert flat_leads(recording) == ()
    noise = 0.002 * np.random.default_rng(0).uniform(-1, 1, 1000)
    assert flat_leads(changed(changed(recording, "V2", 1.5), "aVL", noise)) == ("aVL", "V2")


@pytest.mark.parametrize("rate", [100, 500])
def test_a_clipped_lead_is_named(ecg, rate):
    recording = ecg(rate)[0]
    assert saturated_leads(recording) == ()
    v5, v2 = recording.lead_mv("V5"), recording.lead_mv("V2")
    clipped = changed(recording, "V5", np.minimum(10 * v5, 0.9))
    clipped = changed(clipped, "V2", np.maximum(10 * v2, -0.9))
    assert saturated_leads(clipped) == ("V2", "V5")


def test_a_flat_lead_is_not_a_clipped_one(ecg):
    assert saturated_leads(changed(ecg()[0], "V4", 2.0)) == ()


@pytest.mark.parametrize("rate", [100, 257, 500])
@pytest.mark.parametrize("bpm", [27, 45, 72, 140, 205, 220, 240])
def test_r_peaks_are_found_where_the_beats_are(ecg, rate, bpm):
    recording, beats_s = ecg(rate, bpm=bpm)
    peaks_s = r_peaks(recording) / rate
    assert len(peaks_s) == len(beats_s)
    assert np.abs(peaks_s - beats_s).max() <= 0.02
    assert heart_rate_bpm(recording) == pytest.approx(bpm, rel=0.005)


def test_a_lead_without_a_heart_hides_no_beat(ecg):
    recording, beats_s = ecg()
    assert len(r_peaks(changed(recording, "II", 0.0))) == len(beats_s)


def test_no_beats_are_found_in_silence():
    silence = Recording(np.zeros((12, 1000)), 100)
    assert r_peaks(silence).shape == (0,)
    with pytest.raises(SignalError, match="expected at least 2 beats for a heart rate, got 0"):
        heart_rate_bpm(silence)


def test_too_short_a_recording_has_no_beats_to_look_for(ecg):
    with pytest.raises(SignalError, match=r"expected at least 2 s to detect beats, got 1\.5 s"):
        r_peaks(ecg(seconds=1.5)[0])


def test_too_slow_a_recording_has_no_beats_to_look_for():
    with pytest.raises(SignalError, match="expected more than 50 Hz"):
        r_peaks(Recording(np.zeros((12, 400)), 40))


def test_real_recordings_have_a_heart(real_data):
    records = sorted(real_data.glob("ptbxl/records100/00000/*.hea"))[:20]
    recordings = [read_recording(path.with_suffix("")) for path in records]
    assert all(35 < heart_rate_bpm(recording) < 180 for recording in recordings)
    assert all(limb_lead_disagreement_mv(r.signal_mv) < 0.003 for r in recordings)
    assert not any(flat_leads(recording) + saturated_leads(recording) for recording in recordings)


@pytest.mark.parametrize(("record", "bpm"), [("14000/14286_lr", 200), ("12000/12417_lr", 214)])
def test_a_real_tachycardia_keeps_its_rate(complete_data, record, bpm):
    recording = read_recording(complete_data / "ptbxl/records100" / record)
    assert heart_rate_bpm(recording) == pytest.approx(bpm, abs=2)
