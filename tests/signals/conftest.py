import numpy as np
import pytest

from ecgtransfer.signals import Recording, expand_leads

#: Size of the QRS complex in I, II, V1-V6, millivolts.
QRS_MV = np.array([0.6, 0.9, -0.8, -1.2, -0.4, 1.1, 1.3, 1.0])


def _ecg(rate_hz=100, seconds=10.0, bpm=60.0, first_beat_s=0.5):
    """A recording with T waves and QRS complexes at known times; limb leads agree by construction.

    Returns it with the times of the R peaks in seconds.
    """
    time_s = np.arange(round(rate_hz * seconds)) / rate_hz
    beats_s = np.arange(first_beat_s, seconds - 0.3, 60 / bpm)
    qrs = sum(np.exp(-0.5 * ((time_s - beat) / 0.015) ** 2) for beat in beats_s)
    t_wave = sum(0.2 * np.exp(-0.5 * ((time_s - beat - 0.28) / 0.05) ** 2) for beat in beats_s)
    x8 = QRS_MV[:, None] * qrs + np.abs(QRS_MV)[:, None] * t_wave
    return Recording(expand_leads(x8).astype(np.float32), rate_hz), beats_s


@pytest.fixture
def ecg():
    return _ecg
