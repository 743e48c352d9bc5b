import json

import numpy as np
import pytest
import wfdb

from ecgtransfer.corpus import ECGSet, label_space, prepare, read_wfdb_folder
from ecgtransfer.corpus.sets import preparation_report
from ecgtransfer.errors import CorpusError

from .layouts import PTBXL_LEADS, twelve_leads_uv, write_challenge, write_dat

EIGHT = [0, 1, 6, 7, 8, 9, 10, 11]


def comment(record, *lines):
    header = record.with_suffix(".hea")
    header.write_text(header.read_text() + "".join(f"# {line}\n" for line in lines))


def write_table(path, text):
    path.write_text(text)
    return path


@pytest.fixture
def folder(tmp_path):
    """Four records in three folders: three vocabularies, one without a statement."""
    folder = tmp_path / "clinic"
    write_dat(folder / "a/r1", twelve_leads_uv(1, 1000), 100)
    comment(folder / "a/r1", "Age: 61", "Sex: F", "Dx: AFIB,PVC", "Patient: p7")
    write_challenge(folder / "b/r2", twelve_leads_uv(2, 5000), ["#Dx: 164889003,999999999"])
    write_dat(folder / "c/r3", twelve_leads_uv(3, 1000), 100)
    comment(folder / "c/r3", "<age>: 50", "<diagnoses> NORM")
    comment(folder / "c/r3", "Diagnosis: NORM", "gender: male")
    write_dat(folder / "c/r4", twelve_leads_uv(4, 1000), 100)
    return folder


def test_all_records_below_a_folder_are_found_with_what_their_headers_state(folder):
    corpus = read_wfdb_folder(folder)
    assert [record.name for record in corpus.records] == ["r1", "r2", "r3", "r4"]
    one, two, three, four = corpus.records
    assert (one.age, one.sex, one.patient, one.codes) == (61, "female", "p7", ("AFIB", "PVC"))
    assert [r.vocabulary for r in (one, two, three)] == ["scp", "snomed", "scp"]
    assert (three.age, three.sex, three.codes) == (50, "male", ("NORM",))
    assert (four.codes, four.patient, four.patient_stated) == ((), "r4", False)
    assert corpus.notes == (
        "records without a stated patient, each counted as one: 3 (r2, r3, r4)",
    )
    assert corpus.manifest.name == "clinic"


def test_a_folder_becomes_a_set_and_nothing_is_dropped_in_silence(folder, tmp_path):
    report = prepare(read_wfdb_folder(folder), tmp_path / "set", label_space())
    assert report.kept == 3
    assert [(entry.record, entry.reason) for entry in report.left_out] == [
        ("r4", preparation_report.UNSTATED)
    ]
    assert report.unknown_codes == {"999999999": 1}
    assert report.sampling_rates_hz == {"100": 2, "500": 1}
    assert (report.missing_ages, report.missing_sexes, report.patients_not_stated) == (1, 1, 2)
    ecgset = ECGSet.open(tmp_path / "set")
    assert [ecgset.label_space.decode(row) for row in ecgset.labels] == [
        ("AFIB", "PVC"),
        ("AFIB",),
        ("NORM",),
    ]
    assert ecgset.records["patient"].tolist() == ["p7", "r2", "r3"]


@pytest.mark.parametrize("fmt", ["16", "24", "32", "212"])
@pytest.mark.parametrize("rate", [100, 257, 500, 1000, 2000])
def test_formats_and_rates_come_back_to_the_known_samples(tmp_path, fmt, rate):
    seconds = np.arange(rate * 11) / rate
    leads = np.array([0.3 * np.sin(2 * np.pi * (1 + k) * seconds) for k in range(12)])
    leads[2:6] = [leads[1] - leads[0], -(leads[0] + leads[1]) / 2, leads[0] - leads[1] / 2,
                  leads[1] - leads[0] / 2]  # fmt: skip
    (tmp_path / "in").mkdir()
    wfdb.wrsamp(
        "r",
        fs=rate,
        units=["mV"] * 12,
        sig_name=list(PTBXL_LEADS[::-1]),
        p_signal=leads[::-1].T.copy(),
        fmt=[fmt] * 12,
        adc_gain=[1000.0] * 12,
        baseline=[0] * 12,
        comments=["Dx: NORM"],
        write_dir=str(tmp_path / "in"),
    )
    prepare(read_wfdb_folder(tmp_path / "in"), tmp_path / "set", label_space())
    found = ECGSet.open(tmp_path / "set").independent_mv(0)[0]
    at = np.arange(1000) / 100
    truth = np.array([0.3 * np.sin(2 * np.pi * (1 + k) * at) for k in EIGHT])
    inner = slice(50, None)  # the filter feels the start of the record; the end goes on to 11 s
    np.testing.assert_allclose(found[:, inner], truth[:, inner], atol=0.003)


def test_segments_are_one_record(tmp_path):
    whole = twelve_leads_uv(1, 1000)
    folder = tmp_path / "in"
    for name, part in (("r_0001", whole[:, :400]), ("r_0002", whole[:, 400:])):
        write_dat(folder / name, part, 100)
    (folder / "r.hea").write_text("r/2 12 100 1000\nr_0001 400\nr_0002 600\n# Dx: AFIB\n")
    report = prepare(read_wfdb_folder(folder), tmp_path / "set", label_space())
    assert (report.records, report.kept) == (1, 1)
    found = ECGSet.open(tmp_path / "set").independent_mv(0)[0]
    np.testing.assert_allclose(found, whole[EIGHT] / 1000, atol=1e-6)


def test_mended_headers_are_listed_by_record(folder, tmp_path):
    header = folder / "a/r1.hea"
    header.write_text(header.read_text().replace("r1 12 100 1000", "r1.hea 12 100 1000 2020-13-1"))
    report = prepare(read_wfdb_folder(folder), tmp_path / "set", label_space())
    assert report.headers_mended == {
        "r1": ("the record name 'r1.hea' with its extension", "the date or time '2020-13-1'")
    }
    stored = json.loads((tmp_path / "set/report.json").read_text())
    assert list(stored["headers_mended"]) == ["r1"]
    assert "headers repaired: 1 (r1)" in str(report)


def test_a_header_that_cannot_be_read_is_left_out_and_told(folder, tmp_path):
    (folder / "a/r1.hea").write_text("nothing")
    report = prepare(read_wfdb_folder(folder), tmp_path / "set", label_space())
    (entry,) = [e for e in report.left_out if e.reason == preparation_report.UNREADABLE]
    assert entry.record == "r1"
    assert "expected a WFDB header that begins with" in entry.detail


def test_files_of_one_name_are_called_by_their_path(tmp_path):
    for place in ("a", "b"):
        write_dat(tmp_path / "in" / place / "r", twelve_leads_uv(ord(place), 1000), 100)
    table = write_table(tmp_path / "t.csv", "record,labels\na/r,AFIB\nb/r.dat,NORM|PVC\n")
    corpus = read_wfdb_folder(tmp_path / "in", table)
    assert [(r.name, r.codes) for r in corpus.records] == [
        ("a/r", ("AFIB",)),
        ("b/r", ("NORM", "PVC")),
    ]


@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_a_table_states_labels_patient_and_the_rest(folder, separator):
    rows = [
        ["record", "labels", "patient", "age", "sex", "fold", "device", "site"],
        ["r1", "NORM|1AVB", "p1", "40", "male", "3", "AT-6", "north"],
        ["b/r2.mat", "PAC", "p2", "", "F", "4.0", "", ""],
        ["nobody", "PAC", "p3", "", "", "", "", ""],
    ]
    text = "\ufeff" + "\r\n".join(separator.join(row) for row in rows)
    corpus = read_wfdb_folder(folder, write_table(folder / "labels.csv", text))
    one, two, three, _ = corpus.records
    assert (one.codes, one.patient, one.age, one.sex) == (("NORM", "1AVB"), "p1", 40, "male")
    assert (one.fold, one.device, one.site) == (3, "AT-6", "north")
    assert (two.codes, two.fold, two.sex, two.age) == (("PAC",), 4, "female", None)
    assert (three.codes, three.age) == ((), 50)
    assert corpus.notes[:2] == (
        "rows of labels.csv that name no record: 1 (nobody)",
        "records that labels.csv does not name: 2 (r3, r4)",
    )


def test_a_table_without_labels_leaves_them_to_the_headers(folder, tmp_path):
    table = write_table(tmp_path / "t.csv", "record,patient\nr3,p9\n")
    three = read_wfdb_folder(folder, table).records[2]
    assert (three.patient, three.codes) == ("p9", ("NORM",))


def test_a_stated_vocabulary_counts(folder):
    corpus = read_wfdb_folder(folder, vocabulary="abbreviation")
    assert {record.vocabulary for record in corpus.records} == {"abbreviation"}
    with pytest.raises(CorpusError, match=r"a vocabulary of scp, snomed, .*, got 'latin'"):
        read_wfdb_folder(folder, vocabulary="latin")


@pytest.mark.parametrize(
    ("codes", "expected"),
    [("AF,RBBB", "abbreviation"), ("2,5", "icbeb_number"), ("59118001", "snomed"),
     ("AFIB,CRBBB", "scp"), ("AFIB,59118001,164889003", "snomed")],
)  # fmt: skip
def test_the_vocabulary_is_found_by_looking(tmp_path, codes, expected):
    write_dat(tmp_path / "r", twelve_leads_uv(1, 1000), 100)
    comment(tmp_path / "r", f"Dx: {codes}")
    assert read_wfdb_folder(tmp_path).records[0].vocabulary == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name,labels\nr1,AF\n", "needs the column record once"),
        ("record,record\nr1,AF\n", "needs the column record once"),
        ("", "needs the column record once"),
        ("record,labels\n", "has no rows"),
        ("record,labels\nr1,AF\nr1.dat,AF\n", "line 3: expected a record that no other row"),
        ("record,labels\n,AF\n", "line 2: expected a record"),
        ("record,fold\nr1,x\n", "line 2: expected a whole number in fold, got 'x'"),
        ("record,labels\nr1,AF\na/r1,AF\n", "has the rows r1 and a/r1 for one record"),
        ('record,labels\n"r1,AF\n', "is not a csv table"),
    ],
)
def test_a_table_that_cannot_be_is_one_sentence(folder, tmp_path, text, sentence):
    with pytest.raises(CorpusError, match=sentence):
        read_wfdb_folder(folder, write_table(tmp_path / "t.csv", text))


def test_a_patient_in_two_folds_is_refused_and_named(folder, tmp_path):
    text = "record,labels,patient,fold\nr1,NORM,p1,1\nr2,NORM,p1,2\nr3,NORM,p2,1\n"
    corpus = read_wfdb_folder(folder, write_table(tmp_path / "t.csv", text))
    with pytest.raises(CorpusError, match=r"one fold, got 1 patients .*\(p1\); give"):
        prepare(corpus, tmp_path / "set", label_space())
    assert not (tmp_path / "set").exists()


def test_folders_without_records_are_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"no folder .*none"):
        read_wfdb_folder(tmp_path / "none")
    with pytest.raises(CorpusError, match="no WFDB records below"):
        read_wfdb_folder(tmp_path)
    write_dat(tmp_path / "r", twelve_leads_uv(1, 1000), 100)
    with pytest.raises(CorpusError, match=r"no such table: .*none.csv"):
        read_wfdb_folder(tmp_path, tmp_path / "none.csv")


def test_a_table_with_one_huge_cell_is_read_and_leaves_csv_as_it_was(folder, tmp_path):
    import csv

    before = csv.field_size_limit()
    table = tmp_path / "huge.csv"
    table.write_text(f"record,remarks,labels\nhuge,{'x' * 2 * before},AF\n")
    corpus = read_wfdb_folder(folder, table)
    assert csv.field_size_limit() == before
    assert any("rows of huge.csv that name no record: 1 (huge)" in note for note in corpus.notes)
