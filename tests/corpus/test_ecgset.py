import json
import shutil

import numpy as np
import pandas as pd
import pytest

from ecgtransfer.corpus import ECGSet, microvolts
from ecgtransfer.errors import CorpusError, SignalError
from ecgtransfer.signals import LEADS, expand_leads


def change_card(folder, **changes):
    card = json.loads((folder / "card.json").read_text())
    card = {key: value for key, value in {**card, **changes}.items() if value is not ...}
    (folder / "card.json").write_text(json.dumps(card))


def test_a_set_comes_back_as_it_was_written(small_set, space):
    written, signals_uv, labels, records = small_set
    ecgset = ECGSet.open(written.folder)
    assert len(ecgset) == 6
    assert (ecgset.n_samples, ecgset.sampling_rate_hz, ecgset.origin) == (50, 100, "simulated")
    assert ecgset.label_space == space
    np.testing.assert_array_equal(ecgset.labels, labels)
    assert ecgset.labels.dtype == np.float32
    np.testing.assert_allclose(ecgset.independent_mv(), signals_uv / 1000, rtol=1e-6)
    pd.testing.assert_frame_equal(ecgset.records[list(records)], records, check_dtype=False)
    ecgset.verify()


def test_every_table_has_the_standard_columns(small_set):
    records = small_set[0].records
    assert list(records)[:7] == ["name", "patient", "fold", "age", "sex", "device", "site"]
    assert records["age"].isna().all()


def test_twelve_leads_follow_from_the_eight(small_set):
    ecgset, signals_uv, *_ = small_set
    assert ecgset.signals_mv().shape == (6, 12, 50)
    assert ecgset.signals_mv().dtype == np.float32
    expected_mv = expand_leads(signals_uv[[4, 1]] / 1000)
    np.testing.assert_allclose(ecgset.signals_mv([4, 1]), expected_mv, atol=1e-6)


MASK = np.array([True, False, False, True, False, True])


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (None, [0, 1, 2, 3, 4, 5]),
        (2, [2]),
        (-1, [5]),
        ([4, 1, 1], [4, 1, 1]),
        (np.array([3]), [3]),
        (slice(1, 6, 2), [1, 3, 5]),
        (MASK, [0, 3, 5]),
        ([], []),
    ],
)
def test_signals_are_taken_by_any_index(small_set, index, rows):
    ecgset, signals_uv, *_ = small_set
    taken = ecgset.independent_mv(index)
    assert taken.dtype == np.float32
    assert taken.shape == (len(rows), 8, 50)
    np.testing.assert_allclose(taken, signals_uv[rows] / 1000, rtol=1e-6)


def test_a_record_of_a_set_is_a_recording(small_set):
    recording = small_set[0].recording(3)
    assert recording.leads == LEADS
    assert recording.sampling_rate_hz == 100
    np.testing.assert_array_equal(recording.signal_mv, small_set[0].signals_mv(3)[0])


def test_batches_stay_on_disk_until_they_are_asked_for(small_set):
    assert isinstance(small_set[0]._signals_uv, np.memmap)


def test_labels_stay_on_disk_and_what_is_changed_in_them_does_not_get_there(small_set):
    folder = small_set[0].folder
    before = (folder / "labels.npy").read_bytes()
    ecgset = ECGSet.open(folder)
    assert isinstance(ecgset.labels, np.memmap)
    ecgset.labels[:] = 1
    assert ecgset.labels.all()
    assert (folder / "labels.npy").read_bytes() == before
    assert not ECGSet.open(folder).labels.all()


@pytest.mark.parametrize(("size", "start"), [(1, 0), (4, 0), (100, 0), (4, 3), (2, 5), (3, 6)])
def test_a_set_is_read_in_chunks_from_any_record_on(small_set, size, start):
    ecgset, signals_uv, labels, records = small_set
    chunks = list(ecgset.chunks(size, start))
    assert [len(chunk.labels) for chunk in chunks] == [len(c.records) for c in chunks]
    assert all(0 < len(chunk.labels) <= size for chunk in chunks)
    assert sum(len(chunk.labels) for chunk in chunks) == len(ecgset) - start
    if chunks:
        np.testing.assert_array_equal(
            np.concatenate([chunk.signals_uv for chunk in chunks]), signals_uv[start:]
        )
        np.testing.assert_array_equal(
            np.concatenate([chunk.labels for chunk in chunks]), labels[start:]
        )
        names = pd.concat([chunk.records for chunk in chunks])["name"]
        assert names.tolist() == records["name"].tolist()[start:]


def test_chunks_of_a_table_that_is_broken_are_refused(small_set):
    small_set[3].iloc[:4].to_parquet(small_set[0].folder / "records.parquet")
    with pytest.raises(CorpusError, match="has 4 rows, its card says 6 records"):
        next(ECGSet.open(small_set[0].folder).chunks(2))
    (small_set[0].folder / "records.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorpusError, match=r"records\.parquet cannot be read"):
        next(ECGSet.open(small_set[0].folder).chunks(2))
    with pytest.raises(CorpusError, match=r"records\.parquet cannot be read"):
        ECGSet.open(small_set[0].folder).verify()


def test_a_set_says_what_it_is(small_set):
    assert "6 simulated records, 3 labels, 50 samples at 100 Hz" in repr(small_set[0])


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([6], "has 6 records, got index 6"),
        ([-7], "has 6 records"),
        ([0.5], "expected record indices"),
        ([[0, 1]], "expected record indices"),
        ([True, False], "expected a mask of 6 records, got 2"),
    ],
)
def test_a_bad_index_is_refused(small_set, index, message):
    with pytest.raises(CorpusError, match=message):
        small_set[0].independent_mv(index)


def test_a_missing_set_is_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"no ECG set at .*absent"):
        ECGSet.open(tmp_path / "absent")


@pytest.mark.parametrize("card", [None, "{", "[]", '{"format": "something else"}'])
def test_a_foreign_folder_is_refused(tmp_path, card):
    if card is not None:
        (tmp_path / "card.json").write_text(card)
    with pytest.raises(CorpusError, match="is not an ECG set"):
        ECGSet.open(tmp_path)


def test_another_format_version_is_refused(small_set):
    change_card(small_set[0].folder, format_version=2)
    with pytest.raises(CorpusError, match="of format version 2, this program reads version 1"):
        ECGSet.open(small_set[0].folder)


def test_a_card_that_lacks_a_fact_is_refused(small_set):
    change_card(small_set[0].folder, samples=..., origin=3)
    with pytest.raises(CorpusError, match="does not state samples, origin"):
        ECGSet.open(small_set[0].folder)


@pytest.mark.parametrize("name", ["signals.npy", "labels.npy", "records.parquet"])
def test_a_set_that_lost_a_file_is_refused(small_set, name):
    (small_set[0].folder / name).unlink()
    with pytest.raises(CorpusError, match=f"lacks {name}"):
        ECGSet.open(small_set[0].folder)


@pytest.mark.parametrize("name", ["signals.npy", "labels.npy"])
@pytest.mark.parametrize("kept_bytes", [0, 60, 140])
def test_a_truncated_array_is_refused(small_set, name, kept_bytes):
    path = small_set[0].folder / name
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(CorpusError, match=f"{name} is truncated or not a .npy file"):
        ECGSet.open(small_set[0].folder)


def test_an_array_of_another_shape_is_refused(small_set):
    np.save(small_set[0].folder / "labels.npy", np.zeros((5, 3), dtype=np.float32))
    with pytest.raises(CorpusError, match=r"labels\.npy holds \(5, 3\) .*says \(6, 3\)"):
        ECGSet.open(small_set[0].folder)


def test_a_table_that_cannot_be_read_is_refused(small_set):
    path = small_set[0].folder / "records.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CorpusError, match=r"records\.parquet cannot be read"):
        _ = ECGSet.open(small_set[0].folder).records


def test_a_table_with_other_rows_is_refused(small_set):
    small_set[3].iloc[:4].to_parquet(small_set[0].folder / "records.parquet")
    with pytest.raises(CorpusError, match="has 4 rows, its card says 6 records"):
        ECGSet.open(small_set[0].folder).verify()


def flip_a_byte(folder):
    path = folder / "signals.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def rename_a_record(folder):
    table = pd.read_parquet(folder / "records.parquet")
    table.loc[0, "patient"] = "z"
    table.to_parquet(folder / "records.parquet")


def swap_labels(folder):
    np.save(folder / "labels.npy", np.load(folder / "labels.npy")[::-1])


@pytest.mark.parametrize("change", [flip_a_byte, rename_a_record, swap_labels])
def test_any_change_of_content_is_found(small_set, change):
    change(small_set[0].folder)
    with pytest.raises(CorpusError, match="has changed since it was written"):
        ECGSet.open(small_set[0].folder).verify()


def test_a_set_can_be_moved(small_set, tmp_path):
    shutil.move(small_set[0].folder, tmp_path / "elsewhere")
    ECGSet.open(tmp_path / "elsewhere").verify()


def test_microvolts_are_rounded():
    assert microvolts(np.array([0.0014, -0.0016, 32.767])).tolist() == [1, -2, 32767]


@pytest.mark.parametrize("value", [32.768, -40.0, np.nan, np.inf])
def test_what_int16_cannot_hold_is_refused(value):
    with pytest.raises(SignalError, match=r"within \+-32\.767 mV, got"):
        microvolts(np.array([0.0, value]))
