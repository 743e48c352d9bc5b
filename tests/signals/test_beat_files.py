import numpy as np
import pytest
import wfdb

from ecgtransfer.errors import SignalError
from ecgtransfer.signals import (
    BeatKind,
    Beats,
    Recording,
    read_annotation,
    read_beats_csv,
    write_annotation,
    write_recording,
)

KINDS = [BeatKind.ORDINARY, BeatKind.VENTRICULAR, BeatKind.SUPRAVENTRICULAR, BeatKind.UNKNOWN]


@pytest.fixture
def beats():
    return Beats(np.array([0.5, 1.25, 2.0, 3.01]), np.array(KINDS, np.int8), 10.0)


def test_wfdb_reads_the_annotation_that_was_written(tmp_path, beats):
    path = write_annotation(tmp_path / "00001_lr", beats, 100)
    found = wfdb.rdann(str(tmp_path / "00001_lr"), "atr")
    assert path.name == "00001_lr.atr"
    assert found.fs == 100
    assert found.symbol == ["N", "V", "S", "Q"]
    assert found.sample.tolist() == [50, 125, 200, 301]


def test_an_annotation_comes_back(tmp_path, beats):
    path = write_annotation(tmp_path / "a", beats, 500)
    found = read_annotation(path, 10.0)
    assert np.allclose(found.times_s, beats.times_s, atol=1e-3)
    assert found.kinds.tolist() == KINDS


def test_beats_after_the_record_and_marks_that_are_none_are_left_out(tmp_path):
    wfdb.wrann(
        "b", "atr", np.array([50, 80, 120, 900]), symbol=["L", "+", "A", "N"], fs=100,
        aux_note=["", "(AFIB", "", ""], write_dir=str(tmp_path),
    )  # fmt: skip
    found = read_annotation(tmp_path / "b.atr", 5.0)
    assert found.times_s.tolist() == [0.5, 1.2]
    assert found.kinds.tolist() == [BeatKind.ORDINARY, BeatKind.SUPRAVENTRICULAR]


def test_the_rate_may_come_from_the_header(tmp_path, beats):
    write_recording(tmp_path / "c", Recording(np.zeros((12, 5000), np.float32), 500), [])
    wfdb.wrann("c", "atr", np.array([250, 1000]), symbol=["N", "N"], write_dir=str(tmp_path))
    assert read_annotation(tmp_path / "c.atr", 10.0).times_s.tolist() == [0.5, 2.0]


def test_an_annotation_without_a_rate_is_refused(tmp_path):
    wfdb.wrann("d", "atr", np.array([250]), symbol=["N"], write_dir=str(tmp_path))
    with pytest.raises(SignalError, match="to state a sampling rate, found none"):
        read_annotation(tmp_path / "d.atr", 10.0)


def test_a_missing_annotation_is_refused(tmp_path):
    with pytest.raises(SignalError, match=r"expected a WFDB annotation in .*which cannot be read"):
        read_annotation(tmp_path / "none.atr", 10.0)


def test_a_record_without_beats_has_no_annotation(tmp_path):
    path = write_annotation(tmp_path / "e", Beats(np.zeros(0), np.zeros(0, np.int8), 10.0), 100)
    assert not path.exists()


def test_rhythms_of_a_csv_by_record(tmp_path):
    path = tmp_path / "beats.csv"
    path.write_text("record,time_s,kind\nr1,0.5,N\nr2,0.7,V\nr1,1.5,S\n")
    first, second = read_beats_csv(path, 10.0)
    assert first.times_s.tolist() == [0.5, 1.5]
    assert first.kinds.tolist() == [BeatKind.ORDINARY, BeatKind.SUPRAVENTRICULAR]
    assert second.kinds.tolist() == [BeatKind.VENTRICULAR]


def test_times_alone_are_one_rhythm_of_ordinary_beats(tmp_path):
    path = tmp_path / "beats.csv"
    path.write_text("time_s\n0.5\n1.5\n")
    (only,) = read_beats_csv(path, 10.0)
    assert only.kinds.tolist() == [BeatKind.ORDINARY] * 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("t\n0.5\n", r"expected a column time_s \(seconds of each R peak\) in .*, found t"),
        ("", "expected a column time_s .* found no rows"),
        ("time_s\nhalf\n", "expected seconds in line 2 of .*, got 'half'"),
        ("time_s,kind\n0.5,X\n", "expected a kind of Q, N, V, S in line 2 of .*, got 'X'"),
        ("time_s\n12.0\n", "the beats in .* cannot be used: expected times from 0 s to below 10"),
        ("record,time_s\nr7,2.0\nr7,1.0\n", "the beats of record r7 in .*: expected ascending"),
        ("time_s\n1.0\n1.1\n", "cannot be used: expected beats at least 150 ms apart"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused_in_a_sentence(tmp_path, text, sentence):
    path = tmp_path / "beats.csv"
    path.write_text(text)
    with pytest.raises(SignalError, match=sentence):
        read_beats_csv(path, 10.0)


def test_a_csv_that_is_none_is_refused(tmp_path):
    with pytest.raises(SignalError, match="cannot be read as csv"):
        read_beats_csv(tmp_path / "none.csv", 10.0)
