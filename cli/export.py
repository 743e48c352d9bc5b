"""`ecgtransfer data export`: a set for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import corpus
from ecgtransfer import export as exports
from ecgtransfer.defaults import SHARD_RECORDS

from .console import Facts, Json, Output, Quiet


def export(
    folder: Annotated[Path, typer.Argument(help="A prepared or synthetic set.")],
    wfdb: Annotated[
        Path | None, typer.Option(help="Folder for WFDB records and a csv of labels.")
    ] = None,
    arrays: Annotated[
        Path | None, typer.Option(help="Folder for numpy arrays: X, y, groups, weight, fold.")
    ] = None,
    webdataset: Annotated[
        Path | None, typer.Option(help="Folder for tar shards (.npy and .json a record).")
    ] = None,
    shard_records: Annotated[
        int, typer.Option(min=1, help="Records of a tar shard.")
    ] = SHARD_RECORDS,
    croissant: Annotated[
        Path | None, typer.Option(help="File for the metadata as Croissant (JSON-LD).")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a set for other programs.

    As WFDB records, as tar shards that data loaders stream (WebDataset), or what is in it as
    Croissant metadata.

    Example: ecgtransfer data export sets/clinic --webdataset shared/clinic --croissant clinic.json
    """
    if wfdb is None and arrays is None and webdataset is None and croissant is None:
        raise typer.BadParameter(
            "give at least one of them", param_hint="--wfdb, --arrays, --webdataset, --croissant"
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
    output.result(payload, Facts("Exported", list(payload.items())))
