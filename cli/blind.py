"""`ecgtransfer evaluate blind`: can a clinician tell synthetic ECGs from recorded ones?"""

from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import drawing, evaluation, pipeline
from ecgtransfer.defaults import BLIND_RECORDS, PAPER_LAYOUT
from ecgtransfer.storage import to_card

from .console import Facts, Grid, Json, Output, Quiet


def blind(
    folder: Annotated[Path, typer.Argument(help="Run folder; with --score, the folder of a test.")],
    to: Annotated[Path | None, typer.Option(help="Folder of the test to write.")] = None,
    records: Annotated[int, typer.Option(min=1, help="ECGs of each kind.")] = BLIND_RECORDS,
    method: Annotated[str | None, typer.Option(help="Whose set; the run's only one else.")] = None,
    name: Annotated[str, typer.Option(help="Of the set.")] = "synthetic",
    layout: Annotated[str, typer.Option(help="3x4 or 12x1.")] = PAPER_LAYOUT,
    score: Annotated[bool, typer.Option("--score", help="Score the filled-in sheets.")] = False,
    answers: Annotated[
        list[Path] | None, typer.Option(help="Sheets, one a reader; else those in the folder.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write recorded and synthetic ECGs on paper, shuffled, for a reader; later, score the answers.

    Example: ecgtransfer evaluate blind runs/clinic --to readings/clinic --records 50
    """
    output = Output(json, quiet)
    if score:
        result = evaluation.score_blind_test(folder, answers)
        sentences = result.sentences()
        header, *rows = evaluation.reader_table(result).texts()
        payload = to_card(result) | {"sentences": sentences}
        output.result(payload, Grid("Readers", header, rows), *sentences)
        return
    if to is None:
        raise typer.BadParameter("give a folder for the test, or --score", param_hint="--to")
    if layout not in drawing.SHEETS:
        raise typer.BadParameter(f"expected {' or '.join(drawing.SHEETS)}", param_hint="--layout")
    run = pipeline.Run.open(folder)
    source = pipeline.load_source(run)
    settings = pipeline.BlindSettings(method, name, records, layout, seed)
    with output.progress("ECGs") as progress:
        test = pipeline.write_blind(run, pipeline.load_target(run, source), settings, to, progress)
    payload = evaluation.describe_blind_test(test)
    facts = [(word.replace("_", " "), value) for word, value in payload.items()]
    after = f"ecgtransfer evaluate blind {to} --score"
    warnings = [test.warning()] if test.warning() else []
    after = f"When it is filled in: {after}"
    output.result(payload, Facts("Blind test", facts), *warnings, after)
