"""Commands that are killed, cut short and disturbed at random, and run again until all is there.

    python benchmarks/fault_trials.py [--trials 30] [--seed 0]

`data prepare`, `train`, `transfer` and `generate` on simulated records at the smallest size. Each
is killed with SIGKILL at moments drawn evenly from the length of an undisturbed run, up to twice
a trial, and then run to its end. Then for each: disks that are full at a random byte (tmpfs,
which root alone may mount), checkpoints cut at a random byte, a second process at the same work,
and a clock that jumps. Every file under a final name is held against the undisturbed run after
each fault and at the end. Writes `benchmarks/fault_trials.json`.

No test, because it needs root for full disks, drawn moments and minutes of a whole machine. The
tests kill each command at chosen moments, such as `tests/test_end_to_end.py`.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import pandas  # noqa: E402, F401
import torch._dynamo  # noqa: E402
from ecgtransfer_cli import app, console, main, transfer  # noqa: E402, F401

from ecgtransfer.corpus import ECGSet, label_space  # noqa: E402
from ecgtransfer.corpus.sets import preparation  # noqa: E402
from ecgtransfer.errors import RunError  # noqa: E402
from ecgtransfer.export import export_wfdb  # noqa: E402
from ecgtransfer.pipeline import PRESETS, run, synthetic  # noqa: E402
from ecgtransfer.simulation import (  # noqa: E402
    SOURCE_HOSPITAL,
    TARGET_HOSPITAL,
    simulate_ecgset,
)
from ecgtransfer.synthesis import generate  # noqa: E402
from ecgtransfer.training.files import read_tensors  # noqa: E402
from tests.pipeline.small_run import lasting  # noqa: E402

#: Settings of `transfer` for which the command has no options.
CONFIG = "transfer.toml"
COMMANDS = ("data prepare", "train", "transfer", "generate")
SOURCE_RECORDS, TARGET_RECORDS, PER_CLASS = 64, 36, 6
#: Steps of every training, and between two of its checkpoints.
STEPS, CHECKPOINT_STEPS = 20, 4
#: Records between two checkpoints of a set, and between two reports of a preparation.
CHECKPOINT_RECORDS, CHUNK_RECORDS = 16, 8
#: The task of each command that is stopped half way, and after how many records or steps.
STOPPED_AT = {
    "data prepare": ("ptbxl records", 24),
    "train": ("source model", 10),
    "transfer": ("guidance", 10),
    "generate": ("synthetic records", 32),
}
#: Records or steps that a task has done since its checkpoint when it first reports.
FIRST_REPORT = {"data prepare": CHUNK_RECORDS, "train": 1, "transfer": 1, "generate": 0}
#: Kills of a trial before it may come to its end.
KILLS = 2
#: Trials of a command with a full disk, and with a checkpoint that is cut.
FULL_DISKS, CUTS = 6, 6
DISK_BYTES = 64 << 20
#: Largest jump of the clock in seconds, about a year.
JUMP_S = 3e7


@dataclass(frozen=True)
class Child:
    """The program in a process that has all imports from the start."""

    pid: int
    said: Path

    @classmethod
    def start(
        cls,
        command: list[str],
        told: Path | None = None,
        stop_at: tuple[str, int] | None = None,
        clock: random.Random | None = None,
    ) -> "Child":
        """Begin a command.

        Args:
            command: its words.
            told: gets a line for every report of progress.
            stop_at: task and number at which the process stops itself, and waits for SIGCONT.
            clock: moves the clock of the day at every look at it.
        """
        handle, said = tempfile.mkstemp()
        pid = os.fork()
        if pid:
            os.close(handle)
            return cls(pid, Path(said))
        code = 70
        try:
            with (
                os.fdopen(handle, "w") as text,
                contextlib.redirect_stderr(text),
                contextlib.redirect_stdout(io.StringIO()),
            ):
                console.Output.progress = reporting(told, stop_at)
                if clock is not None:
                    move_clock(clock)
                sys.argv = ["ecgtransfer", *command]
                try:
                    main.main()
                    code = 0
                except SystemExit as end:
                    code = int(end.code or 0)
                except BaseException:
                    traceback.print_exc()
        finally:
            os._exit(code)

    def wait_for_stop(self) -> None:
        """Return when the process has stopped itself."""
        if not os.WIFSTOPPED(os.waitpid(self.pid, os.WUNTRACED)[1]):
            raise SystemExit(f"it ended before it could be stopped: {self.said.read_text()}")

    def signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def end(self) -> tuple[int, str]:
        """Wait for its exit code, negative for a signal, and what it said on stderr."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        said = self.said.read_text()
        self.said.unlink()
        return code, said


def reporting(told: Path | None, stop_at: tuple[str, int] | None) -> Callable[..., Any]:
    """In place of the bars: each report is a line in a file, or the moment to stop."""
    waiting = stop_at is not None

    @contextlib.contextmanager
    def progress(self: console.Output, task: str) -> Iterator[Callable[[int, int], None]]:
        def tell(done: int, total: int) -> None:
            nonlocal waiting
            if told is not None:
                with told.open("a") as file:
                    file.write(f"{task}\t{done}\n")
            if waiting and stop_at is not None and task == stop_at[0] and done >= stop_at[1]:
                waiting = False
                os.kill(os.getpid(), signal.SIGSTOP)

        yield tell

    return progress


def move_clock(chance: random.Random) -> None:
    """From now on the clock of the day jumps to and fro for this process."""

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Jumping":
            jumped = datetime.now(UTC) + timedelta(seconds=chance.uniform(-JUMP_S, JUMP_S))
            return cls.fromtimestamp(jumped.timestamp(), tz)

    real = time.time
    time.time = lambda: real() + chance.uniform(-JUMP_S, JUMP_S)
    run.datetime = Jumping  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Work:
    """A command, and what it comes to where nothing disturbs it.

    Attributes:
        command: one of `COMMANDS`.
        sets: folder with its inputs, and with a run as it is before each command.
        seconds: from start to end.
        grown: bytes that it adds to the disk.
        files: under final names, without the clock.
    """

    command: str
    sets: Path
    seconds: float = 0.0
    grown: int = 0
    files: Any = None

    def undisturbed(self, keep: Path | None = None) -> "Work":
        """The same with what it comes to; its folder is kept for the commands that follow."""
        with self.folder() as folder:
            before = size(folder)
            began = time.monotonic()
            code, said = self.start(folder).end()
            if code:
                raise SystemExit(f"{self.command} failed: {said}")
            seconds = time.monotonic() - began
            if keep is not None:
                shutil.copytree(folder, keep)
            return replace(
                self, seconds=seconds, grown=size(folder) - before, files=final_files(folder)
            )

    @contextlib.contextmanager
    def folder(self, disk: Path | None = None) -> Iterator[Path]:
        """A new folder in which everything before the command is done."""
        with tempfile.TemporaryDirectory(dir=disk or self.sets) as folder:
            if (self.sets / self.command).exists():
                shutil.copytree(self.sets / self.command, folder, dirs_exist_ok=True)
            yield Path(folder)

    def start(self, folder: Path, **options: Any) -> Child:
        """Begin the command; all of its outcome lies below `folder`. Options of `Child.start`."""
        at, sets = folder / "run", self.sets
        words = {
            "data prepare": f"ptbxl {sets / 'published'} --to {at}",
            "train": f"{at} --set {sets / 'source'} --preset tiny --steps {STEPS} "
            "--batch-size 4 --precision float32",
            "transfer": f"{at} --target {sets / 'target'} --steps {STEPS} --train-records 16 "
            f"--folds 1 --config {sets / CONFIG}",
            "generate": f"{at} --per-class {PER_CLASS} --steps 2",
        }
        return Child.start([*self.command.split(), *words[self.command].split()], **options)

    def stopped(self, folder: Path) -> Child:
        """The command, stopped half way."""
        child = self.start(folder, stop_at=STOPPED_AT[self.command])
        child.wait_for_stop()
        return child

    def wrong(self, folder: Path) -> list[str]:
        """Files under final names that are neither as they will be nor whole tensors."""
        try:
            found = final_files(folder)
        except ValueError as error:
            return [str(error)]
        return [
            name
            for name, held in found.items()
            if self.files.get(name) != held and not is_whole(folder / name)
        ]

    def finishes(self, folder: Path) -> bool:
        """Whether the same command comes to the undisturbed end.

        A preparation that was killed after its set was in place finds it there, and says so.
        """
        code, said = self.start(folder).end()
        found = self.command == "data prepare" and "exists already" in said
        return (code == 0 or found) and final_files(folder) == self.files

    def refused(self, folder: Path, remedy: str) -> tuple[bool, str]:
        """Whether the command ends with one sentence that names the remedy, and what it said."""
        code, said = self.start(folder).end()
        told = [line for line in said.splitlines() if line.startswith("error: ")]
        good = code == 1 and "Traceback" not in said and len(told) == 1 and remedy in told[0]
        return good, f"exit {code}: {said.strip().replace(str(folder), 'FOLDER')}"


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def final_files(folder: Path) -> dict[str, Any]:
    """Files under final names, without the clock; ValueError for JSON that is not whole."""
    return {
        name: held
        for name, held in lasting(folder).items()
        if not any(part.startswith(".") or part.endswith(".partial") for part in Path(name).parts)
    }


def is_whole(path: Path) -> bool:
    """Whether it is a checkpoint, or weights before their calibration, of which none is missing."""
    try:
        return path.suffix == ".safetensors" and bool(read_tensors(path))
    except RunError:
        return False


def reports(told: Path) -> dict[str, tuple[int, int]]:
    """First and last report of each task in the file, which is removed."""
    found: dict[str, tuple[int, int]] = {}
    for line in told.read_text().splitlines() if told.exists() else ():
        task, _, done = line.partition("\t")
        found[task] = found.get(task, (int(done),))[0], int(done)
    told.unlink(missing_ok=True)
    return found


def kills(work: Work, trials: int, chance: random.Random) -> dict[str, Any]:
    """Kill the command at random moments and let it come to its end, many times."""
    killed, identical, wrong = 0, 0, list[str]()
    lost: dict[str, int] = {}
    for _ in range(trials):
        with work.folder() as folder, tempfile.TemporaryDirectory() as aside:
            told, last = Path(aside) / "told", dict[str, int]()
            for attempt in range(KILLS + 1):
                child = work.start(folder, told=told)
                if attempt < KILLS:
                    time.sleep(chance.uniform(0, work.seconds))
                    child.signal(signal.SIGKILL)
                at_work = child.end()[0] == -signal.SIGKILL
                killed += at_work
                for task, (first, now) in reports(told).items():
                    again = last.get(task, 0) - first + FIRST_REPORT[work.command]
                    lost[task], last[task] = max(lost.get(task, 0), again), now
                wrong += work.wrong(folder)
                if not at_work:
                    break
            identical += work.finishes(folder)
    return {
        "seconds_undisturbed": round(work.seconds, 2),
        "trials": trials,
        "kills": killed,
        "wrong_files_under_a_final_name": wrong,
        "identical_to_undisturbed": identical,
        "most_steps_or_records_lost": lost,
    }


def full_disks(work: Work, chance: random.Random) -> dict[str, Any]:
    """The command on disks with room for a part of what it writes, then again with room."""
    good, identical, wrong, sentences = 0, 0, list[str](), set[str]()
    with tempfile.TemporaryDirectory(dir=work.sets) as place:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", place]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return {"skipped": "no small disk can be mounted here"}
        try:
            filler = Path(place) / "filler"
            for _ in range(FULL_DISKS):
                with work.folder(Path(place)) as folder:
                    room = int(chance.uniform(0, work.grown))
                    filler.write_bytes(bytes(shutil.disk_usage(place).free - room))
                    refused, said = work.refused(folder, "")
                    good += refused
                    sentences.add(said)
                    wrong += work.wrong(folder)
                    filler.unlink()
                    identical += work.finishes(folder)
        finally:
            subprocess.run(["umount", place], check=True)
    return {
        "trials": FULL_DISKS,
        "refused_in_a_sentence": good,
        "wrong_files_under_a_final_name": wrong,
        "identical_once_there_is_room": identical,
        "sentences": sorted(sentences),
    }


def cut_checkpoints(work: Work, chance: random.Random) -> dict[str, Any]:
    """A file of a checkpoint is cut at a random byte; then what the sentence says is done."""
    refused, not_needed, identical, other = 0, 0, 0, list[str]()
    for _ in range(CUTS):
        with work.folder() as folder:
            child = work.stopped(folder)
            child.signal(signal.SIGKILL)
            child.end()
            checkpoint = next(folder.rglob("checkpoint.safetensors"), None)
            unfinished = next(folder.rglob(".*.partial"), folder)
            parts = [path for path in sorted(unfinished.rglob("*")) if path.is_file()]
            cut = checkpoint or chance.choice(parts)
            os.truncate(cut, chance.randrange(max(cut.stat().st_size, 1)))
            good, said = work.refused(folder, "remove it" if checkpoint else "delete it")
            if good:
                refused += 1
                checkpoint.unlink() if checkpoint else shutil.rmtree(unfinished)
            elif said.startswith("exit 0"):
                not_needed += 1
            else:
                other.append(f"{cut.name}, {said}")
            identical += work.finishes(folder)
    return {
        "trials": CUTS,
        "refused_in_a_sentence": refused,
        "went_on_without_what_was_cut": not_needed,
        "ended_otherwise": other,
        "identical_afterwards": identical,
    }


def second_process(work: Work) -> dict[str, Any]:
    """The same command while it is at work already."""
    with work.folder() as folder:
        first = work.stopped(folder)
        refused, said = work.refused(folder, "another process is")
        first.signal(signal.SIGCONT)
        code, _ = first.end()
        return {
            "refused_in_a_sentence": refused,
            "said": said,
            "first_exit_code": code,
            "first_identical_to_undisturbed": final_files(folder) == work.files,
        }


def jumping_clock(work: Work, chance: random.Random) -> dict[str, Any]:
    """The clock jumps by up to a year at every look, and files are dated at random half way."""
    with work.folder() as folder:
        child = work.stopped(folder)
        child.signal(signal.SIGKILL)
        child.end()
        for path in folder.rglob("*"):
            moment = time.time() + chance.uniform(-JUMP_S, JUMP_S)
            os.utime(path, (moment, moment))
        code, _ = work.start(folder, clock=chance).end()
        same = final_files(folder) == work.files
        return {"exit_code": code, "identical_to_undisturbed": same}


def smallest_settings() -> None:
    """Trainings and sets of this process and its children save often, and end soon."""
    torch.set_num_threads(1)
    preparation.CHUNK_RECORDS, preparation.CHECKPOINT_RECORDS = CHUNK_RECORDS, CHECKPOINT_RECORDS
    tiny = PRESETS["tiny"]
    PRESETS["tiny"] = replace(
        tiny,
        widths=(16, 32, 32),
        conditioning=32,
        train=replace(tiny.train, checkpoint_every=CHECKPOINT_STEPS),
    )
    synthetic.generate = partial(  # type: ignore[attr-defined]
        generate, batch_size=CHECKPOINT_RECORDS
    )


def simulate(sets: Path) -> None:
    """The source and the target as sets, and the source as PTB-XL is published."""
    for name, hospital, records, seed in (
        ("source", SOURCE_HOSPITAL, SOURCE_RECORDS, 1),
        ("target", TARGET_HOSPITAL, TARGET_RECORDS, 2),
    ):
        simulate_ecgset(sets / name, hospital, records, seed, label_space("icbeb9"))
    export_wfdb(ECGSet.open(sets / "source"), sets / "published")
    train = (
        f"steps = {STEPS}\ncheckpoint_every = {CHECKPOINT_STEPS}\nbatch_size = 4\n"
        "warmup_steps = 1\nvalidate_every = 3\nvalidate_from = 1\nlog_every = 1\n"
    )
    (sets / CONFIG).write_text(
        f"n_source = 16\n[classifier]\nwidths = [16, 16]\nfolds = 2\n[classifier.train]\n{train}"
        f"[tgdp.train]\n{train}"
    )


def main_() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=30, help="with kills, of each command")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    began = time.monotonic()
    smallest_settings()
    chance = random.Random(asked.seed)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        sets = Path(folder)
        simulate(sets)
        follows = {"train": sets / "transfer", "transfer": sets / "generate"}
        for command in COMMANDS:
            work = Work(command, sets).undisturbed(keep=follows.get(command))
            found[command] = {
                "kills": kills(work, asked.trials, chance),
                "full_disks": full_disks(work, chance),
                "cut_checkpoints": cut_checkpoints(work, chance),
                "second_process": second_process(work),
                "jumping_clock": jumping_clock(work, chance),
            }
            print(command, json.dumps(found[command], indent=1), flush=True)
    summary = {
        "command": f"python benchmarks/fault_trials.py --trials {asked.trials} --seed {asked.seed}",
        "machine": f"{platform.machine()}, one thread; torch {torch.__version__}",
        "seconds": round(time.monotonic() - began),
        "steps_between_checkpoints": CHECKPOINT_STEPS,
        "records_between_checkpoints": CHECKPOINT_RECORDS,
        "kills": sum(each["kills"]["kills"] for each in found.values()),
        "commands": found,
    }
    text = json.dumps(summary, indent=2) + "\n"
    (HERE / "fault_trials.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main_()
