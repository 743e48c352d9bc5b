"""`ecgtransfer data prepare`: from recordings as they lie on disk to a set."""

from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import pipeline

from .console import Json, Output, Quiet


def prepare(
    corpus: Annotated[str, typer.Argument(help="ptbxl, icbeb2018, wfdb or arrays.")],
    folder: Annotated[Path, typer.Argument(help="Where its files lie.")],
    to: Annotated[Path, typer.Option(help="The set to make.")],
    labels: Annotated[
        str, typer.Option(help="Label space by name, or a csv of your own.")
    ] = "icbeb9",
    rate: Annotated[int, typer.Option(min=50, help="Sampling rate of the set in Hz.")] = 100,
    seconds: Annotated[float, typer.Option(help="Length of every record.")] = 10.0,
    keep_unlabelled: Annotated[
        bool, typer.Option("--keep-unlabelled", help="Keep records without a label, too.")
    ] = False,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Keep one record of each signal.")
    ] = False,
    table: Annotated[
        Path | None,
        typer.Option(help="wfdb, arrays: csv of record, labels, patient, age, sex, fold, ..."),
    ] = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(
            help="wfdb, arrays: scp, snomed, abbreviation, icbeb_number, local; else found."
        ),
    ] = None,
    recorded_rate: Annotated[
        float | None, typer.Option(help="arrays: sampling rate of the recordings in Hz.")
    ] = None,
    unit: Annotated[str | None, typer.Option(help="arrays: mV, uV or V.")] = None,
    leads: Annotated[
        str | None, typer.Option(help="arrays: names in their order, I,II,III,...; else that.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the set.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read recordings and write them as a set: one rate, one length, one label space.

    Published corpora (ptbxl, icbeb2018), any folder of WFDB records (wfdb), or numpy and csv files
    (arrays). Interrupted, the same command goes on.

    Example: ecgtransfer data prepare ptbxl downloads/ptb-xl --to sets/ptbxl
    """
    output = Output(json, quiet)
    with output.progress(f"{corpus} records") as progress:
        report = pipeline.prepare_set(
            corpus,
            folder,
            to,
            labels=labels,
            description=pipeline.Description(
                table, vocabulary, recorded_rate, unit, leads.split(",") if leads else None
            ),
            sampling_rate_hz=rate,
            seconds=seconds,
            keep_unlabelled=keep_unlabelled,
            drop_duplicates=drop_duplicates,
            workers=workers,
            overwrite=overwrite,
            progress=progress,
        )
    output.result(report, str(report))
