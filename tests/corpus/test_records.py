import pickle  # noqa: TID251  (what a process pool does with records)
from pathlib import Path

import numpy as np
import pytest

from ecgtransfer.corpus import Corpus, CorpusRecord, load_manifest, read_ptbxl, read_signal
from ecgtransfer.errors import CorpusError, SignalError

from .layouts import twelve_leads_uv


def record(**changes):
    facts = {
        "name": "A1",
        "path": Path("A1"),
        "reader": "wfdb",
        "patient": "A1",
        "codes": ("AFIB", "SR", "WHAT"),
        "vocabulary": "scp",
    }
    return CorpusRecord(**{**facts, **changes})


def test_labels_of_a_corpus_keep_what_the_space_has(space):
    corpus = Corpus(load_manifest("ptbxl"), (record(), record(name="A2", codes=("PVC", "NORM"))))
    assert corpus.labels(space).tolist() == [[0, 1, 0], [1, 0, 1]]
    assert len(corpus) == 2


def test_a_record_travels_to_another_process():
    assert pickle.loads(pickle.dumps(record())) == record()


def test_a_signal_is_read_in_millivolts(ptbxl_folder):
    recording = read_signal(read_ptbxl(ptbxl_folder).records[0])
    np.testing.assert_allclose(recording.signal_mv, twelve_leads_uv(1, 1000) / 1000, atol=1e-6)
    assert recording.sampling_rate_hz == 100


def test_a_signal_that_is_missing_is_refused():
    with pytest.raises(SignalError, match="A1"):
        read_signal(record())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "needs a name and a patient"),
        ({"patient": ""}, "needs a name and a patient"),
        ({"reader": "edf"}, "unknown reader 'edf'; expected one of wfdb, icbeb_struct"),
        ({"sex": "m"}, "expected sex male, female or None, got 'm'"),
    ],
)
def test_a_record_that_cannot_be_is_refused(change, message):
    with pytest.raises(CorpusError, match=message):
        record(**change)


def test_a_corpus_without_records_is_refused():
    with pytest.raises(CorpusError, match="ptbxl has no records"):
        Corpus(load_manifest("ptbxl"), ())


def test_a_corpus_with_a_name_twice_is_refused():
    with pytest.raises(CorpusError, match="two records named A1"):
        Corpus(load_manifest("ptbxl"), (record(), record()))
