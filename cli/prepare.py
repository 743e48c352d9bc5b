"""`ecgtransfer data prepare`: from recordings as they lie on disk to a set."""

from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer.pipeline import prepare_set

from .console import Json, Output, Quiet


def prepare(
    corpus: Annotated[str, typer.Argument(help="ptbxl or icbeb2018.")],
    folder: Annotated[Path, typer.Argument(help="Where its files lie.")],
    to: Annotated[Path, typer.Option(help="The set to make.")],
    labels: Annotated[str, typer.Option(help="Label space: icbeb9 or scp71.")] = "icbeb9",
    rate: Annotated[int, typer.Option(min=50, help="Sampling rate of the set in Hz.")] = 100,
    seconds: Annotated[float, typer.Option(help="Length of every record.")] = 10.0,
    keep_unlabelled: Annotated[
        bool, typer.Option("--keep-unlabelled", help="Keep records without a label, too.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the set.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read a published corpus and write it as a set: one rate, one length, one label space.

    Example: ecgtransfer data prepare ptbxl downloads/ptb-xl --to sets/ptbxl
    """
    output = Output(json, quiet)
    with output.progress(f"{corpus} records") as progress:
        report = prepare_set(
            corpus,
            folder,
            to,
            labels=labels,
            sampling_rate_hz=rate,
            seconds=seconds,
            keep_unlabelled=keep_unlabelled,
            workers=workers,
            overwrite=overwrite,
            progress=progress,
        )
    output.result(report, str(report))
