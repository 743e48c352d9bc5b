import numpy as np
import pytest

from ecgtransfer.errors import SignalError
from ecgtransfer.signals import BeatKind, Beats, beat_shapes, layout, no_shapes, shape_samples
from ecgtransfer.signals.beat_shape import AFTER_S, BEFORE_S

RATE, SAMPLES = 100, 1000
WIDTH = shape_samples(RATE)


def beats(times, kinds=None):
    kinds = [BeatKind.ORDINARY] * len(times) if kinds is None else kinds
    return Beats(np.array(times, float), np.array(kinds, np.int8), SAMPLES / RATE)


def smooth_shape(rng, rows=2):
    """Shapes whose ends meet at zero, without what 100 Hz and cubic interpolation cannot hold."""
    t = np.arange(WIDTH) / RATE - BEFORE_S
    shapes = np.zeros((2, 8, WIDTH), np.float32)
    for row in range(rows):
        for lead in range(8):
            for centre, width in ((-0.16, 0.03), (0.0, 0.03), (0.25, 0.06)):
                shapes[row, lead] += rng.normal() * np.exp(-0.5 * ((t - centre) / width) ** 2)
    return shapes


def test_a_layout_repeats_the_shape_at_every_beat():
    shapes = smooth_shape(np.random.default_rng(0))
    times = [0.5, 1.5, 2.6, 3.7, 5.0, 6.2, 7.4, 8.7]
    record = layout(beats(times), SAMPLES, RATE)(shapes)
    t = np.arange(WIDTH) / RATE - BEFORE_S
    for time in times:
        start = round((time - BEFORE_S) * RATE)
        inside = slice(max(6, -start), min(WIDTH, SAMPLES - start))  # blended over 50 ms before
        found = record[:, start + inside.start : start + inside.stop]
        assert np.abs(found - shapes[0][:, inside]).max() < 1e-5, (time, t[inside][0])


def test_a_beat_between_two_samples_is_interpolated():
    rng = np.random.default_rng(1)
    shapes = smooth_shape(rng)
    exact = layout(beats([1.0, 2.0, 3.0]), SAMPLES, RATE)(shapes)
    between = layout(beats([1.005, 2.005, 3.005]), SAMPLES, RATE)(shapes)
    back = (between[:, 101:220] + between[:, 100:219]) / 2  # half a sample to the left
    assert np.abs(back - exact[:, 100:219]).max() < 0.03 * np.abs(exact).max()


def test_a_layout_is_linear_and_its_weights_sum_to_one():
    placed = layout(beats([0.7, 1.3, 2.9, 3.3, 5.0, 9.6]), SAMPLES, RATE)
    assert np.allclose(placed.weight.sum(axis=1), 1, atol=1e-6)
    one, other = (smooth_shape(np.random.default_rng(seed)) for seed in (2, 3))
    assert np.allclose(placed(one + 2 * other), placed(one) + 2 * placed(other), atol=1e-5)


def test_an_early_beat_takes_over_from_the_one_before():
    shapes = smooth_shape(np.random.default_rng(4))
    record = layout(beats([1.0, 1.5, 2.5]), SAMPLES, RATE)(shapes)
    # The T wave of the first beat ends where the window of the second has begun.
    taken = slice(round((1.5 - BEFORE_S) * RATE) + 6, round(1.5 * RATE) + 30)
    begins = round((1.5 - BEFORE_S) * RATE)
    assert np.allclose(
        record[:, taken], shapes[0][:, taken.start - begins : taken.stop - begins], atol=1e-5
    )


def test_a_gap_between_two_windows_is_a_straight_line():
    shapes = smooth_shape(np.random.default_rng(5))
    shapes[0, :, -1], shapes[0, :, 0] = 1.0, 0.0
    record = layout(beats([1.0, 4.0]), SAMPLES, RATE)(shapes)
    ends, begins = round((1.0 + AFTER_S) * RATE), round((4.0 - BEFORE_S) * RATE)
    line = record[:, ends:begins]
    assert np.allclose(np.diff(line, n=2, axis=1), 0, atol=1e-5)
    assert np.allclose(line[:, 0], 1, atol=0.02)


def test_ventricular_beats_have_a_shape_of_their_own():
    rng = np.random.default_rng(6)
    shapes = smooth_shape(rng)
    kinds = [BeatKind.ORDINARY] * 4 + [BeatKind.VENTRICULAR] + [BeatKind.ORDINARY] * 4
    marked = beats([0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5], kinds)
    record = layout(marked, SAMPLES, RATE)(shapes)
    found, rows = beat_shapes(record, marked, RATE)
    assert rows.tolist() == [True, True]
    # The first 50 ms of each window are blended with the beat before.
    assert np.abs(found[:, :, 6:] - shapes[:, :, 6:]).max() < 0.01
    assert np.abs(shapes[0] - shapes[1]).max() > 0.5


@pytest.mark.parametrize("noise_mv", [0.0, 0.05])
def test_the_median_beat_finds_the_shape_that_was_laid_out(noise_mv):
    rng = np.random.default_rng(7)
    shapes = smooth_shape(rng, rows=1)
    marked = beats(np.cumsum(rng.uniform(0.7, 1.1, 10)))
    record = layout(marked, SAMPLES, RATE)(shapes) + noise_mv * rng.normal(size=(8, SAMPLES))
    found, rows = beat_shapes(record, marked, RATE)
    assert rows.tolist() == [True, False]
    assert not found[1].any()
    assert np.abs(found[0, :, 6:70] - shapes[0, :, 6:70]).max() < 0.02 + 2.5 * noise_mv


def test_one_disturbed_beat_does_not_move_the_median():
    rng = np.random.default_rng(8)
    shapes = smooth_shape(rng, rows=1)
    marked = beats(np.arange(0.8, 9.6, 0.9))
    record = layout(marked, SAMPLES, RATE)(shapes)
    record[:, 420:470] += 5.0
    found, _ = beat_shapes(record, marked, RATE)
    assert np.abs(found[0, :, 6:60] - shapes[0, :, 6:60]).max() < 0.02


def test_what_the_record_never_shows_of_a_shape_is_filled_around_the_cycle():
    rng = np.random.default_rng(9)
    shapes = smooth_shape(rng, rows=1)
    marked = beats(np.arange(0.4, 9.9, 0.5))  # the window is 0.96 s
    found, _ = beat_shapes(layout(marked, SAMPLES, RATE)(shapes), marked, RATE)
    unseen = found[0, :, round((0.5 + 0.02) * RATE) :]
    assert np.isfinite(found).all()
    assert np.allclose(np.diff(unseen[:, 2:-2], n=2, axis=1), 0, atol=1e-5)


def test_a_record_without_beats_has_no_layout():
    with pytest.raises(SignalError, match="expected at least one beat to lay out, got none"):
        layout(beats([]), SAMPLES, RATE)
    assert no_shapes(RATE).shape == (2, 8, WIDTH)
    assert not no_shapes(RATE).any()


def test_twelve_leads_are_refused():
    with pytest.raises(SignalError, match=r"expected a signal of shape \(8, T\), got \(12, 1000\)"):
        beat_shapes(np.zeros((12, SAMPLES)), beats([1.0]), RATE)
