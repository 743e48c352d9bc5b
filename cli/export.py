"""`ecgtransfer data export`: write a set in formats of other programs."""

from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import corpus
from ecgtransfer import export as exports
from ecgtransfer.defaults import SHARD_RECORDS

from .console import Json, KeyValues, Output, Quiet


def export(
    folder: Annotated[Path, typer.Argument(help="A prepared or synthetic set.")],
    wfdb: Annotated[
        Path | None, typer.Option(help="Folder for WFDB records and a CSV of labels.")
    ] = None,
    arrays: Annotated[
        Path | None, typer.Option(help="Folder for numpy arrays: X, y, groups, weight, fold.")
    ] = None,
    webdataset: Annotated[
        Path | None, typer.Option(help="Folder for tar shards (.npy and .json per record).")
    ] = None,
    shard_records: Annotated[
        int, typer.Option(min=1, help="Records per tar shard.")
    ] = SHARD_RECORDS,
    croissant: Annotated[
        Path | None, typer.Option(help="File for the metadata in Croissant format (JSON-LD).")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Export a set for other programs.

    Formats: WFDB records, numpy arrays, tar shards that data loaders stream (WebDataset), and
    Croissant metadata.

    Example: ecgtransfer data export sets/clinic --webdataset shared/clinic --croissant clinic.json
    """
    if wfdb is None and arrays is None and webdataset is None and croissant is None:
        raise typer.BadParameter(
            "expected at least one of these options",
            param_hint="--wfdb, --arrays, --webdataset, --croissant",
        )
    output = Output(json, quiet)
    ecgset = corpus.ECGSet.open(folder)
    payload: dict[str, object] = {"set": folder, "records": len(ecgset)}
    if croissant is not None:
        exports.write_croissant(ecgset, croissant)
        payload["croissant"] = croissant
    if wfdb is not None:
        with output.progress("WFDB records") as progress:
            payload["wfdb"] = exports.export_set(ecgset, wfdb, progress)
    if arrays is not None:
        with output.progress("numpy arrays") as progress:
            payload["arrays"] = exports.export_arrays(ecgset, arrays, progress)
    if webdataset is not None:
        with output.progress("records in tar shards") as progress:
            payload["webdataset"] = exports.export_webdataset(
                ecgset, webdataset, shard_records, progress
            )
    output.result(payload, KeyValues("Exported set", list(payload.items())))
