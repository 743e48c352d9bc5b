import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ecgtransfer.errors import ConfigError
from ecgtransfer.models import SelfAttention, SpectralGate, UNet1d, UNetConfig

SMALL = UNetConfig(labels=3, widths=(16, 32), blocks=1, attention=1, conditioning=16)


@pytest.fixture
def woken(rng):
    """A network in which nothing starts at zero any more."""
    network = UNet1d(SMALL)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=rng), alpha=0.1)
    return network


def inputs(rng, batch=4, samples=64):
    x = torch.randn(batch, 8, samples, generator=rng)
    sigma = torch.rand(batch, generator=rng) * 5 + 0.1
    return x, sigma, (torch.rand(batch, 3, generator=rng) > 0.5).float()


@pytest.mark.parametrize("samples", [1, 7, 8, 61, 64, 100])
def test_records_of_any_length_keep_it(samples, woken, rng):
    x, sigma, label = inputs(rng, 2, samples)
    assert woken(x, sigma, label).shape == (2, 8, samples)


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(labels=0, widths=(16,), blocks=1, attention=0, conditioning=8),
        UNetConfig(labels=2, widths=(16, 16, 32), blocks=2, attention=3, fold=1, conditioning=8),
        UNetConfig(labels=2, leads=3, widths=(16, 112), blocks=1, fold=2, conditioning=8),
        UNetConfig(labels=2, widths=(16, 32), blocks=1, attention=0, middle=2, conditioning=8),
        UNetConfig(labels=2, widths=(16, 32), blocks=1, attention=1, spectral=2, conditioning=8),
    ],
)
def test_a_fresh_network_returns_zero(config, rng):
    x = torch.randn(2, config.leads, 40, generator=rng)
    label = torch.ones(2, config.labels) if config.labels else None
    assert not UNet1d(config)(x, torch.ones(2), label).any()


def test_attention_stands_on_the_deepest_levels():
    network = UNet1d(UNetConfig(labels=0, widths=(16, 32, 48), blocks=1, attention=2))
    widths = [
        module.out.in_channels for module in network.modules() if isinstance(module, SelfAttention)
    ]
    assert widths == [32, 48, 48, 48, 32, 32]


def test_spectral_gates_stand_on_the_shallowest_levels():
    network = UNet1d(UNetConfig(labels=0, widths=(16, 32, 48), blocks=1, attention=1, spectral=2))
    widths = [
        module.leave.out_channels
        for module in network.modules()
        if isinstance(module, SpectralGate)
    ]
    assert widths == [16, 32, 32, 32, 16, 16]


def test_rows_flagged_as_dropped_are_those_without_a_label(woken, rng):
    x, sigma, label = inputs(rng)
    dropped = torch.tensor([True, False, True, False])
    mixed = woken(x, sigma, label, dropped)
    assert_close(mixed[dropped], woken(x, sigma, None)[dropped])
    assert_close(mixed[~dropped], woken(x, sigma, label)[~dropped])


def test_a_little_training_tells_no_label_from_the_label_of_nothing(rng):
    network = UNet1d(SMALL)
    x, sigma, label = inputs(rng)
    nothing = torch.zeros_like(label)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(12):
        optimiser.zero_grad()
        error = (network(x, sigma, nothing) - 2).square().mean()
        (error + (network(x, sigma, None) + 1).square().mean()).backward()
        optimiser.step()
    with torch.no_grad():
        gap = network(x, sigma, nothing) - network(x, sigma, None)
    assert gap.abs().mean() > 0.05


@pytest.mark.parametrize("what", ["sigma", "label"])
def test_the_network_listens_to_noise_level_and_label(what, woken, rng):
    x, sigma, label = inputs(rng)
    other = {"sigma": (x, sigma * 3, label), "label": (x, sigma, 1 - label)}[what]
    assert not torch.allclose(woken(x, sigma, label), woken(*other), atol=1e-3)


def test_records_of_a_batch_do_not_mix(woken, rng):
    x, sigma, label = inputs(rng, batch=5)
    together = woken(x, sigma, label)
    order = torch.randperm(5, generator=rng)
    assert_close(woken(x[order], sigma[order], label[order]), together[order], atol=1e-5, rtol=1e-4)
    alone = torch.cat([woken(x[i : i + 1], sigma[i : i + 1], label[i : i + 1]) for i in range(5)])
    assert_close(alone, together, atol=1e-5, rtol=1e-4)


def test_every_moment_of_a_record_reaches_every_other(woken, rng):
    x, sigma, label = inputs(rng, batch=1, samples=256)
    x.requires_grad_()
    woken(x, sigma, label)[..., 0].sum().backward()
    assert (x.grad[0].abs().amax(0) > 0).all()


def test_a_gradient_reaches_every_parameter(woken, rng):
    x, sigma, label = inputs(rng)
    woken(x, sigma, label, torch.tensor([True, False, False, False])).square().mean().backward()
    still = [name for name, p in woken.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_the_first_step_moves_the_output_layer_alone_and_the_next_ones_the_rest(rng):
    network = UNet1d(SMALL)
    network(*inputs(rng)).sub(1).square().mean().backward()
    moved = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"out.weight", "out.bias"}


def test_the_state_of_a_network_is_all_of_it(woken, rng):
    other = UNet1d(SMALL)
    other.load_state_dict(woken.state_dict())
    arguments = inputs(rng)
    assert torch.equal(other(*arguments), woken(*arguments))
    assert all(isinstance(module, nn.Module) for module in other.children())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"labels": -1}, "labels of at least 0"),
        ({"leads": 0}, "leads, fold, blocks and conditioning of at least 1"),
        ({"fold": 0}, "leads, fold, blocks and conditioning of at least 1"),
        ({"blocks": 0}, "leads, fold, blocks and conditioning of at least 1"),
        ({"conditioning": 0}, "leads, fold, blocks and conditioning of at least 1"),
        ({"widths": ()}, "widths that are multiples of 16"),
        ({"widths": (16, 40)}, "widths that are multiples of 16"),
        ({"widths": (16, 32), "attention": 3}, "attention on 0 to 2 levels, got 3"),
        ({"attention": -1}, "attention on 0 to 4 levels"),
        ({"widths": (16, 32), "spectral": 3, "attention": 1}, "gates on 0 to 2 levels, got 3"),
        ({"middle": -1}, "a middle of at least 0 layers, got -1"),
    ],
)
def test_impossible_shapes_are_refused(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        UNetConfig(**{"labels": 3} | arguments)


def test_a_label_that_would_be_broadcast_over_the_batch_is_refused(woken, rng):
    x, sigma, label = inputs(rng)
    with pytest.raises(ConfigError, match="one row for each record of the batch"):
        woken(x, sigma, label[:1])
