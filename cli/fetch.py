"""`ecgtransfer data fetch`: download a published corpus from its mirrors."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import corpus as corpora
from ecgtransfer.errors import CorpusError

from .console import Json, KeyValues, Output, Quiet

#: Failed files listed on the screen; `--json` lists all.
FAILURES_SHOWN = 10


def fetch(
    corpus: Annotated[str, typer.Argument(help="Corpus: ptbxl or icbeb2018.")],
    to: Annotated[
        Path | None, typer.Option(help="Download folder; default: downloads/CORPUS.")
    ] = None,
    rate: Annotated[
        list[int] | None, typer.Option(help="Sampling rate in Hz: 100 or 500; repeat for both.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Parallel connections.")] = 8,
    mirror: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Download from this address instead; repeat for several."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Download a published corpus, and verify it by SHA-256.

    Only missing files are downloaded; interrupted files resume.

    Example: ecgtransfer data fetch ptbxl --to downloads/ptb-xl
    """
    output = Output(json, quiet)
    manifest = corpora.load_manifest(corpus)
    folder = to or Path("downloads", corpus)
    retry = _command(corpus, folder, rate or (), mirror or ())
    with output.fetching(corpus) as progress:
        report = corpora.fetch(
            manifest,
            folder,
            sampling_rates_hz=rate or (),
            mirrors=mirror or (),
            workers=workers,
            progress=progress,
        )
    payload = vars(report) | {"finish_with": retry if report.failed else None}
    ready = set(manifest.parts()) <= set(manifest.parts(rate or ()))
    output.result(payload, *_summary(report, manifest.licence, ready))
    if report.failed:
        raise CorpusError(
            f"{len(report.failed):,} of {report.files:,} files could not be fetched, the first is "
            f"{report.failed[0].path} ({report.failed[0].reason}); to fetch the missing files, "
            f"run: {retry}"
        )


def _command(corpus: str, folder: Path, rates: Sequence[int], mirrors: Sequence[str]) -> str:
    """Return the command that fetches the missing files."""
    words = ["ecgtransfer", "data", "fetch", corpus, "--to", str(folder)]
    words += [word for rate in rates for word in ("--rate", str(rate))]
    words += [word for mirror in mirrors for word in ("--mirror", mirror)]
    return shlex.join(words)


def _summary(report: "corpora.FetchReport", licence: str, ready: bool) -> list[KeyValues | str]:
    """Describe a download.

    Args:
        report: result of the download.
        licence: licence of the corpus.
        ready: whether all parts that `data prepare` reads are on disk.
    """
    megabytes = report.received_bytes / 1e6
    parts: list[KeyValues | str] = [
        KeyValues(
            f"{report.corpus} {report.version} in {report.folder}",
            [
                ("files", report.files),
                ("already present", report.already_there),
                ("fetched", report.fetched),
                ("not fetched", len(report.failed)),
                ("received", f"{megabytes:,.1f} MB in {report.seconds:,.0f} s"),
                ("checksums from", report.checksums_from),
                ("licence", licence),
            ],
        )
    ]
    if report.failed:
        rows = [(entry.path, entry.reason) for entry in report.failed[:FAILURES_SHOWN]]
        if len(report.failed) > FAILURES_SHOWN:
            rows.append(
                ("...", f"and {len(report.failed) - FAILURES_SHOWN:,} more; --json lists all")
            )
        parts.append(KeyValues("Not fetched", rows))
    elif ready:
        target = Path("sets", report.corpus)
        words = ["ecgtransfer", "data", "prepare", report.corpus, str(report.folder)]
        parts.append(f"Next: {shlex.join([*words, '--to', str(target)])}")
    return parts
