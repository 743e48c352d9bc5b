import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ecgtransfer.errors import SignalError
from ecgtransfer.signals import LEADS, Recording


def test_a_recording_knows_its_length_and_its_leads():
    signal = np.arange(12 * 25, dtype=np.float64).reshape(12, 25) / 100
    recording = Recording(signal, 50)
    assert recording.signal_mv.dtype == np.float32
    assert (recording.n_samples, recording.duration_s) == (25, 0.5)
    assert recording.leads == LEADS
    assert_array_equal(recording.lead_mv("AVR"), recording.signal_mv[3])


@pytest.mark.parametrize(
    ("given", "kept"),
    [(500, 500), (500.0, 500), (np.int64(100), 100), (np.float32(99.5), 99.5), (256.25, 256.25)],
)
def test_a_whole_rate_becomes_an_int_and_another_stays_a_float(given, kept):
    rate = Recording(np.zeros((12, 3), dtype=np.float32), given).sampling_rate_hz
    assert rate == kept
    assert type(rate) is type(kept)


def test_a_recording_cannot_be_changed():
    recording = Recording(np.zeros((12, 3)), 100)
    with pytest.raises(dataclasses.FrozenInstanceError):
        recording.sampling_rate_hz = 500


@pytest.mark.parametrize("rate", [0, -100, float("nan"), float("inf"), None, "100", True])
def test_a_rate_that_is_no_positive_number_is_refused(rate):
    with pytest.raises(SignalError, match="expected a sampling rate above 0 Hz, got"):
        Recording(np.zeros((12, 3)), rate)


@pytest.mark.parametrize("shape", [(11, 100), (100, 12), (12,), (12, 0), (1, 12, 100)])
def test_another_shape_than_twelve_leads_is_refused(shape):
    with pytest.raises(SignalError, match=r"expected a signal of shape \(12, n\), n > 0, got"):
        Recording(np.zeros(shape), 100)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused_by_lead(value):
    signal = np.zeros((12, 10))
    signal[1, 3:6] = signal[8, 0] = value
    with pytest.raises(SignalError, match=r"finite samples, got 4 missing .* in II, V3; cut"):
        Recording(signal, 100)


def test_a_number_that_float32_cannot_hold_is_refused():
    with pytest.raises(SignalError, match="expected finite samples"):
        Recording(np.full((12, 2), 1e300), 100)


@pytest.mark.parametrize("dtype", [np.int16, np.int64, bool, complex])
def test_samples_that_are_no_millivolts_are_refused(dtype):
    with pytest.raises(SignalError, match="expected floating-point millivolts, got"):
        Recording(np.zeros((12, 3), dtype=dtype), 100)


def test_leads_in_another_order_are_refused():
    with pytest.raises(SignalError, match=r"expected the leads I, II, III.* in this order, got V6"):
        Recording(np.zeros((12, 3)), 100, tuple(reversed(LEADS)))
