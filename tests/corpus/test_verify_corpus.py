"""Every way in which a published corpus on disk can differ from what was published, told once."""

import hashlib
import json
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ecgtransfer_cli import main

from ecgtransfer.corpus import load_manifest, verify_corpus
from ecgtransfer.corpus.fetching import verification
from ecgtransfer.corpus.manifest import Part, PartFiles
from ecgtransfer.errors import CorpusError

from .faulty_server import LIST, checksum_list

DAT, HEA = "records100/00000/00002_lr.dat", "records100/00000/00002_lr.hea"


def content(folder):
    """Path -> bytes of all that lies below."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Manifests that state what the small corpora hold."""
    counts = {"ptbxl": 5, "icbeb2018": 4}
    kinds = {
        "ptbxl": ("records100/*/*.dat", "records100/*/*.hea"),
        "icbeb2018": ("g1/*.mat", "g1/*.hea"),
    }

    def small(name):
        count = 5 if name == "ptbxl" else 2
        tables = (PartFiles("*.csv", 1, 9),) if name == "ptbxl" else ()
        signals = tuple(PartFiles(paths, count, 9) for paths in kinds[name])
        large = (PartFiles("records500/*/*.dat", 1, 9),)
        parts = (Part("tables", None, tables), Part("signals", 100, signals))
        if name == "ptbxl":
            parts += (Part("large", 500, large),)
        return replace(load_manifest(name), record_count=counts[name], fetch=parts)

    monkeypatch.setattr(verification, "load_manifest", small)


@pytest.fixture
def published(ptbxl_folder):
    """The small PTB-XL with its list of checksums, which lists another rate too."""
    elsewhere = {"records500/00000/00001_hr.dat": b"not fetched", "example.py": b"print()"}
    (ptbxl_folder / LIST).write_bytes(checksum_list(content(ptbxl_folder) | elsewhere))
    return ptbxl_folder


def told(report):
    return {(problem.path, problem.kind) for problem in report.problems}


def test_what_is_as_published_has_no_problem(published):
    seen = []
    report = verify_corpus(published, progress=lambda done, total: seen.append((done, total)))
    assert report.problems == ()
    assert (report.corpus, report.records, report.files, report.with_checksum) == (
        "ptbxl",
        5,
        11,
        11,
    )
    assert seen == sorted(seen)
    assert seen[-1] == (16, 16)


def test_the_fingerprint_is_of_all_data_and_of_nothing_else(published):
    data = content(published)
    del data[LIST]
    lines = [f"{hashlib.sha256(held).hexdigest()}  {path}\n" for path, held in sorted(data.items())]
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert verify_corpus(published).fingerprint == expected
    (published / LIST).unlink()
    (published / "notes.txt").write_text("mine")
    report = verify_corpus(published, workers=1)
    assert (report.fingerprint, report.with_checksum, report.problems) == (expected, 0, ())
    (published / DAT).write_bytes(data[DAT][:-2] + b"\0\1")
    assert verify_corpus(published).fingerprint != expected


def test_a_changed_signal_is_told_by_both_checks(published):
    data = (published / DAT).read_bytes()
    (published / DAT).write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    report = verify_corpus(published)
    assert told(report) == {
        (DAT, verification.CHECKSUM),
        ("00002", verification.SIGNAL),
    }
    assert report.records == 5


def test_a_changed_signal_is_told_by_its_header_alone(ptbxl_folder):
    data = (ptbxl_folder / DAT).read_bytes()
    (ptbxl_folder / DAT).write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    (problem,) = verify_corpus(ptbxl_folder).problems
    assert (problem.path, problem.kind) == ("00002", verification.SIGNAL)
    assert "checksums" in problem.detail


@pytest.mark.parametrize("change", [lambda data: data[:-24], lambda data: data + bytes(24)])
def test_a_signal_of_another_length_is_told(ptbxl_folder, change):
    (ptbxl_folder / DAT).write_bytes(change((ptbxl_folder / DAT).read_bytes()))
    assert told(verify_corpus(ptbxl_folder)) == {("00002", verification.SIGNAL)}


def test_a_table_that_was_edited_is_told(published):
    path = published / "ptbxl_database.csv"
    path.write_text(path.read_text().replace("CS-12   E", "CS-12 E"))
    assert told(verify_corpus(published)) == {("ptbxl_database.csv", verification.CHECKSUM)}


@pytest.mark.parametrize("with_list", [True, False])
def test_missing_files_are_told_once(published, with_list):
    (published / DAT).unlink()
    (published / "records100/00000/00001_lr.hea").unlink()
    if not with_list:
        (published / LIST).unlink()
    report = verify_corpus(published)
    assert sorted(problem.path for problem in report.problems) == [
        "records100/00000/00001_lr.hea",
        DAT,
    ]
    assert {problem.kind for problem in report.problems} == {verification.MISSING}
    assert report.records == 3


def test_records_that_the_table_does_not_have_are_told(published):
    for suffix in (".hea", ".dat"):
        (published / f"records100/00000/00099_lr{suffix}").write_bytes(b"left over")
    assert told(verify_corpus(published)) == {
        ("records100/00000/00099_lr.dat", verification.STRAY),
        ("records100/00000/00099_lr.hea", verification.STRAY),
    }


def test_another_count_of_records_is_told(published, monkeypatch):
    monkeypatch.setattr(
        verification, "load_manifest", lambda name: replace(load_manifest(name), fetch=())
    )
    (problem,) = verify_corpus(published).problems
    assert problem.kind == verification.COUNT
    assert problem.detail == "5 records, ptbxl has 21,799"


@pytest.mark.parametrize(
    ("list_content", "sentence"),
    [
        (b"<html>", "expected a SHA-256 of 64 hex digits"),
        (checksum_list({"a.csv": b"", "b.csv": b""}), r"lists 2 files of \*\.csv, expected 1"),
    ],
)
def test_a_list_that_is_none_or_of_another_version_is_told(ptbxl_folder, list_content, sentence):
    (ptbxl_folder / LIST).write_bytes(list_content)
    report = verify_corpus(ptbxl_folder)
    assert {problem.kind for problem in report.problems} == {verification.LIST}
    assert re.search(sentence, report.problems[0].detail)


def test_a_table_that_cannot_be_read_is_told_and_the_rest_is_checked(published):
    (published / "ptbxl_database.csv").write_text("ecg_id\n1\n")
    (published / DAT).write_bytes(b"")
    assert told(verify_corpus(published)) == {
        ("all records", verification.UNREADABLE),
        ("ptbxl_database.csv", verification.CHECKSUM),
        (DAT, verification.CHECKSUM),
    }


def test_a_table_without_signals_is_told(tmp_path, ptbxl_folder):
    (tmp_path / "bare").mkdir()
    (ptbxl_folder / "ptbxl_database.csv").rename(tmp_path / "bare/ptbxl_database.csv")
    (problem,) = verify_corpus(tmp_path / "bare").problems
    assert (problem.kind, problem.detail[:10]) == (verification.MISSING, "no signals")


def test_icbeb_is_verified_in_both_layouts(icbeb_folder):
    (icbeb_folder / LIST).write_bytes(checksum_list(content(icbeb_folder)))
    report = verify_corpus(icbeb_folder)
    assert (report.corpus, report.records, report.problems) == ("icbeb2018", 4, ())
    assert report.files == report.with_checksum == 7
    with (icbeb_folder / "g1/A0002.mat").open("r+b") as file:
        file.seek(30)
        file.write(np.int16(12345).tobytes())
    with (icbeb_folder / "g1/A0001.mat").open("ab") as file:
        file.write(b"more")
    (icbeb_folder / "original/TrainingSet1/A0003.mat").write_bytes(b"nothing")
    assert told(verify_corpus(icbeb_folder)) == {
        ("g1/A0001.mat", verification.CHECKSUM),
        ("g1/A0002.mat", verification.CHECKSUM),
        ("original/TrainingSet1/A0003.mat", verification.CHECKSUM),
        ("A0001", verification.SIGNAL),
        ("A0002", verification.SIGNAL),
        ("A0003", verification.SIGNAL),
    }


def test_a_folder_of_neither_corpus_is_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"expected in .* found none of them"):
        verify_corpus(tmp_path)


# --- the command -------------------------------------------------------------------------------


@pytest.fixture
def call(capsys, monkeypatch):
    """`ecgtransfer data verify`: exit code, stdout, stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["ecgtransfer", "data", "verify", *map(str, words)])
        code = 0
        try:
            main.main()
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run


def test_the_command_says_that_all_is_well(call, published):
    told = call(published)
    assert told.code == 0
    assert told.out.startswith("As published\n")
    assert re.search(r"files with a published checksum +11 of 11\n", told.out)
    assert re.search(r"fingerprint +[0-9a-f]{64}\n", told.out)
    assert call(published, "--quiet") == SimpleNamespace(code=0, out="", err="")


def test_the_command_lists_the_first_problems_and_json_all(call, published):
    for number in range(12):
        (published / f"records100/00000/9{number:04d}_lr.dat").touch()
    (published / DAT).unlink()
    told = call(published)
    assert told.code == 1
    assert told.out.startswith("Not as published\n")
    assert len(re.findall(r"no record of the corpus has it", told.out)) == 9
    assert re.search(r"belongs to no record +12\n", told.out)
    mend = f"ecgtransfer data fetch ptbxl --to {published}"
    assert told.err.splitlines()[-1].startswith(
        f"error: {published} is not as published; the first of 13 "
    )
    assert told.err.rstrip().endswith(mend)
    told = call(published, "--json", "--quiet")
    assert told.code == 1
    assert len(json.loads(told.out)["problems"]) == 13


def test_the_command_verifies_a_set_as_before(call, small_set):
    ecgset = small_set[0]
    told = call(ecgset.folder, "--json")
    assert json.loads(told.out)["fingerprint"] == ecgset.fingerprint
    with (ecgset.folder / "signals.npy").open("r+b") as file:
        file.seek(-2, 2)
        file.write(b"\x7f\x01")
    told = call(ecgset.folder)
    assert (told.code, told.out) == (1, "")
    assert "has changed since it was written" in told.err


# --- the real one ------------------------------------------------------------------------------


@pytest.mark.slow
def test_all_of_ptbxl_is_as_published(complete_data, monkeypatch):
    monkeypatch.setattr(verification, "load_manifest", load_manifest)
    report = verify_corpus(complete_data / "ptbxl")
    assert report.records == 21799
    assert report.problems == ()
