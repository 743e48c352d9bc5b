"""Commands that are killed with SIGKILL at random moments and run again, until all is there.

    python benchmarks/fault_trials.py [--trials 30] [--seed 0]

`data prepare`, `train`, `transfer` and `generate` on simulated records at the smallest size, each
`--trials` times: killed up to three times at a moment drawn evenly from the length of an
undisturbed run, then run to its end. After every kill whatever has a final name is opened; at the
end all that lasts is held against the undisturbed run, byte by byte. Then, once for each command: a
disk that is full, a clock that jumps, a second process on the same folder; and checkpoints cut
short. Writes `benchmarks/fault_trials.json`.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import torch  # noqa: E402
from ecgtransfer_cli import console, main, transfer  # noqa: E402

from ecgtransfer.corpus import ECGSet, label_space  # noqa: E402
from ecgtransfer.pipeline import PRESETS, synthetic  # noqa: E402
from ecgtransfer.simulation import (  # noqa: E402
    SOURCE_HOSPITAL,
    TARGET_HOSPITAL,
    simulate_ecgset,
)
from ecgtransfer.synthesis import export_wfdb, generate  # noqa: E402
from ecgtransfer.training import read_tensors  # noqa: E402
from tests.pipeline.small_run import content, lasting, transfer_settings  # noqa: E402

STEPS, CHECKPOINT_EVERY = 40, 5
#: Records of the two hospitals, and of each class that are generated.
SOURCE_RECORDS, TARGET_RECORDS, PER_CLASS = 64, 36, 12
#: Kills of a trial before it may come to its end.
KILLS = 3
#: Megabytes of the disk that is too small.
SMALL_DISK_MB = 1
COMMANDS = ("data prepare", "train", "transfer", "generate")


def words(command: str, folder: Path, sets: Path) -> list[str]:
    """The command line, all of whose outcome lies below `folder`."""
    run = folder / "run"
    options = {
        "data prepare": f"ptbxl {sets / 'published'} --to {run}",
        "train": f"{run} --source {sets / 'source'} --preset tiny --steps {STEPS} --batch-size 4 "
        "--precision float32",
        "transfer": f"{run} --target {sets / 'target'} --steps {STEPS} --train-records 16 "
        "--source-count 16 --folds 1",
        "generate": f"{run} --per-class {PER_CLASS} --steps 2",
    }
    return [*command.split(), *options[command].split()]


def start(
    command: Sequence[str], before: Callable[[], None] | None = None, said: Path | None = None
) -> int:
    """Run the program in a child that has all imports already; its process number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with contextlib.ExitStack() as quiet:
            text = quiet.enter_context(contextlib.redirect_stderr(io.StringIO()))
            quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
            if before is not None:
                before()
            sys.argv = ["ecgtransfer", *command]
            try:
                main.main()
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                if said is not None:
                    said.write_text(text.getvalue())
    finally:
        os._exit(code)


def wait(child: int) -> int:
    """Exit code of a child; negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wrong_files(folder: Path) -> list[str]:
    """Files under final names that cannot be read whole."""
    wrong = []
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if any(part.startswith(".") or part.endswith(".partial") for part in parts):
            continue
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".safetensors":
                read_tensors(path)
            elif path.name == "signals.npy":
                ECGSet.open(path.parent).signals_mv()
        except Exception as error:
            wrong.append(f"{path.relative_to(folder)}: {error}")
    return wrong


def checkpoint_step(folder: Path) -> int | None:
    """The step that a checkpoint below the folder holds, the latest of several."""
    found = [
        json.loads(read_tensors(path)[1]["state"])["step"]
        for path in folder.rglob("checkpoint.safetensors")
    ]
    return max(found, default=None)


def told_steps(path: Path) -> Callable[[], None]:
    """Write the step of a training into a file after every step."""

    @contextlib.contextmanager
    def training(self: console.Output, task: str) -> Iterator[Callable[[Any], None]]:
        yield lambda now: path.write_text(str(now.step))

    def install() -> None:
        console.Output.training = training  # type: ignore[method-assign]

    return install


def kill_trials(command: str, sets: Path, trials: int, chance: random.Random) -> dict[str, Any]:
    """Kill a command at random moments and let it come to its end, many times."""
    with fresh(command, sets) as folder:
        began = time.monotonic()
        assert wait(start(words(command, folder, sets))) == 0
        length = time.monotonic() - began
        undisturbed = lasting(folder)
    kills, identical, wrong, lost = 0, 0, [], []
    for _ in range(trials):
        with fresh(command, sets) as folder, tempfile.TemporaryDirectory() as aside:
            step = Path(aside) / "step"
            for _ in range(KILLS):
                step.unlink(missing_ok=True)
                child = start(words(command, folder, sets), told_steps(step))
                time.sleep(chance.uniform(0, length))
                os.kill(child, signal.SIGKILL)
                if wait(child) != -signal.SIGKILL:
                    break
                kills += 1
                wrong += wrong_files(folder)
                reached = step.read_text() if step.exists() else ""
                if command == "train" and reached and int(reached) < STEPS:
                    lost.append(int(reached) - (checkpoint_step(folder) or 0))
            assert wait(start(words(command, folder, sets))) == 0
            identical += lasting(folder) == undisturbed
    found = {
        "seconds_undisturbed": round(length, 2),
        "trials": trials,
        "kills": kills,
        "wrong_files_under_a_final_name": wrong,
        "identical_to_undisturbed": identical,
    }
    return found | ({"most_steps_lost": max(lost, default=0)} if command == "train" else {})


@contextlib.contextmanager
def fresh(command: str, sets: Path) -> Iterator[Path]:
    """A folder in which everything before the command is done."""
    with tempfile.TemporaryDirectory(dir=sets) as folder:
        before = COMMANDS[1 : COMMANDS.index(command)] if command != "data prepare" else ()
        if before:
            shutil.copytree(sets / before[-1], Path(folder) / "run")
        yield Path(folder)


def refused(command: str, folder: Path, sets: Path, sentence: str) -> dict[str, Any]:
    """How a command ends that cannot go on, and what it leaves."""
    said = folder.parent / f"{folder.name}.said"
    before = content(folder)
    code = wait(start(words(command, folder, sets), said=said))
    text = said.read_text()
    return {
        "exit_code": code,
        "sentence": text.strip(),
        "as_expected": code == 1 and text.startswith("error: ") and sentence in text,
        "one_line": text.count("\n") == 1,
        "wrong_files_under_a_final_name": wrong_files(folder),
        "untouched": content(folder) == before,
    }


def second_process(command: str, sets: Path) -> dict[str, Any]:
    """A second process on the same folder while the first is at work."""
    with fresh(command, sets) as folder:
        first = start(words(command, folder, sets), partial(_slow, command))
        while not list(folder.rglob(".*.lock")):
            time.sleep(0.01)
        os.kill(first, signal.SIGSTOP)
        found = refused(command, folder, sets, "another process is")
        os.kill(first, signal.SIGCONT)
        found["first_exit_code"] = wait(first)
        with fresh(command, sets) as other:
            assert wait(start(words(command, other, sets))) == 0
            found["first_identical_to_undisturbed"] = lasting(folder) == lasting(other)
    return found


def _slow(command: str) -> None:
    """Leave time to look at a command that is at work."""
    if command == "generate":
        whole = generate.generate
        synthetic.generate = lambda *a, **k: (time.sleep(0.2), whole(*a, **k))[1]


def full_disk(command: str, sets: Path) -> dict[str, Any]:
    """The command on a disk that is too small for it, then again with room."""
    with fresh(command, sets) as folder:
        disk = folder / "disk"
        disk.mkdir()
        used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        size = max(SMALL_DISK_MB, used // 1_000_000 + SMALL_DISK_MB)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return {"skipped": "no small disk can be mounted here"}
        try:
            if (folder / "run").exists():
                shutil.move(folder / "run", disk / "run")
            filler = disk / "filler"
            room = shutil.disk_usage(disk).free
            filler.write_bytes(bytes(max(0, room - 40_000)))
            found = refused(command, disk, sets, "")
            filler.unlink()
            subprocess.run(
                ["mount", "-o", "remount,size=200m", str(disk)], capture_output=True, check=True
            )
            assert wait(start(words(command, disk, sets))) == 0
            with fresh(command, sets) as other:
                assert wait(start(words(command, other, sets))) == 0
                found["identical_once_there_is_room"] = lasting(disk) == lasting(other)
        finally:
            subprocess.run(["umount", str(disk)], capture_output=True, check=False)
    return found


def jumping_clock(command: str, sets: Path, seed: int) -> dict[str, Any]:
    """The command while the clock of the day jumps to and fro by up to a year."""
    real, chance = time.time, random.Random(seed)

    def jump() -> None:
        time.time = lambda: real() + chance.uniform(-3e7, 3e7)

    with fresh(command, sets) as folder, fresh(command, sets) as other:
        code = wait(start(words(command, folder, sets), jump))
        assert wait(start(words(command, other, sets))) == 0
        return {"exit_code": code, "identical_to_undisturbed": lasting(folder) == lasting(other)}


def cut_checkpoints(sets: Path, trials: int, chance: random.Random) -> dict[str, Any]:
    """A checkpoint cut at a random byte is refused in a sentence, and training begins anew."""
    sentences, identical = [], 0
    with fresh("train", sets) as other:
        assert wait(start(words("train", other, sets))) == 0
        undisturbed = lasting(other)
    for _ in range(trials):
        with fresh("train", sets) as folder:
            child = start(words("train", folder, sets))
            while not (found := list(folder.rglob("checkpoint.safetensors"))):
                time.sleep(0.005)
            os.kill(child, signal.SIGKILL)
            wait(child)
            whole = found[0].read_bytes()
            found[0].write_bytes(whole[: chance.randrange(len(whole))])
            sentences.append(refused("train", folder, sets, "is not a whole safetensors file"))
            found[0].unlink()
            assert wait(start(words("train", folder, sets))) == 0
            identical += lasting(folder) == undisturbed
    return {
        "trials": trials,
        "refused_in_a_sentence": sum(each["as_expected"] for each in sentences),
        "untouched": sum(each["untouched"] for each in sentences),
        "identical_after_its_removal": identical,
    }


def prepare(sets: Path) -> None:
    """Simulated records as they are published, two sets, and a run after each command."""
    space = label_space("icbeb9")
    for name, hospital, records, seed in (
        ("source", SOURCE_HOSPITAL, SOURCE_RECORDS, 1),
        ("target", TARGET_HOSPITAL, TARGET_RECORDS, 2),
    ):
        simulate_ecgset(sets / name, hospital, records, seed, space)
    export_wfdb(ECGSet.open(sets / "source"), sets / "published")
    for command in ("train", "transfer"):
        with fresh(command, sets) as folder:
            assert wait(start(words(command, folder, sets))) == 0
            shutil.copytree(folder / "run", sets / command)


def main_() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=30, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tiny = PRESETS["tiny"]
    PRESETS["tiny"] = replace(tiny, train=replace(tiny.train, checkpoint_every=CHECKPOINT_EVERY))
    small = transfer_settings()
    guidance = replace(small.tgdp, train=replace(small.tgdp.train, checkpoint_every=2))
    transfer.TransferSettings = partial(  # type: ignore[misc, assignment]
        transfer.TransferSettings, classifier=small.classifier
    )
    transfer.TgdpConfig = partial(  # type: ignore[misc, assignment]
        transfer.TgdpConfig, train=guidance.train
    )
    chance = random.Random(options.seed)
    found: dict[str, Any] = {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
        "checkpoint_every": CHECKPOINT_EVERY,
        "kills": {},
        "second_process": {},
        "full_disk": {},
        "jumping_clock": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        sets = Path(folder)
        prepare(sets)
        for command in COMMANDS:
            found["kills"][command] = kill_trials(command, sets, options.trials, chance)
            found["second_process"][command] = second_process(command, sets)
            found["full_disk"][command] = full_disk(command, sets)
            found["jumping_clock"][command] = jumping_clock(command, sets, options.seed)
            print(
                command,
                json.dumps(
                    {
                        k: v[command]
                        for k, v in found.items()
                        if k in ("kills", "second_process", "full_disk", "jumping_clock")
                    },
                    indent=1,
                ),
                flush=True,
            )
        found["cut_checkpoints"] = cut_checkpoints(sets, 10, chance)
    (HERE / "fault_trials.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main_()
