"""Spoilt headers, signals and tables through `prepare`: never a traceback, a hang or half a set.

    python benchmarks/prepare_fuzz.py --headers 20000 --signals 2500 --tables 1000

Writes what it found to `benchmarks/prepare_fuzz.json`. Everything is drawn from one seed. The test
session runs a small part of it with another seed (`tests/corpus/test_prepare_fuzz.py`).
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.io import savemat

from ecgtransfer.corpus import (
    Corpus,
    ECGSet,
    label_space,
    prepare,
    read_arrays,
    read_icbeb,
    read_signal,
    read_wfdb_folder,
)
from ecgtransfer.errors import EcgTransferError
from ecgtransfer.signals import LEADS, expand_leads

#: Longest time that one record may take to be read or refused.
LIMIT_S = 5.0

#: Spoilt files that are prepared together, beside one good record.
BATCH = 100

SAMPLES = 1000

#: Words that a header or a table does not expect.
WORDS = (
    *("", "0", "-1", "1", "2", "12", "13", "999999999", "99999999999999999999", "1" * 5000),
    *("1e308", "1e-308", "nan", "inf", "-inf", "0x10", "1_000", "1,5", ".", "-", "+", "()", "(0)"),
    *("/mV", "1000/mV", "0/mV", "1000(99999999999)/mV", "200(0)/uV", "mV", "~", "..", "../r.dat"),
    *("/etc/hostname", "r0.dat", "r0.mat", "r0.hea", "r0/2", "r0/0", "a b", "#", "# Dx:", "\u0661"),
    *("16", "24", "32", "212", "8", "61", "80", "160", "310", "311", "508", "516", "999"),
    *("16x2", "16:3", "16+24", "16+999999", "I", "aVR", "V7", "\u00b5V", "\ufeff", "\u2028", "\0"),
    *("good", "good.dat", "05-Feb-2020", "11:39:16", "2020-13-45", "AF", ";", "|", '"', "'"),
)


def mutated_text(text: str, draw: random.Random) -> bytes:
    """A text with a few words, lines or letters spoilt."""
    for _ in range(draw.choice((1, 1, 1, 2, 3, 4))):
        lines = text.split("\n")
        at = draw.randrange(len(lines))
        words = lines[at].split(" ")
        match draw.randrange(9):
            case 0 | 1 | 2:
                words[draw.randrange(len(words))] = draw.choice(WORDS)
                lines[at] = " ".join(words)
            case 3:
                words.insert(draw.randrange(len(words) + 1), draw.choice(WORDS))
                lines[at] = draw.choice((" ", "\t", "  ", ",")).join(words)
            case 4:
                del lines[at]
            case 5:
                lines.insert(draw.randrange(len(lines) + 1), lines[at])
            case 6:
                lines = [*lines[:at], lines[at][: draw.randrange(len(lines[at]) + 1)]]
            case 7:
                place = draw.randrange(len(lines[at]) + 1)
                letter = chr(draw.choice((draw.randrange(128), draw.randrange(0x2FFF))))
                lines[at] = lines[at][:place] + letter + lines[at][place + draw.randrange(2) :]
            case 8:
                draw.shuffle(lines)
        text = draw.choice(("\n", "\n", "\n", "\n", "\r\n", "\r")).join(lines)
    return mutated_bytes(text.encode(), draw) if draw.random() < 0.1 else text.encode()


def mutated_bytes(data: bytes, draw: random.Random) -> bytes:
    """Some bytes cut off, changed, put in or in front; most changes near the start."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        near = draw.choice((200, len(changed) + 1))
        at = min(draw.randrange(near), len(changed))
        match draw.randrange(5):
            case 0:
                del changed[at:]
            case 1 | 2:
                changed[at : at + 4] = draw.randbytes(4)
            case 3:
                changed[at:at] = draw.randbytes(draw.randrange(1, 40))
            case 4:
                del changed[at : at + draw.randrange(1, 3000)]
    return bytes(changed)


def ecg_uv(seed: int) -> np.ndarray:
    """A random walk in microvolts, (12, 1000) int16."""
    steps = np.random.default_rng(seed).integers(-9, 10, (8, SAMPLES))
    return np.rint(expand_leads(2.0 * np.cumsum(steps, axis=1))).astype(np.int16)


def header(name: str, seed: int, file: str, storage: str = "16") -> str:
    """The header of a record, labelled AF."""
    lines = [f"{name} 12 100 {SAMPLES} 11:39:16 05/02/2020"]
    for lead, row in zip(LEADS, ecg_uv(seed), strict=True):
        total = int(row.sum(dtype=np.int64)) & 0xFFFF
        lines.append(f"{file} {storage} 1000(0)/mV 16 0 {row[0]} {total} 0 {lead}")
    return "\n".join([*lines, "# Age: 61", "# Sex: Female", "# Dx: AF", ""])


def write_record(folder: Path, name: str, seed: int, kind: str = "dat") -> None:
    """A good WFDB record, as `.dat` or as the `.mat` of the Challenges."""
    signal = ecg_uv(seed)
    if kind == "mat":
        savemat(folder / f"{name}.mat", {"val": signal}, format="4")
    else:
        (folder / f"{name}.dat").write_bytes(np.ascontiguousarray(signal.T, "<i2").tobytes())
    storage = "16+24" if kind == "mat" else "16"
    (folder / f"{name}.hea").write_text(header(name, seed, f"{name}.{kind}", storage))


class Fuzz:
    """Counts what came of every case, and keeps the failures."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.draw = folder, random.Random(seed)
        self.cases: Counter[str] = Counter()
        self.failures: list[str] = []
        self.slowest_s = 0.0
        self.sets = self.refused_sets = 0

    def batch(self, kind: str, write: Callable[[Path, int], None], size: int, read: Reader) -> None:
        """Spoilt files beside a good record: each is read alone, then all are prepared."""
        place, made = self.folder / "in", self.folder / "set"
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(made, ignore_errors=True)
        place.mkdir()
        for k in range(size):
            write(place, k)
        try:
            corpus = read(place)
            for record in corpus.records:
                began = time.perf_counter()
                try:
                    read_signal(record, 300.0)
                    outcome = "read, mended" if record.repairs else "read"
                except EcgTransferError:
                    outcome = "refused"
                took = time.perf_counter() - began
                self.slowest_s = max(self.slowest_s, took)
                self.cases[f"{kind}: {outcome}"] += 1
                if took > LIMIT_S:
                    self.failures.append(f"{kind} {record.name}: {took:.1f} s")
            self._prepare(corpus, made)
        except EcgTransferError as error:
            self.refused_sets += 1
            self.cases[f"{kind}: refused as a corpus"] += 1
            if "\n" in str(error):
                self.failures.append(f"{kind}: more than one line: {error}")
        except Exception:
            self.failures.append(f"{kind}: {traceback.format_exc(limit=-4)}")
        left = {path.name for path in self.folder.iterdir()} - {"in", "set"}
        if left:
            self.failures.append(f"{kind}: left behind {sorted(left)}")
            for name in left:
                shutil.rmtree(self.folder / name)

    def _prepare(self, corpus: Corpus, made: Path) -> None:
        report = prepare(corpus, made, label_space(), keep_unlabelled=True)
        ecgset = ECGSet.open(made)
        ecgset.verify()
        self.sets += 1
        if report.kept + len(report.left_out) != len(corpus) or len(ecgset) != report.kept:
            self.failures.append("a set does not account for every record")


Reader = Callable[[Path], Corpus]


def fuzz_headers(fuzz: Fuzz, count: int) -> None:
    """Spoilt headers over sound samples."""

    def write(place: Path, k: int) -> None:
        kind = "mat" if k % 3 == 2 else "dat"
        write_record(place, f"r{k}", k, kind)
        path = place / f"r{k}.hea"
        if k:
            path.write_bytes(mutated_text(path.read_text(), fuzz.draw))
        else:  # a sound record of two segments keeps the batch from being empty
            path.write_text(
                f"r0/2 12 100 {2 * SAMPLES}\ngood {SAMPLES}\ngood {SAMPLES}\n# Dx: AF\n"
            )
            write_record(place, "good", 0)

    for start in range(0, count, BATCH):
        size = min(BATCH, count - start)
        fuzz.batch("header", write, size + 1, read_wfdb_folder)


def fuzz_signals(fuzz: Fuzz, count: int) -> None:
    """Spoilt signal files of every kind under sound headers."""

    def spoil(path: Path) -> None:
        path.write_bytes(mutated_bytes(path.read_bytes(), fuzz.draw))

    def wfdb(place: Path, k: int) -> None:
        kind = "mat" if k % 2 else "dat"
        write_record(place, f"r{k}", k, kind)
        if k:
            spoil(place / f"r{k}.{kind}")

    def arrays(place: Path, k: int) -> None:
        path = place / f"r{k}.{('npy', 'npz', 'csv')[k % 3]}"
        signal = ecg_uv(k)
        if path.suffix == ".npy":
            np.save(path, signal)
        elif path.suffix == ".npz":
            np.savez(path, many=signal[None], one=signal)
        else:
            np.savetxt(path, signal.T, fmt="%d", delimiter=",", header=",".join(LEADS), comments="")
        if k:
            spoil(path)

    def structs(place: Path, k: int) -> None:
        path = place / f"A{k:04d}.mat"
        content = {"ECG": {"sex": "Male", "age": 50, "data": ecg_uv(k)[:, :300] / 1000}}
        savemat(path, content, do_compression=bool(k % 2))
        lines = [f"A{number:04d},1,," for number in range(BATCH + 1)]
        columns = "Recording,First_label,Second_label,Third_label"
        (place / "REFERENCE.csv").write_text("\n".join([columns, *lines]))
        if k:
            spoil(path)

    for start in range(0, count, BATCH):
        size = min(BATCH, count - start) + 1
        which = start // BATCH % 3
        if which == 0:
            fuzz.batch("signal file", wfdb, size, read_wfdb_folder)
        elif which == 1:
            fuzz.batch("array file", arrays, size, lambda place: read_arrays(place, 100, "uV"))
        else:
            fuzz.batch("struct file", structs, size, read_icbeb)


def fuzz_tables(fuzz: Fuzz, count: int) -> None:
    """Spoilt tables beside two sound records."""
    rows = ["record,labels,patient,age,sex,fold,device,site", "r0,AF;RBBB,p1,61,female,1,X,north"]
    text = "\n".join([*rows, "r1,PVC|PAC,p2,40,male,2,Y,south", ""])

    def write(place: Path, k: int) -> None:
        write_record(place, f"r{k}", k)
        (place / "table.csv").write_bytes(mutated_text(text, fuzz.draw))

    for _ in range(count):
        fuzz.batch("table", write, 2, lambda place: read_wfdb_folder(place, place / "table.csv"))


def run(headers: int, signals: int, tables: int, seed: int, folder: Path) -> dict[str, object]:
    """All three, in a folder of their own; what was found as JSON values."""
    fuzz = Fuzz(folder, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fuzz_headers(fuzz, headers)
        fuzz_signals(fuzz, signals)
        fuzz_tables(fuzz, tables)
    return {
        "cases": dict(sorted(fuzz.cases.items())),
        "spoilt": {"headers": headers, "signal files": signals, "tables": tables},
        "sets_written_and_verified": fuzz.sets,
        "corpora_refused_in_a_sentence": fuzz.refused_sets,
        "slowest_record_s": round(fuzz.slowest_s, 3),
        "limit_s": LIMIT_S,
        "seed": seed,
        "failures": fuzz.failures,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--headers", type=int, default=20_000)
    parser.add_argument("--signals", type=int, default=2_500)
    parser.add_argument("--tables", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(options.headers, options.signals, options.tables, options.seed, Path(folder))
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    raise SystemExit(bool(found["failures"]))


if __name__ == "__main__":
    main()
