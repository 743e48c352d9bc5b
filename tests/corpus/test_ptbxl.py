import pandas as pd
import pytest

from ecgtransfer.corpus import rate_to_read, read_ptbxl
from ecgtransfer.errors import CorpusError


def edit(folder, **changes):
    """Change the first row of the table."""
    path = folder / "ptbxl_database.csv"
    table = pd.read_csv(path, dtype=object)
    for column, value in changes.items():
        table.loc[0, column] = value
    table.to_csv(path, index=False)


def test_a_record_is_read_with_everything_the_table_states(ptbxl_folder):
    first = read_ptbxl(ptbxl_folder).records[0]
    assert first.name == "00001"
    assert first.path == ptbxl_folder / "records100/00000/00001_lr"
    assert (first.patient, first.fold, first.age, first.sex) == ("11", 3, 56.0, "female")
    assert (first.device, first.site, first.vocabulary) == ("CS-12 E", "0", "scp")


def test_statements_of_likelihood_zero_are_kept(ptbxl_folder):
    assert read_ptbxl(ptbxl_folder).records[0].codes == ("NORM", "SR")


def test_ages_hidden_behind_300_are_read_as_90(ptbxl_folder):
    assert read_ptbxl(ptbxl_folder).records[2].age == 90.0


def test_what_the_table_does_not_state_is_none(ptbxl_folder):
    fourth = read_ptbxl(ptbxl_folder).records[3]
    assert (fourth.age, fourth.device, fourth.site, fourth.codes) == (None, None, None, ())
    edit(ptbxl_folder, sex=None)
    assert read_ptbxl(ptbxl_folder).records[0].sex is None


def test_the_500_hz_files_are_chosen_by_the_rate(ptbxl_folder):
    first = read_ptbxl(ptbxl_folder, sampling_rate_hz=500).records[0]
    assert first.path == ptbxl_folder / "records500/00000/00001_hr"


@pytest.mark.parametrize(
    ("there", "wanted", "read"),
    [
        ((100,), 100, 100),
        ((100,), 250, 100),  # nothing better is there
        ((100, 500), 100, 100),
        ((100, 500), 250, 500),
        ((500,), 100, 500),
        ((100, 500), 1000, 500),
        ((), 250, 100),
    ],
)
def test_a_set_is_made_from_the_lowest_rate_that_is_enough(tmp_path, there, wanted, read):
    for rate in there:
        (tmp_path / f"records{rate}").mkdir()
    assert rate_to_read(tmp_path, wanted) == read


def test_another_rate_is_refused(ptbxl_folder):
    with pytest.raises(CorpusError, match="PTB-XL has 100 and 500 Hz, got 250"):
        read_ptbxl(ptbxl_folder, sampling_rate_hz=250)


def test_a_folder_without_the_table_is_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"no PTB-XL in .*expected ptbxl_database\.csv"):
        read_ptbxl(tmp_path)


def test_a_table_without_a_column_is_refused(ptbxl_folder):
    path = ptbxl_folder / "ptbxl_database.csv"
    pd.read_csv(path).drop(columns=["scp_codes", "device"]).to_csv(path, index=False)
    with pytest.raises(CorpusError, match="lacks the column device, scp_codes"):
        read_ptbxl(ptbxl_folder)


def test_a_table_without_rows_is_refused(ptbxl_folder):
    path = ptbxl_folder / "ptbxl_database.csv"
    pd.read_csv(path).iloc[:0].to_csv(path, index=False)
    with pytest.raises(CorpusError, match="has no rows"):
        read_ptbxl(ptbxl_folder)


def test_a_file_that_is_no_table_is_refused(ptbxl_folder):
    (ptbxl_folder / "ptbxl_database.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(CorpusError, match="is not a csv table"):
        read_ptbxl(ptbxl_folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scp_codes": "NORM"}, r"ecg_id 1: expected scp_codes such as .*got 'NORM'"),
        ({"scp_codes": "['NORM']"}, "expected scp_codes such as"),
        ({"scp_codes": "{1: 100.0}"}, "expected scp_codes such as"),
        ({"scp_codes": "__import__('os')"}, "expected scp_codes such as"),
        ({"age": "old"}, "expected a number in age, got 'old'"),
        ({"patient_id": None}, "expected a number in patient_id"),
        ({"strat_fold": "1.5"}, "expected a whole number in strat_fold"),
        ({"filename_lr": None}, "expected a path in filename_lr"),
        ({"sex": "2"}, r"expected sex 0 \(male\) or 1 \(female\)"),
    ],
)
def test_a_bad_value_is_refused_with_its_place(ptbxl_folder, change, message):
    edit(ptbxl_folder, **change)
    with pytest.raises(CorpusError, match=message):
        read_ptbxl(ptbxl_folder)
