import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ecgtransfer.errors import ConfigError
from ecgtransfer.models import ResidualMLP, ResidualMLPConfig
from ecgtransfer.training import TrainConfig, fit

CONFIG = ResidualMLPConfig(
    features=5, labels=2, scalars=1, groups=(2, 3), width=16, blocks=2, conditioning=8
)


def filled(config=CONFIG, seed=0):
    """A network whose layers do not start at zero."""
    network, rng = ResidualMLP(config), torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=rng)
    return network.requires_grad_(False)


def inputs(rows, rng):
    return (
        torch.randn(rows, 5, generator=rng),
        torch.rand(rows, generator=rng) + 0.1,
        torch.eye(2)[torch.arange(rows) % 2],
        None,
        torch.randn(rows, 1, generator=rng),
    )


def test_a_fresh_network_says_zero(rng):
    assert not ResidualMLP(CONFIG)(*inputs(4, rng)).any()


def test_the_network_is_told_the_logarithmic_power_of_each_group(rng):
    x = torch.randn(3, 5, generator=rng)
    power = torch.stack([x[:, :2].square().mean(1), x[:, 2:].square().mean(1)], dim=1)
    assert_close(ResidualMLP(CONFIG)._power(x), (power + 1e-3).log())


def test_output_is_an_offset_plus_a_gain_times_the_features(rng):
    network, given = filled(), inputs(4, rng)
    network.leave.weight.zero_()
    network.leave.bias[:5], network.leave.bias[5:] = 2.0, 3.0
    assert_close(network(*given), 2 + 3 * given[0])


def test_all_that_is_told_matters(rng):
    network, given = filled(), list(inputs(4, rng))
    whole = network(*given)
    for number, other in ((1, given[1] * 2), (2, 1 - given[2]), (4, given[4] + 1)):
        changed = [*given[:number], other, *given[number + 1 :]]
        assert (network(*changed) != whole).any(dim=1).all()
    hidden = torch.tensor([True, False, False, True])
    told = network(*given[:3], hidden, given[4])
    assert ((told != whole).any(dim=1) == hidden).all()


def test_records_of_different_scale_are_learned(tmp_path):
    """x0 = s n with s = 0.2 or 2 a record, x = x0 + noise: E[x0 | x] = x E[s^2 / (s^2 + 1) | x].

    The best linear denoiser has one factor for all records.
    """
    d, scales = 16, torch.tensor([0.2, 2.0])
    config = ResidualMLPConfig(features=d, labels=1, groups=(8, 8), width=32, blocks=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ResidualMLP(config)

    def drawn(rows, generator):
        s = scales[torch.randint(2, (rows,), generator=generator)][:, None]
        x0 = s * torch.randn(rows, d, generator=generator)
        return x0, x0 + torch.randn(rows, d, generator=generator)

    def loss(network, rows, generator):
        x0, x = drawn(rows, generator)
        return (network(x, torch.ones(rows), None) - x0).square().mean(1)

    train = TrainConfig(steps=300, batch_size=128, learning_rate=3e-3, ema_decay=0.98)
    fit(network, loss, lambda step: 128, train, tmp_path)
    network.requires_grad_(False)
    x0, x = drawn(4000, torch.Generator().manual_seed(1))
    total = scales**2 + 1
    posterior = torch.softmax(-d / 2 * total.log() - x.square().sum(1)[:, None] / 2 / total, dim=1)
    exact = x * (posterior @ (scales**2 / total))[:, None]
    errors = [
        float((guess - x0).square().mean()) for guess in (network(x, torch.ones(4000), None), exact)
    ]
    linear = float((x * (2.02 / 3.02) - x0).square().mean())
    assert errors[1] < errors[0] < errors[1] + 0.1 * (linear - errors[1])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"groups": (2, 2)}, r"groups of 5 features in total, got sizes \(2, 2\)"),
        ({"groups": (5, 0)}, r"groups of 5 features in total, got sizes \(5, 0\)"),
        ({"width": 0}, r"at least 1 feature, label, channel, block"),
        ({"scalars": -1}, r"no negative number of scalars"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        ResidualMLPConfig(**{"features": 5, "labels": 2, **changes})


def test_another_number_of_features_is_refused(rng):
    _, *rest = inputs(4, rng)
    with pytest.raises(ConfigError, match=r"x of shape \(B, 5\), got \(4, 6\)"):
        ResidualMLP(CONFIG)(torch.randn(4, 6), *rest)


def test_groups_are_no_part_of_the_weights():
    assert not [name for name in ResidualMLP(CONFIG).state_dict() if "averages" in name]
    assert np.isclose(ResidualMLP(CONFIG).averages.sum(0).numpy(), 1).all()
