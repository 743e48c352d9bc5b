"""`ecgtransfer data show`: what is in a set, or in a record."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from ecgtransfer import corpus, drawing

from .console import Facts, Grid, Json, Output, Quiet

#: What a table of its own tells.
_TABLES = ("labels", "combinations")


def show(
    folder: Annotated[
        Path, typer.Argument(help="A prepared or synthetic set; for one record also WFDB files.")
    ],
    record: Annotated[str | None, typer.Argument(help="A record's name; none: the set.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Draw it: a record on ECG paper, a set on a page; .png, .svg or .pdf."),
    ] = None,
    layout: Annotated[str, typer.Option(help="Of a record's drawing: 3x4 or 12x1.")] = "3x4",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Describe a set, or one record of it or of a folder of WFDB files.

    Example: ecgtransfer data show sets/ptbxl 00001 --out 00001.png
    """
    from ecgtransfer.corpus.sets.ecgset import is_ecgset

    if layout not in drawing.SHEETS:
        raise typer.BadParameter(f"expected {' or '.join(drawing.SHEETS)}", param_hint="--layout")
    output = Output(json, quiet)
    if record is None:
        shown = drawing.show_set(corpus.ECGSet.open(folder), out)
        output.result(shown, Facts(str(folder), _rows(shown)), *_tables(shown))
    else:
        one = (
            drawing.show_record(corpus.ECGSet.open(folder), record, out, layout)
            if is_ecgset(folder)
            else drawing.show_recording(folder, record, out, layout)
        )
        output.result(one, Facts(record, _named(asdict(one))))


def _rows(shown: "drawing.ShownSet") -> list[tuple[str, object]]:
    """What a line each can tell."""
    held = {field.name: getattr(shown, field.name) for field in fields(shown)}
    return _named({name: value for name, value in held.items() if name not in _TABLES})


def _tables(shown: "drawing.ShownSet") -> tuple[Grid, Grid]:
    return (
        Grid("Records of each label", ("label", "records"), list(shown.labels.items())),
        Grid(
            "The most frequent labels of a record",
            ("labels", "records"),
            list(shown.combinations.items()),
        ),
    )


def _named(facts: dict[str, Any]) -> list[tuple[str, object]]:
    return [(name.replace("_", " "), value) for name, value in facts.items()]
