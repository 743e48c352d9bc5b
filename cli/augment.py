"""`ecgtransfer augment`: a training set of recorded and synthetic records."""

from pathlib import Path
from typing import Annotated

import typer

from ecgtransfer import pipeline, training
from ecgtransfer.defaults import LABEL_SCALE, TRANSFER_METHODS

from .console import Json, KeyValues, Output, Quiet, Table


def augment(
    set_: Annotated[Path, typer.Argument(metavar="SET", help="Prepared set of the clinic.")],
    to: Annotated[Path, typer.Option(help="Folder of the augmented set.")],
    ratio: Annotated[
        float | None,
        typer.Option(
            help="Synthetic records per recorded training record, in their mix of labels; 1 if "
            "nothing else is given."
        ),
    ] = None,
    at_least: Annotated[
        int | None,
        typer.Option(
            min=1, help="Fewest training records of each class, recorded and synthetic together."
        ),
    ] = None,
    balance: Annotated[
        bool,
        typer.Option(
            "--balance", help="Give each class as many training records as the largest has."
        ),
    ] = False,
    gate: Annotated[
        bool,
        typer.Option(
            help="Drop synthetic records that break the rule of their class or do not resemble the "
            "recorded records of their class, and generate others instead."
        ),
    ] = True,
    train_records: Annotated[
        int | None,
        typer.Option(
            min=5, help="Records to learn from (default: three quarters); the others test."
        ),
    ] = None,
    select: Annotated[
        list[str] | None, typer.Option(help='Records that take part, e.g. "device=CS-12".')
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Run folder, outside TO; its split and transfer are used if it has them. Default: "
            "TO/run."
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="Source model of a new run: a shipped one, a run or an exported model. "
            "Default: ptbxl-cascade."
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help=f"Transfer: {', '.join(TRANSFER_METHODS)}. Default: that of the run, or tgdp."
        ),
    ] = None,
    label_scale: Annotated[
        float, typer.Option(help="Classifier-free guidance; 1 is the model without it.")
    ] = LABEL_SCALE,
    arrays: Annotated[bool, typer.Option(help="Also write numpy arrays.")] = True,
    wfdb: Annotated[bool, typer.Option(help="Also write WFDB records.")] = True,
    ptbxl: Annotated[bool, typer.Option(help="Also write the layout of PTB-XL.")] = True,
    name: Annotated[
        str, typer.Option(help="Name in the run, for a second augmentation of one run.")
    ] = "augmented",
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with settings of the transfer; see docs/transfer-config.md. Those of a "
            "run that has the transfer must be the same."
        ),
    ] = None,
    split_seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the split. Default: that of the run, or 0.")
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Seed of records, folds and the gate, and of the transfer where the run has no "
            "transfer yet.",
        ),
    ] = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a training set of a clinic's recorded ECGs and synthetic ones.

    Splits the set by patient, transfers the source model, generates and checks, as far as the run
    lacks it. Writes the training set, the test set and a data sheet. Resumes where it was stopped.

    Example: ecgtransfer augment sets/clinic --to augmented --at-least 200
    """
    output = Output(json, quiet)
    transfer = None
    if config is not None:
        base = pipeline.TransferSettings(method=method or "tgdp", seed=seed)
        transfer = pipeline.read_transfer_config(config, base)
    request = pipeline.AugmentRequest(
        run=run or pipeline.default_run(to),
        target=pipeline.TargetSettings(set_, tuple(select or ()), train_records),
        settings=pipeline.AugmentSettings(
            ratio=ratio,
            at_least=at_least,
            balance=balance,
            method=method,
            name=name,
            gate=pipeline.GateSettings() if gate else None,
            sampler=pipeline.SamplerSettings(classifier_free_scale=label_scale),
            seed=seed,
        ),
        transfer=transfer,
        source=source,
        split_seed=split_seed,
    )
    wanted = {"arrays": arrays, "wfdb": wfdb, "ptbxl": ptbxl}
    augmentation, sets = pipeline.request_augmented_sets(
        request,
        to,
        output,
        forms=tuple(form for form, written in wanted.items() if written),
        workers=training.available_cores(),
        note=output.note,
        warn=output.warn,
    )
    summary = augmentation.summary
    payload = {
        "train": sets.train.folder,
        "test": sets.test.folder,
        "forms": sets.forms,
        "data_sheet": to / "README.md",
        "run": request.run,
        "result": summary,
    }
    output.result(
        payload, _key_values(augmentation, sets), _classes(augmentation), *_gate(augmentation)
    )


def _key_values(augmentation: "pipeline.Augmentation", sets: "pipeline.AugmentedSets") -> KeyValues:
    summary = augmentation.summary
    rows: list[tuple[str, object]] = [
        ("training set", sets.train.folder),
        ("recorded records", summary.train_records),
        ("synthetic records", summary.synthetic_records),
        ("weight of a synthetic record", summary.weight),
        ("test set", sets.test.folder),
        ("test records", summary.test_records),
        *((f"as {form}", folder) for form, folder in sets.forms.items()),
        ("data sheet", sets.folder / "README.md"),
    ]
    return KeyValues("Augmented training set, not for diagnosis", rows)


def _classes(augmentation: "pipeline.Augmentation") -> Table:
    summary = augmentation.summary
    return Table(
        "Training records of each class",
        ("class", "recorded", "synthetic", "together"),
        [
            (name, count, summary.synthetic[name], count + summary.synthetic[name])
            for name, count in summary.recorded.items()
        ],
    )


def _gate(augmentation: "pipeline.Augmentation") -> list[Table]:
    """Numbers of the quality gate, if there was one."""
    counts = augmentation.summary.gate
    if not counts:
        return []
    header = ("class", "generated", "passed", "broke rule", "recorded that do", "unlike", "like")
    rows = [
        (
            each.label,
            each.generated,
            each.passed,
            each.broken if each.rule else "no rule",
            pipeline.recorded_share(each),
            pipeline.judged_unlike(each),
            each.assigned or "",
        )
        for each in counts
    ]
    return [Table("Quality gate: synthetic records", header, rows)]
