import pytest
import torch
from torch.testing import assert_close

from ecgtransfer.errors import ConfigError
from ecgtransfer.models import Encoder1d, EncoderConfig


def encoder(**changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Encoder1d(EncoderConfig(**{"outputs": 2, "widths": (16, 32)} | changes))
        for parameter in network.parameters():
            parameter.data.add_(torch.randn(parameter.shape), alpha=0.1)
    return network


@pytest.mark.parametrize("samples", [1, 2, 63, 64, 101])
def test_records_of_any_length_have_as_many_features_and_logits(samples, rng):
    network, x = encoder(), torch.randn(3, 8, samples, generator=rng)
    assert network.features(x).shape == (3, 64)
    assert network(x).shape == (3, 2)


def test_features_are_the_mean_and_the_maximum_over_time(rng):
    features = encoder().features(torch.randn(5, 8, 64, generator=rng))
    assert (features[:, 32:] >= features[:, :32]).all()
    still = encoder().features(torch.randn(5, 8, 1, generator=rng))
    assert_close(still[:, 32:], still[:, :32])


def test_logits_are_linear_in_the_features(rng):
    network, x = encoder(), torch.randn(3, 8, 64, generator=rng)
    assert_close(network(x), network.features(x) @ network.head.weight.T + network.head.bias)


def test_a_plain_encoder_is_told_neither_noise_level_nor_label(rng):
    network, x = encoder(), torch.randn(3, 8, 64, generator=rng)
    assert network.conditioning is None
    assert torch.equal(network(x, torch.ones(3), torch.ones(3, 4)), network(x))


def test_a_label_aware_encoder_listens_to_the_label_alone(rng):
    network, x = encoder(labels=4), torch.randn(3, 8, 64, generator=rng)
    label = torch.eye(3, 4)
    told = network(x, None, label)
    assert torch.equal(network(x, torch.full((3,), 9.0), label), told)
    assert not torch.allclose(network(x, None, label.flip(0)), told)
    assert not torch.allclose(network(x, None, None), network(x, None, torch.zeros(3, 4)))


def test_a_noise_aware_encoder_listens_to_the_noise_level(rng):
    network, x = encoder(noise=True), torch.randn(3, 8, 64, generator=rng)
    assert not torch.allclose(network(x, torch.ones(3)), network(x, torch.full((3,), 5.0)))


def test_an_encoder_that_is_told_both_listens_to_both(rng):
    network, x = encoder(noise=True, labels=4), torch.randn(3, 8, 64, generator=rng)
    sigma, label = torch.ones(3), torch.eye(3, 4)
    told = network(x, sigma, label)
    assert not torch.allclose(network(x, sigma * 2, label), told)
    assert not torch.allclose(network(x, sigma, label.flip(0)), told)


def test_the_score_of_a_record_does_not_depend_on_its_batch(rng):
    network = encoder(labels=4)
    x, label = torch.randn(5, 8, 64, generator=rng), torch.eye(5, 4)
    together = network(x, None, label)
    assert_close(network(x[2:3], None, label[2:3]), together[2:3], atol=1e-5, rtol=1e-4)
    order = torch.randperm(5, generator=rng)
    assert_close(network(x[order], None, label[order]), together[order], atol=1e-5, rtol=1e-4)


def test_a_gradient_reaches_every_parameter(rng):
    network = encoder(labels=4, noise=True)
    x, sigma = torch.randn(3, 8, 64, generator=rng), torch.ones(3)
    (network(x, sigma, torch.ones(3, 4)) + network(x, sigma, None)).square().mean().backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"outputs": 0}, "outputs, leads, blocks and conditioning of at least 1"),
        ({"leads": 0}, "outputs, leads, blocks and conditioning of at least 1"),
        ({"blocks": 0}, "outputs, leads, blocks and conditioning of at least 1"),
        ({"conditioning": 0}, "outputs, leads, blocks and conditioning of at least 1"),
        ({"labels": -1}, "labels of at least 0"),
        ({"widths": ()}, "widths that are multiples of 16"),
        ({"widths": (16, 20)}, "widths that are multiples of 16"),
    ],
)
def test_impossible_shapes_are_refused(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        EncoderConfig(**{"outputs": 2} | arguments)


def test_a_noise_aware_encoder_without_a_noise_level_is_refused(rng):
    with pytest.raises(ConfigError, match="expected sigma"):
        encoder(noise=True)(torch.randn(3, 8, 64, generator=rng))
