import numpy as np
import pytest

from ecgtransfer.errors import SignalError
from ecgtransfer.signals import plain_wfdb, read_recording, write_recording
from ecgtransfer.signals.plain_wfdb import read_wfdb
from tests.corpus.layouts import PTBXL_LEADS, twelve_leads_uv, write_challenge, write_dat


def edit_header(record, old, new):
    path = record.with_suffix(".hea")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def assert_same_as_wfdb(record):
    ours, theirs = read_wfdb(record), read_recording(record)
    assert ours.sampling_rate_hz == theirs.sampling_rate_hz
    np.testing.assert_array_equal(ours.signal_mv, theirs.signal_mv)


@pytest.mark.parametrize("rate_hz", [100, 500])
def test_a_plain_record_is_read_without_wfdb_and_alike(tmp_path, rate_hz):
    write_dat(tmp_path / "r", twelve_leads_uv(0, 1000), rate_hz)
    assert plain_wfdb._read_plain(tmp_path / "r") is not None
    assert_same_as_wfdb(tmp_path / "r")


def test_gain_and_lead_order_of_the_header_count(tmp_path):
    write_dat(tmp_path / "r", twelve_leads_uv(0, 1000), 100, leads=PTBXL_LEADS[::-1])
    edit_header(tmp_path / "r", "1000.0(0)/mV 16 0", "204.8(0)/mV 16 0")
    assert plain_wfdb._read_plain(tmp_path / "r") is not None
    assert_same_as_wfdb(tmp_path / "r")


def test_a_record_that_this_package_wrote_is_read_alike(tmp_path):
    write_dat(tmp_path / "00001_lr", twelve_leads_uv(1, 1000), 100)
    recording = read_wfdb(tmp_path / "00001_lr")
    write_recording(tmp_path / "r", recording, ["SYNTHETIC"])
    assert_same_as_wfdb(tmp_path / "r")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(0)/mV", "(12)/mV"),
        ("1000.0(0)/mV", "1.0(0)/uV"),
        ("r 12 100 1000", "r 12 100 900"),
        ("r 12 100 1000", "r 12 64 1000"),
        ("r 12 100 1000", "r 12 100"),
    ],
)
def test_other_records_are_left_to_wfdb(tmp_path, old, new):
    signal_uv = twelve_leads_uv(0, 1000)
    signal_uv[:, 900:] = 0
    write_dat(tmp_path / "r", signal_uv, 100)
    edit_header(tmp_path / "r", old, new)
    assert plain_wfdb._read_plain(tmp_path / "r") is None
    assert_same_as_wfdb(tmp_path / "r")


def test_matlab_records_are_left_to_wfdb(tmp_path):
    write_challenge(tmp_path / "r", twelve_leads_uv(0, 1000), [])
    assert plain_wfdb._read_plain(tmp_path / "r") is None
    assert_same_as_wfdb(tmp_path / "r")


def remove_samples(record):
    record.with_suffix(".dat").unlink()


def remove_header(record):
    record.with_suffix(".hea").unlink()


def empty_header(record):
    record.with_suffix(".hea").write_text("")


def truncate(record):
    path = record.with_suffix(".dat")
    path.write_bytes(path.read_bytes()[:-2])


def change_a_sample(record):
    path = record.with_suffix(".dat")
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")


def drop_a_lead(record):
    write_dat(record, twelve_leads_uv(0, 1000)[:11], 100, leads=PTBXL_LEADS[:11])


def repeat_a_lead(record):
    edit_header(record, "AVF", "AVL")


def lose_a_sample(record):
    signal_uv = twelve_leads_uv(0, 1000)
    signal_uv[3, 3] = -32768
    write_dat(record, signal_uv, 100)


def lose_the_gain(record):
    edit_header(record, "1000.0(0)/mV", "0(0)/mV")


DAMAGES = [
    remove_samples,
    remove_header,
    empty_header,
    truncate,
    change_a_sample,
    drop_a_lead,
    repeat_a_lead,
    lose_a_sample,
    lose_the_gain,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_records_are_refused_in_the_same_sentence(tmp_path, damage):
    write_dat(tmp_path / "r", twelve_leads_uv(0, 1000), 100)
    damage(tmp_path / "r")
    with pytest.raises(SignalError) as theirs:
        read_recording(tmp_path / "r")
    with pytest.raises(SignalError) as ours:
        read_wfdb(tmp_path / "r")
    assert str(ours.value) == str(theirs.value)


def test_records_of_ptbxl_are_read_alike(real_data):
    headers = sorted((real_data / "ptbxl/records100").rglob("*.hea"))[::400]
    for header in headers:
        assert plain_wfdb._read_plain(header.with_suffix("")) is not None
        assert_same_as_wfdb(header.with_suffix(""))
