import json
import shutil

import numpy as np
import pandas as pd
import pytest

from ecgtransfer.corpus import ECGSet, LabelSpace, SetPart, join_sets, write_ecgset
from ecgtransfer.errors import CorpusError

SPACE = LabelSpace(("NORM", "AFIB"))


def make(folder, kind, names, space=SPACE, samples=50, drawn=0, **columns):
    rng = np.random.default_rng(drawn)
    return write_ecgset(
        folder,
        rng.integers(-2000, 2000, (len(names), 8, samples), dtype=np.int16),
        np.eye(len(space), dtype=np.float32)[np.arange(len(names)) % len(space)],
        pd.DataFrame({"name": list(names), **columns}),
        space,
        100,
        kind,
    )


@pytest.fixture
def recorded(tmp_path):
    return make(tmp_path / "recorded", "recorded", "abc", patient=["p", "q", "p"])


@pytest.fixture
def generated(tmp_path):
    other = LabelSpace(("AFIB", "NORM"))
    seeds = [2**62 + 1, 7, 9]
    return make(
        tmp_path / "generated", "generated", "xyz", other, drawn=1, patient=None, number=seeds
    )


@pytest.fixture
def mixed(tmp_path, recorded, generated):
    parts = [
        SetPart(recorded, np.array([2, 0]), {"weight": 1.0}),
        SetPart(generated, np.array([1, 2]), {"weight": 0.5, "patient": ["y", "z"]}),
    ]
    return join_sets(tmp_path / "mixed", parts, SPACE)


def test_records_are_joined_bit_by_bit_with_labels_by_name(mixed, recorded, generated):
    np.testing.assert_array_equal(
        mixed.independent_mv(),
        np.concatenate([recorded.independent_mv([2, 0]), generated.independent_mv([1, 2])]),
    )
    assert mixed.records.name.tolist() == ["c", "a", "y", "z"]
    assert mixed.records.weight.tolist() == [1.0, 1.0, 0.5, 0.5]
    # Record y is NORM, the second label of its own space; x and z are AFIB.
    assert [mixed[k].labels for k in range(4)] == [("NORM",), ("NORM",), ("NORM",), ("AFIB",)]


def test_the_origin_of_each_record_is_stated(mixed):
    assert mixed.origin == "mixed"
    assert mixed.record_origins == ("recorded", "recorded", "generated", "generated")
    assert mixed.records.origin.tolist() == list(mixed.record_origins)
    assert [record.is_synthetic for record in mixed] == [False, False, True, True]
    mixed.verify()


def test_records_of_one_origin_keep_it(tmp_path, recorded, generated):
    alone = join_sets(tmp_path / "alone", [SetPart(recorded, np.array([1]))], SPACE)
    assert alone.origin == "recorded"
    assert "origin" not in alone.records
    again = join_sets(
        tmp_path / "again",
        [SetPart(recorded, np.array([], int)), SetPart(generated, np.array([0]))],
        SPACE,
    )
    assert again.origin == "generated"


def test_a_part_of_a_mixed_set_is_what_its_records_are(tmp_path, mixed):
    first = join_sets(tmp_path / "first", [SetPart(mixed, np.array([0, 1]))], SPACE)
    assert first.origin == "recorded"
    first.verify()
    last = join_sets(tmp_path / "last", [SetPart(mixed, np.array([3]))], SPACE)
    assert last.origin == "generated"


@pytest.mark.parametrize("claimed", ["recorded", "simulated", "generated"])
def test_a_mixed_set_never_verifies_as_anything_else(mixed, claimed):
    card = json.loads((mixed.folder / "card.json").read_text())
    (mixed.folder / "card.json").write_text(json.dumps(card | {"origin": claimed}))
    with pytest.raises(CorpusError, match=f"whose card says {claimed}, found"):
        ECGSet.open(mixed.folder).verify()
    # Without the column that gives it away, the fingerprint does.
    table = pd.read_parquet(mixed.folder / "records.parquet").drop(columns="origin")
    table.to_parquet(mixed.folder / "records.parquet")
    with pytest.raises(CorpusError, match="has changed since it was written"):
        ECGSet.open(mixed.folder).verify()


def test_a_mixed_card_without_the_column_is_refused(mixed):
    table = pd.read_parquet(mixed.folder / "records.parquet").drop(columns="origin")
    table.to_parquet(mixed.folder / "records.parquet")
    with pytest.raises(CorpusError, match="expected a column origin in the table of the mixed set"):
        _ = ECGSet.open(mixed.folder).record_origins


def test_a_mixed_set_is_written_with_the_column_alone(tmp_path):
    with pytest.raises(CorpusError, match="expected a column origin"):
        make(tmp_path / "set", "mixed", "ab")
    with pytest.raises(CorpusError, match=r"or generated in .*, found unknown"):
        make(tmp_path / "set", "mixed", "ab", origin=["recorded", "unknown"])
    with pytest.raises(CorpusError, match="whose card says recorded, found generated"):
        make(tmp_path / "set", "recorded", "ab", origin=["recorded", "generated"])


def test_seeds_keep_all_digits_beside_records_without_one(tmp_path, recorded):
    drawn = make(tmp_path / "drawn", "generated", "uv", seed=[2**62 + 1, 3])
    parts = [SetPart(recorded, np.array([0])), SetPart(drawn, np.array([0, 1]))]
    joined = join_sets(tmp_path / "joined", parts, SPACE)
    assert joined.records.seed.tolist() == [None, str(2**62 + 1), "3"]


def test_beats_of_all_records_are_stated_where_some_are(tmp_path, ecgset):
    few = np.array([0, 1])
    plain = ecgset
    with_beats = join_sets(
        tmp_path / "with",
        [SetPart(plain, few, {"beats": [plain.beats[k].to_text() for k in few]})],
        plain.label_space,
    )
    both = join_sets(
        tmp_path / "both",
        [SetPart(with_beats, few), SetPart(plain, np.array([2]))],
        plain.label_space,
    )
    assert both.records.beats.notna().all()
    assert both.beats[2].to_text() == plain.beats[2].to_text()


def test_what_cannot_be_joined_is_refused(tmp_path, recorded):
    to = tmp_path / "to"
    with pytest.raises(CorpusError, match="expected one or more sets to join"):
        join_sets(to, [], SPACE)
    shorter = make(tmp_path / "shorter", "recorded", "d", samples=40)
    with pytest.raises(CorpusError, match="expected sets of one sampling rate and length"):
        join_sets(to, [SetPart(recorded, np.array([0])), SetPart(shorter, np.array([0]))], SPACE)
    with pytest.raises(CorpusError, match=r"expected labels of the joined set .* also has AFIB"):
        join_sets(to, [SetPart(recorded, np.array([1]))], LabelSpace(("NORM",)))
    with pytest.raises(CorpusError, match="record a comes twice"):
        join_sets(to, [SetPart(recorded, np.array([0])), SetPart(recorded, np.array([0]))], SPACE)
    assert not to.exists()
    shutil.copytree(recorded.folder, to)
    with pytest.raises(CorpusError, match="exists already"):
        join_sets(to, [SetPart(recorded, np.array([0]))], SPACE)


def test_progress_counts_records(tmp_path, recorded):
    seen = []
    join_sets(
        tmp_path / "to",
        [SetPart(recorded, np.array([0, 1])), SetPart(recorded, np.array([2]))],
        SPACE,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(2, 3), (3, 3)]


def test_a_set_gives_its_records_by_index(recorded):
    record = recorded[1]
    assert (record.name, record.labels, record.origin) == ("b", ("AFIB",), "recorded")
    np.testing.assert_array_equal(record.signal_mv, recorded.signals_mv(1)[0])
    assert recorded[-1].name == "c"
    assert [each.name for each in recorded] == ["a", "b", "c"]
    assert recorded.leads == record.leads
    assert recorded.names == ("NORM", "AFIB")
    with pytest.raises(CorpusError, match="has 3 records, got index 3"):
        _ = recorded[3]
