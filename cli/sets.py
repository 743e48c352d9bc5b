"""`ecgtransfer data verify` and `show`: what is in a set."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ecgtransfer.corpus import ECGSet
from ecgtransfer.pipeline import show_record

from .console import Facts, Grid, Json, Output, Quiet


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
