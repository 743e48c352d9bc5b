"""`ecgtransfer data prepare`: make a set from recordings on disk."""

from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import pipeline

from .console import Json, Output, Quiet


def prepare(
    corpus: Annotated[
        str, typer.Argument(help="Corpus or format: ptbxl, icbeb2018, wfdb or arrays.")
    ],
    folder: Annotated[Path, typer.Argument(help="Folder of the recordings.")],
    to: Annotated[Path, typer.Option(help="Folder of the new set.")],
    labels: Annotated[
        str, typer.Option(help="Name of a label space, or a CSV file with your own.")
    ] = "icbeb9",
    rate: Annotated[int, typer.Option(min=50, help="Sampling rate of the set in Hz.")] = 100,
    seconds: Annotated[float, typer.Option(help="Length of every record in seconds.")] = 10.0,
    keep_unlabelled: Annotated[
        bool, typer.Option("--keep-unlabelled", help="Also keep records without a label.")
    ] = False,
    drop_duplicates: Annotated[
        bool,
        typer.Option(
            "--drop-duplicates", help="Keep only one of the records with the same signal."
        ),
    ] = False,
    table: Annotated[
        Path | None,
        typer.Option(help="wfdb, arrays: CSV with record, labels, patient, age, sex, fold, ..."),
    ] = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(
            help="wfdb, arrays: code system of the labels: scp, snomed, abbreviation, "
            "icbeb_number or local; default: detected."
        ),
    ] = None,
    recorded_rate: Annotated[
        float | None, typer.Option(help="arrays: sampling rate of the recordings in Hz.")
    ] = None,
    unit: Annotated[
        str | None, typer.Option(help="arrays: unit of the signals: mV, uV or V.")
    ] = None,
    leads: Annotated[
        str | None,
        typer.Option(
            help="arrays: lead names in their order; default: I,II,III,aVR,aVL,aVF,V1-V6."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read recordings.")] = 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing set.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read recordings and write a set with one sampling rate, length and label space.

    Reads published corpora (ptbxl, icbeb2018), any folder of WFDB records (wfdb), or NumPy and CSV
    files (arrays). An interrupted command resumes.

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
