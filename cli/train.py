"""`ecgtransfer train`: the source model."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import pipeline

from .console import Facts, Json, Output, Quiet


def train(
    run: Annotated[Path, typer.Argument(help="Run folder; begun if it is new.")],
    set_folder: Annotated[
        Path | None, typer.Option("--set", help="Prepared set of the source. Required.")
    ] = None,
    source: Annotated[Path | None, typer.Option("--source", hidden=True)] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(help='Source records, e.g. "fold=1-8" or "device!=CS-12"; all must hold.'),
    ] = None,
    validation: Annotated[
        list[str] | None,
        typer.Option(help='Records that are only scored, e.g. "fold=9".'),
    ] = None,
    preset: Annotated[str, typer.Option(help="tiny, cpu or gpu.")] = "cpu",
    steps: Annotated[int | None, typer.Option(min=1, help="In place of the preset's.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="In place of the preset's.")] = None,
    accumulate: Annotated[
        int, typer.Option(min=1, help="Batches a step in each process: their gradients' mean.")
    ] = 1,
    learning_rate: Annotated[float | None, typer.Option(help="In place of the preset's.")] = None,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    start: Annotated[
        str | None,
        typer.Option(
            help="Go on from this model (shipped, run, or exported) instead of fresh weights."
        ),
    ] = None,
    factorised: Annotated[
        bool,
        typer.Option(
            "--factorised/--plain",
            help="Learn rhythm, beat shapes and records one given the other, or records given "
            "their labels alone.",
        ),
    ] = True,
    least_records: Annotated[
        int,
        typer.Option(
            min=1,
            help="Leave out statements with fewer training records, except the nine ICBEB classes "
            "(factorised models).",
        ),
    ] = 1,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the conditional diffusion model of the source. Resumes where it was stopped.

    Example: ecgtransfer train runs/clinic --set sets/ptbxl --select fold=1-8 --validation fold=9
    """
    output = Output(json, quiet)
    if source is not None:
        output.warn("--source of 'train' is now called --set; the old name will be removed")
    chosen = set_folder or source
    if chosen is None:
        raise typer.BadParameter("missing; give the folder of a prepared set", param_hint="--set")
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
    begun = None if start is None else pipeline.read_source(pipeline.find_source(start))
    summary = pipeline.train_source(
        pipeline.Run.create(run), settings, start=begun, bars=output.training
    )
    told = asdict(summary) | {
        "labels": ", ".join(f"{label} {count}" for label, count in summary.labels.items()),
        "corpus": pipeline.corpus_in_words(summary.corpus),
        "stages": ", ".join(
            f"{name.replace('_', ' ')} {each.steps} steps, held-out loss {_loss(each)}"
            for name, each in summary.stages.items()
        )
        or "records alone",
    }
    rows = [(name.replace("_", " "), value) for name, value in told.items()]
    output.result(summary, Facts(f"Source model in {run / 'source'}", rows))


def _loss(stage: "pipeline.StageSummary") -> str:
    return "not measured" if stage.validation_loss is None else f"{stage.validation_loss:.3f}"
