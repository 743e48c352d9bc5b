import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import wfdb
from scipy.signal import firwin, kaiser_beta, resample_poly

from ecgtransfer.corpus import (
    Corpus,
    ECGSet,
    prepare,
    read_icbeb,
    read_ptbxl,
    read_wfdb_folder,
)
from ecgtransfer.corpus.sets import preparation, preparation_report, set_folder
from ecgtransfer.corpus.sets.preparation_journal import Journal
from ecgtransfer.errors import CorpusError, RunError
from ecgtransfer.signals import INDEPENDENT_LEADS, crop, read_recording, resample

from .layouts import twelve_leads_uv, write_challenge, write_dat


def test_records_with_a_label_of_the_space_are_kept(ptbxl_folder, tmp_path, space):
    report = prepare(read_ptbxl(ptbxl_folder), tmp_path / "set", space)
    ecgset = ECGSet.open(tmp_path / "set")
    assert ecgset.records["name"].tolist() == ["00001", "00003"]
    assert ecgset.labels.tolist() == [[1, 0, 0], [0, 1, 1]]
    assert [(entry.record, entry.reason) for entry in report.left_out] == [
        ("00002", preparation_report.OUTSIDE),
        ("00004", preparation_report.UNSTATED),
        ("00005", preparation_report.OUTSIDE),
    ]
    ecgset.verify()


def test_the_samples_are_those_of_the_files(ptbxl_folder, tmp_path, space):
    prepare(read_ptbxl(ptbxl_folder), tmp_path / "set", space)
    eight = [0, 1, 6, 7, 8, 9, 10, 11]
    expected_mv = np.stack([twelve_leads_uv(seed, 1000)[eight] for seed in (1, 3)]) / 1000
    np.testing.assert_allclose(
        ECGSet.open(tmp_path / "set").independent_mv(), expected_mv, rtol=1e-6
    )


def test_unlabelled_records_are_kept_on_request(ptbxl_folder, tmp_path, space):
    report = prepare(read_ptbxl(ptbxl_folder), tmp_path / "set", space, keep_unlabelled=True)
    assert (report.kept, report.left_out) == (5, ())
    assert ECGSet.open(tmp_path / "set").labels.sum(axis=1).tolist() == [1, 0, 2, 0, 0]


def test_the_table_carries_what_the_corpus_states(ptbxl_folder, tmp_path, space):
    prepare(read_ptbxl(ptbxl_folder), tmp_path / "set", space)
    row = ECGSet.open(tmp_path / "set").records.iloc[1]
    assert row["patient"] == "12"
    assert (row["fold"], row["age"], row["sex"]) == (9, 90.0, "male")
    assert (row["device"], row["site"], row["codes"]) == ("AT-6 C 5.5", "1", "AFIB;PVC")


def test_labels_and_codes_are_counted(ptbxl_folder, tmp_path, space):
    report = prepare(read_ptbxl(ptbxl_folder), tmp_path / "set", space)
    assert report.labels_before == report.labels_after == {"NORM": 1, "AFIB": 1, "PVC": 1}
    assert report.unknown_codes == {"WHAT": 1}
    assert report.codes_outside == {"SR": 2, "CLBBB": 1}


def test_the_report_lies_in_the_set_and_reads_well(ptbxl_folder, tmp_path, space):
    report = prepare(read_ptbxl(ptbxl_folder), tmp_path / "set", space)
    stored = json.loads((tmp_path / "set/report.json").read_text())
    assert stored["kept"] == 2
    assert stored["left_out"][0] == {
        "record": "00002",
        "reason": "no label of this space",
        "detail": "00002 states only SR",
    }
    text = str(report)
    assert "ptbxl 1.0.3: kept 2 of 5 records (10 s at 100 Hz)" in text
    assert "left out, no label of this space: 2" in text
    assert "codes that no vocabulary has: WHAT 1" in text


def test_the_card_names_the_corpus_and_its_licence(ptbxl_folder, tmp_path, space):
    prepare(read_ptbxl(ptbxl_folder), tmp_path / "set", space)
    card = ECGSet.open(tmp_path / "set").card
    assert card["origin"] == "recorded"
    assert card["corpus"]["name"] == "ptbxl"
    assert card["corpus"]["licence"] == "CC BY 4.0"


def test_records_at_500_hz_are_resampled_and_cropped(icbeb_folder, tmp_path, space):
    report = prepare(read_icbeb(icbeb_folder), tmp_path / "set", space)
    ecgset = ECGSet.open(tmp_path / "set")
    assert report.kept == 3
    assert ecgset.independent_mv().shape == (3, 8, 1000)
    recording = crop(resample(read_recording(icbeb_folder / "g1/A0001"), 100), 10.0)
    expected_mv = recording.signal_mv[[0, 1, 6, 7, 8, 9, 10, 11]]
    np.testing.assert_allclose(ecgset.independent_mv(0)[0], expected_mv, atol=0.00051)


def test_rate_and_length_can_be_chosen(icbeb_folder, tmp_path, space):
    prepare(read_icbeb(icbeb_folder), tmp_path / "set", space, sampling_rate_hz=250, seconds=4)
    ecgset = ECGSet.open(tmp_path / "set")
    assert (ecgset.sampling_rate_hz, ecgset.n_samples) == (250, 1000)


def test_short_records_are_left_out_and_reported(tmp_path, space):
    write_challenge(tmp_path / "in/A0001", twelve_leads_uv(1, 5000), ["#Dx: AF"])
    write_challenge(tmp_path / "in/A0002", twelve_leads_uv(2, 4990), ["#Dx: AF"])
    report = prepare(read_icbeb(tmp_path / "in"), tmp_path / "set", space)
    (entry,) = report.left_out
    assert (entry.record, entry.reason) == ("A0002", preparation_report.SHORT)
    assert entry.detail == "A0002 lasts 9.98 s of 10 s"


def damage_missing(record):
    record.with_suffix(".dat").unlink()


def damage_truncated(record):
    path = record.with_suffix(".dat")
    path.write_bytes(path.read_bytes()[:5000])


def damage_leads(record):
    write_dat(record, twelve_leads_uv(1, 1000)[:11], 100, leads=("I", "II", "III", *"abcdefgh"))


def damage_nan(record):
    signal_uv = twelve_leads_uv(1, 1000)
    signal_uv[4, 30] = -32768
    write_dat(record, signal_uv, 100)


@pytest.mark.parametrize("damage", [damage_missing, damage_truncated, damage_leads, damage_nan])
def test_records_that_cannot_be_read_are_left_out_and_reported(
    ptbxl_folder, tmp_path, space, damage
):
    damage(ptbxl_folder / "records100/00000/00001_lr")
    report = prepare(read_ptbxl(ptbxl_folder), tmp_path / "set", space)
    (entry,) = [entry for entry in report.left_out if entry.reason == preparation_report.UNREADABLE]
    assert entry.record == "00001"
    assert "00001_lr" in entry.detail
    assert entry.detail in str(report)
    assert (report.labels_before["NORM"], report.labels_after["NORM"]) == (1, 0)


def test_limb_leads_that_disagree_are_reported(ptbxl_folder, tmp_path, space):
    signal_uv = twelve_leads_uv(1, 1000)
    signal_uv[3, 500] += 40
    write_dat(ptbxl_folder / "records100/00000/00001_lr", signal_uv, 100)
    report = prepare(read_ptbxl(ptbxl_folder), tmp_path / "set", space)
    assert report.disagreements_uv == {"00001": pytest.approx(40, abs=0.01)}
    assert "limb leads off by more than 5 uV: 1 records (worst 40 uV)" in str(report)


def test_samples_beyond_the_range_are_clipped_and_counted(tmp_path, space):
    signal_uv = np.zeros((12, 5000), dtype=np.int16)
    signal_uv[6, 1000:2500] = 32767
    signal_uv[6, 3000:] = -32767
    write_challenge(tmp_path / "in/A0001", signal_uv, ["#Dx: AF"])
    report = prepare(read_icbeb(tmp_path / "in"), tmp_path / "set", space)
    assert report.clipped_samples["A0001"] > 0
    assert np.abs(ECGSet.open(tmp_path / "set").independent_mv()).max() == pytest.approx(32.767)


def test_progress_is_told_to_the_end(ptbxl_folder, tmp_path, space):
    told = []
    prepare(
        read_ptbxl(ptbxl_folder), tmp_path / "set", space, progress=lambda *now: told.append(now)
    )
    assert told[-1] == (5, 5)


@pytest.mark.slow
def test_the_set_does_not_depend_on_the_number_of_workers(
    ptbxl_folder, tmp_path, space, monkeypatch
):
    corpus = read_ptbxl(ptbxl_folder)
    monkeypatch.setattr(preparation, "POOL_RECORDS", 2)
    monkeypatch.setattr(preparation, "CHUNK_RECORDS", 1)
    for workers in (1, 2):
        prepare(corpus, tmp_path / f"set{workers}", space, workers=workers, keep_unlabelled=True)
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("set1", "set2")
    )
    assert one == two


@pytest.mark.parametrize("change", [{"seconds": 0}, {"sampling_rate_hz": 0}, {"workers": 0}])
def test_impossible_settings_are_refused(ptbxl_folder, tmp_path, space, change):
    with pytest.raises(CorpusError, match="expected positive seconds, sampling rate and workers"):
        prepare(read_ptbxl(ptbxl_folder), tmp_path / "set", space, **change)


def test_a_corpus_of_which_nothing_can_be_kept_leaves_nothing(ptbxl_folder, tmp_path, space):
    for path in ptbxl_folder.rglob("*.dat"):
        path.unlink()
    with pytest.raises(
        CorpusError, match="no record of ptbxl can be kept, the first one because: "
    ):
        prepare(read_ptbxl(ptbxl_folder), tmp_path / "set", space)
    assert [path.name for path in tmp_path.iterdir()] == ["ptbxl"]


def test_an_existing_set_is_refused_before_anything_is_read(ptbxl_folder, tmp_path, space):
    corpus = read_ptbxl(ptbxl_folder)
    prepare(corpus, tmp_path / "set", space)
    with pytest.raises(CorpusError, match="exists already"):
        prepare(corpus, tmp_path / "set", space)
    assert prepare(corpus, tmp_path / "set", space, overwrite=True).kept == 2


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def long_corpus(ptbxl_folder):
    """Forty records that share the five signals, of which one cannot be read."""
    (ptbxl_folder / "records100/00000/00002_lr.dat").write_bytes(b"short")
    corpus = read_ptbxl(ptbxl_folder)
    records = tuple(
        replace(corpus.records[k % 5], name=f"r{k:02d}", patient=f"p{k:02d}") for k in range(40)
    )
    return Corpus(corpus.manifest, records)


@pytest.mark.parametrize("drop_duplicates", [False, True])
@pytest.mark.parametrize("stop_at", [3, 17, 26, 39])
def test_an_interrupted_preparation_goes_on_and_ends_in_the_same_files(
    long_corpus, tmp_path, space, monkeypatch, stop_at, drop_duplicates
):
    options = {"keep_unlabelled": True, "drop_duplicates": drop_duplicates}
    prepare(long_corpus, tmp_path / "whole", space, **options)
    monkeypatch.setattr(preparation, "CHUNK_RECORDS", 3)
    monkeypatch.setattr(preparation, "CHECKPOINT_RECORDS", 2 if drop_duplicates else 7)
    told = []

    def stop(done, total):
        told.append(done)
        if done >= stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(long_corpus, tmp_path / "set", space, progress=stop, **options)
    assert not (tmp_path / "set").exists()
    again = []
    prepare(
        long_corpus, tmp_path / "set", space, progress=lambda now, _: again.append(now), **options
    )
    assert content(tmp_path / "set") == content(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ptbxl", "set", "whole"]
    if stop_at > 20:
        assert again[0] > 3  # not from the start


def test_an_unfinished_set_of_other_settings_is_begun_anew(
    long_corpus, tmp_path, space, monkeypatch
):
    prepare(long_corpus, tmp_path / "whole", space, seconds=5, keep_unlabelled=True)
    monkeypatch.setattr(preparation, "CHUNK_RECORDS", 3)
    monkeypatch.setattr(preparation, "CHECKPOINT_RECORDS", 2)

    def stop(done, total):
        if done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(long_corpus, tmp_path / "set", space, keep_unlabelled=True, progress=stop)
    prepare(long_corpus, tmp_path / "set", space, seconds=5, keep_unlabelled=True)
    assert content(tmp_path / "set") == content(tmp_path / "whole")


def test_a_journal_that_was_cut_off_beyond_the_checkpoint_is_gone_on_with(
    long_corpus, tmp_path, space, monkeypatch
):
    prepare(long_corpus, tmp_path / "whole", space, keep_unlabelled=True)
    monkeypatch.setattr(preparation, "CHUNK_RECORDS", 3)
    monkeypatch.setattr(preparation, "CHECKPOINT_RECORDS", 7)

    def stop(done, total):
        if done > 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(long_corpus, tmp_path / "set", space, keep_unlabelled=True, progress=stop)
    journal = tmp_path / ".set.partial/journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-40])
    prepare(long_corpus, tmp_path / "set", space, keep_unlabelled=True)
    assert content(tmp_path / "set") == content(tmp_path / "whole")


def test_a_second_preparation_of_a_set_is_refused_and_harms_nobody(ptbxl_folder, tmp_path, space):
    pytest.importorskip("fcntl")
    corpus = read_ptbxl(ptbxl_folder)
    prepare(corpus, tmp_path / "whole", space)
    refused = []

    def begin_another(done, total):
        with pytest.raises(RunError, match=r"another process is writing .*set; wait for it"):
            prepare(corpus, tmp_path / "set", space)
        refused.append(done)

    prepare(corpus, tmp_path / "set", space, progress=begin_another)
    assert refused
    assert content(tmp_path / "set") == content(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ptbxl", "set", "whole"]


def test_what_a_kill_at_the_very_end_left_is_removed(ptbxl_folder, tmp_path, space, monkeypatch):
    corpus = read_ptbxl(ptbxl_folder)
    with monkeypatch.context() as killed:
        killed.setattr(set_folder.shutil, "rmtree", lambda *_, **__: None)
        prepare(corpus, tmp_path / "set", space)
    assert (tmp_path / ".set.partial").exists()
    with pytest.raises(CorpusError, match="exists already"):
        prepare(corpus, tmp_path / "set", space)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ptbxl", "set"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_what_the_journal_cannot_write_at_the_end_stops_nobody(tmp_path):
    journal = Journal(tmp_path / "set", "key")
    (tmp_path / ".set.partial").mkdir()
    (tmp_path / ".set.partial" / "journal.jsonl").symlink_to("/dev/full")
    assert list(journal.begin(0)) == []
    journal.close()


KILLED = """
import os, signal, sys
from ecgtransfer.corpus import LabelSpace, prepare, read_ptbxl
from ecgtransfer.corpus.sets import preparation
preparation.CHUNK_RECORDS = preparation.CHECKPOINT_RECORDS = 1
def kill(done, total):
    if done > 2:
        os.kill(os.getpid(), signal.SIGKILL)
prepare(read_ptbxl(sys.argv[1]), sys.argv[2], LabelSpace(("NORM", "AFIB", "PVC")),
        keep_unlabelled=True, progress=kill)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_preparation_goes_on(ptbxl_folder, tmp_path, space):
    prepare(read_ptbxl(ptbxl_folder), tmp_path / "whole", space, keep_unlabelled=True)
    program = [sys.executable, "-c", KILLED, str(ptbxl_folder), str(tmp_path / "set")]
    done = subprocess.run(program, cwd=Path(__file__).parents[2], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "set").exists()
    assert (tmp_path / ".set.partial/progress.json").exists()
    prepare(read_ptbxl(ptbxl_folder), tmp_path / "set", space, keep_unlabelled=True)
    assert content(tmp_path / "set") == content(tmp_path / "whole")


def test_one_signal_under_two_names_is_listed_and_dropped_on_request(tmp_path, space):
    for name, seed in (("a", 1), ("b", 2), ("c", 1), ("d", 1)):
        write_challenge(tmp_path / "in" / name, twelve_leads_uv(seed, 5000), ["# Dx: AF"])
    corpus = read_wfdb_folder(tmp_path / "in")
    report = prepare(corpus, tmp_path / "all", space)
    assert (report.kept, report.duplicates) == (4, (("a", "c", "d"),))
    assert "one signal under several names: 1 (a = c = d)" in str(report)
    report = prepare(corpus, tmp_path / "few", space, drop_duplicates=True)
    assert ECGSet.open(tmp_path / "few").records["name"].tolist() == ["a", "b"]
    assert report.duplicates == (("a", "c", "d"),)
    assert [(entry.record, entry.detail) for entry in report.left_out] == [
        ("c", "c has the signal of a"),
        ("d", "d has the signal of a"),
    ]


def test_flat_and_saturated_leads_are_named(tmp_path, space):
    signal_uv = twelve_leads_uv(1, 5000)
    signal_uv[7] = 3
    signal_uv[8] = 3000 * np.sign(np.sin(np.arange(5000) / 100))
    write_challenge(tmp_path / "in/a", signal_uv, ["# Dx: AF"])
    write_challenge(tmp_path / "in/b", twelve_leads_uv(2, 5000), ["# Dx: AF"])
    report = prepare(read_wfdb_folder(tmp_path / "in"), tmp_path / "set", space)
    assert report.flat_leads == {"a": ("V2",)}
    assert report.saturated_leads == {"a": ("V3",)}


def test_rates_and_lengths_of_all_records_that_were_read_are_counted(tmp_path, space):
    for name, samples in (("a", 5000), ("b", 7550), ("c", 4000)):
        write_challenge(tmp_path / "in" / name, twelve_leads_uv(3, samples), ["# Dx: AF"])
    report = prepare(read_wfdb_folder(tmp_path / "in"), tmp_path / "set", space)
    assert report.sampling_rates_hz == {"500": 3}
    assert report.lengths_s == {"10.0": 1, "15.1": 1, "8.0": 1}
    assert "recorded at: 500 Hz: 3" in str(report)


def test_a_set_faster_than_its_recordings_is_warned_of(ptbxl_folder, tmp_path, space):
    corpus = read_ptbxl(ptbxl_folder)
    report = prepare(corpus, tmp_path / "faster", space, sampling_rate_hz=250)
    (sentence,) = [told for told in report.warnings if "250 Hz" in told]
    assert sentence.startswith("2 records were recorded at less than 250 Hz (the slowest at 100 Hz")
    report = prepare(corpus, tmp_path / "as-recorded", space)
    assert not any("recorded at less" in told for told in report.warnings)


def test_a_day_is_read_for_its_beginning_alone(tmp_path, space, monkeypatch):
    write_challenge(tmp_path / "in/a", twelve_leads_uv(1, 30000), ["# Dx: AF"])
    prepare(read_icbeb(tmp_path / "in"), tmp_path / "whole", space)
    monkeypatch.setattr(preparation, "LONGEST_READ_S", 20.0)
    report = prepare(read_icbeb(tmp_path / "in"), tmp_path / "set", space)
    assert report.lengths_s == {"20.0 or more": 1}
    np.testing.assert_allclose(
        ECGSet.open(tmp_path / "set").independent_mv(),
        ECGSet.open(tmp_path / "whole").independent_mv(),
        atol=0.0011,
    )


@pytest.mark.parametrize(
    ("layout", "down"), [("ptbxl/records100/00000", 1), ("icbeb/challenge", 5)]
)
def test_prepared_samples_are_those_of_wfdb_and_scipy(real_data, tmp_path, space, layout, down):
    """An independent way: wfdb reads, scipy resamples with the filter that the docstring states."""
    corpus = read_wfdb_folder(real_data / layout)
    part = Corpus(corpus.manifest, corpus.records[:50])
    prepare(part, tmp_path / "set", space, keep_unlabelled=True)
    ecgset = ECGSet.open(tmp_path / "set")
    taps = firwin(2 * 22 * down + 1, 0.9 / down, window=("kaiser", kaiser_beta(70)))
    assert len(ecgset) == 50
    for row, record in enumerate(part.records):
        theirs = wfdb.rdrecord(str(record.path))
        mv = theirs.p_signal[:, [theirs.sig_name.index(lead) for lead in INDEPENDENT_LEADS]].T
        if down > 1:
            mv = resample_poly(mv, 1, down, axis=1, window=taps, padtype="line")
        # Half a microvolt of rounding, and what single precision adds to it.
        np.testing.assert_allclose(ecgset.independent_mv(row)[0], mv[:, :1000], atol=0.000505)
