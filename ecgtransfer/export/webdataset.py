"""Export a set as tar shards for streaming data loaders (WebDataset).

A shard is a plain tar file; members with the same name up to the dot belong to one record. Readers
stream whole shards from disk or network and shuffle records in a buffer.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from itertools import islice, tee
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ecgtransfer.corpus import ECGSet
from ecgtransfer.corpus.sets.ecgset import MIXED
from ecgtransfer.defaults import SHARD_RECORDS
from ecgtransfer.errors import ConfigError, SignalError
from ecgtransfer.export.wfdb_set import file_names, synthetic_note
from ecgtransfer.signals import LEADS, expand_leads
from ecgtransfer.storage import atomic_file, disk_errors, require_space, write_json, write_resumable

INDEX = "index.json"

#: Records read at a time: 25 MB with twelve leads of ten seconds at 100 Hz.
READ_RECORDS = 256

#: Upper bound in bytes of a record in a shard without its samples: headers, labels, padding.
RECORD_BYTES = 4096

#: Largest amplitude in microvolts that int16 holds on both sides of zero.
LARGEST_UV = 32767


def export_webdataset(
    ecgset: ECGSet,
    folder: Path | str,
    shard_records: int = SHARD_RECORDS,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write every record of a set into tar shards, `shard-000000.tar` and so on.

    A record is `NAME.npy`, 12 leads in the order of LEADS, (12, T) int16 microvolts, and
    `NAME.json`: labels by name and as SNOMED CT codes, `label` as multi-hot row, leads, unit,
    sampling rate, the columns of the set's table, and the provenance of a synthetic record.
    `index.json` lists records, bytes and SHA-256 of the shards, and the fields that all records
    share; `export.json` has the card of the set. Equal sets give equal bytes.

    The folder is renamed to its final name at the end. After an interruption the same call writes
    only missing shards; a finished export is not changed. Memory holds `READ_RECORDS` records.

    Args:
        ecgset: any set.
        folder: destination of the export.
        shard_records: records per shard; the last one may have fewer.
        progress: called with (records finished, records in the set), first with the records that an
            earlier call finished.

    Returns:
        The folder.

    Raises:
        ConfigError: fewer than one record per shard.
        SignalError: a lead of a record exceeds 32.767 mV.
        RunError: there is too little disk space, the disk refuses to write, another process writes
            the folder, or it holds other files or unfinished work of another set.
    """
    folder = Path(folder)
    if shard_records < 1:
        raise ConfigError(f"expected at least 1 record in a shard, got {shard_records}")
    plan = {
        "layout": "webdataset",
        "set_fingerprint": ecgset.fingerprint,
        "shard_records": shard_records,
    }

    def write(files: Path) -> None:
        with disk_errors(folder):
            files.mkdir(exist_ok=True)
            _write_shards(ecgset, files, folder, shard_records, progress)
            write_json(files / INDEX, _index(ecgset, files, shard_records))

    write_resumable(folder, plan, ecgset.card, write)
    return folder


def _write_shards(
    ecgset: ECGSet,
    files: Path,
    folder: Path,
    shard_records: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Write missing shards in order; an existing shard is complete."""
    total, number = len(ecgset), 0
    while _shard(files, number).exists():
        number += 1
    done = min(number * shard_records, total)
    require_space(folder, (total - done) * (len(LEADS) * ecgset.n_samples * 2 + RECORD_BYTES))
    if progress is not None:
        progress(done, total)
    records = _records(ecgset, done)
    while done < total:
        with atomic_file(_shard(files, number)) as partial, partial.open("wb") as file:
            _write_tar(file, islice(records, shard_records), done)
        number += 1
        done = min(done + shard_records, total)
        if progress is not None:
            progress(done, total)


def _write_tar(
    file: BinaryIO, records: Iterator[tuple[NDArray[np.int16], dict[str, object]]], first: int
) -> None:
    """Write one shard; `first` is the index of its first record in the set."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        signals, stated = tee(records)
        names = file_names((str(facts["name"]) for _, facts in stated), first)
        for name, (signal_uv, facts) in zip(names, signals, strict=True):
            array = io.BytesIO()
            np.save(array, signal_uv, allow_pickle=False)
            _add(tar, f"{name}.npy", array.getvalue())
            _add(tar, f"{name}.json", json.dumps(facts, sort_keys=True, allow_nan=False).encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a member without owner and time, so that its bytes depend only on its content."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    tar.addfile(member, io.BytesIO(content))


def _records(ecgset: ECGSet, start: int) -> Iterator[tuple[NDArray[np.int16], dict[str, object]]]:
    """Signal (12, T) in microvolts and metadata of each record from index `start` on."""
    shared = _shared(ecgset)
    codes = _codes(ecgset)
    origins = ecgset.record_origins
    index = start
    for chunk in ecgset.chunks(READ_RECORDS, start):
        signals_uv = np.rint(expand_leads(chunk.signals_uv.astype(np.float64)))
        rows = chunk.records.to_dict("records")
        for signal_uv, label, row in zip(signals_uv, chunk.labels, rows, strict=True):
            if (largest := np.abs(signal_uv).max()) > LARGEST_UV:
                raise SignalError(
                    f"record {row['name']}: expected amplitudes up to {LARGEST_UV / 1000} mV, got "
                    f"{largest / 1000:g} mV in a limb lead; exclude the record"
                )
            labels = ecgset.label_space.decode(label)
            facts = {str(key): value for key, value in row.items() if not pd.isna(value)}
            if "fold" in facts:
                facts["fold"] = int(facts["fold"])  # a float if other records have no fold
            yield (
                signal_uv.astype("<i2"),
                facts
                | shared
                | _provenance(ecgset, origins[index])
                | {
                    "label": label.tolist(),
                    "labels": list(labels),
                    "snomed": [codes[name] for name in labels],
                },
            )
            index += 1


def _shared(ecgset: ECGSet) -> dict[str, object]:
    """Metadata that all records of a set share and that is repeated in each."""
    return {
        "leads": list(LEADS),
        "sampling_rate_hz": ecgset.sampling_rate_hz,
        "unit": "microvolt",
    }


def _provenance(ecgset: ECGSet, origin: str) -> dict[str, object]:
    """Origin of a record or set and, unless it is recorded, where it comes from."""
    if origin == "recorded":
        return {"origin": origin}
    note = "SYNTHETIC in part: see the origin of each record" if origin == MIXED else None
    return {
        "origin": origin,
        "provenance": note or synthetic_note(origin),
        "model_fingerprint": ecgset.card.get("model_fingerprint"),
    }


def _codes(ecgset: ECGSet) -> dict[str, str | None]:
    """SNOMED CT code of each label; None without one."""
    return {name: ecgset.label_space.code_of(name, "snomed") for name in ecgset.label_space.names}


def _index(ecgset: ECGSet, files: Path, shard_records: int) -> dict[str, object]:
    """Content of `index.json`: the shards, and what a reader needs to know of all records."""
    total = len(ecgset)
    shards = []
    for number, start in enumerate(range(0, total, shard_records)):
        path = _shard(files, number)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        shards.append(
            {
                "name": path.name,
                "records": min(shard_records, total - start),
                "bytes": path.stat().st_size,
                "sha256": digest,
            }
        )
    return (
        _shared(ecgset)
        | _provenance(ecgset, ecgset.origin)
        | {
            "label_names": list(ecgset.label_space.names),
            "snomed": _codes(ecgset),
            "records": total,
            "samples": ecgset.n_samples,
            "set_fingerprint": ecgset.fingerprint,
            "shards": shards,
            "urls": f"shard-{{000000..{len(shards) - 1:06d}}}.tar",
        }
    )


def _shard(files: Path, number: int) -> Path:
    return files / f"shard-{number:06d}.tar"
