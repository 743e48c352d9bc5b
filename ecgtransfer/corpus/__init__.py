"""Many recordings on disk: corpora as published, label vocabularies, ECGSets and splits."""

from ecgtransfer.corpus.ecgset import ECGSet, microvolts
from ecgtransfer.corpus.ecgset_writer import ECGSetWriter, write_ecgset
from ecgtransfer.corpus.icbeb import read_icbeb
from ecgtransfer.corpus.labels import (
    LabelSpace,
    Vocabulary,
    label_space,
    load_vocabulary,
    resolve,
    snomed_code,
)
from ecgtransfer.corpus.manifest import Manifest, load_manifest
from ecgtransfer.corpus.preparation import PreparationReport, prepare
from ecgtransfer.corpus.ptbxl import read_ptbxl
from ecgtransfer.corpus.records import Corpus, CorpusRecord, read_signal
from ecgtransfer.corpus.splits import patient_split, select_records, take_patients

__all__ = [
    "Corpus",
    "CorpusRecord",
    "ECGSet",
    "ECGSetWriter",
    "LabelSpace",
    "Manifest",
    "PreparationReport",
    "Vocabulary",
    "label_space",
    "load_manifest",
    "load_vocabulary",
    "microvolts",
    "patient_split",
    "prepare",
    "read_icbeb",
    "read_ptbxl",
    "read_signal",
    "resolve",
    "select_records",
    "snomed_code",
    "take_patients",
    "write_ecgset",
]
