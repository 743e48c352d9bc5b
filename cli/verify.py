"""`ecgtransfer data verify`: check that a set or a published corpus is unchanged."""

import shlex
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import corpus
from ecgtransfer.errors import CorpusError

from .console import Json, KeyValues, Output, Quiet

#: Problems listed on the screen; `--json` lists all.
PROBLEMS_SHOWN = 10


def verify(
    folder: Annotated[
        Path, typer.Argument(help="Set, or folder of PTB-XL or ICBEB2018 as published.")
    ],
    workers: Annotated[
        int, typer.Option(min=1, help="Threads; more are faster on network storage.")
    ] = 1,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Verify a set or a published corpus: checksums, headers, signals and counts.

    Example: ecgtransfer data verify sets/ptbxl
    """
    from ecgtransfer.corpus.sets.ecgset import CARD

    output = Output(json, quiet)
    if folder.is_dir() and not (folder / CARD).exists():
        _verify_corpus(folder, workers, output)
        return
    ecgset = corpus.ECGSet.open(folder)
    ecgset.verify()
    payload = {"set": folder, "records": len(ecgset), "fingerprint": ecgset.fingerprint}
    output.result(payload, KeyValues("Unchanged since it was written", list(payload.items())))


def _verify_corpus(folder: Path, workers: int, output: Output) -> None:
    with output.progress("files and records") as progress:
        report = corpus.verify_corpus(folder, workers=workers, progress=progress)
    with_checksum = (
        f"{report.with_checksum:,} of {report.files:,}" if report.with_checksum else "none"
    )
    rows = [
        ("corpus", f"{report.corpus} {report.version}"),
        ("folder", folder),
        ("records read", report.records),
        ("files with a published checksum", with_checksum),
        ("fingerprint", report.fingerprint),
        ("problems", len(report.problems)),
    ]
    parts = [KeyValues("Not as published" if report.problems else "As published", rows)]
    if report.problems:
        kinds = Counter(problem.kind for problem in report.problems)
        parts.append(KeyValues("Problems", list(kinds.most_common())))
        listed = [
            (problem.path, f"{problem.kind}: {problem.detail}")
            for problem in report.problems[:PROBLEMS_SHOWN]
        ]
        parts.append(KeyValues(f"First {len(listed)} problems; --json lists all", listed))
    output.result(vars(report), *parts)
    if report.problems:
        first = report.problems[0]
        command = shlex.join(["ecgtransfer", "data", "fetch", report.corpus, "--to", str(folder)])
        raise CorpusError(
            f"{folder} is not as published; the first of {len(report.problems):,} problems is "
            f"{first.path}, {first.kind}: {first.detail}; to fetch damaged and missing files, run: "
            f"{command}"
        )
