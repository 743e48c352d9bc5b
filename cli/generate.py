"""`ecgtransfer generate`: generate labelled synthetic records."""

from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import corpus, pipeline, synthesis, training
from ecgtransfer.defaults import LABEL_SCALE, RECORD_SOLVER, RECORD_STEPS

from .console import Json, KeyValues, Output, Quiet


def generate(
    run: Annotated[Path, typer.Argument(help="Run folder with a finished transfer.")],
    count: Annotated[
        list[str] | None,
        typer.Option(
            help='Labels and number of records, e.g. "AFIB=200" or "CRBBB+PVC=20"; repeat for '
            "several."
        ),
    ] = None,
    per_class: Annotated[
        int | None, typer.Option(min=1, help="Records per label, instead of --count.")
    ] = None,
    ratio: Annotated[
        float | None,
        typer.Option(
            help="Synthetic records per target training record, in the target's mix of labels."
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="Transfer method to generate with; needed if the run has several."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the synthetic set.")] = "synthetic",
    steps: Annotated[int, typer.Option(min=2, help="Steps of the sampler.")] = RECORD_STEPS,
    solver: Annotated[
        str, typer.Option(help="Solver of the sampler: adams, dpmpp2m or heun.")
    ] = RECORD_SOLVER,
    label_scale: Annotated[
        float, typer.Option(help="Scale of classifier-free guidance; 1 turns it off.")
    ] = LABEL_SCALE,
    heart_rate: Annotated[
        str | None,
        typer.Option(help='Heart rate of every record in beats per minute, e.g. "45-60".'),
    ] = None,
    beats: Annotated[
        Path | None,
        typer.Option(
            help="Rhythms to use in turn: a set, a WFDB annotation file (100.atr), or a CSV with "
            "the columns time_s, kind and record."
        ),
    ] = None,
    age: Annotated[float | None, typer.Option(help="Age of the patients in years.")] = None,
    sex: Annotated[str | None, typer.Option(help="Sex of the patients: male or female.")] = None,
    wfdb: Annotated[bool, typer.Option(help="Also write WFDB records and a CSV of labels.")] = True,
    shard: Annotated[
        str | None,
        typer.Option(
            help="Generate only this part, e.g. 3/16, on any machine that shares the run folder; "
            "without --shard, finished parts are joined."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Generate labelled synthetic ECGs. An interrupted command resumes.

    Under `torchrun` or `accelerate launch` each process generates a part, and one joins them.

    Example: ecgtransfer generate runs/clinic --count AFIB=200 --count "CRBBB+PVC=20" --shard 1/2
    """
    settings = pipeline.GenerateSettings(
        counts=tuple(count or ()),
        per_class=per_class,
        ratio=ratio,
        method=method,
        name=name,
        sampler=pipeline.SamplerSettings(steps, solver, label_scale),
        seed=seed,
        steering=pipeline.Steering(
            None if heart_rate is None else pipeline.parse_heart_rate(heart_rate),
            None if beats is None else pipeline.absolute(beats),
            age,
            sex,  # type: ignore[arg-type]  # checked on construction
        ),
    )
    part = None if shard is None else synthesis.Shard.parse(shard)
    output = Output(json, quiet)
    opened = pipeline.Run.open(run)
    disk: dict[str, object] = {}

    def report_disk(space: "synthesis.DiskSpace") -> None:
        disk["disk"] = space.to_dict()
        output.note(f"{'the set' if part is None else f'shard {part}'} {space}")

    with output.progress("synthetic records") as progress:
        ecgset = pipeline.synthesise(
            opened, pipeline.load_source(opened), settings, progress, shard=part, disk=report_disk
        )
    payload = _facts(ecgset) | disk
    sentences = []
    if part is not None and "shard" in ecgset.card:
        left = pipeline.unfinished_shards(opened, name, str(ecgset.card["method"]), part.of)
        payload |= {"shard": str(part), "unfinished_shards": [str(other) for other in left]}
        sentences.append(
            f"Shards still to generate: --shard {', '.join(map(str, left))}."
            if left
            else "All shards are generated; the same command without --shard joins them."
        )
    elif wfdb and training.is_main_process():
        with output.progress("WFDB records") as progress:
            payload["wfdb"] = pipeline.export(opened, name, str(ecgset.card["method"]), progress)
    output.result(
        payload,
        KeyValues("Synthetic records, not for diagnosis", list(payload.items())),
        *sentences,
    )


def _facts(ecgset: "corpus.ECGSet") -> dict[str, object]:
    # Summed in float64: float32 stops counting at 16 million.
    totals = ecgset.labels.sum(axis=0, dtype=float)
    return {
        "set": ecgset.folder,
        "records": len(ecgset),
        "fingerprint": ecgset.fingerprint,
        "method": ecgset.card["method"],
        "counts": {
            label: int(total) for label, total in zip(ecgset.label_space.names, totals, strict=True)
        },
    }
