import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ecgtransfer.diffusion.beat_windows import shape_times_s
from ecgtransfer.diffusion.shape_augmentation import (
    AUGMENTATION_PARAMETERS,
    CHANGED_SHARE,
    DISPLACEMENT_S,
    LEAD_GAIN,
    WINDOW_GAIN,
    ShapeAugmentation,
)

RATE_HZ = 500
TIMES_S = shape_times_s(RATE_HZ)
P, QRS, T, P_GAIN, T_GAIN, FIRST_LEAD = 0, 1, 2, 3, 5, 6


def bump(centre_s, width_s):
    return np.exp(-0.5 * np.square((TIMES_S - centre_s) / width_s))


def changed(wave, parameter, value):
    """Both rows and all leads show this wave; the changed shapes, (2, 8, W)."""
    shapes = torch.from_numpy(np.broadcast_to(wave, (1, 2, 8, len(wave))).astype(np.float32))
    parameters = torch.zeros(1, AUGMENTATION_PARAMETERS)
    parameters[0, parameter] = value
    return ShapeAugmentation(RATE_HZ).apply(shapes, parameters)[0].numpy()


def peak_s(wave):
    return TIMES_S[np.abs(wave).argmax()]


def test_zeros_change_nothing(rng):
    shapes = torch.randn(3, 2, 8, 96, generator=rng)
    assert torch.equal(
        ShapeAugmentation(100).apply(shapes, torch.zeros(3, AUGMENTATION_PARAMETERS)), shapes
    )


@pytest.mark.parametrize(("parameter", "centre_s"), [(P, -0.17), (T, 0.30)])
def test_a_wave_comes_earlier_by_the_stated_time(parameter, centre_s):
    moved = changed(bump(centre_s, 0.02), parameter, 1.5)
    expected = centre_s - 1.5 * DISPLACEMENT_S[parameter]
    assert peak_s(moved[1, 7]) == pytest.approx(expected, abs=0.004)
    r = changed(bump(0.0, 0.01), parameter, 1.5)
    assert peak_s(r[0, 0]) == 0


def test_the_qrs_gets_narrower_about_r():
    """8 ms of 40 ms on either side of R make the QRS a fifth narrower; the T wave moves along."""
    wave = bump(0.0, 0.02)
    narrow = changed(wave, QRS, 1.0)[0, 0]
    assert peak_s(narrow) == 0
    width = [np.sum(each > 0.5) for each in (narrow, wave)]
    assert width[0] / width[1] == pytest.approx(1 / 1.2, abs=0.05)
    t_wave = changed(bump(0.4, 0.05), QRS, 1.0)[0, 0]
    assert t_wave == pytest.approx(bump(0.4 - DISPLACEMENT_S[QRS], 0.05), abs=1e-3)


@pytest.mark.parametrize(("parameter", "centre_s"), [(P_GAIN, -0.2), (T_GAIN, 0.3)])
def test_a_wave_grows_and_the_others_do_not(parameter, centre_s):
    grown = changed(bump(centre_s, 0.01), parameter, 1.0)[0, 0]
    assert grown.max() == pytest.approx(1 + WINDOW_GAIN, rel=1e-3)
    assert changed(bump(0.0, 0.005), parameter, 1.0)[0, 0].max() == pytest.approx(1, rel=1e-3)


def test_the_gain_of_a_lead_is_its_own():
    wave = bump(0.0, 0.02)
    grown = changed(wave, FIRST_LEAD + 3, 2.0)
    assert grown[:, 3] == pytest.approx(np.exp(2 * LEAD_GAIN) * np.stack([wave] * 2), rel=1e-5)
    assert grown[:, 4] == pytest.approx(np.stack([wave] * 2), rel=1e-5)


def test_parameters_are_normal_or_zero_in_three_families(rng):
    parameters = ShapeAugmentation(100).draw(4000, rng)
    assert parameters.shape == (4000, AUGMENTATION_PARAMETERS)
    zero = parameters == 0
    for family in (slice(0, 3), slice(3, 6), slice(6, 14)):
        assert_close(zero[:, family].all(dim=1), zero[:, family].any(dim=1))
        changed_rows = parameters[:, family][~zero[:, family].any(dim=1)]
        assert len(changed_rows) / 4000 == pytest.approx(CHANGED_SHARE, abs=0.03)
        assert float(changed_rows.std()) == pytest.approx(1, abs=0.03)
