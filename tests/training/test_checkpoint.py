import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from small_training import (
    CONFIG,
    Killed,
    assert_the_same,
    batches,
    facts_of,
    files,
    half_written,
    loss,
    network,
    raising,
    score,
    scores,
)

from ecgtransfer.errors import RunError
from ecgtransfer.training import fit


@pytest.mark.parametrize("checkpoint_every", [1, 5, 7])
@pytest.mark.parametrize("killed_at", [2, 13, 23])
def test_a_killed_training_is_resumed_exactly(checkpoint_every, killed_at, undisturbed, tmp_path):
    config = replace(CONFIG, checkpoint_every=checkpoint_every)
    with pytest.raises(Killed):
        fit(network(), loss, raising(batches, killed_at, Killed), config, tmp_path, validate=score)
    assert not (tmp_path / "weights.safetensors").exists()
    begun = (tmp_path / "checkpoint.safetensors").exists()
    assert begun == (killed_at >= checkpoint_every)
    model = network(seed=1 if begun else 0)  # where a checkpoint is, all comes from it
    result = fit(model, loss, batches, config, tmp_path, validate=score)
    assert_the_same(model, tmp_path, result, undisturbed)


def test_a_training_killed_again_and_again_is_resumed_exactly(undisturbed, tmp_path):
    for killed_at in (6, 7, 11, 18, 23):
        with pytest.raises(Killed):
            fit(
                network(),
                loss,
                raising(batches, killed_at, Killed),
                CONFIG,
                tmp_path,
                validate=score,
            )
    model = network()
    result = fit(model, loss, batches, CONFIG, tmp_path, validate=score)
    assert_the_same(model, tmp_path, result, undisturbed)


def test_a_resumed_training_may_keep_checkpoints_at_another_pace(undisturbed, tmp_path):
    with pytest.raises(Killed):
        fit(network(), loss, raising(batches, 17, Killed), CONFIG, tmp_path, validate=score)
    model = network()
    config = replace(CONFIG, checkpoint_every=2)
    result = fit(model, loss, batches, config, tmp_path, validate=score)
    assert_the_same(model, tmp_path, result, undisturbed)


def test_patience_is_counted_on_after_an_interruption(tmp_path):
    config = replace(CONFIG, validate_every=2, patience=3, checkpoint_every=1)
    validate = scores([9, 3, 2, 5, 5])
    with pytest.raises(Killed):
        fit(network(), loss, raising(batches, 9, Killed), config, tmp_path, validate=validate)
    model = network(seed=1)
    result = fit(model, loss, batches, config, tmp_path, validate=scores([5, 0]))
    assert (result.steps, result.best_step, result.validation) == (10, 4, 2)


def test_a_training_that_has_stopped_early_stays_so_when_resumed(tmp_path):
    config = replace(CONFIG, validate_every=2, patience=1)
    wanted = network()
    wanted_result = fit(
        wanted, loss, batches, config, tmp_path / "one", validate=scores([9, 2, 1, 3])
    )

    def interrupted(state):
        if state.step == 6:
            raise KeyboardInterrupt

    folder = tmp_path / "two"
    with pytest.raises(KeyboardInterrupt):
        fit(
            network(),
            loss,
            batches,
            config,
            folder,
            validate=scores([9, 2, 1, 3]),
            progress=interrupted,
        )
    assert facts_of(folder)["stopped"]
    model = network(seed=1)
    result = fit(model, loss, batches, config, folder, validate=scores([]))
    assert math.isfinite(result.loss)
    assert_the_same(model, folder, result, (wanted, tmp_path / "one", wanted_result))


def test_the_checkpoint_of_another_network_is_refused_and_nothing_touched(begun):
    held = (begun / "checkpoint.safetensors").read_bytes()
    other = network(width=7)
    before = other[0].weight.clone()
    with pytest.raises(RunError, match=r"checkpoint of another network.*remove it to start over"):
        fit(other, loss, batches, CONFIG, begun, validate=score)
    assert torch.equal(other[0].weight, before)
    assert (begun / "checkpoint.safetensors").read_bytes() == held


def test_the_checkpoint_of_a_training_of_other_parameters_is_refused(begun):
    frozen = network()
    frozen[0].requires_grad_(False)
    with pytest.raises(RunError, match=r"checkpoint of another network"):
        fit(frozen, loss, batches, CONFIG, begun, validate=score)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seed": 4}, "other settings \\(seed 3, not 4\\); continue with those"),
        ({"steps": 30, "learning_rate": 0.1}, "steps 24, not 30; learning_rate 0.02, not 0.1"),
        ({"accumulate": 2}, "other settings \\(accumulate at its default, not 2\\)"),
    ],
)
def test_a_training_is_not_resumed_with_other_settings(changes, sentence, begun):
    with pytest.raises(RunError, match=sentence):
        fit(network(), loss, batches, replace(CONFIG, **changes), begun, validate=score)


def test_a_training_that_accumulates_is_not_resumed_without(tmp_path):
    config = replace(CONFIG, accumulate=2)
    with pytest.raises(Killed):
        fit(network(), loss, raising(batches, 31, Killed), config, tmp_path)
    with pytest.raises(RunError, match=r"other settings \(accumulate 2, not at its default\)"):
        fit(network(), loss, batches, CONFIG, tmp_path)


def test_a_checkpoint_states_the_settings_that_it_stated_before_there_was_accumulation(begun):
    assert set(facts_of(begun)["settings"]) == {
        *("steps", "batch_size", "learning_rate", "warmup_steps", "weight_decay"),
        *("gradient_clip", "ema_decay", "validate_every", "patience", "seed"),
    }


def rewritten(folder, change):
    """Change the facts of the checkpoint in `folder`."""
    path = folder / "checkpoint.safetensors"
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        facts = json.loads(file.metadata()["state"])
    change(facts)
    save_file(tensors, path, metadata={"state": json.dumps(facts)})


def of_the_first_version(facts):
    for name in ("settled", "loss", "gradient_norm", "recent", "settings"):
        del facts[name]


def test_a_checkpoint_of_the_first_version_is_resumed(tmp_path):
    config = replace(CONFIG, checkpoint_every=4)
    wanted = network()
    wanted_result = fit(wanted, loss, batches, config, tmp_path / "one", validate=score)
    folder = tmp_path / "two"
    with pytest.raises(Killed):
        fit(network(), loss, raising(batches, 17, Killed), config, folder, validate=score)
    rewritten(folder, of_the_first_version)
    model = network(seed=1)
    result = fit(model, loss, batches, config, folder, validate=score)
    assert_the_same(model, folder, result, (wanted, tmp_path / "one", wanted_result))


def test_a_checkpoint_of_the_first_version_past_the_end_is_refused(begun):
    rewritten(begun, of_the_first_version)
    with pytest.raises(RunError, match=r"other settings \(steps 15, not 10\)"):
        fit(network(), loss, batches, replace(CONFIG, steps=10), begun, validate=score)


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_a_truncated_checkpoint_is_refused(size, begun):
    path = begun / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(RunError, match=r"not a complete safetensors file .*; remove it and run"):
        fit(network(), loss, batches, CONFIG, begun, validate=score)


@pytest.mark.parametrize(
    "content", [{"weight": torch.ones(2)}, {"network.0.weight": torch.ones(2)}]
)
def test_a_foreign_file_in_the_place_of_the_checkpoint_is_refused(content, begun):
    save_file(content, begun / "checkpoint.safetensors")
    with pytest.raises(RunError, match=r"is not the checkpoint of a training; remove it"):
        fit(network(), loss, batches, CONFIG, begun, validate=score)


def test_a_full_disk_is_said_in_a_sentence_and_leaves_the_last_checkpoint(
    begun, undisturbed, monkeypatch
):
    held = (begun / "checkpoint.safetensors").read_bytes()
    monkeypatch.setattr("ecgtransfer.training.files.save_file", half_written)
    with pytest.raises(RunError, match=r"could not be written .*No space left.*; make room"):
        fit(network(), loss, batches, CONFIG, begun, validate=score)
    assert (begun / "checkpoint.safetensors").read_bytes() == held
    assert files(begun) == ["checkpoint.safetensors", "log.csv"]
    monkeypatch.undo()
    model = network(seed=1)
    result = fit(model, loss, batches, CONFIG, begun, validate=score)
    assert_the_same(model, begun, result, undisturbed)


def test_a_full_disk_at_ctrl_c_is_said_too(tmp_path, monkeypatch):
    monkeypatch.setattr("ecgtransfer.training.files.save_file", half_written)
    with pytest.raises(RunError, match=r"could not be written"):
        fit(network(), loss, raising(batches, 2, KeyboardInterrupt), CONFIG, tmp_path)
    assert files(tmp_path) == ["log.csv"]
