import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ecgtransfer.errors import ConfigError
from ecgtransfer.models import (
    Conditioning,
    FeedForward,
    FourierFeatures,
    ResidualBlock,
    Rotation,
    SelfAttention,
    SpectralGate,
    attend,
    fold,
    group_norm,
    unfold,
    zero_init_,
)


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_unfold_undoes_fold(factor, rng):
    x = torch.randn(3, 5, 16, generator=rng)
    folded = fold(x, factor)
    assert folded.shape == (3, 5 * factor, 16 // factor)
    assert torch.equal(unfold(folded, factor), x)


def test_fold_puts_neighbouring_samples_of_a_lead_into_neighbouring_channels():
    x = torch.arange(16.0).reshape(1, 2, 8)
    folded = fold(x, 4)
    assert folded[0, :, 0].tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert folded[0, :, 1].tolist() == [4, 5, 6, 7, 12, 13, 14, 15]


@pytest.mark.parametrize(("channels", "groups"), [(4, 1), (16, 1), (48, 3), (64, 4)])
def test_a_group_has_sixteen_channels_where_there_are_as_many(channels, groups):
    assert group_norm(channels).num_groups == groups


def test_fourier_features_are_cosines_and_sines_of_doubling_frequencies():
    features = FourierFeatures(12, highest=16.0)
    assert_close(features.frequencies, 2.0 ** torch.arange(-1.0, 5.0))
    embedded = features(torch.tensor([0.0, 0.3]))
    assert_close(embedded[0], torch.tensor([1.0] * 6 + [0.0] * 6))
    assert_close(embedded[1, 7], torch.tensor(0.3).sin())


def test_a_fresh_residual_block_passes_its_input_on(rng):
    x, conditioning = torch.randn(2, 16, 10, generator=rng), torch.randn(2, 6, generator=rng)
    assert torch.equal(ResidualBlock(16, 16, 6)(x, conditioning), x)
    assert ResidualBlock(16, 32, 0)(x, None).shape == (2, 32, 10)


def test_a_residual_block_listens_to_its_conditioning(rng):
    block = ResidualBlock(16, 16, 6)
    nn.init.normal_(block.conv_out.weight, generator=rng)
    x, conditioning = torch.randn(2, 16, 10, generator=rng), torch.randn(2, 6, generator=rng)
    assert not torch.allclose(block(x, conditioning), block(x, conditioning.flip(0)))


@pytest.mark.parametrize(
    ("channels", "heads"), [(16, 1), (64, 2), (80, 2), (96, 3), (112, 2), (528, 12)]
)
def test_attention_shares_its_channels_evenly_between_its_heads(channels, heads, rng):
    attention = SelfAttention(channels)
    assert attention.heads == heads
    x = torch.randn(2, channels, 5, generator=rng)
    assert torch.equal(attention(x), x)


def test_a_rotation_is_a_product_with_complex_numbers_of_growing_angle(rng):
    speed = torch.rand(3, 4, generator=rng)
    rotation = Rotation(speed)
    x = torch.randn(2, 3, 7, 8, generator=rng)
    turned = torch.complex(*x.chunk(2, dim=-1)) * torch.exp(
        1j * torch.arange(7)[:, None] * speed[:, None]
    )
    assert_close(rotation(x), torch.cat([turned.real, turned.imag], dim=-1))
    assert_close(rotation(rotation(x), back=True), x)


def test_queries_and_keys_know_their_distance_and_nothing_else(rng):
    rotation = SelfAttention(8).rope_qk
    query, key = torch.randn(2, 8, generator=rng)
    products = rotation(query.expand(1, 1, 20, 8)) @ rotation(key.expand(1, 1, 20, 8)).mT
    for distance in (-7, 0, 5):
        along = products[0, 0].diagonal(distance)
        assert_close(along, along[:1].expand_as(along))
    assert products[0, 0, 0].std() > 0.1


def test_what_is_seen_tells_its_distance_as_a_fourier_transform_does():
    rope_v = SelfAttention(64).rope_v
    beats = torch.zeros(40)
    beats[[3, 13, 23, 33]] = 1
    value = torch.zeros(1, 2, 40, 32)
    value[..., :16] = beats[:, None]
    # Uniform attention over all time steps.
    seen = rope_v(rope_v(value).sum(dim=2, keepdim=True).expand_as(value), back=True)
    real, imaginary = seen.chunk(2, dim=-1)
    frequency = rope_v.speed[:, None]
    distance = torch.arange(40)[beats > 0] - torch.arange(40)[:, None]
    expected = torch.exp(1j * distance[None, :, :, None] * frequency[:, :, None]).sum(dim=2)
    assert_close(torch.complex(real, imaginary)[0], expected.to(torch.complex64), atol=1e-4, rtol=0)
    assert sorted(rope_v.speed.flatten().tolist()) == pytest.approx(
        torch.linspace(0, math.pi, 32).tolist()
    )


def _attention(rng, positions):
    """Attention with a non-zero output layer, with or without positions."""
    attention = SelfAttention(32)
    nn.init.normal_(attention.out.weight, generator=rng)
    if not positions:
        attention.rope_qk.speed.zero_()
        attention.rope_v.speed.zero_()
    return attention


def test_attention_sees_in_which_order_moments_stand(rng):
    x, order = torch.randn(2, 32, 9, generator=rng), torch.randperm(9, generator=rng)
    blind, seeing = _attention(rng, positions=False), _attention(rng, positions=True)
    assert not torch.allclose(blind(x), x)
    assert_close(blind(x[..., order]), blind(x)[..., order])
    assert not torch.allclose(seeing(x[..., order]), seeing(x)[..., order], atol=1e-2)


def test_attention_does_not_care_when_a_record_begins(rng):
    attention = _attention(rng, positions=True)
    record = torch.randn(1, 32, 9, generator=rng)
    early = attention(record)
    moved = Rotation(attention.rope_qk.speed), Rotation(attention.rope_v.speed)
    for rotation in moved:
        rotation.forward = _later(rotation, 5)
    attention.rope_qk, attention.rope_v = moved
    assert_close(attention(record), early, atol=1e-4, rtol=1e-4)


def _later(rotation, moments):
    """The same rotation for a record that begins so many moments later."""

    def turn(x, *, back=False):
        padded = torch.cat([x.new_zeros(*x.shape[:2], moments, x.shape[3]), x], dim=2)
        return Rotation.forward(rotation, padded, back=back)[:, :, moments:]

    return turn


def test_attention_is_that_of_torch(rng):
    query, key, value = torch.randn(3, 2, 4, 9, 8, generator=rng).unbind(0)
    expected = nn.functional.scaled_dot_product_attention(query, key, value)
    assert_close(attend(query, key, value), expected)


def test_a_feed_forward_layer_sees_one_moment_and_its_conditioning(rng):
    layer = FeedForward(16, 6)
    x, conditioning = torch.randn(2, 16, 10, generator=rng), torch.randn(2, 6, generator=rng)
    assert torch.equal(layer(x, conditioning), x)
    nn.init.normal_(layer.narrow.weight, generator=rng)
    layer.norm = nn.Identity()
    changed = torch.cat([x[..., :4], x[..., 4:] + 1], dim=-1)
    assert_close(layer(changed, conditioning)[..., :4], layer(x, conditioning)[..., :4])
    assert not torch.allclose(layer(x, conditioning), layer(x, conditioning.flip(0)))


def test_a_layer_set_to_zero_is_zero_in_weights_and_bias():
    layer = nn.Conv1d(3, 4, 5)
    zero_init_(layer)
    assert not any(parameter.any() for parameter in layer.parameters())


def test_an_unstated_diagnosis_is_not_the_same_as_none_of_them(rng):
    conditioning = Conditioning(8, labels=3)
    nn.init.normal_(conditioning.no_label, generator=rng)
    nn.init.normal_(conditioning.label.bias, generator=rng)
    sigma = torch.ones(2)
    unstated = conditioning(2, sigma, None)
    assert not torch.allclose(unstated, conditioning(2, sigma, torch.zeros(2, 3)))
    mixed = conditioning(2, sigma, torch.zeros(2, 3), torch.tensor([True, False]))
    assert_close(mixed[0], unstated[0])
    assert not torch.allclose(mixed[1], unstated[1])


def test_conditioning_without_noise_needs_no_noise_level():
    conditioning = Conditioning(8, labels=3, noise=False)
    assert conditioning(4, None, torch.eye(4, 3)).shape == (4, 8)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((None, torch.zeros(2, 3)), "expected sigma, \\(B,\\), for a network conditioned on noise"),
        ((torch.ones(2, 1), torch.zeros(2, 3)), "expected sigma of shape \\(2,\\)"),
        ((torch.ones(2), torch.zeros(1, 3)), "expected label of shape \\(2, 3\\).* got \\(1, 3\\)"),
        ((torch.ones(2), torch.zeros(2, 4)), "expected label of shape \\(2, 3\\)"),
        (
            (torch.ones(2), torch.zeros(2, 3), torch.ones(1, dtype=torch.bool)),
            "expected dropped of shape \\(2,\\)",
        ),
    ],
)
def test_what_is_not_one_row_a_record_is_refused(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Conditioning(8, labels=3)(2, *arguments)


@pytest.fixture
def gate():
    """A spectral gate that passes all of its input on to its last layer, which adds it."""
    gate = SpectralGate(16, 6)
    with torch.no_grad():
        for layer in (gate.enter, gate.leave):
            layer.weight.copy_(torch.eye(16)[:, :, None])
            layer.bias.zero_()
        zero_init_(gate.across_channels[-1])
        gate.across_channels[-1].bias.fill_(100.0)
    return gate


@pytest.mark.parametrize("samples", [1, 7, 125, 256, 300])
def test_an_open_spectral_gate_passes_every_frequency_and_a_closed_one_none(gate, samples, rng):
    x, conditioning = torch.randn(2, 16, samples, generator=rng), torch.randn(2, 6, generator=rng)
    assert_close(gate(x, conditioning), x + gate.norm(x), atol=1e-5, rtol=1e-5)
    nn.init.constant_(gate.across_channels[-1].bias, -100.0)
    assert_close(gate(x, conditioning), x, atol=1e-5, rtol=1e-5)


def test_a_fresh_spectral_gate_passes_its_input_on_and_a_woken_one_hears_its_conditioning(rng):
    gate = SpectralGate(16, 6)
    x, conditioning = torch.randn(2, 16, 40, generator=rng), torch.randn(2, 6, generator=rng)
    assert torch.equal(gate(x, conditioning), x)
    nn.init.normal_(gate.leave.weight, generator=rng)
    assert not torch.allclose(gate(x, conditioning), gate(x, conditioning.flip(0)))


def test_a_spectral_gate_finds_the_beats_of_any_rate_in_noise_that_hides_each_of_them(rng):
    # A fixed filter cannot: over all rates the spectrum is flat, and the best one scales by
    # power / (power + noise).
    torch.manual_seed(0)
    gate, listen = SpectralGate(16, 1, hidden=64), nn.Conv1d(1, 16, 1)
    answer = nn.Conv1d(16, 1, 1)
    parts = nn.ModuleList([gate, listen, answer])
    optimiser = torch.optim.Adam(parts.parameters(), lr=3e-3)

    def trains(n):
        period = torch.randint(9, 24, (n, 1), generator=rng)
        begin = torch.randint(0, 24, (n, 1), generator=rng)
        beats = ((torch.arange(125) + begin) % period == 0).float()
        beats = (beats - beats.mean(1, keepdim=True)) / beats.std(1, keepdim=True)
        return beats[:, None], beats[:, None] + 1.5 * torch.randn(n, 1, 125, generator=rng)

    def loss(n):
        beats, seen = trains(n)
        return (answer(gate(listen(seen), torch.zeros(n, 1))) - beats).square().mean()

    for _ in range(300):
        optimiser.zero_grad()
        loss(64).backward()
        optimiser.step()
    best_fixed_filter = 1.5**2 / (1 + 1.5**2)
    with torch.no_grad():
        assert loss(1000) < 0.8 * best_fixed_filter
