import numpy as np
import pytest
from scipy.io import savemat

from ecgtransfer.corpus.readers.icbeb_struct import (
    load_icbeb_struct,
    parse_age,
    parse_sex,
    read_icbeb_struct,
)
from ecgtransfer.errors import SignalError

from .layouts import write_struct


def test_an_original_file_is_read_with_or_without_its_extension(tmp_path):
    signal_mv = np.random.default_rng(0).normal(size=(12, 700))
    write_struct(tmp_path / "A0001.mat", signal_mv, 52, "Female")
    content = load_icbeb_struct(tmp_path / "A0001.mat")
    assert (content.age, content.sex) == (52.0, "female")
    recording = read_icbeb_struct(tmp_path / "A0001")
    np.testing.assert_allclose(recording.signal_mv, signal_mv, rtol=1e-6)
    assert recording.sampling_rate_hz == 500


@pytest.mark.parametrize("value", [None, "", "NaN", "unknown", -1, float("nan"), float("inf")])
def test_an_age_that_is_not_known_is_none(value):
    assert parse_age(value) is None


@pytest.mark.parametrize(("value", "age"), [("74", 74.0), (" 8 ", 8.0), (np.uint8(0), 0.0)])
def test_an_age_is_a_number_of_years(value, age):
    assert parse_age(value) == age


@pytest.mark.parametrize(("value", "sex"), [("Male", "male"), ("f", "female"), ("NaN", None)])
def test_sex_is_read_in_every_spelling(value, sex):
    assert parse_sex(value) == sex


def test_a_struct_without_age_has_none(tmp_path):
    write_struct(tmp_path / "A0001.mat", np.zeros((12, 700)), np.zeros((0, 0)), "Male")
    assert load_icbeb_struct(tmp_path / "A0001.mat").age is None


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(SignalError, match=r"no such file: .*A0001\.mat"):
        load_icbeb_struct(tmp_path / "A0001")


def damaged(path):
    write_struct(path, np.random.default_rng(0).normal(size=(12, 700)), 52, "Male")
    path.write_bytes(path.read_bytes()[:2000])


WRONG = {
    "text": lambda path: path.write_text("not MATLAB at all, " * 40),
    "empty": lambda path: path.write_bytes(b""),
    "cut off": damaged,
    "another variable": lambda path: savemat(path, {"val": np.zeros((12, 700))}),
    "no struct": lambda path: savemat(path, {"ECG": np.zeros((12, 700))}),
    "no data": lambda path: savemat(path, {"ECG": {"sex": "Male", "age": 3}}),
}


@pytest.mark.parametrize("kind", list(WRONG))
def test_a_file_that_is_not_an_ecg_is_refused(tmp_path, kind):
    WRONG[kind](tmp_path / "A0001.mat")
    with pytest.raises(SignalError, match=r"A0001\.mat is not an original ICBEB recording"):
        load_icbeb_struct(tmp_path / "A0001.mat")


@pytest.mark.parametrize("data", [np.zeros((11, 700)), np.zeros((700, 12)), "words"])
def test_data_that_are_not_twelve_rows_of_numbers_are_refused(tmp_path, data):
    write_struct(tmp_path / "A0001.mat", data, 52, "Male")
    with pytest.raises(SignalError, match=r"expected ECG\.data with 12 rows of numbers"):
        load_icbeb_struct(tmp_path / "A0001.mat")


def test_a_damaged_size_is_refused_at_once(tmp_path):
    write_struct(tmp_path / "A0001.mat", np.zeros((12, 50)), 50, "Male")
    data = bytearray((tmp_path / "A0001.mat").read_bytes())
    assert data[160:168] == np.array([1, 1], "<i4").tobytes()  # the size of the struct
    data[160:168] = np.array([2**30, 1], "<i4").tobytes()
    (tmp_path / "A0001.mat").write_bytes(data)
    with pytest.raises(SignalError, match="is not an original ICBEB recording"):
        load_icbeb_struct(tmp_path / "A0001.mat")
