import numpy as np
import pandas as pd
import pytest

from ecgtransfer.corpus import ECGSet, label_space
from ecgtransfer.corpus.sets.ecgset_writer import write_ecgset
from ecgtransfer.corpus.sets.set_beats import BEATS
from ecgtransfer.errors import CorpusError
from ecgtransfer.signals import find_beats

SPACE = label_space("icbeb9")


def write(folder, ecgset, origin="recorded", **columns):
    records = pd.DataFrame({"name": ecgset.records.name, **columns})
    signals = np.rint(ecgset.independent_mv() * 1000).astype(np.int16)
    return write_ecgset(folder, signals, ecgset.labels, records, ecgset.label_space, 100, origin)


def texts(beats):
    return [each.to_text() for each in beats]


def test_beats_are_found_once_and_kept_beside_the_set(tmp_path, ecgset):
    made = write(tmp_path / "set", ecgset)
    expected = [find_beats(made.recording(number)).to_text() for number in range(len(made))]
    assert texts(made.beats) == expected
    assert (tmp_path / "set" / BEATS).exists()
    kept = pd.read_parquet(tmp_path / "set" / BEATS)
    kept.loc[0, "beats"] = "1.000V"
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pandas(kept, preserve_index=False)
    table = table.replace_schema_metadata({"set": made.fingerprint})
    pyarrow.parquet.write_table(table, tmp_path / "set" / BEATS)
    assert texts(ECGSet.open(tmp_path / "set").beats)[0] == "1.000V"  # read, not sought again
    made.verify()


def test_beats_of_another_set_are_not_taken(tmp_path, ecgset):
    first, second = (write(tmp_path / name, ecgset, site=name) for name in ("one", "two"))
    expected = texts(first.beats)
    broken = (tmp_path / "one" / BEATS).read_bytes()
    (tmp_path / "two" / BEATS).write_bytes(broken)
    assert first.fingerprint != second.fingerprint
    assert texts(ECGSet.open(tmp_path / "two").beats) == expected


def test_beats_that_the_table_states_are_taken_as_they_are(tmp_path, ecgset):
    stated = ["0.500N 1.500V"] * len(ecgset)
    made = write(tmp_path / "set", ecgset, beats=stated)
    assert texts(made.beats) == stated
    assert not (tmp_path / "set" / BEATS).exists()


def test_beats_that_cannot_be_read_are_refused(tmp_path, ecgset):
    made = write(tmp_path / "set", ecgset, beats=["0.5X"] * len(ecgset))
    with pytest.raises(
        CorpusError, match="has beats of the record with index 0 that cannot be read"
    ):
        _ = made.beats


def test_a_folder_that_cannot_be_written_does_without(tmp_path, ecgset, monkeypatch):
    import pyarrow.parquet

    def refuse(*_):
        raise OSError("read-only")

    made = write(tmp_path / "set", ecgset)
    monkeypatch.setattr(pyarrow.parquet, "write_table", refuse)
    assert len(made.beats) == len(made)
    assert not list((tmp_path / "set").glob("*beats*"))


def test_found_beats_leave_the_fingerprint_alone_and_requested_ones_do_not(tmp_path, ecgset):
    beats = ["0.500N 1.500V"] * len(ecgset)
    plain = write(tmp_path / "plain", ecgset)
    found = write(tmp_path / "found", ecgset, beats=beats)
    assert plain.fingerprint == found.fingerprint
    made = [
        write(tmp_path / f"made{number}", ecgset, "generated", beats=each)
        for number, each in enumerate([beats, ["0.500N"] * len(ecgset)])
    ]
    assert made[0].fingerprint != made[1].fingerprint
    for each in (plain, found, *made):
        each.verify()
