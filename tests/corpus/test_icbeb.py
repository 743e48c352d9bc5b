import shutil

import numpy as np
import pytest

from ecgtransfer.corpus import read_icbeb, read_signal
from ecgtransfer.errors import CorpusError

from .layouts import twelve_leads_uv, write_challenge, write_reference, write_struct


def test_all_layouts_below_a_folder_are_one_corpus(icbeb_folder, space):
    corpus = read_icbeb(icbeb_folder)
    assert [record.name for record in corpus.records] == ["A0001", "A0002", "A0003", "A0004"]
    assert [record.codes for record in corpus.records] == [
        ("AF", "RBBB"),
        ("59118001", "284470004"),
        ("5", "2"),
        ("1",),
    ]
    assert [record.vocabulary for record in corpus.records] == [
        "abbreviation",
        "snomed",
        "icbeb_number",
        "icbeb_number",
    ]
    assert corpus.labels(space).tolist() == [[0, 1, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_age_and_sex_are_read_from_header_and_struct(icbeb_folder):
    stated = [(record.age, record.sex) for record in read_icbeb(icbeb_folder).records]
    assert stated == [(74.0, "male"), (None, None), (52.0, "female"), (None, "male")]


def test_a_record_is_a_patient_and_has_no_fold(icbeb_folder):
    for record in read_icbeb(icbeb_folder).records:
        assert record.patient == record.name
        assert record.fold is None


@pytest.mark.parametrize(("position", "seed", "samples"), [(0, 1, 5500), (2, 3, 6000)])
def test_signals_of_both_layouts_come_in_millivolts(icbeb_folder, position, seed, samples):
    recording = read_signal(read_icbeb(icbeb_folder).records[position])
    expected_mv = twelve_leads_uv(seed, samples) / 1000
    np.testing.assert_allclose(recording.signal_mv, expected_mv, atol=1e-6)
    assert recording.sampling_rate_hz == 500


@pytest.mark.parametrize(
    "comments",
    [
        ["#Dx: AF,RBBB", "#Sex: F", "#Age: 8"],
        ["# Dx: AF, RBBB", "# Sex: female", "# Age: 8"],
        ["#dx:AF,RBBB", "#SEX:Female", "#age:8"],
    ],
)
def test_header_comments_are_read_in_every_variant(tmp_path, comments):
    write_challenge(tmp_path / "A0001", twelve_leads_uv(0, 5000), comments)
    (record,) = read_icbeb(tmp_path).records
    assert record.codes == ("AF", "RBBB")
    assert (record.sex, record.age) == ("female", 8.0)


def test_a_header_without_statements_gives_a_record_without_codes(tmp_path):
    write_challenge(tmp_path / "A0001", twelve_leads_uv(0, 5000), ["#Age: 8"])
    assert read_icbeb(tmp_path).records[0].codes == ()


def test_a_record_in_both_layouts_is_taken_once_from_the_challenge(icbeb_folder):
    write_struct(icbeb_folder / "original/TrainingSet1/A0001.mat", np.zeros((12, 5000)), 1, "Male")
    records = read_icbeb(icbeb_folder).records
    assert [record.reader for record in records if record.name == "A0001"] == ["wfdb"]


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"no folder .*absent"):
        read_icbeb(tmp_path / "absent")


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="no ICBEB2018 records below"):
        read_icbeb(tmp_path)


def test_a_record_without_labels_is_refused(icbeb_folder):
    (icbeb_folder / "original/REFERENCE.csv").unlink()
    with pytest.raises(CorpusError, match=r"A0003\.mat has neither a header .*nor a line"):
        read_icbeb(icbeb_folder)


def test_a_reference_without_a_column_is_refused(icbeb_folder):
    write_reference(icbeb_folder / "original", [("A0003", 5)], columns=("Recording", "Label"))
    with pytest.raises(
        CorpusError, match="lacks the column First_label, Second_label, Third_label"
    ):
        read_icbeb(icbeb_folder)


def test_two_references_that_disagree_are_refused(icbeb_folder):
    write_reference(icbeb_folder / "original/TrainingSet1", [("A0003", 1, "", "")])
    with pytest.raises(CorpusError, match="disagree on the labels of A0003"):
        read_icbeb(icbeb_folder)


def test_codes_of_two_vocabularies_in_one_header_are_refused(tmp_path):
    write_challenge(tmp_path / "A0001", twelve_leads_uv(0, 5000), ["#Dx: AF,59118001"])
    with pytest.raises(CorpusError, match="either SNOMED CT codes or abbreviations, got 'AF,5911"):
        read_icbeb(tmp_path)


@pytest.mark.parametrize("names", [("A0001.mat", "A0001.hea"), ("A0001.mat",)])
def test_two_copies_of_a_record_are_refused(icbeb_folder, tmp_path, names):
    if len(names) == 1:
        write_struct(icbeb_folder / "original/A0003.mat", np.zeros((12, 5000)), 1, "Male")
    else:
        (icbeb_folder / "g2").mkdir()
        for name in names:
            shutil.copy(icbeb_folder / "g1" / name, icbeb_folder / "g2")
    with pytest.raises(CorpusError, match="remove one of the copies"):
        read_icbeb(icbeb_folder)
