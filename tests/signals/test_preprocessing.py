import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.signal import firwin, freqz

from ecgtransfer.errors import SignalError
from ecgtransfer.signals import Recording, bandpass, crop, expand_leads, resample
from ecgtransfer.signals.preprocessing import _low_pass

#: Samples at 100 Hz beyond which the edges are no longer felt.
EDGE = 50


def sine(frequency_hz, rate_hz, seconds=10.0, phase=0.3):
    """Twelve leads of one sine, lead k scaled by k + 1."""
    time_s = np.arange(round(rate_hz * seconds)) / rate_hz
    wave = np.sin(2 * np.pi * frequency_hz * time_s + phase)
    return Recording(np.arange(1, 13)[:, None] * wave, rate_hz)


@pytest.mark.parametrize("frequency", [50.5, 60, 100, 120, 190, 240])
def test_a_sine_above_the_new_nyquist_vanishes(frequency):
    resampled = resample(sine(frequency, 500), 100)
    assert np.abs(resampled.signal_mv[11, EDGE:-EDGE]).max() < 12 * 1e-3


@pytest.mark.parametrize("frequency", [0.5, 1, 10, 25, 40])
@pytest.mark.parametrize("rate", [500, 250, 360, 257, 1000])
def test_a_sine_below_the_new_nyquist_keeps_amplitude_and_phase(frequency, rate):
    resampled = resample(sine(frequency, rate), 100)
    truth = sine(frequency, 100)
    assert resampled.sampling_rate_hz == 100
    assert resampled.n_samples == truth.n_samples
    error = (resampled.signal_mv - truth.signal_mv)[:, EDGE:-EDGE]
    assert np.abs(error).max() < 12 * 2e-3


def test_a_sine_is_carried_to_a_higher_rate():
    error = resample(sine(10, 100), 500).signal_mv - sine(10, 500).signal_mv
    assert np.abs(error[:, 5 * EDGE : -5 * EDGE]).max() < 12 * 2e-3


def test_five_to_one_is_exact_in_length():
    assert resample(sine(1, 500, seconds=10), 100).signal_mv.shape == (12, 1000)
    assert resample(sine(1, 500, seconds=10.002), 100).signal_mv.shape == (12, 1001)


def test_an_offset_leaves_no_step_at_the_edges():
    constant = Recording(np.full((12, 5000), 3.5), 500)
    assert_allclose(resample(constant, 100).signal_mv, 3.5, rtol=1e-4)


def test_resampling_keeps_the_limb_leads_in_agreement(ecg):
    signal = resample(ecg(500)[0], 100).signal_mv
    assert_allclose(signal, expand_leads(signal[[0, 1, *range(6, 12)]]), atol=1e-6)


def test_the_same_rate_is_the_same_recording():
    recording = sine(5, 100)
    assert resample(recording, 100.0) is recording


def test_the_anti_alias_filter_has_the_stated_response():
    taps = _low_pass(5)
    frequency, response = freqz(taps, worN=20_000, fs=500)
    gain = np.abs(response)
    assert_array_equal(taps, taps[::-1])
    assert_allclose(gain[frequency <= 40], 1, atol=1e-3)
    assert_allclose(np.interp(45, frequency, gain), 0.5, atol=0.01)
    assert 20 * np.log10(gain[frequency >= 50].max()) < -69
    # scipy's own default for this ratio lets more than ten times as much through just above.
    default = np.abs(freqz(firwin(101, 1 / 5, window=("kaiser", 5.0)), worN=20_000, fs=500)[1])
    assert default[frequency >= 51].max() > 10 * gain[frequency >= 51].max()


@pytest.mark.parametrize("rate", [0, -1, None])
def test_a_rate_to_resample_to_must_be_positive(rate):
    with pytest.raises(SignalError, match="expected a sampling rate above 0 Hz"):
        resample(sine(5, 100), rate)


@pytest.mark.parametrize("rate", [1e-3, 1e9])
def test_rates_without_a_usable_ratio_are_refused(rate):
    with pytest.raises(SignalError, match="expected rates that differ by a factor below 10000"):
        resample(sine(5, 100), rate)


def test_a_window_is_cut_where_it_was_asked_for():
    recording = Recording(np.arange(12 * 300).reshape(12, 300) / 10, 100)
    window = crop(recording, 1.5, start_s=0.5)
    assert_array_equal(window.signal_mv, recording.signal_mv[:, 50:200])
    window.signal_mv[:] = 0
    assert recording.signal_mv[0, 60] == 6


def test_the_whole_recording_is_a_window():
    assert crop(sine(5, 100), 10.0).n_samples == 1000


@pytest.mark.parametrize(("seconds", "start"), [(10.01, 0), (10, 0.5), (2, 9)])
def test_a_recording_that_ends_before_the_window_is_refused(seconds, start):
    with pytest.raises(SignalError, match=r"expected at least .* s, got a recording of 10 s"):
        crop(sine(5, 100), seconds, start)


@pytest.mark.parametrize(("seconds", "start"), [(0, 0), (-1, 0), (0.001, 0), (1, -0.5)])
def test_a_window_of_nothing_is_refused(seconds, start):
    with pytest.raises(SignalError, match="expected a window of at least one sample"):
        crop(sine(5, 100), seconds, start)


@pytest.mark.parametrize(
    ("frequency", "gain"), [(0.1, 0.0), (0.5, 0.5), (5, 1.0), (40, 0.5), (49, 0.0)]
)
def test_a_band_keeps_its_inside_in_place(frequency, gain):
    recording = sine(frequency, 100, seconds=60)
    filtered = bandpass(recording, 0.5, 40)
    error = filtered.signal_mv - gain * recording.signal_mv
    assert np.abs(error[0, 1000:-1000]).max() < 0.02


def test_a_band_drops_the_offset(ecg):
    recording = ecg()[0]
    shifted = Recording(recording.signal_mv + 2, 100)
    assert_allclose(
        bandpass(shifted, 0.5, 40).signal_mv, bandpass(recording, 0.5, 40).signal_mv, atol=1e-3
    )


@pytest.mark.parametrize(("low", "high"), [(0, 40), (40, 10), (1, 50), (5, 5), (-1, 10)])
def test_corners_outside_the_band_are_refused(low, high):
    with pytest.raises(SignalError, match=r"expected 0 < low < high < 50 Hz"):
        bandpass(sine(5, 100), low, high)
