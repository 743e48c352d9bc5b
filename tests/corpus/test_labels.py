import numpy as np
import pytest

from ecgtransfer.corpus import (
    LabelSpace,
    Vocabulary,
    label_space,
    load_vocabulary,
    resolve,
    snomed_code,
)
from ecgtransfer.corpus import labels as labels_module
from ecgtransfer.corpus.labels import LabelCode
from ecgtransfer.errors import CorpusError, ManifestError

#: ICBEB number, canonical label, other names, SNOMED CT code: the table of the two data sets.
NINE = [
    ("1", "NORM", ["Normal", "SNR"], "426783006"),
    ("2", "AFIB", ["AF"], "164889003"),
    ("3", "1AVB", ["I-AVB", "IAVB"], "270492004"),
    ("4", "CLBBB", ["LBBB"], "164909002"),
    ("5", "CRBBB", ["RBBB"], "59118001"),
    ("6", "PAC", ["PAC"], "284470004"),
    ("7", "PVC", ["PVC", "VPC"], "164884008"),
    ("8", "STD_", ["STD"], "429622005"),
    ("9", "STE_", ["STE"], "164931005"),
]


@pytest.mark.parametrize(("number", "label", "names", "snomed"), NINE, ids=[row[1] for row in NINE])
def test_every_spelling_of_a_class_means_the_same_label(number, label, names, snomed):
    assert resolve(number, ("icbeb_number",)) == label
    assert resolve(snomed, ("snomed",)) == label
    assert resolve(label, ("scp",)) == label
    assert snomed_code(label) == snomed
    for name in names:
        assert resolve(name, ("abbreviation",)) == resolve(f" {name.lower()} ") == label


def test_the_default_space_has_the_nine_classes_in_the_order_of_their_numbers():
    assert label_space().names == tuple(row[1] for row in NINE)


def test_the_space_of_ptbxl_has_71_statements_and_knows_the_nine():
    names = label_space("scp71").names
    assert len(names) == 71
    assert set(label_space().names) < set(names)


def test_a_code_that_nobody_knows_means_nothing():
    assert resolve("WHAT") is None
    assert resolve("2", ("snomed",)) is None


def test_every_label_has_a_description():
    vocabulary = load_vocabulary()
    assert vocabulary.description("AFIB") == "atrial fibrillation"
    assert all(vocabulary.description(name) for name in label_space("scp71").names)


def test_encoding_and_decoding_are_inverse(space):
    row = space.encode(["PVC", "NORM"])
    assert row.dtype == np.float32
    assert row.tolist() == [1, 0, 1]
    assert space.decode(row) == ("NORM", "PVC")
    assert space.decode(space.encode([])) == ()
    assert len(space) == 3
    assert space.index("PVC") == 2


def test_a_label_that_the_space_lacks_is_refused_with_those_it_has(space):
    with pytest.raises(CorpusError, match="unknown label 'VT'; expected one of NORM, AFIB, PVC"):
        space.encode(["NORM", "VT"])


def test_a_bare_string_is_not_several_labels(space):
    with pytest.raises(CorpusError, match="bare string 'NORM'"):
        space.encode("NORM")


def test_a_row_of_another_length_is_not_decoded(space):
    with pytest.raises(CorpusError, match=r"expected a row of 3 labels .*got shape \(4,\)"):
        space.decode(np.zeros(4))


@pytest.mark.parametrize("names", [(), "NORM", ("NORM", "")])
def test_a_space_without_proper_names_is_refused(names):
    with pytest.raises(CorpusError, match="needs one or more label names"):
        LabelSpace(names)


def test_a_space_with_a_label_twice_is_refused():
    with pytest.raises(CorpusError, match="NORM more than once"):
        LabelSpace(("NORM", "AFIB", "NORM"))


def test_an_unknown_space_is_refused():
    with pytest.raises(CorpusError, match="unknown label space 'five'; expected icbeb9 or scp71"):
        label_space("five")


def test_an_unknown_vocabulary_is_refused():
    with pytest.raises(CorpusError, match="unknown vocabulary 'icd'"):
        resolve("AFIB", ("icd",))


def test_a_label_without_snomed_code_is_refused():
    with pytest.raises(CorpusError, match="no SNOMED CT code is known for label 'LVH'"):
        snomed_code("LVH")


def test_an_unknown_label_has_no_description():
    with pytest.raises(CorpusError, match="unknown label 'WHAT'"):
        load_vocabulary().description("WHAT")


def test_a_code_with_two_meanings_in_one_vocabulary_is_refused():
    codes = (LabelCode("AFIB", "snomed", "1", "a"), LabelCode("PVC", "snomed", "1", "b"))
    with pytest.raises(CorpusError, match="'1' means AFIB and PVC in one vocabulary"):
        Vocabulary(codes)


def test_a_code_with_two_meanings_in_two_vocabularies_needs_one_named():
    vocabulary = Vocabulary(
        (LabelCode("AFIB", "abbreviation", "AF", "a"), LabelCode("AFLT", "scp", "AF", "b"))
    )
    with pytest.raises(CorpusError, match=r"'AF' is ambiguous: AFLT \(scp\) and AFIB"):
        vocabulary.resolve("AF")
    assert vocabulary.resolve("AF", ("abbreviation",)) == "AFIB"


def test_a_label_table_without_a_column_is_refused(monkeypatch):
    monkeypatch.setattr(labels_module, "manifest_text", lambda name: "label,code\nAFIB,AF\n")
    load_vocabulary.cache_clear()
    with pytest.raises(ManifestError, match="lacks the column vocabulary, description"):
        load_vocabulary()
