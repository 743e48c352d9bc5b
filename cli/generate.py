"""`ecgtransfer generate`: labelled synthetic records."""

from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import corpus, pipeline, synthesis, training
from ecgtransfer.defaults import LABEL_SCALE, RECORD_SOLVER, RECORD_STEPS

from .console import Facts, Json, Output, Quiet


def generate(
    run: Annotated[Path, typer.Argument(help="Run folder with a finished transfer.")],
    count: Annotated[
        list[str] | None, typer.Option(help='Labels and number, e.g. "AFIB=200", "CRBBB+PVC=20".')
    ] = None,
    per_class: Annotated[
        int | None, typer.Option(min=1, help="Records of each label, in place of --count.")
    ] = None,
    ratio: Annotated[
        float | None,
        typer.Option(help="So many times the target's training records, in their mix of labels."),
    ] = None,
    method: Annotated[str | None, typer.Option(help="Of the run's transfers.")] = None,
    name: Annotated[str, typer.Option(help="Of the set.")] = "synthetic",
    steps: Annotated[int, typer.Option(min=2, help="Sampler steps.")] = RECORD_STEPS,
    solver: Annotated[str, typer.Option(help="adams, dpmpp2m or heun.")] = RECORD_SOLVER,
    label_scale: Annotated[
        float, typer.Option(help="Classifier-free guidance; 1 is the model as it is.")
    ] = LABEL_SCALE,
    heart_rate: Annotated[
        str | None, typer.Option(help='Heart rate of every record, beats a minute, e.g. "45-60".')
    ] = None,
    beats: Annotated[
        Path | None,
        typer.Option(
            help="Rhythms to take in turn: a set, a WFDB annotation (100.atr), or a csv with the "
            "columns time_s, kind and record."
        ),
    ] = None,
    age: Annotated[float | None, typer.Option(help="Age of the patients, years.")] = None,
    sex: Annotated[str | None, typer.Option(help="Sex of the patients: male or female.")] = None,
    wfdb: Annotated[bool, typer.Option(help="Also write WFDB records and a csv.")] = True,
    shard: Annotated[
        str | None,
        typer.Option(
            help="Draw only this part, e.g. 3/16, here or on another machine that sees the folder; "
            "without it, parts that were drawn are joined."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw labelled synthetic ECGs. Goes on where it was stopped.

    Under `torchrun` or `accelerate launch` every process draws a part, and one joins them.

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
    asked: dict[str, object] = {}

    def tell(disk: "synthesis.DiskSpace") -> None:
        asked["disk"] = disk.to_dict()
        output.note(f"{'the set' if part is None else f'shard {part}'} {disk}")

    with output.progress("synthetic records") as progress:
        ecgset = pipeline.synthesise(
            opened, pipeline.load_source(opened), settings, progress, shard=part, disk=tell
        )
    payload = _facts(ecgset) | asked
    sentences = []
    if part is not None and "shard" in ecgset.card:
        left = pipeline.unfinished_shards(opened, name, str(ecgset.card["method"]), part.of)
        payload |= {"shard": str(part), "unfinished_shards": [str(other) for other in left]}
        sentences.append(
            f"Still to be drawn: --shard {', '.join(map(str, left))}."
            if left
            else "All shards are drawn: the same command without --shard joins them."
        )
    elif wfdb and training.is_main_process():
        with output.progress("WFDB records") as progress:
            payload["wfdb"] = pipeline.export(opened, name, str(ecgset.card["method"]), progress)
    output.result(
        payload, Facts("Synthetic records, not for diagnosis", list(payload.items())), *sentences
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
