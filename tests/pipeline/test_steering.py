import numpy as np
import pytest

from ecgtransfer.errors import ConfigError, SignalError
from ecgtransfer.pipeline.steering import Steering, parse_heart_rate, read_beats
from ecgtransfer.signals import BeatKind, Beats, write_annotation


def test_heart_rates_as_users_write_them():
    assert parse_heart_rate("45-60") == (45, 60)
    assert parse_heart_rate("60") == (59.5, 60.5)
    for text in ("fast", "40-50-60", "45-"):
        with pytest.raises(ConfigError, match="expected a heart rate such as 45-60 or 60"):
            parse_heart_rate(text)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"heart_rate_bpm": (60, 45)}, "the lower first, got 60 to 45"),
        ({"heart_rate_bpm": (45, 400)}, "expected heart rates from 15 to 300 per minute"),
        ({"age": 130}, "expected an age of 0 to 120 years, got 130"),
        ({"sex": "f"}, "expected a sex of male or female, got 'f'"),
    ],
)
def test_what_no_record_can_have_is_refused(asked, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Steering(**asked)


def test_a_rate_and_given_beats_contradict_each_other(tmp_path):
    with pytest.raises(ConfigError, match="expected either a heart rate or given beats, got both"):
        Steering(heart_rate_bpm=(45, 60), beats=tmp_path)


def test_rhythms_of_a_set_an_annotation_and_a_csv(tmp_path, ecgset):
    duration = ecgset.n_samples / ecgset.sampling_rate_hz
    of_set = read_beats(ecgset.folder, duration)
    assert [each.to_text() for each in of_set] == [
        each.to_text() for each in ecgset.beats if len(each)
    ]
    beats = Beats(np.array([0.5, 1.2]), np.array([BeatKind.ORDINARY] * 2, np.int8), duration)
    (annotated,) = read_beats(write_annotation(tmp_path / "r", beats, 500), duration)
    assert np.allclose(annotated.times_s, beats.times_s)
    table = tmp_path / "r.csv"
    table.write_text("time_s,kind\n0.5,N\n1.2,V\n")
    (listed,) = read_beats(table, duration)
    assert listed.kinds.tolist() == [BeatKind.ORDINARY, BeatKind.VENTRICULAR]


def test_a_file_without_beats_in_the_record_is_refused(tmp_path):
    beats = Beats(np.array([50.0]), np.array([1], np.int8), 60.0)
    path = write_annotation(tmp_path / "late", beats, 100)
    with pytest.raises(ConfigError, match=r"expected beats in the first 10 s of .*, found none"):
        read_beats(path, 10.0)
    with pytest.raises(SignalError, match="expected a WFDB annotation"):
        read_beats(tmp_path / "none.atr", 10.0)
    with pytest.raises(ConfigError, match="which cannot be read"):
        Steering(beats=tmp_path / "none.atr").inputs()


def test_steering_depends_on_the_content_of_its_file(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("time_s\n0.5\n")
    before = Steering(beats=path).inputs()
    path.write_text("time_s\n0.6\n")
    assert Steering(beats=path).inputs() != before
    assert Steering().inputs() == {}
    assert Steering().is_free
