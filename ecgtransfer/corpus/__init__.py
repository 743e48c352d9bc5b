"""Data sets on disk: published corpora, label vocabularies, ECG sets and splits by patient."""

from typing import TYPE_CHECKING

from ecgtransfer.lazy import lazy_names

if TYPE_CHECKING:
    from ecgtransfer.corpus.fetching.fetch import FetchProgress, FetchReport, NotFetched, fetch
    from ecgtransfer.corpus.fetching.verification import Problem, VerifyReport, verify_corpus
    from ecgtransfer.corpus.labels import (
        LabelSpace,
        Vocabulary,
        label_space,
        label_warnings,
        load_vocabulary,
        resolve,
        snomed_code,
    )
    from ecgtransfer.corpus.manifest import Manifest, load_manifest
    from ecgtransfer.corpus.protocols import Split, protocol_splits
    from ecgtransfer.corpus.readers.arrays import read_arrays
    from ecgtransfer.corpus.readers.icbeb import read_icbeb
    from ecgtransfer.corpus.readers.ptbxl import rate_to_read, read_ptbxl
    from ecgtransfer.corpus.readers.records import Corpus, CorpusRecord, OwnSource, read_signal
    from ecgtransfer.corpus.readers.wfdb_folder import read_wfdb_folder
    from ecgtransfer.corpus.selection import select_records
    from ecgtransfer.corpus.sets.ecg_record import ECGRecord
    from ecgtransfer.corpus.sets.ecgset import ECGSet, microvolts
    from ecgtransfer.corpus.sets.ecgset_writer import ECGSetWriter, write_ecgset
    from ecgtransfer.corpus.sets.joining import SetPart, join_sets
    from ecgtransfer.corpus.sets.preparation import prepare
    from ecgtransfer.corpus.sets.preparation_report import PreparationReport
    from ecgtransfer.corpus.splits import (
        common_folds,
        dealt_folds,
        patient_halves,
        patient_split,
        stratified_folds,
        take_patients,
    )
    from ecgtransfer.defaults import SplitProtocol
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "Corpus",
    "CorpusRecord",
    "ECGRecord",
    "ECGSet",
    "ECGSetWriter",
    "FetchProgress",
    "FetchReport",
    "LabelSpace",
    "Manifest",
    "NotFetched",
    "OwnSource",
    "PreparationReport",
    "Problem",
    "SetPart",
    "Split",
    "SplitProtocol",
    "VerifyReport",
    "Vocabulary",
    "common_folds",
    "dealt_folds",
    "fetch",
    "join_sets",
    "label_space",
    "label_warnings",
    "load_manifest",
    "load_vocabulary",
    "microvolts",
    "patient_halves",
    "patient_split",
    "prepare",
    "protocol_splits",
    "rate_to_read",
    "read_arrays",
    "read_icbeb",
    "read_ptbxl",
    "read_signal",
    "read_wfdb_folder",
    "resolve",
    "select_records",
    "snomed_code",
    "stratified_folds",
    "take_patients",
    "verify_corpus",
    "write_ecgset",
]
