import csv
import errno
import json
import math
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.training import (
    TrainConfig,
    fit,
    load_weights,
    save_weights,
    seeded_initialisation,
    shuffled_batches,
)

CONFIG = TrainConfig(
    steps=24,
    batch_size=8,
    learning_rate=0.02,
    warmup_steps=4,
    ema_decay=0.8,
    checkpoint_every=5,
    validate_every=6,
    log_every=4,
    seed=3,
)
RECORDS = torch.from_numpy(np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32))
order = shuffled_batches(len(RECORDS), CONFIG.batch_size, CONFIG.seed)


class Killed(Exception):
    """What no code catches."""


def network(seed=0, width=6):
    with seeded_initialisation(seed):
        return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 1))


def batches(step):
    return RECORDS[order(step)]


def loss(model, batch, generator):
    x = batch[:, :4] + 0.1 * torch.randn(len(batch), 4, generator=generator)
    return (model(x)[:, 0] - batch[:, 4]).square()


@torch.no_grad()
def score(model):
    return float((model(RECORDS[:, :4])[:, 0] - RECORDS[:, 4]).square().mean())


def scores(values):
    """A validation that gives the values in turn."""
    left = iter(values)
    return lambda model: next(left)


def rows_of(folder):
    """The log without its column of seconds."""
    with (folder / "log.csv").open(newline="") as file:
        return [row[:-1] for row in csv.reader(file)]


def facts_of(folder):
    with safe_open(folder / "checkpoint.safetensors", "pt") as file:
        return json.loads(file.metadata()["state"])


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def raising(function, step, error):
    """A function of the step that fails, or is interrupted, at one step."""

    def wrapped(number):
        if number == step:
            raise error
        return function(number)

    return wrapped


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Network, folder and result of a training that nothing interrupted."""
    folder, model = tmp_path_factory.mktemp("undisturbed"), network()
    return model, folder, fit(model, loss, batches, CONFIG, folder, validate=score)


def assert_the_same(model, folder, result, undisturbed):
    wanted, wanted_folder, wanted_result = undisturbed
    assert all(map(torch.equal, model.state_dict().values(), wanted.state_dict().values()))
    assert (folder / "weights.safetensors").read_bytes() == (
        wanted_folder / "weights.safetensors"
    ).read_bytes()
    assert rows_of(folder) == rows_of(wanted_folder)
    assert replace(result, seconds=0) == replace(wanted_result, seconds=0)
    assert files(folder) == ["log.csv", "weights.safetensors"]


class Point(nn.Module):
    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(3))


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_training_reaches_the_minimiser_of_a_quadratic(ema_decay, tmp_path):
    target, curvature = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([1.0, 4.0, 0.3])

    def quadratic(model, batch, generator):
        return (curvature * (model.place - target).square()).sum().expand(batch)

    point = Point()
    config = TrainConfig(
        steps=300, learning_rate=0.1, weight_decay=0.0, warmup_steps=10, ema_decay=ema_decay
    )
    result = fit(point, quadratic, lambda step: 4, config, tmp_path)
    assert_close(point.place.data, target, atol=1e-3, rtol=0)
    assert result.loss < 1e-5
    assert (result.steps, result.best_step, result.validation) == (300, 300, None)


def test_the_mean_of_a_noisy_loss_is_what_is_minimised(tmp_path):
    def mean_square(model, batch, generator):
        return (model.place - batch).square().mean(1)

    point, records = Point(), RECORDS[:, :3]
    config = TrainConfig(steps=300, learning_rate=0.05, weight_decay=0.0, ema_decay=0.98)
    fit(point, mean_square, lambda step: records[order(step)], config, tmp_path)
    assert_close(point.place.data, records.mean(0), atol=0.05, rtol=0)


@pytest.mark.parametrize("checkpoint_every", [1, 3, 5, 12, 100])
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


@pytest.mark.parametrize("where", ["batch", "loss", "validation", "progress"])
@pytest.mark.parametrize("step", [1, 11, 23])
def test_ctrl_c_loses_no_step_wherever_it_comes(where, step, undisturbed, tmp_path):
    made = []

    def interrupted(here, function):
        def wrapped(*arguments):
            if here == where and len(made) == step:
                raise KeyboardInterrupt
            return function(*arguments)

        return wrapped

    def counted(number):
        made.append(number)

    def progressed(state):
        if where == "progress" and state.step == step:
            raise KeyboardInterrupt

    def loss_then_count(*arguments):
        value = interrupted("loss", loss)(*arguments)
        counted(0)
        return value

    def validate(model):
        if where == "validation":
            raise KeyboardInterrupt
        return score(model)

    with pytest.raises(KeyboardInterrupt):
        fit(
            network(),
            loss_then_count,
            interrupted("batch", batches),
            replace(CONFIG, checkpoint_every=100),
            tmp_path,
            validate=validate,
            progress=progressed,
        )
    done = len(made)
    assert facts_of(tmp_path)["step"] == done == (6 if where == "validation" else step)
    asked, model = [], network(seed=1)

    def remembered(number):
        asked.append(number)
        return batches(number)

    result = fit(model, loss, remembered, CONFIG, tmp_path, validate=score)
    assert asked == list(range(done, 24))
    assert_the_same(model, tmp_path, result, undisturbed)


def test_ctrl_c_in_the_last_validation_leaves_only_that_to_do(undisturbed, tmp_path):
    def validate(model):
        if facts:
            raise KeyboardInterrupt
        return score(model)

    facts = []

    def progress(state):
        facts[:] = [state] if state.step == 23 else []

    with pytest.raises(KeyboardInterrupt):
        fit(network(), loss, batches, CONFIG, tmp_path, validate=validate, progress=progress)
    assert facts_of(tmp_path)["settled"] is False
    model = network(seed=1)
    result = fit(model, loss, raising(batches, 0, Killed), CONFIG, tmp_path, validate=score)
    assert_the_same(model, tmp_path, result, undisturbed)


def test_ctrl_c_in_the_middle_of_a_step_waits_for_its_end(undisturbed, tmp_path, monkeypatch):
    take = torch.optim.AdamW.step
    taken = []

    def pressed_while_stepping(self, *arguments):
        taken.append(1)
        if len(taken) == 8:
            signal.raise_signal(signal.SIGINT)
        return take(self, *arguments)

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(torch.optim.AdamW, "step", pressed_while_stepping)
    with pytest.raises(KeyboardInterrupt):
        fit(network(), loss, batches, CONFIG, tmp_path, validate=score)
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGINT) is handler
    assert facts_of(tmp_path)["step"] == 8
    model = network(seed=1)
    result = fit(model, loss, batches, CONFIG, tmp_path, validate=score)
    assert_the_same(model, tmp_path, result, undisturbed)


def test_ctrl_c_before_the_first_step_leaves_nothing_to_resume(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(network(), loss, raising(batches, 0, KeyboardInterrupt), CONFIG, tmp_path)
    assert files(tmp_path) == []


def test_training_in_another_thread_than_the_main_one_is_the_same(undisturbed, tmp_path):
    model, results = network(), []

    def work():
        results.append(fit(model, loss, batches, CONFIG, tmp_path, validate=score))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert_the_same(model, tmp_path, results[0], undisturbed)


@pytest.mark.parametrize("worth", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_and_names_the_step(worth, tmp_path):
    def breaks(model, batch, generator):
        return loss(model, batch, generator) * (worth if model is not None and hit else 1)

    hit = []

    def batch_of(step):
        if step == 7:
            hit.append(step)
        return batches(step)

    with pytest.raises(RunError, match="the loss of step 7 is (nan|inf).*lower the learning rate"):
        fit(network(), breaks, batch_of, CONFIG, tmp_path)
    assert files(tmp_path) == ["checkpoint.safetensors", "log.csv"]
    assert facts_of(tmp_path)["step"] == 5
    model = network(seed=1)
    assert fit(model, loss, batches, CONFIG, tmp_path).steps == 24


def test_a_gradient_that_is_not_finite_stops_too(tmp_path):
    def steep(model, batch, generator):
        return sum(p.abs().sqrt().sum() for p in model.parameters()).expand(len(batch))

    model = network()
    for parameter in model.parameters():
        parameter.data.zero_()  # where the root has an infinite slope and a value of zero
    with pytest.raises(RunError, match="step 0 is 0.0 with gradient norm nan"):
        fit(model, steep, batches, CONFIG, tmp_path)
    assert files(tmp_path) == []


def test_a_loss_that_is_not_one_number_a_record_is_refused(tmp_path):
    def broadcast(model, batch, generator):
        return (model(batch[:, :4]) - batch[:, 4]).square()  # (B, 1) - (B,)

    with pytest.raises(ConfigError, match=r"one loss for each record, \(B,\), got shape \(8, 8\)"):
        fit(network(), broadcast, batches, CONFIG, tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_validation_that_is_not_finite_is_refused(value, tmp_path):
    sentence = f"validation score after step 12 is {value}.*look at the held-out records"
    with pytest.raises(RunError, match=sentence):
        fit(network(), loss, batches, CONFIG, tmp_path, validate=scores([1.0, value]))
    assert not (tmp_path / "weights.safetensors").exists()


def test_early_stopping_keeps_the_best_weights(tmp_path):
    seen = []

    def validate(model):
        seen.append([p.clone() for p in model.parameters()])
        return [5.0, 3.0, 4.0, 3.0, 1.0][len(seen) - 1]

    config = replace(CONFIG, validate_every=2, patience=2)
    model = network()
    result = fit(model, loss, batches, config, tmp_path, validate=validate)
    assert (result.steps, result.best_step, result.validation) == (8, 4, 3.0)
    assert all(map(torch.equal, model.parameters(), seen[1]))
    assert not torch.equal(seen[1][0], seen[3][0])
    loaded = network(seed=1)
    load_weights(loaded, tmp_path / "weights.safetensors")
    assert all(map(torch.equal, loaded.parameters(), seen[1]))
    assert [row[0] for row in rows_of(tmp_path)[1:]] == ["2", "4", "6", "8"]


def test_an_improvement_renews_the_patience(tmp_path):
    config = replace(CONFIG, validate_every=2, patience=2)
    validate = scores([5, 6, 4, 6, 3, 6, 6, 0, 0])
    result = fit(network(), loss, batches, config, tmp_path, validate=validate)
    assert (result.steps, result.best_step, result.validation) == (14, 10, 3)


def test_patience_is_counted_on_after_an_interruption(tmp_path):
    config = replace(CONFIG, validate_every=2, patience=3, checkpoint_every=1)
    with pytest.raises(Killed):
        validate = scores([3, 2, 5, 5])
        fit(network(), loss, raising(batches, 9, Killed), config, tmp_path, validate=validate)
    model = network(seed=1)
    result = fit(model, loss, batches, config, tmp_path, validate=scores([5, 0]))
    assert (result.steps, result.best_step, result.validation) == (10, 4, 2)


def test_a_training_that_has_stopped_early_stays_so_when_resumed(tmp_path):
    config = replace(CONFIG, validate_every=2, patience=1)
    wanted = network()
    wanted_result = fit(wanted, loss, batches, config, tmp_path / "one", validate=scores([2, 1, 3]))

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
            validate=scores([2, 1, 3]),
            progress=interrupted,
        )
    assert facts_of(folder)["stopped"]
    model = network(seed=1)
    result = fit(model, loss, batches, config, folder, validate=scores([]))
    assert math.isfinite(result.loss)
    assert_the_same(model, folder, result, (wanted, tmp_path / "one", wanted_result))


def test_without_validation_the_last_average_is_kept(tmp_path):
    config = replace(CONFIG, validate_every=0)
    kept, last = network(), network()
    fit(kept, loss, batches, config, tmp_path / "average", validate=scores([]))
    fit(last, loss, batches, replace(config, ema_decay=0.0), tmp_path / "last")
    assert not torch.equal(kept[0].weight, last[0].weight)
    assert not kept.training


def test_frozen_parameters_do_not_move_and_the_others_do(tmp_path):
    model = network()
    model[0].requires_grad_(False)
    before = {name: p.clone() for name, p in model.named_parameters()}
    fit(model, loss, batches, CONFIG, tmp_path, validate=score)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"2.weight", "2.bias"}


def test_a_network_with_nothing_to_train_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="parameters that need a gradient, got none"):
        fit(network().requires_grad_(False), loss, batches, CONFIG, tmp_path)


def test_training_does_not_touch_the_global_generators(tmp_path):
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    fit(network(), loss, batches, CONFIG, tmp_path, validate=score)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


def test_the_seed_decides_the_training(undisturbed, tmp_path):
    model = network()
    result = fit(model, loss, batches, CONFIG, tmp_path / "same", validate=score)
    assert_the_same(model, tmp_path / "same", result, undisturbed)
    other = network()
    fit(other, loss, batches, replace(CONFIG, seed=4), tmp_path / "other", validate=score)
    assert not torch.equal(other[0].weight, model[0].weight)


def test_progress_is_told_after_every_step(tmp_path):
    told = []
    fit(network(), loss, batches, CONFIG, tmp_path, validate=score, progress=told.append)
    assert [state.step for state in told] == list(range(1, 25))
    assert {state.steps for state in told} == {24}
    assert all(math.isfinite(state.loss) for state in told)
    assert [state.step for state in told if state.validation is not None] == [6, 12, 18, 24]


def test_the_log_has_a_row_of_means_every_few_steps_and_at_each_validation(tmp_path):
    told = []
    fit(network(), loss, batches, CONFIG, tmp_path, validate=score, progress=told.append)
    head, *rows = rows_of(tmp_path)
    assert head == ["step", "loss", "learning_rate", "gradient_norm", "validation"]
    assert [int(row[0]) for row in rows] == [4, 6, 8, 12, 16, 18, 20, 24]
    assert [row[0] for row in rows if row[4]] == ["6", "12", "18", "24"]
    since = [state.loss for state in told[8:12]]
    assert float(rows[3][1]) == pytest.approx(sum(since) / 4, rel=1e-5)
    assert float(rows[3][2]) == pytest.approx(CONFIG.rate_at(11), rel=1e-3)


def test_the_rate_warms_up_in_a_line_and_falls_as_a_cosine_to_zero():
    config = TrainConfig(steps=1000, learning_rate=0.3, warmup_steps=10)
    assert config.rate_at(0) == pytest.approx(0.3 * 0.1)
    assert config.rate_at(4) == pytest.approx(0.3 * 0.5, rel=1e-3)
    assert config.rate_at(9) == pytest.approx(0.3, rel=1e-3)
    assert config.rate_at(500) == pytest.approx(0.3 / 2)
    assert config.rate_at(250) == pytest.approx(0.3 * math.cos(math.pi / 8) ** 2)
    assert 0 < config.rate_at(999) < 1e-5
    assert TrainConfig(steps=10, learning_rate=0.3, warmup_steps=0).rate_at(0) == 0.3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"steps": 0}, "at least 1 step"),
        ({"batch_size": 0}, "batch size of at least 1"),
        ({"learning_rate": 0.0}, "a finite learning rate and a gradient clip above 0"),
        ({"learning_rate": math.nan}, "a finite learning rate"),
        ({"learning_rate": math.inf}, "a finite learning rate"),
        ({"gradient_clip": -1.0}, "gradient clip above 0"),
        ({"weight_decay": -0.1}, "weight_decay of at least 0"),
        ({"ema_decay": 1.0}, "0 <= ema_decay < 1"),
        ({"checkpoint_every": 0}, "checkpoint_every and log_every of at least 1"),
        ({"log_every": 0}, "checkpoint_every and log_every of at least 1"),
        ({"warmup_steps": -1}, "patience and seed of at least 0"),
        ({"validate_every": -1}, "patience and seed of at least 0"),
        ({"patience": -1}, "patience and seed of at least 0"),
        ({"seed": -1}, "patience and seed of at least 0"),
    ],
)
def test_impossible_trainings_are_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        replace(CONFIG, **changes)


@pytest.fixture
def begun(tmp_path):
    """A folder with the checkpoint of step 15."""
    with pytest.raises(Killed):
        fit(network(), loss, raising(batches, 17, Killed), CONFIG, tmp_path, validate=score)
    return tmp_path


def test_the_checkpoint_of_another_network_is_refused_and_nothing_touched(begun):
    held = (begun / "checkpoint.safetensors").read_bytes()
    other = network(width=7)
    before = other[0].weight.clone()
    with pytest.raises(RunError, match="checkpoint of another network.*remove it to begin anew"):
        fit(other, loss, batches, CONFIG, begun, validate=score)
    assert torch.equal(other[0].weight, before)
    assert (begun / "checkpoint.safetensors").read_bytes() == held


def test_the_checkpoint_of_a_training_of_other_parameters_is_refused(begun):
    frozen = network()
    frozen[0].requires_grad_(False)
    with pytest.raises(RunError, match="checkpoint of another network"):
        fit(frozen, loss, batches, CONFIG, begun, validate=score)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seed": 4}, "other settings \\(seed 3, not 4\\); go on with those"),
        ({"steps": 30, "learning_rate": 0.1}, "steps 24, not 30; learning_rate 0.02, not 0.1"),
    ],
)
def test_a_training_is_not_resumed_with_other_settings(changes, sentence, begun):
    with pytest.raises(RunError, match=sentence):
        fit(network(), loss, batches, replace(CONFIG, **changes), begun, validate=score)


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
    with pytest.raises(RunError, match="other settings \\(steps 15, not 10\\)"):
        fit(network(), loss, batches, replace(CONFIG, steps=10), begun, validate=score)


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_a_truncated_checkpoint_is_refused(size, begun):
    path = begun / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(RunError, match="not a whole safetensors file .*; remove it and run"):
        fit(network(), loss, batches, CONFIG, begun, validate=score)


@pytest.mark.parametrize(
    "content", [{"weight": torch.ones(2)}, {"network.0.weight": torch.ones(2)}]
)
def test_a_foreign_file_in_the_place_of_the_checkpoint_is_refused(content, begun):
    save_file(content, begun / "checkpoint.safetensors")
    with pytest.raises(RunError, match="is not the checkpoint of a training; remove it"):
        fit(network(), loss, batches, CONFIG, begun, validate=score)


def test_a_spoilt_log_is_refused(begun):
    (begun / "log.csv").write_text("step,loss\nfour,1.0\n")
    with pytest.raises(RunError, match="log.csv is not readable as the log of this training"):
        fit(network(), loss, batches, CONFIG, begun, validate=score)


def half_written(tensors, path, metadata=None):
    """What a disk does that fills up on the way."""
    save_file(tensors, path, metadata=metadata)
    path.write_bytes(path.read_bytes()[:50])
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_said_in_a_sentence_and_leaves_the_last_checkpoint(
    begun, undisturbed, monkeypatch
):
    held = (begun / "checkpoint.safetensors").read_bytes()
    monkeypatch.setattr("ecgtransfer.training.fit.save_file", half_written)
    with pytest.raises(RunError, match="could not be written .*No space left.*; make room"):
        fit(network(), loss, batches, CONFIG, begun, validate=score)
    assert (begun / "checkpoint.safetensors").read_bytes() == held
    assert files(begun) == ["checkpoint.safetensors", "log.csv"]
    monkeypatch.undo()
    model = network(seed=1)
    result = fit(model, loss, batches, CONFIG, begun, validate=score)
    assert_the_same(model, begun, result, undisturbed)


def test_a_full_disk_at_ctrl_c_is_said_too(tmp_path, monkeypatch):
    monkeypatch.setattr("ecgtransfer.training.fit.save_file", half_written)
    with pytest.raises(RunError, match="could not be written"):
        fit(network(), loss, raising(batches, 2, KeyboardInterrupt), CONFIG, tmp_path)
    assert files(tmp_path) == ["log.csv"]


def test_a_log_that_cannot_be_written_is_said_in_a_sentence(tmp_path):
    (tmp_path / "log.csv").mkdir()
    with pytest.raises(RunError, match="log.csv could not be written"):
        fit(network(), loss, batches, CONFIG, tmp_path)
    assert files(tmp_path) == ["log.csv"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunError, match="taken could not be made .*choose another folder"):
        fit(network(), loss, batches, CONFIG, tmp_path / "taken")


def test_weights_go_to_disk_and_back(tmp_path):
    written, read = network(seed=0), network(seed=1)
    path = tmp_path / "weights.safetensors"
    save_weights(written, path)
    load_weights(read, path)
    assert all(map(torch.equal, written.parameters(), read.parameters()))
    assert files(tmp_path) == ["weights.safetensors"]


def test_weights_are_as_readable_as_any_other_file(tmp_path):
    (tmp_path / "other").touch()
    save_weights(network(), tmp_path / "weights.safetensors")
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_missing_weights_are_refused(tmp_path):
    with pytest.raises(RunError, match="expected weights at .*found no such file; train first"):
        load_weights(network(), tmp_path / "weights.safetensors")


def test_weights_of_another_network_are_refused_and_nothing_touched(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(network(width=7), path)
    model = network()
    before = model[2].bias.clone()
    sentence = "another network.* \\(0 tensors missing, 0 unknown, 3 of another shape; the first"
    with pytest.raises(RunError, match=sentence):
        load_weights(model, path)
    assert torch.equal(model[2].bias, before)


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\x08" + bytes(7) + b"{}{}{}{}"])
def test_a_file_that_holds_no_weights_is_refused(content, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(RunError, match="not a whole safetensors file"):
        load_weights(network(), path)


def test_weights_that_cannot_be_read_are_refused(tmp_path, monkeypatch):
    def closed(path, framework):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("ecgtransfer.training.fit.safe_open", closed)
    with pytest.raises(RunError, match="could not be read .*Permission denied"):
        load_weights(network(), tmp_path / "weights.safetensors")
