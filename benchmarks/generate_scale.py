"""Time, memory and disk of generation by the number of records, kills, shards, and reading.

    python benchmarks/generate_scale.py [--records 100000] [--folder DIR]

Draws a hundredth, a tenth and all of the records, ten seconds of eight leads at 100 Hz, each number
in a fresh process: preset `tiny` with random weights and two steps of the sampler, since what is
looked at lies around the network. The tenth is drawn again with SIGKILLs at random moments, and
once more in four shards, two at a time, killed as well, and joined, killed once more; all have to
have the same bytes. Then the largest set is written as tar shards, and both are read in order and
at random, first with the files put out of the page cache, then with what is left there. Memory is
the resident memory of the process, looked at every 0.1 s. Writes `benchmarks/generate_scale.json`.
"""

import argparse
import io
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import torch
from prepare_scale import LOOK_EVERY_S, digest_of, resident_bytes
from torch.utils.data import DataLoader

from ecgtransfer.corpus import ECGSet, label_space
from ecgtransfer.diffusion import DiffusionConfig, DiffusionModel, karras_sigmas
from ecgtransfer.export import export_webdataset
from ecgtransfer.pipeline import PRESETS
from ecgtransfer.signals import LEADS
from ecgtransfer.synthesis import Shard, generate, per_class
from ecgtransfer.training import ECGDataset, seeded_initialisation

HERE = Path(__file__).resolve().parent
SAMPLES, RATE_HZ, STEPS = 1000, 100, 2
#: Kills of a drawing in one piece.
KILLS = 5
SHARDS = 4
#: Records of a tar shard, of a batch, and read at most in one measurement.
SHARD_RECORDS, BATCH, READ = 1000, 64, 20_000


def draw(folder: Path, records: int, shard: Shard | None) -> None:
    """What a child does: draw, or join, and print how long that took once all was loaded."""
    torch.set_num_threads(1)
    space = label_space("icbeb9")
    config = DiffusionConfig(
        label_names=space.names,
        samples=SAMPLES,
        sampling_rate_hz=RATE_HZ,
        unet=PRESETS["tiny"].unet(len(space), 8),
        precision="float32",
    )
    with seeded_initialisation(0):
        model = DiffusionModel(config).eval().requires_grad_(False)
    told = []
    began = time.monotonic()
    generate(
        model,
        model.units,
        per_class(space, records // len(space)),
        folder,
        label_space=space,
        sigmas=karras_sigmas(STEPS, config.noise.sigma_min, config.noise.sigma_max),
        card_extra={"model_fingerprint": "random", "method": "source"},
        shard=shard,
        disk=lambda space: told.append(space.to_dict()["needed_mb"]),
    )
    print(json.dumps({"drawing_s": time.monotonic() - began, "told_mb": told[0] if told else 0.0}))


def export(folder: Path) -> None:
    """What another child does: write a set as tar shards."""
    began = time.monotonic()
    export_webdataset(ECGSet.open(folder), folder.with_name("tars"), SHARD_RECORDS)
    print(json.dumps({"export_s": time.monotonic() - began}))


def child(*words: object) -> list[str]:
    return [sys.executable, __file__, "--child", *map(str, words)]


def watched(*words: object) -> dict[str, float]:
    """Seconds of a child, its peak of resident memory in MB, and what it printed."""
    began, peak = time.monotonic(), 0
    with subprocess.Popen(child(*words), stdout=subprocess.PIPE, text=True) as running:
        process = psutil.Process(running.pid)
        while running.poll() is None:
            try:
                peak = max(peak, resident_bytes(process))
            except psutil.NoSuchProcess:
                break
            time.sleep(LOOK_EVERY_S)
        assert running.stdout is not None
        printed = running.stdout.read()
        if running.wait():
            raise SystemExit(f"{words} failed with exit code {running.returncode}")
    said = {name: round(value, 2) for name, value in json.loads(printed).items()}
    return {"seconds": round(time.monotonic() - began, 1), "peak_mb": round(peak / 1e6)} | said


def killed(seconds: float, *words: object) -> bool:
    """Begin a child and end it with SIGKILL after some seconds; whether it was still at work."""
    with subprocess.Popen(child(*words), stdout=subprocess.DEVNULL) as running:
        time.sleep(seconds)
        at_work = running.poll() is None
        running.kill()
    return at_work


def finished(*words: object) -> None:
    subprocess.run(child(*words), check=True, stdout=subprocess.DEVNULL)


def kills_and_shards(
    wanted: str, folder: Path, records: int, start_s: float, drawing_s: float, seed: int
) -> dict[str, object]:
    """Draw again with kills, in one piece and in shards; whether the bytes are those wanted."""
    chance = random.Random(seed)

    def moment(share: float) -> float:
        return start_s + chance.uniform(0.02, share) * drawing_s

    one = folder / "killed"
    kills = sum(killed(moment(0.15), "draw", one, records) for _ in range(KILLS))
    finished("draw", one, records)
    same = digest_of(one) == wanted
    shutil.rmtree(one)
    parts = folder / "sharded"
    shards = [Shard(number, SHARDS) for number in range(1, SHARDS + 1)]
    shard_kills = 0
    for pair in (shards[:2], shards[2:]):
        shard_kills += sum(killed(moment(0.2), "draw", parts, records, part) for part in pair)
        at_once = [subprocess.Popen(child("draw", parts, records, part)) for part in pair]
        if any(running.wait() for running in at_once):
            raise SystemExit("a shard failed")
    undisturbed = folder / "joined"
    shutil.copytree(folder / "sharded.shards", folder / "joined.shards")
    joined = watched("draw", undisturbed, records)
    join_kills = killed(start_s + joined["drawing_s"] / 2, "draw", parts, records)
    finished("draw", parts, records)
    same_joined = digest_of(parts) == digest_of(undisturbed) == wanted
    shutil.rmtree(parts)
    shutil.rmtree(undisturbed)
    return {
        "records": records,
        "kills": kills,
        "same_bytes_after_kills": same,
        "shards": SHARDS,
        "kills_of_shards": shard_kills,
        "killed_while_joining": join_kills,
        "same_bytes_in_shards": same_joined,
        "joining": joined,
    }


def batches_in_order(count: int) -> Iterator[slice]:
    return (slice(first, min(first + BATCH, count)) for first in range(0, count, BATCH))


def ways_to_read(folder: Path, count: int) -> dict[str, Callable[[], int]]:
    """Each reads some records as float32 millivolts of twelve leads, and says how many."""
    tars = sorted(folder.with_name("tars").glob("*.tar"))
    at_random = np.random.default_rng(0)

    def mapped(batches: Iterator[slice | np.ndarray]) -> int:
        ecgset = ECGSet.open(folder)
        return sum(len(ecgset.signals_mv(batch)) for batch in batches)

    def shuffled() -> int:
        order = at_random.permutation(len(ECGSet.open(folder)))[:count]
        return mapped(order[batch] for batch in batches_in_order(count))

    def loader() -> int:
        chosen = at_random.permutation(len(ECGSet.open(folder)))[:count].tolist()
        batches = DataLoader(ECGDataset(folder), batch_size=BATCH, sampler=chosen)
        return sum(len(signals) for signals, _ in batches)

    def plain_tars() -> int:
        done = 0
        for path in tars[: count // SHARD_RECORDS]:
            with tarfile.open(path) as tar:
                for member in tar:
                    if member.name.endswith(".npy"):
                        signal_uv = np.load(io.BytesIO(tar.extractfile(member).read()))
                        done += len(signal_uv / np.float32(1000)) == len(LEADS)
        return done

    def webdataset(mixed: int) -> int:
        from webdataset import WebDataset

        paths = [str(path) for path in tars]
        if mixed:
            paths = [paths[k] for k in at_random.permutation(len(paths))]
        records = WebDataset(paths[: count // SHARD_RECORDS], shardshuffle=False)
        records = (records.shuffle(mixed) if mixed else records).decode().to_tuple("npy", "json")
        return sum(len(signal / np.float32(1000)) == len(LEADS) for signal, _ in records)

    return {
        "set, in order": lambda: mapped(batches_in_order(count)),
        "set, at random": shuffled,
        "set, at random, torch DataLoader": loader,
        "tar shards, in order, tarfile": plain_tars,
        "tar shards, in order, webdataset": lambda: webdataset(0),
        "tar shards, mixed in a buffer of 1,000, webdataset": lambda: webdataset(1000),
    }


def put_out_of_cache(*folders: Path) -> None:
    for path in (path for folder in folders for path in folder.iterdir()):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def reading(folder: Path) -> dict[str, dict[str, float]]:
    """Records a second of each way to read, from the disk and from the page cache."""
    count = min(READ, len(ECGSet.open(folder)) // SHARD_RECORDS * SHARD_RECORDS)
    rates: dict[str, dict[str, float]] = {}
    for name, read in ways_to_read(folder, count).items():
        put_out_of_cache(folder, folder.with_name("tars"))
        for state in ("from_disk", "from_cache"):
            began = time.monotonic()
            done = read()
            rates.setdefault(name, {})[state] = round(done / (time.monotonic() - began))
        print(name, rates[name], flush=True)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where there is room; default: as temporary")
    asked = parser.parse_args()
    if asked.child:
        what, folder, *rest = asked.child
        if what == "export":
            export(Path(folder))
        else:
            shard = Shard.parse(rest[1]) if len(rest) > 1 else None
            draw(Path(folder), int(rest[0]), shard)
        return
    warnings.simplefilter("ignore", ResourceWarning)
    with tempfile.TemporaryDirectory(dir=asked.folder) as inside:
        folder, rows = Path(inside), []
        for records in (asked.records // 100, asked.records // 10, asked.records):
            place = folder / f"{records}" / "set"
            row = watched("draw", place, records)
            held = sum(path.stat().st_size for path in place.iterdir())
            drawn = len(ECGSet.open(place))
            per_s = round(drawn / row["drawing_s"], 1)
            rows.append({"records": drawn, **row, "records_per_s": per_s, "disk_mb": held / 1e6})
            print(rows[-1], flush=True)
            if records == asked.records // 10:
                start_s = row["seconds"] - row["drawing_s"]
                after = kills_and_shards(
                    digest_of(place), folder, records, start_s, row["drawing_s"], asked.seed
                )
                print(after, flush=True)
            if records < asked.records:
                shutil.rmtree(place.parent)
        exported = watched("export", place)
        exported["disk_mb"] = sum(p.stat().st_size for p in (place.parent / "tars").iterdir()) / 1e6
        print(exported, flush=True)
        rates = reading(place)
    largest = rows[-1]
    guided = json.loads((HERE / "throughput.json").read_text())["guided_records_per_s"]["median"]
    found = {
        "command": f"python benchmarks/generate_scale.py --records {asked.records} "
        f"--seed {asked.seed}",
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, shared; "
        f"one thread; torch {torch.__version__}",
        "model": f"preset tiny, random weights, {STEPS} steps",
        "rows": rows,
        "fastest_to_slowest_rate": round(
            max(r["records_per_s"] for r in rows) / min(r["records_per_s"] for r in rows), 3
        ),
        "kills_and_shards": after,
        "tar_shards": exported,
        "reading_records_per_s": rates,
        "a_million": {
            "this_model_on_this_core_h": round(1e6 / largest["records_per_s"] / 3600, 2),
            "preset_cpu_guided_at_the_rate_of_throughput_json_h": round(1e6 / guided / 3600, 1),
            "disk_gb": round(largest["disk_mb"] / largest["records"] * 1e3, 1),
            "joining_min": round(1e6 / joined_per_s(after) / 60, 1),
        },
    }
    text = json.dumps(found, indent=2, sort_keys=True) + "\n"
    (HERE / "generate_scale.json").write_text(text)
    print(text)


def joined_per_s(after: dict[str, object]) -> float:
    return after["records"] / after["joining"]["drawing_s"]


if __name__ == "__main__":
    main()
