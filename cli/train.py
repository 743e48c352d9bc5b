"""`ecgtransfer train`: train the source model."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import pipeline

from .console import Json, KeyValues, Output, Quiet


def train(
    run: Annotated[Path, typer.Argument(help="Run folder; created if it does not exist.")],
    set_folder: Annotated[
        Path | None, typer.Option("--set", help="Prepared set of the source; required.")
    ] = None,
    source: Annotated[Path | None, typer.Option("--source", hidden=True)] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(
            help='Training records, e.g. "fold=1-8" or "device!=CS-12"; repeat to combine.'
        ),
    ] = None,
    validation: Annotated[
        list[str] | None,
        typer.Option(help='Records for the held-out loss, e.g. "fold=9".'),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="Size of the model and its training: tiny, cpu or gpu.")
    ] = "cpu",
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps; default: from the preset.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Records per batch; default: from the preset.")
    ] = None,
    accumulate: Annotated[
        int, typer.Option(min=1, help="Batches per step and process, whose gradients are averaged.")
    ] = 1,
    learning_rate: Annotated[
        float | None, typer.Option(help="Learning rate; default: from the preset.")
    ] = None,
    precision: Annotated[str, typer.Option(help="Arithmetic: auto, float32 or bfloat16.")] = "auto",
    start: Annotated[
        str | None,
        typer.Option(
            help="Start from this model (shipped, of a run, or exported), not from random weights."
        ),
    ] = None,
    factorised: Annotated[
        bool,
        typer.Option(
            "--factorised/--plain",
            help="Model rhythm, beat shapes given the rhythm, and records given both; or only "
            "records given their labels.",
        ),
    ] = True,
    least_records: Annotated[
        int,
        typer.Option(
            min=1,
            help="Exclude statements with fewer training records, except the nine ICBEB classes "
            "(factorised models only).",
        ),
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the conditional diffusion model of the source. An interrupted training resumes.

    Example: ecgtransfer train runs/clinic --set sets/ptbxl --select fold=1-8 --validation fold=9
    """
    output = Output(json, quiet)
    if source is not None:
        output.warn("--source of 'train' is now called --set; the old name will be removed")
    chosen = set_folder or source
    if chosen is None:
        raise typer.BadParameter("expected the folder of a prepared set", param_hint="--set")
    settings = pipeline.SourceSettings(
        source=chosen,
        select=tuple(select or ()),
        validation=tuple(validation or ()),
        preset=preset,
        steps=steps,
        batch_size=batch_size,
        accumulate=accumulate,
        learning_rate=learning_rate,
        precision=precision,
        seed=seed,
        factorised=factorised,
        least_records=least_records,
    )
    initial = None if start is None else pipeline.read_source(pipeline.find_source(start))
    summary = pipeline.train_source(
        pipeline.Run.create(run), settings, start=initial, bars=output.training
    )
    values = asdict(summary) | {
        "labels": ", ".join(f"{label} {count}" for label, count in summary.labels.items()),
        "corpus": pipeline.corpus_in_words(summary.corpus),
        "stages": ", ".join(
            f"{name.replace('_', ' ')} {each.steps} steps, held-out loss {_loss(each)}"
            for name, each in summary.stages.items()
        )
        or "records only",
    }
    rows = [(name.replace("_", " "), value) for name, value in values.items()]
    output.result(summary, KeyValues(f"Source model in {run / 'source'}", rows))


def _loss(stage: "pipeline.StageSummary") -> str:
    return "not measured" if stage.validation_loss is None else f"{stage.validation_loss:.3f}"
