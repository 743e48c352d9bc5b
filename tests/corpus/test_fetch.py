"""Fetching from a mirror on this machine that misbehaves in every way that mirrors do."""

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from ecgtransfer_cli import main

from benchmarks.fetch_kills import manifest_of, on_disk, trial
from ecgtransfer import corpus as corpora
from ecgtransfer.corpus import FetchProgress, fetch
from ecgtransfer.corpus.fetching import download
from ecgtransfer.corpus.fetching import fetch as fetching
from ecgtransfer.corpus.fetching.checksums import needed_files, parse_checksums
from ecgtransfer.corpus.manifest import Part, PartFiles
from ecgtransfer.errors import CorpusError, StorageError

from . import faulty_server as faulty
from .faulty_server import CONNECT, LIST, checksum_list, free_address, serving

BIG, SMALL = "records100/00000/00002_lr.dat", "records100/00000/00001_lr.hea"


@pytest.fixture(autouse=True)
def _this_machine(_no_network, monkeypatch):
    """The network is closed but for this machine, and nobody waits long."""
    closed = socket.socket.connect

    def connect(self, address):
        here = self.family == socket.AF_INET and address[0] == "127.0.0.1"
        return (CONNECT if here else closed)(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "BACKOFF_S", 0.002)


@pytest.fixture(scope="module")
def files():
    """A table, two records with their headers: 24,000 bytes a signal, all of them random."""
    made = {"table.csv": os.urandom(60_000)}
    for number in (1, 2):
        made[f"records100/00000/{number:05d}_lr.dat"] = os.urandom(24_000)
        made[f"records100/00000/{number:05d}_lr.hea"] = os.urandom(600)
    return made


@pytest.fixture
def server(files):
    with serving(dict(files)) as mirror:
        yield mirror


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


def complete(report, folder, files):
    """All is there, identical, and nothing else but the list."""
    assert report.failed == ()
    assert on_disk(folder) == files
    assert (folder / LIST).is_file()
    assert list(folder.rglob("*.part")) == []
    return True


# --- a good mirror -----------------------------------------------------------------------------


def test_all_files_come_and_stay(server, files, folder):
    manifest = manifest_of(files, server.url)
    report = fetch(manifest, folder)
    assert complete(report, folder, files)
    assert (report.files, report.already_there, report.fetched) == (5, 0, 5)
    assert report.received_bytes == sum(map(len, files.values())) + len(checksum_list(files))
    assert (folder / LIST).read_bytes() == checksum_list(files)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*_lr.*")}
    asked = len(server.asked)
    report = fetch(manifest, folder)
    assert (report.already_there, report.fetched, report.received_bytes) == (5, 0, 0)
    assert report.checksums_from == str(folder / LIST)
    assert len(server.asked) == asked
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*_lr.*")}


def test_only_what_the_manifest_asks_for_comes(files, folder):
    more = files | {"records500/00000/00001_hr.dat": b"large", "example.py": b"print()"}
    with serving(more) as server:
        report = fetch(manifest_of(files, server.url), folder)
    assert complete(report, folder, files)


def test_rates_choose_parts(files, folder):
    more = files | {"records500/00000/00001_hr.dat": b"large"}
    with serving(more) as server:
        manifest = manifest_of(files, server.url)
        large = Part("large", 500, (PartFiles("records500/*/*.dat", 1, 5),))
        manifest = replace(manifest, fetch=(*manifest.fetch, large))
        assert complete(fetch(manifest, folder), folder, files)
        report = fetch(manifest, folder, sampling_rates_hz=[100, 500])
        assert (report.already_there, report.fetched) == (5, 1)
        assert on_disk(folder) == more
        with pytest.raises(CorpusError, match="published at 100 and 500 Hz, got 250"):
            fetch(manifest, folder, sampling_rates_hz=[250])


def test_a_damaged_file_is_replaced_and_only_that(server, files, folder):
    manifest = manifest_of(files, server.url)
    fetch(manifest, folder)
    (folder / BIG).write_bytes(b"damaged")
    (folder / SMALL).unlink()
    report = fetch(manifest, folder)
    assert complete(report, folder, files)
    assert (report.already_there, report.fetched) == (3, 2)


def test_progress_ends_with_everything(server, files, folder):
    seen = []
    report = fetch(manifest_of(files, server.url), folder, progress=seen.append)
    doing = [now.doing for now in seen]
    assert doing == sorted(doing, key=("asking", "checking", "fetching").index)
    assert seen[:2] == [FetchProgress("asking"), FetchProgress("checking", 5, 5)]
    last = seen[-1]
    assert (last.doing, last.files_done, last.files) == ("fetching", 4, 4)  # one was the probe
    assert last.bytes_done == last.bytes_in_all == report.received_bytes
    done = [now.files_done for now in seen[2:]]
    assert done == sorted(done)


# --- faults that pass ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([faulty.status(500)], id="500"),
        pytest.param([faulty.status(503)] * 3, id="503 three times"),
        pytest.param([faulty.cut(0)], id="cut before the first byte"),
        pytest.param([faulty.cut(10_000)] * 2, id="cut in the middle, twice"),
        pytest.param([faulty.other_bytes], id="wrong bytes once"),
        pytest.param([faulty.stated_length(7)], id="length too long"),
        pytest.param([faulty.stated_length(-7)], id="length too short"),
        pytest.param([faulty.cut(10_000), faulty.no_range], id="no ranges"),
        pytest.param([faulty.cut(10_000), faulty.wrong_range], id="another range"),
        pytest.param(
            [faulty.cut(10_000), faulty.wrong_range, faulty.other_bytes],
            id="another range, then wrong bytes",
        ),
        pytest.param([faulty.cut(10_000), faulty.status(416)], id="416 without reason"),
        pytest.param([faulty.cut(10_000), faulty.other_bytes], id="wrong bytes from the middle"),
    ],
)
def test_a_fault_that_passes_is_outlived(server, files, folder, faults):
    server.faults[BIG] += faults
    assert complete(fetch(manifest_of(files, server.url), folder), folder, files)
    assert server.faults[BIG] == []


def test_a_cut_file_goes_on_where_it_broke_off(server, files, folder):
    server.faults[BIG] += [faulty.cut(10_000)]
    report = fetch(manifest_of(files, server.url), folder)
    assert complete(report, folder, files)
    assert server.ranges(BIG) == [None, "bytes=10000-"]
    assert report.received_bytes == sum(map(len, files.values())) + len(checksum_list(files))


def test_a_part_of_an_earlier_run_is_taken_up(server, files, folder):
    part = folder / f"{BIG}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(files[BIG][:23_000])
    assert complete(fetch(manifest_of(files, server.url), folder), folder, files)
    assert server.ranges(BIG) == ["bytes=23000-"]


def test_a_whole_part_needs_no_request(server, files, folder):
    part = folder / f"{BIG}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(files[BIG])
    assert complete(fetch(manifest_of(files, server.url), folder), folder, files)
    assert server.ranges(BIG) == []


@pytest.mark.parametrize("odd", [b"x" * 5_000, b"x" * 24_000, b"x" * 30_000])
def test_a_wrong_part_is_thrown_away(server, files, folder, odd):
    part = folder / f"{BIG}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(odd)
    assert complete(fetch(manifest_of(files, server.url), folder), folder, files)
    assert server.ranges(BIG) == [f"bytes={len(odd)}-", None]


def test_retry_after_is_waited_for(server, files, folder):
    server.faults[BIG] += [faulty.status(429, Retry_After="1")]
    began = time.monotonic()
    assert complete(fetch(manifest_of(files, server.url), folder), folder, files)
    assert time.monotonic() - began >= 1


def test_nobody_waits_for_an_hour(server, files, folder, monkeypatch):
    monkeypatch.setattr(download, "LONGEST_PAUSE_S", 0.05)
    server.faults[BIG] += [faulty.status(503, Retry_After="3600")]
    assert complete(fetch(manifest_of(files, server.url), folder), folder, files)


def test_a_stalled_connection_is_begun_again(server, files, folder, monkeypatch):
    monkeypatch.setattr(download, "STALL_S", 0.2)
    server.faults[BIG] += [faulty.stall(8_000, 3.0)]
    began = time.monotonic()
    assert complete(fetch(manifest_of(files, server.url), folder), folder, files)
    assert server.ranges(BIG) == [None, "bytes=8000-"]
    assert time.monotonic() - began < 3


def test_a_slow_mirror_is_no_fault(files, folder):
    with serving(files, piece_bytes=2000, pause_s=0.005) as server:
        assert complete(fetch(manifest_of(files, server.url), folder), folder, files)
        assert server.ranges(BIG) == [None]


def test_redirects_are_followed(server, files, folder):
    server.files["elsewhere/signal"] = files[BIG]
    server.always[BIG] = faulty.redirect(server.url + "elsewhere/signal")
    server.faults["elsewhere/signal"] += [faulty.cut(9_000)]
    assert complete(fetch(manifest_of(files, server.url), folder), folder, files)
    assert server.ranges("elsewhere/signal") == [None, "bytes=9000-"]


# --- faults that stay, and other mirrors -----------------------------------------------------


LASTING = [
    pytest.param(faulty.status(404), "404 Not Found", id="404"),
    pytest.param(faulty.status(403), "403 Forbidden", id="403"),
    pytest.param(faulty.status(500), "500 Internal Server Error", id="500"),
    pytest.param(faulty.status(429), "429 Too Many Requests", id="429"),
    pytest.param(faulty.other_bytes, "other bytes than published", id="wrong bytes"),
    pytest.param(faulty.stated_length(-7), "other bytes than published", id="short length"),
    pytest.param(faulty.cut(0), "no answer|broke off", id="cut"),
    pytest.param(faulty.redirect("/" + BIG), "redirected too often", id="redirected in circles"),
]


@pytest.mark.parametrize(("fault", "reason"), LASTING)
def test_one_bad_file_ends_nothing(server, files, folder, fault, reason):
    server.always[BIG] = fault
    manifest = manifest_of(files, server.url)
    report = fetch(manifest, folder, workers=1)
    assert [entry.path for entry in report.failed] == [BIG]
    assert re.search(reason, report.failed[0].reason)
    assert on_disk(folder) == {path: data for path, data in files.items() if path != BIG}
    server.always.clear()
    report = fetch(manifest, folder)
    assert complete(report, folder, files)
    assert (report.already_there, report.fetched) == (4, 1)


@pytest.mark.parametrize(("fault", "reason"), LASTING)
def test_the_next_mirror_has_what_the_first_has_not(server, files, folder, fault, reason):
    server.always["*"] = fault
    with serving(files) as second:
        report = fetch(manifest_of(files, server.url, second.url), folder)
        assert complete(report, folder, files)
        assert report.checksums_from == second.url + LIST


def test_a_file_goes_on_at_the_next_mirror(server, files, folder, monkeypatch):
    monkeypatch.setattr(download, "BROKEN_OFF", 0)
    server.always[BIG] = faulty.cut(10_000)
    with serving(files) as second:
        report = fetch(manifest_of(files, server.url, second.url), folder)
        assert complete(report, folder, files)
        assert second.ranges(BIG) == ["bytes=10000-"]


def test_a_mirror_that_is_down_is_left_alone(server, files, folder):
    silent = free_address()
    report = fetch(manifest_of(files, silent, server.url), folder)
    assert complete(report, folder, files)


def test_a_mirror_without_an_answer_is_soon_asked_no_more(server, files, folder):
    server.always["*"] = faulty.status(503)
    with serving(files) as second:
        report = fetch(manifest_of(files, server.url, second.url), folder, workers=1)
    assert complete(report, folder, files)
    asked = [path for path, _ in server.asked]
    assert asked == [LIST] * (download.RETRIES + 1) + ["table.csv"] * (download.RETRIES + 1)


def test_mirrors_that_are_all_down_give_one_sentence(files, folder):
    with pytest.raises(CorpusError, match=r"got none \(127\.0\.0\.1:\d+: no connection"):
        fetch(manifest_of(files, free_address(), free_address()), folder)
    assert on_disk(folder) == {}


def test_what_is_there_is_verified_without_a_network(server, files, folder):
    fetch(manifest_of(files, server.url), folder)
    report = fetch(manifest_of(files, free_address()), folder)
    assert (report.already_there, report.failed) == (5, ())


def test_mirrors_that_go_down_are_reported_file_by_file(server, files, folder):
    fetch(manifest_of(files, server.url), folder)
    (folder / BIG).unlink()
    (folder / SMALL).write_bytes(b"wrong")
    report = fetch(manifest_of(files, free_address()), folder)
    assert sorted(entry.path for entry in report.failed) == [SMALL, BIG]
    assert (folder / SMALL).read_bytes() == b"wrong"  # nothing better came


# --- the list of checksums -------------------------------------------------------------------


def test_a_list_that_no_file_agrees_with_is_not_believed(files, folder):
    wrong = dict.fromkeys(files, b"something else")
    with serving({LIST: checksum_list(wrong), **files}) as first, serving(files) as second:
        report = fetch(manifest_of(files, first.url, second.url), folder)
        assert complete(report, folder, files)
        assert report.checksums_from == second.url + LIST


def test_wrong_checksums_everywhere_bring_no_file(files, folder):
    wrong = dict.fromkeys(files, b"something else")
    with serving({LIST: checksum_list(wrong), **files}) as server:
        report = fetch(manifest_of(files, server.url), folder)
    assert [entry.path for entry in report.failed] == sorted(files)
    assert on_disk(folder) == {}


def test_one_wrong_checksum_costs_one_file(files, folder):
    wrong = files | {BIG: b"something else"}
    with serving({LIST: checksum_list(wrong), **files}) as server:
        report = fetch(manifest_of(files, server.url), folder)
    assert [entry.path for entry in report.failed] == [BIG]
    assert on_disk(folder) == {path: data for path, data in files.items() if path != BIG}


SHA256 = hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "got an empty file"),
        (b"<!DOCTYPE html>", r"line 1: expected a SHA-256 of 64 hex digits .* got '<!DOCTYPE"),
        (f"{SHA256}\n".encode(), "expected a SHA-256 of 64 hex digits and a path"),
        (f"{SHA256[:-1]} a.csv\n".encode(), "expected a SHA-256 of 64 hex digits and a path"),
        (f"{SHA256} a\n{'0' * 64} a\n".encode(), "line 2: expected one checksum of a"),
        (b"\xff\xfe\x00", "this is not a list of checksums"),
        *(
            (f"{SHA256}  {path}\n".encode(), "expected a path inside the data set")
            for path in ("/etc/passwd", "../up", "a/../../up", "C:\\x", "a\\b", "a//b", "c:d")
        ),
    ],
)
def test_a_list_that_is_none_is_refused_in_a_sentence(files, folder, content, sentence):
    with serving({**files, LIST: content}) as server:
        with pytest.raises(CorpusError, match=sentence) as told:
            fetch(manifest_of(files, server.url), folder)
        assert "\n" not in str(told.value)
        assert [path for path, _ in server.asked] == [LIST]
    assert on_disk(folder) == {}


def test_lists_are_read_as_sha256sum_and_physionet_write_them():
    content = f"{SHA256} a b.csv\r\n{SHA256.upper()}  c\n{SHA256} *d\n\n{SHA256}  ./e/f\n".encode()
    assert parse_checksums(content, "list") == dict.fromkeys(["a b.csv", "c", "d", "e/f"], SHA256)


def test_a_list_of_another_version_is_refused(server, files, folder):
    manifest = manifest_of(files | {"more.csv": b""}, server.url)
    with pytest.raises(CorpusError, match=r"lists 1 files of \*\.csv, expected 2; .* version"):
        fetch(manifest, folder)


def test_files_that_are_optional_may_be_absent():
    kinds = (PartFiles("RECORDS", 1, 9, optional=True), PartFiles("*/*.dat", 1, 9))
    needed = needed_files((Part("all", 100, kinds),), {"a/b.dat": SHA256, "a.dat": SHA256}, "list")
    assert [file.path for file in needed] == ["a/b.dat"]


def test_a_broken_list_beside_the_data_is_replaced(server, files, folder):
    fetch(manifest_of(files, server.url), folder)
    (folder / LIST).write_bytes(b"broken")
    report = fetch(manifest_of(files, server.url), folder)
    assert complete(report, folder, files)
    assert (report.checksums_from, report.already_there) == (server.url + LIST, 5)
    assert (folder / LIST).read_bytes() == checksum_list(files)


def test_a_list_that_breaks_off_goes_on(server, files, folder):
    server.faults[LIST] += [faulty.cut(200)]
    assert complete(fetch(manifest_of(files, server.url), folder), folder, files)
    assert server.ranges(LIST) == [None, "bytes=200-"]


# --- the disk --------------------------------------------------------------------------------


def test_a_disk_without_room_is_refused_before_the_first_byte(server, files, folder, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(CorpusError, match=r"needs about 0\.\d\d GB more .* 0\.00 GB free"):
        fetch(manifest_of(files, server.url), folder)
    assert [path for path, _ in server.asked] == [LIST]
    assert on_disk(folder) == {}


def test_a_disk_that_fills_up_ends_the_run(server, files, folder, monkeypatch):
    def full(part, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "publish", full)
    with pytest.raises(StorageError, match=r"could not be written \(No space left on device\)"):
        fetch(manifest_of(files, server.url), folder)


def test_a_folder_in_the_way_is_reported(server, files, folder):
    (folder / BIG).mkdir(parents=True)
    report = fetch(manifest_of(files, server.url), folder)
    assert [entry.path for entry in report.failed] == [BIG]
    assert "could not be written" in report.failed[0].reason


def test_a_file_in_place_of_the_folder_is_refused(server, files, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="could not be written"):
        fetch(manifest_of(files, server.url), tmp_path / "file")


@pytest.mark.parametrize("address", ["ftp://host/", "physionet.org", "/etc/", "file:///etc/"])
def test_an_address_that_is_none_is_refused(files, folder, address):
    with pytest.raises(CorpusError, match=r"expected a mirror such as http"):
        fetch(manifest_of(files, "http://127.0.0.1/"), folder, mirrors=[address])


def test_a_second_fetch_into_a_folder_is_refused_until_the_first_ends(files, folder):
    with serving(files, piece_bytes=1000, pause_s=0.02) as server:
        manifest = manifest_of(files, server.url)
        first = threading.Thread(target=fetch, args=(manifest, folder))
        first.start()
        while not server.asked:
            time.sleep(0.01)
        with pytest.raises(StorageError, match=r"another process is writing .*data; wait for it"):
            fetch(manifest, folder)
        first.join()
        assert complete(fetch(manifest, folder), folder, files)
    assert not (folder / fetching.LOCK).exists()


# --- the end comes early ---------------------------------------------------------------------


def test_interrupted_a_fetch_ends_soon_and_goes_on(server, files, folder, monkeypatch):
    part = folder / f"{BIG}.part"

    def press(now):
        if part.is_file() and part.stat().st_size == 5_000:
            raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "END_WITHIN_S", 0.3)
    manifest = manifest_of(files, server.url)
    server.always[BIG] = faulty.stall(5_000, 2.0)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fetch(manifest, folder, progress=press)
    assert time.monotonic() - began < 2  # though a connection is silent still
    time.sleep(2.2)  # what it brings at last is for nobody
    assert all(files[path] == data for path, data in on_disk(folder).items())
    assert part.read_bytes() == files[BIG][:5_000]
    server.always.clear()
    assert complete(fetch(manifest, folder), folder, files)
    assert server.ranges(BIG)[-1] == "bytes=5000-"


def test_killed_again_and_again_a_fetch_ends_with_identical_bytes(tmp_path):
    seen = trial(11, tmp_path / "data", most_kills=5)
    assert seen.kills >= 1
    assert seen.kills_inside_a_file >= 1
    assert seen.wrong == 0
    assert seen.identical


# --- the command -----------------------------------------------------------------------------


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """`ecgtransfer data fetch` in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["ecgtransfer", "data", "fetch", *map(str, words)])
        code = 0
        try:
            main.main()
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run


@pytest.fixture
def known(server, files, monkeypatch):
    """The small data set in place of PTB-XL."""
    monkeypatch.setattr(corpora, "load_manifest", lambda name: manifest_of(files, server.url))


def test_the_command_fetches_and_says_what_next(call, known, files):
    told = call("ptbxl")
    assert told.code == 0
    assert on_disk(Path("downloads/ptbxl")) == files
    assert re.search(r"files +5\n +already present +0\n +fetched +5\n", told.out)
    assert "Next: ecgtransfer data prepare ptbxl downloads/ptbxl --to sets/ptbxl" in told.out
    assert told.err.startswith("ptbxl, asking: list of checksums from the mirrors\n")
    assert re.search(r"ptbxl, fetching: 4 of 4 files, 0\.1 of 0\.1 MB, .* MB/s in", told.err)
    told = call("ptbxl", "--json", "--quiet")
    assert (told.code, told.err) == (0, "")
    held = json.loads(told.out)
    assert (held["already_there"], held["failed"], held["finish_with"]) == (5, [], None)
    assert call("ptbxl", "--quiet") == SimpleNamespace(code=0, out="", err="")


def test_a_terminal_shows_files_bytes_and_speed(call, known, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    told = call("ptbxl")
    assert told.code == 0
    assert re.search(r"ptbxl, fetching .*4 of 4 files, 0\.1 of 0\.1 MB, \d+\.\d MB/s", told.err)


def test_the_command_lists_what_did_not_come_and_how_to_finish(call, known, server, files):
    server.always[BIG] = faulty.status(404)
    words = ["ptbxl", "--to", "my data", "--rate", 100, "--mirror", server.url]
    told = call(*words)
    finish = f"ecgtransfer data fetch ptbxl --to 'my data' --rate 100 --mirror {server.url}"
    assert told.code == 1
    assert re.search(rf"Not fetched\n +{BIG} +127\.0\.0\.1:\d+: 404 Not Found\n", told.out)
    last = told.err.splitlines()[-1]
    assert last.startswith("error: 1 of 5 files could not be fetched")
    assert last.endswith(finish)
    told = call(*words, "--json")
    held = json.loads(told.out)
    assert (told.code, held["finish_with"]) == (1, finish)
    assert [entry["path"] for entry in held["failed"]] == [BIG]
    server.always.clear()
    assert call(*words).code == 0
    assert on_disk(Path("my data")) == files


def test_the_command_is_interrupted_with_a_word_on_how_to_go_on(call, known, monkeypatch):
    def pressed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(corpora, "fetch", pressed)
    told = call("ptbxl")
    assert told.code == 130
    assert "run the same command again to resume" in told.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("mimic", r"no mimic\.toml among the manifests; expected one of icbeb2018\.toml, ptbxl"),
        ("icbeb2018 --rate 100", "icbeb2018 is published at 500 Hz, got 100"),
        ("ptbxl --mirror ftp://host/", "expected a mirror such as https://physionet.org/"),
    ],
)
def test_the_command_refuses_in_one_line_and_leaves_nothing(call, tmp_path, words, sentence):
    told = call(*words.split())
    assert (told.code, told.out, told.err.count("\n")) == (1, "", 1)
    assert re.search(sentence, told.err)
    assert list(tmp_path.iterdir()) == []
