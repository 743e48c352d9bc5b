"""`ecgtransfer data show`: describe a set or a record."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from ecgtransfer import corpus, drawing

from .console import Json, KeyValues, Output, Quiet, Table

#: Fields of `ShownSet` that are printed as tables.
_TABLES = ("labels", "combinations")


def show(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Prepared or synthetic set; with a record, also a folder of WFDB files."
        ),
    ],
    record: Annotated[
        str | None, typer.Argument(help="Name of a record; default: describe the set.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Drawing of the record on ECG paper, or of the set; .png, .svg or .pdf."),
    ] = None,
    layout: Annotated[str, typer.Option(help="Layout of a drawn record: 3x4 or 12x1.")] = "3x4",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Describe a set, or one record of a set or of a folder of WFDB files.

    Example: ecgtransfer data show sets/ptbxl 00001 --out 00001.png
    """
    from ecgtransfer.corpus.sets.ecgset import is_ecgset

    if layout not in drawing.SHEETS:
        raise typer.BadParameter(f"expected {' or '.join(drawing.SHEETS)}", param_hint="--layout")
    output = Output(json, quiet)
    if record is None:
        shown = drawing.show_set(corpus.ECGSet.open(folder), out)
        output.result(shown, KeyValues(str(folder), _rows(shown)), *_tables(shown))
    else:
        one = (
            drawing.show_record(corpus.ECGSet.open(folder), record, out, layout)
            if is_ecgset(folder)
            else drawing.show_recording(folder, record, out, layout)
        )
        output.result(one, KeyValues(record, _named(asdict(one))))


def _rows(shown: "drawing.ShownSet") -> list[tuple[str, object]]:
    """Return the fields that are printed in one line each."""
    values = {field.name: getattr(shown, field.name) for field in fields(shown)}
    return _named({name: value for name, value in values.items() if name not in _TABLES})


def _tables(shown: "drawing.ShownSet") -> tuple[Table, Table]:
    return (
        Table("Records per label", ("label", "records"), list(shown.labels.items())),
        Table(
            "Most frequent combinations of labels",
            ("labels", "records"),
            list(shown.combinations.items()),
        ),
    )


def _named(facts: dict[str, Any]) -> list[tuple[str, object]]:
    return [(name.replace("_", " "), value) for name, value in facts.items()]
