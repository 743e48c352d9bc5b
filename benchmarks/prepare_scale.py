"""Time and memory of `data prepare` by the number of records, and whether a set is always the same.

    python benchmarks/prepare_scale.py [--records 100000] [--rate 500] [--folder DIR]

Simulates that many records, writes them as WFDB (120 kB each at 500 Hz; 12 GB in all) and prepares
the first tenth, the first third and all of them at 100 Hz with the command itself, with one worker
and with as many as there are cores. A last preparation is ended with SIGKILL at random moments and
asked for again until it is done. Memory is the resident memory of all processes of the command
together, looked at every 0.1 s. Writes `benchmarks/prepare_scale.json`.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from ecgtransfer.signals import LEADS
from ecgtransfer.simulation import SOURCE_HOSPITAL, draw_label_names, simulate

HERE = Path(__file__).resolve().parent

#: Records in a folder, and records that one task simulates.
FOLDER_RECORDS, TASK_RECORDS = 1000, 250

#: Seconds between two looks at the memory.
LOOK_EVERY_S = 0.1

#: Kills of the preparation that is ended and begun again.
KILLS = 5

COMMAND = [sys.executable, "-m", "ecgtransfer_cli.main", "data", "prepare", "wfdb"]


def write_records(folder: Path, first: int, rate: int) -> int:
    """`TASK_RECORDS` simulated records from number `first` on; how many were written."""
    label_names = draw_label_names(SOURCE_HOSPITAL, TASK_RECORDS, first)
    recordings, _ = simulate(label_names, SOURCE_HOSPITAL, first, rate)
    for number, (recording, names) in enumerate(zip(recordings, label_names, strict=True), first):
        place = folder / f"{number // FOLDER_RECORDS:03d}"
        place.mkdir(exist_ok=True)
        name = f"s{number:06d}"
        signal_uv = np.rint(recording.signal_mv * 1000).astype("<i2")
        (place / f"{name}.dat").write_bytes(np.ascontiguousarray(signal_uv.T).tobytes())
        lines = [f"{name} {len(LEADS)} {rate} {signal_uv.shape[1]}"]
        for lead, row in zip(LEADS, signal_uv, strict=True):
            total = int(row.sum(dtype=np.int64)) & 0xFFFF
            lines.append(f"{name}.dat 16 1000(0)/mV 16 0 {row[0]} {total} 0 {lead}")
        codes = ",".join(names)
        (place / f"{name}.hea").write_text("\n".join([*lines, f"# Dx: {codes}", ""]))
    return len(recordings)


def resident_bytes(process: psutil.Process) -> int:
    """Resident memory of a process and all below it."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def prepared(source: Path, made: Path, workers: int) -> dict[str, float]:
    """Seconds and peak memory of one preparation."""
    shutil.rmtree(made, ignore_errors=True)
    words = ["--to", str(made), "--vocabulary", "scp", "--workers", str(workers), "--json"]
    began = time.monotonic()
    command = subprocess.Popen([*COMMAND, str(source), *words], stdout=subprocess.DEVNULL)
    watched, peak = psutil.Process(command.pid), 0
    while command.poll() is None:
        try:
            peak = max(peak, resident_bytes(watched))
        except psutil.NoSuchProcess:
            break
        time.sleep(LOOK_EVERY_S)
    if command.wait():
        raise SystemExit(f"the preparation failed with exit code {command.returncode}")
    return {"seconds": round(time.monotonic() - began, 1), "peak_mb": round(peak / 1e6)}


def killed_until_done(source: Path, made: Path, longest_s: float, seed: int) -> int:
    """Prepare with SIGKILLs at random moments; how many there were."""
    shutil.rmtree(made, ignore_errors=True)
    chance = random.Random(seed)
    words = ["--to", str(made), "--vocabulary", "scp", "--quiet"]
    for kill in range(KILLS + 1):
        command = subprocess.Popen([*COMMAND, str(source), *words])
        try:
            last = kill == KILLS
            if command.wait(None if last else chance.uniform(0.2, 0.8) * longest_s) != 0:
                raise SystemExit(f"the preparation failed with exit code {command.returncode}")
            return kill
        except subprocess.TimeoutExpired:
            command.kill()
            command.wait()
    raise AssertionError


def digest_of(made: Path) -> str:
    """SHA-256 over the names and contents of all files of a set."""
    digest = hashlib.sha256()
    for path in sorted(made.iterdir()):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where there is room; default: as temporary")
    asked = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(dir=asked.folder) as inside:
        corpus, made = Path(inside, "records"), Path(inside, "set")
        corpus.mkdir()
        rows, written = [], 0
        for share in (10, 3, 1):
            count = asked.records // share // TASK_RECORDS * TASK_RECORDS
            starts = range(written, count, TASK_RECORDS)
            with ProcessPoolExecutor(cores) as pool:
                done = pool.map(partial(write_records, corpus, rate=asked.rate), starts)
                written += sum(done)
            for workers in (1, cores):
                row = {"workers": workers, **prepared(corpus, made, workers)}
                row["records"] = json.loads((made / "card.json").read_text())["records"]
                row["set"] = digest_of(made)
                rows.append(row)
                print(row, flush=True)
        kills = killed_until_done(corpus, made, rows[-2]["seconds"] / KILLS, asked.seed)
        sets = {row["set"] for row in rows if row["records"] == rows[-1]["records"]}
        found = {
            "recorded_at_hz": asked.rate,
            "rows": rows,
            "same_set_for_all_workers": len(sets) == 1,
            "kills": kills,
            "same_set_after_kills": digest_of(made) in sets,
            "cores": cores,
            "machine": platform.machine(),
        }
    text = json.dumps(found, indent=2, sort_keys=True) + "\n"
    (HERE / "prepare_scale.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
