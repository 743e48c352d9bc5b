import numpy as np
import pytest

from ecgtransfer.diffusion.beat_windows import p_wave_power, shape_times_s, wave_windows

RATE_HZ = 500
TIMES_S = shape_times_s(RATE_HZ)


def test_the_windows_sum_to_one_and_divide_the_beat():
    windows = wave_windows(RATE_HZ)
    assert windows.sum(axis=0) == pytest.approx(1)
    for row, time_s in enumerate((-0.2, 0.0, 0.3)):
        assert windows[row, np.abs(TIMES_S - time_s).argmin()] == pytest.approx(1)


def power_of(wave, lead=2):
    beat = np.zeros((8, len(TIMES_S)))
    beat[lead] = wave
    vector = beat.ravel()
    return vector @ p_wave_power(RATE_HZ) @ vector


@pytest.mark.parametrize("line", [np.ones_like(TIMES_S), TIMES_S, 3 - 2 * TIMES_S])
def test_a_straight_line_has_no_power(line):
    assert power_of(line) == pytest.approx(0, abs=1e-9)


def test_a_p_wave_has_nearly_all_its_power_and_qrs_and_t_have_none():
    bump = {
        centre: np.exp(-0.5 * np.square((TIMES_S - centre) / 0.012)) for centre in (-0.2, 0, 0.3)
    }
    ratio = {centre: power_of(wave) / np.square(wave).sum() for centre, wave in bump.items()}
    assert 0.75 < ratio[-0.2] < 1
    assert ratio[0] == pytest.approx(0, abs=1e-6)
    assert ratio[0.3] == pytest.approx(0, abs=1e-6)


def test_the_power_of_leads_adds_up(rng):
    wave = np.random.default_rng(0).standard_normal((8, len(TIMES_S)))
    power = wave.ravel() @ p_wave_power(RATE_HZ) @ wave.ravel()
    assert power == pytest.approx(sum(power_of(each) for each in wave))
    assert 0 < power < np.square(wave).sum()
