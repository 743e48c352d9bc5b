import numpy as np
import pytest

from ecgtransfer.corpus import (
    ECGSet,
    label_space,
    prepare,
    read_arrays,
    read_signal,
)
from ecgtransfer.corpus.sets import preparation_report
from ecgtransfer.errors import CorpusError, SignalError
from ecgtransfer.signals import LEADS

from .layouts import twelve_leads_uv

REVERSED = LEADS[::-1]


@pytest.fixture
def many_mv():
    """Three recordings (3, 12, 1000) in mV."""
    return np.stack([twelve_leads_uv(k, 1000) for k in range(3)]) / 1000


def assert_all_read(corpus, many_mv):
    assert len(corpus) == len(many_mv)
    for record, expected in zip(corpus.records, many_mv, strict=True):
        recording = read_signal(record)
        assert recording.sampling_rate_hz == 100
        np.testing.assert_allclose(recording.signal_mv, expected, atol=1e-6)


@pytest.mark.parametrize("time_first", [False, True])
@pytest.mark.parametrize("kind", ["npy", "npz"])
@pytest.mark.parametrize(
    ("unit", "scale"), [("mV", 1.0), ("uV", 1000.0), ("µV", 1000.0), ("V", 0.001)]
)
def test_an_array_of_many_is_read(tmp_path, many_mv, time_first, kind, unit, scale):
    stored = many_mv[:, ::-1] * scale
    stored = stored.transpose(0, 2, 1) if time_first else stored
    path = tmp_path / f"x.{kind}"
    np.save(path, stored) if kind == "npy" else np.savez(path, signals=stored)
    corpus = read_arrays(path, 100, unit, REVERSED)
    assert [record.name for record in corpus.records] == ["x-0", "x-1", "x-2"]
    assert_all_read(corpus, many_mv)


@pytest.mark.parametrize("time_first", [False, True])
def test_a_file_for_each_recording_is_read(tmp_path, many_mv, time_first):
    for k, signal in enumerate(many_mv):
        np.save(tmp_path / f"r{k}.npy", signal.T if time_first else signal)
    corpus = read_arrays(tmp_path, 100, "mV")
    assert [record.name for record in corpus.records] == ["r0", "r1", "r2"]
    assert_all_read(corpus, many_mv)


def test_whole_numbers_are_samples_too(tmp_path, many_mv):
    np.save(tmp_path / "x.npy", np.rint(many_mv * 1000).astype(np.int16))
    assert_all_read(read_arrays(tmp_path, 100, "uV"), many_mv)


def test_members_of_an_archive_are_records(tmp_path, many_mv):
    np.savez(tmp_path / "x.npz", one=many_mv[0], rest=many_mv[1:])
    corpus = read_arrays(tmp_path, 100, "mV")
    assert [record.name for record in corpus.records] == ["x-one", "x-rest-0", "x-rest-1"]
    assert_all_read(corpus, many_mv)


@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_a_csv_names_its_leads(tmp_path, many_mv, separator):
    for k, signal in enumerate(many_mv):
        header = separator.join(["time", *(f"lead {name}" for name in REVERSED)])
        rows = np.column_stack([np.arange(1000) / 100, signal[::-1].T])
        np.savetxt(tmp_path / f"r{k}.csv", rows, delimiter=separator, header=header, comments="")
    assert_all_read(read_arrays(tmp_path, 100, "mV"), many_mv)


def test_a_csv_without_names_has_the_stated_leads(tmp_path, many_mv):
    for k, signal in enumerate(many_mv):
        np.savetxt(tmp_path / f"r{k}.csv", signal[::-1].T, delimiter=",")
    assert_all_read(read_arrays(tmp_path, 100, "mV", REVERSED), many_mv)


def test_a_table_gives_labels_by_name_or_by_number(tmp_path, many_mv):
    np.save(tmp_path / "x.npy", many_mv)
    (tmp_path / "labels.csv").write_text("record,labels,patient\n0,AFIB,p\nx-1,NORM;PVC,p\n2,,q\n")
    corpus = read_arrays(tmp_path, 100, "mV", table=tmp_path / "labels.csv")
    assert [record.codes for record in corpus.records] == [("AFIB",), ("NORM", "PVC"), ()]
    report = prepare(corpus, tmp_path / "set", label_space())
    assert (report.kept, report.labels_after["PVC"], report.missing_ages) == (2, 1, 2)
    found = ECGSet.open(tmp_path / "set").independent_mv()
    np.testing.assert_allclose(found, many_mv[:2][:, [0, 1, 6, 7, 8, 9, 10, 11]], atol=1e-6)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (
            np.zeros((12, 12)),
            "expected axes of different length, got shape .12, 12., .* 12 leads either way",
        ),
        (np.zeros((5, 12, 12)), "expected axes of different length"),
        (np.zeros((11, 500)), r"expected 12 leads on one of two axes, got shape \(11, 500\)"),
        (np.zeros(500), r"expected an array \(leads, samples\) .*, got shape \(500,\)"),
        (np.zeros((2, 2, 12, 500)), r"got shape \(2, 2, 12, 500\)"),
        (np.zeros((0, 12, 500)), r"got shape \(0, 12, 500\)"),
        (np.zeros((12, 500), dtype=complex), "expected real numbers, got complex128"),
        (np.zeros((12, 500), dtype=bool), "expected real numbers, got bool"),
        (np.full((12, 500), "a"), "expected real numbers, got <U1"),
        (np.full((12, 500), np.nan), "expected finite samples, got 6000 missing"),
        (np.full((12, 500), 1e300), "expected finite samples"),
        (np.full((12, 500), {}), "expected a numpy file .* without Python objects"),
    ],
)
def test_arrays_that_cannot_be_recordings_are_left_out_in_a_sentence(tmp_path, array, sentence):
    np.save(tmp_path / "x.npy", array)
    for record in read_arrays(tmp_path, 100, "mV").records:
        with pytest.raises(SignalError, match=sentence):
            read_signal(record)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "expected samples, got none"),
        ("I,II\n", "expected samples, got none"),
        ("I,II\n1,2\n", "expected 12 leads, got 2"),
        ("1,2\n3,4\n", "expected 12 columns for the leads that are stated, got 2"),
        ("I,RESP\n1,2\n", "unknown lead 'RESP'"),
        (",".join(LEADS) + "\n" + "1," * 11 + "x\n", "expected a csv .* with a column of numbers"),
        (",".join(LEADS) + "\n1,2\n", "expected a csv .* with a column of numbers"),
        (",".join(LEADS) + "\n" + ",".join(["nan"] * 12), "expected finite samples"),
    ],
)
def test_a_csv_that_is_no_recording_is_a_sentence(tmp_path, text, sentence):
    (tmp_path / "x.csv").write_text(text)
    (record,) = read_arrays(tmp_path, 100, "mV").records
    with pytest.raises(SignalError, match=sentence):
        read_signal(record)


def test_a_damaged_file_is_left_out_and_told(tmp_path, many_mv):
    np.save(tmp_path / "good.npy", many_mv[0])
    (tmp_path / "bad.npy").write_bytes((tmp_path / "good.npy").read_bytes()[:900])
    (tmp_path / "worse.npz").write_bytes(b"PK\x03\x04 no archive")
    corpus = read_arrays(tmp_path, 100, "mV")
    report = prepare(corpus, tmp_path / "set", label_space(), keep_unlabelled=True)
    assert report.kept == 1
    assert [(e.record, e.reason) for e in report.left_out] == [
        ("bad", preparation_report.UNREADABLE),
        ("worse", preparation_report.UNREADABLE),
    ]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"unit": "adu"}, "expected a unit of mV, uV, V, got 'adu'"),
        ({"sampling_rate_hz": 0}, "expected a sampling rate above 0 Hz"),
        ({"leads": LEADS[:11]}, "12 leads, got 11: V6 missing"),
        ({"leads": (*LEADS[:11], "V9")}, "unknown lead 'V9'"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(tmp_path, many_mv, change, sentence):
    np.save(tmp_path / "x.npy", many_mv)
    with pytest.raises(SignalError, match=sentence):
        read_arrays(**{"path": tmp_path, "sampling_rate_hz": 100, "unit": "mV", **change})


def test_paths_without_recordings_are_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"no file or folder .*none"):
        read_arrays(tmp_path / "none", 100, "mV")
    with pytest.raises(CorpusError, match=r"no recordings in .*: expected \.csv, \.npy, \.npz"):
        read_arrays(tmp_path, 100, "mV")
