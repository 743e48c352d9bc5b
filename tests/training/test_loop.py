import itertools
import math
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_training import (
    CONFIG,
    RECORDS,
    assert_the_same,
    batches,
    facts_of,
    files,
    loss,
    network,
    order,
    raising,
    rows_of,
    score,
    scores,
)
from torch import nn
from torch.testing import assert_close

from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.training import (
    TrainConfig,
    fit,
    load_weights,
    remove_checkpoints,
    shuffled_batches,
)


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


def interrupted(function, at):
    """A function that Ctrl-C meets in one of its calls, counted from 0."""
    calls = itertools.count()

    def wrapped(*arguments):
        if next(calls) == at:
            raise KeyboardInterrupt
        return function(*arguments)

    return wrapped


@pytest.mark.parametrize(
    ("where", "call", "steps"),
    [
        ("batches", 1, 1),
        ("loss", 11, 11),
        ("validate", 1, 6),
        ("validate", 4, 24),
        ("progress", 6, 7),
        ("progress", 23, 24),
    ],
)
def test_ctrl_c_loses_no_step_wherever_it_comes(where, call, steps, undisturbed, tmp_path):
    parts = {"loss": loss, "batches": batches, "validate": score, "progress": lambda state: None}
    parts[where] = interrupted(parts[where], call)
    config = replace(CONFIG, checkpoint_every=100)
    with pytest.raises(KeyboardInterrupt):
        fit(network(), config=config, folder=tmp_path, **parts)
    assert files(tmp_path) == ["checkpoint.safetensors", "log.csv"]
    assert facts_of(tmp_path)["step"] == steps
    asked, model = [], network(seed=1)

    def remembered(step):
        asked.append(step)
        return batches(step)

    result = fit(model, loss, remembered, CONFIG, tmp_path, validate=score)
    assert asked == list(range(steps, CONFIG.steps))
    assert_the_same(model, tmp_path, result, undisturbed)


@pytest.mark.parametrize("patience", [0, 2])
def test_a_training_whose_last_checkpoint_is_kept_is_done_once(patience, tmp_path):
    config = replace(CONFIG, patience=patience)
    values = [4.0, 1.0, 2.0, 3.0] if patience else [5.0, 4.0, 3.0, 2.0, 1.0]

    def fitted(model, batches, folder, *left):
        validate = scores(left)
        return fit(
            model, loss, batches, config, folder, validate=validate, keep_checkpoint=folder == kept
        )

    kept, plain = tmp_path / "kept", tmp_path / "plain"
    model = network()
    undisturbed = (model, plain, fitted(model, batches, plain, *values))
    fitted(network(), batches, kept, *values)
    model = network(seed=1)
    result = fitted(model, raising(batches, 0, AssertionError), kept)
    assert files(kept) == ["checkpoint.safetensors", "log.csv", "weights.safetensors"]
    remove_checkpoints(tmp_path)
    assert_the_same(model, kept, result, undisturbed)


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


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_and_names_the_step(value, tmp_path):
    def spoilt(step):
        return batches(step) * (value if step == 7 else 1)

    with pytest.raises(RunError, match=r"the loss of step 7 is (nan|inf).*lower the learning rate"):
        fit(network(), loss, spoilt, CONFIG, tmp_path)
    assert files(tmp_path) == ["checkpoint.safetensors", "log.csv"]
    assert facts_of(tmp_path)["step"] == 5
    assert fit(network(seed=1), loss, batches, CONFIG, tmp_path).steps == 24


def test_a_gradient_that_is_not_finite_stops_too(tmp_path):
    def steep(model, batch, generator):
        return sum(p.abs().sqrt().sum() for p in model.parameters()).expand(len(batch))

    model = network()
    for parameter in model.parameters():
        parameter.data.zero_()  # where the root has an infinite slope and a value of zero
    with pytest.raises(RunError, match=r"step 0 is 0.0 with gradient norm nan"):
        fit(model, steep, batches, CONFIG, tmp_path)
    assert files(tmp_path) == []


def test_a_loss_that_is_not_one_number_a_record_is_refused(tmp_path):
    def broadcast(model, batch, generator):
        return (model(batch[:, :4]) - batch[:, 4]).square()  # (B, 1) - (B,)

    with pytest.raises(ConfigError, match=r"one loss for each record, \(B,\), got shape \(8, 8\)"):
        fit(network(), broadcast, batches, CONFIG, tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_validation_that_is_not_finite_is_refused(value, tmp_path):
    sentence = f"validation score after step 12 is {value}.*check the held-out records"
    with pytest.raises(RunError, match=sentence):
        fit(network(), loss, batches, CONFIG, tmp_path, validate=scores([2.0, 1.0, value]))
    assert not (tmp_path / "weights.safetensors").exists()


def test_early_stopping_keeps_the_best_weights(tmp_path):
    seen = []

    def validate(model):
        seen.append([p.clone() for p in model.parameters()])
        return [6.0, 5.0, 3.0, 4.0, 3.0, 1.0][len(seen) - 1]

    config = replace(CONFIG, validate_every=2, patience=2)
    model = network()
    result = fit(model, loss, batches, config, tmp_path, validate=validate)
    assert (result.steps, result.best_step, result.validation) == (8, 4, 3.0)
    assert all(map(torch.equal, model.parameters(), seen[2]))
    assert not torch.equal(seen[2][0], seen[4][0])
    loaded = network(seed=1)
    load_weights(loaded, tmp_path / "weights.safetensors")
    assert all(map(torch.equal, loaded.parameters(), seen[2]))
    assert [row[0] for row in rows_of(tmp_path)[1:]] == ["0", "2", "4", "6", "8"]


def test_a_training_that_does_nothing_but_harm_leaves_what_it_started_from(tmp_path):
    start, model = network(), network()
    config = replace(CONFIG, validate_every=2, patience=3)
    validate = scores([1.0, 1.5, 1.25, 1.0, 0.0])
    result = fit(model, loss, batches, config, tmp_path, validate=validate)
    assert (result.steps, result.best_step, result.validation) == (6, 0, 1.0)
    loaded = network(seed=1)
    load_weights(loaded, tmp_path / "weights.safetensors")
    for kept in (model, loaded):
        assert all(map(torch.equal, kept.state_dict().values(), start.state_dict().values()))
    assert rows_of(tmp_path)[1] == ["0", "", "", "", "1"]


def test_the_start_is_kept_after_an_interruption_too(tmp_path):
    start, model = network(), network(seed=1)
    config = replace(CONFIG, checkpoint_every=1)
    with pytest.raises(KeyboardInterrupt):
        fit(
            network(),
            loss,
            raising(batches, 7, KeyboardInterrupt),
            config,
            tmp_path,
            validate=scores([1.0, 1.5]),
        )
    result = fit(model, loss, batches, config, tmp_path, validate=scores([1.25, 1.5, 1.75]))
    assert (result.steps, result.best_step, result.validation) == (24, 0, 1.0)
    assert all(map(torch.equal, model.state_dict().values(), start.state_dict().values()))
    assert [row[0] for row in rows_of(tmp_path)[1:] if row[4]] == ["0", "6", "12", "18", "24"]


def test_weights_from_before_the_first_step_that_may_be_kept_are_not_scored(tmp_path):
    config = replace(CONFIG, validate_every=4, validate_from=9)
    validate = scores([5.0, 3.0, 4.0, 6.0])
    result = fit(network(), loss, batches, config, tmp_path, validate=validate)
    assert (result.steps, result.best_step, result.validation) == (24, 16, 3.0)
    assert [row[0] for row in rows_of(tmp_path)[1:] if row[4]] == ["12", "16", "20", "24"]


def test_an_improvement_renews_the_patience(tmp_path):
    config = replace(CONFIG, validate_every=2, patience=2)
    validate = scores([9, 5, 6, 4, 6, 3, 6, 6, 0, 0])
    result = fit(network(), loss, batches, config, tmp_path, validate=validate)
    assert (result.steps, result.best_step, result.validation) == (14, 10, 3)


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


def by_hand(weights, records, config):
    """AdamW on the mean of (w·x - 1)², written out (Loshchilov and Hutter 2019), clipped."""
    first, second = torch.zeros_like(weights), torch.zeros_like(weights)
    for step in range(config.steps):
        rate, x = config.rate_at(step), records[order(step)]
        residual = (weights.flatten() * x).sum(1) - 1
        gradient = (2 * residual[:, None] * x).mean(0).reshape(weights.shape)
        gradient = gradient * min(1.0, config.gradient_clip / float(gradient.norm()))
        first = 0.9 * first + 0.1 * gradient
        second = 0.99 * second + 0.01 * gradient**2
        unbiased = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.99 ** (step + 1))
        moved = unbiased[0] / (unbiased[1].sqrt() + 1e-8)
        weights = (1 - rate * config.weight_decay) * weights - rate * moved
    return weights


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("clip", [0.3, 100.0])
def test_a_step_is_clipped_adamw_however_the_weights_lie_in_memory(clip, transposed, tmp_path):
    class Matrix(nn.Module):
        def __init__(self):
            super().__init__()
            start = torch.arange(4.0, dtype=torch.float64).reshape(2, 2)
            self.weight = nn.Parameter(start.T if transposed else start)
            self.unused = nn.Parameter(torch.ones(3, dtype=torch.float64))

    def square(model, x, generator):
        return ((model.weight.flatten() * x).sum(1) - 1).square()

    config = replace(CONFIG, gradient_clip=clip, ema_decay=0.0, weight_decay=0.3)
    records, model = RECORDS[:, :4].double(), Matrix()
    expected = by_hand(model.weight.detach().clone(), records, config)
    fit(model, square, lambda step: records[order(step)], config, tmp_path)
    assert_close(model.weight.data, expected)
    assert torch.equal(model.unused.data, torch.ones(3, dtype=torch.float64))


def test_a_transposed_weight_resumes_exactly(tmp_path):
    class Matrix(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.arange(8.0).reshape(4, 2).T)

    def square(model, x, generator):
        return (x[:, :4] @ model.weight.T - x[:, 4:]).square().mean(1)

    whole, begun, resumed = Matrix(), Matrix(), Matrix()
    fit(whole, square, batches, CONFIG, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(begun, square, raising(batches, 12, KeyboardInterrupt), CONFIG, tmp_path / "cut")
    fit(resumed, square, batches, CONFIG, tmp_path / "cut")
    assert torch.equal(resumed.weight, whole.weight)


def test_ctrl_c_is_heard_as_before_while_a_step_is_not_under_way(tmp_path):
    heard = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:

        def pressing(step):
            if step == 3:
                signal.raise_signal(signal.SIGINT)
                assert heard == [signal.SIGINT]
            return batches(step)

        assert fit(network(), loss, pressing, CONFIG, tmp_path).steps == CONFIG.steps
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]


def test_an_ignored_ctrl_c_stays_ignored(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:

        def pressing(step):
            signal.raise_signal(signal.SIGINT)
            return batches(step)

        assert fit(network(), loss, pressing, CONFIG, tmp_path).steps == CONFIG.steps
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_network_with_nothing_to_train_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"parameters that need a gradient, got none"):
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


def test_every_step_has_randomness_of_its_own(tmp_path):
    drawn = []

    def remembering(model, batch, generator):
        drawn.append(torch.randn(3, generator=generator))
        return loss(model, batch, generator)

    fit(network(), remembering, batches, CONFIG, tmp_path)
    assert len(torch.stack(drawn).unique(dim=0)) == CONFIG.steps


def losses_of(told):
    return torch.tensor([state.loss for state in told])


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_batches_are_one_large_batch_to_rounding(parts, tmp_path):
    """Without noise, and where neighbouring batches hold the records of the large one."""

    def plain(model, batch, generator):
        return (model(batch[:, :4])[:, 0] - batch[:, 4]).square()

    def fitted(size, accumulate):
        dealt = shuffled_batches(len(RECORDS), size, CONFIG.seed)
        config = replace(CONFIG, batch_size=size, accumulate=accumulate)
        model, told = network(), []
        folder = tmp_path / f"{accumulate}"
        fit(model, plain, lambda n: RECORDS[dealt(n)], config, folder, progress=told.append)
        return model, losses_of(told)

    large, large_losses = fitted(8, 1)
    small, small_losses = fitted(8 // parts, parts)
    assert_close(small_losses, large_losses, rtol=1e-5, atol=0)
    assert_close(dict(small.named_parameters()), dict(large.named_parameters()))


def test_every_accumulated_batch_has_its_number_and_randomness_of_its_own(tmp_path):
    asked, drawn = [], []

    def remembered(number):
        asked.append(number)
        return batches(number)

    def remembering(model, batch, generator):
        drawn.append(torch.randn(3, generator=generator))
        return loss(model, batch, generator)

    fit(network(), remembering, remembered, replace(CONFIG, accumulate=3), tmp_path)
    assert asked == list(range(3 * CONFIG.steps))
    assert len(torch.stack(drawn).unique(dim=0)) == 3 * CONFIG.steps


def test_a_step_that_accumulates_is_logged_as_the_mean_of_its_batches(tmp_path):
    means = []

    def remembering(model, batch, generator):
        values = loss(model, batch, generator)
        means.append(float(values.mean().detach()))
        return values

    config, told = replace(CONFIG, accumulate=2, log_every=1), []
    fit(network(), remembering, batches, config, tmp_path, progress=told.append)
    expected = np.reshape(means, (CONFIG.steps, 2)).mean(1)
    assert losses_of(told).numpy() == pytest.approx(expected, rel=1e-6)
    assert [float(row[1]) for row in rows_of(tmp_path)[1:]] == pytest.approx(expected, rel=1e-5)


def test_a_training_that_accumulates_is_resumed_exactly(tmp_path):
    config = replace(CONFIG, accumulate=2)
    wanted, model = network(), network(seed=1)
    wanted_result = fit(wanted, loss, batches, config, tmp_path / "one", validate=score)
    cut = raising(batches, 2 * 13 + 1, KeyboardInterrupt)  # between two batches of a step
    with pytest.raises(KeyboardInterrupt):
        fit(network(), loss, cut, config, tmp_path / "two", validate=score)
    result = fit(model, loss, batches, config, tmp_path / "two", validate=score)
    assert_the_same(model, tmp_path / "two", result, (wanted, tmp_path / "one", wanted_result))


def test_progress_is_told_after_every_step(tmp_path):
    told = []
    fit(network(), loss, batches, CONFIG, tmp_path, validate=score, progress=told.append)
    assert [state.step for state in told] == list(range(1, 25))
    assert {state.steps for state in told} == {24}
    assert all(math.isfinite(state.loss) for state in told)
    assert [state.step for state in told if state.validation is not None] == [6, 12, 18, 24]


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
        ({"accumulate": 0}, "at least 1 batch per step, got 0"),
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
        ({"validate_from": -1}, "validate_from from 0 to the 24 steps, got -1"),
        ({"validate_from": 25}, "validate_from from 0 to the 24 steps, got 25"),
        ({"patience": -1}, "patience and seed of at least 0"),
        ({"seed": -1}, "patience and seed of at least 0"),
    ],
)
def test_impossible_trainings_are_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        replace(CONFIG, **changes)
