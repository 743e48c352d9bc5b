import csv
import json

import numpy as np
import pandas as pd
import pytest
import wfdb

from ecgtransfer.corpus import (
    ECGSet,
    LabelSpace,
    label_space,
    prepare,
    read_wfdb_folder,
    write_ecgset,
)
from ecgtransfer.errors import ConfigError, RunError, SignalError
from ecgtransfer.export import export_set
from ecgtransfer.export import wfdb_set as module
from ecgtransfer.signals import LEADS

INDEPENDENT = [LEADS.index(name) for name in ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")]
SOURCE = {"name": "clinic", "version": "2", "licence": "CC BY 4.0", "url": "https://example.org"}


@pytest.fixture
def signals_uv():
    rng = np.random.default_rng(3)
    signals = rng.integers(-32767, 32768, (5, 8, 300)).astype(np.int16)
    signals[:, :2] //= 4  # the other limb leads are sums and differences of I and II
    return signals


@pytest.fixture
def ecgset(tmp_path, signals_uv):
    """Five records at 250 Hz, one without anything stated, with names that WFDB does not take."""
    space = label_space("scp71")
    records = pd.DataFrame(
        {
            "name": ["a/1", "a 1", "A_1", "plain", "last"],
            "patient": ["p", "p", "q", "plain", "last"],
            "fold": [1, 1, 2, 3, None],
            "age": [40.5, 41.0, 90.0, 1.0, None],
            "sex": ["male", "male", "female", "female", None],
            "device": ["AT-6", None, None, None, None],
        }
    )
    stated = [["NORM", "SR"], ["AFIB"], ["PVC", "CRBBB"], ["LOWT"], []]
    labels = np.stack([space.encode(names) for names in stated])
    return write_ecgset(
        tmp_path / "set", signals_uv, labels, records, space, 250, "recorded", {"corpus": SOURCE}
    )


def test_wfdb_reads_back_the_samples_of_the_set_exactly(tmp_path, ecgset, signals_uv):
    folder = export_set(ecgset, tmp_path / "out")
    names = (folder / "RECORDS").read_text().split()
    assert names == ["00000/a_1", "00000/a_1_1", "00000/A_1_2", "00000/plain", "00000/last"]
    for name, eight, twelve in zip(names, signals_uv, ecgset.signals_mv(), strict=True):
        record = wfdb.rdrecord(str(folder / name), physical=False)
        assert (record.fs, tuple(record.sig_name), set(record.units)) == (250, LEADS, {"mV"})
        assert (set(record.adc_gain), set(record.baseline)) == ({1000.0}, {0})
        np.testing.assert_array_equal(record.d_signal.T[INDEPENDENT], eight)
        assert np.abs(record.d_signal.T - 1000.0 * twelve).max() <= 0.51
        physical = wfdb.rdrecord(str(folder / name)).p_signal
        np.testing.assert_allclose(physical.T[INDEPENDENT], eight / 1000, atol=1e-9)


def test_headers_state_labels_as_snomed_codes_and_where_they_come_from(tmp_path, ecgset):
    folder = export_set(ecgset, tmp_path / "out")
    assert wfdb.rdheader(str(folder / "00000/a_1")).comments == [
        "Age: 40.5",
        "Sex: Male",
        "Patient: p",
        "Dx: 426783006",
        "Labels: NORM, SR",
        "Labels without SNOMED CT code: SR",
        "Source: clinic, 2, CC BY 4.0, https://example.org",
    ]
    assert "Dx: 59118001,164884008" in wfdb.rdheader(str(folder / "00000/A_1_2")).comments
    assert wfdb.rdheader(str(folder / "00000/last")).comments[0] == "Labels: none"


def test_an_export_is_prepared_to_the_same_set(tmp_path, ecgset):
    folder = export_set(ecgset, tmp_path / "out")
    corpus = read_wfdb_folder(folder, folder / "labels.csv", "scp")
    settings = {"sampling_rate_hz": 250, "seconds": 1.2, "keep_unlabelled": True}
    report = prepare(corpus, tmp_path / "again", label_space("scp71"), **settings)
    again = ECGSet.open(tmp_path / "again")
    assert (report.kept, report.unknown_codes) == (5, {})
    names = ["A_1_2", "a_1", "a_1_1", "last", "plain"]
    assert again.records.name.tolist() == names
    order = [2, 0, 1, 4, 3]
    np.testing.assert_array_equal(again.independent_mv(), ecgset.independent_mv(order))
    np.testing.assert_array_equal(again.labels, ecgset.labels[order])
    columns = ["patient", "fold", "age", "sex", "device"]
    expected = ecgset.records[columns].iloc[order].reset_index(drop=True)
    pd.testing.assert_frame_equal(again.records[columns], expected, check_dtype=False)


def test_classes_that_are_no_codes_come_back_by_their_names(tmp_path):
    space = label_space("superclasses")
    labels = np.stack([space.encode(names) for names in (["CD"], ["MI", "STTC"], ["NORM"])])
    table = pd.DataFrame({"name": ["a", "b", "c"]})
    signals_uv = np.arange(2400).reshape(3, 8, 100).astype(np.int16)
    made = write_ecgset(
        tmp_path / "five", signals_uv, labels, table, space, 100, "recorded", space.card_entry()
    )
    folder = export_set(made, tmp_path / "out")
    corpus = read_wfdb_folder(folder, folder / "labels.csv")
    prepare(corpus, tmp_path / "again", space, seconds=1)
    np.testing.assert_array_equal(ECGSet.open(tmp_path / "again").labels, labels)


def test_header_comments_alone_say_as_much(tmp_path, ecgset):
    folder = export_set(ecgset, tmp_path / "out")
    (folder / "labels.csv").unlink()
    records = {record.name: record for record in read_wfdb_folder(folder).records}
    assert (records["a_1"].patient, records["a_1"].age, records["a_1"].sex) == ("p", 40.5, "male")
    assert label_space().encode_codes(records["A_1_2"].codes, "snomed").sum() == 2


def test_the_table_has_a_row_a_record(tmp_path, ecgset):
    folder = export_set(ecgset, tmp_path / "out")
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["labels"] for row in rows] == ["NORM;SR", "AFIB", "CRBBB;PVC", "LOWT", ""]
    assert [row["fold"] for row in rows] == ["1", "1", "2", "3", ""]
    assert rows[4]["age"] == rows[4]["sex"] == rows[4]["device"] == ""
    assert not {"origin", "weight"} & set(rows[0])


def test_codes_of_a_space_of_ones_own_are_written(tmp_path, ecgset):
    labels = np.zeros((5, 2), np.float32)
    labels[:, 1] = 1
    (tmp_path / "own.csv").write_text("label,vocabulary,code\nx,snomed,1\ny,snomed,222222\n")
    space = label_space(tmp_path / "own.csv")
    own = write_ecgset(
        tmp_path / "own",
        np.zeros((5, 8, 100), np.int16),
        labels,
        ecgset.records,
        space,
        100,
        "recorded",
        space.card_entry(),
    )
    folder = export_set(own, tmp_path / "out")
    assert "Dx: 222222" in wfdb.rdheader(str(folder / "00000/plain")).comments


def test_records_of_a_synthetic_set_say_that_they_are_synthetic(tmp_path):
    space = LabelSpace(("NORM", "AFIB"))
    made = write_ecgset(
        tmp_path / "made",
        np.zeros((1, 8, 100), np.int16),
        np.array([[0, 1]], np.float32),
        pd.DataFrame({"name": ["000001"]}),
        space,
        100,
        "generated",
        {"model_fingerprint": "abc", "method": "tgdp"},
    )
    comments = wfdb.rdheader(str(export_set(made, tmp_path / "out") / "00000/000001")).comments
    assert comments[0].startswith("SYNTHETIC: generated by ecgtransfer")
    assert "Dx: 164889003" in comments
    assert "Model fingerprint: abc" in comments


def test_an_interrupted_export_goes_on_and_a_finished_one_is_kept(tmp_path, ecgset, monkeypatch):
    written = []
    write = module.write_recording

    def fail_on_the_third(path, recording, comments):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, recording, comments)

    monkeypatch.setattr(module, "write_recording", fail_on_the_third)
    with pytest.raises(KeyboardInterrupt):
        export_set(ecgset, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(
        module, "write_recording", lambda *told: (written.append(told[0].name), write(*told))
    )
    counted = []
    folder = export_set(ecgset, tmp_path / "out", lambda done, total: counted.append((done, total)))
    assert written == ["a_1", "a_1_1", "A_1_2", "plain", "last"]
    assert counted == [(2, 5), (3, 5), (4, 5), (5, 5)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "set"]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert export_set(ecgset, folder) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert json.loads((folder / "export.json").read_text())["card"] == ecgset.card


def test_what_cannot_be_exported_is_refused(tmp_path, ecgset):
    (tmp_path / "full").mkdir()
    with pytest.raises(RunError, match="exists and is not an export of this set; choose another"):
        export_set(ecgset, tmp_path / "full")
    space = LabelSpace(("a;b",))
    odd = write_ecgset(
        tmp_path / "odd",
        np.full((1, 8, 100), 32767, np.int16) * np.array([[1], [-1], *[[1]] * 6], np.int16),
        np.ones((1, 1), np.float32),
        pd.DataFrame({"name": ["x"]}),
        space,
        100,
        "recorded",
    )
    with pytest.raises(ConfigError, match="expected labels without ';' and"):
        export_set(odd, tmp_path / "out")
    odd.card["labels"] = ["a"]
    odd.label_space = LabelSpace(("a",))
    with pytest.raises(SignalError, match=r"expected amplitudes up to 32\.767 mV, got .* lead III"):
        export_set(odd, tmp_path / "out")
    assert not (tmp_path / "out").exists()
