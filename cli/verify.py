"""`ecgtransfer data verify`: is a set, or a published corpus, what it was?"""

import shlex
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import corpus
from ecgtransfer.errors import CorpusError

from .console import Facts, Json, Output, Quiet

#: Problems that are told on the screen; `--json` has all.
TOLD = 10


def verify(
    folder: Annotated[Path, typer.Argument(help="A set, or PTB-XL or ICBEB2018 as published.")],
    workers: Annotated[int, typer.Option(min=1, help="Threads; more pay on a distant disk.")] = 1,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read all of a set or of a published corpus: checksums, headers against signals, counts.

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
    output.result(payload, Facts("As it was written", list(payload.items())))


def _verify_corpus(folder: Path, workers: int, output: Output) -> None:
    with output.progress("files and records") as progress:
        report = corpus.verify_corpus(folder, workers=workers, progress=progress)
    held = f"{report.with_checksum:,} of {report.files:,}" if report.with_checksum else "none"
    rows = [
        ("corpus", f"{report.corpus} {report.version}"),
        ("folder", folder),
        ("records read", report.records),
        ("files with a published checksum", held),
        ("fingerprint", report.fingerprint),
        ("problems", len(report.problems)),
    ]
    parts = [Facts("Not as published" if report.problems else "As published", rows)]
    if report.problems:
        kinds = Counter(problem.kind for problem in report.problems)
        parts.append(Facts("Problems", list(kinds.most_common())))
        told = [
            (problem.path, f"{problem.kind}: {problem.detail}")
            for problem in report.problems[:TOLD]
        ]
        parts.append(Facts(f"The first {len(told)}; --json names all", told))
    output.result(vars(report), *parts)
    if report.problems:
        first = report.problems[0]
        mend = shlex.join(["ecgtransfer", "data", "fetch", report.corpus, "--to", str(folder)])
        raise CorpusError(
            f"{folder} is not as published; the first of {len(report.problems):,} problems: "
            f"{first.path}, {first.kind}: {first.detail}; to fetch what is damaged or missing: "
            f"{mend}"
        )
