"""Build a corpus from recordings on disk and their table or header comments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ecgtransfer.corpus.readers.array_files import ArrayPart
from ecgtransfer.corpus.readers.record_table import RecordTable, examples, read_record_table
from ecgtransfer.corpus.readers.records import Corpus, CorpusRecord, OwnSource
from ecgtransfer.corpus.readers.statements import (
    found_vocabularies,
    origin_in,
    parse_age,
    parse_sex,
    split_codes,
    stated_in,
)

#: Column of the table, or header comment, that names the patient.
PATIENT = "patient"


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """A recording on disk.

    Attributes:
        name: its name.
        aliases: other names by which a table may refer to it.
        path: argument of its reader.
        reader: key of `records.READERS`.
        comments: header comments.
        repairs: flaws of its header that were repaired.
        problem: why it cannot be read, if known.
        part: which recording of an array file it is.
    """

    name: str
    aliases: tuple[str, ...]
    path: Path
    reader: str
    comments: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()
    problem: str | None = None
    part: ArrayPart | None = field(default=None)


def described_corpus(
    name: str,
    found: Sequence[FoundRecord],
    table_path: Path | None,
    vocabulary: str | None,
) -> Corpus:
    """Build the corpus of the recordings that were found, in their order.

    Metadata come from the table and otherwise from header comments. Labels come from the table if
    it has that column, otherwise from the comments. A record without a known patient is a patient
    of its own.

    Args:
        name: name of the corpus.
        found: the recordings.
        table_path: csv that maps records to labels, patient, age, ...; None for none.
        vocabulary: code system of the labels; None to recognise it.

    Raises:
        CorpusError: the table is invalid, the vocabulary unknown, there are no records, or two have
            the same name.
    """
    table = None if table_path is None else read_record_table(table_path)
    used: set[str] = set()
    without: list[str] = []
    stated = [_stated(record, table, used, without) for record in found]
    codes = [_codes(fields, table) for fields in stated]
    vocabularies = found_vocabularies(codes, vocabulary)
    records = tuple(
        CorpusRecord(
            name=record.name,
            path=record.path,
            reader=record.reader,
            patient=fields.get(PATIENT) or record.name,
            codes=own,
            vocabulary=spoken,
            fold=int(fields["fold"]) if fields.get("fold") else None,
            age=parse_age(fields.get("age")),
            sex=parse_sex(fields.get("sex")),
            device=fields.get("device") or None,
            site=fields.get("site") or None,
            patient_stated=bool(fields.get(PATIENT)),
            repairs=record.repairs,
            problem=record.problem,
            part=record.part,
            origin=origin_in(record.comments),
        )
        for record, fields, own, spoken in zip(found, stated, codes, vocabularies, strict=True)
    )
    notes = [] if table is None else list(table.notes(used, without))
    unnamed = [record.name for record in records if not record.patient_stated]
    if unnamed:
        notes.append(f"records without a stated patient, each counted as one: {examples(unnamed)}")
    return Corpus(OwnSource(name), records, tuple(notes))


def _stated(
    record: FoundRecord, table: RecordTable | None, used: set[str], without: list[str]
) -> Mapping[str, str]:
    """Metadata of a record from comments and table; the table has precedence."""
    stated = stated_in(record.comments)
    if table is None:
        return stated
    row = table.row_of(record.aliases)
    if row is None:
        without.append(record.name)
        return stated if not table.has_labels else {**stated, "dx": ""}
    used.add(row.record)
    own = {
        "patient": row.patient,
        "age": row.age,
        "sex": row.sex,
        "fold": "" if row.fold is None else str(row.fold),
        "device": row.device,
        "site": row.site,
    }
    labels = {"dx": ";".join(row.codes)} if table.has_labels else {}
    return {**stated, **{key: value for key, value in own.items() if value}, **labels}


def _codes(fields: Mapping[str, str], table: RecordTable | None) -> tuple[str, ...]:
    text = fields.get("dx", "")
    return split_codes(text, ";|") if table is not None and table.has_labels else split_codes(text)
