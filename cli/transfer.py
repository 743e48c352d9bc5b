"""`ecgtransfer transfer`: from the source's model to the target's."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import pipeline
from ecgtransfer.defaults import (
    ETA_CONSISTENCY,
    ETA_CYCLE,
    ETA_GUIDANCE,
    LORA_RANK,
    SOBOLEV,
    TARGET_POSITIVES,
    TRANSFER_FOLDS,
    GuidanceForm,
    SplitProtocol,
)
from ecgtransfer.errors import ConfigError

from .console import Facts, Json, Output, Quiet, shown


def transfer(
    run: Annotated[
        Path, typer.Argument(help="Run folder with a trained source; new with --source.")
    ],
    target: Annotated[Path, typer.Option(help="Prepared target set.")],
    select: Annotated[
        list[str] | None, typer.Option(help='Target records, e.g. "device=CS-12".')
    ] = None,
    train_records: Annotated[
        int | None,
        typer.Option(min=5, help="Target records to learn from (three quarters); the rest test."),
    ] = None,
    protocol: Annotated[
        SplitProtocol,
        typer.Option(
            help="paper: fold 10 trains, 1-8 test; standard: 1-8 train, 9 is held out, 10 tests; "
            "cross-validation: by --part; split: by --train-records."
        ),
    ] = "split",
    part: Annotated[
        str | None, typer.Option(help="Of a cross-validation: 2/5 tests the second of five.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help="Take over a shipped model, another run's source or an exported model."),
    ] = None,
    source_set: Annotated[
        Path | None, typer.Option(help="The source's records, prepared, where they lie here.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="tgdp, stack, finetune, lora, difffit, scratch or source.")
    ] = "tgdp",
    source_records: Annotated[
        str | None,
        typer.Option(
            help="real (where they are here), or model: drawn from the source model itself."
        ),
    ] = None,
    source_count: Annotated[
        int, typer.Option(min=8, help="Source records in the transfer.")
    ] = 2000,
    form: Annotated[GuidanceForm, typer.Option(help="Of the guidance loss.")] = "logistic",
    eta_guidance: Annotated[
        float, typer.Option(help="Weight of the guidance loss.")
    ] = ETA_GUIDANCE,
    eta_cycle: Annotated[float, typer.Option(help="Weight of the cycle loss.")] = ETA_CYCLE,
    eta_consistency: Annotated[
        float, typer.Option(help="Weight of the consistency loss, summed over the record.")
    ] = ETA_CONSISTENCY,
    sobolev: Annotated[float, typer.Option(help="Weight of the slope penalty.")] = SOBOLEV,
    target_positives: Annotated[
        float, typer.Option(help="Share of the positives that are target records.")
    ] = TARGET_POSITIVES,
    folds: Annotated[
        int,
        typer.Option(
            min=1, help="Of target patients; above 1 tgdp is cross-fitted. A stack needs 2."
        ),
    ] = TRANSFER_FOLDS,
    lora_rank: Annotated[
        int, typer.Option(min=1, help="Of the update of every weight matrix by lora.")
    ] = LORA_RANK,
    steps: Annotated[int | None, typer.Option(min=1, help="Of guidance or fine-tuning.")] = None,
    learning_rate: Annotated[
        list[float] | None,
        typer.Option(
            help="Of guidance or fine-tuning; of several, held-out training patients choose."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Carry the source model over to the target. The source model itself stays as it is.

    Example: ecgtransfer transfer runs/clinic --source ptbxl-nine --target sets/clinic
    """
    # The package loads its networks, and torch with them.
    from ecgtransfer.transfer import LoraConfig, TgdpConfig

    output = Output(json, quiet)
    tgdp = TgdpConfig(
        form=form,
        eta_guidance=eta_guidance,
        eta_cycle=eta_cycle,
        eta_consistency=eta_consistency,
        sobolev=sobolev,
        target_positives=target_positives,
    )
    settings = pipeline.TransferSettings(
        method=method,
        source_records=source_records or "real",
        n_source=source_count,
        tgdp=tgdp,
        lora=LoraConfig(lora_rank, float(lora_rank)),
        folds=folds,
        seed=seed,
    ).trained_for(steps, learning_rate or ())
    about_target = pipeline.TargetSettings(
        target, tuple(select or ()), train_records, protocol, _part(part), seed
    )
    opened = pipeline.Run.open(run) if source is None else pipeline.Run.create(run)
    if source is not None and not run.exists():
        model = pipeline.read_source(pipeline.find_source(source))
        pipeline.check_target(model, about_target)
    if source is not None or source_set is not None:
        pipeline.adopt_source(opened, pipeline.find_source(source or str(run)), source_set)
    model = pipeline.load_source(opened)
    if source_records is None and model.location is None:
        settings = replace(settings, source_records="model")
        if method in pipeline.GUIDED:
            output.warn(
                "the source's records are not here, so that the guidance learns from records that "
                "the source model draws (--source-records model); name their set with --source-set"
            )
    goal = pipeline.settle_target(opened, model, about_target)
    summary = pipeline.transfer(opened, model, goal, settings, output.training)
    for sentence in summary.warnings:
        output.warn(sentence)
    output.result(summary, Facts(f"Transfer by {method} in {run}", _rows(summary)))


def _part(text: str | None) -> tuple[int, int] | None:
    """(2, 5) of "2/5"."""
    if text is None:
        return None
    number, slash, parts = text.partition("/")
    if not (slash and number.isdecimal() and parts.isdecimal()):
        raise ConfigError(f"expected a part such as 2/5, got {text!r}")
    return int(number), int(parts)


def _rows(summary: "pipeline.TransferSummary") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        ("target records", summary.target_records),
        ("trained parameters", summary.trained_parameters),
        ("denoising loss, calibration records, label scale 1", summary.held_out_loss),
        ("the same of the source model", summary.source_loss),
        ("seconds", summary.seconds),
    ]
    if ratio := summary.details.get("ratio"):
        rows += [
            ("E_p[r] (1 if true)", _with_error(ratio, "mean_ratio")),
            ("E_q[1/r] (1 if true)", _with_error(ratio, "mean_inverse_ratio")),
            ("effective share of the source records", ratio["effective_fraction"]),
            ("domain classifier AUC, out of fold", ratio["auc"]),
            ("its log loss (0.693 at chance)", _with_error(ratio, "log_loss")),
            ("its calibration error", ratio["calibration_error"]),
        ]
    weights = {
        "guidance weight": summary.details.get("weight"),
        "guidance weight without label": summary.details.get("weight_without_label"),
    }
    weights |= {
        f"weight of {name}": each for name, each in summary.details.get("weights", {}).items()
    }
    rows += [
        (f"{name} at sigma {sigma:.2g}", value)
        for name, weight in weights.items()
        if weight
        for sigma, value in zip(weight["sigmas"], weight["values"], strict=True)
    ]
    return rows


def _with_error(ratio: Mapping[str, float | None], name: str) -> str:
    """A mean with its standard error."""
    return f"{shown(ratio[name])} +- {shown(ratio[name + '_error'])}"
