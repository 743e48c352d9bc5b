"""Metadata of a set in Croissant, the JSON-LD format of MLCommons.

Croissant 1.0 (https://docs.mlcommons.org/croissant/docs/croissant-spec.html) describes the files
of a data set, the columns of its table, its licence and its citation. Licence and citation are
those of the source of the recordings.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecgtransfer.corpus.manifest import load_manifest
from ecgtransfer.corpus.sets.ecgset import CARD, LABELS, RECORDS, SIGNALS, ECGSet
from ecgtransfer.errors import CorpusError, ManifestError
from ecgtransfer.storage import atomic_file, make_folder

if TYPE_CHECKING:
    import pyarrow

#: The JSON-LD context of Croissant 1.0.
_CONTEXT: dict[str, object] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{
        word: f"cr:{word}"
        for word in (
            *("citeAs", "column", "equivalentProperty", "extract", "field", "fileObject"),
            *("fileProperty", "fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key"),
            *("md5", "parentField", "path", "recordSet", "references", "regex", "repeated"),
            *("replace", "samplingRate", "separator", "source", "subField", "transform"),
        )
    },
}

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"

#: URLs of the licences of public ECG data sets; Croissant requires a URL.
LICENCES = {
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC BY-SA 4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "CC BY-NC 4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
    "CC0 1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "ODC-By 1.0": "https://opendatacommons.org/licenses/by/1-0/",
}

#: The files of a set: media type and description.
_FILES = {
    SIGNALS: ("application/x-npy", "int16 microvolts, records x 8 leads x samples"),
    LABELS: ("application/x-npy", "float32, records x labels, in the order of the record set"),
    RECORDS: ("application/x-parquet", "one row per record"),
    CARD: ("application/json", "origin, leads, unit, sampling rate, label names, fingerprint"),
}

#: Descriptions of the columns that every table has.
_COLUMNS = {
    "name": "name of the record",
    "patient": "patient identifier; splits never separate the records of a patient",
    "fold": "fold of the source",
    "age": "age in years",
    "sex": "male or female",
    "device": "recorder",
    "site": "site of the recording",
    "codes": "statements as the source spells them, separated by semicolons",
    "origin": "recorded, simulated or generated",
    "weight": "weight of the record in the training of a classifier",
}

_HASH_BYTES = 1 << 22


def croissant(ecgset: ECGSet, folder: str | Path | None = None) -> dict[str, Any]:
    """Build the Croissant metadata of a set, as JSON values.

    Args:
        ecgset: the set; all of its files are read for their SHA-256.
        folder: base of the files' relative URLs; the folder of the set by default.

    Raises:
        CorpusError: a file of the set cannot be read.
    """
    base = ecgset.folder if folder is None else Path(folder)
    source = _source(ecgset)
    stated = {
        "license": LICENCES.get(source["licence"], source["licence"]),
        "url": source["url"],
        "citeAs": source["citation"],
        "version": source["version"],
    }
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": re.sub(r"[^A-Za-z0-9_-]", "_", ecgset.folder.resolve().name),
        "description": _description(ecgset, source["name"]),
        **{word: value for word, value in stated.items() if value},
        "isLiveDataset": False,
        "distribution": [_file(ecgset.folder / name, base) for name in _FILES],
        "recordSet": [_table(ecgset), _labels(ecgset)],
    }


def write_croissant(ecgset: ECGSet, path: str | Path) -> None:
    """Write the Croissant metadata of a set to a JSON file, atomically.

    The URLs of the set's files are relative to the folder of that file.

    Raises:
        CorpusError: a file of the set cannot be read.
        StorageError: the metadata cannot be written.
    """
    path = Path(path)
    metadata = croissant(ecgset, path.parent)
    make_folder(path.parent)
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")


def _source(ecgset: ECGSet) -> dict[str, str]:
    """Name, version, licence, URL and citation of the source of the recordings."""
    stated = ecgset.card.get("corpus")
    known = stated if isinstance(stated, Mapping) else {}
    source = {key: str(known.get(key) or "") for key in ("name", "version", "licence", "url")}
    citations = known.get("citations")
    if not citations and source["name"] and source["url"]:
        try:
            manifest = load_manifest(source["name"])
            citations = manifest.citations if manifest.url == source["url"] else ()
        except ManifestError:
            citations = ()
    return source | {"citation": " ".join(str(citation) for citation in citations or ())}


def _description(ecgset: ECGSet, source: str) -> str:
    made = {
        "recorded": f"12-lead ECGs{f' of {source}' if source else ''}",
        "simulated": "Simulated 12-lead ECGs, of no patient, not for diagnosis",
        "generated": "Synthetic 12-lead ECGs drawn from a model, of no patient, not for diagnosis",
        "mixed": (
            f"12-lead ECGs{f' of {source}' if source else ''} and synthetic ones drawn from a "
            "model, told apart by the column origin, not for diagnosis"
        ),
    }.get(ecgset.origin, "12-lead ECGs")
    return (
        f"{made}: {len(ecgset)} records of {ecgset.n_samples} samples at "
        f"{ecgset.sampling_rate_hz:g} Hz with {len(ecgset.label_space)} labels; leads I, II, V1-V6 "
        "in microvolts, from which the other four follow. Prepared as an ECG set, fingerprint "
        f"{ecgset.fingerprint}."
    )


def _table(ecgset: ECGSet) -> dict[str, object]:
    """Record set for the rows of the parquet table."""
    import pyarrow.parquet

    try:
        schema = pyarrow.parquet.read_schema(ecgset.folder / RECORDS)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise CorpusError(
            f"{ecgset.folder / RECORDS} cannot be read ({error}); write the set again"
        ) from None
    return {
        "@type": "cr:RecordSet",
        "@id": "records",
        "name": "records",
        "description": "one row per record, in the order of signals and labels",
        "key": {"@id": "records/name"},
        "field": list(_fields(schema)),
    }


def _fields(schema: pyarrow.Schema) -> Iterator[dict[str, object]]:
    import pyarrow.types

    for column in schema:
        kind = "sc:Text"
        if pyarrow.types.is_boolean(column.type):
            kind = "sc:Boolean"
        elif pyarrow.types.is_integer(column.type):
            kind = "sc:Integer"
        elif pyarrow.types.is_floating(column.type):
            kind = "sc:Float"
        yield {
            "@type": "cr:Field",
            "@id": f"records/{column.name}",
            "name": column.name,
            "description": _COLUMNS.get(column.name, column.name),
            "dataType": kind,
            "source": {"fileObject": {"@id": RECORDS}, "extract": {"column": column.name}},
        }


def _labels(ecgset: ECGSet) -> dict[str, object]:
    """Record set for the columns of the labels, with their SNOMED CT codes if known."""
    space = ecgset.label_space
    return {
        "@type": "cr:RecordSet",
        "@id": "labels",
        "name": "labels",
        "description": f"the columns of {LABELS}",
        "key": {"@id": "labels/label"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"labels/{name}",
                "name": name,
                "description": description,
                "dataType": kind,
            }
            for name, description, kind in (
                ("label", "name of the label", "sc:Text"),
                ("column", "its column, from 0", "sc:Integer"),
                ("snomed", "its SNOMED CT code, empty where there is none", "sc:Text"),
            )
        ],
        "data": [
            {
                "labels/label": name,
                "labels/column": column,
                "labels/snomed": space.code_of(name, "snomed") or "",
            }
            for column, name in enumerate(space.names)
        ],
    }


def _address(file: Path, base: Path) -> str:
    """Path of a file relative to a folder, or an absolute URI if there is none."""
    try:
        return Path(os.path.relpath(file.resolve(), base.resolve())).as_posix()
    except ValueError:  # another drive on Windows
        return file.resolve().as_uri()


def _file(path: Path, base: Path) -> dict[str, object]:
    """Description of a file of a set, with its size and SHA-256."""
    kind, description = _FILES[path.name]
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while block := file.read(_HASH_BYTES):
                digest.update(block)
                size += len(block)
    except OSError as error:
        raise CorpusError(
            f"{path} cannot be read ({error.strerror or error}); write the set again"
        ) from error
    return {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "description": description,
        "contentUrl": _address(path, base),
        "contentSize": f"{size} B",
        "encodingFormat": kind,
        "sha256": digest.hexdigest(),
    }
