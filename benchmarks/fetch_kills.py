"""Fetches that are killed with SIGKILL at random times and begun again, until all is there.

    python benchmarks/fetch_kills.py [--trials 50] [--seed 0]

Each trial fetches 40 small and 4 larger files from a throttled server on this machine. After every
kill each file under its final name is held against the original; at the end all of them. Writes
`benchmarks/fetch_kills.json`.
"""

import argparse
import json
import multiprocessing
import platform
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Event
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from ecgtransfer.corpus import Manifest, fetch, load_manifest  # noqa: E402
from ecgtransfer.corpus.fetching.download import PART  # noqa: E402
from ecgtransfer.corpus.fetching.fetch import LOCK  # noqa: E402
from ecgtransfer.corpus.manifest import Part, PartFiles  # noqa: E402
from tests.corpus.faulty_server import LIST, serving  # noqa: E402

#: Bytes that a connection carries at a time, and the pause after them: about 0.3 MB/s.
PIECE_BYTES, PAUSE_S = 3000, 0.01

#: Seconds that a fetch lives until it is killed, drawn evenly between these.
LIFE_S = (0.01, 2.0)

#: Names under which nothing of the data set lies.
OWN = {LIST, LOCK}


@dataclass(frozen=True)
class Trial:
    """What one trial saw; `wrong` is how often a wrong file had a final name."""

    kills: int
    kills_inside_a_file: int
    wrong: int
    identical: bool
    sent_share: float


def published(seed: int) -> dict[str, bytes]:
    """A data set of 20 records as PTB-XL has them, and four tables of 150 to 450 kB."""
    chance = random.Random(seed)
    files = {f"table{number}.csv": chance.randbytes(150_000 * number) for number in (1, 2, 3)}
    files["table4.csv"] = chance.randbytes(200_000)
    for number in range(1, 21):
        record = f"records100/{number // 8:02d}000/{number:05d}_lr"
        files[record + ".dat"] = chance.randbytes(24_000)
        files[record + ".hea"] = chance.randbytes(600)
    return files


def manifest_of(files: dict[str, bytes], *mirrors: str) -> Manifest:
    """A manifest of such a data set."""
    tables = sum(path.endswith(".csv") for path in files)
    records = (len(files) - tables) // 2
    kinds = (
        PartFiles("*.csv", tables, 200_000),
        PartFiles("records100/*/*.dat", records, 24_000),
        PartFiles("records100/*/*.hea", records, 600),
    )
    return replace(load_manifest("ptbxl"), mirrors=mirrors, fetch=(Part("all", 100, kinds),))


def fetch_all(manifest: Manifest, folder: Path, begun: Event) -> None:
    """What the process does that is killed."""
    begun.set()
    report = fetch(manifest, folder, workers=4)
    sys.exit(1 if report.failed else 0)


def on_disk(folder: Path) -> dict[str, bytes]:
    """What lies under final names."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != PART and path.name not in OWN
    }


def trial(seed: int, folder: Path, most_kills: int = 1000) -> Trial:
    """Kill a fetch again and again until one lives to its end."""
    chance = random.Random(seed)
    files = published(seed)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ecgtransfer.corpus", "requests", "filelock"])
    kills = inside = wrong = 0
    with serving(files, piece_bytes=PIECE_BYTES, pause_s=PAUSE_S) as server:
        manifest = manifest_of(files, server.url)
        while True:
            begun = context.Event()
            process = context.Process(target=fetch_all, args=(manifest, folder, begun))
            process.start()
            begun.wait()
            process.join(chance.uniform(*LIFE_S) if kills < most_kills else None)
            if process.exitcode is None:
                process.kill()
                process.join()
                kills += 1
            found = on_disk(folder)
            wrong += sum(files.get(path) != data for path, data in found.items())
            inside += any(path.stat().st_size for path in folder.rglob("*" + PART))
            if process.exitcode == 0:
                break
            if process.exitcode > 0:
                raise SystemExit(f"a fetch of trial {seed} ended with {process.exitcode}")
        sizes = sum(map(len, files.values()))
        return Trial(kills, inside, wrong, on_disk(folder) == files, server.sent_bytes / sizes)


def main() -> None:
    """All trials, and what they came to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    began = time.monotonic()
    trials = []
    for number in range(asked.trials):
        with tempfile.TemporaryDirectory() as folder:
            trials.append(trial(asked.seed + number, Path(folder) / "data"))
        print(f"trial {number + 1} of {asked.trials}: {trials[-1]}", flush=True)
    summary = {
        "trials": len(trials),
        "files_a_trial": len(published(0)),
        "bytes_a_trial": sum(map(len, published(0).values())),
        "kills": sum(one.kills for one in trials),
        "kills_a_trial": {
            "least": min(one.kills for one in trials),
            "median": statistics.median(one.kills for one in trials),
            "most": max(one.kills for one in trials),
        },
        "kills_inside_a_file": sum(one.kills_inside_a_file for one in trials),
        "wrong_files_under_a_final_name": sum(one.wrong for one in trials),
        "trials_with_identical_bytes": sum(one.identical for one in trials),
        "sent_bytes_by_published_bytes": {
            "median": round(statistics.median(one.sent_share for one in trials), 3),
            "most": round(max(one.sent_share for one in trials), 3),
        },
        "seconds": round(time.monotonic() - began, 1),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    text = json.dumps(summary, indent=2, sort_keys=True) + "\n"
    (HERE / "fetch_kills.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
