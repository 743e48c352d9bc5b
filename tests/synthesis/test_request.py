import numpy as np
import pytest

from ecgtransfer.corpus import LabelSpace
from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.synthesis import SynthesisRequest, parse_counts, per_class

SPACE = LabelSpace(("NORM", "AFIB", "CLBBB", "CRBBB", "PVC"))


def test_counts_are_read_in_order_with_several_labels_in_one_record():
    request = parse_counts(["AFIB=200", "CLBBB=50", "PVC + CRBBB = 20"], SPACE)
    assert request.entries == ((("AFIB",), 200), (("CLBBB",), 50), (("CRBBB", "PVC"), 20))
    assert request.total == 270
    assert request.labels == ("AFIB", "CLBBB", "CRBBB", "PVC")
    assert str(request) == "AFIB=200 CLBBB=50 CRBBB+PVC=20"
    assert parse_counts(str(request).split(), SPACE) == request


def test_each_record_has_the_labels_of_its_entry():
    request = parse_counts(["AFIB=2", "CRBBB+PVC=3"], SPACE)
    found = [request.labels_of_record(number) for number in range(request.total)]
    assert found == [("AFIB",)] * 2 + [("CRBBB", "PVC")] * 3
    decoded = [SPACE.decode(row) for row in request.label_matrix(SPACE)]
    assert decoded == found


def test_label_matrix_of_some_records_is_that_part_of_it():
    request = parse_counts(["AFIB=7", "NORM=4", "CRBBB+PVC=9"], SPACE)
    whole = request.label_matrix(SPACE)
    assert whole.shape == (20, 5)
    assert whole.dtype == np.float32
    for start, stop in ((0, 20), (0, 1), (6, 8), (11, 20), (20, 20)):
        part = request.label_matrix(SPACE, start, stop)
        np.testing.assert_array_equal(part, whole[start:stop])
    np.testing.assert_array_equal(request.label_matrix(SPACE, 5, 13), whole[5:13])


def test_a_count_of_billions_costs_nothing_until_it_is_read():
    request = parse_counts(["AFIB=3000000000", "PVC=5"], SPACE)
    assert request.total == 3_000_000_005
    assert request.labels_of_record(2_999_999_999) == ("AFIB",)
    assert request.labels_of_record(3_000_000_000) == ("PVC",)
    tail = request.label_matrix(SPACE, 2_999_999_998, 3_000_000_002)
    assert tail[:, SPACE.index("AFIB")].tolist() == [1, 1, 0, 0]


def test_per_class_counts_every_label_once():
    assert per_class(SPACE, 3).entries == tuple(((name,), 3) for name in SPACE.names)
    assert per_class(SPACE, 3, known=["PVC", "NORM"]).entries == ((("NORM",), 3), (("PVC",), 3))


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ([], "at least one count"),
        (["AFIB"], "cannot read the count 'AFIB'; write labels and a number"),
        (["=5"], "cannot read the count '=5'"),
        (["AFIB+=5"], r"cannot read the count 'AFIB\+=5'"),
        (["+AFIB=5"], r"cannot read the count '\+AFIB=5'"),
        ([""], "cannot read the count ''"),
        (["AFIB="], "count of AFIB must be a whole number of at least 1, got ''"),
        (["AFIB=0"], "count of AFIB must be a whole number of at least 1, got '0'"),
        (["AFIB=-3"], "at least 1, got '-3'"),
        (["AFIB=2.5"], "at least 1, got '2.5'"),
        (["AFIB=1e3"], "at least 1, got '1e3'"),
        (["AFIB=1_000"], "at least 1, got '1_000'"),
        (["AFIB=two"], "at least 1, got 'two'"),
        (["AFIB=5", "AFIB=6"], "'AFIB' is requested twice"),
        (["PVC+CRBBB=5", "CRBBB+PVC=6"], r"'CRBBB\+PVC' is requested twice"),
        (["PVC+PVC=5"], r"'PVC\+PVC' names a label twice"),
        (["WPW=5"], "not trained with the label 'WPW'; it knows NORM, AFIB, CLBBB, CRBBB, PVC"),
        (["afib=5"], "not trained with the label 'afib'"),
        (["AFIB+WPW=5"], "not trained with the label 'WPW'"),
    ],
)
def test_a_bad_count_is_refused_in_a_sentence(counts, sentence):
    with pytest.raises(ConfigError, match=sentence):
        parse_counts(counts, SPACE)


def test_a_label_of_the_space_that_the_model_never_saw_is_refused():
    with pytest.raises(ConfigError, match="not trained with the label 'CLBBB'; it knows AFIB, PVC"):
        parse_counts(["CLBBB=1"], SPACE, known={"PVC", "AFIB"})


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ((), "at least one count"),
        ((((), 5),), "names no label"),
        (((("AFIB", "AFIB"), 5),), "names a label twice"),
        (((("AFIB", "PVC"), 5), (("PVC", "AFIB"), 5)), "requested twice"),
        (((("AFIB",), 0),), "at least 1, got 0"),
        (((("AFIB",), 2.0),), "at least 1, got 2.0"),
        (((("AFIB",), True),), "at least 1, got True"),
    ],
)
def test_a_request_validates_at_birth(entries, sentence):
    with pytest.raises(ConfigError, match=sentence):
        SynthesisRequest(entries)


def test_ranges_outside_the_request_are_refused():
    request = per_class(SPACE, 1)
    for number in (-1, 5):
        with pytest.raises(ConfigError, match=f"from 0 to 4, got {number}"):
            request.labels_of_record(number)
    with pytest.raises(ConfigError, match="records 3 to 6 are not within 0 to 5"):
        request.label_matrix(SPACE, 3, 6)


def test_a_label_outside_the_space_is_refused_when_encoded():
    with pytest.raises(CorpusError, match="WPW"):
        SynthesisRequest(((("WPW",), 1),)).label_matrix(SPACE)
