import pytest
import torch
from torch.testing import assert_close

from ecgtransfer.errors import ConfigError
from ecgtransfer.transfer import GuidanceConfig, GuidanceNetwork, consistency_loss, guidance_loss
from ecgtransfer.transfer.guided import log_h_gradient

SMALL = GuidanceConfig(labels=2, leads=2, fold=2, width=4, dilations=(1, 2), conditioning=6)


def parameters_of(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture
def network(rng):
    network = GuidanceNetwork(SMALL)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=rng)
    return network


def test_the_default_network_is_small():
    assert 0.15e6 < parameters_of(GuidanceNetwork(GuidanceConfig(labels=9))) < 0.35e6


def test_training_begins_at_the_source_model_with_a_gradient(rng):
    network = GuidanceNetwork(SMALL)
    x, sigma = torch.randn(5, 2, 12, generator=rng), torch.linspace(0.01, 50, 5)
    label = torch.eye(2)[torch.tensor([0, 1, 0, 1, 1])]
    assert_close(network(x, sigma, label), torch.zeros(5))
    assert_close(log_h_gradient(network, x, sigma, label), torch.zeros_like(x))
    at = (sigma, torch.randn(x.shape, generator=rng))
    for loss in (
        consistency_loss(lambda x, *_: 0.5 * x, network, x, label, *at),
        guidance_loss(network, x, label, torch.linspace(-1, 2, 5), *at),
    ):
        network.zero_grad()
        loss.mean().backward()
        assert network.field.weight.grad.abs().min() > 0
        assert network.local.weight.grad.abs().min() > 0


def test_log_h_is_a_sum_over_the_record_and_not_a_mean(network):
    # Two copies of a signal, far apart, count twice, though in a record twice as long: extensive.
    # (Zeros in between: the network sees no more than some dozens of samples to either side.)
    beat = torch.randn(1, 2, 8, generator=torch.Generator().manual_seed(0))
    gap = torch.zeros(1, 2, 60)
    sigma, label = torch.ones(1), torch.zeros(1, 2)

    def value(*parts):
        return network(torch.cat(parts, 2), sigma, label)

    rest = torch.zeros_like(beat)
    once = value(gap, beat, gap) - value(gap, rest, gap)
    twice = value(gap, beat, gap, beat, gap) - value(gap, rest, gap, rest, gap)
    assert abs(once) > 1e-3
    assert_close(twice, 2 * once)


def test_label_and_noise_level_change_log_h(network, rng):
    x = torch.randn(1, 2, 8, generator=rng).expand(3, 2, 8)
    sigma = torch.tensor([0.5, 0.5, 2.0])
    label = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    values = network(x, sigma, label)
    assert len(set(values.tolist())) == 3
    # A missing label is something else than a label of zeros.
    network.conditioning.no_label.data.fill_(1.0)
    assert network(x, sigma, None)[0] != network(x, sigma, torch.zeros(3, 2))[0]


def test_guidance_without_labels_takes_none(rng):
    network = GuidanceNetwork(GuidanceConfig(labels=0, width=4, conditioning=4))
    assert network(torch.randn(2, 8, 40, generator=rng), torch.ones(2), None).shape == (2,)


@pytest.mark.parametrize("samples", [8, 9, 11])
def test_any_length_will_do(network, samples, rng):
    x = torch.randn(3, 2, samples, generator=rng)
    found = log_h_gradient(network, x, torch.ones(3), torch.zeros(3, 2))
    assert found.shape == x.shape
    assert found.abs().min() > 0


def test_a_record_does_not_depend_on_its_batch(network, rng):
    x, sigma, label = (
        torch.randn(4, 2, 8, generator=rng),
        torch.rand(4) + 0.1,
        torch.eye(2)[[0, 1, 1, 0]],
    )
    one_by_one = [network(x[[i]], sigma[[i]], label[[i]])[0] for i in range(4)]
    assert_close(network(x, sigma, label), torch.stack(one_by_one))


def test_its_slope_and_the_slope_of_its_slope_are_true(network, rng):
    x = torch.randn(2, 2, 6, generator=rng, requires_grad=True)
    sigma, label = torch.tensor([0.3, 2.0]), torch.eye(2)
    assert torch.autograd.gradcheck(lambda point: network(point, sigma, label), x)
    assert torch.autograd.gradgradcheck(lambda point: network(point, sigma, label), x)


def test_the_energy_term_reaches_the_scale_of_a_denoiser_at_every_noise_level(network):
    # sigma^2 slope is sigma / sqrt(sigma^2 + 1) times a field of order 1: V = constant here.
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.field.bias.fill_(1.0)
    sigma = torch.tensor([0.01, 1.0, 50.0])
    x = torch.randn(3, 2, 8)
    step = sigma.reshape(-1, 1, 1) ** 2 * log_h_gradient(network, x, sigma, torch.zeros(3, 2))
    assert_close(step, (sigma / (sigma**2 + 1).sqrt()).reshape(-1, 1, 1).expand(3, 2, 8))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"labels": -1}, "labels of at least 0"),
        ({"width": 0}, "width and conditioning of at least 1"),
        ({"kernel": 4}, "odd kernel size above 0, got 4"),
        ({"dilations": (1, 0)}, "dilations of at least 1"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(change, match):
    with pytest.raises(ConfigError, match=match):
        GuidanceConfig(**({"labels": 1} | change))


def test_signals_and_labels_of_another_shape_are_refused(network):
    with pytest.raises(ConfigError, match=r"signals of shape \(B, 2, T\), got \(1, 8, 8\)"):
        network(torch.zeros(1, 8, 8), torch.ones(1), None)
    with pytest.raises(ConfigError, match=r"labels of shape \(1, 2\), got \(1, 3\)"):
        network(torch.zeros(1, 2, 8), torch.ones(1), torch.zeros(1, 3))
