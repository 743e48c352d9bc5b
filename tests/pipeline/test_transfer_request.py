from dataclasses import replace

import pytest

from ecgtransfer.errors import RunError
from ecgtransfer.pipeline import TargetSettings, TransferRequest, load_target, request_transfer
from tests.pipeline.small_run import transfer_settings


def request(clinic, method="source", seed=0, **options):
    target = TargetSettings(clinic.folder, train_records=16)
    return TransferRequest(target, transfer_settings(method, seed=seed), **options)


def test_trainings_with_two_seeds_share_one_split(copied, settled, source, clinic):
    run = copied(settled)
    before = load_target(run, source)
    summary = request_transfer(run.folder, request(clinic, "finetune", seed=5))
    assert summary.target_records == 16
    after = load_target(run, source)
    assert after.fingerprint == before.fingerprint
    assert (after.fit == before.fit).all()
    with pytest.raises(RunError, match=r"'target' with other settings .*seed 0, asked for 1"):
        request_transfer(run.folder, request(clinic, split_seed=1))


def test_the_split_has_a_seed_of_its_own(copied, trained, source, clinic):
    run = copied(trained)
    request_transfer(run.folder, request(clinic, seed=5, split_seed=2))
    assert run.stage("target").read(TargetSettings, "settings.target").seed == 2
    # The run's own split seed is taken where none is asked for.
    assert request_transfer(run.folder, request(clinic, seed=5)).target_records == 16


def test_without_source_records_the_guidance_learns_from_the_models_own(
    tmp_path, given, clinic, monkeypatch
):
    warned = []
    run = tmp_path / "run"
    asked = replace(request(clinic), source=str(given.folder))
    request_transfer(run, asked, warn=warned.append)
    assert warned == []  # this method learns from no source records
    with pytest.raises(RunError, match="which are not here; prepare them"):
        request_transfer(
            run,
            replace(request(clinic, "tgdp"), source=str(given.folder), source_records="real"),
            warn=warned.append,
        )
    monkeypatch.setattr("ecgtransfer.pipeline.source_records.RECORD_STEPS", 2)
    request_transfer(
        tmp_path / "other", replace(asked, settings=transfer_settings()), warn=warned.append
    )
    assert "the guidance is trained on records sampled from the source model" in warned[0]
