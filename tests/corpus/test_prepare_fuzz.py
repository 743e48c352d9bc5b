"""A small run of benchmarks/prepare_fuzz.py, with another seed than its own."""

from benchmarks.prepare_fuzz import run


def test_spoilt_files_are_refused_in_a_sentence_and_never_half_a_set(tmp_path):
    found = run(headers=400, signals=150, tables=40, seed=11, folder=tmp_path)
    assert found["failures"] == []
    assert found["slowest_record_s"] < found["limit_s"]
    counted = found["cases"]
    assert counted["header: read"] + counted["header: read, mended"] > 40
    assert counted["header: refused"] > 100
    assert found["sets_written_and_verified"] > 5
