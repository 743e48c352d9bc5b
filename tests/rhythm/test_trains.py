import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from small_rhythm import train_of

from ecgtransfer.errors import ConfigError
from ecgtransfer.rhythm import in_window, stack_trains


def test_a_window_keeps_the_beats_within_it_and_counts_from_its_start():
    seen = in_window(train_of(0.05, 0.5, 1.0, 1.95, kinds=[1, 2, 3, 1]), (0.1, 1.9))
    assert_allclose(seen.times_s, [0.4, 0.9])
    assert_array_equal(seen.kinds, [2, 3])
    assert seen.duration_s == pytest.approx(1.8)


def test_trains_are_padded_at_the_end():
    trains = stack_trains([train_of(0.5), train_of(), train_of(0.2, 0.6, 1.8)], (0.0, 2.0))
    assert_array_equal(trains.counts, [1, 0, 3])
    assert_array_equal(trains.present, [[1, 0, 0], [0, 0, 0], [1, 1, 1]])
    assert_allclose(trains.times_s, [[0.5, 0, 0], [0, 0, 0], [0.2, 0.6, 1.8]])
    assert_array_equal(trains.kinds, [[1, 0, 0], [0, 0, 0], [1, 1, 1]])


def test_selected_trains_are_padded_no_more_than_they_need():
    trains = stack_trains([train_of(0.5), train_of(), train_of(0.2, 0.6, 1.8)], (0.0, 2.0))
    some = trains.select(torch.tensor([1, 0]))
    assert some.times_s.shape == (2, 1)
    assert_array_equal(some.counts, [0, 1])
    assert trains.select(torch.tensor([1])).times_s.shape == (1, 0)


def test_a_record_shorter_than_the_window_is_refused():
    with pytest.raises(ConfigError, match=r"at least 1\.9 s, got 1\.5 s; exclude"):
        stack_trains([train_of(0.5, duration_s=1.5)], (0.1, 1.9))
