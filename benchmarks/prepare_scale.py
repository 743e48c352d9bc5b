"""Time and memory of `data prepare` by the number of records, and whether a set is always the same.

    python benchmarks/prepare_scale.py [--records 100000] [--rate 100] [--folder DIR]

Simulates a thousand records and writes them again and again as WFDB, each time with an amplitude
and noise of their own, until there are that many (24 kB each at 100 Hz; 2.4 GB in all). Prepares
a tenth of them at 100 Hz with the command itself, with one worker and with as many as there are
cores, then all of them with that many. A further preparation of the tenth is ended with SIGKILL at
random moments and asked for again until it is done. Memory is the resident memory of all processes
of the command together, looked at every 0.1 s. Writes `benchmarks/prepare_scale.json`.
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
from pathlib import Path

import numpy as np
import psutil

from ecgtransfer.signals import LEADS
from ecgtransfer.simulation import SOURCE_HOSPITAL, draw_label_names, simulate

HERE = Path(__file__).resolve().parent

#: Records that are simulated; as many lie in one folder.
SIMULATED = 1000

#: Noise of a copy in microvolts, and the spread of its amplitude.
NOISE_UV, SPREAD = 5.0, 0.1

#: Seconds between two looks at the memory.
LOOK_EVERY_S = 0.1

#: Kills of the preparation that is ended and begun again.
KILLS = 5

COMMAND = [sys.executable, "-m", "ecgtransfer_cli.main", "data", "prepare", "wfdb"]


def simulated_uv(rate: int) -> tuple[np.ndarray, list[str]]:
    """Signals (SIMULATED, 12, T) in microvolts, and the statements of each record."""
    label_names = draw_label_names(SOURCE_HOSPITAL, SIMULATED, 0)
    recordings, _ = simulate(label_names, SOURCE_HOSPITAL, 0, rate)
    signals_uv = np.stack([recording.signal_mv for recording in recordings]) * 1000
    return signals_uv, [",".join(names) for names in label_names]


def write_folder(place: Path, signals_uv: np.ndarray, codes: list[str], rate: int) -> None:
    """Every simulated record once, as WFDB, in a folder whose name is a number."""
    place.mkdir()
    copy = int(place.name)
    rng = np.random.default_rng(copy)
    for number, (clean_uv, stated) in enumerate(zip(signals_uv, codes, strict=True)):
        name = f"s{copy * SIMULATED + number:06d}"
        noise = rng.normal(0, NOISE_UV, clean_uv.shape)
        signal_uv = np.rint(clean_uv * rng.normal(1, SPREAD) + noise).astype("<i2")
        (place / f"{name}.dat").write_bytes(np.ascontiguousarray(signal_uv.T).tobytes())
        lines = [f"{name} {len(LEADS)} {rate} {signal_uv.shape[1]}"]
        for lead, row in zip(LEADS, signal_uv, strict=True):
            total = int(row.sum(dtype=np.int64)) & 0xFFFF
            lines.append(f"{name}.dat 16 1000(0)/mV 16 0 {row[0]} {total} 0 {lead}")
        (place / f"{name}.hea").write_text("\n".join([*lines, f"# Dx: {stated}", ""]))


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
    parser.add_argument("--rate", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where there is room; default: as temporary")
    asked = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(dir=asked.folder) as inside:
        corpus, made = Path(inside, "records"), Path(inside, "set")
        corpus.mkdir()
        signals_uv, codes = simulated_uv(asked.rate)
        copies = asked.records // SIMULATED
        rows = []
        for first, last in ((0, copies // 10), (copies // 10, copies)):
            for copy in range(first, last):
                write_folder(corpus / f"{copy:03d}", signals_uv, codes, asked.rate)
            for workers in (1, cores) if first == 0 else (cores,):
                row = {"workers": workers, **prepared(corpus, made, workers)}
                row["records"] = json.loads((made / "card.json").read_text())["records"]
                rows.append(row | {"set": digest_of(made)})
                print(rows[-1], flush=True)
            if first == 0:
                kills = killed_until_done(corpus, made, rows[0]["seconds"] / KILLS, asked.seed)
                after_kills = digest_of(made)
        found = {
            "command": f"python benchmarks/prepare_scale.py --records {asked.records} "
            f"--rate {asked.rate} --seed {asked.seed}",
            "recorded_at_hz": asked.rate,
            "rows": rows,
            "same_set_for_all_workers": rows[0]["set"] == rows[1]["set"],
            "kills": kills,
            "same_set_after_kills": after_kills == rows[0]["set"],
            "cores": cores,
            "machine": platform.machine(),
        }
    text = json.dumps(found, indent=2, sort_keys=True) + "\n"
    (HERE / "prepare_scale.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
