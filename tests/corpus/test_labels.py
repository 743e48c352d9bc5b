import csv

import numpy as np
import pytest

from ecgtransfer.corpus import (
    ECGSet,
    LabelSpace,
    Vocabulary,
    label_space,
    load_vocabulary,
    read_icbeb,
    read_ptbxl,
    resolve,
    snomed_code,
    write_ecgset,
)
from ecgtransfer.corpus import labels as labels_module
from ecgtransfer.corpus.labels import LabelCode, label_warnings
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
    with pytest.raises(
        CorpusError, match="unknown label space 'five'; expected icbeb9, scp71, superclasses"
    ):
        label_space("five")


def test_an_unknown_vocabulary_is_refused():
    with pytest.raises(CorpusError, match="unknown vocabulary 'icd'"):
        resolve("AFIB", ("icd",))


def test_a_label_without_snomed_code_is_refused():
    with pytest.raises(CorpusError, match="no SNOMED CT code is known for label 'LOWT'"):
        snomed_code("LOWT")


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


# --- spaces with a table of their own ------------------------------------------------------------

#: Records of each diagnostic superclass in PTB-XL 1.0.3, as published with the data set.
SUPERCLASSES = {"NORM": 9514, "MI": 5469, "STTC": 5235, "CD": 4898, "HYP": 2649}

#: Of the Challenge's own table of scored diagnoses: records in PTB-XL 1.0.1, which has 38 more.
CHALLENGE_IN_PTBXL = {
    **{"AF": 1514, "AFL": 73, "CRBBB": 542, "IAVB": 797, "IRBBB": 1118, "LAnFB": 1626},
    **{"CLBBB": 536, "LQRSV": 182, "NSIVCB": 789, "NSR": 18092, "PAC": 398 + 157, "PR": 296},
    **{"LPR": 340, "LQT": 118, "QAb": 548, "SA": 772, "SB": 637, "STach": 826, "TAb": 2345},
    **{"TInv": 294, "BBB": 0, "Brady": 0, "PRWP": 0, "PVC": 0},
}


@pytest.fixture(scope="module")
def ptbxl(real_data):
    return read_ptbxl(real_data / "ptbxl")


def own_space(tmp_path, *lines, header="label,vocabulary,code"):
    path = tmp_path / "own.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return label_space(str(path))


def test_superclasses_of_ptbxl_have_the_published_numbers_of_records(ptbxl):
    space = label_space("superclasses")
    counts = ptbxl.labels(space).sum(axis=0)
    assert dict(zip(space.names, counts, strict=True)) == SUPERCLASSES


def test_classes_of_the_challenge_have_the_published_numbers_of_records(ptbxl):
    space = label_space("challenge")
    counts = ptbxl.labels(space).sum(axis=0)
    for name, published in CHALLENGE_IN_PTBXL.items():
        assert published - 38 <= counts[space.index(name)] <= published, name


def test_superclasses_are_those_of_the_statements(real_data):
    with (real_data / "ptbxl/scp_statements.csv").open(encoding="utf-8") as file:
        stated = {row[""]: row["diagnostic_class"] or None for row in csv.DictReader(file)}
    space = label_space("superclasses")
    assert {code: space.label_of(code, "scp") for code in stated} == stated


def test_the_challenges_scored_26_and_24_classes():
    new, old = label_space("challenge"), label_space("challenge2020")
    assert (len(new), len(old)) == (26, 24)
    assert set(new.names) - set(old.names) == {"BBB", "PRWP"}
    # A class that is new in 2021, and a code that 2021 put to an old class.
    assert (old.label_of("6374002", "snomed"), new.label_of("6374002", "snomed")) == (None, "BBB")
    assert old.label_of("733534002", "snomed") is None


@pytest.mark.parametrize(
    ("codes", "name"),
    [
        (("713427006", "59118001"), "CRBBB"),
        (("284470004", "63593006"), "PAC"),
        (("427172004", "17338001"), "PVC"),
        (("733534002", "164909002"), "CLBBB"),
    ],
)
def test_codes_that_the_challenge_scores_as_one_are_one_class(codes, name):
    space = label_space("challenge")
    assert {space.label_of(code, "snomed") for code in codes} == {name}
    assert space.encode_codes(codes, "snomed").sum() == 1


def test_ventricular_ectopics_are_not_scored_whatever_their_spelling():
    # CPSC2018 and PTB-XL write PVC as 164884008 there, which the Challenge did not score.
    space = label_space("challenge")
    spellings = (("164884008", "snomed"), ("PVC", "scp"), ("7", "icbeb_number"))
    assert [space.label_of(*spelling) for spelling in spellings] == [None] * 3


def test_a_vocabulary_that_a_table_lacks_goes_by_the_canonical_label():
    space = label_space("superclasses")
    assert space.label_of("270492004", "snomed") == "CD"
    assert space.label_of("3", "icbeb_number") == "CD"
    assert space.label_of(" rbbb ", "abbreviation") == "CD"
    assert space.label_of("164889003", "snomed") is None  # a rhythm, no diagnosis
    assert space.label_of("WHAT", "abbreviation") is None


def test_the_name_of_a_class_means_it_where_it_is_a_code_of_nothing_else(tmp_path):
    five = label_space("superclasses")
    assert [five.label_of(code, "scp") for code in ("CD", " hyp ", "SR")] == ["CD", "HYP", None]
    assert five.label_of("STTC", "abbreviation") == "STTC"
    # A name that is a code goes by the table, which leaves it out on purpose.
    assert "PVC" in label_space("challenge").names
    assert label_space("challenge").label_of("PVC", "scp") is None
    own = own_space(tmp_path, "slow,local,brady", "SLOW,local,brady2")
    assert own.label_of("slow", "local") is None  # which of the two?


def test_icbeb_has_its_superclasses(real_data):
    records = read_icbeb(real_data / "icbeb")
    nine, five = label_space(), label_space("superclasses")
    blocks = [nine.index(name) for name in ("1AVB", "CLBBB", "CRBBB")]
    expected = records.labels(nine)[:, blocks].any(axis=1)
    np.testing.assert_array_equal(records.labels(five)[:, five.index("CD")], expected)


@pytest.mark.parametrize("name", ["icbeb9", "scp71"])
def test_a_space_without_a_table_takes_the_canonical_labels(name):
    space = label_space(name)
    assert space.label_of("RBBB", "abbreviation") == "CRBBB"
    assert space.encode_codes(["AFIB", "WHAT", "AFIB"], "scp").tolist() == [
        float(label == "AFIB") for label in space.names
    ]
    assert space.card_entry() == {}


def test_a_table_of_the_users_own_is_a_space_in_its_own_order(tmp_path):
    space = own_space(
        tmp_path,
        "block,snomed,59118001,right",
        "block, snomed ,164909002,left",
        "inflamed,local,M1,",
        "flutter,scp,AFLT,",
        header="label,vocabulary,code,description",
    )
    assert space.names == ("block", "inflamed", "flutter")
    assert space.label_of("164909002", "snomed") == "block"
    assert space.label_of("m1", "local") == "inflamed"
    assert space.label_of("LBBB", "abbreviation") == "block"
    assert space.label_of("713427006", "snomed") is None  # by the letter
    assert space.label_of("M1", "scp") is None


def test_codes_are_written_out_from_the_table_or_from_the_canonical_label(tmp_path):
    space = own_space(tmp_path, "a,scp,AFIB", "b,scp,IMI", "b,scp,AMI", "c,snomed,17338001")
    assert [space.code_of(name, "snomed") for name in "abc"] == ["164889003", None, "17338001"]
    assert space.code_of("b", "scp") == "IMI"
    assert label_space().code_of("PVC", "snomed") == "164884008"
    assert label_space("scp71").code_of("LOWT", "snomed") is None


def test_a_set_keeps_the_table_of_its_space(tmp_path, small_set):
    _, signals_uv, labels, records = small_set
    space = own_space(tmp_path, "a,snomed,1", "b,snomed,2", "c,local,3")
    folder = tmp_path / "own"
    write_ecgset(folder, signals_uv, labels, records, space, 100, "recorded", space.card_entry())
    opened = ECGSet.open(folder)
    assert opened.label_space == space
    assert opened.label_space.code_of("b", "snomed") == "2"
    assert opened.label_space.label_of("3", "local") == "c"
    card = folder / "card.json"
    card.write_text(card.read_text().replace('"local"', "7"))
    with pytest.raises(CorpusError, match=r"states label_codes other than \[label, vocabulary"):
        ECGSet.open(folder)


@pytest.mark.parametrize(
    ("lines", "header", "sentence"),
    [
        (["a,snomed,1", "b,snomed,1"], "label,vocabulary,code", "'1' means a and b in one"),
        (["a,snowmed,1"], "label,vocabulary,code", "unknown vocabulary 'snowmed'; expected one"),
        (["a,1"], "label,code", "lacks the column vocabulary; expected label, vocabulary"),
        (["a,snomed,"], "label,vocabulary,code", "line 2 has no code; give each line"),
        (["a,snomed"], "label,vocabulary,code", "line 2 has no code; give each line"),
        ([], "label,vocabulary,code", "has no rows; give it one for each code"),
        (['"a,snomed,1'], "label,vocabulary,code", "is not a csv table"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, lines, header, sentence):
    with pytest.raises(CorpusError, match=sentence) as refusal:
        own_space(tmp_path, *lines, header=header)
    assert "own.csv" in str(refusal.value)


def test_a_table_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"no such label space: .*none\.csv; check its path"):
        label_space(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(CorpusError, match="expected a csv table in UTF-8"):
        label_space(tmp_path / "bytes.csv")


def test_a_code_that_a_table_leads_to_two_classes_is_refused(tmp_path):
    space = own_space(tmp_path, "healthy,scp,NORM", "sinus,snomed,426783006")
    assert space.label_of("NORM", "scp") == "healthy"
    with pytest.raises(CorpusError, match=r"means NORM, .* healthy by scp NORM and for sinus by"):
        space.label_of("Normal", "abbreviation")


def test_a_table_of_another_space_is_refused():
    with pytest.raises(CorpusError, match="names b, which the space lacks; expected a"):
        LabelSpace(("a",), (LabelCode("b", "scp", "NORM", ""),))


def test_classes_without_records_and_lost_records_are_told_in_sentences():
    before = {"a": 3, "b": 0, "c": 2, "d": 0}
    told = label_warnings(before, {"a": 1, "b": 0, "c": 0, "d": 0}, {"X": 4, "Y": 1}, 5)
    assert told == (
        "no record of the corpus states b, d: a model cannot learn them; add records, or use a "
        "label space without",
        "all records that state c were excluded, see the reasons above; add records, or use a "
        "label space without",
        "the label space loses 5 records, which state only X, Y; keep them with "
        "--keep-unlabelled, or use a wider space",
    )
    assert label_warnings({"a": 3}, {"a": 3}, {}) == ()
    many = {f"class{number}": 0 for number in range(20)}
    assert "class7 and 12 more: a model cannot learn them" in label_warnings(many, many, {})[0]
