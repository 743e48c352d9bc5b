import errno
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgtransfer.corpus import ECGSet, ECGSetWriter, write_ecgset
from ecgtransfer.corpus.sets import known_names
from ecgtransfer.errors import CorpusError, StorageError


def chunk(start, n=2, samples=50, labels=3):
    """Records number start to start + n."""
    rng = np.random.default_rng(start)
    signals_uv = rng.integers(-3000, 3000, (n, 8, samples)).astype(np.int16)
    rows = pd.DataFrame(
        {"name": [f"r{start + i}" for i in range(n)], "seed": range(start, start + n)}
    )
    return signals_uv, np.eye(labels, dtype=np.float32)[np.arange(n) % labels], rows


def listing(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write_until_stopped(folder, space, kept, lost, stop):
    """Checkpoint some chunks, append one more, and stop."""
    with ECGSetWriter(folder, space, 100, "generated", card_extra={"seed": 1}) as writer:
        for start in kept:
            writer.append(*chunk(start))
            writer.checkpoint()
        writer.append(*chunk(lost))
        raise stop


def test_chunks_give_the_set_that_one_array_gives(tmp_path, space, small_set):
    whole, signals_uv, labels, records = small_set
    chunks = (signals_uv[start : start + 4] for start in (0, 4))
    parts = write_ecgset(tmp_path / "parts", chunks, labels, records, space, 100, "simulated")
    assert listing(parts.folder) == listing(whole.folder)


def test_nothing_but_the_set_is_left(small_set):
    folder = small_set[0].folder
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    names = ["card.json", "labels.npy", "records.parquet", "signals.npy"]
    assert sorted(path.name for path in folder.iterdir()) == names


def test_the_card_says_what_the_set_is(tmp_path, space):
    extra = {"seed": 7, "model": {"fingerprint": "abc"}}
    ecgset = write_ecgset(tmp_path / "s", *chunk(0), space, 100, "generated", extra)
    assert ecgset.card["seed"] == 7
    assert ecgset.card["model"] == {"fingerprint": "abc"}
    assert ecgset.card["labels"] == ["NORM", "AFIB", "PVC"]
    assert ecgset.card["leads"] == ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"]
    assert ecgset.card["unit"] == "microvolt"


def test_nothing_appears_under_the_name_before_the_end(tmp_path, space):
    with ECGSetWriter(tmp_path / "s", space, 100, "generated") as writer:
        writer.append(*chunk(0))
        writer.attach("report.json", "{}")
        assert not (tmp_path / "s").exists()
        ecgset = writer.finish()
    assert (ecgset.folder / "report.json").read_text() == "{}"


def test_a_failure_leaves_nothing(tmp_path, space):
    with pytest.raises(RuntimeError, match="stop"):
        write_until_stopped(tmp_path / "s", space, kept=(), lost=0, stop=RuntimeError("stop"))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_set_goes_on_from_its_checkpoint(tmp_path, space):
    whole = ECGSetWriter(tmp_path / "whole", space, 100, "generated", card_extra={"seed": 1})
    with whole:
        for start in (0, 2, 4, 6):
            whole.append(*chunk(start))
            whole.checkpoint()
        whole.finish()
    with pytest.raises(KeyboardInterrupt):
        write_until_stopped(tmp_path / "s", space, kept=(0, 2), lost=4, stop=KeyboardInterrupt())
    assert not (tmp_path / "s").exists()
    resumed = ECGSetWriter(
        tmp_path / "s", space, 100, "generated", card_extra={"seed": 1}, resume=True
    )
    with resumed:
        assert len(resumed) == 4
        for start in (4, 6):
            resumed.append(*chunk(start))
        resumed.finish()
    assert listing(tmp_path / "s") == listing(tmp_path / "whole")
    ECGSet.open(tmp_path / "s").verify()


def test_without_resume_an_unfinished_part_is_begun_anew(tmp_path, space):
    with ECGSetWriter(tmp_path / "s", space, 100, "generated") as writer:
        writer.append(*chunk(0))
        writer.checkpoint()
    with ECGSetWriter(tmp_path / "s", space, 100, "generated") as writer:
        assert len(writer) == 0


def test_resuming_with_nothing_there_begins(tmp_path, space):
    with ECGSetWriter(tmp_path / "s", space, 100, "generated", resume=True) as writer:
        writer.append(*chunk(0))
        assert len(writer.finish()) == 2


def test_a_part_of_another_set_is_not_resumed(tmp_path, space):
    with ECGSetWriter(tmp_path / "s", space, 100, "generated", card_extra={"seed": 1}) as writer:
        writer.append(*chunk(0))
        writer.checkpoint()
    with pytest.raises(CorpusError, match="was started with another sampling_rate_hz, seed"):
        ECGSetWriter(tmp_path / "s", space, 500, "generated", card_extra={"seed": 2}, resume=True)


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("set/signals.npy", 1000),
        ("set/labels.npy", 130),
        ("progress.json", 0),
        ("progress.json", 100),
        ("records-000000.parquet", 0),
        ("records-000000.parquet", 1000),
        ("records-000000.parquet", None),
    ],
)
def test_a_part_that_lost_bytes_is_not_resumed(tmp_path, space, name, left):
    with ECGSetWriter(tmp_path / "s", space, 100, "generated") as writer:
        writer.append(*chunk(0))
        writer.checkpoint()
    path = tmp_path / ".s.partial" / name
    if left is None:
        path.unlink()
    else:
        os.truncate(path, left)
    with pytest.raises(CorpusError, match=rf"has lost a part of {path.name}; delete it and run"):
        ECGSetWriter(tmp_path / "s", space, 100, "generated", resume=True)


def test_columns_may_be_empty_in_some_chunks(tmp_path, space):
    with ECGSetWriter(tmp_path / "s", space, 100, "generated") as writer:
        for start, note, weight in ((0, None, 1), (2, "late", 1.5), (4, None, None)):
            signals_uv, labels, rows = chunk(start)
            writer.append(signals_uv, labels, rows.assign(note=note, weight=weight))
            writer.checkpoint()
        signals_uv, labels, rows = chunk(6)
        writer.append(signals_uv, labels, rows)
        records = writer.finish().records
    assert records["note"].tolist() == [None, None, "late", "late", None, None, None, None]
    assert records["weight"].dropna().tolist() == [1.0, 1.0, 1.5, 1.5]
    assert records["patient"].tolist() == records["name"].tolist()
    assert records["seed"].tolist() == list(range(8))


def test_an_existing_set_is_replaced_only_on_request(tmp_path, space, small_set):
    folder = small_set[0].folder
    before = listing(folder)
    with pytest.raises(CorpusError, match="exists already"):
        write_ecgset(folder, *chunk(0), space, 100, "generated")
    assert listing(folder) == before
    assert len(write_ecgset(folder, *chunk(0), space, 100, "generated", overwrite=True)) == 2
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_folder_that_is_not_a_set_is_never_replaced(tmp_path, space):
    (tmp_path / "s").mkdir()
    with pytest.raises(CorpusError, match="is not an ECG set, so it is not overwritten"):
        write_ecgset(tmp_path / "s", *chunk(0), space, 100, "generated", overwrite=True)


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_a_full_disk_at_the_end_leaves_nothing(tmp_path, space, monkeypatch, place):
    monkeypatch.setattr(os if place == "fsync" else Path, place, full_disk)
    with pytest.raises(StorageError, match=r"could not be written \(No space left on device\)"):
        write_ecgset(tmp_path / "s", *chunk(0), space, 100, "generated")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_on_the_way_keeps_the_last_checkpoint(tmp_path, space):
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        ECGSetWriter(tmp_path / "s", space, 100, "generated") as writer,
    ):
        writer.append(*chunk(0))
        writer.checkpoint()
        writer._files["signals.npy"].close()
        writer._files["signals.npy"] = full
        with pytest.raises(
            StorageError, match=r"s could not be written \(No space left on device\)"
        ):
            writer.append(*chunk(2))
    with ECGSetWriter(tmp_path / "s", space, 100, "generated", resume=True) as writer:
        assert len(writer) == 2
        assert len(writer.finish()) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"signals": np.zeros((2, 8, 50))}, r"\(2, 8, T\) in int16 microvolts .*float64"),
        ({"signals": np.zeros((3, 8, 50), np.int16)}, "for 2 records, got"),
        ({"signals": np.zeros((2, 12, 50), np.int16)}, r"got \(2, 12, 50\)"),
        ({"signals": np.zeros((2, 8, 0), np.int16)}, r"got \(2, 8, 0\)"),
        ({"labels": np.zeros((2, 4))}, r"expected labels of shape \(2, 3\), got \(2, 4\)"),
        ({"labels": np.full((2, 3), 2.0)}, "labels between 0 and 1"),
        ({"labels": np.full((2, 3), np.nan)}, "labels between 0 and 1"),
        ({"records": pd.DataFrame({"id": [1, 2]})}, "needs a column name, got id"),
        ({"records": pd.DataFrame({"name": ["a", "a"]})}, "record a comes twice"),
        ({"records": pd.DataFrame({"name": ["a", "b"], "age": ["x", 1]})}, "cannot hold these"),
    ],
)
def test_a_chunk_that_does_not_fit_is_refused(tmp_path, space, change, message):
    signals, labels, records = chunk(0)
    facts = {"signals": signals, "labels": labels, "records": records, **change}
    with pytest.raises(CorpusError, match=message):
        write_ecgset(
            tmp_path / "s", **facts, label_space=space, sampling_rate_hz=100, origin="recorded"
        )
    assert list(tmp_path.iterdir()) == []


def test_all_chunks_have_one_length_and_each_record_its_own_name(tmp_path, space):
    with ECGSetWriter(tmp_path / "s", space, 100, "generated") as writer:
        writer.append(*chunk(0))
        with pytest.raises(CorpusError, match=r"\(2, 8, 50\) .*got \(2, 8, 60\)"):
            writer.append(*chunk(2, samples=60))
        with pytest.raises(CorpusError, match="record r1 comes twice"):
            writer.append(*chunk(1))


def test_names_that_share_a_hash_are_told_apart(tmp_path, space, monkeypatch):
    monkeypatch.setattr(known_names, "_hashes", lambda names: np.zeros(len(names), np.int64))
    with ECGSetWriter(tmp_path / "s", space, 100, "generated") as writer:
        writer.append(*chunk(0))
        writer.checkpoint()
        writer.append(*chunk(2))
        for start, doubled in ((1, "r1"), (3, "r3")):
            with pytest.raises(CorpusError, match=f"record {doubled} comes twice"):
                writer.append(*chunk(start))
        writer.checkpoint()
    with ECGSetWriter(tmp_path / "s", space, 100, "generated", resume=True) as writer:
        with pytest.raises(CorpusError, match="record r1 comes twice"):
            writer.append(*chunk(1))
        writer.append(*chunk(4))
        assert len(writer.finish()) == 6


def test_a_name_given_before_is_found_among_thousands_at_eight_bytes_each():
    known = known_names.KnownNames()
    for first in range(0, 10_000, 37):
        known.add([f"r{number}" for number in range(first, first + 37)])
    assert known.may_hold(["r0", "r36", "r5000", "r9999", "new", "r20000"]) == {
        "r0",
        "r36",
        "r5000",
        "r9999",
    }
    known.add([])
    assert sum(run.nbytes for run in known._runs) == 8 * 271 * 37
    assert len(known._runs) < 15


def test_unequal_numbers_are_refused(tmp_path, space):
    signals, labels, _ = chunk(0)
    with pytest.raises(CorpusError, match="got 2, 2 and 3"):
        write_ecgset(tmp_path / "s", signals, labels, chunk(0, n=3)[2], space, 100, "recorded")


@pytest.mark.parametrize(
    ("origin", "rate", "extra", "message"),
    [
        (
            "invented",
            100,
            {},
            "unknown origin 'invented'; expected one of recorded, simulated, gen",
        ),
        ("recorded", 0, {}, "positive sampling rate, got 0 Hz"),
        ("recorded", 100, {"labels": [], "unit": "mV"}, "must not contain labels, unit"),
        ("recorded", 100, {"path": Path("x")}, "must be plain JSON values"),
        ("recorded", 100, {"loss": float("nan")}, "must be plain JSON values"),
    ],
)
def test_a_set_that_cannot_be_is_refused(tmp_path, space, origin, rate, extra, message):
    with pytest.raises(CorpusError, match=message):
        write_ecgset(tmp_path / "s", *chunk(0), space, rate, origin, extra)
    assert list(tmp_path.iterdir()) == []


def test_a_set_without_records_is_refused(tmp_path, space):
    with pytest.raises(CorpusError, match="no records to write"):
        write_ecgset(
            tmp_path / "s", [], np.zeros((0, 3)), chunk(0)[2].iloc[:0], space, 100, "recorded"
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["signals.npy", "card.json", "a/b.txt", ".."])
def test_an_attachment_needs_a_free_plain_name(tmp_path, space, name):
    with (
        ECGSetWriter(tmp_path / "s", space, 100, "recorded") as writer,
        pytest.raises(CorpusError, match="cannot be attached"),
    ):
        writer.attach(name, "")


def test_the_same_content_has_the_same_fingerprint_wherever_it_lies(tmp_path, space):
    sets = [write_ecgset(tmp_path / n, *chunk(0), space, 100, "recorded") for n in ("a", "b")]
    other = write_ecgset(tmp_path / "c", *chunk(4), space, 100, "recorded")
    assert sets[0].fingerprint == sets[1].fingerprint != other.fingerprint
    assert json.loads((tmp_path / "a/card.json").read_text())["fingerprint"] == sets[0].fingerprint
