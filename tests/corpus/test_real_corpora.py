"""What the two public data sets hold, recounted on the files themselves."""

import numpy as np
import pandas as pd
import pytest

from ecgtransfer.corpus import (
    Corpus,
    ECGSet,
    label_space,
    prepare,
    read_icbeb,
    read_ptbxl,
    read_signal,
    select_records,
    take_patients,
)
from ecgtransfer.signals import limb_lead_disagreement_mv

#: Records of PTB-XL 1.0.3 with each of the nine classes. The table of 1.0.3 carries 16 label edits
#: over that of 1.0.1; with them NORM, MI, STTC, CD and HYP have 9514, 5469, 5235, 4898 and 2649
#: records, as published.
PTBXL_COUNTS = {
    "NORM": 9514,
    "AFIB": 1514,
    "1AVB": 793,
    "CLBBB": 536,
    "CRBBB": 541,
    "PAC": 398,
    "PVC": 1143,
    "STD_": 1009,
    "STE_": 28,
}

ICBEB_COUNTS = {
    "NORM": 15,
    "AFIB": 15,
    "1AVB": 4,
    "CLBBB": 7,
    "CRBBB": 22,
    "PAC": 8,
    "PVC": 11,
    "STD_": 16,
    "STE_": 10,
}

DEVICES = {
    "CS100 3": 6140,
    "CS-12": 4048,
    "AT-6 C 5.5": 3950,
    "CS-12 E": 2878,
    "AT-6 6": 2273,
    "AT-60 3": 966,
    "AT-6 C 5.8": 824,
}


@pytest.fixture(scope="module")
def ptbxl(real_data):
    return read_ptbxl(real_data / "ptbxl")


@pytest.fixture(scope="module")
def icbeb(real_data):
    return read_icbeb(real_data / "icbeb")


@pytest.fixture(scope="module")
def icbeb_set(icbeb, tmp_path_factory):
    folder = tmp_path_factory.mktemp("real") / "icbeb"
    report = prepare(icbeb, folder, label_space())
    return ECGSet.open(folder), report


def test_ptbxl_has_its_records_patients_and_statements(ptbxl):
    assert len(ptbxl) == ptbxl.manifest.record_count == 21799
    assert len({record.patient for record in ptbxl.records}) == 18869
    stated = {code for record in ptbxl.records for code in record.codes}
    assert stated == set(label_space("scp71").names)


@pytest.mark.parametrize("label", list(PTBXL_COUNTS))
def test_ptbxl_has_its_count_of_every_class(ptbxl, label):
    space = label_space()
    assert ptbxl.labels(space)[:, space.index(label)].sum() == PTBXL_COUNTS[label]


def test_the_training_folds_of_ptbxl_have_their_labelled_records(ptbxl):
    labels = ptbxl.labels(label_space())
    training = np.array([record.fold <= 8 for record in ptbxl.records])
    assert labels[training].any(axis=1).sum() == 11133
    assert labels[training, label_space().index("STE_")].sum() == 22


def test_the_folds_of_ptbxl_share_no_patient(ptbxl):
    table = pd.DataFrame(
        {"patient": [r.patient for r in ptbxl.records], "fold": [r.fold for r in ptbxl.records]}
    )
    assert sorted(table["fold"].unique()) == list(range(1, 11))
    assert table.groupby("patient")["fold"].nunique().max() == 1


def test_the_devices_of_ptbxl_are_counted_by_clean_names(ptbxl):
    counts = pd.Series([record.device for record in ptbxl.records]).value_counts()
    assert counts.loc[list(DEVICES)].to_dict() == DEVICES


def test_no_age_of_ptbxl_is_beyond_what_is_stated(ptbxl):
    ages = [record.age for record in ptbxl.records if record.age is not None]
    assert max(ages) == 90
    assert ages.count(90) == 204
    assert len(ages) == 21799 - 89


def test_limb_leads_of_ptbxl_disagree_in_few_records(ptbxl, complete_data):
    disagreements_uv = []
    for record in ptbxl.records:
        samples = np.fromfile(f"{record.path}.dat", "<i2")
        signal_mv = samples.reshape(-1, 12).T / 1000
        disagreements_uv.append(round(limb_lead_disagreement_mv(signal_mv) * 1000, 2))
    beyond = np.array(disagreements_uv)
    assert (beyond > 2.5).sum() == 74  # rounding of three leads explains up to 2.5
    assert (beyond > 5).sum() == 57
    assert (beyond > 100).sum() == 22
    assert beyond.max() == pytest.approx(5900, abs=50)


def test_prepared_records_of_ptbxl_are_the_published_samples(ptbxl, tmp_path):
    part = Corpus(ptbxl.manifest, ptbxl.records[500:540])
    prepare(part, tmp_path / "set", label_space(), keep_unlabelled=True)
    samples = [
        np.fromfile(f"{record.path}.dat", "<i2").reshape(-1, 12).T for record in part.records
    ]
    expected_mv = np.stack(samples)[:, [0, 1, 6, 7, 8, 9, 10, 11]] / 1000
    ecgset = ECGSet.open(tmp_path / "set")
    np.testing.assert_allclose(ecgset.independent_mv(), expected_mv, atol=1e-6)
    np.testing.assert_array_equal(ecgset.labels, part.labels(label_space()))


def test_icbeb_is_found_in_both_layouts(icbeb):
    readers = [record.reader for record in icbeb.records]
    assert (readers.count("wfdb"), readers.count("icbeb_struct")) == (100, 6)


def test_icbeb_agrees_with_the_published_table_of_labels(icbeb, real_data):
    table = pd.read_csv(real_data / "icbeb/labels_of_all_6877.csv", index_col="record")
    table = table.loc[[record.name for record in icbeb.records]]
    space = label_space()
    np.testing.assert_array_equal(icbeb.labels(space), table[list(space.names)].to_numpy())
    for record, age, sex in zip(icbeb.records, table["age"], table["sex"], strict=True):
        assert record.age == (None if pd.isna(age) else age)
        assert record.sex == {1: "male", 0: "female"}[sex]


def test_the_classes_of_all_of_icbeb_are_in_the_order_of_its_numbers(real_data):
    table = pd.read_csv(real_data / "icbeb/labels_of_all_6877.csv", index_col="record")
    assert len(table) == 6877
    counts = table[list(label_space().names)].sum().tolist()
    assert counts == [918, 1221, 722, 236, 1857, 616, 700, 869, 220]
    assert table[list(label_space().names)].sum(axis=1).value_counts().to_dict() == {
        1: 6401,
        2: 470,
        3: 6,
    }


def test_all_records_of_icbeb_are_prepared(icbeb_set):
    ecgset, report = icbeb_set
    assert (report.kept, report.left_out, report.unknown_codes) == (106, (), {})
    assert report.labels_after == ICBEB_COUNTS
    assert ecgset.independent_mv().shape == (106, 8, 1000)
    ecgset.verify()


def test_records_of_icbeb_differ_and_are_ecgs_in_millivolts(icbeb_set):
    signals_mv = icbeb_set[0].independent_mv()
    assert len(np.unique(signals_mv, axis=0)) == 106
    assert 0.05 < np.median(signals_mv.std(axis=2)) < 0.5


def test_icbeb_is_split_as_the_real_run_needs_it(icbeb_set):
    ecgset, _ = icbeb_set
    taken, rest = take_patients(ecgset.records, ecgset.labels, 80, 0)
    assert (len(taken), len(rest)) == (80, 26)
    assert ecgset.labels[taken].any(axis=0).all()
    assert ecgset.labels[rest].any(axis=0).all()


def test_a_device_is_a_domain_of_ptbxl(ptbxl):
    table = pd.DataFrame(
        {"device": [r.device for r in ptbxl.records], "fold": [r.fold for r in ptbxl.records]}
    )
    target = select_records(table, ["device=AT-6 C 5.5"])
    source = select_records(table, ["device!=AT-6 C 5.5"])
    assert len(target) == 3950
    assert len(target) + len(source) == 21799


def test_an_original_recording_of_icbeb_is_an_ecg_at_500_hz(icbeb):
    recording = read_signal(next(r for r in icbeb.records if r.name == "A1980"))
    assert recording.sampling_rate_hz == 500
    assert recording.duration_s == 10
    assert limb_lead_disagreement_mv(recording.signal_mv) < 0.05
