"""`ecgtransfer data`: sets of recordings."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ecgtransfer.corpus import ECGSet
from ecgtransfer.pipeline import prepare_set, show_record

from .console import Facts, Grid, Json, Output, Quiet, add_command

app = typer.Typer(
    name="data",
    help="Prepare, verify and show sets of recordings.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


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


def verify(
    folder: Annotated[Path, typer.Argument(help="A prepared or synthetic set.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read a whole set and hold it against its fingerprint.

    Example: ecgtransfer data verify sets/ptbxl
    """
    ecgset = ECGSet.open(folder)
    ecgset.verify()
    payload = {"set": folder, "records": len(ecgset), "fingerprint": ecgset.fingerprint}
    Output(json, quiet).result(payload, Facts("As it was written", list(payload.items())))


def show(
    folder: Annotated[Path, typer.Argument(help="A prepared or synthetic set.")],
    record: Annotated[str | None, typer.Argument(help="A record's name; none: the set.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Draw the record on ECG paper: .png, .svg or .pdf.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Describe a set, or one record of it.

    Example: ecgtransfer data show sets/ptbxl 00001 --out 00001.png
    """
    output = Output(json, quiet)
    ecgset = ECGSet.open(folder)
    if record is not None:
        shown = show_record(ecgset, record, out)
        output.result(shown, Facts(record, _rows(asdict(shown))))
        return
    if out is not None:
        raise typer.BadParameter("name the record to draw", param_hint="--out")
    counts = {
        name: int(total)
        for name, total in zip(ecgset.label_space.names, ecgset.labels.sum(axis=0), strict=True)
    }
    payload = {
        "set": folder,
        "origin": ecgset.origin,
        "records": len(ecgset),
        "patients": int(ecgset.records.patient.nunique()),
        "samples": ecgset.n_samples,
        "sampling_rate_hz": ecgset.sampling_rate_hz,
        "fingerprint": ecgset.fingerprint,
    }
    output.result(
        payload | {"labels": counts},
        Facts(str(folder), _rows(payload)),
        Grid("Records of each label", ("label", "records"), list(counts.items())),
    )


def _rows(facts: dict[str, Any]) -> list[tuple[str, object]]:
    return [(name.replace("_", " "), value) for name, value in facts.items()]


for command in (prepare, verify, show):
    add_command(app, command)
