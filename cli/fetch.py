"""`ecgtransfer data fetch`: a published corpus from its mirrors to disk."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import corpus as corpora
from ecgtransfer.errors import CorpusError

from .console import Facts, Json, Output, Quiet

#: Files that are named on the screen when they could not be fetched; `--json` has all.
NAMED = 10


def fetch(
    corpus: Annotated[str, typer.Argument(help="ptbxl or icbeb2018.")],
    to: Annotated[
        Path | None, typer.Option(help="Folder to fill; default: downloads/ and the name.")
    ] = None,
    rate: Annotated[
        list[int] | None, typer.Option(help="Sampling rate in Hz: 100 or 500; repeat for both.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Connections at once.")] = 8,
    mirror: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Take it from there instead; repeat for several."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fetch a published corpus: what is missing, from where it broke off, verified by SHA-256.

    Example: ecgtransfer data fetch ptbxl --to downloads/ptb-xl
    """
    output = Output(json, quiet)
    manifest = corpora.load_manifest(corpus)
    folder = to or Path("downloads", corpus)
    again = _command(corpus, folder, rate or (), mirror or ())
    with output.fetching(corpus) as progress:
        report = corpora.fetch(
            manifest,
            folder,
            sampling_rates_hz=rate or (),
            mirrors=mirror or (),
            workers=workers,
            progress=progress,
        )
    payload = vars(report) | {"finish_with": again if report.failed else None}
    ready = set(manifest.parts()) <= set(manifest.parts(rate or ()))
    output.result(payload, *_summary(report, manifest.licence, ready))
    if report.failed:
        raise CorpusError(
            f"{len(report.failed):,} of {report.files:,} files could not be fetched, the first: "
            f"{report.failed[0].path} ({report.failed[0].reason}); to fetch what is missing: "
            f"{again}"
        )


def _command(corpus: str, folder: Path, rates: Sequence[int], mirrors: Sequence[str]) -> str:
    """The command that fetches what is missing."""
    words = ["ecgtransfer", "data", "fetch", corpus, "--to", str(folder)]
    words += [word for rate in rates for word in ("--rate", str(rate))]
    words += [word for mirror in mirrors for word in ("--mirror", mirror)]
    return shlex.join(words)


def _summary(report: "corpora.FetchReport", licence: str, ready: bool) -> list[Facts | str]:
    """`ready`: what `data prepare` reads is there."""
    megabytes = report.received_bytes / 1e6
    parts: list[Facts | str] = [
        Facts(
            f"{report.corpus} {report.version} in {report.folder}",
            [
                ("files", report.files),
                ("already there", report.already_there),
                ("fetched", report.fetched),
                ("not fetched", len(report.failed)),
                ("received", f"{megabytes:,.1f} MB in {report.seconds:,.0f} s"),
                ("checksums from", report.checksums_from),
                ("licence", licence),
            ],
        )
    ]
    if report.failed:
        rows = [(entry.path, entry.reason) for entry in report.failed[:NAMED]]
        if len(report.failed) > NAMED:
            rows.append(("...", f"and {len(report.failed) - NAMED:,} more; --json names all"))
        parts.append(Facts("Not fetched", rows))
    elif ready:
        target = Path("sets", report.corpus)
        words = ["ecgtransfer", "data", "prepare", report.corpus, str(report.folder)]
        parts.append(f"Next: {shlex.join([*words, '--to', str(target)])}")
    return parts
