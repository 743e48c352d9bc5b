import math
from dataclasses import replace

import pytest
import torch
from small_training import (
    CONFIG,
    batches,
    files,
    loss,
    network,
    raising,
    score,
)

from ecgtransfer.errors import ConfigError, DivergedError
from ecgtransfer.training import fit, fit_best_rate, load_weights

FACTORS = (1.0, 0.1, 3.0)


def alone(folder, factor, **changes):
    """The training at one rate."""
    model = network()
    config = replace(CONFIG, learning_rate=CONFIG.learning_rate * factor, **changes)
    return model, fit(model, loss, batches, config, folder, validate=score)


def test_the_rate_with_the_lowest_score_is_kept(tmp_path):
    rivals = [alone(tmp_path / str(factor), factor) for factor in FACTORS]
    model = network()
    folder = tmp_path / "all"
    result = fit_best_rate(model, loss, batches, CONFIG, folder, FACTORS, validate=score)
    wanted, wanted_result = min(rivals, key=lambda each: each[1].validation)
    assert result.validation == wanted_result.validation
    assert result.best_step == wanted_result.best_step
    assert result.learning_rate == wanted_result.learning_rate
    assert result.learning_rate != CONFIG.learning_rate  # so that there was a choice
    loaded = network(seed=1)
    load_weights(loaded, folder / "weights.safetensors")
    for kept in (model, loaded):
        assert all(map(torch.equal, kept.state_dict().values(), wanted.state_dict().values()))
    assert not model.training
    assert files(folder) == ["rate-0.002", "rate-0.02", "rate-0.06", "weights.safetensors"]
    assert files(folder / "rate-0.002") == ["log.csv"]


def test_one_rate_is_one_training(tmp_path):
    wanted, wanted_result = alone(tmp_path / "one", 0.5)
    model = network()
    result = fit_best_rate(model, loss, batches, CONFIG, tmp_path / "two", (0.5,), validate=score)
    assert replace(result, seconds=0) == replace(wanted_result, seconds=0)
    assert all(map(torch.equal, model.state_dict().values(), wanted.state_dict().values()))
    assert files(tmp_path / "two") == ["log.csv", "weights.safetensors"]


def test_candidates_that_only_do_harm_leave_what_they_started_from(tmp_path):
    def harm(model):
        return float((model[0].weight - network()[0].weight).detach().abs().sum())

    model = network()
    result = fit_best_rate(model, loss, batches, CONFIG, tmp_path, FACTORS, validate=harm)
    assert (result.best_step, result.validation) == (0, 0.0)
    assert torch.equal(model[0].weight, network()[0].weight)


def test_an_interrupted_choice_goes_on_and_repeats_nothing(tmp_path):
    model = network()
    wanted = fit_best_rate(model, loss, batches, CONFIG, tmp_path / "one", FACTORS, validate=score)
    folder, asked = tmp_path / "two", []

    def pressed(now):
        asked.append((now.step, now.steps))
        if now.step == 24 + 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_best_rate(
            network(), loss, batches, CONFIG, folder, FACTORS, validate=score, progress=pressed
        )
    assert asked == [(step, 72) for step in range(1, 32)]
    again, told = network(), []
    result = fit_best_rate(
        again,
        loss,
        batches,
        CONFIG,
        folder,
        FACTORS,
        validate=score,
        progress=lambda now: told.append(now.step),
    )
    assert told == list(range(24 + 8, 73))
    assert replace(result, seconds=0) == replace(wanted, seconds=0)
    assert all(map(torch.equal, again.state_dict().values(), model.state_dict().values()))


def test_with_its_checkpoints_kept_a_choice_is_done_once(tmp_path):
    def chosen(batches):
        model = network()
        result = fit_best_rate(
            model, loss, batches, CONFIG, tmp_path, FACTORS, validate=score, keep_checkpoint=True
        )
        return model, result

    model, result = chosen(batches)
    again, same = chosen(raising(batches, 0, AssertionError))
    assert replace(same, seconds=0) == replace(result, seconds=0)
    assert all(map(torch.equal, again.state_dict().values(), model.state_dict().values()))


def test_a_candidate_that_diverges_is_not_kept(tmp_path):
    def steep(model, batch, generator):
        return loss(model, batch, generator) * (math.nan if spoilt(model) else 1)

    def spoilt(model):
        return bool((model[0].weight - network()[0].weight).abs().max() > limit)

    limit = 0.5
    model = network()
    result = fit_best_rate(
        model, steep, batches, CONFIG, tmp_path / "one", (100.0, 0.1), validate=score
    )
    assert result.learning_rate == pytest.approx(0.002)
    limit = 0.0
    with pytest.raises(DivergedError, match="lower the learning rate"):
        fit_best_rate(network(), steep, batches, CONFIG, tmp_path / "two", FACTORS, validate=score)


@pytest.mark.parametrize("factors", [(), (1.0, 0.0), (math.inf,), (-1.0,)])
def test_factors_that_cannot_be_are_refused(factors, tmp_path):
    with pytest.raises(ConfigError, match="at least one finite factor of the learning rate"):
        fit_best_rate(network(), loss, batches, CONFIG, tmp_path, factors, validate=score)


def test_without_validation_there_is_nothing_to_choose_by(tmp_path):
    config = replace(CONFIG, validate_every=0)
    with pytest.raises(ConfigError, match="validate_every of at least 1 to choose between"):
        fit_best_rate(network(), loss, batches, config, tmp_path, FACTORS, validate=score)
