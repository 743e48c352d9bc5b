import numpy as np
import pytest

from ecgtransfer.corpus import ECGSet, LabelSpace, write_ecgset
from ecgtransfer.drawing import show_record
from ecgtransfer.errors import CorpusError, StorageError
from ecgtransfer.pipeline import Description, prepare_set
from tests.corpus.layouts import PTBXL_LEADS, twelve_leads_uv, write_challenge, write_dat


@pytest.fixture
def ptbxl_both_rates(tmp_path):
    """One record of PTB-XL in both files in which it is published."""
    folder = tmp_path / "ptbxl"
    write_dat(folder / "records100/00000/00001_lr", twelve_leads_uv(1, 1000), 100)
    write_dat(folder / "records500/00000/00001_hr", twelve_leads_uv(1, 5000), 500)
    columns = "ecg_id,patient_id,age,sex,site,device,scp_codes,strat_fold,filename_lr,filename_hr"
    files = "records100/00000/00001_lr,records500/00000/00001_hr"
    row = f"1,1,50,0,0,X,{{'NORM': 100.0}},1,{files}"
    (folder / "ptbxl_database.csv").write_text(f"{columns}\n{row}\n")
    return folder


def test_a_corpus_becomes_a_set(tmp_path):
    write_challenge(tmp_path / "icbeb/A0001", twelve_leads_uv(1, 5500), ["# Dx: AF,RBBB"])
    counted = []
    report = prepare_set(
        "icbeb2018",
        tmp_path / "icbeb",
        tmp_path / "set",
        progress=lambda done, total: counted.append((done, total)),
    )
    ecgset = ECGSet.open(tmp_path / "set")
    assert (report.kept, report.records, counted) == (1, 1, [(1, 1)])
    assert ecgset.label_space.decode(ecgset.labels[0]) == ("AFIB", "CRBBB")
    assert (ecgset.sampling_rate_hz, ecgset.n_samples) == (100, 1000)


def test_ptbxl_is_read_at_the_rate_that_the_set_needs(tmp_path, ptbxl_both_rates):
    for rate, recorded in ((100, "100"), (250, "500")):
        report = prepare_set("ptbxl", ptbxl_both_rates, tmp_path / f"{rate}", sampling_rate_hz=rate)
        assert list(report.sampling_rates_hz) == [recorded]


def test_an_unknown_corpus_is_refused_with_those_that_are_known(tmp_path):
    known = "ptbxl, icbeb2018, wfdb, arrays"
    with pytest.raises(CorpusError, match=f"a corpus of {known}, got 'mimic'"):
        prepare_set("mimic", tmp_path, tmp_path / "set")


def test_a_folder_of_wfdb_records_and_arrays_become_the_same_set(tmp_path):
    signal_uv = twelve_leads_uv(1, 1000)
    write_dat(tmp_path / "in/r", signal_uv, 100)
    (tmp_path / "in/labels.csv").write_text("record,labels\nr,AF\n")
    np.save(tmp_path / "r.npy", signal_uv[::-1].T)
    table = tmp_path / "in/labels.csv"
    leads = PTBXL_LEADS[::-1]
    described = {
        "wfdb": (tmp_path / "in", Description(table)),
        "arrays": (tmp_path / "r.npy", Description(table, "abbreviation", 100, "uV", leads)),
    }
    sets = []
    for corpus, (path, description) in described.items():
        prepare_set(corpus, path, tmp_path / corpus, description=description)
        sets.append(ECGSet.open(tmp_path / corpus))
    assert sets[0].fingerprint == sets[1].fingerprint
    assert sets[0].label_space.decode(sets[0].labels[0]) == ("AFIB",)


@pytest.mark.parametrize(
    ("corpus", "description", "sentence"),
    [
        ("ptbxl", Description(vocabulary="scp"), "ptbxl states its vocabulary itself"),
        ("wfdb", Description(unit="mV"), "wfdb states its unit itself; omit this"),
        ("arrays", Description(unit="mV"), "the sampling rate and the unit of the arrays"),
    ],
)
def test_a_description_that_is_not_for_the_corpus_is_refused(
    tmp_path, corpus, description, sentence
):
    with pytest.raises(CorpusError, match=sentence):
        prepare_set(corpus, tmp_path, tmp_path / "set", description=description)


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
def test_a_record_is_described_and_drawn(tmp_path, ecgset, ending):
    name = str(ecgset.records.name.iloc[3])
    shown = show_record(ecgset, name, tmp_path / f"drawn{ending}")
    assert (shown.name, shown.sampling_rate_hz, shown.seconds) == (name, 100, 10.0)
    assert shown.labels == ecgset.label_space.decode(ecgset.labels[3])
    assert 30 < shown.heart_rate_bpm < 200
    assert shown.drawing.stat().st_size > 1000


def test_a_record_without_beats_has_no_heart_rate(tmp_path, ecgset):
    flat = write_ecgset(
        tmp_path / "flat",
        np.zeros((1, 8, 1000), np.int16),
        np.zeros((1, 1), np.float32),
        ecgset.records.head(1),
        LabelSpace(("NORM",)),
        100,
        "simulated",
    )
    shown = show_record(flat, str(flat.records.name[0]), None)
    assert shown.heart_rate_bpm is None
    assert shown.drawing is None
    assert shown.labels == ()


def test_a_record_that_is_not_there_is_refused(ecgset):
    first = ecgset.records.name.iloc[0]
    with pytest.raises(CorpusError, match=rf"no record 'nobody'; it has {first}, .* others"):
        show_record(ecgset, "nobody", None)


@pytest.mark.parametrize(
    ("name", "error", "remedy"),
    [
        ("drawn.txt", CorpusError, "give a path ending"),
        ("none/drawn.png", StorageError, "make room"),
    ],
)
def test_a_drawing_that_cannot_be_written_is_told(tmp_path, ecgset, name, error, remedy):
    record = str(ecgset.records.name.iloc[0])
    with pytest.raises(error, match=f"could not be written .*; {remedy}"):
        show_record(ecgset, record, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
