import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from torch.testing import assert_close

from ecgtransfer.diffusion import NoiseConfig, SignalUnits, gaussian_identity
from ecgtransfer.errors import ConfigError, SignalError


@pytest.fixture(scope="module")
def coloured():
    """Noise with an ECG's falling spectrum, another loudness in each lead: (400, 8, 256) mV."""
    white = np.random.default_rng(0).standard_normal((400, 8, 256))
    loudness = np.linspace(0.1, 2, 8)[:, None]
    return (loudness * lfilter([1.0], [1.0, -0.9], white, axis=-1)).astype(np.float32)


def test_millivolts_go_to_model_units_and_back(coloured):
    units = SignalUnits.fitted([coloured])
    signals = torch.from_numpy(coloured[:16])
    assert_close(units.to_mv(units.to_model(signals)), signals, atol=1e-4, rtol=1e-4)


def test_model_units_are_equally_strong_in_every_lead_and_frequency(coloured):
    units = SignalUnits.fitted([coloured[:200], coloured[200:]])
    x0 = units.to_model(torch.from_numpy(coloured))
    assert_close(x0.std((0, 2)), torch.ones(8), atol=0.08, rtol=0)
    power = torch.fft.rfft(x0).abs().square().mean((0, 1))[1:-1]
    assert power.max() / power.min() < 1.6


def test_one_record_with_a_broken_baseline_does_not_rule_the_spectrum(coloured):
    broken = np.concatenate([coloured, np.full((1, 8, 256), 50.0, np.float32)])
    clean, disturbed = SignalUnits.fitted([coloured]), SignalUnits.fitted([broken])
    assert_close(disturbed.amplitude_mv, clean.amplitude_mv, rtol=0.2, atol=0)


def test_the_linear_denoiser_scores_one_on_the_records_that_the_units_fit(coloured):
    units = SignalUnits.fitted([coloured])
    loss = gaussian_identity(units.to_model(torch.from_numpy(coloured)), NoiseConfig(), seed=0)
    assert abs(loss - 1) < 0.05


def test_records_of_another_length_are_refused(coloured):
    units = SignalUnits.fitted([coloured])
    with pytest.raises(SignalError, match="expected records of 8 leads and 256 samples"):
        units.to_model(torch.zeros(2, 8, 100))


def test_a_spectrum_of_one_record_is_refused(coloured):
    with pytest.raises(ConfigError, match="at least 2 source records"):
        SignalUnits.fitted([coloured[:1]])
